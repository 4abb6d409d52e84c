"""S.8 What a neuron is, and why it has an activation function."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    Axis, Bars, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T, at_most, band,
    once,
)  # fmt: skip
from fathom.book.material.softmaxes import shifted

question = Question(
    "S.8",
    title=T(
        "What is a neuron, and why does it have an activation function?",
        "什么是神经元？为什么需要激活函数？",
    ),
    difficulty=2,
    frequency=4,
    topics=("neuron", "activation", "attention", "linear collapse", "神经元", "激活函数", "注意力"),
    answer=T(
        "A neuron takes a weighted sum of its inputs, adds a bias and bends the result with an "
        "activation function. Dense, convolutional and recurrent units differ only in which inputs "
        "they sum and which weights they share. Without the bend each of them is affine, and "
        "affine maps put together stay affine, so depth would buy no new functions. Attention is "
        "another matter: its weights are computed from the inputs and multiplied with them, so it "
        "is not linear even with no activation and no softmax. Max pooling and layer normalization "
        "are not linear, either. What the activation adds is the ability to treat one region of "
        "the inputs otherwise than another.",
        "神经元对输入求加权和、加偏置，再用激活函数弯折结果。全连接、卷积、循环单元的区别只在于对哪"
        "些输入求和、共享哪些权重。没有弯折，它们都是仿射映射，而仿射映射的复合仍是仿射，所以深度不"
        "会带来新的函数。注意力是另一回事：它的权重由输入算出，又与输入相乘，因此即使没有激活、没有"
        " softmax 也不是线性的。最大池化与层归一化也不是线性的。激活函数带来的能力，是让输入空间的"
        "不同区域受到不同的处理。",
    ),
    flips=T(
        "With attention, gates or products of features in the network, leaving out the activations "
        "does not make it linear.",
        "网络中若有注意力、门控或特征相乘，去掉激活函数也不会使它变成线性。",
    ),
    analogy=T(
        "A committee adds up weighted opinions; the activation is the decision, without which "
        "there would only be more averaging.",
        "委员会把意见加权求和；激活函数就是作出决定，没有它就只是不断地取平均。",
    ),
    generative=T(
        "In a Transformer softmax attention and the activation of the feed-forward block share the "
        "nonlinear work.",
        "在 Transformer 里，softmax 注意力与前馈块的激活分担了非线性的工作。",
    ),
    classical=T(
        "A single unit with a sigmoid is logistic regression; with no activation, linear "
        "regression.",
        "一个带 sigmoid 的单元就是逻辑回归；不带激活就是线性回归。",
    ),
    driving=T(
        "A unit for a brake light must answer to red and bright together and to neither alone: a "
        "sum needs a threshold for that.",
        "识别刹车灯的单元必须在“红”且“亮”时才响应，单独一个不行：求和之后需要一个阈值。",
    ),
    change=T(
        "Put tanh behind the sums: the defect of every kind of unit leaves 0.",
        "在求和之后加上 tanh：每类单元的非线性度都离开 0。",
    ),
)


def dense(rng: np.random.Generator, f: Any) -> Any:
    w = [rng.standard_normal((8, 8)) / np.sqrt(8) for _ in range(3)]
    b = [rng.standard_normal(8) for _ in range(3)]

    def run(x: Any) -> Any:
        for part, bias in zip(w, b, strict=True):
            x = f(x @ part + bias)
        return x

    return run


def convolution(rng: np.random.Generator, f: Any) -> Any:
    layers = [nn.Conv1d(8, 8, 3, padding=1).double() for _ in range(3)]

    def run(x: Any) -> Any:
        h = fathom.tensor(np.swapaxes(x, 1, 2))
        for layer in layers:
            h = fathom.tensor(f(layer(h).value()))
        return h.value()

    return run


def recurrence(rng: np.random.Generator, f: Any) -> Any:
    into, back = rng.standard_normal((8, 8)) / 4, rng.standard_normal((8, 8)) / 4

    def run(x: Any) -> Any:
        h = np.zeros((len(x), 8))
        for step in range(x.shape[1]):
            h = f(x[:, step] @ into + h @ back + 0.1)
        return h

    return run


def attention(rng: np.random.Generator, f: Any) -> Any:
    q, k, v = rng.standard_normal((3, 8, 8)) / np.sqrt(8)

    def run(x: Any) -> Any:
        scores = (x @ q) @ np.swapaxes(x @ k, 1, 2) / np.sqrt(8)
        return f(scores) @ (x @ v) / x.shape[1]

    return run


UNITS = {
    "dense": dense,
    "convolution": convolution,
    "recurrent": recurrence,
    "attention": attention,
}
NAMES = {"dense": "全连接", "convolution": "卷积", "recurrent": "循环", "attention": "注意力"}


def identity(z: Any) -> Any:
    return z


def defect(run: Any, rng: np.random.Generator) -> float:
    """|f(ax + (1 - a)y) - a f(x) - (1 - a) f(y)| over the spread of f: 0 exactly for affine
    maps."""
    x, y = rng.standard_normal((2, 64, 6, 8))
    a = rng.uniform(-1.0, 2.0, (64, 1, 1))
    of_x, of_y, mixed = run(x), run(y), run(a * x + (1 - a) * y)
    b = a.reshape(-1, *[1] * (of_x.ndim - 1))
    gap = mixed - b * of_x - (1 - b) * of_y
    return float(np.sqrt((gap**2).mean()) / of_x.std())


@once
def defects(lab: Lab, unit: str, bent: bool) -> Sample:
    """The defect of a stack of three units, or one head, with and without its nonlinearity."""
    bend = (shifted if unit == "attention" else np.tanh) if bent else identity
    found = []
    for seed in lab.seeds(10, 4):
        rng = np.random.default_rng(seed)
        with fathom.seed(seed):
            found.append(defect(UNITS[unit](rng, bend), rng))
    return Sample(found)


@question.experiment(
    "CS.8-01",
    T("Without activations a network is linear.", "没有激活函数，网络就是线性的。"),
    at_most(1e-9),
    correction=T(
        "Of dense, convolutional and recurrent networks that is right (up to the bias: affine). A "
        "head of attention with no activation and no softmax is not: its defect is "
        "{n[attention]:.1f} of the output's spread, since it multiplies inputs with inputs.",
        "对全连接、卷积、循环网络成立（加上偏置，是仿射的）。没有激活、也没有 softmax 的注意力头则"
        "不是：偏离线性的程度是输出标准差的 {n[attention]:.1f} 倍，因为它把输入与输入相乘。",
    ),
    weight=2,
)
def collapse(lab: Lab) -> Evidence:
    """How far f(ax + (1 - a)y) is from a f(x) + (1 - a) f(y), root mean square over the spread of
    f, with all nonlinearities taken out: three dense layers, three convolutions, a recurrence of
    six steps, a head of attention whose scores are used as they are."""
    return Settings(T("kind of network", "网络类型"), {
        name: defects(lab, name, False) for name in UNITS
    })  # fmt: skip


@question.figure(T("What is left without the nonlinearity", "去掉非线性之后"))
def with_and_without(lab: Lab) -> Figure:
    """The defect of linearity of each kind of unit with its nonlinearity and without."""
    bars = []
    for name, bent in (
        (T("as it is", "原样"), True),
        (T("nonlinearity taken out", "去掉非线性"), False),
    ):
        at = [defects(lab, unit, bent) for unit in UNITS]
        bars.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("unit", "单元"), ticks=[T(unit, NAMES[unit]) for unit in UNITS]),
        Axis(T("distance from affine", "偏离仿射的程度")),
        bars,
        T(
            "Dense, convolutional and recurrent nets become exactly affine; attention does not: "
            "without softmax it is a product of three inputs, farther from affine than before.",
            "全连接、卷积、循环网络变成严格的仿射；注意力则不然：去掉 softmax 后它是三个输入之积，"
            "反而离仿射更远。",
        ),
    )


@question.figure(T("One unit, with and without its bend", "同一个单元，有无弯折"))
def one_unit(lab: Lab) -> Figure:
    """Best fit of a bump by sums of n units with random weights: tanh, ReLU and no activation."""
    x = np.linspace(-3.0, 3.0, 200)[:, None]
    y = np.exp(-(x**2))
    counts = (1, 2, 4, 8, 16, 32)
    lines = []
    bends = (
        (T("tanh", "tanh"), np.tanh), (T("ReLU", "ReLU"), lambda z: np.maximum(z, 0.0)),
        (T("none", "无激活"), identity),
    )  # fmt: skip
    for name, f in bends:
        rows = []
        for seed in lab.seeds(12, 4):
            rng = np.random.default_rng(seed)
            w, b = rng.standard_normal(32) * 2.0, rng.uniform(-3.0, 3.0, 32)
            rows.append([left(f(x * w[:n] + b[:n]), y) for n in counts])
        at = [Sample(column) for column in np.array(rows).T]
        lines.append(Line(name, counts, *band(at)))
    return Figure(
        Axis(T("units", "单元数"), log=True),
        Axis(T("share of variance left", "未解释方差的比例")),
        [*lines, Level(T("a constant", "常数"), y=1.0)],
        T(
            "Units with a bend build the bump from pieces; without one, 32 of them do no better "
            "than a constant.",
            "带弯折的单元能用片段拼出隆起；没有弯折时，32 个单元也不比一个常数好。",
        ),
    )


def left(features: Any, y: Any) -> float:
    """Share of the variance of y (n, 1) that least squares on features and a constant leaves."""
    full = np.column_stack([features, np.ones(len(y))])
    w = np.linalg.solve(full.T @ full + 1e-8 * np.eye(full.shape[1]), full.T @ y)
    return float(((full @ w - y) ** 2).mean() / y.var())
