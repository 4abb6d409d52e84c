"""Recurrent layers as native code: values, gradients, training, and no step left to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.native import custom
from fathom.nn import recurrences

pytest.importorskip("llvmlite")

N, TIME, INPUTS = 3, 5, 4
LAYERS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "rnn": (nn.RNN, {}),
    "rnn relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "lstm projected": (nn.LSTM, {"proj_size": 2}),
    "gru": (nn.GRU, {}),
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch first": {"batch_first": True},
    "both directions": {"bidirectional": True},
    "two layers, both directions": {"bidirectional": True, "num_layers": 2},
    "without bias": {"bias": False},
}
LENGTHS = [5, 2, 4]


def draw(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def build(name: str, dtype: Any = np.float64, hidden: int = 6, **options: Any) -> Any:
    kind, own = LAYERS[name]
    with fathom.seed(1):
        return kind(INPUTS, hidden, **own, **options).to(dtype)


def states_of(layer: Any, dtype: Any = np.float64) -> Any:
    """Initial states that are not zero, as leaves."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    widths = [layer.hidden_size]
    if isinstance(layer, nn.LSTM):
        widths = [layer.proj_size or layer.hidden_size, layer.hidden_size]
    made = [
        fathom.tensor(draw(count, N, w, dtype=dtype, seed=k), requires_grad=True)
        for k, w in enumerate(widths, 7)
    ]
    return tuple(made) if len(made) > 1 else made[0]


def weighed(out: Any, states: Any) -> Any:
    """A loss in which every output has a weight of its own."""
    parts = [out, *several(states)]
    return sum((p * fathom.tensor(draw(*p.shape, dtype=p.dtype, seed=k))).sum()
               for k, p in enumerate(parts, 20))  # fmt: skip


def hosts(compiled: Any) -> list[str]:
    """The operations that are left to NumPy."""
    entries = [e for es in compiled._entries.values() for e in es]
    units = [u for e in entries for u in e.program.schedule.units]
    return [u.steps[0].primitive.name for u in units if u.kind == "host"]


def several(states: Any) -> tuple[Any, ...]:
    return states if isinstance(states, tuple) else (states,)


def compare(
    layer: Any, x: Any, hx: Any = None, lengths: Any = None, tolerance: float = 1e-11
) -> Any:
    """Outputs and all gradients, eagerly and natively."""
    leaves = [x, *(() if hx is None else several(hx))]

    def step() -> Any:
        layer.zero_grad()
        for leaf in leaves:
            leaf.grad = None
        out, states = layer(x, hx, lengths=lengths)
        weighed(out, states).backward()
        return out.detach(), [s.detach() for s in several(states)]

    def run(function: Any) -> list[Any]:
        out, states = function()
        grads = [p.grad for p in (*layer.parameters(), *leaves)]
        return [np.array(v.numpy()) for v in (out, *states, *grads)]

    compiled = fathom.compile(step, backend="native")
    wanted = run(step)
    for _ in range(2):
        for a, b in zip(wanted, run(compiled), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)
    return compiled


def given(layer: Any, dtype: Any = np.float64, n: int = N) -> Any:
    shape = (n, TIME, INPUTS) if layer.batch_first else (TIME, n, INPUTS)
    return fathom.tensor(draw(*shape, dtype=dtype), requires_grad=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients(name: str, form: str) -> None:
    layer = build(name, **FORMS[form])
    assert not hosts(compare(layer, given(layer)))


@pytest.mark.parametrize("name", LAYERS)
def test_lengths_and_initial_states(name: str) -> None:
    layer = build(name, bidirectional=True)
    compiled = compare(layer, given(layer), states_of(layer), LENGTHS)
    assert not hosts(compiled)


@pytest.mark.parametrize("name", LAYERS)
def test_initial_states(name: str) -> None:
    layer = build(name)
    assert not hosts(compare(layer, given(layer), states_of(layer)))


@pytest.mark.parametrize("name", LAYERS)
def test_float32(name: str) -> None:
    """Widths beyond a vector and beside one."""
    layer = build(name, np.float32, hidden=19)
    compiled = compare(layer, given(layer, np.float32), None, LENGTHS, tolerance=2e-5)
    assert not hosts(compiled)


@pytest.mark.parametrize("name", LAYERS)
def test_shared_by_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread takes some of the sequences; an uneven share is fine."""
    monkeypatch.setenv("FATHOM_NUM_THREADS", "2")
    monkeypatch.setattr(custom, "HEAVY", 0)
    layer = build(name, bidirectional=True)
    compiled = compare(layer, given(layer), states_of(layer), LENGTHS)
    assert all(e.program.forks for es in compiled._entries.values() for e in es)


@pytest.mark.parametrize("hidden", [1, 2, 16, 33])
def test_widths(hidden: int) -> None:
    for name in ("lstm", "gru"):
        layer = build(name, hidden=hidden)
        compare(layer, given(layer))


@pytest.mark.parametrize("time, n", [(1, 3), (4, 1), (1, 1)])
def test_a_single_step_or_sequence(time: int, n: int) -> None:
    for name in LAYERS:
        layer = build(name)
        x = fathom.tensor(draw(time, n, INPUTS), requires_grad=True)
        assert not hosts(compare(layer, x))


def test_packed_sequences() -> None:
    layer = build("lstm")
    x = fathom.tensor(draw(TIME, N, INPUTS))

    def step(x: Any) -> Any:
        packed = nn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        out, (h, _) = layer(packed)
        return out.data.detach(), h.detach()

    wanted, found = step(x), fathom.compile(step, backend="native")(x)
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["lstm", "lstm projected", "gru"])
def test_gradients_of_the_gates(name: str) -> None:
    """A loss on all that the primitive gives, its gates too, which no layer shows."""
    time, n, hidden = 4, 2, 3
    gates, out = (3 if name == "gru" else 4) * hidden, 2 if "projected" in name else hidden
    shapes = [(time, n, gates), (n, out), (gates, out)]
    if name == "gru":
        primitive, shapes = recurrences._gru_primitive, [*shapes, (gates,)]
    else:
        shapes.insert(2, (n, hidden))
        primitive = recurrences._lstm_primitive
        if "projected" in name:
            primitive, shapes = recurrences._lstm_projected, [*shapes, (out, hidden)]
    if name != "gru":
        shapes[3] = (gates, out)
    leaves = [fathom.tensor(draw(*s, seed=k), requires_grad=True) for k, s in enumerate(shapes)]

    def step() -> Any:
        for leaf in leaves:
            leaf.grad = None
        found = primitive(*leaves, mask=None, reverse=False)
        weighed(found[0], tuple(found[1:])).backward()
        return found[0].detach()

    step()
    wanted = [np.array(leaf.grad.numpy()) for leaf in leaves]
    compiled = fathom.compile(step, backend="native")
    compiled()
    assert not hosts(compiled)
    for a, leaf in zip(wanted, leaves, strict=True):
        np.testing.assert_allclose(leaf.grad.numpy(), a, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_training(name: str) -> None:
    """Fifty steps of Adam end where they end eagerly."""
    x, y = fathom.tensor(draw(6, TIME, INPUTS)), fathom.tensor(draw(6, 1, seed=1))

    def trained(native: bool) -> tuple[list[float], list[Any]]:
        layer = build(name, batch_first=True)
        with fathom.seed(2):
            head = nn.Linear(2 if "projected" in name else 6, 1).to(np.float64)
        optimizer = fathom.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = ((head(layer(x)[0][:, -1]) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        run = fathom.compile(step, backend="native") if native else step
        losses = [run(x, y).item() for _ in range(50)]
        return losses, [p.detach().numpy() for p in layer.parameters()]

    eager, native = trained(False), trained(True)
    assert eager[0][-1] < 0.7 * eager[0][0]
    np.testing.assert_allclose(native[0], eager[0], rtol=1e-7)
    for a, b in zip(eager[1], native[1], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", LAYERS)
def test_numpy_plan_is_bitwise_eager(name: str) -> None:
    """The way back is one step of the plan, and the same numbers."""
    layer = build(name, np.float32, num_layers=2)
    x = fathom.tensor(draw(TIME, N, INPUTS, dtype=np.float32))

    def step(x: Any) -> Any:
        layer.zero_grad()
        out, states = layer(x, lengths=LENGTHS)
        weighed(out, states).backward()
        return out.detach()

    def run(function: Any) -> list[Any]:
        out = function(x)
        return [out.numpy(), *(np.array(p.grad.numpy()) for p in layer.parameters())]

    compiled = fathom.compile(step, backend="numpy")
    for a, b in zip(run(step), run(compiled), strict=True):
        np.testing.assert_array_equal(a, b)
    names = [s.primitive.name for s in compiled.plan.steps]
    assert sum(n.endswith("_backward") for n in names) == 2


def test_a_mask_is_read_where_it_is_wide() -> None:
    """Behind its end a sequence keeps its state, and what stands there in x does not matter."""
    layer = build("gru")
    x = draw(TIME, N, INPUTS)

    @fathom.no_grad()
    def forward(x: Any) -> Any:
        return layer(x, lengths=LENGTHS)

    run = fathom.compile(forward, backend="native")
    out, h = run(fathom.tensor(x))
    for k, length in enumerate(LENGTHS):
        x[length:, k] = 1e3
        np.testing.assert_array_equal(out.numpy()[length:, k], 0.0)
        np.testing.assert_array_equal(out.numpy()[length - 1, k], h.numpy()[0, k])
    again, _ = run(fathom.tensor(x))
    np.testing.assert_array_equal(again.numpy(), out.numpy())


def test_nan_and_infinity_pass() -> None:
    for name in LAYERS:
        layer = build(name)
        x = draw(TIME, N, INPUTS)
        x[2, 1] = np.nan
        x[0, 2, 0] = np.inf
        with np.errstate(all="ignore"), fathom.no_grad():
            run = fathom.compile(lambda x, layer=layer: layer(x)[0], backend="native")
            wanted, found = layer(fathom.tensor(x))[0], run(fathom.tensor(x))
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-11, atol=1e-12)


def test_a_batch_of_models_is_left_to_numpy() -> None:
    """`vmap` over weights: four axes, and the same numbers."""
    x, h = fathom.tensor(draw(4, 2, 9)), fathom.tensor(draw(2, 3))
    weights, bias = fathom.tensor(draw(5, 9, 3)), fathom.tensor(draw(9))

    def step(w: Any) -> Any:
        return fathom.func.vmap(lambda w: recurrences.gru(x, h, w, bias))(w)

    compiled = fathom.compile(step, backend="native")
    np.testing.assert_allclose(compiled(weights).numpy(), step(weights).numpy(), rtol=1e-12)
    assert hosts(compiled) == ["gru"]


def test_second_derivatives_do_not_need_it() -> None:
    """With `create_graph` the way back is recorded in ordinary operations, as without a plan."""
    layer = build("gru", hidden=2)
    x = fathom.tensor(draw(3, 2, INPUTS), requires_grad=True)

    def step() -> Any:
        (g,) = fathom.autograd.grad((layer(x)[0] ** 2).sum(), [x], create_graph=True)
        return fathom.autograd.grad((g * g).sum(), [x])[0]

    wanted = step()
    found = fathom.compile(step, backend="native")()
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-10, atol=1e-12)
