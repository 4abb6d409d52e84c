"""Twenty layers, three ways: plain, with batch normalization, with SELU.

    python examples/deep_selu.py [--quick] [--seed N] [--out FOLDER]

In a deep stack each layer multiplies the signal by a factor: forward the values, backward the
gradients. If the factor is 0.6, twenty layers leave 0.6^20 = 0.00004 of it. Batch normalization
(Ioffe and Szegedy, 2015) measures the scale and divides by it; SELU (Klambauer et al., 2017) has
a scale to which it returns by itself, given weights of variance 1 / inputs. Before training we
measure the signal, after it the accuracy.
"""

from __future__ import annotations

import time

import numpy as np
from common import digit_images, options, panels, save_figure, table

import fathom
from fathom import nn
from fathom.nn import functional as F

opts = options(__doc__)
DEPTH = 20
width, epochs, seeds = (64, 3, 1) if opts.quick else (128, 10, 3)

# -- data: pixels with mean 0 and deviation 1, as SELU's theory asks -----------------------------

train, test = digit_images(*((1500, 500) if opts.quick else (8000, 2000)), opts.seed)
mean, std = train.x.mean(), train.x.std()
x_train, x_test = (train.x - mean) / std, (test.x - mean) / std


# -- models: the same 20 matrices; only what stands between them differs -------------------------


def build(kind: str) -> nn.Sequential:
    """784 -> width -> ... -> width -> 10."""
    blocks = []
    for layer in range(DEPTH - 1):
        linear = nn.Linear(784 if layer == 0 else width, width)
        if kind == "SELU":
            nn.init.lecun_normal_(linear.weight)  # deviation 1 / sqrt(inputs)
            nn.init.zeros_(linear.bias)
            blocks.append(nn.Sequential(linear, nn.SELU()))
        elif kind == "BatchNorm":
            blocks.append(nn.Sequential(linear, nn.BatchNorm1d(width), nn.ReLU()))
        else:
            blocks.append(nn.Sequential(linear, nn.ReLU()))
    return nn.Sequential(*blocks, nn.Linear(width, 10))


def signal(model: nn.Sequential) -> tuple[np.ndarray, np.ndarray]:
    """On the first 256 images: each layer's spread of values, and size of weight gradient."""
    h, spread = fathom.tensor(x_train[:256]), []
    for block in list(model)[:-1]:
        h = block(h)
        spread.append(float(h.value().std(0).mean()))  # how much the images differ
    model.zero_grad()
    F.cross_entropy(model[-1](h), fathom.tensor(train.y[:256])).backward()
    gradients = [np.linalg.norm(block[0].weight.grad.value()) for block in list(model)[:-1]]
    model.zero_grad()
    return np.array(spread), np.array(gradients)


# -- the experiment ------------------------------------------------------------------------------

kinds = ("plain ReLU", "BatchNorm", "SELU")
rows, curves, spreads = [], {}, {}
start = time.perf_counter()
for kind in kinds:
    accuracies, losses = [], []
    for seed in range(opts.seed, opts.seed + seeds):
        with fathom.seed(seed):
            model = build(kind)
        spread, gradient = signal(model)
        history = model.fit(
            x_train, train.y, epochs=epochs, batch_size=64, lr=0.001, seed=seed, verbose=False
        )
        losses.append(history["loss"])
        accuracies.append(model.evaluate(x_test, test.y)["accuracy"])
    curves[kind], spreads[kind] = np.mean(losses, axis=0), spread
    low, high = min(accuracies), max(accuracies)
    rows.append((
        kind, f"{spread[-1] / spread[0]:.1e}", f"{gradient[0] / gradient[-1]:.1e}",
        float(curves[kind][-1]), float(np.mean(accuracies)), f"{low:.3f}-{high:.3f}",
    ))  # fmt: skip
seconds = time.perf_counter() - start

table(("20 layers", "signal 19th/1st", "gradient 1st/19th", "loss", "test accuracy", "range"), rows)
print(f"{seeds} seeds, {epochs} epochs; the two ratios are those of the untrained network")
best = max(rows, key=lambda row: row[4])
print(f"best: {best[0]} with test accuracy {best[4]:.2%} ({seconds:.0f} s)")

if opts.out:
    figure, (forward, learning) = panels(2)
    for kind in kinds:
        forward.semilogy(range(1, DEPTH), spreads[kind], "o-", ms=3, label=kind)
        learning.plot(range(1, epochs + 1), curves[kind], "o-", ms=3, label=kind)
    forward.set(xlabel="layer", ylabel="spread of its values", title="before training")
    learning.set(xlabel="epoch", ylabel="training loss", title="training")
    learning.legend()
    save_figure(figure, opts.out, "deep_selu")

print("Next: give the plain network He's weights (nn.init.kaiming_normal_) and see what is left.")
