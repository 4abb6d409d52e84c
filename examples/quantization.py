"""Quantization: a trained network in whole numbers of 8 bits, and what that costs.

    python examples/quantization.py [--quick] [--seed N] [--out FOLDER]

Every number r is kept as a whole number q of one byte, r = scale * (q - zero) (Jacob et al.,
2018): the weights with one scale for each output, what flows between the layers with a range seen
on training images. Multiplication and addition are then those of integers, and ReLU is a table of
256 entries. First the error of each layer and of the answers; then bits are taken away from the
weights one by one until the network notices.
"""

from __future__ import annotations

import time

import numpy as np
from common import digit_images, options, panels, save_figure, table

import fathom
from fathom import nn
from fathom.train.quantize import quantize

opts = options(__doc__)
epochs, width = (5, 64) if opts.quick else (15, 256)

# -- a trained network ---------------------------------------------------------------------------

train, test = digit_images(*((2000, 1000) if opts.quick else (8000, 2000)), opts.seed)
with fathom.seed(opts.seed):
    model = nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(width, 10),
    )  # fmt: skip
start = time.perf_counter()
model.fit(train.x, train.y, epochs=epochs, batch_size=64, lr=0.001, seed=opts.seed, verbose=False)
answers = model.predict(test.x)  # (n, 10) in floating point
accuracy = float((answers.argmax(1) == test.y).mean())


def compare(outputs: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, share of unchanged decisions, error of the scores relative to their size."""
    same = outputs.argmax(1) == answers.argmax(1)
    error = np.abs(outputs - answers).mean() / np.abs(answers).mean()
    return float((outputs.argmax(1) == test.y).mean()), float(same.mean()), float(error)


# -- all of it in 8 bits: the error report -------------------------------------------------------

small = quantize(model, train.x[:1000])  # these images show the ranges
report = small.report(model, test.x)
table(
    ("layer in 8 bits", "largest error", "mean error", "in steps of its grid", "codes in use"),
    [(r.name, r.largest, r.mean, r.steps, r.codes) for r in report if "Dropout" not in r.name],
)
inside, same, error = compare(small.predict(test.x))
smaller = sum(p.nbytes for p in model.parameters()) / small.nbytes

# -- only the weights, with fewer and fewer bits -------------------------------------------------

trained = {name: p.value().copy() for name, p in model.named_parameters()}


def rounded(w: np.ndarray, bits: int, rows: bool) -> np.ndarray:
    """w (out, in) on a grid of 2^bits - 1 steps around 0, one for the matrix or one a row."""
    top = 2 ** (bits - 1) - 1  # 127 for 8 bits
    scale = np.abs(w).max(axis=1 if rows else None, keepdims=True) / top
    return np.rint(w / np.where(scale > 0, scale, 1)) * scale


lines = []
for bits in range(8, 1, -1):
    found = []
    for rows in (False, True):
        weights = {n: rounded(w, bits, rows) if w.ndim == 2 else w for n, w in trained.items()}
        model.load_state_dict({n: fathom.tensor(w) for n, w in weights.items()})
        found.append(compare(model.predict(test.x)))
    lines.append((bits, found[0][0], *found[1]))
seconds = time.perf_counter() - start
print()
header = ("weight bits", "accuracy, 1 scale", "a scale a row", "same answer", "error of scores")
table(header, lines)
print(
    f"8 bits: accuracy {inside:.2%} instead of {accuracy:.2%}, {smaller:.2f} times smaller, "
    f"{same:.2%} of the answers unchanged, scores off by {error:.1%} ({seconds:.0f} s)"
)

if opts.out:
    figure, (values, curve) = panels(2)
    w = trained["0.weight"]
    values.hist(w.ravel(), 101, alpha=0.5, label="float")
    values.hist(rounded(w, 4, False).ravel(), 101, alpha=0.5, label="4 bits, one scale")
    values.set(title="weights of the first layer", yscale="log")
    values.legend()
    bits, one, each, *_ = zip(*lines, strict=True)
    curve.plot(bits, one, "o-", label="one scale")
    curve.plot(bits, each, "o-", label="a scale a row")
    curve.axhline(accuracy, color="k", ls="--", label="32 bits")
    curve.set(xlabel="bits a weight", ylabel="test accuracy")
    curve.legend()
    save_figure(figure, opts.out, "quantization")

print("Next: go on training with rounded weights (round forward, pass gradients) at 3 bits.")
