"""evaluate, predict, summary, datasets, info and demo on good input."""

from __future__ import annotations

import json

import numpy as np

from fathom.data import names


def test_evaluate_measures_the_test_rows_again(run, iris_run):
    told = json.loads((iris_run / "result.json").read_text())
    result = run("evaluate", iris_run, "--json")
    found = json.loads(result.stdout)
    assert found["scores"] == told["scores"] and found["scored_on"] == "test"
    assert json.loads(run("evaluate", iris_run / "model", "--json").stdout)["scores"] == (
        told["scores"])  # fmt: skip


def test_evaluate_tables(run, iris_run, diabetes_run):
    text = run("evaluate", iris_run).stdout
    assert "test: " in text and text.count("versicolor") == 3  # per class, row and column
    text = run("evaluate", diabetes_run).stdout
    assert "R²" in text and "mean absolute error" in text


def test_evaluate_other_parts(run, iris_run):
    found = json.loads(run("evaluate", iris_run, "--part", "train", "--json").stdout)
    assert found["scored_on"] == "train" and found["scores"]["rows"] == 105


def test_regression_in_original_units(run, diabetes_run):
    told = json.loads(run("predict", diabetes_run, "diabetes", "--rows", "0:50", "--json").stdout)
    values = [row["prediction"] for row in told["predictions"]]
    assert len(values) == 50 and 80 < np.mean(values) < 220


def test_predict_prints_csv_when_piped(run, iris_run):
    lines = run("predict", iris_run, "iris", "--rows", "0:2").stdout.splitlines()
    assert lines[0] == "row,prediction,probability"
    assert [line.split(",")[:2] for line in lines[1:]] == [["0", "setosa"], ["1", "setosa"]]
    assert len(run("predict", iris_run, "iris", "--rows", "149").stdout.splitlines()) == 2


def test_predict_writes_a_file_and_json(run, iris_run, tmp_path):
    out = tmp_path / "said.csv"
    told = json.loads(run("predict", iris_run, "iris", "--out", out, "--json").stdout)
    assert len(told["predictions"]) == 150 == len(out.read_text().splitlines()) - 1
    assert list(tmp_path.iterdir()) == [out]


def test_summary_of_a_run_and_of_options(run, iris_run):
    found = json.loads(run("summary", iris_run, "--json").stdout)
    assert found["parameters"] == 4 * 64 + 64 + 64 * 32 + 32 + 32 * 3 + 3
    text = run("summary", "--layers", "16", "--in", 8, "--out-features", 2).stdout
    assert "Linear" in text and f"{8 * 16 + 16 + 16 * 2 + 2} parameters" in text


def test_datasets(run):
    assert [entry["name"] for entry in json.loads(run("datasets", "--json").stdout)] == names()
    text = run("datasets").stdout
    assert all(name in text for name in names())


def test_datasets_one(run):
    text = run("datasets", "digits").stdout
    assert "1,797 rows" in text and "@" in text
    assert "from 25 to 346" in run("datasets", "diabetes").stdout
    found = json.loads(run("datasets", "iris", "--json").stdout)
    assert found["class_counts"] == {"setosa": 50, "versicolor": 50, "virginica": 50}


def test_info(run):
    found = json.loads(run("info", "--json").stdout)
    assert found["packages"]["numpy"] == np.__version__
    assert found["cores"] >= 1 and found["memory_gib"] > 0 and found["cache_folder"]
    assert "numpy" in run("info").stdout


def test_mnist_from_a_folder_says_what_it_found(run, tmp_path, monkeypatch):
    from fathom.data import write_idx

    draw = np.random.default_rng(0)
    labels = np.arange(200, dtype=np.uint8) % 10
    images = draw.integers(0, 60, (200, 28, 28), dtype=np.uint8)
    images[np.arange(200), labels * 2] = 255
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels)
    monkeypatch.setenv("FATHOM_DATA", str(tmp_path))
    result = run("train", "mnist", "--epochs", 8, "--out", tmp_path / "r")
    assert "split 160 / 40" in result.stdout
    told = json.loads((tmp_path / "r" / "result.json").read_text())
    assert told["scores"]["accuracy"] > 0.9
    assert "split 160 / 40" in run("evaluate", tmp_path / "r").stderr


def test_demo(run, tmp_path):
    result = run("demo", "--out", tmp_path / "demo", "--json")
    told = json.loads(result.stdout)
    assert told["scores"]["accuracy"] >= 0.97 and told["seconds"] > 0
    assert told["reloaded_predicts_the_same"] is True
    assert sum(line.startswith("epoch ") for line in result.stderr.splitlines()) == 30
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "What the first layer looks for" in page and "Where it was wrong" in page
    (found,) = (f for f in told["doctor"]["findings"] if f["severity"] != "advice")
    assert found["kind"] == "softmax_before_cross_entropy" and found["trial"]["helped"] is True
    said = run("predict", tmp_path / "demo", "digits", "--rows", "0:3").stdout
    assert [line.split(",")[1] for line in said.splitlines()[1:]] == ["0", "1", "2"]


def test_demo_in_words(run, tmp_path):
    text = run("demo", "--out", tmp_path / "demo", "--epochs", 2).stdout
    assert "predicts the same, bit for bit" in text and "report.html" in text
    assert "taken for a" in text
    assert "error: softmax_before_cross_entropy" in text and "tried: proven: score " in text
    assert (tmp_path / "demo" / "doctor.html").exists()
