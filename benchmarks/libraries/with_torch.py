"""PyTorch: eager with its fused Adam, or the model and loss by torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from libraries import work
from libraries.work import Job, Row, Skip

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "squared_relu": lambda x: F.relu(x).square(),
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x: F.prelu(x, torch.full((1,), 0.25)),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "hard_shrink": F.hardshrink,
    "soft_shrink": F.softshrink,
    "hard_tanh": F.hardtanh,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "log_sigmoid": F.logsigmoid,
    "tanh_shrink": F.tanhshrink,
    "exponential": torch.exp,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "softmin": lambda x: F.softmin(x, -1),
    "glu": F.glu,
}


class LastState(nn.Module):
    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


class Encoder(nn.Module):
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


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


@cache
def start(row: str) -> work.Weights:
    return work.weights(work.ROWS[row])


def network(row: Row) -> nn.Module:
    sizes = row.sizes
    if row.network == "mlp":
        layers = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
        model: nn.Module = nn.Sequential(*layers[:-1])
    elif row.network == "lenet":
        model = lenet()
    else:
        model = LastState(*sizes[1:]) if row.network == "lstm" else Encoder(*sizes[1:])
    model.load_state_dict({k: torch.tensor(v) for k, v in start(row.name).items()})
    return model


def fused(parameters: Any) -> Any:
    """Adam in one kernel, where this PyTorch has it for the CPU."""
    held = list(parameters)
    try:
        return torch.optim.Adam(held, lr=work.RATE, fused=True)
    except (RuntimeError, TypeError):
        return torch.optim.Adam(held, lr=work.RATE, foreach=True)


def stepper(row: Row, compiled: bool) -> Callable[..., Any]:
    model = network(row)
    optimizer = fused(model.parameters())

    def loss_of(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def tensors(row: Row, batches: int = 1) -> tuple[Any, Any]:
    x, y = work.data(row, batches)
    return torch.tensor(x), torch.tensor(y)


def steps(row: Row, compiled: bool) -> Job:
    step, (x, y) = stepper(row, compiled), tensors(row)
    return Job(lambda: step(x, y), lambda loss: [loss.item()])


def loop(row: Row, compiled: bool) -> Job:
    """An epoch over a data set in memory; of the fleet, one network, made in the call."""
    held = None if row.kind == "fleet" else stepper(row, compiled)
    x, y = tensors(row, work.STEPS)
    size = row.batch

    def call() -> Any:
        step = held or stepper(row, compiled)
        losses = [step(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
        return torch.stack(losses)

    return Job(call, lambda losses: work.of_arrays(losses.numpy()), work.STEPS, checks=1)


def adam(row: Row, compiled: bool) -> Job:
    start, slope = work.parameters()
    parameter = nn.Parameter(torch.tensor(start))
    parameter.grad = torch.tensor(slope)
    optimizer = fused([parameter])
    step = torch.compile(optimizer.step) if compiled else optimizer.step
    return Job(step, lambda _: work.of_arrays(parameter.detach().numpy()))


def activation(row: Row, compiled: bool) -> Job:
    if compiled:
        raise Skip("compiling each takes seconds")
    function = ACTIVATIONS[row.name]
    x, dy = work.numbers(row.name)
    inputs, slope = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def both() -> Any:
        y = function(inputs)
        return y.detach(), *torch.autograd.grad(y, inputs, slope)

    return Job(both, lambda out: work.of_arrays(*(t.numpy() for t in out)))


KINDS = {"network": steps, "epoch": loop, "fleet": loop, "adam": adam, "activation": activation}


def make(row: Row) -> Job:
    return KINDS[row.kind](row, compiled=False)


def make_compiled(row: Row) -> Job:
    if row.kind == "fleet":
        raise Skip("as in the epoch")
    return KINDS[row.kind](row, compiled=True)
