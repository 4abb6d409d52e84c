"""2.2.9 Which loss for which task: what each is lowest at, and what outliers do to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Sample, T, at_least, at_most, band,
    equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative
from fathom.nn import functional as F

question = Question(
    "2.2.9",
    title=T("Which loss function fits which task?", "不同任务应选用什么损失函数？"),
    difficulty=2,
    frequency=4,
    topics=("loss", "MSE", "MAE", "Huber", "cross-entropy", "损失函数", "异常值", "多标签"),
    answer=T(
        "A loss says which statistic of the target the model should give. Squared error is lowest "
        "at the mean, so it suits errors of one scale and is dragged away by outliers. Absolute "
        "error is lowest at the median and shrugs off a few wild values, but its slope jumps from "
        "-1 to 1 at 0, so steps do not shrink near the target. Huber's loss is quadratic up to "
        "delta and linear beyond: smooth at the bottom, bounded in slope; divided by delta it is "
        "the smooth L1 loss. Classes that exclude each other take softmax with cross-entropy. "
        "Labels that may hold together take a sigmoid and binary cross-entropy each, because a "
        "softmax shares one unit of probability among them.",
        "损失函数决定模型要给出目标的哪一种统计量。平方误差在均值处最小，适合误差尺度一致的数据，"
        "会被异常值拉偏。绝对误差在中位数处最小，不怕少数离谱的值，但其斜率在 0 处从 -1 跳到 1，"
        "接近目标时步长不会自动变小。Huber 损失在 delta 以内是二次的，以外是线性的：底部光滑、斜率有界；"
        "除以 delta 就是 Smooth L1。互斥的类别用 softmax 加交叉熵。可以同时成立的标签各用一个 sigmoid "
        "加二元交叉熵，因为 softmax 会让各标签瓜分同一份概率。",
    ),
    flips=T(
        "If the large errors are real and costly (a peak load, a rare crash), the outliers are the "
        "signal and squared error is right to follow them.",
        "如果大误差是真实且代价高的（用电高峰、罕见事故），异常值就是信号，平方误差理应跟随它们。",
    ),
    analogy=T(
        "One billionaire enters a bar: the mean wealth leaps, the median guest is as before.",
        "亿万富翁走进酒吧：人均财富猛增，而中位数的那位客人依旧如故。",
    ),
    generative=T(
        "Diffusion models regress noise with squared error; language models use cross-entropy "
        "over tokens that exclude each other.",
        "扩散模型用平方误差回归噪声；语言模型对互斥的词元用交叉熵。",
    ),
    classical=T(
        "Gradient boosting offers the same choice: squares, absolute values, Huber, log loss.",
        "梯度提升提供同样的选择：平方、绝对值、Huber、对数损失。",
    ),
    driving=T(
        "Box corners are regressed with smooth L1, so that one bad annotation does not steer the "
        "detector.",
        "检测框坐标用 Smooth L1 回归，一个标错的框不会带偏检测器。",
    ),
    change=T(
        "Raise the share of outliers above one half: the median breaks as well.",
        "把异常值的比例提高到一半以上：中位数也会失守。",
    ),
)

LOSSES: dict[str, Callable[..., Any]] = {
    "MSE": F.mse_loss,
    "MAE": F.l1_loss,
    "Huber": F.huber_loss,
}


def with_outliers(seed: int, share: float, rows: int = 101, at: float = 50.0) -> Any:
    """Standard normal numbers, a share of them replaced by numbers around `at`."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(rows)
    bad = round(share * rows)
    y[:bad] = at + rng.standard_normal(bad)
    return y


def fitted(name: str, y: Any) -> float:
    """The constant at which the loss is lowest, by search on the library's loss."""
    target = fathom.tensor(y)

    def losses(at: Any) -> Any:
        return np.array(
            [float(LOSSES[name](fathom.tensor(np.full(len(y), c)), target)) for c in at]
        )

    low, high = float(y.min()), float(y.max())
    for _ in range(6):  # a coarse grid, narrowed: the losses are convex
        grid = np.linspace(low, high, 41)
        best = int(np.argmin(losses(grid)))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 40)]
    return (low + high) / 2


@question.exact(
    "C2.2.9-01",
    T(
        "Squared error weighs large errors heavily, and outliers dominate what it is lowest at: "
        "the mean.",
        "平方误差对大误差惩罚很重，其最小点是均值，由异常值主导。",
    ),
    at_most(1e-5),
)
def squares(lab: Lab) -> Evidence:
    """The lowest point by search against the mean, largest difference over seeds; the share of
    the loss held by 10 % outliers there; the loss of an error of 10 against that of 1."""
    sets = [with_outliers(s, 0.1) for s in lab.seeds(20, 5)]
    shares = []
    for y in sets:
        square = (y - y.mean()) ** 2
        shares.append(square[y > 25].sum() / square.sum())
    zero, ten, one = (fathom.tensor(np.array(v)) for v in (0.0, 10.0, 1.0))
    heavy = F.mse_loss(ten, zero).item() / F.mse_loss(one, zero).item()
    return All({
        "distance to the mean": max(abs(fitted("MSE", y) - y.mean()) for y in sets),
        "share of the loss": Check(Sample(shares), at_least(0.5)),
        "moved by outliers": Check(Sample([fitted("MSE", y) for y in sets]), at_least(1.0)),
        "error 10 over error 1": Check(heavy, equals(100.0)),
    })  # fmt: skip


@question.exact(
    "C2.2.9-02",
    T(
        "Absolute error is robust to outliers and has no derivative at 0.",
        "绝对误差对异常值稳健，在 0 处不可导。",
    ),
    at_most(1e-5),
)
def absolutes(lab: Lab) -> Evidence:
    """The lowest point by search against the median; how far 10 % outliers a million away move it
    (standard deviations of the clean data); the two one-sided slopes at 0."""
    far = [with_outliers(s, 0.1, at=1e6) for s in lab.seeds(20, 5)]
    near = [with_outliers(s, 0.1) for s in lab.seeds(20, 5)]
    clean = [with_outliers(s, 0.0) for s in lab.seeds(20, 5)]
    moved = [np.median(a) - np.median(b) for a, b in zip(far, clean, strict=True)]

    def slope(step: float) -> float:
        loss = F.l1_loss(fathom.tensor(np.array([step])), fathom.tensor(np.zeros(1)))
        return loss.item() / step

    return All({
        "distance to the median": max(abs(fitted("MAE", y) - np.median(y)) for y in near),
        "moved by far outliers": Check(Sample(moved), at_most(0.5)),
        "slope right of 0": Check(slope(1e-8), equals(1.0, 1e-5)),
        "slope left of 0": Check(slope(-1e-8), equals(-1.0, 1e-5)),
    })  # fmt: skip


@question.exact(
    "C2.2.9-03",
    T(
        "Huber's loss is quadratic for small and linear for large errors; divided by delta it is "
        "the smooth L1 loss.",
        "Huber 损失对小误差是二次的，对大误差是线性的；除以 delta 即为 Smooth L1。",
    ),
    at_most(1e-12),
)
def huber(lab: Lab) -> Evidence:
    """Errors from -6 to 6, delta 0.5, 1 and 2: the library's loss against the two pieces written
    out, its slope (automatic) against the error cut off at delta, and against smooth L1."""
    errors = np.linspace(-6, 6, 241)
    zero = fathom.tensor(np.zeros_like(errors))
    values, slopes, smooth = [], [], []
    for delta in (0.5, 1.0, 2.0):
        pieces = np.where(
            np.abs(errors) <= delta, errors**2 / 2, delta * (np.abs(errors) - delta / 2)
        )

        def loss(e: Any, delta: float = delta) -> Any:
            return F.huber_loss(e, zero, delta=delta, reduction="none")

        ours = loss(fathom.tensor(errors)).value()
        other = F.smooth_l1_loss(fathom.tensor(errors), zero, beta=delta, reduction="none")
        values.append(np.abs(ours - pieces).max())
        slopes.append(np.abs(derivative(loss, errors) - np.clip(errors, -delta, delta)).max())
        smooth.append(np.abs(ours / delta - other.value()).max())
    return All({"values": max(values), "slopes": max(slopes), "smooth L1": max(smooth)})


def labels(seed: int, rows: int = 600) -> tuple[Any, Any]:
    """Ten features; five labels, each the sign of a linear rule of its own with some noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 10))
    scores = x @ rng.standard_normal((10, 5)) + 0.5 * rng.standard_normal((rows, 5))
    return np.column_stack([x, np.ones(rows)]), (scores > 0).astype(np.float64)


def descend(x: Any, y: Any, head: str, steps: int = 400) -> Any:
    """A linear model by gradient descent: a sigmoid a label, or a softmax over shares of them."""
    w = np.zeros((x.shape[1], y.shape[1]))
    count = y.sum(axis=1, keepdims=True)
    target = y if head == "sigmoid" else y / np.maximum(count, 1)
    total = 1.0 if head == "sigmoid" else (count > 0)
    for _ in range(steps):
        w -= 1.0 * x.T @ (total * outputs(x, w, head) - target) / len(x)
    return w


def outputs(x: Any, w: Any, head: str) -> Any:
    """Probabilities of the labels."""
    z = x @ w
    if head == "sigmoid":
        return 1 / (1 + np.exp(-z))
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@once
def all_right(lab: Lab) -> dict[str, Any]:
    """Share of test rows with all five labels right, one a seed, for each head."""
    found: dict[str, list[float]] = {"sigmoid": [], "softmax": []}
    for seed in lab.seeds(20, 5):
        x, y = labels(seed)
        for head, list_ in found.items():
            w = descend(x[:400], y[:400], head)
            p, q = outputs(x[:400], w, head), outputs(x[400:], w, head)
            cuts = [0.5] if head == "sigmoid" else np.linspace(0.01, 0.6, 60)
            cut = max(cuts, key=lambda c: ((p > c) == y[:400]).all(axis=1).mean())
            list_.append(float(((q > cut) == y[400:]).all(axis=1).mean()))
    return {head: np.array(values) for head, values in found.items()}


@question.experiment(
    "C2.2.9-04",
    T(
        "Binary cross-entropy is the loss for several labels at once, or for independent yes-or-no "
        "questions: there it beats softmax with cross-entropy.",
        "二元交叉熵适合多标签或相互独立的二分类任务：在那里它胜过 softmax 交叉熵。",
    ),
    at_least(0.05),
    weight=3,
)
def several_labels(lab: Lab) -> Evidence:
    """Rows with all of five labels right, sigmoids less softmax, linear models on the same 400
    rows; the softmax may choose the threshold that is best on them."""
    found = all_right(lab)
    return Sample(found["sigmoid"] - found["softmax"])


@question.figure(
    T("The fitted constant against the share of outliers", "拟合常数随异常值比例的变化")
)
def outliers(lab: Lab) -> Figure:
    """A constant fitted to standard normal numbers of which a share lies around 50."""
    shares = [0.0, 0.05, 0.1, 0.15, 0.2]
    lines = []
    for name in LOSSES:
        at = [Sample([fitted(name, with_outliers(s, p)) for s in lab.seeds(10, 4)]) for p in shares]
        lines.append(Line(T(name, name), [100 * p for p in shares], *band(at)))
    return Figure(
        Axis(T("outliers, %", "异常值比例（%）")),
        Axis(T("fitted constant", "拟合出的常数")),
        lines,
        T(
            "The mean (squared error) follows the outliers in proportion; the median (absolute "
            "error) and Huber's minimum hardly leave the bulk of the data at 0.",
            "均值（平方误差）随异常值成比例移动；中位数（绝对误差）与 Huber 的最小点几乎不离开位于 0 的"
            "大部分数据。",
        ),
    )


@question.figure(T("A line under outliers", "含异常值时的直线拟合"))
def sloped(lab: Lab) -> Figure:
    """y = 2 x + noise, a share of the targets at the right end thrown down by 20: the error of
    the fitted slope, by iteratively reweighted least squares."""
    shares = [0.0, 0.05, 0.1, 0.15, 0.2]
    lines = []
    for name in LOSSES:
        errors = [[slope_error(s, p, name) for s in lab.seeds(10, 4)] for p in shares]
        at = [Sample(e) for e in errors]
        lines.append(Line(T(name, name), [100 * p for p in shares], *band(at)))
    return Figure(
        Axis(T("outliers, %", "异常值比例（%）")),
        Axis(T("error of the slope", "斜率误差")),
        lines,
        T(
            "The slope of the least-squares line is off at once; the two others lose theirs much "
            "more slowly.",
            "最小二乘直线的斜率立刻偏离；另外两种损失偏离得慢得多。",
        ),
    )


def slope_error(seed: int, share: float, name: str, rows: int = 100) -> float:
    """|slope - 2| of the line fitted under the loss."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-1, 1, rows))
    y = 2 * x + 0.3 * rng.standard_normal(rows)
    y[rows - round(share * rows) :] -= 20.0
    design = np.column_stack([x, np.ones(rows)])
    line: Any = np.zeros(2)
    for _ in range(200):
        away = np.abs(design @ line - y)
        weight = {
            "MSE": np.ones(rows),
            "MAE": 1 / np.maximum(away, 1e-6),
            "Huber": 1 / np.maximum(away, 1.0),
        }[name]
        line = np.linalg.solve((design * weight[:, None]).T @ design, design.T @ (weight * y))
    return float(abs(line[0] - 2))
