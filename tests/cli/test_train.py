"""fathom train: results, files, determinism, resuming, and what it says."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fathom
from fathom.cli.live import Interrupt, Live
from fathom.cli.settings import Settings
from fathom.train import checkpoint


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def test_files_and_json(run, tmp_path):
    out = tmp_path / "new" / "iris"
    result = run("train", "iris", "--epochs", 30, "--out", out, "--json")
    told = json.loads(result.stdout)
    assert "epoch 30/30" in result.stderr
    assert told["rows"] == {"train": 105, "validation": 15, "test": 30}
    assert told["scored_on"] == "test" and told["scores"]["accuracy"] > 0.8
    assert np.sum(told["scores"]["confusion"]) == 30
    assert json.loads((out / "result.json").read_text()) == told
    rows = list(csv.DictReader((out / "history.csv").read_text().splitlines()))
    assert len(rows) == told["epochs"] == 30
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert int(best["epoch"]) == told["best_epoch"]
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert sorted(p.name for p in out.iterdir()) == [
        "history.csv", "last", "model", "report.html", "result.json",
    ]  # fmt: skip


def test_model_predicts_from_python_as_measured(run, iris_run):
    told = json.loads((iris_run / "result.json").read_text())
    saved = checkpoint.load(iris_run / "model").state["state"]["data"]
    prepare = fathom.data.Preprocessor.from_dict(saved["preprocessor"])
    test = fathom.data.load("iris").split(0.1, 0.2, seed=0).test
    said = fathom.load(iris_run / "model").predict(prepare.transform_array(test.x)).argmax(axis=1)
    assert np.mean(said == test.y) == told["scores"]["accuracy"]


def test_preparation_is_learned_from_training_rows_only(iris_run):
    saved = checkpoint.load(iris_run / "model").state["state"]["data"]
    train = fathom.data.load("iris").split(0.1, 0.2, seed=0).train
    means = [column["mean"] for column in saved["preprocessor"]["columns"]]
    np.testing.assert_allclose(means, train.x.mean(axis=0, dtype=np.float64), rtol=1e-6)


def test_same_seed_same_bytes(run, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run("train", "iris", "--epochs", 5, "--dropout", 0.2, "--seed", seed, "--quiet",
            "--out", tmp_path / name, "--no-report")  # fmt: skip
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")
    assert not (tmp_path / "a" / "report.html").exists()


def test_resumed_equals_uninterrupted(run, tmp_path):
    common = ("train", "iris", "--dropout", 0.2, "--quiet", "--no-report")
    run(*common, "--epochs", 8, "--out", tmp_path / "whole")
    run(*common, "--epochs", 3, "--out", tmp_path / "parts")
    assert weights(tmp_path / "whole") != weights(tmp_path / "parts")
    run("train", "iris", "--epochs", 8, "--out", tmp_path / "parts", "--resume", "-q")
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    history = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "parts")]
    assert history[0] == history[1]


def test_resuming_with_other_settings_is_refused(run, tmp_path):
    run("train", "iris", "--epochs", 2, "--out", tmp_path / "r", "--quiet", "--no-report")
    result = run("train", "iris", "--lr", 0.5, "--out", tmp_path / "r", "--resume", code=2)
    assert "--lr" in result.stderr and "0.003" in result.stderr


def test_resuming_nothing(run, tmp_path):
    assert "no checkpoint" in run(
        "train", "iris", "--out", tmp_path / "r", "--resume", code=2).stderr  # fmt: skip


def test_an_older_run_in_the_folder_is_replaced(run, tmp_path):
    out = tmp_path / "r"
    run("train", "iris", "--epochs", 2, "--out", out, "--quiet")
    before = weights(out)
    run("train", "iris", "--epochs", 2, "--seed", 1, "--out", out, "--quiet", "--no-report")
    assert weights(out) != before and not (out / "report.html").exists()


def test_a_foreign_folder_is_left_alone(run, tmp_path):
    (tmp_path / "r" / "model").mkdir(parents=True)
    (tmp_path / "r" / "model" / "thesis.txt").write_text("years of work")
    result = run("train", "iris", "--out", tmp_path / "r", code=2)
    assert "not a checkpoint" in result.stderr
    assert (tmp_path / "r" / "model" / "thesis.txt").read_text() == "years of work"


def test_quiet_says_only_the_result(run, tmp_path):
    result = run("train", "iris", "--epochs", 2, "--out", tmp_path / "r", "-q")
    assert result.stdout.startswith("test: ") and result.stderr == ""


def test_no_rows_held_back_is_said(run, tmp_path):
    result = run("train", "xor", "--epochs", 100, "--lr", 0.01, "--out", tmp_path / "r")
    assert "no test rows" in result.stdout and "train: 100.00% right on 4 rows" in result.stdout


@pytest.mark.parametrize("options", [("--layers", "none"), ("--layers", ""), ("--layers", "8")])
def test_hidden_layers(run, tmp_path, options):
    told = json.loads(
        run("train", "iris", "--epochs", 1, "--json", "--out", tmp_path / "r", *options).stdout
    )
    assert told["parameters"] == (4 * 8 + 8 + 8 * 3 + 3 if options[1] == "8" else 4 * 3 + 3)


def test_options_reach_the_training(run, tmp_path):
    told = json.loads(run(
        "train", "moons", "--epochs", 50, "--patience", 2, "--optimizer", "sgd", "--momentum", 0.5,
        "--lr", 1e-9, "--batch-size", 100, "--activation", "tanh", "--json", "--out", tmp_path,
    ).stdout)  # fmt: skip
    assert told["epochs"] < 10 and "no better val_loss for 2 epochs" in told["stopped"]
    group = checkpoint.load(tmp_path / "last").state["optimizer"]["param_groups"][0]
    assert (group["lr"], group["momentum"]) == (1e-9, 0.5)
    assert "Tanh" in str(fathom.load(tmp_path / "model"))


def test_time_limit(run, tmp_path):
    told = json.loads(run("train", "moons", "--epochs", 100000, "--max-time", 0.2, "--json",
                          "--out", tmp_path).stdout)  # fmt: skip
    assert "time limit" in told["stopped"] and told["seconds"] < 10


def test_the_printed_command_makes_the_run_again(run, tmp_path, csv_file):
    import shlex

    run("train", csv_file, "--target", "kind", "--drop", "price", "--type", "rooms=categorical",
        "--epochs", 3, "--out", tmp_path / "a", "--quiet")  # fmt: skip
    words = shlex.split(json.loads((tmp_path / "a" / "result.json").read_text())["command"])
    again = [w if w != str(tmp_path / "a") else str(tmp_path / "b") for w in words]
    run(*again[1:], "--quiet")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_settings_survive_json():
    settings = Settings("x.csv", target="t", types=(("a", "numeric"),), layers=(3,), lr=0.25)
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_augment_needs_images(run, tmp_path):
    assert "--augment" in run("train", "iris", "--augment", "--out", tmp_path, code=2).stderr


def test_few_images_are_augmented_unless_told_otherwise(run, tmp_path):
    common = ("train", "digits", "--epochs", 1, "--layers", "none", "--no-report", "--json")
    yes = json.loads(run(*common, "--out", tmp_path / "a").stdout)
    no = json.loads(run(*common, "--no-augment", "--out", tmp_path / "b").stdout)
    assert yes["settings"]["augment"] and "--augment" in yes["command"].split()
    assert not no["settings"]["augment"] and "--no-augment" in no["command"].split()
    steps = [checkpoint.load(tmp_path / x / "last").state["state"]["steps"] for x in "ab"]
    assert steps == [-(-5 * 1258 // 64), -(-1258 // 64)]


def test_divergence_keeps_the_last_finite_weights(run, tmp_path):
    result = run("train", "moons", "--optimizer", "sgd", "--lr", 1e6, "--out", tmp_path, code=2)
    assert "at step" in result.stderr and "--lr" in result.stderr
    for parameter in fathom.load(tmp_path / "model").parameters():
        assert np.isfinite(parameter.value()).all()


def test_ctrl_c_saves_and_ends_well(tmp_path):
    words = ["train", "digits", "--epochs", "100000", "--layers", "16", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "fathom", *words], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "interrupted" in out
    told = json.loads((tmp_path / "result.json").read_text())
    assert told["interrupted"] and 1 <= told["epochs"] < 100000
    assert fathom.load(tmp_path / "model").predict(np.zeros((1, 64))).shape == (1, 10)
    assert (tmp_path / "report.html").exists()


def test_interrupted_before_the_first_epoch_is_done(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Interrupt, "on_epoch_begin", lambda self, trainer, epoch: self.press())
    told = json.loads(run("train", "iris", "--out", tmp_path, "--json").stdout)
    assert told["interrupted"] and told["epochs"] == 0 and told["best_epoch"] == 0
    assert "No epoch was completed" in (tmp_path / "report.html").read_text()


def test_second_ctrl_c_is_at_once():
    interrupt = Interrupt()
    interrupt.press()
    with pytest.raises(KeyboardInterrupt):
        interrupt.press()


def test_the_live_panel_shows_bar_and_curves():
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    data = fathom.data.load("moons", n=40)
    model = fathom.models.mlp(2, 2, hidden=(4,))
    model.fit(data.x, data.y, epochs=3, verbose=False, callbacks=[Live(screen)])
    assert "epoch 3/3" in screen.getvalue() and "accuracy" in screen.getvalue()
    assert any(spark in screen.getvalue() for spark in "▁█")
