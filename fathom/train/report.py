"""One HTML file that tells how a training went; it opens offline and asks nothing of anyone.

`Outcome` holds what a model said about rows it is judged by, and computes the scores;
`write_report` puts them, the history and the model's first weights on a page.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.nn.module import Module
from fathom.train import pictures
from fathom.train.history import History
from fathom.train.metrics import confusion_matrix
from fathom.train.writing import write_text

Array = NDArray[Any]
MOST_PICTURES = 40  # wrongly classified images shown
MOST_UNITS = 64  # first-layer units shown
MOST_FEATURES = 60


@dataclass(frozen=True)
class Outcome:
    """A model's answers beside the truth.

    Classification: `targets` are class numbers (n,), `outputs` the model's scores (n, classes)
    before the softmax. Regression: both are (n,) values in the units of the data. `inputs`
    (n, features) are the rows as they were before preprocessing; `part` names them.

    >>> outcome = Outcome(np.array([0, 1]), np.array([[2.0, 0.0], [1.0, 0.0]]), ("cat", "dog"))
    >>> outcome.scores()["accuracy"], outcome.wrong().tolist()
    (0.5, [1])
    """

    targets: Array
    outputs: Array
    classes: tuple[str, ...] = ()
    inputs: Array | None = None
    image_shape: tuple[int, int] | None = None
    part: str = "test"

    def __post_init__(self) -> None:
        targets, outputs = np.asarray(self.targets), np.asarray(self.outputs)
        n = len(targets)
        wanted = (n, len(self.classes)) if self.classes else (n,)
        if outputs.shape != wanted:
            raise ShapeError(f"outputs have shape {outputs.shape}; {wanted} was expected")
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "outputs", outputs)

    @property
    def predicted(self) -> Array:
        """Class numbers (n,), or the values of a regression."""
        return np.asarray(self.outputs.argmax(axis=1)) if self.classes else self.outputs

    @property
    def probabilities(self) -> Array:
        """The softmax of the outputs, (n, classes), in float64."""
        return softmax(self.outputs)

    def confusion(self) -> Array:
        """Counts (classes, classes): row = true class, column = predicted class."""
        return confusion_matrix(self.targets, self.predicted, len(self.classes))

    def wrong(self) -> Array:
        """Rows classified wrongly, the most confident mistakes first."""
        rows = np.flatnonzero(self.predicted != self.targets)
        sure = self.probabilities[rows, self.predicted[rows]]
        return np.asarray(rows[np.argsort(-sure, kind="stable")])

    def scores(self) -> dict[str, Any]:
        """The numbers that say how good the answers are, as JSON values."""
        return self._class_scores() if self.classes else self._value_scores()

    def _class_scores(self) -> dict[str, Any]:
        rows = np.arange(len(self.targets))
        likely = np.maximum(self.probabilities[rows, self.targets], np.finfo(np.float64).tiny)
        table = self.per_class()
        seen = [row["f1"] for row in table if row["rows"]]
        return {
            "rows": len(rows),
            "accuracy": float(np.mean(self.predicted == self.targets)),
            "loss": float(-np.log(likely).mean()),
            "macro_f1": float(np.mean(seen)),
            "per_class": table,
            "confusion": self.confusion().tolist(),
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall and F1 of each class; 0 where there is nothing to divide by."""
        counts = self.confusion().astype(np.float64)
        hits, true, said = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        return [
            {
                "class": name,
                "precision": _share(hits[i], said[i]),
                "recall": _share(hits[i], true[i]),
                "f1": _share(2 * hits[i], true[i] + said[i]),
                "rows": int(true[i]),
            }
            for i, name in enumerate(self.classes)
        ]

    def _value_scores(self) -> dict[str, Any]:
        truth = self.targets.astype(np.float64)
        rest = self.outputs.astype(np.float64) - truth
        spread = float(np.square(truth - truth.mean()).sum())
        return {
            "rows": len(truth),
            "mae": float(np.abs(rest).mean()),
            "rmse": math.sqrt(float(np.square(rest).mean())),
            "r2": 1.0 - float(np.square(rest).sum()) / spread if spread else None,
        }


def softmax(outputs: ArrayLike) -> Array:
    """Probabilities from scores, row by row, in float64.

    >>> softmax([[0.0, 0.0]]).tolist()
    [[0.5, 0.5]]
    """
    scores = np.asarray(outputs, np.float64)
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def _share(a: float, b: float) -> float:
    return float(a / b) if b else 0.0


# -- the page ------------------------------------------------------------------------------------


def write_report(
    path: str | os.PathLike[str],
    *,
    model: Module,
    history: History,
    outcome: Outcome,
    title: str = "Training report",
    settings: Mapping[str, Any] | None = None,
    splits: Mapping[str, int] | None = None,
    feature_names: Sequence[str] = (),
    target_name: str = "target",
    command: str = "",
    notes: Sequence[str] = (),
    seconds: float | None = None,
    versions: Mapping[str, str] | None = None,
    best_epoch: int | None = None,
    created: str = "",
) -> Path:
    """Write the report of a training as one HTML file and return its path.

    Parameters
    ----------
    outcome : the model's answers on the rows it is judged by.
    settings, splits, command, notes, versions : shown as they are; `settings["seed"]` also in
        the headline. `splits` counts the rows of each part.
    best_epoch : the epoch whose weights were kept, marked in the curves.
    feature_names : names of the network's inputs, to label its first weights.
    created : a date to print; without it the page has none, and the same run gives the same bytes.

    The file is written aside and renamed. Raises `OutputError` where it cannot be written.

    >>> import fathom, tempfile
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, hidden=(8,))
    >>> history = model.fit(data.x, data.y, epochs=2, verbose=False)
    >>> outcome = Outcome(data.y, model.predict(data.x), data.classes)
    >>> place = Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(place, model=model, history=history, outcome=outcome).name
    'report.html'
    """
    if len(outcome.targets) == 0:
        raise ArgumentError("a report needs at least one row that the model was tested on")
    from fathom.train import _figures as figures

    summary = model.summary()
    weight = _first_weight(model)
    scores = outcome.scores()
    page = {
        "title": title,
        "classification": bool(outcome.classes),
        "part": outcome.part,
        "headline": _headline(outcome, scores, summary.parameters, seconds, settings, history),
        "scores": scores,
        "target_name": target_name,
        "curves": figures.curves(history, best_epoch),
        "history": _history_table(history),
        "confusion": figures.shaded(outcome.confusion()) if outcome.classes else None,
        "classes": outcome.classes,
        "wrong": _wrong(outcome),
        "wrong_count": len(outcome.wrong()) if outcome.classes else 0,
        "weights": _weights(weight, outcome.image_shape),
        "units": 0 if weight is None else len(weight),
        "features": [] if outcome.image_shape else _features(weight, feature_names),
        "scatter": None if outcome.classes else figures.scatter(outcome.targets, outcome.outputs),
        "residuals": None
        if outcome.classes
        else figures.residuals(outcome.targets, outcome.outputs),
        "summary": summary,
        "settings": settings or {},
        "splits": splits or {},
        "command": command,
        "notes": notes,
        "versions": versions or {},
        "created": created,
    }
    return write_text(Path(path), _render(page), "the report")


def _render(page: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fathom.train", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    return environment.get_template("report.html.j2").render(**page)


def _figure(value: Any) -> str:
    """A setting or a number as the page shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _headline(
    outcome: Outcome,
    scores: Mapping[str, Any],
    parameters: int,
    seconds: float | None,
    settings: Mapping[str, Any] | None,
    history: History,
) -> list[tuple[str, str]]:
    where = outcome.part
    if outcome.classes:
        lines = [(f"{where} accuracy", f"{scores['accuracy']:.2%}")]
    else:
        r2 = "-" if scores["r2"] is None else f"{scores['r2']:.3f}"
        lines = [(f"{where} R²", r2), (f"{where} mean absolute error", _figure(scores["mae"]))]
    lines += [("parameters", f"{parameters:,}"), ("epochs", str(history.epochs))]
    if seconds is not None:
        lines.append(("seconds", f"{seconds:.1f}"))
    if settings and "seed" in settings:
        lines.append(("seed", str(settings["seed"])))
    return lines


def _history_table(history: History) -> list[dict[str, float]]:
    """Some epochs of the history: the first, the last, and ten or so between."""
    rows = list(history.rows())
    if not rows:
        return []
    step = max(1, math.ceil(len(rows) / 12))
    shown = rows[::step]
    return shown if shown[-1] is rows[-1] else [*shown, rows[-1]]


def _wrong(outcome: Outcome) -> list[dict[str, Any]]:
    if not outcome.classes or outcome.image_shape is None or outcome.inputs is None:
        return []
    high = float(np.max(outcome.inputs)) or 1.0
    return [
        {
            "image": pictures.grey(outcome.inputs[row].reshape(outcome.image_shape), 0.0, high),
            "true": outcome.classes[outcome.targets[row]],
            "predicted": outcome.classes[outcome.predicted[row]],
            "probability": float(outcome.probabilities[row].max()),
        }
        for row in outcome.wrong()[:MOST_PICTURES].tolist()
    ]


def _first_weight(model: Module) -> Array | None:
    """The first weight matrix (units, inputs) of the model."""
    found = (p.value() for name, p in model.named_parameters() if p.ndim == 2)
    return next(found, None)


def _weights(weight: Array | None, shape: tuple[int, int] | None) -> list[dict[str, Any]]:
    if weight is None or shape is None or weight.shape[1] != shape[0] * shape[1]:
        return []
    strong = np.argsort(-np.square(weight).sum(axis=1), kind="stable")[:MOST_UNITS]
    made = []
    for unit in np.sort(strong).tolist():
        most = float(np.abs(weight[unit]).max()) or 1.0
        image = pictures.diverging(weight[unit].reshape(shape), most)
        made.append({"unit": unit, "most": most, "image": image})
    return made


def _features(weight: Array | None, names: Sequence[str]) -> list[dict[str, Any]]:
    """Inputs by the mean size of the first layer's weights on them, the largest first."""
    if weight is None or len(names) != weight.shape[1]:
        return []
    size = np.abs(weight).mean(axis=0)
    order = np.argsort(-size, kind="stable")[:MOST_FEATURES]
    most = float(size.max()) or 1.0
    return [
        {"name": names[i], "size": float(size[i]), "share": float(size[i]) / most}
        for i in order.tolist()
    ]
