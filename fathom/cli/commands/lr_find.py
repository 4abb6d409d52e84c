"""`fathom lr-find`: which learning rate to begin with, by a range test."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console
from fathom.cli.options import Command, json_option, option
from fathom.cli.run_options import (
    BATCH_SIZE,
    DATA_OPTIONS,
    LOSS,
    NETWORK_OPTIONS,
    OPTIMIZER,
    OUTPUT,
    SEED,
    SPEC,
    options,
)

if TYPE_CHECKING:
    from fathom.cli.settings import Settings
    from fathom.train.lr_find import LRFind

SEARCH = "Search"


@click.command(
    "lr-find",
    cls=Command,
    short_help="Find a learning rate for a data set or a CSV file.",
    examples=(
        "fathom lr-find digits",
        "fathom lr-find houses.csv --target price --optimizer sgd --plot rates.png",
        "fathom lr-find moons --start 1e-5 --end 1 --steps 200 --json",
        "fathom lr-find --spec run.toml",
    ),
)
@click.argument("data", required=False)
@options((SPEC,), DATA_OPTIONS, NETWORK_OPTIONS, (OPTIMIZER, LOSS, BATCH_SIZE, SEED))
@option("--start", group=SEARCH, type=float, default=1e-6, show_default=True, help="First rate.")
@option("--end", group=SEARCH, type=float, default=10.0, show_default=True, help="Last rate.")
@option("--steps", group=SEARCH, type=int, default=100, show_default=True, help="Rates to try.")
@option(
    "--plot",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the loss over the rate to a PNG, SVG or PDF file.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    start: float,
    end: float,
    steps: int,
    plot: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Train the network of `fathom train` on DATA for some steps, the learning rate growing from
    step to step, and print the rate at which the loss fell steepest (Smith, 2017).

    DATA and its options are those of `fathom train`, its files run.toml and run.json (as DATA or
    with --spec) as well; only training rows are used, and nothing is saved.
    """
    from fathom.cli import figures, specs
    from fathom.cli.commands.train import command as train
    from fathom.cli.settings import Settings

    values, _ = specs.gather(ctx, values, train.params)
    known = {field.name for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in values.items() if name in known})
    settings.check()
    figures.check_path(plot)
    filled, name, found = search(settings, start, end, steps)
    if plot is not None:
        figures.write(found.plot(), plot)
    if as_json:
        console.print_json(_facts(filled, name, found, plot))
        return
    better = replace(settings, lr=rounded(found.suggestion))
    console.show(*_lines(filled, name, found), f"next        {better.command()}")
    if plot is not None:
        console.show(f"plot        {plot}")


def search(
    settings: Settings, start: float, end: float, steps: int
) -> tuple[Settings, str, LRFind]:
    """The settings filled in, the name of the data, and what the range test measured."""
    from fathom.cli import fitting
    from fathom.cli.prepare import prepare
    from fathom.cli.training import threads
    from fathom.train.lr_find import lr_find

    settings, prepared = prepare(settings)
    fitting.check_task(settings, prepared)
    model = fitting.network(settings, prepared)
    batch = settings.batch_size or 32
    with threads(model, batch):
        found = lr_find(
            model, prepared.train.x, prepared.train.y, start=start, end=end, steps=steps,
            batch_size=batch, optimizer=fitting.named_optimizer(settings),
            loss=fitting.loss(settings), seed=settings.seed,
        )  # fmt: skip
    return settings, prepared.name, found


def rounded(rate: float) -> float:
    """A rate in two digits.

    >>> rounded(0.0123456)
    0.012
    """
    return float(f"{rate:.2g}")


def _lines(settings: Settings, name: str, found: LRFind) -> list[str]:
    widths = "-".join(map(str, settings.layers or ())) or "none"
    return [
        f"data        {name}, hidden layers {widths}, {settings.optimizer}, "
        f"batches of {settings.batch_size}",
        f"loss        {console.sparkline(found.smoothed)}",
        f"range       {len(found.lrs)} steps from {found.lrs[0]:.3g} to {found.lrs[-1]:.3g}: "
        f"{found.reason}",
        f"at most     {found.lowest:.2g}, a tenth of the rate with the lowest loss",
        f"suggestion  {found.suggestion:.2g}, where the loss falls steepest",
    ]


def _facts(settings: Settings, name: str, found: LRFind, plot: Path | None) -> dict[str, Any]:
    return {
        "data": name,
        "suggestion": found.suggestion,
        "lowest": found.lowest,
        "range": [found.lrs[0], found.lrs[-1]],
        "reason": found.reason,
        "lrs": found.lrs,
        "losses": found.losses,
        "smoothed": found.smoothed,
        "settings": {**settings.to_dict(), "lr": found.suggestion},
        **({} if plot is None else {"plot": str(plot)}),
    }
