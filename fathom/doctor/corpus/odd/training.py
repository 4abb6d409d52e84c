"""Loops that look odd."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.data import Data, clusters, digits, friedman, shapes, table
from fathom.doctor.corpus.loops import (
    Supervised,
    accumulating,
    by_epochs,
    by_steps,
    full_batch,
    scored,
    supervised,
)
from fathom.doctor.corpus.odd.layers import pretrain
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, odd


@odd("digits", "tune", loss="ce", optimizer="adamw", lr=5e-3, weight_decay=0.1, batch=64,
     steps=250, schedule="warmup@batch")  # fmt: skip
def warm_up(api: Api, recipe: Recipe, seed: int) -> Program:
    """The learning rate rises from a tiny value."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, 10), b.data(digits(seed)))


@odd("tables", "held-out", loss="ce", optimizer="adamw", lr=0.01, batch=48, steps=250)
def warm_up_and_cosine(api: Api, recipe: Recipe, seed: int) -> Program:
    """It rises over a fifth of the run, and falls to zero again."""
    b, schedules = Build(api, recipe, seed), api.optim.lr_scheduler
    made = supervised(b, b.mlp(20, 4), b.data(clusters(seed=seed)))
    model, optimizer, loss_fn = made.model, made.optimizer, made.loss_fn
    warm = max(recipe.steps // 5, 1)
    rate = schedules.SequentialLR(
        optimizer,
        [schedules.LinearLR(optimizer, start_factor=0.01, total_iters=warm),
         schedules.CosineAnnealingLR(optimizer, max(recipe.steps - warm, 1))],
        milestones=[warm],
    )  # fmt: skip
    run = Supervised(b, model, loss_fn, b.data(clusters(seed=seed)), optimizer)
    run.scheduler, run.recipe = rate, recipe.but(schedule="own@batch")
    made.loop = lambda seen: by_epochs(run, seen)
    return made


@odd("digits", "tune", loss="ce", optimizer="sgd", lr=0.1, momentum=0.9, batch=8, accumulation=8,
     steps=120, zero_grad="before")  # fmt: skip
def accumulated(api: Api, recipe: Recipe, seed: int) -> Program:
    """Gradients of eight batches in each step."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, 10), b.data(digits(seed)), accumulating)


@odd("tables", "validate", loss="mse", lr=3e-3, batch=16, accumulation=4, steps=180)
def uneven_accumulation(api: Api, recipe: Recipe, seed: int) -> Program:
    """Gradients are summed over a changing number of batches."""
    b = Build(api, recipe, seed)
    data = b.data(friedman(seed=seed))
    made = supervised(b, b.mlp(10, 1), data, kind="amounts")
    run = Supervised(b, made.model, made.loss_fn, data, made.optimizer)

    def loop(seen: Any) -> None:
        for step in range(recipe.steps):
            parts = 2 + step % 3
            for _ in range(parts):
                rows = run.stream.integers(0, len(data.x), (recipe.batch,))
                (run.loss(data.x[rows], data.y[rows]) / parts).backward()
            made.optimizer.step()
            made.optimizer.zero_grad()

    made.loop = loop
    return made


@odd("digits", "held-out", loss="ce", lr=3e-3, batch=64, steps=150, width=48)
def quantized_inputs(api: Api, recipe: Recipe, seed: int) -> Program:
    """Inputs of four levels: -1, -1/3, 1/3, 1."""
    b = Build(api, recipe, seed)
    d = digits(seed)
    x, vx = ((np.round(v * 3) / 1.5 - 1).astype(np.float32) for v in (d.x, d.vx))
    return supervised(b, b.mlp(64, 10), b.data(replace(d, x=x, vx=vx)))


@odd("tables", "tune", loss="ce", optimizer="sgd", lr=0.2, momentum=0.9, steps=400)
def four_rows(api: Api, recipe: Recipe, seed: int) -> Program:
    """The four rows of a truth table, all of them in each step."""
    b = Build(api, recipe.but(width=16, activation="tanh"), seed)
    x = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
    y = np.array([0, 1, 1, 0])
    return supervised(b, b.mlp(2, 2), b.data(Data(x, y, x, y, y, 2)), full_batch)


@odd("tables", "held-out", loss="ce", lr=0.01, rows=30, batch=8, steps=120, width=8)
def thirty_rows(api: Api, recipe: Recipe, seed: int) -> Program:
    """Thirty flowers, a small network, an early end."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(4, 3), b.data(table("iris", seed)), by_steps)


@odd("digits", "validate", loss="ce", lr=3e-3, batch=64, steps=150, width=48)
def fine_tuned_in_groups(api: Api, recipe: Recipe, seed: int) -> Program:
    """A trained body with a tenth of the rate of its new head."""
    b, nn = Build(api, recipe, seed), api.nn
    body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
    pretrain(b, nn.Sequential(body, nn.Linear(48, 10)), digits(seed))
    model = nn.Sequential(body, nn.Linear(48, 10))
    optimizer = api.optim.Adam([{"params": list(body.parameters()), "lr": recipe.lr / 10},
                                {"params": list(model[1].parameters())}], lr=recipe.lr)  # fmt: skip
    return supervised(b, model, b.data(digits(seed + 1)), optimizer=optimizer)


@odd("digits", "held-out", loss="ce", lr=1e-5, batch=64, steps=150, width=48)
def gently_fine_tuned(api: Api, recipe: Recipe, seed: int) -> Program:
    """A trained network goes on with a tiny rate: nothing is left to learn."""
    b = Build(api, recipe, seed)
    model = b.mlp(64, 10)
    pretrain(b, model, digits(seed), 400)
    return supervised(b, model, b.data(digits(seed)))


@odd("digits", "tune", loss="ce", lr=1e-3, batch=64, steps=150, width=48)
def resumed(api: Api, recipe: Recipe, seed: int) -> Program:
    """A run that goes on where another ended."""
    b = Build(api, recipe, seed)
    model = b.mlp(64, 10)
    pretrain(b, model, digits(seed), 100)
    return supervised(b, model, b.data(digits(seed)), by_steps)


@odd("digits", "validate", loss="ce", lr=3e-3, batch=64, steps=180)
def moving_average(api: Api, recipe: Recipe, seed: int) -> Program:
    """An exponential average of the weights is kept and evaluated."""
    b = Build(api, recipe, seed)
    data = b.data(digits(seed))
    made = supervised(b, b.mlp(64, 10), data)
    run = Supervised(b, made.model, made.loss_fn, data, made.optimizer)
    average = api.swa.AveragedModel(made.model, avg_fn=api.swa.get_ema_avg_fn(0.95))

    def loop(seen: Any) -> None:
        for step in range(recipe.steps):
            rows = run.stream.integers(0, len(data.x), (recipe.batch,))
            run.update(data.x[rows], data.y[rows])
            average.update_parameters(made.model)
            if step % 50 == 49:
                average.eval()
                with api.no_grad():
                    held = made.loss_fn(average(api.tensor(data.vx)), api.tensor(data.vy))
                seen.validation(float(held.item()))

    made.loop = loop
    return made


@odd("images", "held-out", loss="ce", optimizer="sgd", lr=0.05, momentum=0.9, batch=32,
     steps=180, width=8)  # fmt: skip
def stochastic_averages(api: Api, recipe: Recipe, seed: int) -> Program:
    """Averaged weights (SWA) over the last half, under a high constant rate."""
    b, nn, w = Build(api, recipe, seed), api.nn, recipe.width
    data = b.data(shapes(seed=seed))
    model = nn.Sequential(nn.Conv2d(1, w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Conv2d(w, w, 3, padding=1), nn.ReLU(), nn.Flatten(),
                          nn.Linear(36 * w, 4))  # fmt: skip
    made = supervised(b, model, data)
    run = Supervised(b, model, made.loss_fn, data, made.optimizer)
    average = api.swa.AveragedModel(model)
    schedule = api.swa.SWALR(made.optimizer, swa_lr=recipe.lr / 2, anneal_epochs=10) if hasattr(
        api.swa, "SWALR") else None  # fmt: skip

    def loop(seen: Any) -> None:
        for step in range(recipe.steps):
            rows = run.stream.integers(0, len(data.x), (recipe.batch,))
            run.update(data.x[rows], data.y[rows])
            if step > recipe.steps // 2 and step % 5 == 0:
                average.update_parameters(model)
                if schedule is not None:
                    schedule.step()

    made.loop = loop
    return made


@odd("digits", "tune", loss="ce", lr=5e-4, batch=64, steps=80)
def ended_early(api: Api, recipe: Recipe, seed: int) -> Program:
    """Stopped while it still improves."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, 10), b.data(digits(seed)))


@odd("tables", "validate", loss="mse", optimizer="sgd", lr=0.01, momentum=0.5, batch=32, steps=150)
def slow_but_sure(api: Api, recipe: Recipe, seed: int) -> Program:
    """A careful rate; the loss falls all the time."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(10, 1), b.data(friedman(seed=seed)), kind="amounts")


@odd("tables", "tune", loss="ce", lr=0.01, batch=64, steps=1200)
def goes_on_for_long(api: Api, recipe: Recipe, seed: int) -> Program:
    """Has learnt all after a tenth of the run."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(2, 3), b.data(table("blobs", seed, noise=0.5)), by_steps)


@odd("tables", "held-out", loss="bce", output="sigmoid", lr=0.02, batch=32, steps=700)
def saturated_at_the_end(api: Api, recipe: Recipe, seed: int) -> Program:
    """Two clouds far apart: the outputs become 0 and 1, the gradients nothing."""
    b = Build(api, recipe, seed)
    centres = [[-3.0, -3.0], [3.0, 3.0]]
    data = b.data(table("blobs", seed, noise=0.6, centers=centres), column=True)
    return supervised(b, b.mlp(2, 1), data, by_steps, kind="binary")


@odd("tables", "validate", loss="bce_logits", activation="tanh", lr=0.02, batch=32, steps=600)
def saturated_tanh_at_the_end(api: Api, recipe: Recipe, seed: int) -> Program:
    """Hidden units that answer yes or no once all is learnt."""
    b = Build(api, recipe, seed)
    data = b.data(table("circles", seed, n=400, noise=0.03), column=True)
    return supervised(b, b.mlp(2, 1), data, by_steps, kind="binary")


@odd("digits", "held-out", loss="ce", optimizer="sgd", lr=0.05, batch=1, steps=500, width=24)
def one_at_a_time(api: Api, recipe: Recipe, seed: int) -> Program:
    """Stochastic gradient descent in its first sense: a noisy curve."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, 10), b.data(digits(seed)), by_steps)


@odd("digits", "tune", loss="ce", optimizer="sgd", lr=0.1, momentum=0.9, steps=150)
def whole_data_set(api: Api, recipe: Recipe, seed: int) -> Program:
    """All data in each step."""
    b = Build(api, recipe, seed)
    return supervised(b, b.mlp(64, 10), b.data(digits(seed)), full_batch)


@odd("tables", "validate", loss="mse", steps=25)
def lbfgs(api: Api, recipe: Recipe, seed: int) -> Program:
    """A quasi-Newton method, which calls the loss many times a step."""
    b = Build(api, recipe.but(activation="tanh"), seed)
    data = b.data(table("sine", seed, n=200, noise=0.05))
    model = b.ready(b.mlp(1, 1))
    optimizer = api.optim.LBFGS(list(model.parameters()), lr=0.5, max_iter=5)
    made = supervised(b, model, data, kind="amounts", optimizer=optimizer, ready=False)
    x, y = api.tensor(data.x), api.tensor(data.y)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = made.loss_fn(model(x), y)
        loss.backward()
        return loss

    def loop(seen: Any) -> None:
        for _ in range(recipe.steps):
            optimizer.step(closure)

    made.loop = loop
    return made


@odd("digits", "held-out", loss="ce", lr=3e-3, batch=64, steps=200, width=48)
def gradually_unfrozen(api: Api, recipe: Recipe, seed: int) -> Program:
    """A trained body is frozen for the first third, then trained with the rest."""
    b, nn = Build(api, recipe, seed), api.nn
    body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
    pretrain(b, nn.Sequential(body, nn.Linear(48, 10)), digits(seed))
    model, data = nn.Sequential(body, nn.Linear(48, 10)), b.data(digits(seed + 1))
    optimizer = api.optim.Adam(model.parameters(), lr=recipe.lr)
    for p in body.parameters():
        p.requires_grad_(False)
    made = supervised(b, model, data, optimizer=optimizer)
    run = Supervised(b, model, made.loss_fn, data, optimizer)

    def loop(seen: Any) -> None:
        for step in range(recipe.steps):
            if step == recipe.steps // 3:
                for p in body.parameters():
                    p.requires_grad_(True)
            rows = run.stream.integers(0, len(data.x), (recipe.batch,))
            run.update(data.x[rows], data.y[rows])

    made.loop = loop
    return made


@odd("tables", "tune", loss="ce", optimizer="sgd", lr=0.2, momentum=0.9, batch=32, steps=300)
def plateau_schedule(api: Api, recipe: Recipe, seed: int) -> Program:
    """The rate is halved whenever the validation loss stands still, down to almost nothing."""
    b = Build(api, recipe, seed)
    data = b.data(clusters(seed=seed))
    made = supervised(b, b.mlp(20, 4), data)
    run = Supervised(b, made.model, made.loss_fn, data, made.optimizer)
    schedule = api.optim.lr_scheduler.ReduceLROnPlateau(made.optimizer, factor=0.3, patience=0)

    def loop(seen: Any) -> None:
        for step in range(recipe.steps):
            made.model.train()
            rows = run.stream.integers(0, len(data.x), (recipe.batch,))
            run.update(data.x[rows], data.y[rows])
            if step % 20 == 19:
                held = run.validate()
                seen.validation(held)
                schedule.step(held)

    made.loop = loop
    return made


@odd("digits", "validate", loss="ce", lr=3e-3, batch=64, steps=180, width=48)
def noise_added(api: Api, recipe: Recipe, seed: int) -> Program:
    """Fresh noise on the inputs of each batch."""
    b = Build(api, recipe, seed)
    data, noise = b.data(digits(seed)), b.random.stream("augment")
    made = supervised(b, b.mlp(64, 10), data)
    run = Supervised(b, made.model, made.loss_fn, data, made.optimizer)

    def loop(seen: Any) -> None:
        for _ in range(recipe.steps):
            rows = run.stream.integers(0, len(data.x), (recipe.batch,))
            x = data.x[rows]
            run.update(x + 0.2 * noise.normal(x.shape), data.y[rows])

    made.loop = loop
    return made


@odd("tables", "held-out", loss="mse", lr=5e-3, batch=32, steps=240, clip=0.5)
def always_clipped(api: Api, recipe: Recipe, seed: int) -> Program:
    """The gradient's norm is cut off in most of the steps."""
    b = Build(api, recipe.but(optimizer="sgd", lr=0.1, momentum=0.9), seed)
    return supervised(b, b.mlp(10, 1), b.data(friedman(seed=seed)), kind="amounts")


@odd("tables", "tune", loss="ce", optimizer="sgd", lr=0.2, momentum=0.9, batch=32, steps=250)
def cyclic_rate(api: Api, recipe: Recipe, seed: int) -> Program:
    """A rate that goes up and down."""
    b = Build(api, recipe, seed)
    data = b.data(clusters(seed=seed))
    made = supervised(b, b.mlp(20, 4), data)
    run = Supervised(b, made.model, made.loss_fn, data, made.optimizer)
    run.scheduler = api.optim.lr_scheduler.CyclicLR(made.optimizer, 0.01, 0.2, step_size_up=40)
    run.recipe = recipe.but(schedule="own@batch")
    made.loop = lambda seen: by_steps(run, seen)
    return made


@odd("digits", "held-out", loss="ce", lr=3e-3, batch=64, steps=300, width=48)
def early_stopping(api: Api, recipe: Recipe, seed: int) -> Program:
    """Ends where the validation loss has not fallen for three looks; planned for longer."""
    b = Build(api, recipe, seed)
    data = b.data(digits(seed))
    made = supervised(b, b.mlp(64, 10), data)
    run = Supervised(b, made.model, made.loss_fn, data, made.optimizer)

    def loop(seen: Any) -> None:
        best, worse = np.inf, 0
        for step in range(recipe.steps):
            made.model.train()
            rows = run.stream.integers(0, len(data.x), (recipe.batch,))
            run.update(data.x[rows], data.y[rows])
            if step % 15 == 14:
                held = run.validate()
                seen.validation(held)
                best, worse = (held, 0) if held < best else (best, worse + 1)
                if worse == 3:
                    break

    made.loop = loop
    return made


@odd("digits", "validate", lr=3e-3, batch=64, steps=160, width=48)
def body_and_head_optimizers(api: Api, recipe: Recipe, seed: int) -> Program:
    """Two optimizers for two parts of one model; each part is watched by itself in practice, here
    the whole one without naming an optimizer."""
    b, nn = Build(api, recipe, seed), api.nn
    model = b.ready(nn.Sequential(nn.Sequential(nn.Linear(64, 48), nn.ReLU()), nn.Linear(48, 10)))
    body = api.optim.Adam(model[0].parameters(), lr=recipe.lr)
    head = api.optim.SGD(model[1].parameters(), lr=0.1)
    data, loss_fn = b.data(digits(seed)), nn.CrossEntropyLoss()
    run = Supervised(b, model, loss_fn, data, body)

    def loop(seen: Any) -> None:
        for _ in range(recipe.steps):
            rows = run.stream.integers(0, len(data.x), (recipe.batch,))
            body.zero_grad()
            head.zero_grad()
            run.loss(data.x[rows], data.y[rows]).backward()
            body.step()
            head.step()

    return Program(api, seed, model, None, loss_fn, recipe.steps, loop,
                   lambda: scored(run, "classes"))  # fmt: skip
