"""Backpropagation by its four equations, layer by layer, on arrays and without a tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.tensor import Array, to_array
from fathom.ops.checks import one_of

# f, and f' as a function of f(z) and z
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "tanh": (np.tanh, lambda a, z: 1.0 - a * a),
    "sigmoid": (lambda z: 0.5 * (1.0 + np.tanh(0.5 * z)), lambda a, z: a * (1.0 - a)),
    "relu": (lambda z: np.maximum(z, 0.0), lambda a, z: (z > 0.0).astype(z.dtype)),
    "identity": (lambda z: z, lambda a, z: np.ones_like(z)),
}
LOSSES = ("mse", "cross_entropy")


@dataclass(frozen=True)
class LayerError:
    """What a pass backwards finds in one layer."""

    delta: Array  # (n, out), the loss's derivative by the weighted sums z
    weight: Array  # (out, in), by the weights
    bias: Array  # (out,), by the biases


class BackpropMLP:
    """A multilayer perceptron that knows its own gradients (Rumelhart, Hinton & Williams, 1986).

    weights : one matrix (out, in) a layer, the first layer first.
    biases : one vector (out,) a layer.
    activation : "tanh", "sigmoid", "relu" or "identity" behind every layer but the last.
    output : the same names, behind the last layer.
    loss : "mse" (mean of the squares) or "cross_entropy" (of logits, with whole-number labels).

    With a_0 = x, z_l = a_{l-1} W_l' + b_l and a_l = f(z_l), the four equations are

        delta_L = dC/da_L * f'(z_L)
        delta_l = (delta_{l+1} W_{l+1}) * f'(z_l)
        dC/db_l = sum over samples of delta_l
        dC/dW_l = delta_l' a_{l-1}

    >>> net = BackpropMLP([[[2.0]], [[3.0]]], [[0.0], [1.0]], activation="identity")
    >>> net.predict([[1.0]]).tolist()
    [[7.0]]
    >>> [layer.weight.tolist() for layer in net.gradients([[1.0]], [[6.0]])]
    [[[6.0]], [[4.0]]]
    """

    def __init__(
        self,
        weights: Sequence[Any],
        biases: Sequence[Any],
        activation: str = "tanh",
        output: str = "identity",
        loss: str = "mse",
    ) -> None:
        one_of("BackpropMLP", "activation", activation, tuple(ACTIVATIONS))
        one_of("BackpropMLP", "output", output, tuple(ACTIVATIONS))
        one_of("BackpropMLP", "loss", loss, LOSSES)
        self.weights = [np.array(to_array(w), np.float64) for w in weights]
        self.biases = [np.array(to_array(b), np.float64) for b in biases]
        self.loss_name = loss
        self.names = [*[activation] * (len(self.weights) - 1), output]
        self._check()

    def _check(self) -> None:
        if not self.weights or len(self.weights) != len(self.biases):
            raise ArgumentError(
                "BackpropMLP: needs a matrix and a vector for each layer; received "
                f"{len(self.weights)} and {len(self.biases)}"
            )
        width = self.weights[0].shape[-1]
        for number, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if w.ndim != 2 or w.shape[1] != width or b.shape != w.shape[:1]:
                raise ShapeError(
                    f"BackpropMLP: layer {number} takes {width} features: its weights must be "
                    f"(out, {width}), its biases (out,); received {w.shape} and {b.shape}"
                )
            width = len(b)

    def _sums(self, x: Any) -> tuple[list[Array], list[Array]]:
        """All a_l (n, width), the input first, and all z_l."""
        a = np.asarray(to_array(x), np.float64)
        if a.ndim != 2 or a.shape[1] != self.weights[0].shape[1]:
            wanted = self.weights[0].shape[1]
            raise ShapeError(f"BackpropMLP: samples are (n, {wanted}); received {a.shape}")
        outputs, sums = [a], []
        for w, b, name in zip(self.weights, self.biases, self.names, strict=True):
            sums.append(outputs[-1] @ w.T + b)
            outputs.append(ACTIVATIONS[name][0](sums[-1]))
        return outputs, sums

    def predict(self, x: Any) -> Array:
        """a_L, (n, out)."""
        return self._sums(x)[0][-1]

    def loss(self, x: Any, y: Any) -> float:
        """The mean loss of samples (n, in) with targets (n, out), or labels (n,)."""
        return self._cost(self.predict(x), y)[0]

    def _cost(self, a: Array, y: Any) -> tuple[float, Array]:
        """The loss and its derivative by the outputs."""
        target = np.asarray(to_array(y))
        if self.loss_name == "mse":
            if target.shape != a.shape:
                raise ShapeError(f"BackpropMLP: targets must be {a.shape}; received {target.shape}")
            return float(np.mean((a - target) ** 2)), 2.0 * (a - target) / a.size
        if target.shape != a.shape[:1] or target.dtype.kind not in "iu":
            raise ShapeError(f"BackpropMLP: labels are {len(a)} whole numbers; received {target!r}")
        rows = np.arange(len(a))
        shifted = a - a.max(axis=1, keepdims=True)
        log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        slope = np.exp(log_shares)
        slope[rows, target] -= 1.0
        return float(-log_shares[rows, target].mean()), slope / len(a)

    def gradients(self, x: Any, y: Any) -> list[LayerError]:
        """One pass forward, one backward: what each layer has to do with the loss."""
        outputs, sums = self._sums(x)
        upstream = self._cost(outputs[-1], y)[1]
        found = []
        for k in reversed(range(len(self.weights))):
            delta = upstream * ACTIVATIONS[self.names[k]][1](outputs[k + 1], sums[k])
            found.append(LayerError(delta, delta.T @ outputs[k], delta.sum(axis=0)))
            upstream = delta @ self.weights[k]
        return found[::-1]

    def step(self, x: Any, y: Any, lr: float) -> float:
        """One step of gradient descent, in place; returns the loss before it."""
        loss = self.loss(x, y)
        for k, layer in enumerate(self.gradients(x, y)):
            self.weights[k] -= lr * layer.weight
            self.biases[k] -= lr * layer.bias
        return loss
