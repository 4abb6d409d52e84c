"""What watching costs: whole steps with and without it, by turns, on middle-sized networks.

Timed are steps, not runs: the doctor's first looks at a run cost the same however long it is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fathom.doctor.corpus.api import Api, api
from fathom.doctor.corpus.recipe import unwatched

STEPS = 400
REPEATS = 5


@dataclass(frozen=True)
class Cost:
    """Seconds a step without and with watching (medians over repeats), of one network."""

    network: str
    engine: str
    plain: float
    watched: float

    @property
    def share(self) -> float:
        return self.watched / self.plain - 1


def networks(one: Api) -> Iterator[tuple[str, Any, tuple[int, ...], int]]:
    """Name, model, shape of a batch of inputs, classes."""
    nn = one.nn
    yield "dense 784-512-512-10, batch 128", nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10),
    ), (128, 784), 10  # fmt: skip
    yield (
        "ten layers of 256, batch 128",
        nn.Sequential(
            nn.Linear(256, 256), *[m for _ in range(9) for m in (nn.Tanh(), nn.Linear(256, 256))]
        ),
        (128, 256),
        256,
    )
    yield "convolutions with batch norm, 16 x 16, batch 32", nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 10),
    ), (32, 3, 16, 16), 10  # fmt: skip
    yield "transformer layer, 64 wide, 32 tokens, batch 16", nn.Sequential(
        nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True), nn.Flatten(),
        nn.Linear(2048, 10),
    ), (16, 32, 64), 10  # fmt: skip


def seconds(
    one: Api, model: Any, shape: tuple[int, ...], classes: int, watch: Callable[..., Any],
    steps: int = STEPS,
) -> float:  # fmt: skip
    """Mean time of a step over the whole run, the doctor's part spread over all of them."""
    x = one.randn(*shape)
    y = one.tensor([i % classes for i in range(shape[0])])
    optimizer, loss_fn = one.optim.SGD(model.parameters(), lr=1e-3), one.nn.CrossEntropyLoss()
    with watch(model, optimizer, loss_fn, planned_steps=steps, quiet=True):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        return (time.perf_counter() - start) / steps


def measure(engine: str, steps: int = STEPS, repeats: int = REPEATS) -> list[Cost]:
    """The cost in each network of an engine."""
    from fathom.doctor.watching import watch

    one, found = api(engine), []
    with one.seeded(0):
        for name, model, shape, classes in networks(one):
            plain, watched = [], []
            seconds(one, model, shape, classes, unwatched, 20)
            for _ in range(repeats):
                plain.append(seconds(one, model, shape, classes, unwatched, steps))
                watched.append(seconds(one, model, shape, classes, watch, steps))
            found.append(Cost(name, engine, statistics.median(plain), statistics.median(watched)))
    return found


def main(engines: Sequence[str]) -> None:
    """Print a table."""
    print(f"{'network':50} {'engine':8} {'ms a step':>9} {'watched':>9} {'more':>7}")
    shares = []
    for engine in engines:
        for cost in measure(engine):
            shares.append(cost.share)
            print(f"{cost.network:50} {engine:8} {1e3 * cost.plain:9.3f} {1e3 * cost.watched:9.3f} "
                  f"{cost.share:7.1%}")  # fmt: skip
    print(f"median {statistics.median(shares):.1%}, most {max(shares):.1%}")


__all__ = ["Cost", "main", "measure", "networks"]
