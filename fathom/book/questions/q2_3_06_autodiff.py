"""2.3.6 Automatic, symbolic and numeric differentiation."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom.autograd import memory_report
from fathom.autograd.quotients import difference_quotient
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Settings, T, at_least,
    equals, true,
)  # fmt: skip
from fathom.book.material.calculus import derivative, difference
from fathom.book.statistics import slope
from fathom.engine.errors import FathomError
from fathom.ops.expression import differentiate, trace
from fathom.ops.formula import formula

question = Question(
    "2.3.6",
    title=T(
        "What is automatic differentiation, and how does it differ from symbolic and numeric "
        "differentiation?",
        "什么是自动微分？它与符号微分、数值微分有何区别？",
    ),
    difficulty=3,
    frequency=4,
    topics=("autodiff", "symbolic", "numerical", "自动微分", "符号微分", "数值微分"),
    answer=T(
        "Numeric differentiation takes quotients of values: simple, one or two evaluations a "
        "parameter, and inexact, since a large step truncates and a small one cancels digits. "
        "Symbolic differentiation manipulates formulas; written out in full they swell "
        "exponentially, though not if equal parts are shared, and it handles branches and fixed "
        "loops but no loop whose length depends on a value. Automatic differentiation runs the "
        "program and applies the chain rule to the numbers, operation by operation. It has no "
        "truncation error, only rounding, which an ill-conditioned computation amplifies. It "
        "follows whatever branch was taken, so it is silent about kinks, about numbers that leave "
        "the tape, and about branches that hide a slope. Reverse mode pays with memory in "
        "proportion to depth, width and batch.",
        "数值微分取函数值之商：简单，每个参数要一到两次求值，且不精确，步长大有截断误差，步长小则有效数字相消。"
        "符号微分操作公式；完全展开时公式指数膨胀，共享相同部分则不会；它能处理分支和固定次数的循环，但处理不了"
        "长度取决于数值的循环。自动微分运行程序，对数值逐个运算应用链式法则。它没有截断误差，只有舍入误差，而病态的"
        "计算会放大舍入误差。它只沿实际走过的分支求导，所以对拐点、离开计算图的数、以及掩盖了斜率的分支毫不知情。"
        "反向模式的代价是内存，与深度、宽度和批量成正比。",
    ),
    flips=T(
        "For a black box of two or three parameters, difference quotients are the practical choice.",
        "对只有两三个参数的黑箱，差商才是实用的选择。",
    ),
    analogy=T(
        "Numeric: nudge and look. Symbolic: rewrite the recipe. Automatic: note the sensitivities "
        "while cooking.",
        "数值微分：推一下看变化。符号微分：改写菜谱。自动微分：边做菜边记下敏感度。",
    ),
    generative=T(
        "Activation memory of reverse mode, not the weights, limits the context length in training.",
        "训练时限制上下文长度的，往往是反向模式的激活内存而不是权重。",
    ),
    classical=T(
        "Computer algebra still derives the gradients that are then compiled for optimal control.",
        "最优控制中仍用计算机代数推导梯度，再编译执行。",
    ),
    driving=T(
        "Differentiable simulators break at contacts and collisions, where the program branches.",
        "可微仿真器在接触与碰撞处会出问题，因为程序在那里分支。",
    ),
    change=T(
        "Share equal parts of the symbolic derivative: its size grows in a straight line.",
        "让符号导数共享相同的部分：其规模变为线性增长。",
    ),
)


def wave(x: Any) -> Any:
    """exp(x) sin(x)."""
    return fathom.exp(x) * fathom.sin(x)


def plain(x: float) -> float:
    """The same in NumPy."""
    return float(np.exp(x) * np.sin(x))


WAVE_SLOPE = float(np.exp(1.0) * (np.sin(1.0) + np.cos(1.0)))  # at 1


def forward_error(step: float) -> float:
    """|forward quotient - slope| at 1, in NumPy."""
    return float(abs((plain(1.0 + step) - plain(1.0)) / step - WAVE_SLOPE))


@question.exact(
    "C2.3.6-01",
    T(
        "The forward quotient approximates the derivative up to a truncation error (of the order of "
        "the step).",
        "前向差商近似导数，带有（与步长同阶的）截断误差。",
    ),
    equals(1.0, 0.05),
)
def truncation(lab: Lab) -> Evidence:
    """The power of the step with which the error of exp(x) sin(x) at 1 falls, steps 0.01 to 1e-6,
    written out and by the library; and the error at 1e-14 over that at 1e-8 (rounding)."""
    steps = np.geomspace(1e-2, 1e-6, 9)
    ours = [
        abs(
            float(difference_quotient(lambda x: wave(x).sum(), [1.0], h, "forward")[0]) - WAVE_SLOPE
        )
        for h in steps
    ]
    return All({
        "written out": slope(np.log(steps), np.log([forward_error(h) for h in steps])),
        "library": slope(np.log(steps), np.log(ours)),
        "1e-14 over 1e-8": Check(forward_error(1e-14) / forward_error(1e-8), at_least(10.0)),
    })  # fmt: skip


def evaluations(form: str, parameters: int = 100) -> float:
    """How often the function is run for a gradient, per parameter."""
    count = 0

    def f(x: Any) -> Any:
        nonlocal count
        count += 1
        return (x * x).sum()

    difference_quotient(f, np.ones(parameters), form=form)
    return count / parameters


@question.exact(
    "C2.3.6-02",
    T(
        "Numeric differentiation needs one forward pass for each parameter.",
        "数值微分每个参数需要一次前向计算。",
    ),
    equals(1.0, 0.05),
    correction=T(
        "One-sided quotients do ({n[one-sided]:.2f} a parameter, one of them shared); central ones, "
        "which gradient checks use, take {n[central]:.0f}.",
        "单侧差商如此（每个参数 {n[one-sided]:.2f} 次，含共用的一次）；梯度检验所用的中心差分要 "
        "{n[central]:.0f} 次。",
    ),
)
def passes(lab: Lab) -> Evidence:
    """Runs of the function counted, 100 parameters."""
    forms = {"one-sided": "forward", "central": "central"}
    return Settings(
        T("the quotient", "差商形式"), {name: evaluations(form) for name, form in forms.items()}
    )


def logistic_map(n: int) -> Callable[[Any], Any]:
    """x -> 4 x (1 - x), n times."""

    def f(x: Any) -> Any:
        for _ in range(n):
            x = 4 * x * (1 - x)
        return x

    return f


def swell(n: int, shared: bool) -> int:
    """Operations of the derivative of the n-fold map as an expression."""
    return differentiate(trace(logistic_map(n), ["x"]), "x").operations(shared=shared)


@question.exact(
    "C2.3.6-03",
    T(
        "Symbolic differentiation suffers from expression swell.",
        "符号微分会发生表达式膨胀。",
    ),
    at_least(1.5),
    correction=T(
        "Only if the derivative is written out ({n[written out]:.1f} times as large when the map is "
        "iterated once more); with equal parts shared it grows in a straight line "
        "({n[equal parts shared]:.2f} times).",
        "仅在导数完全展开时如此（多迭代一次，规模变为 {n[written out]:.1f} 倍）；共享相同部分时只是线性增长"
        "（{n[equal parts shared]:.2f} 倍）。",
    ),
    weight=2,
)
def expression_swell(lab: Lab) -> Evidence:
    """Operations of the derivative of the 9-fold logistic map over those of the 8-fold; to swell is
    a factor of 1.5 for one more iteration."""
    return Settings(T("how it is written", "写法"), {
        "written out": swell(9, False) / swell(8, False),
        "equal parts shared": swell(9, True) / swell(8, True),
    })  # fmt: skip


def halve(x: Any) -> Any:
    """A loop whose length depends on the value."""
    while x > 1:
        x = x / 2
    return x * x


def refuses(run: Callable[[], Any]) -> bool:
    """Whether a symbolic tool gives up on it."""
    try:
        run()
    except (TypeError, FathomError):
        return True
    return False


@question.exact(
    "C2.3.6-04",
    T(
        "Symbolic differentiation cannot handle loops and branches.",
        "符号微分无法处理循环和分支。",
    ),
    true(),
    correction=T(
        "It fails at loops whose length depends on a value; loops of fixed length are written out, "
        "and branches stay as piecewise expressions, both with the right derivative.",
        "它处理不了长度取决于数值的循环；固定次数的循环会被展开，分支可写成分段表达式，两者的导数都正确。",
    ),
    needs=("sympy",),
)
def control_flow(lab: Lab) -> Evidence:
    """Whether SymPy and Fathom's expressions fail at a loop of a length that depends on the value,
    at a loop of five rounds, and at a branch as a piecewise expression (a wrong derivative at 0.3
    or -0.3 counts as failing)."""
    import sympy  # type: ignore[import-untyped]

    x = sympy.Symbol("x", real=True)
    leaky = sympy.Piecewise((x, x > 0), (x / 10, True)).diff(x)
    ours = formula(lambda v: fathom.where(v > 0, v, 0.1 * v), name="leaky").derivative()
    rounds = sympy.lambdify(x, logistic_map(5)(x).diff(x))(0.3)
    shared = formula(logistic_map(5)).derivative()(np.array([0.3]))[0]
    right = float(derivative(logistic_map(5), [0.3])[0])
    at = [(0.3, 1.0), (-0.3, 0.1)]
    return Settings(T("the program", "程序"), {
        "loop until a value is reached": Routes({
            "SymPy": refuses(lambda: halve(x)), "Fathom": refuses(lambda: trace(halve, ["x"])),
        }),
        "loop of five rounds": Routes({
            "SymPy": bool(abs(rounds - right) > 1e-9), "Fathom": bool(abs(shared - right) > 1e-9),
        }),
        "branch": Routes({
            "SymPy": any(abs(float(leaky.subs(x, v)) - s) > 1e-12 for v, s in at),
            "Fathom": any(abs(float(ours(np.array([v]))[0]) - s) > 1e-12 for v, s in at),
        }),
    })  # fmt: skip


def fraction_slope(start: float, n: int) -> Fraction:
    """Derivative of the n-fold logistic map, a polynomial, in exact rational arithmetic.

    The polynomial is multiplied out and differentiated by its coefficients.
    """
    power = [0, 1]  # coefficients of x
    for _ in range(n):
        square = [0] * (2 * len(power) - 1)
        for i, a in enumerate(power):
            for j, b in enumerate(power):
                square[i + j] += a * b
        padded = power + [0] * (len(square) - len(power))
        power = [4 * (p - s) for p, s in zip(padded, square, strict=True)]
    x, total = Fraction(start), Fraction(0)
    for k in range(len(power) - 1, 0, -1):  # Horner's scheme
        total = total * x + k * power[k]
    return total


class Dual(NamedTuple):
    """A value and its tangent, of any kind of number (Clifford, 1873)."""

    value: Any
    tangent: Any

    def __rmul__(self, c: Any) -> Dual:
        return Dual(c * self.value, c * self.tangent)

    def __mul__(self, o: Any) -> Dual:
        return Dual(self.value * o.value, self.value * o.tangent + self.tangent * o.value)

    def __rsub__(self, c: Any) -> Dual:
        return Dual(c - self.value, -self.tangent)


def adjoint(start: Any, n: int) -> Any:
    """Derivative of the n-fold logistic map by reverse mode, in the start's kind of number."""
    inputs = [start]
    for _ in range(n - 1):
        inputs.append(4 * inputs[-1] * (1 - inputs[-1]))
    gradient = 1
    for x in reversed(inputs):  # y = 4 x (1 - x) takes x twice: both branches add up
        gradient = gradient * 4 * (1 - x) - gradient * 4 * x
    return gradient


def sine(x: Decimal, shift: int) -> Decimal:
    """sin (shift 1) or cos (shift 0) by its series, in the context's precision."""
    term = x if shift else Decimal(1)
    total, k = term, shift
    while abs(term) > Decimal(10) ** -60:
        term = -term * x * x / ((k + 1) * (k + 2))
        total, k = total + term, k + 2
    return total


def decimal_slope(start: float, n: int) -> Decimal:
    """Derivative of the n-fold x -> sin(3 x) with 60 digits."""
    x, product = Decimal(start), Decimal(1)
    for _ in range(n):
        product *= 3 * sine(3 * x, 0)
        x = sine(3 * x, 1)
    return product


def by_duals(start: float, n: int) -> float:
    """The same by forward mode written by hand: a value and a tangent."""
    x, t = start, 1.0
    for _ in range(n):
        x, t = float(np.sin(3 * x)), float(3 * np.cos(3 * x)) * t
    return t


DEEP = 5  # logistic maps in a row: a polynomial of degree 32


@question.exact(
    "C2.3.6-05",
    T("Automatic differentiation has no error.", "自动微分没有误差。"),
    equals(0.0),
    correction=T(
        "It has no truncation error: with exact fractions its error is "
        "{n[exact fractions/forward mode]:.0f}. In float64 rounding remains and is amplified as the "
        "function amplifies it. Largest relative errors: "
        "{n[float64/logistic map against fractions]:.0e} and "
        "{n[float64/sines against 60 digits]:.0e}.",
        "它没有截断误差：用精确分数计算时误差为 {n[exact fractions/forward mode]:.0f}。在 float64 下仍有舍入"
        "误差，并随函数本身被放大。最大相对误差：{n[float64/logistic map against fractions]:.0e} 与 "
        "{n[float64/sines against 60 digits]:.0e}。",
    ),
    weight=2,
)
def rounding(lab: Lab) -> Evidence:
    """Largest relative error of compositions. In exact fractions: the logistic map five times, both
    modes by hand, against its polynomial differentiated by coefficients. In float64, over 100
    starts: the library's reverse mode on the same map against the fractions; forward mode by hand
    on x -> sin(3 x), ten times, against 60-digit arithmetic."""
    starts = lab.rng("starts").uniform(0.1, 0.9, lab.pick(100, 20)).tolist()
    taped = derivative(logistic_map(DEEP), starts)
    exact = [fraction_slope(s, DEEP) for s in starts]
    fractions = [Fraction(s) for s in starts[:5]]
    forward = [logistic_map(DEEP)(Dual(x, Fraction(1))).tangent for x in fractions]
    reverse = [adjoint(x, DEEP) for x in fractions]
    first = [abs(float((Fraction(float(t)) - e) / e)) for t, e in zip(taped, exact, strict=True)]
    with localcontext() as context:
        context.prec = 70
        right = [decimal_slope(s, 10) for s in starts[:20]]
        second = [
            abs(float((Decimal(by_duals(s, 10)) - e) / e))
            for s, e in zip(starts[:20], right, strict=True)
        ]
    return Settings(T("the arithmetic", "所用的算术"), {
        "exact fractions": Routes({
            name: max(float(abs(f - e) / abs(e)) for f, e in zip(found, exact[:5], strict=True))
            for name, found in (("forward mode", forward), ("reverse mode", reverse))
        }),
        "float64": Routes({
            "logistic map against fractions": max(first), "sines against 60 digits": max(second),
        }),
    })  # fmt: skip


def looped(x: Any) -> Any:
    """Grows until it exceeds 10: a loop of a length that depends on the value."""
    while float(x.sum()) < 10.0:
        x = x * x + 1.0
    return x


def branched(x: Any) -> Any:
    """Two formulas."""
    return fathom.sin(x) if float(x.sum()) > 0 else x * x


def hidden(x: Any) -> Any:
    """The identity, written with a case of its own for 0."""
    return x * 0.0 if float(x.sum()) == 0.0 else x * 1.0


def masked(x: Any) -> Any:
    """The root of a positive number, else 0."""
    return fathom.where(x > 0, fathom.sqrt(x), 0.0 * x.detach())


def off_the_tape(x: Any) -> Any:
    """A square of which one factor has left the tape."""
    return x * float(x.sum())


def correct(f: Callable[[Any], Any], at: float, right: float | None = None) -> bool:
    """Whether the automatic derivative is the true one (by differences, unless given)."""
    true_slope = float(difference(f, [at])[0]) if right is None else right
    with np.errstate(all="ignore"):
        found = float(derivative(f, [at])[0])
    return abs(found - true_slope) <= 1e-6 * max(1.0, abs(true_slope))


@question.exact(
    "C2.3.6-06",
    T(
        "Automatic differentiation supports arbitrary code.",
        "自动微分支持任意代码。",
    ),
    true(),
    correction=T(
        "It follows loops and branches, but the result is wrong where a branch hides the slope at a "
        "point, where the branch not taken is not finite, and where a number leaves the tape.",
        "循环和分支它都能跟随；但若分支掩盖了某点的斜率、未选中的分支取值非有限、或某个数离开了计算图，"
        "结果就是错的。",
    ),
    weight=3,
)
def arbitrary_code(lab: Lab) -> Evidence:
    """Whether the automatic derivative is the function's, for six small programs."""
    return Settings(T("the program", "程序"), {
        "loop": correct(looped, 1.3),
        "branch": correct(branched, 0.7),
        "max of two, off its kink": correct(lambda x: fathom.maximum(x, 0.5 * x), 0.4),
        "identity with a case for 0": correct(hidden, 0.0, 1.0),
        "root behind a mask, at -1": correct(masked, -1.0, 0.0),
        "factor off the tape": correct(off_the_tape, 2.0, 4.0),
    })  # fmt: skip


def kept(depth: int, width: int, batch: int) -> int:
    """Bytes that the graph of an MLP keeps for its backward pass."""
    layers = [fathom.nn.Sequential(fathom.nn.Linear(width, width), fathom.nn.Tanh())
              for _ in range(depth)]  # fmt: skip
    x = fathom.tensor(np.zeros((batch, width), np.float32))
    return memory_report(fathom.nn.Sequential(*layers)(x)).bytes


@question.exact(
    "C2.3.6-07",
    T(
        "Reverse mode needs additional memory for the graph and the activations.",
        "反向模式需要额外内存保存计算图与激活值。",
    ),
    equals(1.0, 0.05),
)
def memory(lab: Lab) -> Evidence:
    """The power with which the bytes kept grow with depth, width and batch of an MLP; and the bytes
    kept when nothing is recorded."""
    sizes = [8, 16, 32, 64]
    with fathom.no_grad():
        nothing = kept(8, 8, 8)
    return All({
        "depth": slope(np.log(sizes), np.log([kept(s, 16, 16) for s in sizes])),
        "width": slope(np.log(sizes), np.log([kept(16, s, 16) for s in sizes])),
        "batch": slope(np.log(sizes), np.log([kept(16, 16, s) for s in sizes])),
        "not recorded": Check(nothing, equals(0.0)),
    })  # fmt: skip


@question.figure(T("Error of quotients, by step", "差商误差随步长的变化"))
def v_curve(lab: Lab) -> Figure:
    """exp(x) sin(x) at 1: forward and central quotients, and automatic differentiation."""
    steps = np.geomspace(1e-14, 1e-1, 53)
    central = [
        abs((plain(1 + h) - plain(1 - h)) / (2 * h) - WAVE_SLOPE) / WAVE_SLOPE for h in steps
    ]
    forward = [forward_error(h) / WAVE_SLOPE for h in steps]
    auto = abs(float(derivative(wave, [1.0])[0]) - WAVE_SLOPE) / WAVE_SLOPE
    return Figure(
        Axis(T("step", "步长"), log=True),
        Axis(T("relative error", "相对误差"), log=True),
        [
            Line(T("forward", "前向差商"), steps, np.maximum(forward, 1e-17)),
            Line(T("central", "中心差分"), steps, np.maximum(central, 1e-17)),
            Level(T("automatic", "自动微分"), y=max(auto, 1e-16)),
        ],
        T(
            "Each quotient has a best step, near 1e-8 and 1e-5; on the right truncation, on the left "
            "rounding. Automatic differentiation lies at the rounding level.",
            "两种差商各有最佳步长，约 1e-8 与 1e-5；右侧是截断误差，左侧是舍入误差。自动微分处于舍入水平。",
        ),
    )


@question.figure(T("Size of the symbolic derivative", "符号导数的规模"))
def swelling(lab: Lab) -> Figure:
    """Operations of the derivative of the iterated logistic map."""
    rounds = list(range(1, 11))
    return Figure(
        Axis(T("iterations", "迭代次数")),
        Axis(T("operations", "运算个数"), log=True),
        [
            Line(T("written out", "完全展开"), rounds, [swell(n, False) for n in rounds]),
            Line(T("equal parts shared", "共享相同部分"), rounds, [swell(n, True) for n in rounds]),
        ],
        T(
            "Written out, the derivative more than doubles with each iteration; with equal parts "
            "shared it grows by seven operations.",
            "完全展开时每多一次迭代规模翻倍有余；共享相同部分时每次只多七个运算。",
        ),
    )


@question.figure(T("Memory kept for the backward pass", "为反向传播保留的内存"))
def kept_bytes(lab: Lab) -> Figure:
    """Kilobytes kept by an MLP of width 32, by depth, for two batch sizes."""
    depths = [1, 2, 4, 8, 16, 32]
    return Figure(
        Axis(T("layers", "层数"), log=True),
        Axis(T("kilobytes", "千字节"), log=True),
        [
            Line(T(f"batch {b}", f"批量 {b}"), depths, [kept(d, 32, b) / 1024 for d in depths])
            for b in (16, 128)
        ],
        T(
            "What reverse mode keeps grows in proportion to the number of layers and to the batch.",
            "反向模式保留的内存与层数和批量成正比。",
        ),
    )
