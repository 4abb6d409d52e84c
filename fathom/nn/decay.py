"""Which parameters weight decay is for, and which it harms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathom.nn.activation import PReLU
from fathom.nn.checks import number

if TYPE_CHECKING:
    from fathom.nn.module import Module

__all__ = ["decay_groups"]


def decay_groups(model: Module, weight_decay: float = 0.01) -> list[dict[str, Any]]:
    """Two parameter groups for an optimizer: weights that decay, and the rest, which do not.

    Left alone are parameters of fewer than two axes (biases, scales and shifts of norms) and the
    slopes of `PReLU`: decay would draw those to 0, that is to ReLU (He et al., 2015).

    >>> from fathom import nn, optim
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.PReLU(), nn.LayerNorm(4), nn.Linear(4, 1))
    >>> [(len(g["params"]), g["weight_decay"]) for g in decay_groups(model, 0.1)]
    [(2, 0.1), (5, 0.0)]
    >>> optimizer = optim.AdamW(decay_groups(model, 0.1), lr=1e-3)
    """
    strength = number(weight_decay, "weight_decay", "decay_groups", 0.0)
    slopes = {id(p) for m in model.modules() if isinstance(m, PReLU) for p in m.parameters()}
    groups: tuple[list[Any], list[Any]] = ([], [])
    for p in model.parameters():
        groups[p.ndim < 2 or id(p) in slopes].append(p)
    return [
        {"params": groups[0], "weight_decay": strength},
        {"params": groups[1], "weight_decay": 0.0},
    ]
