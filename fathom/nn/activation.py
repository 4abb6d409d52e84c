"""Activations as layers, and by name. The formulas themselves are in `fathom.activations`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fathom.activations import formulas, groups
from fathom.engine.errors import ArgumentError, ShapeError, mark_axes, suggest
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import alike, flag, number, positive, whole
from fathom.nn.linear import Identity
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.checks import need_axes
from fathom.ops.create import as_tensor

__all__ = [
    "CELU",
    "ELU",
    "GEGLU",
    "GELU",
    "GLU",
    "SELU",
    "Entmax15",
    "Exponential",
    "GumbelSoftmax",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Maxout",
    "Mish",
    "PReLU",
    "RReLU",
    "ReGLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Sign",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Sparsemax",
    "SquaredReLU",
    "Step",
    "SwiGLU",
    "Swish",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "activation",
]


class Elementwise(Module):
    """A formula as a layer. `inplace` is taken for PyTorch's sake; nothing is overwritten."""

    formula: ClassVar[Callable[..., Any]]
    options: ClassVar[tuple[str, ...]] = ()  # attributes handed to the formula, and the config

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: TensorLike) -> Tensor:
        options = (getattr(self, name) for name in self.options)
        return type(self).formula(as_tensor(x), *options)

    def config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.options}


class Step(Elementwise):
    """1 where x >= 0, else 0. No gradient passes."""

    formula = formulas.step


class Sign(Elementwise):
    """-1, 0 or 1. No gradient passes."""

    formula = formulas.sign


class ReLU(Elementwise):
    """max(x, 0), elementwise."""

    formula = staticmethod(F.relu)


class ReLU6(Elementwise):
    """min(max(x, 0), 6)."""

    formula = formulas.relu6


class SquaredReLU(Elementwise):
    """max(x, 0)^2."""

    formula = formulas.squared_relu


class Tanh(Elementwise):
    """Hyperbolic tangent, elementwise."""

    formula = staticmethod(F.tanh)


class Sigmoid(Elementwise):
    """1 / (1 + exp(-x)), elementwise."""

    formula = staticmethod(F.sigmoid)


class Hardsigmoid(Elementwise):
    """x/6 + 1/2 between -3 and 3, 0 and 1 beyond."""

    formula = formulas.hard_sigmoid


class Hardtanh(Elementwise):
    """x between min_val and max_val, these beyond."""

    formula = formulas.hard_tanh
    options = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.min_val = number(min_val, "min_val", self)
        self.max_val = number(max_val, "max_val", self)
        if not self.min_val < self.max_val:
            raise ArgumentError(
                f"Hardtanh: min_val must be below max_val; received {min_val} and {max_val}"
            )


class LeakyReLU(Elementwise):
    """x where x > 0, negative_slope x below."""

    formula = formulas.leaky_relu
    options = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = number(negative_slope, "negative_slope", self)


class RReLU(Elementwise):
    """Leaky ReLU with random slopes in training, the mean of `lower` and `upper` otherwise."""

    options = ("lower", "upper")

    def __init__(
        self, lower: float = 1.0 / 8.0, upper: float = 1.0 / 3.0, inplace: bool = False
    ) -> None:
        super().__init__()
        self.lower, self.upper = number(lower, "lower", self), number(upper, "upper", self)
        if not 0.0 <= lower <= upper:
            raise ArgumentError(f"RReLU: needs 0 <= lower <= upper; received {lower} and {upper}")

    def forward(self, x: TensorLike) -> Tensor:
        return F.rrelu(as_tensor(x), self.lower, self.upper, self.training)


class ELU(Elementwise):
    """x where x > 0, alpha (e^x - 1) below."""

    formula = formulas.elu
    options = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = number(alpha, "alpha", self)


class CELU(Elementwise):
    """x where x > 0, alpha (e^(x/alpha) - 1) below."""

    formula = formulas.celu
    options = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = number(alpha, "alpha", self)
        if not alpha:
            raise ArgumentError("CELU: alpha must not be 0; received 0")


class SELU(Elementwise):
    """ELU scaled so that mean 0 and variance 1 reproduce themselves; use LeCun weights."""

    formula = formulas.selu


class GELU(Elementwise):
    """x Phi(x). approximate : "none" (exact), "tanh" or "sigmoid"."""

    KINDS: ClassVar[dict[str, Any]] = {
        "none": formulas.gelu,
        "tanh": formulas.gelu_tanh,
        "sigmoid": formulas.gelu_sigmoid,
    }

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in self.KINDS:
            raise ArgumentError(
                f"GELU: unknown approximate {approximate!r}",
                fix=suggest(str(approximate), self.KINDS),
            )
        self.approximate = approximate

    def forward(self, x: TensorLike) -> Tensor:
        return self.KINDS[self.approximate](as_tensor(x))

    def config(self) -> dict[str, Any]:
        return {"approximate": self.approximate}


class SiLU(Elementwise):
    """x sigmoid(x)."""

    formula = formulas.silu


class Swish(Module):
    """x sigmoid(beta x); with learnable=True, beta is a parameter that starts at `beta`.

    >>> sum(p.size for p in Swish(learnable=True).parameters())
    1
    """

    def __init__(self, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        self.initial, self.learnable = (
            number(beta, "beta", self),
            flag(learnable, "learnable", self),
        )
        start: Any = self.initial
        self.beta: Any = Parameter(np.asarray(start, np.float32)) if learnable else start

    def forward(self, x: TensorLike) -> Tensor:
        a = alike(self, x, self.beta) if self.learnable else as_tensor(x)
        return formulas.swish(a, self.beta)

    def config(self) -> dict[str, Any]:
        return {"beta": self.initial, "learnable": self.learnable}


class Hardswish(Elementwise):
    """x relu6(x + 3) / 6."""

    formula = formulas.hard_swish


class Mish(Elementwise):
    """x tanh(softplus(x))."""

    formula = formulas.mish


class Softplus(Elementwise):
    """log(1 + exp(beta x)) / beta. Without a `threshold` exact for every x; PyTorch's is 20."""

    formula = staticmethod(F.softplus)
    options = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float | None = None) -> None:
        super().__init__()
        self.beta = number(beta, "beta", self)
        if not beta:
            raise ArgumentError("Softplus: beta must not be 0; received 0")
        self.threshold = None if threshold is None else number(threshold, "threshold", self)


class Softsign(Elementwise):
    """x / (1 + |x|)."""

    formula = formulas.softsign


class LogSigmoid(Elementwise):
    """log sigmoid(x), exact where the sigmoid underflows."""

    formula = staticmethod(F.logsigmoid)


class Tanhshrink(Elementwise):
    """x - tanh(x)."""

    formula = formulas.tanh_shrink


class _Shrink(Elementwise):
    options = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = number(lambd, "lambd", self, 0.0)


class Hardshrink(_Shrink):
    """x where |x| > lambd, else 0."""

    formula = formulas.hard_shrink


class Softshrink(_Shrink):
    """x drawn towards 0 by lambd, exact zeros where |x| <= lambd."""

    formula = formulas.soft_shrink


class Threshold(Elementwise):
    """x where x > threshold, else value."""

    formula = formulas.threshold
    options = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold, self.value = (
            number(threshold, "threshold", self),
            number(value, "value", self),
        )


class Exponential(Elementwise):
    """e^x."""

    formula = formulas.exponential


class PReLU(Module):
    """x where x > 0, weight x below, the weight learned; it starts at `init`.

    num_parameters : 1 for one shared slope; the number of channels (axis 1) for one each; a
        shape like (8, 8) for one for each element of the last axes.

    >>> import fathom
    >>> PReLU(3)(fathom.tensor([[-4.0, -8.0, 2.0]]))
    tensor([[-1., -2.,  2.]], op=prelu)
    """

    def __init__(self, num_parameters: int | Sequence[int] = 1, init: float = 0.25) -> None:
        super().__init__()
        self.per_element = isinstance(num_parameters, list | tuple)
        sizes: Any = num_parameters if self.per_element else (num_parameters,)
        self.shape = tuple(positive(n, "num_parameters", "PReLU") for n in sizes)
        self.init = number(init, "init", self)
        self.weight = Parameter(np.full(self.shape, init, np.float32))

    def forward(self, x: TensorLike) -> Tensor:
        a = alike(self, x, self.weight)
        return F.prelu(a, self.weight) if not self.per_element else self._each(a)

    def _each(self, x: Any) -> Tensor:
        a, k = as_tensor(x), len(self.shape)
        if tuple(a.shape[a.ndim - k :]) != self.shape:
            raise ShapeError(
                f"PReLU: slopes {self.shape} must be the last axes of the input "
                f"{mark_axes(a.shape, range(-min(k, a.ndim), 0))}"
            )
        return formulas.prelu(a, self.weight)

    def config(self) -> dict[str, Any]:
        shape: Any = list(self.shape) if self.per_element else self.shape[0]
        return {"num_parameters": shape, "init": self.init}


def with_axes(layer: Module, x: TensorLike) -> Tensor:
    """An input that has an axis to work along."""
    a = as_tensor(x)
    if not a.ndim:
        raise ShapeError(
            f"{type(layer).__name__}: needs an axis to work along; received a single number"
        )
    return a


# -- along an axis -------------------------------------------------------------------------------


class AlongAxis(Module):
    """A function of a whole axis as a layer."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole(dim, "dim", self)

    def forward(self, x: TensorLike) -> Tensor:
        return type(self).function(with_axes(self, x), self.dim)

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim}


class GLU(AlongAxis):
    """a sigmoid(b), a and b the halves of x along `dim`, which shrinks by half."""

    function = staticmethod(groups.glu)


class ReGLU(AlongAxis):
    """a relu(b), a and b the halves of x along `dim`."""

    function = staticmethod(groups.reglu)


class GEGLU(AlongAxis):
    """a gelu(b), a and b the halves of x along `dim`."""

    function = staticmethod(groups.geglu)


class SwiGLU(AlongAxis):
    """a silu(b), a and b the halves of x along `dim`."""

    function = staticmethod(groups.swiglu)


class Sparsemax(AlongAxis):
    """Probabilities with exact zeros: the nearest point on the simplex."""

    function = staticmethod(groups.sparsemax)


class Entmax15(AlongAxis):
    """Probabilities with exact zeros, between softmax and sparsemax."""

    function = staticmethod(groups.entmax15)


class _Tempered(AlongAxis):
    def __init__(self, dim: int = -1, temperature: float = 1.0) -> None:
        super().__init__(dim)
        self.temperature = number(temperature, "temperature", self, 0.0, above=True)

    def forward(self, x: TensorLike) -> Tensor:
        return type(self).function(as_tensor(x), self.dim, self.temperature)

    def config(self) -> dict[str, Any]:
        extra = {"temperature": self.temperature} if self.temperature != 1.0 else {}
        return {"dim": self.dim, **extra}


class Softmax(_Tempered):
    """Probabilities along `dim` (the last axis by default); `temperature` sharpens below 1."""

    function = staticmethod(groups.softmax)


class LogSoftmax(_Tempered):
    """Logarithms of `Softmax`, without overflow."""

    function = staticmethod(groups.log_softmax)


class Softmin(_Tempered):
    """`Softmax` of -x."""

    function = staticmethod(groups.softmin)


class Softmax2d(Module):
    """Probabilities over the channels of (n, c, h, w) or (c, h, w)."""

    def forward(self, x: TensorLike) -> Tensor:
        a = as_tensor(x)
        need_axes("Softmax2d", "the input", a, (3, 4), "(n, c, h, w) or (c, h, w)")
        return F.softmax(a, -3)


class Maxout(Module):
    """The largest of every `pieces` neighbours along `dim`: put it behind a Linear that is
    `pieces` times as wide."""

    def __init__(self, pieces: int = 2, dim: int = -1) -> None:
        super().__init__()
        self.pieces, self.dim = positive(pieces, "pieces", "Maxout"), whole(dim, "dim", self)

    def forward(self, x: TensorLike) -> Tensor:
        return groups.maxout(with_axes(self, x), self.pieces, self.dim)

    def config(self) -> dict[str, Any]:
        return {"pieces": self.pieces, "dim": self.dim}


class GumbelSoftmax(Module):
    """A differentiable draw of a class in training; the plain softmax (or one-hot) in eval.

    tau : temperature. hard : one-hot values with the gradient of the soft ones.
    """

    def __init__(self, tau: float = 1.0, hard: bool = False, dim: int = -1) -> None:
        super().__init__()
        self.tau = number(tau, "tau", self, 0.0, above=True)
        self.hard, self.dim = flag(hard, "hard", self), whole(dim, "dim", self)

    def forward(self, x: TensorLike) -> Tensor:
        x = as_tensor(x)
        if self.training:
            return F.gumbel_softmax(x, self.tau, self.hard, self.dim)
        soft = groups.softmax(x, self.dim, self.tau)
        if not self.hard:
            return soft
        return F.one_hot(soft.argmax(axis=self.dim), soft.shape[self.dim]).movedim(
            -1, self.dim
        ).astype(soft.dtype)  # fmt: skip

    def config(self) -> dict[str, Any]:
        return {"tau": self.tau, "hard": self.hard, "dim": self.dim}


# -- by name -------------------------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable[..., Module]] = {
    "celu": CELU, "elu": ELU, "entmax15": Entmax15, "exponential": Exponential, "geglu": GEGLU,
    "gelu": GELU, "gelu_sigmoid": partial(GELU, "sigmoid"), "gelu_tanh": partial(GELU, "tanh"),
    "glu": GLU, "gumbel_softmax": GumbelSoftmax, "hard_shrink": Hardshrink,
    "hard_sigmoid": Hardsigmoid, "hard_swish": Hardswish, "hard_tanh": Hardtanh,
    "identity": Identity, "leaky_relu": LeakyReLU, "linear": Identity, "log_sigmoid": LogSigmoid,
    "log_softmax": LogSoftmax, "maxout": Maxout, "mish": Mish, "prelu": PReLU,
    "quick_gelu": partial(GELU, "sigmoid"), "reglu": ReGLU, "relu": ReLU, "relu6": ReLU6,
    "rrelu": RReLU, "selu": SELU, "sigmoid": Sigmoid, "sign": Sign, "silu": SiLU,
    "soft_shrink": Softshrink, "softmax": Softmax, "softmin": Softmin, "softplus": Softplus,
    "softsign": Softsign, "sparsemax": Sparsemax, "squared_relu": SquaredReLU, "step": Step,
    "swiglu": SwiGLU, "swish": Swish, "tanh": Tanh, "tanh_shrink": Tanhshrink,
    "threshold": Threshold,
}  # fmt: skip


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


_PLAIN = {_plain(name): name for name in ACTIVATIONS}


def activation(name: str, **options: Any) -> Module:
    """A new activation layer by name: "leaky_relu", "LeakyReLU" and "leaky-relu" are one.

    options : what the layer's constructor takes.

    >>> activation("tanh")
    Tanh()
    >>> activation("leaky_relu", negative_slope=0.2)
    LeakyReLU(negative_slope=0.2)
    """
    key = _PLAIN.get(_plain(name)) if isinstance(name, str) else None
    if key is None:
        raise ArgumentError(f"unknown activation {name!r}", fix=suggest(str(name), ACTIVATIONS))
    try:
        return ACTIVATIONS[key](**options)
    except TypeError as error:
        raise ArgumentError(f"activation {name!r}: {str(error).split('() ')[-1]}") from None
