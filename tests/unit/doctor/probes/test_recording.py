import copy

import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.doctor.probes.running import batches
from fathom.engine.errors import ArgumentError, FathomError
from fathom.engine.random import current

DATA = fathom.data.load("digits")
X, Y = (DATA.x[:64].reshape(64, -1) / 16).astype(np.float32), DATA.y[:64]


def mlp(*more):
    with fathom.seed(0):
        return nn.Sequential(nn.Linear(64, 8), nn.ReLU(), *more, nn.Linear(8, 10))


def state(model):
    """Everything a model is made of, as bytes."""
    hooks = [len(m._hooks) + len(m._pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    grads = [None if t.grad is None else t.grad.value().tobytes() for _, t in tensors]
    data = [(name, id(t), id(t.data), t.version, t.data.tobytes()) for name, t in tensors]
    return data, grads, hooks, [m.training for m in model.modules()]


class Looping(nn.Module):
    """A block called three times, a layer under two names, a tuple and a dictionary out."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.a = nn.Linear(4, 4)
        self.b = self.a
        self.rnn = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        for _ in range(3):
            x = self.encoder(x)
        x = self.b(self.a(x))
        out, (h, _) = self.rnn(x.reshape(1, *x.shape))
        return {"out": out, "last": h, "note": "text"}


@pytest.fixture
def looping():
    with fathom.seed(1):
        return Looping()


class TestValues:
    def test_outputs_and_deltas_are_those_of_a_calculation_by_hand(self):
        model = mlp()
        w1, b1, w2 = (p.value().astype(np.float64) for p in list(model.parameters())[:3])
        with doctor.record(model, inputs=True) as seen:
            loss = nn.functional.cross_entropy(model(fathom.tensor(X)), Y)
            assert seen["0"].delta is None
            loss.backward()
        z = X @ w1.T + b1
        np.testing.assert_allclose(seen["0"].output, z, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(seen["0"].input, X)
        logits = seen["2"].output.astype(np.float64)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        delta = (p - np.eye(10)[Y]) / len(X)
        np.testing.assert_allclose(seen["2"].delta, delta, atol=1e-7)
        np.testing.assert_allclose(seen[""].delta, delta, atol=1e-7)
        np.testing.assert_allclose(seen["1"].delta, delta @ w2, atol=1e-7)
        np.testing.assert_allclose(seen["0"].delta, (delta @ w2) * (z > 0), atol=1e-7)

    def test_it_agrees_with_backward_hooks(self):
        model, found = mlp(nn.Tanh()), {}
        with doctor.record(model) as seen:
            model(fathom.tensor(X)).sum().backward()
        for name, module in model.named_modules():
            module.register_full_backward_hook(
                lambda m, gi, go, name=name: found.update({name: go[0].value().copy()})
            )
        model(fathom.tensor(X)).sum().backward()
        for name, delta in found.items():
            np.testing.assert_array_equal(seen[name].delta, delta)

    def test_the_order_is_that_of_the_calls_ending(self):
        model = mlp()
        with doctor.record(model) as seen, fathom.no_grad():
            model(fathom.tensor(X))
        assert list(seen) == ["0", "1", "2", ""]
        assert all(call.delta is None for call in seen.values())

    def test_later_edits_of_a_value_do_not_reach_the_record(self):
        model = mlp()
        with doctor.record(model) as seen, fathom.no_grad():
            out = model(fathom.tensor(X))
            kept = seen["2"].output.copy()
            out.data[...] = 0.0
        np.testing.assert_array_equal(seen["2"].output, kept)


class TestNames:
    def test_repeated_calls_and_shared_modules(self, looping):
        x = fathom.tensor(np.ones((5, 4), np.float32))
        with doctor.record(looping) as seen:
            looping(x)["out"].sum().backward()
        assert list(seen) == [
            "encoder.0", "encoder.1", "encoder", "encoder.0#2", "encoder.1#2", "encoder#2",
            "encoder.0#3", "encoder.1#3", "encoder#3", "a", "a#2", "rnn", "",
        ]  # fmt: skip
        w, tanh = looping.encoder[0].weight.value(), seen["encoder.1#2"].output
        step = seen["encoder.0#3"].delta @ w * (1 - tanh * tanh)
        np.testing.assert_allclose(seen["encoder.0#2"].delta, step, rtol=1e-5)

    def test_nested_outputs(self, looping):
        with doctor.record(looping) as seen:
            looping(fathom.tensor(np.ones((5, 4), np.float32)))["last"].sum().backward()
        out, (h, c) = seen["rnn"].output
        assert (out.shape, h.shape, c.shape) == ((1, 5, 3), (1, 1, 3), (1, 1, 3))
        d_out, (d_h, d_c) = seen["rnn"].delta
        assert d_out is None and d_c is None
        np.testing.assert_array_equal(d_h, np.ones((1, 1, 3)))
        assert seen[""].output["note"] == "text" and seen[""].delta["out"] is None
        assert seen["rnn"].array is out and seen["rnn"].gradient is None

    def test_attention_with_weights_that_are_none(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        with doctor.record(layer, nn.MultiheadAttention) as seen:
            layer(fathom.ones(2, 5, 8)).sum().backward()
        assert seen["self_attn"].output[1] is None
        assert seen["self_attn"].delta[0].shape == (2, 5, 8)

    def test_counting_goes_on_until_clear(self):
        model = mlp()
        with doctor.record(model, "0") as seen:
            model(fathom.tensor(X))
            model(fathom.tensor(X))
            assert list(seen) == ["0", "0#2"]
            seen.clear()
            model(fathom.tensor(X))
        assert list(seen) == ["0"] and "0#2" not in seen and seen.get("0#2") is None

    def test_two_passes_of_one_loss_keep_their_own_deltas(self):
        model = mlp()
        with doctor.record(model, "") as seen:
            (model(fathom.tensor(X)).sum() + 3.0 * model(fathom.tensor(X)).sum()).backward()
        assert seen[""].delta[0, 0] == 1.0 and seen["#2"].delta[0, 0] == 3.0

    @pytest.mark.parametrize(
        ("only", "names"),
        [
            ("encoder.0", ["encoder.0", "encoder.0#2", "encoder.0#3"]),
            ("enc*.1", ["encoder.1", "encoder.1#2", "encoder.1#3"]),
            (nn.LSTM, ["rnn"]),
            ((nn.LSTM, "a"), ["a", "a#2", "rnn"]),
            (lambda name, module: not name, [""]),
        ],
        ids=["name", "pattern", "type", "several", "function"],
    )
    def test_filters(self, looping, only, names):
        with doctor.record(looping, only) as seen, fathom.no_grad():
            looping(fathom.tensor(np.ones((5, 4), np.float32)))
        assert list(seen) == names

    def test_unknown_names_are_refused_with_the_nearest(self, looping):
        with pytest.raises(ArgumentError, match="did you mean 'encoder"):
            with doctor.record(looping, "encoder.o"):
                pass
        with pytest.raises(ArgumentError, match="did you mean 'rnn'"):
            with doctor.record(looping, replace={"rmn": lambda out: out}):
                pass
        with doctor.record(looping) as seen, pytest.raises(ArgumentError, match="recorded"):
            seen["rnn"]
        with doctor.record(looping) as seen, pytest.raises(ArgumentError, match="inputs=True"):
            looping(fathom.tensor(np.ones((5, 4), np.float32)))
            _ = seen["rnn"].input


class TestReplace:
    def test_it_replaces_and_is_gone(self):
        model = mlp()
        with fathom.no_grad():
            before = model(fathom.tensor(X)).value()
            with doctor.record(model, replace={"1": lambda a: a * 0.0}) as seen:
                inside = model(fathom.tensor(X)).value()
            after = model(fathom.tensor(X)).value()
        np.testing.assert_array_equal(inside, np.broadcast_to(model[2].bias.value(), inside.shape))
        assert not seen["1"].output.any()
        np.testing.assert_array_equal(before, after)

    def test_one_call_or_all(self, looping):
        x = fathom.tensor(np.ones((5, 4), np.float32))
        zero = lambda out: np.zeros(out.shape, np.float32)  # noqa: E731
        with doctor.record(looping, "encoder.1", replace={"encoder.1#2": zero}) as seen:
            looping(x)
        assert [bool(c.output.any()) for c in seen.values()] == [True, False, True]
        with doctor.record(looping, "encoder.1") as seen:
            seen.replace("encoder.1", zero)
            looping(x)
        assert not any(c.output.any() for c in seen.values())

    def test_none_leaves_the_output_and_gradients_pass(self):
        model, looked = mlp(), []
        with doctor.record(model, replace={"1": looked.append, "0": lambda z: 2.0 * z}) as seen:
            model(fathom.tensor(X)).sum().backward()
        assert len(looked) == 1
        np.testing.assert_array_equal(
            model[0].bias.grad.value(), (2.0 * seen["0"].delta).sum(axis=0)
        )


class TestNothingIsLeft:
    def test_training_is_bitwise_the_same(self):
        def train(watched):
            model = mlp(nn.BatchNorm1d(8), nn.Dropout(0.2))
            adam = fathom.optim.Adam(model.parameters(), lr=0.01)
            with fathom.seed(3):
                for _ in range(5):
                    with doctor.record(model, inputs=True) if watched else fathom.enable_grad():
                        adam.zero_grad()
                        nn.functional.cross_entropy(model(fathom.tensor(X)), Y).backward()
                        adam.step()
            return [t.value().tobytes() for t in (*model.parameters(), *model.buffers())]

        assert train(True) == train(False)

    @pytest.mark.parametrize("kind", ["transformer", "rnn", "conv"])
    def test_gradients_are_bitwise_the_same(self, kind):
        with fathom.seed(0):
            x = np.asarray(current().stream("x").normal((2, 6, 8)))
            model = {
                "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True),
                "rnn": lambda: nn.Sequential(nn.Linear(8, 8), nn.Identity(), nn.Tanh()),
                "conv": lambda: nn.Residual(
                    nn.Sequential(nn.Conv1d(6, 6, 3, padding=1), nn.Identity(), nn.ReLU())
                ),
            }[kind]()

        def gradients():
            model.zero_grad()
            with fathom.seed(1):
                model(fathom.tensor(x)).sum().backward()
            return [p.grad.value().tobytes() for p in model.parameters()]

        plain = gradients()
        with doctor.record(model):
            watched = gradients()
        assert watched == plain

    def test_fit_is_bitwise_the_same(self):
        nets = [mlp(nn.Dropout(0.5)), mlp(nn.Dropout(0.5))]
        with doctor.record(nets[0], "0"):
            nets[0].fit(X, Y, epochs=2, batch_size=16, seed=1, verbose=False)
        nets[1].fit(X, Y, epochs=2, batch_size=16, seed=1, verbose=False)
        for p, q in zip(*(net.parameters() for net in nets), strict=True):
            assert p.value().tobytes() == q.value().tobytes()

    def test_hooks_go_when_the_block_fails(self):
        model = mlp(nn.BatchNorm1d(8))
        before = state(model)
        with pytest.raises(FathomError, match="in layer: 0"), doctor.record(model):
            model(fathom.ones(3, 5))
        with pytest.raises(ZeroDivisionError), doctor.record(model):
            1 / 0  # noqa: B018
        assert state(model) == before

    def test_no_hook_stays_in_a_graph_that_outlives_the_block(self):
        model = mlp()
        with doctor.record(model) as seen:
            loss = model(fathom.tensor(X)).sum()
        loss.backward()
        assert all(call.delta is None for call in seen.values())
        assert not any(m._hooks for m in model.modules())


class TestUntouched:
    def net(self):
        model = mlp(nn.BatchNorm1d(8), nn.Dropout(0.5))
        model[2].eval()  # a frozen norm in a net that trains
        model(fathom.tensor(X)).sum().backward()
        return model

    def test_everything_comes_back(self):
        model = self.net()
        before = state(model)
        with fathom.seed(5) as rng:
            rng.stream("dropout").uniform((2,))
            place = rng.state_dict()
            with doctor.untouched(model, training=True):
                for p in model.parameters():
                    p.data[...] = 7.0
                model(fathom.tensor(X)).sum().backward()
                assert model[2].running_mean.value().any()
                assert all((p.grad.value() is not None) for p in model.parameters())
            assert rng.state_dict() == place
        assert state(model) == before

    def test_a_buffer_of_two_modules_comes_back_once(self):
        model = nn.Sequential(nn.BatchNorm1d(64), nn.BatchNorm1d(64))
        model[1].running_mean = model[0].running_mean
        before = state(model)
        with doctor.untouched(model, training=True):
            model(fathom.tensor(X))
        assert state(model) == before
        assert model[1].running_mean is model[0].running_mean

    def test_after_an_error_too(self):
        model = self.net()
        before = state(model)
        with pytest.raises(ZeroDivisionError), doctor.untouched(model, training=False):
            model.zero_grad()
            1 / 0  # noqa: B018
        assert state(model) == before

    def test_an_open_graph_can_still_go_backward(self):
        model = self.net()
        loss = model(fathom.tensor(X)).sum()
        doctor.dead_units(model, X)
        doctor.gradient_flow(model, "auto", X, Y)
        loss.backward()

    def test_probes_leave_all_as_it_was(self):
        model = self.net()
        before, copied = state(model), copy.deepcopy(model)
        adam = fathom.optim.Adam(model.parameters())
        with fathom.seed(5) as rng:
            loader = fathom.data.DataLoader(X, Y, 16, shuffle=True, rng=rng)
            doctor.dead_units(model, loader)
            doctor.saturation(model, loader)
            doctor.zero_centring(model, loader)
            doctor.duplicate_units(model)
            doctor.next_layer_mean(model, X)
            doctor.gradient_flow(model, "auto", X, Y, optimizer=adam)
            doctor.sign_agreement_of(model, "auto", X, Y, repeats=2)
            doctor.gradient_predictiveness(model, "auto", X, Y)
            doctor.batch_effects(model.eval(), X, Y, sizes=(4,), steps=2, repeats=2)
            model.train()
            model[2].eval()
            assert rng.state_dict()["streams"] == {}
        assert state(model) == before
        assert repr(copied) == repr(model) and not adam.state_dict()["state"]

    def test_a_lazy_model_is_refused_before_it_is_settled(self):
        model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
        with pytest.raises(ArgumentError, match="first batch"):
            doctor.dead_units(model, X)


class TestBatches:
    def test_arrays_loaders_and_iterables(self):
        model = mlp()
        whole = np.concatenate(list(batches(model, X, 10)))
        np.testing.assert_array_equal(whole, X)
        loader = fathom.data.DataLoader(X, Y, 24, shuffle=True, drop_last=True)
        assert [len(b) for b in batches(model, loader)] == [24, 24, 16]
        assert [len(b) for b in batches(model, iter([(X[:3], Y[:3]), X[:2]]))] == [3, 2]

    def test_no_data_and_two_inputs_are_refused(self):
        with pytest.raises(ArgumentError, match="no batch"):
            doctor.dead_units(mlp(), iter([]))
        with pytest.raises(ArgumentError, match="several inputs"):
            doctor.dead_units(mlp(), fathom.data.DataLoader((X, X), Y))
