"""`examine`: faults before training, found on a copy; nothing else is touched."""

from __future__ import annotations

import random as python_random
import sys

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.data import DataLoader
from fathom.doctor.examining import examine
from fathom.doctor.weights import examine_weights
from fathom.engine import random
from fathom.engine.errors import ArgumentError, DataError, ShapeError

IRIS = fathom.data.load("iris")
X, Y = (IRIS.x - IRIS.x.mean(0)).astype(np.float32), IRIS.y


def network(*last, out=3, seed=0):
    with fathom.seed(seed):
        return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1),
                             nn.Linear(16, out), *last)  # fmt: skip


def kinds(found):
    return [f.kind for f in found.findings if f.severity != "advice"]


def test_a_healthy_model_has_no_fault():
    model = network()
    found = examine(model, (X, Y), nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01))
    assert kinds(found) == []
    assert str(found).startswith("no fault found in a trial on a copy: loss 0.91 -> ")
    assert found.case.usage.steps == 32 and found.coverage.watched


def test_a_planted_fault_is_found_and_its_fix_proven():
    model = network(nn.Softmax(1))
    found = examine(model, (X, Y), nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    assert kinds(found)[0] == "softmax_before_cross_entropy"
    treated = found.treat(0, steps=60, seeds=2)
    assert treated.trial.helped and "tried: proven" in str(found)


def test_nothing_is_touched():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rng = random.Random(3)
    loader = DataLoader(X, Y, 32, shuffle=True, rng=rng)
    model.eval()
    nn.CrossEntropyLoss()(model(fathom.tensor(X)), fathom.tensor(Y)).backward()
    optimizer.step()

    def everything():
        state = {n: t.value().tobytes() for n, t in model.state_dict().items()}
        grads = {n: p.grad.value().tobytes() for n, p in model.named_parameters()}
        modes = [m.training for m in model.modules()]
        hooks = [len(m._hooks) + len(m._pre_hooks) for m in model.modules()]
        place = repr(optimizer.state_dict()), rng.state_dict(), random.current().state_dict()
        return state, grads, modes, hooks, place, python_random.getstate(), X.tobytes()

    with fathom.seed(5):
        np.random.seed(1)
        before, numbers = everything(), np.random.get_state()[1].tolist()
        examine(model, loader, nn.CrossEntropyLoss(), optimizer, treat=True)
        assert everything() == before and np.random.get_state()[1].tolist() == numbers


def test_the_same_again():
    model = network()
    one, other = (examine(model, DataLoader(X, Y, shuffle=True), optimizer="sgd")
                  for _ in range(2))  # fmt: skip
    assert one.case.curve == other.case.curve


@pytest.mark.parametrize("form", ["arrays", "loader", "generator", "tensors", "own target"])
def test_forms_of_data(form):
    pairs = [(X[i::4], Y[i::4]) for i in range(4)]
    data = {
        "arrays": (X, Y), "loader": DataLoader(X, Y, 32), "generator": (p for p in pairs),
        "tensors": (fathom.tensor(X), fathom.tensor(Y)), "own target": [X[:40], X[40:80]],
    }[form]  # fmt: skip
    model = network(out=4 if form == "own target" else 3)
    found = examine(model, data, optimizer="adam", steps=4)
    assert found.case.usage.steps == 4 and found.case.losses


def test_a_loss_by_name_and_the_missing_optimizer():
    found = examine(network(out=1), (X, X[:, :1] * 2), "mse", steps=3)
    assert found.case.loss.function == "mse_loss"
    assert any("no optimizer was given" in note for note in found.case.notes)


def test_what_the_model_raises_comes_through_unless_the_doctor_knows():
    with pytest.raises(ShapeError):
        examine(network(), (X[:, :3], Y), steps=2)
    found = examine(network(), (X, Y + 7), nn.CrossEntropyLoss(), steps=2)
    assert "label_range" in kinds(found)
    assert any("ended early" in note for note in found.case.notes)


def test_mistakes():
    with pytest.raises(DataError, match="yield no batch"):
        examine(network(), [])
    with pytest.raises(DataError, match="rows"):
        examine(network(), (X, Y[:3]))
    with pytest.raises(ArgumentError, match="at least one step"):
        examine(network(), (X, Y), steps=0)
    with pytest.raises(ArgumentError, match="watches models"):
        examine("model", (X, Y))


def test_a_model_that_cannot_be_copied():
    model = network()
    model.handle = open(__file__)
    try:
        with pytest.raises(ArgumentError, match="cannot be copied"):
            examine(model, (X, Y))
    finally:
        model.handle.close()


def test_report(tmp_path):
    examine(network(), (X, Y), steps=4, report=tmp_path / "found.html")
    assert "in a trial on a copy" in (tmp_path / "found.html").read_text(encoding="utf-8")


# -- PyTorch --------------------------------------------------------------------------------------


def test_torch_is_not_touched():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.1),
        torch.nn.Linear(16, 3), torch.nn.Softmax(1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(4)
    rows = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(rows, 32, shuffle=True, generator=generator)

    def everything():
        return ([t.numpy().tobytes() for t in model.state_dict().values()],
                [p.grad for p in model.parameters()], optimizer.state_dict()["state"],
                torch.get_rng_state().tolist(), generator.get_state().tolist(),
                [len(m._forward_hooks) + len(m._forward_pre_hooks)
                 for m in model.modules()])  # fmt: skip

    before = everything()
    found = examine(model, loader, torch.nn.CrossEntropyLoss(), optimizer, steps=8)
    assert everything() == before and before[2] == {}
    assert kinds(found)[0] == "softmax_before_cross_entropy" and found.case.engine == "torch"


def test_torch_with_arrays_names_and_dictionaries():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    found = examine(model, (X, Y), "cross_entropy", "sgd", steps=4)
    assert found.case.loss.function == "cross_entropy" and found.case.optimizer.kind == "SGD"

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, inputs, labels):
            logits = self.body(inputs)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    batch = {"inputs": torch.tensor(X), "labels": torch.tensor(Y)}
    found = examine(Own(), [batch], steps=4)
    assert found.case.usage.steps == 4 and len(found.case.curve) == 4


def test_torch_is_not_loaded_for_a_fathom_model():
    import subprocess

    code = ("import sys, numpy as np; from fathom import nn; from fathom.doctor import examine\n"
            "examine(nn.Linear(4, 2), (np.ones((8, 4)), np.arange(8) % 2), steps=2)\n"
            "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- weights --------------------------------------------------------------------------------------


def test_weights():
    model = network()
    good = {n: t.value().copy() for n, t in model.state_dict().items()}
    assert examine_weights(good).findings == ()
    assert str(examine_weights(good)) == (
        f"no fault found in the stored weights: looked at "
        f"{len(examine_weights(good).case.parameters)} arrays")  # fmt: skip
    for change, kind in (
        (lambda w: w * np.where(np.arange(16) == 3, np.inf, 1)[:, None], "non_finite"),
        (lambda w: np.where(np.arange(16)[:, None] < 8, 0.0, w), "dead_units"),
        (lambda w: np.repeat(w[:4], 4, axis=0), "duplicate_units"),
        (lambda w: w * 1e3, "initialization_scale"),
    ):
        found = examine_weights({**good, "0.weight": change(good["0.weight"])})
        assert [f.kind for f in found.findings] == [kind] and found.findings[0].where == "0.weight"
    with pytest.raises(ArgumentError, match="no weights"):
        examine_weights({"a": np.arange(3)})


@pytest.mark.parametrize(
    ("fault", "probe"), [("learning_rate_too_low", "learning_rate_range"), ("inputs_ignored", None)]
)
def test_probes_run_and_are_heard(fault, probe):
    model = network()
    if fault == "inputs_ignored":
        with fathom.no_grad():
            model[0].weight.copy_(model[0].weight * 0)
        optimizer = optim.SGD([*model[4].parameters()], lr=0.01)
        for p in model[0].parameters():
            p.requires_grad_(False)
    else:
        optimizer = optim.SGD(model.parameters(), lr=1e-8)
    found = examine(model, (X, Y), nn.CrossEntropyLoss(), optimizer, probes=True)
    assert {"inputs_ignored", "sample_mixing", "one_batch"} <= set(found.case.probes)
    assert fault in kinds(found), (kinds(found), found.case.notes)
    if probe is not None:  # what the probe shows goes with the cause
        assert found.case.probes[probe].usable
        cause = next(f for f in found.findings if f.kind == fault)
        assert probe in cause.explains and probe not in kinds(found)
