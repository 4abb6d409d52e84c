"""2.3.4 How the gradient travels from the output to the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Sample, T, at_most, band,
)  # fmt: skip
from fathom.book.material.layers import Passed, Weights, by_tape, weights

question = Question(
    "2.3.4",
    title=T(
        "How does the gradient travel from the output layer to the input layer?",
        "梯度如何从输出层逐层传到输入层？",
    ),
    difficulty=5,
    frequency=5,
    topics=("backpropagation", "error term", "gradient flow", "误差项", "梯度流", "反向传播"),
    answer=T(
        "Layer by layer, as an error term delta_l, the gradient of the loss by the weighted sums "
        "z_l. One step down multiplies by the transposed weights of the layer above, which sends "
        "each unit the errors of the units it feeds, weighted by the strength of the connection, and "
        "then by the slope f'(z_l), entry by entry: delta_l = (W_{l+1}^T delta_{l+1}) f'(z_l). So a "
        "saturated unit passes almost nothing and a silent ReLU nothing at all. The size of delta "
        "changes by about the same factor at each layer, hence geometrically with depth. The formula "
        "holds for plain layers with an elementwise f; residual paths add their own term and a norm "
        "needs its Jacobian.",
        "逐层传递，载体是误差项 delta_l，即损失对加权和 z_l 的梯度。往下一层，先乘上一层权重的转置，把每个神经元"
        "所供给的下游神经元的误差按连接强度加权汇总，再逐元素乘斜率 f'(z_l)："
        "delta_l = (W_{l+1}^T delta_{l+1}) ⊙ f'(z_l)。所以饱和的神经元几乎不传，关闭的 ReLU 完全不传。"
        "delta 的大小在每层大约乘以同一个因子，因而随深度按几何级数变化。该式适用于激活逐元素的普通层；"
        "残差路径另加一项，归一化要用它的雅可比矩阵。",
    ),
    flips=T(
        "With a residual connection delta_{l+1} also arrives unchanged, added to what the formula "
        "gives.",
        "有残差连接时，delta_{l+1} 还会原样到达，与公式给出的相加。",
    ),
    analogy=T(
        "Water run back through the pipes it came by: each pipe's width and each valve's opening "
        "decides what arrives.",
        "水沿来路倒流：管子多粗、阀门开多大，决定能回来多少。",
    ),
    generative=T(
        "Gradient norms of each block are logged when large models are trained; a spike in one "
        "layer announces a diverging loss.",
        "训练大模型时记录各块的梯度范数；某一层的尖峰预示损失将发散。",
    ),
    classical=T(
        "For recurrent nets the same recursion runs over time steps.",
        "循环网络中，同一递推沿时间步进行。",
    ),
    driving=T(
        "In a shared backbone the error terms of detection and segmentation heads add up at the "
        "fork.",
        "共享主干中，检测头与分割头的误差项在分叉处相加。",
    ),
    change=T(
        "Scale the weights by 3: tanh units saturate and the flow of errors changes its slope.",
        "把权重放大 3 倍：tanh 单元饱和，误差流的斜率随之改变。",
    ),
)

SLOPES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tanh": (fathom.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (fathom.sigmoid, lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "relu": (fathom.relu, lambda z: (z > 0) * 1.0),
}


def passed(net: Weights, rng: np.random.Generator, name: str, rows: int = 16) -> Passed:
    """The network's squared error on random rows, all gradients by the tape."""
    x = rng.standard_normal((rows, net.matrices[0].shape[1]))
    y = fathom.tensor(rng.standard_normal((rows, len(net.biases[-1]))))
    return by_tape(net, x, lambda a: ((a - y) ** 2).mean(), SLOPES[name][0], lambda z: z)


def recursion(net: Weights, found: Passed, name: str) -> float:
    """Largest relative distance of the recursion's error terms from the tape's, over layers."""
    worst = 0.0
    delta = found.delta[-1]
    for k in range(len(net.matrices) - 2, -1, -1):
        delta = (delta @ net.matrices[k + 1]) * SLOPES[name][1](found.z[k])
        right = found.delta[k]
        worst = max(worst, float(np.abs(delta - right).max() / np.abs(right).max()))
    return worst


@question.exact(
    "C2.3.4-01",
    T(
        "The error term of a layer is the transposed weights of the next times its error term, times "
        "the slope entry by entry.",
        "某层的误差项等于下一层权重的转置乘其误差项，再与斜率逐元素相乘。",
    ),
    at_most(1e-12),
    weight=2,
)
def error_terms(lab: Lab) -> Evidence:
    """A 6-layer network, error terms by the recursion from the last alone against automatic
    gradients by every z, tanh, sigmoid and ReLU; and one of them against central differences."""
    parts: dict[str, Any] = {}
    for name in SLOPES:
        net = weights(lab.rng("net"), [6, 10, 9, 8, 7, 6, 3], 1.3)
        parts[name] = recursion(net, passed(net, lab.rng("data"), name), name)
    parts["differences"] = Check(numeric(lab), at_most(1e-8))
    return All(parts)


def numeric(lab: Lab, step: float = 1e-5) -> float:
    """Largest distance of the first layer's error term from differences by its biases' shifts."""
    net, n = weights(lab.rng("net"), [6, 10, 9, 8, 7, 6, 3], 1.3), 10
    right = passed(net, lab.rng("data"), "tanh", rows=1).delta[0][0]
    found = np.zeros(n)
    for k in range(n):
        ends = []
        for sign in (1, -1):
            biases = [b.copy() for b in net.biases]
            biases[0][k] += sign * step  # moves z_1 of the only row by as much
            moved = Weights(net.matrices, biases)
            ends.append(passed(moved, lab.rng("data"), "tanh", rows=1).loss)
        found[k] = (ends[0] - ends[1]) / (2 * step)
    return float(np.abs(found - right).max())


@question.figure(T("The flow of errors", "误差的流动"))
def flow(lab: Lab) -> Figure:
    """Norm of the error term at each of 12 layers of 50 units over that of the last; weights of
    deviation 1 / sqrt(n) (sqrt(2 / n) for ReLU)."""
    lines = []
    for name, scale in (("tanh", 1.0), ("sigmoid", 1.0), ("relu", float(np.sqrt(2)))):
        rows = []
        for seed in lab.seeds(10, 4):
            rng = np.random.default_rng(seed)
            net = weights(rng, [50] * 13, scale)
            norms = np.array([np.linalg.norm(d) for d in passed(net, rng, name).delta])
            rows.append(np.log10(norms / norms[-1]))
        at = [Sample(column) for column in np.array(rows).T]
        x = np.arange(1, 13)
        lines.append(Line(T(name, name), x, *band(at)))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("log10 of delta over the last", "delta 与末层之比的 log10")),
        lines,
        T(
            "From the output (right) to the input (left) the error of sigmoid layers falls by a "
            "constant factor a layer; tanh loses slowly, ReLU at the scale of He roughly keeps it.",
            "从输出（右）到输入（左），sigmoid 层的误差每层按固定因子下降；tanh 损失缓慢，He 尺度的 ReLU 大致能"
            "保持。",
        ),
    )
