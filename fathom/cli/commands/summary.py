"""`fathom summary`: the layers of a network and what they cost."""

from __future__ import annotations

import click

from fathom.cli import console
from fathom.cli.options import Command, Widths, json_option, option

NETWORK = "A network that is not there yet"


@click.command(
    "summary",
    cls=Command,
    short_help="Layers, parameters and costs of a network.",
    examples=(
        "fathom summary runs/digits",
        "fathom summary --layers 256,128 --in 784 --out-features 10",
    ),
)
@click.argument("run", required=False)
@option("--layers", group=NETWORK, type=Widths(), metavar="64,32", help="Hidden widths.")
@option("--in", "inputs", group=NETWORK, type=int, help="Number of inputs.")
@option(
    "--out-features",
    group=NETWORK,
    type=int,
    default=1,
    show_default=True,
    help="Number of outputs.",
)
@option(
    "--activation",
    group=NETWORK,
    default="relu",
    show_default=True,
    help="After each hidden layer.",
)
@option("--dropout", group=NETWORK, type=float, default=0.0, help="Share of dropped units.")
@json_option
def command(
    run: str | None,
    layers: tuple[int, ...] | None,
    inputs: int | None,
    out_features: int,
    activation: str,
    dropout: float,
    as_json: bool,
) -> None:
    """Print the layers of the network in the folder RUN, or of one described by options."""
    from fathom.cli import show, stored
    from fathom.engine import random
    from fathom.models import mlp

    if (run is None) == (layers is None):
        raise click.UsageError("give either RUN or --layers (with --in)")
    if run is not None:
        model = stored.load_model(run)
    else:
        if inputs is None:
            raise click.UsageError("--layers also needs --in, the number of inputs")
        with random.seed(0):
            model = mlp(inputs, out_features, layers or (), activation, dropout)
    if as_json:
        console.print_json(model.summary().to_dict())
        return
    console.show(*show.summary(model))
