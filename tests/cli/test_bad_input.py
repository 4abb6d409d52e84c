"""Every mistake of the user: exit code 2, one message that says where, and a cure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

GOOD = "a,b,y\n" + "".join(f"{i},{i % 7},{'no' if i % 2 else 'yes'}\n" for i in range(40))


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def refused(run, *words: object) -> str:
    result = run(*words, code=2)
    assert result.stderr.startswith(("error: ", "note: ")), result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("is empty",)),
        ("a,b,y\n", ("no rows",)),
        (GOOD.replace("3,3,no", "3,three,no"), ("line 5", "'b'", "'three'", '--type "b=')),
        (GOOD.replace("3,3,no", "3,inf,no"), ("line 5", "'b'", "'inf'", "finite")),
        (GOOD.replace("3,3,no", "3,1e999,no"), ("line 5", "'b'", "finite")),
        (GOOD.replace("yes", "no"), ("one class only", "'no'")),
        (GOOD.replace("3,3,no", "3,3,no,4"), ("line 5", "4")),
        ("a,a,y\n1,2,3\n", ("'a'",)),
        ("a,b,y\n,,no\n,,yes\n", ("no column with values",)),
        ("y\nno\nyes\nno\nyes\n", ("no column",)),
    ],
)
def test_bad_tables(run, tmp_path, text, words):
    said = refused(run, "train", table(tmp_path, text), "--target", "y", "--out", tmp_path / "r")
    for word in words:
        assert word in said
    assert not (tmp_path / "r" / "model").exists()


def test_a_quote_left_open(run, tmp_path):
    path = table(tmp_path, GOOD.replace("3,3,no", '3,"3,no'))
    said = refused(run, "train", path, "--target", "y", "--delimiter", ",")
    assert "line 5" in said and "quote" in said


def test_missing_values_are_no_mistake(run, tmp_path):
    path = table(tmp_path, GOOD.replace("3,3,no", "3,NaN,no").replace("5,5,no", ",5,no"))
    run("train", path, "--target", "y", "--epochs", 1, "--out", tmp_path / "r", "-q")


def test_missing_file(run, tmp_path):
    said = refused(run, "train", tmp_path / "nothing.csv", "--target", "y", "--out", tmp_path / "r")
    assert "there is no file" in said and not (tmp_path / "r").exists()


def test_target_that_is_not_there(run, tmp_path):
    path = table(tmp_path, GOOD.replace("a,b,y", "alpha,beta,gamma"))
    assert "did you mean 'gamma'" in refused(run, "train", path, "--target", "gama")
    assert "--target gamma" in refused(run, "train", path)


def test_table_options_with_a_named_set(run):
    assert "--target is for CSV files" in refused(run, "train", "iris", "--target", "species")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--activation", "rleu"), ("'rleu'", "did you mean 'relu'")),
        (("--optimizer", "adma"), ("'adma'", "did you mean 'adam'")),
        (("--layers", "64,0"), ("at least one unit",)),
        (("--layers", "64,-2"), ("at least one unit",)),
        (("--layers", "wide"), ("'wide'",)),
        (("--epochs", "0"), ("--epochs", "0")),
        (("--batch-size", "-1"), ("--batch-size", "-1")),
        (("--patience", "0"), ("--patience",)),
        (("--lr", "0"), ("--lr",)),
        (("--lr", "nan"), ("--lr",)),
        (("--max-time", "-1"), ("--max-time",)),
        (("--dropout", "1"), ("--dropout",)),
        (("--seed", "-1"), ("--seed",)),
        (("--test", "1.5"), ("--test",)),
        (("--test", "0.6", "--validation", "0.5"), ("leave rows to train on",)),
        (("--momentum", "0.9"), ("--optimizer sgd",)),
        (("--optimizer", "sgd", "--momentum", "2"), ("momentum",)),
        (("--epochs", "many"), ("'many'",)),
    ],
)
def test_bad_settings(run, tmp_path, options, words):
    said = refused(run, "train", "iris", "--out", tmp_path / "r", *options)
    for word in words:
        assert word in said
    assert not (tmp_path / "r").exists()


def test_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("train", "iris", "--out", tmp_path / "file" / "deep", code=2)
    assert "cannot write" in result.stderr and "epoch" not in result.stdout


def test_predictions_that_cannot_be_written(run, iris_run, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "said.csv"
    assert "cannot write" in refused(run, "predict", iris_run, "iris", "--out", out)


def test_wrong_features_at_predict(run, iris_run, tmp_path):
    assert "expected 4 features, got 10" in refused(run, "predict", iris_run, "diabetes")
    path = table(tmp_path, "sepal length (cm),petal width (cm)\n1,2\n")
    said = refused(run, "predict", iris_run, path)
    assert "lacks 2 columns" in said and "'petal length (cm)'" in said
    columns = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n"
    said = refused(run, "predict", iris_run, table(tmp_path, columns + "1,2,3,wide\n"))
    assert "line 2" in said and "'petal width (cm)'" in said and "'wide'" in said


def test_other_mistakes_at_predict(run, iris_run, diabetes_run):
    assert "--proba" in refused(run, "predict", diabetes_run, "diabetes", "--proba")
    assert "150 rows" in refused(run, "predict", iris_run, "iris", "--rows", "500:")
    assert "0:5" in refused(run, "predict", iris_run, "iris", "--rows", "a:b")


def test_a_run_that_is_not_there(run, tmp_path):
    for command in (("evaluate",), ("summary",), ("predict",)):
        more = ("iris",) if command == ("predict",) else ()
        assert "no checkpoint" in refused(run, *command, tmp_path / "no", *more)


def spoil_truncate(folder: Path) -> None:
    file = folder / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


def spoil_flip(folder: Path) -> None:
    file = folder / "model" / "model.safetensors"
    blob = bytearray(file.read_bytes())
    blob[-1] ^= 1
    file.write_bytes(blob)


def spoil_json(folder: Path) -> None:
    (folder / "model" / "state.json").write_text('{"format": "fathom-ch')


def spoil_foreign(folder: Path) -> None:
    (folder / "model" / "state.json").write_text('{"epoch": 3}')


def spoil_lost_weights(folder: Path) -> None:
    (folder / "model" / "model.safetensors").unlink()


def spoil_newer(folder: Path) -> None:
    change(folder, lambda record: record.update(version=99))


def spoil_preprocessor(folder: Path) -> None:
    change(folder, lambda record: record["state"]["data"]["preprocessor"].pop("columns"))


def spoil_spec(folder: Path) -> None:
    change(folder, lambda record: record["model"].pop("spec"))


def spoil_settings(folder: Path) -> None:
    change(folder, lambda record: record["state"].update(settings={"data": "iris", "x": 1}))


def spoil_without_data(folder: Path) -> None:
    change(folder, lambda record: record["state"].pop("data"))


def change(folder: Path, edit) -> None:
    file = folder / "model" / "state.json"
    record = json.loads(file.read_text())
    edit(record)
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "spoil",
    [spoil_truncate, spoil_flip, spoil_json, spoil_foreign, spoil_lost_weights, spoil_newer,
     spoil_preprocessor, spoil_spec, spoil_settings, spoil_without_data],
)  # fmt: skip
def test_damaged_checkpoints(run, iris_run, tmp_path, spoil):
    shutil.copytree(iris_run, tmp_path / "r")
    spoil(tmp_path / "r")
    refused(run, "predict", tmp_path / "r", "iris")
    refused(run, "evaluate", tmp_path / "r")


def test_foreign_folder_and_unfinished_run(run, iris_run, tmp_path):
    (tmp_path / "photos").mkdir()
    assert "not a Fathom checkpoint" in refused(run, "evaluate", tmp_path / "photos")
    shutil.copytree(iris_run / "last", tmp_path / "r" / "last")
    assert "--resume" in refused(run, "evaluate", tmp_path / "r")
    run("evaluate", tmp_path / "r" / "last")


def test_a_model_without_preparation(run, tmp_path):
    import fathom

    fathom.models.mlp(4, 3, hidden=(5,)).save(tmp_path / "bare")
    assert "how its data were prepared" in refused(run, "predict", tmp_path / "bare", "iris")
    assert "5" in run("summary", tmp_path / "bare").stdout


def test_damaged_checkpoint_to_resume(run, iris_run, tmp_path):
    shutil.copytree(iris_run, tmp_path / "r")
    (tmp_path / "r" / "last" / "optim.safetensors").write_bytes(b"\0" * 30)
    refused(run, "train", "iris", "--out", tmp_path / "r", "--resume")
    assert (tmp_path / "r" / "model").exists()


def test_summary_needs_one_of_two(run, iris_run):
    assert "--layers" in refused(run, "summary")
    assert "RUN" in refused(run, "summary", iris_run, "--layers", "3")
    assert "--in" in refused(run, "summary", "--layers", "3")
    assert "whole number >= 1" in refused(run, "summary", "--layers", "3", "--in", 0)


def test_unknown_set(run):
    assert "did you mean 'moons'" in refused(run, "datasets", "mooons")


def test_mnist_that_is_not_here_is_not_downloaded(run, tmp_path, monkeypatch):
    monkeypatch.setenv("FATHOM_DATA", str(tmp_path))
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "cache"))
    assert str(tmp_path) in refused(run, "datasets", "mnist")
    assert not (tmp_path / "cache").exists()
