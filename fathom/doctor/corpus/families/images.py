"""Small pictures of shapes: residual and plain convolutional networks."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from itertools import pairwise
from typing import Any

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import shapes
from fathom.doctor.corpus.loops import by_epochs, by_steps, supervised
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family

NET = "hidden inputs tail classes "


def residual(b: Build, colours: int) -> Any:
    """A stem, two residual blocks, a mean over places."""
    nn, w = b.nn, b.recipe.width

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
            self.norm1 = nn.Sequential(*b.norm(outputs, 2))
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
            self.norm2 = nn.Sequential(*b.norm(outputs, 2))
            self.short = nn.Conv2d(inputs, outputs, 1, stride=stride)

        def forward(self, x: Any) -> Any:
            h = b.f(self.norm1(self.conv1(x)))
            return b.f(self.norm2(self.conv2(h)) + self.short(x))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(colours, w, 3, padding=1)
            self.layer1, self.layer2 = Block(w, w, 1), Block(w, 2 * w, 2)
            self.fc = nn.Linear(2 * w, b.outputs(4))

        def forward(self, x: Any) -> Any:
            x = self.layer1(b.f(self.stem(x)))
            x = self.layer2(b.cut(x))
            return b.out(self.fc(x.mean((2, 3))))

    return ResNet()


@family("images", "tune", NET + "batchnorm validation cut", loss="ce", width=8, norm="batch",
        optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, batch=32, steps=120)  # fmt: skip
def shapes_residual(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    return supervised(b, residual(b, 1), b.data(shapes(seed=seed)))


@family("images", "held-out", NET + "cut", loss="F.ce", width=8, norm="group", activation="silu",
        optimizer="adamw", lr=5e-3, batch=24, steps=140, schedule="warmup@batch")  # fmt: skip
def coloured_residual(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    return supervised(b, residual(b, 3), b.data(shapes(seed=seed, colours=3)), by_steps)


@family("images", "validate", NET + "dropout validation", loss="ce", width=8, dropout=0.25,
        lr=3e-3, batch=32, steps=200)  # fmt: skip
def shapes_plain(api: Api, recipe: Recipe, seed: int) -> Program:
    """Convolutions two by two, then a dense layer with dropout."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    model = nn.Sequential(
        nn.Conv2d(1, w, 3, padding=1), b.act(), nn.Conv2d(w, w, 3, padding=1), b.act(),
        nn.MaxPool2d(2), nn.Conv2d(w, 2 * w, 3, padding=1), b.act(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(18 * w, 32), b.act(), *b.drop(), nn.Linear(32, b.outputs(4)),
        *b.tail(),
    )  # fmt: skip
    return supervised(b, model, b.data(shapes(seed=seed)), by_epochs)


@family("images", "held-out", NET + "batchnorm validation", loss="ce", width=8, norm="batch",
        lr=0.01, batch=48, steps=160, zero_grad="model")  # fmt: skip
def shapes_strided(api: Api, recipe: Recipe, seed: int) -> Program:
    """Strides instead of pooling."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    model = nn.Sequential()
    sizes = [3, w, 2 * w, 2 * w]
    for i, (before, after) in enumerate(pairwise(sizes)):
        model.add_module(f"conv{i}", nn.Conv2d(before, after, 3, stride=2 if i else 1, padding=1))
        model.add_module(f"bn{i}", b.norm(after, 2)[0])
        model.add_module(f"act{i}", b.act())
    model.add_module("flat", nn.Flatten())
    model.add_module("fc", nn.Linear(18 * w, b.outputs(4)))
    for module in b.tail():
        model.add_module("tail", module)
    return supervised(b, model, b.data(shapes(seed=seed + 1, colours=3)))
