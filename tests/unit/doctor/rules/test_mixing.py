"""Examples that are mixed: reshapes in place of permutations, batches taken for time."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fathom.doctor.adapters.graph import Op
from fathom.doctor.adapters.reshaping import exchanged, swaps
from fathom.doctor.case import Case, Layer, LossCall
from fathom.doctor.rules import RULES
from fathom.doctor.watching import watch

B, T, F, C = 12, 9, 5, 3  # sequences, places, features, classes


@pytest.fixture(params=["fathom", "torch"])
def engine(request: pytest.FixtureRequest) -> Any:
    if request.param == "torch":
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        return SimpleNamespace(nn=torch.nn, optim=torch.optim, tensor=torch.as_tensor,
                               F=torch.nn.functional, name="torch")  # fmt: skip
    fathom = importlib.import_module("fathom")
    fathom.manual_seed(0)
    return SimpleNamespace(nn=fathom.nn, optim=fathom.optim, tensor=fathom.tensor,
                           F=fathom.nn.functional, name="fathom")  # fmt: skip


def run(engine: Any, parts: dict[str, Any], forward: Callable[..., Any], x: Any = None,
        y: Any = None, steps: int = 2) -> Any:  # fmt: skip
    """A model of these parts, trained for two steps; `forward` gets it and a batch."""

    class Model(engine.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps, B, T, F)).astype(np.float32) if x is None else x
    y = rng.integers(0, C, (steps, B)) if y is None else y
    model = Model()
    optimizer = engine.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, quiet=True) as seen:
        for inputs, targets in zip(x, y, strict=True):
            optimizer.zero_grad()
            loss = engine.F.cross_entropy(model(engine.tensor(inputs)), engine.tensor(targets))
            loss.backward()
            optimizer.step()
    assert not seen._off, seen._off
    return seen


def found(seen: Any) -> list[str]:
    return [hit.where for hit in RULES["sample_mixing"](seen.case)]


def recurrent(engine: Any, turn: Callable[[Any], Any], kind: str = "GRU") -> Any:
    nn = engine.nn
    parts = {"first": nn.Linear(F, F), "over": getattr(nn, kind)(F, 6), "last": nn.Linear(6, C)}
    return run(engine, parts, lambda m, x: m.last(m.over(turn(m.first(x)))[0][-1]))


# -- reshapes in the graph -------------------------------------------------------------------------


def test_a_view_in_place_of_a_transpose(engine: Any) -> None:
    seen = recurrent(engine, lambda h: h.reshape(T, B, F))
    assert found(seen) == ["over"]
    finding = next(f for f in seen.findings if f.kind == "sample_mixing")
    assert finding.severity == "error" and finding.fix.code == "x.transpose(0, 1)"
    assert [e.value for e in finding.evidence] == [f"({B}, {T}, {F})", f"({T}, {B}, {F})"]


def test_a_transpose_is_none(engine: Any) -> None:
    assert found(recurrent(engine, lambda h: h.transpose(0, 1))) == []


def test_a_view_in_two_goes(engine: Any) -> None:
    assert found(recurrent(engine, lambda h: h.reshape(-1, F).reshape(T, B, F))) == ["over"]


def test_what_was_permuted_before_is_left_alone(engine: Any) -> None:
    nn = engine.nn
    parts = {"first": nn.Linear(F, F), "last": nn.Linear(F, C)}
    shuffled = run(engine, parts, lambda m, x: m.last(
        m.first(x).transpose(1, 2).reshape(B, T, F)[:, 0]))  # fmt: skip
    assert found(shuffled) == []


def test_channel_shuffles_and_heads_are_left_alone(engine: Any) -> None:
    nn = engine.nn
    x = np.random.default_rng(0).normal(size=(2, B, 6, 5, 5)).astype(np.float32)
    parts = {"first": nn.Conv2d(6, 6, 1), "last": nn.Linear(6, C)}

    def shuffled(m: Any, x: Any) -> Any:
        h = m.first(x).reshape(B, 2, 3, 5, 5).transpose(1, 2).reshape(B, 6, 5, 5)
        return m.last(h.mean((2, 3)))

    assert found(run(engine, parts, shuffled, x)) == []
    heads = {"first": nn.Linear(F, 8), "over": nn.MultiheadAttention(8, 2), "last": nn.Linear(8, C)}

    def attended(m: Any, x: Any) -> Any:
        h = m.first(x).transpose(0, 1)
        return m.last(m.over(h, h, h)[0].mean(0))

    assert found(run(engine, heads, attended)) == []


def test_the_axis_of_classes(engine: Any) -> None:
    """(B, T, C) to (B, C, T) before the loss; also where one is a multiple of the other."""
    y = np.random.default_rng(0).integers(0, C, (2, B, T))
    parts = {"first": engine.nn.Linear(F, C)}
    mixed = run(engine, parts, lambda m, x: m.first(x).reshape(B, C, T), y=y)
    assert found(mixed) == ["output"]
    parts = {"first": engine.nn.Linear(F, C)}
    assert found(run(engine, parts, lambda m, x: m.first(x).transpose(1, 2), y=y)) == []


def test_swaps_that_are_taken_back(engine: Any) -> None:
    nn = engine.nn
    for name, layer in {"linear": nn.Linear(F, 7), "recurrent": nn.GRU(F, 7)}.items():
        parts = {"first": nn.Linear(F, F), "over": layer, "last": nn.Linear(7, C)}

        def back(m: Any, x: Any) -> Any:
            h = m.over(m.first(x).reshape(T, B, F))
            h = h[0] if isinstance(h, tuple) else engine.F.relu(h)
            return m.last(h.reshape(B, T, 7).mean(1))

        assert found(run(engine, parts, back)) == ([] if name == "linear" else ["over", "last"])


def test_groups_of_places_are_left_alone(engine: Any) -> None:
    """Four neighbours as one: the sizes are those of a swap by chance."""
    nn = engine.nn
    x = np.random.default_rng(0).normal(size=(2, B, 16, 4)).astype(np.float32)
    parts = {"first": nn.Linear(4, 4), "over": nn.Linear(16, 6), "last": nn.Linear(6, C)}
    merged = run(engine, parts, lambda m, x: m.last(
        m.over(m.first(x).reshape(B, 4, 16)).mean(1)), x)  # fmt: skip
    assert found(merged) == []


# -- inputs reshaped before the first layer --------------------------------------------------------


def test_inputs_reshaped_before_the_first_layer(engine: Any) -> None:
    nn = engine.nn
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(2, B, T * F)).astype(np.float32)
    images = rng.normal(size=(2, B, 7, 7, 3)).astype(np.float32)

    def sequence(turn: Callable[[Any], Any], x: Any = None) -> list[str]:
        parts = {"over": nn.LSTM(F, 6), "last": nn.Linear(6, C)}
        return found(run(engine, parts, lambda m, x: m.last(m.over(turn(x))[0][-1]), x))

    def image(turn: Callable[[Any], Any]) -> list[str]:
        parts = {"first": nn.Conv2d(3, 4, 3), "last": nn.Linear(4, C)}
        whole = lambda m, x: m.last(m.first(turn(x)).mean((2, 3)))  # noqa: E731
        return found(run(engine, parts, whole, images))

    assert sequence(lambda x: x.reshape(T, B, F)) == ["over"]
    assert sequence(lambda x: x.transpose(0, 1)) == []
    assert sequence(lambda x: x.reshape(T, B, F), flat) == ["over"]
    assert sequence(lambda x: x.reshape(B, T, F).transpose(0, 1), flat) == []
    assert image(lambda x: x.reshape(B, 3, 7, 7)) == ["first"]
    assert image(lambda x: x.permute(0, 3, 1, 2)) == []


# -- batches taken for time ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "MultiheadAttention"])
@pytest.mark.parametrize("first", [False, True])
def test_the_batch_is_taken_for_time(engine: Any, kind: str, first: bool) -> None:
    nn = engine.nn
    if kind == "MultiheadAttention":
        over = nn.MultiheadAttention(F, 1, batch_first=first)
        act = lambda m, x: m.last(m.over(x, x, x)[0].mean(1))  # noqa: E731
    else:
        over = getattr(nn, kind)(F, F, batch_first=first)
        act = lambda m, x: m.last(m.over(x)[0][:, -1])  # noqa: E731
    seen = run(engine, {"over": over, "last": nn.Linear(F, C)}, act)
    assert found(seen) == ([] if first else ["over"])
    if not first:
        assert "batch_first=True" in seen.findings[0].fix.code


def test_an_encoder_layer_takes_the_batch_for_time(engine: Any) -> None:
    nn = engine.nn
    for first, expected in ((True, []), (False, ["over.self_attn"])):
        over = nn.TransformerEncoderLayer(6, 2, 8, batch_first=first)
        parts = {"first": nn.Linear(F, 6), "over": over, "last": nn.Linear(6, C)}
        seen = run(engine, parts, lambda m, x: m.last(m.over(m.first(x)).mean(1)))
        assert found(seen) == expected


def test_time_first_models_are_left_alone(engine: Any) -> None:
    """Sequences (T, B, F), with one target for each sequence, or one for each of its places."""
    nn = engine.nn
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, T, B, F)).astype(np.float32)
    y = rng.integers(0, C, (2, T, B))

    def tagged(m: Any, x: Any) -> Any:
        return m.last(m.over(x)[0]).permute(0, 2, 1)

    for act, target in ((tagged, y), (lambda m, x: m.last(m.over(x)[0][-1]), y[:, 0])):
        parts = {"over": nn.GRU(F, 6), "last": nn.Linear(6, C)}
        assert found(run(engine, parts, act, x, target)) == []


# -- by hand ---------------------------------------------------------------------------------------


def case(given: tuple[int, ...], target: tuple[int, ...], inputs: int = B) -> Case:
    output = np.zeros((target[0], C))
    call = LossCall(0, "cross_entropy", output, np.zeros(target), 1.0,
                    shapes=(output.shape, target))  # fmt: skip
    return Case(layers={"over": Layer("over", "GRU", {"batch_first": False}, given=given)},
                losses=[call], inputs=[np.zeros((inputs, 4))])  # fmt: skip


@pytest.mark.parametrize(("given", "target", "fires"), [
    ((B, T, F), (B,), True), ((B, T, F), (B, 1), True), ((B, T, F), (B, C), True),
    ((B, T, F), (B, T), False), ((B, 1, F), (B,), False), ((T, B, F), (B,), False),
    ((B, F), (B,), False), ((B, T, F), (B * T,), False), ((B, T, F), (B, T, C), False),
])  # fmt: skip
def test_when_the_batch_is_known(given: tuple[int, ...], target: Any, fires: bool) -> None:
    assert bool(RULES["sample_mixing"](case(given, target))) == fires


def test_a_parameter_may_have_any_shape() -> None:
    views = [Op("mul", (1, 2)), Op("view", (), "a", ("a.w",), shapes=((5, 7), (7, 5))),
             Op("linear", (), "b", ("b.w",))]  # fmt: skip
    assert swaps(views) == ()
    views[1] = Op("view", (2,), shapes=((5, 7), (7, 5)))
    assert swaps(views) == (("", (5, 7), (7, 5)),)


def test_which_reshapes_exchange_axes() -> None:
    assert exchanged((2, 3, 4, 5), (2, 5, 3, 4)) == (1, 12, 5)
    assert exchanged((2, 3, 4, 5), (5, 4, 3, 2)) is None
    assert exchanged((6, 6), (6, 6)) is None and exchanged((6, 4), (8, 3)) is None
