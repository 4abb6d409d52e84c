"""What probes return: frozen results that print as tables and turn into JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, suggest


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """Base of all results: a dataclass, mostly with `rows` (dataclasses, too), one a layer.

    `str(result)` is an aligned table of the rows and a line with everything else;
    `result.to_dict()` plain values for JSON, where nan and the infinities are strings.
    `result["body.0"]` is the row of that layer.
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found: dict[str, Any] = plain(dataclasses.asdict(self))
        return found

    def __getitem__(self, name: str) -> Any:
        rows = {row.name: row for row in getattr(self, "rows", ()) if hasattr(row, "name")}
        if name not in rows:
            raise ArgumentError(f"the table has no row {name!r}", fix=suggest(str(name), rows))
        return rows[name]

    def __str__(self) -> str:
        rows = getattr(self, "rows", ())
        rest = [f for f in dataclasses.fields(self) if f.name != "rows"]
        facts = [f"{_title(f.name)}: {_cell(f.name, getattr(self, f.name))}" for f in rest]
        return "\n".join([*([aligned(rows)] if rows else []), *facts])

    __repr__ = __str__


def aligned(rows: tuple[Any, ...]) -> str:
    """Dataclasses of one kind as a table: text to the left, numbers to the right."""
    names = [f.name for f in dataclasses.fields(rows[0])]
    lines = [[_title(n) for n in names]]
    lines += [[_cell(n, getattr(row, n)) for n in names] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    left = [isinstance(getattr(rows[0], n), str | tuple) for n in names]
    text = [
        "  ".join(
            cell.ljust(width) if at_left else cell.rjust(width)
            for cell, width, at_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def _title(name: str) -> str:
    return "layer" if name == "name" else name.replace("_", " ")


def _cell(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        shown = " ".join(_cell(name, v) for v in value[:6])
        return (shown + (f" ... ({len(value)})" if len(value) > 6 else "")) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        share = name.endswith("share") and math.isfinite(value)
        return f"{value:.1%}" if share else f"{value:.4g}"
    if name == "name":
        return str(value) or "(model)"
    return "-" if value is None or value == "" else str(value)


def plain(value: Any) -> Any:
    """Values that `json.dumps(..., allow_nan=False)` takes."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
