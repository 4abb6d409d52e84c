"""3.4.4 The output activation and the goal: canonical links, and what the others cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom.book import Axis, Figure, Lab, Line, Question, T
from fathom.book.material.gain import sigmoid
from fathom.models.heads import head
from fathom.nn import functional as F

question = Question(
    "3.4.4",
    title=T(
        "How does the output activation relate to the goal?", "输出层激活与目标有什么关系？"
    ),
    difficulty=4,
    frequency=4,
    topics=("output layer", "canonical link", "likelihood", "输出层", "典范连接", "损失函数", "梯度"),
    answer=T(
        "The output activation says which distribution the network speaks about, and the loss is the "
        "negative log-likelihood of that one: identity with squared error for a normal, sigmoid with "
        "cross-entropy for yes or no, softmax for classes, exp for Poisson counts. Each of these is the "
        "canonical link of its family, and then the gradient on the logit is prediction - target, with "
        "no slope of the activation in it. That is why a confident mistake is corrected at once, while "
        "with a sigmoid and squared error the factor p(1 - p) stalls it: from the same wrong start 63 "
        "steps instead of 4. The canonical link is not a must: probit with its own likelihood is as fast, "
        "since the likelihood divides by the variance that vanishes with the slope. It does not "
        "protect against large steps either: the gradient of exp grows without bound, where softplus "
        "stays calm but assumes another shape of the mean. Choose the distribution first, take its "
        "likelihood, and compute both in one from the logits.",
        "输出激活说明网络谈论的是什么分布，损失就是该分布的负对数似然：正态配恒等与平方误差，是非判断配 sigmoid "
        "与交叉熵，多类配 softmax，泊松计数配 exp。它们各是所属分布族的典范连接，此时 logit 上的梯度就是“预测减目标”，"
        "其中不含激活函数的斜率。所以自信的错误会立刻被纠正；而 sigmoid 配平方误差多一个因子 p(1 - p)，会停滞不前："
        "同一错误起点要 63 步而不是 4 步。典范连接并非必需：probit 配自己的似然同样快，因为似然要除以方差，"
        "而方差与斜率一同趋于零。典范连接也不能防止步子过大：exp 的梯度无上界，softplus 则平稳，但对均值的形状作了另一种假设。"
        "先选分布，再取它的似然，并由 logits 把两者合在一起计算。",
    ),
    flips=T(
        "Started near the answer, sigmoid with squared error is as fast per step as cross-entropy, "
        "once the step is scaled by the curvature.",
        "从答案附近出发，步长按曲率缩放后，sigmoid 配平方误差与交叉熵一样快。",
    ),
    analogy=T(
        "A steering wheel geared so that the correction is always as large as the error: with the "
        "wrong gear it goes slack just where one is farthest off.",
        "像齿比合适的方向盘：偏多少就修多少；齿比不对时，偏得最远处反而打空。",
    ),
    generative=T(
        "Softmax with cross-entropy over the vocabulary: the gradient on the logits is probabilities "
        "less one-hot, whatever the model.",
        "词表上的 softmax 加交叉熵：无论什么模型，logits 上的梯度都是概率减独热向量。",
    ),
    classical=T(
        "Generalized linear models: under the canonical link the likelihood is concave and Newton's "
        "method equals Fisher scoring.",
        "广义线性模型：用典范连接时似然是凹的，牛顿法就是 Fisher 评分法。",
    ),
    driving=T(
        "Rare classes start out as confident mistakes; with squared error on probabilities they "
        "would stay that.",
        "稀有类别起初是自信的错误；若对概率用平方误差，它们会一直错下去。",
    ),
    change=T(
        "Start at 0 instead of at -6 times the true weights: the stall of the squared error is gone.",
        "把起点从真实权重的 -6 倍改成 0：平方误差的停滞消失。",
    ),
)  # fmt: skip

Array = NDArray[Any]
Loss = Callable[[Any, Any], Any]


def likelihood(z: Any, y: Any) -> Any:
    """Cross-entropy of a sigmoid."""
    return F.binary_cross_entropy_with_logits(z, y, reduction="none")


def squared(z: Any, y: Any) -> Any:
    """Half the squared error of a sigmoid."""
    return 0.5 * (fathom.sigmoid(z) - y) ** 2


def slopes(loss: Loss, z: Array, y: Array) -> Array:
    """Gradient of the summed loss with respect to the logits."""
    point = fathom.tensor(z, requires_grad=True)
    loss(point, fathom.tensor(y)).sum().backward()
    return np.asarray(point.grad.value())


def canonical_error(task: str, n: int, rng: np.random.Generator) -> float:
    """Largest |gradient - (prediction - target)| of the library's head, relative to the prediction + 1."""
    end = head(task, 4, n)
    z = 2.0 * rng.standard_normal((100, n))
    y: Any = {
        "binary": lambda: rng.integers(0, 2, (100, 1)).astype(float),
        "multilabel": lambda: rng.integers(0, 2, (100, n)).astype(float),
        "multiclass": lambda: rng.integers(0, n, 100),
        "regression": lambda: rng.standard_normal((100, n)),
        "counts": lambda: rng.poisson(2.0, (100, n)).astype(float),
        "positive": lambda: rng.gamma(2.0, 1.0, (100, n)),
        "bounded": lambda: rng.random((100, n)),
    }[task]()
    point = fathom.tensor(z, requires_grad=True)
    end.loss(point, y, reduction="sum").backward()
    said = end.predict(point.detach())
    wanted = np.eye(n)[y] if task == "multiclass" else y
    return float((abs(point.grad.value() - (said - wanted)) / (1 + abs(said))).max())


SIZES = {"binary": 1, "multiclass": 4, "multilabel": 3, "regression": 2, "counts": 2, "bounded": 2,
         "positive": 2}  # fmt: skip


@question.figure(T("The correction against the error", "修正量与误差的关系"))
def corrections(lab: Lab) -> Figure:
    """A single output with target 1 and logits from -8 to 8: minus the gradient on the logit, by automatic
    differentiation, over 1 - prediction (the error). The numbers: the largest
    difference of the gradient from prediction - target for each of the library's heads on random logits and
    targets, relative to 1 + prediction; `positive` (gamma with log link) is not canonical."""
    z, y = np.linspace(-8.0, 8.0, 65), np.ones(65)
    error = 1.0 - fathom.sigmoid(fathom.tensor(z)).value()
    names = list(BINARY)[:2]
    lines = [
        Line(T(name, CHINESE[name]), error, -slopes(loss, z, y))
        for name, loss in zip(names, (likelihood, squared), strict=True)
    ]
    told = {t: canonical_error(t, n, lab.rng(t)) for t, n in SIZES.items()}
    return Figure(
        Axis(T("target - prediction", "目标 - 预测")),
        Axis(T("correction of the logit", "对 logit 的修正量")),
        lines,
        T(
            "Under the canonical pair the correction is the error itself; with squared error it "
            "is never above 0.15 and goes back to 0 as the prediction becomes completely wrong.",
            "典范搭配下修正量就等于误差；平方误差下它不超过 0.15，并且在预测完全错误时回到 0。",
        ),
        {f"{t}: apart from prediction - target": e for t, e in told.items()},
    )


def normal_cdf(z: Array) -> Array:
    """The normal distribution function."""
    return np.asarray(fathom.erf(fathom.tensor(z / np.sqrt(2.0))).value() * 0.5 + 0.5)


class Pair(NamedTuple):
    """A mean of a logit, its slope, the variance by which the loss divides, the logit's unit."""

    mean: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    variance: Callable[[Array], Array]
    unit: float = 1.0


def chance(m: Array) -> Array:
    """Variance of a yes or no."""
    return m * (1 - m) + 1e-12


def bell(z: Array) -> Array:
    """The normal density."""
    return np.asarray(np.exp(-z * z / 2) / np.sqrt(2 * np.pi))


BINARY = {
    "sigmoid, likelihood (canonical)": Pair(sigmoid, lambda z: chance(sigmoid(z)), chance),
    "sigmoid, squared error": Pair(sigmoid, lambda z: chance(sigmoid(z)), np.ones_like),
    "probit, likelihood": Pair(normal_cdf, bell, chance, 0.6),
}
COUNTS = {
    "exp, likelihood (canonical)": Pair(np.exp, np.exp, lambda m: m),
    "softplus, likelihood": Pair(lambda z: np.logaddexp(0.0, z), sigmoid, lambda m: m + 1e-12),
    "exp, squared error": Pair(np.exp, np.exp, np.ones_like),
}
CHINESE = {
    "sigmoid, likelihood (canonical)": "sigmoid，似然（典范）",
    "sigmoid, squared error": "sigmoid，平方误差",
    "probit, likelihood": "probit，似然",
    "exp, likelihood (canonical)": "exp，似然（典范）",
    "softplus, likelihood": "softplus，似然",
    "exp, squared error": "exp，平方误差",
}
FAR = 100.0
WEIGHTS = np.array([1.0, -1.0, 0.5, 0.3])


def distances(pair: Pair, counts: bool, start: float, steps: int, seed: int) -> Array:
    """Mean |prediction - true mean| along gradient descent, in units of that of a constant.

    The gradient on a logit is slope (mean - target) / variance; the step is one over the largest
    curvature at the true weights, so that all pairs are equally fast near the end.
    """
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.standard_normal((400, 3)), np.ones(400)])
    score = x @ WEIGHTS * (0.5 if counts else 1.0)
    truth = np.exp(score) if counts else sigmoid(score)
    y = rng.poisson(truth) if counts else (rng.random(400) < truth).astype(float)
    scale = abs(truth - truth.mean()).mean()
    at = pair.unit * score
    bend = pair.slope(at) ** 2 / pair.variance(truth)
    rate = 1.0 / np.linalg.eigvalsh((x * bend[:, None]).T @ x / 400).max()
    w, path = start * pair.unit * WEIGHTS * (0.5 if counts else 1.0), []
    with np.errstate(all="ignore"):
        for _ in range(steps + 1):
            z = x @ w
            m = pair.mean(z)
            path.append(abs(m - truth).mean() / scale)
            w = w - rate * x.T @ (pair.slope(z) * (m - y) / pair.variance(m)) / 400
    return np.array(path)


def descents(
    lab: Lab, pairs: dict[str, Pair], counts: bool, start: float
) -> tuple[list[Line], dict[str, float]]:
    """A line for each pair: median of the seeds, lower and upper quartile; and the first step at which the
    median is half a constant's distance (as many as were taken, if it never is)."""
    steps, lines, told = lab.pick(150, 30), [], {}
    for name, pair in pairs.items():
        runs = np.array([distances(pair, counts, start, steps, s) for s in lab.seeds(12, 3)])
        seen = np.quantile(np.where(runs < FAR, runs, FAR), (0.25, 0.5, 0.75), axis=0)
        low, middle, high = np.where(seen[1] < FAR, seen, np.nan)
        lines.append(Line(T(name, CHINESE[name]), np.arange(steps + 1), middle, low, high))
        near = np.append(middle <= 0.5, True)
        told[f"steps to 0.5, {name}"] = float(near.argmax())
    return lines, told


AXES = (
    Axis(T("step", "步")),
    Axis(T("distance from the truth, constant = 1", "与真值的距离（常数预测 = 1）"), log=True),
)


@question.figure(T("Yes or no, from a confident mistake", "是非判断：从自信的错误出发"))
def from_wrong(lab: Lab) -> Figure:
    """400 rows of a logistic model, twelve seeds, plain gradient descent in NumPy from weights of the wrong
    sign and six times the size; steps scaled by the curvature at the end. Median, quartiles."""
    lines, told = descents(lab, BINARY, False, -6.0)
    return Figure(
        *AXES,
        lines,
        T(
            "With a likelihood the mistake is undone in a few steps, canonical or not; sigmoid with "
            "squared error stands still for dozens.",
            "用似然时几步就改正，典范与否都一样；sigmoid 配平方误差则停滞几十步。",
        ),
        told,
    )


@question.figure(T("Counts, from a mistake of either kind", "计数：从两类错误出发"))
def counts_from_wrong(lab: Lab) -> Figure:
    """400 counts of a log-linear model, twelve seeds, the same descent, from weights of the wrong sign and
    three times the size: some rates are far too large, others far too small. A line
    ends where the distance exceeds a hundred times a constant's."""
    lines, told = descents(lab, COUNTS, True, -3.0)
    return Figure(
        *AXES,
        lines,
        T(
            "Exp with its likelihood recovers, softplus recovers sooner but ends farther off, as its shape "
            "is not the data's; exp with squared error leaves the picture at the first step.",
            "exp 配似然能恢复；softplus 恢复更快，但终点更远，因为其形状与数据不符；exp 配平方误差第一步就冲出图外。",
        ),
        told,
    )
