"""Checks that more than one module of `fathom.data` makes of what it is given."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fathom.engine.errors import ArgumentError, DataError, MissingFileError

FilePath = str | os.PathLike[str]
FLOAT32_MAX = float(np.finfo(np.float32).max)


def nearest(name: str, known: Iterable[str]) -> str:
    """A question naming the known spelling nearest to `name`, in any case; "" if none is near.

    >>> nearest("speceis", ["Sepal", "Species"])
    "did you mean 'Species'?"
    """
    lower = {spelling.lower(): spelling for spelling in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f"did you mean {lower[found[0]]!r}?" if found else ""


def listing(names: Iterable[object], limit: int = 12) -> str:
    """The names with commas between them, the rest of a long list only counted.

    >>> listing("abcd", limit=2)
    'a, b and 2 more'
    """
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def counted(n: int, thing: str) -> str:
    """The count and its noun.

    >>> counted(1, "row"), counted(1797, "row")
    ('1 row', '1,797 rows')
    """
    return f"{n:,} {thing}" + ("" if n == 1 else "s")


def existing_file(path: FilePath) -> Path:
    """The path of a file that is there.

    Raises `MissingFileError` (naming the nearest file there is) or, for a folder, `DataError`.
    """
    file = Path(path)
    if file.is_dir():
        files = sorted(child.name for child in file.iterdir() if child.is_file())
        holds = f"it holds {listing(files)}" if files else "it holds no files"
        raise DataError(f"{file} is a folder, not a file", fix=f"name a file in it; {holds}")
    if not file.exists():
        raise MissingFileError(f"there is no file {file}", fix=_where_to_look(file))
    return file


def _where_to_look(file: Path) -> str:
    if not file.parent.is_dir():
        return f"the folder {file.parent} does not exist either; you are in {Path.cwd()}"
    names = (child.name for child in file.parent.iterdir() if child.is_file())
    return nearest(file.name, names) or f"check the path; you are in {Path.cwd()}"


def whole(value: object, name: str, least: int = 1) -> int:
    """`value` as an int that is at least `least`; otherwise an `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{name} must be a whole number >= {least}; received {value!r}")
    return int(value)


def number(value: object, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a finite float between `least` and `most`; otherwise an `ArgumentError`."""
    known = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not known:
        raise ArgumentError(f"{name} must be a number; received {value!r}")
    result = float(value)  # type: ignore[arg-type]
    if not (math.isfinite(result) and least <= result <= most):
        low = f" >= {least:g}" if math.isfinite(least) else ""
        high = f" and <= {most:g}" if math.isfinite(most) else ""
        raise ArgumentError(f"{name} must be a finite number{low}{high}; received {value!r}")
    return result
