"""What the user sees: tables and notes, progress apart from results, errors with a cure."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fathom.engine.errors import FathomError

if TYPE_CHECKING:
    from rich.console import Console

# Cures that name arguments of the Python functions, in the words of the command line.
SPELLINGS = (
    (r'types=\{"([^"]+)": "(\w+)"\}', r'--type "\1=\2"'),
    (r"or add ('.*?') to missing=\.\.\.", r"or --missing \1"),
    (r"add ('.*?') to missing=\.\.\.", r"give --missing \1"),
    (r'task="(\w+)"', r"--task \1"),
    (r'read_csv\(\.\.\., drop=\["([^"]+)"\]\), or raise max_categories', r'--drop "\1"'),
    (
        r'read_csv\(.*, target="name of the column to predict"\)',
        "give the path of an existing file",
    ),
    (r"target= must be", "--target must be"),
    (r"validation=([0-9.]+),? (or|and) test=([0-9.]+)", r"--validation \1 \2 --test \3"),
    (r"validation=([0-9.]+), test=([0-9.]+)", r"--validation \1 --test \2"),
    (r"a smaller learning rate", "a smaller --lr"),
)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like `name`, or "".

    >>> nearest("trian", ["train", "demo"])
    'train'
    """
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return found[0] if found else ""


def told(error: FathomError) -> tuple[str, str]:
    """Message and cure of an error, the cure in the words of the command line.

    >>> from fathom.engine.errors import DataError
    >>> told(DataError("no number", fix='types={"zip": "categorical"} if these are names'))
    ('no number', '--type "zip=categorical" if these are names')
    """
    fix, error.fix = error.fix, ""
    message = str(error)
    error.fix = fix
    for pattern, words in SPELLINGS:
        fix = re.sub(pattern, words, fix)
    return message, fix


def say_error(message: str, fix: str, as_json: bool, kind: str) -> None:
    """The error and its cure on stderr; with --json also as JSON on stdout."""
    from rich.text import Text

    err = console(sys.stderr)
    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if fix:
        err.print(Text.assemble(("  try: ", "bold"), fix), soft_wrap=True)
    if as_json:
        print_json({"error": {"type": kind, "message": message, "fix": fix}})


def console(file: Any = None) -> Console:
    """A console on standard output (or `file`) that prints texts as they are."""
    from rich.console import Console

    out = file or sys.stdout
    piped = not out.isatty() and "COLUMNS" not in os.environ
    width = 120 if piped else None
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """JSON on stdout; numbers that are not finite become null."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False), flush=True)


def plain(value: Any) -> Any:
    """The value in types that JSON has.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    left: int = 1,
    caption: str | None = None,
) -> Any:
    """A rich table whose first `left` columns are texts and the others numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD, show_edge=False, show_header=any(header), pad_edge=False,
        caption=caption, caption_justify="left", caption_style="dim",
    )  # fmt: skip
    for i, name in enumerate(header):
        made.add_column(Text(name), justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def show(*things: Any, file: Any = None) -> None:
    """Print texts and tables to standard output (or `file`)."""
    out = console(file)
    for thing in things:
        if not isinstance(thing, str):
            out.print()
        out.print(thing, soft_wrap=isinstance(thing, str))


def note(message: str) -> None:
    """A remark on stderr, where it does not disturb results."""
    from rich.text import Text

    console(sys.stderr).print(Text.assemble(("note: ", "yellow"), message), soft_wrap=True)


def number(value: Any) -> str:
    """A number in few digits.

    >>> number(0.97512), number(12345.6), number(7), number(None)
    ('0.9751', '12,346', '7', '-')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


SPARKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Values as a line of small bars, the lowest and the highest at the ends of the scale.

    >>> sparkline([1.0, 0.5, 0.25, 0.0])
    '█▄▂▁'
    """
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return ""
    step = max(1, math.ceil(len(finite) / width))
    shown = [finite[min(i + step, len(finite)) - 1] for i in range(0, len(finite), step)]
    low, high = min(shown), max(shown)
    top = len(SPARKS) - 1
    return "".join(SPARKS[int((v - low) / (high - low) * top) if high > low else 0] for v in shown)


def draw_image(pixels: Any, shape: tuple[int, int]) -> Any:
    """An image as terminal text, two rows of pixels in a line of half blocks."""
    import numpy as np
    from rich.text import Text

    image = np.asarray(pixels, float).reshape(shape)
    image = (image - image.min()) / max(float(np.ptp(image)), 1e-9)
    if len(image) % 2:
        image = np.vstack([image, np.zeros((1, shape[1]))])
    if not sys.stdout.isatty():
        ramp = " .:-=+*#%@"
        return "\n".join("".join(ramp[round(v * 9)] * 2 for v in row) for row in image)
    text = Text()
    for top, bottom in zip(image[::2], image[1::2], strict=True):
        for a, b in zip(top, bottom, strict=True):
            up, low = (f"rgb({g},{g},{g})" for g in (int(40 + 215 * a), int(40 + 215 * b)))
            text.append("▀", f"{up} on {low}")
        text.append("\n")
    return text
