import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, DtypeError, ShapeError
from fathom.nn import recurrences
from tests.unit.nn.layer_harness import run_layer_test

KINDS = {"RNN": (1, 1), "LSTM": (4, 2), "GRU": (3, 1)}  # gates, states


def parameters(gates, layers=1, directions=1, width=3, hidden=4):
    total = 0
    for layer in range(layers):
        below = width if layer == 0 else hidden * directions
        total += directions * gates * hidden * (below + hidden + 2)
    return total


@pytest.mark.parametrize("kind", KINDS)
class TestLayers:
    @pytest.mark.parametrize(
        "options",
        [{}, {"num_layers": 2, "bidirectional": True, "dropout": 0.3}, {"bias": False}],
        ids=str,
    )
    def test_harness(self, kind, options):
        gates, states = KINDS[kind]
        layers, sides = options.get("num_layers", 1), 2 if options.get("bidirectional") else 1
        count = None if "bias" in options else parameters(gates, layers, sides)
        last = [(layers * sides, 2, 4)] * states
        run_layer_test(
            lambda: getattr(nn, kind)(3, 4, **options),
            (3, 2, 3),
            parameters=count,
            output_shape=[(3, 2, 4 * sides), *last],
            batch_axis=1,
        )

    def test_lengths_hide_what_is_behind_the_end(self, kind):
        layer = getattr(nn, kind)(3, 4, bidirectional=True)
        x = fathom.randn(5, 2, 3)
        x.requires_grad_()
        out, last = layer(x, lengths=[5, 2])
        assert not out.value()[2:, 1].any()
        short, own = layer(x.detach()[:2, 1:])
        np.testing.assert_allclose(out.value()[:2, 1:], short.value(), rtol=1e-5, atol=1e-6)
        first, second = (s[0] if isinstance(s, tuple) else s for s in (last, own))
        np.testing.assert_allclose(first.value()[:, 1:], second.value(), rtol=1e-5, atol=1e-6)
        out.sum().backward()
        assert not x.grad.value()[2:, 1].any()

    def test_going_on_from_a_state_is_one_run(self, kind):
        layer = getattr(nn, kind)(3, 4, num_layers=2).double()
        x = fathom.randn(6, 2, 3, dtype=np.float64)
        whole, end = layer(x)
        first, state = layer(x[:2])
        second, other = layer(x[2:], state)
        np.testing.assert_allclose(
            np.concatenate([first.value(), second.value()]), whole.value(), rtol=1e-12
        )
        for a, b in zip(*(s if isinstance(s, tuple) else (s,) for s in (end, other)), strict=True):
            np.testing.assert_allclose(a.value(), b.value(), rtol=1e-12)

    def test_a_cell_in_a_loop_is_the_layer(self, kind):
        layer = getattr(nn, kind)(3, 4)
        cell = getattr(nn, kind + "Cell")(3, 4)
        cell.load_state_dict({n.removesuffix("_l0"): p for n, p in layer.state_dict().items()})
        x, state = fathom.randn(4, 2, 3), None
        for t in range(4):
            state = cell(x[t], state)
            h = state[0] if kind == "LSTM" else state
            np.testing.assert_allclose(layer(x)[0].value()[t], h.value(), rtol=1e-5, atol=1e-6)

    def test_float32_stays(self, kind):
        layer = getattr(nn, kind)(3, 4, num_layers=2)
        assert layer(fathom.randn(4, 2, 3), lengths=[4, 1])[0].dtype == np.float32

    def test_errors(self, kind):
        layer = getattr(nn, kind)(3, 4)
        with pytest.raises(ShapeError, match=r"\(time, n, 3\).*received \(5, 2, >7<\)"):
            layer(fathom.ones(5, 2, 7))
        with pytest.raises(ShapeError, match="at least one step"):
            layer(fathom.ones(0, 2, 3))
        with pytest.raises(DtypeError):
            layer(fathom.ones(5, 2, 3, dtype=np.int64))
        with pytest.raises(ArgumentError, match=r"lengths lie in \[1, 5\]"):
            layer(fathom.ones(5, 2, 3), lengths=[6, 1])
        with pytest.raises(ShapeError, match="2 whole numbers"):
            layer(fathom.ones(5, 2, 3), lengths=[5])
        state = fathom.ones(1, 3, 4)
        with pytest.raises(ShapeError, match=r"h_0 must have shape \(1, 2, 4\).*\(1, >3<, 4\)"):
            layer(fathom.ones(5, 2, 3), (state, state) if kind == "LSTM" else state)
        with pytest.raises(ArgumentError, match="hidden_size must be a whole number"):
            getattr(nn, kind)(3, 0)
        with pytest.raises(ArgumentError, match="dropout is a probability"):
            getattr(nn, kind)(3, 4, dropout=1.5)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(kind):
    gates = KINDS[kind.removesuffix("Cell")][0]
    states = [(2, 4)] if kind != "LSTMCell" else []  # zeros there: its hidden weights stay
    run_layer_test(
        lambda: getattr(nn, kind)(3, 4),
        (2, 3),
        *states,
        parameters=parameters(gates),
        learns=bool(states),
    )
    with pytest.raises(ShapeError, match=r"needs \(n, 3\)"):
        getattr(nn, kind)(3, 4)(fathom.ones(2, 5))


def test_projection():
    run_layer_test(
        lambda: nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True),
        (3, 2, 3),
        output_shape=[(3, 2, 4), (4, 2, 2), (4, 2, 4)],
        batch_axis=1,
    )
    with pytest.raises(ArgumentError, match="proj_size"):
        nn.LSTM(3, 4, proj_size=4)


def test_unknown_nonlinearity():
    with pytest.raises(ArgumentError, match="unknown nonlinearity 'gelu'"):
        nn.RNN(3, 4, nonlinearity="gelu")
    with pytest.raises(ArgumentError, match="the pair"):
        nn.LSTM(3, 4)(fathom.ones(5, 2, 3), fathom.ones(1, 2, 4))


MASK = (np.arange(4)[:, None] < np.array([4, 2])).astype(float)[..., None]


@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "masked"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["rnn", "lstm", "projected", "gru"])
def test_derivatives_of_the_loops(name, reverse, mask):
    """First and second order, of every input, by differences."""
    rng = np.random.default_rng(0)
    h = 2

    def leaf(*shape):
        return fathom.tensor(0.5 * rng.standard_normal(shape), requires_grad=True)

    options = {"mask": mask, "reverse": reverse}
    cases = {
        "rnn": (recurrences.rnn, [leaf(4, 2, h), leaf(2, h), leaf(h, h)]),
        "lstm": (recurrences.lstm, [leaf(4, 2, 4 * h), leaf(2, h), leaf(2, h), leaf(4 * h, h)]),
        "projected": (
            recurrences.lstm,
            [leaf(4, 2, 8 * h), leaf(2, h), leaf(2, 2 * h), leaf(8 * h, h), leaf(h, 2 * h)],
        ),
        "gru": (recurrences.gru, [leaf(4, 2, 3 * h), leaf(2, h), leaf(3 * h, h), leaf(3 * h)]),
    }
    function, leaves = cases[name]
    fathom.autograd.gradcheck(lambda *a: function(*a, **options), leaves)
    fathom.autograd.gradgradcheck(lambda *a: function(*a, **options), leaves)


def test_forward_mode_agrees_with_reverse_mode():
    layer = nn.GRU(3, 4).double()
    x = fathom.randn(4, 2, 3, dtype=np.float64)
    t, u = fathom.randn(4, 2, 3, dtype=np.float64), fathom.randn(4, 2, 4, dtype=np.float64)
    _, tangent = fathom.func.jvp(lambda v: layer(v)[0], (x,), (t,))
    _, back = fathom.func.vjp(lambda v: layer(v)[0], x)
    left = (tangent * u).sum().item()
    right = (back(u)[0] * t).sum().item()
    assert left == pytest.approx(right, rel=1e-10)


def test_gradients_of_a_long_memory_decay_with_the_spectral_radius():
    """Bengio, Simard & Frasconi (1994): |dh_T / dh_0| goes like the radius to the power of T."""
    layer = nn.RNN(4, 4, bias=False).double()
    steps = 40
    decays = []
    for radius in (0.5, 0.9):
        layer.weight_hh_l0.data[...] = radius * np.eye(4)
        h = fathom.zeros(1, 1, 4, dtype=np.float64)
        h.requires_grad_()
        layer(fathom.zeros(steps, 1, 4, dtype=np.float64), h)[1].sum().backward()
        decays.append(np.abs(h.grad.value()).max() ** (1 / steps))
    np.testing.assert_allclose(decays, [0.5, 0.9], rtol=1e-6)


def test_an_lstm_learns_to_remember():
    """The first token decides, 8 steps later."""
    with fathom.seed(0):
        model, head = nn.LSTM(2, 16), nn.Linear(16, 1)
        rng = np.random.default_rng(0)
        optimizer = fathom.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
        for _ in range(80):
            bits = rng.integers(0, 2, 32)
            x = rng.standard_normal((8, 32, 2)).astype(np.float32) * 0.1
            x[0, :, 0] = 2 * bits - 1
            out = head(model(fathom.tensor(x))[0][-1])[:, 0]
            target = fathom.tensor((2 * bits - 1).astype(np.float32))
            loss = ((out - target) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert loss.item() < 0.05


class TestPacking:
    def test_there_and_back(self):
        x = fathom.randn(4, 3, 2)
        x.requires_grad_()
        packed = nn.pack_padded_sequence(x, [2, 4, 1], enforce_sorted=False)
        assert packed.batch_sizes.tolist() == [3, 2, 1, 1]
        back, lengths = nn.pad_packed_sequence(packed)
        assert lengths.tolist() == [2, 4, 1]
        keep = np.arange(4)[:, None] < np.array([2, 4, 1])
        np.testing.assert_array_equal(back.value(), x.value() * keep[..., None])
        back.sum().backward()
        np.testing.assert_array_equal(x.grad.value(), np.broadcast_to(keep[..., None], (4, 3, 2)))

    def test_pack_sequence(self):
        packed = nn.pack_sequence([fathom.ones(3), fathom.zeros(1)])
        assert packed.data.tolist() == [1.0, 0.0, 1.0, 1.0]

    def test_errors(self):
        with pytest.raises(ArgumentError, match="enforce_sorted=False"):
            nn.pack_padded_sequence(fathom.ones(3, 2), [1, 3])
        with pytest.raises(ArgumentError, match="lie in"):
            nn.pack_padded_sequence(fathom.ones(3, 2), [3, 0])
        packed = nn.pack_padded_sequence(fathom.ones(3, 2), [3, 1])
        with pytest.raises(ArgumentError, match="total_length 2 is shorter"):
            nn.pad_packed_sequence(packed, total_length=2)
        with pytest.raises(ShapeError, match="agree behind their first axis"):
            nn.pad_sequence([fathom.ones(2, 3), fathom.ones(2, 4)])
        with pytest.raises(ArgumentError, match="knows its lengths"):
            nn.RNN(2, 3)(nn.pack_padded_sequence(fathom.ones(3, 2, 2), [3, 1]), lengths=[3, 1])
