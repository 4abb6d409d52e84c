"""The edits of a Fathom model and its optimizer; `FathomPatient` carries them out on its copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom import nn, optim
from fathom.doctor.adapters.fathom_between import Between
from fathom.doctor.adapters.fathom_facts import kind_of
from fathom.doctor.adapters.fathom_rewrite import FUNCTIONS, Rewrite
from fathom.doctor.adapters.model_edits import WIDE, ModelEdits
from fathom.doctor.adapters.scoring import BINARY, CLASSIFYING
from fathom.doctor.finding import Edit
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array, Tensor, mark_written
from fathom.nn import functional as F
from fathom.nn.module import Module


class FathomEdits(ModelEdits):
    """See `model_edits.ModelEdits`."""

    optimizer_kind: type[optim.Optimizer]
    between: Between
    rewrite: Rewrite
    activations = FUNCTIONS

    # -- optimizer -----------------------------------------------------------------------------

    def edit_lr(self, edit: Edit) -> None:
        for group in self._groups():
            group["lr"] *= float(edit.value)
        self.scale *= float(edit.value)

    scale: float = 1.0  # of the learning rates of a schedule

    def edit_optimizer(self, edit: Edit) -> None:
        name, lr = edit.value
        self.optimizer_kind = getattr(optim, name)
        self.optimizer = self.optimizer_kind(self._trainable(), lr=lr)  # type: ignore[call-arg]

    def edit_momentum(self, edit: Edit) -> None:
        groups = [g for g in self._groups() if "momentum" in g]
        if not groups:
            raise ArgumentError("the optimizer has no momentum")
        for group in groups:
            group["momentum"] = float(edit.value)
        self._remade(self._groups())

    def edit_rebuild_optimizer(self, edit: Edit) -> None:
        self._register()
        group = dict(max(self._groups(), key=lambda g: float(g["lr"])))
        group["lr"] = group["lr"] or 1e-3
        self._remade([{**group, "params": self._trainable()}])

    def _register(self) -> None:
        """Modules in plain lists and dicts become modules of the model."""
        for module in list(self.model.modules()):
            for name, value in list(vars(module).items()):
                if name.startswith("_") or not isinstance(value, dict | list | tuple):
                    continue
                parts = value.values() if isinstance(value, dict) else value
                found = [m for m in parts if isinstance(m, Module)]
                if found:
                    module.add_module(f"{name}_of_the_copy", nn.ModuleList(found))

    def _trainable(self) -> list[Any]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _remade(self, groups: Sequence[dict[str, Any]]) -> None:
        """The optimizer anew, its options in place, its state empty."""
        try:
            made = self.optimizer_kind([{"params": g["params"]} for g in groups])  # type: ignore[call-arg]
        except Exception as error:
            raise ArgumentError(f"the optimizer cannot be made anew: {error}") from None
        for new, group in zip(made.param_groups, groups, strict=True):
            new.update({k: v for k, v in group.items() if k not in ("params", "initial_lr")})
        self.optimizer = made

    # -- weights -------------------------------------------------------------------------------

    def edit_initialize(self, edit: Edit) -> None:
        for module in self._chosen(edit.target):
            self._fresh(module, str(edit.value or ""))

    def _fresh(self, module: Any, rule: str) -> None:
        known = hasattr(module, "reset_parameters")
        if known:
            module.reset_parameters()
        own = {n: p for n, p in module._parameters.items() if p is not None}
        for name, p in own.items():
            if p.ndim > 1 and (not known or (rule and name == "weight")):
                make = nn.init.xavier_uniform_ if rule == "xavier" else nn.init.kaiming_normal_
                make(p)
            elif name == "bias" and (not known or rule):
                nn.init.zeros_(p)

    def edit_initialize_output(self, edit: Edit) -> None:
        """Fresh weights, a tenth of their size, and a bias at the base rates."""
        last = self._last()
        self._fresh(last, "")
        last.weight.data *= last.weight.dtype.type(0.1)
        mark_written(last.weight)
        if getattr(last, "bias", None) is not None:
            rates = self._base_rates(last.bias.size)
            last.bias.data[...] = 0.0 if rates is None else rates
            mark_written(last.bias)

    def _base_rates(self, units: int) -> Array | None:
        """The bias that is the best constant answer; None where that is not known."""
        rows = np.concatenate([np.asarray(t).reshape(-1) for _, t in self.batches])
        floats = rows.dtype.kind == "f"
        if self.function in CLASSIFYING and not floats:
            counts = np.bincount(rows[(rows >= 0) & (rows < units)], minlength=units)
            shares: Array = np.log((counts + 1) / (counts.sum() + units))
            return shares if units > 1 else None
        if rows.size % units:
            return None
        mean: Array = rows.reshape(-1, units).astype(np.float64).mean(axis=0)
        if self.function in BINARY:
            inside = np.clip(mean, 0.01, 0.99)
            return np.asarray(np.log(inside / (1 - inside)))
        return mean if units == 1 else None

    def edit_widen(self, edit: Edit) -> None:
        """More units in a narrow Linear layer, and in narrow ones right behind it."""
        linears: list[tuple[str, Any]] = [
            (n, m) for n, m in self.model.named_modules() if kind_of(m) == "Linear"
        ]
        names = [n for n, _ in linears]
        at = names.index(edit.target) if edit.target in names else -1
        if at < 0 or at + 1 >= len(linears):
            raise ArgumentError("only Linear layers with another behind them can be widened")
        narrow = linears[at][1].out_features
        width = min(WIDE, max(linears[at][1].in_features, linears[at + 1][1].out_features, 8))
        last = at
        while last + 2 < len(linears) and linears[last + 1][1].out_features == narrow:
            last += 1
        for i in range(at, last + 2):
            name, old = linears[i]
            ins = old.in_features if i == at else width
            outs = width if i <= last else old.out_features
            self._put(name, nn.Linear(ins, outs, old.bias is not None))
        self._widen_norms(narrow, width)
        self._fits()
        self.edit_rebuild_optimizer(edit)

    def _widen_norms(self, narrow: int, width: int) -> None:
        for name, found in list(self.model.named_modules()):
            module: Any = found
            if kind_of(module) == "BatchNorm1d" and module.num_features == narrow:
                self._put(name, nn.BatchNorm1d(width))
            elif kind_of(module) == "LayerNorm" and tuple(module.normalized_shape) == (narrow,):
                self._put(name, nn.LayerNorm(width))

    def edit_classes(self, edit: Edit) -> None:
        """A unit for each label in the last layer, and cross-entropy on them."""
        last, values = self._last(), self.label_values()
        if kind_of(last) != "Linear" or len(values) < 2:
            raise ArgumentError("the last layer is no Linear layer that could get more units")
        if last.out_features != len(values):
            self._put(self.last, nn.Linear(last.in_features, len(values), last.bias is not None))
        shape = (-1, len(values))
        self.edit_labels(edit)
        self.batches = [(x, t.reshape(-1)) for x, t in self.batches]
        self.held = tuple((x, t.reshape(-1)) for x, t in self.held)
        self.between = Between(self.between.place, "", lambda z: z.reshape(shape))
        self.edit_drop_output_activation(edit)
        self.function, self.options = "cross_entropy", {"reduction": "mean"}
        self._fits()
        self.edit_rebuild_optimizer(edit)

    def _fits(self) -> None:
        """One forward pass: does it still go together?"""
        self.answers(self.batches[:1])

    # -- forward -------------------------------------------------------------------------------

    def edit_activation(self, edit: Edit) -> None:
        if edit.value not in FUNCTIONS:
            raise ArgumentError(f"no activation {edit.value!r} for a trial")
        modules = dict(self.model.named_modules())
        module = modules.get(edit.target)
        if edit.target and module is not None and not list(module.parameters()):
            self._put(edit.target, _Applied(FUNCTIONS[edit.value]))
            return
        self.rewrite.swaps[edit.target] = FUNCTIONS[edit.value]
        self.answers(self.batches[:1])
        if not self.rewrite.swapped:
            del self.rewrite.swaps[edit.target]
            raise ArgumentError(f"no activation was seen behind {edit.target or 'any layer'}")

    def edit_drop_output_activation(self, edit: Edit) -> None:
        self._last()
        self.rewrite.drop_outputs = self.plain_output = True

    def edit_dropout(self, edit: Edit) -> None:
        for module in self._chosen(edit.target):
            if kind_of(module).endswith("ropout"):
                module.p = float(edit.value)

    # -- data ----------------------------------------------------------------------------------

    def edit_scale_inputs(self, edit: Edit) -> None:
        """By feature of rows and sequences, by channel of images."""
        first = [inputs[0] for inputs, _ in self.batches]
        if not isinstance(first[0], Tensor) or first[0].dtype.kind != "f":
            raise ArgumentError("the model's first input is not a float tensor")
        axis = 1 if first[0].ndim >= 4 else first[0].ndim - 1
        width = first[0].shape[axis]
        rows = np.concatenate([np.moveaxis(x.value(), axis, -1).reshape(-1, width) for x in first])
        rows = rows.astype(np.float64)
        mean, std = rows.mean(axis=0), rows.std(axis=0)
        if first[0].ndim == 2:  # a feature that is nearly constant: pixels at the rim
            std = np.where(std > 1e-3 * std.max(), std, max(float(std.max()), 1e-12))
        std = np.where(std > 1e-12, std, 1.0)
        shape = [1] * first[0].ndim
        shape[axis] = -1

        def scaled(x: Tensor) -> Tensor:
            moved = (x.value() - mean.reshape(shape)) / std.reshape(shape)
            return Tensor(moved.astype(x.dtype))

        self.batches = [((scaled(x[0]), *x[1:]), t) for x, t in self.batches]
        self.held = tuple(((scaled(x[0]), *x[1:]), t) for x, t in self.held)

    def numbered(self, target: Any, values: Array) -> Tensor:
        return Tensor(np.searchsorted(values, np.asarray(target)))

    def joined(self, parts: Sequence[Any]) -> Tensor:
        return Tensor(np.concatenate([np.asarray(part) for part in parts]))

    def softmax(self, output: Any, kind: str) -> Any:
        axis = -1 if output.ndim <= 2 else 1
        kinds: dict[str, Any] = {
            "softmax": lambda z: F.softmax(z, axis), "sigmoid": F.sigmoid,
            "log_softmax": lambda z: F.log_softmax(z, axis), "identity": lambda z: z,
        }  # fmt: skip
        return kinds[kind](output)

    # -- inside --------------------------------------------------------------------------------

    def kind(self, module: Any) -> str:
        return kind_of(module)

    def is_float(self, p: Any) -> bool:
        return bool(p.dtype.kind == "f")

    @staticmethod
    def normalized(output: Any) -> Any:
        axes = output.shape[-1:] if output.ndim == 3 else output.shape[1:]
        return F.layer_norm(output, axes)

    def group_norm(self, groups: int, old: Any) -> Any:
        return nn.GroupNorm(groups, old.num_features)

    def _last(self) -> Any:
        found = dict(self.model.named_modules()).get(self.last)
        if found is None or "weight" not in found._parameters:
            raise ArgumentError("the last layer is not known")
        return found

    def _put(self, name: str, module: Module) -> None:
        old = dict(self.model.named_modules())[name]
        module.train(old.training)
        module._hooks.extend(old._hooks)  # layers that are followed stay so
        parent, _, own = name.rpartition(".")
        if not name:
            self.model = module
        else:
            setattr(self.model.get_submodule(parent), own, module)


class _Applied(Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


__all__ = ["FathomEdits"]
