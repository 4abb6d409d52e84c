"""Optimizers: what turns gradients into steps; schedules of their rates; averages of weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from fathom.engine.errors import ArgumentError, suggest
from fathom.optim import lr_scheduler, schedules, swa_utils
from fathom.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from fathom.optim.adaptive import Adadelta, Adagrad, RMSprop, Rprop
from fathom.optim.layerwise import LAMB, Lion
from fathom.optim.lbfgs import LBFGS
from fathom.optim.newton import GaussNewton, LevenbergMarquardt, Newton, NewtonCG
from fathom.optim.optimizer import Optimizer
from fathom.optim.scaling import GradScaler
from fathom.optim.sgd import SGD
from fathom.optim.wrappers import SAM, Lookahead


def sam(params: Iterable[Any], base: str = "sgd", *, rho: float = 0.05, adaptive: bool = False,
        **options: Any) -> SAM:  # fmt: skip
    """`SAM` around the optimizer named `base`, which takes the other options."""
    return SAM(make(base, params, **options), rho=rho, adaptive=adaptive)


def lookahead(params: Iterable[Any], base: str = "sgd", *, k: int = 5, alpha: float = 0.5,
              **options: Any) -> Lookahead:  # fmt: skip
    """`Lookahead` around the optimizer named `base`, which takes the other options."""
    return Lookahead(make(base, params, **options), k=k, alpha=alpha)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adadelta": Adadelta,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamax": Adamax,
    "adamw": AdamW,
    "gauss_newton": GaussNewton,
    "lamb": LAMB,
    "lbfgs": LBFGS,
    "levenberg_marquardt": LevenbergMarquardt,
    "lion": Lion,
    "lookahead": lookahead,
    "nadam": NAdam,
    "newton": Newton,
    "newton_cg": NewtonCG,
    "radam": RAdam,
    "rmsprop": RMSprop,
    "rprop": Rprop,
    "sam": sam,
    "sgd": SGD,
}


def make(name: str, params: Iterable[Any], **options: Any) -> Optimizer:
    """An optimizer by name; options that are None take their defaults.

    >>> import fathom
    >>> make("sgd", [fathom.nn.Parameter([1.0])], lr=0.1).param_groups[0]["lr"]
    0.1
    """
    if not isinstance(name, str) or name.lower() not in OPTIMIZERS:
        swapped = [known for known in OPTIMIZERS if sorted(known) == sorted(str(name).lower())]
        near = swapped[0] if swapped else str(name)  # letters in another order first
        raise ArgumentError(f"unknown optimizer {name!r}", fix=suggest(near, OPTIMIZERS))
    given = {key: value for key, value in options.items() if value is not None}
    maker = OPTIMIZERS[name.lower()]
    known = inspect.signature(maker).parameters
    for key in given:
        if key not in known and "options" not in known:
            names = [one for one in known if one != "params"]
            raise ArgumentError(
                f"optimizer {name!r} has no option {key!r}", fix=suggest(key, names)
            )
    try:
        return maker(params, **given)
    except TypeError as error:
        raise ArgumentError(f"optimizer {name!r}: {error}") from None


__all__ = [
    "LAMB",
    "LBFGS",
    "OPTIMIZERS",
    "SAM",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GaussNewton",
    "GradScaler",
    "LevenbergMarquardt",
    "Lion",
    "Lookahead",
    "NAdam",
    "Newton",
    "NewtonCG",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
    "make",
    "schedules",
    "swa_utils",
]
