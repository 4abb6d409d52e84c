"""The edits of a PyTorch model and its optimizer; `TorchPatient` carries them out on its copy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from fathom.doctor.adapters.model_edits import WIDE, ModelEdits
from fathom.doctor.adapters.scoring import BINARY, CLASSIFYING
from fathom.doctor.adapters.torch_between import Between
from fathom.doctor.adapters.torch_facts import kind_of
from fathom.doctor.adapters.torch_rewrite import ACTIVATIONS, Rewrite
from fathom.doctor.finding import Edit
from fathom.engine.errors import ArgumentError


class TorchEdits(ModelEdits):
    """See `model_edits.ModelEdits`."""

    between: Between
    rewrite: Rewrite
    activations = ACTIVATIONS

    # -- optimizer ----------------------------------------------------------------------------

    def edit_lr(self, edit: Edit) -> None:
        for group in self._groups():
            group["lr"] *= float(edit.value)
            group["base_lr"] = group.get("base_lr", 1.0) * float(edit.value)

    def edit_optimizer(self, edit: Edit) -> None:
        name, lr = edit.value
        made = getattr(torch.optim, name)
        self.optimizer = made([p for p in self.model.parameters() if p.requires_grad], lr=lr)

    def edit_momentum(self, edit: Edit) -> None:
        groups = [g for g in self._groups() if "momentum" in g]
        for group in groups:
            group["momentum"] = float(edit.value)
        if not groups:
            raise ArgumentError("the optimizer has no momentum")

    def edit_rebuild_optimizer(self, edit: Edit) -> None:
        self._register()
        group = max(self._groups(), key=lambda g: float(g["lr"]))
        chosen = [p for p in self.model.parameters() if p.requires_grad]
        options = _options(group)
        if not float(options["lr"]):
            options["lr"] = 1e-3
        self.optimizer = type(self.optimizer)([{**options, "params": chosen}])

    def _register(self) -> None:
        """Modules in plain lists and dicts become modules of the model."""
        for module in list(self.model.modules()):
            for name, value in list(vars(module).items()):
                if isinstance(value, dict):
                    parts = list(value.values())
                else:
                    parts = list(value) if isinstance(value, list | tuple) else []
                found = [m for m in parts if isinstance(m, torch.nn.Module)]
                if found and not name.startswith("_") and name not in module._modules:
                    module.add_module(f"{name}_of_the_copy", torch.nn.ModuleList(found))

    # -- weights ----------------------------------------------------------------------------

    def edit_initialize(self, edit: Edit) -> None:
        bare = dict(self.model.named_parameters()).get(edit.target)
        with torch.no_grad():
            if bare is not None and bare.ndim == 2:  # as in x @ W: its columns are the units
                torch.nn.init.kaiming_normal_(bare.t(), nonlinearity="relu")
                return
            for module in self._chosen(edit.target):
                self._fresh(module, str(edit.value or ""))

    def _fresh(self, module: Any, rule: str) -> None:
        own = list(module.parameters(recurse=False))
        known = hasattr(module, "reset_parameters")
        if known:
            module.reset_parameters()
        if not own or (known and not rule):
            return
        for p in own:
            if p.ndim > 1 and (not known or p is getattr(module, "weight", None)):
                if rule == "xavier":
                    torch.nn.init.xavier_uniform_(p)
                else:
                    torch.nn.init.kaiming_normal_(p, nonlinearity="relu")
            elif p is getattr(module, "bias", None) or (not known and not own[0].ndim < 2):
                torch.nn.init.zeros_(p)

    @torch.no_grad()
    def edit_initialize_output(self, edit: Edit) -> None:
        """Fresh weights, a tenth of their size, and a bias at the base rates."""
        last = self._last()
        self._fresh(last, "")
        last.weight.mul_(0.1)
        if getattr(last, "bias", None) is not None:
            last.bias.zero_()
            rates = self._base_rates(len(last.bias))
            if rates is not None:
                last.bias.copy_(rates)

    def _base_rates(self, units: int) -> Any:
        """The bias that is the best constant answer; None where that is not known."""
        targets = [t for _, t in self.batches]
        if self.function in CLASSIFYING and not targets[0].is_floating_point():
            labels = torch.cat([t.reshape(-1) for t in targets])
            labels = labels[(labels >= 0) & (labels < units)]
            counts = torch.bincount(labels.long(), minlength=units).float()
            return ((counts + 1) / (counts.sum() + units)).log() if units > 1 else None
        if (self.function in BINARY and targets[0].shape[-1:] in ((units,), ())) or units == 1:
            mean = torch.cat([t.reshape(-1, units) for t in targets]).float().mean(0)
            inside = mean.clamp(0.01, 0.99)
            return torch.logit(inside) if self.function in BINARY else mean
        return None

    @torch.no_grad()
    def edit_widen(self, edit: Edit) -> None:
        """More units in a narrow Linear layer, and in narrow ones right behind it."""
        linears = [(n, m) for n, m in self.model.named_modules() if kind_of(m) == "Linear"]
        names = [n for n, _ in linears]
        at = names.index(edit.target) if edit.target in names else -1
        if at < 0 or at + 1 >= len(linears):
            raise ArgumentError("only Linear layers with another behind them can be widened")
        narrow = linears[at][1].out_features
        width = min(WIDE, max(linears[at][1].in_features, linears[at + 1][1].out_features, 8))
        ins = linears[at][1].in_features
        first, last = at, at
        while (
            first and linears[first - 1][1].out_features == narrow == linears[first][1].in_features
        ):
            first -= 1
        while last + 2 < len(linears) and linears[last + 1][1].out_features == narrow:
            last += 1
        for i in range(first, last + 2):
            name, old = linears[i]
            ins = old.in_features if i == first else width
            outs = width if i <= last else old.out_features
            self._put(name, self._like(torch.nn.Linear(ins, outs, old.bias is not None), old))
        for name, module in list(self.model.named_modules()):
            if kind_of(module) == "BatchNorm1d" and module.num_features == narrow:
                self._put(name, self._like(torch.nn.BatchNorm1d(width), module))
            elif kind_of(module) == "LayerNorm" and module.normalized_shape == (narrow,):
                self._put(name, self._like(torch.nn.LayerNorm(width), module))
        self._try()
        self.edit_rebuild_optimizer(edit)

    def edit_classes(self, edit: Edit) -> None:
        """A unit for each label in the last layer, and cross-entropy on them."""
        last = self._last()
        values = self.label_values()
        if kind_of(last) != "Linear" or len(values) < 2:
            raise ArgumentError("the last layer is no Linear layer that could get more units")
        if last.out_features != len(values):
            fresh = torch.nn.Linear(last.in_features, len(values), last.bias is not None)
            self._put(self.last, self._like(fresh, last))
        shape = (-1, len(values))

        def numbered(target: Any) -> Any:
            return torch.searchsorted(torch.as_tensor(values).to(target), target.reshape(-1))

        self.batches = [(x, numbered(t)) for x, t in self.batches]
        self.held = tuple((x, numbered(t)) for x, t in self.held)
        self.between = Between(self.between.place, "", lambda z: z.reshape(shape))
        self.edit_drop_output_activation(edit)
        self.function, self.options = "cross_entropy", {"reduction": "mean"}
        self._try()
        self.edit_rebuild_optimizer(edit)

    def _try(self) -> None:
        """One forward pass: does it still go together?"""
        try:
            self.answers(self.batches[:1])
        except (RuntimeError, ValueError, IndexError) as error:
            raise ArgumentError(f"the changed layers do not fit the rest: {error}") from None

    # -- forward ----------------------------------------------------------------------------

    def edit_activation(self, edit: Edit) -> None:
        if edit.value not in ACTIVATIONS:
            raise ArgumentError(f"no activation {edit.value!r} for a trial")
        modules = dict(self.model.named_modules())
        swap = ACTIVATIONS[edit.value]
        if edit.target in modules and not list(modules[edit.target].parameters()):
            self._put(edit.target, _Applied(swap))
            return
        self.rewrite.swaps[edit.target] = swap
        with self._at_rest():
            self.forward(self.batches[0][0])
        if not self.rewrite.swapped:
            del self.rewrite.swaps[edit.target]
            raise ArgumentError(f"no activation was seen behind {edit.target or 'any layer'}")

    def edit_drop_output_activation(self, edit: Edit) -> None:
        if self.last not in dict(self.model.named_modules()):
            raise ArgumentError("the last layer is not known")
        self.rewrite.drop_outputs = self.plain_output = True

    def edit_dropout(self, edit: Edit) -> None:
        found = [m for m in self._chosen(edit.target) if kind_of(m).endswith("ropout")]
        for module in found:
            module.p = float(edit.value)
        if not edit.target:
            self.rewrite.dropout = float(edit.value)

    # -- data ----------------------------------------------------------------------------

    def edit_scale_inputs(self, edit: Edit) -> None:
        """By feature of rows and sequences, by channel of images."""
        first = [inputs[0] for inputs, _ in self.batches]
        if not torch.is_tensor(first[0]) or not first[0].is_floating_point():
            raise ArgumentError("the model's first input is not a float tensor")
        axis = 1 if first[0].ndim >= 4 else first[0].ndim - 1
        rows = torch.cat([x.movedim(axis, -1).reshape(-1, x.shape[axis]) for x in first]).double()
        mean, std = rows.mean(0), rows.std(0, correction=0)
        if first[0].ndim == 2:  # a feature that is nearly constant: pixels at the rim
            std = torch.where(std > 1e-3 * std.max(), std, std.max().clamp(min=1e-12))
        std = torch.where(std > 1e-12, std, torch.ones_like(std))
        shape = [1] * first[0].ndim
        shape[axis] = -1

        def scaled(x: Any) -> Any:
            return ((x.double() - mean.view(shape)) / std.view(shape)).to(x.dtype)

        self.batches = [((scaled(x[0]), *x[1:]), t) for x, t in self.batches]
        self.held = tuple(((scaled(x[0]), *x[1:]), t) for x, t in self.held)

    def softmax(self, output: Any, kind: str) -> Any:
        made: dict[str, Any] = {
            "softmax": lambda z: z.softmax(-1 if z.ndim == 2 else 1),
            "log_softmax": lambda z: z.log_softmax(1),
            "sigmoid": torch.sigmoid,
            "identity": lambda z: z,
        }
        return made[kind](output)

    # -- inside ----------------------------------------------------------------------------

    def forward(self, inputs: tuple[Any, ...], functions: bool = True) -> Any:
        """What the loss is given for these inputs."""
        raise NotImplementedError

    def _at_rest(self) -> Any:
        """Inside, nothing is trained."""
        raise NotImplementedError

    def kind(self, module: Any) -> str:
        return kind_of(module)

    def is_float(self, p: Any) -> bool:
        return bool(p.is_floating_point())

    @staticmethod
    def normalized(output: Any) -> Any:
        axes = output.shape[-1:] if output.ndim == 3 else output.shape[1:]
        return F.layer_norm(output, axes)

    def group_norm(self, groups: int, old: Any) -> Any:
        return self._like(torch.nn.GroupNorm(groups, old.num_features), old)

    def _last(self) -> Any:
        found = dict(self.model.named_modules()).get(self.last)
        if found is None or not hasattr(found, "weight"):
            raise ArgumentError("the last layer is not known")
        return found

    def _like(self, module: Any, old: Any) -> Any:
        """A new module where an old one was: its device, dtype and mode."""
        p = next(old.parameters())
        return module.to(device=p.device, dtype=p.dtype).train(old.training)

    def _put(self, name: str, module: Any) -> None:
        old = dict(self.model.named_modules()).get(name)
        if old is not None:  # layers that are followed stay so
            for key, hook in old._forward_hooks.items():
                module._forward_hooks[key] = hook
        parent, _, own = name.rpartition(".")
        if not name:
            self.model = module
        else:
            setattr(self.model.get_submodule(parent), own, module)


class _Applied(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    left_out = ("params", "names", "initial_lr", "base_lr", "decoupled_weight_decay")
    options = {k: v for k, v in group.items() if k not in left_out}
    return {k: v for k, v in options.items() if not (isinstance(v, float) and math.isnan(v))}


def generators(model: Any) -> Iterator[Any]:
    """Random generators that stand in a model's modules."""
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, torch.Generator))


__all__ = ["TorchEdits", "generators"]
