"""Search for activations: formulas from a grammar, scored by training small networks with them.

The grammar (`fathom.activations.grammar`) and the idea are those of Ramachandran, Zoph and Le
(2017). Candidates are proposed at random, by ageing evolution (Real et al., 2019), or by a
recurrent controller trained with REINFORCE (Williams, 1992; Zoph and Le, 2017).

A score is exp(-cross-entropy) on data left out: the geometric mean of the probability given to
the right class. 1 is perfect, 1/classes is guessing, 0 stands for what is not finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from fathom import activations
from fathom.activations import grammar
from fathom.activations.grammar import Genome
from fathom.engine import random
from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.modes import no_grad
from fathom.engine.random import Random, Stream
from fathom.engine.tensor import Array, Tensor
from fathom.nn import Embedding, GRUCell, Linear, Module, ModuleDict, Parameter
from fathom.nn import functional as F
from fathom.ops.formula import Formula
from fathom.optim import Adam
from fathom.train.arguments import at_least_one

WORST = 0.0
PATIENCE = 20  # proposals per trial before a search that only repeats itself ends


# -- scoring -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What a candidate has to learn: a data set, a network, an amount of training.

    hidden : widths of the hidden layers. steps : full-batch Adam steps with rate `lr`. Networks
    of several seeds are trained side by side, as one network with a leading axis.

    >>> problem = Problem("moons", steps=30)
    >>> scores = problem.scores(activations.relu, seeds=3)
    >>> scores.shape, bool((scores > 0.5).all())
    ((3,), True)
    """

    task: str = "spirals"
    hidden: tuple[int, ...] = (16, 16)
    steps: int = 100
    lr: float = 0.02

    def scores(self, function: Any, seeds: int = 4, seed: int = 0, data_seed: int = 0) -> Array:
        """One score a network, (seeds,): the same `seed` gives the same first weights."""
        x, y, xv, yv = _data(self.task, data_seed)
        with np.errstate(all="ignore"):
            nets = _Networks(function, (x.shape[1], *self.hidden, int(y.max()) + 1), seeds, seed)
            optimizer = Adam(nets.parameters(), lr=self.lr)
            for _ in range(self.steps):
                optimizer.zero_grad()
                nets.losses(x, y).sum().backward()
                optimizer.step()
            with no_grad():
                found = np.exp(-nets.losses(xv, yv).value().astype(np.float64))
        return np.where(np.isfinite(found), found, WORST)


def _data(task: str, seed: int) -> tuple[Array, Array, Array, Array]:
    """Rows to learn from and rows left out; a generated data set is drawn with the seed."""
    from fathom.data import load

    try:
        data = load(task, seed=seed)
    except ArgumentError:
        data = load(task)
    if data.y.dtype.kind not in "iu":
        raise ArgumentError(f"activation search needs classes; {task!r} is a regression")
    x, y = np.asarray(data.x, np.float32), np.asarray(data.y, np.int64)
    order = Random(seed).stream("split").permutation(len(x))
    half = order[: len(x) // 2]
    rest = order[len(x) // 2 :]
    mean, std = x[half].mean(0), x[half].std(0)
    x = (x - mean) / np.where(std > 0, std, 1.0)
    return x[half], y[half], x[rest], y[rest]


class _Networks(Module):
    """Perceptrons of several seeds at once: weights (seeds, in, out).

    Weights start with variance 1 / (fan_in E[f(z)^2]), z ~ N(0, 1), which is He's rule for
    ReLU: no candidate loses by the scale of its outputs.
    """

    def __init__(self, function: Any, widths: tuple[int, ...], seeds: int, seed: int) -> None:
        super().__init__()
        self.function, self.depth = function, len(widths) - 1
        stream, power = Random(seed).stream("init"), 1.0
        for i, (a, b) in enumerate(pairwise(widths)):
            w = stream.normal((seeds, a, b)) / math.sqrt(a * power)
            setattr(self, f"weight{i}", Parameter(w.astype(np.float32)))
            setattr(self, f"bias{i}", Parameter(np.zeros((seeds, 1, b), np.float32)))
            power = _second_moment(function)

    def forward(self, x: Any) -> Any:
        for i in range(self.depth):
            x = x @ getattr(self, f"weight{i}") + getattr(self, f"bias{i}")
            x = self.function(x) if i + 1 < self.depth else x
        return x  # (seeds, n, classes)

    def losses(self, x: Array, y: Array) -> Any:
        """The mean cross-entropy of each network, (seeds,)."""
        logits = self(Tensor(x))
        seeds, n, classes = logits.shape
        rows = logits.reshape(seeds * n, classes)
        each = F.cross_entropy(rows, np.tile(y, seeds), reduction="none")
        return each.reshape(seeds, n).mean(axis=1)


def _second_moment(function: Any) -> float:
    z = np.linspace(-5.0, 5.0, 2001).astype(np.float32)
    weight = np.exp(-0.5 * z * z)
    with no_grad():
        y = np.asarray(function(Tensor(z)).value(), np.float64)
    found = float(weight @ (y * y) / weight.sum())
    return found if math.isfinite(found) and found > 1e-6 else 1.0


# -- strategies ----------------------------------------------------------------------------------


Slots = list[tuple[str, ...]]


class Strategy(Protocol):
    """Proposes genomes, and is told the score of each."""

    def propose(self) -> Genome: ...

    def tell(self, genome: Genome, score: float) -> None: ...


def _pick(stream: Stream, names: tuple[str, ...]) -> str:
    return names[int(stream.integers(0, len(names)))]


class RandomSearch:
    """Every name with equal chance."""

    def __init__(self, slots: Slots, rng: Random) -> None:
        self.slots, self.stream = slots, rng.stream("propose")

    def propose(self) -> Genome:
        return tuple(_pick(self.stream, names) for names in self.slots)

    def tell(self, genome: Genome, score: float) -> None:
        """Learns nothing."""


class Evolution(RandomSearch):
    """Ageing evolution: the best of a few parents mutates, the oldest dies (Real et al., 2019)."""

    def __init__(self, slots: Slots, rng: Random, population: int = 12, sample: int = 4) -> None:
        super().__init__(slots, rng)
        self.size, self.sample = population, sample
        self.population: list[tuple[Genome, float]] = []

    def propose(self) -> Genome:
        if len(self.population) < self.size:
            return super().propose()
        drawn = self.stream.integers(0, self.size, (self.sample,)).tolist()
        child = list(max((self.population[i] for i in drawn), key=lambda one: one[1])[0])
        place = int(self.stream.integers(0, len(child)))
        others = tuple(name for name in self.slots[place] if name != child[place])
        child[place] = _pick(self.stream, others)
        return tuple(child)

    def tell(self, genome: Genome, score: float) -> None:
        self.population.append((genome, score))
        del self.population[: -self.size]


class Controller(Module):
    """A recurrent network that writes genomes name by name: GRU, one softmax per kind of name."""

    def __init__(self, slots: Slots, width: int = 24) -> None:
        super().__init__()
        self.slots = slots
        names = ["start", *slots[0], *slots[2]]
        self.number = {name: i for i, name in enumerate(names)}
        self.embedding = Embedding(len(names), width)
        self.cell = GRUCell(width, width)
        unary, binary = Linear(width, len(slots[0])), Linear(width, len(slots[2]))
        self.heads = ModuleDict({"unary": unary, "binary": binary})
        for head in (unary, binary):  # starts with equal chances, nearly
            head.weight.value()[...] *= 0.1

    def forward(self, choose: Callable[[int, Any], str]) -> list[Any]:
        """The log-probabilities (names,) at each place; `choose(place, them)` gives the name."""
        state, last, found = None, "start", []
        for place in range(len(self.slots)):
            state = self.cell(self.embedding(np.array([self.number[last]])), state)
            head = self.heads["binary" if place % 3 == 2 else "unary"]
            found.append(F.log_softmax(head(state)[0], -1))
            last = choose(place, found[-1])
        return found


class Reinforce:
    """The controller learns by REINFORCE with a moving mean as baseline, and an entropy bonus."""

    def __init__(
        self, slots: Slots, rng: Random, lr: float = 0.01, decay: float = 0.9, entropy: float = 0.05
    ) -> None:
        self.slots, self.stream = slots, rng.stream("propose")
        with random.use(rng):
            self.controller = Controller(self.slots)
        self.optimizer = Adam(self.controller.parameters(), lr=lr)
        self.decay, self.entropy = decay, entropy
        self.baseline: float | None = None
        self.spread = 0.1  # moving size of reward - baseline

    def propose(self) -> Genome:
        drawn: list[str] = []

        def draw(place: int, log_p: Any) -> str:
            total = np.cumsum(np.exp(log_p.value().astype(np.float64)))
            u = float(self.stream.uniform(dtype=np.float64)) * total[-1]
            drawn.append(self.slots[place][int(np.searchsorted(total, u, side="right"))])
            return drawn[-1]

        with no_grad():
            self.controller(draw)
        return tuple(drawn)

    def tell(self, genome: Genome, score: float) -> None:
        self.baseline = score if self.baseline is None else self.baseline
        gain = score - self.baseline
        self.spread = self.decay * self.spread + (1.0 - self.decay) * abs(gain)
        self.optimizer.zero_grad()
        found = self.controller(lambda place, log_p: genome[place])
        loss: Any = 0.0
        for names, name, log_p in zip(self.slots, genome, found, strict=True):
            entropy = -(log_p.exp() * log_p).sum()
            loss = loss - gain / (self.spread + 1e-3) * log_p[names.index(name)]
            loss = loss - self.entropy * entropy
        loss.backward()
        self.optimizer.step()
        self.baseline = self.decay * self.baseline + (1.0 - self.decay) * score


STRATEGIES: dict[str, Callable[[Slots, Random], Strategy]] = {
    "random": RandomSearch,
    "evolution": Evolution,
    "reinforce": Reinforce,
}


# -- searching -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A formula that was tried: `score` is the mean over the search's seeds."""

    genome: Genome
    score: float
    trial: int

    @property
    def formula(self) -> Formula:
        return grammar.build(self.genome)

    def latex(self) -> str:
        return self.formula.latex()

    def plot(self, **options: Any) -> Any:
        """The formula and its derivatives on a matplotlib axes; options of `Formula.plot`."""
        return self.formula.plot(**options)


@dataclass(frozen=True)
class Comparison:
    """A candidate against ReLU from the same first weights, on data the search did not see."""

    candidate: Candidate
    scores: Array = field(repr=False)
    relu: Array = field(repr=False)

    @property
    def difference(self) -> float:
        """Mean of score - score of ReLU."""
        return float((self.scores - self.relu).mean())

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return float((self.scores - self.relu).std(ddof=1) / math.sqrt(len(self.scores)))

    @property
    def beats_relu(self) -> bool:
        """Whether the difference is more than two standard errors above 0."""
        return self.difference > 2.0 * self.error


@dataclass(frozen=True)
class SearchResult:
    """What a search found: candidates from best to worst, the best compared with ReLU."""

    settings: Mapping[str, Any]  # strategy, seed, grammar and problem
    problem: Problem
    candidates: tuple[Candidate, ...]
    comparisons: tuple[Comparison, ...]
    proposals: int
    reason: str  # why it ended

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def beats_relu(self) -> bool:
        """Whether the best candidate does, on new data and with new weights."""
        return self.comparisons[0].beats_relu

    def state(self) -> dict[str, Any]:
        """What `search(resume=...)` needs, as JSON values."""
        tried = sorted(self.candidates, key=lambda one: one.trial)
        return {
            "settings": dict(self.settings),
            "trials": [[list(one.genome), one.score] for one in tried],
        }

    def plot(self, ax: Any = None) -> Any:
        """The score of each trial and the best so far on a matplotlib axes, which is returned."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(5, 3.4), layout="constrained").subplots()
        scores = [one.score for one in sorted(self.candidates, key=lambda one: one.trial)]
        ax.plot(scores, ".", color="0.6", label="trial")
        ax.plot(np.maximum.accumulate(scores), label="best so far")
        ax.set_xlabel("trial")
        ax.set_ylabel("score")
        ax.legend()
        return ax

    def __str__(self) -> str:
        name = self.settings["strategy"]
        lines = [f"{name} on {self.problem.task}: {len(self.candidates)} candidates tried"]
        for one in self.comparisons:
            verdict = "beats ReLU" if one.beats_relu else "does not beat ReLU"
            lines.append(
                f"  {one.candidate.score:.4f}  {grammar.describe(one.candidate.genome)}: new data "
                f"{one.difference:+.4f} +- {one.error:.4f}, {verdict}"
            )
        return "\n".join(lines)


def search(
    strategy: str = "evolution",
    task: str = "spirals",
    *,
    trials: int = 60,
    depth: int = 1,
    without: Sequence[str] = (),
    seed: int = 0,
    seeds: int = 4,
    hidden: tuple[int, ...] = (16, 16),
    steps: int = 100,
    lr: float = 0.02,
    top: int = 3,
    repeats: int = 16,
    time_limit: float | None = None,
    on_trial: Callable[[Candidate, Candidate], Any] | None = None,
    resume: SearchResult | Mapping[str, Any] | None = None,
) -> SearchResult:
    """Try `trials` different activations and compare the `top` of them with ReLU.

    strategy : "random", "evolution" or "reinforce". task : the name of a data set with classes.
    depth : units in a genome. without : names of the grammar not to use. seeds : networks a
    candidate is scored with; repeats : those of the comparison, with new weights and (where the
    data are generated) new data. time_limit : seconds, looked at after each trial. on_trial :
    called with the candidate and the best so far. resume : an earlier result or its `state()`,
    whose scores are not computed again.

    The same arguments give the same result, also when resumed.

    >>> found = search("random", "moons", trials=3, steps=20, repeats=4, top=1)
    >>> len(found.candidates), found.best.score >= found.candidates[-1].score
    (3, True)
    """
    if strategy not in STRATEGIES:
        known = suggest(str(strategy), STRATEGIES)
        raise ArgumentError(f"search: unknown strategy {strategy!r}", fix=known)
    limits = {"trials": trials, "seeds": seeds, "steps": steps, "top": top, "repeats": repeats}
    for name, value in limits.items():
        at_least_one(value, name)
    if repeats < 2:
        raise ArgumentError("search: a comparison needs 2 repeats or more")
    problem = Problem(task, tuple(hidden), steps, lr)
    settings = {
        "strategy": strategy, "seed": seed, "seeds": seeds, "depth": depth,
        "without": list(without), **asdict(problem), "hidden": list(hidden),
    }  # fmt: skip
    scores = _known(resume, settings)

    def score(genome: Genome) -> float:
        return scores[genome] if genome in scores else _score(problem, genome, seeds, seed)

    proposer = STRATEGIES[strategy](grammar.slots(depth, without), Random(seed))
    end = math.inf if time_limit is None else time.monotonic() + time_limit
    tried, proposals, reason = _explore(proposer, score, trials, end, on_trial)
    ranked = tuple(sorted(tried, key=lambda one: (-one.score, one.trial)))
    compared = tuple(compare(problem, one, repeats, seed) for one in ranked[:top])
    return SearchResult(settings, problem, ranked, compared, proposals, reason)


def _explore(
    proposer: Strategy,
    score: Callable[[Genome], float],
    trials: int,
    end: float,
    on_trial: Callable[[Candidate, Candidate], Any] | None,
) -> tuple[list[Candidate], int, str]:
    """(candidates in order, number of proposals, why it ended)."""
    tried: dict[Genome, Candidate] = {}
    for proposals in range(1, PATIENCE * trials + 1):
        genome = proposer.propose()
        key = grammar.canonical(genome)
        if key not in tried:
            tried[key] = Candidate(key, score(key), len(tried))
            if on_trial is not None:
                on_trial(tried[key], max(tried.values(), key=lambda one: one.score))
        proposer.tell(genome, tried[key].score)
        if len(tried) == trials:
            return list(tried.values()), proposals, "all trials"
        if time.monotonic() > end:
            return list(tried.values()), proposals, "the time limit"
    return list(tried.values()), PATIENCE * trials, "nothing new was proposed"


def _known(resume: Any, settings: dict[str, Any]) -> dict[Genome, float]:
    """The scores of an earlier search with the same settings."""
    if resume is None:
        return {}
    state = resume.state() if isinstance(resume, SearchResult) else resume
    for name, value in settings.items():
        if state["settings"].get(name) != value:
            raise ArgumentError(
                f"search: the search to resume had {name} {state['settings'].get(name)!r}, "
                f"not {value!r}"
            )
    return {tuple(genome): float(score) for genome, score in state["trials"]}


def _score(problem: Problem, genome: Genome, seeds: int, seed: int) -> float:
    candidate = grammar.build(genome)
    if not grammar.sane(candidate):
        return WORST
    return float(problem.scores(candidate, seeds, seed).mean())


def compare(problem: Problem, candidate: Candidate, repeats: int = 16, seed: int = 0) -> Comparison:
    """A candidate and ReLU, from seeds the search has not used for weights and data."""
    fresh = Random(seed).spawn("comparison").seed % 2**31
    scores = [
        problem.scores(f, repeats, fresh, data_seed=fresh)
        for f in (candidate.formula, activations.relu)
    ]
    return Comparison(candidate, *scores)
