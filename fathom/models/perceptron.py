"""The perceptron and its kin: learning from mistakes, from distances, and from margins.

Labels are two classes of any kind of number; the larger one counts as +1. A unit predicts it
where w . x + b > 0, so 0 counts as the other class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.random import Random
from fathom.engine.tensor import Tensor, TensorLike
from fathom.models.separability import augment, samples, widest_margin
from fathom.ops.checks import one_of, operand
from fathom.ops.elementwise import relu
from fathom.ops.reduce import mean
from fathom.ops.reduce import sum as sum_


class _Linear:
    """Weights and bias, and what they say."""

    weights: Any
    bias: float = 0.0
    classes: Any

    def _begin(self, x: Any, y: Any) -> tuple[Any, Any]:
        a, signs = samples(x, y, type(self).__name__)
        kinds = np.unique(np.asarray(y).reshape(-1))
        self.classes = kinds if len(kinds) == 2 else np.array([-1, 1])
        return a, signs

    def decision_function(self, x: Any) -> Any:
        """w . x + b: (n, d) -> (n,)."""
        a = np.asarray(x, np.float64)
        if a.shape[-1:] != np.shape(self.weights):
            raise ShapeError(
                f"{type(self).__name__}: learned from {len(self.weights)} features; received "
                f"{a.shape}"
            )
        return a @ self.weights + self.bias

    def predict(self, x: Any) -> Any:
        """The class of each sample."""
        return np.where(self.decision_function(x) > 0, self.classes[1], self.classes[0])

    def score(self, x: Any, y: Any) -> float:
        """The share of right predictions."""
        return float(np.mean(self.predict(x) == np.asarray(y).reshape(-1)))


@dataclass(frozen=True)
class Bound:
    """Mistakes a perceptron made and may make at most: (radius / margin)^2 (Novikoff, 1962).

    The theorem is about planes through the origin. `augmented` says whether radius and margin
    are those of (1, x), as they must be for a perceptron with a bias.
    """

    mistakes: int
    radius: float
    margin: float
    augmented: bool

    @property
    def value(self) -> float:
        return (self.radius / self.margin) ** 2 if self.margin > 0 else np.inf

    @property
    def holds(self) -> bool:
        return self.mistakes <= self.value * (1.0 + 1e-9)

    def __str__(self) -> str:
        space = "augmented" if self.augmented else "plain"
        return (
            f"{self.mistakes} mistakes, at most {self.value:.1f} = ({self.radius:.4g} / "
            f"{self.margin:.4g})^2 in the {space} space"
        )


class Perceptron(_Linear):
    """Rosenblatt's (1958) unit: samples in order, and a correction at each mistake.

    rule : "label", w += rate y x with y in {-1, 1}; "difference", w += rate (y - prediction) x,
        twice that with labels {-1, 1}, and the same with labels {0, 1} (`levels`).
    levels : the two outputs, (-1, 1) or (0, 1), that the difference is taken of.
    fit_intercept : with a bias, which is the weight of an input that is always 1.

    After `fit`: weights, bias, `mistakes` (all updates), `history` (mistakes of each epoch),
    `epochs` up to and with the first one without a mistake, `converged`, `trajectory` of (b, w).

    >>> unit = Perceptron().fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 0, 1])
    >>> unit.epochs, unit.mistakes, unit.history
    (6, 10, [1, 3, 3, 2, 1, 0])
    """

    def __init__(
        self,
        learning_rate: float = 1.0,
        rule: str = "label",
        levels: tuple[int, int] = (-1, 1),
        max_epochs: int = 1000,
        fit_intercept: bool = True,
    ) -> None:
        one_of("Perceptron", "rule", rule, ("label", "difference"))
        if not learning_rate > 0:
            raise ArgumentError(f"Perceptron: learning_rate must be > 0; received {learning_rate}")
        if tuple(levels) not in ((-1, 1), (0, 1)):
            raise ArgumentError(f"Perceptron: levels are (-1, 1) or (0, 1); received {levels}")
        self.learning_rate, self.rule, self.levels = float(learning_rate), rule, tuple(levels)
        self.max_epochs, self.fit_intercept = int(max_epochs), bool(fit_intercept)
        self.mistakes, self.epochs, self.converged = 0, 0, False
        self.history: list[int] = []
        self.trajectory: list[Any] = []

    def _step(self) -> float:
        """Rate times |y|, or times |y - prediction|."""
        low, high = self.levels
        return self.learning_rate * (high - low if self.rule == "difference" else 1.0)

    def fit(self, x: Any, y: Any) -> Self:
        """Epochs over (n, d) and (n,) until one is without a mistake. Returns itself."""
        a, labels = self._begin(x, y)
        rows = augment(a)
        rows[:, 0] *= self.fit_intercept
        w, step = np.zeros(rows.shape[1]), self._step()
        self.mistakes, self.history, self.converged = 0, [], False
        self.trajectory = [w.copy()]
        self._start(rows, labels)
        for epoch in range(1, self.max_epochs + 1):
            self.epochs, before = epoch, self.mistakes
            for row, label in zip(rows, labels, strict=True):
                if (1.0 if row @ w > 0 else -1.0) != label:
                    w = w + step * label * row
                    self.mistakes += 1
                    self.trajectory.append(w)
                self._after(w)
            self.history.append(self.mistakes - before)
            if self.history[-1] == 0:
                self.converged = True
                break
        self._finish(w)
        return self

    def _start(self, rows: Any, labels: Any) -> None:
        """Before the first sample; variants remember what they need."""

    def _after(self, w: Any) -> None:
        """After each sample, with the weights now in force."""

    def _finish(self, w: Any) -> None:
        self.bias, self.weights = float(w[0]), w[1:].copy()

    def bound(self, x: Any, y: Any, augmented: bool = True) -> Bound:
        """This run's mistakes beside (R / gamma)^2 with the largest gamma there is.

        With `augmented=False` the radius and margin of the bare x: right for a perceptron without
        a bias only, however often it is printed for the other.
        """
        a, labels = samples(x, y, "Perceptron.bound")
        rows = augment(a) if augmented else a
        margin = widest_margin(rows, labels)[1]
        return Bound(self.mistakes, float(np.linalg.norm(rows, axis=1).max()), margin, augmented)


def perceptron_criterion(
    scores: TensorLike, targets: TensorLike, reduction: str = "mean"
) -> Tensor:
    """max(0, -y f): what the perceptron's rule is the stochastic gradient of.

    `targets` are -1 and 1. At f = 0 the rule corrects and the gradient is 0, so start gradient
    descent anywhere but at 0.

    >>> perceptron_criterion([2.0, -3.0], [1.0, 1.0], "sum")
    tensor(3.)
    """
    one_of("perceptron_criterion", "reduction", reduction, ("none", "mean", "sum"))
    f, y = operand(scores), operand(targets)
    if f.shape != y.shape:
        raise ShapeError(f"perceptron_criterion: scores {f.shape} and targets {y.shape} differ")
    loss: Any = relu(-(f * y.astype(f.dtype)))
    return loss if reduction == "none" else (mean if reduction == "mean" else sum_)(loss)


class PocketPerceptron(Perceptron):
    """A perceptron that keeps in its pocket the best weights it had. Gallant (1990).

    Whenever the weights have changed they are tried on all samples, and kept if they err less
    often (the "ratchet"). For data that no plane separates. `errors` is the pocket's count,
    `last_errors` that of the weights the perceptron ended with.

    >>> unit = PocketPerceptron(max_epochs=20).fit([[0], [1], [2], [3]], [1, 0, 1, 1])
    >>> unit.errors, unit.converged
    (1, False)
    """

    def _start(self, rows: Any, labels: Any) -> None:
        self._rows, self._labels = rows, labels
        self._tried = 0
        self._pocket, self.errors = np.zeros(rows.shape[1]), self._count(np.zeros(rows.shape[1]))

    def _count(self, w: Any) -> int:
        return int(np.sum(np.where(self._rows @ w > 0, 1.0, -1.0) != self._labels))

    def _after(self, w: Any) -> None:
        if self.mistakes == self._tried:
            return
        self._tried = self.mistakes
        errors = self._count(w)
        if errors < self.errors:
            self._pocket, self.errors = w.copy(), errors

    def _finish(self, w: Any) -> None:
        self.last_errors = self._count(w)
        super()._finish(self._pocket)
        del self._rows, self._labels


class VotedPerceptron(Perceptron):
    """Every weight vector votes, as often as it survived. Freund & Schapire (1999).

    average : the mean of all vectors in place of the vote (their "averaged" perceptron): nearly
        as good, and one product at the end. `vectors` (k, d + 1), bias first, and `survivals`.
    """

    def __init__(self, *, average: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.average = bool(average)

    def _start(self, rows: Any, labels: Any) -> None:
        self._seen, self._counts = [np.zeros(rows.shape[1])], [0]

    def _after(self, w: Any) -> None:
        if self.mistakes >= len(self._seen):
            self._seen.append(w)
            self._counts.append(0)
        self._counts[-1] += 1

    def _finish(self, w: Any) -> None:
        self.vectors, self.survivals = np.array(self._seen), np.array(self._counts)
        self.last_weights, self.last_bias = w[1:].copy(), float(w[0])
        super()._finish(self.survivals @ self.vectors / self.survivals.sum())

    def decision_function(self, x: Any) -> Any:
        if self.average:
            return super().decision_function(x)
        votes = np.where(augment(x) @ self.vectors.T > 0, 1.0, -1.0)
        return votes @ self.survivals / self.survivals.sum()


Kernel = Callable[[Any, Any], Any]


def kernel_function(
    kernel: str | Kernel, degree: int = 2, gamma: float = 1.0, coef0: float = 1.0
) -> Kernel:
    """ "linear" x.z, "poly" (gamma x.z + coef0)^degree, "rbf" exp(-gamma |x - z|^2), or your own.

    Each takes (n, d) and (m, d) and gives (n, m).
    """
    if callable(kernel):
        return kernel
    one_of("kernel_function", "kernel", kernel, ("linear", "poly", "rbf"))

    def rbf(x: Any, z: Any) -> Any:
        squares = np.square(x).sum(1)[:, None] + np.square(z).sum(1) - 2.0 * (x @ z.T)
        return np.exp(-gamma * np.maximum(squares, 0.0))

    return {
        "linear": lambda x, z: x @ z.T,
        "poly": lambda x, z: (gamma * (x @ z.T) + coef0) ** degree,
        "rbf": rbf,
    }[kernel]


class KernelPerceptron(_Linear):
    """A perceptron in the space of a kernel. Aizerman, Braverman & Rozonoer (1964).

    f(x) = sum_i alpha_i y_i k(x_i, x), where alpha_i counts the mistakes at sample i; f = 0 is
    one. There is no bias but the kernel's own (`coef0`).

    >>> corners = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> unit = KernelPerceptron("poly", degree=2).fit(corners, [0, 1, 1, 0])
    >>> unit.epochs, unit.predict([[0, 1], [1, 1]]).tolist()
    (8, [1, 0])
    """

    def __init__(
        self,
        kernel: str | Kernel = "poly",
        degree: int = 2,
        gamma: float = 1.0,
        coef0: float = 1.0,
        max_epochs: int = 1000,
    ) -> None:
        self.kernel = kernel_function(kernel, degree, gamma, coef0)
        self.max_epochs = int(max_epochs)
        self.epochs, self.converged = 0, False
        self.history: list[int] = []

    def fit(self, x: Any, y: Any) -> Self:
        """Epochs over (n, d) and (n,) until one is without a mistake. Returns itself."""
        self.samples, self.labels = self._begin(x, y)
        gram = self.kernel(self.samples, self.samples) * self.labels[:, None]
        self.alpha, self.history, self.converged = np.zeros(len(gram)), [], False
        for epoch in range(1, self.max_epochs + 1):
            self.epochs, mistakes = epoch, 0
            for i, label in enumerate(self.labels):
                if label * (self.alpha @ gram[:, i]) <= 0:
                    self.alpha[i] += 1.0
                    mistakes += 1
            self.history.append(mistakes)
            if not mistakes:
                self.converged = True
                break
        return self

    @property
    def mistakes(self) -> int:
        return int(self.alpha.sum())

    def decision_function(self, x: Any) -> Any:
        return self.kernel(np.asarray(x, np.float64), self.samples) @ (self.alpha * self.labels)


class Adaline(_Linear):
    """Widrow & Hoff's (1960) unit: learns from the distance of w . x + b to the label.

    The delta rule w += rate (y - f) x, for each sample in order, or with `batch` their mean:
    gradient descent on the squared error, corrected even where the class is right.
    `losses` holds the mean squared error of each epoch.

    >>> unit = Adaline(0.1, epochs=200).fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 1])
    >>> unit.predict([[0, 0], [1, 1]]).tolist()
    [0, 1]
    """

    def __init__(self, learning_rate: float = 0.01, epochs: int = 100, batch: bool = False) -> None:
        if not learning_rate > 0:
            raise ArgumentError(f"Adaline: learning_rate must be > 0; received {learning_rate}")
        self.learning_rate, self.epochs, self.batch = float(learning_rate), int(epochs), bool(batch)
        self.losses: list[float] = []

    def fit(self, x: Any, y: Any) -> Self:
        """All epochs over (n, d) and (n,). Returns itself."""
        a, labels = self._begin(x, y)
        rows = augment(a)
        w = np.zeros(rows.shape[1])
        self.losses = []
        for _ in range(self.epochs):
            if self.batch:
                w = w + self.learning_rate * (labels - rows @ w) @ rows / len(rows)
            else:
                for row, label in zip(rows, labels, strict=True):
                    w = w + self.learning_rate * (label - row @ w) * row
            self.losses.append(float(np.mean(np.square(labels - rows @ w))))
        if not np.isfinite(w).all():
            raise ArgumentError(
                f"Adaline: the weights grew without bound at learning_rate {self.learning_rate}",
                fix="a smaller rate, below 2 / the largest eigenvalue of the inputs' moments",
            )
        self.bias, self.weights = float(w[0]), w[1:]
        return self


class LinearSVM(_Linear):
    """The soft-margin support vector machine: min |w|^2 / 2 + C sum loss(y f).

    Cortes & Vapnik (1995), by dual coordinate descent (Hsieh et al., 2008) as scikit-learn's
    `LinearSVC` does it: the bias is the weight of a constant input and part of |w|.

    loss : "hinge" max(0, 1 - y f), or "squared_hinge", its square. `support` are the indices of
        the samples that count; `alpha` what they weigh; `margin` is 1 / |(w, b)|.

    >>> svm = LinearSVM(C=1e6, loss="hinge").fit([[1.0], [3.0]], [-1, 1])
    >>> round(float(svm.weights[0]), 3), round(svm.bias, 3)
    (1.0, -2.0)
    """

    def __init__(
        self,
        C: float = 1.0,
        loss: str = "squared_hinge",
        tol: float = 1e-6,
        max_epochs: int = 10000,
        fit_intercept: bool = True,
        seed: int = 0,
    ) -> None:
        one_of("LinearSVM", "loss", loss, ("hinge", "squared_hinge"))
        if not C > 0:
            raise ArgumentError(f"LinearSVM: C must be > 0; received {C!r}")
        self.C, self.loss, self.tol = float(C), loss, float(tol)
        self.max_epochs, self.fit_intercept, self.seed = int(max_epochs), bool(fit_intercept), seed
        self.epochs, self.converged = 0, False

    def fit(self, x: Any, y: Any) -> Self:
        """Epochs over (n, d) and (n,) until the optimality conditions hold. Returns itself."""
        a, labels = self._begin(x, y)
        rows = augment(a)
        rows[:, 0] *= self.fit_intercept
        rows *= labels[:, None]
        hinge = self.loss == "hinge"
        top, ridge = (self.C, 0.0) if hinge else (np.inf, 0.5 / self.C)
        squares = np.square(rows).sum(axis=1) + ridge
        alpha, w = np.zeros(len(rows)), np.zeros(rows.shape[1])
        order = Random(self.seed).stream("shuffle")
        self.converged = False
        for epoch in range(1, self.max_epochs + 1):
            self.epochs, worst = epoch, 0.0
            for i in order.permutation(len(rows)):
                slope = rows[i] @ w - 1.0 + ridge * alpha[i]
                free = min(slope, 0.0) if alpha[i] <= 0 else slope
                free = max(free, 0.0) if alpha[i] >= top else free
                worst = max(worst, abs(free))
                if free and squares[i]:
                    new = min(max(alpha[i] - slope / squares[i], 0.0), top)
                    w += (new - alpha[i]) * rows[i]
                    alpha[i] = new
            if worst < self.tol:
                self.converged = True
                break
        self.alpha, self.support = alpha, np.flatnonzero(alpha > 0)
        self.bias, self.weights = float(w[0]), w[1:].copy()
        self.margin = 1.0 / float(np.linalg.norm(w)) if w.any() else np.inf
        return self
