"""activations, lr-find, spec files, and the options of training beyond the first ones."""

from __future__ import annotations

import csv
import json
import shlex

import pytest

import fathom
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
        ("iris", ("--activation", "swigul"), "did you mean 'swiglu'"),
        ("iris", ("--init", "he_nromal"), "did you mean 'he_normal'"),
        ("iris", ("--init", "he_normal:gian=1"), "did you mean 'gain'"),
        ("iris", ("--optimizer", "adam:betaz=1"), "did you mean 'betas'"),
        ("iris", ("--optimizer", "sam:base=adma"), "did you mean 'adam'"),
        ("iris", ("--optimizer", "sam:base=adam", "--momentum", 0.5), "--momentum is no option"),
        ("iris", ("--schedule", "step:sizes=1"), "schedule 'step'"),
        ("iris", ("--clip-value", -1), "--clip-value"),
        ("iris", ("--min-delta", -1), "--min-delta"),
        ("iris", ("--penalty", "l3"), "unknown penalty 'l3'"),
        ("iris", ("--penalty", "l1:strength=-1"), "must be a number >= 0"),
        ("iris", ("--transform", "mixpu"), "did you mean 'mixup'"),
        ("iris", ("--transform", "crop"), "--transform crop is for images"),
        ("iris", ("--metrics", "acuracy"), "did you mean 'accuracy'"),
        ("iris", ("--class-weight", "1,2"), "2 weights for 3 classes"),
        ("iris", ("--loss", "focal", "--label-smoothing", 0.1), "--loss cross_entropy, not focal"),
        ("iris", ("--loss", "huber"), "one of bce_with_logits, cross_entropy, focal, hinge"),
        ("iris", ("--loss", "focal:gama=1"), "did you mean 'gamma'"),
        ("iris", ("--loss", "bce"), "--loss bce_with_logits"),
        ("iris", ("--loss", "ctc"), "compares (log_probs, targets"),
        ("diabetes", ("--loss", "hinge"), "one of huber, log_cosh, mae, mse, quantile, smooth_l1"),
        ("diabetes", ("--loss", "quantile:q=[0.1,0.9]"), "an output for each quantile"),
        ("diabetes", ("--loss", "gaussian_nll"), "means and log variances"),
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


@pytest.mark.parametrize(
    ("data", "loss"),
    [("iris", name) for name in ("focal:gamma=1", "bce_with_logits", "hinge", "soft_margin")]
    + [("diabetes", name) for name in ("huber:delta=0.5", "mae", "quantile:q=0.7", "log_cosh")],
)
def test_losses_by_name(run, tmp_path, data, loss):
    words = ("train", data, "--loss", loss, "--layers", 8, "--epochs", 25, "--json", "--no-report")
    told = json.loads(run(*words, "--out", tmp_path).stdout)
    scores = told["scores"]
    assert told["settings"]["loss"] == loss
    assert scores["accuracy"] > 0.8 if data == "iris" else scores["r2"] > 0.15


def test_what_has_a_name_takes_options(run, tmp_path):
    """Network, batches, penalty and stopping by name; the command line it told repeats it."""
    words = (
        "train", "digits", "--epochs", 2, "--layers", 16, "--no-augment", "--init", "auto",
        "--activation", "swiglu", "--optimizer", "sam:base=adamw,rho=0.02", "--weight-decay", 0.01,
        "--transform", "mixup:alpha=0.3", "--transform", "crop:padding=1", "--clip-value", 0.5,
        "--penalty", "elastic_net:l1=1e-5,l2=1e-4", "--schedule", "step:step_size=1,gamma=0.5",
        "--metrics", "accuracy,top_5", "--monitor", "val_top_5", "--min-delta", 0.001,
        "--class-weight", "1,1,1,1,1,1,1,1,1,2", "--patience", 5,
    )  # fmt: skip
    result = run(*words, "--out", tmp_path / "r")
    assert "transform mixup:alpha=0.3 crop:padding=1" in result.stdout
    told = json.loads((tmp_path / "r" / "result.json").read_text())
    history = (tmp_path / "r" / "history.csv").read_text().splitlines()[0]
    assert history == "epoch,loss,accuracy,top_5,val_loss,val_accuracy,val_top_5,lr"
    state = checkpoint.load(tmp_path / "r" / "last").state
    assert state["optimizer"]["class"] == "SAM"
    assert state["state"]["callbacks"]["EarlyStopping"]["monitor"] == "val_top_5"
    assert fathom.load(tmp_path / "r" / "model")[0].out_features == 32
    run(*shlex.split(told["command"])[1:-1], tmp_path / "s", "--quiet")
    blobs = [(tmp_path / x / "model" / "model.safetensors").read_bytes() for x in "rs"]
    assert blobs[0] == blobs[1]


def test_the_proximal_penalty_makes_zeros(run, tmp_path):
    run("train", "diabetes", "--penalty", "proximal_l1:strength=0.05", "--optimizer", "sgd",
        "--layers", 8, "--epochs", 20, "--out", tmp_path, "--no-report", "-q")  # fmt: skip
    weight = fathom.load(tmp_path / "model")[0].weight.value()
    assert (weight == 0).mean() > 0.1


def test_the_monitored_epoch_is_the_one_that_is_kept(run, tmp_path):
    words = ("train", "iris", "--monitor", "val_accuracy", "--epochs", 12, "--seed", 1)
    told = json.loads(run(*words, "--out", tmp_path, "--json", "--no-report").stdout)
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    best = max(float(row["val_accuracy"]) for row in rows)
    assert float(rows[told["best_epoch"] - 1]["val_accuracy"]) == best
    scored = json.loads(run("evaluate", tmp_path, "--part", "validation", "--json").stdout)
    assert scored["scores"]["accuracy"] == pytest.approx(best, abs=1e-6)


def test_trial_runs(run, tmp_path):
    words = ("train", "iris", "--out", tmp_path / "r")
    told = json.loads(run(*words, "--fast-dev-run", "--json", "--no-report").stdout)
    assert told["epochs"] == 1 and not (tmp_path / "r" / "last").exists()
    words = ("train", "iris", "--out", tmp_path / "s", "--overfit-batch")
    told = json.loads(run(*words, "--json").stdout)
    assert told["passed"] and told["last"] < 0.05 * told["first"]
    assert "learned one batch" in run(*words, "--loss", "focal", "--init", "auto").stdout
    failed = run(*words, "--layers", "none", "--lr", 1e-6)
    assert "did not learn" in failed.stdout and "a fault" in failed.stderr
    assert not (tmp_path / "s").exists()


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


NAMED = """
data = "iris"
layers = [8]
activation = "maxout"
epochs = 2
init = {name = "orthogonal", gain = 1.5}
transform = ["noise", {name = "mixup", alpha = 0.3}]
class-weight = [1, 2, 1]
metrics = ["accuracy", "f1"]
[loss]
name = "cross_entropy"
label_smoothing = 0.1
[optimizer]
name = "adamw"
betas = [0.9, 0.95]
"""


def test_names_with_options_in_a_spec(run, tmp_path):
    spec = written(tmp_path / "run.toml", NAMED)
    words = ("--out", tmp_path / "r", "--no-report", "--json", "--save-spec", tmp_path / "s.json")
    settings = json.loads(run("train", "--spec", spec, *words).stdout)["settings"]
    assert settings["loss"] == "cross_entropy:label_smoothing=0.1"
    assert settings["optimizer"] == "adamw:betas=[0.9,0.95]"
    assert settings["transform"] == ["noise", "mixup:alpha=0.3"]
    assert settings["class_weight"] == "1,2,1" and settings["init"] == "orthogonal:gain=1.5"
    run("train", tmp_path / "s.json", "--out", tmp_path / "s", "-q", "--no-report")
    blobs = [(tmp_path / x / "model" / "model.safetensors").read_bytes() for x in "rs"]
    assert blobs[0] == blobs[1]
    told = run("train", "moons", "--spec", spec, "--class-weight", "balanced", *words[:3], "-q")
    assert "right" in told.stdout


def test_lr_find_and_summary_read_the_same_spec(run, tmp_path):
    spec = written(tmp_path / "run.toml", NAMED)
    for words in (("lr-find", "--spec", spec), ("lr-find", spec)):
        told = json.loads(run(*words, "--steps", 30, "--json").stdout)
        assert told["settings"]["optimizer"] == "adamw:betas=[0.9,0.95]"
        assert told["settings"]["layers"] == [8]
    text = run("lr-find", "--spec", spec, "--optimizer", "sgd", "--steps", 30).stdout
    assert "--optimizer sgd" in text and "fathom train iris" in text
    layers = json.loads(run("summary", spec, "--json").stdout)["layers"]
    assert [row["type"] if "type" in row else row["kind"] for row in layers] == [
        "Linear", "Maxout", "Linear"
    ]  # fmt: skip
    assert layers[0]["output_shape"] == [1, 16]


@pytest.mark.parametrize("command", ["train", "lr-find"])
def test_a_spec_given_badly(run, tmp_path, command):
    spec = written(tmp_path / "run.toml", NAMED)
    assert "DATA" in run(command, code=2).stderr
    assert "two specification files" in run(command, spec, "--spec", spec, code=2).stderr
    assert ".toml and .json" in run(command, "--spec", "iris", code=2).stderr
    bad = written(tmp_path / "bad.toml", 'data = "iris"\nloss = {nam = "mse"}')
    assert "bad.toml: loss: loss: the key 'name'" in run(command, bad, code=2).stderr


# -- summaries of networks that begin without sizes ----------------------------------------------

LAZY = """
type = "Sequential"
[[layers]]
type = "LazyConv2d"
out_channels = 6
kernel_size = 5
[[layers]]
type = "ReLU"
[[layers]]
type = "Flatten"
[[layers]]
type = "LazyLinear"
out_features = 10
"""


def test_summary_learns_sizes_from_the_input(run, tmp_path):
    spec = written(tmp_path / "net.toml", LAZY)
    told = json.loads(run("summary", spec, "--input", "1x28x28", "--json").stdout)
    assert told["parameters"] == 6 * 26 + 10 * (6 * 24 * 24 + 1)
    assert [row["kind"] for row in told["layers"]] == ["Conv2d", "ReLU", "Flatten", "Linear"]
    assert "--input 1x28x28" in run("summary", spec, code=2).stderr
    assert "another shape than 28" in run("summary", spec, "--input", 28, code=2).stderr
    assert "not a shape" in run("summary", spec, "--input", "wide", code=2).stderr
    bad = written(tmp_path / "bad.json", '{"type": "Sequential", "layers": [{"type": "Linaer"}]}')
    error = run("summary", bad, code=2).stderr
    assert "bad.json: unknown layer 'Linaer'" in error


def test_summary_of_stored_networks_of_images(run, tmp_path):
    fathom.models.lenet5().save(tmp_path / "lenet")
    told = json.loads(run("summary", tmp_path / "lenet", "--input", "1x28x28", "--json").stdout)
    assert told["parameters"] == 61706
    assert "--input 1x28x28" in run("summary", tmp_path / "lenet", code=2).stderr
    lazy = fathom.nn.Sequential(fathom.nn.LazyLinear(3))
    lazy(fathom.zeros(2, 5))
    lazy.save(tmp_path / "lazy")
    assert "18 parameters" in run("summary", tmp_path / "lazy").stdout
    words = ("summary", "--layers", "8", "--input", 5, "--activation", "glu")
    assert "(1, 16)" in run(*words).stdout


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
