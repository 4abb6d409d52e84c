"""Active probes on planted cases and their healthy twins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from fathom.doctor.probing import PROBES, RateRange, probe  # noqa: E402
from fathom.doctor.rules import RULES  # noqa: E402
from fathom.doctor.watching import Watch, watch  # noqa: E402
from fathom.engine.errors import ArgumentError  # noqa: E402


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


class Net(nn.Module):
    """blind : it never looks at its inputs. mixing : a mean over the batch is added."""

    def __init__(self, blind: bool = False, mixing: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.BatchNorm1d(24),
                                  nn.Linear(24, 4))  # fmt: skip
        self.blind, self.mixing = blind, mixing

    def forward(self, x: Any) -> Any:
        z = self.body(torch.zeros_like(x) if self.blind else x)
        return z + z.mean(0) if self.mixing else z


def trained(model: Any = None, lr: float = 0.01, permuted: bool = False, **options: Any) -> Watch:
    draw = np.random.default_rng(1)
    centres = 1.2 * draw.normal(size=(4, 10))
    y = draw.integers(0, 4, 320)
    x = torch.tensor(centres[y] + draw.normal(size=(320, 10)), dtype=torch.float32)
    target = torch.tensor(draw.permutation(y) if permuted else y)
    model = Net() if model is None else model
    optimizer, loss = torch.optim.Adam(model.parameters(), lr), nn.CrossEntropyLoss()
    with watch(model, optimizer, loss, quiet=True, budget=1.0, **options) as seen:
        for step in range(64):
            rows = torch.as_tensor(np.random.default_rng(step).permutation(320)[:32])
            optimizer.zero_grad()
            loss(model(x[rows]), target[rows]).backward()
            optimizer.step()
    return seen


def hit(seen: Watch, name: str) -> bool:
    return bool(RULES[name](seen.case))


def test_a_healthy_run_passes_all_probes() -> None:
    seen = trained()
    found = probe(seen)
    assert found.keys() == PROBES.keys() and seen.case.probes == found
    assert found["one_batch"].learnt and found["learning_rate_range"].usable
    assert found["permuted_labels"].signal
    assert not found["inputs_ignored"].ignored and not found["sample_mixing"].mixed
    assert not found["linear_baseline"].beaten
    assert not any(hit(seen, name) for name in PROBES)


def test_inputs_that_are_ignored() -> None:
    seen = trained(Net(blind=True))
    found = probe(seen, ["inputs_ignored", "one_batch", "learning_rate_range", "linear_baseline"])
    assert found["inputs_ignored"].change == 0.0 and hit(seen, "inputs_ignored")
    assert not found["one_batch"].learnt
    assert found["linear_baseline"].beaten


def test_no_usable_rate_is_an_answer() -> None:
    none = RateRange(float("nan"), float("nan"), 0.1, 0.0, float("nan"))
    assert not none.usable and "fixed first" in str(none)
    model = Net(blind=True)
    model.body = nn.Linear(10, 4, bias=False)  # nothing that could learn the classes' shares
    seen = trained(model)
    found = probe(seen, ["learning_rate_range"])["learning_rate_range"]
    assert not found.usable and not hit(seen, "learning_rate_range")


def test_examples_that_are_mixed() -> None:
    seen = trained(Net(mixing=True))
    assert probe(seen, ["sample_mixing"])["sample_mixing"].mixed and hit(seen, "sample_mixing")


@pytest.mark.parametrize("lr", [1e-7, 50.0])
def test_a_rate_out_of_range(lr: float) -> None:
    seen = trained(lr=lr)
    found = probe(seen, ["learning_rate_range"])["learning_rate_range"]
    assert found.usable and found.confidence == 1.0 and found.low < 0.01 < 30 * found.high
    hits = RULES["learning_rate_range"](seen.case)
    assert hits and hits[0].fix.edits[0].action == "lr"
    assert found.low <= lr * hits[0].fix.edits[0].value <= found.high


def test_labels_without_signal() -> None:
    seen = trained(permuted=True)
    found = probe(seen, ["one_batch", "linear_baseline", "permuted_labels"])
    assert found["one_batch"].learnt and found["linear_baseline"].linear < 0.1
    assert not found["permuted_labels"].signal and hit(seen, "permuted_labels")


def test_probes_leave_the_run_alone() -> None:
    seen = trained()
    model = seen.adapter.model
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = torch.get_rng_state()
    probe(seen)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_probes_that_cannot_be_made_are_noted() -> None:
    seen = trained()
    seen.adapter.batches.clear()
    assert probe(seen, ["one_batch"]) == {}
    assert any("one_batch" in note and "no batch was kept" in note for note in seen.case.notes)
    with pytest.raises(ArgumentError, match="no probe 'tea_leaves'"):
        probe(seen, ["tea_leaves"])
    assert probe(trained(), seconds=0.0) == {}


def test_unclear_cases_are_probed_where_that_is_asked_for() -> None:
    assert not trained(permuted=True).case.probes
    seen = trained(Net(blind=True), probes="auto")
    assert not seen.unclear or seen.case.probes
