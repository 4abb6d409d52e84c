"""2.3.17 Gradients at a fork of the graph, and what is left in .grad from one step to the next."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Settings, T, at_most, equals,
)  # fmt: skip

question = Question(
    "2.3.17",
    title=T("How are gradients accumulated at branching nodes?", "分支节点处的梯度如何累加？"),
    difficulty=3,
    frequency=3,
    topics=(
        "computation graph",
        "accumulation",
        "zero_grad",
        "residual",
        "计算图",
        "梯度累加",
        "梯度清零",
    ),
    answer=T(
        "A value used in several places influences the loss by several paths, and the chain rule "
        "of several variables "
        "adds the contributions: the gradient at the fork is the sum of those of all branches. "
        "An engine "
        "therefore adds into a node's gradient and passes it on only when every consumer has "
        "reported, which is why it "
        "goes through the graph in reverse topological order. A residual block is the best-known "
        "case: its gradient is the "
        "branch's plus the identity's. The same addition goes on between calls of backward: the "
        ".grad of a "
        "leaf is added to, not overwritten, so that it must be cleared before each step unless "
        "one accumulates on purpose. "
        "Forgetting that turns gradient descent into momentum without friction: the direction is "
        "not wrong "
        "all the time, but the weights swing without coming to rest.",
        "一个值若用在多处，就经多条路径影响损失，多元链式法则把各路贡献相加："
        "分叉处的梯度等于所有分支梯度之和。"
        "因此自动求导引擎是往节点的梯度上累加，等所有使用者都报告之后才继续往前传，"
        "这也是它按逆拓扑序遍历图的原因。"
        "残差块是最熟悉的例子：它的梯度是分支的梯度加上恒等路径的梯度。同样的累加在多次 backward "
        "之间继续："
        "叶子的 .grad 是被加上而不是被覆盖，所以每步之前必须清零，除非有意做梯度累积。"
        "忘记清零会把梯度下降变成没有摩擦的动量法：方向并非一直错误，但权重来回摆动，"
        "永远停不下来。",
    ),
    flips=T(
        "When micro-batches are accumulated on purpose, not clearing is what one wants, k times "
        "in a row.",
        "有意用小批累积时，连续 k 次不清零正是所要的。",
    ),
    analogy=T(
        "Streams that part and meet again: what arrives is the sum over all arms, and a basin "
        "not emptied keeps "
        "last week's rain.",
        "溪流分开又汇合：到达的是各支流之和；不倒空的水盆里还留着上周的雨。",
    ),
    generative=T(
        "Tied embeddings get gradients from the input and from the output layer; both are added.",
        "输入输出共享的词嵌入同时收到两端的梯度，两者相加。",
    ),
    classical=T(
        "Shared weights of a convolution sum the gradients of all positions; a recurrent net's "
        "those of all times.",
        "卷积的共享权重把所有位置的梯度相加；循环网络把所有时刻的梯度相加。",
    ),
    driving=T(
        "One backbone feeds detection, lanes and depth: their gradients add at the fork, hence "
        "loss weights.",
        "一个骨干网络同时供检测、车道线和深度使用：它们的梯度在分叉处相加，所以要给损失加权。",
    ),
    change=T(
        "Call zero_grad in each step: the swinging stops and the loss falls steadily.",
        "每步调用 zero_grad：摆动停止，损失稳步下降。",
    ),
)


@question.exact(
    "C2.3.17-01",
    T(
        "At a fork the gradients of all branches are added.",
        "在分叉处，所有分支的梯度相加。",
    ),
    at_most(1e-12),
)
def sum_of_branches(lab: Lab) -> Evidence:
    """Engine against formulas: x x + x sin x, a part used k = 1 to 50 times, a residual block.

    Largest relative difference; the residual block's is checked branch by branch.
    """
    rng = lab.rng("x")
    x = rng.standard_normal(20)
    leaf = fathom.tensor(x, requires_grad=True)
    (leaf * leaf + fathom.sin(leaf) * leaf).sum().backward()
    by_formula = 2 * x + np.sin(x) + x * np.cos(x)
    shared = 0.0
    for k in (1, 2, 7, 50):
        leaf2 = fathom.tensor(x, requires_grad=True)
        part = fathom.tanh(leaf2)
        total: Any = part * 1.0
        for _ in range(k - 1):
            total = total + part
        total.sum().backward()
        exact = k * (1 - np.tanh(x) ** 2)
        shared = max(shared, float(np.abs(leaf2.grad.value() - exact).max() / k))
    w = rng.standard_normal((20, 20)) / 4
    leaf3 = fathom.tensor(x, requires_grad=True)
    up = rng.standard_normal(20)
    ((leaf3 + fathom.tanh(fathom.tensor(w) @ leaf3)) * fathom.tensor(up)).sum().backward()
    branch = w.T @ (up * (1 - np.tanh(w @ x) ** 2))
    return All({
        "two paths": float(np.abs(leaf.grad.value() - by_formula).max()),
        "used k times": shared,
        "residual block": float(np.abs(leaf3.grad.value() - (up + branch)).max()),
    })  # fmt: skip


@question.exact(
    "C2.3.17-02",
    T(
        "zero_grad has to come before each backward, since the gradients of leaves add up.",
        "每次 backward 之前要调用 zero_grad，因为叶子的梯度会累加。",
    ),
    equals(2.0, 1e-12),
    weight=2,
)
def doubles(lab: Lab) -> Evidence:
    """.grad after two backward passes over that after one; with zero_grad between it must be 1."""
    x = lab.rng("rows").standard_normal((8, 5))
    layer = nn.Linear(5, 2).double()
    sgd = fathom.optim.SGD(layer.parameters(), lr=0.1)

    def back() -> Any:
        (layer(fathom.tensor(x)) ** 2).mean().backward()
        return layer.weight.grad.value().copy()

    once_only, twice = back(), back()
    sgd.zero_grad()
    again = back()
    size = float(np.linalg.norm(once_only))
    return All({
        "after two": float(np.linalg.norm(twice)) / size,
        "cleared between": Check(float(np.linalg.norm(again)) / size, equals(1.0, 1e-12)),
        "same direction": Check(
            float(np.abs(twice - 2 * once_only).max()), at_most(1e-12)
        ),
    })  # fmt: skip


CURVATURE, RATE, STEPS = np.array([1.0, 3.0, 10.0]), 0.01, 200


def recurrence(clear: bool) -> tuple[Any, Any]:
    """Weights and the gradient used, at each step, on sum(c w^2) / 2; plain arrays."""
    w, total = np.ones(3), np.zeros(3)
    path, used = [w.copy()], []
    for _ in range(STEPS):
        g = CURVATURE * w
        total = g if clear else total + g
        w = w - RATE * total
        path.append(w.copy())
        used.append(total.copy())
    return np.array(path), np.array(used)


def by_library(clear: bool) -> tuple[Any, Any]:
    """The same with tape and optimizer."""
    w = nn.Parameter(np.ones(3))
    sgd = fathom.optim.SGD([w], lr=RATE)
    path, used = [np.ones(3)], []
    for _ in range(STEPS):
        if clear:
            sgd.zero_grad()
        (0.5 * fathom.tensor(CURVATURE) * w * w).sum().backward()
        used.append(w.grad.value().copy())
        sgd.step()
        path.append(w.value().copy())
    return np.array(path), np.array(used)


def loss(path: Any) -> Any:
    """On the quadratic."""
    return 0.5 * (CURVATURE * path**2).sum(axis=1)


def aligned(path: Any, used: Any, steps: int) -> float:
    """Mean cosine of the gradient used and the true one over the first steps."""
    true, used = (CURVATURE * path[:-1])[:steps], used[:steps]
    sizes = np.linalg.norm(true, axis=1) * np.linalg.norm(used, axis=1)
    return float(((true * used).sum(axis=1) / sizes).mean())


def uphill(path: Any, used: Any) -> float:
    """Share of steps whose direction has a negative cosine with the true gradient."""
    return float(((CURVATURE * path[:-1] * used).sum(axis=1) < 0).mean())


@question.exact(
    "C2.3.17-03",
    T(
        "Without it the direction of optimization is completely wrong.",
        "省略它会使优化方向完全错误。",
    ),
    at_most(0.5),
    correction=T(
        "Not at first: over the first 5 steps the cosine between the piled-up and the true gradient "
        "is {n[5/recurrence]:.2f}. Over 200 steps it is {n[200/recurrence]:.2f}, almost no relation: "
        "it is momentum without friction, an undamped swing that never settles.",
        "起初并非如此：前 5 步里，累积梯度与真实梯度的余弦为 {n[5/recurrence]:.2f}。200 步平均只有 "
        "{n[200/recurrence]:.2f}，几乎毫无关系：这相当于没有摩擦的动量，是永不停下的无阻尼振荡。",
    ),
    weight=2,
)
def direction(lab: Lab) -> Evidence:
    """Mean cosine between the gradient that was used and the true one, on a quadratic at rate 0.01
    where gradients pile up; recurrence and library.

    1 is the right direction and 0 none: completely wrong is taken to mean nearer to 0 (or below).
    """
    return Settings(T("steps without clearing", "未清零的步数"), {
        str(n): Routes({
            name: aligned(*run(False), n)
            for name, run in (("recurrence", recurrence), ("library", by_library))
        })
        for n in (5, STEPS)
    })  # fmt: skip


@question.figure(T("A quadratic with and without zero_grad", "有无 zero_grad 时的二次函数"))
def with_and_without(lab: Lab) -> Figure:
    """The weight of curvature 3 of sum(c w^2) / 2, rate 0.01, 200 steps."""
    steps = np.arange(STEPS + 1)
    return Figure(
        Axis(T("step", "步")),
        Axis(T("weight", "权重")),
        [
            Line(T("cleared", "清零"), steps, recurrence(True)[0][:, 1]),
            Line(T("not cleared", "不清零"), steps, recurrence(False)[0][:, 1]),
            Level(T("minimum", "最低点"), y=0.0),
        ],
        T(
            "Cleared, the weight comes to rest at the minimum; not cleared, it swings about it "
            "with "
            "undiminished width.",
            "清零时权重停在最低点；不清零时它围绕最低点以不减的幅度摆动。",
        ),
        {"steps uphill, not cleared": uphill(*recurrence(False))},
    )


@question.figure(T("The loss with and without zero_grad", "有无 zero_grad 时的损失"))
def losses(lab: Lab) -> Figure:
    """The loss of the same runs."""
    steps = np.arange(STEPS + 1)
    return Figure(
        Axis(T("step", "步")),
        Axis(T("loss", "损失"), log=True),
        [
            Line(T("cleared", "清零"), steps, loss(recurrence(True)[0])),
            Line(T("not cleared", "不清零"), steps, loss(recurrence(False)[0])),
        ],
        T(
            "With clearing the loss falls steadily; without, it falls at first faster and then "
            "swings for ever.",
            "清零时损失稳步下降；不清零时先降得更快，随后永远摆动。",
        ),
    )
