"""Bad input: each is refused before the first step, with what arrived and where."""

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.nn import functional as F

X = np.random.default_rng(0).standard_normal((8, 3))
Y = np.array([0, 1] * 4)


def model():
    with fathom.seed(0):
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def spoiled(value, *place):
    x = X.copy()
    x[place] = value
    return x


BAD_X = [
    ([], DataError, r"x is empty: shape \(0,\)"),
    (np.zeros((0, 3)), DataError, r"x is empty: shape \(0, 3\)"),
    (3.0, DataError, "x is empty"),
    ([["a", "b", "c"]] * 8, DataError, "x holds str.* values, not numbers"),
    ([[1, None, 2]] * 8, DataError, "x holds object values"),
    (X + 1j, DataError, "x holds complex128"),
    ([[1, 2, 3], [1, 2]] * 4, DataError, "x is not an array"),
    (spoiled(np.nan, 5, 2), DataError, "x holds nan at row 5, column 2"),
    (spoiled(-np.inf, 0, 1), DataError, "x holds -inf at row 0, column 1"),
    (spoiled(1e300, 4, 0), DataError, "x as float32 holds inf at row 4, column 0"),
    (X[:, :2], ShapeError, "expected 3 features, received 2"),
]


@pytest.mark.parametrize(("x", "error", "text"), BAD_X, ids=[text for _, _, text in BAD_X])
def test_inputs(x, error, text):
    y = Y[: len(x)] if hasattr(x, "__len__") else Y
    for call in (
        lambda: model().fit(x, y, verbose=False),
        lambda: model().evaluate(x, y),
        lambda: model().predict(x),
    ):
        with pytest.raises(error, match=text):
            call()


BAD_Y = [
    (Y[:5], ShapeError, "8 inputs, but 5 targets in y"),
    (1, ShapeError, "a single number in y"),
    (["cat", "dog"] * 4, DataError, r"y holds str.*\n.*numpy\.unique"),
    ([1.0, np.nan] * 4, DataError, "y holds nan at row 1"),
    ([0, 1, 0, 2, 0, 1, 0, 1], IndexError, r"label 2 at position 3 .* 0 to 1"),
    ([0, 1, 0, 1, 0, -1, 0, 1], IndexError, "label -1 at position 5"),
]


@pytest.mark.parametrize(("y", "error", "text"), BAD_Y, ids=[text for _, _, text in BAD_Y])
def test_targets(y, error, text):
    with pytest.raises(error, match=text):
        model().fit(X, y, verbose=False)
    with pytest.raises(error, match=text):
        model().evaluate(X, y)


def test_the_position_of_a_bad_label_is_the_users_though_rows_are_split_off():
    y = np.tile(Y, 10)
    y[37] = 9
    with pytest.raises(IndexError, match="label 9 at position 37"):
        model().fit(np.tile(X, (10, 1)), y, validation_split=0.5, verbose=False)


@pytest.mark.parametrize("axis", [3, 4])
def test_places_in_arrays_of_more_axes(axis):
    x = np.zeros((2,) * axis)
    x[(1,) * axis] = np.nan
    place = ", ".join(["row 1", "column 1", "axis 2 1", "axis 3 1"][:axis])
    with pytest.raises(DataError, match=f"nan at {place}$|nan at {place}\n"):
        nn.Flatten().predict(x)


OPTIONS = [
    ({"epochs": 0}, ArgumentError, "epochs must be a whole number >= 1"),
    ({"epochs": -2}, ArgumentError, "epochs"),
    ({"epochs": 2.5}, ArgumentError, "epochs"),
    ({"epochs": True}, ArgumentError, "epochs"),
    ({"batch_size": 0}, ArgumentError, "batch_size must be a whole number >= 1"),
    ({"batch_size": -1}, ArgumentError, "batch_size"),
    ({"batch_size": "32"}, ArgumentError, "batch_size"),
    ({"loss": "cross_entropi"}, ArgumentError, "did you mean 'cross_entropy'"),
    ({"loss": 3}, ArgumentError, "a loss is a name or a function"),
    ({"loss": nn.CrossEntropyLoss}, ArgumentError, "a loss is a name or a function"),
    ({"optimizer": "adan"}, ArgumentError, "did you mean 'adam'"),
    ({"optimizer": optim.Adam}, ArgumentError, "an optimizer is a name or an optimizer object"),
    ({"optimizer": None}, ArgumentError, "an optimizer is a name"),
    ({"lr": -0.1}, ArgumentError, "lr must be a number >= 0"),
    ({"lr": "fast"}, ArgumentError, "lr"),
    ({"metrics": ["acuracy"]}, ArgumentError, "did you mean 'accuracy'"),
    ({"metrics": "precison"}, ArgumentError, "unknown metric 'precison'"),
    ({"validation_split": 1.0}, ArgumentError, r"a share in \[0, 1\)"),
    ({"validation_split": -0.1}, ArgumentError, "validation_split"),
    ({"validation_split": 20}, ArgumentError, "validation_split"),
    ({"validation_split": float("nan")}, ArgumentError, "validation_split"),
    ({"validation_split": "0.1"}, ArgumentError, "validation_split"),
    ({"validation_split": 0.01}, ArgumentError, "of 8 rows leaves nothing"),
    ({"validation_split": 0.99}, ArgumentError, "of 8 rows leaves nothing"),
    ({"validation_split": 0.5, "validation_data": (X, Y)}, ArgumentError, "not both"),
    ({"validation_data": X}, ArgumentError, r"a pair \(x, y\)"),
    ({"validation_data": (X, Y, Y)}, ArgumentError, r"a pair \(x, y\)"),
    ({"validation_data": (X, Y[:3])}, ShapeError, "3 targets in validation y"),
    ({"validation_data": (X, Y + 0.5)}, DataError, "one kind is needed"),
    ({"validation_data": (X[:, :2], Y)}, ShapeError, "expected 3 features, received 2"),
    ({"validation_data": (X, Y + 1)}, IndexError, "label 2 at position 1"),
    ({"patience": 0}, ArgumentError, "patience must be >= 1"),
    ({"max_time": 0}, ArgumentError, "TimeLimit: seconds"),
    ({"max_time": "1h"}, ArgumentError, "TimeLimit: seconds"),
    ({"seed": -1}, ArgumentError, "seed must be a whole number >= 0"),
]


@pytest.mark.parametrize(
    ("options", "error", "text"), OPTIONS, ids=[f"{list(o)[-1]}-{t}" for o, _, t in OPTIONS]
)
def test_options_of_fit(options, error, text):
    fresh = model()
    before = fresh[0].weight.value().copy()
    with pytest.raises(error, match=text):
        fresh.fit(X, Y, **{"verbose": False, **options})
    np.testing.assert_array_equal(fresh[0].weight.value(), before)
    assert fresh.training


def test_lr_beside_an_optimizer_object():
    fresh = model()
    with pytest.raises(ArgumentError, match="give lr to the optimizer"):
        fresh.fit(X, Y, optimizer=optim.SGD(fresh.parameters()), lr=0.1, verbose=False)


@pytest.mark.parametrize("size", [0, -5, 1.5, None])
def test_batch_size_of_predict_and_evaluate(size):
    with pytest.raises(ArgumentError, match="batch_size"):
        model().predict(X, batch_size=size)
    with pytest.raises(ArgumentError, match="batch_size"):
        model().evaluate(X, Y, batch_size=size)


def test_options_by_position_are_refused():
    with pytest.raises(TypeError, match="positional"):
        model().fit(X, Y, 10)
    with pytest.raises(TypeError, match="positional"):
        model().predict(X, 10)
    with pytest.raises(TypeError, match="epoch"):
        model().fit(X, Y, epoch=10)


def test_a_loss_with_an_ignored_label():
    loss = nn.CrossEntropyLoss(ignore_index=7)
    y = Y.copy()
    y[2] = 7
    history = model().fit(X, y, loss=loss, epochs=1, verbose=False)
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(IndexError, match="label 7 at position 2"):
        model().fit(X, y, loss=F.cross_entropy, verbose=False)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, np.uint8, bool])
def test_kinds_of_numbers_that_are_taken(kind):
    x = (np.abs(X) > 0.5).astype(kind)
    out = model().predict(x)
    np.testing.assert_array_equal(out, model().predict(x.astype(np.float64)))


def test_tensors_lists_and_views_are_taken():
    fresh = model()
    expected = fresh.predict(X)
    for x in (fathom.tensor(X), X.tolist(), np.asfortranarray(X), X[::-1][::-1]):
        np.testing.assert_allclose(fresh.predict(x), expected, rtol=1e-6)


def test_the_users_arrays_are_not_changed():
    x, y = X.copy(), Y.copy()
    model().fit(x, y, epochs=2, verbose=False)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
