"""Optimizers: what turns gradients into steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fathom.engine.errors import ArgumentError, suggest
from fathom.optim.adam import Adam
from fathom.optim.optimizer import Optimizer
from fathom.optim.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "sgd": SGD}


def make(name: str, params: Iterable[Any], **options: Any) -> Optimizer:
    """An optimizer by name; options that are None take their defaults.

    >>> import fathom
    >>> make("sgd", [fathom.nn.Parameter([1.0])], lr=0.1).param_groups[0]["lr"]
    0.1
    """
    if not isinstance(name, str) or name.lower() not in OPTIMIZERS:
        raise ArgumentError(f"unknown optimizer {name!r}", fix=suggest(str(name), OPTIMIZERS))
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return OPTIMIZERS[name.lower()](params, **given)
    except TypeError as error:
        raise ArgumentError(f"optimizer {name!r}: {error}") from None


__all__ = ["OPTIMIZERS", "SGD", "Adam", "Optimizer", "make"]
