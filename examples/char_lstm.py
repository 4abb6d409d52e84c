"""A character LSTM reads Shakespeare and is measured against a 3-gram model.

    python examples/char_lstm.py [--quick] [--seed N] [--out FOLDER]

A 3-gram model knows how often each character follows each pair of characters: a table, counted
in a moment. An LSTM carries a state of 2 x 192 numbers along the text instead. It is worth its
training time only if it predicts unseen text better than the table.
"""

from __future__ import annotations

import numpy as np
from common import characters, compare_with_tables, ngram_losses, options, train_on_text

import fathom
from fathom import nn, optim
from fathom.nn import functional as F

opts = options(__doc__)
steps, batch, length, width, rate, limit = (
    (250, 16, 48, 96, 0.01, 40_000) if opts.quick else (2400, 32, 64, 192, 0.004, None)
)

# -- data: the text as numbers, and the tables to beat -------------------------------------------

train, valid, alphabet = characters(limit)
tables = ngram_losses(train, valid, len(alphabet))


# -- model: character -> vector -> LSTM -> scores of the next character --------------------------


class CharLSTM(nn.Module):
    """Scores of the next character after every character, and the state behind the last."""

    def __init__(self, kinds: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(kinds, 64)
        self.lstm = nn.LSTM(64, width, batch_first=True)
        self.head = nn.Linear(width, kinds)

    def forward(
        self, codes: fathom.Tensor, state: tuple[fathom.Tensor, fathom.Tensor] | None = None
    ) -> tuple[fathom.Tensor, tuple[fathom.Tensor, fathom.Tensor]]:
        hidden, state = self.lstm(self.embed(codes), state)  # (n, time) -> (n, time, width)
        return self.head(hidden), state  # (n, time, kinds)


with fathom.seed(opts.seed):
    model = CharLSTM(len(alphabet), width)
optimizer = optim.AdamW(model.parameters(), lr=rate)


def loss_of(scores: fathom.Tensor, targets: np.ndarray) -> fathom.Tensor:
    return F.cross_entropy(scores.reshape(-1, len(alphabet)), fathom.tensor(targets.reshape(-1)))


def evaluate(codes: np.ndarray, streams: int = 20, chunk: int = 200) -> float:
    """The mean loss of a whole text, cut into streams that are read side by side."""
    size = (len(codes) - 1) // streams
    x = codes[: streams * size].reshape(streams, size)
    y = codes[1 : streams * size + 1].reshape(streams, size)
    total, state = 0.0, None
    with fathom.no_grad():
        for at in range(0, size, chunk):
            scores, state = model(fathom.tensor(x[:, at : at + chunk]), state)
            total += loss_of(scores, y[:, at : at + chunk]).item() * len(y[0, at : at + chunk])
    return total / size


# -- training: random windows of the text --------------------------------------------------------

rng = np.random.default_rng(opts.seed)


def batch_loss() -> fathom.Tensor:
    at = rng.integers(0, len(train) - length, batch)[:, None] + np.arange(length)  # (n, time)
    return loss_of(model(fathom.tensor(train[at]))[0], train[at + 1])


run = train_on_text(model, optimizer, steps, batch_loss, lambda: evaluate(valid))

# -- the comparison, and what the model writes ---------------------------------------------------

line, state = [alphabet.index("\n")], None
with fathom.no_grad():
    for _ in range(60 if opts.quick else 300):
        scores, state = model(fathom.tensor([[line[-1]]]), state)
        p = np.exp(scores.value()[0, -1].astype(np.float64) / 0.8)  # 0.8: a little bolder
        line.append(int(rng.choice(len(p), p=p / p.sum())))
text = "".join(alphabet[c] for c in line)

compare_with_tables("LSTM", model, run, tables, text, opts.out)
print("Next: two layers with dropout between them (num_layers=2, dropout=0.2) and twice the steps.")
