"""2.3.9 Why gradients vanish: a product of many factors, and what decides its size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_least,
    at_most, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.gain import chain, passage
from fathom.nn import functional as F

question = Question(
    "2.3.9",
    title=T("What is the root cause of vanishing gradients?", "梯度消失的根本原因是什么？"),
    difficulty=4,
    frequency=5,
    topics=("vanishing gradient", "jacobian", "spectral norm", "梯度消失", "雅可比矩阵", "谱范数"),
    answer=T(
        "The gradient at an early layer is the gradient at the output times one Jacobian a layer, "
        "diag(f') W, and a product of many factors is exponential in their number. Its squared "
        "norm changes by n Var(W) E[f'^2] a layer on average: below 1 it vanishes, above 1 it "
        "explodes, and only near 1 does depth do no harm. The sigmoid fails by its slope, which "
        "is at most 0.25; with weights of variance 1/n it costs a factor of about 16 in the "
        "squared norm "
        "at each layer. It is the product that counts, not one factor: weights above 1 with a "
        "small slope still vanish, and a spectral norm below 1 is sufficient for vanishing while "
        "one above 1 does not imply explosion. Saturation makes it worse, since f' goes to 0. "
        "The cures act on the factor: initialization sets Var(W), ReLU keeps f' at 1 on active "
        "units, normalization restores the scale, and a skip connection adds the identity to it.",
        "靠前层的梯度等于输出处的梯度乘上每层一个雅可比矩阵 diag(f') W，"
        "而许多因子的乘积随因子个数指数变化。"
        "平均而言，每过一层梯度的平方范数乘以 n Var(W) E[f'^2]：小于 1 就消失，大于 1 就爆炸，"
        "只有接近 1 时"
        "深度才无害。sigmoid 输在导数最大只有 0.25；权重方差取 1/n 时，每层让平方范数缩小约 16 "
        "倍。"
        "起作用的是乘积而不是单个因子：权重大于 1 但导数很小，梯度照样消失；谱范数小于 1 "
        "足以保证消失，"
        "大于 1 却不意味着爆炸。饱和会使情况更糟，因为此时 f' 趋于 0。各种对策都作用在这个因子上："
        "初始化决定 Var(W)，ReLU 在激活的单元上让 f' 保持为 1，归一化恢复尺度，"
        "跳跃连接给它加上单位阵。",
    ),
    flips=T(
        "At the critical scale, n Var(W) E[f'^2] = 1, the gradient crosses any depth with its "
        "size kept on average; with skips it does so for many scales.",
        "在临界尺度 n Var(W) E[f'^2] = 1 上，梯度穿过任意深度而平均大小不变；有跳跃连接时，"
        "对许多尺度都如此。",
    ),
    analogy=T(
        "A rumour passed on by people who each drop a quarter of it: nobody loses it, the chain "
        "does.",
        "一句话一个传一个，每人漏掉四分之一：没有哪个人把它弄丢，是这条链弄丢的。",
    ),
    generative=T(
        "A language model of a hundred blocks trains because each block adds to the residual "
        "stream instead of multiplying it.",
        "上百个块的大语言模型能训练，是因为每个块是往残差流上相加，而不是相乘。",
    ),
    classical=T(
        "Plain recurrent nets multiply by the same matrix at every step; LSTM gates keep that "
        "factor near 1.",
        "普通循环网络每一步都乘同一个矩阵；LSTM 的门控让这个因子保持在 1 附近。",
    ),
    driving=T(
        "Deep perception backbones depend on skips and normalization for their early filters to "
        "learn at all.",
        "自动驾驶的深层感知骨干网络要靠跳跃连接和归一化，浅层滤波器才学得动。",
    ),
    change=T(
        "Multiply the sigmoid's weights by 4: the slope's 0.25 is made up for and the line rises "
        "until saturation bends it down again.",
        "把 sigmoid 网络的权重乘以 4：补偿了 0.25 的导数，曲线随之抬升，直到饱和又把它压下去。",
    ),
)

SCALES = (0.5, 0.6, 0.7, 0.8, 1.25, 1.5, 1.75, 2.0)  # of the amplitude a layer passes on
DEPTH = 50


@question.exact(
    "C2.3.9-01",
    T(
        "The gradient through L layers is a product with L factors of the form W f'.",
        "穿过 L 层的梯度是一个含有 L 个 W f' 因子的乘积。",
    ),
    at_most(1e-12),
    weight=2,
)
def product_of_factors(lab: Lab) -> Evidence:
    """Jacobian of L tanh layers as L NumPy matrices, against the tape; relative error.

    L is 1, 5 and 20; the matrices diag(f') W are built from the forward pass alone.
    """
    found: dict[str, float] = {}
    for layers in (1, 5, 20):
        rng = lab.rng(f"net {layers}")
        weights = [rng.standard_normal((8, 8)) * 0.4 for _ in range(layers)]
        x, up = rng.standard_normal(8), rng.standard_normal(8)
        leaf = fathom.tensor(x, requires_grad=True)
        product, h, tape = np.eye(8), x, leaf
        for w in weights:
            h = np.tanh(w @ h)
            product = np.diag(1 - h**2) @ w @ product
            tape = fathom.tanh(fathom.tensor(w) @ tape)
        (tape * fathom.tensor(up)).sum().backward()
        by_hand = up @ product
        gap = np.abs(leaf.grad.value() - by_hand).max()
        found[f"L = {layers}"] = float(gap / np.abs(by_hand).max())
    return All(found)


def share_right(sizes: Any, ratios: Any) -> float:
    """How often "below 1 shrinks, above 1 grows" says what happened."""
    return float(((np.asarray(sizes) > 1) == (np.asarray(ratios) > 1)).mean())


@question.experiment(
    "C2.3.9-02",
    T(
        "If a factor's size |W f'| is below 1 gradients vanish, if it is above 1 they explode.",
        "因子的大小 |W f'| 小于 1 时梯度消失，大于 1 时梯度爆炸。",
    ),
    at_least(0.95),
    correction=T(
        "It holds in {n[mean-square gain]:.0%} of cases if the size is the mean-square gain "
        "n Var(W) E[f'^2] (a single unit: {n[a chain of single units]:.0%}), but in "
        "{n[spectral norm]:.0%} if it is the spectral norm: that bounds the growth, it does not "
        "cause it.",
        "若大小指均方增益 n Var(W) E[f'^2]，规则在 {n[mean-square gain]:.0%} "
        "的情形中成立（单个单元的链为 "
        "{n[a chain of single units]:.0%}）；若指谱范数，只有 {n[spectral norm]:.0%}："
        "谱范数只给出增长的上界，并不造成增长。",
    ),
    weight=3,
)
def threshold(lab: Lab) -> Evidence:
    """Share of eight scales at which the rule foretells what 30 ReLU layers do to the gradient.

    The scales are 0.5 to 2 times the critical one; the size is read as the only factor of a chain
    of single units, as the mean-square gain, and as the largest singular value of diag(f') W.
    """
    means, norms = [], []
    for seed in lab.seeds(10, 3):
        rng = np.random.default_rng(seed)
        ratios, gains, spectral = [], [], []
        for scale in SCALES:
            std = scale * np.sqrt(2 / 64)
            found = passage("relu", rng, std=std, depth=30, width=64, rows=32)
            ratios.append(found.backward)
            gains.append(float(found.factor.mean()))
            w = rng.standard_normal((64, 64)) * std
            spectral.append(np.linalg.norm(w * (rng.random(64) < 0.5), 2))
        means.append(share_right(gains, ratios))
        norms.append(share_right(spectral, ratios))
    alone = share_right(SCALES, [chain(1.0, s, 30) for s in SCALES])
    return Settings(
        T("what is taken for the size of W f'", "W f' 的大小指什么"),
        {
            "a chain of single units": alone,
            "mean-square gain": Sample(means),
            "spectral norm": Sample(norms),
        },
    )


@question.exact(
    "C2.3.9-03",
    T("0.25 to the power of several tens is next to nothing.", "0.25 的几十次方几乎等于零。"),
    at_most(2.0**-24),
)
def quarter(lab: Lab) -> Evidence:
    """0.25 to the powers 20, 30 and 50; so small that float32 loses it when added to 1.

    By multiplying, and as a float32 power.
    """
    return All({
        f"power {n}": Routes({
            "multiplied": chain(0.25, 1.0, n), "float32": float(np.float32(0.25) ** np.float32(n))
        })
        for n in (20, 30, 50)
    })  # fmt: skip


def by_hand(weights: list[Any], x: Any, y: Any, lr: float, steps: int) -> float:
    """How many steps until the loss is not finite (steps + 1: never): NumPy, float32."""
    weights = [w.copy() for w in weights]
    rows = np.arange(len(y))
    with np.errstate(all="ignore"):
        for step in range(steps + 1):
            layers = [x]
            for w in weights[:-1]:
                layers.append(np.maximum(layers[-1] @ w, 0))
            z = layers[-1] @ weights[-1]
            z = z - z.max(axis=1, keepdims=True)
            log = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            if not np.isfinite(log[rows, y].mean()):
                return step
            delta = np.exp(log)
            delta[rows, y] -= 1
            delta /= len(y)
            for i in reversed(range(len(weights))):
                gradient = layers[i].T @ delta
                delta = (delta @ weights[i].T) * (layers[i] > 0)
                weights[i] -= np.float32(lr) * gradient
    return steps + 1


def by_library(weights: list[Any], x: Any, y: Any, lr: float, steps: int) -> float:
    """The same with Fathom's layers, tape and SGD."""
    layers: list[Any] = []
    for w in weights:
        layer = nn.Linear(w.shape[0], w.shape[1], bias=False)
        layer.weight.data = w.T.copy()
        layers += [layer, nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    sgd = fathom.optim.SGD(net.parameters(), lr=lr)
    for step in range(steps + 1):
        sgd.zero_grad()
        loss = F.cross_entropy(net(fathom.tensor(x)), fathom.tensor(y))
        if not np.isfinite(loss.item()):
            return step
        loss.backward()
        sgd.step()
    return steps + 1


def excess(seed: int, gain: float) -> tuple[list[Any], Any, Any]:
    """Weights of 50 ReLU layers that each pass on `gain` times the amplitude, and 32 digits."""
    rng = np.random.default_rng(seed)
    data = digits()
    pick = rng.integers(0, len(data.x), 32)
    sizes = [64] * DEPTH + [10]
    weights = [
        (rng.standard_normal((a, b)) * gain * np.sqrt(2 / a)).astype(np.float32)
        for a, b in pairwise(sizes)
    ]
    x = data.x[pick] - data.x.mean()
    return weights, (x / x.std()).astype(np.float32), data.y[pick]


@question.experiment(
    "C2.3.9-04",
    T(
        "Once the factor is slightly above 1, the loss turns into NaN at once.",
        "因子一旦略大于 1，损失立刻变成 NaN。",
    ),
    at_least(0.9),
    correction=T(
        "1.1^50 is only 117. Without a step no loss is lost; within ten steps the share of lost "
        "runs is "
        "{n[1e-05/NumPy]:.0%} at a rate of 1e-5, {n[0.01/NumPy]:.0%} at 0.01 and "
        "{n[1.0/NumPy]:.0%} at 1: the step decides.",
        "1.1^50 只有 117。不更新时损失不会变成 NaN；十步之内，损失失效的比例在学习率 1e-5 时为 "
        "{n[1e-05/NumPy]:.0%}，0.01 时为 {n[0.01/NumPy]:.0%}，1 时为 {n[1.0/NumPy]:.0%}："
        "起决定作用的是步长。",
    ),
    weight=2,
)
def at_once(lab: Lab) -> Evidence:
    """Share of nets (50 ReLU layers, gain 1.1 each, float32) with a loss not finite in 10 steps.

    By a NumPy program and by the library, at four rates of SGD; 0 is the forward pass alone.
    """
    ways = {"NumPy": by_hand, "library": by_library}
    seeds = lab.seeds(10, 3)
    at: dict[str, Evidence] = {}
    for lr in (0.0, 1e-5, 0.01, 1.0):
        steps = 10 if lr else 0
        at[str(lr)] = Routes({
            name: Sample([float(run(*excess(s, 1.1), lr, steps) <= steps) for s in seeds])
            for name, run in ways.items()
        })  # fmt: skip
    return Settings(T("learning rate", "学习率"), at)


@once
def by_depth(lab: Lab, name: str, std: float) -> tuple[Any, Any]:
    """Measured and foretold ratios over depths 5 to 20, a row for each seed."""
    depths = (5, 10, 15, 20)
    runs = [
        [passage(name, np.random.default_rng(s), std=std, depth=d) for d in depths]
        for s in lab.seeds(12, 3)
    ]
    measured = np.array([[p.backward for p in row] for row in runs])
    return measured, np.array([[p.foretold for p in row] for row in runs])


@question.figure(
    T("Gradient at the first layer over that at the last", "第一层梯度与最后一层梯度之比")
)
def first_over_last(lab: Lab) -> Figure:
    """100 units a layer; lines as measured by backpropagation, points from n Var(W) E[f'^2]."""
    depths = [5, 10, 15, 20]
    marks: list[Line] = []
    worst = 0.0
    for name, std in (("relu", np.sqrt(0.02)), ("tanh", 0.1), ("sigmoid", 0.1)):
        measured, foretold = by_depth(lab, name, std)
        line = np.exp(np.log(measured).mean(axis=0))
        theory = np.exp(np.log(foretold).mean(axis=0))
        worst = max(worst, float(np.abs(line / theory - 1).max()))
        low, high = measured.min(axis=0), measured.max(axis=0)
        marks.append(Line(T(name, name), depths, line, low, high))
        marks.append(Line(T(f"{name}, theory", f"{name}，理论"), depths, theory, points=True))
    return Figure(
        Axis(T("layers", "层数")),
        Axis(T("first over last gradient", "首层与末层梯度之比"), log=True),
        marks,
        T(
            "Gradients fall by a constant factor a layer, steeply for the sigmoid and hardly for "
            "ReLU with He's weights, and the mean-square gain foretells how steeply.",
            "梯度每层按固定倍数下降：sigmoid 很陡，采用 He 初始化的 ReLU 几乎不降；"
            "均方增益预言了下降的快慢。",
        ),
        {"largest relative gap to theory": worst},
    )


@question.figure(T("Size of the factor against what happens", "因子的大小与实际结果"))
def size_and_outcome(lab: Lab) -> Figure:
    """30 ReLU layers of 64 units: gradient ratio over the amplitude gain and the spectral norm."""
    scales = np.linspace(0.4, 1.6, 13)
    seeds = lab.seeds(8, 3)
    ratios = np.array([
        [passage("relu", np.random.default_rng(s), std=c * np.sqrt(2 / 64), depth=30, width=64,
                 rows=32).backward for c in scales]
        for s in seeds
    ])  # fmt: skip
    rng = lab.rng("norm")
    norm = np.linalg.norm(
        rng.standard_normal((64, 64)) * np.sqrt(2 / 64) * (rng.random(64) < 0.5), 2
    )
    middle = np.exp(np.log(ratios).mean(axis=0))
    low, high = ratios.min(axis=0), ratios.max(axis=0)
    return Figure(
        Axis(T("size of the factor", "因子的大小")),
        Axis(T("first over last gradient", "首层与末层梯度之比"), log=True),
        [
            Line(T("as root mean-square gain", "以均方增益的平方根计"), scales, middle, low, high),
            Line(T("as spectral norm", "以谱范数计"), scales * norm, middle, low, high),
        ],
        T(
            "Measured as mean-square gain the factor crosses from vanishing to exploding at 1; "
            "the "
            "spectral norm of the same matrices is then already about 2.4.",
            "以均方增益衡量时，因子在 1 处从消失转为爆炸；而同一批矩阵的谱范数此时已约为 2.4。",
        ),
        {"spectral norm at the critical scale": float(norm)},
    )
