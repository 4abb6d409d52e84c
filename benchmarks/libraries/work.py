"""What is measured: the rows, their data and starting weights. NumPy alone is imported here.

Every library gets the same arrays. Weights are named as in PyTorch's state dictionaries (and
Fathom's, which are alike), so a network is told by its name, a batch and a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

RATE = 1e-3  # Adam's
STEPS = 1000  # of an epoch, and of each network of the fleet
NETWORKS = 1000  # of the fleet
SIZE = 1_000_000  # numbers of an activation, and of Adam
HEADS, LAYERS = 4, 2  # of the transformer

Weights = dict[str, Any]


class Skip(Exception):
    """This library does not do this; the message says why."""


@dataclass(frozen=True)
class Job:
    """A prepared piece of work: `call()` is timed, and is `units` units of it.

    read : makes a few numbers of what a call returned, the same in all libraries up to rounding;
        compared after `checks` calls.
    """

    call: Callable[[], Any]
    read: Callable[[Any], list[float]]
    units: float = 1
    checks: int = 3


@dataclass(frozen=True)
class Row:
    """A line of the table. `targets`: what each library's time over Fathom's shall be at least."""

    name: str
    kind: str  # network, activation, adam, epoch or fleet
    targets: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0  # of the matrix products and convolutions in one unit
    network: str = ""
    sizes: tuple[int, ...] = ()
    batch: int = 0

    @property
    def unit(self) -> str:
        units = {"activation": "call", "fleet": "step of one network"}
        return units.get(self.kind, "step")


def products(batch: int, sizes: tuple[int, ...]) -> float:
    """Of linear layers: forward, gradients of weights, and of inputs but the first layer's."""
    each = [2.0 * batch * n * m for n, m in pairwise(sizes)]
    return 3 * sum(each) - each[0]


def lenet_flops(batch: int) -> float:
    first = 2.0 * batch * 28 * 28 * 6 * 25
    second = 2.0 * batch * 10 * 10 * 16 * 6 * 25
    linear = 3 * 2.0 * batch * (400 * 120 + 120 * 84 + 84 * 10)
    return 2 * first + 3 * second + linear


def transformer_flops(batch: int, places: int, width: int, hidden: int) -> float:
    linear = 2.0 * batch * places * (4 * width * width + 2 * width * hidden)
    attention = 2 * 2.0 * batch * places * places * width
    return 3 * LAYERS * (linear + attention)


def mlp(name: str, sizes: tuple[int, ...], batch: int, torch: float, jax: float) -> Row:
    targets = {"torch": torch, "jax": jax}
    return Row(name, "network", targets, products(batch, sizes), "mlp", sizes, batch)


# the activations that a library besides Fathom has, and those that are one line in it
ACTIVATIONS = (
    "relu", "relu6", "squared_relu", "leaky_relu", "prelu", "threshold", "hard_shrink",
    "soft_shrink", "hard_tanh", "hard_sigmoid", "hard_swish", "sigmoid", "tanh", "softsign",
    "log_sigmoid", "tanh_shrink", "exponential", "elu", "celu", "selu", "gelu", "gelu_tanh",
    "gelu_sigmoid", "silu", "swish", "mish", "softplus", "softmax", "log_softmax", "softmin", "glu",
)  # fmt: skip

SMALL = "2-16-16-2 b32"
ROWS = {
    row.name: row
    for row in (
        mlp(SMALL, (2, 16, 16, 2), 32, 30, 10),
        mlp("64-64-32-10 b64", (64, 64, 32, 10), 64, 8, 3),
        mlp("784-256-128-10 b64", (784, 256, 128, 10), 64, 1.8, 1.3),
        mlp("784-1024-1024-10 b256", (784, 1024, 1024, 10), 256, 1.0, 1.0),
        Row("LeNet-5 b64", "network", {"torch": 1.2, "jax": 1.5}, lenet_flops(64), "lenet",
            (1, 28, 28), 64),
        Row("LSTM 32-64 T32 b32", "network", {"torch": 3, "jax": 1.5},
            2.0 * 32 * 32 * 256 * (2 * 32 + 3 * 64), "lstm", (32, 32, 64), 32),
        Row("Transformer 2x64 T64 b16", "network", {"torch": 1.5, "jax": 1.2},
            transformer_flops(16, 64, 64, 256), "transformer", (64, 64, 256), 16),
        Row(f"epoch of {SMALL}", "epoch", {"torch": 60, "jax": 3},
            products(32, (2, 16, 16, 2)), "mlp", (2, 16, 16, 2), 32),
        Row(f"fleet of {SMALL}", "fleet", {"torch": 60, "jax": 3},
            products(32, (2, 16, 16, 2)), "mlp", (2, 16, 16, 2), 32),
        Row("Adam 1M", "adam", {"torch": 1.5, "jax": 1.0}),
        *(Row(name, "activation", {"torch": 1.5, "jax": 1.0}) for name in ACTIVATIONS),
    )
}  # fmt: skip
FIRST = {SMALL: 0.3, "LeNet-5 b64": 1.5, "Transformer 2x64 T64 b16": 1.5}  # seconds, at most
FROM_DISK = 0.1
MEMORY = ("784-1024-1024-10 b256", "LeNet-5 b64", "LSTM 32-64 T32 b32", "Transformer 2x64 T64 b16")


def data(row: Row, batches: int = 1) -> tuple[Any, Any]:
    """Inputs in float32 and classes."""
    rng = np.random.default_rng(0)
    shape = {
        "mlp": row.sizes[:1],
        "lenet": row.sizes,
        "lstm": row.sizes[:2],  # places, features
        "transformer": row.sizes[:2],
    }[row.network]
    classes = row.sizes[-1] if row.network == "mlp" else 10
    count = row.batch * batches
    x = rng.standard_normal((count, *shape)).astype(np.float32)
    return x, rng.integers(0, classes, count)


def weights(row: Row) -> Weights:
    """Where training starts: uniform within 1 / sqrt(fan-in). All of a fleet start there."""
    rng = np.random.default_rng(1)

    def dense(name: str, fan_in: int, *shape: int, bias: str = "bias") -> Weights:
        bound = fan_in**-0.5
        found = {f"{name}weight": (shape[0], *shape[1:]), f"{name}{bias}": shape[:1]}
        return {k: rng.uniform(-bound, bound, s).astype(np.float32) for k, s in found.items()}

    def linear(name: str, n: int, m: int) -> Weights:
        return dense(f"{name}.", n, m, n)

    sizes = row.sizes
    found: Weights = {}
    if row.network == "mlp":
        for i, (n, m) in enumerate(pairwise(sizes)):
            found |= linear(str(2 * i), n, m)
    elif row.network == "lenet":
        found |= dense("0.", 25, 6, 1, 5, 5) | dense("3.", 150, 16, 6, 5, 5)
        found |= linear("7", 400, 120) | linear("9", 120, 84) | linear("11", 84, 10)
    elif row.network == "lstm":
        _, n, m = sizes
        for name, width in (("ih", n), ("hh", m)):
            part = dense("", m, 4 * m, width)
            found[f"lstm.weight_{name}_l0"] = part["weight"]
            found[f"lstm.bias_{name}_l0"] = part["bias"]
        found |= linear("head", m, 10)
    else:
        _, d, hidden = sizes
        for i in range(LAYERS):
            part = linear("", d, 3 * d)
            found[f"layers.{i}.self_attn.in_proj_weight"] = part[".weight"]
            found[f"layers.{i}.self_attn.in_proj_bias"] = part[".bias"]
            found |= linear(f"layers.{i}.self_attn.out_proj", d, d)
            found |= linear(f"layers.{i}.linear1", d, hidden)
            found |= linear(f"layers.{i}.linear2", hidden, d)
            for norm in ("norm1", "norm2"):
                found[f"layers.{i}.{norm}.weight"] = np.ones(d, np.float32)
                found[f"layers.{i}.{norm}.bias"] = np.zeros(d, np.float32)
        found |= linear("head", d, 10)
    return found


def numbers(name: str) -> tuple[Any, Any]:
    """The input of an activation and the gradient of its output."""
    rng = np.random.default_rng(2)
    shape = (1000, SIZE // 1000)
    half = (1000, SIZE // 2000) if name == "glu" else shape
    x = 2 * rng.standard_normal(shape).astype(np.float32)
    return x, rng.standard_normal(half).astype(np.float32)


def parameters() -> tuple[Any, Any]:
    """Numbers for Adam, and their gradients."""
    rng = np.random.default_rng(3)
    start, slope = (rng.standard_normal(SIZE).astype(np.float32) for _ in range(2))
    return start, slope


def moved(row: Row) -> float:
    """Bytes that must be read and written, where that is what limits."""
    if row.kind == "adam":
        return 7.0 * 4 * SIZE  # parameters and two moments both ways, gradients read
    if row.kind == "activation":
        return (3.0 if row.name == "glu" else 4.0) * 4 * SIZE  # x, dy, y, dx
    return 0.0


def of_arrays(*arrays: Any) -> list[float]:
    """Mean of the absolute values: what is compared of large results."""
    return [float(np.abs(a).mean(dtype=np.float64)) for a in arrays]
