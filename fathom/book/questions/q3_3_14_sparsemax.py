"""3.3.14 Sparsemax: probabilities with exact zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import activations, nn
from fathom.book import Axis, Bars, Figure, Lab, Level, Line, Question, Sample, T, band, once

question = Question(
    "3.3.14",
    title=T(
        "What is sparsemax, and what does it offer over softmax?",
        "什么是 sparsemax？与 softmax 相比有什么好处？",
    ),
    difficulty=4,
    frequency=2,
    topics=("sparsemax", "simplex-projection", "entmax", "稀疏注意力", "单纯形投影"),
    answer=T(
        "Sparsemax(z) is the point of the probability simplex nearest to z in Euclidean "
        "distance: max(z - tau, 0), with the threshold tau chosen so that the result sums to 1. "
        "Sorting finds tau exactly in O(n log n). Scores far below the best get exactly 0; with "
        "two classes it is a hard sigmoid, linear between -1 and 1 in the difference and "
        "constant outside. Like softmax it keeps the order and ignores a shift; unlike it, it is "
        "piecewise linear, and its Jacobian on the support S is diag(s) - s s^T / |S|, so what "
        "lies outside gets no gradient at all. That is the gain (attention one can read, terms one "
        "can skip) and the risk (a wrongly excluded position cannot come back by itself). As an "
        "output it needs its own loss, for -log of an exact 0 is infinite; entmax with exponent "
        "1.5 lies between the two.",
        "sparsemax(z) 是概率单纯形上与 z 欧氏距离最近的点：max(z - tau, 0)，阈值 tau 使结果和为 1。排序可在 "
        "O(n log n) 内精确求出 tau。远低于最高分的得分恰为 0；两类时它是硬 sigmoid，得分差在 -1 到 1 之间为线性，"
        "之外为常数。与 softmax 一样，它保序且不受平移影响；不同的是它是分段线性的，在支撑集 S 上的雅可比是 "
        "diag(s) - s s^T / |S|，支撑集之外完全没有梯度。好处由此而来（注意力可读、可跳过为零的项），"
        "风险也由此而来（被误排除的位置无法自行回来）。用作输出时需要专门的损失，因为恰为 0 的 -log 是无穷大；"
        "指数为 1.5 的 entmax 介于两者之间。",
    ),
    flips=T(
        "If all scores lie close together (a spread well below 1/n) sparsemax cuts nothing off "
        "and is just the scores plus a constant.",
        "如果各得分很接近（差距远小于 1/n），sparsemax 不截断任何项，只是得分加一个常数。",
    ),
    analogy=T(
        "Softmax gives every applicant a crumb; sparsemax draws a line and divides the cake "
        "among those above it.",
        "softmax 给每个申请者一点碎屑；sparsemax 划一条线，只在线以上的人之间分蛋糕。",
    ),
    generative=T(
        "Adaptively sparse Transformers learn the exponent of entmax head by head.",
        "自适应稀疏 Transformer 为每个头学习 entmax 的指数。",
    ),
    classical=T(
        "The same projection on the simplex appears in portfolio choice and in the lasso's dual "
        "ball.",
        "同样的单纯形投影也出现在投资组合与 L1 球投影中。",
    ),
    driving=T(
        "Exact zeros say which neighbouring vehicles a predictor did not look at.",
        "精确的零说明预测器没有关注哪些周围车辆。",
    ),
    change=T(
        "Multiply the scores by 0.1: sparsemax's zeros disappear; by 10: all but one are 0, "
        "while softmax still has none.",
        "把得分乘以 0.1：sparsemax 的零消失；乘以 10：只剩一个非零，而 softmax 仍没有零。",
    ),
)

WAYS = {
    "softmax": T("softmax", "softmax"),
    "entmax15": T("entmax 1.5", "entmax 1.5"),
    "sparsemax": T("sparsemax", "sparsemax"),
}
FUNCTIONS = {
    "softmax": activations.softmax,
    "entmax15": activations.entmax15,
    "sparsemax": activations.sparsemax,
}


def shares(way: str, z: Any) -> Any:
    """The function of an array, as an array."""
    return np.asarray(FUNCTIONS[way](fathom.tensor(np.asarray(z))).value())


def nearest_point(z: Any, steps: int = 200) -> Any:
    """The nearest point of the simplex by bisection on tau: no sorting; rows (n, k)."""
    low, high = z.min(axis=1) - 1.0, z.max(axis=1)
    for _ in range(steps):
        tau = (low + high) / 2
        above = np.maximum(z - tau[:, None], 0.0).sum(axis=1) > 1.0
        low, high = np.where(above, tau, low), np.where(above, high, tau)
    return np.maximum(z - low[:, None], 0.0)


def quadratic_program(z: Any, steps: int = 20_000) -> Any:
    """The same as min |p - z|^2 / 2 over p >= 0, sum p = 1, by ADMM (Boyd et al., 2011), one row.

    p alternates between the plane of sum 1 and the positive orthant; nothing in it knows of tau.
    """
    p = q = u = np.zeros_like(z)
    for _ in range(steps):
        free = (z + q - u) / 2.0
        p = free + (1.0 - free.sum()) / len(z)
        q = np.maximum(p + u, 0.0)
        u = u + p - q
        if np.abs(p - q).max() < 1e-14:
            break
    return q


def checks(lab: Lab) -> dict[str, float]:
    """Sparsemax against the two other ways, and its gradients against central differences."""
    rows = lab.rng("rows").standard_normal((200, 12)) * 2.0
    ours = shares("sparsemax", rows)
    few = lab.pick(20, 4)
    program = np.array([quadratic_program(z) for z in rows[:few]])
    v = fathom.tensor(lab.rng("direction").standard_normal(12))
    gaps = []
    for z in rows[:10]:
        at = fathom.tensor(z, requires_grad=True)
        (activations.sparsemax(at) * v).sum().backward()
        steps = 1e-6 * np.eye(12)
        slopes = (
            (shares("sparsemax", z + steps) - shares("sparsemax", z - steps)) @ v.value() / 2e-6
        )
        gaps.append(np.abs(at.grad.value() - slopes).max() if at.grad is not None else np.inf)
    return {
        "distance from bisection": float(np.abs(ours - nearest_point(rows)).max()),
        "distance from the quadratic program": float(np.abs(ours[:few] - program).max()),
        "gradient, distance from differences": float(max(gaps)),
    }


@question.figure(T("Two classes", "两类的情形"))
def two_classes(lab: Lab) -> Figure:
    """Share of the first of the scores (t, 0)."""
    t = np.linspace(-4.0, 4.0, 161)
    rows = np.column_stack([t, np.zeros_like(t)])
    return Figure(
        Axis(T("difference of the scores", "得分之差")),
        Axis(T("share of the first", "第一类的份额")),
        [Line(name, t, shares(way, rows)[:, 0]) for way, name in WAYS.items()],
        T(
            "Sparsemax is a ramp that reaches 0 and 1 at a difference of 1; softmax is the "
            "sigmoid that never does; entmax lies between.",
            "sparsemax 是一条斜坡，差为 1 时到达 0 与 1；softmax 是永远到不了的 sigmoid；entmax 介于其间。",
        ),
        checks(lab),
    )


@question.figure(T("Exact zeros in attention rows", "注意力行中的精确零"))
def zeros(lab: Lab) -> Figure:
    """Share of exact zeros in rows over 64 keys of normal scores, by the scores' deviation."""
    scales = np.logspace(-2, 1, 25)
    base = lab.rng("scores").standard_normal((200, 64))
    lines = [
        Line(name, scales, [float((shares(way, s * base) == 0).mean()) for s in scales])
        for way, name in WAYS.items()
    ]
    return Figure(
        Axis(T("deviation of the scores", "得分的标准差"), log=True),
        Axis(T("share of zeros", "零的比例")),
        [*lines, Level(T("scaled attention", "带缩放的注意力"), x=1.0)],
        T(
            "At the usual deviation of 1 sparsemax leaves a few of 64 keys, softmax all of them, "
            "however small.",
            "在通常的标准差 1 处，sparsemax 只留下 64 个键中的少数几个，而 softmax 全部保留，无论多小。",
        ),
    )


class Pooled(nn.Module):
    """Items (n, items, width) -> scores of classes, through one attention row over the items."""

    def __init__(self, way: str, width: int, classes: int) -> None:
        super().__init__()
        self.way = way
        self.score, self.out = nn.Linear(width, 1), nn.Linear(width, classes)

    def weights(self, x: Any) -> Any:
        """The attention row of each sample, (n, items)."""
        return FUNCTIONS[self.way](self.score(x).reshape(x.shape[0], x.shape[1]), -1)

    def forward(self, x: Any) -> Any:
        pooled = (self.weights(x).reshape(x.shape[0], x.shape[1], 1) * x).sum(axis=1)
        return self.out(pooled)


def marked(rng: np.random.Generator, rows: int, items: int = 24, width: int = 8) -> tuple[Any, Any]:
    """Normal items; one of them is marked (its first number is 3), and its next four tell the class."""
    x = rng.standard_normal((rows, items, width)).astype(np.float32)
    x[:, :, 0] *= 0.5
    at, y = rng.integers(0, items, rows), rng.integers(0, 4, rows)
    x[np.arange(rows), at, 0] = 3.0
    x[np.arange(rows), at, 1 + y] += 3.0
    return x, y


EPOCHS = (1, 2, 4, 8, 16)
STUCK = 0.5  # accuracy; chance is a quarter


@once
def found(lab: Lab, way: str) -> Any:
    """(epochs, seeds, 2): test accuracy, and share of exact zeros in the attention rows."""
    x, y = marked(lab.rng("train"), lab.pick(1000, 300))
    test_x, test_y = marked(lab.rng("test"), 1000)
    at, told = fathom.tensor(test_x), []
    for epochs in lab.pick(EPOCHS, EPOCHS[:2]):
        spec = {"model": lambda: Pooled(way, 8, 4), "epochs": epochs, "batch_size": 50, "lr": 0.02}
        fleet = fathom.train_many(spec, x, y, seeds=lab.seeds(40, 3))
        with fathom.no_grad():
            told.append([
                (
                    float((r.model(at).value().argmax(axis=1) == test_y).mean()),
                    float((r.model.weights(at).value() == 0).mean()),
                )
                for r in fleet.runs
            ])  # fmt: skip
    return np.array(told)


@question.figure(T("Finding the marked item of 24", "在 24 个元素中找到被标记的一个"))
def attention(lab: Lab) -> Figure:
    """Test accuracy of attention over 24 items of which one carries the class, by epochs."""
    lines = []
    for way, name in WAYS.items():
        at = [Sample(row) for row in found(lab, way)[:, :, 0]]
        lines.append(Line(name, EPOCHS[: len(at)], *band(at)))
    return Figure(
        Axis(T("epochs", "训练轮数"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("chance", "随机水平"), y=0.25)],
        T(
            "All three learn where to look; softmax learns soonest, the sparse ones later and not "
            "in every run. Bands are 95 % intervals over seeds.",
            "三者都能学会看哪里；softmax 学得最快，稀疏的较慢，且并非每次运行都学会。色带为各种子的 95 % 区间。",
        ),
    )


@question.figure(T("What the zeros cost", "零的代价"))
def zeros_cost(lab: Lab) -> Figure:
    """The same runs at their end: exact zeros of those that learnt it, and how many did not."""
    last = [found(lab, way)[-1] for way in WAYS]
    empty = [
        float(a[a[:, 0] >= STUCK, 1].mean()) if (a[:, 0] >= STUCK).any() else 0.0 for a in last
    ]
    lost = [float((a[:, 0] < STUCK).mean()) for a in last]
    return Figure(
        Axis(T("weights by", "权重函数"), ticks=list(WAYS.values())),
        Axis(T("share", "比例")),
        [
            Bars(T("exact zeros where learnt", "学会者中的精确零"), empty),
            Bars(T("runs that did not learn it", "没有学会的运行"), lost),
        ],
        T(
            "Nine in ten attention weights end as exact zeros, none with softmax; the price is a "
            "run in twenty that lost the marked item early and never found it again.",
            "十个注意力权重中约有九个恰为零，而 softmax 一个也没有；代价是约二十分之一的运行早早丢掉被标记的元素，再也没有找回。",
        ),
        {
            f"accuracy where learnt, {name.en}": float(a[a[:, 0] >= STUCK, 0].mean())
            for a, name in zip(last, WAYS.values(), strict=True)
            if (a[:, 0] >= STUCK).any()
        },
    )
