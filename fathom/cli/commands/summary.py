"""`fathom summary`: the layers of a network and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console
from fathom.cli.options import Command, Shape, Widths, json_option, option

if TYPE_CHECKING:
    from fathom.nn import Module

NETWORK = "A network that is not there yet"


@click.command(
    "summary",
    cls=Command,
    short_help="Layers, parameters and costs of a network.",
    examples=(
        "fathom summary runs/digits",
        "fathom summary --layers 256,128 --in 784 --out-features 10",
        "fathom summary lenet.json --input 1x28x28",
        "fathom summary run.toml",
    ),
)
@click.argument("run", required=False)
@option(
    "--input",
    "shape",
    type=Shape(),
    metavar="1x28x28",
    help="Shape of one input; what layers that begin without a size learn theirs from.",
)
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
    shape: tuple[int, ...] | None,
    layers: tuple[int, ...] | None,
    inputs: int | None,
    out_features: int,
    activation: str,
    dropout: float,
    as_json: bool,
) -> None:
    """Print the layers of the network in RUN, or of one described by options.

    RUN is a folder of `fathom train` or of `model.save`, or a file: what `fathom train` reads
    (the network it would train is built), or a network as TOML or JSON, with the names of
    `fathom.nn` and their arguments, layers under "layers", as `state.json` has it. Layers such
    as LazyLinear get their sizes from --input.
    """
    from fathom.cli import show, specs, stored
    from fathom.engine import random
    from fathom.models import mlp

    if (run is None) == (layers is None):
        raise click.UsageError("give either RUN or --layers (with --in)")
    if run is not None:
        model = _of_file(run) if specs.is_spec(run) else stored.load_model(run)
    else:
        if inputs is None:
            if shape is None or len(shape) > 1:
                raise click.UsageError("--layers also needs --in, the number of inputs")
            inputs = shape[0]
        with random.seed(0):
            model = mlp(inputs, out_features, layers or (), activation, dropout)
    found = _summary(model, shape)
    if as_json:
        console.print_json(found.to_dict())
        return
    console.show(*show.summary(found))


def _summary(model: Module, shape: tuple[int, ...] | None) -> Any:
    from fathom.engine.errors import ArgumentError, ShapeError
    from fathom.nn import UninitializedParameter

    words = "say the shape of one input: --input 1x28x28 for an image, --input 8 for a row"
    if shape is None and any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        raise ArgumentError("some layers learn their size from the input", fix=words)
    try:
        return model.summary(input_shape=shape)
    except (ShapeError, ArgumentError) as error:
        error.fix = f"another shape than {'x'.join(map(str, shape))}" if shape else words
        raise


def _of_file(path: str) -> Module:
    """The network a file describes, or that of the training it describes."""
    from fathom.cli import fitting, specs
    from fathom.cli.commands.train import command as train
    from fathom.cli.settings import Settings
    from fathom.engine import random
    from fathom.engine.errors import FathomError
    from fathom.nn.spec import from_spec

    found: Mapping[str, Any] = specs.parsed(path)
    if isinstance(found.get("type"), str) and "data" not in found:
        try:
            with random.seed(0):
                return from_spec(found)
        except FathomError as error:
            error.message = f"{path}: {error.message}"
            raise
    from fathom.cli.prepare import prepare

    values = specs.read(path, train.params)
    known = Settings.__dataclass_fields__
    settings = Settings(**{name: value for name, value in values.items() if name in known})
    settings.check()
    settings, prepared = prepare(settings)
    return fitting.network(settings, prepared)
