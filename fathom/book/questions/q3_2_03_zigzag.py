"""3.2.3 What it costs that the sigmoid's outputs are not centred on zero."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, equals, once, true,
)  # fmt: skip
from fathom.book.material.gain import SHAPES
from fathom.book.material.gaussian import normal_mean
from fathom.doctor import path_ratio, sign_agreement
from fathom.nn import BatchNorm1d

question = Question(
    "3.2.3",
    title=T(
        "What is the non-zero-centre problem of the sigmoid?",
        "什么是 Sigmoid 的非零中心问题？",
    ),
    difficulty=4,
    frequency=4,
    topics=(
        "sigmoid",
        "zero-centring",
        "zigzag",
        "condition number",
        "非零中心",
        "之字形",
        "条件数",
    ),
    answer=T(
        "A sigmoid's outputs are all positive, about 0.5 on average. For a single sample the "
        "gradient of a unit's weights is delta times the inputs a, so with a > 0 all its entries "
        "have the sign of delta: all weights go up together or down together, and a target that "
        "needs one up and one down is reached in zigzag. Over a batch delta has both signs, and "
        "the "
        "entries part; what stays is that E[a a'] is badly conditioned, since the mean makes one "
        "large eigenvalue. Two sigmoid features have a condition number of about 12, and gradient "
        "descent takes some twenty times the steps it takes when they are centred. Centring "
        "alone is "
        "not enough for a straight path: the inputs must also be uncorrelated and of equal "
        "variance. "
        "Normalization behind the activation, or tanh in its place, takes the mean off.",
        "Sigmoid 的输出全为正，平均约 0.5。对单个样本，一个单元的权重梯度是 delta 乘以输入 a；"
        "a > 0 时各分量都与 delta 同号：所有权重一起增大或一起减小，"
        "需要一增一减的目标只能走之字形到达。"
        "在一个批次上 delta 有正有负，各分量便不再同号；剩下的问题是 E[a a'] 条件数差，"
        "因为均值造成一个很大的特征值。两个 sigmoid 特征的条件数约为 12，"
        "梯度下降所需步数约是居中后的二十倍。"
        "仅仅居中还不足以走直线：各输入还须不相关且方差相等。"
        "在激活之后做归一化，或换成 tanh，都能去掉均值。",
    ),
    flips=T(
        "If each unit can learn a bias quickly, or the batch is large and Adam rescales the "
        "directions, little of the problem is left.",
        "如果批次较大且 Adam 调整各方向的尺度，或者偏置能很快学好，这个问题就所剩无几。",
    ),
    analogy=T(
        "Parking with a car whose wheels on both sides turn forward or backward only together: one "
        "gets there, but by many small turns.",
        "开一辆两侧车轮只能同进同退的车去泊位：能到，但要来回挪很多次。",
    ),
    generative=T(
        "Transformers normalize the input of every block, so what the activation leaves as a mean "
        "does not pile up.",
        "Transformer 在每个块的输入处做归一化，激活留下的均值因此不会累积。",
    ),
    classical=T(
        "The same reason that one standardizes the columns of a table before gradient descent.",
        "这与做梯度下降前要把表格各列标准化是同一个道理。",
    ),
    driving=T(
        "Camera pixels are 0 to 255, all positive: without subtracting the mean the first layer "
        "suffers exactly this.",
        "相机像素取值 0 到 255，全为正：若不减均值，第一层正好遇到这个问题。",
    ),
    change=T(
        "Subtract 0.5 from the sigmoid: steps and path shrink to those of tanh.",
        "从 sigmoid 中减去 0.5：步数和路径缩短到与 tanh 相当。",
    ),
)

GOAL = np.array([1.0, -1.0])
FEATURES = {"sigmoid": SHAPES["sigmoid"][0], "tanh": SHAPES["tanh"][0], "relu": SHAPES["relu"][0]}


@question.exact(
    "C3.2.3-01",
    T("For centred inputs E[sigma(x)] is about 0.5.", "输入居中时 E[sigma(x)] 约为 0.5。"),
    equals(0.5, 0.01),
)
def mean_output(lab: Lab) -> Evidence:
    """E sigma(s z) for normal z and s = 0.5, 1, 3 by quadrature, and by drawing 400,000."""
    z = lab.rng("z").standard_normal(400_000)
    sigma = FEATURES["sigmoid"]
    return All({
        f"deviation {s}": Routes({
            "quadrature": normal_mean(lambda v, s=s: sigma(s * v)),
            "drawn": float(sigma(s * z).mean()),
        })
        for s in (0.5, 1.0, 3.0)
    })  # fmt: skip


@once
def one_sign(lab: Lab, name: str) -> dict[int, Any]:
    """Share of units all of whose weights are pushed one way, {batch: (seeds,)}; 10 inputs."""
    sizes = (1, 4, 16, 64, 256)
    found: dict[int, list[float]] = {size: [] for size in sizes}
    for seed in lab.seeds(8, 3):
        a = FEATURES[name](np.random.default_rng(seed).standard_normal((1000, 10)))
        for size, share in sign_agreement(a, sizes=sizes, seed=seed).by_batch().items():
            found[size].append(share)
    return {size: np.array(shares) for size, shares in found.items()}


@question.experiment(
    "C3.2.3-02",
    T(
        "Behind a sigmoid the sign of dL/dz alone decides the sign of all weight gradients.",
        "在 sigmoid 之后，权重梯度的符号完全由 dL/dz 的符号决定。",
    ),
    at_least(0.999),
    correction=T(
        "True sample by sample. In a batch of 64, whose dL/dz have both signs, only "
        "{n[64 rows]:.0%} of "
        "the units have all ten gradients of one sign.",
        "逐样本成立。在 64 个样本的批次中 dL/dz 有正有负，只有 {n[64 rows]:.0%} 的单元十个权重的"
        "梯度全"
        "部同号。",
    ),
    weight=2,
)
def signs(lab: Lab) -> Evidence:
    """Share of units whose ten weights have gradients of one sign, by batch size: sigmoid inputs,
    normal errors dL/dz.
    """
    return Settings(
        T("batch size", "批次大小"),
        {f"{size} rows": Sample(shares) for size, shares in one_sign(lab, "sigmoid").items()},
    )


@question.exact(
    "C3.2.3-03",
    T("A weight that has to grow has a positive gradient.", "需要增大的权重，其梯度为正。"),
    true(),
    correction=T(
        "It is negative in all 500 cases: descent subtracts the gradient, so a weight grows where "
        "its gradient is below 0.",
        "500 个例子中全为负：梯度下降要减去梯度，所以权重在梯度为负时增大。",
    ),
    weight=3,
)
def sign_to_grow(lab: Lab) -> Evidence:
    """Share of positive gradients among 500 sigmoid neurons of one weight that lies below its
    target, under squared error: by automatic differentiation and by central differences.
    """
    rng = lab.rng("neurons")
    w, x = rng.normal(size=500), rng.uniform(0.2, 2.0, 500)
    sigma = FEATURES["sigmoid"]
    target = sigma((w + rng.uniform(0.1, 1.0, 500)) * x)
    at = fathom.tensor(w, requires_grad=True)
    ((fathom.sigmoid(at * x) - target) ** 2).sum().backward()

    def loss(weights: Any) -> Any:
        return (sigma(weights * x) - target) ** 2

    step = 1e-6
    return Routes({
        "autodiff": float((at.grad.value() > 0).mean()),
        "differences": float((loss(w + step) - loss(w - step) > 0).mean()),
    })  # fmt: skip


def angle(second: Any, starts: Any) -> float:
    """Largest angle in degrees between a step of gradient descent and the way to the goal."""
    way = GOAL - starts
    step = way @ second
    cosine = (way * step).sum(axis=1) / np.linalg.norm(way, axis=1) / np.linalg.norm(step, axis=1)
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))).max())


@question.exact(
    "C3.2.3-04",
    T(
        "With centred inputs one step points straight at w* = (1, -1).",
        "输入居中时，一步就笔直指向 w* = (1, -1)。",
    ),
    at_most(0.01),
    correction=T(
        "Only if the inputs are also uncorrelated and of equal variance. Centred with deviations 1 "
        "and 3 the step is up to {n[deviations 1 and 3]:.0f} degrees off, with a correlation of "
        "0.8 "
        "{n[correlation 0.8]:.0f}.",
        "还要求各输入不相关且方差相等。居中但标准差为 1 和 3 时，方向最多偏 "
        "{n[deviations 1 and 3]:.0f} 度；相关系数 0.8 时最多偏 {n[correlation 0.8]:.0f} 度。",
    ),
    weight=2,
)
def straight(lab: Lab) -> Evidence:
    """Largest angle in degrees between the full-batch step of a linear unit under squared error and
    the way to w*, from 1,000 random starts; inputs of mean 0 with three covariances.
    """
    starts = lab.rng("starts").normal(size=(1000, 2))
    return Settings(
        T("covariance of the centred inputs", "居中输入的协方差"),
        {
            "identity": angle(np.eye(2), starts),
            "deviations 1 and 3": angle(np.diag([1.0, 9.0]), starts),
            "correlation 0.8": angle(np.array([[1.0, 0.8], [0.8, 1.0]]), starts),
        },
    )


@once
def step_ratio(lab: Lab, name: str, units: int) -> Any:
    """Steps of gradient descent with the features as they are over those when centred."""
    found = []
    for seed in lab.seeds(10, 4):
        z = np.random.default_rng(seed).standard_normal((4000, units))
        found.append(path_ratio(FEATURES[name](z)).ratio)
    return np.array(found)


@question.experiment(
    "C3.2.3-05",
    T("Inputs off centre need many iterations.", "非零中心的输入需要很多次迭代。"),
    at_least(2.0),
    weight=2,
)
def many_steps(lab: Lab) -> Evidence:
    """Steps to within 1e-3 of w* over those with the mean taken off, each at its best fixed rate;
    sigmoid and ReLU features of 2 and 20 normal inputs. "Many" is taken as twice as many or more.
    """
    return Settings(
        T("features", "特征"),
        {
            f"{name}, {units} units": Sample(step_ratio(lab, name, units))
            for name in ("sigmoid", "relu")
            for units in (2, 20)
        },
    )


@question.exact(
    "C3.2.3-06",
    T(
        "The trace from [.1, .1] to [.2, .0] shows both weights moving together.",
        "从 [.1, .1] 到 [.2, .0] 的轨迹说明两个权重同向移动。",
    ),
    at_least(0.0),
    correction=T(
        "They move apart, by +0.1 and -0.1. No sample with positive inputs can cause such a step.",
        "两者反向移动：+0.1 与 -0.1。任何输入为正的样本都不可能产生这样的一步。",
    ),
)
def toy_trace(lab: Lab) -> Evidence:
    """Product of the signs of the two moves (1 if together); and the same of the step of positive
    inputs that comes nearest to it in direction, times -1 if that lies more than 1 degree off.
    """
    step = np.array([0.2, 0.0]) - np.array([0.1, 0.1])
    rng = lab.rng("inputs")
    moves = rng.normal(size=(100_000, 1)) * rng.uniform(0.0, 1.0, (100_000, 2))
    cosine = moves @ step / np.linalg.norm(moves, axis=1) / np.linalg.norm(step)
    reached = np.degrees(np.arccos(cosine.max())) < 1.0
    return Routes({
        "product of the signs": float(np.sign(step[0]) * np.sign(step[1])),
        "made by positive inputs": 1.0 if reached else -1.0,
    })  # fmt: skip


@question.exact(
    "C3.2.3-07",
    T(
        "Batch normalization behind a sigmoid centres its output on zero.",
        "sigmoid 之后的批归一化使输出零中心化。",
    ),
    at_most(1e-6),
)
def norm_behind(lab: Lab) -> Evidence:
    """Largest mean of a unit after the norm as initialized, in training; and in evaluation on new
    rows after 200 batches, where it is what the drawing of rows leaves.
    """
    rng = lab.rng("rows")
    norm = BatchNorm1d(8).double()

    def output(rows: int) -> Any:
        return norm(fathom.sigmoid(fathom.tensor(rng.standard_normal((rows, 8))))).value()

    training = float(np.abs(output(256).mean(axis=0)).max())
    for _ in range(200):
        output(256)
    norm.eval()
    after = float(np.abs(output(20_000).mean(axis=0)).max())
    return All({"training": training, "evaluation": Check(after, at_most(0.05))})


@question.reference(
    "C3.2.3-08",
    T(
        "In Transformers layer normalization stands before the activation.",
        "在 Transformer 中，层归一化位于激活函数之前。",
    ),
    correction=T(
        "In blocks that normalize first it precedes the whole feed-forward part, with a linear "
        "layer between it and the activation; in the original it follows the residual sum.",
        "前置归一化的块里，它位于整个前馈部分之前，与激活之间还隔着一个线性层；"
        "原始结构里，它位于残差相加之后。",
    ),
    weight=1,
)
def layer_norm(lab: Lab) -> Evidence:
    """Where the norm stands to the feed-forward part that holds the activation, in the two published
    orders of a block.
    """
    after = Source("Vaswani et al., Attention Is All You Need, sections 3.1 and 3.3", 2017, 0.98)
    first = Source(
        "Xiong et al., On Layer Normalization in the Transformer Architecture", 2020, 0.97
    )
    gpt = Source(
        "Radford et al., Language Models are Unsupervised Multitask Learners (GPT-2)", 2019, 0.95
    )
    claimed = "before the feed-forward part"
    return Settings(
        T("block", "块结构"),
        {
            "norm first": Published("before the feed-forward part", (gpt, first), claimed),
            "original, norm last": Published("behind the residual sum", (after, first), claimed),
        },
    )  # fmt: skip


class Walk(NamedTuple):
    """Steps of single-sample descent to within 0.01 of the goal, the length of its path over that
    of the straight line, and the path (steps + 1, 2)."""

    steps: int
    detour: float
    path: Any


RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def walk(name: str, rate: float, seed: int, limit: int = 3000) -> Walk:
    """w <- w - rate (w - w*) . a a, one sample at a time, from 0."""
    a = FEATURES[name](np.random.default_rng(seed).standard_normal((limit, 2)))
    w, path = np.zeros(2), [np.zeros(2)]
    for row in a:
        w = w - rate * float((w - GOAL) @ row) * row
        path.append(w)
        far = float(np.abs(w - GOAL).max())
        if far < 0.01 or far > 1e3:
            break
    line = np.array(path)
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    there = float(np.abs(w - GOAL).max()) < 0.01
    steps = len(line) - 1 if there else limit
    return Walk(steps, length / float(np.linalg.norm(GOAL)), line)


@once
def walks(lab: Lab, name: str) -> list[Walk]:
    """One a seed, at the rate with the fewest steps on average."""
    seeds = lab.seeds(12, 4)
    tried = [[walk(name, rate, seed) for seed in seeds] for rate in RATES]
    return min(tried, key=lambda runs: float(np.mean([run.steps for run in runs])))


@question.figure(T("The way of single-sample descent", "逐样本梯度下降的路径"))
def paths(lab: Lab) -> Figure:
    """Linear unit on two features of normal inputs, target (1, -1), one sample a step, each at the
    best of seven rates; one path a kind, means over seeds below.
    """
    lines: list[Any] = []
    numbers: dict[str, float] = {}
    for name in FEATURES:
        found = walks(lab, name)
        lines.append(Line(T(name, name), found[0].path[:, 0], found[0].path[:, 1]))
        numbers[f"steps, {name}"] = float(np.mean([w.steps for w in found]))
        numbers[f"path over straight line, {name}"] = float(np.mean([w.detour for w in found]))
    goal = Line(T("goal", "目标"), [1.0], [-1.0], points=True)
    return Figure(
        Axis(T("first weight", "第一个权重")),
        Axis(T("second weight", "第二个权重")),
        [*lines, goal],
        T(
            "Sigmoid features can move both weights only up or only down, so the way is a zigzag "
            "and "
            "takes many more samples than with tanh.",
            "sigmoid 特征每步只能让两个权重一起增大或一起减小，路径呈之字形，所需样本远多于 tanh。",
        ),
        numbers,
    )


@question.figure(T("Gradients of one sign against the batch", "梯度同号的比例随批次大小的变化"))
def signs_by_batch(lab: Lab) -> Figure:
    """Share of units whose ten weights are all pushed in one direction, over seeds."""
    lines: list[Any] = []
    for name in FEATURES:
        found = one_sign(lab, name)
        at = [Sample(v) for v in found.values()]
        lines.append(Line(T(name, name), list(found), *band(at)))
    return Figure(
        Axis(T("batch size", "批次大小"), log=True),
        Axis(T("units with one sign", "梯度全同号的单元占比")),
        [*lines, Level(T("by chance", "随机水平"), y=2.0**-9)],
        T(
            "With one sample sigmoid and ReLU push all weights of a unit one way; batches cure "
            "it for "
            "ReLU, and only in part for the sigmoid, whose mean is larger than its spread.",
            "单个样本时，sigmoid 和 ReLU 都把一个单元的全部权重推向同一方向；增大批次可以消除 "
            "ReLU 的"
            "这个问题，对 sigmoid 只能部分消除，因为它的均值大于波动。",
        ),
    )
