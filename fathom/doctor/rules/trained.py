"""Which parameters are trained: handed over, in the graph, not frozen, and really changing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fathom.doctor.case import Case, Parameter, ParameterStats
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.progress import progress
from fathom.doctor.rules.loop import STUCK
from fathom.doctor.rules.rule import Hit, rule
from fathom.engine.tensor import Array

AHEAD, TELLING = 0.3, 256  # skill at the start; elements that tell a distribution
PART, DIRECTED = 256, 4.0  # rows and columns looked at; Tracy-Widom's 1 - 1e-4 quantile is 3.3
REBUILD = (Edit("rebuild_optimizer"),)


def _elements(parameters: list[Parameter]) -> int:
    return sum(math.prod(p.shape) for p in parameters)


def _names(parameters: list[Parameter]) -> str:
    return ", ".join(p.name for p in parameters[:4]) + (" ..." if len(parameters) > 4 else "")


def _absent(case: Case) -> list[Parameter]:
    """Trainable parameters that no optimizer known of holds, and nobody has changed."""
    found = [p for p in case.parameters.values()
             if p.trainable and not p.in_optimizer and not p.elsewhere]  # fmt: skip
    moved = {n for s in case.steps for n, stats in s.parameters.items() if stats.update > 0}
    if any(p.name in moved or _changed(p) for p in found):
        return []  # somebody else trains them
    return found


def _changed(p: Parameter) -> bool:
    return p.initial is not None and not np.array_equal(p.value(), p.initial, equal_nan=True)


# -- the optimizer's parameters --------------------------------------------------------------------


@rule(
    "stale_optimizer", "contract", "error",
    formula="parameters of the optimizer that are not the model's, shaped like some of the model's "
    "that it does not have; or none of the model's at all",
    why="The optimizer changes tensors that the model does not use any more, as when the model, or "
    "a part of it, was made anew behind the optimizer.",
    exempt=("parameters of a further model beside all of this one's",
            "parameters that another optimizer trains"),
    explains=(*STUCK, "frozen_parameters", "missing_from_optimizer", "missing_zero_grad",
              "gradients_cleared", "vanishing_gradients"),
)  # fmt: skip
def stale_optimizer(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    facts, absent = case.optimizer, _absent(case)
    if facts is None or not facts.strangers or not absent:
        return
    held = [p for p in case.parameters.values() if p.in_optimizer]
    like = {(len(p.shape), p.shape[1:]) for p in absent}
    lost = [s for s in facts.strangers if (len(s), s[1:]) in like]
    if held and len(lost) < len(facts.strangers):
        return
    evidence = (
        Evidence("parameters of the optimizer which are not the model's", len(facts.strangers),
                 "0"),
        Evidence("trainable parameters of the model it does not have", len(absent), "0"),
    )  # fmt: skip
    code = f"optimizer = {facts.kind}(model.parameters(), lr={facts.lr:g})"
    fix = Fix("make the optimizer after the model, from the model that is trained", code, REBUILD)
    yield Hit("optimizer", evidence, fix, 0, 1.0)


@rule(
    "missing_from_optimizer", "contract", "warning",
    formula="trainable parameters that the loss depends on and the optimizer does not have; "
    "parameters in the graph of the model's output that the model does not know",
    thresholds={"share": 0.05},
    why="They get gradients and are never changed.",
    exempt=("parameters that another optimizer holds, or that change nevertheless",
            "parameters the loss does not depend on", "weights that were trained before: advice"),
    explains=(*STUCK, "frozen_parameters", "missing_zero_grad", "wrongly_frozen"),
)  # fmt: skip
def missing_from_optimizer(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    facts = case.optimizer
    if facts is None:
        return
    if case.unregistered:
        yield _unregistered(case.unregistered, case.hidden_in)
    absent = [p for p in _absent(case) if p.name in case.reached]
    trained = [p for p in case.parameters.values() if p.in_optimizer]
    if not absent or not trained:
        return  # none at all: a stale optimizer
    part = _elements(absent) / max(_elements([*absent, *trained]), 1)
    evidence = (
        Evidence("trainable parameters the optimizer does not have", _names(absent), "none"),
        Evidence("share of the trainable numbers", part, "0"),
    )
    code = f"optimizer = {facts.kind}(model.parameters(), ...)"
    fix = Fix("hand all of them over", code, REBUILD)
    weights = [p for p in absent if p.role == "weight"]
    former = bool(weights) and not any(_looks_fresh(p) for p in weights)
    severity = "advice" if former else "error" if part > limits["share"] else "warning"
    yield Hit(absent[0].layer or absent[0].name, evidence, fix, 0, 0.3 if former else 0.9, severity)


def _unregistered(shapes: list[tuple[int, ...]], attribute: str) -> Hit:
    evidence = (
        Evidence("parameters used that the model does not know", len(shapes), "0"),
        Evidence("their shapes", ", ".join(map(str, shapes[:4]))),
    )
    own = attribute.rpartition(".")[2] or "layers"
    fix = Fix("keep layers in nn.ModuleList or nn.ModuleDict, parameters as nn.Parameter "
              "attributes: plain lists hide them from model.parameters()",
              f"self.{own} = nn.ModuleList(self.{own})", REBUILD)  # fmt: skip
    return Hit(attribute or "unregistered parameters", evidence, fix, 0, 0.95, "error")


# -- frozen ----------------------------------------------------------------------------------------


@rule(
    "wrongly_frozen", "contract", "warning",
    formula="requires_grad False and weights that look freshly drawn, in half of the frozen "
    "layers; or nothing at all that is trainable",
    thresholds={"share": 0.5},
    why="Layers that were never trained are kept as they are: only what stands behind them learns, "
    "from random features.",
    exempt=("weights that do not look freshly drawn: pretrained ones", "names that say it is meant "
            "(random, fixed, frozen, position, base, teacher, target)", "embeddings",
            "adapters beside them (a low-rank pair of which one starts at 0)"),
    explains=(*STUCK, "vanishing_gradients", "frozen_parameters", "no_gradient"),
)  # fmt: skip
def wrongly_frozen(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    frozen = [p for p in case.weights() if not p.trainable]
    nothing = case.optimizer is not None and not any(p.trainable for p in case.parameters.values())
    fresh = [p for p in frozen if nothing or (_looks_fresh(p) and not _on_purpose(p.name))]
    if not fresh or len(fresh) < limits["share"] * len(frozen):
        return
    if not nothing and _adapted(case):
        return
    evidence = (
        Evidence("frozen weights that look freshly drawn", _names(fresh), "none"),
        Evidence("weights that are trained", sum(p.trainable for p in case.weights())),
    )
    fix = Fix("let them be trained", "for p in model.parameters(): p.requires_grad_(True)",
              (Edit("unfreeze", value=tuple(p.name for p in fresh)),))  # fmt: skip
    where = fresh[0].layer or fresh[0].name
    yield Hit(where, evidence, fix, 0, 0.7, "error" if nothing else "warning")


def _adapted(case: Case) -> bool:
    """Whether there is a trained matrix that starts at 0, behind a narrow one: LoRA and its kin."""
    return any(p.trainable and len(p.shape) == 2 and p.initial is not None
               and not np.any(p.initial) for p in case.parameters.values())  # fmt: skip


def _on_purpose(name: str) -> bool:
    words = ("random", "fixed", "frozen", "position", "rff", "fourier", "base", "teacher", "target",
             "lora", "dct", "mel", "ema", "momentum", "projection", "reservoir", "pretrained",
             "perceptual", "vgg", "clip", "bert")  # fmt: skip
    return any(word in name.lower() for word in words)


def _looks_fresh(p: Parameter) -> bool:
    """Whether a matrix is spread as if just drawn: uniform up to a usual bound, or normal with a
    usual standard deviation. Training leaves neither."""
    w = (p.value() if p.initial is None else p.initial).astype(np.float64).ravel()
    std = float(w.std())
    if w.size < 16 or not std > 0 or _is_directed(w.reshape(p.form)):
        return False
    fan_in, fan_out = max(math.prod(p.shape[1:]), 1), p.shape[0] * math.prod(p.shape[2:])
    bounds = (fan_in**-0.5, math.sqrt(6 / (fan_in + fan_out)), math.sqrt(6 / fan_in))
    if any(_uniform(w, bound) for bound in bounds):
        return True
    if w.size < 512:  # too few to tell a normal distribution
        return False
    usual = (0.01, 0.02, 1.0, *(bound / 3**0.5 for bound in bounds), fan_in**-0.5)
    near = any(abs(std / s - 1) < 2 / math.sqrt(2 * w.size) for s in usual)
    kurtosis = float(((w - w.mean()) ** 4).mean()) / std**4
    normal = abs(kurtosis - 3) < 4 * math.sqrt(24 / w.size)
    return near and normal and abs(float(w.mean())) < 4 * std / math.sqrt(w.size)


def _is_directed(weight: Array) -> bool:
    """Whether some direction stands out of a matrix as in none of independent entries: its largest
    singular value lies above their bulk (Johnstone, 2001). Of large ones a part is looked at."""
    rows = weight.reshape(len(weight), -1)[:PART, :PART]
    r, c = rows.shape
    if min(r, c) < 4:
        return False
    wide, high = math.sqrt(r - 1), math.sqrt(c)
    edge = (wide + high) ** 2 + DIRECTED * (wide + high) * (1 / wide + 1 / high) ** (1 / 3)
    gram = rows @ rows.T if r < c else rows.T @ rows
    return float(np.linalg.eigvalsh(gram)[-1]) > edge * float(rows.var())


def trained_before(case: Case, parameters: list[Parameter]) -> bool:
    """Whether a run goes on with weights that were trained: its first losses are much better than
    the best constant answer, or most of the matrices in question have heavy tails, which nobody
    draws."""
    state = progress(case)
    if state.known and state.room > 0 and state.base - state.start > AHEAD * state.room:
        return True
    large = [p for p in parameters if p.initial is not None and p.initial.size >= TELLING]
    return bool(large) and 2 * sum(map(_is_heavy, large)) > len(large)


def _is_heavy(p: Parameter) -> bool:
    """Whether there are more large weights than a normal distribution has."""
    w = np.asarray(p.initial, np.float64).ravel()
    std = float(w.std())
    if not std > 0:
        return False
    kurtosis = float(((w - w.mean()) ** 4).mean()) / std**4
    return kurtosis > 3 + 5 * math.sqrt(24 / w.size)


def _uniform(w: Array, bound: float) -> bool:
    """Whether values fill [-bound, bound] evenly, and stay inside (Kolmogorov-Smirnov, 1 %)."""
    n, top = w.size, float(np.abs(w).max())
    inside = (1 - 6 / n) * bound <= top <= bound * (1 + 1e-6)
    if not inside or abs(float(w.std()) / bound - 3**-0.5) > 0.78 / math.sqrt(n):
        return False
    steps = np.arange(n + 1) / n
    even = (np.sort(w) / bound + 1) / 2
    apart = max(float(np.abs(even - steps[1:]).max()), float(np.abs(even - steps[:-1]).max()))
    return apart < 1.63 / math.sqrt(n)


@rule(
    "frozen_parameters", "symptom", "error",
    formula="a parameter of the optimizer with a gradient whose update is 0 at 3 sampled steps; or "
    "a learning rate of 0 in the first 3 steps and since, 16 under a schedule",
    thresholds={"samples": 3, "rounding": 1e-7, "scheduled": 16, "turns": 16},
    why="It has a gradient and is never changed: a learning rate of 0, or a step that is undone.",
    exempt=("gradients of 0, or so small that the step rounds to nothing",
            "learning rates of 0 at the start of a warm-up", "groups with a rate of 0: advice",
            "embeddings", "of several optimizers those whose turn has not come in 16 steps"),
    explains=STUCK,
)  # fmt: skip
def frozen_parameters(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    sampled = [s for s in case.steps if s.parameters]
    if case.optimizer is None or not sampled:
        return
    rates = [*(s.lr for s in sampled), *case.rates]
    still = [p for p in case.parameters.values() if _is_still(p, case, limits)]
    planned = any(g.get("initial_lr") for g in case.optimizer.groups)  # by a schedule
    soon = limits["scheduled"] if planned else limits["samples"]
    waited = case.usage.steps >= soon or case.ended
    if not any(rates) and not case.scheduled and waited and len(rates) > limits["samples"]:
        where, words = "optimizer", "a learning rate above 0"
    elif still and any(rates):
        where = still[0].layer or still[0].name
        words = "look for what undoes the step, or for a group with a learning rate of 0"
    else:
        return
    evidence = (
        Evidence("parameters with gradients that never change", _names(still), "none"),
        Evidence("learning rate", case.optimizer.lr, "above 0"),
    )
    idle = {n for g in case.optimizer.groups if not g.get("lr") for n in g.get("names", ())}
    meant = any(rates) and all(p.name in idle for p in still)
    edits = REBUILD if any(rates) else (Edit("optimizer", value=("Adam", 1e-3)),)
    yield Hit(where, evidence, Fix(words, edits=edits), 0, 0.8, "advice" if meant else "error")


def _is_still(p: Parameter, case: Case, limits: Mapping[str, float]) -> bool:
    facts = case.optimizer
    if not p.trainable or not p.in_optimizer or p.role == "embedding" or facts is None:
        return False
    if facts.several > 1 and (case.usage.steps < limits["turns"] or _changed(p)):
        return False
    stats = [s.parameters[p.name] for s in case.steps if p.name in s.parameters]
    stats = [s for s in stats if s.gradient > 0]
    if len(stats) < limits["samples"] or any(s.update > 0 for s in stats):
        return False
    lr = facts.lr or 1.0
    return stats[-1].gradient * lr > limits["rounding"] * stats[-1].weight


@rule(
    "no_gradient", "symptom", "error",
    formula="the loss's graph leads to no parameter; or a layer that was called has weights "
    "without a gradient at 2 sampled steps, or at one in the first 3 steps and no place in the "
    "graph; where it was called without gradients only, weights "
    "that look freshly drawn, and that nobody else changes",
    thresholds={"samples": 2, "steps": 3},
    why="They are cut off from the loss (detach, no_grad, .data, .item(), a NumPy round trip, a "
    "tensor made anew) and learn nothing.",
    exempt=("embeddings called with gradients", "backbones and teachers called without gradients "
            "(trained before, averaged, or named so)", "layers that are never called", "one of "
            "several heads: advice where layers before it get gradients", "checkpointed layers "
            "before the first step"),
    explains=(*STUCK, "frozen_parameters", "vanishing_gradients", "inputs_ignored",
              "gradients_cleared", "missing_zero_grad"),
)  # fmt: skip
def no_gradient(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    fix = Fix("look for detach(), .data, no_grad, .item() or NumPy between this layer and the loss",
              edits=(Edit("connect"),))  # fmt: skip
    if case.detached and not any(s.gradient > 0 for s in _stats(case)):
        yield Hit("loss", (Evidence("parameters the loss depends on", 0, "all"),), fix, 0, 1.0)
        return
    sampled = [s for s in case.steps if s.parameters]
    cut = [p for p in _cut(case) if p.layer in case.layers and case.layers[p.layer].rows]
    if len(sampled) < limits["samples"]:
        known = bool(case.reached) and case.usage.steps >= limits["steps"]
        cut = [p for p in cut if known and p.name not in case.reached]
    cut = cut or _without_graph(case)
    if not cut:
        return
    order = list(case.layers)
    fed = [order.index(p.layer) for p in case.weights()
           if p.trainable and p.layer in order and p not in _cut(case)]  # fmt: skip
    place, without = order.index(cut[0].layer), case.layers[cut[0].layer].without
    before = without > 0 or not fed or place < max(fed)
    evidence = (
        Evidence("called, and without a gradient", _names(cut), "none"),
        Evidence("weights with one", len(fed)),
    )
    yield Hit(cut[0].layer, evidence, fix, 0, 0.9 if before else 0.5,
              "error" if before else "advice")  # fmt: skip


def _without_graph(case: Case) -> list[Parameter]:
    """Fresh parameters of layers that are called inside the forward pass, but without gradients."""
    got = {n for s in case.steps for n, stats in s.parameters.items() if stats.gradient >= 0}
    idle = [p for p in case.parameters.values() if p.trainable and p.in_optimizer
            and p.layer in case.layers and case.layers[p.layer].without
            and not case.layers[p.layer].rows and p.name not in got | case.reached]  # fmt: skip
    fresh = any(_looks_fresh(p) for p in idle if len(p.shape) > 1)
    meant = any(_on_purpose(p.name) or _changed(p) for p in idle)
    return idle if case.reached and fresh and not meant else []


def _stats(case: Case) -> Iterator[ParameterStats]:
    for step in case.steps:
        yield from step.parameters.values()


def _cut(case: Case) -> list[Parameter]:
    """Trained weights and biases that never had a gradient."""
    got = {n for s in case.steps for n, stats in s.parameters.items()
           if stats.gradient >= 0 or not stats.finite}  # fmt: skip
    seen = {n for s in case.steps for n in s.parameters}
    return [p for p in case.parameters.values() if p.trainable and p.in_optimizer
            and p.role in ("weight", "bias") and p.name in seen - got]  # fmt: skip
