"""`Recipe`: the choices a run is made of. A fault is an edit of a healthy recipe; a `Family` makes
runs of one data set and one style of program from recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from fathom.doctor.corpus.api import Api

SPLITS = ("tune", "validate", "held-out")


@dataclass(frozen=True)
class Recipe:
    """A run's choices; the defaults of what a family does not choose are those of sound programs.

    Network: activation of the hidden layers, `width`, `depth`, a `bottleneck` (units of the
    middle hidden layer, 0: none), `norm`, `dropout`; `init` ("", "zeros", "constant", "gain",
    "last", "bias", "twins", "recurrent") with `init_value`; `output`: what stands
    behind the last layer; `memory`: the momentum of batch normalizations' statistics; `detach`:
    the graph is cut in the middle; `unlisted`: hidden layers stand in a plain list.

    Data: `inputs` ("", "scale", "offset", "one", "zeros", "same", "nan") with `input_value`;
    `targets` ("", "scale", "offset", "permuted", "shifted", "signed", "tiny", "reshaped", "nan")
    with `target_value`; `rows` (training examples kept, 0: all).

    Training: `loss` by its short name (see `parts.criterion`), `reduction`; `zero_grad`
    ("before", "after", "model", "never", "between"), `step`, `gets` (which parameters the
    optimizer is given: "all", "head", "body", "tail", "former"), `frozen` ("", "body", "first"),
    `mode` ("", "eval", "forgot", "noisy"), `schedule`, `clip`, `accumulation`.
    """

    steps: int = 200
    batch: int = 32
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = ""
    clip: float = 0.0
    accumulation: int = 1
    activation: str = "relu"
    width: int = 32
    depth: int = 2
    bottleneck: int = 0
    norm: str = ""
    memory: float = 0.1
    dropout: float = 0.0
    init: str = ""
    init_value: float = 0.0
    output: str = ""
    loss: str = ""
    reduction: str = "mean"
    smoothing: float = 0.0
    detach: bool = False
    unlisted: bool = False
    inputs: str = ""
    input_value: float = 0.0
    targets: str = ""
    target_value: float = 0.0
    rows: int = 0
    zero_grad: str = "before"
    step: bool = True
    gets: str = "all"
    frozen: str = ""
    mode: str = ""

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some choices changed."""
        return replace(self, **changes)


class Unwatched:
    """What `run` gets where nobody watches: a block that does nothing."""

    findings = ()

    def __enter__(self) -> Unwatched:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def validation(self, loss: float) -> None:
        """Takes the loss, and forgets it."""


def unwatched(*_: Any, **__: Any) -> Unwatched:
    """In the place of `fathom.doctor.watch`."""
    return Unwatched()


@dataclass
class Program:
    """One run, built and not yet trained.

    model, optimizer, loss_fn : what the watcher is given. planned : optimizer steps. loop : the
    training; it gets what `watch` gave. score : how good the model is now, 1 perfect, 0 the best
    constant answer. evaluations : first step at which the program evaluates (0: never).
    validation : held-back inputs and targets, as arrays.
    """

    api: Api
    seed: int
    model: Any
    optimizer: Any
    loss_fn: Any
    planned: int
    loop: Callable[[Any], None] = field(repr=False)
    score: Callable[[], float] = field(repr=False)
    evaluates: int = 0
    validation: tuple[Any, Any] | None = field(default=None, repr=False)

    def run(self, watch: Callable[..., Any] = unwatched) -> Any:
        """Train inside `with watch(...)`; what `watch` gave, for its findings."""
        with (
            self.api.seeded(self.seed + 1),
            watch(self.model, self.optimizer, self.loss_fn, planned_steps=self.planned,
                  quiet=True) as seen,
        ):  # fmt: skip
            self.loop(seen)
        return seen


Make = Callable[[Api, Recipe, int], Program]


@dataclass(frozen=True)
class Family:
    """Runs of one data set in one style of program.

    has : what its programs honour, for faults to know where they apply: "hidden" (activation of
    hidden layers), "deep" (depth), "middle" (bottleneck), "dropout", "batchnorm", "cut" (detach),
    "listed" (unlisted), "inputs" (real numbers), "classes", "logit" and "probability" (binary),
    "amounts" (regression), "tail" (output activation), "validation", "recurrent", "weights"
    (initial ones), "ownloop".
    """

    name: str
    kind: str
    split: str
    recipe: Recipe
    make: Make = field(repr=False)
    has: frozenset[str] = frozenset()

    def program(self, api: Api, recipe: Recipe | None = None, seed: int = 0) -> Program:
        """A run, built and not yet trained."""
        with api.seeded(seed):
            return self.make(api, recipe or self.recipe, seed)


FAMILIES: dict[str, Family] = {}


def family(kind: str, split: str, has: str, **choices: Any) -> Callable[[Make], Family]:
    """Declare a family; decorates its function `(api, recipe, seed) -> Program`."""

    def made(make: Make) -> Family:
        name = make.__name__
        found = Family(name, kind, split, Recipe(**choices), make, frozenset(has.split()))
        FAMILIES[name] = found
        return found

    return made


HEALTHY: dict[str, Family] = {}


def odd(kind: str, split: str, **choices: Any) -> Callable[[Make], Family]:
    """Declare a healthy program that looks odd; decorates its function, as `family` does."""

    def made(make: Make) -> Family:
        name = make.__name__
        found = Family(name, kind, split, Recipe(**choices), make)
        HEALTHY[name] = found
        return found

    return made


Names = Iterable[str]


@dataclass(frozen=True)
class Fault:
    """A named edit of a healthy recipe.

    name : its own. expected : names of rules that are the right cause, the canonical one first.
    edit : `(recipe, value) -> recipe`. strengths : values by name. applies : to which families.
    where : `(model, recipe) -> names` of layers and components that are the right place.
    usage : whether it is a matter of the loop (zero_grad, stale optimizer, freezing, mode,
    BatchNorm). always : wrong even where a short run does not suffer. advice : to be mentioned,
    not to be warned of. onset : whether it cannot be seen before the first evaluation.
    engines : where it can be run at all, by strength ("" stands for all strengths).
    """

    name: str
    expected: tuple[str, ...]
    edit: Callable[[Recipe, Any], Recipe] = field(repr=False)
    applies: Callable[[Family], bool] = field(repr=False)
    where: Callable[[Any, Recipe], Names] = field(repr=False)
    strengths: dict[str, Any] = field(default_factory=lambda: {"": None}, hash=False)
    usage: bool = False
    always: bool = False
    advice: bool = False
    onset: tuple[str, ...] = ()
    engines: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def kind(self) -> str:
        """The canonical name of its cause."""
        return self.expected[0]

    def recipe(self, of: Family, strength: str) -> Recipe:
        """The faulty recipe; its repaired twin is `of.recipe`."""
        return self.edit(of.recipe, self.strengths[strength])


__all__ = [
    "FAMILIES", "HEALTHY", "SPLITS", "Family", "Fault", "Make", "Program", "Recipe", "Unwatched",
    "family", "odd", "unwatched",
]  # fmt: skip
