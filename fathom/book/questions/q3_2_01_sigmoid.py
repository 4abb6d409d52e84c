"""3.2.1 The sigmoid: its forms, its range and its slope."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings, T,
    at_most, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, difference, value
from fathom.book.material.data import digits
from fathom.book.material.gaussian import normal_mean
from fathom.nn import Linear, Sequential, Sigmoid
from fathom.train import train_many

question = Question(
    "3.2.1",
    title=T(
        "What is the sigmoid, what range does it have, and what is its gradient?",
        "Sigmoid 的定义是什么？值域和梯度各是什么？",
    ),
    difficulty=2,
    frequency=5,
    topics=("sigmoid", "logistic function", "overflow", "逻辑函数", "值域", "数值溢出"),
    answer=T(
        "The sigmoid is sigma(x) = 1 / (1 + exp(-x)), a smooth, strictly rising S from 0 to 1 with "
        "sigma(0) = 0.5 and sigma(-x) = 1 - sigma(x). Its range is the open interval (0, 1); in "
        "floating point both ends are reached, 1 from about x = 17 in float32 and 37 in float64. "
        "Its "
        "slope is sigma(x) (1 - sigma(x)) = sigma(x) sigma(-x): at most 0.25, at x = 0, and about "
        "exp(-|x|) far out. It is a tanh in disguise, (1 + tanh(x/2)) / 2, and also "
        "exp(x) / (1 + exp(x)). These are equal on paper and not in a program: the last overflows "
        "to NaN on the right, and the tanh form loses all digits far on the left. Libraries "
        "therefore choose the form by the sign of x. Its mean output is 0.5 only where the inputs "
        "lie symmetrically about 0.",
        "Sigmoid 是 sigma(x) = 1 / (1 + exp(-x))，一条光滑、严格递增的 S 形曲线，从 0 到 1，"
        "sigma(0) = 0.5，sigma(-x) = 1 - sigma(x)。值域是开区间 (0, 1)；但浮点数里两端都能取到，"
        "float32 大约从 x = 17 起、float64 大约从 37 起就恰好等于 1。导数是 sigma(x)(1 - "
        "sigma(x)) = "
        "sigma(x) sigma(-x)：最大值 0.25，在 x = 0 处取得，远处约为 exp(-|x|)。它其实是变了形的 "
        "tanh："
        "(1 + tanh(x/2)) / 2，也等于 exp(x) / (1 + exp(x))。这些式子在纸面上相等，在程序里却不然："
        "最后一种在右侧溢出成 NaN，tanh 形式在左侧远处失去全部有效数字。因此各个库按 x 的符号选择"
        "算式。"
        "只有输入关于 0 对称时，平均输出才是 0.5。",
    ),
    flips=T(
        "If you need log sigma(x) or a loss, do not compute the sigmoid first: far out it rounds "
        "to 0 or 1, so take the fused form on the logit.",
        "如果需要 log sigma(x) 或损失，就不要先算 sigmoid：远处它会舍入成 0 或 1，应直接对 logit "
        "用融合算式。",
    ),
    analogy=T(
        "A dimmer: in the middle a small turn changes the light most, near either stop turning "
        "changes hardly anything.",
        "调光旋钮：在中间轻轻一转亮度变化最大，靠近两端再拧也几乎没有变化。",
    ),
    generative=T(
        "Gates of SwiGLU and of recurrent language models are sigmoids of a learned score.",
        "SwiGLU 和循环语言模型中的门控，就是对学到的分数取 sigmoid。",
    ),
    classical=T(
        "Logistic regression is one sigmoid: the log-odds are linear in the inputs.",
        "逻辑回归就是一个 sigmoid：对数几率是输入的线性函数。",
    ),
    driving=T(
        "A detector's objectness is a sigmoid of a logit; a threshold of 0.5 is the logit's sign.",
        "检测器的目标置信度是 logit 的 sigmoid；阈值取 0.5 等于只看 logit 的符号。",
    ),
    change=T(
        "Evaluate in float32 in place of float64: the form exp(x) / (1 + exp(x)) breaks at x = 89 "
        "and no longer at 710.",
        "把 float64 换成 float32：exp(x) / (1 + exp(x)) 在 x = 89 处就失效，而不是 710。",
    ),
)

FORMS: dict[str, Callable[[Any], Any]] = {
    "1 / (1 + exp(-x))": lambda x: 1 / (1 + np.exp(-x)),
    "exp(x) / (1 + exp(x))": lambda x: np.exp(x) / (1 + np.exp(x)),
    "(1 + tanh(x / 2)) / 2": lambda x: (1 + np.tanh(x / 2)) / 2,
}


def to_fifty_digits(x: float, form: str) -> Decimal:
    """One of the forms in decimal arithmetic, where nothing overflows."""
    with localcontext() as context:
        context.prec = 60
        e = Decimal(x).exp()
        if form.startswith("1 "):
            return 1 / (1 + Decimal(-x).exp())
        if form.startswith("exp"):
            return e / (1 + e)
        half = Decimal(x / 2).exp()
        return (1 + (half - 1 / half) / (half + 1 / half)) / 2


def relative_error(form: str, x: Any) -> Any:
    """Of a form in x's float type, against 60-digit arithmetic; NaN counts as infinite."""
    with np.errstate(all="ignore"):
        found = np.asarray(FORMS[form](x), np.float64)
    errors = []
    for at, y in zip(x, found, strict=True):
        true_value = to_fifty_digits(float(at), "1 / (1 + exp(-x))")
        far = abs(Decimal(float(y)) / true_value - 1) if np.isfinite(y) else Decimal("Infinity")
        errors.append(float(far))
    return np.array(errors)


@question.exact(
    "C3.2.1-01",
    T(
        "1 / (1 + exp(-x)) and exp(x) / (1 + exp(x)) are the same function.",
        "1 / (1 + exp(-x)) 与 exp(x) / (1 + exp(x)) 是同一个函数。",
    ),
    at_most(1e-14),
)
def two_forms(lab: Lab) -> Evidence:
    """Largest relative difference: 10,000 points of [-700, 700] in float64, and 200 in 60-digit
    arithmetic. Beyond 709 the second form overflows in float64, which the figure shows.
    """
    x = lab.rng("points").uniform(-700.0, 700.0, 10_000)
    a, b = (FORMS[form](x) for form in list(FORMS)[:2])
    first, second = list(FORMS)[:2]
    exact = [abs(to_fifty_digits(v, first) / to_fifty_digits(v, second) - 1) for v in x[:200]]
    return Routes({
        "float64": float(np.abs(a / b - 1).max()),
        "60 digits": float(max(exact)),
    })  # fmt: skip


@question.exact(
    "C3.2.1-02",
    T("sigma(x) = (1 + tanh(x/2)) / 2.", "sigma(x) = (1 + tanh(x/2)) / 2。"),
    at_most(1e-14),
)
def as_a_tanh(lab: Lab) -> Evidence:
    """Largest difference over 10,000 points of [-50, 50]: NumPy, the library's own functions, and
    60-digit arithmetic on 200 points.
    """
    x = lab.rng("points").uniform(-50.0, 50.0, 10_000)
    first, _, third = FORMS
    apart = value(fathom.sigmoid, x) - (1 + value(fathom.tanh, x / 2)) / 2
    exact = [abs(to_fifty_digits(v, first) - to_fifty_digits(v, third)) for v in x[:200]]
    return Routes({
        "NumPy": float(np.abs(FORMS[first](x) - FORMS[third](x)).max()),
        "Fathom": float(np.abs(apart).max()),
        "60 digits": float(max(exact)),
    })  # fmt: skip


@question.exact(
    "C3.2.1-03",
    T(
        "At -6, -3, 0, 3, 6 the values are 0.0025, 0.047, 0.5, 0.953, 0.9975.",
        "在 -6、-3、0、3、6 处的取值为 0.0025、0.047、0.5、0.953、0.9975。",
    ),
    equals(0.5, 0.05),
)
def table(lab: Lab) -> Evidence:
    """Each value in float64, to half a unit of the last printed digit."""
    printed = {-6: (0.0025, 5e-5), -3: (0.047, 5e-4), 0: (0.5, 0.05), 3: (0.953, 5e-4),
               6: (0.9975, 5e-5)}  # fmt: skip
    return All({
        f"sigma({x})": Check(float(value(fathom.sigmoid, float(x))), equals(*told))
        for x, told in printed.items()
    })  # fmt: skip


@question.exact(
    "C3.2.1-04",
    T("The slope is sigma(x) sigma(-x).", "导数等于 sigma(x) sigma(-x)。"),
    at_most(1e-12),
)
def slope(lab: Lab) -> Evidence:
    """Largest difference from automatic differentiation over 10,000 points of [-40, 40]; and from
    central differences, whose own error is about 1e-10.
    """
    x = lab.rng("points").uniform(-40.0, 40.0, 10_000)
    product = FORMS["1 / (1 + exp(-x))"](x) * FORMS["1 / (1 + exp(-x))"](-x)
    quotient = difference(fathom.sigmoid, x)
    return All({
        "autodiff": float(np.abs(derivative(fathom.sigmoid, x) - product).max()),
        "central differences": Check(float(np.abs(quotient - product).max()), at_most(1e-9)),
    })  # fmt: skip


@once
def hidden_means(lab: Lab) -> Any:
    """Mean output of 32 hidden sigmoid units after 10 epochs on digits, one number a seed."""
    data = digits()
    spec = {
        "model": lambda: Sequential(Linear(64, 32), Sigmoid(), Linear(32, 10)),
        "optimizer": "adam", "lr": 0.01, "epochs": lab.pick(10, 3), "batch_size": 32,
    }  # fmt: skip
    fleet = train_many(spec, data.x, data.y, seeds=lab.seeds(20, 5))
    nets: list[Any] = [run.model for run in fleet.runs]
    with fathom.no_grad():
        hidden = [net[1](net[0](fathom.tensor(data.test_x))) for net in nets]
    return np.array([float(h.value().mean()) for h in hidden])


@question.experiment(
    "C3.2.1-05",
    T("The mean output is about 0.5.", "平均输出约为 0.5。"),
    equals(0.5, 0.05),
    correction=T(
        "It is 0.5 for inputs symmetric about 0, {n[normal, mean 1/quadrature]:.2f} for normal "
        "inputs of mean "
        "1; hidden units trained on digits end at {n[hidden units, digits]:.2f}.",
        "输入关于 0 对称时是 0.5；输入为均值 1 的正态分布时是 {n[normal, mean 1/quadrature]:.2f}；"
        "在手写数字上训练后的隐藏单元为 {n[hidden units, digits]:.2f}。",
    ),
    weight=2,
)
def mean_output(lab: Lab) -> Evidence:
    """E sigma(x) by quadrature for normal inputs of deviation 1, and by drawing 10^6; the mean
    over test rows of hidden units trained on digits. "About" is taken as within 0.05.
    """
    sigma = FORMS["1 / (1 + exp(-x))"]
    drawn = lab.rng("normal").standard_normal(lab.pick(1_000_000, 100_000))
    at: dict[str, Evidence] = {
        f"normal, mean {m}": Routes({
            "quadrature": normal_mean(lambda z, m=m: sigma(z + m)),
            "drawn": float(sigma(drawn + m).mean()),
        })
        for m in (0, 1)
    }  # fmt: skip
    return Settings(T("inputs", "输入"), at | {"hidden units, digits": Sample(hidden_means(lab))})


@question.figure(T("Where the forms break", "各种算式在哪里失效"))
def where_forms_break(lab: Lab) -> Figure:
    """Relative error of each form in float32 against 60-digit arithmetic; float64 below."""
    marks: list[Any] = []
    numbers: dict[str, float] = {}
    for kind, reach in (("float32", 103.0), ("float64", 745.0)):
        x = np.linspace(-reach, reach, lab.pick(299, 75)).astype(kind)
        for form in FORMS:
            error = np.maximum(relative_error(form, x), 1e-10)
            if kind == "float32":
                marks.append(Line(T(form, form), x, np.where(np.isfinite(error), error, np.nan)))
            for side, bad in (("left", x[(x < 0) & (error > 0.01)]), ("right", x[error == np.inf])):
                if len(bad):
                    numbers[f"{kind}, {form}, {side}"] = float(bad[np.abs(bad).argmin()])
    return Figure(
        Axis(T("x", "x")),
        Axis(T("relative error, float32", "相对误差（float32）"), log=True),
        [*marks, Level(T("all digits lost", "有效数字全部丢失"), y=1.0)],
        T(
            "On the left the tanh form loses its digits one by one; on the right the form with "
            "exp(x) twice ends in NaN, where its line stops. The table says from where on each is "
            "wrong by a hundredth or more.",
            "左侧 tanh 形式逐渐丢失有效数字；右侧含两个 exp(x) 的形式变成 NaN，曲线在那里中断。"
            "下表给出各形式从何处起误差超过百分之一。",
        ),
        numbers,
    )


@question.figure(T("The curve and its slope", "曲线及其导数"))
def curve(lab: Lab) -> Figure:
    """Values and slopes of the sigmoid, with the table's points."""
    x = np.linspace(-8.0, 8.0, 161)
    at = np.array([-6.0, -3.0, 0.0, 3.0, 6.0])
    return Figure(
        Axis(T("x", "x")),
        Axis(T("value", "值")),
        [
            Line(T("sigmoid", "sigmoid"), x, value(fathom.sigmoid, x)),
            Line(T("slope", "导数"), x, derivative(fathom.sigmoid, x)),
            Line(T("table", "数值表"), at, value(fathom.sigmoid, at), points=True),
            Level(T("largest slope", "最大导数"), y=0.25),
        ],
        T(
            "The slope is a bell with its top of 0.25 at 0; beyond 6 on either side next to "
            "nothing "
            "is left of it.",
            "导数是钟形曲线，在 0 处达到最大值 0.25；两侧超过 6 之后几乎为零。",
        ),
    )
