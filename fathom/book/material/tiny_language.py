"""Character Transformers small enough to train many of: what activation sits in their FFN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom.models import TransformerLM
from fathom.models.transformer import windows
from fathom.nn import functional as F

Array = NDArray[Any]
GATED = ("glu", "reglu", "geglu", "swiglu")


class Text(NamedTuple):
    """Windows of characters (n, time) and the character after each; the last ones are unseen."""

    x: Array
    y: Array
    test_x: Array
    test_y: Array
    alphabet: str


@cache
def sentences(time: int = 32, test: float = 0.2) -> Text:
    """Sentences made by rule (`fathom.data.grammar`) as characters, cut into windows.

    >>> text = sentences()
    >>> text.x.shape[1], len(text.alphabet)
    (32, 27)
    """
    text = "\n".join(" ".join(s) for s in fathom.data.grammar(500).sentences)
    alphabet = "".join(sorted(set(text)))
    x, y = windows([alphabet.index(c) for c in text], time)
    cut = int(len(x) * (1.0 - test))
    return Text(x[:cut], y[:cut], x[cut:], y[cut:], alphabet)


def hidden_width(activation: str, d_model: int) -> int:
    """4 d_model, or two thirds of it with a gate: as many weights either way.

    >>> hidden_width("gelu", 24), hidden_width("swiglu", 24)
    (96, 64)
    """
    return 8 * d_model // 3 if activation in GATED else 4 * d_model


def next_character(scores: Any, targets: Any) -> Any:
    """The cross-entropy of every place, (n, time, kinds) and (n, time)."""
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))


def transformers(
    seeds: Sequence[int], activation: str, *, d_model: int = 24, rows: int | None = None,
    batch: int = 16, epochs: int = 4, rate: float = 4e-3, bias: bool = True, time: int = 32,
) -> Any:  # fmt: skip
    """A fleet of two-layer, two-head Transformers trained with Adam on `sentences`.

    rows : how many windows of `time` characters to learn from, all without. Every activation
    starts from the same weights but those a gate adds, and sees the rows in the same order.
    Without biases, and with d_model a multiple of 3, a gated network has exactly as many
    parameters as a plain one.

    >>> fleet = transformers([0], "gelu", d_model=12, rows=32, epochs=1)
    >>> fleet.losses.shape
    (1, 1)
    """
    text = sentences(time)
    spec = {
        "model": lambda: TransformerLM(
            len(text.alphabet), d_model=d_model, heads=2, layers=2, context=text.x.shape[1],
            activation=activation, hidden=hidden_width(activation, d_model), bias=bias,
        ),
        "optimizer": "adam", "lr": rate, "epochs": epochs, "batch_size": batch,
        "loss": next_character,
    }  # fmt: skip
    return fathom.train_many(spec, text.x[:rows], text.y[:rows], seeds=seeds)


def unseen_loss(fleet: Any, part: slice = slice(200)) -> Array:
    """Cross-entropy of each network on that part of the unseen windows, in nats a character."""
    text = sentences()
    x, y = text.test_x[part], text.test_y[part]
    with fathom.no_grad():
        return np.array([
            next_character(r.model(fathom.tensor(x)), fathom.tensor(y)).item() for r in fleet.runs
        ])  # fmt: skip
