"""Quantile regression: not one guess for a patient, but a band that should hold 80 % of them.

    python examples/quantile_regression.py [--quick] [--seed N] [--out FOLDER]

The built-in diabetes table: 442 patients, ten measurements, and how far the disease had gone a
year later. A network with three outputs learns the 10 %, 50 % and 90 % quantiles at once. Every
patient is judged by a network that has not seen them (cross-validation), and the band is compared
with the same two quantiles for everybody, which need no measurements at all.
"""

from __future__ import annotations

import time

import numpy as np
from common import options, panels, save_figure, table

import fathom
from fathom import nn, optim

opts = options(__doc__)
folds, members, epochs = (5, 1, 30) if opts.quick else (10, 5, 30)
LEVELS = (0.1, 0.5, 0.9)

# -- the loss: an error above the guess costs q, one below costs 1 - q ---------------------------
# Guessing too low is made expensive for q = 0.9, so the cheapest guess has 90 % of the patients
# below it (Koenker and Bassett, 1978).

pinball = nn.QuantileLoss(LEVELS)  # guesses (n, 3), targets (n,) -> their mean

# -- model: few weights, for there are few patients ----------------------------------------------


def train(x: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    """A network fitted to standardized measurements and targets."""
    with fathom.seed(seed):
        model = nn.Sequential(
            nn.Linear(10, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, len(LEVELS))
        )
    optimizer = optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.1)
    model.fit(
        x, y, epochs=epochs, batch_size=32, loss=pinball, optimizer=optimizer, metrics=None,
        seed=seed, verbose=False,
    )  # fmt: skip
    return model


# -- cross-validation: several networks for each fold, their quantiles averaged ------------------

data = fathom.data.load("diabetes")
n = len(data)
fold = np.random.default_rng(opts.seed).permutation(n) % folds
band, constant = np.zeros((n, 3)), np.zeros((n, 3))
start = time.perf_counter()
for k in range(folds):
    seen, unseen = fold != k, fold == k
    mean, std = data.x[seen].mean(0), data.x[seen].std(0)
    centre, scale = data.y[seen].mean(), data.y[seen].std()
    x, y = (data.x - mean) / std, (data.y - centre) / scale
    for member in range(members):
        model = train(x[seen], y[seen], seed=opts.seed + 100 * k + member)
        band[unseen] += (model.predict(x[unseen]) * scale + centre) / members
    constant[unseen] = np.quantile(data.y[seen], LEVELS)
band = np.sort(band, axis=1)  # quantiles must not cross
seconds = time.perf_counter() - start

# -- is the band honest (80 % inside), and is it any use (narrower)? -----------------------------


def judge(quantiles: np.ndarray) -> tuple[float, float, float]:
    """The share of patients inside the band, its mean width, and the quantile loss."""
    low, _, high = quantiles.T
    inside = float(((low <= data.y) & (data.y <= high)).mean())
    loss = pinball(fathom.tensor(quantiles), fathom.tensor(data.y.astype(quantiles.dtype))).item()
    return inside, float((high - low).mean()), loss


rows = [("network", *judge(band)), ("same for everybody", *judge(constant))]
table(("10-90 % band", "coverage", "mean width", "quantile loss"), rows)
coverage, width, _ = rows[0][1:]
margin = 1.96 * np.sqrt(0.8 * 0.2 / n)
print(f"an honest band covers 80 % +- {100 * margin:.1f} % of {n} patients by chance alone")
print(
    f"coverage of the 10-90 % band {coverage:.1%}, {1 - width / rows[1][2]:.0%} narrower than "
    f"without measurements ({seconds:.0f} s)"
)

if opts.out:
    figure, axes = panels(1)
    order = np.argsort(band[:, 1])
    axes.fill_between(range(n), band[order, 0], band[order, 2], alpha=0.3, label="10-90 %")
    axes.plot(band[order, 1], label="median")
    axes.plot(data.y[order], "k.", ms=2, label="patients")
    axes.set(xlabel="patients by predicted median", ylabel="progression after a year")
    axes.legend()
    save_figure(figure, opts.out, "quantile_regression")

print(
    "Next: widen the band by the misses on held-out patients (conformal prediction) to reach 80 %."
)
