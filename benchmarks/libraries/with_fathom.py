"""Fathom: compiled to native code, or eager."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.nn import functional as F
from libraries import work
from libraries.work import Job, Row, Skip


class LastState(nn.Module):
    """An LSTM and a linear layer on its last output."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


class Encoder(nn.Module):
    """Transformer layers and a linear layer on the mean over places."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, work.HEADS, hidden, 0.0, batch_first=True)
                for _ in range(work.LAYERS)
            )
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.layers(x).mean(1))


@cache
def start(row: str) -> work.Weights:
    return work.weights(work.ROWS[row])


def network(row: Row) -> nn.Module:
    sizes = row.sizes
    if row.network == "mlp":
        layers = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
        model: nn.Module = nn.Sequential(*layers[:-1])
    elif row.network == "lenet":
        model = fathom.models.lenet.lenet5()
    else:
        model = LastState(*sizes[1:]) if row.network == "lstm" else Encoder(*sizes[1:])
    model.load_state_dict(start(row.name))
    return model


def stepper(row: Row, compiled: bool, keep: bool = True) -> Callable[..., Any]:
    """The training step of a network: (inputs, targets) -> loss.

    keep : whether the gradients are there after the step. An epoch is one native call only where
        they are not: zero_grad comes last.
    """
    model = network(row)
    optimizer = fathom.optim.Adam(model.parameters(), lr=work.RATE)

    def step(x: Any, y: Any) -> Any:
        if keep:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if not keep:
            optimizer.zero_grad()
        return loss

    return fathom.compile(step) if compiled else step


def tensors(row: Row, batches: int = 1) -> tuple[Any, Any]:
    x, y = work.data(row, batches)
    return fathom.tensor(x), fathom.tensor(y)


def steps(row: Row, compiled: bool) -> Job:
    step, (x, y) = stepper(row, compiled), tensors(row)
    return Job(lambda: step(x, y), lambda loss: [loss.item()])


def epoch(row: Row, compiled: bool) -> Job:
    step: Any = stepper(row, compiled, keep=False)
    x, y = tensors(row, work.STEPS)

    def loop() -> list[float]:
        size = row.batch
        return [step(x[i : i + size], y[i : i + size]).item() for i in range(0, len(x), size)]

    def native() -> Any:
        return step.epoch(x, y, batch_size=row.batch)

    if compiled:
        return Job(native, lambda out: work.of_arrays(out.numpy()), work.STEPS, checks=1)
    return Job(loop, work.of_arrays, work.STEPS, checks=1)


def fleet(row: Row, compiled: bool) -> Job:
    """All networks by `train_many`, an epoch without shuffling; making them is part of the call."""
    if not compiled:
        raise Skip("as in the epoch")
    if not hasattr(fathom, "train_many"):
        raise Skip("fathom.train_many is not built yet")
    x, y = work.data(row, work.STEPS)
    threads = int(os.environ["OMP_NUM_THREADS"])  # by default it takes all cores
    spec = {
        "model": lambda: network(row), "optimizer": "adam", "lr": work.RATE, "epochs": 1,
        "batch_size": row.batch, "shuffle": False,
    }  # fmt: skip

    def call() -> Any:
        return fathom.train_many(spec, x, y, seeds=work.NETWORKS, threads=threads)

    def read(found: Any) -> list[float]:
        return work.of_arrays(found.losses[0])

    return Job(call, read, work.STEPS * work.NETWORKS, checks=1)


def adam(row: Row, compiled: bool) -> Job:
    start, slope = work.parameters()
    parameter = nn.Parameter(start)
    parameter.grad = fathom.tensor(slope)
    optimizer = fathom.optim.Adam([parameter], lr=work.RATE)

    def update() -> None:
        optimizer.step()

    step = fathom.compile(update) if compiled else update
    return Job(step, lambda _: work.of_arrays(parameter.detach().numpy()))


def activation(row: Row, compiled: bool) -> Job:
    function = getattr(fathom.activations, row.name)
    x, dy = work.numbers(row.name)
    inputs, slope = fathom.tensor(x), fathom.tensor(dy)

    def both(x: Any, dy: Any) -> Any:
        x = x.detach().requires_grad_()
        y = function(x)
        return y.detach(), *fathom.autograd.grad(y, x, dy)

    call = fathom.compile(both) if compiled else both
    return Job(lambda: call(inputs, slope), lambda out: work.of_arrays(*map(np.asarray, out)))


KINDS = {"network": steps, "epoch": epoch, "fleet": fleet, "adam": adam, "activation": activation}


def make(row: Row) -> Job:
    return KINDS[row.kind](row, compiled=True)


def make_eager(row: Row) -> Job:
    return KINDS[row.kind](row, compiled=False)
