"""2.1.5 Why one perceptron cannot represent XOR."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Settings,
    Source, T, at_most, equals, once, true,
)  # fmt: skip
from fathom.book.material.planes import dots, learn, separable
from fathom.models import (
    McCullochPitts, PocketPerceptron, boolean_functions, boolean_inputs, linearly_separable,
    xor_network,
)  # fmt: skip

question = Question(
    "2.1.5",
    title=T(
        "Why can a single perceptron not represent XOR, and what limit does that expose?",
        "为什么单个感知机无法表示 XOR？这暴露了什么局限？",
    ),
    difficulty=3,
    frequency=5,
    topics=("xor", "linear separability", "minsky", "异或", "线性可分", "隐藏层"),
    answer=T(
        "XOR is positive at (0, 1) and (1, 0) and negative at (0, 0) and (1, 1). The middle of the two "
        "positive corners is also the middle of the two negative ones, and no plane can have one "
        "point on both sides. In formulas: adding w1 + b > 0 and w2 + b > 0 and using b <= 0 gives "
        "w1 + w2 + b > 0, which is what (1, 1) forbids. Of the 16 functions of two bits only XOR "
        "and its negation are like this, but the share of functions that one unit can do "
        "falls quickly with the number of bits. The limit is that of a boundary that is a plane in the "
        "given inputs, not of neurons as such: two hidden units, AND(x1, NOT x2) and AND(NOT x1, x2), "
        "move the corners to places where a line separates them. A product x1 x2 as a third "
        "input does the same.",
        "XOR 在 (0,1)、(1,0) 处为正，在 (0,0)、(1,1) 处为负。两个正角的中点也是两个负角的中点，"
        "而一个点不可能位于超平面的两侧。用公式说：把 w1 + b > 0 与 w2 + b > 0 相加，再用 b ≤ 0，"
        "得到 w1 + w2 + b > 0，正与 (1,1) 的要求矛盾。两比特的 16 个函数中只有 XOR 及其取反如此，"
        "但单个单元能实现的函数占比随比特数迅速下降。这个局限属于“在给定输入上边界是平面”，"
        "而不属于神经元本身：两个隐藏单元 AND(x1, NOT x2) 与 AND(NOT x1, x2) 把四个角移到一条直线"
        "能分开的位置；把乘积 x1x2 作为第三个输入也同样有效。",
    ),
    flips=T(
        "Give the unit the product x1 x2 as an input, or an activation that rises and falls again, and "
        "one unit is enough.",
        "如果给单元加上输入 x1x2，或用先升后降的激活函数，一个单元就够了。",
    ),
    analogy=T(
        "Two light switches on one lamp: what either does depends on where the other stands, so no "
        "fixed say for each can describe it.",
        "双控开关：一个开关的作用取决于另一个的位置，给每个开关固定的“发言权”无法描述它。",
    ),
    generative=T(
        "Any rule of the kind “one or the other, not both” in text needs a hidden layer; a "
        "transformer has one in each block.",
        "文本里“二者之一但不同时”的规则都需要隐藏层；Transformer 的每个块里都有一个。",
    ),
    classical=T(
        "Logistic regression needs an interaction term for it; trees and kernels do without.",
        "逻辑回归需要交互项才能处理；树模型和核方法则不需要。",
    ),
    driving=T(
        "“Exactly one of two sensors reports an obstacle” is XOR, and a sign that one of them "
        "is wrong.",
        "“两个传感器恰有一个报告障碍物”就是 XOR，也提示其中一个出了问题。",
    ),
    change=T(
        "Add the column x1 x2 to the inputs: the errors that never went away are gone.",
        "给输入加一列 x1x2：始终消不掉的错误随即消失。",
    ),
)

CORNERS = boolean_inputs()
XOR = np.array([0, 1, 1, 0])


@question.exact(
    "C2.1.5-01",
    T("No hyperplane separates XOR.", "XOR 不能被任何超平面分开。"),
    equals(0.0),
    weight=2,
)
def xor_separable(lab: Lab) -> Evidence:
    """Whether there is a plane (1) or not (0), by a linear program and by a search of weights; and
    how far apart the middles of the two classes lie, whose meeting proves it.
    """
    middles = CORNERS[XOR == 1].mean(axis=0) - CORNERS[XOR == 0].mean(axis=0)
    return All({"plane": separable(CORNERS, XOR), "middles apart": float(np.abs(middles).max())})


@question.exact(
    "C2.1.5-02",
    T(
        "The inequalities of XOR give w1 + w2 + b > -b > 0, against what (1, 1) asks for.",
        "由 XOR 的不等式得 w1 + w2 + b > -b > 0，与 (1,1) 的要求矛盾。",
    ),
    true(),
)
def contradiction(lab: Lab) -> Evidence:
    """Over 200,000 random (w1, w2, b) that satisfy the first three inequalities, the share that
    obey the chain; and the certificate of the linear program: equal parts of the four inequalities
    sum to 0 > 0.
    """
    w1, w2, b = lab.rng("weights").normal(size=(3, 2_000_000 if not lab.quick else 200_000))
    kept = (b < 0) & (w1 + b > 0) & (w2 + b > 0)
    chain = (w1 + w2 + b > -b) & (-b > 0)
    mix = linearly_separable(CORNERS, XOR).overlap
    signs = np.where(XOR == 1, 1.0, -1.0)
    left = (mix * signs) @ np.column_stack([np.ones(4), CORNERS])
    return All({
        "share that obey": float(chain[kept].mean()),
        "certificate sums to 0": Check(float(np.abs(left).max()), at_most(1e-12)),
        "its parts": Check(float(np.abs(mix - 0.25).max()), at_most(1e-12)),
    })  # fmt: skip


@question.exact(
    "C2.1.5-03",
    T("AND and OR are linearly separable.", "AND 与 OR 线性可分。"),
    equals(1.0),
)
def and_or(lab: Lab) -> Evidence:
    """Whether there is a plane (1) or not (0)."""
    return All({"AND": separable(CORNERS, [0, 0, 0, 1]), "OR": separable(CORNERS, [0, 1, 1, 1])})


def hidden(x: Any) -> Any:
    """(h1, h2) = (AND(x1, NOT x2), AND(NOT x1, x2)) by units with a veto."""
    units = McCullochPitts(1, inhibitory=[1]), McCullochPitts(1, inhibitory=[0])
    return np.stack([unit(x) for unit in units], axis=-1)


@question.exact(
    "C2.1.5-04",
    T(
        "h1 = AND(x1, NOT x2), h2 = AND(NOT x1, x2) and y = OR(h1, h2) compute XOR.",
        "h1 = AND(x1, NOT x2)、h2 = AND(NOT x1, x2)、y = OR(h1, h2) 实现 XOR。",
    ),
    equals(0.0),
)
def two_units(lab: Lab) -> Evidence:
    """Rows of the truth table that come out wrong, by threshold units and by Boolean operators."""
    a, b = CORNERS.astype(bool).T
    return All({
        "units": float((McCullochPitts(1)(hidden(CORNERS)) != XOR).sum()),
        "operators": float((((a & ~b) | (~a & b)) != XOR.astype(bool)).sum()),
    })  # fmt: skip


@question.exact(
    "C2.1.5-05",
    T(
        "In the space of the hidden units the point (0, 1) belongs to the negative class.",
        "在隐藏空间中，点 (0, 1) 属于负类。",
    ),
    equals(0.0),
    correction=T(
        "It is the image of the input (0, 1), whose XOR is {n[hidden map]:.0f}: positive, as (1, 0) is. "
        "Only (0, 0) is negative.",
        "它是输入 (0, 1) 的像，XOR 值为 {n[hidden map]:.0f}，与 (1, 0) 一样是正类；只有 (0, 0) 是负类。",
    ),
)
def marker(lab: Lab) -> Evidence:
    """The label of the inputs that the map sends to (0, 1); and the answer of the unit OR there."""
    images = hidden(CORNERS)
    there = (images == (0, 1)).all(axis=1)
    return Routes({
        "hidden map": float(XOR[there].mean()),
        "output unit": float(McCullochPitts(1)([0, 1])),
    })  # fmt: skip


@question.exact(
    "C2.1.5-06",
    T(
        "After the hidden layer the classes are linearly separable.",
        "经过隐藏层之后，两类线性可分。",
    ),
    equals(1.0),
)
def separable_after(lab: Lab) -> Evidence:
    """Whether there is a plane (1) or not (0) between the images of the corners."""
    return separable(hidden(CORNERS), XOR)


def trained(x: Any, y: Any) -> float:
    """1 where a perceptron written by hand gets all rows right within 1,000 epochs."""
    return float(learn(x, np.where(np.asarray(y) > 0, 1, -1)).converged)


@question.exact(
    "C2.1.5-07",
    T(
        "“(pedestrian or obstacle) and no ambulance” takes more than one layer.",
        "“（行人或障碍物）且没有救护车”需要不止一层。",
    ),
    equals(0.0),
    correction=T(
        "One unit does it, for instance with weights 1, 1, -2 and bias -0.5: it gets "
        "{n[weights 1 1 -2]:.0%} of the eight rows right.",
        "一个单元就能做到，例如权重 1、1、-2，偏置 -0.5：八行真值表答对 {n[weights 1 1 -2]:.0%}。",
    ),
    weight=2,
)
def ambulance(lab: Lab) -> Evidence:
    """Whether one unit suffices for the eight rows of the table (1) or not (0), three ways; and the
    share of rows that a unit with weights 1, 1, -2 and bias -0.5 gets right.
    """
    x = boolean_inputs(3)
    y = ((x[:, 0] | x[:, 1]) & ~x[:, 2].astype(bool)).astype(int)
    right = float(((x @ (1, 1, -2) - 0.5 > 0) == (y > 0)).mean())
    return Routes({**separable(x, y), "training": trained(x, y), "weights 1 1 -2": right})


@question.exact(
    "C2.1.5-08",
    T(
        "“pedestrian and green light” is a function of a single layer.",
        "“有行人且绿灯”单层即可实现。",
    ),
    equals(1.0),
)
def green_light(lab: Lab) -> Evidence:
    """Whether one unit suffices (1) or not (0), three ways."""
    return Routes({**separable(CORNERS, [0, 0, 0, 1]), "training": trained(CORNERS, [0, 0, 0, 1])})


@question.reference(
    "C2.1.5-09",
    T(
        "Minsky pointed out the limit in 1969, and that caused the AI winter.",
        "Minsky 于 1969 年指出这一局限，由此导致了人工智能寒冬。",
    ),
    correction=T(
        "Minsky and Papert's book is of 1969, and histories name it as the cause of the first "
        "decline of neural networks. The winter of the whole field in the 1970s had another cause: "
        "Lighthill's report, on which Britain stopped paying, blames the combinatorial explosion.",
        "Minsky 与 Papert 的书出版于 1969 年，史书把神经网络的第一次低谷归因于它。而 1970 年代整个人工"
        "智能的寒冬另有原因：英国据以停止资助的 Lighthill 报告归咎于组合爆炸。",
    ),
)
def winter(lab: Lab) -> Evidence:
    """The book's year, and the cause that a textbook's history names for the decline of neural
    networks; and the cause of disappointment that the report names on which a government stopped
    paying for the whole field, in its own text and in a textbook's history."""
    book = Source("Minsky & Papert, Perceptrons", 1969, 0.99)
    causes = (
        Source("Lighthill, Artificial Intelligence: A General Survey", 1973, 0.93),
        Source("Russell & Norvig, Artificial Intelligence: A Modern Approach, section 1.3", 2020, 0.95),
    )  # fmt: skip
    history = Source("Goodfellow, Bengio & Courville, Deep Learning, section 1.2.1", 2016, 0.93)
    limit = "the limit of the perceptron"
    return Settings(T("whose winter", "谁的寒冬"), {
        "neural networks": All({
            "year of the book": Check(Published(1969, (book,)), equals(1969)),
            "cause named": Published(limit, (history,), limit),
        }),
        "the whole field": Published("the combinatorial explosion", causes, limit),
    })  # fmt: skip


@once
def pockets(lab: Lab) -> dict[str, tuple[int, int]]:
    """For each function: fewest rows wrong over the epochs, and wrong at the end."""
    found = {}
    for name, values in boolean_functions().items():
        labels = np.where(np.array(values) > 0, 1, -1)
        unit = PocketPerceptron(max_epochs=lab.pick(1000, 100)).fit(CORNERS, labels)
        found[name] = (unit.errors, unit.last_errors)
    return found


def fewest_wrong(values: Any) -> int:
    """Fewest of the four rows that a line gets wrong: over whole weights and half thresholds."""
    grid = np.mgrid[-3:4, -3:4, -7:8].reshape(3, -1)
    fires = CORNERS @ grid[:2] + grid[2] + 0.5 > 0
    return int((fires != np.array(values)[:, None]).sum(axis=0).min())


@question.figure(T("All 16 functions of two bits", "两比特的全部 16 个函数"))
def sixteen(lab: Lab) -> Figure:
    """1,000 epochs of the perceptron on each: rows wrong at best and at the end."""
    chinese = {"false": "恒假", "true": "恒真"}
    names = [T(n, chinese.get(n, n.upper())) for n in pockets(lab)]
    best, last = np.array(list(pockets(lab).values())).T
    any_line = [fewest_wrong(values) for values in boolean_functions().values()]
    return Figure(
        Axis(T("function", "函数"), ticks=names),
        Axis(T("rows wrong of 4", "4 行中出错的行数")),
        [
            Bars(T("at the end", "训练结束时"), last),
            Bars(T("at best", "训练中最好时"), best),
            Bars(T("fewest any line can do", "任何直线的最少错误"), any_line),
        ],
        T(
            "Fourteen functions are learnt without error; XOR and XNOR never are. A line would get "
            "one row wrong; the perceptron's own lines do no better than two.",
            "14 个函数学到零错误；XOR 与 XNOR 始终学不会。直线最少可以只错一行，"
            "而感知机自己走到的直线至少错两行。",
        ),
        {"functions never learnt": float((best > 0).sum())},
    )


@question.figure(
    T("The four corners before and after the hidden layer", "四个角在隐藏层前后的位置")
)
def moved(lab: Lab) -> Figure:
    """Images of the corners under the two hidden units, with the line of the output unit."""
    images = hidden(CORNERS)
    answers = xor_network().double()(fathom.tensor(CORNERS.astype(float))).value()[:, 0]
    line = np.array([[-0.1, 0.6], [0.6, -0.1]])
    return Figure(
        Axis(T("h1 = x1 and not x2", "h1 = x1 且非 x2")),
        Axis(T("h2 = x2 and not x1", "h2 = x2 且非 x1")),
        [
            dots(T("XOR = 1", "XOR = 1"), images[XOR == 1]),
            dots(T("XOR = 0 (two corners)", "XOR = 0（两个角重合）"), images[XOR == 0]),
            Line(T("output unit: h1 + h2 = 0.5", "输出单元：h1 + h2 = 0.5"), *line.T),
        ],
        T(
            "(0, 0) and (1, 1) fall together at the origin, and a line cuts them off from (1, 0) and "
            "(0, 1).",
            "(0, 0) 与 (1, 1) 重合于原点，一条直线即可把它们与 (1, 0)、(0, 1) 分开。",
        ),
        {"rows wrong": float((answers != XOR).sum())},
    )
