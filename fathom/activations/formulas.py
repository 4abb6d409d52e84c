"""The elementwise activations as formulas: one expression each, everything else follows.

Where a function has a kink its slope there is the one PyTorch takes (the left or flat side);
nan stays nan, but in `step`.
"""

from __future__ import annotations

import math
from typing import Any

from fathom.ops import elementwise as e
from fathom.ops import special
from fathom.ops.elementwise import where
from fathom.ops.formula import Formula, formula

ROOT_HALF = math.sqrt(0.5)


def _selu_constants() -> tuple[float, float]:
    """(alpha, scale) for which SELU maps N(0, 1) to mean 0 and variance 1.

    With phi and Phi of the normal distribution: E[z; z>0] = phi(0), E[e^z - 1; z<0] =
    sqrt(e) Phi(-1) - 1/2, E[z^2; z>0] = 1/2, E[(e^z - 1)^2; z<0] = e^2 Phi(-2) -
    2 sqrt(e) Phi(-1) + 1/2. The mean is 0 for alpha = -E[z; z>0] / E[e^z - 1; z<0]; the
    variance then fixes the scale.
    """
    one = math.exp(0.5) * 0.5 * math.erfc(ROOT_HALF)  # sqrt(e) Phi(-1)
    two = math.exp(2.0) * 0.5 * math.erfc(math.sqrt(2.0))  # e^2 Phi(-2)
    alpha = 1.0 / (math.sqrt(2.0 * math.pi) * (0.5 - one))
    return alpha, (0.5 + alpha * alpha * (two - 2.0 * one + 0.5)) ** -0.5


SELU_ALPHA, SELU_SCALE = _selu_constants()


# -- steps and lines -----------------------------------------------------------------------------


@formula
def step(x: Any) -> Any:
    """1 where x >= 0, else 0 (McCulloch and Pitts, 1943). Jumps at 0; its slope is 0."""
    return where(e.greater_equal(x, 0.0), 1.0, 0.0)


@formula
def sign(x: Any) -> Any:
    """-1, 0 or 1 (Rosenblatt, 1958). Jumps at 0; its slope is 0."""
    return e.sign(x)


@formula
def identity(x: Any) -> Any:
    """x: the linear activation. No kink."""
    return x


# -- S-shaped ------------------------------------------------------------------------------------


@formula
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), the logistic function (Verhulst, 1838). Smooth; finite for every x."""
    return e.sigmoid(x)


@formula
def tanh(x: Any) -> Any:
    """(e^x - e^-x) / (e^x + e^-x) = 2 sigmoid(2x) - 1 (LeCun et al., 1998). Smooth."""
    return e.tanh(x)


@formula
def hard_sigmoid(x: Any) -> Any:
    """x/6 + 1/2 between -3 and 3, 0 and 1 beyond (Courbariaux et al., 2015). Kinks at -3, 3."""
    line = x * (1.0 / 6.0) + 0.5
    return where(e.less_equal(x, -3.0), 0.0, where(e.greater_equal(x, 3.0), 1.0, line))


@formula
def hard_tanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x between min_val and max_val, these beyond (Collobert, 2004). Kinks at both."""
    inside = where(e.greater_equal(x, max_val), max_val, x)
    return where(e.less_equal(x, min_val), min_val, inside)


@formula
def softsign(x: Any) -> Any:
    """x / (1 + |x|) (Bergstra et al., 2009). The second derivative jumps at 0."""
    return x / (1.0 + e.abs(x))


@formula
def log_sigmoid(x: Any) -> Any:
    """log sigmoid(x) = -softplus(-x). Smooth; exact where the sigmoid underflows."""
    return special.logsigmoid(x)


@formula
def tanh_shrink(x: Any) -> Any:
    """x - tanh(x): flat in the middle. Smooth."""
    return x - e.tanh(x)


# -- rectifiers ----------------------------------------------------------------------------------


@formula
def relu(x: Any) -> Any:
    """max(x, 0) (Fukushima, 1969; Nair and Hinton, 2010). Kink at 0, slope 0 there."""
    return where(e.less_equal(x, 0.0), 0.0, x)


@formula
def relu6(x: Any) -> Any:
    """min(max(x, 0), 6) (Krizhevsky, 2010). Kinks at 0 and 6."""
    return where(e.less_equal(x, 0.0), 0.0, where(e.greater_equal(x, 6.0), 6.0, x))


@formula
def squared_relu(x: Any) -> Any:
    """max(x, 0)^2 (So et al., 2021, Primer). The second derivative jumps at 0."""
    return where(e.less_equal(x, 0.0), 0.0, e.square(x))


@formula
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, negative_slope x below (Maas et al., 2013). Kink at 0."""
    return where(e.greater(x, 0.0), x, negative_slope * x)


@formula
def prelu(x: Any, weight: float = 0.25) -> Any:
    """Leaky ReLU whose slope below 0 is learned (He et al., 2015). Kink at 0."""
    return where(e.greater(x, 0.0), x, weight * x)


@formula
def threshold(x: Any, threshold: float = 0.0, value: float = 0.0) -> Any:
    """x where x > threshold, else value. Jumps or bends at the threshold."""
    return where(e.less_equal(x, threshold), value, x)


@formula
def hard_shrink(x: Any, lambd: float = 0.5) -> Any:
    """x where |x| > lambd, else 0 (Donoho and Johnstone, 1994). Jumps at -lambd and lambd."""
    return where(e.less_equal(e.abs(x), lambd), 0.0, x)


@formula
def soft_shrink(x: Any, lambd: float = 0.5) -> Any:
    """x - lambd sign(x) where |x| > lambd, else 0: the proximal operator of lambd |x|.

    Donoho (1995). Kinks at -lambd and lambd.
    """
    nearer = where(e.less(x, 0.0), x + lambd, x - lambd)
    return where(e.less_equal(e.abs(x), lambd), 0.0, nearer)


# -- exponential below zero ----------------------------------------------------------------------


@formula
def exponential(x: Any) -> Any:
    """e^x, always positive: for rates and scales (Euler, 1748). Smooth."""
    return e.exp(x)


@formula
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, alpha (e^x - 1) below (Clevert et al., 2016).

    At 0 the second derivative jumps for alpha = 1, the first for any other alpha.
    """
    return where(e.greater(x, 0.0), x, alpha * e.expm1(x))


@formula
def celu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, alpha (e^(x/alpha) - 1) below (Barron, 2017).

    The first derivative is continuous for every alpha, the second jumps at 0.
    """
    return where(e.greater(x, 0.0), x, alpha * e.expm1(x / alpha))


@formula
def selu(x: Any) -> Any:
    """scale * elu(x, alpha) with mean 0 and variance 1 as a fixed point (Klambauer et al., 2017).

    alpha = 1.6732632423543772, scale = 1.0507009873554805, solved from the two moment equations.
    The first derivative jumps at 0.
    """
    below = (SELU_SCALE * SELU_ALPHA) * e.expm1(x)
    return where(e.greater(x, 0.0), SELU_SCALE * x, below)


# -- gated by themselves -------------------------------------------------------------------------


@formula
def gelu(x: Any) -> Any:
    """x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016). Smooth."""
    return x * (0.5 * special.erfc(-ROOT_HALF * x))


@formula
def gelu_tanh(x: Any) -> Any:
    """x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: GELU within 4.8e-4. Smooth."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + e.tanh(inner))


@formula
def gelu_sigmoid(x: Any) -> Any:
    """x sigmoid(1.702 x): GELU within 0.0204, known as QuickGELU. Smooth."""
    return x * e.sigmoid(1.702 * x)


@formula
def silu(x: Any) -> Any:
    """x sigmoid(x) (Hendrycks and Gimpel, 2016; Elfwing et al., 2018). Smooth.

    Its minimum is -0.27846 at x = -1.27846.
    """
    return x * e.sigmoid(x)


@formula
def swish(x: Any, beta: float = 1.0) -> Any:
    """x sigmoid(beta x), beta fixed or learned (Ramachandran et al., 2017). Smooth.

    beta = 0 gives x/2, beta to infinity ReLU.
    """
    return x * e.sigmoid(beta * x)


@formula
def hard_swish(x: Any) -> Any:
    """x relu6(x + 3) / 6 (Howard et al., 2019, MobileNetV3). Kinks at -3 and 3."""
    bowl = x * (x + 3.0) * (1.0 / 6.0)
    return where(e.less_equal(x, -3.0), 0.0, where(e.greater_equal(x, 3.0), x, bowl))


@formula
def mish(x: Any) -> Any:
    """x tanh(softplus(x)) (Misra, 2019). Smooth. Its minimum is -0.30884 at x = -1.19243."""
    return x * e.tanh(special.softplus(x))


@formula
def softplus(x: Any, beta: float = 1.0) -> Any:
    """log(1 + e^(beta x)) / beta (Dugas et al., 2000). Smooth; exact at both ends."""
    return special.softplus(beta * x) / beta


FORMULAS: dict[str, Formula] = {
    found.name: found
    for found in (
        step, sign, identity, sigmoid, hard_sigmoid, tanh, hard_tanh, softsign, log_sigmoid,
        tanh_shrink, relu, relu6, squared_relu, leaky_relu, prelu, threshold, hard_shrink,
        soft_shrink, exponential, elu, celu, selu, gelu, gelu_tanh, gelu_sigmoid, silu, swish,
        hard_swish, mish, softplus,
    )
}  # fmt: skip
