"""Layers and losses against PyTorch's, with the same state: outputs and all gradients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.activations import FORMULAS
from fathom.nn import functional as F

torch = pytest.importorskip("torch")


def draw(*shape: int, seed: int = 0, scale: float = 1.5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * scale


def twins(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Fathom's layer and PyTorch's of the same name, arguments and (double) state."""
    with fathom.seed(3):
        ours = getattr(nn, name)(*args, **options).double()
    theirs = getattr(torch.nn, name)(*args, **options).double()
    rng = np.random.default_rng(1)
    for p in ours.parameters():  # norms start as constants: make them matter
        p.data += 0.1 * rng.standard_normal(p.shape)
    state = {n: torch.tensor(np.array(v)) for n, v in ours.state_dict().items()}
    assert list(state) == list(theirs.state_dict())
    theirs.load_state_dict(state)
    return ours, theirs


def leaves(out: Any) -> list[Any]:
    return list(out) if isinstance(out, tuple | list) else [out]


def agree(ours: Any, theirs: Any, *arrays: np.ndarray, calls: int = 1) -> None:
    """Outputs, gradients of inputs and parameters, and the state afterwards."""
    for _ in range(calls):
        ours.zero_grad(), theirs.zero_grad()
        a = [fathom.Tensor(x, x.dtype.kind == "f") for x in arrays]
        b = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
        outs, refs = leaves(ours(*a)), leaves(theirs(*b))
        assert len(outs) == len(refs)
        for out, ref in zip(outs, refs, strict=True):
            assert tuple(out.shape) == tuple(ref.shape)
            np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-9, atol=1e-11)
        rng = np.random.default_rng(5)
        total, reference = 0.0, 0.0
        for out, ref in zip(outs, refs, strict=True):
            if ref.requires_grad:
                u = rng.standard_normal(out.shape)
                total = total + (out * fathom.Tensor(u)).sum()
                reference = reference + (ref * torch.tensor(u)).sum()
        if isinstance(reference, float):
            continue
        total.backward()
        reference.backward()
        for x, y in zip(a, b, strict=True):
            if y.grad is not None:
                np.testing.assert_allclose(x.grad.value(), y.grad, rtol=1e-7, atol=1e-10)
        own = dict(ours.named_parameters())
        for name, p in theirs.named_parameters():
            np.testing.assert_allclose(own[name].grad.value(), p.grad, rtol=1e-7, atol=1e-10)
    state = ours.state_dict()
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(state[name].value(), value, rtol=1e-9, err_msg=name)


# -- activations ---------------------------------------------------------------------------------

LAYERS = [
    ("ReLU", {}), ("ReLU6", {}), ("Sigmoid", {}), ("Tanh", {}), ("Hardsigmoid", {}),
    ("Hardtanh", {}), ("Hardtanh", {"min_val": -0.5, "max_val": 2.0}), ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.3}), ("ELU", {}), ("ELU", {"alpha": 0.5}), ("CELU", {}),
    ("CELU", {"alpha": 2.0}), ("SELU", {}), ("GELU", {}), ("GELU", {"approximate": "tanh"}),
    ("SiLU", {}), ("Hardswish", {}), ("Mish", {}), ("Softplus", {"threshold": 20.0}),
    ("Softplus", {"beta": 3.0, "threshold": 20.0}), ("Softsign", {}), ("LogSigmoid", {}),
    ("Tanhshrink", {}), ("Hardshrink", {}), ("Softshrink", {"lambd": 0.8}),
    ("Threshold", {"threshold": 0.1, "value": -2.0}), ("PReLU", {}), ("GLU", {}),
    ("GLU", {"dim": 1}), ("Softmax", {"dim": 1}), ("LogSoftmax", {"dim": -1}),
    ("Softmin", {"dim": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), LAYERS, ids=str)
def test_activation_layers(name: str, options: dict[str, Any]) -> None:
    ours, theirs = twins(name, **options)
    agree(ours, theirs, draw(4, 6, 8, scale=3.0))


@pytest.mark.parametrize(("name", "options"), LAYERS[:27], ids=str)
def test_activations_at_their_kinks_and_far_out(name: str, options: dict[str, Any]) -> None:
    places = [-50.0, -6.0, -3.0, -2.0, -1.0, -0.8, -0.5, 0.0, 0.1, 0.5, 0.8, 1.0, 2.0, 3.0, 6.0, 60]
    ours, theirs = twins(name, **options)
    agree(ours, theirs, np.array(places))


@pytest.mark.parametrize("name", ["ReLU", "ELU", "GELU", "Hardswish", "Hardtanh", "ReLU6"])
def test_nan_stays_nan(name: str) -> None:
    assert np.isnan(getattr(nn, name)()(fathom.tensor([float("nan")])).item())


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4), (3, 5, 2, 2)])
def test_prelu(channels: int, shape: tuple[int, ...]) -> None:
    agree(*twins("PReLU", channels), draw(*shape))


def test_prelu_of_channels_where_broadcasting_to_the_last_axis_fails() -> None:
    x = draw(2, 64, 3, 3)
    weight = np.linspace(0.1, 0.5, 64)
    ours = F.prelu(fathom.Tensor(x), fathom.Tensor(weight)).value()
    theirs = torch.nn.functional.prelu(torch.tensor(x), torch.tensor(weight))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_softmax2d() -> None:
    agree(*twins("Softmax2d"), draw(2, 3, 4, 5))


def test_rrelu_in_eval() -> None:
    ours, theirs = twins("RReLU", 0.1, 0.5)
    agree(ours.eval(), theirs.eval(), draw(4, 5))


# -- linear and shape ----------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(4,), (2, 3), ()])
def test_bilinear(bias: bool, lead: tuple[int, ...]) -> None:
    agree(*twins("Bilinear", 3, 5, 2, bias=bias), draw(*lead, 3), draw(*lead, 5, seed=1))


def test_flatten_and_unflatten() -> None:
    agree(*twins("Flatten", 1, 2), draw(2, 3, 4, 5))
    agree(*twins("Unflatten", 1, (2, 3)), draw(4, 6, 2))
    agree(*twins("Unflatten", -1, (-1, 2)), draw(4, 6))


# -- convolutions --------------------------------------------------------------------------------

CONVOLUTIONS = [
    ("Conv1d", (4, 6, 3), {}, (2, 4, 9)),
    ("Conv1d", (4, 6, 3), {"padding": "same", "padding_mode": "circular"}, (2, 4, 9)),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}, (2, 4, 11)),
    ("Conv2d", (3, 4, 3), {}, (2, 3, 6, 5)),
    ("Conv2d", (3, 4, 3), {}, (3, 6, 5)),
    ("Conv2d", (4, 4, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "bias": False}, (2, 4, 6, 5)),
    ("Conv2d", (3, 4, 3), {"padding": 1, "padding_mode": "reflect"}, (2, 3, 6, 5)),
    ("Conv2d", (3, 4, 3), {"padding": 2, "padding_mode": "replicate", "stride": 2}, (2, 3, 6, 5)),
    ("Conv2d", (4, 8, 3), {"groups": 4, "padding": "same"}, (2, 4, 5, 5)),
    ("Conv2d", (3, 2, 2), {"padding": "same", "padding_mode": "reflect"}, (2, 3, 6, 5)),
    ("Conv2d", (3, 2, 2), {"padding": "valid"}, (2, 3, 6, 5)),
    ("Conv3d", (2, 3, 2), {"padding": 1}, (1, 2, 3, 4, 4)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 5)),
    ("ConvTranspose2d", (4, 3, 3), {}, (2, 4, 4, 3)),
    ("ConvTranspose2d", (4, 6, 3),
     {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 1}, (2, 4, 4, 3)),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2, "bias": False}, (1, 2, 2, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options", "shape"), CONVOLUTIONS, ids=str)
def test_convolutions(name: str, args: Any, options: Any, shape: Any) -> None:
    agree(*twins(name, *args, **options), draw(*shape))


def test_output_size_of_a_transposed_convolution() -> None:
    ours, theirs = twins("ConvTranspose2d", 2, 3, 3, stride=2)
    x = draw(1, 2, 4, 4)
    for size in ((9, 9), (10, 10), (10, 9)):
        out = ours(fathom.Tensor(x), output_size=size)
        ref = theirs(torch.tensor(x), output_size=size)
        np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-10)


def test_depthwise_is_a_grouped_convolution() -> None:
    ours = nn.DepthwiseConv2d(4, 3, depth_multiplier=2, padding=1).double()
    theirs = torch.nn.Conv2d(4, 8, 3, padding=1, groups=4).double()
    theirs.load_state_dict({n: torch.tensor(np.array(v)) for n, v in ours.state_dict().items()})
    agree(ours, theirs, draw(2, 4, 5, 5))


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "ConvTranspose2d", "Bilinear"])
def test_initial_spread(name: str) -> None:
    sizes = (40, 30, 20) if name == "Bilinear" else (40, 60) if name == "Linear" else (40, 60, 3)
    with fathom.seed(0):
        ours = getattr(nn, name)(*sizes)
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*sizes)
    for key, value in theirs.state_dict().items():
        own = ours.state_dict()[key].value()
        assert abs(own.max() - float(value.max())) < 0.1 * abs(float(value.max()))
        assert own.std() == pytest.approx(float(value.std()), rel=0.2)


# -- pooling -------------------------------------------------------------------------------------

POOLS = [
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 9)),
    ("MaxPool2d", (2,), {}, (2, 3, 6, 7)),
    ("MaxPool2d", ((3, 2), 2), {"ceil_mode": True, "dilation": (1, 2)}, (2, 3, 8, 7)),
    ("MaxPool2d", (2,), {"return_indices": True}, (2, 3, 6, 6)),
    ("MaxPool3d", (2,), {}, (1, 2, 4, 4, 4)),
    ("AvgPool1d", (3, 2), {}, (2, 3, 9)),
    ("AvgPool2d", (3,), {"padding": 1, "count_include_pad": False, "ceil_mode": True},
     (2, 3, 6, 7)),
    ("AvgPool2d", (2,), {"divisor_override": 3}, (2, 3, 6, 7)),
    ("AvgPool3d", (2,), {}, (1, 2, 4, 4, 4)),
    ("LPPool2d", (2.0, 2), {}, (2, 3, 6, 6)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 10)),
    ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 3, 7, 5)),
    ("AdaptiveAvgPool3d", (1,), {}, (1, 2, 3, 4, 5)),
    ("AdaptiveMaxPool2d", ((3, 2),), {"return_indices": True}, (2, 3, 7, 6)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options", "shape"), POOLS, ids=str)
def test_pooling(name: str, args: Any, options: Any, shape: Any) -> None:
    agree(*twins(name, *args, **options), draw(*shape))


def test_max_unpool() -> None:
    x = draw(2, 3, 6, 6)
    values, index = nn.MaxPool2d(2, return_indices=True)(fathom.Tensor(x))
    agree(*twins("MaxUnpool2d", 2), np.array(values.value()), np.array(index.value()))


# -- normalization -------------------------------------------------------------------------------

NORMS = [
    ("BatchNorm1d", (5,), {}, (6, 5)),
    ("BatchNorm1d", (5,), {"momentum": None}, (6, 5, 3)),
    ("BatchNorm1d", (5,), {"track_running_stats": False}, (6, 5)),
    ("BatchNorm2d", (3,), {"momentum": 0.3, "eps": 1e-3}, (4, 3, 2, 5)),
    ("BatchNorm2d", (3,), {"affine": False}, (4, 3, 2, 5)),
    ("BatchNorm3d", (2,), {}, (3, 2, 2, 2, 2)),
    ("LayerNorm", (5,), {}, (3, 4, 5)),
    ("LayerNorm", ((4, 5),), {"bias": False, "eps": 1e-2}, (3, 4, 5)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, (3, 5)),
    ("RMSNorm", (5,), {}, (3, 5)),
    ("RMSNorm", ((4, 5),), {"eps": 1e-2}, (3, 4, 5)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    ("GroupNorm", (6, 6), {"affine": False}, (3, 6, 4, 2)),
    ("InstanceNorm1d", (3,), {}, (4, 3, 6)),
    ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (4, 3, 4, 5)),
    ("InstanceNorm2d", (3,), {}, (3, 4, 5)),
    ("InstanceNorm3d", (2,), {"affine": True}, (2, 2, 3, 2, 2)),
    ("LocalResponseNorm", (3,), {"alpha": 0.1, "k": 2.0}, (2, 7, 4)),
]  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("name", "args", "options", "shape"), NORMS, ids=str)
def test_norms(name: str, args: Any, options: Any, shape: Any, training: bool) -> None:
    ours, theirs = twins(name, *args, **options)
    agree(ours, theirs, draw(*shape), calls=2)  # statistics of two batches
    agree(ours.train(training), theirs.train(training), draw(*shape, seed=4), calls=2)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("sizes", [(4, 4), (1, 3, 5), (8,)], ids=str)
def test_synchronized_shards_are_one_batch(sizes: tuple[int, ...], momentum: float | None) -> None:
    """Shards of any size against PyTorch's norm over all of them together."""
    x = draw(sum(sizes), 3, 4, 2)
    ours = nn.SyncBatchNorm(3, momentum=momentum).double()
    theirs = torch.nn.BatchNorm2d(3, momentum=momentum).double()
    whole, parts = torch.tensor(x, requires_grad=True), []
    ends = np.cumsum((0, *sizes))
    for i, j in pairwise(ends):
        parts.append(fathom.Tensor(x[i:j], True))
    outs, ref = ours(parts), theirs(whole)
    np.testing.assert_allclose(np.concatenate([o.value() for o in outs]), ref.detach(), atol=1e-12)
    u = draw(*x.shape, seed=8)
    ref.backward(torch.tensor(u))
    sum((o * fathom.Tensor(u[i:j])).sum() for o, i, j in zip(outs, ends, ends[1:], strict=False)
        ).backward()  # fmt: skip
    found = np.concatenate([p.grad.value() for p in parts])
    np.testing.assert_allclose(found, whole.grad, atol=1e-11)
    np.testing.assert_allclose(ours.weight.grad.value(), theirs.weight.grad, atol=1e-10)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].value(), value, rtol=1e-10)


# -- losses --------------------------------------------------------------------------------------

LABELS = np.array([0, 2, 1, 3, 2])
SIGNS = np.array([1.0, -1.0, 1.0, 1.0, -1.0])
UNIT = np.random.default_rng(2).uniform(0.05, 0.95, (5, 4))
WEIGHT = [0.5, 1.0, 2.0, 1.5]

LOSSES = [
    ("MSELoss", {}, [draw(5, 4), draw(5, 4, seed=1)]),
    ("L1Loss", {}, [draw(5, 4), draw(5, 4, seed=1)]),
    ("SmoothL1Loss", {"beta": 0.5}, [draw(5, 4), draw(5, 4, seed=1)]),
    ("HuberLoss", {"delta": 0.7}, [draw(5, 4), draw(5, 4, seed=1)]),
    ("PoissonNLLLoss", {"full": True}, [draw(5, 4), np.floor(UNIT * 9)]),
    ("PoissonNLLLoss", {"log_input": False}, [UNIT, np.floor(UNIT * 9)]),
    ("GaussianNLLLoss", {"full": True}, [draw(5, 4), draw(5, 4, seed=1), UNIT]),
    ("KLDivLoss", {}, [np.log(UNIT), UNIT[::-1].copy()]),
    ("KLDivLoss", {"log_target": True}, [np.log(UNIT), np.log(UNIT[::-1])]),
    ("BCELoss", {}, [UNIT, UNIT[::-1].copy()]),
    ("BCEWithLogitsLoss", {}, [draw(5, 4), UNIT]),
    ("CrossEntropyLoss", {}, [draw(5, 4), LABELS]),
    ("CrossEntropyLoss", {"ignore_index": 2, "label_smoothing": 0.1}, [draw(5, 4), LABELS]),
    ("CrossEntropyLoss", {}, [draw(5, 4), UNIT / UNIT.sum(1, keepdims=True)]),
    ("NLLLoss", {"ignore_index": 1}, [draw(5, 4), LABELS]),
    ("HingeEmbeddingLoss", {"margin": 1.5}, [draw(5), SIGNS]),
    ("SoftMarginLoss", {}, [draw(5), SIGNS]),
    ("MultiMarginLoss", {"p": 2, "margin": 0.5}, [draw(5, 4), LABELS]),
    ("MultiLabelMarginLoss", {}, [draw(2, 4), np.array([[1, 2, -1, 0], [3, -1, 0, 0]])]),
    ("MultiLabelSoftMarginLoss", {}, [draw(5, 4), np.round(UNIT)]),
    ("CosineEmbeddingLoss", {"margin": 0.2}, [draw(5, 4), draw(5, 4, seed=1), SIGNS]),
    ("MarginRankingLoss", {"margin": 0.3}, [draw(5), draw(5, seed=1), SIGNS]),
    ("TripletMarginLoss", {"margin": 1.2, "swap": True},
     [draw(5, 4), draw(5, 4, seed=1), draw(5, 4, seed=2)]),
    ("TripletMarginWithDistanceLoss", {}, [draw(5, 4), draw(5, 4, seed=1), draw(5, 4, seed=2)]),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "options", "arrays"), LOSSES, ids=[f"{case[0]}-{i}" for i, case in enumerate(LOSSES)]
)
def test_losses(name: str, options: Any, arrays: Any, reduction: str) -> None:
    ours = getattr(nn, name)(**options, reduction=reduction)
    theirs = getattr(torch.nn, name)(**options, reduction=reduction)
    fixed = range(1, len(arrays) if name not in ("GaussianNLLLoss",) else 2)
    if name.startswith(("Triplet", "Cosine", "MarginR")):
        fixed = range(len(arrays) - 1, len(arrays)) if "Triplet" not in name else range(0)
    a = [fathom.Tensor(x, x.dtype.kind == "f" and i not in fixed) for i, x in enumerate(arrays)]
    b = [torch.tensor(x, requires_grad=t.requires_grad) for x, t in zip(arrays, a, strict=True)]
    out, ref = ours(*a), theirs(*b)
    np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-9, atol=1e-12)
    out.sum().backward()
    ref.sum().backward()
    for x, y in zip(a, b, strict=True):
        if y.grad is not None:
            np.testing.assert_allclose(x.grad.value(), y.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"])
def test_class_weights(name: str) -> None:
    for reduction in ("mean", "sum", "none"):
        ours = getattr(nn, name)(weight=WEIGHT, reduction=reduction).double()
        weight = torch.tensor(WEIGHT).double()
        theirs = getattr(torch.nn, name)(weight=weight, reduction=reduction)
        x = draw(5, 4)
        out, ref = ours(fathom.Tensor(x), LABELS), theirs(torch.tensor(x), torch.tensor(LABELS))
        np.testing.assert_allclose(out.value(), ref, rtol=1e-9)


def test_positive_weights() -> None:
    ours = nn.BCEWithLogitsLoss(pos_weight=WEIGHT).double()
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(WEIGHT).double())
    x = draw(5, 4)
    out = ours(fathom.Tensor(x), fathom.Tensor(UNIT))
    np.testing.assert_allclose(out.value(), theirs(torch.tensor(x), torch.tensor(UNIT)), rtol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("joined", [False, True])
def test_ctc(reduction: str, joined: bool) -> None:
    logits = draw(9, 4, 5)
    targets = np.array([[1, 2, 2, 3], [1, 1, 0, 0], [4, 3, 2, 1], [2, 0, 0, 0]])
    sizes, times = np.array([4, 2, 4, 0]), np.array([9, 5, 6, 3])
    if joined:
        targets = np.concatenate([row[:n] for row, n in zip(targets, sizes, strict=True)])
    a, b = fathom.Tensor(logits, True), torch.tensor(logits, requires_grad=True)
    out = nn.CTCLoss(reduction=reduction)(fathom.log_softmax(a, -1), targets, times, sizes)
    ref = torch.nn.CTCLoss(reduction=reduction)(
        torch.log_softmax(b, -1), torch.tensor(targets), torch.tensor(times), torch.tensor(sizes)
    )
    np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-10)
    out.sum().backward()
    ref.sum().backward()
    np.testing.assert_allclose(a.grad.value(), b.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("zero", [False, True])
def test_ctc_where_nothing_fits(zero: bool) -> None:
    logits = draw(3, 2, 4)
    args = (np.array([[1, 1, 1], [1, 2, 3]]), np.array([3, 3]), np.array([3, 3]))
    a, b = fathom.Tensor(logits, True), torch.tensor(logits, requires_grad=True)
    out = nn.CTCLoss(reduction="none", zero_infinity=zero)(fathom.log_softmax(a, -1), *args)
    ref = torch.nn.functional.ctc_loss(
        torch.log_softmax(b, -1), *map(torch.tensor, args), reduction="none", zero_infinity=zero
    )
    np.testing.assert_allclose(out.value(), ref.detach(), rtol=1e-10)
    if zero:
        out.sum().backward()
        ref.sum().backward()
        np.testing.assert_allclose(a.grad.value(), b.grad, rtol=1e-7, atol=1e-10)


def test_ctc_of_one_sequence_with_another_blank() -> None:
    logits = draw(6, 5)
    out = nn.CTCLoss(blank=4)(fathom.log_softmax(fathom.Tensor(logits), -1), [0, 1, 1], 6, 3)
    ref = torch.nn.CTCLoss(blank=4)(
        torch.log_softmax(torch.tensor(logits), -1), torch.tensor([0, 1, 1]), torch.tensor(6),
        torch.tensor(3),
    )  # fmt: skip
    np.testing.assert_allclose(out.value(), ref, rtol=1e-10)


# -- adaptive softmax ----------------------------------------------------------------------------


@pytest.mark.parametrize("head_bias", [True, False])
def test_adaptive_softmax(head_bias: bool) -> None:
    options = {"cutoffs": [3, 8], "div_value": 2.0, "head_bias": head_bias}
    ours, theirs = twins("AdaptiveLogSoftmaxWithLoss", 8, 12, **options)
    target = np.array([0, 11, 4, 2, 7, 9, 3])
    agree(ours, theirs, draw(7, 8), target)
    x = draw(7, 8, seed=2)
    np.testing.assert_allclose(
        ours.log_prob(fathom.Tensor(x)).value(), theirs.log_prob(torch.tensor(x)).detach(),
        rtol=1e-9,
    )  # fmt: skip
    predicted = ours.predict(fathom.Tensor(x)).value()
    np.testing.assert_array_equal(predicted, theirs.predict(torch.tensor(x)))


# -- initial weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu"])
def test_gains(name: str) -> None:
    assert nn.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))


def test_leaky_gain() -> None:
    ours, theirs = nn.init.calculate_gain, torch.nn.init.calculate_gain
    assert ours("leaky_relu", 0.3) == pytest.approx(theirs("leaky_relu", 0.3))
    assert ours("leaky_relu") == pytest.approx(theirs("leaky_relu"))


FILLS = [
    ("xavier_uniform_", {"gain": 2.0}), ("xavier_normal_", {}), ("kaiming_uniform_", {"a": 0.5}),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}), 
    ("orthogonal_", {"gain": 3.0}),
    ("trunc_normal_", {"std": 0.5, "a": -0.4, "b": 1.0}), ("ones_", {}), ("zeros_", {}),
    ("normal_", {"mean": 1.0, "std": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), FILLS, ids=str)
@pytest.mark.parametrize("shape", [(80, 60), (40, 20, 3, 3)], ids=str)
def test_filled_weights_have_the_moments_of_torch(name: str, options: Any, shape: Any) -> None:
    weight, reference = fathom.zeros(*shape), torch.zeros(*shape)
    with fathom.seed(0):
        assert getattr(nn.init, name)(weight, **options) is weight
    torch.manual_seed(0)
    getattr(torch.nn.init, name)(reference, **options)
    a, b = weight.value(), reference.numpy()
    spread = max(float(b.std()), 1e-3)
    assert abs(a.mean() - b.mean()) < 6 * spread / np.sqrt(b.size) * 1.5
    assert a.std() == pytest.approx(b.std(), rel=0.06)
    assert abs(a.max() - b.max()) < 1.2 * spread


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shape", [(4, 2, 3), (6, 4, 3, 3), (4, 5, 2, 3, 3)], ids=str)
def test_dirac(shape: Any, groups: int) -> None:
    ours = nn.init.dirac_(fathom.ones(*shape), groups).value()
    np.testing.assert_array_equal(ours, torch.nn.init.dirac_(torch.ones(*shape), groups))


def test_eye_and_sparse() -> None:
    np.testing.assert_array_equal(nn.init.eye_(fathom.ones(3, 5)).value(), torch.eye(3, 5))
    ours = nn.init.sparse_(fathom.zeros(20, 30), 0.33).value()
    theirs = torch.nn.init.sparse_(torch.zeros(20, 30), 0.33).numpy()
    np.testing.assert_array_equal((ours == 0).sum(0), (theirs == 0).sum(0))


def test_every_formula_has_a_layer_or_a_torch_twin() -> None:
    for name in FORMULAS:
        assert isinstance(
            nn.activation(
                name, **({"threshold": 0.0, "value": 0.0} if name == "threshold" else {})
            ),
            nn.Module,
        )
