"""Metrics against scikit-learn."""

import numpy as np
import pytest

from fathom.train import metrics

sk = pytest.importorskip("sklearn.metrics")
calibration = pytest.importorskip("sklearn.calibration")


def labels(seed, classes):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, classes, 80)
    p = np.where(rng.random(80) < 0.6, t, rng.integers(0, classes, 80))
    return t, p


def scores(seed, classes, rows=120, ties=False):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, classes, rows)
    raw = rng.standard_normal((rows, classes)) + 1.2 * np.eye(classes)[t]
    if ties:
        raw = raw.round(0)
    grown = np.exp(raw)
    return t, grown / grown.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("average", ["micro", "macro", "weighted", None])
@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_fbeta(seed, average, classes):
    t, p = labels(seed, classes)
    if seed == 2:
        t, p = np.where(t == 0, 1, t), p  # a class that is predicted and never true
    options = {"average": average, "zero_division": 0}
    np.testing.assert_allclose(
        metrics.precision(t, p, average), sk.precision_score(t, p, **options), atol=1e-12
    )
    np.testing.assert_allclose(
        metrics.recall(t, p, average), sk.recall_score(t, p, **options), atol=1e-12
    )
    np.testing.assert_allclose(
        metrics.f1_score(t, p, average), sk.f1_score(t, p, **options), atol=1e-12
    )
    for beta in (0.5, 2.0):
        np.testing.assert_allclose(
            metrics.fbeta_score(t, p, beta, average),
            sk.fbeta_score(t, p, beta=beta, **options),
            atol=1e-12,
        )


@pytest.mark.parametrize("pos_label", [0, 1])
def test_binary(pos_label):
    t, p = labels(0, 2)
    for ours, theirs in (
        (metrics.precision, sk.precision_score),
        (metrics.recall, sk.recall_score),
        (metrics.f1_score, sk.f1_score),
    ):
        assert ours(t, p, pos_label=pos_label) == pytest.approx(theirs(t, p, pos_label=pos_label))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_agreement(seed, classes):
    t, p = labels(seed, classes)
    assert metrics.matthews_corrcoef(t, p) == pytest.approx(sk.matthews_corrcoef(t, p))
    assert metrics.cohen_kappa(t, p) == pytest.approx(sk.cohen_kappa_score(t, p))
    assert metrics.balanced_accuracy(t, p) == pytest.approx(sk.balanced_accuracy_score(t, p))
    np.testing.assert_array_equal(
        metrics.confusion_matrix(t, p, classes), sk.confusion_matrix(t, p, labels=range(classes))
    )
    report = sk.classification_report(t, p, output_dict=True, zero_division=0)
    ours = metrics.classification_report(t, p)
    for name in map(str, range(classes)):
        assert ours[name]["f1"] == pytest.approx(report[name]["f1-score"])
    assert ours["macro"]["precision"] == pytest.approx(report["macro avg"]["precision"])
    assert ours["weighted"]["recall"] == pytest.approx(report["weighted avg"]["recall"])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_curves_and_areas(seed, ties):
    t, p = scores(seed, 2, ties=ties)
    s = p[:, 1]
    for a, b in zip(metrics.roc_curve(t, s), sk.roc_curve(t, s, drop_intermediate=False),
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, atol=1e-12)
    ours, theirs = metrics.precision_recall_curve(t, s), sk.precision_recall_curve(t, s)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert metrics.roc_auc(t, s) == pytest.approx(sk.roc_auc_score(t, s))
    assert metrics.average_precision(t, s) == pytest.approx(sk.average_precision_score(t, s))
    assert metrics.auc([0, 0.5, 1], [0, 1, 1]) == pytest.approx(sk.auc([0, 0.5, 1], [0, 1, 1]))


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_roc_area_of_several_classes(average):
    t, p = scores(0, 4)
    wanted = sk.roc_auc_score(t, p, multi_class="ovr", average=average)
    assert metrics.roc_auc(t, p, average) == pytest.approx(wanted)


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities(classes):
    t, p = scores(1, classes)
    assert metrics.log_loss(t, p) == pytest.approx(sk.log_loss(t, p))
    assert metrics.perplexity(t, p) == pytest.approx(np.exp(sk.log_loss(t, p)))
    for k in range(1, classes):
        wanted = sk.top_k_accuracy_score(t, p[:, 1] if classes == 2 else p, k=k)
        assert metrics.top_k_accuracy(p, t, k) == pytest.approx(wanted)
    if classes == 2:
        assert metrics.brier_score(t, p[:, 1]) == pytest.approx(sk.brier_score_loss(t, p[:, 1]))
    else:
        hit = np.eye(classes)[t]
        assert metrics.brier_score(t, p) == pytest.approx(np.square(p - hit).sum(axis=1).mean())


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("bins", [5, 10])
def test_reliability(strategy, bins):
    t, p = scores(2, 2)
    share, mean = calibration.calibration_curve(t, p[:, 1], n_bins=bins, strategy=strategy)
    found = metrics.reliability(t, p[:, 1], bins, strategy)
    np.testing.assert_allclose(found["accuracy"], share, atol=1e-12)
    np.testing.assert_allclose(found["confidence"], mean, atol=1e-12)
    assert found["rows"].sum() == len(t)


@pytest.mark.parametrize("shape", [(40,), (40, 3)], ids=str)
def test_amounts(shape):
    rng = np.random.default_rng(0)
    t = rng.standard_normal(shape) * 3 + 1
    p = t + rng.standard_normal(shape)
    pairs = [
        (metrics.mean_absolute_error, sk.mean_absolute_error),
        (metrics.mean_squared_error, sk.mean_squared_error),
        (metrics.median_absolute_error, sk.median_absolute_error),
        (metrics.mean_absolute_percentage_error, sk.mean_absolute_percentage_error),
    ]
    for ours, theirs in pairs:
        assert ours(p, t) == pytest.approx(theirs(t, p))
    assert metrics.root_mean_squared_error(p, t) == pytest.approx(
        np.sqrt(sk.mean_squared_error(t, p))
    )
