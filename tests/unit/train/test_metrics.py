import numpy as np
import pytest

from fathom.engine.errors import ArgumentError, FathomError
from fathom.train import metrics

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("seed", range(3))
def test_classification_against_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    outputs, targets = rng.standard_normal((50, 4)), rng.integers(0, 4, 50)
    predicted = outputs.argmax(axis=1)
    assert metrics.accuracy(outputs, targets) == sklearn.accuracy_score(targets, predicted)
    np.testing.assert_array_equal(
        metrics.confusion_matrix(targets, predicted, 4),
        sklearn.confusion_matrix(targets, predicted, labels=range(4)),
    )


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)], ids=str)
def test_regression_against_scikit_learn(shape):
    sklearn = pytest.importorskip("sklearn.metrics")
    targets = RNG.standard_normal(shape) * 3 + 1
    outputs = targets + RNG.standard_normal(shape)
    assert metrics.mean_absolute_error(outputs, targets) == pytest.approx(
        sklearn.mean_absolute_error(targets, outputs)
    )
    assert metrics.mean_squared_error(outputs, targets) == pytest.approx(
        sklearn.mean_squared_error(targets, outputs)
    )
    assert metrics.r2(outputs, targets) == pytest.approx(
        sklearn.r2_score(targets, outputs, multioutput="variance_weighted")
    )


def test_a_column_of_outputs_meets_flat_targets():
    targets = np.array([1.0, 2.0, 4.0])
    outputs = targets[:, None] + 1
    assert metrics.mean_absolute_error(outputs, targets) == 1.0
    assert metrics.mean_squared_error(outputs, targets) == 1.0


def test_confusion_matrix_keeps_absent_classes():
    found = metrics.confusion_matrix(np.array([0, 0]), np.array([0, 2]), 4)
    assert found.shape == (4, 4)
    assert found[0].tolist() == [1, 0, 1, 0]


def test_r2_of_the_mean_of_perfect_and_of_constant_targets():
    targets = np.array([1.0, 2.0, 3.0])
    assert metrics.r2(np.full(3, 2.0), targets) == 0.0
    assert metrics.r2(targets, targets) == 1.0
    assert np.isnan(metrics.r2(targets, np.ones(3)))


def test_find():
    def mine(outputs, targets):
        return 0.0

    assert metrics.find("r2") == {"r2": metrics.r2}
    assert metrics.find(mine) == {"mine": mine}
    assert list(metrics.find(["mae", mine])) == ["mae", "mine"]
    assert metrics.find(()) == {}
    with pytest.raises(ArgumentError, match=r"unknown metric 'acuracy'\n.*did you mean 'accuracy'"):
        metrics.find(["mae", "acuracy"])


def test_class_metrics_by_name_work_in_training():
    outputs = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    targets = np.array([0, 1, 2, 2])
    for name in ("precision", "recall", "f1", "top_5"):
        assert 0.0 <= metrics.METRICS[name](outputs, targets) <= 1.0
    assert metrics.METRICS["recall"](outputs, targets) == pytest.approx((1 + 1 + 0.5) / 3)
    assert metrics.METRICS["top_5"](outputs, targets) == 1.0


class TestBleu:
    def test_of_equal_and_of_foreign_texts(self):
        assert metrics.bleu(["a b c d e"], [["a b c d e"]]) == 1.0
        assert metrics.bleu(["v w x y z"], [["a b c d e"]]) == 0.0

    def test_counts_are_clipped(self):
        """Papineni's example: "the" seven times, twice in a reference: 2 / 7."""
        refs = [["the cat is on the mat", "there is a cat on the mat"]]
        assert metrics.bleu(["the the the the the the the"], refs, max_n=1) == pytest.approx(2 / 7)

    def test_two_grams_by_hand(self):
        # unigrams 3/4, bigrams 1/3, lengths equal
        found = metrics.bleu(["a b x d"], [["a b c d"]], max_n=2)
        assert found == pytest.approx((3 / 4 * 1 / 3) ** 0.5)

    def test_the_brevity_penalty(self):
        found = metrics.bleu(["a b"], [["a b c d"]], max_n=1)
        assert found == pytest.approx(np.exp(1 - 4 / 2))

    def test_the_nearest_reference_counts_for_length(self):
        assert metrics.bleu(["a b"], [["a b c d", "a b x"]], max_n=1) == pytest.approx(
            np.exp(1 - 3 / 2)
        )

    def test_it_is_a_measure_of_the_corpus(self):
        found = metrics.bleu(["a b", "c x"], [["a b"], ["c d"]], max_n=1)
        assert found == pytest.approx(3 / 4)

    def test_smoothing(self):
        found = metrics.bleu(["a x"], [["a b"]], max_n=2, smooth=True)
        assert found == pytest.approx((1 / 2 * 1 / 2) ** 0.5)

    def test_bad_arguments(self):
        with pytest.raises(ArgumentError, match="list of texts"):
            metrics.bleu("a b", [["a"]])
        with pytest.raises(ArgumentError, match="one reference or more"):
            metrics.bleu(["a"], ["a"])


def test_rouge_by_hand():
    found = metrics.rouge_n("the cat sat down", "the cat lay down here", 2)
    assert found["precision"] == pytest.approx(1 / 3)
    assert found["recall"] == pytest.approx(1 / 4)
    assert found["f1"] == pytest.approx(2 / 7)
    long = metrics.rouge_l("police kill the gunman", "police killed the gunman")
    assert long["recall"] == pytest.approx(3 / 4)  # Lin's example
    assert metrics.rouge_l("", "a")["f1"] == 0.0


def test_calibration_error_by_hand():
    # 0.9 sure and right half the time; 0.6 sure and always right
    p = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 4)
    t = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    found = metrics.expected_calibration_error(t, p, bins=5)
    assert found == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: metrics.roc_curve([1, 1], [0.5, 0.2]), "both classes"),
        (lambda: metrics.roc_curve([0, 1, 2], [0.1, 0.2, 0.3]), "needs two"),
        (lambda: metrics.precision([0, 1, 2], [0, 1, 1]), "average='binary' is for two"),
        (lambda: metrics.f1_score([0, 1], [0]), "must be"),
        (lambda: metrics.recall([], []), "no rows"),
        (lambda: metrics.fbeta_score([0, 1], [0, 1], beta=-1), "beta"),
        (lambda: metrics.precision([0], [0], "mean"), "average is one of"),
        (lambda: metrics.log_loss([0, 1], [[0.5, 0.6], [0.5, 0.5]]), "sum to 1"),
        (lambda: metrics.log_loss([0, 3], [0.5, 0.5]), "labels from 0 to 1"),
        (lambda: metrics.top_k_accuracy(np.zeros((2, 3)), np.zeros(2), 4), "k must lie"),
        (lambda: metrics.auc([0, 1, 0.5], [0, 1, 1]), "neither rises nor falls"),
        (lambda: metrics.confusion_matrix(np.array([0, 3]), np.array([0, 0]), 2), "labels from"),
        (lambda: metrics.reliability([0, 1], [0.5, 0.5], 0), "bins"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(FathomError, match=text):
        call()
