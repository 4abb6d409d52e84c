"""A two-layer Transformer reads Shakespeare and is measured against a 3-gram model.

    python examples/char_transformer.py [--quick] [--seed N] [--out FOLDER]

The same text and the same table to beat as in char_lstm.py. Where the LSTM must carry what it has
read in its state, every place of a Transformer looks back at all places before it, and learns
which of them matter.
"""

from __future__ import annotations

import numpy as np
from common import characters, compare_with_tables, ngram_losses, options, train_on_text

import fathom
from fathom import optim
from fathom.models import TransformerLM
from fathom.nn import functional as F

opts = options(__doc__)
steps, batch, context, width, rate, limit = (
    (150, 16, 32, 64, 0.01, 40_000) if opts.quick else (1500, 32, 64, 128, 0.004, None)
)

# -- data: the text as numbers, and the tables to beat -------------------------------------------

train, valid, alphabet = characters(limit)
tables = ngram_losses(train, valid, len(alphabet))
context = min(context, len(valid) // 2)
starts = np.arange(0, len(valid) - context, context)  # windows that cover the unseen text

# -- model: (n, time) characters -> (n, time, kinds) scores of the next one ----------------------
# Rotary positions turn queries and keys by an angle that grows with the place, so that a score
# depends on how far apart two places are (Su et al., 2021).

with fathom.seed(opts.seed):
    model = TransformerLM(
        alphabet, d_model=width, heads=4, layers=2, context=context,
        activation="relu", position="rotary",
    )  # fmt: skip
optimizer = optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.1)


def loss_at(codes: np.ndarray, starts: np.ndarray) -> fathom.Tensor:
    """The mean loss over windows of the text that begin at `starts`."""
    at = starts[:, None] + np.arange(context)  # (n, time)
    scores = model(fathom.tensor(codes[at]))  # (n, time, kinds)
    return F.cross_entropy(
        scores.reshape(-1, len(alphabet)), fathom.tensor(codes[at + 1].reshape(-1))
    )


def evaluate(codes: np.ndarray, starts: np.ndarray, size: int = 100) -> float:
    """The mean loss of a whole text; at the start of a window the model is as good as blind."""
    with fathom.no_grad():
        parts = [starts[i : i + size] for i in range(0, len(starts), size)]
        return sum(loss_at(codes, part).item() * len(part) for part in parts) / len(starts)


# -- training: as in char_lstm.py; a Transformer needs the slow start more -----------------------

rng = np.random.default_rng(opts.seed)
run = train_on_text(
    model, optimizer, steps,
    lambda: loss_at(train, rng.integers(0, len(train) - context, batch)),
    lambda: evaluate(valid, starts),
)  # fmt: skip

# -- the comparison, and what the model writes ---------------------------------------------------

text = model.generate("\n", 60 if opts.quick else 300, temperature=0.8, seed=opts.seed)
compare_with_tables("Transformer", model, run, tables, text, opts.out)
print('Next: position="alibi" or "learned", and a context of 128 with half the batch.')
