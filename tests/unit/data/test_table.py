"""CSV files: what is read from good ones, and the line and column of what is wrong in bad ones."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.data import Table, read_csv
from fathom.engine.errors import ArgumentError, DataError, MissingFileError

GOOD = "age,city,kind\n31,Ulm,a\n42,Bonn,b\n,Ulm,a\n27,NA,b\n"


@pytest.fixture
def write(tmp_path):
    def writer(content, name="people.csv"):
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return path

    return writer


def numbers(table, name):
    return table.column(name).numbers.tolist()


def test_columns_get_their_types(write):
    table = read_csv(write(GOOD), target="kind")
    assert [(c.name, c.kind) for c in table.columns] == [
        ("age", "numeric"),
        ("city", "categorical"),
    ]
    age, city = table.columns
    np.testing.assert_array_equal(age.numbers, [31, 42, np.nan, 27])
    assert age.raw.tolist() == ["31", "42", "", "27"]
    assert city.missing.tolist() == [False, False, False, True]
    assert (table.task, table.classes, table.y.tolist()) == (
        "classification",
        ("a", "b"),
        [0, 1, 0, 1],
    )
    assert table.lines.tolist() == [2, 3, 4, 5]
    assert "1 numeric and 1 categorical" in repr(table)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_are_found(write, delimiter, end):
    content = GOOD.replace(",", delimiter).replace("\n", end)
    table = read_csv(write(content), target="kind")
    assert table.feature_names == ("age", "city") and len(table) == 4


def test_delimiter_is_not_misled_by_text(write):
    content = 'id;note;y\n1;"a, b, c";0\n2;d, e;1\n3;f;0\n'
    assert read_csv(write(content), target="y").feature_names == ("id", "note")
    table = read_csv(write("a,b:y\n1:0\n3:1\n"), target="y", delimiter=":")
    assert table.feature_names == ("a,b",)


def test_byte_order_mark_and_blank_lines(write):
    table = read_csv(write(b"\xef\xbb\xbf" + b"x,y\n\n1,0\n\n2,1\n"), target="y")
    assert table.feature_names == ("x",) and table.lines.tolist() == [3, 5]


@pytest.mark.parametrize("spelling", ["", "NA", "N/A", "nan", "NaN", "null", "?"])
def test_every_spelling_of_missing(write, spelling):
    table = read_csv(write(f"x,y\n1,0\n{spelling},1\n2,0\n"), target="y")
    assert table.column("x").missing.tolist() == [False, True, False]
    assert table.column("x").kind == "numeric"


def test_own_spelling_of_missing(write):
    path = write("x,y\n1,0\n-,1\n2,0\n3,1\n4,0\n5,1\n")
    assert read_csv(path, target="y", missing=["-"]).column("x").missing.sum() == 1


cell = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
)


@given(rows=st.lists(st.tuples(cell, cell), min_size=2, max_size=12))
def test_round_trip_with_quotes(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["first", "second", "fixed", "y"])
        writer.writerows([*row, "-", i % 2] for i, row in enumerate(rows))
    types = {"first": "categorical", "second": "categorical", "fixed": "categorical"}
    table = read_csv(path, target="y", delimiter=",", types=types, missing=[" none "])
    assert table.column("first").raw.tolist() == [row[0].strip() for row in rows]
    assert table.column("second").raw.tolist() == [row[1].strip() for row in rows]


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=10))
def test_numbers_round_trip_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    lines = [f"{value!r},{i % 2}" for i, value in enumerate(values)]
    path.write_text("x,y\n" + "\n".join(lines))
    assert numbers(read_csv(path, target="y"), "x") == values


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["yes", "no", "yes", "no"], "classification"),
        (["0", "1", "1", "0"], "classification"),
        (["0.0", "1.0", "1.0", "0.0"], "classification"),
        (["1", "2", "3", "1", "2", "3"], "classification"),
        (["1", "2", "3", "4"], "regression"),
        (["0.5", "1.5", "0.5", "1.5"], "regression"),
        ([str(i % 20) for i in range(60)], "classification"),
        ([str(i % 21) for i in range(60)], "regression"),
    ],
)
def test_task_follows_the_stated_rule(write, cells, task):
    content = "x,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    assert read_csv(write(content), target="y").task == task


def test_task_can_be_told(write):
    path = write("x,y\n1,1\n2,2\n3,10\n4,2\n")
    table = read_csv(path, target="y", task="classification")
    assert table.classes == ("1", "2", "10") and table.y.tolist() == [0, 1, 2, 1]
    table = read_csv(path, target="y", task="regression")
    assert table.y.dtype == np.float32 and table.y.tolist() == [1, 2, 10, 2]


def test_classes_have_one_spelling(write):
    table = read_csv(write("x,y\n1,1\n2,1.0\n3,0\n4,00\n"), target="y")
    assert table.classes == ("0", "1") and table.y.tolist() == [1, 1, 0, 0]


def test_rows_without_target_are_dropped_and_told(write):
    table = read_csv(write("x,y\n1,a\n2,\n3,b\n4,NA\n"), target="y")
    assert len(table) == 2 and table.lines.tolist() == [2, 4]
    assert table.note == "dropped without a target: 2 rows (line 3, 5)"


def test_columns_without_values_are_dropped_and_told(write):
    table = read_csv(write("x,empty,y\n1,,a\n2,?,b\n"), target="y")
    assert table.feature_names == ("x",)
    assert table.note == "dropped without any value: column 'empty'"


def test_columns_can_be_left_out_or_forced(write):
    path = write("id,zip,y\n1,89073,a\n2,53111,b\n")
    table = read_csv(path, target="y", drop=["id"], types={"zip": "categorical"})
    assert [(c.name, c.kind) for c in table.columns] == [("zip", "categorical")]


def test_split_is_stratified_and_keeps_rows_together(write):
    content = "x,y\n" + "".join(f"{i},{'ab'[i % 10 == 0]}\n" for i in range(100))
    table = read_csv(write(content), target="y")
    parts = table.split(validation=0.1, test=0.2, seed=4)
    assert [len(part) for part in parts] == [70, 10, 20]
    assert [int(part.y.sum()) for part in parts] == [7, 1, 2]
    for part in parts:
        assert isinstance(part, Table)
        assert ((part.column("x").numbers % 10 == 0) == (part.y == 1)).all()
        assert (part.lines == part.column("x").numbers + 2).all()


# What is wrong in a file, and what the message must say.

WRONG = {
    "text in a numeric column": (
        "age,y\n" + "".join(f"{i},{i % 2}\n" for i in range(15)) + "abc,1\n17,0\n",
        r"line 17, column 'age': 'abc' is not a number",
    ),
    "line after a cell of two lines": (
        'age,note,y\n1,"two\nlines",0\n2,x,1\n3,x,1\n4,x,0\n5,x,0\nabc,x,1\n',
        r"line 8, column 'age': 'abc'",
    ),
    "decimal commas": ("a;y\n1,5;0\n2,5;1\n3;1\n", r"line 2, column 'a': '1,5' is not a number"),
    "infinity": ("x,y\n1,0\ninf,1\n", r"line 3, column 'x': 'inf' is not a finite number"),
    "minus infinity": ("x,y\n1,0\n-Infinity,1\n", r"line 3, column 'x': '-Infinity'"),
    "too large": ("x,y\n1,0\n1e39,1\n", r"line 3, column 'x': '1e39'"),
    "underscore": (
        "x,y\n1,0\n2,1\n3,0\n4,1\n1_0,1\n",
        r"line 6, column 'x': '1_0' is not a number",
    ),
    "nothing": ("", "is empty"),
    "blank lines only": ("\n\n \n", "is empty"),
    "header only": ("x,y\n", "a header but no rows"),
    "two columns of one name": ("x,y,x\n1,2,3\n", r"column name 'x' stands above columns 1, 3"),
    "no name": ("x,,y\n1,2,3\n", r"line 1: no name above column 2 \(of 3 columns\)"),
    "delimiter at the end": ("x,y,\n1,2,\n", r"no name above column 3"),
    "short row": ("x,y\n1,0\n2\n", r"line 3: expected 2 cells as in the header, got 1"),
    "long row": ("x,y\n1,0\n\n2,1,5\n", r"line 4: expected 2 cells as in the header, got 3"),
    "open quote": ('x,y\n1,0\n"2,1\n3,0\n', r"line 3: unexpected end of data"),
    "text after a quote": ('x,y\n"1"a,0\n', r"line 2: ',' expected after '\"'"),
    "one class": ("x,y\n1,a\n2,a\n", "one class only, 'a'"),
    "one value": ("x,y\n1,0.5\n2,0.5\n", "every target is 0.5"),
    "no target cell": ("x,y\n1,\n2,NA\n", "every cell of the target column 'y' is missing"),
    "only empty columns": ("x,y\n,a\n,b\n", "no column with values besides the target 'y'"),
    "latin-1": (b"x,y\n1,0\n\xfc,1\n", r"line 3: byte 0xfc at offset 8 is not UTF-8"),
    "latin-1 after a mark": (b"\xef\xbb\xbfx,y\n\xff,1\n", r"line 2: byte 0xff at offset 7"),
    "UTF-16": ("x,y\n1,0\n".encode("utf-16"), "is UTF-16"),
    "gzip": (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
    "NUL": (b"x,y\n1,0\n2\0,1\n", r"line 3: a NUL byte at offset 9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file(write, case):
    content, message = WRONG[case]
    with pytest.raises(DataError, match=message) as caught:
        read_csv(write(content), target="y")
    assert "people.csv" in str(caught.value)


def test_a_text_among_numbers_tells_the_ways_out(write):
    path = write(WRONG["text in a numeric column"][0])
    with pytest.raises(DataError) as caught:
        read_csv(path, target="y")
    assert 'types={"age": "categorical"}' in caught.value.fix
    assert "add 'abc' to missing" in caught.value.fix
    forced = read_csv(path, target="y", types={"age": "categorical"})
    assert forced.column("age").kind == "categorical"
    assert read_csv(path, target="y", missing=["abc"]).column("age").missing.sum() == 1


def test_four_fifths_of_numbers_is_the_border(write):
    below = "x,y\n1,0\n2,1\n3,0\nred,1\n"  # 75 %
    assert read_csv(write(below), target="y").column("x").kind == "categorical"
    at = "x,y\n1,0\n2,1\n3,0\n4,1\nred,1\n"  # 80 %
    with pytest.raises(DataError, match="line 6"):
        read_csv(write(at), target="y")


def test_forced_numeric_column_with_text(write):
    with pytest.raises(
        DataError, match=r"line 2, column 'x': 'red' is not a number \(and 1 more cell of"
    ):
        read_csv(write("x,y\nred,0\nblue,1\n1,1\n"), target="y", types={"x": "numeric"})


def test_text_target_cannot_be_regressed(write):
    path = write("x,y\n1,a\n2,b\n")
    with pytest.raises(DataError, match=r"line 2, column 'y': 'a' is not a number"):
        read_csv(path, target="y", task="regression")


def test_unknown_target_suggests_the_nearest(write):
    with pytest.raises(DataError, match=r"did you mean 'kind'"):
        read_csv(write(GOOD), target="Kin")


def test_file_without_header(write):
    with pytest.raises(DataError, match="seems to have no header line"):
        read_csv(write("1,2,0\n3,4,1\n"), target="y")


def test_missing_file_suggests_the_nearest(write):
    path = write(GOOD)
    with pytest.raises(MissingFileError, match=r"did you mean 'people\.csv'"):
        read_csv(path.with_name("poeple.csv"), target="kind")
    with pytest.raises(FileNotFoundError):
        read_csv(path.with_name("zzz"), target="kind")


def test_folder_instead_of_a_file(write):
    with pytest.raises(DataError, match=r"(?s)is a folder, not a file.*people\.csv"):
        read_csv(write(GOOD).parent, target="kind")


def test_a_cell_beyond_all_measure(write):
    with pytest.raises(DataError, match="line 2: field larger than field limit"):
        read_csv(write(f"x,y\n{'a' * 200_000},1\n"), target="y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": {"agee": "numeric"}}, "did you mean 'age'"),
        ({"types": {"age": "number"}}, "unknown type 'number' for column 'age'"),
        ({"drop": ["Age"]}, "did you mean 'age'"),
        ({"drop": "age"}, "drop must be a list"),
        ({"drop": ["kind"]}, "'kind' is the target"),
        ({"task": "classify"}, "did you mean 'classification'"),
        ({"delimiter": ";;"}, "delimiter must be one character"),
    ],
)
def test_impossible_options(write, options, message):
    with pytest.raises(ArgumentError, match=message):
        read_csv(write(GOOD), target="kind", **options)


def test_unknown_column_of_a_table(write):
    with pytest.raises(DataError, match="did you mean 'city'"):
        read_csv(write(GOOD), target="kind").column("citi")


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(b"x,y\n" + content)
    try:
        assert len(read_csv(path, target="y")) >= 2
    except DataError as error:
        assert str(path) in str(error)
