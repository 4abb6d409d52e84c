"""3.3.9 Why softmax is a distribution, and what else it is."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Question, Routes, T, at_least, at_most,
    equals, once,
)  # fmt: skip
from fathom.book.material.calculus import root
from fathom.book.material.softmaxes import entropy, exactly, library, shifted

question = Question(
    "3.3.9",
    title=T(
        "Why does softmax give a probability distribution, and which properties does it have?",
        "softmax 为什么给出概率分布？它有哪些性质？",
    ),
    difficulty=3,
    frequency=4,
    topics=("softmax", "max-entropy", "jacobian", "最大熵", "雅可比矩阵", "平移不变性"),
    answer=T(
        "The exponential makes every score positive, the division by the sum makes them add to "
        "1: that is all a distribution takes. Adding a constant to all scores changes nothing, "
        "so only differences count and one degree of freedom is lost. The Jacobian is ds_i/dz_j "
        "= s_i (delta_ij - s_j): symmetric, positive semidefinite, with rows that sum to 0, and "
        "small where the output is nearly one-hot. Among all distributions with a given expected "
        "score, softmax of z/T has the largest entropy, T being the multiplier of that "
        "condition; without the condition the uniform distribution would win. The exponential is "
        "not the only positive map, but z^2 and |z| lose the order of negative scores. As T "
        "falls to 0 it tends to the one-hot argmax, ties sharing equally, and it is smooth for "
        "every T above 0; the smooth version of the maximum itself is logsumexp.",
        "指数使每个得分为正，除以总和使其相加为 1：分布所需的仅此而已。给所有得分加同一常数，结果不变，"
        "所以只有差值起作用，并少一个自由度。雅可比矩阵是 ds_i/dz_j = s_i (delta_ij - s_j)："
        "对称、半正定、每行和为 0，并在输出接近独热时很小。在期望得分给定的所有分布中，z/T 的 softmax 熵最大，"
        "T 对应该约束的乘子；没有该约束时均匀分布的熵最大。指数不是唯一的正映射，但 z^2 与 |z| 会破坏负得分的顺序。"
        "T 趋于 0 时它趋于独热的 argmax（并列者平分），而对任何 T > 0 都光滑；最大值本身的光滑版本是 logsumexp。",
    ),
    flips=T(
        "If exact zeros are wanted, softmax cannot give them: sparsemax projects on the simplex "
        "instead.",
        "如果需要精确的零，softmax 给不出：应改用把得分投影到单纯形上的 sparsemax。",
    ),
    analogy=T(
        "Raise or lower the whole landscape, and water still runs to the same valleys: only "
        "differences of height count.",
        "整个地形一起抬高或降低，水仍流向同样的山谷：只有高度差起作用。",
    ),
    generative=T(
        "The gradient of attention passes through this Jacobian; saturated rows pass on almost "
        "nothing.",
        "注意力的梯度要经过这个雅可比矩阵；饱和的行几乎不传递梯度。",
    ),
    classical=T(
        "Multinomial logistic regression has one redundant set of weights, because of the shift "
        "invariance.",
        "由于平移不变性，多项逻辑回归有一组权重是冗余的。",
    ),
    driving=T(
        "Choosing a lane by argmax gives no gradient; softmax with a falling temperature does.",
        "用 argmax 选车道没有梯度；温度逐渐降低的 softmax 有。",
    ),
    change=T(
        "Drop the condition on the expected score: the distribution of largest entropy becomes "
        "uniform.",
        "去掉期望得分的约束：熵最大的分布变成均匀分布。",
    ),
)


@once
def rows(lab: Lab) -> Any:
    """1,000 random rows of 20 scores of deviation 3."""
    return lab.rng("rows").standard_normal((1000, 20)) * 3.0


@question.exact(
    "C3.3.9-01",
    T("The outputs sum to 1.", "输出之和为 1。"),
    at_most(1e-12),
)
def sums(lab: Lab) -> Evidence:
    """Largest distance of a sum from 1 over random rows in float64, by NumPy and the library; in
    decimal arithmetic; and in float32 with 10,000 classes (there to 1e-5)."""
    wide = (lab.rng("wide").standard_normal((20, 10_000)) * 3.0).astype(np.float32)
    return All({
        "NumPy": float(np.abs(shifted(rows(lab)).sum(axis=1) - 1.0).max()),
        "library": float(np.abs(library(rows(lab)).sum(axis=1) - 1.0).max()),
        "decimals": abs(sum(map(float, exactly(rows(lab)[0]))) - 1.0),
        "float32": Check(
            float(np.abs(library(wide).astype(np.float64).sum(axis=1) - 1.0).max()), at_most(1e-5)
        ),
    })  # fmt: skip


def moved(f: Any, z: Any, c: float) -> float:
    """Largest change of f when c is added to all scores."""
    return float(np.abs(f(z + np.asarray(c, z.dtype)) - f(z)).max())


@question.exact(
    "C3.3.9-02",
    T("softmax(z + c) = softmax(z).", "softmax(z + c) = softmax(z)。"),
    at_most(1e-12),
)
def shifts(lab: Lab) -> Evidence:
    """Largest change under shifts from -100 to 100 in float64, by NumPy and the library; and by
    1000 in decimal arithmetic, where the sum z + c is not rounded (scores in eighths)."""
    z = rows(lab)
    eighths = np.round(z[0] * 8.0) / 8.0
    pairs = zip(exactly(eighths), exactly(eighths + 1000.0), strict=True)
    return All({
        "NumPy": max(moved(shifted, z, c) for c in (-100.0, -1.0, 10.0, 100.0)),
        "library": max(moved(library, z, c) for c in (-100.0, -1.0, 10.0, 100.0)),
        "decimals": float(max(abs(a - b) for a, b in pairs)),
    })  # fmt: skip


@question.exact(
    "C3.3.9-03",
    T(
        "softmax(1, 2, 3) and softmax(101, 102, 103) are both (0.090, 0.245, 0.665).",
        "softmax(1, 2, 3) 与 softmax(101, 102, 103) 都是 (0.090, 0.245, 0.665)。",
    ),
    at_most(5e-4),
)
def example(lab: Lab) -> Evidence:
    """Largest distance from the printed values, half a unit of the third digit allowed: by the
    library in float64 and float32, and in decimal arithmetic; and the distance of both rows."""
    printed = np.array([0.090, 0.245, 0.665])
    found = {}
    for start in (1.0, 101.0):
        z = start + np.arange(3.0)
        ways = {
            "float64": library(z), "float32": library(z.astype(np.float32)),
            "decimals": np.array([float(p) for p in exactly(z)]),
        }  # fmt: skip
        found[f"from {start:g}"] = Routes({
            k: float(np.abs(p - printed).max()) for k, p in ways.items()
        })  # fmt: skip
    apart = float(np.abs(library(np.arange(1.0, 4.0)) - library(np.arange(101.0, 104.0))).max())
    return All({**found, "apart": Check(apart, at_most(1e-12))})


def jacobian(z: Any) -> Any:
    """ds_i/dz_j of the library's softmax by automatic differentiation, a row at a time."""
    found = []
    for i in range(len(z)):
        at = fathom.tensor(z, requires_grad=True)
        activations.softmax(at)[i].backward()
        found.append(at.grad.value() if at.grad is not None else np.zeros_like(z))
    return np.array(found)


def by_differences(z: Any, step: float = 1e-5) -> Any:
    """The same by central differences of plain NumPy."""
    moves = step * np.eye(len(z))
    return np.array([(shifted(z + m) - shifted(z - m)) / (2 * step) for m in moves]).T


@question.exact(
    "C3.3.9-04",
    T("ds_i/dz_j = s_i (delta_ij - s_j).", "ds_i/dz_j = s_i (delta_ij - s_j)。"),
    at_most(1e-12),
)
def derivatives(lab: Lab) -> Evidence:
    """Largest difference of the formula from automatic differentiation over random rows, and from
    central differences (there to 1e-8)."""
    gaps: dict[str, list[float]] = {"autodiff": [], "differences": []}
    for z in rows(lab)[:20]:
        s = shifted(z)
        formula = np.diag(s) - np.outer(s, s)
        gaps["autodiff"].append(float(np.abs(formula - jacobian(z)).max()))
        gaps["differences"].append(float(np.abs(formula - by_differences(z)).max()))
    return All({
        "autodiff": max(gaps["autodiff"]),
        "differences": Check(max(gaps["differences"]), at_most(1e-8)),
    })  # fmt: skip


def most_uncertain(z: Any, score: float | None) -> Any:
    """The distribution of largest entropy (with that expected score) by Newton's method.

    Minimizes sum p log p under linear conditions from the uniform distribution, by the steps of
    Boyd and Vandenberghe (2004), section 10.3; nothing in it knows of exponentials.
    """
    n = len(z)
    conditions = np.ones((1, n)) if score is None else np.vstack([np.ones(n), z])
    wanted = np.array([1.0] if score is None else [1.0, score])
    p = np.full(n, 1.0 / n)
    for _ in range(200):
        slope = np.log(p) + 1.0
        inverse = conditions * p  # the Hessian is diag(1 / p)
        short = wanted - conditions @ p
        nu = np.linalg.solve(inverse @ conditions.T, -short - inverse @ slope)
        move = -p * (slope + conditions.T @ nu)
        falling = move < 0
        longest = 0.9 * np.min(p[falling] / -move[falling]) if falling.any() else 1.0
        p = p + min(1.0, longest) * move
        if np.abs(move).max() < 1e-13:
            break
    return p


def tempered(z: Any, score: float) -> Any:
    """Softmax of z / T with T such that the expected score is `score`: bisection on 1 / T."""
    inverse = root(lambda b: shifted(b[:, None] * z) @ z - score, -20.0, 20.0)
    return np.asarray(shifted(inverse * z))


def conditioned(lab: Lab) -> list[tuple[Any, float]]:
    """Random scores with an expected score that some distribution has."""
    rng = lab.rng("conditions")
    made = []
    for _ in range(20):
        z = rng.standard_normal(8) * 2.0
        made.append((z, float(rng.dirichlet(np.ones(8)) @ z)))
    return made


def excess(lab: Lab, z: Any, score: float) -> float:
    """The most entropy that a random feasible neighbour has over softmax's."""
    p = tempered(z, score)
    free = np.linalg.svd(np.vstack([np.ones(len(z)), z]))[2][2:]  # directions that keep both
    moves = lab.rng("neighbours").standard_normal((2000, len(free))) @ free
    steps = 0.5 * np.min(p) * moves / np.abs(moves).max(axis=1, keepdims=True)
    return float((entropy(p + steps) - entropy(p)).max())


@question.exact(
    "C3.3.9-05",
    T(
        "Softmax is the distribution of largest entropy under a condition (a fixed expected "
        "score).",
        "softmax 是约束（期望得分固定）下熵最大的分布。",
    ),
    at_most(1e-6),
    weight=2,
)
def largest_entropy(lab: Lab) -> Evidence:
    """Over 20 random problems: largest distance of softmax(z / T) from the maximum that Newton's
    method finds without knowing of exponentials; and the most entropy that a feasible neighbour
    has over it (none may have more than rounding)."""
    problems = conditioned(lab)
    return All({
        "distance": max(float(np.abs(most_uncertain(z, m) - tempered(z, m)).max()) for z, m in problems),
        "neighbour's excess": Check(max(excess(lab, z, m) for z, m in problems), at_most(1e-12)),
    })  # fmt: skip


@question.exact(
    "C3.3.9-06",
    T(
        "z^2 in place of e^z does not keep the order; |z| mishandles negative scores.",
        "用 z^2 代替 e^z 不保序；用 |z| 则处理不好负得分。",
    ),
    at_least(0.1),
)
def other_maps(lab: Lab) -> Evidence:
    """How much more than 1 the score -2 is given in (-2, 1); and the share of random pairs of
    scores that come out in the wrong order (softmax for comparison: none)."""
    maps = {"z^2": np.square, "|z|": np.abs}
    pairs = lab.rng("pairs").standard_normal((10_000, 2))
    found: dict[str, Evidence | Check] = {}
    for name, f in maps.items():
        a, b = (float(v) for v in f(np.array([-2.0, 1.0])))
        turned = (f(pairs[:, 0]) > f(pairs[:, 1])) != (pairs[:, 0] > pairs[:, 1])
        found[f"{name}: -2 over 1"] = (a - b) / (a + b)
        found[f"{name}: wrong order"] = float(turned.mean())
    soft = library(pairs)
    kept = (soft[:, 0] > soft[:, 1]) == (pairs[:, 0] > pairs[:, 1])
    return All({**found, "softmax: wrong order": Check(float((~kept).mean()), equals(0.0))})


@question.exact(
    "C3.3.9-07",
    T(
        "(1, 2, 10) gives (0.08, 0.15, 0.77) by linear normalization and (0, 0, 1) by softmax.",
        "(1, 2, 10) 线性归一化得 (0.08, 0.15, 0.77)，softmax 得 (0, 0, 1)。",
    ),
    at_most(0.005),
)
def table(lab: Lab) -> Evidence:
    """Largest distance from the printed values, half a unit of the second digit allowed; softmax by
    the library and in decimal arithmetic."""
    z = np.array([1.0, 2.0, 10.0])
    exact = np.array([float(p) for p in exactly(z)])
    return All({
        "linear": float(np.abs(z / z.sum() - (0.08, 0.15, 0.77)).max()),
        "softmax": Routes({
            "library": float(np.abs(library(z) - (0, 0, 1)).max()),
            "decimals": float(np.abs(exact - (0, 0, 1)).max()),
        }),
    })  # fmt: skip


@question.exact(
    "C3.3.9-08",
    T("Softmax is a smooth argmax.", "softmax 是光滑的 argmax。"),
    at_most(1e-9),
)
def smooth(lab: Lab) -> Evidence:
    """Largest distance from the one-hot argmax at T = 0.001 over rows whose best two scores lie 0.1
    apart or more; of tied scores from equal shares; and (to 1e-8) of the slope at T = 0.1 from
    central differences, for the smoothness."""
    z = rows(lab)
    best = np.sort(z, axis=1)
    clear = z[best[:, -1] - best[:, -2] >= 0.1]
    hot = np.eye(z.shape[1])[clear.argmax(axis=1)]
    slope = np.abs(jacobian(z[0] * 0.1) - by_differences(z[0] * 0.1)).max()
    return All({
        "NumPy": float(np.abs(shifted(clear, 1e-3) - hot).max()),
        "library": float(np.abs(library(clear, 1e-3) - hot).max()),
        "ties": float(np.abs(library(np.array([2.0, 2.0, -1.0]), 1e-3) - (0.5, 0.5, 0.0)).max()),
        "slope": Check(float(slope), at_most(1e-8)),
    })  # fmt: skip


@question.figure(T("The distribution of largest entropy", "熵最大的分布"))
def by_entropy(lab: Lab) -> Figure:
    """Scores 0 to 5 with the expected score 3.5: Newton's maximum, softmax, and no condition."""
    z = np.arange(6.0)
    ticks = [T(f"{v:g}", f"{v:g}") for v in z]
    found, soft = most_uncertain(z, 3.5), tempered(z, 3.5)
    return Figure(
        Axis(T("score", "得分"), ticks=ticks),
        Axis(T("probability", "概率")),
        [
            Bars(T("largest entropy, mean 3.5", "熵最大，均值 3.5"), found),
            Bars(T("softmax(z / T)", "softmax(z / T)"), soft),
            Bars(T("largest entropy, no condition", "熵最大，无约束"), most_uncertain(z, None)),
        ],
        T(
            "With the mean held at 3.5 the maximum found without exponentials is softmax; without "
            "the condition it is uniform.",
            "把均值固定在 3.5 时，不借助指数求得的最大熵分布正是 softmax；没有约束时是均匀分布。",
        ),
        {"largest difference": float(np.abs(found - soft).max())},
    )


@question.figure(T("Shift invariance in floating point", "浮点数中的平移不变性"))
def shift_error(lab: Lab) -> Figure:
    """Change of the outputs when c is added to all scores, in two precisions."""
    shifts_ = np.logspace(0, 10, 41)
    lines = []
    for dtype in (np.float32, np.float64):
        z = rows(lab)[:50].astype(dtype)
        change = [max(moved(shifted, z, c), 1e-18) for c in shifts_]
        name = np.dtype(dtype).name
        lines.append(Line(T(name, name), shifts_, change))
    return Figure(
        Axis(T("shift c", "平移量 c"), log=True),
        Axis(T("largest change", "最大变化"), log=True),
        lines,
        T(
            "The law is exact, the sum z + c is not: in float32 a shift of a million already "
            "changes the outputs in the second digit.",
            "定律是精确的，但 z + c 的计算不是：float32 中平移一百万就会改变输出的第二位数字。",
        ),
    )


@question.figure(T("The Jacobian shrinks where softmax is sure", "softmax 越确信，雅可比越小"))
def how_large(lab: Lab) -> Figure:
    """Largest eigenvalue of the Jacobian against the largest output, random rows at many scales."""
    scales = np.repeat(np.logspace(-1, 0.7, 25), 12)
    outputs = [shifted(s * z[:5] / 3.0) for s, z in zip(scales, rows(lab), strict=False)]
    tops = np.array([s.max() for s in outputs])
    size = np.array([np.linalg.eigvalsh(np.diag(s) - np.outer(s, s))[-1] for s in outputs])
    p = np.linspace(0.5, 1.0, 51)
    return Figure(
        Axis(T("largest output", "最大输出")),
        Axis(T("largest eigenvalue", "最大特征值")),
        [
            Line(T("five classes", "五类"), tops, size, points=True),
            Line(T("two classes, 2 p (1 - p)", "两类，2 p (1 - p)"), p, 2 * p * (1 - p)),
        ],
        T(
            "It is at most 1/2, and goes to 0 as one output takes everything: a saturated softmax "
            "passes no gradient.",
            "它最大为 1/2，并在某个输出独占全部时趋于 0：饱和的 softmax 不传梯度。",
        ),
    )
