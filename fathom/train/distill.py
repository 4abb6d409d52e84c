"""Knowledge distillation: learning from a teacher's softened answers (Hinton et al., 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.tensor import Array, Tensor
from fathom.nn.objectives import distillation_loss


def soft_labels(logits: Any, temperature: float = 1.0) -> Array:
    """softmax(logits / temperature), (n, classes).

    >>> soft_labels([[0.0, np.log(9.0)]], temperature=2.0).round(6).tolist()
    [[0.25, 0.75]]
    """
    scores = np.asarray(logits.value() if isinstance(logits, Tensor) else logits) / _warm(
        temperature
    )
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def _warm(temperature: float) -> float:
    if not temperature > 0:
        raise ArgumentError(f"temperature must be > 0; received {temperature!r}")
    return float(temperature)


def distill(
    student: Any,
    teacher: Any,
    x: Any,
    y: Any = None,
    *,
    temperature: float = 2.0,
    alpha: float = 0.5,
    **options: Any,
) -> Any:
    """Train `student` on the teacher's answers for x, and on labels y if there are any.

    `teacher` is a model or its logits (n, classes). Other options are those of `fit`; returns
    its `History`.

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     teacher = fathom.models.mlp(4, 3, hidden=(32,))
    ...     student = fathom.models.mlp(4, 3, hidden=(4,))
    >>> _ = teacher.fit(data.x, data.y, epochs=20, lr=0.01, verbose=False)
    >>> history = distill(student, teacher, data.x, data.y, epochs=5, lr=0.01, verbose=False)
    >>> history["loss"][-1] < history["loss"][0]
    True
    """
    answers = np.asarray(teacher.predict(x) if hasattr(teacher, "predict") else teacher)
    if answers.ndim != 2 or len(answers) != len(x):
        raise ShapeError(f"the teacher's logits have shape {answers.shape}; expected ({len(x)}, k)")
    classes = answers.shape[1]
    packed = answers if y is None else np.concatenate([answers, np.asarray(y)[:, None]], axis=1)

    def loss(output: Tensor, target: Any, reduction: str = "mean") -> Tensor:
        values = target.value()
        labels = None if y is None else values[:, classes].astype(np.int64)
        return distillation_loss(
            output, values[:, :classes], labels, temperature=temperature, alpha=alpha,
            reduction=reduction,
        )  # fmt: skip

    return student.fit(x, packed, loss=loss, **{"metrics": (), **options})
