"""Edits of a copied model that read the same in both engines; each adds those that do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fathom.doctor.adapters.edits import Edits
from fathom.doctor.finding import Edit
from fathom.engine.errors import ArgumentError

WIDE = 64  # units of a widened layer, at most
GROUPS = (8, 4, 2, 1)  # of channels, in the place of a batch normalization


class ModelEdits(Edits):
    """What `Edits.apply` calls by the action's name; changes of `forward` go into `rewrite`."""

    model: Any
    optimizer: Any
    between: Any
    rewrite: Any
    last: str
    activations: Mapping[str, Callable[[Any], Any]]  # by name
    plain_output: bool = False  # whether functions between model and loss are left out

    # -- what an engine's side adds -----------------------------------------------------------

    def kind(self, module: Any) -> str:
        """A module's class by its name."""
        raise NotImplementedError

    def is_float(self, p: Any) -> bool:
        """Whether a parameter is one that can be trained."""
        raise NotImplementedError

    @staticmethod
    def normalized(output: Any) -> Any:
        """A layer's output, example by example, less its mean, over its standard deviation."""
        raise NotImplementedError

    def group_norm(self, groups: int, old: Any) -> Any:
        """A group normalization of as many channels as a batch normalization."""
        raise NotImplementedError

    def _put(self, name: str, module: Any) -> None:
        """Another module in the place of the one of this name."""
        raise NotImplementedError

    def edit_rebuild_optimizer(self, edit: Edit) -> None:
        """The optimizer anew, over everything that can be trained."""
        raise NotImplementedError

    # -- optimizer ----------------------------------------------------------------------------

    def edit_weight_decay(self, edit: Edit) -> None:
        for group in self._groups():
            group["weight_decay"] = float(edit.value)

    def edit_unfreeze(self, edit: Edit) -> None:
        names = edit.value if isinstance(edit.value, tuple | list) else None
        for name, p in self.model.named_parameters():
            chosen = name in names if names else name.startswith(edit.target)
            if chosen and self.is_float(p):
                p.requires_grad_(True)
        self.edit_rebuild_optimizer(edit)

    def edit_connect(self, edit: Edit) -> None:
        self.rewrite.connected = True
        for p in self.model.parameters():
            p.requires_grad_(self.is_float(p))
        self.edit_rebuild_optimizer(edit)

    def _groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups of parameters with their options."""
        if self.optimizer is None:
            raise ArgumentError("the optimizer is not known")
        groups: list[dict[str, Any]] = self.optimizer.param_groups
        return groups

    # -- forward ------------------------------------------------------------------------------

    def edit_insert_activation(self, edit: Edit) -> None:
        act = self.activations[str(edit.value or "relu")]
        for module in self._chosen(edit.target):
            module.register_forward_hook(lambda m, given, output: _first(act, output))

    def edit_insert_normalization(self, edit: Edit) -> None:
        """Each layer's output over its standard deviation, example by example, less its mean."""
        names = [n for n, m in self.model.named_modules()
                 if self.kind(m).startswith(("Linear", "Conv")) and n != self.last]  # fmt: skip
        if not names:
            raise ArgumentError("there is no hidden layer to normalize")
        normalized = self.normalized
        for name in names:
            if edit.target in ("", name):
                module = self.model.get_submodule(name)
                module.register_forward_hook(lambda m, given, output: normalized(output))

    def edit_softmax_axis(self, edit: Edit) -> None:
        self.rewrite.axis = True
        name = self.between.function
        if name.endswith("over axis 0"):
            self.between = dataclasses.replace(self.between, function=f"{name[:-1]}1")

    def edit_normalize(self, edit: Edit) -> None:
        found = [(n, m) for n, m in self.model.named_modules()
                 if self.kind(m).startswith("BatchNorm") and edit.target in ("", n)]  # fmt: skip
        if not found:
            raise ArgumentError("there is no batch normalization")
        for name, module in found:
            n: int = module.num_features
            groups = next(g for g in GROUPS if (n % g == 0 and n // g > 1) or g == 1)
            self._put(name, self.group_norm(groups, module))
        self.edit_rebuild_optimizer(edit)

    # -- modules ------------------------------------------------------------------------------

    def _chosen(self, target: str) -> list[Any]:
        """The modules of a target that have parameters or do something themselves."""
        modules = dict(self.model.named_modules())
        if not target:
            return [m for m in modules.values() if not list(m.children()) or _own(m)]
        found = [m for n, m in modules.items() if n == target or n.startswith(target + ".")]
        if not found:
            raise ArgumentError(f"the copy has no module {target!r}")
        return found


def _own(module: Any) -> list[Any]:
    """A module's own parameters."""
    return [p for p in module._parameters.values() if p is not None]


def _first(act: Callable[[Any], Any], output: Any) -> Any:
    """A function of a layer's output, or of the first of several."""
    return (act(output[0]), *output[1:]) if isinstance(output, tuple) else act(output)


__all__ = ["WIDE", "ModelEdits"]
