"""Programs from the disk: the same results, errors and explanations as those just made."""

from __future__ import annotations

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.function import native_wanted
from fathom.compile.native import describe, saved
from fathom.engine.errors import FathomError
from fathom.nn import functional as F
from tests.unit.compile.native_harness import program_of

pytestmark = pytest.mark.skipif(not native_wanted(), reason="native code is off")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    monkeypatch.setattr(saved, "_sources", lambda: "")
    return tmp_path / "native"


def training(*more, hidden=5, lr=0.01):
    fathom.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), *more, nn.Linear(hidden, 3))
    optimizer = fathom.optim.Adam(model.parameters(), lr=lr)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, fathom.compile(step, backend="native")


def run(*more, calls=3, **options):
    """Losses and weights after some steps, and the compiled step."""
    model, step = training(*more, **options)
    losses = [step(fathom.tensor(X), fathom.tensor(Y)).item() for _ in range(calls)]
    return losses, [p.detach().numpy().tobytes() for p in model.parameters()], step


@pytest.mark.parametrize("dropout", [False, True])
def test_a_saved_program_does_what_the_made_one_does(dropout):
    more = (lambda: [nn.Dropout(0.5)]) if dropout else (lambda: [])
    first, second = run(*more()), run(*more())
    assert not isinstance(program_of(first[2]), saved.Saved)
    assert isinstance(program_of(second[2]), saved.Saved)
    assert first[:2] == second[:2]


def test_options_of_the_optimizer_are_still_read_at_each_call():
    run(lr=0.01)
    fast, slow = run(lr=0.5), run(lr=0.01)
    assert isinstance(program_of(fast[2]), saved.Saved)
    assert fast[0][0] == slow[0][0] and fast[0][2] != slow[0][2]


def test_another_network_is_another_program():
    run()
    assert not isinstance(program_of(run(hidden=6)[2]), saved.Saved)
    assert not isinstance(program_of(run(nn.Tanh())[2]), saved.Saved)


def test_constants_shapes_and_dtypes_tell_plans_apart():
    def words(function, x):
        compiled = fathom.compile(function, backend="native")
        compiled(fathom.tensor(x))
        return describe.describe(compiled.plan)

    plans = [
        words(lambda x: x * 2.0, X), words(lambda x: x * 3.0, X), words(lambda x: x + 2.0, X),
        words(lambda x: x * 2.0, X[:4]), words(lambda x: x * 2.0, X.astype(np.float64)),
        words(lambda x: x.sum(0), X), words(lambda x: x.sum(1), X),
    ]  # fmt: skip
    assert len(set(plans)) == len(plans)
    assert words(lambda x: x * 2.0, X) == plans[0]


def test_a_check_that_fails_says_what_it_says_in_eager_code():
    def error(step):
        with pytest.raises(FathomError) as caught:
            step(fathom.tensor(X), fathom.tensor(np.where(Y == 0, 7, Y)))
        return str(caught.value)

    made, kept = run()[2], run()[2]
    assert isinstance(program_of(kept), saved.Saved)
    assert error(made) == error(kept) == error(kept.eager)
    again = kept(fathom.tensor(X), fathom.tensor(Y)).item()
    assert again == made(fathom.tensor(X), fathom.tensor(Y)).item()


def test_explain_and_epochs_know_a_saved_program():
    made, kept = run()[2], run()[2]
    assert made.plan.explain() == kept.plan.explain()
    losses = [
        s.epoch(fathom.tensor(X), fathom.tensor(Y), batch_size=4).numpy() for s in (made, kept)
    ]
    np.testing.assert_array_equal(*losses)


@pytest.mark.parametrize("ending", [".json", ".o"])
def test_what_is_damaged_or_gone_is_made_anew(folder, ending):
    first = run()
    for path in folder.glob(f"*{ending}"):
        path.write_bytes(b"something else")
    second = run()
    assert not isinstance(program_of(second[2]), saved.Saved)
    assert first[:2] == second[:2] == run()[:2]


def test_source_that_was_edited_meanwhile_keeps_nothing(folder, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("FATHOM_CACHE", str(folder.parent))
    monkeypatch.setattr(saved, "LOADED", 0.0)
    saved._sources.cache_clear()
    with pytest.raises(describe.Unknown):
        saved._sources()
    run()
    assert not list(folder.glob("*.json"))
    saved._sources.cache_clear()


def test_large_constants_are_not_kept(folder, monkeypatch):
    monkeypatch.setattr(saved, "MOST", 0)
    table = np.arange(3)
    step = fathom.compile(lambda x, y: F.cross_entropy(x, y), backend="native")
    step(fathom.tensor(X[:, :3]), fathom.tensor(Y))
    assert table.size and not list(folder.glob("*.json"))
