"""Every loss but cross-entropy (test_loss.py) against PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fathom as ft
from fathom.nn import functional as F
from tests.oracles.battery import battery
from tests.oracles.harness import Case

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
REDUCTIONS = ("mean", "sum", "none")
PAIRS = (((3,), (3,)), ((2, 3), (2, 3)), ((2, 3, 2), (2, 3, 2)))
EMPTY = (((0, 3), (0, 3)),)


def place(f, name):
    """A function of ours or of PyTorch's."""
    return getattr(f, name)


def case(name, shapes, domain=(-2.0, 2.0), constants=(), second=True, label="", **options):
    """The same loss in both libraries; `constants` are arrays behind the differentiated inputs."""
    parts = [label] + [f"{k}={v}" for k, v in options.items() if not hasattr(v, "shape")]

    def ours(*xs):
        kinds = [np.asarray(c) for c in constants]
        rest = [c.astype(xs[0].dtype) if c.dtype.kind == "f" else c for c in kinds]
        extra = {k: v.astype(xs[0].dtype) if hasattr(v, "shape") else v for k, v in options.items()}
        return place(F, name)(*xs, *rest, **extra)

    def theirs(*xs):
        kinds = [torch.tensor(np.asarray(c)) for c in constants]
        rest = [c.to(xs[0].dtype) if c.is_floating_point() else c for c in kinds]
        extra = {
            k: torch.tensor(v).to(xs[0].dtype) if hasattr(v, "shape") else v
            for k, v in options.items()
        }
        return place(TF, name)(*xs, *rest, **extra)

    return Case(f"{name} {' '.join(filter(None, parts))}", ours, theirs, shapes, domain, second)


def each(name, shapes, **options):
    return [case(name, shapes, reduction=r, **options) for r in REDUCTIONS]


SIGNS = np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
BITS = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
SHARE = np.array([[0.2, 0.9, 0.5], [1.0, 0.3, 0.0]])
WEIGHT = np.array([[0.5, 1.0, 2.0], [1.5, 0.3, 1.0]])
W3 = np.array([0.5, 1.0, 2.0])
M = [((2, 3),)]

REGRESSION = [
    *each("mse_loss", PAIRS),
    *each("mse_loss", PAIRS[1:2], weight=WEIGHT),
    case("mse_loss", EMPTY, reduction="sum"),
    *each("l1_loss", PAIRS),
    *each("l1_loss", PAIRS[1:2], weight=WEIGHT),
    *each("smooth_l1_loss", PAIRS),
    *(case("smooth_l1_loss", PAIRS, beta=b) for b in (0.0, 0.3, 2.0)),
    *each("huber_loss", PAIRS),
    *(case("huber_loss", PAIRS, delta=d) for d in (0.3, 2.0)),
    *each("huber_loss", PAIRS[1:2], weight=WEIGHT),
    *each("poisson_nll_loss", PAIRS),
    case("poisson_nll_loss", PAIRS, (0.2, 3.0), log_input=False),
    case("poisson_nll_loss", PAIRS, (0.2, 3.0), full=True),
    case("poisson_nll_loss", PAIRS, (0.2, 3.0), log_input=False, full=True, eps=0.1),
    *each("gaussian_nll_loss", [((2, 3), (2, 3), (2, 3)), ((2, 3), (2, 3), (2, 1)),
                                ((2, 3), (2, 3), (2,)), ((2, 3, 2), (2, 3, 2), (2, 1, 2))],
          domain=(0.2, 2.0)),
    case("gaussian_nll_loss", [((2, 3), (2, 3), (2, 3))], (0.2, 2.0), full=True, eps=0.7),
    case("gaussian_nll_loss", [((2, 3), (2, 3))], var=0.5),
    *(case("kl_div", PAIRS, (0.1, 2.0), reduction=r) for r in (*REDUCTIONS, "batchmean")),
    *(case("kl_div", PAIRS, reduction=r, log_target=True) for r in (*REDUCTIONS, "batchmean")),
]  # fmt: skip

P, NLL = (0.05, 0.95), np.array([2, 0])
IMAGE = np.array([[[2, 0], [1, 1]], [[0, 0], [2, -100]]])
LISTED = np.array([[2, 0, -1], [1, -1, 0]])
CLASSES = [
    *each("binary_cross_entropy", M, domain=P, constants=[SHARE]),
    *each("binary_cross_entropy", M, domain=P, constants=[BITS], weight=WEIGHT),
    case("binary_cross_entropy", M, P, [BITS], weight=W3),
    case("binary_cross_entropy", PAIRS, P, label="both"),
    *each("binary_cross_entropy_with_logits", PAIRS),
    *each("binary_cross_entropy_with_logits", M, constants=[BITS], weight=WEIGHT),
    *each("binary_cross_entropy_with_logits", M, constants=[SHARE], pos_weight=W3),
    case("binary_cross_entropy_with_logits", PAIRS[1:2], weight=W3, pos_weight=WEIGHT),
    *each("nll_loss", M, constants=[NLL]),
    *each("nll_loss", M, constants=[NLL], weight=W3),
    *each("nll_loss", M, constants=[NLL], ignore_index=2),
    *each("nll_loss", M, constants=[NLL], weight=W3, ignore_index=0),
    *each("nll_loss", [((2, 3, 2, 2),)], constants=[IMAGE], weight=W3),
    case("nll_loss", [((3,),)], constants=[np.array(1)], weight=W3),
    case("nll_loss", [((0, 3),)], constants=[np.zeros(0, int)], reduction="sum"),
    *each("multi_margin_loss", M, constants=[NLL], second=False),
    *each("multi_margin_loss", M, constants=[NLL], second=False, p=2, margin=0.5, weight=W3),
    case("multi_margin_loss", [((3,),)], constants=[np.array(1)], second=False),
    *each("multilabel_margin_loss", M, constants=[LISTED], second=False),
    case("multilabel_margin_loss", [((3,),)], constants=[LISTED[0]], second=False),
    *each("multilabel_soft_margin_loss", M, constants=[BITS]),
    *each("multilabel_soft_margin_loss", M, constants=[BITS], weight=W3),
    *each("soft_margin_loss", M, constants=[SIGNS]),
]

S2, VECTORS = np.array([1.0, -1.0]), [((2, 3), (2, 3))]
TRIPLES = [((2, 3), (2, 3), (2, 3)), ((3,), (3,), (3,)), ((2, 2, 3),) * 3]
DISTANCES = [
    *each("hinge_embedding_loss", M, constants=[SIGNS]),
    case("hinge_embedding_loss", M, constants=[SIGNS], margin=0.4),
    *each("margin_ranking_loss", VECTORS, constants=[SIGNS], margin=0.2),
    *each("cosine_embedding_loss", VECTORS, constants=[S2], margin=-0.5),
    case("cosine_embedding_loss", [((3,), (3,))], constants=[np.array(1.0)]),
    *each("triplet_margin_loss", TRIPLES, margin=3.0),
    *(case("triplet_margin_loss", TRIPLES[:1], margin=4.0, p=p, swap=True) for p in (1, 2, 3)),
    case("triplet_margin_with_distance_loss", TRIPLES, margin=2.0),
    case("cosine_similarity", [((2, 3), (2, 3)), ((2, 3, 2), (2, 3, 1)), ((1, 3), (2, 3))]),
    case("cosine_similarity", [((2, 3), (2, 3)), ((3,), (3,))], dim=-1),
    case("pairwise_distance", [((2, 3), (2, 3)), ((3,), (3,)), ((2, 3), (1, 3))]),
    *(case("pairwise_distance", VECTORS, p=p, eps=0.1, keepdim=True) for p in (1, 2.5, math.inf)),
]

CASES = REGRESSION + CLASSES + DISTANCES
test_equals_pytorch, test_forward_mode, test_vmap, test_float32_stays_float32 = battery(
    CASES, torch, rtol=1e-4, atol=1e-5
)


# -- extremes --------------------------------------------------------------------------------------


def test_binary_cross_entropy_at_the_ends() -> None:
    p, y = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    ours, theirs = ft.tensor(p, requires_grad=True), torch.tensor(p, requires_grad=True)
    a = F.binary_cross_entropy(ours, ft.tensor(y), reduction="none")
    b = TF.binary_cross_entropy(theirs, torch.tensor(y), reduction="none")
    assert a.tolist() == b.tolist() == [0, 0, 100, 100]
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy())


def test_logits_of_any_size_stay_finite() -> None:
    x = ft.tensor([-1000.0, -50.0, 50.0, 1000.0], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, ft.tensor([1.0, 1.0, 0.0, 0.0]), reduction="none")
    assert loss.tolist() == [1000, 50, 50, 1000]
    loss.sum().backward()
    assert x.grad.tolist() == [-1, -1, 1, 1]


def test_fused_losses_equal_their_composition() -> None:
    rng = np.random.default_rng(0)
    x, y = ft.tensor(rng.standard_normal(5)), ft.tensor(rng.uniform(0, 1, 5))

    def fused(v, t):
        return F.binary_cross_entropy_with_logits(v, t, reduction="sum")

    def plain(v, t):
        p = ft.sigmoid(v)
        return -(t * ft.log(p) + (1 - t) * ft.log(1 - p)).sum()

    for order in (lambda f: f, lambda f: ft.func.grad(f, (0, 1)), lambda f: ft.func.hessian(f)):
        a, b = order(fused)(x, y), order(plain)(x, y)
        for p, q in zip(*(v if isinstance(v, tuple) else (v,) for v in (a, b)), strict=True):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-9, atol=1e-12)


def test_short_vectors_count_as_eps_long() -> None:
    x, y = np.full((2, 3), 1e-3), np.ones((2, 3))
    ours = F.cosine_similarity(ft.tensor(x), ft.tensor(y), eps=0.5)
    theirs = TF.cosine_similarity(torch.tensor(x), torch.tensor(y), eps=0.5)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy())


def test_kl_div_where_the_target_is_zero() -> None:
    x = ft.tensor(np.log([0.5, 0.5]), requires_grad=True)
    loss = F.kl_div(x, ft.tensor(np.array([1.0, 0.0])), reduction="sum")
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert x.grad.tolist() == [-1, 0]


def test_the_mean_of_no_losses_is_nan_as_in_pytorch() -> None:
    empty = np.zeros((0, 3))
    assert np.isnan(F.mse_loss(ft.tensor(empty), ft.tensor(empty)).item())
    assert np.isnan(TF.mse_loss(torch.tensor(empty), torch.tensor(empty)).item())


COLUMN, ROW = ft.ones(4, 1), ft.ones(4)
TWO = "mse_loss l1_loss smooth_l1_loss huber_loss poisson_nll_loss binary_cross_entropy " \
    "binary_cross_entropy_with_logits kl_div soft_margin_loss hinge_embedding_loss " \
    "multilabel_soft_margin_loss"  # fmt: skip


@pytest.mark.parametrize("name", TWO.split())
def test_nothing_is_broadcast(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(4, 1\).*\(4,\).*must have one shape") as caught:
        getattr(F, name)(COLUMN, ROW)
    assert isinstance(caught.value, ft.FathomError)
    assert "reshape" in caught.value.fix


@pytest.mark.parametrize("name", TWO.split())
def test_unknown_reductions_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        getattr(F, name)(ROW, ROW, reduction="maen")


BAD = [
    (lambda: F.binary_cross_entropy(ROW * 2, ROW), ValueError, "sigmoid"),
    (lambda: F.binary_cross_entropy(ROW, ROW, ft.ones(3)), ValueError, "does not broadcast"),
    (lambda: F.nll_loss(ft.ones(2, 3), [0, 3]), IndexError, "labels run from 0 to 2"),
    (lambda: F.nll_loss(ft.ones(2, 3), [[0], [1]]), ValueError, "(2,)"),
    (lambda: F.nll_loss(ft.ones(2, 3), ft.ones(2)), TypeError, "whole numbers"),
    (lambda: F.nll_loss(ft.ones(2, 3), [0, 1], ft.ones(2)), ValueError, "3 classes"),
    (lambda: F.multi_margin_loss(ft.ones(2, 3), [0, 1], p=3), ValueError, "1 or 2"),
    (lambda: F.gaussian_nll_loss(ROW, ROW, -ROW), ValueError, "negative"),
    (lambda: F.gaussian_nll_loss(ROW, ROW, ft.ones(3)), ValueError, "does not fit"),
    (lambda: F.huber_loss(ROW, ROW, delta=0), ValueError, "delta"),
    (lambda: F.smooth_l1_loss(ROW, ROW, beta=-1), ValueError, "beta"),
    (lambda: F.margin_ranking_loss(ROW, COLUMN, ROW), ValueError, "one shape"),
    (lambda: F.cosine_embedding_loss(COLUMN, COLUMN, COLUMN), ValueError, "(n, width)"),
    (lambda: F.triplet_margin_loss(COLUMN, COLUMN, ROW), ValueError, "negative (4,)"),
    (lambda: F.triplet_margin_loss(COLUMN, COLUMN, COLUMN, margin=0), ValueError, "margin"),
    (lambda: F.mse_loss(ROW, ROW, weight=ft.ones(3)), ValueError, "weight (3,)"),
    (lambda: F.kl_div(ft.tensor(0.5), ft.tensor(0.5), "batchmean"), ValueError, "batch axis"),
    (lambda: F.mse_loss(ft.tensor([1, 2]), ft.tensor([1, 2])), TypeError, "floats"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[t for *_, t in BAD])
def test_errors_teach(call, kind, text) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ft.FathomError)
    assert text in str(caught.value)
