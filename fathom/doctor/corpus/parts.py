"""What programs are put together from: each part honours the recipe, and so carries its faults."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fathom.doctor.case import WEIGHTED
from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import Data, prepared
from fathom.doctor.corpus.recipe import Recipe
from fathom.engine.errors import ArgumentError
from fathom.engine.random import Random

MODULES = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "tanh": "Tanh", "sigmoid": "Sigmoid",
           "gelu": "GELU", "silu": "SiLU", "elu": "ELU", "selu": "SELU",
           "none": "Identity"}  # fmt: skip


class Build:
    """Makes the parts of one program."""

    def __init__(self, api: Api, recipe: Recipe, seed: int) -> None:
        self.api, self.recipe, self.seed = api, recipe, seed
        self.nn, self.F = api.nn, api.F
        self.random = Random(seed)

    # -- networks -----------------------------------------------------------------------------

    @property
    def widths(self) -> list[int]:
        """Units of each hidden layer."""
        found = [self.recipe.width] * self.recipe.depth
        if self.recipe.bottleneck:
            found[len(found) // 2] = self.recipe.bottleneck
        return found

    def outputs(self, classes: int) -> int:
        """Units of the last layer."""
        return 1 if self.recipe.loss == "ids" else classes

    def act(self) -> Any:
        """The hidden activation as a module."""
        return getattr(self.nn, MODULES[self.recipe.activation])()

    def f(self, x: Any) -> Any:
        """The hidden activation as a function."""
        name = self.recipe.activation
        if name == "none":
            return x
        return getattr(self.api if name in ("tanh", "sigmoid") else self.F, name)(x)

    def norm(self, width: int, axes: int = 1) -> list[Any]:
        """The normalization behind a layer of `width` units or channels, if there is one."""
        match self.recipe.norm:
            case "batch":
                made = self.nn.BatchNorm1d if axes == 1 else self.nn.BatchNorm2d
                return [made(width, momentum=self.recipe.memory)]
            case "layer":
                return [self.nn.LayerNorm(width) if axes == 1 else self.nn.GroupNorm(1, width)]
            case "group":
                return [self.nn.GroupNorm(min(4, width), width)]
        return []

    def drop(self) -> list[Any]:
        """A dropout layer, if there is one."""
        return [self.nn.Dropout(self.recipe.dropout)] if self.recipe.dropout else []

    def tail(self) -> list[Any]:
        """What stands behind the last layer, as modules."""
        match self.recipe.output:
            case "":
                return []
            case "softmax":
                return [self.nn.Softmax(dim=-1)]
            case "log_softmax":
                return [self.nn.LogSoftmax(dim=-1)]
            case "batch_log_softmax":
                return [self.nn.LogSoftmax(dim=0)]
            case "dropout":
                return [self.nn.Dropout(0.5)]
            case name:
                return [getattr(self.nn, MODULES[name])()]

    def out(self, x: Any) -> Any:
        """The same as a function."""
        match self.recipe.output:
            case "":
                return x
            case "softmax":
                return self.F.softmax(x, dim=-1)
            case "log_softmax":
                return self.F.log_softmax(x, dim=-1)
            case "batch_log_softmax":
                return self.F.log_softmax(x, dim=0)
            case "dropout":
                return self.F.dropout(x, 0.5)
            case "relu":
                return self.F.relu(x)
            case name:
                return getattr(self.api, name)(x)

    def cut(self, x: Any) -> Any:
        """Half-way through the network."""
        return x.detach() if self.recipe.detach else x

    def listed(self, layers: list[Any]) -> Any:
        """Layers in a `ModuleList`, or in a plain list, which `parameters()` does not look into."""
        return layers if self.recipe.unlisted else self.nn.ModuleList(layers)

    def mlp(self, inputs: int, outputs: int) -> Any:
        """Linear, norm, activation, dropout for each hidden layer, and a last Linear."""
        layers: list[Any] = []
        before = inputs
        for width in self.widths:
            layers += [self.nn.Linear(before, width), *self.norm(width), self.act(), *self.drop()]
            before = width
        return self.nn.Sequential(*layers, self.nn.Linear(before, outputs), *self.tail())

    def ready(self, model: Any) -> Any:
        """The model with its initial weights, and with what is frozen."""
        initialize(self.api, model, self.recipe)
        layers = weighted(model)
        if self.recipe.frozen == "first":
            freeze(model, lambda name: owner(name, layers) == layers[0])
        elif self.recipe.frozen == "body":
            freeze(model, lambda name: owner(name, layers) != layers[-1])
        return model

    # -- training -----------------------------------------------------------------------------

    def data(self, data: Data, column: bool = False) -> Data:
        """The data as the recipe wants it; binary targets as a column of numbers if asked for."""
        if column or self.recipe.loss == "ids":
            data = replace(data, y=data.y.astype(np.float32).reshape(-1, 1),
                           vy=data.vy.astype(np.float32).reshape(-1, 1))  # fmt: skip
        return prepared(data, self.recipe, self.seed)

    def optimizer(self, model: Any, **options: Any) -> Any:
        """The optimizer, with the parameters the recipe gives it."""
        layers = weighted(model)
        named = list(model.named_parameters())
        match self.recipe.gets:
            case "head":
                chosen = [p for n, p in named if owner(n, layers) == layers[-1]]
            case "body":
                chosen = [p for n, p in named if owner(n, layers) != layers[-1]]
            case "tail":
                chosen = [p for n, p in named if owner(n, layers) != layers[0]]
            case "former":
                chosen = list(copy.deepcopy(model).parameters())
            case _:
                chosen = list(model.parameters())
        return self.optimizer_of(chosen, **options)

    def optimizer_of(self, parameters: Any, **options: Any) -> Any:
        """The recipe's kind of optimizer for these parameters."""
        r, optim = self.recipe, self.api.optim
        common = {"lr": r.lr, "weight_decay": r.weight_decay, **options}
        match r.optimizer:
            case "sgd":
                return optim.SGD(parameters, momentum=r.momentum, **common)
            case "nesterov":
                return optim.SGD(parameters, momentum=r.momentum or 0.9, nesterov=True, **common)
            case "adam":
                return optim.Adam(parameters, **common)
            case "adamw":
                return optim.AdamW(parameters, **common)
            case "rmsprop":
                return optim.RMSprop(parameters, **common)
            case "adagrad":
                return optim.Adagrad(parameters, **common)
        raise ArgumentError(f"no optimizer {r.optimizer!r} in the corpus")

    def scheduler(self, optimizer: Any, epoch: int) -> Any:
        """The schedule, or None; it is stepped as its name says ("cosine@batch")."""
        r, schedules = self.recipe, self.api.optim.lr_scheduler
        epochs = max(r.steps // max(epoch, 1), 1)
        match r.schedule.split("@")[0]:
            case "":
                return None
            case "cosine":
                return schedules.CosineAnnealingLR(
                    optimizer, r.steps if r.schedule.endswith("batch") else epochs
                )
            case "step":
                return schedules.StepLR(optimizer, max(epochs // 3, 1), gamma=0.3)
            case "exponential":
                return schedules.ExponentialLR(optimizer, 0.9)
            case "hasty":
                return schedules.ExponentialLR(optimizer, 0.5)
            case "warmup":
                warm = max(r.steps // 10, 1)
                return schedules.LambdaLR(optimizer, lambda t: min((t + 1) / warm, 1.0))
            case "onecycle":
                return schedules.OneCycleLR(optimizer, max_lr=r.lr, total_steps=r.steps + 2)
        raise ArgumentError(f"no schedule {r.schedule!r} in the corpus")

    def criterion(self) -> Any:
        """The loss function, a module or a function."""
        return criterion(self.api, self.recipe)


def criterion(api: Api, recipe: Recipe) -> Any:
    """A loss by its short name: a module ("ce"), a function ("F.ce") or written out ("own_ce")."""
    nn, F, reduction = api.nn, api.F, recipe.reduction
    if recipe.loss in OWN:
        return OWN[recipe.loss](api)
    functional = recipe.loss.startswith("F.")
    name = recipe.loss.removeprefix("F.")
    options: dict[str, Any] = {} if reduction == "mean" else {"reduction": reduction}
    if name == "ce" and recipe.smoothing:
        options["label_smoothing"] = recipe.smoothing
    module, function = LOSSES[name]
    if not functional:
        return getattr(nn, module)(**options)
    chosen = getattr(F, function)
    return (lambda output, target: chosen(output, target, **options)) if options else chosen


LOSSES = {
    "ce": ("CrossEntropyLoss", "cross_entropy"),
    "nll": ("NLLLoss", "nll_loss"),
    "bce": ("BCELoss", "binary_cross_entropy"),
    "bce_logits": ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits"),
    "mse": ("MSELoss", "mse_loss"),
    "l1": ("L1Loss", "l1_loss"),
    "huber": ("SmoothL1Loss", "smooth_l1_loss"),
}


def _own_ce(api: Api) -> Any:
    def loss(logits: Any, labels: Any) -> Any:
        chosen = (logits * api.F.one_hot(labels, logits.shape[-1])).sum(-1)
        return (api.logsumexp(logits, -1) - chosen).mean()

    return loss


def _own_sign(api: Api) -> Any:
    """The minus of the log-likelihood is forgotten."""

    def loss(logits: Any, labels: Any) -> Any:
        log_p = api.F.log_softmax(logits, dim=-1)
        return (log_p * api.F.one_hot(labels, logits.shape[-1])).sum(-1).mean()

    return loss


def _own_nll(api: Api) -> Any:
    def loss(logits: Any, labels: Any) -> Any:
        p = api.exp(logits) / api.exp(logits).sum(-1, keepdim=True)
        return -(api.F.one_hot(labels, logits.shape[-1]) * api.log(p)).sum(-1).mean()

    return loss


def _own_bce(api: Api) -> Any:
    def loss(logits: Any, labels: Any) -> Any:
        p = api.sigmoid(logits)
        return -(labels * api.log(p) + (1 - labels) * api.log(1 - p)).mean()

    return loss


def _own_mse(api: Api) -> Any:
    return lambda output, target: ((output - target) ** 2).mean()


def _ids(api: Api) -> Any:
    mse = api.nn.MSELoss()
    return lambda output, target: mse(output, target)


OWN: dict[str, Callable[[Api], Any]] = {
    "own_ce": _own_ce, "own_nll": _own_nll, "own_bce": _own_bce, "own_mse": _own_mse,
    "own_sign": _own_sign, "ids": _ids,
}  # fmt: skip


# -- weights ----------------------------------------------------------------------------------


def weighted(model: Any) -> list[str]:
    """Names of the layers with weights, in order; "" if the model is one itself."""
    return [n for n, m in model.named_modules() if type(m).__name__ in WEIGHTED]


def owner(parameter: str, layers: list[str]) -> str:
    """The last weighted layer at or before a parameter's layer, in order of the names given."""
    module = parameter.rpartition(".")[0]
    return next((n for n in layers if n == module), "")


def freeze(model: Any, chosen: Callable[[str], bool]) -> None:
    """No gradients for the parameters whose names are chosen."""
    for name, parameter in model.named_parameters():
        if chosen(name):
            parameter.requires_grad_(False)


def put(api: Api, parameter: Any, values: Any) -> None:
    """Write values into a parameter."""
    with api.no_grad():
        parameter.copy_(api.tensor(np.asarray(values, np.float32)))


def initialize(api: Api, model: Any, recipe: Recipe) -> None:
    """Change the initial weights as the recipe wants."""
    if not recipe.init:
        return
    layers, value = weighted(model), recipe.init_value
    hidden = layers[:-1] or layers
    for name, parameter in model.named_parameters():
        of, now = owner(name, layers), api.numpy(parameter)
        if of not in layers or (not of and "" not in layers):
            continue
        matrix = now.ndim > 1
        match recipe.init:
            case "zeros" | "constant":
                put(api, parameter, np.full_like(now, value if matrix else 0.0))
            case "gain" if matrix:
                put(api, parameter, now * value)
            case "last" if of == layers[-1]:
                put(api, parameter, now * value)
            case "bias" if of in hidden and not matrix:
                put(api, parameter, np.full_like(now, value))
            case "twins" if of in hidden and len(now) > 1:
                put(api, parameter, now[np.arange(len(now)) % max(int(value), 1)])
            case "recurrent" if "weight_hh" in name:
                put(api, parameter, now * value)


__all__ = [
    "Build", "criterion", "freeze", "initialize", "owner", "put", "weighted",
]  # fmt: skip
