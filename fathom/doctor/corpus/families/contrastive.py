"""Embeddings learnt from which examples belong together."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import Data, clusters, digits
from fathom.doctor.corpus.loops import descend
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family


def apart(api: Api, model: Any, data: Data) -> float:
    """The share of the embeddings' variance that lies between the classes."""
    model.eval()
    with api.no_grad():
        z = api.numpy(model(api.tensor(data.vx))).astype(np.float64)
    total = ((z - z.mean(axis=0)) ** 2).sum()
    if not np.isfinite(total) or total < 1e-9 * max((z**2).sum(), 1e-12):
        return 0.0
    within = sum(((z[data.truth == c] - z[data.truth == c].mean(axis=0)) ** 2).sum()
                 for c in np.unique(data.truth))  # fmt: skip
    return float(1 - within / total)


def embedding(
    b: Build, data: Data, model: Any, loss_fn: Any, step: Callable[[Any], Any]
) -> Program:
    """The program of an embedding: `step(stream)` is the loss of a batch."""
    model = b.ready(model)
    optimizer, stream, r = b.optimizer(model), b.random.stream("shuffle"), b.recipe

    def loop(seen: Any) -> None:
        for _ in range(r.steps):
            descend(r, model, optimizer, step(stream))

    return Program(b.api, b.seed, model, optimizer, loss_fn, r.steps, loop,
                   lambda: apart(b.api, model, data))  # fmt: skip


@family("contrastive", "validate", "ownloop hidden deep", width=32, lr=3e-3, batch=48, steps=200)
def triplets(api: Api, recipe: Recipe, seed: int) -> Program:
    """Anchor, another of its class, one of another class (Schroff et al., 2015)."""
    b = Build(api, recipe, seed)
    data, model = digits(seed), b.mlp(64, 4)
    groups = [np.flatnonzero(data.y == c) for c in range(10)]
    loss_fn = api.nn.TripletMarginLoss(margin=1.0)

    def step(stream: Any) -> Any:
        rows = stream.integers(0, len(data.x), (recipe.batch,))
        u = stream.uniform((2, recipe.batch))
        other = (data.y[rows] + 1 + (u[1] * 9).astype(int)) % 10
        same = [groups[c][int(v * len(groups[c]))] for c, v in zip(data.y[rows], u[0], strict=True)]
        away = [groups[c][int(v * len(groups[c]))] for c, v in zip(other, u[0], strict=True)]
        z = [model(api.tensor(data.x[i])) for i in (rows, same, away)]
        return loss_fn(*z)

    return embedding(b, data, model, loss_fn, step)


@family("contrastive", "held-out", "ownloop hidden deep", width=32, lr=3e-3, batch=48, steps=200,
        activation="gelu", optimizer="adamw")  # fmt: skip
def two_views(api: Api, recipe: Recipe, seed: int) -> Program:
    """Two noisy views of an example find each other in the batch (van den Oord et al., 2018)."""
    b, F = Build(api, recipe, seed), api.F
    data, model = clusters(features=16, classes=4, seed=seed, spread=2.0), b.mlp(16, 6)

    def info_nce(first: Any, second: Any) -> Any:
        scores = F.normalize(first, dim=1) @ F.normalize(second, dim=1).t() / 0.2
        return F.cross_entropy(scores, api.arange(recipe.batch))

    def step(stream: Any) -> Any:
        x = data.x[stream.integers(0, len(data.x), (recipe.batch,))]
        views = [api.tensor(x + 0.3 * stream.normal(x.shape)) for _ in range(2)]
        return info_nce(model(views[0]), model(views[1]))

    made = embedding(b, data, model, info_nce, step)

    def score() -> float:
        rows = b.random.spawn("test").stream("views")
        x = data.vx[: recipe.batch]
        with api.no_grad():
            views = [model(api.tensor(x + 0.3 * rows.normal(x.shape))) for _ in range(2)]
            loss = float(info_nce(*views).item())
        return max(1 - loss / float(np.log(recipe.batch)), -1.0) if np.isfinite(loss) else -1.0

    made.score = score
    return made


@family("contrastive", "tune", "ownloop hidden", width=32, lr=5e-3, batch=64, steps=200)
def siamese(api: Api, recipe: Recipe, seed: int) -> Program:
    """Pairs, near if of one class and a margin apart if not (Hadsell et al., 2006)."""
    b, nn, F = Build(api, recipe, seed), api.nn, api.F
    data = digits(seed)

    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Linear(64, recipe.width)
            self.out = nn.Linear(recipe.width, 3)

        def forward(self, x: Any) -> Any:
            return self.out(b.f(self.trunk(x)))

    model = Siamese()

    def contrastive_loss(first: Any, second: Any, same: Any) -> Any:
        distance = api.sqrt(((first - second) ** 2).sum(1) + 1e-6)
        return (same * distance**2 + (1 - same) * F.relu(1 - distance) ** 2).mean()

    def step(stream: Any) -> Any:
        rows = stream.integers(0, len(data.x), (2, 4 * recipe.batch))
        same = data.y[rows[0]] == data.y[rows[1]]
        order = np.argsort(~same, kind="stable")  # those of one class first
        chosen = rows[:, np.r_[order[: recipe.batch // 2], order[-recipe.batch // 2 :]]]
        alike = (data.y[chosen[0]] == data.y[chosen[1]]).astype(np.float32)
        first, second = (model(api.tensor(data.x[i])) for i in chosen)
        return contrastive_loss(first, second, api.tensor(alike))

    return embedding(b, data, model, contrastive_loss, step)
