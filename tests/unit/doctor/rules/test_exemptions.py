"""What contract rules are silent about, on cases made by hand.

Each case is built twice: as the fault, of which the rule tells, and with the one thing changed that
the rule exempts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fathom.doctor.case import Case, Layer, Parameter
from fathom.doctor.rules import RULES


def drawn(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape)


MANY = drawn(16, 8)
PROBABILITIES = np.full((40, 4), 0.25)
YES = np.tile([0.0, 1.0], 20)[:, None]
HALF = np.full((40, 1), 0.5)
REAL = drawn(40, 1)

Build = Callable[[Any, bool], Case]


def alarms(name: str, case: Case) -> list[str]:
    """Severities of a rule's hits that are no advice."""
    severities = [hit.severity or RULES[name].severity for hit in RULES[name](case)]
    return [s for s in severities if s != "advice"]


def weigh(case: Case, layer: str, weight: Any, kind: str = "Linear", **options: Any) -> Case:
    """The case with other initial weights in a layer, which is perhaps of another kind."""
    weight = np.asarray(weight)
    case.layers[layer] = Layer(layer, kind, options)
    name = f"{layer}.weight"
    case.parameters[name] = Parameter(name, weight.shape, layer, "weight", True, True,
                                      lambda: weight, weight)  # fmt: skip
    return case


def chain(made: Any, *widths: int, **more: Any) -> Case:
    """Linear layers of these widths, one behind the other."""
    output = drawn(40, widths[-1])
    call = made.call("mse_loss", target=output[::-1], output=output, value=1.386)
    case = made.case(more.pop("curve", ()), loss=call, **more)
    case.layers, case.parameters = {}, {}
    for i, (inputs, units) in enumerate(pairwise(widths)):
        weigh(case, str(i), drawn(units, inputs))
    return case


# -- initial weights -------------------------------------------------------------------------------


def copied(rows: int, units: int = 16, inputs: int = 8) -> Any:
    """So many rows, each of them several times."""
    return np.tile(drawn(rows, inputs), (units // rows, 1))


def pruned(units: int = 16, left: int = 4) -> Any:
    return np.vstack([drawn(left, 8), np.zeros((units - left, 8))])


def start(made: Any, weight: Any, kind: str = "Linear", **options: Any) -> Case:
    return weigh(made.case(), "first", weight, kind, **options)


def test_most_units_begin_as_copies_of_a_few(made: Any) -> None:
    (hit,) = RULES["symmetric_initialization"](start(made, copied(4)))
    assert (hit.where, hit.severity, hit.evidence[0].value) == ("first", "warning", 4)
    assert hit.fix.edits[0].target == "first"


def test_copies_in_columns_are_found_where_those_are_the_units(made: Any) -> None:
    case = start(made, copied(4).T)
    assert not alarms("symmetric_initialization", case)
    case = start(made, copied(4).T)
    case.parameters["first.weight"].turned = True
    assert alarms("symmetric_initialization", case)


def test_weights_of_no_known_layer_are_no_copies(made: Any) -> None:
    case = start(made, copied(4))
    case.parameters["first.weight"].layer = ""
    assert not RULES["symmetric_initialization"](case)


def still(made: Any, weight: Any, kind: str = "Linear", ratio: float = 2e-3, **options: Any) -> Any:
    """A layer of which all units are alike, and stay so."""
    case = made.case(made.stuck(20), made.steps((0, 1, 2, 4), ratio=ratio))
    return weigh(case, "first", weight, kind, **options)


def unreached(made: Any, exempt: bool) -> Case:
    case = start(made, copied(4))
    case.reached = frozenset(case.parameters) - ({"first.weight"} if exempt else set())
    return case


ONES, BRANCH = np.ones((8, 8)), 1e-3 * MANY
INITIAL: dict[str, tuple[str, Build]] = {
    "random rows": ("symmetric_initialization",
        lambda made, exempt: start(made, MANY if exempt else copied(4))),
    "a third of the rows are different": ("symmetric_initialization",
        lambda made, exempt: start(made, copied(6 if exempt else 3, 18))),
    "seven units": ("symmetric_initialization",
        lambda made, exempt: start(made, copied(1, 7 if exempt else 8))),
    "seven inputs": ("symmetric_initialization",
        lambda made, exempt: start(made, copied(2, 16, 7 if exempt else 8))),
    "rows of zeros": ("symmetric_initialization",
        lambda made, exempt: start(made, pruned() if exempt else copied(4))),
    "few rows that are not zeros": ("symmetric_initialization",
        lambda made, exempt: start(made, np.vstack([copied(1, 4 if exempt else 8), 0 * MANY[:8]]))),
    "an identity, wider than what is looked at": ("symmetric_initialization",
        lambda made, exempt: start(made, np.eye(512) if exempt else np.tile(np.eye(64), (8, 1)))),
    "convolutions (sub-pixel)": ("symmetric_initialization",
        lambda made, exempt: start(made, copied(4)[:, :, None, None] if exempt else copied(4),
                                   "Conv2d" if exempt else "Linear")),
    "recurrent weights": ("symmetric_initialization",
        lambda made, exempt: start(made, copied(4), "LSTM" if exempt else "Linear")),
    "one unit": ("symmetric_initialization",
        lambda made, exempt: still(made, np.ones((1 if exempt else 2, 8)))),
    "depthwise kernels": ("symmetric_initialization",
        lambda made, exempt: still(made, np.ones((8, 1, 3, 3)), "Conv2d",
                                   groups=8 if exempt else 1)),
    "steps in which nothing moves": ("symmetric_initialization",
        lambda made, exempt: still(made, np.ones((4, 8)), ratio=0.0 if exempt else 2e-3)),
    "layers the loss does not depend on": ("symmetric_initialization", unreached),
    "recurrent layers of any scale": ("initialization_scale",
        lambda made, exempt: start(made, 30 * MANY, "GRU" if exempt else "Linear")),
    "weights that are 0": ("initialization_scale",
        lambda made, exempt: start(made, (0 if exempt else 30) * MANY)),
    "a branch that starts small": ("initialization_scale",
        lambda made, exempt: weigh(weigh(start(made, BRANCH), "third", MANY),
                                   "fourth", MANY if exempt else BRANCH)),
}  # fmt: skip


def normalized(made: Any, exempt: bool) -> Case:
    case = start(made, 30 * MANY)
    case.layers["norm"] = Layer("norm", "LayerNorm" if exempt else "Dropout")
    return case


def first_loss(made: Any, exempt: bool, **options: Any) -> Case:
    return made.case([100.0], loss=made.call(value=100.0, **(options if exempt else {})))


INITIAL |= {
    "networks of which most layers are normalized": ("initialization_scale", normalized),
    "several losses a step": ("initial_loss", partial(first_loss, count=2)),
    "a loss that is not the first": ("initial_loss", partial(first_loss, step=3)),
    "regression": ("initial_loss", lambda made, exempt: made.case([100.0], loss=made.call(
        "mse_loss" if exempt else "binary_cross_entropy_with_logits", target=YES, output=0 * YES,
        value=100.0))),
}  # fmt: skip


# -- inputs ----------------------------------------------------------------------------------------


def with_inputs(made: Any, *inputs: Any, target: Any = None) -> Case:
    case = made.case([1.386], loss=made.call(target=target))
    case.inputs = [np.asarray(x, np.float32) for x in inputs]
    return case


SAME = np.ones((40, 8))
INPUTS: dict[str, tuple[str, Build]] = {
    "batches of three": ("inputs_constant", lambda made, exempt: with_inputs(
        made, SAME[: 3 if exempt else 4], target=np.arange(3 if exempt else 4))),
    "targets that are all the same": ("inputs_constant", lambda made, exempt: with_inputs(
        made, SAME, target=np.zeros(40, int) if exempt else None)),
    "further inputs that differ": ("inputs_constant", lambda made, exempt: with_inputs(
        made, SAME, MANY.repeat(3, 0)[:40] if exempt else SAME)),
    "seven rows": ("input_scale", lambda made, exempt: with_inputs(
        made, 100 * MANY[: 7 if exempt else 8])),
    "inputs that are all the same": ("input_scale", lambda made, exempt: with_inputs(
        made, 100 * SAME if exempt else 100 * MANY)),
    "inputs of 0 and 1": ("input_scale", lambda made, exempt: with_inputs(
        made, (1 if exempt else 100) * (MANY > 0))),
}  # fmt: skip


# -- structure -------------------------------------------------------------------------------------


def linear_stack(made: Any, exempt: bool, how: str) -> Case:
    case = chain(made, 8, 16, 16, 4)
    case.straight, case.operations = (("0", "1"), ("1", "2")), frozenset({"linear", "mse_loss"})
    if exempt and how == "unknown":
        case.operations |= {"my_own_function"}
    elif exempt:
        case.layers["rnn"] = Layer("rnn", how, rows=40)
    return case


def autoencoder(made: Any, exempt: bool) -> Case:
    return chain(made, 8, 16, 1, 16, 8 if exempt else 4)


def squeezed(made: Any, exempt: bool, steps: int = 100, learns: bool = True) -> Case:
    """Layers that do not follow each other in one chain, one of a single unit among them."""
    curve = made.learned(steps) if exempt and learns else made.stuck(100)
    if exempt and not learns:
        curve = made.stuck(steps)
    case = chain(made, 8, 16, 1, 16, 4, curve=curve)
    return weigh(case, "beside", MANY)


def normed(made: Any, exempt: bool, how: str) -> Case:
    case = made.case(made.stuck(10))
    case.layers["norm"] = Layer("norm", "BatchNorm2d", rows=4)
    if exempt and how == "places":
        case.layers["norm"].rows = 4 * 49
    elif exempt and how == "eval":
        case.layers["norm"].training = False
    elif exempt:
        case.usage.eval_steps = list(range(10))
    return case


STRUCTURE: dict[str, tuple[str, Build]] = {
    "one unit before one output": ("bottleneck", lambda made, exempt:
        chain(made, 8, 16, 1, 1) if exempt else chain(made, 8, 16, 1, 1, 1)),
    "one unit at the end": ("bottleneck", lambda made, exempt:
        chain(made, 8, 16, 4, 1) if exempt else chain(made, 8, 16, 1, 4)),
    "one unit from one number": ("bottleneck", lambda made, exempt:
        chain(made, 1 if exempt else 2, 1, 16, 4)),
    "an autoencoder": ("bottleneck", autoencoder),
    "a gate in a run that learns": ("bottleneck", squeezed),
    "a gate in the first steps": ("bottleneck", partial(squeezed, steps=15, learns=False)),
    "a recurrent layer in between": ("no_nonlinearity", partial(linear_stack, how="LSTM")),
    "attention in between": ("no_nonlinearity", partial(linear_stack, how="MultiheadAttention")),
    "an operation that is not known": ("no_nonlinearity", partial(linear_stack, how="unknown")),
    "many places": ("batchnorm_few_samples", partial(normed, how="places")),
    "a normalization at rest": ("batchnorm_few_samples", partial(normed, how="eval")),
    "trained at rest": ("batchnorm_few_samples", partial(normed, how="all")),
}  # fmt: skip


def test_several_layers_of_one_unit_are_never_meant(made: Any) -> None:
    (hit,) = RULES["bottleneck"](chain(made, 8, 16, 1, 1, 1, 1))
    assert hit.where == "1"
    (hit,) = RULES["bottleneck"](chain(made, 8, 1, 1, 16, 1))  # wider ones behind
    assert hit.where == "0" and str(hit.evidence[0].healthy).endswith("8 and 16")


@pytest.mark.parametrize(("p", "severity"), [(0.8, []), (0.81, ["warning"]), (1.0, ["error"])])
def test_dropout_is_strong_above_four_fifths(made: Any, p: float, severity: list[str]) -> None:
    case = made.case()
    case.layers["drop"] = Layer("drop", "Dropout", {"p": p})
    assert alarms("dropout_too_strong", case) == severity


# -- outputs ---------------------------------------------------------------------------------------


def given(made: Any, function: str, exempt: bool, fault: dict[str, Any], change: dict[str, Any],
          target: Any = None) -> Case:  # fmt: skip
    """A call of a loss, with some of what is known of it changed where it is exempt."""
    known = {"output": PROBABILITIES, **fault, **(change if exempt else {})}
    return made.case([1.386], loss=made.call(function, target=target, **known))


def call(function: str, fault: dict[str, Any], change: dict[str, Any], target: Any = None) -> Build:
    return lambda made, exempt: given(made, function, exempt, fault, change, target)


COUNTS = np.exp(drawn(40, 4) * 3)
OUTPUTS: dict[str, tuple[str, Build]] = {
    "logits that sum to 1 by chance": ("softmax_before_cross_entropy",
        call("cross_entropy", {"path": ("softmax",)}, {"path": ()})),
    "log-probabilities": ("softmax_before_cross_entropy",
        call("cross_entropy", {"path": ("softmax",)},
             {"path": ("log", "softmax"), "output": np.log(PROBABILITIES)})),
    "logits in [0, 1] without a sigmoid": ("sigmoid_before_bce_with_logits",
        call("binary_cross_entropy_with_logits", {"path": ("sigmoid",), "output": HALF},
             {"path": ()}, YES)),
    "a gate": ("sigmoid_before_bce_with_logits",
        call("binary_cross_entropy_with_logits", {"path": ("sigmoid",), "output": HALF},
             {"scaled": True}, YES)),
    "the mean of several probabilities": ("probabilities_expected",
        call("binary_cross_entropy", {"path": ("relu",), "output": HALF}, {"scaled": True}, YES)),
    "a clamped sigmoid": ("probabilities_expected",
        call("binary_cross_entropy", {"path": ("clamp",), "output": HALF},
             {"path": ("clamp", "sigmoid")}, YES)),
    "exp of log-probabilities": ("probabilities_expected",
        call("binary_cross_entropy", {"path": (), "output": HALF}, {"path": ("exp",)}, YES)),
    "logarithms of clamped probabilities": ("probabilities_expected",
        call("nll_loss", {"output": -COUNTS, "path": ()}, {"path": ("log", "clamp", "softmax")})),
    "pooling behind an activation": ("activation_on_logits",
        call("cross_entropy", {"path": ("relu",)}, {"path": ("mean", "relu")})),
    "soft capping": ("activation_on_logits",
        call("cross_entropy", {"path": ("tanh",)}, {"scaled": True})),
    "a softmax over the batch": ("one_unit_softmax",
        call("binary_cross_entropy", {"path": ("softmax",), "output": np.ones((40, 1))},
             {"output": np.arange(40)[:, None] / 780}, YES)),
    "targets a little beyond the range": ("unreachable_targets", lambda made, exempt: given(
        made, "mse_loss", exempt, {"path": ("sigmoid",), "output": HALF}, {},
        YES * (1.0005 if exempt else 1.5))),
    "outputs scaled behind the activation": ("unreachable_targets",
        call("mse_loss", {"path": ("sigmoid",), "output": HALF}, {"scaled": True}, 3 * YES)),
}  # fmt: skip


# -- targets ---------------------------------------------------------------------------------------


def constant(made: Any, exempt: bool, *, rows: int = 64, units: int = 4, embedded: bool = False,
             **change: Any) -> Case:  # fmt: skip
    """Labels that are all the same."""
    rows, units = (rows, units) if exempt else (64, 4)
    known = {"target": np.ones(rows, int), "output": np.zeros((rows, units)),
             **(change if exempt else {})}  # fmt: skip
    case = made.case([1.386], loss=made.call(**known))
    if embedded:
        case.layers = {"words": Layer("words", "Embedding"), **case.layers}
    return case


def test_labels_that_are_all_the_same(made: Any) -> None:
    for embedded in (False, True):
        (hit,) = RULES["label_range"](constant(made, False, embedded=embedded))
        assert (hit.where, hit.strength) == ("targets", 0.8)


def test_few_of_many_classes_are_advice_but_for_vocabularies(made: Any) -> None:
    labels = np.tile([3, 7], 200)
    output = np.zeros((400, 50))
    case = made.case([3.9], loss=made.call(target=labels, output=output))
    (hit,) = RULES["label_range"](case)
    assert hit.severity == "advice"
    case.layers["words"] = Layer("words", "Embedding")
    assert not RULES["label_range"](case)


def one_ignored(made: Any, exempt: bool) -> Case:
    """Of two kinds of labels one does not count: those that are left are the same."""
    labels = np.where(np.arange(64) % 2, 1, -100)
    options = {} if exempt else {"ignore_index": -100}
    if exempt:
        labels = np.where(np.arange(64) % 2, 1, 2)
    return made.case([1.386], loss=made.call(target=labels, output=np.zeros((64, 4)),
                                             options=options))  # fmt: skip


def sums(made: Any, exempt: bool, *, kind: str = "SGD", ratio: float = 0.2, rows: int = 40,
         reduction: str = "sum") -> Case:  # fmt: skip
    """A loss summed over the batch, with steps that are too long."""
    kind, ratio, rows, reduction = ((kind, ratio, rows, reduction) if exempt
                                    else ("SGD", 0.2, 40, "sum"))  # fmt: skip
    loss = made.call(target=np.arange(rows) % 4, options={"reduction": reduction})
    return made.case(made.stuck(20), made.steps((0, 1, 2), ratio=ratio), loss=loss, kind=kind)


def large_targets(made: Any, exempt: bool, *, rows: int = 40, outputs: float = 1.0,
                  function: str = "mse_loss") -> Case:  # fmt: skip
    if not exempt:
        rows, outputs, function = 40, 1.0, "mse_loss"
    target = 1000 * REAL[:rows]
    loss = made.call(function, target=target, output=outputs * REAL[:rows], value=1e6)
    return made.case([1e6], loss=loss)


def compared(made: Any, exempt: bool, output: tuple[int, ...], target: tuple[int, ...]) -> Case:
    output, target = (output, target) if exempt else ((40, 1), (40,))
    loss = made.call("mse_loss", target=np.zeros(target), output=np.zeros(output))
    return made.case([1.0], loss=loss)


TARGETS: dict[str, tuple[str, Build]] = {
    "a small sample of one class": ("label_range", partial(constant, rows=63)),
    "two classes, one of them rare": ("label_range", partial(constant, units=2)),
    "similarities of pairs": ("label_range", partial(constant, path=("matmul",))),
    "similarities, behind words": ("label_range",
        partial(constant, path=("matmul",), embedded=True)),
    "several losses a step": ("label_range", partial(constant, count=2)),
    "two labels": ("label_range", one_ignored),
    "a learning rate that fits sums": ("sum_reduction", partial(sums, ratio=0.01)),
    "an optimizer that does not heed the scale": ("sum_reduction", partial(sums, kind="Adam")),
    "small batches": ("sum_reduction", partial(sums, rows=7)),
    "means": ("sum_reduction", partial(sums, reduction="mean")),
    "seven targets": ("target_scale", partial(large_targets, rows=7)),
    "outputs that start at that scale": ("target_scale", partial(large_targets, outputs=500.0)),
    "no squared error": ("target_scale", partial(large_targets, function="custom")),
    "a target of one element": ("loss_broadcast", partial(compared, output=(40, 1), target=(1,))),
    "a broadcast that is no larger": ("loss_broadcast",
        partial(compared, output=(40, 4), target=(4,))),
}  # fmt: skip


# -- the loop --------------------------------------------------------------------------------------


def unstepped(made: Any, exempt: bool, **habits: Any) -> Case:
    case = made.case(ended=False)
    case.usage.backwards = 64
    if habits.pop("unknown", False) and exempt:
        case.optimizer = None
    for name, value in habits.items() if exempt else ():
        setattr(case.usage, name, value)
    return case


def evaluated(made: Any, exempt: bool, how: str) -> Case:
    """Passes without gradients in train mode, behind a few of 100 steps."""
    case = made.case(made.stuck(), loss=made.call("custom" if exempt and how == "loss" else
                                                  "cross_entropy"))  # fmt: skip
    often = range(0, 100, 1) if exempt and how == "often" else range(0, 100, 25)
    case.usage.noisy_evaluations = [5] if exempt and how == "once" else list(often)
    return case


def stale(made: Any, exempt: bool, looked: int = 16) -> Case:
    """Three of so many steps with the gradient of the one before."""
    case = made.case(made.stuck())
    case.usage.stale_steps, case.usage.unseen = [1, 2, 3], 16 - (16 if exempt else looked)
    return case


LOOP: dict[str, tuple[str, Build]] = {
    "no optimizer was handed over": ("missing_step", partial(unstepped, unknown=True)),
    "63 passes that add up": ("missing_step", partial(unstepped, backwards=63)),
    "passes inside the step": ("missing_step", partial(unstepped, closures=True)),
    "rollouts in most steps": ("train_mode_in_evaluation", partial(evaluated, how="often")),
    "a loss that is not known": ("train_mode_in_evaluation", partial(evaluated, how="loss")),
    "one pass": ("train_mode_in_evaluation", partial(evaluated, how="once")),
    "three of sixteen steps, all looked at": ("missing_zero_grad", partial(stale, looked=4)),
}  # fmt: skip


@pytest.mark.parametrize(("unseen", "told"), [(0, False), (1, True), (12, True)])
def test_compiled_steps_that_were_not_seen_do_not_count(made: Any, unseen: int, told: bool) -> None:
    """Three stale steps of 16 are less than a fifth, three of 15 are one."""
    case = made.case(made.stuck())
    case.usage.stale_steps, case.usage.unseen = [1, 2, 3], unseen
    hits = RULES["missing_zero_grad"](case)
    assert bool(hits) is told
    assert not hits or hits[0].evidence[1].value == 16 - unseen


# -- what is trained -------------------------------------------------------------------------------


def frozen(made: Any, exempt: bool, name: str = "first") -> Case:
    """A layer that is frozen as it was drawn."""
    name = name if exempt else "first"
    weight = np.random.default_rng(1).uniform(-(8**-0.5), 8**-0.5, (64, 8))
    case = weigh(made.case(), name, weight)
    case.parameters[f"{name}.weight"].trainable = False
    return case


def adapted(made: Any, exempt: bool) -> Case:
    case = frozen(made, False)
    return weigh(case, "second", (0 if exempt else 1) * MANY)


def left_out(made: Any, exempt: bool, how: str) -> Case:
    """A parameter that the optimizer does not have."""
    fresh = np.random.default_rng(1).uniform(-(8**-0.5), 8**-0.5, (64, 8))
    case = made.case(made.stuck(), made.steps(), weight=fresh)
    case.reached = frozenset(case.parameters)
    lost = case.parameters["first.weight"]
    lost.in_optimizer = False
    for step in case.steps:
        step.parameters["first.weight"].update = 0.0
    if exempt and how == "elsewhere":
        lost.elsewhere = True
    elif exempt and how == "changes":
        lost.initial = lost.initial + 1
    elif exempt:
        case.reached -= {"first.weight"}
    return case


def strangers(made: Any, exempt: bool) -> Case:
    """An optimizer that holds parameters of another model, and perhaps all of this one's."""
    case = made.case(made.stuck(), made.steps(ratio=0.0))
    assert case.optimizer is not None
    case.optimizer.strangers = [(8, 8)]
    for p in case.parameters.values():
        p.in_optimizer = exempt
    return case


def at_rest(made: Any, exempt: bool, how: str) -> Case:
    """One of the parameters has a gradient and never moves."""
    gradient = (0.0 if exempt and how == "gradient" else 0.5, 0.5, 0.5)
    case = made.case(made.stuck(), made.steps(ratio=(0.0, 2e-3, 2e-3), gradient=gradient))
    if exempt and how == "embedding":
        case.parameters["first.weight"].role = "embedding"
    elif exempt and how == "group":
        assert case.optimizer is not None
        case.optimizer.groups.append({"lr": 0.0, "names": ["first.weight"]})
    return case


def cut_off(made: Any, exempt: bool, how: str) -> Case:
    """A layer that is called, and gets no gradient."""
    case = made.case(made.stuck(), made.steps(gradient=(np.nan, 0.5, 0.5)))
    for step in case.steps:
        step.parameters["first.weight"].finite = True
    for layer in case.layers.values():
        layer.rows = 40
    if exempt and how == "never called":
        case.layers["first"].rows = 0
    elif exempt and how == "embedding":
        case.parameters["first.weight"].role = "embedding"
    elif exempt:  # one of several heads: it stands behind the others
        case.layers = dict(reversed(case.layers.items()))
    return case


TRAINED: dict[str, tuple[str, Build]] = {
    "random features": ("wrongly_frozen", partial(frozen, name="random_features")),
    "a teacher": ("wrongly_frozen", partial(frozen, name="teacher")),
    "a low-rank adapter beside it": ("wrongly_frozen", adapted),
    "another optimizer holds it": ("missing_from_optimizer", partial(left_out, how="elsewhere")),
    "it changes nevertheless": ("missing_from_optimizer", partial(left_out, how="changes")),
    "the loss does not depend on it": ("missing_from_optimizer", partial(left_out, how="reached")),
    "a further model in one optimizer": ("stale_optimizer", strangers),
    "gradients of 0": ("frozen_parameters", partial(at_rest, how="gradient")),
    "an embedding at rest": ("frozen_parameters", partial(at_rest, how="embedding")),
    "a group with a rate of 0": ("frozen_parameters", partial(at_rest, how="group")),
    "a layer that is never called": ("no_gradient", partial(cut_off, how="never called")),
    "an embedding without gradients": ("no_gradient", partial(cut_off, how="embedding")),
    "one of several heads": ("no_gradient", partial(cut_off, how="head")),
}  # fmt: skip


EXEMPT = {**INITIAL, **INPUTS, **STRUCTURE, **OUTPUTS, **TARGETS, **LOOP, **TRAINED}


@pytest.mark.parametrize("name", EXEMPT)
def test_the_fault_is_told_and_what_is_exempt_is_not(made: Any, name: str) -> None:
    rule, build = EXEMPT[name]
    assert alarms(rule, build(made, False)), "the fault"
    assert not alarms(rule, build(made, True)), "what is exempt"
