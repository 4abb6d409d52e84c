"""3.2.13 ELU: an exponential left of 0, its mean, its slope and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.activations import elu, relu
from fathom.book import (
    Axis, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_least, at_most,
    band, equals, once,
)  # fmt: skip
from fathom.book.material.activation_cost import Costs, costs
from fathom.book.material.calculus import derivative, difference, value
from fathom.book.material.elu_moments import elu_moments, elu_numpy, normal_moments
from fathom.book.material.race import Race, race
from fathom.book.material.speed import about

question = Question(
    "3.2.13",
    alone=True,
    title=T("What is the idea behind ELU?", "ELU 的设计思路是什么？"),
    difficulty=4,
    frequency=3,
    topics=("ELU", "zero-centred", "saturation", "exponential", "指数线性单元", "零中心", "饱和"),
    answer=T(
        "ELU is x on the right and alpha (e^x - 1) on the left. The negative values pull the mean of "
        "the output towards 0, and the plateau at -alpha makes a unit that is far off insensitive to "
        "noise. The mean comes nearer to 0 but does not reach it: for a standard normal input and "
        "alpha 1 it is 0.16, against 0.40 for ReLU. Its slope on the left is alpha e^x = ELU + "
        "alpha, which goes to 0, not to alpha, as x falls; so ELU saturates on that side, though "
        "slowly near 0. At 0 the slope is continuous for alpha = 1 only. It needs an exponential, "
        "whose price depends on the engine. Whether it learns faster than ReLU depends on the rate, "
        "so compare them tuned.",
        "ELU 右侧为 x，左侧为 alpha(e^x - 1)。负值把输出均值拉向 0，-alpha 处的平台使远离激活的单元对噪声不敏感。"
        "均值只是更接近 0，并没有到 0：标准正态输入、alpha = 1 时为 0.16，ReLU 为 0.40。"
        "左侧斜率为 alpha·e^x = ELU + alpha，x 越负越趋于 0，而不是趋于 alpha；所以 ELU 在左侧会饱和，只是在 0 附近较慢。"
        "只有 alpha = 1 时 0 处斜率才连续。它需要指数运算，代价取决于所用的引擎。"
        "是否比 ReLU 学得快取决于学习率，因此要各自调好再比较。",
    ),
    flips=T(
        "Where the inputs lie far left, ELU's gradient vanishes as a sigmoid's does, and a leaky "
        "slope is better.",
        "如果输入大多远在左侧，ELU 的梯度会像 sigmoid 一样消失，此时带固定斜率的 Leaky 更好。",
    ),
    analogy=T(
        "A spring stop instead of a wall: it gives way at first and holds fast when pressed hard.",
        "不是一堵墙而是弹簧挡块：开始会让一让，压到底就顶死。",
    ),
    generative=T(
        "elu(x) + 1 is the positive feature map of linear attention.",
        "elu(x) + 1 是线性注意力使用的正特征映射。",
    ),
    classical=T(
        "It helped deep convolutional networks without batch normalization.",
        "它曾帮助没有批归一化的深层卷积网络训练。",
    ),
    driving=T(
        "An exponential on every pixel costs on embedded chips: there a table or ReLU is taken.",
        "在嵌入式芯片上对每个像素做指数运算代价不小：通常改用查表或 ReLU。",
    ),
    change=T(
        "Change alpha from 1 to 2: the slope jumps at 0 from 2 to 1.",
        "把 alpha 从 1 改成 2：斜率在 0 处由 2 跳到 1。",
    ),
)  # fmt: skip

ALPHAS = (0.5, 1.0, 2.0)


def with_alpha(alpha: float) -> Callable[[Any], Any]:
    """ELU of that alpha."""
    return lambda x: elu(x, alpha)


def relu_numpy(x: Any) -> Any:
    """ReLU in NumPy."""
    return np.maximum(x, 0.0)


@question.exact(
    "C3.2.13-01",
    T("Left of 0, ELU'(x) = alpha e^x = ELU(x) + alpha.",
      "在 0 的左侧，ELU'(x) = alpha·e^x = ELU(x) + alpha。"),
    at_most(1e-8),
)  # fmt: skip
def slope_left(lab: Lab) -> Evidence:
    """Largest differences on [-10, -0.01], alpha 0.5, 1 and 2: tape and central difference
    against both forms."""
    x = np.linspace(-10, -0.01, 1000)
    tape, central = 0.0, 0.0
    for alpha in ALPHAS:
        f = with_alpha(alpha)
        for form in (alpha * np.exp(x), value(f, x) + alpha):
            tape = max(tape, float(np.abs(derivative(f, x) - form).max()))
            central = max(central, float(np.abs(difference(f, x) - form).max()))
    return Routes({"tape": tape, "central difference": central})


@question.exact(
    "C3.2.13-02",
    T("Drawn as a hard step at 0, ReLU is drawn right.", "把 ReLU 画成 0 处的硬阶跃是对的。"),
    at_least(0.01),
    correction=T(
        "ReLU has no step: values on both sides of 0 differ by {n[at 1e-9, Fathom]:.1g}. What "
        "jumps is its slope, from 0 to 1.",
        "ReLU 没有阶跃：0 两侧的函数值相差 {n[at 1e-9, Fathom]:.1g}。跳变的是斜率，从 0 到 1。",
    ),
)
def step_of_relu(lab: Lab) -> Evidence:
    """Height of a step at 0: ReLU at 1e-9 less ReLU at -1e-9; in NumPy as the limit of values nearer
    and nearer, extrapolated from 1e-3 and 1e-4."""
    near = value(relu, np.array([-1e-9, 1e-9]))
    one, two = (float(relu_numpy(h) - relu_numpy(-h)) for h in (1e-3, 1e-4))
    return Routes(
        {"at 1e-9, Fathom": float(near[1] - near[0]), "limit, NumPy": two - (one - two) / 9}
    )


@once
def means(lab: Lab) -> dict[str, float]:
    """E f(z) for ReLU and ELU: closed forms, quadrature and a million draws."""
    z = lab.rng("z").standard_normal(lab.pick(1_000_000, 100_000))
    return {
        "ELU, closed form": elu_moments()[0],
        "ELU, quadrature": normal_moments(elu_numpy)[0],
        "ELU, drawn": float(elu_numpy(z).mean()),
        "ReLU, closed form": 1 / math.sqrt(2 * math.pi),
        "ReLU, drawn": float(relu_numpy(z).mean()),
    }


@question.exact(
    "C3.2.13-03",
    T("ELU's mean output is nearer to 0 than ReLU's.", "ELU 的输出均值比 ReLU 更接近 0。"),
    at_least(0.05),
)
def nearer(lab: Lab) -> Evidence:
    """|mean| of ReLU less |mean| of ELU (alpha 1) for z ~ N(0, 1): closed form, and drawn."""
    m = means(lab)
    return Routes({
        way: abs(m[f"ReLU, {way}"]) - abs(m[f"ELU, {way}"]) for way in ("closed form", "drawn")
    })  # fmt: skip


def jump(alpha: float) -> Routes:
    """Right less left slope at 0, in size: by the tape beside 0, and by one-sided differences."""
    f, h = with_alpha(alpha), 1e-7
    beside = derivative(f, np.array([-1e-10, 1e-10]))
    left, right = -value(f, -h) / h, value(f, h) / h
    return Routes({
        "tape": abs(float(beside[1] - beside[0])), "one-sided differences": abs(float(right - left))
    })  # fmt: skip


def jumps() -> Settings:
    """The jump of the slope for three alphas."""
    return Settings(T("alpha", "alpha"), {f"alpha {a:g}": jump(a) for a in ALPHAS})


@question.exact(
    "C3.2.13-04",
    T("ELU is continuously differentiable at 0.", "ELU 在 0 处连续可微。"),
    at_most(1e-6),
    correction=T(
        "For alpha = 1 only: else the slope jumps by |1 - alpha|, {n[alpha 0.5/tape]:.2g} for 0.5 "
        "and {n[alpha 2/tape]:.2g} for 2. CELU is the form that stays smooth.",
        "仅当 alpha = 1：否则斜率跳变 |1 - alpha|，alpha = 0.5 时为 {n[alpha 0.5/tape]:.2g}，"
        "alpha = 2 时为 {n[alpha 2/tape]:.2g}。对任意 alpha 都光滑的是 CELU。",
    ),
    weight=2,
)
def smooth(lab: Lab) -> Evidence:
    """Jump of the slope at 0 for alpha 0.5, 1 and 2."""
    return jumps()


def float32_slope(x: float) -> Routes:
    """ELU' in float32: on the tape, and as e^x in NumPy."""
    at = fathom.tensor(np.array([x], np.float32), requires_grad=True)
    (slope,) = fathom.autograd.grad(elu(at).sum(), [at])
    return Routes({"tape": float(slope.value()[0]), "exp": float(np.exp(np.float32(x)))})


@question.exact(
    "C3.2.13-05",
    T("ELU's gradient on the left is never 0.", "ELU 左侧的梯度永远不为 0。"),
    at_least(1e-45),
    correction=T(
        "Not in exact arithmetic; but it shrinks as e^x: {n[-10/tape]:.2g} at -10, and in float32 "
        "exactly {n[-110/tape]:g} at -110. For learning it is gone long before.",
        "精确运算下确实不为零，但按 e^x 衰减：在 -10 处为 {n[-10/tape]:.2g}，float32 下在 -110 处恰为 "
        "{n[-110/tape]:g}。对学习来说它早已消失。",
    ),
    weight=2,
)
def never_zero(lab: Lab) -> Evidence:
    """The slope in float32, whose smallest positive number is 1.4e-45, at three places."""
    return Settings(T("input", "输入"), {f"{x:g}": float32_slope(x) for x in (-1.0, -10.0, -110.0)})


@once
def raced(lab: Lab, name: str, rate: float) -> Race:
    """Three layers of 32 on digits from He's initial weights."""
    return race(lab.seeds(12, 2), name, rate=rate, epochs=lab.pick(30, 2))


@question.experiment(
    "C3.2.13-06",
    T("ELU converges faster than ReLU.", "ELU 比 ReLU 收敛更快。"),
    at_least(1.0),
    correction=T(
        "It depends on the rate: ELU is {n[0.05]:.1f} epochs ahead at 0.05 and {n[0.1]:.1f} at 0.1, "
        "but {n[0.5]:.1f} at 0.5, where it no longer trains.",
        "取决于学习率：学习率 0.05 时 ELU 领先 {n[0.05]:.1f} 轮，0.1 时 {n[0.1]:.1f} 轮，"
        "而 0.5 时为 {n[0.5]:.1f} 轮，此时它已无法训练。",
    ),
    weight=3,
)
def faster(lab: Lab) -> Evidence:
    """Epochs to a mean training loss of 0.2 (31 where never), ReLU less ELU; SGD, the same initial
    weights and order of rows."""
    return Settings(
        T("learning rate", "学习率"),
        {
            f"{rate}": Sample(
                raced(lab, "relu", rate).epochs_to(0.2) - raced(lab, "elu", rate).epochs_to(0.2)
            )
            for rate in (0.05, 0.1, 0.5)
        },
    )


@question.exact(
    "C3.2.13-07",
    T("The mean of ELU is the sum of the integrals over the negative and the positive half.",
      "ELU 的均值等于负半轴与正半轴上两个积分之和。"),
    at_most(1e-10),
)  # fmt: skip
def two_halves(lab: Lab) -> Evidence:
    """Both halves by quadrature, their sum against the closed form, alpha 0.5, 1 and 2."""
    worst = 0.0
    for alpha in ALPHAS:
        left = alpha * normal_moments(lambda x: np.expm1(np.minimum(x, 0.0)))[0]
        right = normal_moments(relu_numpy)[0]
        worst = max(worst, abs(left + right - elu_moments(alpha=alpha)[0]))
    return worst


@question.exact(
    "C3.2.13-08",
    T("For a standard normal input and alpha = 1 the mean of ELU is about 0.",
      "标准正态输入、alpha = 1 时，ELU 的均值约为 0。"),
    equals(0.0, 0.05),
    correction=T(
        "It is {n[closed form]:.4f} (ReLU: 0.3989); 0 is reached at alpha 1.6733.",
        "它等于 {n[closed form]:.4f}（ReLU 为 0.3989）；要 alpha = 1.6733 才为 0。",
    ),
    weight=2,
)  # fmt: skip
def about_zero(lab: Lab) -> Evidence:
    """E ELU(z), z ~ N(0, 1), by closed form, quadrature and drawing; "about 0" is within 0.05."""
    m = means(lab)
    return Routes({way: m[f"ELU, {way}"] for way in ("closed form", "quadrature", "drawn")})


@once
def timed(lab: Lab) -> Costs:
    """Times of ELU and ReLU in three engines, by size."""
    return costs(lab.rng("costs"), lab.pick(5, 3), lab.pick(3, 1), ("relu", "elu"))


@question.experiment(
    "C3.2.13-09",
    T(
        "At inference ELU takes 5 to 10 times as long as ReLU.",
        "推理时 ELU 比 ReLU 慢 5 到 10 倍。",
    ),
    about(5.0, 10.0),
    correction=T(
        "The factor belongs to engine and size. For 4,096 numbers it is {n[NumPy, 4k/quickest run]:.1f} "
        "in NumPy, {n[PyTorch, 4k/quickest run]:.1f} in PyTorch and "
        "{n[Fathom, compiled, 4k/quickest run]:.1f} compiled by Fathom; for a million "
        "{n[NumPy, 1M/quickest run]:.1f}, {n[PyTorch, 1M/quickest run]:.1f} and "
        "{n[Fathom, compiled, 1M/quickest run]:.1f}.",
        "倍数取决于引擎和规模。4096 个数时，NumPy 为 {n[NumPy, 4k/quickest run]:.1f}，PyTorch 为 "
        "{n[PyTorch, 4k/quickest run]:.1f}，Fathom 编译后为 {n[Fathom, compiled, 4k/quickest run]:.1f}；"
        "一百万个数时分别为 {n[NumPy, 1M/quickest run]:.1f}、{n[PyTorch, 1M/quickest run]:.1f} 和 "
        "{n[Fathom, compiled, 1M/quickest run]:.1f}。",
    ),
    needs=("torch", "scipy"),
)
def slower(lab: Lab) -> Evidence:
    """Time of ELU over that of ReLU on 1,024 to a million float32 numbers (in PyTorch float64 too),
    forward, one thread, by the quickest run and by processor time, in three engines. The printed
    range is taken a fifth wider; a setting must clear its edges by a tenth.
    """
    return timed(lab).ratios("elu")


@question.exact(
    "C3.2.13-10",
    T(
        "As x falls to minus infinity, ELU's slope tends to alpha.",
        "x 趋于负无穷时，ELU 的斜率趋于 alpha。",
    ),
    equals(1.0, 0.01),
    correction=T(
        "It tends to 0: at -20 it is {n[tape]:.1e} of alpha. What tends to -alpha is the value.",
        "它趋于 0：在 -20 处只有 alpha 的 {n[tape]:.1e}。趋于 -alpha 的是函数值。",
    ),
    weight=3,
)
def far_left(lab: Lab) -> Evidence:
    """Slope over alpha at -20, alpha 1: by the tape, and by central differences in NumPy."""
    h = 1e-3
    central = (elu_numpy(np.array(-20 + h)) - elu_numpy(np.array(-20 - h))) / (2 * h)
    return Routes({
        "tape": float(derivative(elu, -20.0)), "central difference": float(central)
    })  # fmt: skip


@question.exact(
    "C3.2.13-11",
    T("At 0 the slope passes continuously from alpha to 1.", "在 0 处斜率由 alpha 连续过渡到 1。"),
    at_most(1e-6),
    correction=T(
        "It jumps from alpha to 1, by {n[alpha 2/tape]:.2g} for alpha 2, and passes without a jump "
        "only where alpha is 1 already.",
        "它由 alpha 跳到 1，alpha = 2 时跳变 {n[alpha 2/tape]:.2g}；只有 alpha 本就为 1 时才没有跳变。",
    ),
)
def passes(lab: Lab) -> Evidence:
    """Jump of the slope at 0 for alpha 0.5, 1 and 2."""
    return jumps()


@question.figure(T("ReLU and ELU while they learn digits", "ReLU 与 ELU 学习 digits 的过程"))
def learning(lab: Lab) -> Figure:
    """Mean training loss by epoch, three layers of 32, SGD at two rates; bands over seeds."""
    lines = []
    for name, zh in (("relu", "ReLU"), ("elu", "ELU")):
        for rate in (0.05, 0.1):
            losses = raced(lab, name, rate).losses
            seen = [Sample(column) for column in losses.T]
            lines.append(
                Line(
                    T(f"{zh}, rate {rate}", f"{zh}，学习率 {rate}"),
                    range(1, len(seen) + 1),
                    *band(seen),
                )
            )
    return Figure(
        Axis(T("epoch", "轮次")),
        Axis(T("training loss", "训练损失"), log=True),
        lines,
        T(
            "At these moderate rates ELU's loss falls sooner than ReLU's from the same start.",
            "在这些适中的学习率下，从相同起点出发 ELU 的损失下降得更早。",
        ),
    )


@question.figure(T("ELU and its slope for three alphas", "三种 alpha 下的 ELU 及其斜率"))
def slopes(lab: Lab) -> Figure:
    """The slope by the tape."""
    x = np.linspace(-6, 2, 401)
    return Figure(
        Axis(T("x", "x")),
        Axis(T("slope", "斜率")),
        [Line(T(f"alpha {a:g}", f"alpha {a:g}"), x, derivative(with_alpha(a), x)) for a in ALPHAS],
        T(
            "All slopes go to 0 on the left; at 0 they jump to 1 unless alpha is 1.",
            "左侧斜率全都趋于 0；在 0 处跳到 1，除非 alpha 为 1。",
        ),
    )
