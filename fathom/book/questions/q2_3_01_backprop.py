"""2.3.1 What backpropagation is, and what it saves."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Settings, T, at_least, at_most, once,
)  # fmt: skip
from fathom.book.material.layers import Weights, by_tape, weights
from fathom.models.backprop import BackpropMLP

question = Question(
    "2.3.1",
    title=T(
        "What is backpropagation really, and what problem does it solve?",
        "反向传播的本质是什么？它解决了什么问题？",
    ),
    difficulty=3,
    frequency=5,
    topics=("backpropagation", "complexity", "chain rule", "反向传播", "复杂度", "链式法则"),
    answer=T(
        "Backpropagation computes the exact gradient of one number by all parameters, using the "
        "chain rule from the output backwards and keeping what several paths share. That makes the "
        "whole gradient cost about two more forward passes, whatever the number of parameters. It "
        "is no learning rule: it gives the gradient, an optimizer uses it. Without it there are "
        "difference quotients (P + 1 forward passes for P parameters, and inexact) and forward "
        "mode (P passes, exact): a factor P dearer, hopeless for millions of weights, but not "
        "exponential. Exponential in depth is only the naive sum over all paths, width to the "
        "power of depth of them, which backpropagation folds together by dynamic programming.",
        "反向传播用链式法则从输出往回，求一个标量对所有参数的精确梯度，并复用多条路径共享的部分。因此无论参数"
        "有多少，整个梯度的代价只相当于再做约两次前向。它不是学习规则：它给出梯度，由优化器来使用。没有它，还有"
        "差商（P 个参数要 P + 1 次前向，且不精确）和前向模式（P 次，精确）：贵 P 倍，对几百万权重不可行，但不是"
        "指数级。只有朴素地对所有路径求和才随深度指数增长，路径数是宽度的深度次方，而反向传播用动态规划把它们"
        "合并起来。",
    ),
    flips=T(
        "For a function of few inputs and many outputs, forward mode is the cheaper one.",
        "若函数输入少、输出多，前向模式更便宜。",
    ),
    analogy=T(
        "To know what each worker cost the delay, trace the delay back through the line once "
        "instead of replaying the day without each of them.",
        "要知道每个工人造成多少延误，沿流水线倒查一遍即可，不必逐个去掉工人重演一天。",
    ),
    generative=T(
        "A model of 10^11 weights is trained at about three times the cost of running it, not 10^11 "
        "times.",
        "千亿参数模型的训练每步约为前向的三倍，而不是千亿倍。",
    ),
    classical=T(
        "It is the adjoint method of optimal control and of weather forecasting.",
        "它就是最优控制和气象预报中的伴随方法。",
    ),
    driving=T(
        "End-to-end planners are trained by gradients through perception, forecast and planning.",
        "端到端规划器的梯度一路穿过感知、预测与规划。",
    ),
    change=T(
        "Give the network one input parameter only: forward mode costs as little as "
        "backpropagation.",
        "让网络只有一个可调参数：前向模式与反向传播一样便宜。",
    ),
)

WIDTH = 4


def net(lab: Lab, depth: int, width: int = WIDTH) -> Weights:
    """A random network of that depth, one output."""
    return weights(lab.rng(f"net {depth} {width}"), [width] * depth + [1])


class Counted:
    """Matrix products that count their multiplications."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, a: Any, b: Any) -> Any:
        self.count += a.shape[0] * a.shape[1] * (b.shape[1] if b.ndim > 1 else 1)
        return a @ b


def forward(given: Weights, x: Any, product: Counted) -> list[Any]:
    """All activations of a column of inputs."""
    outputs = [x]
    for w, b in zip(given.matrices, given.biases, strict=True):
        outputs.append(np.tanh(product(w, outputs[-1]) + b[:, None]))
    return outputs


def backward(given: Weights, outputs: list[Any], product: Counted) -> list[Any]:
    """Gradients of the sum of the last activations by all matrices."""
    delta, found = 1 - outputs[-1] ** 2, []
    for k in range(len(given.matrices) - 1, -1, -1):
        found.append(product(delta, outputs[k].T))
        if k:
            delta = product(given.matrices[k].T, delta) * (1 - outputs[k] ** 2)
    return found[::-1]


@once
def costs(lab: Lab, depth: int, width: int = WIDTH) -> dict[str, float]:
    """Multiplications that four ways to the gradient take, counted while they run."""
    given, x = net(lab, depth, width), np.ones((width, 1))
    there, both = Counted(), Counted()
    forward(given, x, there)
    backward(given, forward(given, x, both), both)
    numeric = Counted()
    for _ in range(given.size + 1):  # the function once as it is, once for each moved parameter
        forward(given, x, numeric)
    tangents = Counted()
    for _ in range(given.size):  # value and tangent, each a product a layer
        forward(given, x, tangents)
        forward(given, x, tangents)
    return {
        "forward": there.count, "backpropagation": both.count, "differences": numeric.count,
        "forward mode": tangents.count,
    }  # fmt: skip


def paths(depth: int, width: int = WIDTH) -> int:
    """Multiplications of the sum over all paths from the first weight to the output, by walking."""
    count = 0
    waiting = [0]
    while waiting:
        layer = waiting.pop()
        if layer < depth - 1:
            count += width
            waiting.extend([layer + 1] * (width if layer < depth - 2 else 1))
    return count


@question.exact(
    "C2.3.1-01",
    T(
        "Backpropagation is an efficient way to derivatives, by the chain rule.",
        "反向传播是基于链式法则的高效求导算法。",
    ),
    at_most(1e-8),
)
def equals_the_gradient(lab: Lab) -> Evidence:
    """The four equations on arrays against automatic gradients and central differences, largest
    difference over all weights; multiplications there and back over those of the forward pass."""
    given, rng = weights(lab.rng("net"), [5, 8, 6, 3]), lab.rng("data")
    x, y = rng.standard_normal((7, 5)), rng.standard_normal((7, 3))
    by_hand = BackpropMLP(given.matrices, given.biases)
    found = by_hand.gradients(x, y)
    target = fathom.tensor(y)
    taped = by_tape(given, x, lambda a: ((a - target) ** 2).mean(), fathom.tanh, lambda z: z)
    apart = [np.abs(f.weight - t).max() for f, t in zip(found, taped.matrix, strict=True)]
    cost = costs(lab, 16, 16)
    return All({
        "automatic": float(max(apart)),
        "differences": max(quotient(by_hand, x, y, k) for k in range(3)),
        "cost over forward": Check(cost["backpropagation"] / cost["forward"], at_most(4.0)),
    })  # fmt: skip


def quotient(model: BackpropMLP, x: Any, y: Any, layer: int, step: float = 1e-5) -> float:
    """Largest distance of a layer's weight gradient from central differences."""
    right, weight, worst = model.gradients(x, y)[layer].weight, model.weights[layer], 0.0
    for place in np.ndindex(*weight.shape):
        kept = weight[place]
        ends = []
        for sign in (1, -1):
            weight[place] = kept + sign * step
            ends.append(model.loss(x, y))
        weight[place] = kept
        worst = max(worst, float(abs((ends[0] - ends[1]) / (2 * step) - right[place])))
    return worst


@question.exact(
    "C2.3.1-02",
    T(
        "Without backpropagation an update would cost exponentially much (in depth).",
        "没有反向传播，一次更新的代价将（随深度）指数增长。",
    ),
    at_least(100.0),
    correction=T(
        "Only if the chain rule is multiplied out path by path: from 5 to 10 layers that becomes "
        "{n[sum over paths]:.0f} times as dear. Difference quotients ({n[difference quotients]:.1f} "
        "times) and forward mode ({n[forward mode]:.1f} times) cost a factor of the number of "
        "parameters: hopeless for large nets, but growing with the square of the depth.",
        "只有把链式法则逐条路径展开才如此：从 5 层到 10 层，代价变为 {n[sum over paths]:.0f} 倍。差商"
        "（{n[difference quotients]:.1f} 倍）与前向模式（{n[forward mode]:.1f} 倍）多出的是参数个数这一"
        "因子：对大网络不可行，但只随深度的平方增长。",
    ),
    weight=3,
)
def growth(lab: Lab) -> Evidence:
    """By what the multiplications for the gradient grow from 5 to 10 layers of width 4, counted
    while they run, in the three ways there are without it. Exponential growth by the width would be
    4^5 = 1,024; 100 is enough, where growth with the square of the depth gives 4."""
    shallow, deep = costs(lab, 5), costs(lab, 10)
    return Settings(T("what takes its place", "用什么代替"), {
        "sum over paths": paths(10) / paths(5),
        "difference quotients": deep["differences"] / shallow["differences"],
        "forward mode": deep["forward mode"] / shallow["forward mode"],
    })  # fmt: skip


@question.figure(T("Cost of a gradient, by depth", "梯度的代价随深度的变化"))
def by_depth(lab: Lab) -> Figure:
    """Multiplications for the whole gradient of a network of width 4, counted while they run."""
    depths = [2, 3, 4, 5, 6, 8, 10, 12, 16]
    walked = depths[: lab.pick(7, 5)]
    names: tuple[tuple[str, T], ...] = (
        ("backpropagation", T("backpropagation", "反向传播")),
        ("differences", T("difference quotients", "差商")),
        ("forward mode", T("forward mode", "前向模式")),
    )
    return Figure(
        Axis(T("layers", "层数")),
        Axis(T("multiplications", "乘法次数"), log=True),
        [
            *(Line(name, depths, [costs(lab, d)[key] for d in depths]) for key, name in names),
            Line(T("sum over paths", "路径求和"), walked, [paths(d) for d in walked]),
        ],
        T(
            "Only the sum over all paths is a straight, exponential line; the others bend: "
            "backpropagation grows with depth, differences and forward mode with its square.",
            "只有路径求和是一条直线，即指数增长；其余都弯曲：反向传播与深度成正比，差商与前向模式与其平方成"
            "正比。",
        ),
    )


@question.figure(
    T("Cost over a forward pass, by number of parameters", "相对一次前向的代价随参数个数的变化")
)
def by_parameters(lab: Lab) -> Figure:
    """Three layers of growing width: multiplications over those of one forward pass."""
    widths = [2, 4, 8, 12, 16, 24][: lab.pick(6, 4)]
    found = [costs(lab, 3, w) for w in widths]
    sizes = [net(lab, 3, w).size for w in widths]

    def over(key: str) -> list[float]:
        return [c[key] / c["forward"] for c in found]

    return Figure(
        Axis(T("parameters", "参数个数"), log=True),
        Axis(T("cost over forward", "与前向之比"), log=True),
        [
            Line(T("backpropagation", "反向传播"), sizes, over("backpropagation")),
            Line(T("difference quotients", "差商"), sizes, over("differences")),
            Line(T("forward mode", "前向模式"), sizes, over("forward mode")),
        ],
        T(
            "Backpropagation stays below three forward passes; the two others need one or two for "
            "each parameter.",
            "反向传播始终不到三次前向；另外两种每个参数都要一到两次。",
        ),
    )
