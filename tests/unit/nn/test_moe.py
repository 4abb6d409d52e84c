"""Mixture of experts, the sigmoid gate, and networks of coordinates."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from tests.unit.nn.layer_harness import run_layer_test


class TestMixture:
    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_harness(self, k):
        run_layer_test(
            lambda: nn.MixtureOfExperts(4, 6, 3, k=k, activation="tanh"),
            (8, 4),
            parameters=12 + 3 * (2 * 24 + 10),
            output_shape=(8, 4),
            per_sample=False,  # where a sample goes depends on its value
            learns=k < 3,
        )

    def test_k_of_n_experts_are_active_and_make_the_sum(self):
        layer = nn.MixtureOfExperts(4, 6, 5, k=2).double()
        x = fathom.randn(7, 4, dtype=np.float64)
        got = layer(x).value()
        route = layer.routing
        assert route.experts.shape == (7, 2)
        assert all(len(set(row)) == 2 for row in route.experts.tolist())
        np.testing.assert_allclose(route.load.sum(), 1.0)
        np.testing.assert_allclose(route.importance.sum(), 1.0)
        logits = x.value() @ layer.router.weight.value().T
        for row in range(7):
            top = np.argsort(-logits[row])[:2]
            assert set(top) == set(route.experts[row])
            shares = np.exp(logits[row][top]) / np.exp(logits[row][top]).sum()
            total = 0
            for share, e in zip(shares, top, strict=True):
                hidden = layer.weight1.value()[e] @ x.value()[row] + layer.bias1.value()[e]
                out = layer.weight2.value()[e] @ np.maximum(hidden, 0) + layer.bias2.value()[e]
                total = total + share * out
            np.testing.assert_allclose(got[row], total, rtol=1e-10)

    def test_experts_without_tokens_get_no_gradient(self):
        layer = nn.MixtureOfExperts(4, 6, 5, k=1)
        layer(fathom.ones(3, 4)).sum().backward()
        used = set(layer.routing.experts.reshape(-1).tolist())
        moved = np.abs(layer.weight2.grad.value()).sum(axis=(1, 2)) > 0
        assert set(np.flatnonzero(moved)) == used and len(used) == 1
        assert layer.router.weight.grad.value().any()

    def test_the_balancing_loss_is_one_when_even_and_brings_it_about(self):
        with fathom.seed(0):
            layer = nn.MixtureOfExperts(8, 4, 4, k=1)
            layer.router.weight.data[0] += 2.0
            x = fathom.rand(256, 8) + 0.2
            layer(x)
            before = layer.routing
            optimizer = fathom.optim.Adam(layer.router.parameters(), lr=0.05)
            for _ in range(60):
                layer(x)
                optimizer.zero_grad()
                layer.routing.aux_loss.backward()
                optimizer.step()
            after = layer.routing
        assert before.load.max() == 1.0 and before.aux_loss.item() > 2
        assert after.imbalance < 0.5 * before.imbalance
        assert after.aux_loss.item() < 1.5
        even = nn.MixtureOfExperts(8, 4, 4, k=4)
        nn.init.zeros_(even.router.weight)
        even(x)
        assert even.routing.aux_loss.item() == pytest.approx(1.0)
        assert even.routing.imbalance == 0

    def test_errors(self):
        with pytest.raises(ArgumentError, match="k 4 is more than the 3 experts"):
            nn.MixtureOfExperts(4, 6, 3, k=4)
        with pytest.raises(ArgumentError, match="unknown activation"):
            nn.MixtureOfExperts(4, 6, 3, activation="swigl")
        with pytest.raises(ShapeError, match=r"needs \(..., 4\)"):
            nn.MixtureOfExperts(4, 6, 3)(fathom.ones(2, 5))


class TestGate:
    def test_harness(self):
        run_layer_test(
            lambda: nn.Gate(3, bias=0.5), (4, 3), (4, 3), parameters=21, output_shape=(4, 3)
        )

    def test_output_lies_between_the_inputs(self):
        a, b = fathom.randn(50, 3), fathom.randn(50, 3)
        out = nn.Gate(3)(a, b).value()
        assert (out >= np.minimum(a.value(), b.value())).all()
        assert (out <= np.maximum(a.value(), b.value())).all()

    def test_bias_opens_it(self):
        a, b = fathom.ones(2, 3), fathom.zeros(2, 3)
        assert (nn.Gate(3, bias=20.0)(a, b).value() > 0.999).all()
        assert (nn.Gate(3, bias=-20.0)(a, b).value() < 0.001).all()
        with pytest.raises(ShapeError, match="needs two inputs"):
            nn.Gate(3)(a, fathom.zeros(3, 3))


class TestCoordinates:
    @pytest.mark.parametrize("kind", ["gaussian", "octaves"])
    def test_harness(self, kind):
        width = 8 if kind == "gaussian" else 16
        layer = run_layer_test(
            lambda: nn.FourierFeatures(2, 4, kind=kind), (5, 2), output_shape=(5, width), scale=0.3,
            compiled_close=1e-3,
        )  # fmt: skip
        assert layer.out_features == width
        run_layer_test(
            lambda: nn.CoordinateMLP(2, 1, [6], 3, kind=kind, activation="tanh"),
            (5, 2),
            output_shape=(5, 1),
            scale=0.3,
        )

    def test_frequencies_are_saved(self):
        first, second = (nn.CoordinateMLP(1, 1, [4], 3) for _ in range(2))
        second.load_state_dict(first.state_dict())
        x = fathom.rand(5, 1)
        np.testing.assert_array_equal(first(x).value(), second(x).value())

    def test_octaves(self):
        layer = nn.FourierFeatures(1, 2, kind="octaves")
        out = layer(fathom.tensor([[0.25]])).value()[0]
        np.testing.assert_allclose(out, [1, 0, 0, -1], atol=1e-6)

    def test_spectral_bias_and_its_cure(self):
        """Bare coordinates learn slow parts first; Fourier features learn all at once."""
        t = np.arange(64) / 64
        wave = sum(np.sin(2 * np.pi * f * t) for f in (1, 3, 8))
        x = fathom.tensor(t[:, None].astype(np.float32))
        y = fathom.tensor(wave[:, None].astype(np.float32))

        def errors(frequencies):
            with fathom.seed(0):
                net = nn.CoordinateMLP(1, 1, (48, 48), frequencies, kind="octaves")
                optimizer = fathom.optim.Adam(net.parameters(), lr=5e-3)
                for _ in range(200):
                    loss = ((net(x) - y) ** 2).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            return nn.spectral_error(net(x).value()[:, 0], wave, [1, 3, 8])

        bare, featured = errors(0), errors(4)
        assert bare[1] < 0.25 < bare[8]
        assert bare[8] > 3 * bare[1]
        assert max(featured.values()) < 0.1

    def test_errors(self):
        with pytest.raises(ArgumentError, match="nothing of frequency 3"):
            nn.spectral_error(np.zeros(16), np.sin(2 * np.pi * np.arange(16) / 16), [3])
        with pytest.raises(ArgumentError, match="sigma must be > 0"):
            nn.FourierFeatures(1, 2, sigma=0)
        with pytest.raises(ShapeError, match=r"\(..., 2\) coordinates"):
            nn.FourierFeatures(2, 2)(fathom.ones(3, 1))
