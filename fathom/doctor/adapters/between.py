"""What a loop does between the model's output and the loss, told from the two values.

`loss_fn(model(x).softmax(1).squeeze(), y)`: a trial has to do the same. Known operations are
tried on the model's output until what comes out is what the loss was given. `fathom_between` and
`torch_between` say which operations their engine has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Between:
    """place : which of several outputs (keys one inside the other). function : what is applied to
    its values, "" for nothing; move : from its shape to the loss's.

    An engine's side sets tensor, its class; functions, by name; failures, what they may raise; and
    `alike`.
    """

    tensor: ClassVar[type]
    functions: ClassVar[Mapping[str, Callable[[Any], Any]]]
    failures: ClassVar[tuple[type[Exception], ...]]

    place: tuple[Any, ...] = ()
    function: str = ""
    move: Callable[[Any], Any] = lambda z: z

    def __call__(self, output: Any, functions: bool = True) -> Any:
        """What the loss is given; without functions, only moved."""
        for key in self.place:
            output = output[key]
        if functions and self.function:
            output = self.functions[self.function](output)
        return self.move(output)

    @staticmethod
    def alike(made: Any, given: Any) -> bool:
        """Whether two tensors of one shape are the same but for rounding."""
        raise NotImplementedError

    @classmethod
    def told(cls, output: Any, given: Any) -> Self | None:
        """How `given` comes from a model's output; None where that cannot be told."""
        tensors = list(_tensors(output, cls.tensor))
        for place, tensor in tensors:
            if tensor is given:
                return cls(place)
        for place, tensor in tensors:
            for name in ("", *cls.functions):
                try:
                    made = cls.functions[name](tensor.detach()) if name else tensor.detach()
                except cls.failures:
                    continue
                move = cls._move(made, given)
                if move is not None:
                    return cls(place, name, move)
        return None

    @classmethod
    def _move(cls, made: Any, given: Any) -> Callable[[Any], Any] | None:
        """A change of shape that makes one of the other."""
        for move in _moves(tuple(made.shape), tuple(given.shape)):
            try:
                found = move(made)
            except cls.failures:
                continue
            if found.shape == given.shape and cls.alike(found, given):
                return move
        return None


def _tensors(
    output: Any, tensor: type, place: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The tensors in a model's output, and where they stand in it."""
    if isinstance(output, tensor):
        yield place, output
    elif isinstance(output, Mapping):
        for key in output:
            yield from _tensors(output[key], tensor, (*place, key))
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for i, value in enumerate(output):
            yield from _tensors(value, tensor, (*place, i))


def _moves(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[Callable[[Any], Any]]:
    """Changes of shape that loops make, for these shapes before and after."""
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


__all__ = ["Between"]
