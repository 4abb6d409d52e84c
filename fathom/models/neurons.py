"""Single neurons, as people thought of them before networks were trained by gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.ops.checks import one_of


class McCullochPitts:
    """Fires (1) if enough inputs fire and no inhibitory one does. McCulloch & Pitts (1943).

    Inputs are 0 or 1; an inhibitory input that fires forbids the output, however many others
    fire. Nothing is learned.

    threshold : what the exciting inputs must add up to.
    weights : one a input, fixed; all 1 by default, as in the paper. 0 is no connection, and
        negative ones subtract (the generalized unit).
    inhibitory : which inputs veto.

    >>> McCullochPitts(2)([[0, 0], [0, 1], [1, 0], [1, 1]]).tolist()
    [0, 0, 0, 1]
    >>> McCullochPitts(1, inhibitory=[1])([[1, 0], [1, 1]]).tolist()
    [1, 0]
    """

    def __init__(
        self,
        threshold: float,
        weights: Sequence[float] | None = None,
        inhibitory: Sequence[int] = (),
    ) -> None:
        self.threshold, self.inhibitory = threshold, tuple(int(i) for i in inhibitory)
        self.weights = None if weights is None else np.asarray(weights, np.float64)

    def __call__(self, x: Any) -> Any:
        """(..., inputs) of 0 and 1 -> (...)."""
        a = np.asarray(x)
        if not ((a == 0) | (a == 1)).all():
            raise ArgumentError("McCullochPitts: inputs are 0 or 1, for silent or firing")
        weights = np.ones(a.shape[-1:]) if self.weights is None else self.weights.copy()
        if a.shape[-1:] != weights.shape or any(not 0 <= i < len(weights) for i in self.inhibitory):
            raise ShapeError(f"{self} does not fit an input of shape {a.shape}")
        veto = a[..., list(self.inhibitory)].any(axis=-1)
        weights[list(self.inhibitory)] = 0.0
        return ((a @ weights >= self.threshold) & ~veto).astype(np.int64)

    def __repr__(self) -> str:
        weights = None if self.weights is None else self.weights.tolist()
        return f"McCullochPitts({self.threshold}, {weights}, {list(self.inhibitory)})"


NAMES = {
    (0, 0, 0, 0): "false", (0, 0, 0, 1): "and", (0, 0, 1, 0): "a and not b", (0, 0, 1, 1): "a",
    (0, 1, 0, 0): "b and not a", (0, 1, 0, 1): "b", (0, 1, 1, 0): "xor", (0, 1, 1, 1): "or",
    (1, 0, 0, 0): "nor", (1, 0, 0, 1): "xnor", (1, 0, 1, 0): "not b", (1, 0, 1, 1): "a or not b",
    (1, 1, 0, 0): "not a", (1, 1, 0, 1): "b or not a", (1, 1, 1, 0): "nand", (1, 1, 1, 1): "true",
}  # fmt: skip


def boolean_inputs(count: int = 2) -> Any:
    """All inputs of 0 and 1 in counting order, (2^count, count).

    >>> boolean_inputs().tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return np.array(list(product((0, 1), repeat=count)), np.int64)


def boolean_functions() -> dict[str, tuple[int, ...]]:
    """The 16 functions of two bits by name: their values at (0,0), (0,1), (1,0), (1,1)."""
    return {name: values for values, name in NAMES.items()}


def realize(values: Sequence[int]) -> McCullochPitts | None:
    """A unit with weights -1, 0 or 1 for a function of two bits; None for XOR and XNOR.

    Searches all of them: with whole thresholds from -1 to 3, they realize every separable one.

    >>> realize([0, 1, 1, 1])
    McCullochPitts(1, [1.0, 1.0], [])
    >>> realize([0, 1, 1, 0]) is None
    True
    """
    inputs, wanted = boolean_inputs(), np.asarray(values)
    if wanted.shape != (4,):
        raise ShapeError(f"realize: needs the 4 values of a function of two bits; got {wanted}")
    for weights in product((1, 0, -1), repeat=2):
        for threshold in (1, 2, 0, -1, 3):
            unit = McCullochPitts(threshold, weights)
            if (unit(inputs) == wanted).all():
                return unit
    return None


class LIFNeuron:
    """Leaky integrate-and-fire: tau dv/dt = rest - v + resistance I; at `threshold` a spike.

    Lapicque (1907). Times in ms, voltages in mV, resistance in megaohm, current in nA. After a
    spike v goes to `reset` and stays there for `refractory` ms. For a current that is constant
    within a step, a step is exact.

    >>> neuron = LIFNeuron()
    >>> neuron.threshold_current
    1.5
    >>> neuron.rate([1.4, 2.0]) > 0
    array([False,  True])
    """

    def __init__(
        self,
        tau: float = 20.0,
        resistance: float = 10.0,
        rest: float = -65.0,
        threshold: float = -50.0,
        reset: float = -65.0,
        refractory: float = 2.0,
        dt: float = 0.1,
    ) -> None:
        for name, value in (("tau", tau), ("resistance", resistance), ("dt", dt)):
            if not value > 0:
                raise ArgumentError(f"LIFNeuron: {name} must be > 0; received {value!r}")
        if not (threshold > rest and threshold > reset and refractory >= 0):
            raise ArgumentError(
                "LIFNeuron: threshold must be above rest and reset, and refractory >= 0; received "
                f"{threshold}, {rest}, {reset}, {refractory}"
            )
        self.tau, self.resistance, self.rest = float(tau), float(resistance), float(rest)
        self.threshold, self.reset = float(threshold), float(reset)
        self.refractory, self.dt = float(refractory), float(dt)

    @property
    def threshold_current(self) -> float:
        """The rheobase: any constant current above it makes the neuron fire, none below does."""
        return (self.threshold - self.rest) / self.resistance

    def simulate(self, current: Any) -> tuple[Any, Any]:
        """Voltages and spikes (booleans) of the steps, for currents (time,) or (time, neurons)."""
        drive = np.asarray(current, np.float64)
        if drive.ndim < 1:
            raise ShapeError("LIFNeuron: needs currents (time,) or (time, neurons)")
        decay = math.exp(-self.dt / self.tau)
        wait = round(self.refractory / self.dt)
        v = np.full(drive.shape[1:], self.rest)
        left = np.zeros(drive.shape[1:], np.int64)
        voltage, spikes = np.empty(drive.shape), np.zeros(drive.shape, bool)
        for t, now in enumerate(drive):
            end = self.rest + self.resistance * now
            v = np.where(left > 0, self.reset, end + (v - end) * decay)
            left = np.maximum(left - 1, 0)
            fired = v >= self.threshold
            voltage[t], spikes[t] = v, fired
            v = np.where(fired, self.reset, v)
            left = np.where(fired, wait, left)
        return voltage, spikes

    def rate(self, current: Any, duration: float = 1000.0) -> Any:
        """Spikes per second at constant currents, counted in a simulation of `duration` ms."""
        currents = np.asarray(current, np.float64)
        steps = round(duration / self.dt)
        spikes = self.simulate(np.broadcast_to(currents, (steps, *currents.shape)))[1]
        return spikes.sum(axis=0) * (1000.0 / duration)

    def exact_rate(self, current: Any) -> Any:
        """1 / (refractory + tau ln((E - reset) / (E - threshold))) with E = rest + R I, in Hz."""
        end = self.rest + self.resistance * np.asarray(current, np.float64)
        fires = end > self.threshold
        safe = np.where(fires, end, self.threshold + 1.0)
        period = self.refractory + self.tau * np.log((safe - self.reset) / (safe - self.threshold))
        return np.where(fires, 1000.0 / period, 0.0)


class HebbianNeuron:
    """y = w . x, and connections of what fires together grow.

    rule : "hebb", w += rate y x (Hebb, 1949), which grows without bound; "oja", w += rate y
        (x - y w) (Oja, 1982), which goes to the first principal component, of length 1.

    >>> neuron = HebbianNeuron([0.1, 0.1], rate=0.1, rule="hebb")
    >>> neuron.learn([[1.0, 0.0], [1.0, 0.0]]).weights.round(3).tolist()
    [0.121, 0.1]
    """

    def __init__(self, weights: Any, rate: float = 0.01, rule: str = "oja") -> None:
        one_of("HebbianNeuron", "rule", rule, ("hebb", "oja"))
        self.weights = np.array(weights, np.float64)
        if self.weights.ndim != 1 or not self.weights.any():
            raise ArgumentError("HebbianNeuron: needs a vector of weights that are not all 0")
        self.rate, self.rule = float(rate), rule

    def __call__(self, x: Any) -> Any:
        """(..., inputs) -> (...)."""
        return np.asarray(x, np.float64) @ self.weights

    def learn(self, x: Any, epochs: int = 1) -> HebbianNeuron:
        """One update a sample of (n, inputs), in order. Returns itself."""
        update = self._update()
        for _ in range(epochs):
            for sample in np.asarray(x, np.float64):
                update(sample)
        return self

    def _update(self) -> Callable[[Any], None]:
        def hebb(x: Any) -> None:
            self.weights += self.rate * (self.weights @ x) * x

        def oja(x: Any) -> None:
            y = self.weights @ x
            self.weights += self.rate * y * (x - y * self.weights)

        return hebb if self.rule == "hebb" else oja
