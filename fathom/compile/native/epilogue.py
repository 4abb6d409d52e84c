"""What is done to a matrix product before it is stored: bias, activation, a gate, whatever is next.

>>> layer = bias("%bias").then(relu())  # two steps, one pass over memory
>>> layer.pointers
('%bias',)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fathom.compile.native.text import Index, Writer, vector


@dataclass(frozen=True)
class Spot:
    """Where an epilogue's vector belongs; numbers are worked out when they are asked for.

    Pointers are those the epilogue asked for.
    """

    w: Writer
    dtype: str
    lanes: int
    used: int
    corner: tuple[Index, Index]  # row and column of the tile's first element
    base: Index  # its offset in C
    down: int  # from there on
    right: int
    stride: int  # a row of C
    batch: Index  # number of the product

    @property
    def type(self) -> str:
        return vector(self.dtype, self.lanes)

    @property
    def zero(self) -> str:
        return "zeroinitializer" if self.lanes > 1 else "0.0"

    @property
    def row(self) -> Index:
        return self.w.plus(self.corner[0], self.down)

    @property
    def column(self) -> Index:
        """Of the first lane."""
        return self.w.plus(self.corner[1], self.right)

    def place(self, pointer: str) -> str:
        """The address in an array laid out like C."""
        tile = self.w.at(pointer, self.base, self.dtype)
        return self.w.at(tile, self.down * self.stride + self.right, self.dtype)

    def load(self, pointer: str) -> str:
        """The vector of an array laid out like C."""
        return self.w.load(self.place(pointer), self.dtype, self.lanes, self.used)

    def along(self, pointer: str) -> str:
        """The vector of an array with one number a column (a bias)."""
        start = self.w.at(pointer, self.corner[1], self.dtype)
        place = self.w.at(start, self.right, self.dtype)
        return self.w.load(place, self.dtype, self.lanes, self.used)

    def scalar(self, pointer: str, offset: Index) -> str:
        """One number in every lane: element `offset` (such as `spot.row`) of an array."""
        value = self.w.load(self.w.at(pointer, offset, self.dtype), self.dtype, 1)
        return self.w.broadcast(value, self.dtype, self.lanes)

    def store(self, value: str, pointer: str) -> None:
        """Keep a value in an array laid out like C (what comes before an activation, say)."""
        self.w.store(value, self.place(pointer), self.dtype, self.lanes, self.used)


@dataclass(frozen=True)
class Epilogue:
    """What is done to each vector of the product before it is stored.

    `emit(spot, value)` writes IR with `spot.w` and returns the new value. `pointers` are names of
    further parameters of the function. With `long`, it is written once a tile, as a loop over
    the tile in memory: right for more than a dozen operations, which would be repeated up to 28
    times otherwise.
    """

    emit: Callable[[Spot, str], str]
    pointers: tuple[str, ...] = ()
    long: bool = False

    def then(self, other: Epilogue) -> Epilogue:
        """This one, followed by another."""
        pointers = tuple(dict.fromkeys(self.pointers + other.pointers))
        return Epilogue(
            lambda spot, value: other.emit(spot, self.emit(spot, value)),
            pointers,
            self.long or other.long,
        )


def bias(pointer: str = "%bias") -> Epilogue:
    """Add a vector along n."""

    def emit(spot: Spot, value: str) -> str:
        return spot.w.op(f"fadd {spot.type} {value}, {spot.along(pointer)}")

    return Epilogue(emit, (pointer,))


def relu() -> Epilogue:
    """max(x, 0); NaN stays NaN."""

    def emit(spot: Spot, value: str) -> str:
        below = spot.w.op(f"fcmp olt {spot.type} {value}, {spot.zero}")
        flag = f"<{spot.lanes} x i1>" if spot.lanes > 1 else "i1"
        return spot.w.op(f"select {flag} {below}, {spot.type} {spot.zero}, {spot.type} {value}")

    return Epilogue(emit)
