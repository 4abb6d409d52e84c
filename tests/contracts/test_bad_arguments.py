"""Wrong arguments anywhere: a `FathomError` that names the argument, never silent acceptance.

The constructor of every public layer is called with one wrong argument after the other. What is
wrong follows from the annotation (a float for a size, 1 for True, a string for a number, nan)
and, for ranges, from the name. Calls and functions get wrong inputs: other dtypes, ranks and
shapes that would broadcast.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import FathomError
from fathom.nn import functional as F
from fathom.nn import objectives
from fathom.nn.activation import Elementwise

LAYERS = {
    name: kind
    for name in sorted(nn.__all__)
    if inspect.isclass(kind := getattr(nn, name)) and issubclass(kind, nn.Module)
}
del LAYERS["Module"]

# -- constructors --------------------------------------------------------------------------------

# what a required argument may be, by its name; a layer's own values come first
GOOD: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "kernel_size": 2, "num_features": 4, "in_features": 4,
    "out_features": 4, "in1_features": 4, "in2_features": 4, "normalized_shape": 4, "size": 3,
    "num_groups": 2, "num_channels": 4, "input_size": 4, "hidden_size": 4, "embed_dim": 4,
    "num_heads": 2, "num_embeddings": 4, "embedding_dim": 4, "d_model": 4, "nhead": 2, "dim": 4,
    "features": 4, "num_layers": 1, "num_frequencies": 4, "output_size": 3, "norm_type": 2.0,
    "padding": 1, "value": 1.0, "threshold": 0.5, "upscale_factor": 2, "downscale_factor": 2,
    "groups": 2, "n_classes": 8, "cutoffs": [2, 4], "d_hidden": 4, "num_experts": 2,
    "unflattened_size": (2, 2), "max_len": 8, "body": nn.Identity(),
    "encoder_layer": nn.TransformerEncoderLayer(4, 2, 4),
    "decoder_layer": nn.TransformerDecoderLayer(4, 2, 4),
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "Unflatten": {"dim": 1}, "Upsample": {"size": 3}, "UpsamplingNearest2d": {"size": 3},
    "UpsamplingBilinear2d": {"size": 3}, "Transformer": {"d_model": 4, "nhead": 2},
    "RotaryEmbedding": {"dim": 4}, "AdaptiveLogSoftmaxWithLoss": {"div_value": 1.5},
}  # fmt: skip
FREE = {"inplace", "names", "modules", "more", "layers", "_weight"}  # checked elsewhere

NAN, INF = math.nan, math.inf
WRONG_TYPES: dict[str, list[Any]] = {
    "int": [1.5, "3", True, NAN],
    "float": ["1", True, NAN],
    "bool": ["no", 1, 0.0],
    "str": ["nonsense", 3],
    "Module": [3, "relu"],
    "Sequence[int]": ["44", 1.5, [1.5], [True]],
    "TensorLike": ["heavy", [-1.0, 1.0, 1.0, 1.0], [NAN, 1.0, 1.0, 1.0]],
    "Sequence[float]": ["0.5"],
    "Callable[..., Any]": [3],
    "Any": [1.5, "3", NAN, True, (1, 1, 1, 1, 1)],
}
WHOLE = {
    "dim",
    "axis",
    "start_dim",
    "end_dim",
    "ignore_index",
    "divisor_override",
}
FROM_ZERO = {"blank", "proj_size", "num_frequencies", "padding", "output_padding"}
WRONG_RANGES: dict[str, list[Any]] = {
    **{key: [-0.1, 1.1] for key in ("p", "dropout", "drop", "label_smoothing", "momentum")},
    **{key: [0.0, -1.0, INF] for key in ("temperature", "tau", "sigma", "delta", "div_value")},
    **{key: [-1.0, INF] for key in ("eps", "layer_norm_eps", "gamma", "lambd")},
    **{key: [0.0, -1.0] for key in ("scale_factor", "norm_type")},
    "q": [0.0, 1.0, [0.5, 2.0]], "divisor_override": [0], "padding_idx": [4, -5],
    "max_norm": [0.0, -1.0], "cutoffs": [[4, 2], [9]], "reduction": ["avg"],
}  # fmt: skip
ALLOWED = {  # what only looks wrong
    ("PairwiseDistance", "p"), ("TripletMarginLoss", "p"), ("MultiMarginLoss", "p"),
    ("pairwise_distance", "p"), ("triplet_margin_loss", "p"), ("multi_margin_loss", "p"),
}  # fmt: skip


def valid(name: str) -> dict[str, Any]:
    """Arguments the layer takes."""
    parameters = inspect.signature(LAYERS[name]).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
    return {n: OWN.get(name, {}).get(n, GOOD[n]) for n in needed} | OWN.get(name, {})


def wrong(name: str, parameter: inspect.Parameter) -> list[Any]:
    """Values that this argument must not take."""
    kinds = [k.strip() for k in str(parameter.annotation).split("|")]
    found = None
    for kind in kinds:  # wrong is what is wrong for all
        values = WRONG_TYPES.get(kind)
        if values is not None:
            found = values if found is None else [v for v in found if is_in(v, values)]
    ranges = WRONG_RANGES.get(parameter.name, [])
    key = parameter.name
    if "int" in kinds or (kinds == ["Any"] and key != "scale_factor"):
        below = [-1] if key in FROM_ZERO else [] if key in WHOLE else [0, -1]
        ranges = [*ranges, *below]
    if key == "padding_idx" or (key == "padding" and "Pad" in name):
        ranges = [r for r in ranges if r not in (0, -1)]
    if (name, key) in ALLOWED:
        ranges = [-1]
    elif (name, key) == ("normalize", "p"):
        ranges = []  # any norm
    if key == "scale_factor":
        found = ["3", NAN, True]
    return [*(found or []), *ranges]


def is_in(value: Any, values: list[Any]) -> bool:
    return any(value is v or (type(value) is type(v) and value == v) for v in values)


@pytest.mark.parametrize("name", LAYERS)
def test_constructors(name: str) -> None:
    kind, silent = LAYERS[name], []
    good = valid(name)
    kind(**good)  # the values are right
    for key, parameter in inspect.signature(kind).parameters.items():
        if key in FREE:
            continue
        for bad in wrong(name, parameter):
            given = {**good, key: bad}
            if key == "scale_factor":
                given.pop("size", None)
            try:
                kind(**given)
            except FathomError as error:
                if key not in str(error):
                    silent.append(f"{key}={bad!r}: no word of {key} in: {error.message}")
            except Exception as error:
                silent.append(f"{key}={bad!r}: bare {type(error).__name__}: {error}")
            else:
                silent.append(f"{key}={bad!r} is taken")
    assert not silent, f"{name}:\n  " + "\n  ".join(silent)


# -- calls ---------------------------------------------------------------------------------------


def shape_for(name: str) -> tuple[int, ...]:
    """A shape that the layer takes: 4 channels, and as many axes as its name says."""
    rank = int(name[-2]) if name[-1] == "d" and name[-2].isdigit() else 0
    if name in ("PixelUnshuffle", "UpsamplingNearest2d", "UpsamplingBilinear2d", "Upsample"):
        rank = 2
    special: dict[str, tuple[int, ...]] = {
        "Fold": (2, 16, 4), "Unfold": (2, 4, 3, 3), "PixelShuffle": (2, 4, 3, 3),
        "LinearAttention": (2, 3, 4), "RNN": (3, 2, 4), "LSTM": (3, 2, 4), "GRU": (3, 2, 4),
        "GlobalAvgPool": (2, 4, 3), "GlobalMaxPool": (2, 4, 3), "SyncBatchNorm": (3, 4),
        "TransformerEncoderLayer": (3, 2, 4), "TransformerEncoder": (3, 2, 4),
        "RotaryEmbedding": (2, 3, 4), "SinusoidalPositionalEncoding": (2, 3, 4),
        "LearnedPositionalEncoding": (2, 3, 4), "LocalResponseNorm": (2, 4, 3),
    }  # fmt: skip
    return special.get(name, (2, 4, *(8,) * rank))


SEVERAL = {"Bilinear", "Gate", "MultiheadAttention", "TransformerDecoder", "Transformer",
           "TransformerDecoderLayer", "PairwiseDistance", "CosineSimilarity",
           "AdaptiveLogSoftmaxWithLoss", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"}  # fmt: skip
WHOLE_NUMBERS = {"Embedding", "EmbeddingBag"}
CONTAINERS = {"Sequential", "ModuleList", "ModuleDict", "Identity", "Residual"}
LOSSES = {n for n in LAYERS if n.endswith("Loss")}
SINGLE = [n for n in LAYERS if n not in SEVERAL | WHOLE_NUMBERS | CONTAINERS | LOSSES]
ANY_SHAPE = {n for n in SINGLE if issubclass(LAYERS[n], Elementwise)} | {"Swish", "Maxout"}
SINGLE_NUMBERS = ANY_SHAPE - {"Maxout"} | {
    "PReLU", "Dropout", "AlphaDropout", "Softmax", "LogSoftmax", "Softmin", "GumbelSoftmax"
}  # fmt: skip
MOVING = {n for n in SINGLE if n.endswith(("Pad1d", "Pad2d", "Pad3d"))} | {
    "Flatten", "Unflatten", "ChannelShuffle", "PixelShuffle", "PixelUnshuffle"
}  # fmt: skip


def layer_of(name: str) -> Any:
    with fathom.seed(0):
        return LAYERS[name](**valid(name))


def refused(call: Any, *words: str) -> str:
    """Empty if the call raises a FathomError with these words, else what happened."""
    try:
        call()
    except FathomError as error:
        lacking = [w for w in words if w not in str(error)]
        return f"no word of {lacking} in: {error.message}" if lacking else ""
    except Exception as error:
        return f"bare {type(error).__name__}: {error}"
    return "is taken"


@pytest.mark.parametrize("name", SINGLE)
def test_calls(name: str) -> None:
    layer, x = layer_of(name), np.ones(shape_for(name), np.float32)
    layer(fathom.Tensor(x))  # the shape is right
    states = [*layer.parameters(), *layer.buffers()]
    holds_floats = any(s.dtype.kind == "f" for s in states)
    wrong: dict[str, tuple[Any, tuple[str, ...]]] = {
        "a string": ("abc", ()),
        "None": (None, ()),
        "complex numbers": (x.astype(complex), ("complex",)),
        "strings": (np.full(x.shape, "a"), ()),
    }
    if name not in SINGLE_NUMBERS:
        wrong["no axes"] = (np.ones((), np.float32), ())
    if holds_floats or name not in ANY_SHAPE | MOVING:
        wrong["whole numbers"] = (x.astype(np.int64), ("int64",))
        wrong["booleans"] = (x > 0, ("bool",))
    if holds_floats:
        wrong["float64"] = (x.astype(np.float64), ("float64", "float32"))
    found = {
        what: refused(lambda bad=bad: layer(bad), *words) for what, (bad, words) in wrong.items()
    }
    silent = [f"{what} {how}" for what, how in found.items() if how]
    assert not silent, f"{name}:\n  " + "\n  ".join(silent)


@pytest.mark.parametrize("name", [n for n in SINGLE if list(LAYERS[n](**valid(n)).parameters())])
def test_another_number_of_channels(name: str) -> None:
    layer, shape = layer_of(name), list(shape_for(name))
    if any(p.size == 0 for p in layer.parameters()) or name in ("PReLU", "Swish"):
        return  # learned from the input, or one number for all
    axis = -1 if shape[-1] == 4 else 1
    shape[axis] = 6
    assert not refused(lambda: layer(fathom.ones(*shape)), "6")


# -- functions -----------------------------------------------------------------------------------


def some(*shape: int, seed: int = 0) -> Any:
    """Numbers between 0.1 and 0.9: logits, probabilities, coordinates, as one likes."""
    drawn = np.random.default_rng(seed).uniform(0.1, 0.9, shape)
    return fathom.Tensor(drawn.astype(np.float32))


ROWS, OTHER, COLUMN = some(5, 4), some(5, 4, seed=1), some(5)
LABELS, SIGNS = np.array([0, 3, 1, 2, 2]), np.array([1, -1, 1, 1, -1])
X1, X2, X3 = some(2, 4, 8), some(2, 4, 8, 8), some(2, 4, 8, 8, 8)
BOXES = fathom.Tensor(np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 4.0, 3.0]], np.float32))
X = {1: X1, 2: X2, 3: X3}


def weight_of(rank: int) -> Any:
    return some(4, 4, *(2,) * rank)


LOSSES_OF_TWO = (
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "kl_div",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "multilabel_soft_margin_loss",
    "log_cosh_loss", "quantile_loss", "sigmoid_focal_loss",
)  # fmt: skip
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    **{name: (ROWS, OTHER) for name in LOSSES_OF_TWO},
    **{name: (COLUMN, SIGNS) for name in (
        "hinge_loss", "squared_hinge_loss", "soft_margin_loss", "hinge_embedding_loss")},
    **{name: (ROWS, LABELS) for name in (
        "cross_entropy", "nll_loss", "multi_margin_loss", "focal_loss")},
    **{name: (BOXES, BOXES) for name in (
        "iou_loss", "generalized_box_iou_loss", "distance_iou_loss")},
    "gaussian_nll_loss": (ROWS, OTHER, some(5, 4, seed=2)),
    "cosine_embedding_loss": (ROWS, OTHER, SIGNS), "contrastive_loss": (ROWS, OTHER, SIGNS > 0),
    "margin_ranking_loss": (COLUMN, some(5, seed=1), SIGNS),
    "triplet_margin_loss": (ROWS, OTHER, some(5, 4, seed=2)),
    "distillation_loss": (ROWS, OTHER, LABELS), "info_nce_loss": (ROWS, OTHER),
    "cosine_similarity": (ROWS, OTHER), "pairwise_distance": (ROWS, OTHER),
    **{f"conv{r}d": (X[r], weight_of(r)) for r in X},
    **{f"conv_transpose{r}d": (X[r], weight_of(r)) for r in X},
    **{f"{kind}_pool{r}d": (X[r], 2) for r in X for kind in ("max", "avg")},
    **{f"lp_pool{r}d": (X[r], 2.0, 2) for r in X},
    **{f"adaptive_{kind}_pool{r}d": (X[r], 2) for r in X for kind in ("max", "avg")},
    "batch_norm": (X2, some(4), some(4)), "instance_norm": (X2,), "group_norm": (X2, 2),
    "layer_norm": (ROWS, 4), "rms_norm": (ROWS, 4), "normalize": (ROWS,),
    "local_response_norm": (X2, 3), "interpolate": (X2, 4), "unfold": (X2, 2),
    "fold": (some(2, 16, 4), 3, 2), "pixel_shuffle": (X2, 2), "pixel_unshuffle": (X2, 2),
    "channel_shuffle": (X2, 2), "softmax": (ROWS,), "log_softmax": (ROWS,), "softmin": (ROWS,),
    "gelu": (ROWS,), "bilinear": (ROWS, OTHER, some(3, 4, 4)),
}  # fmt: skip


def function_of(name: str) -> Any:
    return getattr(F, name, None) or getattr(objectives, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    """Options of the wrong type or out of range, and inputs that are no numbers."""
    function, inputs = function_of(name), FUNCTIONS[name]
    function(*inputs)
    silent = []
    for i, (key, parameter) in enumerate(inspect.signature(function).parameters.items()):
        bad_ones = [v for v in wrong(name, parameter) if not isinstance(v, bool)]
        if "bool" in str(parameter.annotation) or key == "name":
            continue
        if "TensorLike" in str(parameter.annotation):
            bad_ones = ["abc", [[1.0], [1.0, 2.0]]]
            bad_ones += [] if "None" in str(parameter.annotation) else [None]
        for bad in bad_ones:
            args = list(inputs)
            named = {} if i < len(args) else {key: bad}
            if i < len(args):
                args[i] = bad
            if key == "scale_factor":
                args = args[:1]
            known = "" if "TensorLike" in str(parameter.annotation) else key
            what = refused(lambda a=args, n=named: function(*a, **n), known)
            if what:
                silent.append(f"{key}={bad!r} {what}")
    assert not silent, f"{name}:\n  " + "\n  ".join(silent)


# -- losses: nothing is broadcast, cast or cut off -------------------------------------------------

TWO_SHAPES = [n for n in (*LOSSES_OF_TWO, "hinge_loss", "squared_hinge_loss", "soft_margin_loss",
                          "hinge_embedding_loss")]  # fmt: skip
OF_CLASSES = ("cross_entropy", "nll_loss", "multi_margin_loss", "focal_loss")


@pytest.mark.parametrize("name", TWO_SHAPES)
def test_losses_do_not_broadcast(name: str) -> None:
    function = function_of(name)
    column, row = some(5, 1), some(5)
    for bad in (
        (column, row),
        (row, column),
        (row, some(1)),
        (row, some()),
        (column, some(1, 5)),
    ):
        assert not refused(lambda bad=bad: function(*bad)), (bad[0].shape, bad[1].shape)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_losses_do_not_mix_float_types(name: str) -> None:
    """One input in float64, the others in float32: refused, whichever it is."""
    if not name.endswith(("_loss", "div", "entropy", "logits")):
        return
    function, inputs = function_of(name), FUNCTIONS[name]
    floats = [i for i, x in enumerate(inputs) if isinstance(x, fathom.Tensor)]
    for i in floats:
        mixed = list(inputs)
        mixed[i] = inputs[i].astype("float64")
        if len(floats) > 1:
            assert not refused(lambda m=mixed: function(*m), "float64"), f"input {i}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_whole_numbers_are_no_predictions(name: str) -> None:
    function, inputs = function_of(name), list(FUNCTIONS[name])
    inputs[0] = fathom.Tensor(np.ones(inputs[0].shape, np.int64))
    if name not in ("channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "gelu"):
        assert not refused(lambda: function(*inputs))


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (LABELS.astype(float), "whole numbers"),
        (LABELS > 0, ""),
        (LABELS + 1, "0 to 3"),
        (LABELS - 1, "0 to 3"),
        (LABELS[:, None], "(5,)"),
        (LABELS[:4], "(5,)"),
        (["a"] * 5, ""),
        (np.full(5, np.nan), "whole numbers"),
    ],
    ids=["floats", "booleans", "above", "below", "column", "short", "strings", "nan"],
)
def test_labels(name: str, labels: Any, word: str) -> None:
    word = "" if name == "focal_loss" and word == "whole numbers" else word
    assert not refused(lambda: function_of(name)(ROWS, labels), word)


@pytest.mark.parametrize(
    "weights",
    [np.ones(4), np.ones((5, 1)), np.ones((1, 5)), np.ones(()), ["a"] * 5, np.full(5, np.nan)],
    ids=["short", "column", "row", "number", "strings", "nan"],
)
def test_sample_weights(weights: Any) -> None:
    word = "" if isinstance(weights, list) else "sample_weight"
    assert not refused(lambda: nn.CrossEntropyLoss()(ROWS, LABELS, sample_weight=weights), word)


def test_class_weights_and_lengths() -> None:
    for bad in ([1.0] * 3, [[1.0] * 4], "heavy"):
        for name in OF_CLASSES:
            assert not refused(lambda b=bad, n=name: function_of(n)(ROWS, LABELS, weight=b)), name
    log_p = fathom.log_softmax(some(6, 2, 4), -1)
    good = {"targets": [[1, 2], [3, 3]], "input_lengths": [6, 5], "target_lengths": [2, 1]}
    nn.CTCLoss()(log_p, *good.values())
    wrong_ones = {
        "targets": [[[1, 0], [3, 3]], [[1, 4], [3, 3]], [[1.5, 2], [3, 3]], [[1, 2]], "ab"],
        "input_lengths": [[7, 5], [6], [6.0, 5.0], [-1, 5], "ab"],
        "target_lengths": [[2, 3], [2], [2.0, 1.0], [-1, 1], "ab"],
    }
    for key, values in wrong_ones.items():
        for bad in values:
            given = {**good, key: bad}
            assert not refused(lambda g=given: nn.CTCLoss()(log_p, *g.values())), (key, bad)


# -- layers of several inputs --------------------------------------------------------------------

MIXED = {
    "Bilinear": (some(2, 4), some(2, 4)), "Gate": (some(2, 4), some(2, 4)),
    "TransformerDecoder": (some(3, 2, 4), some(5, 2, 4)),
    "TransformerDecoderLayer": (some(3, 2, 4), some(5, 2, 4)),
    "Transformer": (some(5, 2, 4), some(3, 2, 4)),
    "AdaptiveLogSoftmaxWithLoss": (some(5, 4), LABELS),
    "PairwiseDistance": (ROWS, OTHER), "CosineSimilarity": (ROWS, OTHER),
    "MaxUnpool1d": (some(1, 2, 2), np.array([[[0, 3], [1, 2]]])),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_layers_of_several_inputs(name: str) -> None:
    layer, inputs = layer_of(name), MIXED[name]
    layer(*inputs)
    for i, x in enumerate(inputs):
        changed: list[Any] = ["abc", None]
        if isinstance(x, fathom.Tensor):
            changed += [x.astype("int64")]
            changed += [x.astype("float64")] if name != "MaxUnpool1d" else []
        else:
            changed += [x.astype(float), x + 100, x - 100]
        for bad in changed:
            given = [bad if k == i else v for k, v in enumerate(inputs)]
            assert not refused(lambda g=given: layer(*g)), f"input {i}: {bad!r}"


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_states(name: str) -> None:
    cell, pairs = name.endswith("Cell"), name.startswith("LSTM")
    x, shape = some(*((2, 4) if cell else (3, 2, 4))), ((2, 4) if cell else (1, 2, 4))
    layer, good = layer_of(name), some(*shape)
    layer(x, (good, good) if pairs else good)
    for bad in (some(2, 5), some(1), good.astype("float64"), good.astype("int64"), "abc", 3):
        state = (good, bad) if pairs else bad
        assert not refused(lambda s=state: layer(x, s)), bad
    if not cell:
        for lengths in ([4, 1], [0, 1], [1], [1.5, 1.0], "ab"):
            assert not refused(lambda n=lengths: layer(x, lengths=n)), lengths
