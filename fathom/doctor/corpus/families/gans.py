"""Two networks against each other; the doctor watches one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.loops import descend
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family
from fathom.engine.tensor import Array


def energy(a: Array, b: Array) -> float:
    """The energy distance of two samples (Székely and Rizzo, 2013)."""

    def apart(x: Array, y: Array) -> float:
        return float(np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1)).mean())

    return 2 * apart(a, b) - apart(a, a) - apart(b, b)


def gan(b: Build, real: Array, noise: int, squared: bool, watch_critic: bool = False) -> Program:
    """Generator and discriminator take turns; the watched one carries the recipe."""
    api, nn, r = b.api, b.nn, b.recipe

    def net(inputs: int, outputs: int) -> Any:
        return nn.Sequential(nn.Linear(inputs, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32),
                             nn.LeakyReLU(0.2), nn.Linear(32, outputs))  # fmt: skip

    def watched(inputs: int, outputs: int) -> Any:
        layers: list[Any] = []
        for width in b.widths:
            layers += [nn.Linear(inputs, width), b.act()]
            inputs = width
        return b.ready(nn.Sequential(*layers, nn.Linear(inputs, outputs)))

    size = real.shape[1]
    generator = net(noise, size) if watch_critic else watched(noise, size)
    critic = watched(size, 1) if watch_critic else net(size, 1)
    main, other = (critic, generator) if watch_critic else (generator, critic)
    optimizer = b.optimizer(main, betas=(0.5, 0.999))
    second = api.optim.Adam(other.parameters(), lr=2e-3, betas=(0.5, 0.999))
    loss_fn = nn.MSELoss() if squared else nn.BCEWithLogitsLoss()
    stream = b.random.stream("shuffle")
    one, zero = api.ones(r.batch, 1), api.zeros(r.batch, 1)

    def critics_turn(x: Any, fake: Any) -> Any:
        return loss_fn(critic(x), one) + loss_fn(critic(fake.detach()), zero)

    def loop(seen: Any) -> None:
        for _ in range(r.steps):
            x = api.tensor(real[stream.integers(0, len(real), (r.batch,))])
            fake = generator(api.randn(r.batch, noise))
            for player, how in ((critic, "critic"), (generator, "generator")):
                loss = critics_turn(x, fake) if how == "critic" else loss_fn(critic(fake), one)
                if player is main:
                    descend(r, player, optimizer, loss)
                else:
                    second.zero_grad()
                    loss.backward()
                    second.step()

    def score() -> float:
        with api.no_grad():
            made = api.numpy(generator(api.randn(400, noise)))
        if not np.isfinite(made).all():
            return -1.0
        held = real[:400]
        worst = energy(np.broadcast_to(held.mean(axis=0), held.shape), held)
        return float(np.clip(1 - energy(made, held) / worst, -1, 1))

    return Program(api, b.seed, main, optimizer, loss_fn, r.steps, loop, score)


@family("gans", "tune", "ownloop hidden", width=32, lr=2e-3, batch=64, steps=400,
        activation="leaky_relu")  # fmt: skip
def gan_ring(api: Api, recipe: Recipe, seed: int) -> Program:
    """Points on a ring; the generator is watched."""
    b = Build(api, recipe, seed)
    angle = b.random.stream("data").uniform((1000, 1)) * 2 * np.pi
    ring = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    return gan(b, ring.astype(np.float32), 4, squared=False)


@family("gans", "held-out", "ownloop hidden", width=24, lr=2e-3, batch=48, steps=400)
def gan_clouds(api: Api, recipe: Recipe, seed: int) -> Program:
    """A cloud along a line, with squared errors (Mao et al., 2017)."""
    b = Build(api, recipe, seed)
    x = b.random.stream("data").normal((1000, 2)) @ np.array([[1.0, 0.5], [0.0, 0.3]])
    return gan(b, (x + 1.0).astype(np.float32), 2, squared=True)


@family("gans", "validate", "ownloop", width=32, lr=2e-3, batch=64, steps=300,
        activation="leaky_relu")  # fmt: skip
def gan_critic(api: Api, recipe: Recipe, seed: int) -> Program:
    """The discriminator is watched: its loss has to stay near 2 ln 2."""
    b = Build(api, recipe, seed)
    x = b.random.stream("data").normal((1000, 2)) * np.array([1.0, 0.4]) - 1.0
    return gan(b, x.astype(np.float32), 3, squared=False, watch_critic=True)
