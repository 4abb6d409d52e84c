"""2.2.10 Cross-entropy against squared error behind a sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings, T, at_least,
    at_most, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, difference, highest
from fathom.nn import functional as F

question = Question(
    "2.2.10",
    title=T(
        "What separates cross-entropy from squared error as a loss?",
        "交叉熵与均方误差有什么区别？",
    ),
    difficulty=3,
    frequency=4,
    topics=("cross-entropy", "MSE", "maximum likelihood", "交叉熵", "均方误差", "最大似然"),
    answer=T(
        "Both are negative log-likelihoods: squared error of Gaussian errors with one fixed "
        "variance, cross-entropy of Bernoulli or categorical labels. Cross-entropy is the KL "
        "divergence to the target plus the target's entropy, which is 0 for a one-hot label. The "
        "practical difference is the gradient at the logit. With cross-entropy it is p - y, close "
        "to 1 for a confident mistake. With squared error behind a sigmoid it carries the factor "
        "p(1-p) and vanishes for a confident mistake; it is not monotone, being largest where the "
        "true class has p = 1/3. So cross-entropy corrects bad mistakes in a few steps where "
        "squared error may need thousands. Squared error is bounded in return, and less swayed by "
        "wrong labels.",
        "两者都是负对数似然：平方误差对应方差固定的高斯误差，交叉熵对应伯努利或多项分布的标签。"
        "交叉熵等于到目标分布的 KL 散度加目标的熵，而独热标签的熵为 0。实际差别在于对 logit 的梯度。"
        "交叉熵的梯度是 p - y，自信地犯错时接近 1。sigmoid 后接平方误差时梯度多一个因子 p(1-p)，"
        "自信地犯错时趋于 0；它并不单调，在真实类别 p = 1/3 处最大。所以交叉熵几步就能纠正的严重错误，"
        "平方误差可能要几千步。反过来，平方误差有上界，受错误标签的影响较小。",
    ),
    flips=T(
        "With many wrong labels the bounded squared error can be the better loss, since it gives "
        "up on rows that it cannot explain.",
        "如果错误标签很多，有界的平方误差可能更好，因为它会放弃无法解释的样本。",
    ),
    analogy=T(
        "Cross-entropy scolds the louder the surer you were of a wrong answer; squared error "
        "behind a sigmoid falls silent.",
        "你越自信地答错，交叉熵批评得越重；sigmoid 后的平方误差却沉默了。",
    ),
    generative=T(
        "Language models minimize cross-entropy over tokens; its exponential is the perplexity.",
        "语言模型最小化词元的交叉熵，其指数就是困惑度。",
    ),
    classical=T(
        "Logistic regression is convex with cross-entropy and not convex with squared error.",
        "逻辑回归配交叉熵是凸的，配平方误差则不是。",
    ),
    driving=T(
        "A detector sure that a pedestrian is background must still learn from it: that takes "
        "cross-entropy (or focal loss).",
        "检测器把行人当成背景且很自信时仍须从中学习：这要靠交叉熵（或焦点损失）。",
    ),
    change=T(
        "Start at z = 0 instead of -8: the factor between the two falls from about 80 to about 3.",
        "把起点从 z = -8 改为 0：两者步数之比从约 80 降到约 3。",
    ),
)


def squared(z: Any) -> Any:
    """(sigmoid(z) - 1)^2, the label being 1."""
    return (fathom.sigmoid(z) - 1.0) ** 2


def entropy(z: Any) -> Any:
    """-log sigmoid(z), the label being 1."""
    return F.softplus(-z)


@question.exact(
    "C2.2.10-01",
    T(
        "Squared error is the maximum-likelihood loss of Gaussian errors (of one variance).",
        "平方误差是（等方差）高斯误差下的最大似然损失。",
    ),
    at_most(1e-10),
)
def gaussian(lab: Lab) -> Evidence:
    """The negative log of the normal density, averaged, less MSE / (2 s^2): how far it varies over
    1,000 random predictions; and its gradient against that of MSE / (2 s^2)."""
    rng = lab.rng("errors")
    y, guesses, s = rng.standard_normal(50), rng.standard_normal((1000, 50)), 0.7
    density = np.exp(-((y - guesses) ** 2) / (2 * s**2)) / np.sqrt(2 * np.pi * s**2)
    rest = -np.log(density).mean(axis=1) - ((y - guesses) ** 2).mean(axis=1) / (2 * s**2)
    target, variance = fathom.tensor(y), fathom.tensor(np.full(50, s**2))
    by_nll = derivative(lambda m: F.gaussian_nll_loss(m, target, variance), guesses[0])
    by_mse = derivative(lambda m: F.mse_loss(m, target) / (2 * s**2), guesses[0])
    return All({
        "spread of the rest": float(np.ptp(rest)),
        "gradients": float(np.abs(by_nll - by_mse).max()),
    })  # fmt: skip


@question.exact(
    "C2.2.10-02",
    T(
        "Cross-entropy is the maximum-likelihood loss of Bernoulli and categorical targets, and "
        "the KL divergence to a one-hot target.",
        "交叉熵是伯努利与多项分布目标的最大似然损失，对独热目标就等于 KL 散度。",
    ),
    at_most(1e-12),
)
def likelihood(lab: Lab) -> Evidence:
    """Library losses of random logits against -log of the product of probabilities; cross-entropy
    less KL less the target's entropy; and less KL alone for one-hot targets."""
    rng = lab.rng("logits")
    z, hits = rng.standard_normal((20, 4)), rng.integers(0, 4, 20)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    ours = F.cross_entropy(fathom.tensor(z), fathom.tensor(hits)).item()
    categorical = -np.log(np.prod(p[np.arange(20), hits])) / 20
    coins, s = rng.integers(0, 2, 20).astype(float), 1 / (1 + np.exp(-z[:, 0]))
    bce = F.binary_cross_entropy_with_logits(fathom.tensor(z[:, 0]), fathom.tensor(coins)).item()
    bernoulli = -np.log(np.prod(s**coins * (1 - s) ** (1 - coins))) / 20
    soft = rng.dirichlet(np.ones(4), 20)
    crossed = -(soft * np.log(p)).sum(axis=1)
    kl = (soft * np.log(soft / p)).sum(axis=1)
    own = -(soft * np.log(soft)).sum(axis=1)
    divergence = F.kl_div(
        fathom.tensor(np.log(p)), fathom.tensor(np.eye(4)[hits]), reduction="batchmean"
    ).item()
    return All({
        "categorical": abs(ours - categorical),
        "Bernoulli": abs(bce - bernoulli),
        "CE - KL - H": float(np.abs(crossed - kl - own).max()),
        "one-hot: CE - KL": abs(ours - divergence),
    })  # fmt: skip


@question.exact(
    "C2.2.10-03",
    T(
        "Behind a sigmoid the gradient of the squared error tends to 0 the more confidently wrong "
        "the prediction is.",
        "sigmoid 后接平方误差时，预测错得越离谱，梯度越趋于 0。",
    ),
    at_most(1e-12),
)
def limit(lab: Lab) -> Evidence:
    """|d loss / dz| at z = -30, -100 and -700 for the label 1 (automatic), and at z = 30 for 0."""
    far = np.abs(derivative(squared, [-30.0, -100.0, -700.0]))
    other = np.abs(derivative(lambda z: fathom.sigmoid(z) ** 2, [40.0, 100.0, 700.0]))
    return All({"label 1": float(far.max()), "label 0": float(other.max())})


@once
def turning(lab: Lab) -> float:
    """The probability of the true class at which the slope of the squared error is largest."""
    z, _ = highest(lambda at: np.abs(derivative(squared, at)), -10.0, 10.0)
    return float(1 / (1 + np.exp(-z)))


@question.exact(
    "C2.2.10-04",
    T(
        "Behind a sigmoid with squared error, the more wrong the prediction, the smaller its "
        "gradient.",
        "sigmoid 加平方误差时，预测越错，梯度越小。",
    ),
    equals(1.0),
    correction=T(
        "Only while the true class has p below 1/3, where the slope is largest (share of steps that "
        "agree: {n[below 1/3/autodiff]:.0%}); above it the slope grows with the error "
        "({n[above 1/3/autodiff]:.0%}).",
        "仅当真实类别的 p 低于 1/3（斜率最大处）时成立（符合的比例 {n[below 1/3/autodiff]:.0%}）；"
        "高于 1/3 时斜率随误差增大而增大（{n[above 1/3/autodiff]:.0%}）。",
    ),
    weight=2,
)
def monotone(lab: Lab) -> Evidence:
    """Share of neighbouring points of a grid of z at which the more wrong one has the smaller
    slope; on either side of the p where the slope is largest; by autodiff and by differences."""
    edge = float(np.log(turning(lab) / (1 - turning(lab))))

    def share(low: float, high: float) -> Evidence:
        z = np.linspace(low, high, 400)
        ways = {"autodiff": derivative(squared, z), "differences": difference(squared, z)}
        return Routes({k: float((np.diff(np.abs(g)) > 0).mean()) for k, g in ways.items()})

    return Settings(
        T("the probability of the true class", "真实类别的概率"),
        {"below 1/3": share(-6.0, edge - 0.01), "above 1/3": share(edge + 0.01, 6.0)},
    )


@question.exact(
    "C2.2.10-05",
    T(
        "With cross-entropy the gradient at the logit is prediction minus target.",
        "用交叉熵时，对 logit 的梯度是预测减目标。",
    ),
    at_most(1e-12),
    weight=2,
)
def difference_of_two(lab: Lab) -> Evidence:
    """Automatic gradients of random logits, sigmoid with BCE and softmax with CE, against p - y."""
    rng = lab.rng("logits")
    z, y = rng.standard_normal((30, 5)) * 3, rng.random((30, 5))
    binary = derivative(
        lambda t: F.binary_cross_entropy_with_logits(t, fathom.tensor(y), reduction="sum"), z
    )
    shares = y / y.sum(axis=1, keepdims=True)
    soft = derivative(lambda t: F.cross_entropy(t, fathom.tensor(shares), reduction="sum"), z)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return All({
        "sigmoid": float(np.abs(binary - (1 / (1 + np.exp(-z)) - y)).max()),
        "softmax": float(np.abs(soft - (p - shares)).max()),
    })  # fmt: skip


def steps(loss: str, start: float, rate: float = 0.5, goal: float = 0.9) -> int:
    """Steps of gradient descent on z, the label being 1, until sigmoid(z) exceeds the goal."""
    z = start
    for count in range(100_000):
        p = 1 / (1 + np.exp(-z))
        if p > goal:
            return count
        z -= rate * ((p - 1) if loss == "CE" else 2 * (p - 1) * p * (1 - p))
    return 100_000


@question.experiment(
    "C2.2.10-06",
    T(
        "Cross-entropy corrects bad mistakes faster than squared error.",
        "交叉熵纠正严重错误比平方误差更快。",
    ),
    at_least(2.0),
    weight=3,
)
def corrected(lab: Lab) -> Evidence:
    """Steps that squared error needs over those of cross-entropy until p > 0.9 at rate 0.5: one
    sigmoid from z = -2, -5 and -8; a logistic regression that starts from the negated solution."""
    one = {f"from z = {z:g}": steps("MSE", z) / steps("CE", z) for z in (-2.0, -5.0, -8.0)}
    ratios = [relearn(s, "MSE") / relearn(s, "CE") for s in lab.seeds(20, 5)]
    return All({**one, "regression turned round": Sample(ratios)})


def relearn(seed: int, loss: str, rate: float = 0.5, most: int = 20_000) -> int:
    """Steps until 90 % of 200 rows are right, from weights that are confidently wrong."""
    rng = np.random.default_rng(seed)
    y = np.arange(200) % 2
    x = rng.standard_normal((200, 2)) + np.where(y[:, None] > 0, 1.5, -1.5)
    w = -3.0 * np.ones(2)
    for count in range(most):
        p = 1 / (1 + np.exp(-x @ w))
        if ((p > 0.5) == y).mean() >= 0.9:
            return count
        slope = (p - y) if loss == "CE" else 2 * (p - y) * p * (1 - p)
        w = w - rate * x.T @ slope / len(x)
    return most


@question.figure(T("Gradient at the logit", "对 logit 的梯度"))
def slopes(lab: Lab) -> Figure:
    """|d loss / dz| over the logit z, the label being 1."""
    z = np.linspace(-10, 6, 161)
    return Figure(
        Axis(T("logit z (label 1)", "logit z（标签为 1）")),
        Axis(T("size of the gradient", "梯度大小")),
        [
            Line(T("cross-entropy", "交叉熵"), z, np.abs(derivative(entropy, z))),
            Line(T("squared error", "平方误差"), z, np.abs(derivative(squared, z))),
            Level(T("p = 1/3", "p = 1/3"), x=float(np.log(0.5))),
        ],
        T(
            "On the far left, where the prediction is confidently wrong, cross-entropy pushes with "
            "1 and squared error with nearly 0; its gradient is largest at p = 1/3.",
            "最左侧预测自信地出错：交叉熵的推力为 1，平方误差几乎为 0；后者的梯度在 p = 1/3 处最大。",
        ),
    )


@question.figure(T("Steps to get from a mistake to p > 0.9", "从错误到 p > 0.9 所需步数"))
def recovery(lab: Lab) -> Figure:
    """One sigmoid, rate 0.5, started at different logits."""
    z = np.linspace(-8, 1, 19)
    lines = [
        Line(name, z, [steps(loss, float(s)) for s in z])
        for loss, name in (
            ("CE", T("cross-entropy", "交叉熵")),
            ("MSE", T("squared error", "平方误差")),
        )
    ]
    return Figure(
        Axis(T("logit at the start", "起始 logit")),
        Axis(T("steps", "步数"), log=True),
        lines,
        T(
            "Cross-entropy needs a few dozen steps from anywhere; squared error needs thousands "
            "from z = -8.",
            "无论从哪里出发，交叉熵只需几十步；平方误差从 z = -8 出发要几千步。",
        ),
    )
