"""Random draws in native code: the bytes of eager, and streams that move as they do there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.native import philox
from fathom.engine.errors import FathomError
from fathom.engine.random import Random, current, use
from fathom.nn import functional as F
from tests.unit.compile.native_harness import hosted, program_of

pytest.importorskip("llvmlite")

SHAPES = [(), (1,), (31,), (64,), (7, 33), (130, 257), (0, 3)]
elsewhere = pytest.mark.skipif(not philox.symbols(), reason="NumPy hides its functions here")


def same(function: Any, seeds: tuple[int, ...] = (0, 91), calls: int = 3) -> Any:
    """Eager, the NumPy back end and native code, call after call; the last is returned."""
    native = fathom.compile(function, backend="native")
    ways = (function, fathom.compile(function, backend="numpy"), native)
    for seed in seeds:
        rngs = [Random(seed) for _ in ways]
        for _ in range(calls):
            results = []
            for rng, way in zip(rngs, ways, strict=True):
                with use(rng):
                    results.append([np.asarray(x.value()) for x in way()])
            for eager, *others in zip(*results, strict=True):
                for other in others:
                    assert (other.dtype, other.shape) == (eager.dtype, eager.shape)
                    assert other.tobytes() == eager.tobytes()
            assert rngs[0].state_dict() == rngs[1].state_dict() == rngs[2].state_dict()
    return native


def draw(stream: str, method: str, *args: Any, **options: Any) -> Any:
    return fathom.Tensor(getattr(current().stream(stream), method)(*args, **options))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks(shape: tuple[int, ...]) -> None:
    shares = (0.5, 0.1, 1e-3, 0.0, 1, 0.99999999, 2.0**-24, -1.0)
    step = same(lambda: [draw("dropout", "bernoulli", p, shape) for p in shares])
    if 0 not in shape:
        assert not hosted(step)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_uniform_numbers(shape: tuple[int, ...], dtype: Any) -> None:
    ends = ((0.0, 1.0), (-2.0, 3.7), (5, 5), (1.0, -1.0))
    step = same(lambda: [draw("a", "uniform", shape, *e, dtype=dtype) for e in ends])
    assert not hosted(step)


@elsewhere
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_normal_numbers(shape: tuple[int, ...], dtype: Any) -> None:
    kinds = ((0.0, 1.0), (0.3, 1.7), (1, 0))
    step = same(lambda: [draw("a", "normal", shape, *k, dtype=dtype) for k in kinds])
    assert not hosted(step)


@elsewhere
@pytest.mark.parametrize("shape", [(), (1,), (50, 7)], ids=str)
def test_whole_numbers(shape: tuple[int, ...]) -> None:
    ends = ((0, 10), (-5, 2**33), (3, 4), (0, 2**32), (-(2**63), 2**63), (0, 3 * 2**30))
    step = same(lambda: [draw("a", "integers", low, high, shape) for low, high in ends])
    assert not hosted(step)


@elsewhere
def test_permutations() -> None:
    step = same(lambda: [draw("a", "permutation", n) for n in (1, 2, 17, 1000)])
    assert not hosted(step)


def test_streams_between_each_other() -> None:
    def step() -> Any:
        a = draw("a", "bernoulli", 0.5, (9,))
        b = draw("b", "uniform", (9,))
        draw("a", "uniform", (100,))  # nobody uses it, and the stream moves all the same
        return [a, b, draw("a", "bernoulli", 0.5, (9,)), draw("b", "uniform", (3,))]

    assert not hosted(same(step))


def test_a_stream_of_which_one_draw_is_numpys() -> None:
    """A share in float64 is compared in float64: the whole stream is left to NumPy."""
    share = np.float64(0.3)
    step = same(lambda: [draw("a", "bernoulli", p, (50,)) for p in (0.3, share)]
                + [draw("b", "uniform", (5,))])  # fmt: skip
    assert hosted(step) == ["draw", "draw"]


def test_other_types_are_numpys() -> None:
    same(lambda: [draw("a", "uniform", (5,), dtype=np.float16), draw("a", "uniform", (5,))])


def test_threads_share_a_large_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_NUM_THREADS", "3")
    step = same(lambda: [draw("a", "bernoulli", 0.4, (700, 301)), draw("a", "uniform", (90001,))])
    assert program_of(step).forks


def test_the_current_random_may_change_between_calls() -> None:
    step = fathom.compile(lambda: draw("a", "uniform", (6,)), backend="native")
    first, second = Random(1), Random(2)
    with use(first):
        one = step().value()
    with use(second):
        two = step().value()
    saved = first.state_dict()
    with use(first):
        three = step().value()
        first.load_state_dict(saved)
        again = step().value()
    expected = [Random(s).stream("a").uniform((6,)) for s in (1, 2)]
    assert (one == expected[0]).all() and (two == expected[1]).all()
    assert (three == again).all() and (three != one).any()


@elsewhere
@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.3), nn.Dropout(0.5, classic=True), nn.AlphaDropout(0.2), nn.DropPath(0.4),
        nn.RReLU(), nn.GumbelSoftmax(),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_layers_run_in_one_call(layer: Any) -> None:
    x = fathom.tensor(np.linspace(-1, 1, 60, dtype=np.float32).reshape(6, 10), requires_grad=True)

    def step() -> Any:
        out = layer(x)
        (out * out).sum().backward()
        grad, x.grad = x.grad, None
        return out.detach(), grad

    compiled = fathom.compile(step, backend="native")
    first, second = Random(4), Random(4)
    for _ in range(3):
        with use(first):
            expected = step()
        with use(second):
            found = compiled()
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(np.asarray(b), a.value(), rtol=1e-5, atol=1e-6)
    assert len(program_of(compiled).parts) == 1
    assert first.state_dict() == second.state_dict()


def network(seed: int = 0) -> Any:
    with fathom.seed(seed):
        model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 2))
    return model, fathom.optim.Adam(model.parameters(), lr=0.05)


def training(model: Any, optimizer: Any, compiled: bool = True) -> Any:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return fathom.compile(step, backend="native") if compiled else step


def batches(rows: int) -> Any:
    rng = np.random.default_rng(5)
    return rng.normal(size=(rows, 3)).astype(np.float32), rng.integers(0, 2, rows)


def test_an_epoch_draws_what_its_steps_draw() -> None:
    x, y = batches(70)
    order = np.random.default_rng(0).permutation(70)
    first, second = network(), network()
    step, whole = training(*first), training(*second)
    one, two = Random(3), Random(3)
    for _ in range(2):
        with use(one):
            for at in range(0, 70, 16):
                part = order[at : at + 16]
                step(fathom.tensor(x[part]), fathom.tensor(y[part]))
        with use(two):
            whole.epoch(fathom.tensor(x), fathom.tensor(y), batch_size=16, order=order)
        assert one.state_dict() == two.state_dict()
    (entry, _) = [e for entries in whole._entries.values() for e in entries]
    assert entry.program.repeats  # without Python, also where the gradients are left
    for p, q in zip(first[0].parameters(), second[0].parameters(), strict=True):
        np.testing.assert_array_equal(p.value(), q.value())


@pytest.mark.parametrize("good", [1, 2])
def test_after_a_failed_check_streams_stand_where_eager_leaves_them(good: int) -> None:
    x, y = batches(48)
    y[16 * good] = 7  # no such class
    rngs = []
    for kind in ("eager", "step", "epoch"):
        rng, step = Random(8), training(*network(), compiled=kind != "eager")
        with use(rng), pytest.raises(FathomError):
            if kind == "epoch":
                step.epoch(fathom.tensor(x), fathom.tensor(y), batch_size=16)
            for at in range(0, 48, 16):
                step(fathom.tensor(x[at : at + 16]), fathom.tensor(y[at : at + 16]))
        rngs.append(rng.state_dict())
    assert rngs[0] == rngs[1] == rngs[2]
    assert rngs[0]["streams"]["dropout"] == good + 1


def test_a_check_before_the_draw_leaves_the_stream_alone() -> None:
    def step(index: Any) -> Any:
        rows = F.embedding(index, fathom.ones(4, 3))
        return F.dropout(rows, 0.5).sum()

    rngs = []
    for way in (step, fathom.compile(step, backend="native")):
        rng = Random(2)
        with use(rng):
            way(fathom.tensor([0, 3]))
            with pytest.raises(FathomError):
                way(fathom.tensor([0, 4]))
        rngs.append(rng.state_dict())
    assert rngs[0] == rngs[1]
    assert rngs[0]["streams"]["dropout"] == 1


def test_a_fleet_draws_for_each_network_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = batches(40)
    spec = {
        "model": lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)),
        "epochs": 3, "batch_size": 16, "optimizer": "sgd", "lr": 0.1,
    }  # fmt: skip
    together = fathom.train_many(spec, x, y, seeds=[0, 1, 2]).runs
    monkeypatch.setenv("FATHOM_NATIVE", "0")
    for seed in range(3):
        (alone,) = fathom.train_many(spec, x, y, seeds=[seed]).runs
        np.testing.assert_allclose(together[seed].losses, alone.losses, rtol=1e-5)
    assert not np.array_equal(together[0].losses, together[1].losses)
