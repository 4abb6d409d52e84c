"""Sequences of numbers: recurrent networks."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from typing import Any

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import forecasts, running_sums, tags, waves
from fathom.doctor.corpus.loops import by_epochs, by_steps, supervised
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family

NET = "inputs tail recurrent "


def reader(b: Build, kind: str, inputs: int, outputs: int) -> Any:
    """A recurrent layer, and a linear one on its last state."""
    nn = b.nn

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind)(inputs, b.recipe.width, b.recipe.depth, batch_first=True)
            self.head = nn.Linear(b.recipe.width, outputs)

        def forward(self, x: Any) -> Any:
            states, _ = self.rnn(x)
            return b.out(self.head(b.cut(states[:, -1])))

    return Reader()


@family("sequences", "tune", NET + "logit validation cut", loss="bce_logits", width=20, depth=1,
        lr=0.01, batch=32, steps=160, clip=1.0)  # fmt: skip
def sums_rnn(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(running_sums(seed=seed), column=True)
    return supervised(b, reader(b, "RNN", 2, 1), data, kind="binary")


@family("sequences", "validate", NET + "classes cut", loss="F.ce", width=20, depth=1, lr=0.01,
        batch=32, steps=220, clip=1.0)  # fmt: skip
def waves_lstm(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    return supervised(b, reader(b, "LSTM", 1, b.outputs(3)), b.data(waves(seed=seed)), by_steps)


@family("sequences", "held-out", NET + "amounts validation cut", loss="mse", width=20, depth=2,
        optimizer="rmsprop", lr=5e-3, batch=32, steps=140, clip=1.0,
        schedule="exponential@epoch")  # fmt: skip
def forecast_gru(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(forecasts(seed=seed))
    return supervised(b, reader(b, "GRU", 1, 1), data, by_epochs, kind="amounts")


@family("sequences", "held-out", "inputs tail classes hidden", loss="ce", width=12,
        optimizer="sgd", lr=0.1, momentum=0.9, batch=32, steps=160)  # fmt: skip
def waves_convolved(api: Api, recipe: Recipe, seed: int) -> Program:
    """Convolutions over time instead of states."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width

    class Filters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(1, w, 5, padding=2)
            self.conv2 = nn.Conv1d(w, w, 5, padding=2)
            self.head = nn.Linear(w, b.outputs(3))

        def forward(self, x: Any) -> Any:
            x = b.f(self.conv1(x.transpose(1, 2)))
            return b.out(self.head(b.f(self.conv2(x)).mean(2)))

    return supervised(b, Filters(), b.data(waves(seed=seed + 5)), by_steps)


@family("sequences", "tune", "recurrent classes tail", loss="ce", width=16, depth=1, lr=0.01,
        batch=32, steps=160)  # fmt: skip
def word_tags(api: Api, recipe: Recipe, seed: int) -> Program:
    """A tag for each word, read in both directions."""
    b, nn = Build(api, recipe, seed), api.nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 10)
            self.lstm = nn.LSTM(10, recipe.width, batch_first=True, bidirectional=True)
            self.head = nn.Linear(2 * recipe.width, b.outputs(4))

        def forward(self, x: Any) -> Any:
            states, _ = self.lstm(self.embedding(x))
            return b.out(self.head(states.reshape(-1, 2 * recipe.width)))

    criterion = b.criterion()
    loss_fn = criterion if recipe.loss == "ids" else lambda out, y: criterion(out, y.reshape(-1))
    return supervised(b, Tagger(), b.data(tags(seed=seed)), by_epochs, loss_fn=loss_fn)
