"""Wide code: loops written for one network, with a vector in the place of every number.

A block of networks lies in memory with the network as the last axis: number i of an array becomes
a vector, one number for each network. Then a loop nest for one network is one for a block if each
of its instructions takes vectors; addresses count vectors, and loops stay as they are.

>>> widen("fadd contract float %a, 0x3FF0000000000000", 8)
'fadd contract <8 x float> %a, splat (float 0x3FF0000000000000)'
>>> widen("call double @fathom.exp.f64(double %x)", 4)
'call <4 x double> @fathom.exp.v4f64(<4 x double> %x)'
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fathom.compile.native.text import Index, Loop, Writer, vector

_FREE = "reassoc "  # sums are made in order: the result does not go by the number of lanes
_ADDRESS = re.compile(r"\bnsw\b|^getelementptr")  # numbers are never computed so
_TOKEN = re.compile(
    r"(?P<kept>%[\w.]+|align \d+|\[\d+ x)"
    r"|(?P<function>@[\w.]+)\.(?P<format>[fi]\d+)"
    r"|(?P<type>\b(?:float|double|i\d+)\b)"
    r"|(?P<literal>0x[0-9A-F]+|(?<![\w.])-?\d+(?:\.\d+)?)"
)


def widen(text: str, lanes: int) -> str:
    """An instruction on numbers as one on vectors; functions are called by their wide names."""
    kind = ""

    def wide(found: re.Match[str]) -> str:
        nonlocal kind
        if found["function"]:
            return f"{found['function']}.v{lanes}{found['format']}"
        if found["type"]:
            kind = found["type"]
            return vector(kind, lanes)
        return splat(kind, found["literal"]) if found["literal"] else found[0]

    return _TOKEN.sub(wide, text.replace(_FREE, ""))


def splat(kind: str, literal: str) -> str:
    """A constant in every lane."""
    return f"splat ({kind} {literal})"


class Wide(Writer):
    """A writer that makes vectors of numbers; even those of the call are vectors."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self.lanes = lanes

    def op(self, text: str) -> str:
        return super().op(text if _ADDRESS.search(text) else widen(text, self.lanes))

    def line(self, text: str) -> None:
        super().line(widen(text, self.lanes) if text.startswith("store") else text)

    def at(self, pointer: str, offset: Index, dtype: str) -> str:
        return super().at(pointer, offset, vector(dtype, self.lanes))

    @contextmanager
    def loop(self, stop: Index, start: Index = 0, step: int = 1) -> Iterator[Loop]:
        with super().loop(stop, start, step) as turn:
            yield turn
            turn.carried = [
                (vector(kind, self.lanes), name, splat(kind, first))
                for kind, name, first in turn.carried
            ]
