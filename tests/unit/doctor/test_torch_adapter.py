"""What a `Case` says of a watched PyTorch run, and models of unusual kinds."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fathom.doctor.watching import Watch, watch

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fathom.doctor.adapters import torch_patches as patches  # noqa: E402

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def mlp() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def run(
    model: Any, steps: int = 4, x: Any = X, y: Any = Y, loss: Any = F.cross_entropy,
    inside: Callable[[Any], Any] | None = None, **options: Any,
) -> Watch:  # fmt: skip
    """`steps` of gradient descent, watched; `inside` is called with the model in the block."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, quiet=True, budget=1.0, **options) as seen:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        if inside is not None:
            inside(model)
    assert not patches._hearers and not patches._originals
    for module in model.modules():
        assert not (module._forward_hooks or module._forward_pre_hooks)
    return seen


def sound(seen: Watch, steps: int = 4) -> None:
    assert not seen.adapter.broken and not seen.adapter.off, seen.case.notes
    assert seen.case.usage.steps == steps and np.isfinite(seen.case.curve).all()


# -- the case --------------------------------------------------------------------------------------


def test_layers_parameters_losses_and_steps() -> None:
    seen = run(mlp())
    case = seen.case
    sound(seen)
    assert [layer.kind for layer in case.layers.values()] == ["Linear", "ReLU", "Linear"]
    assert case.layers["0"].activation == "relu" and case.layers["2"].activation is None
    call = case.losses[0]
    assert call.function == "cross_entropy" and call.layer == "2" and call.path == ()
    assert call.shapes == ((64, 3), (64,)) and case.reached == set(case.parameters)
    assert [s.number for s in case.steps] == [0, 1, 2] and case.curve[0] == call.value
    assert np.array_equal(case.inputs[0], X.numpy()) and len(seen.adapter.batches) == 4
    assert str(seen.coverage) == "watched 3 of 3 modules"


def test_statistics_are_numpys() -> None:
    model = mlp()
    z = (X @ model[0].weight.T + model[0].bias).detach().numpy()
    weight = model[0].weight.detach().numpy().copy()
    found = run(model, 1).case.steps[0]
    layer, parameter = found.layers["0"], found.parameters["0.weight"]
    assert layer.mean == pytest.approx(z.mean(), abs=1e-6)
    assert layer.std == pytest.approx(z.std(), rel=1e-5)
    assert layer.largest == pytest.approx(abs(z).max(), rel=1e-6)
    assert layer.zero == pytest.approx((z <= 0).mean()) and layer.examples == len(X)
    assert layer.dead == pytest.approx((z <= 0).all(axis=0).mean())
    moved = model[0].weight.detach().numpy() - weight
    assert parameter.weight == pytest.approx(np.linalg.norm(weight), rel=1e-5)
    assert parameter.update == pytest.approx(np.linalg.norm(moved), rel=1e-4)
    assert parameter.update == pytest.approx(0.1 * parameter.gradient, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_statistics_agree_across_types(dtype: Any) -> None:
    model = mlp().to(dtype)
    expected = run(mlp(), 1).case.steps[0].layers["0"]
    found = run(model, 1, X.to(dtype)).case.steps[0].layers["0"]
    tolerance = 0.05 if dtype is torch.bfloat16 else 1e-4
    for name in ("mean", "std", "largest", "zero", "dead", "off", "spread"):
        value, wanted = getattr(found, name), getattr(expected, name)
        assert value == pytest.approx(wanted, rel=tolerance, abs=tolerance), name
    assert found.examples == expected.examples


def test_large_outputs_are_looked_at_in_part() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 1024, 3))
    x = torch.randn(32, 1, 32, 32)
    z = model[0](x).detach().numpy()
    seen = run(model, 1, x, torch.arange(32) % 3)
    layer = seen.case.steps[0].layers["0"]
    assert seen.case.layers["0"].rows == 32 * 1024  # of all of it
    assert layer.largest == pytest.approx(abs(z).max(), rel=1e-6)
    assert layer.std == pytest.approx(z.std(), rel=0.05)


def test_wide_outputs_are_kept_in_part() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(256, 4), torch.arange(256) % 5000
    call = run(nn.Linear(4, 5000), 1, x, y).case.losses[0]
    assert call.shapes == ((256, 5000), (256,))
    assert call.output.shape == (64, 5000) and call.target is not None
    assert np.array_equal(call.target, y[:64])


def test_curves_of_the_loss_without_reduction() -> None:
    def loss(output: Any, target: Any) -> Any:
        return F.cross_entropy(output, target, reduction="none")

    optimizer = torch.optim.SGD((model := mlp()).parameters(), lr=0.1)
    with watch(model, optimizer, quiet=True) as seen:
        values = loss(model(X), Y)
        values.backward(torch.ones(64) / 64)
        optimizer.step()
    assert seen.case.curve == [pytest.approx(float(values.detach().mean()))]


def test_the_last_batch_that_is_kept_is_bounded_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from fathom.doctor.adapters import torch_batches

    monkeypatch.setattr(torch_batches, "SECONDS", 0.0)
    seen = run(mlp(), 40)
    sampled = {s.number for s in seen.case.steps}
    assert len(seen.adapter.batches) == len(sampled | set(range(torch_batches.SURE)))


# -- copies ----------------------------------------------------------------------------------------


def hooks(model: Any) -> list[Any]:
    return [h for m in model.modules()
            for d in (m._forward_hooks, m._forward_pre_hooks) for h in d.values()]  # fmt: skip


def test_a_copy_made_meanwhile_tells_nobody() -> None:
    made: list[Any] = []
    seen = run(mlp(), inside=lambda m: made.append(copy.deepcopy(m)))
    before = seen.case.usage.forwards
    assert made[0](X).shape == (64, 3) and seen.case.usage.forwards == before
    assert all("fathom" not in type(h).__module__ for h in hooks(made[0]))


def test_a_pickled_model_does_not_need_fathom() -> None:
    files: dict[str, bytes] = {}

    def save(model: Any) -> None:
        files["pickle"] = pickle.dumps(model)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        files["torch"] = buffer.getvalue()
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        files["state"] = buffer.getvalue()

    model = mlp()
    sound(run(model, 4, inside=save))
    for name in ("pickle", "torch"):
        assert b"fathom" not in files[name]
    again = pickle.loads(files["pickle"])
    assert torch.equal(again(X), model(X))
    again = torch.load(io.BytesIO(files["torch"]), weights_only=False)
    assert torch.equal(again(X), model(X))
    state = torch.load(io.BytesIO(files["state"]))
    assert list(state) == list(model.state_dict())


def test_a_pickled_model_is_loaded_where_there_is_no_fathom(tmp_path: Any) -> None:
    path = tmp_path / "model.pickle"
    run(mlp(), inside=lambda m: path.write_bytes(pickle.dumps(m)))
    code = (
        "import pickle, sys, torch\n"
        "sys.modules['fathom'] = None\n"
        f"model = pickle.load(open({str(path)!r}, 'rb'))\n"
        "print(tuple(model(torch.zeros(2, 4)).shape))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "(2, 3)", done.stderr


# -- models of unusual kinds -----------------------------------------------------------------------


def test_data_parallel_on_the_host() -> None:
    model = nn.DataParallel(mlp())
    seen = run(model)
    sound(seen)
    assert seen.case.layers["0"].activation == "relu" and seen.case.steps[0].layers["0"].std > 0
    assert [f.kind for f in seen.findings if f.severity == "error"] == []


def test_a_compiled_model_is_watched_from_outside() -> None:
    torch._dynamo.reset()
    inner = mlp()
    seen = run(torch.compile(inner, backend="eager"))
    sound(seen)
    assert "torch.compile" in seen.case.notes[0] and seen.coverage.watched == []
    assert "torch.compile" in str(seen.coverage)
    assert seen.case.steps[0].parameters["0.weight"].update > 0 and not seen.case.steps[0].layers
    assert seen.case.losses[0].function == "cross_entropy"


def test_a_compiled_step_is_left_alone() -> None:
    torch._dynamo.reset()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="eager")
    def loss_of(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y)

    with warnings.catch_warnings(), watch(model, optimizer, quiet=True, budget=1.0) as seen:
        warnings.simplefilter("ignore")  # of PyTorch's own looking at gradients
        for _ in range(4):
            optimizer.zero_grad()
            loss_of(X, Y).backward()
            optimizer.step()
    sound(seen)
    assert len(seen.case.curve) == 4


@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripted_models_say_why_they_are_not_seen(how: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's age
        model = torch.jit.script(mlp()) if how == "script" else torch.jit.trace(mlp(), X)
        seen = run(model)
    assert "scripted" in str(seen.coverage)
    sound(seen)
    assert seen.case.steps[0].parameters["0.weight"].update > 0
    assert seen.case.losses[0].function == "cross_entropy"


class Shared(nn.Module):
    """One block, three times: twice by name and once more."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.again = self.block
        self.out = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.out(self.again(self.block(self.block(x))))


def test_shared_modules_are_layers_once() -> None:
    seen = run(Shared())
    sound(seen)
    assert [n for n, layer in seen.case.layers.items() if layer.kind == "Linear"] == [
        "block.0", "out",
    ]  # fmt: skip
    assert "missing_from_optimizer" not in [f.kind for f in seen.findings]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Any) -> Any:
        return self.out(self.words(x).mean(1))


def test_tied_weights_are_one_parameter() -> None:
    x = torch.arange(32).reshape(8, 4) % 7
    seen = run(Tied(), 4, x, torch.arange(8) % 7)
    sound(seen)
    assert list(seen.case.parameters) == ["words.weight"]


class Deep(nn.Module):
    def __init__(self, inner: Any, depth: int) -> None:
        super().__init__()
        self.inner = Deep(inner, depth - 1) if depth else inner

    def forward(self, x: Any) -> Any:
        found = self.inner(x)
        return found if isinstance(found, dict) else {"logits": found}


def test_nested_modules_and_outputs() -> None:
    seen = run(Deep(mlp(), 5), loss=lambda o, t: F.cross_entropy(o["logits"], t))
    sound(seen)
    name = ".".join(["inner"] * 6)
    assert list(seen.case.layers) == [f"{name}.0", f"{name}.1", f"{name}.2"]
    assert seen.adapter.between is not None and seen.adapter.between.place == ("logits",)


def test_two_models_at_once_hear_their_own() -> None:
    one, two = mlp(), mlp()
    first, second = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (one, two))
    with watch(one, first, quiet=True, budget=1.0) as a, watch(two, second, quiet=True) as b:
        for _ in range(3):
            first.zero_grad()
            F.cross_entropy(one(X), Y).backward()
            first.step()
    assert a.case.usage.steps == 3 and b.case.usage.steps == 0
    assert not patches._hearers


class Strange(nn.Module):
    """Attributes that raise, no tensors out, keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    @property
    def stride(self) -> int:
        raise RuntimeError("do not look at me")

    def forward(self, *, x: Any) -> Any:
        return [None, (self.linear(x),)]


def test_a_strange_module_does_no_harm() -> None:
    model = Strange()
    model.register_parameter("bare", nn.Parameter(torch.zeros(())))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, quiet=True, budget=1.0) as seen:
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x=X)[1][0], Y) + model.bare
            loss.backward()
            optimizer.step()
    assert len(seen.case.curve) in (0, 3) and str(seen)
    assert torch.isfinite(model.linear.weight).all()


def test_an_optimizer_without_hooks_is_told_of() -> None:
    class Plain:
        def __init__(self, parameters: Any) -> None:
            self.param_groups = [{"params": list(parameters), "lr": 0.1}]

        def step(self) -> None:
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p -= 0.1 * p.grad

    model = mlp()
    optimizer = Plain(model.parameters())
    with watch(model, optimizer, quiet=True) as seen:
        for _ in range(3):
            model.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
    assert any("Plain" in note for note in seen.case.notes)


def test_weights_are_bitwise_those_of_an_unwatched_run() -> None:
    def train(watched: bool) -> list[Any]:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True),
                              nn.Dropout(0.3), nn.Linear(8, 3))  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

        def steps() -> None:
            for i in range(70):
                optimizer.zero_grad()
                rows = slice(8 * i % 64, 8 * i % 64 + 8)
                F.cross_entropy(model(X[rows]), Y[rows]).backward()
                optimizer.step()

        if watched:
            with watch(model, optimizer, quiet=True, budget=1.0) as seen:
                steps()
            sound(seen, 70)
        else:
            steps()
        return [*model.state_dict().values(), torch.rand(3)]

    for a, b in zip(train(False), train(True), strict=True):
        assert torch.equal(a, b)


def test_losses_that_are_not_finite_have_a_place() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[2].weight[:] = 3e38  # finite, but what it puts out is not
    seen = run(model, 1)
    assert seen.case.bad_at == "2"
