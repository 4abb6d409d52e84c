"""8 x 8 digits: dense networks, and convolutions with and without batch normalization."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from typing import Any

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import digits
from fathom.doctor.corpus.loops import accumulating, by_epochs, by_steps, supervised
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family

NET = "hidden inputs tail classes "


@family("digits", "tune", NET + "deep middle validation", loss="ce", width=32, lr=3e-3, batch=64,
        steps=200)  # fmt: skip
def digits_mlp(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, b.outputs(10)), b.data(digits(seed)))


@family("digits", "tune", NET, loss="ce", width=8, optimizer="sgd", lr=0.1, momentum=0.9,
        batch=50, steps=120, zero_grad="after")  # fmt: skip
def digits_cnn(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    model = nn.Sequential(
        nn.Conv2d(1, w, 3, padding=1), b.act(), nn.MaxPool2d(2),
        nn.Conv2d(w, 2 * w, 3, padding=1), b.act(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * w, b.outputs(10)), *b.tail(),
    )  # fmt: skip
    return supervised(b, model, b.data(digits(seed, image=True)), by_steps)


@family("digits", "validate", NET + "batchnorm validation cut dropout", loss="F.ce", width=8,
        norm="batch", dropout=0.1, lr=0.01, batch=64, steps=120,
        schedule="onecycle@batch")  # fmt: skip
def digits_cnn_bn(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width

    class ConvNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, w, 3, padding=1)
            self.norm1 = b.norm(w, 2)[0]
            self.conv2 = nn.Conv2d(w, 2 * w, 3, stride=2, padding=1)
            self.norm2 = b.norm(2 * w, 2)[0]
            self.drop = nn.Dropout(recipe.dropout)
            self.fc = nn.Linear(2 * w * 16, b.outputs(10))

        def forward(self, x: Any) -> Any:
            x = b.f(self.norm1(self.conv1(x)))
            x = b.f(self.norm2(self.conv2(b.cut(x))))
            return b.out(self.fc(self.drop(x.flatten(1))))

    return supervised(b, ConvNet(), b.data(digits(seed, image=True)))


@family("digits", "held-out", NET + "validation cut", loss="F.nll", output="log_softmax", width=6,
        optimizer="nesterov", lr=0.05, momentum=0.9, batch=32, steps=160)  # fmt: skip
def digits_lenet(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn, F, w = Build(api, recipe, seed), api.nn, api.F, recipe.width

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, w, 3, padding=1)
            self.conv2 = nn.Conv2d(w, 2 * w, 3, padding=1)
            self.fc1 = nn.Linear(8 * w, 48)
            self.fc2 = nn.Linear(48, b.outputs(10))

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(b.f(self.conv1(x)), 2)
            x = F.max_pool2d(b.f(self.conv2(x)), 2)
            x = b.f(self.fc1(b.cut(x.reshape(x.shape[0], -1))))
            return b.out(self.fc2(x))

    return supervised(b, LeNet(), b.data(digits(seed, image=True)))


@family("digits", "held-out", NET + "deep middle dropout validation", loss="ce", width=48,
        depth=3, norm="layer", activation="gelu", dropout=0.1, optimizer="adamw", lr=3e-3,
        weight_decay=0.01, batch=16, accumulation=4, steps=120,
        schedule="warmup@batch", clip=1.0)  # fmt: skip
def digits_accumulated(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, b.outputs(10)), b.data(digits(seed)), accumulating)


@family("digits", "validate", NET + "deep middle", loss="own_ce", width=64, depth=2,
        activation="elu", optimizer="adagrad", lr=0.03, batch=48, steps=160)  # fmt: skip
def digits_own_loss(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, b.outputs(10)), b.data(digits(seed)), by_epochs)
