import itertools
import json
import math

import numpy as np
import pytest
from scipy import optimize

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, FathomError, ShapeError
from fathom.nn import objectives as O
from fathom.nn.ctc import ctc_loss
from tests.unit.nn.layer_harness import run_layer_test


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


LABELS = np.array([0, 2, 1, 3, 2])
SIGNS = np.array([1.0, -1.0, 1.0, 1.0, -1.0])
UNIT = np.random.default_rng(2).uniform(0.05, 0.95, (5, 4))
BOXES = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 4.0, 3.0], [0.0, 0.0, 1.0, 5.0]])
OTHERS = np.array([[1.0, 0.5, 3.1, 2.2], [1.5, 0.5, 3.5, 3.2], [3.0, 1.0, 4.0, 2.0]])

LOSSES = [
    (nn.MSELoss, (draw(5, 4), draw(5, 4, seed=1))),
    (nn.L1Loss, (draw(5, 4), draw(5, 4, seed=1))),
    (lambda **o: nn.SmoothL1Loss(beta=0.5, **o), (draw(5, 4), draw(5, 4, seed=1))),
    (nn.HuberLoss, (draw(5, 4), draw(5, 4, seed=1))),
    (nn.LogCoshLoss, (draw(5, 4), draw(5, 4, seed=1))),
    (lambda **o: nn.QuantileLoss(0.3, **o), (draw(5, 4), draw(5, 4, seed=1))),
    (lambda **o: nn.QuantileLoss([0.1, 0.5, 0.9], **o), (draw(5, 3), draw(5, seed=1))),
    (nn.PoissonNLLLoss, (draw(5, 4), np.floor(UNIT * 9))),
    (nn.GaussianNLLLoss, (draw(5, 4), draw(5, 4, seed=1), UNIT)),
    (nn.KLDivLoss, (np.log(UNIT), UNIT[::-1].copy())),
    (nn.CrossEntropyLoss, (draw(5, 4), LABELS)),
    (lambda **o: nn.CrossEntropyLoss([1, 2, 3, 4], 2, **o), (draw(5, 4), LABELS)),
    (lambda **o: nn.CrossEntropyLoss(label_smoothing=0.1, **o), (draw(5, 4), UNIT)),
    (nn.NLLLoss, (draw(5, 4), LABELS)),
    (nn.FocalLoss, (draw(5, 4), LABELS)),
    (lambda **o: nn.FocalLoss(0.5, [1, 2, 3, 4], 1, **o), (draw(5, 4), LABELS)),
    (nn.SigmoidFocalLoss, (draw(5, 4), np.round(UNIT))),
    (nn.BCELoss, (UNIT, UNIT[::-1].copy())),
    (nn.BCEWithLogitsLoss, (draw(5, 4), UNIT)),
    (nn.DistillationLoss, (draw(5, 4), draw(5, 4, seed=1), LABELS)),
    (nn.HingeLoss, (draw(5), SIGNS)),
    (nn.SquaredHingeLoss, (draw(5), SIGNS)),
    (nn.HingeEmbeddingLoss, (draw(5), SIGNS)),
    (nn.SoftMarginLoss, (draw(5), SIGNS)),
    (nn.MultiMarginLoss, (draw(5, 4), LABELS)),
    (nn.MultiLabelMarginLoss, (draw(2, 4), np.array([[1, 2, -1, 0], [3, -1, 0, 0]]))),
    (nn.MultiLabelSoftMarginLoss, (draw(5, 4), np.round(UNIT))),
    (nn.CosineEmbeddingLoss, (draw(5, 4), draw(5, 4, seed=1), SIGNS)),
    (nn.MarginRankingLoss, (draw(5), draw(5, seed=1), SIGNS)),
    (nn.ContrastiveLoss, (draw(5, 4), draw(5, 4, seed=1), np.array([1, 0, 0, 1, 0]))),
    (nn.InfoNCELoss, (draw(5, 4), draw(5, 4, seed=1))),
    (nn.TripletMarginLoss, (draw(5, 4), draw(5, 4, seed=1), draw(5, 4, seed=2))),
    (nn.TripletMarginWithDistanceLoss, (draw(5, 4), draw(5, 4, seed=1), draw(5, 4, seed=2))),
    (nn.IoULoss, (BOXES, OTHERS)),
    (nn.GIoULoss, (BOXES, OTHERS)),
    (nn.DIoULoss, (BOXES, OTHERS)),
]


@pytest.mark.parametrize(("make", "arrays"), LOSSES, ids=lambda v: getattr(v, "__name__", None))
def test_every_loss(make, arrays):
    """Reductions, sample weights, gradients, dtype, spec: what holds for all of them."""
    inputs = [fathom.Tensor(a) for a in arrays]
    mean, total, each = (make(reduction=r).double() for r in ("mean", "sum", "none"))
    losses = each(*inputs)
    assert losses.ndim >= 1 and (losses.value() > -1e3).all()
    np.testing.assert_allclose(total(*inputs).value(), losses.value().sum())
    assert mean(*inputs).shape == ()
    first = fathom.Tensor(arrays[0], True)
    fathom.autograd.gradcheck(lambda x: mean(x, *inputs[1:]), first)
    # sample weights: ones change nothing; 2 is the sample twice; 0 leaves it out
    n = len(losses)
    np.testing.assert_allclose(
        mean(*inputs, sample_weight=np.ones(n)).value(), mean(*inputs).value(), rtol=1e-12
    )
    whole = np.arange(n) % 3  # 0, 1, 2, 0, 1
    np.testing.assert_allclose(
        total(*inputs, sample_weight=whole).value(),
        (losses.value() * whole.reshape(-1, *(1,) * (losses.ndim - 1))).sum(),
    )
    if make is not nn.InfoNCELoss and losses.ndim:  # where rows do not see each other
        repeated = [fathom.Tensor(np.repeat(a, whole, axis=0)) for a in arrays]
        np.testing.assert_allclose(
            mean(*inputs, sample_weight=whole).value(), mean(*repeated).value(), rtol=1e-10
        )
    with pytest.raises(ShapeError, match="fits neither the samples"):
        mean(*inputs, sample_weight=np.ones(n + 1))
    single = make().float()(*(fathom.Tensor(a.astype("f") if a.dtype.kind == "f" else a)
                              for a in arrays))  # fmt: skip
    assert single.dtype == np.float32
    if make is not nn.TripletMarginWithDistanceLoss:
        spec = json.loads(json.dumps(nn.to_spec(mean)))
        assert nn.to_spec(nn.from_spec(spec)) == spec
        np.testing.assert_allclose(
            nn.from_spec(spec).double()(*inputs).value(), mean(*inputs).value(), rtol=1e-12
        )
    with pytest.raises(ArgumentError, match="unknown reduction 'avg'"):
        make(reduction="avg")


SIGNED = ("Hinge", "SoftMargin", "Squared", "MarginRanking", "CosineEmbedding")


@pytest.mark.parametrize(("make", "arrays"), LOSSES, ids=lambda v: getattr(v, "__name__", None))
def test_every_loss_as_a_layer(make, arrays):
    """Unreduced, a loss is a layer of several inputs: the harness's checks hold for it, too."""
    kind = type(make()).__name__
    inputs = [a.astype(int) if kind.startswith(SIGNED) and a is SIGNS else a for a in arrays]
    run_layer_test(
        lambda: make(reduction="none"),
        inputs=inputs,
        parameters=0,
        gradcheck=kind != "DistillationLoss",  # its teacher gets no gradient, by design
        per_sample=kind != "InfoNCELoss",  # where the rows see each other
    )


def test_inputs_by_name():
    x, y, w = fathom.Tensor(draw(5, 4)), LABELS, np.arange(5)
    loss = nn.CrossEntropyLoss()
    assert loss(input=x, target=y).item() == loss(x, target=y).item() == loss(x, y).item()
    a, b = fathom.Tensor(np.log(UNIT)), fathom.Tensor(UNIT)
    kl = nn.KLDivLoss("batchmean")
    assert kl(target=b, input=a, sample_weight=w).item() == kl(a, b, sample_weight=w).item()
    for wrong in ({"inputs": x}, {"target": y}, {"input": x, "target": y, "weight": w}):
        with pytest.raises(ArgumentError, match="they are input, target"):
            loss(**wrong)


def test_distances_as_layers():
    for make in (nn.CosineSimilarity, lambda: nn.PairwiseDistance(3.0)):
        run_layer_test(make, (3, 4), (3, 4), parameters=0, output_shape=(3,))


def test_adaptive_softmax_as_a_layer():
    run_layer_test(
        lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 8], 2.0),
        inputs=[draw(6, 8), np.array([0, 11, 4, 2, 7, 9])],
        output_shape=[(6,), ()],
        parameters=40 + 32 + 20 + 16 + 8,
        per_sample=False,  # the second output is the mean over the batch
    )


def test_ctc_as_a_layer():
    run_layer_test(
        lambda: nn.CTCLoss(reduction="none"),
        inputs=[draw(4, 2, 3), np.array([[1, 2], [1, 1]]), np.array([4, 4]), np.array([2, 2])],
        parameters=0,
        output_shape=(2,),
        per_sample=False,  # labels and lengths decide which states there are
    )


class TestRegression:
    def test_minimizers(self):
        """Squares: the mean; absolute values: the median; pinball: the quantile."""
        y = np.sort(draw(101, seed=3) ** 2)
        wanted = [
            (nn.MSELoss(), y.mean()), (nn.L1Loss(), np.median(y)),
            (nn.QuantileLoss(0.9), np.quantile(y, 0.9)), (nn.HuberLoss(delta=100.0), y.mean()),
        ]  # fmt: skip
        for loss, best in wanted:

            def cost(c, loss=loss):
                return loss(fathom.Tensor(np.full(101, c)), fathom.Tensor(y)).item()

            found = optimize.minimize_scalar(
                cost, bounds=(0, 10), method="bounded", options={"xatol": 1e-9}
            ).x
            assert found == pytest.approx(best, abs=2e-2)

    def test_huber_over_delta_is_smooth_l1(self):
        x, y = fathom.Tensor(draw(9) * 3), fathom.Tensor(draw(9, seed=1))
        huber, smooth = nn.HuberLoss(delta=0.7)(x, y), nn.SmoothL1Loss(beta=0.7)(x, y)
        assert huber.item() / 0.7 == pytest.approx(smooth.item())

    def test_log_cosh(self):
        d = np.array([0.0, 1e-4, 0.5, 3.0, 500.0])
        out = nn.LogCoshLoss(reduction="none")(fathom.Tensor(d), fathom.Tensor(d * 0)).value()
        np.testing.assert_allclose(out[:4], np.log(np.cosh(d[:4])), atol=1e-15)
        assert out[4] == pytest.approx(500 - math.log(2))


class TestClasses:
    def test_focal_without_gamma_is_cross_entropy(self):
        x = fathom.Tensor(draw(5, 4), True)
        for options in ({}, {"weight": [1.0, 2.0, 0.5, 3.0]}, {"ignore_index": 2}):
            focal = nn.FocalLoss(0.0, **options).double()(x, LABELS)
            plain = nn.CrossEntropyLoss(**options).double()(x, LABELS)
            assert focal.item() == pytest.approx(plain.item(), rel=1e-12)
            g = [fathom.autograd.grad(v, x)[0].value() for v in (focal, plain)]
            np.testing.assert_allclose(*g, atol=1e-12)

    def test_focal_by_hand(self):
        logits = np.array([[2.0, 0.0, -1.0]])
        p = np.exp(logits) / np.exp(logits).sum()
        for gamma in (0.5, 1.0, 2.0, 5.0):
            loss = nn.FocalLoss(gamma)(fathom.Tensor(logits), [0]).item()
            assert loss == pytest.approx((1 - p[0, 0]) ** gamma * -math.log(p[0, 0]))

    def test_focal_of_perfect_rows_is_finite(self):
        x = fathom.Tensor(np.array([[1000.0, -1000.0]]), True)
        nn.FocalLoss(0.5)(x, [0]).backward()
        assert np.isfinite(x.grad.value()).all()

    def test_sigmoid_focal_is_softmax_focal_of_two(self):
        x = draw(6)
        two = np.stack([np.zeros(6), x], 1)
        a = nn.SigmoidFocalLoss(None)(fathom.Tensor(x), fathom.Tensor(np.ones(6)))
        b = nn.FocalLoss()(fathom.Tensor(two), np.ones(6, int))
        assert a.item() == pytest.approx(b.item())

    def test_distillation(self):
        s, t = fathom.Tensor(draw(5, 4), True), fathom.Tensor(draw(5, 4, seed=1), True)
        hard = nn.CrossEntropyLoss()(s, LABELS).item()
        assert nn.DistillationLoss(alpha=0.0)(s, t, LABELS).item() == pytest.approx(hard)
        assert nn.DistillationLoss(alpha=1.0)(s, s, LABELS).item() == pytest.approx(0.0, abs=1e-12)
        loss = nn.DistillationLoss(3.0, alpha=1.0)(s, t)
        loss.backward()
        assert t.grad is None  # the teacher does not learn
        p, q = (fathom.softmax(v.detach() * (1 / 3), -1).value() for v in (s, t))
        np.testing.assert_allclose(s.grad.value(), 3 * (p - q) / 5, atol=1e-12)

    def test_distillation_of_two_classes_is_a_sigmoid(self):
        s, t = np.array([[0.0, 0.7]]), np.array([[0.0, 2.0]])
        q, p = 1 / (1 + math.exp(-1.0)), 1 / (1 + math.exp(-0.35))
        kl = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
        loss = nn.DistillationLoss(2.0)(fathom.Tensor(s), fathom.Tensor(t))
        assert loss.item() == pytest.approx(4 * kl)

    def test_perceptron_criterion(self):
        x = fathom.tensor([2.0, -0.5, 0.1])
        assert nn.HingeLoss(0.0, "none")(x, [1.0, 1.0, -1.0]).tolist() == pytest.approx(
            [0, 0.5, 0.1]
        )
        with pytest.raises(ArgumentError, match="targets must be -1 or 1"):
            nn.HingeLoss()(x, [0.0, 1.0, 1.0])


class TestSimilarity:
    def test_info_nce_by_hand(self):
        q, k = draw(4, 3), draw(4, 3, seed=1)
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, k))
        logits = a @ b.T / 0.2
        expected = np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
        loss = nn.InfoNCELoss(0.2)(fathom.Tensor(q), fathom.Tensor(k))
        assert loss.item() == pytest.approx(expected)
        more = nn.InfoNCELoss(0.2)(fathom.Tensor(q), fathom.Tensor(k), fathom.Tensor(draw(9, 3)))
        assert np.isfinite(more.item())

    def test_contrastive(self):
        a, b = fathom.tensor([[0.0, 0.0]] * 2), fathom.tensor([[0.3, 0.4]] * 2)
        out = nn.ContrastiveLoss(2.0, "none")(a, b, [1, 0]).tolist()
        assert out == pytest.approx([0.25, 1.5**2], rel=1e-4)


class TestBoxes:
    @pytest.mark.parametrize(
        ("other", "iou", "giou"),
        [([0, 0, 2, 2], 1.0, 1.0), ([1, 0, 3, 2], 1 / 3, 1 / 3), ([2, 2, 4, 4], 0.0, -0.5),
         ([0, 0, 1, 1], 0.25, 0.25), ([4, 0, 6, 2], 0.0, -1 / 3), 
         ([1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9)],
    )  # fmt: skip
    def test_hand_cases(self, other, iou, giou):
        a, b = fathom.Tensor(np.array([[0.0, 0, 2, 2]])), fathom.Tensor(np.array([other], float))
        assert O.box_iou(a, b).item() == pytest.approx(iou, abs=1e-6)
        assert nn.IoULoss()(a, b).item() == pytest.approx(1 - iou, abs=1e-6)
        assert nn.GIoULoss()(a, b).item() == pytest.approx(1 - giou, abs=1e-6)

    def test_distance(self):
        a, b = fathom.Tensor(BOXES[:1]), fathom.Tensor(np.array([[4.0, 0, 6, 2]]))
        assert nn.DIoULoss()(a, b).item() == pytest.approx(1 + 16 / 40)

    def test_far_boxes_are_drawn_together(self):
        b = fathom.Tensor(np.array([[0.0, 0, 2, 2]]))
        for loss, moves in ((nn.IoULoss(), False), (nn.GIoULoss(), True), (nn.DIoULoss(), True)):
            a = fathom.Tensor(np.array([[4.0, 0, 6, 2]]), True)
            loss(a, b).backward()
            assert bool(np.abs(a.grad.value()).max() > 1e-3) is moves

    def test_pairs(self):
        assert O.box_iou(fathom.Tensor(BOXES), fathom.Tensor(OTHERS[:2])).shape == (3, 2)

    def test_errors(self):
        with pytest.raises(ShapeError, match=r"boxes are \(\.\.\., 4\)"):
            nn.IoULoss()(fathom.zeros(2, 3), fathom.zeros(2, 3))
        with pytest.raises(ShapeError, match="must have one shape"):
            nn.GIoULoss()(fathom.zeros(2, 4), fathom.zeros(1, 4))
        with pytest.raises(ArgumentError, match="x2 < x1"):
            nn.IoULoss()([[2.0, 0, 1, 1]], [[0.0, 0, 1, 1]])


class TestCTC:
    def test_is_the_sum_over_all_alignments(self):
        log_p = fathom.log_softmax(fathom.Tensor(draw(4, 1, 3)), -1).value()
        for target in ([1], [1, 2], [1, 1], []):
            total = 0.0
            for path in itertools.product(range(3), repeat=4):
                short = [k for k, _ in itertools.groupby(path) if k]
                if short == target:
                    total += math.exp(sum(log_p[t, 0, c] for t, c in enumerate(path)))
            loss = ctc_loss(fathom.Tensor(log_p), np.array([target], int), [4], [len(target)],
                            reduction="sum")  # fmt: skip
            assert loss.item() == pytest.approx(-math.log(total), rel=1e-12)

    def test_gradients_of_two_orders(self):
        x = fathom.Tensor(draw(4, 2, 3), True)

        def f(v):
            return ctc_loss(fathom.log_softmax(v, -1), [[1, 2], [2, 0]], [4, 3], [2, 1])

        fathom.autograd.gradcheck(f, x)
        fathom.autograd.gradcheck(fathom.func.grad(f), x)

    @pytest.mark.parametrize(
        "args",
        [([[0]], [3], [1]), ([[5]], [3], [1]), ([[1]], [9], [1]), ([[1]], [3, 3], [1]),
         ([[1]], [3], [2]), ([[1.5]], [3], [1]), ([1, 2, 1], [3], [2])],
    )  # fmt: skip
    def test_errors(self, args):
        with pytest.raises(FathomError, match="ctc_loss"):
            ctc_loss(fathom.zeros(3, 1, 4), *args)


class TestPenalties:
    def model(self):
        with fathom.seed(0):
            return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()

    def test_values_and_gradients(self):
        model = self.model()
        weights = [p.value() for p in model.parameters() if p.ndim == 2]
        l1, l2 = sum(np.abs(w).sum() for w in weights), sum((w**2).sum() for w in weights)
        assert nn.l1_penalty(model, 0.1).item() == pytest.approx(0.1 * l1)
        assert nn.l2_penalty(model, 0.1).item() == pytest.approx(0.1 * l2)
        assert nn.elastic_penalty(model, 0.2, 0.3).item() == pytest.approx(0.2 * l1 + 0.3 * l2)
        nn.l2_penalty(model, 0.5).backward()
        np.testing.assert_allclose(model[0].weight.grad.value(), weights[0])
        assert model[0].bias.grad is None
        assert nn.l1_penalty(model, biases=True).item() > l1

    def test_proximal_operator_minimizes(self):
        for x in (-2.0, -0.3, 0.0, 0.4, 1.7):
            best = nn.proximal_l1(fathom.Tensor(np.float64(x)), 0.5).item()
            grid = np.linspace(-3, 3, 60001)
            cost = 0.5 * (grid - x) ** 2 + 0.5 * np.abs(grid)
            assert best == pytest.approx(grid[cost.argmin()], abs=2e-4)

    def test_proximal_steps_find_exact_zeros(self):
        """ISTA on a sparse regression recovers the support; the subgradient does not hit 0."""
        x, truth = draw(100, 20), np.zeros(20)
        truth[:3] = [2.0, -3.0, 1.5]
        y = x @ truth
        layer = nn.Linear(20, 1, bias=False).double()
        for _ in range(300):
            layer.zero_grad()
            out = layer(fathom.Tensor(x)).reshape(-1)
            (0.5 * nn.functional.mse_loss(out, fathom.Tensor(y))).backward()
            layer.weight.data -= 0.3 * layer.weight.grad.value()
            fathom.engine.tensor.mark_written(layer.weight)
            zeros = nn.proximal_l1_(layer, 0.3 * 0.1)
        assert zeros == 17
        np.testing.assert_allclose(layer.weight.value()[0, :3], truth[:3], atol=0.25)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="strength must be >= 0"):
            nn.l1_penalty(self.model(), -1.0)


class TestAdaptiveSoftmax:
    def layer(self):
        with fathom.seed(0):
            return nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2.0).double()

    def test_is_the_full_softmax_of_its_factorization(self):
        layer, x = self.layer(), fathom.Tensor(draw(6, 8))
        log_p = layer.log_prob(x)
        np.testing.assert_allclose(np.exp(log_p.value()).sum(1), 1.0, atol=1e-12)
        target = np.array([0, 3, 4, 9, 10, 19])
        output, loss = layer(x, target)
        np.testing.assert_allclose(output.value(), log_p.value()[np.arange(6), target], rtol=1e-12)
        assert loss.item() == pytest.approx(-output.value().mean())
        assert (layer.predict(x).value() == log_p.value().argmax(1)).all()

    def test_gradients_and_spec(self):
        layer, target = self.layer(), np.array([0, 3, 4, 9, 10, 19])
        fathom.autograd.gradcheck(lambda v: layer(v, target)[1], fathom.Tensor(draw(6, 8), True))
        twin = nn.from_spec(json.loads(json.dumps(nn.to_spec(layer))))
        twin.load_state_dict(layer.state_dict())
        x = fathom.Tensor(draw(6, 8))
        assert twin.double().log_prob(x).tolist() == layer.log_prob(x).tolist()

    def test_fewer_parameters(self):
        small = nn.AdaptiveLogSoftmaxWithLoss(64, 5000, [100, 1000])
        assert sum(p.size for p in small.parameters()) < 0.2 * 64 * 5000

    @pytest.mark.parametrize("cutoffs", [[], [5, 5], [10, 4], [20], [0]])
    def test_cutoffs(self, cutoffs):
        with pytest.raises(ArgumentError, match="cutoffs"):
            nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs)


@pytest.mark.parametrize(
    "make",
    [lambda: nn.QuantileLoss(1.0), lambda: nn.HuberLoss(delta=0.0),
     lambda: nn.SmoothL1Loss(beta=-1),
     lambda: nn.FocalLoss(-1.0), lambda: nn.InfoNCELoss(0.0), lambda: nn.TripletMarginLoss(0.0),
     lambda: nn.MultiMarginLoss(3), lambda: nn.CrossEntropyLoss(label_smoothing=2.0),
     lambda: nn.DistillationLoss(alpha=2.0)(fathom.zeros(1, 2), fathom.zeros(1, 2))],
)  # fmt: skip
def test_options_outside_their_range(make):
    with pytest.raises(ArgumentError):
        make()
