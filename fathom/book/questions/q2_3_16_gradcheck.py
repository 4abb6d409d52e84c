"""2.3.16 Gradient checking: how well differences tell a gradient, and what they cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fathom
from fathom.autograd import Function, gradcheck
from fathom.book import (
    All, Axis, Bars, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings, T,
    at_most, equals, once,
)  # fmt: skip
from fathom.book.statistics import slope
from fathom.nn import functional as F

question = Question(
    "2.3.16",
    title=T("What is gradient checking?", "什么是梯度检验？"),
    difficulty=2,
    frequency=2,
    topics=(
        "gradient check",
        "finite difference",
        "numerical gradient",
        "梯度检验",
        "有限差分",
        "中心差分",
    ),
    answer=T(
        "Gradient checking compares the gradient of backpropagation with the central difference "
        "(f(w+e) - f(w-e)) / 2e, weight by weight. Its error is of order e^2 from the curvature "
        "plus "
        "rounding over e, so the best e is near 1e-5 in float64 and near 1e-2 in float32; 1e-4 "
        "is fine in "
        "float64 and useless in float32. One compares relative errors: below 1e-7 is a good sign "
        "for smooth "
        "functions in float64, while a ReLU kink within reach of e gives large errors for right "
        "code. "
        "A failure in smooth float64 code is a bug; a pass is no proof, since it looks at one "
        "point and misses "
        "branches that are not active there. It costs two evaluations a weight, so one checks "
        "small nets, before "
        "training, with dropout and the like switched off.",
        "梯度检验把反向传播的梯度与中心差分 (f(w+e) - f(w-e)) / 2e 逐个权重比较。"
        "其误差由曲率带来的 e² 阶项和"
        "舍入误差除以 e 组成，所以最佳 e 在 float64 下约 1e-5，在 float32 下约 1e-2；1e-4 在 "
        "float64 下合适，"
        "在 float32 下毫无用处。应比较相对误差：对 float64 下的光滑函数，小于 1e-7 是好迹象；而 "
        "ReLU 的折点落在 e 的"
        "范围内时，正确的代码也会有大误差。光滑的 float64 代码若不通过就是有错；通过却不是证明，"
        "因为它只看一个点，"
        "看不到在该点未激活的分支。每个权重要算两次函数值，所以在训练前、用小网络、关掉 dropout "
        "之类再做。",
    ),
    flips=T(
        "In float32, or at a kink, right gradients fail; away from an untested branch wrong ones "
        "pass.",
        "在 float32 下或在折点处，正确的梯度会不通过；分支未被测到时，错误的梯度会通过。",
    ),
    analogy=T(
        "Checking a map by walking one street: a mistake there is found, a mistake two streets "
        "on is not.",
        "像走一条街来核对地图：这条街上的错会被发现，隔两条街的错不会。",
    ),
    generative=T(
        "Hand-written kernels (fused attention, say) are checked so before they replace the "
        "reference.",
        "手写算子（如融合注意力）在替换参考实现之前都要这样检验。",
    ),
    classical=T(
        "Optimizers in scipy offer check_grad for user-supplied gradients for the same reason.",
        "scipy 的优化器也因此为用户提供的梯度准备了 check_grad。",
    ),
    driving=T(
        "Custom layers such as rotated-box overlap have many branches: check at points on each "
        "of them.",
        "旋转框重叠之类的自定义层有许多分支：要在每个分支的点上检验。",
    ),
    change=T(
        "Evaluate the function in float32: the V moves up and to the right, and 1e-4 no longer "
        "does.",
        "改用 float32 求值：V 形曲线移向右上方，1e-4 就不再合用。",
    ),
)

ROWS, INPUTS, UNITS, CLASSES = 16, 5, 8, 3


@dataclass(frozen=True)
class Net:
    """A two-layer net's loss as a function of its flat weights, in either precision."""

    activation: str
    x: Any
    y: Any

    def loss(self, w: Any) -> Any:
        """Mean cross-entropy in plain arrays, in the precision of w."""
        x = self.x.astype(w.dtype)
        a, b = (
            w[: INPUTS * UNITS].reshape(INPUTS, UNITS),
            w[INPUTS * UNITS :].reshape(UNITS, CLASSES),
        )
        h = x @ a
        h = np.tanh(h) if self.activation == "tanh" else np.maximum(h, 0)
        z = h @ b
        z = z - z.max(axis=1, keepdims=True)
        log = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return -log[np.arange(ROWS), self.y].mean()

    def gradient(self, w: Any) -> Any:
        """By automatic differentiation."""
        leaf = fathom.tensor(w, requires_grad=True)
        a = leaf[: INPUTS * UNITS].reshape(INPUTS, UNITS)
        b = leaf[INPUTS * UNITS :].reshape(UNITS, CLASSES)
        h = fathom.tensor(self.x.astype(w.dtype)) @ a
        h = fathom.tanh(h) if self.activation == "tanh" else fathom.relu(h)
        F.cross_entropy(h @ b, fathom.tensor(self.y)).backward()
        return np.asarray(leaf.grad.value())

    def differences(self, w: Any, eps: float) -> Any:
        """Central differences of the loss."""
        found = np.zeros(w.size, w.dtype)
        for i in range(w.size):
            right, left = w.copy(), w.copy()
            right[i] += w.dtype.type(eps)
            left[i] -= w.dtype.type(eps)
            found[i] = (self.loss(right) - self.loss(left)) / (2 * eps)
        return found


def made(seed: int, activation: str, dtype: Any = np.float64) -> tuple[Net, Any]:
    """A net on random rows, and random weights."""
    rng = np.random.default_rng(seed)
    net = Net(activation, rng.standard_normal((ROWS, INPUTS)), rng.integers(0, CLASSES, ROWS))
    w = rng.standard_normal(INPUTS * UNITS + UNITS * CLASSES) * 0.5
    return net, w.astype(dtype)


def relative(a: Any, b: Any) -> float:
    """|a - b| over |a| + |b|, as vectors."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a) + np.linalg.norm(b)), 1e-300))


@once
def errors(lab: Lab, activation: str, precision: str, eps: float) -> Any:
    """Relative error of the differences against the gradient, one a seed."""
    found = []
    for seed in lab.seeds(12, 3):
        net, w = made(seed, activation, np.dtype(precision))
        found.append(relative(net.gradient(w), net.differences(w, eps)))
    return np.array(found)


@question.experiment(
    "C2.3.16-01",
    T(
        "The central difference has an error of order eps squared.",
        "中心差分的误差是 eps 的二阶。",
    ),
    equals(2.0, 0.05),
)
def second_order(lab: Lab) -> Evidence:
    """Slope of log relative error over log eps, eps 1e-1 to 1e-3, a tanh net's loss in float64."""
    steps = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)
    rows = np.array([errors(lab, "tanh", "float64", e) for e in steps]).T
    return Sample([slope(np.log(steps[1:]), np.log(row[1:])) for row in rows])


@question.experiment(
    "C2.3.16-02",
    T("eps = 1e-4 is a good choice.", "eps = 1e-4 是好的选择。"),
    at_most(1e-7),
    correction=T(
        "In float64 (relative error {n[float64]:.0e}), not in float32 ({n[float32]:.0e}).",
        "在 float64 下如此（相对误差 {n[float64]:.0e}），在 float32 下不行（{n[float32]:.0e}）。",
    ),
    weight=2,
)
def good_step(lab: Lab) -> Evidence:
    """Relative error at eps = 1e-4 of a right gradient; good means below the book's own 1e-7."""
    return Settings(
        T("precision", "精度"),
        {p: Sample(errors(lab, "tanh", p, 1e-4)) for p in ("float64", "float32")},
    )


@question.experiment(
    "C2.3.16-03",
    T(
        "A relative error below 1e-7 is the criterion to pass.",
        "相对误差小于 1e-7 是通过的标准。",
    ),
    at_most(1e-7),
    correction=T(
        "Right gradients meet it with tanh in float64 ({n[tanh, float64]:.0e}), not with ReLU "
        "({n[relu, float64]:.0e}, because of kinks) nor in float32 ({n[tanh, float32]:.0e}).",
        "tanh 网络在 float64 下正确的梯度能达到（{n[tanh, float64]:.0e}）；ReLU 因折点达不到"
        "（{n[relu, float64]:.0e}），float32 下也达不到（{n[tanh, float32]:.0e}）。",
    ),
    weight=3,
)
def criterion(lab: Lab) -> Evidence:
    """Worst relative error of right gradients over 60 random nets, differences with eps 1e-4."""
    at: dict[str, Evidence] = {}
    for activation, precision in (("tanh", "float64"), ("relu", "float64"), ("tanh", "float32")):
        found = []
        for seed in lab.seeds(60, 20):
            net, w = made(seed, activation, np.dtype(precision))
            found.append(relative(net.gradient(w), net.differences(w, 1e-4)))
        at[f"{activation}, {precision}"] = float(max(found))
    return Settings(T("activation and precision", "激活函数与精度"), at)


@dataclass(frozen=True)
class Planted:
    """A wrong derivative of an elementwise function, where it is tested, and where it is wrong."""

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    tested: Any
    wrong: float
    right: float  # the true slope there


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def leaky(x: Any) -> Any:
    return np.where(x > 0, x, 0.01 * x)


def wrong_slope(x: Any) -> Any:
    return np.where(x > 0, 1.0, 0.1)


HERE = np.array([-1.3, -0.4, 0.3, 0.9, 1.7])
PLANTED = {
    "factor 2 forgotten": Planted(lambda x: x**2, lambda x: x, HERE, 1.0, 2.0),
    "square forgotten": Planted(np.tanh, lambda x: 1 - np.tanh(x), HERE, 1.0, 1 - np.tanh(1) ** 2),
    "1 - s forgotten": Planted(sigmoid, sigmoid, HERE, 0.0, 0.25),
    "sign turned": Planted(np.cos, np.sin, HERE, 1.0, -float(np.sin(1))),
    "wrong slope, tested": Planted(leaky, wrong_slope, HERE, -1.0, 0.01),
    "wrong slope, not tested": Planted(leaky, wrong_slope, np.abs(HERE), -1.0, 0.01),
    "limit not reached": Planted(lambda x: np.clip(x, -5, 5), np.ones_like, HERE, 6.0, 0.0),
    "overflow far out": Planted(
        sigmoid, lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2, HERE, -800.0, 0.0
    ),
}  # fmt: skip


def passes_by_hand(bug: Planted) -> bool:
    """The check as printed: eps 1e-4, relative error below 1e-7."""
    numeric = (bug.value(bug.tested + 1e-4) - bug.value(bug.tested - 1e-4)) / 2e-4
    return relative(bug.slope(bug.tested), numeric) < 1e-7


def passes_library(bug: Planted) -> bool:
    """The library's check of the same as a custom operation."""

    class Written(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return fathom.tensor(bug.value(x.value()))

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            (x,) = ctx.saved_tensors
            return gradient * fathom.tensor(bug.slope(x.value()))

    x = fathom.tensor(bug.tested.copy(), requires_grad=True)
    return gradcheck(Written.apply, x, raise_exception=False)


def is_wrong(bug: Planted) -> bool:
    """The derivative is not the true one at the place where it is said to be wrong."""
    with np.errstate(all="ignore"):
        said = float(bug.slope(np.array([bug.wrong]))[0])
    return not abs(said - bug.right) < 1e-6


@question.exact(
    "C2.3.16-04",
    T("Passing the check proves the implementation perfect.", "通过检验就证明实现完全正确。"),
    equals(0.0),
    correction=T(
        "Of eight wrong derivatives {n[passed/as printed]:.0%} pass: those whose faulty branch "
        "the "
        "test points do not reach.",
        "八个错误的导数中有 {n[passed/as printed]:.0%} 通过了检验：测试点没有到达它们出错的分支。",
    ),
    weight=3,
)
def no_proof(lab: Lab) -> Evidence:
    """Share of eight planted wrong derivatives that pass, by the printed check and the library's.

    Five are wrong at the test points, three elsewhere only; each is verified to be wrong somewhere.
    """
    bugs = list(PLANTED.values())
    return All({
        "passed": Routes({
            "as printed": float(np.mean([passes_by_hand(b) for b in bugs])),
            "library": float(np.mean([passes_library(b) for b in bugs])),
        }),
        "right after all": float(np.mean([not is_wrong(b) for b in bugs])),
    })  # fmt: skip


@question.figure(T("Error of the difference by step", "差分误差随步长的变化"))
def v_curve(lab: Lab) -> Figure:
    """A net's loss, central differences against the gradient; bands over seeds."""
    steps = 10.0 ** np.arange(-12, 0.5, 1.0)
    marks: list[Any] = []
    for activation, precision in (("tanh", "float64"), ("tanh", "float32"), ("relu", "float64")):
        rows = np.array([errors(lab, activation, precision, float(e)) for e in steps])
        rows = np.maximum(rows, 1e-16)
        name = f"{activation}, {precision}"
        marks.append(
            Line(T(name, name), steps, np.median(rows, axis=1), rows.min(axis=1), rows.max(axis=1))
        )
    return Figure(
        Axis(T("eps", "eps"), log=True),
        Axis(T("relative error", "相对误差"), log=True),
        [*marks, Level(T("1e-7", "1e-7"), y=1e-7), Level(T("1e-4", "1e-4"), x=1e-4)],
        T(
            "The error falls with eps squared until rounding takes over: in float64 near 1e-5, in "
            "float32 near 1e-2, where it never gets below 1e-7.",
            "误差随 eps 的平方下降，直到舍入误差占上风：float64 在 1e-5 附近，float32 在 1e-2 "
            "附近，且始终达不到 1e-7。",
        ),
    )


@question.figure(T("Which planted bugs are seen", "哪些埋入的错误被发现"))
def seen(lab: Lab) -> Figure:
    """Relative error that the check reports for eight wrong derivatives, eps 1e-4."""
    reported = []
    for bug in PLANTED.values():
        numeric = (bug.value(bug.tested + 1e-4) - bug.value(bug.tested - 1e-4)) / 2e-4
        reported.append(max(relative(bug.slope(bug.tested), numeric), 1e-16))
    chinese = (
        "漏乘 2",
        "漏平方",
        "漏 1 - s",
        "符号反了",
        "斜率错，测到",
        "斜率错，未测到",
        "限幅未触及",
        "远处溢出",
    )
    ticks = [T(en, zh) for en, zh in zip(PLANTED, chinese, strict=True)]
    return Figure(
        Axis(T("bug", "错误"), ticks=ticks),
        Axis(T("relative error", "相对误差"), log=True),
        [Bars(T("reported", "报告值"), reported), Level(T("1e-7", "1e-7"), y=1e-7)],
        T(
            "The five bugs at work at the test points stand out by six orders of magnitude; the "
            "three "
            "on branches not reached pass.",
            "在测试点上起作用的五个错误高出六个数量级以上；处在未到达分支上的三个则通过了检验。",
        ),
    )
