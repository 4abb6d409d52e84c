"""`Dataset`: what it accepts, what it refuses, subset and split."""

import numpy as np
import pytest

from fathom.data import Dataset
from fathom.engine.errors import ArgumentError, DataError


def two_classes(n=20, **changes):
    values = {
        "name": "toy",
        "x": np.arange(2 * n, dtype=np.float64).reshape(n, 2),
        "y": np.arange(n) % 2,
        "task": "classification",
        "classes": ("a", "b"),
    }
    return Dataset(**{**values, **changes})


def test_arrays_get_their_types():
    data = two_classes()
    assert data.x.dtype == np.float32 and data.y.dtype == np.int64
    assert data.feature_names == ("x0", "x1")
    assert repr(data) == "Dataset(toy: 20 rows, 2 features, 2 classes)"
    regression = two_classes(task="regression", classes=(), y=np.arange(20))
    assert regression.y.dtype == np.float32


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        two_classes().name = "other"


def test_subset_by_numbers_and_by_mask():
    data = two_classes()
    assert data.subset([-1, 0]).x[:, 0].tolist() == [38.0, 0.0]
    assert len(data.subset(data.y == 1)) == 10
    assert len(data.subset([])) == 0


@pytest.mark.parametrize("rows", [[20], [-21], [0.5], [[1]], [True, False]])
def test_subset_of_rows_that_are_not_there(rows):
    with pytest.raises(ArgumentError, match=r"rows"):
        two_classes().subset(rows)


def test_a_predefined_test_part_is_kept_whole():
    apart = two_classes(6)
    parts = two_classes(20, test=apart).split(validation=0.25, test=0.9)
    assert parts.test is apart
    assert (len(parts.train), len(parts.validation)) == (15, 5)
    assert parts.train.test is None
    assert "6 test rows" in repr(two_classes(20, test=apart))


def test_split_keeps_inputs_and_targets_together():
    parts = two_classes(40).split(seed=3)
    for part in parts:
        assert ((part.x[:, 0] / 2) % 2 == part.y).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros(20)}, r"shape \(rows, features\); it has \(20,\)"),
        ({"x": np.array([["a", "b"]] * 20)}, "must hold numbers"),
        ({"x": [[1.0], [1.0, 2.0]]}, "rows have different lengths"),
        ({"y": np.zeros(19, int)}, r"x has 20 rows, so y must have shape \(20,\)"),
        ({"y": np.zeros(20)}, "whole class numbers; it is float64"),
        ({"y": np.full(20, 2)}, "row 0 has class number 2, but there are 2 classes"),
        ({"y": np.full(20, -1)}, "class number -1"),
        ({"feature_names": ("a",)}, "2 features, 1 feature_names"),
        ({"image_shape": (3, 3)}, r"images of \(3, 3\) do not have 2 pixels"),
        ({"task": "regression"}, "a regression has no classes"),
    ],
)
def test_arrays_that_do_not_fit(changes, message):
    with pytest.raises(DataError, match=message):
        two_classes(**changes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_a_value_that_is_not_finite_is_named(bad):
    x = np.zeros((20, 2))
    x[7, 1] = bad
    with pytest.raises(DataError, match=r"row 7, feature 1 is .*\(1 such value in all\)"):
        two_classes(x=x)


def test_half_precision_is_taken():
    assert two_classes(x=np.full((20, 2), 3, np.float16)).x.max() == 3


def test_regression_target_that_is_not_finite():
    with pytest.raises(DataError, match="y of data set 'toy': row 0 is nan"):
        two_classes(task="regression", classes=(), y=np.full(20, np.nan))


def test_unknown_task():
    with pytest.raises(ArgumentError, match="did you mean 'regression'"):
        two_classes(task="regresion")


def test_test_rows_with_other_classes():
    with pytest.raises(DataError, match="other classes"):
        two_classes(test=two_classes(classes=("a", "c")))
