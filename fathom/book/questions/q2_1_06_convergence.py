"""2.1.6 Linear separability, and what the perceptron convergence theorem promises."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Question, Routes, Sample,
    Settings, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.planes import Planted, learn, planted, separable
from fathom.models import (
    KernelPerceptron, Perceptron, PocketPerceptron, augment, boolean_inputs, linearly_separable,
    widest_margin,
)  # fmt: skip

question = Question(
    "2.1.6",
    title=T(
        "What is linear separability, and what does the perceptron convergence theorem promise?",
        "什么是线性可分？感知机收敛定理保证了什么？",
    ),
    difficulty=4,
    frequency=3,
    topics=(
        "linear separability",
        "novikoff",
        "pocket",
        "kernel perceptron",
        "cover's theorem",
        "线性可分",
        "收敛定理",
        "间隔",
    ),
    answer=T(
        "Two classes are linearly separable if some w and b give every sample the right sign; a linear "
        "program decides it, with a plane or with a point common to both convex hulls as the proof. "
        "Novikoff's theorem: if a unit vector w* separates with y w* . x >= gamma and ||x|| <= R, "
        "the perceptron makes at most (R / gamma)^2 mistakes, in any order and any dimension. Each "
        "mistake raises w . w* by gamma or more, and ||w||^2 by R^2 or less; the two "
        "together bound their number. This is about planes through the origin: with a learnt bias, R "
        "and gamma must be those of the augmented samples (1, x), else the bound is wrong. It "
        "promises a separating plane, not the widest, and says nothing about new data. Without "
        "separability the weights stay bounded but never rest; the pocket algorithm, averaging or "
        "a soft margin help, and so does a lift to more dimensions, where nearly everything "
        "becomes separable once there are about as many of them as samples.",
        "如果存在 w 和 b 使每个样本的符号都正确，两类就是线性可分的；线性规划即可判定，并给出证据："
        "一个分离平面，或一个同时属于两个凸包的点。Novikoff 定理：若单位向量 w* 满足 y w*·x ≥ γ，且 "
        "||x|| ≤ R，则感知机至多犯 (R/γ)² 次错，与样本顺序和维数无关。每次错误使 w·w* 至少增加 γ，"
        "使 ||w||² 至多增加 R²，两者合起来限定了次数。它说的是过原点的平面：如果学习偏置，R 和 γ 必须取"
        "增广样本 (1, x) 的值，否则这个界不成立。它只保证得到某个分离平面，不保证间隔最大，"
        "也不涉及新数据。不可分时权重有界但永不停止；可用口袋算法、平均化或软间隔，"
        "也可升维：维数接近样本数时，几乎任何标注都可分。",
    ),
    flips=T(
        "Give each sample more features than there are samples and any labels at all are separable, "
        "so separability says nothing about the data.",
        "如果特征数多于样本数，任何标签都线性可分，这时“可分”不再说明数据的任何性质。",
    ),
    analogy=T(
        "Two crowds on a square: separable if one straight rope can be laid between them; the wider "
        "the lane, the fewer tries it takes.",
        "广场上的两群人：如果能在中间拉一根直绳，就是可分的；通道越宽，试的次数越少。",
    ),
    generative=T(
        "Linear probes on thousands of features separate even shuffled labels if samples are few; "
        "compare with shuffled ones before you believe a probe.",
        "在数千维特征上，样本少时线性探针连打乱的标签也能分开；相信探针之前先与打乱标签对照。",
    ),
    classical=T(
        "Logistic regression without a penalty diverges on separable data: its weights grow for ever.",
        "无正则的逻辑回归在可分数据上发散：权重会无限增长。",
    ),
    driving=T(
        "Sensor data overlap; count on the soft margin and on calibrated scores, not on "
        "separability.",
        "传感器数据会重叠；应依靠软间隔与校准后的分数，而不是指望可分。",
    ),
    change=T(
        "Shrink the data towards the origin and keep a bias: the mistakes stay, the bound of the plain "
        "x stays, and the first exceeds the second.",
        "保留偏置，把数据向原点缩小：用原始 x 计算的界不变，错误次数却会超过它。",
    ),
)

CORNERS = boolean_inputs()
TWO_POINTS = np.array([[0.01], [-0.01]]), np.array([1, -1])
MARGINS = (0.02, 0.05, 0.1, 0.2)


@question.exact(
    "C2.1.6-01",
    T(
        "AND is separable with one positive corner, OR with three; XOR is not separable.",
        "AND 可分，有一个正角；OR 可分，有三个正角；XOR 不可分。",
    ),
    equals(1.0),
)
def three_gates(lab: Lab) -> Evidence:
    """Separable (1) or not (0), by a linear program and by a search; and positive corners."""
    return All({
        "AND": separable(CORNERS, [0, 0, 0, 1]),
        "OR": separable(CORNERS, [0, 1, 1, 1]),
        "XOR": Check(separable(CORNERS, [0, 1, 1, 0]), equals(0.0)),
        "AND, positive corners": float((CORNERS.sum(axis=1) == 2).sum()),
        "OR, positive corners": Check(float((CORNERS.sum(axis=1) >= 1).sum()), equals(3.0)),
    })  # fmt: skip


@once
def one_digit(lab: Lab, cells: int) -> dict[str, float]:
    """Share of the ten problems "one digit or another" that a plane separates, by two proofs.

    The pixels are averaged over blocks to cells x cells. A plane counts where every row lies on
    its side; otherwise the mix of rows must prove that the classes overlap.
    """
    data = fathom.data.load("digits")
    block = 8 // cells
    x = data.x.reshape(-1, cells, block, cells, block).mean(axis=(2, 4)).reshape(len(data.x), -1)
    rows, y = x.astype(np.float64)[: lab.pick(len(x), 400)], np.asarray(data.y)
    said, checked = [], []
    for digit in range(10):
        signs = np.where(y[: len(rows)] == digit, 1.0, -1.0)
        found = linearly_separable(rows, signs)
        said.append(found.separable)
        if found.separable:
            checked.append(bool((signs * (rows @ found.weights + found.bias) > 0).all()))
        else:
            mixed = (found.overlap * signs) @ augment(rows)
            checked.append(not np.abs(mixed).max() < 1e-6)
    return {"linear program": float(np.mean(said)), "proofs checked": float(np.mean(checked))}


@question.unmeasurable(
    "C2.1.6-02", T("ImageNet is not linearly separable.", "ImageNet 不是线性可分的。")
)
def imagenet(lab: Lab) -> Evidence:
    """ImageNet is not here; shown is what Cover's counting says of its size, and small images."""
    return NotMeasurable(
        T(
            "1.28 million images and a linear program over 150,528 pixels (224 x 224 x 3); by "
            "counting alone random labels would be inseparable above 2 samples a pixel.",
            "需要 128 万张图像和 150,528 个像素（224×224×3）上的线性规划；仅从计数看，"
            "每个像素超过 2 个样本时随机标签就不可分。",
        ),
        {
            "samples a pixel": 1_281_167 / (224 * 224 * 3),
            "8 x 8 digits, share separable from the rest": one_digit(lab, 8)["linear program"],
        },
    )


@once
def scaled(lab: Lab, scale: float) -> dict[str, Any]:
    """Mistakes with a bias over (R/gamma)^2, R and gamma once of x alone, once of (1, x)."""
    plain, augmented = [], []
    for seed in lab.seeds(12, 4):
        data = planted(np.random.default_rng(seed), 30, 2, 0.2, b=0.4)
        x = scale * data.x
        unit = Perceptron(max_epochs=10**5).fit(x, data.y)
        gamma = float((data.y * (x @ data.w + scale * data.b)).min())
        plain.append(unit.mistakes * gamma**2 / float(np.square(x).sum(axis=1).max()))
        augmented.append(unit.mistakes / unit.bound(x, data.y).value)
    return {"plain": np.array(plain), "augmented": np.array(augmented)}


@question.experiment(
    "C2.1.6-03",
    T(
        "With a bias learnt apart, R = max ||x|| and ||w*|| = 1, the mistakes are at most (R/gamma)^2.",
        "偏置单独学习，取 R = max||x||、||w*|| = 1 时，错误次数不超过 (R/γ)²。",
    ),
    at_most(1.0),
    correction=T(
        "On the two points ±0.01 it makes {n[two points, by hand]:.0f} times as many mistakes as that, "
        "and {n[random sets, shrunk]:.0f} times on random sets shrunk to a twentieth; R and gamma "
        "must be those of (1, x).",
        "在 ±0.01 两个点上，错误次数是该界的 {n[two points, by hand]:.0f} 倍；在缩小到二十分之一的随机"
        "数据上是 {n[random sets, shrunk]:.0f} 倍。R 与 γ 必须取增广样本 (1, x) 的值。",
    ),
    weight=2,
)
def plain_bound(lab: Lab) -> Evidence:
    """Mistakes over the bound: x = 0.01, -0.01 with labels 1, -1, where R = gamma = 0.01; and
    random sets around planes with a bias, scaled to 0.05 (gamma that of the plane planted).
    """
    x, y = TWO_POINTS
    return Routes({
        "two points, by hand": float(len(learn(x, y).wrong)) / (0.01 / 0.01) ** 2,
        "two points, library": float(Perceptron().fit(x, y).mistakes),
        "random sets, shrunk": Sample(scaled(lab, 0.05)["plain"]),
    })  # fmt: skip


@once
def within_bound(lab: Lab) -> dict[str, float]:
    """Largest mistakes / bound: 150 sets without a bias, by hand; 150 augmented, by the library."""
    plain, augmented = [], []
    for seed in lab.seeds(150, 30):
        rng = np.random.default_rng(seed)
        margin, place = float(rng.uniform(0.01, 0.2)), float(rng.uniform(-0.4, 0.4))
        data = planted(rng, 40, 4, margin)
        gamma = widest_margin(data.x, data.y)[1]
        limit = np.square(data.x).sum(axis=1).max() / gamma**2
        plain.append(len(learn(data.x, data.y, bias=False, epochs=10**6).wrong) / limit)
        data = planted(rng, 40, 4, margin, b=place)
        unit = Perceptron(max_epochs=10**6).fit(data.x, data.y)
        augmented.append(unit.mistakes / unit.bound(data.x, data.y).value)
    return {"no bias": max(plain), "augmented": max(augmented)}


@question.exact(
    "C2.1.6-04",
    T(
        "Without a bias, or with augmented inputs, the mistakes are at most (R/gamma)^2.",
        "没有偏置，或使用增广输入时，错误次数不超过 (R/γ)²。",
    ),
    at_most(1.0),
)
def right_bound(lab: Lab) -> Evidence:
    """Largest ratio of mistakes to the bound over 300 random separable sets in 4 dimensions."""
    return All(within_bound(lab))


@once
def mistakes_at(lab: Lab, margin: float) -> Any:
    """Mistakes on 60 random sets of 100 rows in 5 dimensions, without a bias."""
    return np.array([
        len(learn(*planted(np.random.default_rng(s), 100, 5, margin)[:2], bias=False,
                  epochs=10**5).wrong)
        for s in lab.seeds(60, 24)
    ])  # fmt: skip


@question.experiment(
    "C2.1.6-05",
    T(
        "A larger margin means faster convergence (the bound goes with 1/gamma^2).",
        "间隔越大收敛越快（界与 1/γ² 成正比）。",
    ),
    at_least(1.0),
)
def margin_helps(lab: Lab) -> Evidence:
    """Mistakes saved, on the mean, by the next wider of the planted margins 0.02, 0.05, 0.1, 0.2."""
    return All({
        f"{a:g} to {b:g}": Sample(mistakes_at(lab, a) - mistakes_at(lab, b))
        for a, b in pairwise(MARGINS)
    })  # fmt: skip


@once
def mistakes_stretched(lab: Lab, factor: float) -> Any:
    """Mistakes with all that lies across w* stretched: the margin stays, R grows; no bias."""
    counts = []
    for seed in lab.seeds(60, 12):
        data = planted(np.random.default_rng(seed), 40, 2, 0.1)
        along = np.outer(data.x @ data.w, data.w)
        x = along + factor * (data.x - along)
        counts.append(len(learn(x, data.y, bias=False, epochs=10**5).wrong))
    return np.array(counts)


@question.experiment(
    "C2.1.6-06",
    T(
        "Data of a larger range may need more steps.",
        "数据范围更大时可能需要更多步。",
    ),
    at_least(1.0),
)
def range_hurts(lab: Lab) -> Evidence:
    """Additional mistakes where all that lies across w* is stretched 3 and 10 times, gamma kept."""
    plain = mistakes_stretched(lab, 1.0)
    return All({
        f"{k:g} times": Sample(mistakes_stretched(lab, k) - plain) for k in (3.0, 10.0)
    })  # fmt: skip


@question.exact(
    "C2.1.6-07",
    T(
        "In the proof, ||w||^2 <= (R/gamma)^2 ||w*||^2.",
        "证明中的一步：||w||² ≤ (R/γ)² ||w*||²。",
    ),
    at_most(1.0),
    correction=T(
        "One update on x = (10, 0) makes the left side {n[by hand]:.0f} times the right one. What "
        "holds after N mistakes is ||w||^2 <= N R^2.",
        "在 x = (10, 0) 上更新一次，左边就是右边的 {n[by hand]:.0f} 倍。成立的是：N 次错误后 ||w||² ≤ N R²。",
    ),
)
def sketch(lab: Lab) -> Evidence:
    """||w||^2 over (R/gamma)^2 after one mistake on x = (10, 0), y = 1: R = gamma = 10, w* = (1, 0)."""
    x, y = np.array([[10.0, 0.0]]), np.array([1])
    w = learn(x, y, bias=False).w
    unit = Perceptron(fit_intercept=False).fit(x, y)
    limit = unit.bound(x, y, augmented=False).value
    return Routes({
        "by hand": float(w @ w) / (10.0 / 10.0) ** 2,
        "library": float(unit.weights @ unit.weights) / limit,
    })  # fmt: skip


@question.exact(
    "C2.1.6-08",
    T(
        "Each update raises w . w* by gamma or more, where gamma is the margin of the plane with b*.",
        "每次更新使 w·w* 至少增加 γ，其中 γ 是含 b* 的平面的间隔。",
    ),
    at_least(1.0),
    correction=T(
        "With b* other than 0 it may fall: on the points 1 and 3 one update changes it by "
        "{n[by hand]:.0f} gamma. What rises by gamma or more is w . w* + b b*.",
        "b* 不为 0 时它可能下降：在点 1 与 3 上一次更新的变化是 {n[by hand]:.0f} γ。"
        "至少增加 γ 的是 w·w* + b b*。",
    ),
)
def progress(lab: Lab) -> Evidence:
    """Least change of w . w* in units of gamma: points 1 (-) and 3 (+), w* = 1, b* = -2, gamma 1."""
    x, y = np.array([[1.0], [3.0]]), np.array([-1, 1])
    ours = np.array(Perceptron().fit(x, y).trajectory)
    return Routes({
        "by hand": float(np.diff(learn(x, y).path[:, 1]).min()),
        "library": float(np.diff(ours[:, 1]).min()),
    })  # fmt: skip


@once
def growth(lab: Lab, bias: str) -> float:
    """Largest growth of ||w||^2 in one mistake, over R^2; bias "none", "augmented" or "apart"."""
    largest = 0.0
    for seed in lab.seeds(60, 15):
        data = planted(np.random.default_rng(seed), 40, 2, 0.03, b=0.0 if bias == "none" else 0.4)
        path = learn(data.x, data.y, bias=bias != "none").path
        rows = augment(data.x)
        if bias != "augmented":
            path, rows = path[:, 1:], data.x
        squares = np.square(path).sum(axis=1)
        largest = max(largest, float(np.diff(squares).max() / np.square(rows).sum(axis=1).max()))
    return largest


@question.exact(
    "C2.1.6-09",
    T(
        "Each mistake raises ||w||^2 by R^2 at most, so ||w||^2 <= N R^2 after N.",
        "每次错误使 ||w||² 至多增加 R²，因此 N 次之后 ||w||² ≤ N R²。",
    ),
    at_most(1.0 + 1e-9),
    correction=T(
        "So it is without a bias, or with the bias among the weights and R that of (1, x). With a "
        "bias learnt apart and the plain R, one mistake may add {n[learnt apart, plain R]:.2f} R^2.",
        "没有偏置，或把偏置算入权重、R 取 (1, x) 的范数时成立。偏置单独学习、R 取 max||x|| 时，"
        "一次错误可使 ||w||² 增加 {n[learnt apart, plain R]:.2f} R²。",
    ),
)
def norm_grows(lab: Lab) -> Evidence:
    """Largest growth in one mistake over R^2, in 60 runs from zero for each way to treat the bias."""
    return Settings(
        T("bias", "偏置"),
        {
            "none": growth(lab, "none"),
            "one of the weights": growth(lab, "augmented"),
            "learnt apart, plain R": growth(lab, "apart"),
        },
    )


@once
def wandering(lab: Lab, data: str) -> dict[str, float]:
    """A perceptron on data that no plane separates: does it stop, return, and stay bounded?"""
    x, y = CORNERS.astype(float), np.array([-1, 1, 1, -1])
    if data != "XOR":
        rng = lab.rng("overlap")
        y = np.where(np.arange(30) % 2, 1, -1)
        x = rng.normal(size=(30, 2)) + 0.5 * y[:, None]
    state, seen, sizes, stops = np.zeros(3), set(), [], 0
    back = 0.0
    for _ in range(lab.pick(2000, 200)):
        run = learn(x, y, start=state, epochs=1)
        state = np.append(run.b, run.w)
        stops += run.converged
        back = max(back, float(state.tobytes() in seen))
        seen.add(state.tobytes())
        sizes.append(float(np.linalg.norm(state)))
    half = len(sizes) // 2
    return {"stops": float(stops), "returns": back, "grows": max(sizes[half:]) / max(sizes[:half])}


@question.exact(
    "C2.1.6-10",
    T(
        "On inseparable data the perceptron never stops, and its weights cycle.",
        "在不可分数据上感知机永不停止，权重循环往复。",
    ),
    equals(1.0),
    correction=T(
        "It never stops, and the weights stay bounded. They return exactly to where they were on XOR, "
        "whose inputs are whole numbers; on real-valued data they wander without repeating.",
        "它永不停止，权重保持有界。XOR 的输入是整数，权重会精确回到原处；在实数数据上权重游走而不重复。",
    ),
)
def never_rests(lab: Lab) -> Evidence:
    """Epoch by epoch for 2,000 epochs: whether a state returns (1), epochs without a mistake, and
    the largest weights of the second half over those of the first.
    """

    def parts(data: str) -> All:
        found = wandering(lab, data)
        return All({
            "returns": found["returns"],
            "epochs without a mistake": Check(found["stops"], equals(0.0)),
            "growth": Check(found["grows"], at_most(1.5)),
        })  # fmt: skip

    return Settings(T("data", "数据"), {"XOR": parts("XOR"), "overlapping clouds": parts("clouds")})


@once
def pocketed(lab: Lab) -> Any:
    """Shares of 200 training rows that the pocket and the last weights get wrong, a seed a row."""
    wrong = []
    for seed in lab.seeds(30, 8):
        rng = np.random.default_rng(seed)
        y = np.where(np.arange(200) % 2, 1, -1)
        x = rng.normal(size=(200, 2)) + 0.8 * y[:, None]
        unit = PocketPerceptron(max_epochs=lab.pick(20, 8)).fit(x, y)
        wrong.append([unit.errors / 200, unit.last_errors / 200])
    return np.array(wrong)


@question.experiment(
    "C2.1.6-11",
    T(
        "The pocket algorithm keeps the best weights met and puts up with errors.",
        "口袋算法保留见过的最好权重，并容忍错误。",
    ),
    at_least(0.01),
)
def pocket(lab: Lab) -> Evidence:
    """Share of training rows, overlapping clouds, that the last weights get wrong less the pocket's;
    the least difference of any seed, which may not be below 0; and the pocket's errors left.
    """
    best, last = pocketed(lab).T
    return All({
        "errors saved": Sample(last - best),
        "least saved": Check(float((last - best).min()), at_least(0.0)),
        "errors left": Sample(best),
    })  # fmt: skip


@question.exact(
    "C2.1.6-12",
    T(
        "A kernel perceptron solves inseparable sets by lifting the space.",
        "核感知机通过升维可以解决不可分的数据集。",
    ),
    equals(1.0),
)
def lifted(lab: Lab) -> Evidence:
    """Share of rows right: XOR by a polynomial kernel of degree 2, rings by a Gaussian one; and
    whether a plane separates XOR among (x1, x2, x1 x2), by a linear program.
    """
    xor, rings = np.array([0, 1, 1, 0]), fathom.data.load("circles", n=120, seed=0)
    x, y = rings.x.astype(np.float64), np.asarray(rings.y)
    wide = np.column_stack([CORNERS, CORNERS.prod(axis=1)])
    return All({
        "XOR, polynomial": KernelPerceptron("poly", degree=2).fit(CORNERS, xor).score(CORNERS, xor),
        "rings, Gaussian": KernelPerceptron("rbf", gamma=2.0).fit(x, y).score(x, y),
        "XOR with x1 x2": float(bool(linearly_separable(wide, xor))),
        "rings, plane": Check(float(bool(linearly_separable(x, y))), equals(0.0)),
    })  # fmt: skip


@question.exact(
    "C2.1.6-13",
    T(
        "Real image, speech and text data are practically never linearly separable.",
        "真实的图像、语音和文本数据几乎从不线性可分。",
    ),
    at_most(0.1),
    correction=T(
        "It depends on the number of features: {n[64 pixels/linear program]:.0%} of the handwritten "
        "digits are separable from the other nine at 64 pixels, {n[16 pixels/linear program]:.0%} at "
        "16, and {n[4 pixels/linear program]:.0%} at 4.",
        "取决于特征数：64 像素时有 {n[64 pixels/linear program]:.0%} 的手写数字可与其余九个线性分开，"
        "16 像素时 {n[16 pixels/linear program]:.0%}，4 像素时 {n[4 pixels/linear program]:.0%}。",
    ),
    weight=3,
)
def real_data(lab: Lab) -> Evidence:
    """Share of the ten problems "one digit or another" (1,797 scans of handwriting) that a plane
    separates, at three resolutions; each answer proved by its plane or by an overlap.
    """
    return Settings(
        T("features", "特征数"),
        {f"{c * c} pixels": Routes(one_digit(lab, c)) for c in (8, 4, 2)},
    )


@question.figure(T("Mistakes against the bound, by margin", "错误次数与界随间隔的变化"))
def by_margin(lab: Lab) -> Figure:
    """60 random sets a margin: mistakes without a bias, and (R/gamma)^2 with each set's own gamma."""
    counts = [Sample(mistakes_at(lab, m)) for m in MARGINS]
    limits = []
    for margin in MARGINS:
        sets = [planted(np.random.default_rng(s), 100, 5, margin) for s in lab.seeds(60, 12)]
        limits.append(np.mean([limit_of(data) for data in sets]))
    slope = np.polyfit(np.log(MARGINS), np.log([c.mean for c in counts]), 1)[0]
    return Figure(
        Axis(T("planted margin", "设定的间隔"), log=True),
        Axis(T("mistakes", "错误次数"), log=True),
        [
            Line(T("perceptron", "感知机"), MARGINS, *band(counts)),
            Line(T("bound (R/gamma)^2", "界 (R/γ)²"), MARGINS, limits),
        ],
        T(
            "Mistakes fall with the margin, far below the bound and less steeply than 1/gamma^2.",
            "错误次数随间隔增大而减少，远低于界，下降也比 1/γ² 平缓。",
        ),
        {"slope of the mistakes, log-log": float(slope)},
    )  # fmt: skip


def limit_of(data: Planted) -> float:
    """(R / gamma)^2 of the widest plane through the origin."""
    return float(np.square(data.x).sum(axis=1).max()) / widest_margin(data.x, data.y)[1] ** 2


@question.figure(T("Two bounds for a perceptron with bias", "带偏置感知机的两种界"))
def by_scale(lab: Lab) -> Figure:
    """The same 12 sets shrunk towards the origin: mistakes over the bound of x, and of (1, x)."""
    scales = np.geomspace(0.05, 5.0, 7)
    names = {
        "plain": T("R, gamma of x", "取 x 的 R 与 γ"), "augmented": T("of (1, x)", "取 (1, x) 的")
    }  # fmt: skip
    ratios = {kind: [Sample(scaled(lab, float(s))[kind]) for s in scales] for kind in names}
    return Figure(
        Axis(T("scale of the data", "数据的尺度"), log=True),
        Axis(T("mistakes / bound", "错误次数 / 界"), log=True),
        [
            *(Line(names[a], scales, *band(found_at)) for a, found_at in ratios.items()),
            Level(T("the bound", "界"), y=1.0),
        ],
        T(
            "Small data with a learnt bias break the bound computed from x; that of the augmented "
            "samples holds at every scale.",
            "数据尺度小且学习偏置时，由 x 算出的界被突破；增广样本的界在任何尺度上都成立。",
        ),
    )  # fmt: skip


def cover(rows: int, weights: int) -> float:
    """Share of labellings of rows in general position that a plane separates (Cover, 1965)."""
    return float(sum(comb(rows - 1, k) for k in range(weights)) / 2.0 ** (rows - 1))


@question.figure(T("Random labels: when a plane separates them", "随机标签何时可分"))
def counting(lab: Lab) -> Figure:
    """Normal rows with coin-toss labels: share of 40 sets that a linear program separates."""
    lines, trials = [], lab.pick(40, 10)
    for inputs, words in ((5, T("5 inputs", "5 个输入")), (20, T("20 inputs", "20 个输入"))):
        rng, weights = lab.rng(f"labels {inputs}"), inputs + 1
        ratios = np.array([0.5, 1.0, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 4.0])
        rows = np.maximum(2, np.round(ratios * weights)).astype(int)
        draw = partial(_coin_toss, rng, inputs)
        shares = [np.mean([draw(n) for _ in range(trials)]) for n in rows]
        told = T(f"{words.en}, theory", f"{words.zh}，理论值")
        lines += [
            Line(words, rows / weights, shares, points=True),
            Line(told, rows / weights, [cover(int(n), weights) for n in rows]),
        ]
    return Figure(
        Axis(T("samples a weight", "每个权重的样本数")),
        Axis(T("share separable", "可分的比例")),
        [*lines, Level(T("capacity", "容量"), x=2.0)],
        T(
            "With fewer samples than weights any labels are separable; near two a weight it drops, the "
            "more sharply the more inputs.",
            "样本少于权重时任何标签都可分；每个权重约两个样本时比例骤降，输入越多降得越陡。",
        ),
    )


def _coin_toss(rng: np.random.Generator, inputs: int, rows: int) -> bool:
    x, y = rng.normal(size=(rows, inputs)), rng.integers(0, 2, rows)
    return len(set(y.tolist())) < 2 or bool(linearly_separable(x, y))
