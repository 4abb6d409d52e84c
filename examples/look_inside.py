"""A tour of the engine: the graph, the backward pass step by step, the first NaN, a wrong rule.

    python examples/look_inside.py [--quick] [--seed N] [--out FOLDER]

Nothing is learnt here. One neuron is small enough to print everything that happens in it; the same
four tools work on any model, where they are for finding what is wrong.
"""

from __future__ import annotations

import time

import numpy as np
from common import options

import fathom
from fathom import nn
from fathom.autograd import (
    AnomalyError,
    Function,
    GradientMismatchError,
    backward_steps,
    detect_anomaly,
    gradcheck,
    graph_svg,
    graph_text,
)

opts = options(__doc__)
start = time.perf_counter()
rng = np.random.default_rng(opts.seed)

# -- 1. what was recorded ------------------------------------------------------------------------
# Every operation on a tensor that wants a gradient leaves a node: its inputs, its value, its line.

x = fathom.tensor([0.5, -1.0])
w = fathom.tensor([1.0, 2.0], requires_grad=True)
b = fathom.tensor(0.5, requires_grad=True)
w.name, b.name = "w", "b"
y = fathom.tanh((w * x).sum() + b)  # tanh(0.5 - 2 + 0.5) = tanh(-1)
loss = (y - 1.0) ** 2
print("1. the graph of (tanh(w.x + b) - 1)^2\n")
print(graph_text(loss))

# -- 2. backward, one node at a time -------------------------------------------------------------
# What arrives from above, times the slope here, goes on below; where paths meet, they are added.

print("\n2. the backward pass\n")
for step in backward_steps(loss):  # at the end w.grad and b.grad are what loss.backward() gives
    print(step)
print(f"w.grad = {w.grad.tolist()}, b.grad = {b.grad.item():.4f}")

if opts.out:
    opts.out.mkdir(parents=True, exist_ok=True)
    file = opts.out / "look_inside.svg"
    file.write_text(graph_svg(loss), encoding="utf-8")
    print(f"figure: {file}")

# -- 3. the first value that is not finite -------------------------------------------------------
# An entropy written as p log p is fine until a probability is exactly 0. Anomaly mode says which
# operation of which line made the first NaN or infinity, not where it was noticed.


class Entropy(nn.Module):
    """The mean entropy of rows of scores (n, kinds)."""

    def forward(self, scores: fathom.Tensor) -> fathom.Tensor:
        p = fathom.softmax(scores, -1)
        return -(p * fathom.log(p)).sum(-1).mean()


with fathom.seed(opts.seed):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), Entropy())
large = fathom.tensor(rng.normal(0, 1000, (5, 4)).astype(np.float32))  # forgot to standardize
print("\n3. a NaN and where it comes from\n")
print("the entropy is", model(large).item())
try:
    with detect_anomaly():
        model(large).backward()
    print("all values were finite")
except AnomalyError as error:
    print(error)

# -- 4. is a gradient right? ---------------------------------------------------------------------
# Finite differences know nothing about our rules, so they can be held against them.


class Swish(Function):
    """x sigmoid(x), with a rule of one's own, which forgets a term."""

    @staticmethod
    def forward(ctx: object, x: fathom.Tensor) -> fathom.Tensor:
        ctx.save_for_backward(x)
        return x * fathom.sigmoid(x)

    @staticmethod
    def backward(ctx: object, g: fathom.Tensor) -> fathom.Tensor:
        (x,) = ctx.saved_tensors
        return g * fathom.sigmoid(x)  # + g x sigmoid(x) (1 - sigmoid(x)) is missing


point = fathom.tensor(rng.normal(0, 1, 6), dtype=fathom.float64, requires_grad=True)
print("\n4. gradients against finite differences\n")
print("x * sigmoid(x), Fathom's rules:", gradcheck(lambda x: x * fathom.sigmoid(x), point))
try:
    gradcheck(Swish.apply, point)
except GradientMismatchError as error:
    print("x * sigmoid(x), our own rule:", error)

print(f"\nfour looks inside in {time.perf_counter() - start:.2f} s")
print("Next: mend the rule above, and try graph_text on a model of your own with a batch of one.")
