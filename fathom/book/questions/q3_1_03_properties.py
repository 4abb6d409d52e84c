"""3.1.3 What a good activation is said to have, and what the usual ones do have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import erf, pi, sqrt
from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.activations.ticks import disagreements
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Settings,
    T, at_least, at_most, equals, once, true, within,
)  # fmt: skip
from fathom.book.material.activation_cost import NAMES, Costs, costs
from fathom.book.material.calculus import derivative, value
from fathom.book.material.gaussian import normal_mean
from fathom.book.material.speed import Ratio, about

question = Question(
    "3.1.3",
    title=T("What properties should a good activation have?", "好的激活函数应具备哪些性质？"),
    difficulty=3,
    frequency=4,
    topics=(
        "activation",
        "property table",
        "zero-centred",
        "saturation",
        "激活函数",
        "零中心",
        "饱和",
        "单调",
    ),
    alone=True,
    answer=T(
        "One property is a must: nonlinear, and not a polynomial. The others are wishes: a slope "
        "almost everywhere, slopes near 1 so that gradients neither vanish nor explode, no flat "
        "ends, an output with mean near 0, little cost. No activation has them all, and the usual "
        "table of ticks misleads: ReLU, ELU, GELU and Swish are flat on the left, ELU with alpha 1 "
        "is differentiable at 0, and of GELU, Swish and ELU none is zero-centred: for normal "
        "inputs their means are 0.28, 0.21 and 0.16. Monotone is no requirement: GELU and Swish "
        "are not and work well; nor does it make the loss of a single unit convex, which is a "
        "matter of the loss. What an activation costs is a property of the code that computes it, "
        "not of the formula.",
        "只有一条是必须的：非线性，而且不是多项式。其余都是愿望：几乎处处有导数；斜率接近 1，使梯度"
        "既不消失也不爆炸；两端不平；输出均值接近 0；计算便宜。没有哪个激活函数全部具备，而常见的打"
        "勾表会误导人：ReLU、ELU、GELU、Swish 左侧都是平的；alpha 为 1 的 ELU 在 0 处可导；GELU、"
        "Swish、ELU 都不是零中心的，正态输入下均值分别是 0.28、0.21 和 0.16。单调不是必要条件："
        "GELU 和 Swish 不单调却很好用；单调也不能让单个单元的损失变凸，那取决于损失函数。激活的开销"
        "是实现代码的性质，而不是公式的性质。",
    ),
    flips=T(
        "With normalization before and residual paths around it, centring and saturation matter "
        "little, and almost any activation trains.",
        "前面有归一化、旁边有残差通路时，零中心与饱和就不太重要，几乎任何激活都能训练。",
    ),
    analogy=T(
        "A shopping list for a car: fast, frugal, roomy, cheap. One buys a compromise, and reads "
        "the measured consumption, not the brochure.",
        "像买车清单：快、省油、宽敞、便宜。最终买的是折中，而且要看实测油耗，不看宣传册。",
    ),
    generative=T(
        "GELU and SwiGLU won in language models by measured loss, not by ticks in a table.",
        "GELU 与 SwiGLU 在语言模型中胜出靠的是实测损失，而不是表格里的勾。",
    ),
    classical=T(
        "For probabilities a bounded, saturating output is what one wants: the sigmoid at the end.",
        "要输出概率时，有界且饱和正是所需：末端的 sigmoid。",
    ),
    driving=T(
        "On an embedded chip the cost decides: piecewise linear activations run everywhere and "
        "quantize well.",
        "在车载芯片上开销说了算：分段线性激活处处可用，也便于量化。",
    ),
    change=T(
        "Set ELU's alpha to 0.5: a kink appears at 0. Measure the costs in another engine: their "
        "order changes.",
        "把 ELU 的 alpha 设为 0.5：0 处就出现折点。换一个引擎测开销：排序就变。",
    ),
)

TABLE = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu")
SHOWN = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU", "leaky_relu": "Leaky ReLU",
         "elu": "ELU", "gelu": "GELU", "silu": "Swish", "gelu_tanh": "GELU (tanh)"}  # fmt: skip


@once
def audited(lab: Lab) -> dict[str, Any]:
    """The library's audit of the activations of the table."""
    return {name: activations.audit(name, timing=False) for name in TABLE}


@once
def timed(lab: Lab) -> Costs:
    """Times of the activations in three engines."""
    sizes = lab.pick(["4k", "16k", "64k", "1M"], ["4k", "1M"])
    return costs(lab.rng("cost"), lab.pick(5, 3), lab.pick(3, 1), sizes=sizes)


def mean(lab: Lab, name: str, closed: float) -> Routes:
    """The mean of an activation of z ~ N(0, 1): by its closed form, quadrature, the audit's
    grid."""
    f = getattr(activations, name)
    return Routes({
        "closed form": closed, "quadrature": normal_mean(lambda z: value(f, z)),
        "audit": audited(lab)[name].mean,
    })  # fmt: skip


def mean_of_elu() -> float:
    """phi(0) + exp(1/2) Phi(-1) - 1/2: half a normal density, and a Gaussian integral."""
    return 1 / sqrt(2 * pi) + np.exp(0.5) * 0.5 * (1 + erf(-1 / sqrt(2))) - 0.5


CENTRED = within(-0.05, 0.05)
MEAN_OF_GELU = 1 / (2 * sqrt(pi))  # E[z Phi(z)] = E[phi(z)], by parts


@question.exact(
    "C3.1.3-01",
    T("ReLU is unbounded; sigmoid and tanh are bounded.", "ReLU 无界；sigmoid 与 tanh 有界。"),
    true(),
)
def bounds(lab: Lab) -> Evidence:
    """Ranges by the audit, and the values at 10 to the 30th and its negative."""
    far = np.array([-1e30, 1e30])
    found = {name: audited(lab)[name].range for name in ("relu", "sigmoid", "tanh")}
    return All({
        "audit": found == {"relu": (0.0, np.inf), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)},
        "ReLU grows": bool(value(activations.relu, far)[1] == 1e30),
        "sigmoid": bool((value(activations.sigmoid, far) == (0.0, 1.0)).all()),
        "tanh": bool((value(activations.tanh, far) == (-1.0, 1.0)).all()),
    })  # fmt: skip


def squared(s: Any) -> Any:
    return (s - 1.0) ** 2


def cross_entropy(s: Any) -> Any:
    return -s.log()


def least_bend(loss: Any) -> Routes:
    """Smallest second derivative of loss(sigmoid(z)) on [-6, 6], by the tape and by differences."""
    z = np.linspace(-6.0, 6.0, 2401)
    at = fathom.tensor(z, requires_grad=True)
    slope = fathom.autograd.grad(loss(fathom.sigmoid(at)).sum(), [at], create_graph=True)[0]
    bend = fathom.autograd.grad(slope.sum(), [at])[0].value()
    y = {squared: (1 / (1 + np.exp(-z)) - 1) ** 2, cross_entropy: np.log1p(np.exp(-z))}[loss]
    return Routes({
        "autodiff": float(bend.min()),
        "second differences": float((np.diff(y, 2) / (z[1] - z[0]) ** 2).min()),
    })  # fmt: skip


@question.exact(
    "C3.1.3-02",
    T(
        "A monotone activation makes the loss of a single layer convex.",
        "单调的激活使单层网络的损失是凸的。",
    ),
    at_least(-1e-6),
    correction=T(
        "Convexity comes from loss and activation together: with a sigmoid the cross-entropy is "
        "convex, but the squared error's second derivative goes down to "
        "{n[squared error/autodiff]:.3f}.",
        "凸性由损失与激活共同决定：配 sigmoid 时交叉熵是凸的，而平方误差的二阶导数低到 "
        "{n[squared error/autodiff]:.3f}。",
    ),
    weight=3,
)
def convexity(lab: Lab) -> Evidence:
    """Smallest second derivative in z of the loss of sigmoid(z) for the target 1: squared error and
    cross-entropy, each by automatic differentiation and by second differences."""
    return Settings(T("loss", "损失"), {
        "squared error": least_bend(squared), "cross-entropy": least_bend(cross_entropy),
    })  # fmt: skip


@question.exact(
    "C3.1.3-03",
    T(
        "Monotone means strictly: x < y gives f(x) < f(y), for every activation ticked as "
        "monotone.",
        "单调指严格不等式：x < y 推出 f(x) < f(y)，对所有打勾为单调的激活都成立。",
    ),
    equals(1.0),
    correction=T(
        "Monotone means f(x) <= f(y). With the strict sign ReLU would not be monotone: of random "
        "pairs {n[ReLU/library]:.0%} fulfil it, for all negative numbers share the value 0.",
        "单调指 f(x) <= f(y)。若用严格号，ReLU 就不单调：随机数对中只有 {n[ReLU/library]:.0%} 满"
        "足，因为所有负数的函数值都是 0。",
    ),
)
def strictly(lab: Lab) -> Evidence:
    """Share of 100,000 pairs x < y, uniform on [-3, 3], with f(x) < f(y): ReLU by the library and
    by NumPy; sigmoid, tanh and leaky ReLU beside it."""
    low, high = np.sort(lab.rng("pairs").uniform(-3.0, 3.0, (2, 100_000)), axis=0)

    def share(name: str) -> float:
        f = getattr(activations, name)
        return float((value(f, low) < value(f, high)).mean())

    return All({
        "ReLU": Routes({
            "library": share("relu"),
            "NumPy": float((np.maximum(low, 0) < np.maximum(high, 0)).mean()),
        }),
        **{SHOWN[name]: share(name) for name in ("sigmoid", "tanh", "leaky_relu")},
    })  # fmt: skip


GROUPS = (("relu", "leaky_relu"), ("sigmoid", "tanh"), ("gelu", "silu"))


@question.experiment(
    "C3.1.3-04",
    T(
        "From quick to slow: ReLU, Leaky ReLU; then sigmoid and tanh, alike; then GELU and Swish.",
        "由快到慢：ReLU、Leaky ReLU；然后 sigmoid 与 tanh 相当；最后 GELU 与 Swish。",
    ),
    at_least(0.8),
    correction=T(
        "The order belongs to the engine. In compiled Fathom tanh takes "
        "{n[Fathom, compiled, 1M/tanh over sigmoid/quickest run]:.2f} times what sigmoid takes, and the "
        "quicker of GELU and Swish {n[Fathom, compiled, 1M/third over second/quickest run]:.2f} times "
        "what the slower of those two takes. In PyTorch tanh takes "
        "{n[PyTorch, 1M/tanh over sigmoid/quickest run]:.1f} times what sigmoid takes and is the slowest "
        "of all; in NumPy it takes {n[NumPy, 1M/tanh over sigmoid/quickest run]:.2f} times what sigmoid "
        "takes.",
        "排序取决于引擎。Fathom 编译后 tanh 的耗时是 sigmoid 的 "
        "{n[Fathom, compiled, 1M/tanh over sigmoid/quickest run]:.2f} 倍，GELU 与 Swish 中较快者是它们中较慢者的 "
        "{n[Fathom, compiled, 1M/third over second/quickest run]:.2f} 倍。PyTorch 中 tanh 的耗时是 sigmoid 的 "
        "{n[PyTorch, 1M/tanh over sigmoid/quickest run]:.1f} 倍，比谁都慢；NumPy 中 tanh 只有 sigmoid 的 "
        "{n[NumPy, 1M/tanh over sigmoid/quickest run]:.2f} 倍。",
    ),
    weight=2,
    needs=("torch", "scipy"),
)
def order(lab: Lab) -> Evidence:
    """4,096 to a million float32 numbers (in PyTorch float64 too) on one thread, three groups (ReLU,
    Leaky ReLU; sigmoid, tanh; GELU, Swish): time of the quickest of a group over that of the slowest
    of the group before, by the quickest run and by processor time. A ratio of times carries to other
    machines to a fifth of itself: a later group must not be quicker by more than that, and alike is
    to a fifth. A setting must clear the edges by a tenth."""
    found = timed(lab)

    def over(setting: str, later: tuple[str, ...], former: tuple[str, ...]) -> Routes:
        return Routes({
            clock: Ratio(
                np.min([t[n] for n in later], axis=0), np.max([t[n] for n in former], axis=0)
            )
            for clock, t in found.times[setting].items()
        })  # fmt: skip

    return found.by_setting(lambda setting: All({
        "second over first": over(setting, GROUPS[1], GROUPS[0]),
        "third over second": over(setting, GROUPS[2], GROUPS[1]),
        "tanh over sigmoid": Check(found.ratio(setting, "tanh", "sigmoid"), about(1.0)),
    }))  # fmt: skip


class Exponentials:
    """exp, counting the numbers that it was taken of."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, x: Any) -> Any:
        self.count += x.size
        return np.exp(x)


def gelu_by_tanh(x: Any, exp: Exponentials) -> Any:
    """The tanh form (Hendrycks & Gimpel, 2016)."""
    e = exp(-2 * np.abs(u := sqrt(2 / pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.sign(u) * (1 - e) / (1 + e))


def gelu_by_fit(x: Any, exp: Exponentials) -> Any:
    """With the error function as a polynomial times an exponential (Abramowitz & Stegun 7.1.26)."""
    z = np.abs(x) / sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    fit = np.polyval([1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0], t)
    return 0.5 * x * (1 + np.sign(x) * (1 - fit * exp(-z * z)))


def gelu_by_quotient(x: Any) -> Any:
    """With the error function as a rational one (Abramowitz & Stegun 7.1.28)."""
    z = np.abs(x) / sqrt(2)
    c = [430638e-10, 2765672e-10, 1520143e-10, 92705272e-10, 422820123e-10, 705230784e-10, 1]
    return 0.5 * x * (1 + np.sign(x) * (1 - np.polyval(c, z) ** -16.0))


def gelu_by_series(x: Any) -> Any:
    """x Phi(x) with the power series of the error function: products and sums only."""
    z = np.clip(x / sqrt(2), -4.5, 4.5)
    term, total = z.copy(), z.copy()
    for n in range(1, 90):
        term = -term * z * z / n
        total = total + term / (2 * n + 1)
    return x * (0.5 + total / sqrt(pi))


def gelu_by_table(x: Any, reference: Any, entries: int = 2049) -> Any:
    """Linear interpolation in a table of x Phi(x) over [-8, 8]; 0 and x beyond."""
    grid = np.linspace(-8.0, 8.0, entries)
    return np.where(np.abs(x) < 8, np.interp(x, grid, reference(grid)), np.maximum(x, 0.0))


@question.exact(
    "C3.1.3-05",
    T("GELU needs exponentials.", "GELU 需要指数运算。"),
    at_least(1.0),
    correction=T(
        "As it is mostly computed it does: the tanh form takes {n[tanh/exponentials]:.0f} a value, "
        "and so does the usual fit of the error function. A rational fit takes none, with an error "
        "of {n[rational fit/error]:.0e}, nor does a table of 2,049 numbers ({n[table/error]:.0e}).",
        "按通常的算法需要：tanh 形式每个数要 {n[tanh/exponentials]:.0f} 次指数，误差函数的常用拟合也是。"
        "有理式拟合一次也不要，误差 {n[rational fit/error]:.0e}；2049 项的查表也不要（误差 "
        "{n[table/error]:.0e}）。",
    ),
    weight=2,
)
def without_exponentials(lab: Lab) -> Evidence:
    """Exponentials taken for a value, counted, in five ways to compute GELU on [-10, 10]; a way
    counts if it comes within 0.001 of x Phi(x) with C's error function."""

    def exact(x: Any) -> Any:
        return np.array([v * 0.5 * (1.0 + erf(v / sqrt(2))) for v in x])

    x = np.linspace(-10.0, 10.0, 4001)
    ways: dict[str, Callable[[Exponentials], Any]] = {
        "tanh": lambda exp: gelu_by_tanh(x, exp),
        "exponential fit": lambda exp: gelu_by_fit(x, exp),
        "rational fit": lambda exp: gelu_by_quotient(x),
        "power series": lambda exp: gelu_by_series(x),
        "table": lambda exp: gelu_by_table(x, exact),
    }
    at = {}
    for name, way in ways.items():
        error = float(np.abs(way(exp := Exponentials()) - exact(x)).max())
        at[name] = All({
            "exponentials": exp.count / x.size, "error": Check(error, at_most(1e-3))
        })  # fmt: skip
    return Settings(T("how it is computed", "计算方法"), at)


NOT_SATURATING = ("relu", "leaky_relu", "elu", "gelu", "silu")


def flat(lab: Lab, side: str) -> Routes:
    """How many of the five are flat on that side."""
    far = {"left": -40.0, "right": 40.0}[side]
    slopes = [derivative(getattr(activations, name), [far])[0] for name in NOT_SATURATING]
    return Routes({
        "slopes far out": int((np.abs(slopes) < 1e-9).sum()),
        "finite limits": sum(side in audited(lab)[name].saturates for name in NOT_SATURATING),
    })  # fmt: skip


@question.exact(
    "C3.1.3-06",
    T(
        "ReLU, Leaky ReLU, ELU, GELU and Swish do not saturate.",
        "ReLU、Leaky ReLU、ELU、GELU、Swish 都不饱和。",
    ),
    equals(0.0),
    correction=T(
        "To the right none of them does, and so none saturates on both sides, as sigmoid and tanh "
        "do. To the left {n[left/slopes far out]:.0f} of the five do, all but Leaky ReLU: there a "
        "unit gets no gradient.",
        "向右都不饱和，因此没有一个像 sigmoid、tanh 那样两侧饱和。向左五个中有 "
        "{n[left/slopes far out]:.0f} 个饱和，只有 Leaky ReLU 例外：单元落在那里就得不到梯度。",
    ),
    weight=3,
)
def saturation(lab: Lab) -> Evidence:
    """How many of the five are flat on a side: slopes of 0 at -40 or 40 by automatic
    differentiation, and finite limits that the audit finds."""
    return Settings(T("side", "哪一侧"), {side: flat(lab, side) for side in ("right", "left")})


def kink_of_elu(alpha: float) -> Routes:
    """Right slope less left slope at 0: by differences of the formula, and by the tape."""
    h = 1e-7
    left = (0.0 - alpha * np.expm1(-h)) / h
    sides = derivative(lambda x: activations.elu(x, alpha), [-1e-9, 1e-9])
    return Routes({"quotients": abs(1.0 - left), "autodiff": abs(float(sides[1] - sides[0]))})


@question.exact(
    "C3.1.3-07",
    T("ELU has no derivative at 0.", "ELU 在 0 处不可导。"),
    at_least(0.01),
    correction=T(
        "With alpha = 1, the usual one, both slopes at 0 are 1 (apart by {n[1/quotients]:.0e}); "
        "the second derivative jumps. With alpha = 0.5 the slope jumps by {n[0.5/quotients]:.2f}.",
        "常用的 alpha = 1 时，0 两侧斜率都是 1（相差 {n[1/quotients]:.0e}），跳变的是二阶导数。"
        "alpha = 0.5 时斜率跳变 {n[0.5/quotients]:.2f}。",
    ),
    weight=2,
)
def elu_at_zero(lab: Lab) -> Evidence:
    """The jump of the slope at 0, by difference quotients and by automatic differentiation."""
    return Settings(T("alpha", "alpha"), {str(a): kink_of_elu(a) for a in (0.5, 1, 2)})


@question.exact(
    "C3.1.3-08",
    T("ELU is zero-centred.", "ELU 是零中心的。"),
    CENTRED,
    correction=T(
        "For normal inputs and alpha 1 its mean is {n[closed form]:.4f}: nearer to 0 than ReLU's "
        "0.399, not 0.",
        "正态输入、alpha 为 1 时均值为 {n[closed form]:.4f}：比 ReLU 的 0.399 更接近 0，但不是 0。",
    ),
    weight=2,
)
def centre_of_elu(lab: Lab) -> Evidence:
    """E[ELU(z)], z ~ N(0, 1), by closed form, by quadrature and by the audit. Centred is taken as
    within 0.05, an eighth of ReLU's mean."""
    return mean(lab, "elu", mean_of_elu())


@question.exact(
    "C3.1.3-09",
    T("GELU is zero-centred.", "GELU 是零中心的。"),
    CENTRED,
    correction=T(
        "For normal inputs its mean is 1 / (2 sqrt(pi)) = {n[closed form]:.4f}.",
        "正态输入下均值为 1 / (2 sqrt(pi)) = {n[closed form]:.4f}。",
    ),
    weight=3,
)
def centre_of_gelu(lab: Lab) -> Evidence:
    """E[GELU(z)], z ~ N(0, 1), by closed form, by quadrature and by the audit. Centred is taken as
    within 0.05, an eighth of ReLU's mean."""
    return mean(lab, "gelu", MEAN_OF_GELU)


@question.exact(
    "C3.1.3-10",
    T(
        "GELU and Swish are not monotone; the others of the table are.",
        "GELU 与 Swish 不单调；表中其余都单调。",
    ),
    equals(0.0),
)
def turns(lab: Lab) -> Evidence:
    """How often f' changes its sign on [-10, 10]: 0 where monotone, once for GELU and Swish."""
    x = np.linspace(-10.0, 10.0, 20_000)
    found: dict[str, Any] = {}
    for name in TABLE:
        signs = np.sign(derivative(getattr(activations, name), x))
        changes = int((np.diff(signs[signs != 0]) != 0).sum())
        found[SHOWN[name]] = Check(changes, equals(1.0)) if name in ("gelu", "silu") else changes
    return All(found)


@question.exact(
    "C3.1.3-11",
    T("GELU is zero-centred and Swish is not.", "GELU 是零中心的，而 Swish 不是。"),
    at_least(0.0),
    correction=T(
        "Neither is, and Swish is the nearer one: its mean for normal inputs is "
        "{n[mean of Swish/quadrature]:.4f}, GELU's is {n[mean of GELU/quadrature]:.4f}.",
        "两者都不是，而且 Swish 更接近：正态输入下它的均值是 {n[mean of Swish/quadrature]:.4f}，"
        "GELU 是 {n[mean of GELU/quadrature]:.4f}。",
    ),
    weight=2,
)
def which_is_centred(lab: Lab) -> Evidence:
    """|mean of Swish| less |mean of GELU| for normal inputs, by quadrature and by the audit; the
    mean of GELU must lie within 0.05 of 0, that of Swish above."""
    gelu, swish = (
        Routes({
            "quadrature": normal_mean(partial(value, f)),
            "audit": audited(lab)[f.__name__].mean,
        })
        for f in (activations.gelu, activations.silu)
    )  # fmt: skip
    apart = {k: abs(float(swish[k])) - abs(float(gelu[k])) for k in gelu}  # type: ignore[arg-type]
    return All({
        "Swish less GELU": Routes(apart),
        "mean of GELU": Check(gelu, CENTRED),
        "mean of Swish": Check(swish, at_least(CENTRED.high)),
    })  # fmt: skip


COLUMNS = ("monotone", "zero_centred", "non_saturating", "differentiable")
TICKS = {  # as the book prints them
    "sigmoid": (True, False, False, True),
    "tanh": (True, True, False, True),
    "relu": (True, False, True, False),
    "leaky_relu": (True, False, True, False),
    "elu": (True, True, True, False),
    "gelu": (False, True, True, True),
    "silu": (False, False, True, True),
}


@question.figure(T("Mean output for normal inputs", "正态输入下的平均输出"))
def means(lab: Lab) -> Figure:
    """E[f(z)] of each activation, z ~ N(0, 1); and how many ticks of the book's table disagree with
    the audit."""
    said = {name: dict(zip(COLUMNS, row, strict=True)) for name, row in TICKS.items()}
    wrong = disagreements(said)
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(SHOWN[n], SHOWN[n]) for n in TABLE]),
        Axis(T("mean of f(z), z ~ N(0, 1)", "f(z) 的均值，z ~ N(0, 1)")),
        [
            Bars(T("mean", "均值"), [audited(lab)[name].mean for name in TABLE]),
            Level(T("zero-centred", "零中心"), y=0.0),
        ],
        T(
            "Only tanh, which is odd, has the mean 0. GELU lies above Swish and ELU, not below.",
            "只有奇函数 tanh 的均值是 0。GELU 的均值高于 Swish 与 ELU，而不是更低。",
        ),
        {"ticks": float(sum(map(len, TICKS.values()))), "that disagree": float(len(wrong))},
    )


@question.figure(T("What an activation costs, in three engines", "三种引擎中激活函数的开销"))
def cost(lab: Lab) -> Figure:
    """Time relative to ReLU of the same engine, for each activation, a million numbers."""
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(SHOWN[n], SHOWN[n]) for n in NAMES]),
        Axis(T("time, ReLU = 1", "耗时（ReLU = 1）"), log=True),
        timed(lab).bars(NAMES),
        T(
            "The same functions stand in a different order in each engine: what is fused and what "
            "is vectorized decides, not the formula.",
            "同样的函数在不同引擎里排序不同：起决定作用的是是否融合、是否向量化，而不是公式。",
        ),
    )


@question.figure(T("Slopes", "导数"))
def slopes(lab: Lab) -> Figure:
    """f' of the activations of the table, by automatic differentiation."""
    x = np.linspace(-4.0, 4.0, 162)
    return Figure(
        Axis(T("z", "z")),
        Axis(T("slope", "斜率")),
        [Line(T(SHOWN[n], SHOWN[n]), x, derivative(getattr(activations, n), x)) for n in TABLE],
        T(
            "On the left every slope but Leaky ReLU's goes to 0; GELU's and Swish's fall below 0 "
            "and rise above 1 on the way.",
            "左侧除 Leaky ReLU 外斜率都趋于 0；GELU 与 Swish 的斜率途中低于 0，也会超过 1。",
        ),
    )
