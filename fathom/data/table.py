"""Tables with typed columns, read from CSV files, and checked cell by cell."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.data._checks import FLOAT32_MAX, FilePath, counted, listing, nearest
from fathom.data.csvfile import Cells, read_cells
from fathom.data.dataset import Task, row_numbers
from fathom.data.splitting import Splits, split_rows
from fathom.engine.errors import ArgumentError, DataError, suggest

Kind = Literal["numeric", "categorical"]
MISSING = ("", "NA", "N/A", "nan", "NaN", "null", "?")
MOSTLY = 0.8  # with this share of numbers among the cells, a text is taken for an error
MAX_INTEGER_CLASSES = 20
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+$")


@dataclass(frozen=True)
class Place:
    """Where the cells of a column come from, for messages."""

    path: str
    column: str
    lines: NDArray[np.int64]

    def __call__(self, row: int) -> str:
        return f"{self.path}, line {self.lines[row]}, column {self.column!r}"


@dataclass(frozen=True, eq=False)
class Column:
    """One column: `raw` texts, the mask `missing`, and `numbers` (float64, NaN where missing).

    `numbers` is all NaN for a categorical column.
    """

    name: str
    kind: Kind
    raw: NDArray[np.object_]
    missing: NDArray[np.bool_]
    numbers: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> Column:
        """The column at these rows."""
        return replace(
            self, raw=self.raw[rows], missing=self.missing[rows], numbers=self.numbers[rows]
        )


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Typed feature columns and a target, row by row with their lines in the file.

    `y` is (n,): int64 numbers into `classes` for classification, float32 for regression, and
    None when the table has no target. `missing` are the spellings of "no value" it was read
    with, `note` says which rows or columns were left out, `warnings` what else to know.
    """

    name: str
    path: str
    columns: tuple[Column, ...]
    lines: NDArray[np.int64]
    target: Column | None = None
    task: Task | None = None
    y: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    note: str = ""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def __repr__(self) -> str:
        kinds = [column.kind for column in self.columns]
        goal = "no target"
        if self.target is not None:
            classes = f" ({len(self.classes)} classes)" if self.classes else ""
            goal = f"{self.task} of {self.target.name!r}{classes}"
        return (
            f"Table({self.name}: {counted(len(self), 'row')}, {kinds.count('numeric')} numeric "
            f"and {kinds.count('categorical')} categorical columns, {goal})"
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the feature columns, in the order of the file."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The feature column of that name; `DataError` with the nearest name if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(
            f"{self.path} has no column {name!r}; it has {listing(self.feature_names)}",
            fix=nearest(name, self.feature_names),
        )

    def subset(self, indices: ArrayLike) -> Table:
        """The rows with these numbers (or where a mask is true), in that order."""
        rows = row_numbers(indices, len(self))
        return replace(
            self,
            columns=tuple(column.take(rows) for column in self.columns),
            lines=self.lines[rows],
            target=None if self.target is None else self.target.take(rows),
            y=None if self.y is None else self.y[rows],
        )

    def split(self, validation: float = 0.1, test: float = 0.2, seed: int = 0) -> Splits[Table]:
        """Training, validation and test rows, as `Dataset.split` divides them."""
        labels = self.y if self.task == "classification" else None
        rows = split_rows(len(self), labels, validation, test, seed)
        return Splits(*(self.subset(part) for part in rows))


def read_csv(
    path: FilePath,
    target: str,
    *,
    task: Task | None = None,
    delimiter: str | None = None,
    missing: Collection[str] = MISSING,
    types: Mapping[str, Kind] | None = None,
    drop: Collection[str] = (),
) -> Table:
    """Read a CSV file (UTF-8, with a header) as a `Table`; cells are stripped of outer blanks.

    A column is numeric if every cell that is not missing is a finite number, otherwise
    categorical; but where at least 80 % of the cells are numbers, a text is taken for a mistake
    and reported with its line. `types={"zip": "categorical"}` decides for a column; `drop` leaves
    columns out. Rows without a target and columns without any value are dropped; `note` says so.

    Without `task`, the target is regressed if it is numeric, unless its values are whole
    numbers with at most 2 distinct ones, or at most 20 and no more than half as many as there
    are rows: those, and texts, are classes. Classes are sorted, numbers by value.

    Raises `MissingFileError`, `ArgumentError` (an option), or `DataError` with line and column.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "fruit.csv"
    >>> _ = path.write_text("weight,colour,kind\\n150,red,apple\\n120,yellow,lemon\\n,red,apple\\n")
    >>> table = read_csv(path, target="kind")
    >>> table
    Table(fruit: 3 rows, 1 numeric and 1 categorical columns, classification of 'kind' (2 classes))
    >>> table.column("weight").numbers.tolist(), table.y.tolist()
    ([150.0, 120.0, nan], [0, 1, 0])
    """
    if task is not None and task not in get_args(Task):
        raise ArgumentError(f"unknown task {task!r}", fix=suggest(str(task), get_args(Task)))
    cells = read_cells(path, delimiter)
    kinds, absent = dict(types or {}), frozenset(missing)
    _check_names(cells, target, kinds, drop)
    cells, note = with_target(cells, target, absent)
    goal = make_column(cells, target, absent, kinds.get(target))
    task = task or _task(goal)
    y, classes = _targets(goal, task, Place(str(cells.path), target, cells.lines))
    names = [name for name in cells.header if name != target and name not in drop]
    columns = [make_column(cells, name, absent, kinds.get(name)) for name in names]
    empty = [column.name for column in columns if column.missing.all()]
    if len(empty) == len(columns):
        raise DataError(f"{cells.path} has no column with values besides the target {target!r}")
    if empty:
        note.append(f"dropped without any value: column {listing(map(repr, empty))}")
    return Table(
        name=cells.path.stem,
        path=str(cells.path),
        columns=tuple(column for column in columns if column.name not in empty),
        lines=cells.lines,
        target=goal,
        task=task,
        y=y,
        classes=classes,
        missing=tuple(sorted(absent)),
        note="; ".join(note),
    )


def as_number(cell: str) -> float | None:
    """The number a cell spells, None if it spells none.

    >>> as_number("1e3"), as_number("1_000"), as_number("red")
    (1000.0, None, None)
    """
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if "_" in cell else value


def make_column(
    cells: Cells, name: str, missing: Collection[str], kind: Kind | None = None
) -> Column:
    """The typed column `name`; without `kind` the cells decide, as told in `read_csv`."""
    place = Place(str(cells.path), name, cells.lines)
    at = cells.header.index(name)
    raw = np.array([row[at] for row in cells.rows], dtype=np.object_)
    absent = np.array([cell in missing for cell in raw], dtype=np.bool_)
    return typed_column(place, raw, absent, kind)


def typed_column(
    place: Place, raw: NDArray[np.object_], missing: NDArray[np.bool_], kind: Kind | None
) -> Column:
    """A column of these texts, numeric if they all are numbers (or if `kind` says it must be)."""
    parsed = {cell: as_number(cell) for cell in set(raw[~missing])}
    values = [parsed[cell] for cell in raw[~missing]]
    if kind != "categorical":
        texts = np.flatnonzero(~missing)[[value is None for value in values]]
        kind = _decide(place, raw, texts, len(values) - len(texts), kind)
    numbers = np.full(len(raw), np.nan)
    if kind == "numeric":
        numbers[~missing] = values
        _check_size(place, raw, numbers, missing)
    return Column(place.column, kind, raw, missing, numbers)


def _decide(
    place: Place, raw: NDArray[np.object_], texts: NDArray[np.intp], numbers: int, kind: Kind | None
) -> Kind:
    if not len(texts):
        return "numeric"
    commas = sum("," in cell and bool(DECIMAL_COMMA.match(cell)) for cell in raw[texts])
    if commas + numbers < MOSTLY * (len(texts) + numbers) and kind is None:
        return "categorical"
    more = f" (and {counted(len(texts) - 1, 'more cell')} of this column)" if len(texts) > 1 else ""
    name, cell = place.column, raw[texts[0]]
    comma = DECIMAL_COMMA.match(cell)
    fix = "write a decimal point, not a comma" if comma else "correct the cell"
    if kind is None:
        fix += f'; or types={{"{name}": "categorical"}} if these are names'
        fix += "" if comma else f"; or add {cell!r} to missing=... if it means 'no value'"
    raise DataError(f"{place(int(texts[0]))}: {cell!r} is not a number{more}", fix=fix)


def _check_size(
    place: Place,
    raw: NDArray[np.object_],
    numbers: NDArray[np.float64],
    missing: NDArray[np.bool_],
) -> None:
    bad = np.flatnonzero(~missing & ~(np.abs(numbers) <= FLOAT32_MAX))
    if len(bad):
        raise DataError(
            f"{place(int(bad[0]))}: {raw[bad[0]]!r} is not a finite number that float32 can hold",
            fix=f"correct the cell, or add {raw[bad[0]]!r} to missing=... if it means 'no value'",
        )


def _check_names(
    cells: Cells, target: str, kinds: Mapping[str, str], drop: Collection[str]
) -> None:
    if target not in cells.header:
        hint = nearest(str(target), cells.header)
        if all(as_number(name) is not None for name in cells.header):
            hint = "the first line holds only numbers: the file seems to have no header line"
        raise DataError(
            f"{cells.path} has no column {target!r} for the target; it has {listing(cells.header)}",
            fix=hint or "target= must be one of these names",
        )
    if isinstance(drop, str):
        raise ArgumentError(f"drop must be a list of column names; received {drop!r}")
    for option, names in (("types", kinds), ("drop", drop)):
        for name in names:
            if name not in cells.header:
                raise ArgumentError(
                    f"{option}: {cells.path} has no column {name!r}; it has "
                    f"{listing(cells.header)}",
                    fix=nearest(str(name), cells.header),
                )
    if target in drop:
        raise ArgumentError(f"drop: {target!r} is the target; it cannot be dropped")
    for name, kind in kinds.items():
        if kind not in get_args(Kind):
            raise ArgumentError(
                f"types: unknown type {kind!r} for column {name!r}",
                fix=suggest(str(kind), get_args(Kind)),
            )


def with_target(cells: Cells, target: str, missing: Collection[str]) -> tuple[Cells, list[str]]:
    """The rows that have a target, and notes on those that have none."""
    at = cells.header.index(target)
    kept = [i for i, row in enumerate(cells.rows) if row[at] not in missing]
    if not kept:
        raise DataError(f"{cells.path}: every cell of the target column {target!r} is missing")
    if len(kept) == len(cells.rows):
        return cells, []
    lines = np.delete(cells.lines, kept)
    note = f"dropped without a target: {counted(len(lines), 'row')} (line {listing(lines, 5)})"
    return replace(cells, rows=[cells.rows[i] for i in kept], lines=cells.lines[kept]), [note]


def _task(target: Column) -> Task:
    if target.kind == "categorical":
        return "classification"
    values = np.unique(target.numbers)
    whole = bool((values == np.floor(values)).all())
    few = len(values) <= 2 or len(values) <= min(MAX_INTEGER_CLASSES, len(target.raw) / 2)
    return "classification" if whole and few else "regression"


def class_name(cell: str) -> str:
    """One spelling for a class: numbers without needless digits, texts as they are.

    >>> class_name("1.0"), class_name("0.50"), class_name("red")
    ('1', '0.5', 'red')
    """
    value = as_number(cell)
    if value is None or not np.isfinite(value):
        return cell
    return str(int(value)) if value == int(value) else repr(value)


def _targets(target: Column, task: Task, place: Place) -> tuple[NDArray[Any], tuple[str, ...]]:
    if task == "regression":
        if target.kind == "categorical":
            row = next(i for i, cell in enumerate(target.raw) if as_number(cell) is None)
            raise DataError(
                f"{place(row)}: {target.raw[row]!r} is not a number, so it cannot be regressed",
                fix='task="classification", or name another target',
            )
        if len(np.unique(target.numbers)) < 2:
            raise DataError(f"{place(0)}: every target is {target.raw[0]}; nothing can be learned")
        return target.numbers.astype(np.float32), ()
    labels: Sequence[str] = list(target.raw)
    key = None
    if target.kind == "numeric":
        spelled = {cell: class_name(cell) for cell in set(target.raw)}
        labels, key = [spelled[cell] for cell in target.raw], float
    classes = sorted(set(labels), key=key)
    if len(classes) < 2:
        raise DataError(
            f"{place.path}, column {place.column!r}: the target has one class only, {classes[0]!r}",
            fix="at least two classes are needed; is it the right column?",
        )
    number = {label: i for i, label in enumerate(classes)}
    return np.array([number[label] for label in labels], np.int64), tuple(classes)
