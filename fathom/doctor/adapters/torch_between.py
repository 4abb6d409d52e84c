"""What a loop does between the model's output and the loss, told from the two values.

`loss_fn(torch.softmax(model(x), 1).squeeze(), y)`: a trial has to do the same. Known operations are
tried on the model's output until what comes out is what the loss was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda z: z.softmax(-1), "softmax over axis 1": lambda z: z.softmax(1),
    "softmax over axis 0": lambda z: z.softmax(0), "log_softmax": lambda z: z.log_softmax(-1),
    "log_softmax over axis 1": lambda z: z.log_softmax(1),
    "log_softmax over axis 0": lambda z: z.log_softmax(0), "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "relu": F.relu, "exp": torch.exp, "log": torch.log,
    "log of softmax": lambda z: z.softmax(-1).log(), "float": lambda z: z.float(),
    "softplus": F.softplus,
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
    for place, tensor in _tensors(output):
        if tensor is given:
            return Between(place)
    for place, tensor in _tensors(output):
        for name in ("", *FUNCTIONS):
            try:
                made = FUNCTIONS[name](tensor.detach()) if name else tensor.detach()
            except (RuntimeError, IndexError):
                continue
            move = _move(made, given)
            if move is not None:
                return Between(place, name, move)
    return None


def _tensors(output: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(output, torch.Tensor):
        yield place, output
    elif isinstance(output, Mapping):
        for key in output:
            yield from _tensors(output[key], (*place, key))
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for i, value in enumerate(output):
            yield from _tensors(value, (*place, i))


def _move(made: Any, given: Any) -> Callable[[Any], Any] | None:
    """A change of shape that makes one of the other."""
    for name, move in _moves(tuple(made.shape), tuple(given.shape)):
        del name
        try:
            found = move(made)
        except (RuntimeError, IndexError):
            continue
        if found.shape == given.shape and torch.allclose(
            found.float(), given.float(), rtol=1e-3, atol=1e-5, equal_nan=True
        ):
            return move
    return None


def _moves(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if old == new:
        yield "same", lambda z: z
    inner = new[1:] if new else ()
    if len(new) == 1 and new and old and new[0] == old[0]:
        yield "column", lambda z: z.reshape(len(z))
    yield "reshape", lambda z: z.reshape(-1, *inner)
    if len(old) == 3:
        yield "transposed", lambda z: z.transpose(1, 2)
        yield "last", lambda z: z[:, -1]
        yield "last first", lambda z: z[-1]
        yield "shifted", lambda z: z[:, :-1].reshape(-1, *inner)
        yield "shifted, kept", lambda z: z[:, :-1]
    if len(old) == 2 and len(new) == 1:
        yield "first", lambda z: z[:, 0]


__all__ = ["FUNCTIONS", "Between", "between"]
