"""What a loop does between the model's output and the loss, told from the two values.

`loss_fn(model(x).softmax(1).squeeze(), y)`: a trial has to do the same. Known operations are
tried on the model's output until what comes out is what the loss was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import FathomError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Tensor
from fathom.nn import functional as F

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda z: F.softmax(z, -1), "softmax over axis 1": lambda z: F.softmax(z, 1),
    "softmax over axis 0": lambda z: F.softmax(z, 0),
    "log_softmax": lambda z: F.log_softmax(z, -1),
    "log_softmax over axis 1": lambda z: F.log_softmax(z, 1),
    "log_softmax over axis 0": lambda z: F.log_softmax(z, 0), "sigmoid": F.sigmoid,
    "tanh": F.tanh, "relu": F.relu, "exp": lambda z: z.exp(), "log": lambda z: z.log(),
    "log of softmax": lambda z: F.softmax(z, -1).log(), "softplus": F.softplus,
}  # fmt: skip


@dataclass(frozen=True)
class Between:
    """place : which of several outputs (keys one inside the other). function : what is applied to
    its values, "" for nothing; move : from its shape to the loss's."""

    place: tuple[Any, ...] = ()
    function: str = ""
    move: Callable[[Any], Any] = lambda z: z

    def __call__(self, output: Any, functions: bool = True) -> Any:
        """What the loss is given; without functions, only moved."""
        for key in self.place:
            output = output[key]
        if functions and self.function:
            output = FUNCTIONS[self.function](output)
        return self.move(output)


def between(output: Any, given: Any) -> Between | None:
    """How `given` comes from a model's output; None where that cannot be told."""
    if not isinstance(given, Tensor):
        return None
    for place, tensor in _tensors(output):
        if tensor is given:
            return Between(place)
    with no_grad(), np.errstate(all="ignore"):
        for place, tensor in _tensors(output):
            for name in ("", *FUNCTIONS):
                try:
                    made = FUNCTIONS[name](tensor.detach()) if name else tensor.detach()
                except (FathomError, IndexError):
                    continue
                move = _move(made, given)
                if move is not None:
                    return Between(place, name, move)
    return None


def _tensors(output: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(output, Tensor):
        yield place, output
    elif isinstance(output, Mapping):
        for key in output:
            yield from _tensors(output[key], (*place, key))
    elif isinstance(output, tuple | list):
        for i, value in enumerate(output):
            yield from _tensors(value, (*place, i))


def _move(made: Tensor, given: Tensor) -> Callable[[Any], Any] | None:
    """A change of shape that makes one of the other."""
    for move in _moves(made.shape, given.shape):
        try:
            found = move(made)
        except (FathomError, IndexError):
            continue
        if found.shape == given.shape and np.allclose(
            found.value(), given.value(), rtol=1e-3, atol=1e-5, equal_nan=True
        ):
            return move
    return None


def _moves(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[Callable[[Any], Any]]:
    if old == new:
        yield lambda z: z
    inner = new[1:] if new else ()
    if len(new) == 1 and old and new[0] == old[0]:
        yield lambda z: z.reshape(len(z))
    yield lambda z: z.reshape(-1, *inner)
    if len(old) == 3:
        yield lambda z: z.permute(0, 2, 1)
        yield lambda z: z[:, -1]
        yield lambda z: z[-1]
        yield lambda z: z[:, :-1].reshape(-1, *inner)
        yield lambda z: z[:, :-1]
    if len(old) == 2 and len(new) == 1:
        yield lambda z: z[:, 0]


__all__ = ["FUNCTIONS", "Between", "between"]
