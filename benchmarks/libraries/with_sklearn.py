"""scikit-learn's MLPClassifier: a step is one `partial_fit`, an epoch one pass of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from libraries import work
from libraries.work import Job, Row, Skip


def make(row: Row) -> Job:
    if row.network != "mlp" or row.kind == "fleet":
        raise Skip("MLPClassifier has nothing for it")
    x, y = work.data(row, work.STEPS if row.kind == "epoch" else 1)
    model = MLPClassifier(
        row.sizes[1:-1], alpha=0.0, batch_size=row.batch, learning_rate_init=work.RATE,
        shuffle=False, random_state=0,
    )  # fmt: skip
    classes = np.arange(row.sizes[-1])
    model.partial_fit(x, y, classes=classes)
    take(model, row)

    def call() -> Any:
        return model.partial_fit(x, y).loss_

    units = work.STEPS if row.kind == "epoch" else 1
    # with two classes it has one logistic output: another network, so nothing is compared
    same = row.sizes[-1] > 2
    return Job(call, lambda loss: [float(loss)] if same else [], units)


def take(model: Any, row: Row) -> None:
    """Start from the common weights, where the layers are the same, with Adam at zero."""
    if row.sizes[-1] > 2:
        found = work.weights(row)
        for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
            w[...] = found[f"{2 * i}.weight"].T
            b[...] = found[f"{2 * i}.bias"]
    optimizer = model._optimizer
    optimizer.t = 0
    for moment in (*optimizer.ms, *optimizer.vs):
        moment[...] = 0
