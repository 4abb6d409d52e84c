"""`fathom datasets`: what there is to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console
from fathom.cli.options import Command, json_option

if TYPE_CHECKING:
    from fathom.data import Dataset, Info

PREVIEW = 5
MOST_COLUMNS = 6


@click.command(
    "datasets",
    cls=Command,
    short_help="List the data sets, or look into one.",
    examples=("fathom datasets", "fathom datasets digits", "fathom datasets iris --json"),
)
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the data sets that `fathom train` knows by name, or show the one called NAME.

    Nothing is downloaded here. Files are looked for in the folder that FATHOM_DATA names.
    """
    from fathom.data import catalogue

    infos = catalogue()
    if name is not None:
        _one(name, infos, as_json)
    elif as_json:
        console.print_json([vars(info) for info in infos])
    else:
        console.show(_listing(infos), "fathom datasets NAME shows more of one.")


def _listing(infos: list[Info]) -> Any:
    rows = [
        (i.name, i.summary, i.source, f"{i.n:,}", i.features, i.classes or "regression")
        for i in infos
    ]
    return console.table(("name", "what", "source", "rows", "features", "classes"), rows, left=3)


def _one(name: str, infos: list[Info], as_json: bool) -> None:
    from fathom.data import load
    from fathom.engine.errors import ArgumentError, MissingFileError, suggest

    key = name.lower().replace("-", "_")
    info = next((i for i in infos if i.name == key), None)
    if info is None:
        raise ArgumentError(f"unknown data set {name!r}", fix=suggest(key, [i.name for i in infos]))
    try:
        data = load(key, download=False) if info.source == "file" else load(key)
    except MissingFileError as error:
        error.fix = f"{error.fix}; `fathom train {key}` downloads them"
        raise
    if as_json:
        console.print_json(_facts(data, info))
    else:
        _show(data, info)


def _facts(data: Dataset, info: Info) -> dict[str, Any]:
    return {
        **vars(info),
        "n": len(data),
        "test_rows": len(data.test) if data.test is not None else 0,
        "description": data.description,
        "note": data.note,
        "target": data.target_name,
        "feature_names": list(data.feature_names),
        "image_shape": data.image_shape,
        "class_counts": _counts(data),
        "target_range": _range(data),
    }


def _counts(data: Dataset) -> dict[str, int]:
    return {name: int((data.y == i).sum()) for i, name in enumerate(data.classes)}


def _range(data: Dataset) -> list[float] | None:
    return None if data.classes else [float(data.y.min()), float(data.y.max())]


def _show(data: Dataset, info: Info) -> None:
    apart = f", and {len(data.test):,} test rows" if data.test is not None else ""
    console.show(
        f"{data.name}: {len(data):,} rows, {data.x.shape[1]} features{apart} ({info.task})",
        data.description,
        *([data.note] if data.note else []),
        f"licence: {data.licence or info.licence}",
    )
    if data.classes:
        counts = [(name, f"{n:,}") for name, n in _counts(data).items()]
        console.show(console.table((data.target_name, "rows"), counts))
    else:
        low, high = _range(data) or (0.0, 0.0)
        console.show(f"target {data.target_name!r} from {low:g} to {high:g}\n")
    if data.image_shape:
        console.show(f"row 0 is a {data.classes[data.y[0]]}:")
        console.show(console.draw_image(data.x[0], data.image_shape))
    else:
        console.show(_preview(data))


def _preview(data: Dataset) -> Any:
    names = data.feature_names[:MOST_COLUMNS]
    more = len(data.feature_names) - len(names)
    rows = []
    for x, y in zip(data.x[:PREVIEW].tolist(), data.y[:PREVIEW].tolist(), strict=True):
        goal = data.classes[y] if data.classes else console.number(y)
        rows.append([goal, *(console.number(value) for value in x[: len(names)])])
    caption = f"and {more} more features" if more else None
    return console.table((data.target_name, *names), rows, caption=caption)
