"""activations, lr-find, spec files, and the options of training beyond the first ones."""

from __future__ import annotations

import json
import shlex

import pytest

from fathom.cli import fitting
from fathom.cli.settings import Settings
from fathom.train import checkpoint

# -- activations ---------------------------------------------------------------------------------


def test_activations_as_a_table(run):
    text = run("activations", "relu", "Leaky-ReLU").stdout
    assert "leaky_relu" in text and "Lipschitz" in text and "50.0%" in text
    found = json.loads(run("activations", "relu", "gelu", "--json").stdout)
    assert [row["name"] for row in found] == ["relu", "gelu"]
    assert found[0]["range"] == [0.0, "inf"] and found[0]["kinks"][0]["order"] == 1


def test_one_activation_in_detail(run, tmp_path):
    text = run("activations", "silu").stdout
    assert "silu(x) = x * sigmoid(x)" in text and "minimum -0.27846 at -1.2785" in text
    found = json.loads(run("activations", "silu", "--json", "--plot", tmp_path / "a.svg").stdout)
    assert found["latex"] == r"x \sigma\left(x\right)" and not found["monotone"]
    assert found["extrema"][0]["x"] == pytest.approx(-1.27846, abs=1e-5)
    assert "<svg" in (tmp_path / "a.svg").read_text()
    run("activations", "elu", "--plot", tmp_path / "new" / "b.png")
    assert (tmp_path / "new" / "b.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sliu",), "did you mean"),
        (("softmax",), "whole axis"),
        (("relu", "--plot", "a.docx"), ".png"),
        (("relu", "gelu", "--plot", "a.png"), "one NAME"),
    ],
)
def test_activations_mistakes(run, words, said):
    assert said in run("activations", *words, code=2).stderr


# -- lr-find -------------------------------------------------------------------------------------


def test_lr_find_suggests_a_rate(run, tmp_path):
    text = run("lr-find", "iris", "--plot", tmp_path / "r.png").stdout
    assert "suggestion" in text and "fathom train iris --lr" in text
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads(run("lr-find", "iris", "--json", "--end", 1, "--optimizer", "sgd").stdout)
    assert 1e-6 < found["suggestion"] <= 1 and found["range"][0] == pytest.approx(1e-6)
    assert found["settings"]["optimizer"] == "sgd"
    assert len(found["lrs"]) == len(found["losses"]) == len(found["smoothed"])


def test_lr_find_in_a_table(run, csv_file):
    words = ("lr-find", csv_file, "--target", "price", "--drop", "kind", "--steps", 30)
    assert json.loads(run(*words, "--layers", "8", "--json").stdout)["suggestion"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("iris", "--start", 2, "--end", 1), "start < end"),
        (("iris", "--plot", "r.txt"), ".png"),
        (("iris", "--activation", "rleu"), "did you mean 'relu'"),
        (("irsi",), "did you mean 'iris'"),
    ],
)
def test_lr_find_mistakes(run, words, said):
    assert said in run("lr-find", *words, code=2).stderr


# -- options of training -------------------------------------------------------------------------


@pytest.mark.parametrize("name", fitting.optimizers())
def test_every_optimizer_trains_and_resumes(run, tmp_path, name):
    words = ("train", "iris", "--optimizer", name, "--layers", 3, "--json", "--no-report")
    run(*words, "--epochs", 1, "--out", tmp_path)
    told = json.loads(run(*words, "--epochs", 2, "--out", tmp_path, "--resume").stdout)
    assert told["epochs"] == 2 and told["settings"]["lr"] > 0


def test_options_reach_fit_and_are_kept(run, tmp_path):
    words = (
        "train", "iris", "--epochs", 3, "--optimizer", "adamw", "--weight-decay", 0.125,
        "--schedule", "cosine", "--clip-norm", 0.5, "--accumulate", 2, "--ema", 0.5,
        "--label-smoothing", 0.1, "--class-weight", "balanced", "--loss", "cross_entropy",
        "--activation", "Leaky-ReLU",
    )  # fmt: skip
    result = run(*words, "--out", tmp_path / "r")
    assert "schedule cosine" in result.stdout and "ema 0.5" in result.stdout
    told = json.loads((tmp_path / "r" / "result.json").read_text())
    settings = Settings.from_dict(told["settings"])
    assert (settings.weight_decay, settings.clip_norm, settings.accumulate) == (0.125, 0.5, 2)
    state = checkpoint.load(tmp_path / "r" / "last").state
    assert state["optimizer"]["param_groups"][0]["weight_decay"] == 0.125
    assert state["state"]["average"]["decay"] == 0.5 and "T_max" in state["state"]["schedule"]
    assert state["state"]["schedule"]["T_max"] == 3 * 2  # 4 batches of 32, two to a step
    again = shlex.split(told["command"])[1:-1]
    run(*again, tmp_path / "s", "--quiet")
    blobs = [(tmp_path / x / "model" / "model.safetensors").read_bytes() for x in "rs"]
    assert blobs[0] == blobs[1]
    more = ("--out", tmp_path / "r", "--resume")
    assert "--ema 0.5" in run("train", "iris", "--ema", 0.9, *more, code=2).stderr
    run("train", "iris", "--epochs", 4, "-q", *more)


@pytest.mark.parametrize(
    ("data", "words", "said"),
    [
        ("iris", ("--optimizer", "gauss_newton"), "residuals"),
        ("iris", ("--optimizer", "lbfgs", "--weight-decay", 0.1), "--weight-decay is no option"),
        ("iris", ("--optimizer", "lbfgs", "--accumulate", 2), "--batch-size"),
        ("iris", ("--weight-decay", -1), "weight_decay"),
        ("iris", ("--schedule", "cosin"), "did you mean 'cosine'"),
        ("iris", ("--schedule", "lambda"), "only Python"),
        ("iris", ("--activation", "glu"), "keeps the width"),
        ("iris", ("--clip-norm", 0), "--clip-norm"),
        ("iris", ("--accumulate", 0), "--accumulate"),
        ("iris", ("--ema", 1), "--ema"),
        ("iris", ("--label-smoothing", 1), "--label-smoothing"),
        ("iris", ("--class-weight", "heavy"), "balanced"),
        ("iris", ("--loss", "mes"), "did you mean 'mse'"),
        ("iris", ("--loss", "mse"), "--loss mse"),
        ("diabetes", ("--loss", "cross_entropy"), "--loss cross_entropy"),
        ("diabetes", ("--class-weight", "balanced"), "--class-weight"),
        ("diabetes", ("--label-smoothing", 0.1), "--label-smoothing"),
    ],
)
def test_options_that_do_not_go(run, tmp_path, data, words, said):
    assert said in run("train", data, "--out", tmp_path / "r", *words, code=2).stderr
    assert not (tmp_path / "r").exists()


def test_a_schedule_and_an_average_go_on_when_resumed(run, tmp_path):
    words = ("train", "iris", "--schedule", "step", "--ema", 0.9, "--optimizer", "sam", "-q",
             "--layers", 4, "--no-report")  # fmt: skip
    run(*words, "--epochs", 3, "--out", tmp_path / "r")
    run(*words, "--epochs", 6, "--out", tmp_path / "s")
    run("train", "iris", "--epochs", 6, "--out", tmp_path / "s", "--resume", "-q")
    run("train", "iris", "--epochs", 5, "--out", tmp_path / "r", "--resume", "-q")
    state = checkpoint.load(tmp_path / "r" / "last").state["state"]
    assert state["epoch"] == 5 and state["average"]["count"] == 5 * 4


# -- specification files -------------------------------------------------------------------------

SPEC = """
data = "iris"
layers = [8, 4]
lr = 0.01
batch-size = 16
epochs = 3
patience = 2
augment = false
report = false
"""


def written(path, text):
    path.write_text(text)
    return path


def test_a_spec_is_the_options(run, tmp_path):
    spec = written(tmp_path / "run.toml", SPEC + f'out = "{(tmp_path / "a").as_posix()}"\n')
    told = json.loads(run("train", spec, "--json").stdout)
    settings = told["settings"]
    assert settings["data"] == "iris" and settings["layers"] == [8, 4]
    assert (settings["lr"], settings["batch_size"], settings["epochs"]) == (0.01, 16, 3)
    assert "report" not in told["files"] and told["files"]["folder"] == str(tmp_path / "a")
    told = json.loads(run("train", spec, "--lr", 0.5, "--out", tmp_path / "b", "--json").stdout)
    assert told["settings"]["lr"] == 0.5 and told["files"]["folder"] == str(tmp_path / "b")
    run("train", spec, "--resume", "--epochs", 4, "-q")
    assert "0.01" in run("train", spec, "--resume", "--lr", 1, code=2).stderr


def test_a_saved_spec_makes_the_run_again(run, tmp_path, csv_file):
    spec = tmp_path / "specs" / "houses.json"
    run("train", csv_file, "--target", "kind", "--drop", "price", "--type", "rooms=categorical",
        "--layers", "none", "--epochs", 2, "--schedule", "step", "--save-spec", spec,
        "--out", tmp_path / "a", "-q")  # fmt: skip
    saved = json.loads(spec.read_text())
    assert saved["type"] == {"rooms": "categorical"} and saved["layers"] == []
    assert saved["lr"] == 0.003 and "ema" not in saved
    run("train", spec, "--out", tmp_path / "b", "-q")
    blobs = [(tmp_path / x / "model" / "model.safetensors").read_bytes() for x in "ab"]
    assert blobs[0] == blobs[1]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", 'data = "iris"\nlayrs = [3]', ("a.toml", "'layrs'", "did you mean 'layers'")),
        ("a.toml", 'data = "iris"\nlayers = [3.5]', ("a.toml: layers", "3.5")),
        ("a.toml", 'data = "iris"\nepochs = 2.5', ("a.toml: epochs", "a whole number", "2.5")),
        ("a.toml", 'data = "iris"\nlr = "big"', ("a.toml: lr", "a number", "'big'")),
        ("a.toml", 'data = "iris"\naugment = 1', ("a.toml: augment", "true or false")),
        ("a.toml", 'data = "iris"\ntask = "both"', ("a.toml: task", "both")),
        ("a.toml", 'data = "iris"\nquiet = true', ("unknown key 'quiet'",)),
        ("a.toml", 'data = "iris"\nbatch-size = 2\nbatch_size = 3', ("two spellings",)),
        ("a.toml", "data = iris", ("is not TOML", "line 1")),
        ("a.toml", "lr = 1", ("'data'",)),
        ("a.toml", 'data = "a.toml"', ("'data'",)),
        ("a.json", '{"data": "iris", "type": [["a", 1]]}', ("a.json: type", "quotes")),
        ("a.json", '{"data": "iris"', ("is not JSON", "line 1")),
        ("a.json", "[1]", ("keys and values",)),
        ("a.json", '{"data": "irsi"}', ("did you mean 'iris'",)),
        ("a.json", '{"data": "iris", "lr": -1}', ("--lr",)),
    ],
)
def test_mistakes_in_a_spec(run, tmp_path, name, text, said):
    result = run("train", written(tmp_path / name, text), "--out", tmp_path / "r", code=2)
    for word in said:
        assert word in result.stderr
    assert not (tmp_path / "r").exists()


def test_spec_files_that_cannot_be(run, tmp_path):
    assert "there is no file" in run("train", tmp_path / "no.toml", code=2).stderr
    words = ("train", "iris", "--out", tmp_path / "r", "--save-spec")
    assert "writes JSON" in run(*words, tmp_path / "a.txt", code=2).stderr
    run("train", "irsi", "--save-spec", tmp_path / "a.json", code=2)
    assert not (tmp_path / "a.json").exists()
    (tmp_path / "file").write_text("")
    assert "cannot write" in run(*words, tmp_path / "file" / "a.json", code=2).stderr
    assert not (tmp_path / "r").exists()
