"""S.1 What makes gradients vanish or explode."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.book import (
    All, Axis, Check, Evidence, Figure, Heat, Lab, Line, Question, Sample, Settings, T, at_least,
    at_most, once,
)  # fmt: skip
from fathom.book.material.gain import chain, passage

question = Question(
    "S.1",
    title=T("What causes vanishing and exploding gradients?", "梯度消失与梯度爆炸的原因是什么？"),
    difficulty=3,
    frequency=5,
    topics=(
        "vanishing gradient",
        "exploding gradient",
        "initialization",
        "梯度消失",
        "梯度爆炸",
        "初始化",
    ),
    answer=T(
        "Both are the same thing: backpropagation multiplies one factor a layer, built from a "
        "weight "
        "matrix and the slopes of the activation, and a long product of numbers that are not 1 "
        "goes "
        "to 0 or to infinity exponentially in depth. What decides is n Var(W) E[f'^2], the gain "
        "of "
        "the squared gradient: slopes and weights enter only through their product. Small slopes "
        "(a sigmoid's are at most 0.25, and near 0 when it saturates) or small weights make it "
        "less than 1; "
        "large weights make it greater than 1 as long as the activation does not saturate. "
        "Weights "
        "that are too large therefore explode with ReLU, while bounded activations cap the "
        "forward signal and answer with saturation. Recurrent nets are the worst case, since the "
        "same "
        "matrix is multiplied at every time step.",
        "两者是同一件事：反向传播每层乘一个由权重矩阵和激活导数构成的因子，一长串不等于 1 "
        "的数相乘，"
        "就随深度指数地趋于零或无穷。决定性的量是 n Var(W) E[f'^2]，即梯度平方的增益："
        "导数与权重只通过乘积起作用。"
        "导数小（sigmoid 最大 0.25，饱和时接近 0）或权重小，增益就小于 1；只要激活不饱和，"
        "大权重使它大于 1。"
        "因此权重过大时 ReLU 网络会爆炸，而有界激活封住前向信号的大小，代之以饱和。"
        "循环网络是最糟的情形，因为每个时间步都乘同一个矩阵。",
    ),
    flips=T(
        "Choose the weights so that n Var(W) E[f'^2] = 1 and neither happens, whatever the slopes.",
        "只要权重取得使 n Var(W) E[f'^2] = 1，无论导数大小，两者都不会发生。",
    ),
    analogy=T(
        "Interest: one percent a year for a thousand years, up or down, leaves a fortune or "
        "nothing.",
        "如同复利：每年百分之一，一千年下来，涨则巨富，跌则归零。",
    ),
    generative=T(
        "GPT-2 divides the initial weights of its residual branches by the root of their number, "
        "to "
        "keep this very product near 1.",
        "GPT-2 把残差分支的初始权重除以分支数的平方根，正是为了让这个乘积接近 1。",
    ),
    classical=T(
        "Deep sigmoid nets were untrainable for two decades for this reason; shallow models never "
        "meet it.",
        "深层 sigmoid 网络因此二十年里训练不动；浅层模型从不会遇到这个问题。",
    ),
    driving=T(
        "A recurrent tracker over long sequences meets both: it forgets early frames or diverges.",
        "处理长序列的循环跟踪器两种都会碰到：忘掉早先的帧，或者发散。",
    ),
    change=T(
        "Move along the map until n Var(W) E[f'^2] = 1: the colour turns neutral at any depth.",
        "在图上移到 n Var(W) E[f'^2] = 1 处：任何深度下颜色都变为中性。",
    ),
)


@once
def sigmoid_layers(lab: Lab) -> dict[str, Any]:
    """Twenty sigmoid layers, a number a seed: with the slopes, without them, and the fit."""
    found: dict[str, Any] = {"with": [], "without": [], "fit": []}
    for seed in lab.seeds(20, 5):
        whole = passage("sigmoid", np.random.default_rng(seed), std=0.1)
        bare = passage("sigmoid", np.random.default_rng(seed), std=0.1, slopes=False)
        logs = np.log10(whole.gradient)
        found["with"].append(np.log10(whole.backward))
        found["without"].append(np.log10(bare.backward))
        found["fit"].append(np.corrcoef(np.arange(20), logs)[0, 1] ** 2)
    return found


@question.experiment(
    "CS.1-01",
    T(
        "Gradients vanish because activation slopes below 1 are multiplied along the chain.",
        "梯度消失是因为小于 1 的激活导数沿链条相乘。",
    ),
    at_most(-6.0),
    weight=2,
)
def slopes(lab: Lab) -> Evidence:
    """log10 of first over last gradient through 20 sigmoid layers with weights of variance 1/n.

    The same nets with the slopes left out of the way back must keep the gradient within a factor
    of ten, and log gradient against layer must be a line (squared correlation 0.99 or more).
    """
    found = sigmoid_layers(lab)
    return All({
        "with the slopes": Sample(found["with"]),
        "slopes taken as 1": Check(Sample(found["without"]), at_least(-1.0)),
        "squared correlation": Check(Sample(found["fit"]), at_least(0.99)),
    })  # fmt: skip


@question.experiment(
    "CS.1-02",
    T(
        "Initial weights that are too small shrink the signal.",
        "初始权重过小会使信号逐层缩小。",
    ),
    at_most(-6.0),
    weight=2,
)
def small_weights(lab: Lab) -> Evidence:
    """log10 of the spread over rows at layer 20 over that at layer 1, weights N(0, 0.01^2).

    The spread is the deviation of activations from their mean over the rows: what still tells
    two inputs apart. A sigmoid's outputs themselves stay near 0.5.
    """
    names = ("identity", "relu", "tanh", "sigmoid")
    runs: dict[str, list[float]] = {name: [] for name in names}
    for seed in lab.seeds(10, 3):
        for name in names:
            found = passage(name, np.random.default_rng(seed), std=0.01).spread
            runs[name].append(float(np.log10(max(found[-1], 1e-300) / found[0])))
    return All({name: Sample(values) for name, values in runs.items()})


@question.experiment(
    "CS.1-03",
    T(
        "Slopes or weights above 1 make gradients explode.",
        "激活导数或权重大于 1 会使梯度爆炸。",
    ),
    at_least(3.0),
    correction=T(
        "The product must exceed 1: weights of 1.5 change the gradient by "
        "10^{n[weight 1.5, slope 1]:.1f} "
        "over 20 layers where the slope is 1, but by 10^{n[weight 1.5, slope 0.25]:.1f} where it "
        "is 0.25; "
        "in a matrix a spectral norm of 1.5 gives 10^{n[matrices of norm 1.5]:.1f}.",
        "必须乘积大于 1：权重 1.5、导数为 1 时，20 层使梯度变化 10^{n[weight 1.5, slope 1]:.1f} "
        "倍；"
        "导数为 0.25 时是 10^{n[weight 1.5, slope 0.25]:.1f} 倍；谱范数为 1.5 的随机矩阵给出 "
        "10^{n[matrices of norm 1.5]:.1f} 倍。",
    ),
    weight=2,
)
def above_one(lab: Lab) -> Evidence:
    """log10 of the gradient's growth over 20 layers; an explosion is a growth by 1000 or more.

    Chains of single units with one of the two numbers above 1, and random 64 x 64 matrices of
    spectral norm 1.5 (no activation).
    """
    norms = []
    for seed in lab.seeds(10, 3):
        rng = np.random.default_rng(seed)
        g = rng.standard_normal(64)
        start = np.linalg.norm(g)
        for _ in range(20):
            w = rng.standard_normal((64, 64))
            g = w @ g * (1.5 / np.linalg.norm(w, 2))
        norms.append(np.log10(np.linalg.norm(g) / start))
    return Settings(
        T("weights and slopes", "权重与导数"),
        {
            "weight 1.5, slope 1": float(np.log10(chain(1.0, 1.5, 20))),
            "weight 1.5, slope 0.25": float(np.log10(chain(0.25, 1.5, 20))),
            "weight 0.5, slope 1.5": float(np.log10(chain(1.5, 0.5, 20))),
            "weight 1, slope 1.5": float(np.log10(chain(1.5, 1.0, 20))),
            "matrices of norm 1.5": Sample(norms),
        },
    )


@question.experiment(
    "CS.1-04",
    T(
        "Initial weights that are too large amplify the signal.",
        "初始权重过大会使信号逐层放大。",
    ),
    at_least(3.0),
    correction=T(
        "ReLU's signal grows by 10^{n[relu]:.0f} over 20 layers; tanh and sigmoid cannot grow "
        "({n[tanh]:z.2f} and {n[sigmoid]:z.2f} powers of ten): they saturate.",
        "ReLU 的信号经 20 层增长 10^{n[relu]:.0f} 倍；tanh 与 sigmoid 无法增长"
        "（变化 {n[tanh]:z.2f} 与 {n[sigmoid]:z.2f} 个数量级），而是饱和。",
    ),
    weight=2,
)
def large_weights(lab: Lab) -> Evidence:
    """log10 of the activations' size at layer 20 over that at layer 1; weights N(0, 1)."""
    names = ("relu", "tanh", "sigmoid")
    runs: dict[str, list[float]] = {name: [] for name in names}
    for seed in lab.seeds(10, 3):
        for name in names:
            runs[name].append(
                float(np.log10(passage(name, np.random.default_rng(seed), std=1.0).forward))
            )
    return Settings(T("activation", "激活函数"), {n: Sample(v) for n, v in runs.items()})


@question.figure(
    T(
        "Gain of the gradient by weight scale and depth, tanh",
        "tanh 网络：梯度增益随权重尺度与深度的变化",
    )
)
def gain_map(lab: Lab) -> Figure:
    """log10 of first over last gradient in tanh nets of 64 units; the theory's line of gain 1."""
    scales = np.linspace(0.4, 3.0, 14)
    depths = np.arange(2, 31, 4)
    seeds = lab.seeds(3, 2)
    values = np.zeros((len(depths), len(scales)))
    gain = np.zeros(len(scales))
    for j, scale in enumerate(scales):
        for seed in seeds:
            rng = np.random.default_rng(seed)
            found = passage("tanh", rng, std=scale / 8, depth=30, width=64, rows=32)
            steps = np.log10(found.gradient)
            for i, depth in enumerate(depths):
                values[i, j] += (steps[0] - steps[depth - 1]) / len(seeds)
            gain[j] += np.log(found.factor[5:]).mean() / len(seeds)
    critical = float(np.interp(0.0, gain[np.argsort(gain)], scales[np.argsort(gain)]))
    return Figure(
        Axis(T("weight scale, sqrt(n Var W)", "权重尺度 sqrt(n Var W)")),
        Axis(T("layers", "层数")),
        [
            Heat(T("log10 of the gain", "增益的 log10"), values, (0.4, 3.0), (2.0, 30.0)),
            Line(T("theory: gain 1", "理论：增益为 1"), [critical, critical], [2.0, 30.0]),
        ],
        T(
            "Left of the line gradients vanish and right of it they explode, the more the deeper "
            "the "
            "net; on it depth does not matter.",
            "线左侧梯度消失，线右侧梯度爆炸，网络越深越厉害；在线上深度无关紧要。",
        ),
        {"scale of gain 1": critical},
    )


@question.figure(T("The signal on its way forward", "前向信号的大小"))
def forward_signal(lab: Lab) -> Figure:
    """Root mean square of the activations over 20 layers of 100 units, by weights."""
    lines = []
    for name, std in (
        ("relu", 0.01),
        ("relu", 0.02**0.5),
        ("relu", 1.0),
        ("tanh", 0.01),
        ("tanh", 1.0),
    ):
        runs = np.array([
            passage(name, np.random.default_rng(s), std=std).size for s in lab.seeds(8, 3)
        ])  # fmt: skip
        label = f"{name}, N(0, {std:.2g}²)"
        middle = np.exp(np.log(np.maximum(runs, 1e-300)).mean(axis=0))
        lines.append(
            Line(T(label, label), np.arange(1, 21), middle, runs.min(axis=0), runs.max(axis=0))
        )
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("size of the activations", "激活值大小"), log=True),
        lines,
        T(
            "Small weights shrink the signal exponentially, large ones make ReLU's grow without "
            "bound, "
            "and tanh caps it at 1; only He's scale keeps it level.",
            "权重过小时信号指数缩小；权重过大时 ReLU 的信号无限增长，tanh 则封顶在 1；只有 He "
            "的尺度使它持平。",
        ),
    )
