"""`fathom predict`: what a stored model says about rows."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fathom.cli import console
from fathom.cli.options import Command, Rows, json_option, option

MOST_SHOWN = 40


@click.command(
    "predict",
    cls=Command,
    short_help="Predict rows of a file or of a data set.",
    examples=(
        "fathom predict runs/houses new.csv --out predictions.csv",
        "fathom predict runs/iris iris --rows 0:5 --proba",
        "fathom predict runs/digits digits --rows 0:3 --json",
    ),
)
@click.argument("run")
@click.argument("data")
@option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a CSV file.")
@option("--proba", is_flag=True, help="Also the probability of each class.")
@option("--rows", type=Rows(), metavar="FROM:TO", help="Only these rows, counted from 0.")
@json_option
def command(
    run: str, data: str, out: Path | None, proba: bool, rows: slice | None, as_json: bool
) -> None:
    """Predict the rows of DATA with the network in the folder RUN.

    DATA is a CSV file with the columns of the training (in any order; the target may be missing)
    or the name of a data set. Classes are given by name, regressions in the units of the data.
    Without --out the predictions go to stdout: as a table on a terminal, else as CSV.
    """
    from fathom.cli import prepare, stored
    from fathom.engine.errors import ArgumentError

    saved = stored.load_run(run)
    if proba and not saved.classes:
        raise ArgumentError("--proba is for classes; this network predicts a number")
    found = prepare.rows_of(data, saved.data, saved.preprocessor, need_target=False)
    which = rows or slice(None)
    x, labels = found.x[which], found.labels[which]
    if not len(x):
        raise ArgumentError(f"{data} has {len(found.x):,} rows; none of them is in --rows")
    for line in found.notes:
        console.note(line)
    answers = _answers(saved, x, labels.tolist(), found.where, proba)
    if out is not None:
        _write(out, _csv(answers))
        console.show(f"{len(answers):,} predictions written to {out}", file=sys.stderr)
    if as_json:
        console.print_json({
            "run": run, "data": data, "notes": found.notes, "predictions": answers,
            "out": None if out is None else str(out),
        })  # fmt: skip
    elif out is None:
        _show(answers)


def _answers(
    saved: Any, x: Any, labels: list[int], where: str, proba: bool
) -> list[dict[str, Any]]:
    """One dictionary a row: where it stands, the prediction, and the probabilities if wanted."""
    outputs = saved.model.predict(x)
    if not saved.classes:
        values = saved.preprocessor.inverse_target(outputs.reshape(-1)).tolist()
        return [{where: i, "prediction": v} for i, v in zip(labels, values, strict=True)]
    from fathom.train.report import softmax

    chances = softmax(outputs)
    names = saved.preprocessor.inverse_target(chances.argmax(axis=1)).tolist()
    made = []
    for i, name, chance in zip(labels, names, chances.tolist(), strict=True):
        row: dict[str, Any] = {where: i, "prediction": name, "probability": max(chance)}
        if proba:
            row["probabilities"] = dict(zip(saved.classes, chance, strict=True))
        made.append(row)
    return made


def _cells(answers: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """A header and the rows of a table."""
    first = answers[0]
    classes = list(first.get("probabilities", {}))
    plain = [key for key in first if key != "probabilities"]
    yield [*plain, *(f"P({name})" for name in classes)]
    for row in answers:
        yield [*(row[key] for key in plain), *row.get("probabilities", {}).values()]


def _csv(answers: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for cells in _cells(answers):
        writer.writerow([f"{c:.7g}" if isinstance(c, float) else c for c in cells])
    return buffer.getvalue()


def _show(answers: list[dict[str, Any]]) -> None:
    if not sys.stdout.isatty():
        print(_csv(answers), end="")
        return
    header, *body = _cells(answers[:MOST_SHOWN])
    rows = [
        [console.number(c) if isinstance(c, float) else str(c) for c in cells] for cells in body
    ]
    more = len(answers) - len(body)
    caption = f"and {more:,} more; --out FILE writes all" if more else None
    console.show(console.table(header, rows, left=2, caption=caption))


def _write(path: Path, text: str) -> None:
    from fathom.engine.errors import OutputError

    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", fix="choose another file with --out"
        ) from error
