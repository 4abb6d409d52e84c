"""`Preprocessor`: what training learned about the columns, and applies to every later row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.data._checks import FilePath, counted, listing, nearest, whole
from fathom.data.csvfile import Cells, read_cells
from fathom.data.dataset import Dataset, Task, as_array, check_finite, feature_array
from fathom.data.rules import (
    BLOCK,
    Categorical,
    Mode,
    Numeric,
    Target,
    plain,
    statistics,
    stored_rule,
    stored_target,
    target_of,
)
from fathom.data.stored import Stored
from fathom.data.table import (
    MISSING,
    Column,
    Kind,
    Place,
    Table,
    class_name,
    make_column,
    typed_column,
    with_target,
)
from fathom.engine.errors import ArgumentError, DataError, suggest

FORMAT, VERSION = "fathom.preprocessor", 1


@dataclass
class Preprocessor:
    """Turns rows into float32 inputs by rules learned from the training rows alone.

    Made by `fit` (a table), `for_dataset` or `for_arrays`. Numeric columns: missing values get
    the training median, and a 0/1 input "missing" if a training row lacked the value; then
    training mean 0 and standard deviation 1 (a constant column is only centred). Categorical
    columns: one input for each category, sorted, and one for "missing" if training had it. A
    category never seen is all zeros and is told in `warnings`, the list of the latest
    `transform`.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "pets.csv"
    >>> _ = path.write_text("age,kind,happy\\n1,cat,yes\\n3,dog,no\\n,cat,yes\\n")
    >>> from fathom.data import read_csv
    >>> prepare = Preprocessor.fit(read_csv(path, target="happy"))
    >>> prepare.feature_names_out
    ('age', 'age missing', 'kind=cat', 'kind=dog')
    >>> prepare.transform(read_csv(path, target="happy")).round(2).tolist()
    [[-1.22..., 0.0, 1.0, 0.0], [1.22..., 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]
    """

    columns: tuple[Numeric | Categorical, ...]
    target: Target | None = None
    missing: tuple[str, ...] = MISSING
    warnings: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def fit(
        cls, table: Table, *, standardize_target: bool = True, max_categories: int = 1000
    ) -> Preprocessor:
        """Learn from the rows of `table`, which should be the training rows only.

        Raises `DataError` for no rows or a column with more than `max_categories` categories.
        """
        if len(table) == 0:
            raise DataError(f"{table.name}: there are no rows to learn from")
        most = whole(max_categories, "max_categories")
        rules = tuple(
            Numeric.fit(column) if column.kind == "numeric" else Categorical.fit(column, most)
            for column in table.columns
        )
        target = None
        if table.target is not None and table.task is not None:
            values = table.target.numbers
            target = target_of(
                table.target.name, table.task, table.classes, values, standardize_target
            )
        return cls(rules, target, table.missing)

    @classmethod
    def for_arrays(
        cls,
        x: ArrayLike,
        feature_names: Sequence[str] = (),
        mode: Mode = "standardize",
        *,
        y: ArrayLike | None = None,
        classes: Sequence[str] = (),
        target_name: str = "target",
        standardize_target: bool = True,
    ) -> Preprocessor:
        """Learn from the training inputs `x` (n, features) and, if given, the targets `y` (n,).

        "standardize" gives every feature mean 0 and standard deviation 1; "scale" divides all by
        the one largest magnitude (pixels stay comparable); "none" only checks. With `classes`
        the task is classification.

        >>> Preprocessor.for_arrays([[0.0], [16.0]], mode="scale").transform_array([[8.0]]).item()
        0.5
        """
        if mode not in get_args(Mode):
            raise ArgumentError(f"unknown mode {mode!r}", fix=suggest(str(mode), get_args(Mode)))
        array = feature_array(x, "x")
        names = tuple(feature_names) or tuple(f"x{i}" for i in range(array.shape[1]))
        if len(names) != array.shape[1]:
            raise DataError(f"x has {array.shape[1]} features, but there are {len(names)} names")
        if len(array) == 0:
            raise DataError("x has no rows to learn from")
        mean, scale = statistics(array, mode)
        rules = [
            Numeric(name, float(m), float(m), float(s), False)
            for name, m, s in zip(names, mean, scale, strict=True)
        ]
        target = None
        if y is not None:
            values = check_finite(as_array(y, "y"), "y").astype(np.float64)
            task: Task = "classification" if classes else "regression"
            target = target_of(target_name, task, tuple(classes), values, standardize_target)
        return cls(tuple(rules), target)

    @classmethod
    def for_dataset(
        cls, dataset: Dataset, mode: Mode = "standardize", *, standardize_target: bool = True
    ) -> Preprocessor:
        """Learn from a training data set, as `for_arrays` does from its arrays."""
        return cls.for_arrays(
            dataset.x,
            dataset.feature_names,
            mode,
            y=dataset.y,
            classes=dataset.classes,
            target_name=dataset.target_name,
            standardize_target=standardize_target,
        )

    @property
    def feature_names_in(self) -> tuple[str, ...]:
        """Names of the columns it takes."""
        return tuple(rule.name for rule in self.columns)

    @property
    def feature_names_out(self) -> tuple[str, ...]:
        """Names of the inputs it gives, one for each column of `transform`."""
        return tuple(name for rule in self.columns for name in rule.outputs)

    def transform(self, table: Table) -> NDArray[np.float32]:
        """Inputs (n, k) for the rows of a table, its columns found by name.

        Raises `DataError` for a missing column or a text where a number belongs (line and column).
        """
        found = [_as(table, rule.name, rule.kind) for rule in self.columns]
        self.warnings = list(table.warnings)
        out = np.zeros((len(table), len(self.feature_names_out)), np.float32)
        at = 0
        for rule, column in zip(self.columns, found, strict=True):
            width = len(rule.outputs)
            rule.apply(column, out[:, at : at + width], self.warnings)
            at += width
        check_finite(out, f"{table.name} after preprocessing", self.feature_names_out)
        return out

    def transform_array(self, x: ArrayLike) -> NDArray[np.float32]:
        """Inputs (n, k) for rows of numbers (n, features) in the order of `feature_names_in`.

        Raises `DataError` for another number of features, and for NaN or infinity (row, feature).
        """
        rules = [rule for rule in self.columns if isinstance(rule, Numeric)]
        if len(rules) != len(self.columns):
            names = [rule.name for rule in self.columns if rule.kind == "categorical"]
            raise DataError(
                f"column {listing(map(repr, names))} holds categories, which an array cannot",
                fix="read the rows with Preprocessor.read(path) and use transform",
            )
        array = as_array(x, "x")
        if array.ndim != 2 or array.shape[1] != len(rules):
            got = f"{array.shape[1]}" if array.ndim == 2 else f"an array of shape {array.shape}"
            single = array.shape == (len(rules),)
            raise DataError(
                f"expected {counted(len(rules), 'feature')}, got {got}",
                fix="give rows: x[None] for a single one" if single else "",
            )
        check_finite(array, "x", self.feature_names_in)
        self.warnings = []
        out = np.zeros((len(array), len(self.feature_names_out)), np.float32)
        kept = np.cumsum([0, *(len(rule.outputs) for rule in rules)])[:-1]  # the rest: not missing
        mean, scale = np.array([(rule.mean, rule.scale) for rule in rules]).reshape(-1, 2).T
        with np.errstate(over="ignore"):
            for start in range(0, len(array), BLOCK):
                rows = slice(start, start + BLOCK)
                out[rows, kept] = (array[rows].astype(np.float64) - mean) / scale
        check_finite(out, "x after preprocessing", self.feature_names_out)
        return out

    def transform_target(self, table: Table) -> NDArray[Any]:
        """Targets (n,) to train on: int64 class numbers, or float32 in standard units."""
        target = self._need_target()
        if table.target is None or table.y is None:
            raise DataError(
                f"{table.path} was read without the target {target.name!r}",
                fix="Preprocessor.read(path, need_target=True)",
            )
        if target.task == "regression":
            column = _as(replace(table, columns=(table.target,)), target.name, "numeric")
            return np.asarray((column.numbers - target.mean) / target.scale, np.float32)
        number = {label: i for i, label in enumerate(target.classes)}
        strange = [label for label in table.classes if label not in number]
        if strange:
            raise DataError(
                f"{table.path}: class {listing(map(repr, strange))} was not seen in training; "
                f"known: {listing(target.classes)}"
            )
        order = np.array([number[label] for label in table.classes], np.int64)
        return np.asarray(order[table.y], np.int64)

    def inverse_target(self, values: ArrayLike) -> NDArray[Any]:
        """Predictions in the terms of the data: original units, or names of the class numbers.

        >>> fitted = Preprocessor.for_arrays([[0.0], [1.0]], y=[10.0, 30.0])
        >>> fitted.inverse_target([-1.0, 0.0, 1.0]).tolist()
        [10.0, 20.0, 30.0]
        """
        target, array = self._need_target(), as_array(values, "values")
        if target.task == "regression":
            if array.dtype.kind not in "iuf":
                raise ArgumentError(f"inverse_target takes numbers; received {array.dtype}")
            return np.asarray(array * target.scale + target.mean, np.float32)
        known = array.dtype.kind in "iu" and ((array >= 0) & (array < len(target.classes))).all()
        if not known:
            raise ArgumentError(
                f"inverse_target takes class numbers 0 ... {len(target.classes) - 1}; "
                f"received {array.dtype} {listing(array.ravel(), 5)}",
                fix="scores.argmax(axis=1) gives the numbers",
            )
        return np.asarray(np.array(target.classes, dtype=np.object_)[array])

    def dataset(self, table: Table) -> Dataset:
        """The transformed table with its targets (in standard units, if so fitted)."""
        target = self._need_target()
        return Dataset(
            table.name,
            self.transform(table),
            self.transform_target(table),
            target.task,
            self.feature_names_out,
            target.classes,
            target.name,
            description=f"Read from {table.path}.",
            note=table.note,
        )

    def read(
        self, path: FilePath, *, need_target: bool = False, delimiter: str | None = None
    ) -> Table:
        """Read rows to predict from a CSV file; columns may stand in any order.

        Columns that were not trained on are ignored and told in `warnings`. The target column may
        be there or not and is not looked at, unless `need_target` is set (to evaluate): then it
        must be there, rows without it are dropped, and unknown classes are an error.

        Raises `DataError` that lists missing columns, or names line and column of a bad cell.
        """
        cells = read_cells(path, delimiter)
        goal = self._need_target().name if need_target else None
        wanted = [*self.feature_names_in, *([goal] if goal else [])]
        _require(cells, wanted)
        notes: list[str] = []
        if goal:
            cells, notes = with_target(cells, goal, self.missing)
        columns = tuple(
            make_column(cells, rule.name, self.missing, rule.kind) for rule in self.columns
        )
        known = {*wanted, *([self.target.name] if self.target else [])}
        extra = [name for name in cells.header if name not in known]
        ignored = f"not trained on, ignored: column {listing(map(repr, extra))}"
        warnings = (ignored,) if extra else ()
        self.warnings = list(warnings)
        table = Table(
            cells.path.stem,
            str(cells.path),
            columns,
            cells.lines,
            missing=self.missing,
            note="; ".join(notes),
            warnings=warnings,
        )
        return self._with_target(table, cells) if goal else table

    def _with_target(self, table: Table, cells: Cells) -> Table:
        target = self._need_target()
        place = Place(table.path, target.name, table.lines)
        if target.task == "regression":
            column = make_column(cells, target.name, self.missing, "numeric")
            y: NDArray[Any] = column.numbers.astype(np.float32)
            return replace(table, target=column, task=target.task, y=y)
        column = make_column(cells, target.name, self.missing, "categorical")
        number = {label: i for i, label in enumerate(target.classes)}
        y = np.array([number.get(c, number.get(class_name(c), -1)) for c in column.raw], np.int64)
        strange = np.flatnonzero(y < 0)
        if len(strange):
            row = int(strange[0])
            raise DataError(
                f"{place(row)}: class {column.raw[row]!r} was not seen in training; "
                f"known: {listing(target.classes)}",
                fix=nearest(column.raw[row], target.classes),
            )
        return replace(table, target=column, task=target.task, y=y, classes=target.classes)

    def _need_target(self) -> Target:
        if self.target is None:
            raise DataError("this preprocessor was fitted without a target")
        return self.target

    def to_dict(self) -> dict[str, Any]:
        """All that was learned, as plain JSON values; `from_dict` makes the same preprocessor."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "missing": list(self.missing),
            "columns": [plain(rule) for rule in self.columns],
            "target": None if self.target is None else plain(self.target),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessor:
        """The preprocessor that `to_dict` described.

        Raises `DataError` naming the entry that is missing or wrong.

        >>> fitted = Preprocessor.for_arrays([[0.0], [2.0]], ["length"])
        >>> Preprocessor.from_dict(fitted.to_dict()) == fitted
        True
        """
        stored = Stored(values, "preprocessor")
        stored.exactly("format", FORMAT)
        stored.exactly("version", VERSION)
        columns = tuple(stored_rule(entry) for entry in stored.entries("columns"))
        names = [rule.name for rule in columns]
        if len(set(names)) != len(names):
            raise DataError("preprocessor.columns: two columns have the same name")
        target = stored.entry("target")
        return cls(
            columns, None if target is None else stored_target(target), stored.texts("missing")
        )


def _as(table: Table, name: str, kind: Kind) -> Column:
    """The column with the type it had in training."""
    column = table.column(name)
    if column.kind == kind:
        return column
    place = Place(table.path, name, table.lines)
    return typed_column(place, column.raw, column.missing, kind)


def _require(cells: Cells, wanted: Sequence[str]) -> None:
    gone = [name for name in wanted if name not in cells.header]
    if not gone:
        return
    free = [name for name in cells.header if name not in wanted]
    near = [f"{name!r}: {hint}" for name in gone if (hint := nearest(name, free))]
    raise DataError(
        f"{cells.path} lacks {counted(len(gone), 'column')} the model was trained on: "
        f"{listing(map(repr, gone))}",
        fix="; ".join(near) or f"add them to the header, which has {listing(cells.header)}",
    )
