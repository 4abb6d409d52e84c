"""The whole eager training step: zero_grad, forward, cross-entropy, backward, Adam.

    python benchmarks/step.py [--json FILE] [--quick] [--threads N] [--libraries fathom torch]

Multilayer perceptrons with ReLU in float32, Fathom beside PyTorch (eager, fused Adam).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import harness

CASES = {
    "2-16-16-2 b32": ((2, 16, 16, 2), 32),
    "64-64-32-10 b64": ((64, 64, 32, 10), 64),
    "784-256-128-10 b64": ((784, 256, 128, 10), 64),
    "784-1024-1024-10 b256": ((784, 1024, 1024, 10), 256),
}


def data(case: str) -> tuple[tuple[int, ...], Any, Any]:
    sizes, batch = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, sizes[0])).astype(np.float32)
    return sizes, x, rng.integers(0, sizes[-1], batch)


def fathom_step(case: str) -> tuple[Callable[[], Any], float]:
    import fathom
    from fathom import nn
    from fathom.nn import functional as F

    sizes, x, y = data(case)
    layers = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    optimizer = fathom.optim.Adam(model.parameters())
    inputs, targets = fathom.tensor(x), fathom.tensor(y)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step, 1


def torch_step(case: str) -> tuple[Callable[[], Any], float]:
    import torch
    from torch import nn
    from torch.nn import functional as F

    sizes, x, y = data(case)
    layers = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    inputs, targets = torch.tensor(x), torch.tensor(y)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step, 1


if __name__ == "__main__":
    harness.run(
        __file__,
        "microseconds a training step",
        {"fathom": fathom_step, "torch": torch_step},
        list(CASES),
        "The eager training step of small networks, beside PyTorch.",
    )
