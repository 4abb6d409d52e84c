"""`fathom doctor` on scripts, runs and weights, and `fathom train --doctor`."""

from __future__ import annotations

import json
import textwrap

import numpy as np
import pytest

import fathom
from fathom.cli.commands import doctor as module

SCRIPT = """
import sys
import fathom
from fathom import nn, optim

data = fathom.data.load("iris")
with fathom.seed(0):
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3){last})
optimizer, loss = optim.SGD(model.parameters(), lr=0.05), nn.CrossEntropyLoss()
x, y = fathom.tensor(data.x - data.x.mean(0)), fathom.tensor(data.y)
for _ in range({steps}):
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()
print("trained", *sys.argv[1:], __name__)
{end}
"""


def script(folder, last="", steps=30, end=""):
    path = folder / "train.py"
    path.write_text(textwrap.dedent(SCRIPT).format(last=last, steps=steps, end=end))
    return path


def test_script_with_a_fault(run, tmp_path, capfd):
    path, report = script(tmp_path, ", nn.Softmax(1)"), tmp_path / "out" / "found.html"
    result = run("doctor", path, "--report", report, "--treat", "--", "--epochs", 3)
    assert capfd.readouterr().out == "trained --epochs 3 __main__\n"  # its output is its own
    assert result.stdout == ""
    assert "1 fault found: loss 1." in result.stderr
    assert "error: softmax_before_cross_entropy in output" in result.stderr
    assert "tried: " in result.stderr and f"report  {report}" in result.stderr
    assert "Fathom doctor: model" in report.read_text(encoding="utf-8")


def test_script_exit_codes_and_json(run, tmp_path, capfd):
    path = script(tmp_path, ", nn.Softmax(1)", end="sys.exit(7)")
    found = json.loads(run("doctor", path, "--json", "--strict", code=7).stdout)
    assert capfd.readouterr().out == ""  # it went to stderr
    assert (found["kind"], found["exit_code"], found["faults"]) == ("script", 7, 1)
    (one,) = found["runs"]
    assert one["model"] == "model" and one["schema"] == 1 and one["steps"]["taken"] == 30
    assert one["findings"][0]["kind"] == "softmax_before_cross_entropy"


def test_script_that_fails_shows_its_own_traceback(run, tmp_path, capfd):
    path = script(tmp_path, steps=70, end="raise KeyError('gone')")
    result = run("doctor", path, "--steps", 60, code=0)  # ended before it fails
    assert "no fault found" in result.stderr and "at " in result.stderr
    run("doctor", path, code=1)
    told = capfd.readouterr().err
    assert "KeyError: 'gone'" in told and "attaching.py" not in told and "runpy" not in told


def test_strict_and_quiet(run, tmp_path):
    assert run("doctor", script(tmp_path, steps=120), "--strict", "--quiet").stderr == ""
    run("doctor", script(tmp_path, ", nn.Softmax(1)"), "--strict", code=module.FAULTY)


def test_script_that_trains_nothing(run, tmp_path):
    path = tmp_path / "nothing.py"
    path.write_text("print('hello')")
    assert "nothing was seen to train" in run("doctor", path).stderr


def test_run_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text('data = "iris"\nlr = 30.0\nepochs = 20\noptimizer = "sgd"\n')
    found = json.loads(run("doctor", "run.toml", "--steps", 40, "--json").stdout)
    assert found["kind"] == "run" and found["faults"] >= 1
    assert found["runs"][0]["steps"]["taken"] <= 40
    assert [p.name for p in tmp_path.iterdir()] == ["run.toml"]  # nothing is kept


def test_stored_weights(run, iris_run, tmp_path):
    assert "no fault found in the stored weights" in run("doctor", iris_run).stderr
    broken = tmp_path / "broken.npz"
    np.savez(broken, **{"fc.weight": np.full((4, 3), np.nan)})
    assert "non_finite in fc.weight" in run("doctor", broken, "--strict", code=4).stderr


def test_mistakes(run, tmp_path, iris_run):
    assert "there is no file" in run("doctor", "nowhere.py", code=2).stderr
    (tmp_path / "a.txt").write_text("")
    assert "no script, no run" in run("doctor", tmp_path / "a.txt", code=2).stderr
    assert "arguments are for scripts" in run("doctor", iris_run, "--", "x", code=2).stderr
    assert "need a training" in run("doctor", iris_run, "--treat", code=2).stderr
    (tmp_path / "a.npz").write_bytes(b"no")
    assert "cannot be read" in run("doctor", tmp_path / "a.npz", code=2).stderr
    (tmp_path / "a.toml").write_text("data = 3")
    run("doctor", tmp_path / "a.toml", code=2)


def test_train_with_the_doctor(run, tmp_path):
    out = tmp_path / "run"
    result = run("train", "iris", "--epochs", 30, "--out", out, "--quiet", "--doctor")
    assert result.stderr.startswith("no fault found") and "right on" in result.stdout
    assert (out / "doctor.html").exists() and f"doctor  {out / 'doctor.html'}" in result.stderr
    alone = tmp_path / "alone"
    run("train", "iris", "--epochs", 30, "--out", alone, "--quiet")
    assert not (alone / "doctor.html").exists()
    one, other = (fathom.load(p / "model").state_dict() for p in (out, alone))
    assert all(one[n].value().tobytes() == other[n].value().tobytes() for n in one)


def test_train_with_the_doctor_as_json_and_in_a_file(run, tmp_path):
    spec = tmp_path / "run.toml"
    spec.write_text('data = "iris"\nepochs = 8\nlr = 3.0\ndoctor = true\n')
    found = json.loads(run("train", spec, "--out", tmp_path / "o", "--quiet", "--json").stdout)
    assert found["doctor"]["findings"][0]["kind"] == "learning_rate_too_high"


def test_train_that_diverges_is_explained(run, tmp_path):
    words = ("iris", "--optimizer", "sgd", "--lr", 50, "--epochs", 3, "--out", tmp_path / "o")
    told = run("train", *words, "--quiet", "--doctor", code=2).stderr
    assert "error: learning_rate_too_high in optimizer" in told
    assert told.index("doctor.html") < told.index("error: the loss is")


@pytest.mark.parametrize("name", ["run.json", "train.toml"])
def test_kinds(name):
    assert module.kind_of(name) == "run"
