"""`Dataset`: arrays with their names, their origin, and an honest way to split them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.data._checks import FLOAT32_MAX, counted, listing
from fathom.data.splitting import Splits, split_rows
from fathom.engine.errors import ArgumentError, DataError, suggest

Task = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Inputs and targets of one learning problem.

    `x` is float32 of shape (n, features). `y` has shape (n,): int64 class numbers for
    classification, float32 values for regression. `classes` names the class numbers and is
    empty for regression; `image_shape` is (height, width) when a row is an image; `note` says
    what was done to the rows; `test` holds the test rows when the source fixes them.

    Raises `DataError` when the arrays do not fit each other or hold NaN or infinity.

    >>> data = Dataset("two", [[0.0], [1.0]], [0, 1], "classification", classes=("no", "yes"))
    >>> data
    Dataset(two: 2 rows, 1 feature, 2 classes)
    >>> data.x.dtype, data.y.dtype, data.feature_names
    (dtype('float32'), dtype('int64'), ('x0',))
    """

    name: str
    x: NDArray[np.float32]
    y: NDArray[Any]
    task: Task
    feature_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    target_name: str = "target"
    image_shape: tuple[int, int] | None = None
    description: str = ""
    licence: str = ""
    note: str = ""
    test: Dataset | None = None

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ArgumentError(
                f"unknown task {self.task!r}", fix=suggest(self.task, get_args(Task))
            )
        x = feature_array(self.x, f"x of data set {self.name!r}")
        names = tuple(self.feature_names) or tuple(f"x{i}" for i in range(x.shape[1]))
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "feature_names", names)
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "y", self._targets())
        self._check_fit()

    def _targets(self) -> NDArray[Any]:
        y = as_array(self.y, f"y of data set {self.name!r}")
        if y.shape != (len(self.x),):
            raise DataError(
                f"data set {self.name!r}: x has {counted(len(self.x), 'row')}, so y must have "
                f"shape ({len(self.x)},); it has {y.shape}"
            )
        if self.task == "regression":
            return check_finite(y, f"y of data set {self.name!r}").astype(np.float32)
        if y.dtype.kind not in "iu":
            raise DataError(
                f"data set {self.name!r}: y must hold whole class numbers; it is {y.dtype}",
                fix="np.unique(y, return_inverse=True) gives class names and numbers",
            )
        return y.astype(np.int64)

    def _check_fit(self) -> None:
        where, width = f"data set {self.name!r}", self.x.shape[1]
        if len(self.feature_names) != width:
            raise DataError(f"{where}: {width} features, {len(self.feature_names)} feature_names")
        if self.image_shape is not None and np.prod(self.image_shape) != width:
            raise DataError(f"{where}: images of {self.image_shape} do not have {width} pixels")
        if self.task == "regression":
            if self.classes:
                raise DataError(f"{where}: a regression has no classes; got {self.classes}")
            return
        outside = np.flatnonzero((self.y < 0) | (self.y >= len(self.classes)))
        if outside.size:
            raise DataError(
                f"{where}: row {outside[0]} has class number {self.y[outside[0]]}, "
                f"but there are {len(self.classes)} classes (0 ... {len(self.classes) - 1})"
            )
        if self.test is not None and self.test.classes != self.classes:
            raise DataError(f"{where}: its test rows have other classes")

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        kind = "regression" if self.task == "regression" else f"{len(self.classes)} classes"
        apart = f", and {counted(len(self.test), 'test row')}" if self.test is not None else ""
        size = f"{counted(len(self), 'row')}, {counted(self.x.shape[1], 'feature')}"
        return f"Dataset({self.name}: {size}, {kind}{apart})"

    def subset(self, indices: ArrayLike) -> Dataset:
        """The rows with these numbers (or where a mask of n booleans is true), in that order.

        >>> data = Dataset("ten", np.arange(10.0)[:, None], np.arange(10.0), "regression")
        >>> data.subset([3, 1]).y.tolist()
        [3.0, 1.0]
        """
        rows = row_numbers(indices, len(self))
        return replace(self, x=self.x[rows], y=self.y[rows])

    def split(self, validation: float = 0.1, test: float = 0.2, seed: int = 0) -> Splits[Dataset]:
        """Training, validation and test rows: disjoint, together all rows, the same for a seed.

        Classification is stratified: each class is divided in the same proportions, to within
        one row. Where the source fixes the test rows (`self.test`), those are the test part and
        the `test` fraction is not used.

        Raises `ArgumentError` for impossible fractions, `DataError` for too few rows.

        >>> data = Dataset("ten", np.zeros((10, 2)), [0, 1] * 5, "classification",
        ...                classes=("a", "b"))
        >>> parts = data.split(validation=0.2, test=0.2)
        >>> [len(part) for part in parts], np.bincount(parts.train.y).tolist()
        ([6, 2, 2], [3, 3])
        """
        labels = self.y if self.task == "classification" else None
        share = 0.0 if self.test is not None else test
        own = replace(self, test=None)
        rows = split_rows(len(self), labels, validation, share, seed)
        train, held, rest = (own.subset(part) for part in rows)
        return Splits(train, held, rest if self.test is None else self.test)


def as_array(values: ArrayLike, what: str) -> NDArray[Any]:
    """`np.asarray`, with a `DataError` where rows have different lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} is not an array: its rows have different lengths") from error


def feature_array(x: ArrayLike, what: str) -> NDArray[np.float32]:
    """`x` as float32 (n, features) without NaN or infinity; otherwise a `DataError`."""
    array = as_array(x, what)
    if array.ndim != 2:
        raise DataError(
            f"{what} must have shape (rows, features); it has {array.shape}",
            fix="x.reshape(len(x), -1) makes each entry one row",
        )
    return np.ascontiguousarray(check_finite(array, what), np.float32)


def check_finite(array: NDArray[Any], what: str, names: tuple[str, ...] = ()) -> NDArray[Any]:
    """The array if all of it is finite and fits float32; else a `DataError` saying where not."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} must hold numbers; it holds {array.dtype}")
    if array.dtype.kind in "biu":
        return array
    fits = np.abs(array) <= FLOAT32_MAX if array.dtype.itemsize > 4 else np.isfinite(array)
    if fits.all():
        return array
    bad = np.argwhere(~fits)
    place = tuple(int(i) for i in bad[0])
    column = "" if array.ndim < 2 else f", feature {names[place[1]] if names else place[1]!r}"
    raise DataError(
        f"{what}: row {place[0]}{column} is {array[place]}, which is no finite float32 number "
        f"({counted(len(bad), 'such value')} in all)",
        fix="drop these rows or fill the values, for instance with the median of the column",
    )


def row_numbers(indices: ArrayLike, n: int) -> NDArray[np.int64]:
    """Row numbers from integers (negative ones count from the end) or a mask of n booleans."""
    rows = as_array(indices, "the list of rows")
    if rows.dtype == np.bool_ and rows.shape == (n,):
        return np.flatnonzero(rows)
    if rows.size == 0:
        return np.zeros(0, np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ArgumentError(
            f"rows are chosen by a list of whole numbers or a mask of {n} booleans; "
            f"received {rows.dtype} of shape {rows.shape}"
        )
    outside = rows[(rows < -n) | (rows >= n)]
    if outside.size:
        raise ArgumentError(f"there are {n} rows; these are outside: {listing(outside, 5)}")
    return rows.astype(np.int64)
