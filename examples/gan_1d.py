"""A GAN in one dimension: noise becomes samples of two hills, and the two losses hold each other.

    python examples/gan_1d.py [--quick] [--seed N] [--out FOLDER]

Goodfellow et al. (2014): a generator turns noise into numbers, a discriminator says how likely a
number is real. The generator ends with tanh, as data scaled to [-1, 1] ask for; the discriminator
has Leaky ReLUs, which pass a gradient to the generator on either side (Radford et al., 2016). No
loss falls here as in other training. At the balance the discriminator cannot tell, says 1/2 of
everything, and its loss is 2 ln 2 = 1.386; the generator's is ln 2 = 0.693.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
from common import options, panels, save_figure, table

import fathom
from fathom import nn, optim
from fathom.nn import functional as F

opts = options(__doc__)
steps, batch, width, noise = (1200, 128, 32, 4) if opts.quick else (6000, 256, 64, 4)

# -- data: two hills at -0.5 and 0.4, the right one twice as likely ------------------------------

rng = np.random.default_rng(opts.seed)


def real(n: int) -> np.ndarray:
    left = rng.random((n, 1)) < 1 / 3
    return np.where(left, rng.normal(-0.5, 0.08, (n, 1)), rng.normal(0.4, 0.12, (n, 1))).astype("f")


# -- the two players -----------------------------------------------------------------------------

with fathom.seed(opts.seed):
    generator = nn.Sequential(
        nn.Linear(noise, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 1), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(1, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, 1),  # a logit: real or not
    )  # fmt: skip
# less momentum than usual: the other player has moved on, and old gradients are wrong
of_generator = optim.Adam(generator.parameters(), lr=0.001, betas=(0.5, 0.99))
of_discriminator = optim.Adam(discriminator.parameters(), lr=0.002, betas=(0.5, 0.99))


def fake(n: int) -> fathom.Tensor:
    return generator(fathom.tensor(rng.standard_normal((n, noise)).astype("f")))


def loss_of(x: fathom.Tensor, label: float) -> fathom.Tensor:
    """Cross-entropy of what the discriminator says of x, if x were of this label."""
    said = discriminator(x)
    return F.binary_cross_entropy_with_logits(said, fathom.full(said.shape, label))


def distance(n: int = 4000) -> float:
    """How far mass must be carried to make one distribution the other (Wasserstein, 1969)."""
    with fathom.no_grad():
        made = fake(n).value()
    return float(np.abs(np.sort(made, 0) - np.sort(real(n), 0)).mean())


# -- training: a step of one, a step of the other ------------------------------------------------

before = distance()
start, log = time.perf_counter(), []
for step in range(1, steps + 1):
    fall = min(1.0, 2.0 - 2.0 * step / steps)  # in the second half, ever smaller steps
    of_generator.param_groups[0]["lr"] = 0.001 * fall
    of_discriminator.param_groups[0]["lr"] = 0.002 * fall
    of_discriminator.zero_grad()
    judged = loss_of(fathom.tensor(real(batch)), 1.0) + loss_of(fake(batch).detach(), 0.0)
    judged.backward()
    of_discriminator.step()
    of_generator.zero_grad()
    fooled = loss_of(fake(batch), 1.0)  # not log(1 - D), which is flat where G is bad
    fooled.backward()
    of_generator.step()
    log.append((judged.item(), fooled.item()))
seconds = time.perf_counter() - start

# -- what came of it -----------------------------------------------------------------------------

losses = np.array(log)  # (steps, 2)
edges = np.linspace(0, steps, 7).astype(int)
table(
    ("steps up to", "discriminator", "generator", "balance D - 2 G"),
    [(int(b), *map(float, m := losses[a:b].mean(0)), float(m[0] - 2 * m[1]))
     for a, b in pairwise(edges)],
)  # fmt: skip
with fathom.no_grad():
    made = fake(4000).value()[:, 0]
after, last = distance(), losses[-steps // 5 :].mean(0)
print(f"share of the left hill {np.mean(made < 0):.3f} (of the data: {1 / 3:.3f})")
print(
    f"loss of D {last[0]:.3f} (2 ln 2 = {2 * math.log(2):.3f}), of G {last[1]:.3f} (ln 2 = "
    f"{math.log(2):.3f}); distance to the data {after:.3f}, at the start {before:.3f} "
    f"({seconds:.0f} s)"
)

if opts.out:
    figure, (hills, curves) = panels(2)
    bins = np.linspace(-1, 1, 61)
    hills.hist(real(4000)[:, 0], bins, alpha=0.5, density=True, label="data")
    hills.hist(made, bins, alpha=0.5, density=True, label="generator")
    hills.legend()
    smooth = np.stack([np.convolve(c, np.full(50, 1 / 50), "valid") for c in losses.T], 1)
    curves.plot(smooth, label=["discriminator", "generator"])
    for level in (2 * math.log(2), math.log(2)):
        curves.axhline(level, color="k", ls="--", lw=0.7)
    curves.set(xlabel="step", ylabel="loss, mean of 50", title="balance")
    curves.legend()
    save_figure(figure, opts.out, "gan_1d")

print("Next: three hills; see whether the generator forgets one of them (mode collapse).")
