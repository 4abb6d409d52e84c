"""`Preprocessor`: learned from training rows alone, applied to any, stored as JSON."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fathom.data import Preprocessor, digits, load, read_csv
from fathom.engine.errors import ArgumentError, DataError

TRAIN = "age,city,size,y\n10,Ulm,1.5,no\n30,Bonn,1.5,yes\n,Ulm,1.5,no\n15,,1.5,yes\n"


@pytest.fixture
def write(tmp_path):
    def writer(content, name="train.csv"):
        path = tmp_path / name
        path.write_text(content)
        return path

    return writer


@pytest.fixture
def fitted(write):
    return Preprocessor.fit(read_csv(write(TRAIN), target="y"))


def test_numbers_and_categories_by_hand(write):
    table = read_csv(write(TRAIN), target="y")
    prepare = Preprocessor.fit(table)
    assert prepare.feature_names_in == ("age", "city", "size")
    assert prepare.feature_names_out == (
        "age",
        "age missing",
        "city=Bonn",
        "city=Ulm",
        "city missing",
        "size",
    )
    out = prepare.transform(table)
    ages = np.array([10, 30, 15, 15])  # the missing one is the median
    age = (ages - ages.mean()) / ages.std()
    expected = [
        [age[0], 0, 0, 1, 0, 0],
        [age[1], 0, 1, 0, 0, 0],
        [age[2], 1, 0, 1, 0, 0],
        [age[3], 0, 0, 0, 1, 0],
    ]
    np.testing.assert_allclose(out, expected, atol=1e-6)
    assert out.dtype == np.float32 and prepare.warnings == []


def test_only_the_training_rows_are_learned_from(write):
    table = read_csv(write("x,y\n1,0\n2,1\n3,0\n1000,1\n"), target="y")
    prepare = Preprocessor.fit(table.subset([0, 1, 2]))
    assert prepare.transform(table)[:, 0].tolist()[1] == 0.0
    assert prepare.columns[0].mean == 2.0


def test_new_categories_and_missing_values_are_told(write, fitted):
    path = write("city,age,size\nRom,20,1.5\nUlm,20,\nRom,20,2.5\n", "new.csv")
    out = fitted.transform(fitted.read(path))
    assert out[0, 2:5].tolist() == [0, 0, 0]
    assert out[1, 5] == 0.0 and out[2, 5] == 1.0  # a constant column is only centred
    assert len(fitted.warnings) == 2
    assert "'city': 2 cells with a category not seen in training (Rom)" in fitted.warnings[0]
    assert "'size': 1 missing value filled with the training median 1.5" in fitted.warnings[1]


def test_a_missing_category_that_training_never_had(write):
    prepare = Preprocessor.fit(read_csv(write("c,y\na,0\nb,1\n"), target="y"))
    out = prepare.transform(prepare.read(write("c,d\n,1\nb,1\n", "new.csv")))
    assert out.tolist() == [[0, 0], [0, 1]]
    assert "1 missing cell" in prepare.warnings[1]


def test_reading_in_any_order_with_and_without_target(write, fitted):
    table = read_csv(write(TRAIN), target="y")
    expected = fitted.transform(table)
    shuffled = write(
        "y,extra,size,city,age\nno,1,1.5,Ulm,10\nyes,1,1.5,Bonn,30\n,1,1.5,Ulm,\n?,1,1.5,,15\n", "b"
    )
    read = fitted.read(shuffled)
    np.testing.assert_array_equal(fitted.transform(read), expected)
    assert read.y is None and read.target is None
    assert fitted.warnings == ["not trained on, ignored: column 'extra'"]


def test_evaluating_needs_the_target(write, fitted):
    path = write("city,age,size,y\nUlm,1,1,yes\nUlm,1,1,\nUlm,1,1,no\n", "c.csv")
    table = fitted.read(path, need_target=True)
    assert table.y.tolist() == [1, 0] and "line 3" in table.note
    assert fitted.transform_target(table).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"line 2, column 'y': class 'yess' was not seen"):
        fitted.read(write("city,age,size,y\nUlm,1,1,yess\n", "d"), need_target=True)
    with pytest.raises(DataError, match="lacks 1 column the model was trained on: 'y'"):
        fitted.read(write("city,age,size\nUlm,1,1\n", "e"), need_target=True)
    with pytest.raises(DataError, match="read without the target 'y'"):
        fitted.transform_target(fitted.read(path))


def test_numeric_class_names_meet_in_prediction(write):
    prepare = Preprocessor.fit(read_csv(write("x,y\n1,1.0\n2,0\n"), target="y"))
    read = prepare.read(write("x,y\n1,1\n2,0.0\n", "n.csv"), need_target=True)
    assert read.y.tolist() == [1, 0]


def test_missing_columns_are_listed_with_the_nearest(write, fitted):
    path = write("Age,town\n1,Ulm\n", "bad.csv")
    with pytest.raises(DataError, match=r"lacks 3 columns .* 'age', 'city', 'size'") as caught:
        fitted.read(path)
    assert "'age': did you mean 'Age'?" in caught.value.fix


def test_text_in_a_numeric_cell_names_line_and_column(write, fitted):
    path = write("age,city,size\n1,Ulm,1\nold,Ulm,1\n", "bad.csv")
    with pytest.raises(DataError, match=r"bad\.csv, line 3, column 'age': 'old' is not a number"):
        fitted.read(path)
    with pytest.raises(DataError, match=r"line 2, column 'size': 'inf' is not a finite number"):
        fitted.read(write("age,city,size\n1,Ulm,inf\n", "bad.csv"))


def test_a_column_typed_otherwise_is_taken_as_in_training(write, fitted):
    other = read_csv(write("age,city,size,y\n10,5,1,a\n20,6,1,b\n", "o.csv"), target="y")
    assert other.column("city").kind == "numeric"
    fitted.transform(other)
    assert "not seen in training (5, 6)" in fitted.warnings[0]
    text = read_csv(write("age,city,size,y\nx,Ulm,1,a\ny,Ulm,1,b\n", "p.csv"), target="y")
    with pytest.raises(DataError, match=r"line 2, column 'age': 'x' is not a number"):
        fitted.transform(text)


def test_a_column_that_training_never_saw_filled(write):
    table = read_csv(write("x,z,y\n,1,0\n,2,1\n5,3,0\n6,4,1\n"), target="y")
    prepare = Preprocessor.fit(table.subset([0, 1]))
    assert prepare.transform(table)[:, :2].tolist() == [[0, 1], [0, 1], [5, 0], [6, 0]]


def test_a_class_that_training_never_saw(write):
    prepare = Preprocessor.fit(read_csv(write("x,y\n1,a\n2,b\n"), target="y"))
    other = read_csv(write("x,y\n1,b\n2,c\n", "o.csv"), target="y")
    with pytest.raises(DataError, match="class 'c' was not seen in training; known: a, b"):
        prepare.transform_target(other)


def test_a_table_without_the_column(write, fitted):
    other = read_csv(write("age,cities,size,y\n1,Ulm,1,a\n2,Ulm,1,b\n", "o.csv"), target="y")
    with pytest.raises(DataError, match=r"(?s)no column 'city'.*did you mean 'cities'"):
        fitted.transform(other)


def test_regression_target_in_standard_units_and_back(write):
    table = read_csv(write("x,y\n1,10.5\n2,20.5\n3,60.5\n"), target="y")
    prepare = Preprocessor.fit(table)
    y = prepare.transform_target(table)
    assert abs(y.mean()) < 1e-6 and abs(y.std() - 1) < 1e-6
    np.testing.assert_allclose(prepare.inverse_target(y), [10.5, 20.5, 60.5], rtol=1e-6)
    plain = Preprocessor.fit(table, standardize_target=False)
    assert plain.transform_target(table).tolist() == [10.5, 20.5, 60.5]
    read = prepare.read(write("x,y\n1,60.5\n", "e.csv"), need_target=True)
    np.testing.assert_allclose(prepare.inverse_target(prepare.transform_target(read)), [60.5])


def test_class_numbers_back_to_names(fitted):
    assert fitted.inverse_target([1, 0, 1]).tolist() == ["yes", "no", "yes"]
    for bad in ([2], [-1], [0.5]):
        with pytest.raises(ArgumentError, match=r"class numbers 0 \.\.\. 1"):
            fitted.inverse_target(bad)


def test_texts_are_no_predictions(write):
    prepare = Preprocessor.for_arrays([[0.0], [1.0]], y=[1.0, 2.0])
    with pytest.raises(ArgumentError, match="takes numbers"):
        prepare.inverse_target(["a"])


def test_dataset_of_a_table(write):
    table = read_csv(write(TRAIN), target="y")
    prepare = Preprocessor.fit(table)
    data = prepare.dataset(table)
    assert data.x.shape == (4, 6) and data.classes == ("no", "yes")
    assert data.feature_names == prepare.feature_names_out


def test_stored_as_json_and_back(write, fitted):
    text = json.dumps(fitted.to_dict(), allow_nan=False)
    back = Preprocessor.from_dict(json.loads(text))
    assert back == fitted
    table = read_csv(write(TRAIN), target="y")
    np.testing.assert_array_equal(back.transform(table), fitted.transform(table))


def edited(values, path, value):
    values = copy.deepcopy(values)
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "other", r"format: expected 'fathom\.preprocessor', got 'other'"),
        (["version"], 2, "version: expected 1, got 2"),
        (["version"], True, "version: expected 1, got True"),
        (["columns"], KeyError, "the entry 'columns' is missing"),
        (["columns"], {}, "columns: expected a list"),
        (["columns", 0], 5, r"columns\[0\]: expected a mapping, got 5"),
        (["columns", 0, "mean"], "a", r"columns\[0\]\.mean: expected a finite number"),
        (["columns", 0, "mean"], float("nan"), r"columns\[0\]\.mean: expected a finite number"),
        (["columns", 0, "fill"], 10**400, r"columns\[0\]\.fill: expected a finite number"),
        (["columns", 0, "scale"], 0, r"columns\[0\]\.scale: expected a number above 0"),
        (["columns", 0, "flag"], 1, r"columns\[0\]\.flag: expected true or false"),
        (["columns", 0, "kind"], "numerik", r"columns\[0\]\.kind: unknown 'numerik'"),
        (["columns", 0, "name"], "city", "two columns have the same name"),
        (["columns", 1, "categories"], "Ulm", r"columns\[1\]\.categories: expected a list"),
        (["columns", 1, "categories"], ["a", "a"], "all different"),
        (["target", "task"], "guess", r"target\.task: unknown 'guess'"),
        (["target", "classes"], [], r"target\.classes: 0 classes do not fit"),
        (["target"], [], "target: expected a mapping"),
        (["missing"], [1], "missing: expected a list of texts"),
    ],
)
def test_damaged_storage_is_named(fitted, path, value, message):
    with pytest.raises(DataError, match=message):
        Preprocessor.from_dict(edited(fitted.to_dict(), path, value))


def test_storage_that_is_no_mapping():
    with pytest.raises(DataError, match="expected a mapping"):
        Preprocessor.from_dict([1])


def test_too_many_categories(write):
    rows = "".join(f"name{i},{i % 2}\n" for i in range(30))
    table = read_csv(write("who,y\n" + rows), target="y")
    with pytest.raises(DataError, match=r"(?s)'who' has 30 categories.*drop=\[\"who\"\]"):
        Preprocessor.fit(table, max_categories=20)


def test_no_rows_to_learn_from(write):
    table = read_csv(write(TRAIN), target="y")
    with pytest.raises(DataError, match="no rows to learn from"):
        Preprocessor.fit(table.subset([]))
    with pytest.raises(DataError, match="no rows to learn from"):
        Preprocessor.for_arrays(np.zeros((0, 3)))


# Arrays


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2),
        elements=st.floats(-1e3, 1e3, width=32),
    )
)
def test_standardized_arrays(x):
    out = Preprocessor.for_arrays(x).transform_array(x)
    constant = x.min(axis=0) == x.max(axis=0)
    reference = x.astype(np.float64)
    scale = np.where(constant, 1.0, reference.std(axis=0))
    scale[scale == 0] = 1
    np.testing.assert_allclose(out, (reference - reference.mean(axis=0)) / scale, atol=1e-4)


def test_many_rows_are_as_few():
    x = np.random.default_rng(0).normal(3, 2, (10_000, 3)).astype(np.float32)
    prepare = Preprocessor.for_arrays(x)
    out = prepare.transform_array(x)
    assert np.abs(out.mean(axis=0)).max() < 1e-5 and np.abs(out.std(axis=0) - 1).max() < 1e-5
    np.testing.assert_array_equal(out[5000:5002], prepare.transform_array(x[5000:5002]))


def test_modes():
    x = np.array([[0.0, -8.0], [4.0, 2.0]], np.float32)
    assert Preprocessor.for_arrays(x, mode="scale").transform_array(x).tolist() == [
        [0.0, -1.0],
        [0.5, 0.25],
    ]
    np.testing.assert_array_equal(Preprocessor.for_arrays(x, mode="none").transform_array(x), x)
    with pytest.raises(ArgumentError, match="did you mean 'scale'"):
        Preprocessor.for_arrays(x, mode="scales")


def test_digits_and_their_classes():
    data = digits()
    prepare = Preprocessor.for_dataset(data, "scale")
    assert prepare.transform_array(data.x).max() == 1.0
    assert prepare.inverse_target([3]).tolist() == ["3"]
    back = Preprocessor.from_dict(json.loads(json.dumps(prepare.to_dict())))
    assert back == prepare


def test_regression_dataset():
    data = load("diabetes")
    prepare = Preprocessor.for_dataset(data)
    assert prepare.inverse_target(0.0) == pytest.approx(float(data.y.mean()), rel=1e-5)


def test_wrong_number_of_features():
    prepare = Preprocessor.for_dataset(digits())
    with pytest.raises(DataError, match="expected 64 features, got 63"):
        prepare.transform_array(np.zeros((2, 63)))
    with pytest.raises(DataError, match=r"(?s)expected 64 features, got an array.*x\[None\]"):
        prepare.transform_array(np.zeros(64))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_value_that_is_not_finite_is_named(bad):
    prepare = Preprocessor.for_arrays(np.eye(3), ["a", "b", "c"])
    x = np.zeros((5, 3))
    x[4, 1] = bad
    with pytest.raises(DataError, match=r"row 4, feature 'b' is"):
        prepare.transform_array(x)
    with pytest.raises(DataError, match="row 4, feature 1"):
        Preprocessor.for_arrays(x)


def test_value_that_leaves_float32():
    prepare = Preprocessor.for_arrays([[0.0], [1e-30]], ["tiny"])
    with pytest.raises(DataError, match="row 0, feature 'tiny' is inf"):
        prepare.transform_array([[1e20]])


def test_names_that_do_not_fit_the_array():
    with pytest.raises(DataError, match="x has 2 features, but there are 1 names"):
        Preprocessor.for_arrays(np.eye(2), ["a"])


def test_array_for_a_table_with_categories(fitted):
    with pytest.raises(DataError, match="column 'city' holds categories"):
        fitted.transform_array(np.zeros((1, 3)))


def test_no_target():
    with pytest.raises(DataError, match="fitted without a target"):
        Preprocessor.for_arrays(np.eye(2)).inverse_target([0])


def test_csv_for_a_model_of_arrays(write):
    data = load("iris")
    prepare = Preprocessor.for_dataset(data)
    header = ",".join(reversed(data.feature_names))
    path = write(header + "\n0.2,1.4,3.5,5.1\n", "flower.csv")
    np.testing.assert_allclose(
        prepare.transform(prepare.read(path)), prepare.transform_array(data.x[:1]), rtol=1e-5
    )
