"""Results as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.cli import console

MOST_CLASSES = 20


def scores(values: Mapping[str, Any], part: str) -> list[Any]:
    """The scores of a model as a headline and tables."""
    rows = values["rows"]
    if "accuracy" not in values:
        r2 = console.number(values["r2"])
        errors = f"mean absolute error {console.number(values['mae'])}"
        root = f"root mean square error {console.number(values['rmse'])}"
        return [f"{part}: R² {r2}, {errors}, {root} on {rows:,} rows"]
    made: list[Any] = [
        f"{part}: {values['accuracy']:.2%} right on {rows:,} rows "
        f"(loss {console.number(values['loss'])}, macro F1 {console.number(values['macro_f1'])})"
    ]
    return made


def matrix(values: Mapping[str, Any]) -> list[Any]:
    """Per-class numbers and the confusion matrix, if there are classes."""
    from rich.text import Text

    if "confusion" not in values:
        return []
    names = [row["class"] for row in values["per_class"]]
    per_class = console.table(
        ("class", "precision", "recall", "F1", "rows"),
        [
            (r["class"], *(f"{r[k]:.3f}" for k in ("precision", "recall", "f1")), r["rows"])
            for r in values["per_class"]
        ],
    )
    if len(names) > MOST_CLASSES:
        return [per_class]
    body = []
    for i, (name, counts) in enumerate(zip(names, values["confusion"], strict=True)):
        styles = ("bold green" if j == i else "bold red" if n else "dim" for j, n in
                  enumerate(counts))  # fmt: skip
        cells = (Text(str(n), style) for n, style in zip(counts, styles, strict=True))
        body.append((name, *cells))
    confusion = console.table(("true \\ said", *names), body)
    return [per_class, confusion]


def summary(found: Any) -> list[Any]:
    """A `model.summary()` as a table and a line."""
    return [console.table(found.header, found.cells(), left=3), found.totals()]
