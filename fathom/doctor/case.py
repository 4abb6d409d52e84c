"""What is known of a run: its parts, read once, and its sampled steps. Rules read nothing else.

Adapters (`adapters/`) fill a `Case` from a Fathom or a PyTorch run; nothing in here, and nothing
in the rules, knows which of the two it was. Arrays are NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.engine.tensor import Array

NAN = math.nan

WEIGHTED = frozenset({
    "Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d",
    "ConvTranspose3d", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "MultiheadAttention",
})  # fmt: skip
NORMS = frozenset({
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "LayerNorm", "GroupNorm",
    "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "RMSNorm", "LocalResponseNorm",
})  # fmt: skip
BATCH_NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})
DROPOUTS = frozenset({"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout",
                      "FeatureAlphaDropout"})  # fmt: skip
EMBEDDINGS = frozenset({"Embedding", "EmbeddingBag"})
RECURRENT = frozenset({"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"})


@dataclass
class Layer:
    """One module without children of its own kind, by its dotted name.

    kind : the class name of its nearest known base ("Linear", "BatchNorm1d", "ReLU", ...).
    options : numbers and words it was made with, by their names in PyTorch (in_features,
        num_features, p, dim, momentum, negative_slope, ...).
    activation : the elementwise function its output goes through first ("relu", "sigmoid",
        "tanh", "gelu", ...), whether module or function, behind a normalization in between; None
        where there is none, or where the graph was not seen.
    rows : values per unit or channel it saw in a step (examples times places); 0 before.
    parameters : names of its own parameters.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    training: bool = True
    activation: str | None = None
    rows: int = 0
    parameters: tuple[str, ...] = ()
    normalized: bool = False  # its output goes straight to a normalization
    given: tuple[int, ...] = ()  # the shape a layer with weights was given first
    without: int = 0  # calls without gradients inside a forward pass with them


@dataclass
class Parameter:
    """One parameter. role : "weight", "bias", "scale" and "shift" (of a norm), "embedding",
    "other". value() reads the array as it is now; it is not to be written or kept."""

    name: str
    shape: tuple[int, ...]
    layer: str
    role: str
    trainable: bool
    in_optimizer: bool
    value: Callable[[], Array] = field(repr=False)
    initial: Array | None = field(default=None, repr=False)  # as it was when watching began
    elsewhere: bool = False  # another optimizer holds it
    turned: bool = False  # its columns are the units, as in x @ W and transposed convolutions

    @property
    def form(self) -> tuple[int, ...]:
        """Its shape with the units first: (units, inputs, ...)."""
        return (self.shape[1], self.shape[0], *self.shape[2:]) if self.turned else self.shape

    def units(self, weight: Array) -> Array:
        """Weights of this shape, a row for each unit."""
        rows: Array = (np.swapaxes(weight, 0, 1) if self.turned else weight).reshape(
            self.form[0], -1
        )
        return rows


@dataclass
class OptimizerFacts:
    """kind : class name. groups : options of each group (lr, momentum, weight_decay, ...) with
    "names" of its parameters. strangers : shapes of parameters which are not the model's.
    several : how many optimizers these are."""

    kind: str
    groups: list[dict[str, Any]]
    strangers: list[tuple[int, ...]] = field(default_factory=list)
    several: int = 1

    @property
    def lr(self) -> float:
        """The largest learning rate of its groups."""
        return max((float(g.get("lr") or 0.0) for g in self.groups), default=NAN)


@dataclass
class LossCall:
    """One call of the loss, as it was seen.

    function : PyTorch's functional name ("cross_entropy", "mse_loss", ...), "custom" if unknown.
    output, target : what it was given, the first rows: at most 4,096, fewer of wide ones.
    options : reduction, weight, ignore_index, label_smoothing, pos_weight, ... where not None.
    path : operations from the loss back to the last layer with weights, nearest first
        ("softmax", "linear"); views and casts are left out. layer : the name of that layer.
    shapes : the full shapes of output and target. scaled : multiplied or divided by something on
    the path. error : what the loss raised, "" if nothing; its value is nan then. over : the axis
    that a softmax on the path ran over, and the shape it had then. swapped : what depends on the
    weights came second, and what came first does not.
    """

    step: int
    function: str
    output: Array
    target: Array | None
    value: float
    options: dict[str, Any] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    layer: str = ""
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    training: bool = True
    count: int = 1  # calls of losses in the same step
    scaled: bool = False
    error: str = ""
    over: tuple[int, tuple[int, ...]] | None = None
    swapped: bool = False


@dataclass
class LayerStats:
    """A layer's output z (before its activation) in a sampled step; nan: not measured.

    mean, std : over all of it. largest : absolute. off : share of feature units with
    |mean|/std > 3. zero : share of values that its activation makes 0 (ReLU kinds). dead : share
    of units at which it is so on all rows of all sampled steps so far since `since`, `examples`
    rows altogether. flat : share of values at which its activation is flat (|f'| below 1 % of
    its largest). spread : mean over units of the std over examples, over mean |z|. delta : root
    mean square of the loss's gradient with respect to z, times the rows. memory : of a plain
    recurrent layer of which the loss sees the last states only, what is left of a gradient's length
    when it has gone back through all time steps.
    """

    mean: float = NAN
    std: float = NAN
    largest: float = NAN
    off: float = NAN
    zero: float = NAN
    dead: float = NAN
    examples: int = 0
    flat: float = NAN
    spread: float = NAN
    delta: float = NAN
    memory: float = NAN
    finite: bool = True


@dataclass
class ParameterStats:
    """Euclidean norms in a sampled step; gradient is nan where there was none.

    update : length of what the optimizer's step changed. alike : cosine of this step's gradient
    with the one of the step before, nan where not looked at.
    """

    weight: float
    gradient: float
    update: float
    size: int
    finite: bool = True
    alike: float = NAN

    @property
    def ratio(self) -> float:
        """update over weight."""
        return self.update / self.weight if self.weight > 0 else NAN


@dataclass
class Step:
    """A sampled step. output_spread : std over examples of what the loss was given, over its mean
    absolute value. penalty : norm of the weight-decay gradient over that of the data's."""

    number: int
    loss: float
    lr: float
    layers: dict[str, LayerStats] = field(default_factory=dict)
    parameters: dict[str, ParameterStats] = field(default_factory=dict)
    output_spread: float = NAN
    penalty: float = NAN
    first_bad: str = ""  # the first module, in forward order, whose output is not finite


@dataclass
class Usage:
    """How the loop goes about it: counts, and the steps at which something odd was seen."""

    forwards: int = 0  # of the whole model, with gradients
    evaluations: int = 0  # of the whole model, without
    backwards: int = 0
    steps: int = 0
    zeroings: int = 0
    stale_steps: list[int] = field(default_factory=list)  # stepped with the last step's gradient
    empty_steps: list[int] = field(default_factory=list)  # gradients cleared before the step
    eval_steps: list[int] = field(default_factory=list)  # trained with layers in eval mode
    noisy_evaluations: list[int] = field(default_factory=list)  # evaluated in train mode
    unseen: int = 0  # of the first 16 steps: compiled ones, of which only the result is known
    accumulation: int = 1  # backward passes a step, as seen
    broken: int = 0  # losses that were not finite
    high: int = 0  # losses above twice the first one
    closures: bool = False  # the optimizer's step works the loss out itself, as L-BFGS's does


@dataclass
class Coverage:
    """What is watched: names of layers, and why others are not."""

    watched: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # name -> because

    def __str__(self) -> str:
        total = len(self.watched) + len(self.skipped)
        text = f"watched {len(self.watched)} of {total} modules"
        if not self.skipped:
            return text
        reasons = "; ".join(f"{n}: {why}" for n, why in list(self.skipped.items())[:3])
        return f"{text}; {len(self.skipped)} skipped because {reasons}"


@dataclass
class Case:
    """Everything the rules may look at.

    layers, parameters : in the order of the forward pass where it was seen, else as declared.
    losses : calls of the loss: of the first steps, and of sampled ones. curve : the loss of
    every step, nan where it is not known. rates : the learning rate of every step (of the first
    group), nan likewise. validation : (step, loss). inputs : the first batch's
    arrays, as the model was given them. operations : names of all operations in the graph
    of the first loss ("linear", "relu", "softmax", "nll_loss", ...). planned : steps the run will
    take, if known. ended : whether it is over. probes : what active probes have found.
    """

    engine: str = ""
    layers: dict[str, Layer] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    optimizer: OptimizerFacts | None = None
    usage: Usage = field(default_factory=Usage)
    coverage: Coverage = field(default_factory=Coverage)
    inputs: list[Array] = field(default_factory=list)
    losses: list[LossCall] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    evaluation: LossCall | None = (
        None  # the first call of the loss without gradients, between steps
    )
    operations: frozenset[str] = frozenset()  # all that stand in the graph of the first loss
    reached: frozenset[str] = frozenset()  # names of the parameters that loss depends on
    detached: bool = False  # that loss depends on no parameter of the model, for sure
    straight: tuple[tuple[str, str], ...] = ()  # layers with only affine operations between them
    entering: list[Array] = field(default_factory=list)  # what the first weighted layer was given
    unregistered: list[tuple[int, ...]] = field(default_factory=list)  # used, not the model's
    # targets of the batches that are kept for trials
    kept_targets: Callable[[], list[Array]] = field(default=list, repr=False)
    hidden_in: str = ""  # the attribute of the model that holds them, where it was found
    # reshapes that exchange axes: the layer behind ("": the loss), the shapes before and after
    swaps: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    # of each softmax in the graph of the first loss: the layer before it, its axis, its shape
    softmaxes: tuple[tuple[str, int, tuple[int, ...]], ...] = ()
    scheduled: bool = False  # the learning rate has been seen to change
    planned: int | None = None
    ended: bool = False
    notes: list[str] = field(default_factory=list)  # rules that raised, hooks that failed
    bad_at: str = ""  # the first module whose output was not finite
    probes: dict[str, Any] = field(default_factory=dict)  # results of active probes, by name
    remembered: dict[str, Any] = field(default_factory=dict, repr=False)  # worked out before

    @property
    def loss(self) -> LossCall | None:
        """The first call of the loss with a target."""
        return next((c for c in self.losses if c.target is not None), None)

    @property
    def task_known(self) -> bool:
        """Whether output and target of a loss with a known meaning were seen."""
        return self.loss is not None and self.loss.function != "custom"

    def weighted(self) -> list[Layer]:
        """Layers with weights, in order."""
        return [layer for layer in self.layers.values() if layer.kind in WEIGHTED]

    def weights(self) -> Iterator[Parameter]:
        """Matrices of weights (of two axes or more), in order; no embeddings."""
        for p in self.parameters.values():
            if p.role == "weight" and len(p.shape) > 1:
                yield p

    def targets(self) -> Array | None:
        """All targets kept, one after the other; None if there are none of one form. Of more than
        a few calls it is those of the first ones."""
        key = (len(self.losses), id(self.losses[0]) if self.losses else 0)
        if self.remembered.get("targets", (None,))[0] != key:
            kept = [np.asarray(c.target) for c in self.losses if c.target is not None]
            kept = [t for t in kept if t.ndim and t.shape[1:] == kept[0].shape[1:]]
            self.remembered["targets"] = (key, np.concatenate(kept) if kept else None)
        found: Array | None = self.remembered["targets"][1]
        return found

    def course(self) -> Array:
        """`curve` as an array; only what is new is copied."""
        kept, n = self.remembered.get("course", (np.empty(0), 0))
        if n > len(self.curve):
            n = 0
        if len(self.curve) > len(kept):
            grown = np.empty(max(2 * len(self.curve), 256))
            grown[:n], kept = kept[:n], grown
        kept[n : len(self.curve)] = self.curve[n:]
        self.remembered["course"] = (kept, len(self.curve))
        found: Array = kept[: len(self.curve)]
        return found

    def series(self, layer: str, name: str, last: int | None = None) -> list[float]:
        """One statistic of a layer or parameter over the sampled steps where it is a number."""
        found = []
        for step in self.steps[-last:] if last else self.steps:
            stats: Any = step.layers.get(layer) or step.parameters.get(layer)
            value = getattr(stats, name, NAN) if stats is not None else NAN
            if not math.isnan(value):
                found.append(float(value))
        return found


__all__ = [
    "BATCH_NORMS", "DROPOUTS", "EMBEDDINGS", "NORMS", "RECURRENT", "WEIGHTED", "Case", "Coverage",
    "Layer", "LayerStats", "LossCall", "OptimizerFacts", "Parameter", "ParameterStats", "Step",
    "Usage",
]  # fmt: skip
