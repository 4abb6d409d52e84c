"""Networks of equal layers: any depth, plain, residual or batch-normalized."""

from __future__ import annotations

from fathom.models.mlp import make_activation
from fathom.nn import BatchNorm1d, Linear, Module, Residual, Sequential
from fathom.nn.init import apply_


def stack(
    inputs: int, outputs: int, width: int, depth: int, *, activation: str = "relu",
    init: str = "he_normal", residual: bool = False, scale: float = 1.0,
    norm: bool = False,
) -> Sequential:  # fmt: skip
    """`depth` hidden layers of one width: linear, batch norm with `norm`, activation.

    residual : every hidden layer after the first has a way around it; `scale` is that of the
    branch (1 doubles the variance with every He layer, 1 / sqrt(depth) keeps it). init : a name
    of `nn.init.apply_`; biases are 0 unless it is "default".

    >>> net = stack(4, 3, 8, 2, norm=True)
    >>> [type(layer).__name__ for layer in net]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    layers: list[Module] = []
    for k in range(depth):
        part: list[Module] = [Linear(width if k else inputs, width)]
        part += [BatchNorm1d(width)] if norm else []
        part += [make_activation(activation)]
        layers += [Residual(Sequential(*part), scale=scale)] if residual and k else part
    model = Sequential(*layers, Linear(width if depth else inputs, outputs))
    apply_(model, init)
    return model


def parameters(model: Module) -> int:
    """How many numbers a model learns.

    >>> parameters(stack(4, 3, 8, 1))
    67
    """
    return sum(p.size for p in model.parameters())


def width_for(budget: int, inputs: int, outputs: int, depth: int) -> int:
    """The width at which a stack of that depth comes nearest to a budget of parameters.

    >>> width_for(67, 4, 3, 1)
    8
    """

    def count(width: int) -> int:
        return (
            (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs
        )  # fmt: skip

    widths = range(1, max(2, budget // (inputs + outputs + 1)) + 2)
    return min(widths, key=lambda width: abs(count(width) - budget))
