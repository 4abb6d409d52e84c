"""The graph of a loss as both engines' adapters hand it over, and what is read off it.

`Op` is one operation with the numbers of those it takes its values from; `structure` finds, from
the loss backwards, what stands between the last layer and the loss, the activation behind each
layer, and the order of the layers. So activations written as functions are seen like modules.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fathom.doctor.adapters.reshaping import swaps
from fathom.doctor.case import EMBEDDINGS, NORMS, WEIGHTED, Case, Layer

# names of operations that only move, cast or scale values: paths leave them out
SILENT = frozenset({
    "view", "unsafe_view", "reshape", "reshape_alias", "squeeze", "unsqueeze", "flatten",
    "permute", "transpose", "t", "clone", "expand", "slice", "select", "index", "as_strided",
    "to_copy", "cast", "contiguous", "alias", "mean", "sum", "div", "mul", "detach", "unbind",
    "split", "gather", "copy", "copy_slices", "moveaxis", "broadcast_to", "getitem", "astype",
    "cat", "stack", "narrow", "pad", "constant_pad_nd", "scale", "neg", "getitem_basic",
    "swapaxes", "true_divide",
})  # fmt: skip
# elementwise functions that count as activations, by their names in torch.nn.functional
ACTIVATIONS = frozenset({
    "relu", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "sigmoid", "tanh", "softplus", "softsign", "hardtanh", "relu6", "hardswish", "hardsigmoid",
    "logsigmoid", "clamp", "threshold", "softshrink", "hardshrink", "tanhshrink", "sin", "cos",
    "pow", "square", "abs", "exp", "glu", "swish", "maximum", "heaviside",
})  # fmt: skip
NORMALIZING = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})
PASSING = NORMALIZING | {"dropout", "max_pool", "avg_pool", "max_pool2d", "avg_pool2d", "add"}
WEIGHTING = frozenset({"linear", "conv", "matmul", "rnn", "embedding", "bilinear"})
SCALING = frozenset({"mul", "div", "true_divide", "scale", "neg", "sum", "mean"})
MATRICES = frozenset({"linear", "conv", "matmul", "bilinear"})
AFFINE = SILENT | MATRICES | {"add", "sub", "rsub", "dropout", "batch_norm", "avg_pool",
                              "avg_pool2d", "embedding"}  # fmt: skip
NONLINEAR = ACTIVATIONS | {
    "softmax", "log_softmax", "max_pool", "rnn", "attention", "norm", "max", "min", "topk", "where",
    "layer_norm", "group_norm", "instance_norm", "rms_norm", "activation",
}  # fmt: skip


@dataclass
class Op:
    """An operation: its name, where its values come from, and the layer it belongs to.

    layer : name of the module whose parameters it uses, "" if it uses none. formula : it is an
    elementwise function of the user's: an activation, whatever its name. turned : it is a product
    with a parameter whose columns are the units. over : a softmax's axis, and its shape. shapes : a
    reshape's, before and after.
    """

    name: str
    inputs: tuple[int, ...] = ()
    layer: str = ""
    parameters: tuple[str, ...] = ()
    formula: bool = False
    turned: bool = False
    over: tuple[int, tuple[int, ...]] | None = None
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None


@dataclass
class Structure:
    """What was read off a graph; see `case.LossCall.path` and `case.Layer.activation`."""

    path: tuple[str, ...] = ()
    last: str = ""
    activations: dict[str, str] = field(default_factory=dict)
    direct: frozenset[str] = frozenset()  # layers whose own output the activation gets
    order: list[str] = field(default_factory=list)
    operations: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()  # names of those the loss depends on
    straight: tuple[tuple[str, str], ...] = ()  # see `case.Case`
    scaled: bool = False  # see `case.LossCall`
    over: tuple[int, tuple[int, ...]] | None = None  # see `case.LossCall`
    normalized: frozenset[str] = frozenset()  # layers whose output goes straight to a norm
    softmaxes: tuple[tuple[str, int, tuple[int, ...]], ...] = ()  # see `case.Case`
    swaps: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()  # see `case.Case`


def adopt(ops: list[Op], case: Case) -> None:
    """Matrices that a module multiplies with by hand become layers of their own.

    A parameter by the name of W1 that stands in a product is a weight, whatever it is called; where
    its module has several, or is the whole model, it is a layer by its own name.
    """
    known = WEIGHTED | EMBEDDINGS | NORMS
    number = Counter(p.layer for p in case.parameters.values() if len(p.shape) > 1)
    for op in ops:
        names = op.parameters if op.name in MATRICES else ()
        own = [case.parameters[n] for n in names if n in case.parameters]
        p = next((p for p in own if len(p.shape) == 2), None)
        owner = case.layers.get(p.layer) if p is not None else None
        if p is None or (owner is not None and owner.kind in known):
            continue
        p.role, p.turned = "weight", op.turned
        if not p.layer or number[p.layer] > 1:
            p.layer = p.name
            case.layers.setdefault(p.name, Layer(p.name, "Linear", parameters=(p.name,)))
        elif owner is not None:
            owner.kind = "Linear"
        op.layer = p.layer


def structure(ops: list[Op], root: int = 0) -> Structure:
    """Read a graph; `ops[root]` is the loss (or what the loss was given).

    >>> ops = [Op("mse_loss", (1,)), Op("linear", (2,), "out"), Op("relu", (3,)),
    ...        Op("linear", (), "hidden")]
    >>> found = structure(ops)
    >>> found.path, found.last, found.activations, found.order
    (('mse_loss',), 'out', {'hidden': 'relu'}, ['hidden', 'out'])
    """
    names, last = _path(ops, root)
    path = tuple(name for name in names if name not in SILENT)
    activations, direct = _activations(ops)
    return Structure(
        path, last, activations, frozenset(direct), _order(ops, root), _operations(ops),
        frozenset(p for op in ops for p in op.parameters), _straight(ops),
        any(name in SCALING for name in names), _over(ops, root), _normalized(ops),
        tuple((_fed(ops, i), *op.over) for i, op in enumerate(ops) if op.over is not None),
        swaps(ops),
    )  # fmt: skip


def _over(ops: list[Op], root: int) -> tuple[int, tuple[int, ...]] | None:
    """Axis and shape of the softmax from which the root's values come, if only moved and logged."""
    at = root
    while ops[at].over is None:
        if ops[at].name not in SILENT | {"log"} or len(ops[at].inputs) != 1:
            return None
        at = ops[at].inputs[0]
    return ops[at].over


def _fed(ops: list[Op], at: int) -> str:
    """The layer whose values an operation gets, first inputs first; "" if there is none."""
    while ops[at].inputs and not ops[at].layer:
        at = ops[at].inputs[0]
    return ops[at].layer


def _normalized(ops: list[Op]) -> frozenset[str]:
    """Layers whose output goes to a normalization, and only there."""
    found = set()
    uses = Counter(at for op in ops for at in op.inputs)
    for op in ops:
        at = op.inputs[0] if op.name in NORMALIZING and op.inputs else -1
        while at >= 0 and uses[at] == 1:
            under = ops[at]
            if under.layer and under.name in WEIGHTING:
                found.add(under.layer)
                break
            onward = under.name in SILENT | {"dropout", "add"} and len(under.inputs) == 1
            at = under.inputs[0] if onward else -1
    return frozenset(found)


def _operations(ops: list[Op]) -> frozenset[str]:
    """Names of all operations, with "product" where values are multiplied with each other."""
    products = any(op.name in ("mul", "div", "matmul") and len(op.inputs) > 1 for op in ops)
    names = ["activation" if op.formula else op.name for op in ops]
    return frozenset([*names, *(["product"] if products else [])])


def _straight(ops: list[Op]) -> tuple[tuple[str, str], ...]:
    """Pairs of layers, the first one's output going to the second through affine operations."""
    pairs: dict[tuple[str, str], None] = {}
    uses = Counter(at for op in ops for at in op.inputs)  # more than one: a residual stream
    for op in ops:
        for at in op.inputs if op.layer and op.name in MATRICES else ():
            while at >= 0 and uses[at] == 1:
                under = ops[at]
                if under.layer and under.name in MATRICES:
                    pairs.setdefault((under.layer, op.layer))
                    break
                onward = under.name in AFFINE and len(under.inputs) == 1
                at = under.inputs[0] if onward else -1
    return tuple(pairs)


def _path(ops: list[Op], root: int) -> tuple[tuple[str, ...], str]:
    """Operations from the root back to the first layer met, breadth first, and that layer."""
    before: dict[int, int] = {root: -1}
    queue = [root]
    for i in queue:
        if ops[i].layer and ops[i].name in WEIGHTING:
            found, at = [], before[i]
            while at >= 0:
                found.append(ops[at].name)
                at = before[at]
            return tuple(reversed(found)), ops[i].layer
        for j in ops[i].inputs:
            if j not in before:
                before[j] = i
                queue.append(j)
    return (), ""


def _activations(ops: list[Op]) -> tuple[dict[str, str], set[str]]:
    """For each layer the activation its values go through first, and who feeds it directly."""
    found: dict[str, str] = {}
    direct: set[str] = set()
    for op in ops:
        if op.name not in ACTIVATIONS and not op.formula:
            continue
        for at in op.inputs:
            straight = True
            while at >= 0:
                under = ops[at]
                if under.layer and under.layer not in found:
                    found[under.layer] = op.name
                    if straight:
                        direct.add(under.layer)
                if under.layer and under.name in WEIGHTING:
                    break
                onward = under.name in SILENT or under.name in PASSING
                straight = straight and under.name in SILENT
                at = under.inputs[0] if onward and under.inputs else -1
    return found, direct


def _order(ops: list[Op], root: int) -> list[str]:
    """Layers as the forward pass meets them: inputs before those that use them."""
    found: dict[str, None] = {}
    done: set[int] = set()
    stack: list[tuple[int, bool]] = [(root, False)]
    while stack:
        i, ready = stack.pop()
        if ready:
            if ops[i].layer:
                found.setdefault(ops[i].layer)
        elif i not in done:
            done.add(i)
            stack.append((i, True))
            stack.extend((j, False) for j in reversed(ops[i].inputs))
    return list(found)


__all__ = ["ACTIVATIONS", "AFFINE", "NONLINEAR", "NORMALIZING", "SILENT", "WEIGHTING", "Op",
           "Structure", "adopt", "structure"]  # fmt: skip
