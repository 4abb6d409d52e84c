"""How long activations take in several engines: the same functions, timed side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import activations
from fathom.book.evidence import Evidence, Routes, Sample, Settings
from fathom.book.figure import Bars, band
from fathom.book.material.speed import CLOCKS, Clock, Task, rounds_of
from fathom.book.text import T

Array = NDArray[Any]
Engine = Callable[[str, Array], Task]
NAMES = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu")
_ROOT, _TANH, _CUBE, _SIGMOID, _LEAK = np.array(
    [np.sqrt(0.5), np.sqrt(2 / np.pi), 0.044715, 1.702, 0.01], np.float32
)


def _gelu(x: Array) -> Any:
    from scipy.special import erf

    return 0.5 * x * (1.0 + erf(x * _ROOT))


FORMULAS: dict[str, Callable[[Array], Any]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x: np.where(x > 0, x, _LEAK * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu": _gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(_TANH * (x + _CUBE * x * x * x))),
    "gelu_sigmoid": lambda x: x / (1.0 + np.exp(-_SIGMOID * x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


def in_numpy(name: str, x: Array) -> Task:
    """The activation as one writes it in NumPy; the error function is SciPy's.

    >>> in_numpy("relu", np.array([-1.0, 2.0]))().tolist()
    [0.0, 2.0]
    """
    formula = FORMULAS[name]
    return lambda: formula(x)


def in_fathom(name: str, x: Array) -> Task:
    """The activation compiled by Fathom, as one kernel.

    >>> in_fathom("relu", np.array([-1.0, 2.0]))().tolist()
    [0.0, 2.0]
    """
    at, formula = fathom.tensor(x), getattr(activations, name)
    run = fathom.compile(lambda t: formula(t))
    return fathom.no_grad()(lambda: run(at))


def in_torch(name: str, x: Array) -> Task:
    """The activation as PyTorch has it, one thread; GELU's sigmoid form is two operations there."""
    import torch

    torch.set_num_threads(1)
    at, f = torch.from_numpy(x), torch.nn.functional
    special: dict[str, Callable[[Any], Any]] = {
        "gelu_tanh": lambda t: f.gelu(t, approximate="tanh"),
        "gelu_sigmoid": lambda t: t * torch.sigmoid(1.702 * t),
    }
    formula = special.get(name) or getattr(f, name)
    return torch.no_grad()(lambda: formula(at))


ENGINES: dict[str, Engine] = {
    "PyTorch": in_torch, "Fathom, compiled": in_fathom, "NumPy": in_numpy,
}  # fmt: skip
_NEEDS = {"PyTorch": "torch", "NumPy": "scipy"}


def shown(engine: str) -> T:
    """An engine's name in figures.

    >>> shown("Fathom, compiled").zh
    'Fathom, 编译后'
    """
    return T(engine, engine.replace("compiled", "编译后"))


class Costs:
    """The times of activations by engine and clock, and ratios of them as evidence.

    >>> costs = Costs({"NumPy": in_numpy}, ("relu", "tanh"), {"few": np.ones(64, "f")}, 3, 1)
    >>> costs.ratio("NumPy", "tanh", "relu")["quickest run"].n
    3
    """

    def __init__(
        self, engines: Mapping[str, Engine], names: Collection[str], data: Mapping[str, Array],
        rounds: int, turns: int = 3, clocks: Mapping[str, Clock] = CLOCKS,
    ) -> None:  # fmt: skip
        rows = list(data.values())

        def tasks(make: Engine, i: int) -> dict[str, Task]:
            return {name: make(name, rows[i % len(rows)]) for name in names}

        self.times = {
            engine: {
                clock: rounds_of(tasks(make, i), measure, rounds, turns)
                for i, (clock, measure) in enumerate(clocks.items())
            }
            for engine, make in engines.items()
        }

    def ratio(self, engine: str, slow: str, fast: str) -> Routes:
        """Time of one over that of another, one number a round, by each clock."""
        return Routes({clock: Sample(t[slow] / t[fast]) for clock, t in self.times[engine].items()})

    def share(self, engine: str, pairs: Sequence[tuple[str, str]]) -> Routes:
        """Share of (quick, slow) pairs in that order, one number a round, by each clock."""
        return Routes({
            clock: Sample(np.mean([t[quick] < t[slow] for quick, slow in pairs], axis=0))
            for clock, t in self.times[engine].items()
        })  # fmt: skip

    def by_engine(self, measure: Callable[[str], Evidence]) -> Settings:
        """What is measured in each engine, as settings of a claim."""
        return Settings(T("engine", "引擎"), {engine: measure(engine) for engine in self.times})

    def ratios(self, slow: str, fast: str = "relu") -> Settings:
        """`ratio` in each engine."""
        return self.by_engine(lambda engine: self.ratio(engine, slow, fast))

    def bars(self, names: Collection[str]) -> list[Bars]:
        """Time over ReLU's in each engine by the quickest runs, to be drawn."""
        found: list[Bars] = []
        for engine, clocks in self.times.items():
            t = clocks["quickest run"]
            found.append(Bars(shown(engine), *band(Sample(t[n] / t["relu"]) for n in names)))
        return found


def costs(
    rng: np.random.Generator, size: int, rounds: int, turns: int, names: Collection[str] = NAMES
) -> Costs:
    """The engines that are installed on `size` float32 numbers: normal ones for one clock, even
    ones for the other.

    >>> list(costs(np.random.default_rng(0), 256, 2, 1, ("relu",)).times["Fathom, compiled"])
    ['quickest run', 'processor time']
    """
    data = {
        "normal": rng.standard_normal(size).astype(np.float32),
        "even": rng.uniform(-4.0, 4.0, size).astype(np.float32),
    }
    engines = {e: make for e, make in ENGINES.items() if e not in _NEEDS or find_spec(_NEEDS[e])}
    return Costs(engines, names, data, rounds, turns)
