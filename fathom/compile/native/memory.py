"""Memory of a native plan: the arena, where it is used again, and results given away."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.plan import Value
from fathom.engine.tensor import Tensor

ALIGN = 64


def aligned(nbytes: int) -> Any:
    """Bytes of memory whose first lies at a multiple of `ALIGN`."""
    whole = np.empty(nbytes + ALIGN, np.uint8)
    shift = -int(whole.__array_interface__["data"][0]) % ALIGN
    return whole[shift : shift + nbytes]


class Memory:
    """Offsets in the arena, each free again when its last user is done."""

    def __init__(self) -> None:
        self.size = 0
        self._free: list[tuple[int, int]] = []  # (offset, bytes), by offset

    def take(self, nbytes: int) -> int:
        wanted = -(-max(nbytes, 1) // ALIGN) * ALIGN
        for i, (at, room) in enumerate(self._free):
            if room >= wanted:
                if room == wanted:
                    del self._free[i]
                else:
                    self._free[i] = (at + wanted, room - wanted)
                return at
        if self._free and sum(self._free[-1]) == self.size:  # grow the last hole
            at, _ = self._free.pop()
        else:
            at = self.size
        self.size = at + wanted
        return at

    def give(self, at: int, nbytes: int) -> None:
        """Take memory back, joined with free neighbours."""
        wanted = -(-max(nbytes, 1) // ALIGN) * ALIGN
        self._free.append((at, wanted))
        self._free.sort()
        joined: list[tuple[int, int]] = []
        for start, room in self._free:
            if joined and sum(joined[-1]) == start:
                joined[-1] = (joined[-1][0], joined[-1][1] + room)
            else:
                joined.append((start, room))
        self._free = joined


class Kept:
    """Memory of one large result, given to the user and taken back when it is free again."""

    __slots__ = ("array", "bind", "dtype", "shape", "slot", "tensor")

    def __init__(self, value: Value, slot: int, bind: Callable[[int, Any], None]) -> None:
        self.shape, self.dtype, self.slot, self.bind = value.shape, value.dtype, slot, bind
        self.tensor: Tensor | None = None
        self.renew()

    def renew(self) -> None:
        self.array = np.empty(self.shape, self.dtype)
        self.tensor = None
        self.bind(self.slot, self.array)

    def ready(self) -> None:
        """New memory, unless nobody but us (and our own tensor, and who owns it) holds the old."""
        tensor = self.tensor
        if tensor is None:
            if sys.getrefcount(self.array) > 2:
                self.renew()
        elif sys.getrefcount(tensor) > 4 or sys.getrefcount(self.array) > 3:
            self.renew()

    def given(self) -> Tensor:
        """The result as a tensor: the same one as last time, if its memory was free."""
        if self.tensor is None:
            self.tensor = Tensor(self.array)
        return self.tensor
