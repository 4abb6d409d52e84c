"""Networks that give back what they get: plain, denoising, variational."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import Data, digits
from fathom.doctor.corpus.loops import by_epochs, by_steps, descend, measure, supervised
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family


def itself(data: Data) -> Data:
    """Inputs as targets."""
    return replace(data, y=data.x, vy=data.vx, truth=data.vx, classes=0)


@family("autoencoders", "tune", "hidden validation", loss="mse", width=40, lr=3e-3, batch=64,
        steps=200)  # fmt: skip
def digits_autoencoder(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    model = nn.Sequential(
        nn.Sequential(nn.Linear(64, w), b.act(), nn.Linear(w, 12), b.act()),
        nn.Sequential(nn.Linear(12, w), b.act(), nn.Linear(w, 64)),
    )
    return supervised(b, model, b.data(itself(digits(seed))), kind="amounts")


@family("autoencoders", "held-out", "hidden", loss="F.mse", width=8, optimizer="adamw", lr=5e-3,
        batch=32, steps=200)  # fmt: skip
def denoising_convolutions(api: Api, recipe: Recipe, seed: int) -> Program:
    """Noise goes in, clean digits are to come out."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    data = itself(digits(seed, image=True))
    stream = b.random.stream("noise")
    noisy = (v + np.float32(0.3) * stream.normal(v.shape) for v in (data.x, data.vx))

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(1, w, 3, stride=2, padding=1)
            self.middle = nn.Conv2d(w, 2 * w, 3, padding=1)
            self.up = nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1)
            self.last = nn.Conv2d(w, 1, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return self.last(b.f(self.up(b.f(self.middle(b.f(self.down(x)))))))

    data = b.data(replace(data, x=next(noisy), vx=next(noisy)))
    return supervised(b, Denoiser(), data, by_steps, kind="amounts")


@family("autoencoders", "validate", "ownloop hidden", width=48, lr=3e-3, batch=64, steps=250)
def digits_vae(api: Api, recipe: Recipe, seed: int) -> Program:
    """A variational autoencoder (Kingma and Welling, 2014): two terms, noise inside."""
    b, nn, F, w = Build(api, recipe, seed), api.nn, api.F, recipe.width
    data = itself(digits(seed))

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(64, w)
            self.fc21, self.fc22 = nn.Linear(w, 4), nn.Linear(w, 4)
            self.fc3, self.fc4 = nn.Linear(4, w), nn.Linear(w, 64)

        def encode(self, x: Any) -> Any:
            h = b.f(self.fc1(x))
            return self.fc21(h), self.fc22(h)

        def decode(self, z: Any) -> Any:
            return api.sigmoid(self.fc4(b.f(self.fc3(z))))

        def forward(self, x: Any) -> Any:
            mean, log = self.encode(x)
            z = mean + api.exp(0.5 * log) * api.randn_like(log)
            return self.decode(z), mean, log

    def loss_function(output: Any, x: Any) -> Any:
        p, mean, log = output
        told = F.binary_cross_entropy(p, x, reduction="sum")
        return (told - 0.5 * (1 + log - mean**2 - api.exp(log)).sum()) / len(x)

    model = b.ready(VAE())
    optimizer, stream = b.optimizer(model), b.random.stream("shuffle")

    def loop(seen: Any) -> None:
        for _ in range(recipe.steps):
            x = api.tensor(data.x[stream.integers(0, len(data.x), (recipe.batch,))])
            descend(recipe, model, optimizer, loss_function(model(x), x))

    def score() -> float:
        with api.no_grad():
            mean, _ = model.encode(api.tensor(data.vx))
            return measure(api.numpy(model.decode(mean)), data.vx, "amounts")

    return Program(api, seed, model, optimizer, loss_function, recipe.steps, loop, score)


@family("autoencoders", "tune", "hidden validation", loss="bce", width=32, activation="tanh",
        lr=5e-3, batch=50, steps=220)  # fmt: skip
def pixels_as_bits(api: Api, recipe: Recipe, seed: int) -> Program:
    """Binary cross-entropy on black and white pixels."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    d = digits(seed)
    bits = replace(d, x=(d.x > 0.5).astype(np.float32), vx=(d.vx > 0.5).astype(np.float32))
    model = nn.Sequential(nn.Linear(64, w), b.act(), nn.Linear(w, 10), b.act(),
                          nn.Linear(10, w), b.act(), nn.Linear(w, 64), nn.Sigmoid())  # fmt: skip
    return supervised(b, model, b.data(itself(bits)), by_epochs, kind="amounts")
