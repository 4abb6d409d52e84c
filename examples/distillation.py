"""Distillation: does a small network learn more from a large one's doubts than from the labels?

    python examples/distillation.py [--quick] [--seed N] [--out FOLDER]

A label says "7". A trained teacher says "7, but a little like a 1 and hardly like an 8". Hinton,
Vinyals and Dean (2015) divide its scores by a temperature to make such hints visible, and train
a student on them. All students below see the same few images, equally often; only what they are
told about them differs.
"""

from __future__ import annotations

import time

import numpy as np
from common import digit_images, options, panels, save_figure, table

import fathom
from fathom import nn
from fathom.train.distill import distill, soft_labels

opts = options(__doc__)
few, epochs, students, temperature = (300, 20, 2, 4.0) if opts.quick else (1000, 60, 5, 4.0)

train, test = digit_images(*((2000, 1000) if opts.quick else (8000, 2000)), opts.seed)


# -- teacher: wide, with dropout, on all images --------------------------------------------------


def mlp(width: int, dropout: float, seed: int) -> nn.Sequential:
    with fathom.seed(seed):
        return nn.Sequential(
            nn.Linear(784, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
        )


start = time.perf_counter()
teacher = mlp(512, 0.5, opts.seed)
teacher.fit(train.x, train.y, epochs=10, batch_size=64, lr=0.001, seed=opts.seed, verbose=False)
of_teacher = teacher.evaluate(test.x, test.y)["accuracy"]

# -- what it has to say about a few of them ------------------------------------------------------

x, y = train.x[:few], train.y[:few]
scores = teacher.predict(x)  # (few, 10)

# -- students: small, a few starts each; `distill` is `fit` with the teacher's scores ------------

how = {"epochs": epochs, "batch_size": 32, "lr": 0.002, "verbose": False}
ways = {
    "hard labels": lambda s, seed: s.fit(x, y, seed=seed, **how),
    "soft labels": lambda s, seed: distill(s, scores, x, temperature=temperature, seed=seed, **how),
    "both, half and half": lambda s, seed: distill(
        s, scores, x, y, temperature=temperature, alpha=0.5, seed=seed, **how
    ),
}
accuracies: dict[str, list[float]] = {way: [] for way in ways}
losses: dict[str, list[float]] = {way: [] for way in ways}
for way, teach in ways.items():
    for seed in range(opts.seed + 1, opts.seed + 1 + students):
        student = mlp(32, 0.0, seed)
        teach(student, seed)
        judged = student.evaluate(test.x, test.y)
        accuracies[way].append(judged["accuracy"])
        losses[way].append(judged["loss"])
seconds = time.perf_counter() - start

# -- the comparison, seed by seed ----------------------------------------------------------------

weights = {name: sum(p.size for p in m.parameters()) for name, m in
           {"teacher": teacher, "student": student}.items()}  # fmt: skip
print(f"teacher: {weights['teacher']:,} weights, {len(train):,} images, accuracy {of_teacher:.3f}")
print(f"students: {weights['student']:,} weights, {few:,} images, {students} starts each")
table(
    ("students taught by", "test accuracy", "lowest", "highest", "test loss"),
    [(way, float(np.mean(a)), min(a), max(a), float(np.mean(losses[way])))
     for way, a in accuracies.items()],
)  # fmt: skip
hard, gentle, _ = accuracies.values()
gain = np.subtract(gentle, hard)
print(
    f"soft labels are worth {100 * gain.mean():+.2f} points of accuracy, "
    f"better in {(gain > 0).sum()} of {students} starts ({seconds:.0f} s)"
)

if opts.out:
    figure, (image, bars) = panels(2)
    soft = soft_labels(scores, temperature)
    doubtful = int(soft.max(1).argmin())
    image.imshow(x[doubtful].reshape(28, 28), cmap="gray_r")
    image.set(title=f"label {y[doubtful]}", xticks=[], yticks=[])
    bars.bar(range(10), soft[doubtful])
    bars.set(title=f"the teacher, temperature {temperature:g}", xlabel="digit", xticks=range(10))
    save_figure(figure, opts.out, "distillation")

print(
    "Next: let the teacher label the images the students have not seen; they need no labels then."
)
