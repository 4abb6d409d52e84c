"""Catastrophic forgetting: a network learns 0 to 4, then 5 to 9, and no longer knows a 3.

    python examples/forgetting.py [--quick] [--seed N] [--out FOLDER]

Nothing in a gradient says what is to be kept: each step on the second task moves the weights the
first one needs (McCloskey and Cohen, 1989). Measured here: how much is lost, how soon, and what
rehearsal saves, which mixes a few stored images of the first task into every batch (Robins, 1995).
"""

from __future__ import annotations

import copy
import time

import numpy as np
from common import digit_images, options, panels, save_figure, table

import fathom
from fathom import nn, optim
from fathom.nn import functional as F

opts = options(__doc__)
steps, kept, batch = (150, 100, 64) if opts.quick else (600, 200, 64)

# -- data: one set of ten digits, cut in two tasks -----------------------------------------------

train, test = digit_images(*((2000, 1000) if opts.quick else (8000, 2000)), opts.seed)
tasks = [np.flatnonzero(train.y // 5 == k) for k in range(2)]  # rows of 0-4, and of 5-9
rng = np.random.default_rng(opts.seed)


def accuracy(model: nn.Module, task: int) -> float:
    """On the unseen images of a task; all ten digits are possible answers."""
    rows = test.y // 5 == task
    return float((model.predict(test.x[rows]).argmax(1) == test.y[rows]).mean())


def learn(
    model: nn.Module, rows: np.ndarray, stored: np.ndarray | None = None
) -> list[tuple[int, float, float]]:
    """Steps on batches of some rows, half of each from the stored ones; accuracies on the way."""
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    seen = [(0, accuracy(model, 0), accuracy(model, 1))]
    for step in range(1, steps + 1):
        chosen = rng.choice(rows, batch)
        if stored is not None:  # what is to be kept
            chosen[: batch // 2] = rng.choice(stored, batch // 2)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(fathom.tensor(train.x[chosen])), train.y[chosen])
        loss.backward()
        optimizer.step()
        if step % (steps // 15) == 0:
            seen.append((step, accuracy(model, 0), accuracy(model, 1)))
    return seen


# -- the first task ------------------------------------------------------------------------------

start = time.perf_counter()
with fathom.seed(opts.seed):
    first = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
learn(first, tasks[0])
before = accuracy(first, 0)
print(f"after the first task: {before:.1%} of the unseen 0 to 4 are right")


# -- the second task, four ways ------------------------------------------------------------------

curves = {}
for name, count in {
    "nothing": 0, f"{kept // 10} images": kept // 10, f"{kept} images": kept, "all images": None,
}.items():  # fmt: skip
    stored = rng.permutation(tasks[0])[:count] if count != 0 else None
    curves[name] = learn(copy.deepcopy(first), tasks[1], stored)
seconds = time.perf_counter() - start

ends = {name: curve[-1][1:] for name, curve in curves.items()}
table(
    ("kept of the first task", "0-4 after", "5-9 after", "mean"),
    [(name, *end, float(np.mean(end))) for name, end in ends.items()],
)
plain, rehearsed = ends["nothing"][0], ends[f"{kept} images"][0]
half = next(step for step, known, _ in curves["nothing"] if known < before / 2)
print(f"half of the first task is gone after {half} of {steps} steps at the latest")
print(
    f"accuracy on the first task falls from {before:.1%} to {plain:.1%}; "
    f"with rehearsal it is {rehearsed:.1%} ({seconds:.0f} s)"
)

if opts.out:
    figure, both = panels(2)
    for axes, task, title in zip(both, (1, 2), ("0 to 4", "5 to 9"), strict=True):
        for name, curve in curves.items():
            axes.plot([c[0] for c in curve], [c[task] for c in curve], label=name)
        axes.set(xlabel="step of the second task", ylabel="accuracy", title=title, ylim=(0, 1))
    both[0].legend(title="kept")
    save_figure(figure, opts.out, "forgetting")

print("Next: find how few stored images keep the first task above 80 %.")
