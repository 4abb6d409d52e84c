"""A whole model made ready for training: weights by what follows, by data, by depth; a report.

Reached as `nn.init.apply_`, `nn.init.auto_`, `nn.init.lsuv_`, `nn.init.fixup_` and
`nn.init.report`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.activations import FORMULAS
from fathom.engine.backward import grad as gradients
from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.modes import no_grad
from fathom.engine.random import Random
from fathom.engine.tensor import Tensor, mark_written
from fathom.nn import init
from fathom.nn.activation import ACTIVATIONS, GELU, AlongAxis, Maxout, PReLU, RReLU
from fathom.nn.conv import _Window
from fathom.nn.linear import Bilinear, Linear
from fathom.nn.module import Module
from fathom.nn.residual import Residual

WEIGHTED = (Linear, Bilinear, _Window)

_NAMES: dict[type, str] = {
    kind: name for name, kind in ACTIVATIONS.items() if isinstance(kind, type) and name in FORMULAS
}


def weighted_layers(model: Module) -> list[tuple[str, Any]]:
    """The linear and convolutional layers, in the order in which they were registered."""
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, WEIGHTED)]
    for name, layer in found:
        if not layer.weight.size:
            raise ArgumentError(
                f"layer {name or type(layer).__name__!r} is lazy and has no weights yet",
                fix="call the model on a batch first",
            )
    return found


# -- by name -------------------------------------------------------------------------------------

FILLS: dict[str, Callable[..., Any]] = {
    "constant": init.constant_, "dirac": init.dirac_, "eye": init.eye_,
    "glorot_normal": init.xavier_normal_, "glorot_uniform": init.xavier_uniform_,
    "he_normal": init.kaiming_normal_, "he_uniform": init.kaiming_uniform_,
    "kaiming_normal": init.kaiming_normal_, "kaiming_uniform": init.kaiming_uniform_,
    "lecun_normal": init.lecun_normal_, "lecun_uniform": init.lecun_uniform_,
    "normal": init.normal_, "ones": init.ones_, "orthogonal": init.orthogonal_,
    "small_normal": lambda tensor, std=0.01: init.normal_(tensor, 0.0, std),
    "sparse": init.sparse_, "trunc_normal": init.trunc_normal_, "uniform": init.uniform_,
    "xavier_normal": init.xavier_normal_, "xavier_uniform": init.xavier_uniform_,
    "zeros": init.zeros_,
}  # fmt: skip
OF_MODELS = ("auto", "auto_uniform", "default", "fixup", "lsuv")
NAMES = tuple(sorted((*FILLS, *OF_MODELS)))


def check_name(name: Any) -> str:
    """The name of initial weights, as it is listed; an error with the nearest name otherwise.

    >>> check_name("He-Normal")
    'he_normal'
    """
    key = name.lower().replace("-", "_").removesuffix("_") if isinstance(name, str) else ""
    if key not in NAMES:
        raise ArgumentError(f"unknown initial weights {name!r}", fix=suggest(str(name), NAMES))
    return key


def apply_(model: Module, name: str = "auto", x: Any = None, **options: Any) -> Module:
    """Fill the linear and convolutional layers of a model by a name; biases become 0.

    name : a function of `nn.init` without its underscore ("xavier_uniform", "he_normal",
        "orthogonal", ...) with its `options`, applied to every weight; or what looks at the whole
        model: "auto" and "auto_uniform" (by the activation that follows), "lsuv" (by the batch
        `x`), "fixup", and "default", which leaves the weights as the layers made them.

    Returns the model. Raises `ArgumentError` for other names and options.

    >>> import fathom
    >>> from fathom import nn
    >>> model = apply_(nn.Sequential(nn.Linear(4, 4)), "orthogonal", gain=2.0)
    >>> w = model[0].weight.detach()
    >>> bool(np.allclose((w @ w.T).value(), 4.0 * np.eye(4), atol=1e-5))
    True
    """
    key = check_name(name)
    if key == "lsuv" and x is None:
        raise ArgumentError(
            "initial weights 'lsuv' are fitted to data, and none is given",
            fix='nn.init.apply_(model, "lsuv", x), models.mlp(..., init="lsuv", data=x)',
        )
    actions: dict[str, Callable[..., Any]] = {
        "auto": auto_, "fixup": fixup_, "default": lambda model: None,
        "auto_uniform": lambda model: auto_(model, "uniform"),
        "lsuv": lambda model, **given: lsuv_(model, x, **given),
    }  # fmt: skip
    act = actions.get(key)
    _check_options(key, lsuv_ if key == "lsuv" else act or FILLS[key], options)
    if act is not None:
        act(model, **options)
        return model
    for _, layer in weighted_layers(model):
        FILLS[key](layer.weight, **options)
        if layer.bias is not None:
            init.zeros_(layer.bias)
    return model


def _check_options(key: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    known = inspect.signature(function).parameters.values()
    names = [p.name for p in known if p.name not in ("model", "tensor", "x", "report")]
    needed = [p.name for p in known if p.name in names and p.default is p.empty]
    for option in options:
        if option not in names:
            fix = suggest(option, names) if names else "it has none"
            raise ArgumentError(f"initial weights {key!r} have no option {option!r}", fix=fix)
    for option in needed:
        if option not in options:
            raise ArgumentError(f"initial weights {key!r} need the option {option!r}")


# -- by the activation that follows --------------------------------------------------------------


def auto_(model: Module, distribution: str = "normal", report: bool = False) -> dict[str, str]:
    """Choose each layer's initial weights by the activation that follows it; biases are 0.

    ReLU and its kin, GELU, SiLU, ...: He with the gain of that activation; SELU: LeCun normal
    (Klambauer et al., 2017); tanh, sigmoid, softsign and hard variants: Xavier with their gain;
    nothing (the last layer): LeCun. Returns the choice for each layer.

    >>> import fathom
    >>> from fathom import nn
    >>> auto_(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    {'0': 'he normal, gain 1.414 for relu', '2': 'lecun normal, no activation follows'}
    """
    if distribution not in ("normal", "uniform"):
        raise ArgumentError(f"auto_: 'normal' or 'uniform'; received {distribution!r}")
    weighted_layers(model)
    chosen: dict[str, str] = {}
    modules = list(model.named_modules())
    for i, (path, layer) in enumerate(modules):
        if isinstance(layer, WEIGHTED):
            chosen[path] = _choose(layer, _following(modules[i + 1 :]), distribution)
    return chosen


def _following(modules: list[tuple[str, Module]]) -> tuple[str, float | None]:
    """Name and parameter of the next activation before the next weights."""
    for _, module in modules:
        if isinstance(module, WEIGHTED):
            break
        if isinstance(module, GELU):
            return "gelu", None
        name = _NAMES.get(type(module))
        if name is not None and name not in ("identity", "linear"):
            options = getattr(module, "options", ())
            value = getattr(module, options[0]) if options else getattr(module, "initial", None)
            if isinstance(module, PReLU):
                value = module.init
            return name, value if isinstance(value, float) else None
        if isinstance(module, RReLU):
            return "leaky_relu", 0.5 * (module.lower + module.upper)
        if isinstance(module, AlongAxis | Maxout):
            break
    return "", None


S_SHAPED = ("tanh", "sigmoid", "softsign", "hard_tanh", "hard_sigmoid", "sign", "step")


def _choose(layer: Any, follows: tuple[str, float | None], distribution: str) -> str:
    name, param = follows
    uniform = distribution == "uniform"
    if layer.bias is not None:
        init.zeros_(layer.bias)
    if name in ("", "selu"):
        (init.lecun_uniform_ if uniform else init.lecun_normal_)(layer.weight)
        why = f"for {name}" if name else "no activation follows"
        return f"lecun {distribution}, {why}"
    gain = init.calculate_gain(name, param)
    if name in S_SHAPED:
        (init.xavier_uniform_ if uniform else init.xavier_normal_)(layer.weight, gain)
        return f"xavier {distribution}, gain {gain:.3f} for {name}"
    (init.kaiming_uniform_ if uniform else init.kaiming_normal_)(layer.weight, gain=gain)
    return f"he {distribution}, gain {gain:.3f} for {name}"


# -- by data -------------------------------------------------------------------------------------


@contextmanager
def _hooked(layers: list[Any], hook: Callable[..., Any]) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def lsuv_(
    model: Module, x: Any, std: float = 1.0, tolerance: float = 0.05, max_iterations: int = 10
) -> dict[str, float]:
    """Layer-sequential unit variance (Mishkin and Matas, 2016).

    Every weight becomes orthonormal; then, in the order of the forward pass, each is divided by
    the standard deviation of its layer's output on the batch x until that is `std` within
    `tolerance`. Returns the deviation reached by each layer.
    """
    if not std > 0 or not tolerance > 0:
        raise ArgumentError(f"lsuv_: std and tolerance must be > 0; received {std}, {tolerance}")
    layers = weighted_layers(model)
    names = {id(m): n for n, m in layers}
    for _, layer in layers:
        init.orthogonal_(layer.weight)
        if layer.bias is not None:
            init.zeros_(layer.bias)
    reached: dict[str, float] = {}

    def rescale(layer: Any, inputs: Any, output: Any) -> Any:
        deviation = 0.0
        for _ in range(max_iterations):
            deviation = float(np.std(output.value()))
            if abs(deviation - std) <= tolerance * std or not deviation > 0:
                break
            layer.weight.data *= std / deviation
            mark_written(layer.weight)
            output = layer.forward(*inputs)
        reached[names[id(layer)]] = float(np.std(output.value()))
        return output

    modes = [(m, m.training) for m in model.modules()]
    with no_grad(), _hooked([m for _, m in layers], rescale):
        model.eval()(x if isinstance(x, Tensor) else Tensor(np.asarray(x, np.float32)))
    for m, training in modes:
        object.__setattr__(m, "training", training)
    return reached


# -- by depth ------------------------------------------------------------------------------------


def fixup_(model: Module, zero_last: bool = True) -> int:
    """Weights for deep residual nets without normalization (Zhang, Dauphin and Ma, 2019).

    He weights everywhere; in the branch of each of the L `Residual` blocks, all but the last
    weights are scaled by L^(-1/(2m - 2)), m their number, and the last are 0, so that every
    block starts as the identity. Biases are 0, and so is the last layer of the model
    (`zero_last`). Returns L.
    """
    blocks = [m for m in model.modules() if isinstance(m, Residual)]
    if not blocks:
        raise ArgumentError(
            "fixup_: the model has no nn.Residual blocks", fix="init.auto_ is for plain models"
        )
    layers = weighted_layers(model)
    for _, layer in layers:
        init.kaiming_normal_(layer.weight)
        if layer.bias is not None:
            init.zeros_(layer.bias)
    inside: set[int] = set()
    for block in blocks:
        branch = [m for _, m in weighted_layers(block.body)]
        inside |= {id(m) for m in block.modules()}
        if not branch:
            continue
        for layer in branch[:-1]:
            layer.weight.data *= len(blocks) ** (-1.0 / (2 * len(branch) - 2))
            mark_written(layer.weight)
        init.zeros_(branch[-1].weight)
    last = layers[-1][1]
    if zero_last and id(last) not in inside:
        init.zeros_(last.weight)
    return len(blocks)


# -- what came of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class VarianceRow:
    """One layer: variance of its output, and of the gradient that reaches it."""

    name: str
    kind: str
    mean: float
    variance: float
    zeros: float
    gradient: float


@dataclass(frozen=True)
class VarianceReport:
    """What `report` returns: prints as a table."""

    rows: tuple[VarianceRow, ...]

    @property
    def forward_gain(self) -> float:
        """Variance behind the last layer over that behind the first."""
        return _ratio(self.rows[-1].variance, self.rows[0].variance)

    @property
    def backward_gain(self) -> float:
        """Variance of the gradient at the first layer over that at the last."""
        return _ratio(self.rows[0].gradient, self.rows[-1].gradient)

    def __str__(self) -> str:
        table = [("layer", "type", "mean", "variance", "zeros", "gradient variance")]
        table += [
            (r.name, r.kind, f"{r.mean:.3g}", f"{r.variance:.3g}", f"{100 * r.zeros:.0f}%",
             f"{r.gradient:.3g}")
            for r in self.rows
        ]  # fmt: skip
        widths = [max(len(line[i]) for line in table) for i in range(6)]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        rule = "-" * max(map(len, lines))
        total = (
            f"first to last layer: forward variance x {self.forward_gain:.3g}, backward "
            f"x {self.backward_gain:.3g}"
        )
        return "\n".join([lines[0], rule, *lines[1:], rule, total])

    __repr__ = __str__


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def report(model: Module, x: Any, loss: Callable[[Any], Any] | None = None) -> VarianceReport:
    """Variance of every layer's output and of the gradient that comes back to it, on a batch x.

    loss : a function of the output; without one the gradient starts as N(0, 1) noise. Nothing of
    the model changes, the running statistics of norms included.

    >>> import fathom
    >>> from fathom import nn
    >>> with fathom.seed(0):
    ...     model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    ...     print(report(model, fathom.ones(16, 64)).rows[1].kind)
    ReLU
    """
    seen: list[tuple[str, str, Any]] = []
    leaves = [(n, m) for n, m in model.named_modules() if not m._modules]
    names = {id(m): n or type(m).__name__ for n, m in leaves}

    def note(layer: Any, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((names[id(layer)], type(layer).__name__, output))

    point = x if isinstance(x, Tensor) else Tensor(np.asarray(x, np.float32))
    if point.dtype.kind == "f":
        point = Tensor(point.value(), True)
    buffers = [(b, np.array(b.value())) for b in model.buffers()]
    with _hooked([m for _, m in leaves], note):
        out = model(point)
    for b, kept in buffers:
        b.data[...] = kept
    if not seen:
        raise ArgumentError("report: no layer of the model gave a tensor")
    root = out if loss is None else loss(out)
    noise = Random(0).stream("report").normal(root.shape, dtype=np.float64)
    start = Tensor(noise.astype(root.dtype)) if loss is None else None
    outputs = [t for _, _, t in seen]
    live = [t for t in outputs if t.requires_grad]
    found = gradients([root], live, None if start is None else [start], allow_unused=True)
    by_id = {id(t): g for t, g in zip(live, found, strict=True)}
    return VarianceReport(tuple(_row(*entry, by_id.get(id(entry[2]))) for entry in seen))


def _row(name: str, kind: str, output: Any, gradient: Any) -> VarianceRow:
    values = output.value()
    return VarianceRow(
        name, kind, float(values.mean()), float(values.var()), float((values == 0).mean()),
        0.0 if gradient is None else float(gradient.value().var()),
    )  # fmt: skip
