import numpy as np
import pytest

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models import (
    HebbianNeuron,
    LIFNeuron,
    McCullochPitts,
    boolean_functions,
    boolean_inputs,
    linearly_separable,
    realize,
)


class TestMcCullochPitts:
    def test_all_but_xor_and_xnor_are_realized_and_the_linear_program_agrees(self):
        realized = set()
        for name, values in boolean_functions().items():
            unit = realize(values)
            if unit is not None:
                assert unit(boolean_inputs()).tolist() == list(values)
                realized.add(name)
            if len(set(values)) == 2:
                assert bool(linearly_separable(boolean_inputs(), values)) == (unit is not None)
        assert len(boolean_functions()) == 16
        assert set(boolean_functions()) - realized == {"xor", "xnor"}

    def test_no_real_weights_do_better(self):
        """Whatever weights and threshold: never XOR, never XNOR; 14 functions in all."""
        rng = np.random.default_rng(0)
        found = set()
        for row in rng.normal(size=(5000, 3)):
            found.add(tuple(McCullochPitts(row[2], row[:2])(boolean_inputs()).tolist()))
        assert len(found) == 14
        assert not found & {(0, 1, 1, 0), (1, 0, 0, 1)}

    def test_the_classical_unit(self):
        inputs = boolean_inputs(3)
        assert (McCullochPitts(2)(inputs) == (inputs.sum(1) >= 2)).all()
        veto = McCullochPitts(1, inhibitory=[2])(inputs)
        assert (veto == ((inputs[:, :2].sum(1) >= 1) & (inputs[:, 2] == 0))).all()
        assert McCullochPitts(0, inhibitory=[0])([[0], [1]]).tolist() == [1, 0]  # NOT

    def test_errors(self):
        with pytest.raises(ArgumentError, match="inputs are 0 or 1"):
            McCullochPitts(1)([[0.5]])
        with pytest.raises(ShapeError, match="does not fit"):
            McCullochPitts(1, [1, 1])([[0, 1, 1]])
        with pytest.raises(ShapeError, match="4 values"):
            realize([0, 1])


class TestLIF:
    def test_the_rate_rises_with_the_current_from_the_threshold_on(self):
        neuron = LIFNeuron()
        currents = np.linspace(0, 5, 41)
        rates = neuron.rate(currents)
        assert (np.diff(rates) >= 0).all()
        below = currents <= neuron.threshold_current
        assert not rates[below].any()
        assert (rates[currents > neuron.threshold_current + 0.05] > 0).all()
        assert rates.max() < 1000 / neuron.refractory

    def test_simulation_and_formula_agree(self):
        neuron = LIFNeuron(dt=0.05)
        currents = np.array([1.6, 2.0, 3.0, 5.0])
        np.testing.assert_allclose(
            neuron.rate(currents, 2000.0), neuron.exact_rate(currents), rtol=0.03
        )
        assert neuron.exact_rate(1.5) == 0

    def test_decay_without_input_is_exact(self):
        neuron = LIFNeuron()
        drive = np.concatenate([np.full(100, 1.0), np.zeros(200)])
        voltage, spikes = neuron.simulate(drive)
        assert not spikes.any()
        start = voltage[99] - neuron.rest
        np.testing.assert_allclose(
            voltage[299] - neuron.rest, start * np.exp(-200 * neuron.dt / neuron.tau), rtol=1e-9
        )

    def test_refractory_period_and_reset(self):
        neuron = LIFNeuron(refractory=5.0)
        voltage, spikes = neuron.simulate(np.full(2000, 50.0))
        times = np.flatnonzero(spikes) * neuron.dt
        assert np.diff(times).min() >= 5.0
        assert (voltage[np.flatnonzero(spikes) + 1] == neuron.reset).all()

    def test_errors(self):
        with pytest.raises(ArgumentError, match="tau must be > 0"):
            LIFNeuron(tau=0)
        with pytest.raises(ArgumentError, match="threshold must be above rest"):
            LIFNeuron(threshold=-70)


class TestHebb:
    def data(self):
        rng = np.random.default_rng(0)
        return rng.standard_normal((400, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]])

    def test_correlated_inputs_strengthen(self):
        """Long-term potentiation in the small: what fires together grows together."""
        rng = np.random.default_rng(0)
        drive = rng.standard_normal(300)
        x = np.stack([drive, drive, rng.standard_normal(300) * 0.1], axis=1)
        w = HebbianNeuron([0.1, 0.1, 0.1], 0.005, "hebb").learn(x).weights
        assert w[0] > 0.2 and w[1] > 0.2 and abs(w[2]) < 0.15

    def test_hebb_grows_without_bound_and_oja_does_not(self):
        x = self.data()
        hebb = [HebbianNeuron([0.1, 0.1], 0.01, "hebb").learn(x[:n]).weights for n in (100, 400)]
        assert np.linalg.norm(hebb[1]) > 10 * np.linalg.norm(hebb[0]) > 0.5
        oja = HebbianNeuron([0.1, 0.1], 0.01).learn(x, 5).weights
        assert np.linalg.norm(oja) == pytest.approx(1.0, abs=0.05)

    def test_oja_finds_the_first_principal_component(self):
        x = self.data()
        w = HebbianNeuron([0.1, -0.1], 0.002).learn(x, 20).weights
        axis = np.linalg.eigh(x.T @ x)[1][:, -1]
        assert abs(w @ axis) / np.linalg.norm(w) > 0.999

    def test_errors(self):
        with pytest.raises(ArgumentError, match="not all 0"):
            HebbianNeuron([0, 0])
        with pytest.raises(ArgumentError, match="unknown rule"):
            HebbianNeuron([1], rule="bcm")
