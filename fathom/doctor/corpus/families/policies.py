"""Losses of reinforcement learning, on problems that need no simulator."""
# mypy: allow-subclassing-any, disable-error-code="name-defined"

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.doctor.corpus.api import Api
from fathom.doctor.corpus.loops import descend
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe, family
from fathom.engine.tensor import Array


def drawn(p: Array, u: Array) -> Array:
    """One choice a row by the probabilities p, from uniform numbers."""
    return np.minimum((p.cumsum(axis=1) < u[:, None]).sum(axis=1), p.shape[1] - 1)


@family("policies", "tune", "ownloop hidden deep", width=24, lr=0.01, batch=64, steps=250,
        activation="tanh")  # fmt: skip
def contextual_bandit(api: Api, recipe: Recipe, seed: int) -> Program:
    """Four arms, whose worth depends on what is seen; REINFORCE with a running mean as baseline
    (Williams, 1992)."""
    b, F = Build(api, recipe, seed), api.F
    worth = b.random.stream("data").normal((5, 4)) * 1.5
    policy = b.ready(b.mlp(5, 4))
    optimizer, stream = b.optimizer(policy), b.random.stream("play")

    def loop(seen: Any) -> None:
        baseline = 0.0
        for _ in range(recipe.steps):
            x = stream.normal((recipe.batch, 5))
            log_p = F.log_softmax(policy(api.tensor(x)), dim=-1)
            p = np.nan_to_num(np.exp(api.numpy(log_p)))
            arm = drawn(p, stream.uniform((recipe.batch,)))
            reward = np.tanh(x @ worth)[np.arange(recipe.batch), arm]
            chosen = (log_p * F.one_hot(api.tensor(arm), 4)).sum(-1)
            loss = -(chosen * api.tensor((reward - baseline).astype(np.float32))).mean()
            baseline += 0.1 * (float(reward.mean()) - baseline)
            descend(recipe, policy, optimizer, loss)

    def score() -> float:
        x = b.random.stream("test").normal((400, 5))
        with api.no_grad():
            arm = api.numpy(policy(api.tensor(x))).argmax(axis=1)
        reward = np.tanh(x @ worth)
        gained, fair = reward[np.arange(400), arm].mean(), reward.mean()
        return float((gained - fair) / (reward.max(axis=1).mean() - fair))

    return Program(api, seed, policy, optimizer, None, recipe.steps, loop, score)


MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])


@family("policies", "held-out", "ownloop hidden", width=32, lr=0.01, batch=16, steps=120)
def grid_actor_critic(api: Api, recipe: Recipe, seed: int) -> Program:
    """From any field of a 4 x 4 board to the corner: actor and critic on one body, entropy too."""
    b, nn, F = Build(api, recipe, seed), api.nn, api.F

    class ActorCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(16, recipe.width)
            self.actor, self.critic = nn.Linear(recipe.width, 4), nn.Linear(recipe.width, 1)

        def forward(self, x: Any) -> Any:
            h = b.f(self.body(x))
            return self.actor(h), self.critic(h)

    model = b.ready(ActorCritic())
    optimizer, stream = b.optimizer(model), b.random.stream("play")
    seen_as = np.eye(16, dtype=np.float32)

    def go(at: Array, move: Array) -> tuple[Array, Array]:
        after = np.clip(at + MOVES[move], 0, 3)
        return after, np.where((after == 3).all(axis=1), 1.0, -0.05)

    def episode() -> tuple[Array, Array, Array]:
        """States, moves and discounted returns of a batch of walks of 10 steps."""
        at = stream.integers(0, 4, (recipe.batch, 2))
        states, moves, rewards = [], [], []
        for _ in range(10):
            x = seen_as[at[:, 0] * 4 + at[:, 1]]
            with api.no_grad():
                p = np.nan_to_num(api.numpy(F.softmax(model(api.tensor(x))[0], dim=-1)))
            move = drawn(p, stream.uniform((recipe.batch,)))
            there = (at == 3).all(axis=1)
            after, reward = go(at, move)
            states.append(x)
            moves.append(move)
            rewards.append(np.where(there, 0.0, reward))
            at = np.where(there[:, None], at, after)
        worth, total = [], np.zeros(recipe.batch)
        for reward in reversed(rewards):
            total = reward + 0.9 * total
            worth.append(total)
        return np.concatenate(states), np.concatenate(moves), np.concatenate(worth[::-1])

    def loop(seen: Any) -> None:
        for _ in range(recipe.steps):
            x, move, worth = episode()
            logits, value = model(api.tensor(x))
            goal = api.tensor(worth.astype(np.float32)[:, None])
            log_p = F.log_softmax(logits, dim=-1)
            better = (goal - value).detach()
            chosen = (log_p * F.one_hot(api.tensor(move), 4)).sum(-1, keepdim=True)
            doubt = -(api.exp(log_p) * log_p).sum(-1).mean()
            loss = -(chosen * better).mean() + 0.5 * F.mse_loss(value, goal) - 0.01 * doubt
            descend(recipe, model, optimizer, loss)

    def score() -> float:
        fields = np.array([(r, c) for r in range(4) for c in range(4)][:-1])
        with api.no_grad():
            logits = model(api.tensor(seen_as[fields[:, 0] * 4 + fields[:, 1]]))[0]
        after, _ = go(fields, api.numpy(logits).argmax(axis=1))
        good = (after.sum(axis=1) > fields.sum(axis=1)).mean()  # nearer to the corner
        return float((good - 0.4) / 0.6)

    return Program(api, seed, model, optimizer, None, recipe.steps, loop, score)


@family("policies", "validate", "ownloop hidden deep", width=32, lr=3e-3, batch=64, steps=250)
def chain_q_learning(api: Api, recipe: Recipe, seed: int) -> Program:
    """Eight fields in a row, a reward at the end; a target network follows (Mnih et al., 2015)."""
    b, F = Build(api, recipe, seed), api.F
    online, target = b.ready(b.mlp(8, 2)), b.mlp(8, 2)
    target.load_state_dict(online.state_dict())
    optimizer, stream = b.optimizer(online), b.random.stream("replay")
    fields = np.eye(8, dtype=np.float32)

    def loop(seen: Any) -> None:
        for step in range(recipe.steps):
            at, move = (
                stream.integers(0, 7, (recipe.batch,)),
                stream.integers(0, 2, (recipe.batch,)),
            )
            after = np.clip(at + 2 * move - 1, 0, 7)
            reward = (after == 7).astype(np.float32)
            with api.no_grad():
                ahead = api.numpy(target(api.tensor(fields[after]))).max(axis=1)
            goal = api.tensor((reward + 0.9 * (after < 7) * ahead).astype(np.float32))
            q = (online(api.tensor(fields[at])) * F.one_hot(api.tensor(move), 2)).sum(-1)
            descend(recipe, online, optimizer, F.smooth_l1_loss(q, goal))
            if step % 10 == 9:
                target.load_state_dict(online.state_dict())

    def score() -> float:
        with api.no_grad():
            q = api.numpy(online(api.tensor(fields[:7])))
        wanted = 0.9 ** np.arange(6, -1, -1)
        error = ((q[:, 1] - wanted) ** 2).mean() / wanted.var()
        return float(np.clip(1 - error, -1, 1)) if np.isfinite(q).all() else -1.0

    return Program(api, seed, online, optimizer, F.smooth_l1_loss, recipe.steps, loop, score)
