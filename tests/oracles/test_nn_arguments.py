"""Every argument of the layers, and what they do together, against PyTorch's layers.

Each table holds (name, constructor arguments, options, input shape); `agree` compares outputs,
all gradients and the state afterwards. What stands in `test_nn_layers.py` is not repeated.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from tests.oracles.test_nn_layers import agree, draw, twins

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


def run(name: str, args: Any, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    agree(*twins(name, *args, **options), draw(*shape))


def name_of(case: Any) -> str:
    name, args, options, shape = case
    return f"{name} {args} {options} {shape}".replace("'", "")


def each(*tables: list[Any]) -> Any:
    cases = [case for table in tables for case in table]
    return pytest.mark.parametrize(
        ("name", "args", "options", "shape"), cases, ids=map(name_of, cases)
    )


SPATIAL = {1: (7,), 2: (6, 5), 3: (4, 5, 4)}

# -- convolutions --------------------------------------------------------------------------------

MODES = ("zeros", "reflect", "replicate", "circular")
PADDED = [
    (f"Conv{rank}d", (4, 6, 3), {"padding_mode": mode, "padding": padding, **more},
     (2, 4, *SPATIAL[rank]))
    for rank, mode, padding in product((1, 2, 3), MODES, (1, "same", "valid"))
    for more in ({}, {"groups": 2, "bias": False, "stride": 1 if padding == "same" else 2})
]  # fmt: skip
WINDOWS = [
    ("Conv1d", (4, 6, 2), {"padding": "same", "dilation": 3, "padding_mode": "circular"},
     (2, 4, 7)),
    ("Conv2d", (4, 2, (2, 3)), {"padding": "same", "dilation": (2, 1)}, (2, 4, 6, 5)),
    ("Conv2d", (4, 2, (2, 3)), {"padding": (0, 2), "padding_mode": "reflect"}, (2, 4, 6, 5)),
    ("Conv2d", (4, 4, 3), {"stride": (2, 1), "dilation": (1, 2), "padding": 2}, (4, 6, 5)),
    ("Conv3d", (2, 4, (1, 2, 3)), {"stride": (1, 2, 1), "dilation": (1, 2, 1), "groups": 2},
     (1, 2, 3, 5, 4)),
    ("Conv3d", (2, 4, 2), {"padding": (1, 0, 1), "padding_mode": "replicate"}, (2, 3, 4, 3)),
]  # fmt: skip
TRANSPOSED = [
    (f"ConvTranspose{rank}d", (4, 6, 3), options, (2, 4, 4, 3, 3)[: rank + 2])
    for rank in (1, 2, 3)
    for options in (
        {}, {"bias": False, "groups": 2}, {"stride": 2, "padding": 1, "output_padding": 1},
        {"dilation": 2, "padding": 2, "groups": 2}, {"stride": 3, "output_padding": 2},
    )
]  # fmt: skip


@each(PADDED, WINDOWS, TRANSPOSED)
def test_convolutions(name: str, args: Any, options: Any, shape: Any) -> None:
    run(name, args, options, shape)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_output_sizes(rank: int) -> None:
    ours, theirs = twins(f"ConvTranspose{rank}d", 2, 3, 3, stride=3, padding=1)
    x = draw(1, 2, *(3, 4, 2)[:rank])
    for extra in range(3):
        size = [(n - 1) * 3 + 1 + extra for n in x.shape[2:]]
        out, ref = ours(fathom.Tensor(x), size), theirs(torch.tensor(x), size)
        np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-9)


# -- layers that wait for their first batch ------------------------------------------------------

LAZY = [("LazyLinear", (3,), {"bias": False}, (4, 5))] + [
    (f"Lazy{kind}{rank}d", args, options, (3, 4, *SPATIAL[rank]))
    for rank in (1, 2, 3)
    for kind, args, options in (
        ("Conv", (6, 2), {"groups": 2, "stride": 2, "padding": 2, "dilation": 2, "bias": False}),
        ("Conv", (6, 3), {"padding": "same", "padding_mode": "circular"}),
        ("ConvTranspose", (6, 3), {"stride": 2, "output_padding": 1}),
        ("ConvTranspose", (6, 3), {"padding": 1, "groups": 2, "bias": False, "dilation": 2}),
        ("BatchNorm", (), {"momentum": 0.3, "eps": 1e-3, "bias": False}),
        ("BatchNorm", (), {"affine": False, "track_running_stats": False}),
        ("InstanceNorm", (), {"affine": True, "track_running_stats": True, "bias": False}),
        ("InstanceNorm", (), {"affine": False, "track_running_stats": False}),
        ("InstanceNorm", (), {"momentum": 0.5, "eps": 1e-3}),
    )
]


@pytest.mark.filterwarnings("ignore:input's size at dim=1")
@each(LAZY)
def test_lazy_layers(name: str, args: Any, options: Any, shape: Any) -> None:
    x = draw(*shape)
    ours = getattr(nn, name)(*args, **options).double()
    theirs = getattr(torch.nn, name)(*args, **options).double()
    with fathom.no_grad(), torch.no_grad():
        ours.eval()(fathom.Tensor(x)), theirs.eval()(torch.tensor(x))
    assert type(ours).__name__ == type(theirs).__name__
    state = {n: torch.tensor(np.array(v)) for n, v in ours.state_dict().items()}
    assert list(state) == list(theirs.state_dict())
    theirs.load_state_dict(state)
    agree(ours.train(), theirs.train(), x)


# -- pooling -------------------------------------------------------------------------------------

MAX = [
    (f"MaxPool{rank}d", (3,), {"ceil_mode": ceil, "return_indices": index, **more},
     (2, 3, *(7, 6, 5)[:rank]))
    for rank, ceil, index in product((1, 2, 3), (False, True), (False, True))
    for more in ({}, {"stride": 2, "padding": 1}, {"stride": 1, "dilation": 2, "padding": 1})
]  # fmt: skip
AVERAGE = [
    (f"AvgPool{rank}d", (3,), {"ceil_mode": ceil, "count_include_pad": count, **more},
     (2, 3, *SPATIAL[rank]))
    for rank, ceil, count in product((1, 2, 3), (False, True), (False, True))
    for more in ({}, {"stride": 2, "padding": 1}, {"stride": 1, "divisor_override": 4})
    if not (rank == 1 and "divisor_override" in more)
]  # fmt: skip
POWER = [
    (f"LPPool{rank}d", (p, 2), {"stride": stride, "ceil_mode": ceil}, (2, 3, *SPATIAL[rank]))
    for rank, p, stride, ceil in product((1, 2, 3), (2, 3), (None, 1), (False, True))
]
ADAPTIVE = [
    (f"Adaptive{kind}Pool{rank}d", (size if rank == 1 else (size, None, 2)[:rank],), options,
     (2, 3, *SPATIAL[rank]))
    for rank, size in product((1, 2, 3), (1, 3))
    for kind, options in (("Avg", {}), ("Max", {}), ("Max", {"return_indices": True}))
]  # fmt: skip


@each(MAX, AVERAGE, ADAPTIVE)
def test_pooling(name: str, args: Any, options: Any, shape: Any) -> None:
    run(name, args, options, shape)


@each(POWER)
def test_power_pooling(name: str, args: Any, options: Any, shape: Any) -> None:
    agree(*twins(name, *args, **options), np.abs(draw(*shape)) + 0.1)


@pytest.mark.parametrize(
    ("name", "rank"), [("MaxUnpool1d", 1), ("MaxUnpool2d", 2), ("MaxUnpool3d", 3)]
)
@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"stride": 2, "padding": 1}], ids=str)
def test_unpooling(name: str, rank: int, options: dict[str, Any]) -> None:
    pool = getattr(nn, f"MaxPool{rank}d")(3, **options, return_indices=True)
    x = draw(2, 2, *(9, 9, 9)[:rank])
    values, index = (np.array(v.value()) for v in pool(fathom.Tensor(x)))
    ours, theirs = twins(name, 3, **options)
    size = [int(n) for n in x.shape[2:]]
    a, b = fathom.Tensor(values, True), torch.tensor(values, requires_grad=True)
    out = ours(a, fathom.Tensor(index), output_size=size)
    ref = theirs(b, torch.tensor(index), output_size=size)
    np.testing.assert_array_equal(out.value(), ref.detach())
    u = draw(*x.shape, seed=2)
    (out * fathom.Tensor(u)).sum().backward(), (ref * torch.tensor(u)).sum().backward()
    np.testing.assert_allclose(a.grad.value(), b.grad, rtol=1e-7)


# -- normalization -------------------------------------------------------------------------------

NORMS = [
    (f"{kind}Norm{rank}d", (4,), {"affine": affine, "track_running_stats": track, **more},
     (3, 4, *SPATIAL[rank]))
    for kind, rank, affine, track in product(("Batch", "Instance"), (1, 2, 3), (False, True),
                                             (False, True))
    for more in ({}, {"momentum": None}, {"momentum": 0.7, "eps": 0.01, "bias": False})
]  # fmt: skip
UNBATCHED = [
    (f"InstanceNorm{rank}d", (4,), {"track_running_stats": True}, (4, *SPATIAL[rank]))
    for rank in (1, 2, 3)
]
WITHIN = [
    ("LayerNorm", ((3, 4),), {"elementwise_affine": False, "eps": 1e-3}, (2, 3, 4)),
    ("LayerNorm", ((2, 3, 4),), {"bias": False}, (2, 3, 4)),
    ("RMSNorm", (4,), {"elementwise_affine": False, "eps": 1e-3}, (2, 3, 4)),
    ("GroupNorm", (1, 4), {"eps": 0.1}, (3, 4)),
    ("GroupNorm", (4, 4), {"bias": False}, (3, 4, 2, 3)),
    ("LocalResponseNorm", (2,), {"alpha": 0.5, "beta": 0.5, "k": 1.5}, (2, 5, 3, 2)),
    ("LocalResponseNorm", (5,), {}, (2, 3, 4)),
    ("PReLU", (3,), {"init": -0.5}, (2, 3, 4)),
]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@each(NORMS, UNBATCHED, WITHIN)
def test_norms(name: str, args: Any, options: Any, shape: Any, training: bool) -> None:
    ours, theirs = twins(name, *args, **options)
    agree(ours, theirs, draw(*shape, seed=4))  # the statistics move
    agree(ours.train(training), theirs.train(training), draw(*shape))


# -- borders, sizes, columns ---------------------------------------------------------------------

BORDERS = [
    (f"{kind}Pad{rank}d", (padding, *more), {}, shape)
    for kind, more in (("Zero", ()), ("Constant", (2.5,)), ("Reflection", ()),
                       ("Replication", ()), ("Circular", ()))
    for rank in (1, 2, 3)
    for padding in (1, (2, 1, 0, 1, 1, 3)[: 2 * rank])
    for shape in ((2, 3, *SPATIAL[rank]), (3, *SPATIAL[rank]))
] + [("ZeroPad2d", ((-1, 2, 0, -2),), {}, (2, 3, 6, 5)),
     ("ConstantPad1d", ((-2, 1), -1.0), {}, (2, 3, 7))]  # fmt: skip
RESIZED = [
    ("Upsample", (), {"scale_factor": 2}, (2, 3, 4)),
    ("Upsample", (), {"size": (7, 3), "mode": "nearest-exact"}, (2, 3, 4, 5)),
    ("Upsample", (), {"scale_factor": 1.5, "mode": "linear", "align_corners": True}, (2, 3, 4)),
    ("Upsample", (), {"scale_factor": (2.0, 1.5), "mode": "bilinear"}, (2, 3, 4, 6)),
    ("Upsample", (), {"scale_factor": 1.3, "mode": "bicubic", "recompute_scale_factor": True},
     (1, 2, 4, 5)),
    ("Upsample", (), {"size": (3, 4, 5), "mode": "trilinear", "align_corners": False},
     (1, 2, 2, 3, 4)),
    ("Upsample", (), {"size": 3, "mode": "area"}, (1, 2, 4, 5)),
    ("UpsamplingNearest2d", (), {"scale_factor": 3}, (1, 2, 2, 3)),
    ("UpsamplingNearest2d", (5,), {}, (1, 2, 2, 3)),
    ("UpsamplingBilinear2d", ((5, 7),), {}, (1, 2, 2, 3)),
    ("UpsamplingBilinear2d", (), {"scale_factor": (2.0, 1.5)}, (1, 2, 2, 4)),
    ("PixelShuffle", (2,), {}, (2, 8, 2, 3)),
    ("PixelUnshuffle", (2,), {}, (2, 2, 4, 6)),
    ("ChannelShuffle", (3,), {}, (2, 6, 2, 3)),
    ("Unfold", ((2, 3),), {"dilation": (2, 1), "padding": 1, "stride": (1, 2)}, (2, 3, 6, 5)),
    ("Fold", ((6, 5), (2, 3)), {"dilation": (2, 1), "padding": 1, "stride": (1, 2)}, (2, 18, 18)),
    ("Softmax", (1,), {}, (2, 3, 4)),
    ("LogSoftmax", (1,), {}, (2, 3, 4)),
    ("Hardshrink", (0.9,), {}, (2, 3, 4)),
    ("GLU", (1,), {}, (2, 4, 3)),
    ("Flatten", (0, -2), {}, (2, 3, 4)),
]  # fmt: skip


@each(BORDERS, RESIZED)
def test_borders_and_sizes(name: str, args: Any, options: Any, shape: Any) -> None:
    run(name, args, options, shape)


def test_bilinear_and_ctc_as_functions() -> None:
    arrays = [draw(3, 2, 4), draw(3, 2, 5, seed=1), draw(6, 4, 5, seed=2), draw(6, seed=3)]
    for given in (arrays, arrays[:3]):
        ours = nn.functional.bilinear(*map(fathom.Tensor, given))
        theirs = torch.nn.functional.bilinear(*map(torch.tensor, given))
        np.testing.assert_allclose(ours.value(), theirs, rtol=1e-9)
    scores, given = draw(6, 2, 4), (np.array([[1, 2], [3, 3]]), np.array([6, 5]), np.array([2, 1]))
    ours = nn.functional.ctc_loss(fathom.log_softmax(fathom.Tensor(scores), -1), *given)
    theirs = torch.nn.functional.ctc_loss(
        torch.log_softmax(torch.tensor(scores), -1), *map(torch.tensor, given)
    )
    np.testing.assert_allclose(ours.value(), theirs, rtol=1e-9)


@pytest.mark.parametrize(("dim", "eps"), [(1, 1e-8), (-1, 0.5), (0, 1e-8)])
def test_cosine_similarity(dim: int, eps: float) -> None:
    agree(*twins("CosineSimilarity", dim, eps), draw(3, 4, 2), draw(3, 4, 2, seed=1))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 0.5])
def test_pairwise_distance(p: float, keepdim: bool) -> None:
    agree(*twins("PairwiseDistance", p, 1e-3, keepdim), draw(3, 4), draw(3, 4, seed=1))


# -- at random: p = 0, p = 1 and eval are the same in every library -------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [("Dropout", (4, 3)), ("Dropout1d", (2, 3, 4)), ("Dropout2d", (2, 3, 4, 2)),
     ("Dropout3d", (2, 3, 2, 2, 2)), ("AlphaDropout", (4, 3)), ("FeatureAlphaDropout", (2, 3, 4))],
)  # fmt: skip
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_dropouts(name: str, shape: tuple[int, ...], p: float) -> None:
    ours, theirs = getattr(nn, name)(p), getattr(torch.nn, name)(p)
    agree(ours.eval(), theirs.eval(), draw(*shape))
    if p != 0.4:
        agree(ours.train(), theirs.train(), draw(*shape))


@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "FeatureAlphaDropout", "Dropout2d"])
def test_dropouts_take_the_two_values_of_pytorch(name: str) -> None:
    x = np.full((40, 50, 2, 3), 1.5)
    ours = getattr(nn, name)(0.3)(fathom.Tensor(x)).value()
    theirs = getattr(torch.nn, name)(0.3)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(np.unique(ours.round(9)), np.unique(theirs.round(9)), rtol=1e-6)
    low = ours.min()
    assert (ours == low).mean() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("container", ["ModuleList", "ModuleDict"])
def test_containers_name_their_parts_like_pytorch(container: str) -> None:
    names = []
    for lib in (nn, torch.nn):
        parts = [lib.Linear(2, 3), lib.ReLU(), lib.Linear(3, 1, bias=False)]
        given = parts if container == "ModuleList" else dict(zip("abc", parts, strict=True))
        names.append(list(getattr(lib, container)(given).state_dict()))
    assert names[0] == names[1]


# -- losses --------------------------------------------------------------------------------------

LABELS = np.array([[0, 2, 1], [3, 1, 2]])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.1])


def losses_agree(name: str, options: dict[str, Any], inputs: Any, fixed: Any) -> None:
    """Value and gradients of a loss; `fixed` are arrays without a gradient."""

    def given(lib: Any) -> dict[str, Any]:
        return {k: lib(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}

    ours = getattr(nn, name)(**given(fathom.tensor)).double()
    theirs = getattr(torch.nn, name)(**given(torch.tensor)).double()
    a = [fathom.Tensor(x, True) for x in inputs]
    b = [torch.tensor(x, requires_grad=True) for x in inputs]
    out, ref = ours(*a, *fixed), theirs(*b, *map(torch.tensor, fixed))
    np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-9, atol=1e-12)
    out.sum().backward(), ref.sum().backward()
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.grad.value(), y.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 1])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
def test_class_losses(name, smoothing, ignore_index, weighted, reduction) -> None:
    options = {"reduction": reduction, "ignore_index": ignore_index}
    if weighted:
        options["weight"] = WEIGHT
    if name == "CrossEntropyLoss":
        options["label_smoothing"] = smoothing
        soft = np.abs(draw(2, 4, 3, seed=6))
        only = {k: v for k, v in options.items() if k != "ignore_index"}
        losses_agree(name, only, [draw(2, 4, 3)], [soft / soft.sum(1, keepdims=True)])
    losses_agree(name, options, [draw(2, 4, 3)], [LABELS])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("pos_weight", [None, WEIGHT, np.array(3.0)], ids=["none", "each", "one"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_binary_losses(weight, pos_weight, reduction) -> None:
    target = np.random.default_rng(3).uniform(0, 1, (5, 4))
    given = {"weight": weight, "pos_weight": pos_weight}
    options = {k: v for k, v in given.items() if v is not None} | {"reduction": reduction}
    losses_agree("BCEWithLogitsLoss", options, [draw(5, 4)], [target])
    options.pop("pos_weight", None)
    losses_agree("BCELoss", options, [target[::-1].copy()], [target])
    losses_agree("MultiLabelSoftMarginLoss", options, [draw(5, 4)], [target.round()])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("blank", [0, 2, 4])
@pytest.mark.parametrize("joined", [False, True])
def test_ctc(joined: bool, blank: int, zero_infinity: bool, reduction: str) -> None:
    targets = np.array([[1, 3, 3], [3, 1, 1], [1, 1, 1]])
    times, sizes = np.array([7, 5, 6]), np.array([3, 2, 1])
    logits = draw(7, 3, 5)
    flat_targets = np.concatenate([r[:n] for r, n in zip(targets, sizes, strict=True)])
    given = (flat_targets if joined else targets, times, sizes)
    options = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    a, b = fathom.Tensor(logits, True), torch.tensor(logits, requires_grad=True)
    out = nn.CTCLoss(**options)(fathom.log_softmax(a, -1), *given)
    ref = torch.nn.CTCLoss(**options)(torch.log_softmax(b, -1), *map(torch.tensor, given))
    np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-9)
    out.sum().backward(), ref.sum().backward()
    np.testing.assert_allclose(a.grad.value(), b.grad, rtol=1e-7, atol=1e-10)


DISTANCES = [
    ("PoissonNLLLoss", {"log_input": False, "eps": 0.3}, 1),
    ("GaussianNLLLoss", {"full": True, "eps": 0.5}, 2),
    ("TripletMarginLoss", {"p": 3.0, "eps": 0.1, "swap": True, "margin": 2.0}, 3),
    ("TripletMarginLoss", {"p": 1.0}, 3),
    ("TripletMarginWithDistanceLoss", {"margin": 2.0, "swap": True}, 3),
    ("TripletMarginWithDistanceLoss",
     {"distance_function": lambda x, y: ((x - y) ** 2).sum(1), "margin": 0.7}, 3),
    ("MultiMarginLoss", {"p": 2, "margin": 0.3, "weight": WEIGHT}, 1),
    ("KLDivLoss", {"log_target": True}, 1),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "options", "count"), DISTANCES, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(DISTANCES)]
)
def test_losses_with_all_options(name, options, count, reduction) -> None:
    inputs = [np.abs(draw(5, 4, seed=i)) + 0.1 for i in range(count)]
    fixed = [np.abs(draw(5, 4, seed=7))] if count < 3 else []
    if name == "GaussianNLLLoss":  # (input, target, var)
        fixed = [np.abs(draw(5, 4, seed=7)) + 0.05]
    if name == "MultiMarginLoss":
        fixed = [np.array([0, 3, 1, 2, 2])]
    losses_agree(name, {**options, "reduction": reduction}, inputs, fixed)
