"""2.1.3 The perceptron: what it is made of and how it works."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample, Settings,
    Source, T, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.planes import Planted, dots, learn, planted
from fathom.models import Perceptron, boolean_functions, boolean_inputs, linearly_separable

question = Question(
    "2.1.3",
    title=T(
        "What is a perceptron, structurally and operationally?",
        "感知机的结构和工作原理是什么？",
    ),
    difficulty=2,
    frequency=5,
    topics=("perceptron", "decision boundary", "hyperplane", "感知机", "决策边界", "超平面"),
    answer=T(
        "A perceptron is one threshold unit: it predicts the sign of w . x + b. Its boundary is "
        "the hyperplane w . x + b = 0, with w as the normal and the signed distance -b/||w|| from "
        "the origin, so both w and b decide where it lies. It learns only from mistakes: at each "
        "one, w += eta y x and b += eta y for labels -1 and 1. Written with (y - prediction) it "
        "is the same for labels 0 and 1, and twice the step for labels -1 and 1. From zero "
        "weights the learning rate has no influence on any prediction. If a hyperplane separates the "
        "classes it finds one after finitely many mistakes, though any one and not the widest; "
        "if none does, it never comes to rest.",
        "感知机是单个阈值单元：预测 w·x + b 的符号。决策边界是超平面 w·x + b = 0，w 是法向量，"
        "到原点的有向距离为 -b/||w||，因此位置由 w 和 b 共同决定。它只从错误中学习：标签取 ±1 时，"
        "每犯一次错就做 w += ηyx、b += ηy。写成 (y - 预测值) 的形式，标签取 0/1 时两者相同，"
        "取 ±1 时步长是两倍。从零权重出发，学习率不影响任何一次预测。"
        "如果存在分开两类的超平面，它在有限次错误之后就能找到一个，但不一定是间隔最大的；"
        "如果不存在，它永远不会停下来。",
    ),
    flips=T(
        "A single unit whose activation is not monotone (a bump) does separate some classes that no "
        "plane separates.",
        "如果激活函数不单调（例如钟形），单个单元也能分开某些超平面分不开的类别。",
    ),
    analogy=T(
        "A fence across a field, moved only when a sheep is found on the wrong side.",
        "横穿田野的一道栅栏：只有发现羊站错了边才挪动。",
    ),
    generative=T(
        "Linear probes of a language model's activations are perceptrons with a kinder loss.",
        "对语言模型激活做的线性探针，就是换了更温和损失的感知机。",
    ),
    classical=T(
        "It is the ancestor of logistic regression and of the support vector machine, which pick "
        "one plane among all that separate.",
        "它是逻辑回归和支持向量机的前身；后两者在所有可分平面中选出特定的一个。",
    ),
    driving=T(
        "Cheap online correction: a rule that changes only on errors suits a device that must "
        "learn while it runs.",
        "廉价的在线修正：只在出错时更新的规则，适合边运行边学习的设备。",
    ),
    change=T(
        "Move the classes closer together: the number of corrections grows, until it does not end.",
        "让两类靠近：修正次数增多，直到永不停止。",
    ),
)


@question.reference(
    "C2.1.3-01",
    T("Rosenblatt proposed the perceptron in 1958.", "感知机由 Rosenblatt 于 1958 年提出。"),
    equals(1958),
    correction=T(
        "The article in Psychological Review is of 1958; the technical report that proposed it, "
        "of January 1957.",
        "《心理学评论》上的论文发表于 1958 年；首次提出它的技术报告则在 1957 年 1 月。",
    ),
)
def proposed(lab: Lab) -> Evidence:
    """The years of the two publications."""
    article = Source(
        "Rosenblatt, The Perceptron: A Probabilistic Model, Psychol. Review 65", 1958, 0.99
    )
    report = Source(
        "Rosenblatt, The Perceptron, Cornell Aeronautical Lab. report 85-460-1", 1957, 0.97
    )
    return Settings(
        T("publication", "出版物"),
        {
            "journal article": Published(1958, (article,)),
            "technical report": Published(1957, (report,)),
        },
    )  # fmt: skip


def crossings(unit: Any, x: Any) -> Any:
    """Points of the boundary, (n, d): by bisection between samples that get different answers."""
    says = unit.decision_function(x) > 0
    above, below = x[says][:6], x[~says][:6]
    low = np.zeros((len(below), len(above), 1))
    high = np.ones_like(low)
    for _ in range(60):
        middle = (low + high) / 2
        points = below[:, None] + middle * (above - below[:, None])
        fires = (unit.decision_function(points) > 0)[..., None]
        low, high = np.where(fires, low, middle), np.where(fires, middle, high)
    return (below[:, None] + high * (above - below[:, None])).reshape(-1, x.shape[1])


@question.exact(
    "C2.1.3-02",
    T("The weight vector is the normal of the boundary.", "权重向量是决策超平面的法向量。"),
    at_most(1e-10),
)
def normal(lab: Lab) -> Evidence:
    """Largest |cosine| of w and the difference of two boundary points, 50 learnt planes in 4
    dimensions; the points are found by bisection between samples of both classes.
    """
    largest = 0.0
    for seed in lab.seeds(50, 10):
        data = planted(np.random.default_rng(seed), 40, 4, 0.1)
        unit = Perceptron().fit(data.x, data.y)
        edge = crossings(unit, data.x)
        apart = edge[1:] - edge[0]
        apart = apart[np.linalg.norm(apart, axis=1) > 1e-3]
        cosine = apart @ unit.weights / np.linalg.norm(apart, axis=1) / np.linalg.norm(unit.weights)
        largest = max(largest, float(np.abs(cosine).max()))
    return largest


def nearest(w: Any, b: float) -> float:
    """Distance of the line w . x + b = 0 from the origin: the shortest over directions, searched."""
    angles = np.linspace(0, 2 * np.pi, 200_001)
    along = np.cos(angles) * w[0] + np.sin(angles) * w[1]
    with np.errstate(divide="ignore"):
        reach = -b / along
    return float(reach[reach > 0].min())


@question.exact(
    "C2.1.3-03",
    T(
        "The bias alone fixes how far the hyperplane is from the origin.",
        "超平面到原点的距离只由偏置决定。",
    ),
    equals(1.0, 1e-3),
    correction=T(
        "The distance is |b|/||w||: with the same bias and w twice as long it is "
        "{n[|b| / ||w||]:.2f} of what it was.",
        "距离是 |b|/||w||：偏置不变、w 加长一倍时，距离变为原来的 {n[|b| / ||w||]:.2f} 倍。",
    ),
    weight=2,
)
def distance(lab: Lab) -> Evidence:
    """The distance with w doubled over that with w, b kept: by the formula and by searching."""
    w, b = np.array([0.6, -1.1]), 0.7
    return Routes({
        "|b| / ||w||": (abs(b) / np.linalg.norm(2 * w)) / (abs(b) / np.linalg.norm(w)),
        "nearest boundary point": nearest(2 * w, b) / nearest(w, b),
    })  # fmt: skip


def same_mistakes(lab: Lab, levels: tuple[int, int], from_zero: bool) -> Sample:
    """1 for each seed on which both forms err on the same rows in the same order."""
    same = []
    for seed in lab.seeds(60, 12):
        rng = np.random.default_rng(seed)
        data = planted(rng, 40, 2, 0.05)
        start = None if from_zero else rng.normal(size=3)
        runs = [
            learn(data.x, data.y, start=start, difference=form, levels=levels, epochs=300)
            for form in (False, True)
        ]
        same.append(float(runs[0].wrong == runs[1].wrong))
    return Sample(same)


@question.experiment(
    "C2.1.3-04",
    T(
        "The update eta (y - prediction) x is the same algorithm as eta y x.",
        "更新 η(y - 预测值)x 与 ηyx 是同一个算法。",
    ),
    equals(1.0),
    correction=T(
        "With labels 0 and 1, or from zero weights, both make the same mistakes. With labels -1 and 1 "
        "the first form takes twice the step, and from other starts the two part: the same mistakes in "
        "{n[labels -1, 1, random start]:.0%} of the runs.",
        "标签取 0/1，或从零权重出发时，两者犯的错完全相同。标签取 ±1 时前一种形式步长加倍，"
        "从其他起点出发就会分道扬镳：犯错序列相同的只占 {n[labels -1, 1, random start]:.0%}。",
    ),
)
def two_forms(lab: Lab) -> Evidence:
    """Share of 60 separable sets on which both forms correct the same rows in the same order."""
    return Settings(
        T("labels and start", "标签与起点"),
        {
            "labels 0, 1, random start": same_mistakes(lab, (0, 1), False),
            "labels -1, 1, zero start": same_mistakes(lab, (-1, 1), True),
            "labels -1, 1, random start": same_mistakes(lab, (-1, 1), False),
        },
    )


@question.exact(
    "C2.1.3-05",
    T(
        "A single layer can solve only linearly separable problems.",
        "单层感知机只能解决线性可分的问题。",
    ),
    equals(0.0),
    weight=2,
)
def only_separable(lab: Lab) -> Evidence:
    """Of the 16 functions of two bits: those where a linear program and 1,000 epochs of training
    disagree, by the library's perceptron and by one written apart.
    """
    inputs, apart = boolean_inputs(), {"library": 0, "by hand": 0}
    for values in boolean_functions().values():
        possible = bool(linearly_separable(inputs, values))
        labels = np.where(np.array(values) > 0, 1, -1)
        epochs = lab.pick(1000, 100)
        apart["library"] += Perceptron(max_epochs=epochs).fit(inputs, labels).converged != possible
        apart["by hand"] += learn(inputs, labels, epochs=epochs).converged != possible
    return All({name: float(count) for name, count in apart.items()})


@once
def learnt(lab: Lab, margin: float) -> list[tuple[Planted, Perceptron]]:
    """Perceptrons on random separable sets of 40 rows, 75 for each margin."""
    found = []
    for seed in lab.seeds(75, 10):
        data = planted(np.random.default_rng(seed), 40, 3, margin, b=0.2)
        found.append((data, Perceptron(max_epochs=20_000).fit(data.x, data.y)))
    return found


MARGINS = (0.02, 0.05, 0.1, 0.2)


@question.experiment(
    "C2.1.3-06",
    T(
        "If the classes are linearly separable, convergence is guaranteed.",
        "数据线性可分时保证收敛。",
    ),
    equals(1.0),
    weight=2,
)
def converges(lab: Lab) -> Evidence:
    """Share of 300 random separable sets learnt without error (75 at each of four margins), by
    the library; and whether its weights do get all rows right.
    """
    runs = [run for margin in MARGINS for run in learnt(lab, margin)]
    return All({
        "stopped": float(np.mean([unit.converged for _, unit in runs])),
        "no row wrong": float(np.mean([unit.score(d.x, d.y) == 1.0 for d, unit in runs])),
    })  # fmt: skip


@question.figure(T("The learnt line on 200 points", "200 个点上学到的直线"))
def boundary(lab: Lab) -> Figure:
    """A perceptron on 200 separable points; its line, and its distance from the origin two ways."""
    data = planted(lab.rng("points"), 200, 2, 0.08, b=0.3)
    unit = Perceptron(max_epochs=20_000).fit(data.x, data.y)
    w, b = unit.weights, unit.bias
    foot, along = -b * w / (w @ w), np.array([-w[1], w[0]]) / np.linalg.norm(w)
    line = foot + np.array([[-1.0], [1.0]]) * along
    arrow = np.stack([np.zeros(2), foot])
    return Figure(
        Axis(T("x1", "x1")),
        Axis(T("x2", "x2")),
        [
            dots(T("class +1", "正类"), data.x[data.y > 0]),
            dots(T("class -1", "负类"), data.x[data.y < 0]),
            Line(T("w . x + b = 0", "w·x + b = 0"), *line.T),
            Line(T("from the origin along w", "从原点沿 w 方向"), *arrow.T),
        ],
        T(
            "The line separates the classes; the segment from the origin meets it at a right angle, "
            "at the distance |b|/||w||.",
            "直线把两类分开；从原点出发的线段与它垂直相交，长度为 |b|/||w||。",
        ),
        {"|b| / ||w||": abs(b) / float(np.linalg.norm(w)), "searched distance": nearest(w, b)},
    )


@question.figure(T("Corrections by epoch", "每轮的修正次数"))
def corrections(lab: Lab) -> Figure:
    """Mistakes of each epoch on random separable sets, for four margins; mean over the sets."""
    epochs, lines = np.arange(1, 13), []
    for margin in MARGINS:
        counts = np.zeros((len(learnt(lab, margin)), len(epochs)))
        for row, (_, unit) in zip(counts, learnt(lab, margin), strict=True):
            row[: len(unit.history)] = unit.history[: len(epochs)]
        means = [Sample(column) for column in counts.T]
        lines.append(Line(T(f"margin {margin:g}", f"间隔 {margin:g}"), epochs, *band(means)))
    return Figure(
        Axis(T("epoch", "轮次")),
        Axis(T("corrections", "修正次数")),
        [*lines, Level(T("done", "完成"), y=0.0)],
        T(
            "The corrections die out on every separable set, sooner the wider the margin.",
            "在每个可分数据集上修正次数都归零，间隔越大越快。",
        ),
    )
