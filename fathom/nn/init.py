"""Initial weights. Functions with a trailing underscore fill a tensor (or a model) in place.

All draw from the stream "init" of the current `Random`, so a seed fixes every weight. What looks
at a whole model - `apply_` by name, `auto_`, `lsuv_`, `fixup_`, `report` - is in
`fathom.nn.prepare` and reached from here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, suggest
from fathom.engine.random import current
from fathom.engine.tensor import Tensor, mark_written

MODES = ("fan_in", "fan_out", "fan_avg")


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    if tensor.ndim < 2:
        raise ShapeError(f"fans need a weight of at least 2 axes; received shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _filled(tensor: Tensor, values: Any) -> Tensor:
    tensor.data[...] = values
    mark_written(tensor)
    return tensor


# -- constants -----------------------------------------------------------------------------------


def constant_(tensor: Tensor, value: float) -> Tensor:
    """All the same value."""
    return _filled(tensor, value)


def zeros_(tensor: Tensor) -> Tensor:
    """All zeros. A weight of zeros never breaks symmetry: good for biases and last layers."""
    return _filled(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """All ones."""
    return _filled(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, whatever the shape of the matrix: a linear layer that passes x on."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: needs a matrix; received shape {tensor.shape}")
    return _filled(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


identity_ = eye_


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A 1 in the middle of filter i for channel i: a convolution that passes x on.

    weight (out, in, *kernel), in as many `groups` as the layer has. Zagoruyko & Komodakis (2017).
    """
    if tensor.ndim not in (3, 4, 5):
        raise ShapeError(f"dirac_: needs a weight (out, in, *kernel); received {tensor.shape}")
    if groups < 1 or tensor.shape[0] % groups:
        raise ArgumentError(f"dirac_: {tensor.shape[0]} filters in groups={groups} equal parts?")
    values = np.zeros(tensor.shape, tensor.dtype)
    middle = tuple(k // 2 for k in tensor.shape[2:])
    per_group = tensor.shape[0] // groups
    for g in range(groups):
        for i in range(min(per_group, tensor.shape[1])):
            values[(g * per_group + i, i, *middle)] = 1.0
    return _filled(tensor, values)


# -- plain distributions -------------------------------------------------------------------------


def uniform_(tensor: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Evenly spread over [low, high)."""
    if not low <= high:
        raise ArgumentError(f"uniform_: low must not be above high; received {low} and {high}")
    return _filled(tensor, current().stream("init").uniform(tensor.shape, low, high, tensor.dtype))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normally distributed."""
    if not std >= 0:
        raise ArgumentError(f"normal_: std must be >= 0; received {std!r}")
    return _filled(tensor, current().stream("init").normal(tensor.shape, mean, std, tensor.dtype))


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Tensor:
    """Normal within [a, b]: drawn by the inverse of the distribution function, none rejected."""
    from fathom.ops.special import erfinv

    if not a < b or not std > 0:
        raise ArgumentError(
            f"trunc_normal_: needs a < b and std > 0; received a={a}, b={b}, std={std}"
        )

    def below(x: float) -> float:  # erf of the standard distance
        return math.erf((x - mean) / std / math.sqrt(2.0))

    draw = current().stream("init").uniform(tensor.shape, below(a), below(b), np.float64)
    values = mean + std * math.sqrt(2.0) * erfinv(Tensor(draw)).value()
    return _filled(tensor, np.clip(values, a, b))


# -- scaled by the fans --------------------------------------------------------------------------


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much larger weights must be to keep the variance through that nonlinearity.

    PyTorch's values where it has one (1 for linear and sigmoid, 5/3 for tanh, sqrt(2) for ReLU,
    sqrt(2 / (1 + slope^2)) for leaky ReLU, 3/4 for SELU); for every other formula of
    `fathom.activations`, 1 / sqrt(E f(z)^2) over z ~ N(0, 1), worked out numerically.

    >>> round(calculate_gain("relu"), 4), round(calculate_gain("silu"), 3)
    (1.4142, 1.677)
    """
    from fathom.activations import FORMULAS

    name = str(nonlinearity).lower()
    fixed = {"sigmoid": 1.0, "tanh": 5.0 / 3.0, "relu": math.sqrt(2.0), "selu": 0.75,
             "linear": 1.0, "identity": 1.0}  # fmt: skip
    convolutions = [f"{k}{n}d" for k in ("conv", "conv_transpose") for n in (1, 2, 3)]
    if name in fixed:
        return fixed[name]
    if name in convolutions:
        return 1.0
    if name in ("leaky_relu", "prelu"):
        slope = (0.01 if name == "leaky_relu" else 0.25) if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if name not in FORMULAS:
        raise ArgumentError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}",
            fix=suggest(name, [*fixed, *FORMULAS]),
        )
    f = FORMULAS[name]
    rest = [f.defaults[n] for n in f.names[1:]]
    if param is not None and rest:
        rest[0] = float(param)
    z = np.linspace(-10.0, 10.0, 20000)
    weight = np.exp(-0.5 * z * z)
    y = np.asarray(Tensor(f.apply(z, *rest)).value())
    return float((weight @ np.square(y) / weight.sum()) ** -0.5)


def _scale(tensor: Tensor, mode: str) -> float:
    if mode not in MODES:
        raise ArgumentError(f"unknown mode {mode!r}", fix=suggest(str(mode), MODES))
    fan_in, fan_out = fans(tensor)
    chosen = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": 0.5 * (fan_in + fan_out)}[mode]
    return math.sqrt(1.0 / max(chosen, 1))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio, 2010)."""
    bound = gain * math.sqrt(3.0) * _scale(tensor, "fan_avg")
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, s^2) with s = gain sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * _scale(tensor, "fan_avg"))


glorot_uniform_, glorot_normal_ = xavier_uniform_, xavier_normal_


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    gain: float | None = None,
) -> Tensor:  # fmt: skip
    """U(-b, b) with b = gain sqrt(3 / fan) (He et al., 2015).

    a : the slope of a leaky ReLU that follows; 0 is ReLU. mode : "fan_in" keeps the variance
    forward, "fan_out" backward. nonlinearity : what follows, see `calculate_gain`; or give the
    `gain` itself.
    """
    bound = _gain(gain, nonlinearity, a) * math.sqrt(3.0) * _scale(tensor, mode)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    gain: float | None = None,
) -> Tensor:  # fmt: skip
    """N(0, s^2) with s = gain / sqrt(fan) (He et al., 2015). See `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _gain(gain, nonlinearity, a) * _scale(tensor, mode))


def _gain(gain: float | None, nonlinearity: str, a: float) -> float:
    if gain is not None:
        return gain
    return calculate_gain(nonlinearity, a if nonlinearity == "leaky_relu" else None)


he_uniform_, he_normal_ = kaiming_uniform_, kaiming_normal_


def lecun_uniform_(tensor: Tensor) -> Tensor:
    """U(-a, a) with a = sqrt(3 / fan_in) (LeCun et al., 1998): variance 1 / fan_in."""
    bound = math.sqrt(3.0) * _scale(tensor, "fan_in")
    return uniform_(tensor, -bound, bound)


def lecun_normal_(tensor: Tensor) -> Tensor:
    """N(0, 1 / fan_in) (LeCun et al., 1998); what SELU needs."""
    return normal_(tensor, 0.0, _scale(tensor, "fan_in"))


# -- structured ----------------------------------------------------------------------------------


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Orthonormal rows or columns, whichever are fewer, times `gain` (Saxe et al., 2014).

    A weight (out, in, *kernel) counts as the matrix (out, in * kernel).
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: needs at least 2 axes; received shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    if not rows * columns:
        return tensor
    shape = (max(rows, columns), min(rows, columns))
    q, r = np.linalg.qr(current().stream("init").normal(shape, dtype=np.float64))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # each orthogonal matrix equally likely
    return _filled(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01) -> Tensor:
    """N(0, std^2) with a share `sparsity` of each column zero (Martens, 2010); (out, in)."""
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_: needs a matrix; received shape {tensor.shape}")
    if not 0.0 <= sparsity <= 1.0:
        raise ArgumentError(f"sparse_: sparsity lies in [0, 1]; received {sparsity!r}")
    normal_(tensor, 0.0, std)
    rows, columns = tensor.shape
    zeros, stream = math.ceil(sparsity * rows), current().stream("init")
    for column in range(columns):
        tensor.data[stream.permutation(rows)[:zeros], column] = 0.0
    mark_written(tensor)
    return tensor


# -- biases --------------------------------------------------------------------------------------

BIAS_RULES = ("zeros", "positive", "prior", "forget")


def bias_(tensor: Tensor, rule: str = "zeros", value: Any = None) -> Tensor:
    """A bias by one of the rules of thumb.

    "zeros"; "positive" (a small number, 0.01 unless `value` says otherwise, so that ReLUs start
    alive); "prior" (`value` holds the share of each class: log shares, or the logit of a single
    one, so that the first predictions are the base rates; Lin et al., 2017); "forget" (`value`,
    1 by default, on the second quarter: the forget gate of an LSTM; Jozefowicz et al., 2015).

    >>> import fathom
    >>> bias_(fathom.zeros(1), "prior", 0.01)
    tensor([-4.5951])
    """
    if rule == "zeros":
        return _filled(tensor, 0.0)
    if rule == "positive":
        return _filled(tensor, 0.01 if value is None else value)
    if rule == "forget":
        quarter = tensor.shape[0] // 4
        values = np.zeros(tensor.shape)
        values[quarter : 2 * quarter] = 1.0 if value is None else value
        return _filled(tensor, values)
    if rule != "prior":
        raise ArgumentError(f"bias_: unknown rule {rule!r}", fix=suggest(str(rule), BIAS_RULES))
    shares = np.atleast_1d(np.asarray(value if value is not None else np.nan, np.float64))
    if not ((shares > 0) & (shares < 1)).all() or shares.size not in (1, tensor.size):
        raise ArgumentError(
            f"bias_: 'prior' needs one share in (0, 1), or one for each of {tensor.size} classes; "
            f"received {value!r}"
        )
    return _filled(tensor, np.log(shares) - (np.log1p(-shares) if shares.size == 1 else 0.0))


def __getattr__(name: str) -> Any:
    if name in ("apply_", "auto_", "lsuv_", "fixup_", "report", "VarianceReport"):
        from fathom.nn import prepare

        return getattr(prepare, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
