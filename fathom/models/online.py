"""Learning from a stream: answer, be told, correct; judged by what hindsight would have saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models.separability import augment, samples
from fathom.ops.checks import one_of


@dataclass(frozen=True)
class OnlineRun:
    """What `online` saw: each sample was answered before it was learnt from.

    rows : samples with a 1 in front, (time, d + 1). labels : -1 and 1, (time,).
    losses : hinge losses max(0, 1 - y f) of the answers, (time,). wrong : mistakes, (time,).
    weights : of the end, (d + 1,), the bias first. radius : they were kept at most so long.
    """

    rows: Any
    labels: Any
    losses: Any
    wrong: Any
    weights: Any
    radius: float

    @property
    def mistakes(self) -> int:
        return int(self.wrong.sum())

    def regret(self, weights: Any, bias: float = 0.0) -> Any:
        """The summed loss minus that of fixed weights, after each sample, (time,).

        Give the weights that are best in hindsight, such as those of a `LinearSVM` that was fitted
        to the whole stream: it minimizes the summed hinge loss among all weights no longer than
        its own.
        """
        fixed = np.concatenate([[bias], np.asarray(weights, np.float64).reshape(-1)])
        if fixed.shape != self.weights.shape:
            raise ShapeError(
                f"OnlineRun.regret: learned {len(self.weights) - 1} weights; received "
                f"{len(fixed) - 1}"
            )
        hindsight = np.maximum(0.0, 1.0 - self.labels * (self.rows @ fixed))
        return np.cumsum(self.losses - hindsight)

    def bound(self) -> Any:
        """3 radius G sqrt(t), (time,), G the length of the longest row (Zinkevich, 2003).

        What the regret of rule "gradient" cannot exceed, whatever the stream, against weights
        within the radius (Hazan, 2016, theorem 3.1): per sample it goes to 0.
        """
        longest = float(np.linalg.norm(self.rows, axis=1).max())
        return 1.5 * (2.0 * self.radius) * longest * np.sqrt(np.arange(1, len(self.rows) + 1))


def online(x: Any, y: Any, rule: str = "gradient", radius: float = 10.0) -> OnlineRun:
    """Go once through a stream of samples (time, d) with labels (time,) of two classes.

    rule : "gradient", online gradient descent on the hinge loss with the rate 2 radius / (G
        sqrt(t)), weights brought back to the radius (Zinkevich, 2003); "perceptron", Rosenblatt's
        (1958) correction at mistakes only, which does not need the radius.

    >>> run = online([[1.0], [-1.0], [2.0], [-2.0]], [1, 0, 1, 0], "perceptron")
    >>> run.mistakes, run.wrong.tolist()
    (1, [True, False, False, False])
    """
    one_of("online", "rule", rule, ("gradient", "perceptron"))
    if not radius > 0:
        raise ArgumentError(f"online: radius must be > 0; received {radius!r}")
    a, labels = samples(x, y, "online")
    rows = augment(a)
    longest = float(np.linalg.norm(rows, axis=1).max())
    w = np.zeros(rows.shape[1])
    losses, wrong = np.empty(len(rows)), np.empty(len(rows), bool)
    for t, (row, label) in enumerate(zip(rows, labels, strict=True)):
        score = float(row @ w)
        losses[t] = max(0.0, 1.0 - label * score)
        wrong[t] = (1.0 if score > 0 else -1.0) != label
        if rule == "perceptron":
            w = w + wrong[t] * label * row
        elif losses[t]:
            w = w + 2.0 * radius / (longest * np.sqrt(t + 1.0)) * label * row
            w *= min(1.0, radius / max(float(np.linalg.norm(w)), 1e-12))
    return OnlineRun(rows, labels, losses, wrong, w, float(radius))
