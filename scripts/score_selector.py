"""Does the activation selector choose well? Its answers, ranked among others by training.

python scripts/score_selector.py        (three to four minutes; --seeds 2 or --only MLP for less)

A setting is a question to `fathom.activations.select.choose` and a small network that can be
trained. All candidates get each of the learning rates and the same first draws (with the init
the library gives to such layers, scaled for the candidate); the best rate counts. The score is
the one of the data left out: accuracy, or minus the loss. The gap is the best candidate's mean
minus the choice's, the noise the standard error of that difference over the seeds.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.activations.select import choose
from fathom.nn import functional as F
from fathom.train.quantize import quantize

HIDDEN = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "hard_swish", "tanh", "sigmoid")
RATES = (0.003, 0.01)
Data = tuple[Any, Any, Any, Any]


@dataclass(frozen=True)
class Setting:
    name: str
    question: dict[str, Any]
    candidates: tuple[str, ...]
    data: Callable[[int], Data]
    build: Callable[[str], Any]
    loss: Callable[[Any, Any], Any]
    score: Callable[[Any, Any, Any], float]
    steps: int = 100
    batch: int = 64


# -- data ----------------------------------------------------------------------------------------


def _halves(x: Any, y: Any, seed: int, most: int) -> Data:
    order = fathom.random.Random(seed).stream("split").permutation(len(x))[:most]
    a, b = np.array_split(order, 2)
    return x[a], y[a], x[b], y[b]


def digits(seed: int, shape: tuple[int, ...] = (64,)) -> Data:
    data = fathom.data.load("digits")
    x = (np.asarray(data.x, np.float32) / 8.0 - 1.0).reshape(-1, *shape)
    return _halves(x, data.y, seed, 800)


def spirals(seed: int) -> Data:
    data = fathom.data.load("spirals", n=400, seed=seed)
    return _halves(np.asarray(data.x, np.float32), data.y, seed, 400)


def rates(seed: int) -> tuple[Any, Any]:
    """Inputs and a positive rate that depends on them multiplicatively."""
    stream = fathom.random.Random(seed).stream("rates")
    x = stream.uniform((400, 3), -1.0, 1.0)
    return x, np.exp(1.0 + x @ np.array([1.0, -1.0, 0.5], np.float32))


def counts(seed: int) -> Data:
    x, rate = rates(seed)
    draw = fathom.random.Random(seed).stream("counts").next().poisson(rate)
    return _halves(x, draw.astype(np.float32)[:, None], seed, 400)


def positive(seed: int) -> Data:
    x, rate = rates(seed)
    noise = fathom.random.Random(seed).stream("noise").normal((400,))
    return _halves(x, (np.log1p(rate) * np.exp(0.1 * noise))[:, None].astype("f"), seed, 400)


def labels(seed: int) -> Data:
    data = fathom.data.load("moons", n=300, noise=0.2, seed=seed)
    return _halves(np.asarray(data.x, np.float32), data.y.astype("f")[:, None], seed, 300)


# -- networks ------------------------------------------------------------------------------------


def _gain(name: str) -> float:
    """1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): keeps the second moment from layer to layer."""
    z = np.linspace(-5.0, 5.0, 2001)
    y = nn.activation(name)(fathom.Tensor(z)).value()
    weight = np.exp(-0.5 * z * z)
    return float((weight @ (y * y) / weight.sum()) ** -0.5)


def _start(model: Any, name: str) -> Any:
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.lecun_normal_(layer.weight)
            layer.weight.value()[...] *= _gain(name)
            nn.init.zeros_(layer.bias)
    return model


def perceptron(
    name: str, width: int, depth: int, inputs: int, outputs: int, norm: bool = False
) -> Any:
    layers: list[Any] = []
    for i in range(depth):
        layers.append(nn.Linear(inputs if i == 0 else width, width))
        layers += [nn.BatchNorm1d(width)] * norm + [nn.activation(name)]
    return _start(nn.Sequential(*layers, nn.Linear(width, outputs)), name)


def conv(name: str, depth: int, norm: bool) -> Any:
    layers: list[Any] = []
    for i in range(depth):
        layers.append(nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1, stride=2 if i == 1 else 1))
        layers += ([nn.BatchNorm2d(8)] if norm else []) + [nn.activation(name)]
    return _start(nn.Sequential(*layers, nn.GlobalAvgPool(), nn.Linear(8, 10)), name)


class Recurrent(nn.Module):
    """A plain recurrent network, 16 steps of 4 pixels, with any activation."""

    def __init__(self, name: str, width: int = 24) -> None:
        super().__init__()
        self.into, self.again = nn.Linear(4, width), nn.Linear(width, width, bias=False)
        self.f, self.head = nn.activation(name), nn.Linear(width, 10)
        nn.init.orthogonal_(self.again.weight)

    def forward(self, x: Any) -> Any:
        h = self.f(self.into(x[:, 0]))
        for t in range(1, x.shape[1]):
            h = self.f(self.into(x[:, t]) + self.again(h))
        return self.head(h)


def with_output(name: str, inputs: int) -> Any:
    """A small network whose last activation is the candidate."""
    body = perceptron("tanh", 16, 1, inputs, 1)
    return nn.Sequential(body, nn.activation(name))


# -- losses and scores ---------------------------------------------------------------------------


def accuracy(model: Any, x: Any, y: Any) -> float:
    return float((model(fathom.Tensor(x)).value().argmax(-1) == y).mean())


def int8_accuracy(model: Any, x: Any, y: Any) -> float:
    """After quantization, calibrated on the same rows."""
    return float((quantize(model, x).predict(x).argmax(-1) == y).mean())


def poisson(out: Any, y: Any) -> Any:
    rate = fathom.clip(out, 1e-3, 1e3)
    return (rate - y * rate.log()).mean()


def relative(out: Any, y: Any) -> Any:
    """Squared error of the logarithms: what is not positive counts as 0.001."""
    return ((fathom.clip(out, 1e-3, 1e3).log() - fathom.Tensor(y.log())) ** 2).mean()


def brier(out: Any, y: Any) -> Any:
    """Cross-entropy of probabilities; what lies outside (0, 1) is held to its ends."""
    p = fathom.clip(out, 1e-4, 1.0 - 1e-4)
    return -(y * p.log() + (1.0 - y) * (1.0 - p).log()).mean()


def minus(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], float]:
    return lambda model, x, y: -float(loss(model(fathom.Tensor(x)), fathom.Tensor(y)).item())


def settings() -> list[Setting]:
    deep = {"architecture": "mlp", "depth": 10}
    image = lambda seed: digits(seed, (1, 8, 8))  # noqa: E731
    rows = lambda seed: digits(seed, (16, 4))  # noqa: E731
    ce, output = F.cross_entropy, ("identity", "relu", "tanh", "sigmoid", "softplus", "exponential")
    return [
        Setting("shallow MLP, spirals", {"architecture": "mlp", "depth": 2}, HIDDEN, spirals,
                lambda n: perceptron(n, 24, 2, 2, 2), ce, accuracy, steps=200),
        Setting("deep MLP", deep, HIDDEN, digits,
                lambda n: perceptron(n, 24, 10, 64, 10), ce, accuracy),
        Setting("deep MLP, batch norm", {**deep, "normalization": "batch"}, HIDDEN, digits,
                lambda n: perceptron(n, 24, 10, 64, 10, True), ce, accuracy),
        Setting("INT8 MLP", {"architecture": "mlp", "environment": "int8", "depth": 2}, HIDDEN,
                digits, lambda n: perceptron(n, 24, 2, 64, 10), ce, int8_accuracy),
        Setting("shallow CNN, batch norm", {"architecture": "cnn", "depth": 3,
                "normalization": "batch"}, HIDDEN, image, lambda n: conv(n, 3, True), ce, accuracy,
                steps=60),
        Setting("RNN, 16 steps", {"architecture": "rnn"}, HIDDEN, rows, Recurrent, ce, accuracy),
        Setting("output: counts", {"layer": "output", "task": "counts"}, output, counts,
                lambda n: with_output(n, 3), poisson, minus(poisson), steps=200),
        Setting("output: positive", {"layer": "output", "task": "positive"}, output, positive,
                lambda n: with_output(n, 3), relative, minus(relative), steps=200),
        Setting("output: binary", {"layer": "output", "task": "binary"}, output, labels,
                lambda n: with_output(n, 2), brier, minus(brier), steps=200),
    ]  # fmt: skip


# -- running -------------------------------------------------------------------------------------


def train(setting: Setting, name: str, lr: float, seed: int, steps: int) -> float:
    """The score of one training; the worst there is where it is not finite."""
    x, y, xv, yv = setting.data(seed)
    with fathom.seed(seed), np.errstate(all="ignore"):
        model = setting.build(name)
        optimizer = fathom.optim.Adam(model.parameters(), lr=lr)
        stream = fathom.random.Random(seed).stream("batches")
        for _ in range(steps):
            rows = stream.integers(0, len(x), (min(setting.batch, len(x)),))
            optimizer.zero_grad()
            setting.loss(model(fathom.Tensor(x[rows])), fathom.Tensor(y[rows])).backward()
            optimizer.step()
        model.eval()
        with fathom.no_grad():
            try:
                found = setting.score(model, xv, yv)
            except fathom.FathomError:  # no INT8 grid over what is not finite
                return -math.inf
    return found if math.isfinite(found) else -math.inf


@dataclass(frozen=True)
class Row:
    setting: str
    chosen: str
    rank: int
    of: int
    best: str
    gap: float
    noise: float
    ranking: tuple[str, ...]


def score(setting: Setting, seeds: int, steps: int | None = None) -> Row:
    """Rank the selector's choice among the candidates of a setting."""
    chosen = choose(**setting.question).name
    names = tuple(dict.fromkeys((*setting.candidates, chosen)))
    found = {}
    for name in names:
        grid = [
            [train(setting, name, lr, seed, steps or setting.steps) for seed in range(seeds)]
            for lr in RATES
        ]
        found[name] = np.array(max(grid, key=lambda scores: sum(scores)))
    ranking = sorted(names, key=lambda name: -float(found[name].mean()))
    apart = found[ranking[0]] - found[chosen]
    noise = float(apart.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.nan
    rank = ranking.index(chosen) + 1
    return Row(setting.name, chosen, rank, len(names), ranking[0], float(apart.mean()), noise,
               tuple(ranking))  # fmt: skip


def score_rules(seeds: int = 3, only: Sequence[str] = (), steps: int | None = None) -> list[Row]:
    """A row per setting, printed as it comes."""
    rows = []
    for setting in settings():
        if only and not any(word in setting.name for word in only):
            continue
        start = time.perf_counter()
        row = score(setting, seeds, steps)
        rows.append(row)
        print(f"{row.setting:24} {row.chosen:12} rank {row.rank} of {row.of}, {row.gap:.4f} +- "
              f"{row.noise:.4f} behind {row.best}   ({', '.join(row.ranking)})   "
              f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="words of settings")
    options = parser.parse_args()
    rows = score_rules(options.seeds, options.only)
    top = sum(row.rank <= max(row.of // 3, 1) for row in rows)
    near = sum(row.gap <= 2.0 * row.noise for row in rows)
    print(
        f"in the best third: {top} of {len(rows)}; within two standard errors of the best: {near}"
    )


if __name__ == "__main__":
    main()
