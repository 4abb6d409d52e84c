"""Contracts of the network's build: nonlinearities, widths, normalization and dropout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from fathom.doctor.adapters.graph import AFFINE
from fathom.doctor.case import BATCH_NORMS, DROPOUTS, RECURRENT, Case, Layer, Parameter
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.rules.output import SQUARED
from fathom.doctor.rules.rule import Hit, rule
from fathom.doctor.rules.setup import SLOW, stuck

# operations that losses are made of: they say nothing of the network
OF_LOSSES = frozenset({
    "softmax", "log_softmax", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "kl_div",
    "soft_margin_loss", "multi_margin_loss", "pow", "square", "abs", "exp", "log", "log1p",
    "logsigmoid", "softplus", "norm", "sigmoid", "clamp", "clamp_min", "where", "sqrt", "logsumexp",
    "max", "min", "maximum",
})  # fmt: skip


@rule(
    "no_nonlinearity", "contract", "warning",
    formula="a layer's output reaches the next layer through affine operations only; a warning "
    "where there is no other operation in the whole graph, else advice",
    thresholds={"narrow": 0.5},
    why="A product of matrices is a matrix: the layers can do no more than a single one.",
    exempt=("one layer, or several side by side", "a narrow layer in between: low-rank adapters, "
            "factorized matrices, autoencoders with a linear bottleneck",
            "recurrent and attention layers", "graphs with operations that are not known"),
    explains=(*SLOW, "one_batch"),
)  # fmt: skip
def no_nonlinearity(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    pairs = [pair for pair in case.straight if not _narrow(case, pair[0], limits["narrow"])]
    plain = [a for a, b in pairs if case.layers[a].kind == case.layers[b].kind == "Linear"]
    bare = not _nonlinear(case)
    order = list(case.layers)
    layers = sorted([a for a, _ in pairs] if bare else plain, key=order.index)
    if not layers:
        return
    evidence = (
        Evidence("layers with weights", len(case.weighted())),
        Evidence("of them without a nonlinear operation before the next", len(layers), "0"),
    )
    fix = Fix("an activation behind each layer but the last", "nn.ReLU()",
              tuple(Edit("insert_activation", name, "relu") for name in layers))  # fmt: skip
    yield Hit(layers[0], evidence, fix, 0, 0.8 if bare else 0.4, "warning" if bare else "advice")


def _narrow(case: Case, layer: str, limit: float) -> bool:
    """Whether a layer has fewer units than what comes in, and the network's output, by half; or
    is not known well enough."""
    p = next((p for p in case.weights() if p.layer == layer), None)
    if p is None or layer not in case.layers:
        return True
    width, inputs = p.form[:2]
    call = case.loss
    onward = [q.form[0] for q in case.weights() if (layer, q.layer) in case.straight]
    ends = [*onward, call.output.shape[-1] if call is not None and call.output.ndim else width]
    restores = call is not None and call.function in SQUARED and max(ends) >= inputs
    return width < limit * inputs and (width < limit * max(ends) or restores)


def _nonlinear(case: Case) -> bool:
    """Whether anything in the network is not affine, as far as can be told."""
    call = case.loss
    last = call.layer if call is not None else ""
    hidden = any(layer.activation for n, layer in case.layers.items() if n != last)
    mixing = RECURRENT | {"MultiheadAttention"}
    special = any(layer.kind in mixing and layer.rows for layer in case.layers.values())
    behind = set(call.path) if call is not None else set()
    return hidden or special or bool(case.operations - AFFINE - OF_LOSSES - behind)


@rule(
    "bottleneck", "contract", "warning",
    formula="one unit between wider layers of a plain chain, or several layers of one; or a hidden "
    "layer narrower than 1/32 of both neighbours, or of 1 unit, in a run that does not learn",
    thresholds={"share": 32.0, "inputs": 1, "outputs": 1, "steps": 16},
    why="All that later layers get to see goes through these few numbers.",
    exempt=("autoencoders: outputs like inputs",
            "layers that do not follow each other (adapters, gates, squeeze-and-excitation) in a "
            "run that learns, or is in its first 16 steps"),
    explains=(*SLOW, "constant_output", "dead_units", "duplicate_units", "one_batch", "no_signal",
              "vanishing_gradients", "off_centre"),
)  # fmt: skip
def bottleneck(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    call = case.loss
    linear = [p for p in case.weights() if p.layer in case.layers
              and case.layers[p.layer].kind == "Linear"]  # fmt: skip
    if call is None or (linear and call.shapes[0][-1:] == linear[0].form[1:] != (1,)):
        return
    chain = all(b.form[1] == a.form[0] for a, b in pairwise(linear))
    chain = chain and len(linear) == len(case.weighted())
    waiting = stuck(case, limits["steps"])
    for i, (p, after) in enumerate(pairwise(linear)):
        behind = _behind(linear[i + 1 :])
        if after.form[1] != p.form[0] or not _strangled(p, behind, limits):
            continue
        if not (waiting or (chain and p.form[0] == 1)):
            continue
        width = f"more, between {p.form[1]} and {behind}"
        evidence = (Evidence("units", p.form[0], width),)
        fix = Fix("more units", f"nn.Linear({p.form[1]}, 32)", (Edit("widen", p.layer),))
        yield Hit(p.layer, evidence, fix, 0, 0.6)
        return


def _behind(later: Sequence[Parameter]) -> int:
    """Units of the first layer behind that has more than one; of the last one, and one more where
    several layers of a single unit follow each other, which is never meant."""
    wider = [p.form[0] for p in later if p.form[0] > 1]
    return wider[0] if wider else len(later)


def _strangled(p: Parameter, behind: int, limits: Mapping[str, float]) -> bool:
    width, inputs = p.form
    single = width == 1 and inputs > limits["inputs"] and behind > limits["outputs"]
    return single or width * limits["share"] < min(inputs, behind)


@rule(
    "batchnorm_few_samples", "contract", "warning",
    formula="values per channel a batch normalization in train mode averages over < 8",
    thresholds={"few": 8},
    why="Means and variances of so few values are noise: what is trained is not what is evaluated.",
    exempt=("batch normalization in eval mode", "places of images and sequences count as values",
            "a small last batch behind larger ones"),
    explains=(*SLOW, "train_eval_gap", "overfitting", "constant_output", "no_signal"),
)  # fmt: skip
def batchnorm_few_samples(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    seen = [
        (layer.rows, n) for n, layer in case.layers.items()
        if layer.kind in BATCH_NORMS and layer.training and 0 < layer.rows < limits["few"]
    ]  # fmt: skip
    if not seen or (case.usage.steps and len(case.usage.eval_steps) >= case.usage.steps):
        return
    rows, name = min(seen)
    evidence = (Evidence("values per channel", rows, f"{limits['few']:g} or more"),)
    fix = Fix("larger batches, or group or layer normalization, which do not look at the batch",
              "nn.GroupNorm(8, channels)", (Edit("normalize"),))  # fmt: skip
    yield Hit(name, evidence, fix, 0, 0.9, "error" if rows == 1 else "warning")


SLOW_MEAN, FAST_MEAN = 0.01, 0.9  # momentum of running statistics: too little, too much
KEPT, TRAINED, MANY = 0.5, 64, 1024


def averaging(case: Case) -> Iterator[Hit]:
    """Running statistics that are mostly still those of the start when they are used, or those of
    the last batch only; a kind of `train_eval_gap`. PyTorch's momentum is the share of the new
    batch, 1 - that of TensorFlow."""
    usage = case.usage
    for name, layer in case.layers.items():
        m = layer.options.get("momentum") if layer.kind in BATCH_NORMS else None
        if not isinstance(m, float) or layer.options.get("track_running_stats") is False:
            continue
        steps = usage.steps - len(usage.eval_steps)
        left = (1.0 - m) ** steps
        slow = 0 < m < SLOW_MEAN and steps >= TRAINED and left > KEPT and usage.evaluations > 0
        fast = FAST_MEAN <= m < 1 and layer.training and 0 < layer.rows < MANY
        if slow or fast:
            share = left if slow else m
            what = "what they began with" if slow else "the last batch"
            evidence = (
                Evidence("momentum", m, "0.1"),
                Evidence(f"share of {what} in the running statistics", share, "about 0.1 or less"),
            )
            why = ("In eval mode this layer goes by running statistics which are not those of the "
                   f"data: mostly {what}.")  # fmt: skip
            fix = Fix("the usual momentum; PyTorch's is 1 minus TensorFlow's",
                      f"nn.{layer.kind}({layer.options.get('num_features', 'channels')}, "
                      "momentum=0.1)", (Edit("normalize"),))  # fmt: skip
            yield Hit(name, evidence, fix, 0, 0.8 if slow else 0.6, why=why)


OWN_AXES = {"LayerNorm": "layer_norm", "RMSNorm": "rms_norm"}  # kind -> its operation
ROUNDING = 1e-2  # of (x - x) / sqrt(eps)


def over_one_value(case: Case) -> Iterator[Hit]:
    """Normalizations of which each value is normalized by itself: (x - x) / sqrt(0 + eps) is 0,
    whatever x; of x / |x| the sign is left. A kind of `inputs_ignored`."""
    for name, layer in case.layers.items():
        if not (_has_own_axes(case, layer) or _has_groups_of_one(case, layer)):
            continue
        root = layer.kind == "RMSNorm"
        evidence = (
            Evidence("values that are normalized together", 1, "2 or more"),
            Evidence("what is left of each", "its sign" if root else "nothing: 0, plus the bias"),
        )
        why = ("A value that is normalized by itself is " + ("1 or -1" if root else "0") + ", "
               "whatever it was: nothing else of it gets through this layer.")  # fmt: skip
        words = ("leave it out, or scale the inputs by the mean and the standard deviation of the "
                 "training set")  # fmt: skip
        fix = Fix(words, "x = (x - mean) / std", (Edit("scale_inputs"),))
        yield Hit(name, evidence, fix, 0, 0.9, "warning" if root else "error", why)


def _has_own_axes(case: Case, layer: Layer) -> bool:
    """Whether a layer or RMS normalization over a single number was called."""
    shape = layer.options.get("normalized_shape")
    if layer.kind not in OWN_AXES or not shape or math.prod(shape) != 1:
        return False
    if not layer.parameters:  # Fathom has one operation for all kinds
        batches = any(other.kind in BATCH_NORMS for other in case.layers.values())
        names = {OWN_AXES[layer.kind], *([] if batches else ["batch_norm"])}
        return bool(names & case.operations)
    return bool(case.reached & set(layer.parameters)) or layer.rows > 0


def _has_groups_of_one(case: Case, layer: Layer) -> bool:
    """Whether a group normalization with a group for each channel was given one place of each
    example, and has put out 0."""
    groups, channels = layer.options.get("num_groups"), layer.options.get("num_channels")
    call = case.loss
    if layer.kind != "GroupNorm" or groups != channels or call is None:
        return False
    if layer.rows < 2 or call.shapes[0][:1] != (layer.rows,):
        return False
    scales = [case.parameters[n] for n in layer.parameters if n in case.parameters]
    zero = any(p.role == "scale" and p.initial is not None and not p.initial.any() for p in scales)
    stats = next((s.layers[layer.name] for s in case.steps if layer.name in s.layers), None)
    return not zero and stats is not None and stats.finite and stats.largest <= ROUNDING


@rule(
    "dropout_too_strong", "contract", "warning",
    formula="probability of a dropout layer > 0.8; an error at 1",
    thresholds={"p": 0.8},
    why="So few values are left that the signal drowns in the noise.",
    exempt=("p up to 0.8",),
    explains=(*SLOW, "train_eval_gap", "constant_output", "dead_units", "activation_on_logits"),
)  # fmt: skip
def dropout_too_strong(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    for name, layer in case.layers.items():
        p = float(layer.options.get("p") or 0.0) if layer.kind in DROPOUTS else 0.0
        if p > limits["p"]:
            fix = Fix("0.1 to 0.5 is usual", f"nn.{layer.kind}(0.3)", (Edit("dropout", name, 0.3),))
            evidence = (Evidence("probability", p, "0 to 0.5"),)
            yield Hit(name, evidence, fix, 0, min(p, 1.0), "error" if p >= 1 else "warning")
