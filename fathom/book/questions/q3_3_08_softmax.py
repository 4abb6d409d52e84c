"""3.3.8 Softmax: what it is and what it is used for."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Settings, T,
    at_least, at_most, equals,
)  # fmt: skip
from fathom.book.material.softmaxes import exactly, library, shifted

question = Question(
    "3.3.8",
    title=T(
        "What is softmax, and which roles does it play?",
        "什么是 softmax？它扮演哪些角色？",
    ),
    difficulty=3,
    frequency=5,
    topics=("softmax", "attention", "classification", "归一化", "多分类", "注意力"),
    answer=T(
        "Softmax maps n real scores to e^z_i over the sum of e^z_j: positive numbers that sum to "
        "1 and keep the order of the scores. The ratio of two outputs depends only on the "
        "difference of their scores, p_i/p_j = e^(z_i - z_j), so for two classes it is the "
        "sigmoid of that difference. It plays three parts: the output of a classifier, the "
        "weights of attention, and the distribution to sample tokens or actions from. Whether it "
        "sharpens or flattens is a matter of scale: (1, 2, 10) gives the largest 99.95 %, while "
        "(0.1, 0.2, 0.3) comes out nearly uniform. In exact arithmetic no output is 0; in "
        "float32 an output is exactly 0 once its score lies about 104 below the largest, in "
        "float64 about 745. It is a normalization, not a calibration: that the outputs sum to 1 "
        "does not make them right as probabilities.",
        "softmax 把 n 个实数得分映射为 e^z_i 除以各 e^z_j 之和：结果为正、和为 1，并保持得分的顺序。"
        "两个输出之比只取决于得分之差，p_i/p_j = e^(z_i - z_j)，因此两类时它就是得分差的 sigmoid。"
        "它有三种角色：分类器的输出、注意力的权重、采样词元或动作的分布。它是放大还是抹平差异取决于尺度："
        "(1, 2, 10) 中最大者得到 99.95 %，而 (0.1, 0.2, 0.3) 几乎变成均匀分布。精确计算中没有输出为 0；"
        "但 float32 中得分比最大值低约 104 时输出恰为 0，float64 中约为 745。它只是归一化而不是校准："
        "和为 1 并不说明这些数作为概率是准确的。",
    ),
    flips=T(
        "Where the labels do not exclude each other (a picture with both a car and a person) "
        "softmax is wrong, and one sigmoid a label is right.",
        "如果标签并不互斥（一幅图里既有车又有人），softmax 就不合适，应对每个标签各用一个 sigmoid。",
    ),
    analogy=T(
        "A fixed prize is split among the runners by their lead over each other, not by their "
        "times.",
        "一笔固定奖金按选手之间的差距来分，而不是按各自的成绩来分。",
    ),
    generative=T(
        "Every token of a language model is drawn from a softmax over the vocabulary, and every "
        "attention row is one.",
        "语言模型的每个词元都从词表上的 softmax 中采样，注意力的每一行也是一个 softmax。",
    ),
    classical=T(
        "Multinomial logistic regression is a linear map with a softmax behind it.",
        "多项逻辑回归就是线性映射后接 softmax。",
    ),
    driving=T(
        "A planner's candidate trajectories are scored and turned into probabilities by softmax.",
        "规划器给候选轨迹打分，再用 softmax 变成概率。",
    ),
    change=T(
        "Multiply (1, 2, 3) by 0.3 or by 3: the largest share crosses from below to above that "
        "of a linear normalization.",
        "把 (1, 2, 3) 乘以 0.3 或 3：最大份额由低于线性归一化变为高于它。",
    ),
)

SMALLEST = 5e-324  # the least positive float64
BOOK = (2.0, 1.0, 0.1)


def positive_and_one(p: Any) -> All:
    """The smallest output, and how far the sum is from 1."""
    return All({
        "smallest output": float(np.min(p)),
        "sum - 1": Check(float(abs(np.sum(np.asarray(p, np.float64)) - 1.0)), at_most(1e-6)),
    })  # fmt: skip


@question.exact(
    "C3.3.8-01",
    T("The outputs are strictly positive and sum to 1.", "输出严格为正，且和为 1。"),
    at_least(SMALLEST),
    correction=T(
        "It holds in exact arithmetic, where (0, -800) gives 4e-348. In floating point the "
        "output underflows: it is {n[float64, gap 800/NumPy/smallest output]:g} for a gap of 800 "
        "in float64 and {n[float32, gap 110/NumPy/smallest output]:g} for 110 in float32. The "
        "sum stays 1 to rounding.",
        "在精确计算中成立，(0, -800) 给出 4e-348。浮点数会下溢：float64 中差距 800 时输出为 "
        "{n[float64, gap 800/NumPy/smallest output]:g}，float32 中差距 110 时为 "
        "{n[float32, gap 110/NumPy/smallest output]:g}。和在舍入误差内仍为 1。",
    ),
    weight=3,
)
def positive(lab: Lab) -> Evidence:
    """The smallest output for the scores (0, -gap) and the distance of the sum from 1: in NumPy
    after shifting, in the library, and in decimal arithmetic, where 1 stands for an output above
    0 (no float could hold it)."""
    found: dict[str, Evidence] = {}
    for dtype, gap in (("float64", 700), ("float64", 800), ("float32", 100), ("float32", 110)):
        z = np.array([0.0, -gap], dtype)
        found[f"{dtype}, gap {gap}"] = Routes({
            "NumPy": positive_and_one(shifted(z)), "library": positive_and_one(library(z))
        })  # fmt: skip
    exact = exactly([0.0, -800.0])
    found["exact, gap 800"] = All({
        "output above 0": float(exact[1] > 0),
        "sum - 1": Check(abs(sum(map(float, exact)) - 1.0), at_most(1e-12)),
    })  # fmt: skip
    return Settings(T("precision and gap between the scores", "精度与得分之差"), found)


def inversions(z: Any, p: Any) -> int:
    """Pairs of a row in which the larger score has the smaller share."""
    order = np.argsort(z, axis=-1)
    return int((np.diff(np.take_along_axis(p, order, -1), axis=-1) < 0).sum())


@question.exact(
    "C3.3.8-02",
    T("The order of the scores is preserved.", "输出保持得分的顺序。"),
    equals(0.0),
)
def ordered(lab: Lab) -> Evidence:
    """Neighbours in order of score whose shares fall, in 300 random rows of 50 at four scales, by
    NumPy and by the library; and, at scale 3, neighbours whose shares are equal."""
    z = lab.rng("rows").standard_normal((300, 50))
    ways = {"NumPy": shifted, "library": library}
    wrong = {
        k: sum(inversions(s * z, f(s * z)) for s in (0.1, 1.0, 10.0, 1e3)) for k, f in ways.items()
    }
    ties = {k: int((np.diff(np.sort(f(3.0 * z), axis=-1)) <= 0).sum()) for k, f in ways.items()}
    return All({"falling": Routes(dict(wrong)), "equal": Routes(dict(ties))})


def linear(z: Any) -> Any:
    """z over its sum, for positive z."""
    return np.asarray(z) / np.sum(z)


def sharper(z: Any) -> Routes:
    """How much more softmax gives the largest than linear normalization does; in share, and as
    the logarithm of the ratio of largest to smallest."""
    soft, plain = shifted(np.array(z)), linear(z)
    return Routes({
        "share of the largest": float(soft.max() - plain.max()),
        "log(largest / smallest)": float(np.ptp(z) - np.log(max(z) / min(z))),
    })  # fmt: skip


@question.exact(
    "C3.3.8-03",
    T(
        "Softmax amplifies differences: large shares grow, small ones shrink.",
        "softmax 放大差异：大的更大，小的更小。",
    ),
    at_least(0.01),
    correction=T(
        "It depends on the scale of the scores. Against linear normalization the largest share "
        "changes by {n[(1, 2, 10)/share of the largest]:+.2f} for (1, 2, 10) but by "
        "{n[(0.1, 0.2, 0.3)/share of the largest]:+.2f} for (0.1, 0.2, 0.3): differences well "
        "below 1 are flattened.",
        "这取决于得分的尺度。与线性归一化相比，(1, 2, 10) 的最大份额变化 "
        "{n[(1, 2, 10)/share of the largest]:+.2f}，而 (0.1, 0.2, 0.3) 变化 "
        "{n[(0.1, 0.2, 0.3)/share of the largest]:+.2f}：远小于 1 的差异反而被抹平。",
    ),
    weight=3,
)
def amplified(lab: Lab) -> Evidence:
    """Share of the largest under softmax less under linear normalization (a hundredth counts as
    amplified); and the logarithm of largest over smallest, softmax less linear."""
    rows = {"(1, 2, 10)": (1.0, 2.0, 10.0), "(0.1, 0.2, 0.3)": (0.1, 0.2, 0.3)}
    return Settings(T("the scores", "得分"), {name: sharper(z) for name, z in rows.items()})


def series(x: float) -> float:
    """e^x as its power series."""
    terms = np.cumprod(np.concatenate([[1.0], x / np.arange(1.0, 40.0)]))
    return float(terms.sum())


@question.exact(
    "C3.3.8-04",
    T(
        "The exponentials of (2, 1, 0.1) are 7.39, 2.72 and 1.11, and sum to 11.22.",
        "(2, 1, 0.1) 的指数为 7.39、2.72、1.11，和为 11.22。",
    ),
    equals(11.22, 0.005),
    correction=T(
        "The sum is {n[sum/NumPy]:.4f}, so 11.21; 11.22 is the sum of the rounded terms.",
        "和是 {n[sum/NumPy]:.4f}，即 11.21；11.22 是四舍五入后各项之和。",
    ),
)
def exponentials(lab: Lab) -> Evidence:
    """In float64 by NumPy and by the power series; half a unit of the last digit is allowed."""
    ways = {"NumPy": [float(np.exp(z)) for z in BOOK], "power series": [series(z) for z in BOOK]}
    terms = {
        f"exp({z:g})": Check(Routes({k: v[i] for k, v in ways.items()}), equals(said, 0.005))
        for i, (z, said) in enumerate(zip(BOOK, (7.39, 2.72, 1.11), strict=True))
    }
    return All({**terms, "sum": Routes({k: sum(v) for k, v in ways.items()})})


@question.exact(
    "C3.3.8-05",
    T(
        "The softmax of (2, 1, 0.1) is (0.659, 0.242, 0.099), which sums to 1.",
        "(2, 1, 0.1) 的 softmax 是 (0.659, 0.242, 0.099)，和为 1。",
    ),
    equals(1.0, 1e-12),
)
def example(lab: Lab) -> Evidence:
    """By the library and from the power series; half a unit of the third digit is allowed."""
    grown = np.array([series(z) for z in BOOK])
    ways = {"library": library(np.array(BOOK)), "power series": grown / grown.sum()}
    parts = {
        f"of {z:g}": Check(Routes({k: float(p[i]) for k, p in ways.items()}), equals(said, 5e-4))
        for i, (z, said) in enumerate(zip(BOOK, (0.659, 0.242, 0.099), strict=True))
    }
    return All({**parts, "sum": Routes({k: float(p.sum()) for k, p in ways.items()})})


@question.exact(
    "C3.3.8-06",
    T(
        "The softmax of (z, -z) is (sigmoid(2z), 1 - sigmoid(2z)).",
        "(z, -z) 的 softmax 等于 (sigmoid(2z), 1 - sigmoid(2z))。",
    ),
    at_most(1e-12),
)
def two_classes(lab: Lab) -> Evidence:
    """Largest difference over 2,001 points from -50 to 50, by the library and by NumPy."""
    z = np.linspace(-50.0, 50.0, 2001)
    rows = np.column_stack([z, -z])
    half = np.asarray(fathom.sigmoid(fathom.tensor(2.0 * z)).value())
    by_tanh = 0.5 * (1.0 + np.tanh(z))
    return Routes({
        "library": float(np.abs(library(rows) - np.column_stack([half, 1 - half])).max()),
        "NumPy": float(np.abs(shifted(rows) - np.column_stack([by_tanh, 1 - by_tanh])).max()),
    })  # fmt: skip


@question.figure(T("Sharper or flatter: the scale decides", "更尖还是更平：由尺度决定"))
def by_scale(lab: Lab) -> Figure:
    """Shares of (1, 2, 3) times a factor, from 0.01 to 10."""
    factors = np.logspace(-2, 1, 61)
    shares = np.array([library(s * np.array([1.0, 2.0, 3.0])) for s in factors])
    names = (T("smallest", "最小"), T("middle", "中间"), T("largest", "最大"))
    return Figure(
        Axis(T("factor on (1, 2, 3)", "(1, 2, 3) 的倍数"), log=True),
        Axis(T("share", "份额")),
        [
            *(Line(name, factors, shares[:, i]) for i, name in enumerate(names)),
            Level(T("largest, linear", "最大，线性归一化"), y=0.5),
            Level(T("uniform", "均匀"), y=1 / 3),
        ],
        T(
            "Small scores come out uniform, large ones as a single winner; linear normalization "
            "gives 1/2 to the largest at every scale, and softmax passes it only near a factor "
            "of 0.5.",
            "得分小时结果接近均匀，得分大时只剩一个赢家；线性归一化在任何尺度下都给最大者 1/2，"
            "softmax 约在倍数 0.5 处才超过它。",
        ),
    )


@question.figure(T("Softmax and linear normalization", "softmax 与线性归一化"))
def beside_linear(lab: Lab) -> Figure:
    """The largest share of three examples under both."""
    rows = ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (1.0, 2.0, 10.0))
    ticks = [T(f"({a:g}, {b:g}, {c:g})", f"({a:g}, {b:g}, {c:g})") for a, b, c in rows]
    return Figure(
        Axis(T("scores", "得分"), ticks=ticks),
        Axis(T("share of the largest", "最大者的份额")),
        [
            Bars(T("linear", "线性"), [linear(z).max() for z in rows]),
            Bars(T("softmax", "softmax"), [shifted(np.array(z)).max() for z in rows]),
        ],
        T(
            "Softmax flattens the first row and sharpens the other two.",
            "softmax 抹平了第一行，放大了另外两行。",
        ),
    )
