"""The options of a run, in lists that commands share: its data, its network, its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from fathom.cli.options import F, Pair, Widths, option

DATA, MODEL, TRAINING, OUTPUT = "Data", "Network", "Training", "Output"

Decorator = Callable[[Any], Any]


def options(*lists: Sequence[Decorator]) -> Callable[[F], F]:
    """All options of the lists, in their order on the help page."""

    def decorate(function: F) -> F:
        for one in reversed([one for some in lists for one in some]):
            function = one(function)
        return function

    return decorate


DATA_OPTIONS: tuple[Decorator, ...] = (
    option("--target", group=DATA, help="Column to predict (needed for a CSV file)."),
    option(
        "--task",
        group=DATA,
        type=click.Choice(["classification", "regression"]),
        help="Chosen from the target column unless given.",
    ),
    option(
        "--type",
        "types",
        group=DATA,
        multiple=True,
        type=Pair(),
        metavar="COLUMN=KIND",
        help="Say that a column is categorical or numeric. Repeatable.",
    ),
    option("--drop", group=DATA, multiple=True, metavar="COLUMN", help="Leave a column out."),
    option(
        "--missing",
        group=DATA,
        multiple=True,
        metavar="TEXT",
        help="One more spelling of 'no value', beside the empty cell, NA, ?, ...",
    ),
    option(
        "--delimiter", group=DATA, help="Between the cells of the CSV file; found if not given."
    ),
    option(
        "--validation", group=DATA, type=float, help="Share of rows to choose weights by [0.1]."
    ),
    option("--test", group=DATA, type=float, help="Share of rows to test on [0.2]."),
)

NETWORK_OPTIONS: tuple[Decorator, ...] = (
    option(
        "--layers",
        group=MODEL,
        type=Widths(),
        metavar="64,32",
        help="Widths of the hidden layers; 'none' for a linear model.",
    ),
    option(
        "--activation",
        group=MODEL,
        default="relu",
        show_default=True,
        help="After each hidden layer: relu, tanh, gelu, swiglu, ...; see fathom activations.",
    ),
    option("--dropout", group=MODEL, type=float, help="Share of hidden units dropped in training."),
    option(
        "--init",
        group=MODEL,
        metavar="NAME",
        help="First weights: auto, he_normal, xavier_uniform, lecun_normal, orthogonal, lsuv, ...",
    ),
)

LOSS = option(
    "--loss",
    group=TRAINING,
    metavar="NAME",
    help="cross_entropy, focal, mse, mae, huber:delta=0.5, ... [what the target asks for].",
)

OPTIMIZER = option(
    "--optimizer",
    group=TRAINING,
    default="adam",
    show_default=True,
    metavar="NAME",
    help="adam, adamw, sgd, lion, rmsprop, lbfgs, sam:rho=0.1, lookahead:base=adam, ...",
)

BATCH_SIZE = option("--batch-size", group=TRAINING, type=int, help="Rows in a step.")

SEED = option(
    "--seed",
    group=TRAINING,
    type=int,
    default=0,
    show_default=True,
    help="Fixes split, first weights, order and dropout.",
)

SPEC = option(
    "--spec",
    group=DATA,
    type=click.Path(path_type=str),
    metavar="FILE",
    help="Take options from a TOML or JSON file; those typed here go before it.",
)

TRAINING_OPTIONS: tuple[Decorator, ...] = (
    OPTIMIZER,
    option("--lr", group=TRAINING, type=float, help="Learning rate."),
    option("--momentum", group=TRAINING, type=float, help="For sgd, sam [0.9] and rmsprop."),
    option("--epochs", group=TRAINING, type=int, help="Passes over the training rows, at most."),
    BATCH_SIZE,
    option(
        "--augment/--no-augment",
        group=TRAINING,
        default=None,
        help="Images: train also on copies moved by part of a pixel [for fewer than 5,000].",
    ),
    option(
        "--transform",
        group=TRAINING,
        multiple=True,
        metavar="NAME",
        help="Change each batch: mixup, noise:std=0.1, flip, crop:padding=1, ... Repeatable.",
    ),
    SEED,
    option(
        "--patience",
        group=TRAINING,
        type=int,
        help="Stop after so many epochs without a better validation loss.",
    ),
    option(
        "--monitor",
        group=TRAINING,
        metavar="COLUMN",
        help="What is to get better instead: val_accuracy, loss, ... [val_loss].",
    ),
    option("--min-delta", group=TRAINING, type=float, help="Smaller gains count as none."),
    option(
        "--max-time",
        group=TRAINING,
        type=float,
        metavar="SECONDS",
        help="Stop after the epoch in which so many seconds have passed.",
    ),
    option("--weight-decay", group=TRAINING, type=float, help="How much weights are drawn to 0."),
    option(
        "--schedule",
        group=TRAINING,
        metavar="NAME",
        help="Of the learning rate: cosine, onecycle, plateau, step, warmup_cosine, ...",
    ),
    option("--clip-norm", group=TRAINING, type=float, help="Bound for the norm of gradients."),
    option("--clip-value", group=TRAINING, type=float, help="Bound for each gradient's elements."),
    option(
        "--penalty",
        group=TRAINING,
        metavar="NAME",
        help="On the weights: l1, l2:strength=0.01, elastic_net:l1=1e-4,l2=1e-3, proximal_l1.",
    ),
    option("--accumulate", group=TRAINING, type=int, help="Batches whose gradients make a step."),
    option(
        "--ema",
        group=TRAINING,
        type=float,
        metavar="DECAY",
        help="Keep a moving average of the weights, such as 0.99.",
    ),
    option(
        "--label-smoothing",
        group=TRAINING,
        type=float,
        help="Share of each target spread over all classes.",
    ),
    option(
        "--class-weight",
        group=TRAINING,
        metavar="WEIGHTS",
        help="balanced: every class counts the same, however rare; or one for each: 1,2,0.5.",
    ),
    LOSS,
    option(
        "--metrics",
        group=TRAINING,
        multiple=True,
        metavar="NAME",
        help="Measured in each epoch: accuracy, f1, rmse, ... Repeatable [what the target asks].",
    ),
)
