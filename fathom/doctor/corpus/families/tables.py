"""Rows of numbers: classification and regression."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from itertools import pairwise
from typing import Any

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import categories, clusters, friedman, table
from fathom.doctor.corpus.loops import by_epochs, by_steps, full_batch, supervised
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family

NET = "hidden deep middle inputs tail "


@family("tables", "tune", NET + "classes validation", loss="ce", width=16, lr=5e-3, batch=16,
        steps=140)  # fmt: skip
def iris_mlp(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(table("iris", seed))
    return supervised(b, b.mlp(data.features, b.outputs(3)), data)


@family("tables", "validate", NET + "classes validation cut listed", loss="F.ce", width=24,
        depth=3, optimizer="sgd", lr=0.1, momentum=0.9, schedule="step@epoch",
        steps=200)  # fmt: skip
def cluster_blocks(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn = Build(api, recipe, seed), api.nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.linear = nn.Linear(inputs, outputs)

        def forward(self, x: Any) -> Any:
            return b.f(self.linear(x))

    class Net(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            sizes = [inputs, *b.widths]
            self.blocks = b.listed([Block(*pair) for pair in pairwise(sizes)])
            self.head = nn.Linear(sizes[-1], outputs)

        def forward(self, x: Any) -> Any:
            for i, block in enumerate(self.blocks):
                x = block(b.cut(x) if i == 1 else x)
            return b.out(self.head(x))

    data = b.data(clusters(features=12, classes=5, seed=seed))
    return supervised(b, Net(12, b.outputs(5)), data)


@family("tables", "held-out", NET + "classes cut validation", loss="F.ce", width=32, depth=3,
        activation="tanh", optimizer="adamw", lr=0.01, schedule="cosine@batch",
        steps=300)  # fmt: skip
def spirals_tanh(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn = Build(api, recipe, seed), api.nn

    class Spirals(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [2, *b.widths]
            for i, (before, after) in enumerate(pairwise(sizes)):
                setattr(self, f"fc{i + 1}", nn.Linear(before, after))
            self.out = nn.Linear(sizes[-1], b.outputs(3))

        def forward(self, x: Any) -> Any:
            for i in range(len(b.widths)):
                x = b.f(getattr(self, f"fc{i + 1}")(x))
                if i == 0:
                    x = b.cut(x)
            return b.out(self.out(x))

    data = b.data(table("spirals", seed, n=600, classes=3, turns=1.0))
    return supervised(b, Spirals(), data)


@family("tables", "tune", NET + "logit", loss="bce_logits", width=24, optimizer="sgd", lr=0.3,
        momentum=0.9, steps=240, zero_grad="after")  # fmt: skip
def moons_logit(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(table("moons", seed, n=500, noise=0.15), column=True)
    return supervised(b, b.mlp(2, 1), data, by_steps, kind="binary")


@family("tables", "held-out", NET + "probability validation", loss="bce", output="sigmoid",
        width=16, lr=0.01, batch=24, steps=220)  # fmt: skip
def circles_probability(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn = Build(api, recipe, seed), api.nn

    class Circles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[Any] = []
            for before, after in zip([2, *b.widths], b.widths, strict=False):
                layers += [nn.Linear(before, after), b.act()]
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(b.widths[-1], 1)

        def forward(self, x: Any) -> Any:
            return b.out(self.classifier(self.features(x)))

    data = b.data(table("circles", seed, n=500, noise=0.08), column=True)
    return supervised(b, Circles(), data, kind="binary")


@family("tables", "validate", NET + "classes", loss="ce", width=64, activation="gelu", lr=0.01,
        batch=64, steps=300, zero_grad="model")  # fmt: skip
def checkerboard_gelu(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(table("checkerboard", seed, n=900, cells=3))
    return supervised(b, b.mlp(2, b.outputs(2)), data, by_steps)


@family("tables", "tune", NET + "amounts", loss="mse", width=32, activation="tanh", lr=0.01,
        steps=300)  # fmt: skip
def sine_curve(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(table("sine", seed, n=200, noise=0.1))
    return supervised(b, b.mlp(1, 1), data, full_batch, kind="amounts")


@family("tables", "held-out", NET + "amounts dropout validation", loss="mse", width=32,
        dropout=0.1, optimizer="adamw", lr=3e-3, weight_decay=0.01, batch=32,
        steps=200)  # fmt: skip
def diabetes_mlp(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(table("diabetes", seed))
    return supervised(b, b.mlp(10, 1), data, kind="amounts")


@family("tables", "validate", NET + "amounts cut validation", loss="huber", width=48, depth=3,
        activation="leaky_relu", optimizer="rmsprop", lr=1e-3, norm="layer", steps=240)  # fmt: skip
def friedman_norm(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn = Build(api, recipe, seed), api.nn

    class Regressor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
            before = 10
            for width in b.widths:
                self.layers.append(nn.Linear(before, width))
                self.norms.append(nn.LayerNorm(width))
                before = width
            self.last = nn.Linear(before, 1)

        def forward(self, x: Any) -> Any:
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = b.f(norm(layer(x)))
            return b.out(self.last(b.cut(x)))

    return supervised(b, Regressor(), b.data(friedman(seed=seed)), kind="amounts")


@family("tables", "tune", "hidden middle tail logit validation", loss="F.bce_logits", width=32,
        lr=5e-3, steps=220)  # fmt: skip
def coded_columns(api: Api, recipe: Recipe, seed: int) -> Program:
    """Codes through embeddings, beside a number."""
    b, nn = Build(api, recipe, seed), api.nn
    raw, sizes = categories(seed=seed)
    data = b.data(raw, column=True)

    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList([nn.Embedding(size, 4) for size in sizes])
            self.net = b.mlp(4 * len(sizes) + 1, 1)

        def forward(self, x: Any) -> Any:
            codes = [t(x[:, i].long()) for i, t in enumerate(self.tables)]
            return self.net(api.cat([*codes, x[:, 3:]], 1))

    return supervised(b, Columns(), data, by_epochs, kind="binary")


@family("tables", "held-out", "hidden deep middle inputs tail classes batchnorm validation",
        loss="ce", width=48, depth=5, norm="batch", lr=5e-3, batch=64, steps=180,
        schedule="exponential@epoch")  # fmt: skip
def deep_table(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(clusters(features=20, classes=4, seed=seed))
    return supervised(b, b.mlp(20, b.outputs(4)), data)


@family("tables", "tune", NET + "amounts", loss="own_mse", width=40, optimizer="sgd",
        lr=0.05, momentum=0.9, batch=40, steps=240)  # fmt: skip
def friedman_sgd(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    data = b.data(friedman(seed=seed + 1))
    return supervised(b, b.mlp(10, 1), data, by_steps, kind="amounts")
