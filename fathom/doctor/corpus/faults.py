"""The faults: each an edit of a healthy recipe, with what counts as the right cause and place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fathom.doctor.corpus.parts import weighted
from fathom.doctor.corpus.recipe import Family, Fault, Recipe

Where = Callable[[Any, Recipe], Iterable[str]]


def has(*wanted: str, no: str = "") -> Callable[[Family], bool]:
    """Families that honour all of these, and none of those in `no`."""
    return lambda f: f.has >= set(wanted) and not f.has & set(no.split())


def has_any(*wanted: str) -> Callable[[Family], bool]:
    return lambda f: bool(f.has & set(wanted))


def both(*tests: Callable[[Family], bool]) -> Callable[[Family], bool]:
    return lambda f: all(test(f) for test in tests)


def everywhere(_: Family) -> bool:
    return True


def initialized(f: Family) -> bool:
    return bool(f.has & {"hidden", "recurrent", "weights"})


def looped(f: Family) -> bool:
    return "ownloop" not in f.has


# -- places -------------------------------------------------------------------------------------


def at(*names: str) -> Where:
    return lambda model, recipe: names


def layers(chosen: Callable[[list[str]], list[str]], *also: str) -> Where:
    return lambda model, recipe: [*chosen(weighted(model)), *also]


any_layer = layers(lambda n: n, "model", "network", "initialization")
hidden = layers(lambda n: n[:-1] or n, "model", "network", "initialization")
last = layers(lambda n: n[-1:], "output")
output = layers(lambda n: n[-1:], "output", "loss")
first_layer = layers(lambda n: n[:1], "inputs")
optimizer = at("optimizer", "learning rate", "lr")
frozen_layers = layers(lambda n: n[:-1] or n, "optimizer", "model")


def norms(model: Any, recipe: Recipe) -> Iterable[str]:
    return [n for n, m in model.named_modules() if "BatchNorm" in type(m).__name__]


def dropouts(model: Any, recipe: Recipe) -> Iterable[str]:
    return [n for n, m in model.named_modules() if "Dropout" in type(m).__name__] + ["model"]


def modes(model: Any, recipe: Recipe) -> Iterable[str]:
    return [*norms(model, recipe), *dropouts(model, recipe), "validation", "evaluation", "loop"]


# -- edits --------------------------------------------------------------------------------------


def change(field: str) -> Callable[[Recipe, Any], Recipe]:
    return lambda r, v: r.but(**{field: v})


def fixed(**changes: Any) -> Callable[[Recipe, Any], Recipe]:
    return lambda r, v: r.but(**changes)


def times(field: str) -> Callable[[Recipe, Any], Recipe]:
    return lambda r, v: r.but(**{field: getattr(r, field) * v})


def init(kind: str) -> Callable[[Recipe, Any], Recipe]:
    return lambda r, v: r.but(init=kind, init_value=v)


def inputs(kind: str) -> Callable[[Recipe, Any], Recipe]:
    return lambda r, v: r.but(inputs=kind, input_value=v or 0.0)


def targets(kind: str) -> Callable[[Recipe, Any], Recipe]:
    return lambda r, v: r.but(targets=kind, target_value=v or 0.0)


def gentle(r: Recipe, value: float) -> Recipe:
    """A decay of the weights; for AdamW it works through the learning rate alone."""
    return r.but(weight_decay=value / r.lr / 20 if r.optimizer == "adamw" else value)


def stack(r: Recipe, value: int) -> Recipe:
    return r.but(activation="sigmoid", depth=value, norm="")


def plain_sgd(f: Family) -> bool:
    return f.recipe.optimizer in ("sgd", "nesterov")


def logits(f: Family) -> bool:
    """Class scores as logits: a cross-entropy behind them."""
    return "classes" in f.has and "tail" in f.has and not f.recipe.output


def log_probabilities(f: Family) -> bool:
    return f.recipe.output == "log_softmax"


def library_loss(f: Family) -> bool:
    return not f.recipe.loss.startswith("own")


def rectified(f: Family) -> bool:
    return "hidden" in f.has and f.recipe.activation == "relu" and not f.recipe.norm


ADAM_LIKE = ("adam", "adamw", "rmsprop")


def rate(r: Recipe, value: float) -> Recipe:
    return r.but(lr=r.lr * value, schedule="" if "onecycle" in r.schedule else r.schedule)


def few_rows(r: Recipe, value: int) -> Recipe:
    return r.but(rows=value, batch=min(r.batch, value), steps=int(r.steps * 2.5), dropout=0.0,
                 weight_decay=0.0, width=r.width * 2, schedule="")  # fmt: skip


def one_softmax(r: Recipe, value: Any) -> Recipe:
    return r.but(output="softmax", loss="bce")


def broadcast(r: Recipe, value: str) -> Recipe:
    return r.but(targets="reshaped", loss="own_mse" if value == "own" else r.loss)


def short(r: Recipe, value: float) -> Recipe:
    return r.but(steps=max(int(r.steps * value), 5), lr=r.lr / 2)


TABLE: list[Fault] = [
    # learning rate and regularization
    Fault("lr_too_high", ("learning_rate_too_high",), rate, everywhere, optimizer,
          {"x30": 30.0, "x300": 300.0, "x10000": 1e4}),
    Fault("lr_too_low", ("learning_rate_too_low",), rate, everywhere, optimizer,
          {"x1e-3": 1e-3, "x1e-5": 1e-5}),
    Fault("lr_zero", ("learning_rate_too_low", "frozen_parameters"), times("lr"), everywhere,
          layers(lambda n: n, "optimizer", "learning rate", "lr"), {"x0": 0.0}),
    Fault("hasty_schedule", ("learning_rate_too_low",), fixed(schedule="hasty@batch"), looped,
          optimizer),
    Fault("momentum_too_high", ("learning_rate_too_high",), fixed(momentum=0.999),
          both(plain_sgd), optimizer),
    Fault("weight_decay", ("strong_regularization",), gentle, everywhere, optimizer,
          {"1": 1.0, "10": 10.0}),
    Fault("dropout_95", ("dropout_too_strong",), change("dropout"), has("dropout"), dropouts,
          {"0.9": 0.9, "0.98": 0.98}),
    Fault("too_few_steps", ("still_improving", "underfitting"), short, everywhere,
          at("run", "steps", "model", "optimizer", "loop", "loss"), {"8 %": 0.08}, advice=True),
    Fault("overfitting", ("overfitting",), few_rows,
          both(has("validation"), has_any("classes", "logit", "probability", "amounts")),
          at("model", "data", "inputs", "run", "validation", "network", "loss"),
          {"24": 24, "40": 40}),
    # initial weights
    Fault("zeros", ("symmetric_initialization",), init("zeros"), initialized, any_layer,
          {"0": 0.0}),
    Fault("constant", ("symmetric_initialization", "duplicate_units"), init("constant"),
          initialized, any_layer, {"0.05": 0.05, "0.5": 0.5}),
    Fault("gain_large", ("initialization_scale", "initial_loss"), init("gain"), initialized,
          any_layer, {"x10": 10.0, "x50": 50.0}),
    Fault("gain_small", ("initialization_scale", "vanishing_gradients"), init("gain"),
          initialized, any_layer, {"x0.03": 0.03, "x0.001": 0.001}),
    Fault("last_large", ("initial_loss", "initialization_scale"), init("last"), initialized,
          last, {"x100": 100.0}),
    Fault("dead_bias", ("dead_units", "initialization_scale"), init("bias"), rectified, hidden,
          {"-3": -3.0, "-20": -20.0}),
    Fault("saturated_bias", ("saturated_units", "initialization_scale"), init("bias"),
          lambda f: f.recipe.activation in ("tanh", "sigmoid"), hidden, {"8": 8.0}),
    Fault("twins", ("duplicate_units", "symmetric_initialization"), init("twins"), has("hidden"),
          hidden, {"1": 1, "2": 2}),
    Fault("recurrent_gain", ("exploding_gradients", "initialization_scale"), init("recurrent"),
          has("recurrent"), any_layer, {"x4": 4.0, "x20": 20.0}),
    # architecture
    Fault("sigmoid_stack", ("vanishing_gradients",), stack, has("deep", "hidden"), hidden,
          {"6": 6, "12": 12}),
    Fault("no_activation", ("no_nonlinearity",), fixed(activation="none"), has("hidden"), hidden),
    Fault("bottleneck", ("bottleneck",), fixed(bottleneck=1), has("middle"), hidden),
    Fault("width_one", ("bottleneck", "underfitting"), fixed(width=1), has("deep", "hidden"),
          hidden),
    # output and loss
    Fault("softmax_before_ce", ("softmax_before_cross_entropy",), fixed(output="softmax"), logits,
          output, always=True),
    Fault("softmax_before_log_softmax", ("probabilities_expected", "softmax_before_cross_entropy"),
          fixed(output="softmax"), log_probabilities, output, always=True),
    Fault("sigmoid_before_ce", ("activation_on_logits", "softmax_before_cross_entropy"),
          fixed(output="sigmoid"), logits, output),
    Fault("sigmoid_before_bce", ("sigmoid_before_bce_with_logits",), fixed(output="sigmoid"),
          has("logit", "tail"), output, always=True),
    Fault("relu_on_logits", ("activation_on_logits",), fixed(output="relu"),
          lambda f: logits(f) or ("logit" in f.has and "tail" in f.has), output),
    Fault("tanh_on_logits", ("activation_on_logits",), fixed(output="tanh"),
          lambda f: logits(f) or ("logit" in f.has and "tail" in f.has), output),
    Fault("dropout_on_logits", ("activation_on_logits", "dropout_too_strong"),
          fixed(output="dropout"), logits, output),
    Fault("one_unit_softmax", ("one_unit_softmax",), one_softmax,
          has_any("logit", "probability"), output, always=True),
    Fault("batch_softmax", ("softmax_wrong_axis",),
          fixed(output="batch_log_softmax", loss="nll"),
          lambda f: logits(f) or log_probabilities(f), output, always=True),
    Fault("raw_into_nll", ("probabilities_expected",), fixed(output="", loss="nll"),
          lambda f: logits(f) or log_probabilities(f), output, always=True),
    Fault("sigmoid_output", ("unreachable_targets",), fixed(output="sigmoid"),
          has("amounts", "tail"), output),
    Fault("tanh_output", ("unreachable_targets", "target_scale"),
          lambda r, v: r.but(output="tanh", targets="scale", target_value=v),
          has("amounts", "tail"), layers(lambda n: n[-1:], "output", "loss", "targets"),
          {"x20": 20.0}),
    Fault("relu_output", ("unreachable_targets",), fixed(output="relu"), has("amounts", "tail"),
          output),
    Fault("class_numbers", ("wrong_loss",), fixed(loss="ids", output=""),
          lambda f: "classes" in f.has and f.recipe.loss != "own_ce" and "tail" in f.has,
          at("loss", "targets", "output")),
    Fault("class_numbers_sigmoid", ("wrong_loss", "unreachable_targets"),
          fixed(loss="ids", output="sigmoid"),
          lambda f: "classes" in f.has and "tail" in f.has, at("loss", "targets", "output")),
    Fault("broadcast", ("loss_broadcast",), broadcast, has("amounts", "tail"),
          at("loss", "targets", "output"), {"library": "library", "own": "own"}, always=True,
          engines={"library": "torch"}),
    Fault("sum_reduction", ("sum_reduction", "learning_rate_too_high"), fixed(reduction="sum"),
          both(plain_sgd, library_loss), at("loss", "optimizer")),
    Fault("naive_log", ("non_finite", "input_scale"),
          lambda r, v: r.but(loss="own_nll", inputs="scale", input_value=v),
          lambda f: logits(f) and "inputs" in f.has, at("loss", "output", "inputs"),
          {"x300": 300.0}),
    Fault("naive_bce", ("non_finite", "input_scale"),
          lambda r, v: r.but(loss="own_bce", inputs="scale", input_value=v),
          has("logit", "inputs"), at("loss", "output", "inputs"), {"x300": 300.0}),
    Fault("wrong_sign", ("loss_below_bound", "not_learning", "learning_rate_too_high"),
          fixed(loss="own_sign"), logits, at("loss", "output"), always=True),
    # data
    Fault("raw_inputs", ("input_scale",), inputs("scale"), has("inputs"), first_layer,
          {"x255": 255.0, "x5000": 5000.0}),
    Fault("tiny_inputs", ("input_scale",), inputs("scale"), has("inputs"), first_layer,
          {"x1e-3": 1e-3, "x1e-5": 1e-5}),
    Fault("offset_inputs", ("input_scale",), inputs("offset"), has("inputs"), first_layer,
          {"+100": 100.0, "+1000": 1000.0}),
    Fault("one_feature", ("input_scale",), inputs("one"), has("inputs"), first_layer,
          {"x1e4": 1e4}),
    Fault("nan_inputs", ("non_finite",), inputs("nan"), has("inputs"), first_layer, always=True),
    Fault("nan_targets", ("non_finite",), targets("nan"), has("amounts"),
          at("targets", "loss", "output"), always=True),
    Fault("zero_inputs", ("inputs_constant",), inputs("zeros"), has("inputs"), first_layer),
    Fault("same_inputs", ("inputs_constant",), inputs("same"), has("inputs"), first_layer),
    Fault("raw_targets", ("target_scale",), targets("scale"), has("amounts", "tail"),
          at("targets", "output", "loss"), {"x300": 300.0, "x1e5": 1e5}),
    Fault("offset_targets", ("target_scale",), targets("offset"), has("amounts", "tail"),
          at("targets", "output", "loss"), {"+200": 200.0, "+5000": 5000.0}),
    Fault("permuted_labels", ("no_signal", "permuted_labels", "overfitting"), targets("permuted"),
          has_any("classes", "logit", "probability", "amounts"),
          at("targets", "data", "inputs", "loss")),
    Fault("labels_one_two", ("label_range",), targets("shifted"), has("logit"),
          at("targets", "loss"), always=True),
    Fault("labels_signed", ("label_range",), targets("signed"), has("logit"),
          at("targets", "loss"), always=True),
    Fault("labels_divided", ("label_range", "loss_zero_at_start", "no_signal"), targets("tiny"),
          both(has("classes"), library_loss), at("targets", "loss", "output")),
    # usage
    Fault("no_zero_grad", ("missing_zero_grad",), fixed(zero_grad="never"), everywhere,
          at("optimizer", "loop"), usage=True, always=True),
    Fault("cleared", ("gradients_cleared",), fixed(zero_grad="between"), everywhere,
          at("optimizer", "loop"), usage=True, always=True),
    Fault("no_step", ("missing_step",), fixed(step=False), everywhere, at("optimizer", "loop"),
          usage=True, always=True),
    Fault("only_head", ("missing_from_optimizer",), fixed(gets="head"), everywhere,
          frozen_layers, usage=True, always=True),
    Fault("no_head", ("missing_from_optimizer",), fixed(gets="body"), everywhere,
          layers(lambda n: n[-1:], "optimizer"), usage=True, always=True),
    Fault("no_first", ("missing_from_optimizer",), fixed(gets="tail"), everywhere,
          layers(lambda n: n[:1], "optimizer"), usage=True, always=True),
    Fault("former_model", ("stale_optimizer", "missing_from_optimizer"), fixed(gets="former"),
          everywhere, at("optimizer"), usage=True, always=True),
    Fault("frozen_body", ("wrongly_frozen", "frozen_parameters"), fixed(frozen="body"),
          everywhere, frozen_layers, usage=True),
    Fault("frozen_first", ("wrongly_frozen", "frozen_parameters"), fixed(frozen="first"),
          everywhere, layers(lambda n: n[:1], "model"), usage=True),
    Fault("detached", ("no_gradient", "frozen_parameters"), fixed(detach=True), has("cut"),
          frozen_layers, usage=True, always=True),
    Fault("plain_list", ("missing_from_optimizer", "no_gradient"), fixed(unlisted=True),
          has("listed"), lambda m, r: ["optimizer", "model", "network", ""], usage=True),
    Fault("eval_from_start", ("eval_mode_in_training",), fixed(mode="eval"),
          has_any("batchnorm", "dropout"), modes, usage=True, always=True),
    Fault("eval_forgotten", ("eval_mode_in_training",), fixed(mode="forgot"),
          both(has("validation"), has_any("batchnorm", "dropout")), modes, usage=True, always=True,
          onset=("",)),
    Fault("noisy_evaluation", ("train_mode_in_evaluation",), fixed(mode="noisy"),
          both(has("validation"), has_any("batchnorm", "dropout")), modes, usage=True,
          always=True, onset=("",)),
    Fault("stale_statistics", ("train_eval_gap",), change("memory"),
          has("batchnorm", "validation"), modes, {"1e-4": 1e-4, "0": 0.0}, onset=("1e-4", "0")),
    Fault("batch_of_two", ("batchnorm_few_samples",), fixed(batch=2), has("batchnorm"), norms,
          usage=True),
]  # fmt: skip

FAULTS: dict[str, Fault] = {fault.name: fault for fault in TABLE}

__all__ = ["FAULTS", "TABLE"]
