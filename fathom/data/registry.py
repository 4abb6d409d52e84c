"""All data sets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fathom.data import builtin, families, generators
from fathom.data.dataset import Dataset, Task
from fathom.engine.errors import ArgumentError, DataError, suggest

Source = Literal["built-in", "generated", "file"]


@dataclass(frozen=True)
class Info:
    """One line of the catalogue; `n`, `features` and `classes` are those without options.

    `classes` is 0 for regression. A "file" data set is read from a folder or downloaded.
    """

    name: str
    task: Task
    n: int
    features: int
    classes: int
    source: Source
    summary: str
    licence: str


@dataclass(frozen=True)
class _Entry:
    make: Callable[..., Dataset]
    info: Info


def load(name: str, /, **options: Any) -> Dataset:
    """The data set of that name; `options` are those of its function, such as `n` or `noise`.

    Raises `ArgumentError` for an unknown name or option (with the nearest known one), and
    `DataError` for the name of a CSV file: that needs a target, so it goes to `read_csv`.

    >>> load("iris")
    Dataset(iris: 150 rows, 4 features, 3 classes)
    >>> load("moons", n=50, noise=0.2, seed=1)
    Dataset(moons: 50 rows, 2 features, 2 classes)
    """
    key = str(name).lower().replace("-", "_")
    if key.endswith((".csv", ".tsv", ".txt")):
        raise DataError(
            f"{name!r} is a file, not the name of a data set",
            fix=f'read_csv({str(name)!r}, target="name of the column to predict")',
        )
    if key not in _ENTRIES:
        raise ArgumentError(f"unknown data set {name!r}", fix=suggest(key, _ENTRIES))
    make = _ENTRIES[key].make
    known = _options(make)
    for option in options:
        if option not in known:
            fix = suggest(option, known) if known else "it has no options"
            raise ArgumentError(f"data set {key!r} has no option {option!r}", fix=fix)
    return make(**options)


def names() -> list[str]:
    """The names `load` knows: built in, then generated, then from files.

    >>> names()[:4]
    ['digits', 'iris', 'diabetes', 'xor']
    """
    return list(_ENTRIES)


def catalogue() -> list[Info]:
    """What there is to load, without loading it.

    >>> [info.name for info in catalogue() if info.source == "built-in"]
    ['digits', 'iris', 'diabetes']
    """
    return [entry.info for entry in _ENTRIES.values()]


def _options(make: Callable[..., Dataset]) -> list[str]:
    fixed = make.keywords if isinstance(make, partial) else {}
    return [name for name in inspect.signature(make).parameters if name not in fixed]


def _entries() -> dict[str, _Entry]:
    entries: list[_Entry] = []

    def add(
        make: Callable[..., Dataset],
        name: str,
        size: tuple[int, int, int],
        summary: str,
        source: Source = "generated",
        licence: str = generators.LICENCE,
    ) -> None:
        task: Task = "classification" if size[2] else "regression"
        entries.append(_Entry(make, Info(name, task, *size, source, summary, licence)))

    cc = "CC BY 4.0"
    efron = "published with Efron et al. (2004), no licence statement"
    add(builtin.digits, "digits", (1797, 64, 10), "handwritten digits, 8 x 8", "built-in", cc)
    add(builtin.iris, "iris", (150, 4, 3), "flowers of three species", "built-in", cc)
    add(builtin.diabetes, "diabetes", (442, 10, 0), "disease progression", "built-in", efron)
    for kind in generators.GATES:
        make = partial(generators.gates, kind=kind)
        add(make, kind, (4, 2, 2), f"truth table of {kind.upper()}")
    add(generators.xor_cloud, "xor_cloud", (400, 2, 2), "XOR as four clouds")
    add(generators.moons, "moons", (400, 2, 2), "two interleaved half circles")
    add(generators.circles, "circles", (400, 2, 2), "a circle inside a circle")
    add(generators.spirals, "spirals", (400, 2, 2), "arms of a spiral")
    add(generators.blobs, "blobs", (400, 2, 3), "round clouds")
    add(generators.checkerboard, "checkerboard", (400, 2, 2), "a board of two colours")
    for kind in generators.CURVES:
        make = partial(generators.curve, kind=kind)
        add(make, kind, (200, 1, 0), f"the function {kind} with noise")
    for family, function in zip(
        families.FAMILIES, (families.mnist, families.fashion_mnist), strict=True
    ):
        summary = (
            "handwritten digits, 28 x 28" if function is families.mnist else "clothing, 28 x 28"
        )
        licence = family.licence.split(";")[0]
        add(function, family.name, (70000, 784, 10), summary, "file", licence)
    return {entry.info.name: entry for entry in entries}


_ENTRIES = _entries()
