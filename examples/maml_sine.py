"""MAML: learn a start from which a few points are enough to learn a sine wave.

    python examples/maml_sine.py [--quick] [--seed N] [--out FOLDER]

The first experiment of Finn, Abbeel and Levine (2017). Every task is a sine of its own amplitude
and phase, of which ten points are shown. One gradient step from the weights w gives w'; MAML moves
w so that the loss at w' falls, which needs the gradient of a gradient step. With `fathom.func`
that is grad inside grad, and vmap over the tasks. The comparison starts from weights trained on
all tasks at once, with steps of the same size.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from common import options, panels, save_figure, table

import fathom
from fathom import nn, optim
from fathom.func import functional_call, grad, vmap

opts = options(__doc__)
iterations, tasks, points, inner = (400, 10, 10, 0.02) if opts.quick else (8000, 25, 10, 0.02)
rng = np.random.default_rng(opts.seed)
Weights = dict[str, Any]


def sines(count: int, points: int) -> tuple[fathom.Tensor, ...]:
    """Points to learn from and points to be judged by, (count, points, 1) each."""
    amplitude, phase = rng.uniform(0.1, 5, (count, 1, 1)), rng.uniform(0, np.pi, (count, 1, 1))
    x = rng.uniform(-5, 5, (count, 2 * points, 1))
    y = amplitude * np.sin(x - phase)
    shown = [a[:, :points] for a in (x, y)] + [a[:, points:] for a in (x, y)]
    return tuple(fathom.tensor(a.astype(np.float32)) for a in shown)


# -- a model is a function of its weights: functional_call takes them as an argument -------------


def network() -> nn.Sequential:
    """The same start for both."""
    with fathom.seed(opts.seed):
        return nn.Sequential(
            nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1)
        )


shape_of = network()  # only its structure is used


def loss(w: Weights, x: Any, y: Any) -> Any:
    return ((functional_call(shape_of, w, x) - y) ** 2).mean()


def adapt(w: Weights, x: Any, y: Any, steps: int = 1) -> Weights:
    """Gradient descent on one task."""
    for _ in range(steps):
        slope = grad(loss)(w, x, y)
        w = {name: w[name] - inner * slope[name] for name in w}
    return w


def after_one_step(w: Weights, x: Any, y: Any, x_new: Any, y_new: Any) -> Any:
    return loss(adapt(w, x, y), x_new, y_new)


# -- training: over tasks, either the loss after a step (MAML) or the loss as it is --------------


def train(second_order: bool) -> Weights:
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.002)
    for _ in range(iterations):
        x, y, x_new, y_new = sines(tasks, points)
        weights = dict(model.named_parameters())
        if second_order:  # one task is written down, vmap runs all
            each = vmap(after_one_step, in_dims=(None, 0, 0, 0, 0))
            total = each(weights, x, y, x_new, y_new).mean()
        else:
            total = loss(weights, x, y)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


start = time.perf_counter()
found = {"trained on all sines": train(False), "MAML": train(True)}
seconds = time.perf_counter() - start

# -- new sines: how good after 0, 1, 5 and 10 steps on ten points? -------------------------------

x, y, x_new, y_new = sines(200, points)
marks = (0, 1, 5, 10)


def judged(w: Weights, steps: int) -> float:
    def one(x: Any, y: Any, x_new: Any, y_new: Any) -> Any:
        return loss(adapt(w, x, y, steps), x_new, y_new)

    return float(vmap(one)(x, y, x_new, y_new).mean().item())


rows = [(name, *(judged(w, steps) for steps in marks)) for name, w in found.items()]
table(("test error after gradient steps", *marks), rows)
plain, maml = rows[0][2], rows[1][2]
word = "below" if maml < plain else "not below"
print(f"error after one step: MAML {maml:.3f} is {word} {plain:.3f} ({seconds:.0f} s)")

if opts.out:
    figure, pair = panels(2)
    grid = np.linspace(-5, 5, 200, dtype=np.float32)[:, None]
    for axes, (name, w) in zip(pair, found.items(), strict=True):
        axes.plot(x[0].value(), y[0].value(), "k^", label="shown")
        for steps in (0, 1, 10):
            guess = functional_call(shape_of, adapt(w, x[0], y[0], steps), fathom.tensor(grid))
            axes.plot(grid, guess.value(), label=f"{steps} steps")
        axes.set(title=name, xlabel="x")
    pair[0].legend()
    save_figure(figure, opts.out, "maml_sine")

print("Next: a first-order MAML (detach the inner slope), and count what the second order brings.")
