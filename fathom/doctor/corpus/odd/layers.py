"""Networks that look odd."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import clusters, digits, friedman, shapes, table
from fathom.doctor.corpus.loops import Supervised, by_epochs, by_steps, full_batch, supervised
from fathom.doctor.corpus.parts import Build, freeze, put
from fathom.doctor.corpus.recipe import Program, Recipe, odd


def pretrain(b: Build, model: Any, data: Any, steps: int = 150) -> None:
    """Train all of a model for a while, before what the program itself does."""
    run = Supervised(b, model, b.api.nn.CrossEntropyLoss(), data,
                     b.api.optim.Adam(model.parameters(), lr=3e-3))  # fmt: skip
    for _ in range(min(steps, 20 * b.recipe.steps)):
        rows = run.stream.integers(0, len(data.x), (64,))
        run.update(data.x[rows], data.y[rows])


@odd("digits", "tune", loss="ce", lr=3e-3, width=32, batch=64, steps=150)
def zero_init_residual(api: Api, recipe: Recipe, seed: int) -> Program:
    """Residual branches that begin at zero."""
    b, nn = Build(api, recipe, seed), api.nn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
            nn.init.zeros_(self.down.weight)
            nn.init.zeros_(self.down.bias)

        def forward(self, x: Any) -> Any:
            return x + self.down(api.F.relu(self.up(x)))

    w = recipe.width
    model = nn.Sequential(nn.Linear(64, w), Block(w), Block(w), Block(w), nn.Linear(w, 10))
    return supervised(b, model, b.data(digits(seed)))


@odd("tables", "held-out", loss="huber", lr=3e-3, width=32, steps=220)
def rezero(api: Api, recipe: Recipe, seed: int) -> Program:
    """Branches behind a gain that begins at zero."""
    b, nn = Build(api, recipe, seed), api.nn

    class ReZero(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.alpha = nn.Parameter(api.zeros(1))

        def forward(self, x: Any) -> Any:
            return x + self.alpha * self.net(x)

    w = recipe.width
    model = nn.Sequential(nn.Linear(10, w), ReZero(w), ReZero(w), nn.Linear(w, 1))
    return supervised(b, model, b.data(friedman(seed=seed)), kind="amounts")


@odd("digits", "tune", loss="ce", lr=5e-3, batch=64, steps=150, width=48)
def lora(api: Api, recipe: Recipe, seed: int) -> Program:
    """A trained network learns other labels through low-rank additions; their B begins at zero."""
    b, nn = Build(api, recipe, seed), api.nn

    class LoRA(nn.Module):
        def __init__(self, base: Any, rank: int = 8) -> None:
            super().__init__()
            self.base = base
            self.A = nn.Parameter(0.2 * api.randn(rank, base.in_features))
            self.B = nn.Parameter(api.zeros(base.out_features, rank))

        def forward(self, x: Any) -> Any:
            return self.base(x) + api.F.linear(api.F.linear(x, self.A), self.B)

    base, data = b.mlp(64, 10), digits(seed)
    pretrain(b, base, data)
    for p in base.parameters():
        p.requires_grad_(False)
    model = nn.Sequential(*[LoRA(m) if isinstance(m, nn.Linear) else m for m in base])
    other = (np.arange(10) * 3 + 1) % 10
    data = b.data(type(data)(data.x, other[data.y], data.vx, other[data.vy], other[data.truth]))
    optimizer = b.optimizer_of([p for p in model.parameters() if p.requires_grad])
    return supervised(b, model, data, optimizer=optimizer)


@odd("images", "held-out", loss="ce", lr=0.01, batch=48, steps=120, width=8)
def frozen_backbone(api: Api, recipe: Recipe, seed: int) -> Program:
    """A trained body, frozen, under a new head."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    body = nn.Sequential(nn.Conv2d(1, w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(w, 2 * w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten())  # fmt: skip
    pretrain(b, nn.Sequential(body, nn.Linear(8 * w, 10)), digits(seed, image=True), 200)
    model = nn.Sequential(body, nn.Linear(8 * w, 32), nn.ReLU(), nn.Linear(32, 10))
    freeze(model, lambda name: name.startswith("0."))
    optimizer = b.optimizer_of([p for p in model.parameters() if p.requires_grad])
    return supervised(b, model, b.data(digits(seed + 1, image=True)), optimizer=optimizer)


@odd("images", "validate", loss="F.ce", lr=0.01, batch=48, steps=120, width=8, norm="batch")
def frozen_norm_backbone(api: Api, recipe: Recipe, seed: int) -> Program:
    """A trained body with batch normalization stays frozen and in eval mode; all parameters are
    in the optimizer."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU(),
                                      nn.MaxPool2d(2), nn.Flatten())  # fmt: skip
            self.head = nn.Linear(16 * w, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x))

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            if not self.body[0].weight.requires_grad:
                self.body.eval()
            return self

    model = Net()
    pretrain(b, model, digits(seed, image=True))
    freeze(model, lambda name: name.startswith("body"))
    model.head = nn.Linear(16 * w, 10)
    return supervised(b, model, b.data(digits(seed + 1, image=True)))


@odd("text", "tune", loss="bce_logits", lr=0.03, batch=64, steps=300)
def sparse_embeddings(api: Api, recipe: Recipe, seed: int) -> Program:
    """A large vocabulary of which a batch touches little; bags of words."""
    b, nn = Build(api, recipe, seed), api.nn
    stream = b.random.stream("words")
    x = stream.integers(0, 600, (4000, 8))
    y = (stream.normal((600,))[x].sum(axis=1) > 0).astype(np.int64)
    from fathom.doctor.corpus.data import split

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag = nn.EmbeddingBag(600, 8, mode="sum")
            self.out = nn.Linear(8, 1)

        def forward(self, x: Any) -> Any:
            return self.out(self.bag(x))

    return supervised(
        b, Bag(), b.data(split(x, y, seed, most=4000), column=True), by_steps, kind="binary"
    )


@odd("tables", "validate", loss="ce", lr=2e-3, width=40, depth=8, activation="selu", batch=48,
     steps=180)  # fmt: skip
def deep_selu(api: Api, recipe: Recipe, seed: int) -> Program:
    """Eight layers without any normalization, initialized for SELU."""
    b = Build(api, recipe, seed)
    model = b.mlp(20, 4)
    for name, p in model.named_parameters():
        if name.endswith("weight"):
            put(api, p, b.random.stream("init").normal(tuple(p.shape)) / np.sqrt(p.shape[1]))
    return supervised(b, model, b.data(clusters(seed=seed)))


@odd("tables", "tune", loss="ce", lr=5e-3, width=32, steps=200)
def highway(api: Api, recipe: Recipe, seed: int) -> Program:
    """Gates that begin nearly closed."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width

    class Highway(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value, self.gate = nn.Linear(w, w), nn.Linear(w, w)
            nn.init.constant_(self.gate.bias, -3.0)

        def forward(self, x: Any) -> Any:
            g = api.sigmoid(self.gate(x))
            return g * api.F.relu(self.value(x)) + (1 - g) * x

    model = nn.Sequential(nn.Linear(20, w), Highway(), Highway(), Highway(), nn.Linear(w, 4))
    return supervised(b, model, b.data(clusters(seed=seed)))


@odd("tables", "held-out", loss="F.ce", lr=5e-3, width=16, steps=250)
def mixture_of_experts(api: Api, recipe: Recipe, seed: int) -> Program:
    """Four experts under a softmax gate."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(12, 4)
            self.experts = nn.ModuleList(
                [nn.Sequential(nn.Linear(12, w), nn.ReLU(), nn.Linear(w, 5)) for _ in range(4)]
            )

        def forward(self, x: Any) -> Any:
            g = api.F.softmax(self.gate(x), dim=-1)
            answers = api.stack([e(x) for e in self.experts], 1)
            return (g[:, :, None] * answers).sum(1)

    return supervised(b, Mixture(), b.data(clusters(features=12, classes=5, seed=seed)))


@odd("autoencoders", "tune", loss="mse", lr=5e-3, width=12, batch=64, steps=250)
def linear_autoencoder(api: Api, recipe: Recipe, seed: int) -> Program:
    """No activation anywhere: principal components by gradient descent."""
    b, nn = Build(api, recipe, seed), api.nn
    model = nn.Sequential(nn.Linear(64, recipe.width), nn.Linear(recipe.width, 64))
    d = digits(seed)
    data = type(d)(d.x, d.x, d.vx, d.vx, d.vx)
    return supervised(b, model, b.data(data), kind="amounts")


@odd("autoencoders", "held-out", loss="F.mse", lr=3e-3, width=48, batch=64, steps=300)
def narrow_autoencoder(api: Api, recipe: Recipe, seed: int) -> Program:
    """A bottleneck of two linear units, to be drawn on paper; sigmoid outputs for pixels."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width

    class Coder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, w), nn.ReLU(), nn.Linear(w, 2))
            self.decoder = nn.Sequential(nn.Linear(2, w), nn.ReLU(), nn.Linear(w, 64), nn.Sigmoid())

        def forward(self, x: Any) -> Any:
            return self.decoder(self.encoder(x))

    d = digits(seed)
    data = type(d)(d.x, d.x, d.vx, d.vx, d.vx)
    return supervised(b, Coder(), b.data(data), kind="amounts")


@odd("tables", "tune", loss="mse", optimizer="sgd", lr=0.05, batch=32, steps=150)
def linear_regression(api: Api, recipe: Recipe, seed: int) -> Program:
    b = Build(api, recipe, seed)
    return supervised(b, api.nn.Linear(10, 1), b.data(friedman(seed=seed)), kind="amounts")


@odd("tables", "held-out", loss="bce", optimizer="sgd", lr=0.3, batch=32, steps=200)
def logistic_regression(api: Api, recipe: Recipe, seed: int) -> Program:
    b, nn = Build(api, recipe, seed), api.nn
    model = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    return supervised(b, model, b.data(table("moons", seed, n=500, noise=0.2), column=True),
                      by_steps, kind="binary")  # fmt: skip


@odd("digits", "validate", loss="F.ce", lr=0.02, batch=64, steps=150)
def softmax_regression(api: Api, recipe: Recipe, seed: int) -> Program:
    """One layer, begun at zero: convex, so nothing is wrong with that."""
    b, nn = Build(api, recipe, seed), api.nn
    model = nn.Linear(64, 10)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return supervised(b, model, b.data(digits(seed)))


@odd("digits", "tune", loss="ce", lr=3e-3, batch=64, steps=150, width=48)
def zero_init_head(api: Api, recipe: Recipe, seed: int) -> Program:
    """The last layer begins at zero, so that the first loss is ln 10."""
    b = Build(api, recipe, seed)
    model = b.mlp(64, 10)
    put(api, model[-1].weight, np.zeros((10, recipe.width)))
    put(api, model[-1].bias, np.zeros(10))
    return supervised(b, model, b.data(digits(seed)))


@odd("tables", "held-out", loss="ce", lr=5e-3, width=40, depth=4, activation="silu", steps=200,
     optimizer="adamw", weight_decay=0.1)  # fmt: skip
def silu_decay(api: Api, recipe: Recipe, seed: int) -> Program:
    """SiLU, and AdamW with a decay of 0.1."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(20, 4), b.data(clusters(seed=seed)))


@odd("images", "tune", loss="ce", optimizer="sgd", lr=0.004, momentum=0.9, batch=1, width=8,
     steps=600)  # fmt: skip
def one_image_at_a_time(api: Api, recipe: Recipe, seed: int) -> Program:
    """Batches of one, with group normalization."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    model = nn.Sequential(
        nn.Conv2d(1, w, 3, padding=1), nn.GroupNorm(4, w), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(w, 2 * w, 3, padding=1), nn.GroupNorm(4, 2 * w), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * w, 10),
    )  # fmt: skip
    return supervised(b, model, b.data(digits(seed, image=True)), by_steps)


@odd("digits", "held-out", loss="ce", lr=3e-3, batch=64, width=32, steps=150)
def unused_branch(api: Api, recipe: Recipe, seed: int) -> Program:
    """An auxiliary head that this training does not use."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU())
            self.head, self.rotation = nn.Linear(w, 10), nn.Linear(w, 4)

        def forward(self, x: Any, rotated: bool = False) -> Any:
            return (self.rotation if rotated else self.head)(self.body(x))

    return supervised(b, Two(), b.data(digits(seed)))


@odd("images", "validate", loss="F.ce", lr=5e-3, batch=32, width=8, steps=150)
def squeeze_excite(api: Api, recipe: Recipe, seed: int) -> Program:
    """Channels under sigmoid gates."""
    b, nn, F, w = Build(api, recipe, seed), api.nn, api.F, recipe.width

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, w, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(w)
            self.down, self.up = nn.Linear(w, 2), nn.Linear(2, w)
            self.conv2 = nn.Conv2d(w, 2 * w, 3, stride=2, padding=1)
            self.fc = nn.Linear(2 * w * 36, 4)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.norm(self.conv1(x)))
            g = api.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
            x = F.relu(self.conv2(x * g[:, :, None, None]))
            return self.fc(x.flatten(1))

    return supervised(b, Gated(), b.data(shapes(seed=seed)))


@odd("tables", "validate", loss="bce_logits", activation="sigmoid", width=24, depth=1, lr=0.05,
     steps=250)  # fmt: skip
def shallow_sigmoid(api: Api, recipe: Recipe, seed: int) -> Program:
    """One hidden layer of sigmoid units, as of old."""
    b = Build(api, recipe, seed)
    data = b.data(table("xor_cloud", seed, n=400), column=True)
    return supervised(b, b.mlp(2, 1), data, kind="binary")


@odd("tables", "tune", loss="ce", width=4, depth=2, activation="tanh", lr=0.03, steps=250)
def few_units(api: Api, recipe: Recipe, seed: int) -> Program:
    """Four units a layer are enough for flowers."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(4, 3), b.data(table("iris", seed)), full_batch)


@odd("tables", "held-out", loss="mse", lr=0.01, width=32, steps=250)
def random_features(api: Api, recipe: Recipe, seed: int) -> Program:
    """Fixed random Fourier features in a buffer, under a linear layer (Rahimi and Recht, 2007)."""
    b, nn = Build(api, recipe, seed), api.nn

    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("frequencies", api.randn(1, 24))
            self.out = nn.Linear(48, 1)

        def forward(self, x: Any) -> Any:
            z = x @ self.frequencies
            return self.out(api.cat([api.sin(z), api.cos(z)], 1))

    data = b.data(table("sine", seed, n=300, noise=0.1))
    return supervised(b, Fourier(), data, by_steps, kind="amounts")


@odd("digits", "validate", loss="ce", width=64, depth=2, dropout=0.5, lr=3e-3, batch=64, steps=220)
def half_dropped(api: Api, recipe: Recipe, seed: int) -> Program:
    """Dropout of one half: the training loss stays above that of validation."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, 10), b.data(digits(seed)))


@odd("tables", "tune", loss="ce", width=32, lr=0.01, batch=32, steps=200)
def norm_of_raw_inputs(api: Api, recipe: Recipe, seed: int) -> Program:
    """Raw inputs, but the first layer is a batch normalization."""
    b, nn = Build(api, recipe, seed), api.nn
    model = nn.Sequential(nn.BatchNorm1d(4), *b.mlp(4, 3))
    d = b.data(table("iris", seed, scaled=False))
    return supervised(b, model, type(d)(d.x * 100, d.y, d.vx * 100, d.vy, d.truth))


@odd("tables", "held-out", loss="F.ce", lr=3e-3, width=32, steps=250)
def soft_capped(api: Api, recipe: Recipe, seed: int) -> Program:
    """Logits softly capped at 15 by a tanh."""
    b, nn = Build(api, recipe, seed), api.nn

    class Capped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = b.mlp(20, 4)

        def forward(self, x: Any) -> Any:
            return 15 * api.tanh(self.net(x) / 15)

    return supervised(b, Capped(), b.data(clusters(seed=seed)), by_epochs)


@odd("tables", "validate", loss="ce", lr=3e-3, width=32, steps=250)
def attention_over_columns(api: Api, recipe: Recipe, seed: int) -> Program:
    """Each column is a token; one attention layer."""
    b, nn = Build(api, recipe, seed), api.nn

    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(0.5 * api.randn(12, 16))
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.norm, self.out = nn.LayerNorm(16), nn.Linear(16 * 12, 5)

        def forward(self, x: Any) -> Any:
            h = x[:, :, None] * self.place
            h = self.norm(h + self.attention(h, h, h, need_weights=False)[0])
            return self.out(h.flatten(1))

    return supervised(b, Columns(), b.data(clusters(features=12, classes=5, seed=seed)))
