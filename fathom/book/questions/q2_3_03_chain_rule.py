"""2.3.3 The chain rule in backpropagation: the same product, in the cheaper order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, T, at_most
from fathom.book.material.calculus import derivative, difference, value

question = Question(
    "2.3.3",
    title=T(
        "How is the chain rule used in backpropagation?",
        "链式法则如何用于反向传播？",
    ),
    difficulty=5,
    frequency=5,
    topics=("chain rule", "Jacobian", "reverse mode", "链式法则", "雅可比矩阵", "反向模式"),
    answer=T(
        "For y = f(u), u = g(x) the chain rule says dy/dx = dy/du du/dx, provided both are "
        "differentiable there. For vectors the derivatives are Jacobians and the rule is a matrix "
        "product, whose order matters and whose bracketing does not, as far as the result goes. It "
        "matters for the cost: a loss is one number, so starting from the output only a row vector "
        "is carried through the product (n^2 multiplications a layer), while starting from the "
        "input whole matrices are multiplied (n^3). Backpropagation is the first bracketing, with "
        "every Jacobian applied and never formed. Where a value is used on several ways the chain "
        "rule adds the products of the ways.",
        "对 y = f(u)、u = g(x)，只要两者在该点可导，链式法则就给出 dy/dx = dy/du · du/dx。对向量而言导数是"
        "雅可比矩阵，法则成为矩阵乘积：次序不能换，而怎样加括号不影响结果，却影响代价。损失是一个标量，从输出端"
        "开始只需携带一个行向量（每层 n² 次乘法），从输入端开始则要相乘整个矩阵（n³）。反向传播就是前一种加"
        "括号方式，而且雅可比矩阵只被作用、从不构造。一个值经多条路径被使用时，链式法则把各路径的乘积相加。",
    ),
    flips=T(
        "With one input and many outputs the cheap order is from the input on: forward mode.",
        "输入只有一个而输出很多时，便宜的次序是从输入开始：前向模式。",
    ),
    analogy=T(
        "Gears in a row: the total ratio is the product of the ratios, whichever end you start "
        "from.",
        "一排齿轮：总传动比是各级之积，从哪一端开始算都一样。",
    ),
    generative=T(
        "Backpropagation through a diffusion sampler is the same product over all its steps.",
        "穿过扩散采样器的反向传播，就是对其所有步的同一种连乘。",
    ),
    classical=T(
        "Error propagation in measurement uses the chain rule from the inputs on.",
        "测量中的误差传播是从输入端使用链式法则。",
    ),
    driving=T(
        "Camera calibration chains the Jacobians of lens, pose and projection.",
        "相机标定把镜头、位姿与投影的雅可比矩阵串联起来。",
    ),
    change=T(
        "Give the chain one input and many outputs: the ratio of costs turns round.",
        "让链只有一个输入、很多输出：代价之比就反过来。",
    ),
)

Function = Callable[[Any], Any]
PAIRS: dict[str, tuple[Function, Function]] = {
    "sin of square": (fathom.sin, lambda x: x * x),
    "exp of tanh": (fathom.exp, fathom.tanh),
    "log of 1 + square": (fathom.log, lambda x: x * x + 1.0),
    "sigmoid of cube": (fathom.sigmoid, lambda x: x * x * x),
}


@question.exact(
    "C2.3.3-01",
    T(
        "For y = f(u) and u = g(x), dy/dx = dy/du du/dx.",
        "若 y = f(u)、u = g(x)，则 dy/dx = dy/du · du/dx。",
    ),
    at_most(1e-8),
)
def product_of_slopes(lab: Lab) -> Evidence:
    """Four compositions at 400 points: the product of the two slopes, taken one by one, against
    central differences and the automatic derivative of the whole; a chain of five vector
    functions: its Jacobians multiplied from either end against the automatic gradient."""
    x = np.linspace(-1.5, 1.5, 400)
    numeric, automatic = [], []
    for f, g in PAIRS.values():
        both = derivative(f, value(g, x)) * derivative(g, x)

        def whole(t: Any, f: Function = f, g: Function = g) -> Any:
            return f(g(t))

        numeric.append(np.abs(both - difference(whole, x)).max())
        automatic.append(np.abs(both - derivative(whole, x)).max())
    jacobians, gradient = chain(lab.rng("chain"), 12)
    from_output, from_input = multiplied(jacobians, "output")[0], multiplied(jacobians, "input")[0]
    return All({
        "differences": float(max(numeric)),
        "automatic": Check(float(max(automatic)), at_most(1e-12)),
        "five Jacobians, from the output": Check(gap(from_output, gradient), at_most(1e-12)),
        "five Jacobians, from the input": Check(gap(from_input, gradient), at_most(1e-12)),
    })  # fmt: skip


def gap(a: Any, b: Any) -> float:
    """Largest difference."""
    return float(np.abs(a - b).max())


def chain(rng: np.random.Generator, n: int) -> tuple[list[Any], Any]:
    """Jacobians of tanh(A1 x), sin(A2 .), sigmoid(A3 .), exp(-A4 . ) and the sum of tanh(A5 .),
    the first first; and the automatic gradient of the last by x."""
    kinds: list[tuple[Function, Function]] = [
        (fathom.tanh, lambda z: 1 - np.tanh(z) ** 2),
        (fathom.sin, np.cos),
        (fathom.sigmoid, lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
        (lambda z: fathom.exp(-z), lambda z: -np.exp(-z)),
        (fathom.tanh, lambda z: 1 - np.tanh(z) ** 2),
    ]
    matrices = [rng.standard_normal((n, n)) / np.sqrt(n) for _ in kinds]
    x = fathom.tensor(rng.standard_normal(n), requires_grad=True)
    h, jacobians = x, []
    for a, (f, slope) in zip(matrices, kinds, strict=True):
        z = fathom.tensor(a) @ h
        jacobians.append(slope(z.value())[:, None] * a)
        h = f(z)
    h.sum().backward()
    jacobians[-1] = np.ones((1, n)) @ jacobians[-1]
    return jacobians, x.grad.value()


def multiplied(jacobians: list[Any], start: str) -> tuple[Any, int]:
    """(the product of the Jacobians, multiplications it took), from the output or the input on."""
    count = 0
    order = jacobians[::-1] if start == "output" else jacobians
    product = order[0]
    for j in order[1:]:
        a, b = (product, j) if start == "output" else (j, product)
        count += a.shape[0] * a.shape[1] * b.shape[1]
        product = a @ b
    return product, count


def wide(rng: np.random.Generator, inputs: int, outputs: int, n: int = 64) -> list[Any]:
    """Five random Jacobians from `inputs` to `outputs` through layers of n."""
    widths = [inputs, n, n, n, n, outputs]
    return [rng.standard_normal((b, a)) for a, b in itertools.pairwise(widths)]


@question.figure(T("Cost of the two orders, by width", "两种次序的代价随宽度的变化"))
def by_width(lab: Lab) -> Figure:
    """Multiplications for the gradient of one number through a chain of five functions."""
    widths = [2, 4, 8, 16, 32, 64, 128]
    counts = {
        start: [multiplied(chain(lab.rng("chain"), n)[0], start)[1] for n in widths]
        for start in ("output", "input")
    }
    return Figure(
        Axis(T("width", "宽度"), log=True),
        Axis(T("multiplications", "乘法次数"), log=True),
        [
            Line(T("from the output (reverse)", "从输出端（反向）"), widths, counts["output"]),
            Line(T("from the input (forward)", "从输入端（前向）"), widths, counts["input"]),
        ],
        T(
            "The same product: from the output it costs width squared, from the input width cubed, "
            "a factor of about the width.",
            "同一个乘积：从输出端代价为宽度平方，从输入端为宽度立方，大约相差一个宽度的因子。",
        ),
    )


@question.figure(T("Which order is cheaper", "哪种次序更便宜"))
def by_outputs(lab: Lab) -> Figure:
    """Five functions of width 64, 64 inputs, by the number of outputs: forward over reverse."""
    outputs = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    ratios = []
    for m in outputs:
        jacobians = wide(lab.rng("wide"), 64, m)
        ratios.append(multiplied(jacobians, "input")[1] / multiplied(jacobians, "output")[1])
    return Figure(
        Axis(T("outputs", "输出个数"), log=True),
        Axis(T("cost from input over from output", "从输入端与从输出端的代价之比"), log=True),
        [
            Line(T("64 inputs", "64 个输入"), outputs, ratios),
            Level(T("equal", "相等"), y=1.0),
        ],
        T(
            "With one output the order from the output is many times cheaper; the two are equal "
            "where there are as many outputs as inputs, and beyond it turns round.",
            "只有一个输出时，从输出端开始便宜许多倍；输出与输入一样多时两者相等，再多则反过来。",
        ),
    )
