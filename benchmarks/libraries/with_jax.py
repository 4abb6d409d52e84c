"""JAX: the whole step under jit, with Optax's Adam; the state's memory is given back (donated)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, nn

from libraries import work
from libraries.work import Job, Row

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": nn.relu,
    "relu6": nn.relu6,
    "squared_relu": lambda x: jnp.square(nn.relu(x)),
    "leaky_relu": nn.leaky_relu,
    "prelu": lambda x: jnp.where(x > 0, x, 0.25 * x),
    "threshold": lambda x: jnp.where(x <= 0, 0.0, x),
    "hard_shrink": lambda x: jnp.where(jnp.abs(x) <= 0.5, 0.0, x),
    "soft_shrink": lambda x: jnp.where(jnp.abs(x) <= 0.5, 0.0, x - 0.5 * jnp.sign(x)),
    "hard_tanh": nn.hard_tanh,
    "hard_sigmoid": nn.hard_sigmoid,
    "hard_swish": nn.hard_swish,
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
    "softsign": nn.soft_sign,
    "log_sigmoid": nn.log_sigmoid,
    "tanh_shrink": lambda x: x - jnp.tanh(x),
    "exponential": jnp.exp,
    "elu": nn.elu,
    "celu": nn.celu,
    "selu": nn.selu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
    "gelu_sigmoid": lambda x: x * nn.sigmoid(1.702 * x),
    "silu": nn.silu,
    "swish": nn.silu,
    "mish": nn.mish,
    "softplus": nn.softplus,
    "softmax": nn.softmax,
    "log_softmax": nn.log_softmax,
    "softmin": lambda x: nn.softmax(-x),
    "glu": nn.glu,
}
Weights = dict[str, Any]


# -- networks: functions of named weights and a batch ---------------------------------------------


def linear(w: Weights, name: str, x: Any) -> Any:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def mlp(w: Weights, x: Any) -> Any:
    names = sorted({int(key.partition(".")[0]) for key in w})
    for name in names[:-1]:
        x = nn.relu(linear(w, str(name), x))
    return linear(w, str(names[-1]), x)


def convolution(w: Weights, name: str, x: Any, padding: int) -> Any:
    sides = [(padding, padding)] * 2
    maps = lax.conv_general_dilated(x, w[f"{name}.weight"], (1, 1), sides)
    return maps + w[f"{name}.bias"][:, None, None]


def average(x: Any) -> Any:
    n, c, h, v = x.shape
    return x.reshape(n, c, h // 2, 2, v // 2, 2).mean((3, 5))


def lenet(w: Weights, x: Any) -> Any:
    x = average(jnp.tanh(convolution(w, "0", x, 2)))
    x = average(jnp.tanh(convolution(w, "3", x, 0))).reshape(len(x), -1)
    return linear(w, "11", jnp.tanh(linear(w, "9", jnp.tanh(linear(w, "7", x)))))


def lstm(w: Weights, x: Any) -> Any:
    bias = w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
    inward = jnp.swapaxes(x, 0, 1) @ w["lstm.weight_ih_l0"].T + bias  # all places in one product

    def cell(state: Any, gates: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(gates + h @ w["lstm.weight_hh_l0"].T, 4, -1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((x.shape[0], w["lstm.weight_hh_l0"].shape[1]))
    (h, _), _ = lax.scan(cell, (zero, zero), inward)
    return linear(w, "head", h)


def norm(w: Weights, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
    return centred * scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w: Weights, name: str, x: Any) -> Any:
    n, t, d = x.shape
    qkv = x @ w[f"{name}.in_proj_weight"].T + w[f"{name}.in_proj_bias"]
    q, k, v = jnp.moveaxis(qkv.reshape(n, t, 3, work.HEADS, d // work.HEADS), (2, 3), (0, 2))
    scores = q @ jnp.swapaxes(k, -1, -2) * (d // work.HEADS) ** -0.5
    mixed = jnp.swapaxes(nn.softmax(scores) @ v, 1, 2).reshape(n, t, d)
    return linear(w, f"{name}.out_proj", mixed)


def transformer(w: Weights, x: Any) -> Any:
    for i in range(work.LAYERS):
        at = f"layers.{i}."
        x = norm(w, at + "norm1", x + attention(w, at + "self_attn", x))
        hidden = nn.relu(linear(w, at + "linear1", x))
        x = norm(w, at + "norm2", x + linear(w, at + "linear2", hidden))
    return linear(w, "head", x.mean(1))


NETWORKS = {"mlp": mlp, "lenet": lenet, "lstm": lstm, "transformer": transformer}
adam_of = optax.adam(work.RATE)


def stepper(row: Row) -> Callable[..., Any]:
    """(state, inputs, targets) -> (state, loss), not yet jitted."""
    forward = NETWORKS[row.network]

    def loss_of(w: Weights, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(forward(w, x), y).mean()

    def step(state: Any, x: Any, y: Any) -> Any:
        w, moments = state
        loss, slopes = jax.value_and_grad(loss_of)(w, x, y)
        updates, moments = adam_of.update(slopes, moments, w)
        return (optax.apply_updates(w, updates), moments), loss

    return step


def start(row: Row) -> Any:
    w = {k: jnp.asarray(v) for k, v in work.weights(row).items()}
    return w, adam_of.init(w)


def arrays(row: Row, batches: int = 1) -> tuple[Any, Any]:
    x, y = work.data(row, batches)
    return jnp.asarray(x), jnp.asarray(y, np.int32)


class Kept:
    """A jitted function of a state, which it takes and returns, and of fixed arguments."""

    def __init__(self, function: Callable[..., Any], state: Any, *rest: Any) -> None:
        self.function = jax.jit(function, donate_argnums=0)
        self.state, self.rest = state, rest

    def __call__(self) -> Any:
        self.state, out = self.function(self.state, *self.rest)
        jax.block_until_ready(self.state)
        return out


def steps(row: Row) -> Job:
    return Job(Kept(stepper(row), start(row), *arrays(row)), lambda loss: [float(loss)])


def scan(row: Row) -> Callable[..., Any]:
    """All steps over a data set of (steps, batch, ...)."""
    step = stepper(row)

    def run(state: Any, x: Any, y: Any) -> Any:
        return lax.scan(lambda held, batch: step(held, *batch), state, (x, y))

    return run


def batches(row: Row) -> tuple[Any, Any]:
    x, y = arrays(row, work.STEPS)
    return x.reshape(work.STEPS, row.batch, *x.shape[1:]), y.reshape(work.STEPS, row.batch)


def epoch(row: Row) -> Job:
    call = Kept(scan(row), start(row), *batches(row))
    return Job(call, lambda out: work.of_arrays(np.asarray(out)), work.STEPS, checks=1)


def fleet(row: Row) -> Job:
    """All networks at once: vmap in the scan."""
    each = start(row)
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * work.NETWORKS), each)
    step = jax.vmap(stepper(row), in_axes=(0, None, None))

    def run(state: Any, x: Any, y: Any) -> Any:
        return lax.scan(lambda held, batch: step(held, *batch), state, (x, y))

    units = work.STEPS * work.NETWORKS
    call = Kept(run, state, *batches(row))
    return Job(call, lambda out: work.of_arrays(np.asarray(out)[:, 0]), units, checks=1)


def adam(row: Row) -> Job:
    first, slope = (jnp.asarray(a) for a in work.parameters())

    def update(state: Any, slope: Any) -> Any:
        w, moments = state
        updates, moments = adam_of.update(slope, moments, w)
        w = optax.apply_updates(w, updates)
        return (w, moments), moments[0].count

    call = Kept(update, (first, adam_of.init(first)), slope)

    return Job(call, lambda _: work.of_arrays(np.asarray(call.state[0])))


def activation(row: Row) -> Job:
    function = ACTIVATIONS[row.name]
    x, dy = (jnp.asarray(a) for a in work.numbers(row.name))

    @jax.jit
    def both(x: Any, dy: Any) -> Any:
        y, back = jax.vjp(function, x)
        return y, *back(dy)

    return Job(
        lambda: jax.block_until_ready(both(x, dy)),
        lambda out: work.of_arrays(*map(np.asarray, out)),
    )


KINDS = {"network": steps, "epoch": epoch, "fleet": fleet, "adam": adam, "activation": activation}


def make(row: Row) -> Job:
    return KINDS[row.kind](row)
