"""An MLP learns handwritten digits from 8,000 images.

    python examples/mlp_digits.py [--quick] [--seed N] [--out FOLDER]

Every pixel is one input, so the network does not know which pixels are neighbours; how far does
it get all the same, and which digits does it confuse?
"""

from __future__ import annotations

import time

import numpy as np
from common import digit_images, options, panels, save_figure, table

import fathom
from fathom import nn

opts = options(__doc__)
epochs, hidden = (6, 64) if opts.quick else (20, 256)

# -- data: 28 x 28 pixels between 0 and 1, in one row of 784 -------------------------------------

train, test = digit_images(*((2000, 1000) if opts.quick else (8000, 2000)), opts.seed)

# -- model: two hidden layers; dropout, because 8,000 images are soon learnt by heart ------------

with fathom.seed(opts.seed):
    model = nn.Sequential(
        nn.Linear(784, hidden),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(hidden, 10),  # logits; the loss has the softmax
    )

# -- training: Adam on the cross-entropy, which `fit` chooses for whole-number targets -----------

start = time.perf_counter()
history = model.fit(
    train.x,
    train.y,
    epochs=epochs,
    batch_size=64,
    lr=0.002 if opts.quick else 0.001,
    validation_data=(test.x, test.y),  # watched, never used for a decision
    seed=opts.seed,
    verbose=False,
)
seconds = time.perf_counter() - start

# -- what it learnt ------------------------------------------------------------------------------

logits = model.predict(test.x)  # (n, 10)
guess = logits.argmax(1)
confusion = np.zeros((10, 10), int)  # true digit, guessed digit
np.add.at(confusion, (test.y, guess), 1)
per_digit = confusion.diagonal() / confusion.sum(1)
wrong = confusion - np.diag(confusion.diagonal())
true, taken_for = np.unravel_index(wrong.argmax(), wrong.shape)

marks = sorted({1, epochs // 4 + 1, epochs // 2, epochs})
table(
    ("epoch", "loss", "accuracy", "test loss", "test accuracy"),
    [
        (e, *(history[k][e - 1] for k in ("loss", "accuracy", "val_loss", "val_accuracy")))
        for e in marks
    ],
)
weights = sum(p.size for p in model.parameters())
accuracy = float((guess == test.y).mean())
print(f"hardest digit: {per_digit.argmin()} ({per_digit.min():.1%} right)")
print(f"commonest mistake: {true} read as {taken_for}, {wrong.max()} times")
print(f"test accuracy {accuracy:.2%} with {weights:,} weights in {seconds:.1f} s")

if opts.out:
    figure, (curves, mistakes) = panels(2)
    for name in ("loss", "val_loss"):
        curves.plot(range(1, epochs + 1), history[name], label=name)
    curves.set(xlabel="epoch", ylabel="cross-entropy", title="learning")
    curves.legend()
    rows = np.flatnonzero(guess != test.y)[:12]
    tiles = np.zeros((3 * 28, 4 * 28))
    for i, row in enumerate(rows):
        top, left = divmod(i, 4)
        tiles[top * 28 :, left * 28 :][:28, :28] = test.x[row].reshape(28, 28)
    mistakes.imshow(tiles, cmap="gray_r")
    mistakes.set(title="read wrongly: " + " ".join(map(str, guess[rows])), xticks=[], yticks=[])
    save_figure(figure, opts.out, "mlp_digits")

print("Next: cnn_mnist.py gives the network what this one lacks, the neighbourhood of pixels.")
