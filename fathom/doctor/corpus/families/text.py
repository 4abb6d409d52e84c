"""Letters and words: language models and a classifier."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import characters, sentences
from fathom.doctor.corpus.loops import by_epochs, by_steps, supervised
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family


@family("text", "tune", "hidden middle tail classes validation", loss="F.ce", width=48, lr=5e-3,
        batch=64, steps=250)  # fmt: skip
def letters_mlp(api: Api, recipe: Recipe, seed: int) -> Program:
    """The next letter from the six before (after Bengio et al., 2003)."""
    b, nn = Build(api, recipe, seed), api.nn
    data = characters(6, seed)

    class Letters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(data.classes, 8)
            self.net = b.mlp(48, b.outputs(data.classes))

        def forward(self, x: Any) -> Any:
            return self.net(self.embedding(x).flatten(1))

    return supervised(b, Letters(), b.data(data), by_steps)


def each_position(b: Build, classes: int) -> Any:
    """The loss over all positions of all windows."""
    criterion = b.criterion()
    return lambda out, y: criterion(out.reshape(-1, classes), y.reshape(-1))


@family("text", "held-out", "tail classes cut weights", loss="F.ce", width=32,
        optimizer="adamw", lr=0.01, batch=24, steps=220, schedule="cosine@batch",
        clip=1.0)  # fmt: skip
def letters_transformer(api: Api, recipe: Recipe, seed: int) -> Program:
    """Two layers of causal attention."""
    b, nn, w, length = Build(api, recipe, seed), api.nn, recipe.width, 12
    data = characters(length, seed, each=True, n=1500)
    mask = api.tensor(np.triu(np.full((length, length), -np.inf), 1))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(data.classes, w)
            self.position = nn.Embedding(length, w)
            self.blocks = nn.ModuleList([
                nn.TransformerEncoderLayer(w, 2, 2 * w, 0.0, batch_first=True, norm_first=True)
                for _ in range(2)
            ])  # fmt: skip
            self.norm, self.head = nn.LayerNorm(w), nn.Linear(w, data.classes)

        def forward(self, x: Any) -> Any:
            h = self.token(x) + self.position(api.arange(length))
            for i, block in enumerate(self.blocks):
                h = block(b.cut(h) if i else h, mask)
            return b.out(self.head(self.norm(h)))

    return supervised(b, Transformer(), b.data(data), by_steps,
                      loss_fn=each_position(b, data.classes))  # fmt: skip


@family("text", "validate", "recurrent classes cut", loss="ce", width=40, lr=0.01, batch=32,
        steps=160, clip=1.0)  # fmt: skip
def letters_gru(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn = Build(api, recipe, seed), api.nn
    data = characters(12, seed, each=True, n=1500)

    class Writer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(data.classes, 16)
            self.gru = nn.GRU(16, recipe.width, batch_first=True)
            self.head = nn.Linear(recipe.width, data.classes)

        def forward(self, x: Any) -> Any:
            return b.out(self.head(b.cut(self.gru(self.embedding(x))[0])))

    return supervised(b, Writer(), b.data(data), by_steps, loss_fn=each_position(b, data.classes))


@family("text", "held-out", "hidden tail logit validation dropout", loss="bce_logits", width=24,
        dropout=0.2, lr=5e-3, batch=32, steps=150)  # fmt: skip
def topic_of_words(api: Api, recipe: Recipe, seed: int) -> Program:
    """What a sentence speaks about, from the mean of its words."""
    b, nn = Build(api, recipe, seed), api.nn
    raw, words = sentences(seed)

    class Topic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(words, 12, padding_idx=0)
            self.hidden = nn.Linear(12, recipe.width)
            self.drop = nn.Dropout(recipe.dropout)
            self.out = nn.Linear(recipe.width, 1)

        def forward(self, x: Any) -> Any:
            h = b.f(self.hidden(self.embedding(x).mean(1)))
            return b.out(self.out(self.drop(h)))

    return supervised(b, Topic(), b.data(raw, column=True), by_epochs, kind="binary")
