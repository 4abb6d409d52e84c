"""2.3.2 Backpropagation derived: four equations, and where the first must be read with care."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.autograd import backward_steps
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Question, Sample, Settings, T, at_least,
    at_most, band,
)  # fmt: skip
from fathom.book.material.layers import Passed, by_tape, weights

question = Question(
    "2.3.2",
    title=T(
        "Derive backpropagation from the chain rule in full.",
        "从链式法则出发，完整推导反向传播。",
    ),
    difficulty=5,
    frequency=5,
    topics=("backpropagation", "derivation", "softmax", "反向传播", "推导", "误差项"),
    answer=T(
        "Write z_l = W_l a_{l-1} + b_l and a_l = f(z_l), and call delta_l the gradient of the loss "
        "by z_l. At the output the chain rule gives delta_L as the Jacobian of the output function, "
        "transposed, times dC/da_L; for an elementwise f that Jacobian is diagonal and the product "
        "is dC/da_L times f'(z_L), entry by entry. Since z_{l+1} depends on z_l through f and "
        "W_{l+1}, delta_l is W_{l+1} transposed times delta_{l+1}, times f'(z_l) entry by entry. As "
        "z_l is linear in W_l and b_l, their gradients are delta_l a_{l-1} transposed, and delta_l. "
        "Softmax is not elementwise: its Jacobian has entries off the diagonal, and the entrywise "
        "form is wrong there; together with cross-entropy everything shortens to p - y.",
        "记 z_l = W_l a_{l-1} + b_l，a_l = f(z_l)，并把损失对 z_l 的梯度称为 delta_l。在输出层，链式法则给出 "
        "delta_L 等于输出函数雅可比矩阵的转置乘以 dC/da_L；f 逐元素时该矩阵是对角的，乘积就是 dC/da_L 与 "
        "f'(z_L) 逐元素相乘。z_{l+1} 通过 f 与 W_{l+1} 依赖于 z_l，所以 delta_l 等于 W_{l+1} 的转置乘 "
        "delta_{l+1}，再与 f'(z_l) 逐元素相乘。z_l 对 W_l、b_l 是线性的，故其梯度分别为 delta_l 乘 a_{l-1} 的"
        "转置，以及 delta_l。softmax 不是逐元素的：其雅可比有非对角元，逐元素形式在那里是错的；与交叉熵合用时"
        "一切化简为 p - y。",
    ),
    flips=T(
        "For an output function that mixes its inputs (softmax, a norm) the entrywise product must "
        "be a product with the Jacobian.",
        "如果输出函数会混合各输入（softmax、归一化），逐元素乘积必须换成与雅可比矩阵的乘积。",
    ),
    analogy=T(
        "Blame passed down a hierarchy: each level divides what it receives by how much each "
        "subordinate contributed.",
        "责任逐级下传：每一级按各下属的贡献比例分摊收到的责任。",
    ),
    generative=T(
        "Softmax inside attention takes the full Jacobian product, p times (g - p.g); kernels fuse "
        "it.",
        "注意力内部的 softmax 要用完整的雅可比乘积 p·(g - p·g)，算子会把它融合。",
    ),
    classical=T(
        "For one layer and squared error the equations are the delta rule of Widrow and Hoff.",
        "只有一层且用平方误差时，这些方程就是 Widrow–Hoff 的 delta 规则。",
    ),
    driving=T(
        "Custom operations (bird's-eye pooling) need their backward rule written by hand, from "
        "these equations.",
        "自定义算子（如鸟瞰图池化）的反向规则要按这些方程手写。",
    ),
    change=T(
        "Replace the softmax by a sigmoid: the entrywise form is exact again.",
        "把 softmax 换成 sigmoid：逐元素形式重新精确成立。",
    ),
)

WIDTHS = [5, 8, 7, 6, 4]


def target(lab: Lab, rows: int = 6) -> Any:
    """Random shares to be reached."""
    return lab.rng("target").dirichlet(np.ones(WIDTHS[-1]), rows)


def passed(lab: Lab, output: Callable[[Any], Any]) -> Passed:
    """A network of four tanh layers and an output function, its squared error, all gradients."""
    net, x = weights(lab.rng("net"), WIDTHS), lab.rng("x").standard_normal((6, WIDTHS[0]))
    y = fathom.tensor(target(lab))
    return by_tape(net, x, lambda a: ((a - y) ** 2).sum() / 2, fathom.tanh, output)


@question.exact(
    "C2.3.2-01",
    T(
        "The gradient passed down is the local gradient times the one from above.",
        "下游梯度等于局部梯度乘以上游梯度。",
    ),
    at_most(1e-9),
)
def downstream(lab: Lab) -> Evidence:
    """At every elementwise node of a small program: what it hands on against upstream times local;
    the gradient they end in against central differences."""
    start = lab.rng("x").standard_normal(8)

    def program(x: Any) -> Any:
        return (fathom.sin(x) * fathom.exp(x) + fathom.tanh(x * x)).sum()

    x = fathom.tensor(start, requires_grad=True)
    apart, checked = [0.0], 0
    for step in backward_steps(program(x)):
        for part in step.contributions:
            if part.local is not None:
                checked += 1
                apart.append(float(np.abs(part.product - part.local * step.upstream).max()))
    again = fathom.tensor(start, requires_grad=True)
    program(again).backward()
    slope = fathom.autograd.difference_quotient(program, start)
    return All({
        "nodes": max(apart),
        "gradient": float(np.abs(again.grad.value() - slope).max()),
        "products checked": Check(checked, at_least(5)),
    })  # fmt: skip


OUTPUTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sigmoid": (fathom.sigmoid, lambda a: a * (1 - a)),
    "tanh": (fathom.tanh, lambda a: 1 - a**2),
    "softmax": (lambda z: fathom.softmax(z, -1), lambda a: a * (1 - a)),
}


def entrywise_error(found: Passed, slope: Callable[[Any], Any], y: Any) -> float:
    """Relative distance of dC/da times f'(z), entry by entry, from the automatic delta."""
    claimed = (found.a[-1] - y) * slope(found.a[-1])
    right = found.delta[-1]
    return float(np.linalg.norm(claimed - right) / np.linalg.norm(right))


@question.exact(
    "C2.3.2-02",
    T(
        "The output error is dC/da times f'(z), entry by entry.",
        "输出误差是 dC/da 与 f'(z) 的逐元素乘积。",
    ),
    at_most(1e-12),
    correction=T(
        "Exact for elementwise output functions; for softmax, whose outputs depend on all inputs, it "
        "is off by {n[softmax]:.0%} and the Jacobian is needed.",
        "对逐元素的输出函数精确成立；softmax 的每个输出依赖所有输入，该式偏差达 {n[softmax]:.0%}，必须用"
        "雅可比矩阵。",
    ),
    weight=3,
)
def output_error(lab: Lab) -> Evidence:
    """Relative distance from the automatic gradient by z, squared error; softmax with the diagonal
    of its Jacobian, p (1 - p), as f'."""
    y = target(lab)
    return Settings(T("the output function", "输出函数"), {
        name: entrywise_error(passed(lab, f), slope, y) for name, (f, slope) in OUTPUTS.items()
    })  # fmt: skip


def four_equations(lab: Lab) -> tuple[list[Any], list[Any], Passed]:
    """Weight and bias gradients by the four equations (sigmoid at the end), and the tape's."""
    found, net = passed(lab, fathom.sigmoid), weights(lab.rng("net"), WIDTHS)
    last = found.a[-1]
    delta = (last - target(lab)) * last * (1 - last)
    matrices, biases = [], []
    for k in range(len(net.matrices) - 1, -1, -1):
        matrices.append(delta.T @ found.a[k])
        biases.append(delta.sum(axis=0))
        if k:
            delta = (delta @ net.matrices[k]) * (1 - found.a[k] ** 2)
    return matrices[::-1], biases[::-1], found


@question.figure(T("Four equations against the tape", "四个方程与自动微分之差"))
def agreement(lab: Lab) -> Figure:
    """Relative difference of the weight and bias gradients of each layer, in float64; and of
    central differences from the same."""
    matrices, biases, found = four_equations(lab)
    net, x = weights(lab.rng("net"), WIDTHS), lab.rng("x").standard_normal((6, WIDTHS[0]))
    y = target(lab)

    def loss(layer: int, place: tuple[int, ...], shift: float) -> float:
        moved = [w.copy() for w in net.matrices]
        moved[layer][place] += shift
        a = x
        for k, (w, b) in enumerate(zip(moved, net.biases, strict=True)):
            z = a @ w.T + b
            a = np.tanh(z) if k < len(moved) - 1 else 1 / (1 + np.exp(-z))
        return float(((a - y) ** 2).sum() / 2)

    def numeric(layer: int) -> Any:
        slope = np.zeros(net.matrices[layer].shape)
        for place in np.ndindex(*slope.shape):
            slope[place] = (loss(layer, place, 1e-5) - loss(layer, place, -1e-5)) / 2e-5
        return slope

    def relative(a: Any, b: Any) -> float:
        return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)), 1e-17)

    layers = range(len(net.matrices))
    return Figure(
        Axis(T("layer", "层"), ticks=[T(f"layer {k + 1}", f"第 {k + 1} 层") for k in layers]),
        Axis(T("relative difference", "相对差"), log=True),
        [
            Bars(T("weights", "权重"), [relative(matrices[k], found.matrix[k]) for k in layers]),
            Bars(T("biases", "偏置"), [relative(biases[k], found.bias[k]) for k in layers]),
            Bars(T("central differences", "中心差分"),
                 [relative(numeric(k), found.matrix[k]) for k in layers]),
        ],
        T(
            "The equations agree with automatic differentiation to rounding; central differences "
            "to about ten digits.",
            "四个方程与自动微分只差舍入误差；中心差分约有十位有效数字相同。",
        ),
    )  # fmt: skip


@question.figure(T("The entrywise form behind a softmax", "softmax 后的逐元素形式"))
def off_diagonal(lab: Lab) -> Figure:
    """Relative error of dC/da times the diagonal of the Jacobian, by number of classes: squared
    error and cross-entropy, random logits."""
    classes = [2, 3, 5, 10, 20, 50, 100]
    names = (("squared", T("squared error", "平方误差")), ("entropy", T("cross-entropy", "交叉熵")))
    lines = []
    for kind, name in names:
        at = [Sample([softmax_error(s, n, kind) for s in lab.seeds(10, 4)]) for n in classes]
        lines.append(Line(name, classes, *band(at)))
    return Figure(
        Axis(T("classes", "类别数"), log=True),
        Axis(T("relative error", "相对误差")),
        lines,
        T(
            "Leaving out the Jacobian's off-diagonal entries spoils the output error at any number "
            "of classes.",
            "忽略雅可比的非对角元，任何类别数下输出误差都是错的。",
        ),
    )


def softmax_error(seed: int, classes: int, kind: str) -> float:
    """Relative error of the entrywise form at one random row of logits."""
    rng = np.random.default_rng(seed)
    z, hit = rng.standard_normal(classes), 0
    p = np.exp(z) / np.exp(z).sum()
    y = np.eye(classes)[hit]
    upstream = p - y if kind == "squared" else -y / p
    right = p * (upstream - (p * upstream).sum())
    return float(np.linalg.norm(upstream * p * (1 - p) - right) / np.linalg.norm(right))
