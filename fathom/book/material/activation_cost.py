"""How long activations take in several engines: the same functions, timed side by side.

The sizes go from numbers that fit the nearest cache, where calls cost more than arithmetic, to a
million, where memory counts too; over them a ratio of times changes by up to a factor of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import activations
from fathom.book.evidence import Evidence, Routes, Sample, Settings
from fathom.book.figure import Bars, band
from fathom.book.material.speed import CLOCKS, Ratio, Task, Times, rounds_of
from fathom.book.text import T

Array = NDArray[Any]
Engine = Callable[[str, Array], Task]
SIZES = {"1k": 1 << 10, "4k": 1 << 12, "16k": 1 << 14, "64k": 1 << 16, "1M": 1 << 20}
NAMES = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu")
_ROOT, _TANH, _CUBE, _SIGMOID, _LEAK = np.array(
    [np.sqrt(0.5), np.sqrt(2 / np.pi), 0.044715, 1.702, 0.01], np.float32
)


def _gelu(x: Array) -> Any:
    from scipy.special import erf

    return 0.5 * x * (1.0 + erf(x * _ROOT))


FORMULAS: dict[str, Callable[[Array], Any]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x: np.maximum(x, _LEAK * x),
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
    return lambda: run(at)


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
    return lambda: formula(at)


def in_torch_double(name: str, x: Array) -> Task:
    """The same on float64 numbers."""
    return in_torch(name, x.astype(np.float64))


ENGINES: dict[str, Engine] = {
    "PyTorch": in_torch, "PyTorch, float64": in_torch_double, "Fathom, compiled": in_fathom,
    "NumPy": in_numpy,
}  # fmt: skip
_NEEDS = {"PyTorch": "torch", "PyTorch, float64": "torch", "NumPy": "scipy"}


def shown(engine: str) -> T:
    """An engine's name in figures.

    >>> shown("Fathom, compiled").zh
    'Fathom, 编译后'
    """
    return T(engine, engine.replace("compiled", "编译后"))


class Costs:
    """The times of activations by setting (engine and size) and clock; ratios as evidence.

    >>> costs = Costs({"NumPy, few": (in_numpy, np.ones(64, "f"))}, ("relu", "tanh"), 3, 1)
    >>> costs.ratio("NumPy, few", "tanh", "relu")["quickest run"].n
    3
    """

    def __init__(
        self, settings: Mapping[str, tuple[Engine, Array]], names: Collection[str], rounds: int,
        turns: int,
    ) -> None:  # fmt: skip
        self.times: dict[str, dict[str, dict[str, Times]]] = {}
        for setting, (make, x) in settings.items():
            tasks = {name: make(name, x) for name in names}
            self.times[setting] = {
                clock: rounds_of(tasks, measure, rounds, turns) for clock, measure in CLOCKS.items()
            }

    def ratio(self, setting: str, slow: str, fast: str) -> Routes:
        """Time of one over that of another, one number a round, by each clock."""
        return Routes({clock: Ratio(t[slow], t[fast]) for clock, t in self.times[setting].items()})

    def by_setting(self, measure: Callable[[str], Evidence]) -> Settings:
        """What is measured in each engine at each size, as settings of a claim."""
        return Settings(T("engine and size", "引擎与规模"), {s: measure(s) for s in self.times})

    def ratios(self, slow: str, fast: str = "relu") -> Settings:
        """`ratio` in each engine at each size."""
        return self.by_setting(lambda setting: self.ratio(setting, slow, fast))

    def bars(self, names: Collection[str], size: str = "1M") -> list[Bars]:
        """Time over ReLU's in each engine by the quickest runs at a size, to be drawn."""
        found: list[Bars] = []
        for setting, clocks in self.times.items():
            engine, _, at = setting.rpartition(", ")
            if at == size:
                t = clocks["quickest run"]
                found.append(Bars(shown(engine), *band(Sample(t[n] / t["relu"]) for n in names)))
        return found


def costs(
    rng: np.random.Generator, rounds: int, turns: int, names: Collection[str] = NAMES,
    sizes: Iterable[str] = SIZES,
) -> Costs:  # fmt: skip
    """The engines that are installed, at each of the sizes, on normal float32 numbers.

    >>> found = costs(np.random.default_rng(0), 2, 1, ("relu",), ("4k",))
    >>> list(found.times["Fathom, compiled, 4k"])
    ['quickest run', 'processor time']
    """
    data = {size: rng.standard_normal(SIZES[size]).astype(np.float32) for size in sizes}
    engines = {e: make for e, make in ENGINES.items() if e not in _NEEDS or find_spec(_NEEDS[e])}
    settings = {
        f"{engine}, {size}": (make, x)
        for engine, make in engines.items()
        for size, x in data.items()
    }
    return Costs(settings, names, rounds, turns)
