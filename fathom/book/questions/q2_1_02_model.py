"""2.1.2 The model of one artificial neuron, part by part."""

from __future__ import annotations

from fractions import Fraction
from math import erf, sqrt
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, T, at_least, at_most,
    band, equals, once,
)  # fmt: skip
from fathom.nn import Linear, Step

question = Question(
    "2.1.2",
    title=T(
        "What is the mathematical model of one artificial neuron, and what does each part do?",
        "人工神经元的数学模型是什么？各部分起什么作用？",
    ),
    difficulty=2,
    frequency=4,
    topics=(
        "neuron",
        "bias",
        "vectorization",
        "activation",
        "神经元",
        "偏置",
        "向量化",
        "激活函数",
    ),
    answer=T(
        "One neuron computes y = f(w . x + b): a weighted sum, a shift, and a nonlinearity. Each "
        "weight says how much, and in which direction, its input counts; together they give the "
        "direction in which the unit looks, and their length how steep it is. The bias moves the "
        "point where it responds: at w . x = -b. The activation f decides the shape of the response; "
        "without it a stack of layers would be one affine map. A bias is nothing but a weight on "
        "a constant input of 1. For a batch it is written f(X W + b), one row a sample, one "
        "column a neuron, with b added to every row: the same numbers up to rounding, but one "
        "matrix product in place of loops.",
        "单个神经元计算 y = f(w·x + b)：加权求和、平移、再过非线性。每个权重说明对应输入的影响有多大、"
        "方向如何；合起来，权重的方向是神经元“看”的方向，长度决定响应有多陡。偏置移动响应点的位置："
        "在 w·x = -b 处。激活函数 f 决定响应的形状；没有它，多层叠加仍只是一个仿射映射。"
        "偏置不过是恒为 1 的输入上的权重。成批计算时写作 f(XW + b)：一行一个样本，一列一个神经元，"
        "b 加到每一行；除舍入外数值相同，但用一次矩阵乘法代替了循环。",
    ),
    flips=T(
        "If f is the identity, more neurons and more layers add nothing: the whole is one affine map.",
        "如果 f 是恒等函数，再多神经元、再多层也无济于事：整体仍是一个仿射映射。",
    ),
    analogy=T(
        "A jury: the weights are how much each juror is listened to, the bias how sceptical the "
        "judge is beforehand, the activation how the tally becomes a verdict.",
        "陪审团：权重是每位陪审员的话语权，偏置是法官事先的倾向，激活函数把得票变成裁决。",
    ),
    generative=T(
        "A token's logit is such a weighted sum of 4,096 or more inputs; the softmax over all "
        "tokens takes the place of f.",
        "词元的 logit 就是几千个输入的加权和；对所有词元做的 softmax 取代了 f。",
    ),
    classical=T(
        "With a sigmoid it is logistic regression, with the identity linear regression.",
        "f 取 sigmoid 即逻辑回归，取恒等函数即线性回归。",
    ),
    driving=T(
        "A detector's score for one anchor is one neuron on the features of its place.",
        "检测器给一个锚框打的分，就是该位置特征上的一个神经元。",
    ),
    change=T(
        "Double w and b together: the step gets steeper and stays in its place.",
        "把 w 和 b 同时加倍：曲线变陡，位置不变。",
    ),
)

X, W, B = np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.5, -0.1]), 0.1
BIASES = np.linspace(-2.0, 2.0, 9)


def layer_of(w: Any, b: Any) -> Any:
    """A float64 layer with these weights (outputs, inputs) and biases."""
    matrix = np.atleast_2d(w)
    layer = Linear(matrix.shape[1], matrix.shape[0]).double()
    layer.weight.data[...], layer.bias.data[...] = matrix, b
    return layer


@question.exact(
    "C2.1.2-01",
    T("The bias is a weight on a constant input of 1.", "偏置就是恒为 1 的输入上的权重。"),
    at_most(1e-12),
)
def one_more_input(lab: Lab) -> Evidence:
    """Largest difference of w . x + b and (w, b) . (x, 1), by NumPy and by layers; 500 neurons."""
    rng = lab.rng("neurons")
    w, x, b = rng.normal(size=(500, 7)), rng.normal(size=(64, 7)), rng.normal(size=500)
    wide, long = np.column_stack([x, np.ones(64)]), np.column_stack([w, b])
    plain = Linear(8, 500, bias=False).double()
    plain.weight.data[...] = long
    ours = layer_of(w, b)(fathom.tensor(x)).value() - plain(fathom.tensor(wide)).value()
    return All({
        "NumPy": float(np.abs(x @ w.T + b - wide @ long.T).max()),
        "layers": float(np.abs(ours).max()),
    })  # fmt: skip


@once
def firing_share(lab: Lab) -> Any:
    """Share of 2,000 random inputs above 0, (seeds, biases): one random neuron a seed."""
    shares = []
    for seed in lab.seeds(20, 5):
        rng = np.random.default_rng(seed)
        w, x = rng.normal(size=5), rng.normal(size=(2000, 5))
        w /= np.linalg.norm(w)
        shares.append([(x @ w + b > 0).mean() for b in BIASES])
    return np.array(shares)


@question.experiment(
    "C2.1.2-02",
    T(
        "A positive bias makes firing easier, a negative one harder.",
        "正偏置使神经元更容易激活，负偏置使其更难激活。",
    ),
    at_least(0.02),
)
def easier_to_fire(lab: Lab) -> Evidence:
    """Gain in the share of inputs that fire from each bias to the next, -2 to 2 in nine steps.

    By drawing 2,000 normal inputs for each random unit vector w, paired; and by the closed form
    Phi(b).
    """
    gains = np.diff(firing_share(lab), axis=1)
    phi = [0.5 * (1 + erf(b / sqrt(2))) for b in BIASES]
    return All({
        "drawn, least gain": Sample(gains.min(axis=1)),
        "closed form, least gain": float(np.diff(phi).min()),
    })  # fmt: skip


@question.exact(
    "C2.1.2-03",
    T(
        "With a step activation and b = -1 the weighted sum must exceed 1 for the unit to fire.",
        "阶跃激活、b = -1 时，加权和必须超过 1 才会激活。",
    ),
    equals(1.0, 1e-3),
)
def needed_sum(lab: Lab) -> Evidence:
    """The sum at which the output goes from 0 to 1, by bisection on a layer and on a comparison.

    Exactly at 1 the convention for step(0) decides; there it is not judged.
    """
    unit = layer_of([[1.0]], -1.0)

    def place(fires: Any) -> float:
        low, high = -10.0, 10.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (low, middle) if fires(middle) else (middle, high)
        return high

    return Routes({
        "layer and step": place(lambda s: Step()(unit(fathom.tensor(np.array([[s]])))).item() > 0),
        "comparison": place(lambda s: s - 1.0 > 0),
    })  # fmt: skip


@question.exact(
    "C2.1.2-04",
    T(
        "The batched form f(XW + b) equals the form for one sample at a time.",
        "批量形式 f(XW + b) 与逐样本形式相等。",
    ),
    at_most(1e-12),
)
def batched(lab: Lab) -> Evidence:
    """Largest difference, float64: one product for 64 rows and 9 neurons against loops over both."""
    rng = lab.rng("batch")
    x, w, b = rng.normal(size=(64, 7)), rng.normal(size=(9, 7)), rng.normal(size=9)
    one = np.array([[1 / (1 + np.exp(-(np.dot(v, row) + c))) for v, c in zip(w, b, strict=True)]
                    for row in x])  # fmt: skip
    layer = layer_of(w, b)
    rows = np.stack([fathom.sigmoid(layer(fathom.tensor(row))).value() for row in x])
    return All({
        "NumPy": float(np.abs(1 / (1 + np.exp(-(x @ w.T + b))) - one).max()),
        "layer": float(np.abs(fathom.sigmoid(layer(fathom.tensor(x))).value() - one).max()),
        "layer, row by row": float(np.abs(rows - one).max()),
    })  # fmt: skip


@question.exact(
    "C2.1.2-05",
    T(
        "x = (1, 2, 3), w = (0.2, 0.5, -0.1), b = 0.1 give the pre-activation 1.0.",
        "x = (1, 2, 3)、w = (0.2, 0.5, -0.1)、b = 0.1 时预激活为 1.0。",
    ),
    equals(1.0, 1e-3),
)
def example(lab: Lab) -> Evidence:
    """By a dot product, by a layer, and in exact fractions."""
    tenths = [Fraction(2, 10), Fraction(5, 10), Fraction(-1, 10)]
    exact = sum(w * x for w, x in zip(tenths, (1, 2, 3), strict=True)) + Fraction(1, 10)
    return Routes({
        "dot product": float(np.dot(W, X) + B),
        "layer": layer_of(W, B)(fathom.tensor(X)).item(),
        "fractions": float(exact),
    })  # fmt: skip


@question.exact(
    "C2.1.2-06",
    T("sigmoid(1.0) is about 0.731.", "sigmoid(1.0) 约为 0.731。"),
    equals(0.731, 0.0005),
)
def sigmoid_of_one(lab: Lab) -> Evidence:
    """By the library, by the formula, and from tanh."""
    return Routes({
        "library": fathom.sigmoid(fathom.tensor(1.0).double()).item(),
        "1 / (1 + 1/e)": 1 / (1 + np.exp(-1.0)),
        "(1 + tanh 1/2) / 2": (1 + np.tanh(0.5)) / 2,
    })  # fmt: skip


@question.figure(T("One part changed at a time", "每次只改变一个部分"))
def parts(lab: Lab) -> Figure:
    """The response of the example's neuron along its first input, with w, b or f changed."""
    along = np.linspace(-25.0, 25.0, 201)
    rows = np.column_stack([along, np.full(201, X[1]), np.full(201, X[2])])

    def response(w: Any, b: float, f: Any = fathom.sigmoid) -> Any:
        return f(layer_of(w, b)(fathom.tensor(rows))).value()[:, 0]

    steep = np.array([0.6, *W[1:]])
    lines = {
        T("as in the example", "原例"): response(W, B),
        T("w1 three times as large", "w1 放大三倍"): response(steep, B),
        T("b + 2", "b 加 2"): response(W, B + 2.0),
        T("f = tanh", "f 换成 tanh"): response(W, B, fathom.tanh),
        T("f = step", "f 换成阶跃"): response(W, B, Step()),
    }
    return Figure(
        Axis(T("first input", "第一个输入")),
        Axis(T("output", "输出")),
        [Line(name, along, y) for name, y in lines.items()],
        T(
            "The weight sets how steep the response is, the bias shifts it, the activation gives "
            "it its shape and range.",
            "权重决定响应的陡峭程度，偏置使其平移，激活函数决定形状与取值范围。",
        ),
    )


@question.figure(T("How often a unit fires, by its bias", "激活频率随偏置的变化"))
def share_by_bias(lab: Lab) -> Figure:
    """Random neurons of unit length on normal inputs: share above 0, with the closed form."""
    shares = [Sample(column) for column in firing_share(lab).T]
    return Figure(
        Axis(T("bias", "偏置")),
        Axis(T("share of inputs that fire", "激活的输入占比")),
        [
            Line(T("drawn inputs", "抽样"), BIASES, *band(shares)),
            Line(T("normal distribution", "正态分布函数"), BIASES,
                 [0.5 * (1 + erf(b / sqrt(2))) for b in BIASES]),
            Level(T("half", "一半"), y=0.5),
        ],
        T(
            "The more positive the bias, the more inputs fire the unit; at 0 it is half of them.",
            "偏置越大，使神经元激活的输入越多；偏置为 0 时恰为一半。",
        ),
    )  # fmt: skip
