"""S.5 Why the sigmoid saturates, and where."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, T, at_most
from fathom.book.material.calculus import derivative, root, value

question = Question(
    "S.5",
    title=T("Why does the sigmoid saturate?", "Sigmoid 为什么会饱和？"),
    difficulty=2,
    frequency=4,
    topics=("sigmoid", "saturation", "vanishing gradient", "饱和", "梯度消失"),
    answer=T(
        "The sigmoid squeezes the whole line into (0, 1), so its two ends must be flat: it tends "
        "to 1 and 0 like "
        "1 - e^-x and e^x, and its slope s(1-s) falls off like e^-|x|. The slope is largest at "
        "0, where it is 0.25, "
        "and below 0.01 already beyond |x| = 4.6. A unit whose pre-activation lies out there "
        "passes on almost no "
        "gradient, to its own weights either, so that it learns its way back only slowly. In "
        "float32 s rounds to exactly "
        "1 from about x = 17 on and the slope computed as s(1-s) is exactly 0; on the left it "
        "survives "
        "much farther, since e^x is representable until about -103. With cross-entropy on the "
        "output the factor cancels, which is "
        "why a saturated output unit still learns and a saturated hidden one does not.",
        "sigmoid 把整条实轴压进 (0, 1)，两端必然平坦：它按 1 - e^-x 趋于 1、按 e^x 趋于 0，导数 "
        "s(1-s) 按 e^-|x| 衰减。"
        "导数在 0 处最大，为 0.25；|x| 超过 4.6 时已小于 0.01。"
        "预激活落在那里的单元几乎不往回传梯度，"
        "自己的权重也收不到，因此很难学回来。在 float32 中，x 约大于 17 时 s 舍入为恰好 1，按 "
        "s(1-s) 算出的导数恰为 0；"
        "左侧则远得多，因为 e^x 到约 -103 仍可表示。输出层配交叉熵时这个因子被消去，"
        "所以饱和的输出单元仍能学习，而饱和的隐藏单元不能。",
    ),
    flips=T(
        "Under cross-entropy with logits the gradient is s - y: a saturated wrong output learns "
        "at full speed.",
        "使用带 logits 的交叉熵时梯度为 s - y：饱和且答错的输出以全速学习。",
    ),
    analogy=T(
        "A loudspeaker at its limit: turning the knob further changes nothing that one can hear.",
        "像音量到顶的音箱：再拧旋钮，听不出任何变化。",
    ),
    generative=T(
        "Gates (GLU, LSTM) use the saturation on purpose: fully open or fully shut.",
        "门控（GLU、LSTM）有意利用饱和：全开或全关。",
    ),
    classical=T(
        "In logistic regression on separable data the weights grow for ever: the loss is 0 only "
        "at saturation.",
        "在可分数据上，逻辑回归的权重会无限增长：损失只有在饱和时才为 0。",
    ),
    driving=T(
        "Detection scores near 0 or 1 say little about how sure the net is; compare logits.",
        "接近 0 或 1 的检测分数很难说明网络有多确信；应比较 logits。",
    ),
    change=T(
        "Compute the slope as e^-|x| / (1 + e^-|x|)^2: in float32 it is then 0 only beyond about "
        "|x| = 103.",
        "把导数改写为 e^-|x| / (1 + e^-|x|)²：在 float32 中要到 |x| 约 103 才为 0。",
    ),
)


def exact_slope(x: Any) -> Any:
    """The sigmoid's slope without cancellation."""
    e = np.exp(-np.abs(np.asarray(x, np.float64)))
    return e / (1 + e) ** 2


@question.exact(
    "CS.5-01",
    T(
        "The sigmoid tends to 1 and 0 at its two ends, and its slope s(1-s) to 0.",
        "sigmoid 在两端趋于 1 与 0，导数 s(1-s) 趋于 0。",
    ),
    at_most(1e-12),
)
def limits(lab: Lab) -> Evidence:
    """Distances from the limits at x = 40 and -40 and at 800; and s(1-s) against the tape's slope.

    The slope must also fall by the factor e for each unit of x from 10 on (largest deviation of
    the ratio from e^-1, at most 1e-4).
    """
    x = np.array([-800.0, -40.0, 40.0, 800.0])
    s = value(fathom.sigmoid, x)
    grid = np.linspace(-30, 30, 601)
    inner = value(fathom.sigmoid, grid)
    tail = exact_slope(np.arange(10, 30))
    return All({
        "values": float(np.abs(s - [0, 0, 1, 1]).max()),
        "slopes": float(np.abs(derivative(fathom.sigmoid, x)).max()),
        "s(1-s) against the tape": float(
            np.abs(inner * (1 - inner) - derivative(fathom.sigmoid, grid)).max()
        ),
        "rate of the fall": Check(
            float(np.abs(tail[1:] / tail[:-1] - np.exp(-1)).max()), at_most(1e-4)
        ),
    })  # fmt: skip


def falls_below(level: float) -> float:
    """The x > 0 at which the slope is that small."""
    return root(lambda x: exact_slope(x) - level, 0.0, 50.0)


def zero_in_float32() -> dict[str, float]:
    """Where a slope computed in float32 becomes exactly 0: s(1-s) to the right, and without it."""
    grid = np.arange(0, 120, 0.001, dtype=np.float32)
    with np.errstate(all="ignore"):
        s = np.float32(1) / (np.float32(1) + np.exp(-grid))
        naive = s * (np.float32(1) - s)
        e = np.exp(-grid)
        careful = e / (np.float32(1) + e) ** 2
    return {
        "float32 s(1-s) is 0 from x =": float(grid[np.argmax(naive == 0)]),
        "float32 e/(1+e)^2 is 0 from x =": float(grid[np.argmax(careful == 0)]),
    }


@question.figure(T("Sigmoid and slope", "Sigmoid 与导数"))
def curve(lab: Lab) -> Figure:
    """The function and four times its slope; where the slope falls below 0.1, 0.01, ... ."""
    x = np.linspace(-10, 10, 201)
    places = {f"slope below {level:g} from |x| =": falls_below(level) for level in
              (1e-1, 1e-2, 1e-3, 1e-4)}  # fmt: skip
    return Figure(
        Axis(T("x", "x")),
        Axis(T("value", "值")),
        [
            Line(T("sigmoid", "sigmoid"), x, value(fathom.sigmoid, x)),
            Line(T("4 times the slope", "导数的 4 倍"), x, 4 * derivative(fathom.sigmoid, x)),
            Level(T("slope 0.01", "导数 0.01"), x=falls_below(1e-2)),
        ],
        T(
            "The slope is confined to a band around 0; beyond 4.6 it is below a hundredth.",
            "导数集中在 0 附近的一条带内；超过 4.6 就不到百分之一。",
        ),
        places,
    )


@question.figure(T("The slope far out, in two precisions", "远处的导数：两种精度"))
def far_out(lab: Lab) -> Figure:
    """The slope to the right of 0, exact and as s(1-s) in float32."""
    x = np.linspace(0, 40, 161)
    s = (1 / (1 + np.exp(-x.astype(np.float32)))).astype(np.float32)
    naive = (s * (np.float32(1) - s)).astype(np.float64)
    shown = naive > 0
    return Figure(
        Axis(T("x", "x")),
        Axis(T("slope", "导数"), log=True),
        [
            Line(T("exact", "精确"), x, exact_slope(x)),
            Line(T("s(1-s) in float32", "float32 的 s(1-s)"), x[shown], naive[shown], points=True),
        ],
        T(
            "The slope falls like e^-x; in float32 s(1-s) turns into steps near 15 and ends in "
            "exact "
            "zeros near 17.",
            "导数按 e^-x 衰减；float32 的 s(1-s) 在 15 附近变成台阶，在 17 附近变为恰好的零。",
        ),
        zero_in_float32(),
    )


def trained(hidden: bool) -> Any:
    """How far one saturated unit gets in 200 steps: under squared error or under cross-entropy."""
    z, path = 8.0, []
    for _ in range(201):
        path.append(z)
        s = 1 / (1 + np.exp(-z))
        z -= 1.0 * (2 * s * s * (1 - s) if hidden else s)  # the target is 0
    return np.array(path)


@question.figure(T("A saturated unit learning", "饱和单元的学习"))
def learning(lab: Lab) -> Figure:
    """One unit that says 0.9997 where 0 is right: pre-activation over steps of rate 1."""
    steps = np.arange(201)
    return Figure(
        Axis(T("step", "步")),
        Axis(T("pre-activation", "预激活")),
        [
            Line(T("squared error", "平方误差"), steps, trained(True)),
            Line(T("cross-entropy", "交叉熵"), steps, trained(False)),
            Level(T("even odds", "不偏不倚"), y=0.0),
        ],
        T(
            "Under cross-entropy the slope cancels and the unit turns round at once; under "
            "squared "
            "error it hardly moves in 200 steps.",
            "交叉熵消去了导数，单元立刻掉头；平方误差下 200 步几乎不动。",
        ),
    )
