"""What watching costs: processor time of a training run with the doctor over one without.

    python benchmarks/doctor.py [--engine torch,eager,compiled,fit] [--model mlp,lstm]
                                [--steps 300] [--pairs 7]

Watched and unwatched runs of the same model take turns in one process, on one thread; each ratio
is one of two neighbours, so that a machine that gets slower or faster meanwhile does not count. A
run begins with a new optimizer and includes opening and closing the watch and what it decides.
Printed are, for each model, the time of a step, the median and the range of the ratios; the share
of the time that the doctor counted as its own; and that with what it does in every step, which it
does not count and which is measured apart. Processor time is not quite the program's own, caches
are shared: on a busy machine "in all" is the number to go by.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _threads in ("OMP", "OPENBLAS", "MKL", "FATHOM"):  # before NumPy is there
    os.environ[f"{_threads}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's fathom
Built = tuple[Any, tuple[int, ...], int]  # model, shape of its input, classes
BATCHES = 20  # of each data set
ENGINES = ("torch", "eager", "compiled", "fit")


def toy(nn: Any) -> Built:
    """A small table: a step takes a fraction of a millisecond."""
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5)), (32, 20), 5


def digits(nn: Any) -> Built:
    """A fully connected network for images of 28 by 28 pixels."""
    layers = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                           nn.Linear(128, 10))  # fmt: skip
    return layers, (128, 784), 10


def mlp(nn: Any) -> Built:
    """A wide one: 1.9 million weights."""
    layers = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
                           nn.Linear(1024, 10))  # fmt: skip
    return layers, (32, 784), 10


def deep(nn: Any) -> Built:
    """Eight layers with normalization."""
    parts: list[Any] = []
    for _ in range(7):
        parts += [nn.Linear(256, 256), nn.LayerNorm(256), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(256, 10)), (128, 256), 10


def convolutional(nn: Any) -> Built:
    """Three convolutions with batch normalization."""
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 64, 10),
    )  # fmt: skip
    return layers, (16, 3, 32, 32), 10


def residual(nn: Any) -> Built:
    """Four residual blocks of 16 channels."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in "ab")
            self.norm, self.again = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            inner = self.relu(self.norm(self.first(x)))
            return self.relu(x + self.again(self.second(inner)))

    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *(Block() for _ in range(4)), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    return layers, (8, 3, 16, 16), 10


def transformer(nn: Any) -> Built:
    """Two layers, 64 wide, 32 tokens."""
    layers = (nn.TransformerEncoderLayer(64, 4, 128, 0.1, batch_first=True) for _ in range(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10)), (8, 32, 64), 10


def lstm(nn: Any) -> Built:
    """64 units over 24 steps of time."""

    class Reader(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(32, 64, batch_first=True)
            self.out = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            return self.out(self.cell(x)[0][:, -1])

    return Reader(), (32, 24, 32), 10


MODELS: dict[str, Callable[[Any], Built]] = {
    f.__name__: f for f in (toy, digits, mlp, deep, convolutional, residual, transformer, lstm)
}


class Bench:
    """One model, trained in one way."""

    def __init__(self, engine: str, build: Callable[[Any], Built]) -> None:
        from fathom.doctor.corpus.api import api

        self.engine = engine
        self.api = api("torch" if engine == "torch" else "fathom")
        with self.api.seeded(0):
            self.model, shape, classes = build(self.api.nn)
        self.loss_fn = self.api.nn.CrossEntropyLoss()
        noise = np.random.default_rng(0)
        self.rows = shape[0]
        self.x = noise.normal(size=(BATCHES * shape[0], *shape[1:])).astype(np.float32)
        self.y = noise.integers(0, classes, BATCHES * shape[0])
        self.counted = 0.0  # share of the last watched run that the doctor counted

    def run(self, steps: int, watched: bool) -> float:
        """Seconds of processor time a step."""
        optimizer = self.api.optim.Adam(self.model.parameters(), lr=1e-4)
        loop = self._fit if self.engine == "fit" else self._loop
        gc.collect()
        start = time.process_time()
        loop(optimizer, steps, watched)
        return (time.process_time() - start) / steps

    def _loop(self, optimizer: Any, steps: int, watched: bool) -> None:
        from fathom.doctor.watching import watch

        cuts = [slice(i * self.rows, (i + 1) * self.rows) for i in range(BATCHES)]
        batches = [(self.api.tensor(self.x[c]), self.api.tensor(self.y[c])) for c in cuts]

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = self.loss_fn(self.model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        if self.engine == "compiled":
            step = self.api.root.compile(step)
            step(*batches[0])
        block: Any = contextlib.nullcontext()
        if watched:
            block = watch(self.model, optimizer, self.loss_fn, planned_steps=steps, quiet=True)
        with block as seen:
            for i in range(steps):
                step(*batches[i % BATCHES])
        self.counted = seen.overhead if watched else 0.0

    def _fit(self, optimizer: Any, steps: int, watched: bool) -> None:
        from fathom.doctor.callback import Doctor

        seen = Doctor(quiet=True)
        self.model.fit(
            self.x, self.y, loss="cross_entropy", optimizer=optimizer, batch_size=self.rows,
            epochs=max(steps // BATCHES, 1), callbacks=[seen] if watched else [], verbose=False,
        )  # fmt: skip
        self.counted = seen.watch.overhead if watched and seen.watch else 0.0

    def ratios(self, steps: int, pairs: int) -> tuple[list[float], float, float]:
        """Watched over unwatched, pair by pair; seconds of an unwatched step; share counted."""
        self.run(20, False)
        self.run(20, True)
        found, plain, counted = [], [], []
        for i in range(pairs):
            order = (False, True) if i % 2 else (True, False)
            took = {}
            for watched in order:
                took[watched] = self.run(steps, watched)
                counted += [self.counted] if watched else []
            found.append(took[True] / took[False])
            plain.append(took[False])
        return found, statistics.median(plain), statistics.median(counted)


def in_every_step(engine: str, blocks: int = 20, steps: int = 100) -> float:
    """Seconds that watching takes in a step in which nothing is sampled: of a small model, blocks
    with and without in turns, the median of their differences."""
    from fathom.doctor.watching import watch

    bench = Bench(engine, toy)
    optimizer = bench.api.optim.SGD(bench.model.parameters(), lr=1e-5)
    x, y = bench.api.tensor(bench.x[:4]), bench.api.tensor(bench.y[:4])

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = bench.loss_fn(bench.model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    if engine in ("compiled", "fit"):
        step = bench.api.root.compile(step)

    def block() -> float:
        start = time.process_time()
        for _ in range(steps):
            step(x, y)
        return (time.process_time() - start) / steps

    found = []
    for _ in range(blocks):
        plain = block()
        with watch(bench.model, optimizer, quiet=True, every=10**6, budget=1e-9):
            block()  # the first steps are looked at closely
            found.append(block() - plain)
    return statistics.median(found)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="What watching with the doctor costs.")
    parser.add_argument("--engine", default=",".join(ENGINES))
    parser.add_argument("--model", default=",".join(MODELS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    print(f"{'engine':9}{'model':15}{'ms a step':>10}{'watched':>9}{'range':>18}{'counted':>9}"
          f"{'in all':>9}")  # fmt: skip
    shares = []
    for engine in options.engine.split(","):
        if engine == "torch":
            import torch

            torch.set_num_threads(1)
        always = in_every_step(engine)
        for name in options.model.split(","):
            ratios, step, counted = Bench(engine, MODELS[name]).ratios(options.steps, options.pairs)
            spread = f"{min(ratios) - 1:.1%} to {max(ratios) - 1:.1%}"
            share = counted + always / step
            shares += [share] if step >= 2e-3 else []
            print(f"{engine:9}{name:15}{1e3 * step:10.2f}{statistics.median(ratios) - 1:9.1%}"
                  f"{spread:>18}{counted:9.1%}{share:9.1%}", flush=True)  # fmt: skip
    if shares:
        print(f"steps of 2 ms and more, in all: median {statistics.median(shares):.1%}, "
              f"most {max(shares):.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
