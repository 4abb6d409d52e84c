"""Nothing of the watching raises into the loop: whatever fails is noted, and training goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fathom
from fathom.doctor import watching
from fathom.doctor.adapters import array_sample, fathom_adapter, fathom_eager, fathom_sample
from fathom.doctor.corpus.api import Api, api, available
from fathom.doctor.rules import RULES
from fathom.doctor.watching import Watch, watch
from fathom.engine.hearing import HEARERS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 32)
STEPS = 12
MODES = ["eager", "compiled", *(["torch"] if available("torch") else [])]


class Planted(Exception):
    """What the tests make the doctor's own code raise."""


def boom(*args: Any, **keywords: Any) -> Any:
    raise Planted("planted")


class Run:
    """A small run, the same one whenever it is made."""

    def __init__(self, mode: str, softmax: bool = False) -> None:
        self.mode = mode
        self.api: Api = api("torch" if mode == "torch" else "fathom")
        nn = self.api.nn
        with self.api.seeded(0):
            layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)]
            self.model = nn.Sequential(*layers, *([nn.Softmax(1)] if softmax else []))
        self.optimizer = self.api.optim.Adam(self.model.parameters(), lr=0.01)
        self.loss = nn.CrossEntropyLoss()

    def watch(self, **options: Any) -> Watch:
        return watch(self.model, self.optimizer, self.loss, quiet=True, budget=1.0, **options)

    def train(self, steps: int = STEPS, hook: Callable[[int], None] | None = None) -> None:
        def step(x: Any, y: Any) -> Any:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            return loss

        if self.mode == "compiled":
            step = fathom.compile(step)
        for i in range(steps):
            if hook is not None:
                hook(i)
            step(self.api.tensor(X), self.api.tensor(Y))

    def weights(self) -> list[bytes]:
        return [self.api.numpy(p).tobytes() for p in self.model.state_dict().values()]

    def check_clean(self) -> None:
        assert not HEARERS
        for module in self.model.modules():
            names = ("_forward_hooks", "_forward_pre_hooks", "_hooks", "_pre_hooks")
            assert not any(getattr(module, name, None) for name in names)
        if self.mode == "torch":
            from fathom.doctor.adapters import torch_patches

            assert not torch_patches._hearers and not torch_patches._originals
            assert not self.optimizer._optimizer_step_pre_hooks
            assert not self.optimizer._optimizer_step_post_hooks


@pytest.fixture(scope="module")
def unwatched() -> dict[str, list[bytes]]:
    found = {}
    for mode in MODES:
        run = Run(mode)
        run.train()
        found[mode] = run.weights()
    return found


@contextmanager
def failing_inside(kind: Any, name: str) -> Iterator[None]:
    """A guarded method whose guard stays, while what it guards raises."""
    method = getattr(kind, name)
    cells = [c for c in method.__closure__ or () if c.cell_contents is method.__wrapped__]
    assert len(cells) == 1, "it is not guarded"
    cells[0].cell_contents = boom
    try:
        yield
    finally:
        cells[0].cell_contents = method.__wrapped__


def adapter_of(mode: str) -> Any:
    if mode != "torch":
        return fathom_adapter.FathomAdapter
    from fathom.doctor.adapters.torch_adapter import TorchAdapter

    return TorchAdapter


CALLBACKS = {
    "eager": ["_attach", "_passed", "_forward", "_came_out", "on_loss", "on_backward",
              "on_backward_end", "_is_ours", "_pre_step", "on_step_end"],
    "compiled": ["_attach", "_passed", "_forward", "_came_out", "on_loss", "on_backward",
                 "on_backward_end", "_is_ours", "_pre_step", "on_call", "on_call_end"],
    "torch": ["_attach", "_forward", "_came_out", "on_loss", "on_backward", "on_backward_end",
              "_pre_step", "_post_step"],
}  # fmt: skip


@pytest.mark.parametrize(("mode", "name"), [(m, n) for m in MODES for n in CALLBACKS[m]])
def test_a_callback_that_raises_ends_the_watching_only(
    mode: str, name: str, unwatched: dict[str, list[bytes]]
) -> None:
    run = Run(mode)
    with failing_inside(adapter_of(mode), name), run.watch() as seen:
        run.train()
    assert run.weights() == unwatched[mode]
    notes = [n for n in seen.case.notes if "Planted: planted" in n]
    assert len(notes) == 1 and seen.adapter.broken
    assert "watching ended" in str(seen) or notes[0] in str(seen.to_dict())
    run.check_clean()


PARTS = {
    "note": "statistics of layers", "stats": "statistics of layers", "of": "statistics of layers",
    "weights": "statistics of weights", "weights' end": "statistics of weights",
    "_look": "reading the graph", "_keep_batch": "kept batches",
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_part_that_raises_is_switched_off_alone(
    mode: str, name: str, unwatched: dict[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample: Any = fathom_sample
    if mode == "torch":
        from fathom.doctor.adapters import torch_sample as sample
    if name == "of":
        monkeypatch.setattr(array_sample.ArraySample, name, boom)
    elif name in ("note", "stats"):
        monkeypatch.setattr(sample.LayerSample, name, boom)
    elif name.startswith("weights"):
        method = "__init__" if name == "weights" else "stats"
        monkeypatch.setattr(sample.ParameterSample, method, boom)
    else:
        monkeypatch.setattr(adapter_of(mode), name, boom)
    run = Run(mode)
    with run.watch() as seen:
        run.train()
    assert run.weights() == unwatched[mode]
    assert f"{PARTS[name]}: off, because of Planted: planted" in seen.case.notes
    assert len(seen.case.notes) == 1
    assert not seen.adapter.broken and len(seen.case.steps) == 5 and len(seen.case.curve) == STEPS
    last = seen.case.steps[-1]
    assert bool(last.layers) != (PARTS[name] == "statistics of layers")
    assert bool(last.parameters) != (PARTS[name] == "statistics of weights")
    run.check_clean()


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_cannot_be_looked_at(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_of(mode), "_describe", boom)
    run = Run(mode)
    with run.watch() as seen:
        run.train(2)
    assert seen.case.notes == ["looking at the model ended: Planted: planted"]
    run.check_clean()


@pytest.mark.parametrize("mode", MODES)
def test_a_rule_that_raises_is_switched_off(
    mode: str, unwatched: dict[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(RULES["dead_units"], look=boom, reads=())
    monkeypatch.setitem(RULES, "dead_units", broken)
    run = Run(mode, softmax=False)
    with run.watch() as seen:
        run.train()
    assert seen.case.notes == ["rule dead_units is off: Planted: planted"]
    assert run.weights() == unwatched[mode]


@pytest.mark.parametrize("name", ["reason", "Watch.__str__"])
def test_a_decision_or_a_report_that_raises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "reason":
        monkeypatch.setattr(watching, "reason", boom)
    else:
        monkeypatch.setattr(Watch, "__str__", boom)
    run = Run("eager")
    with watch(run.model, run.optimizer, run.loss) as seen:
        run.train(3)
    assert "the doctor failed: Planted: planted" in seen.case.notes
    run.check_clean()


def test_a_report_that_cannot_be_written_is_warned_of(tmp_path: Any) -> None:
    run = Run("eager")
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="report was not written"):
        with run.watch(report=tmp_path / "file" / "report.json"):
            run.train(2)
    run.check_clean()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("mode", MODES)
def test_what_the_loop_raises_passes_through(mode: str, kind: type[BaseException]) -> None:
    def stop(step: int) -> None:
        if step == 3:
            raise kind

    run = Run(mode)
    with pytest.raises(kind), run.watch() as seen:
        run.train(hook=stop)
    assert not [n for n in seen.case.notes if "ended" in n] and seen.case.usage.steps == 3
    run.check_clean()


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_inside_of_the_watching_passes_through(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **keywords: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "reason", interrupt)
    run = Run(mode)
    with pytest.raises(KeyboardInterrupt):
        with run.watch():
            try:
                run.train()
            finally:
                monkeypatch.undo()
    run.check_clean()


@pytest.mark.parametrize("mode", MODES)
def test_on_finding_stops_the_run_by_raising(mode: str) -> None:
    class Enough(Exception):
        pass

    def stop(finding: Any) -> None:
        raise Enough(finding.kind)

    run = Run(mode, softmax=True)
    before = run.weights()[0]
    with pytest.raises(Enough, match="softmax_before_cross_entropy"):
        with run.watch(on_finding=stop):
            run.train()
    assert run.weights()[0] == before  # the first loss was enough
    run.check_clean()


@pytest.mark.parametrize("mode", MODES)
def test_on_finding_that_raises_at_the_end_stops_nothing(mode: str) -> None:
    run = Run(mode, softmax=True)
    told = []

    def late(finding: Any) -> None:
        told.append(finding.kind)
        if len(told) > 1:
            raise Planted

    with run.watch(on_finding=late) as seen:
        run.train(2)
        seen._told.clear()
    assert len(told) == 2 and any("Planted" in n for n in seen.case.notes)


@pytest.mark.parametrize("mode", MODES)
def test_decisions_are_rare_and_follow_the_samples(mode: str) -> None:
    run = Run(mode)
    taken: list[int] = []
    seen = run.watch()
    decide = seen._decide
    seen._decide = lambda: (taken.append(seen.case.usage.steps), decide())  # type: ignore
    with seen:
        run.train(100)
    assert taken == [0, 1, 3, 8, 17, 33, 65, 100]


@pytest.mark.parametrize("mode", ["eager", *(["torch"] if "torch" in MODES else [])])
@pytest.mark.parametrize(
    ("kind", "order"),
    [("missing_zero_grad", "backward step"), ("gradients_cleared", "backward zero step")],
)
def test_faults_of_the_loop_are_told_within_three_steps(mode: str, kind: str, order: str) -> None:
    run = Run(mode)
    with run.watch() as seen:
        for _ in range(3):
            for word in order.split():
                if word == "backward":
                    output = run.model(run.api.tensor(X))
                    run.loss(output, run.api.tensor(Y)).backward()
                else:
                    getattr(run.optimizer, {"zero": "zero_grad"}.get(word, word))()
    assert seen.told[kind] <= 3


def test_modes_are_told_within_three_steps() -> None:
    run = Run("eager")
    run.model.eval()
    with run.watch() as seen:
        run.train(3)
        assert "eval_mode_in_training" in seen.told
    assert fathom_eager.EARLY >= 3


def test_the_costs_are_counted() -> None:
    run = Run("eager")
    with run.watch() as seen:
        run.train(5)
    assert 0 < seen.schedule.spent and 0 < seen.overhead <= 1.5
