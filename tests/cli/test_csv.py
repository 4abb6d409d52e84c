"""A table of one's own: trained, saved, evaluated and predicted from the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fathom.cli.prepare import is_file


def fathom(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fathom", *words], cwd=folder, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_the_whole_way(csv_file):
    folder = csv_file.parent
    trained = fathom(folder, "train", "houses.csv", "--target", "price", "--drop", "kind", "--json")
    assert trained.returncode == 0, trained.stderr
    told = json.loads(trained.stdout)
    assert told["task"] == "regression" and told["scores"]["r2"] > 0.7
    assert (folder / "runs" / "houses" / "model" / "state.json").exists()

    again = fathom(folder, "evaluate", "runs/houses", "--json")
    assert json.loads(again.stdout)["scores"] == told["scores"]

    new = folder / "new.csv"
    new.write_text("rooms,garden,district,area,note\n3,yes,north,100,a\n3,yes,west,,b\n")
    said = fathom(folder, "predict", "runs/houses", "new.csv", "--out", "said.csv")
    assert said.returncode == 0 and said.stdout == ""
    for word in ("west", "note", "2 predictions written to said.csv"):
        assert word in said.stderr
    rows = list(csv.DictReader((folder / "said.csv").read_text().splitlines()))
    assert [row["line"] for row in rows] == ["2", "3"]
    assert 60 < float(rows[0]["prediction"]) < 180


def test_classes_by_name_with_probabilities(run, csv_file, tmp_path):
    out = tmp_path / "run"
    run(
        "train", csv_file, "--target", "kind", "--drop", "price", "--epochs", 30, "--out", out, "-q"
    )
    told = json.loads(run("predict", out, csv_file, "--rows", ":4", "--proba", "--json").stdout)
    assert len(told["predictions"]) == 4
    for row in told["predictions"]:
        assert row["prediction"] in ("large", "small")
        assert sum(row["probabilities"].values()) == pytest.approx(1.0)
        assert row["probabilities"][row["prediction"]] == row["probability"] >= 0.5
    header = run("predict", out, csv_file, "--proba").stdout.splitlines()[0]
    assert header == "line,prediction,probability,P(large),P(small)"


def test_evaluating_another_file(run, csv_file, tmp_path):
    out = tmp_path / "run"
    run(
        "train", csv_file, "--target", "kind", "--drop", "price", "--epochs", 20, "--out", out, "-q"
    )
    other = tmp_path / "other.csv"
    other.write_text("".join(csv_file.read_text().splitlines(keepends=True)[:31]))
    told = json.loads(run("evaluate", out, other, "--json").stdout)
    assert told["scores"]["rows"] == 30 and told["scores"]["accuracy"] > 0.7


def test_changed_data_are_noticed(run, csv_file, tmp_path):
    out = tmp_path / "run"
    run("train", csv_file, "--target", "price", "--epochs", 2, "--out", out, "-q")
    with csv_file.open("a") as file:
        file.write("100,3,north,yes,130,small\n")
    told = json.loads(run("evaluate", out, "--json").stdout)
    assert any("changed" in note for note in told["notes"])


def test_vanished_data_are_named(run, csv_file, tmp_path):
    out = tmp_path / "run"
    run("train", csv_file, "--target", "price", "--epochs", 2, "--out", out, "-q")
    csv_file.unlink()
    assert str(csv_file) in run("evaluate", out, code=2).stderr


def test_kinds_of_columns_can_be_forced(run, csv_file, tmp_path):
    def inputs(*options: str) -> int:
        out = tmp_path / "run"
        run("train", csv_file, "--target", "price", "--epochs", 1, "--layers", "none",
            "--out", out, "-q", *options)  # fmt: skip
        return json.loads((out / "result.json").read_text())["parameters"] - 1

    assert inputs("--type", "rooms=categorical") > inputs()


def test_names_and_paths():
    assert not is_file("digits") and not is_file("no-such-set")
    assert is_file("a.csv") and is_file("./digits") and is_file("folder/table")
