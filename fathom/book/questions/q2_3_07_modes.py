"""2.3.7 Forward against reverse mode."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import func, nn
from fathom.book import (
    All, Axis, Bars, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T, at_most,
    band, equals,
)  # fmt: skip
from fathom.book.material.layers import weights
from fathom.book.material.speed import ratio, seconds

question = Question(
    "2.3.7",
    title=T(
        "Forward versus reverse mode: why reverse for neural networks?",
        "前向模式与反向模式：神经网络为什么用反向模式？",
    ),
    difficulty=3,
    frequency=4,
    topics=("forward mode", "reverse mode", "JVP", "VJP", "前向模式", "反向模式", "雅可比"),
    answer=T(
        "Forward mode pushes one direction of the input through the program together with the "
        "values: a pass gives J v, the derivative of all outputs along v. Reverse mode pulls one "
        "weighting of the outputs back: a pass gives u^T J, the derivative of one number by all "
        "inputs. The whole Jacobian of n inputs and m outputs takes n forward or m reverse passes, "
        "so the two break even around n = m. A network's loss is a single number of millions of "
        "weights, hence one reverse pass, at two to four times the price of the forward pass in all, for "
        "batches of more than a few rows. "
        "The price is memory, because reverse mode must keep the activations and forward mode need "
        "not. Both together give Hessian-vector products.",
        "前向模式把输入的一个方向与数值一起推过程序：一遍得到 J v，即所有输出沿 v 的导数。反向模式把输出的一种"
        "加权往回拉：一遍得到 uᵀJ，即一个数对所有输入的导数。n 个输入、m 个输出的完整雅可比需要 n 遍前向或 m 遍"
        "反向，二者在 n = m 附近持平。网络的损失是几百万权重的单个标量，所以只需一遍反向，（批量不太小时）总代价约为前向的"
        "二到四倍。代价是内存：反向模式必须保留激活值，前向模式不必。两者合用可得海森矩阵与向量的乘积。",
    ),
    flips=T(
        "With few inputs and many outputs (a trajectory by its three parameters) forward mode wins.",
        "输入少而输出多时（轨迹对其三个参数），前向模式更好。",
    ),
    analogy=T(
        "Ask one ingredient what it does to all dishes, or one dish what every ingredient did to it.",
        "问一种原料影响了哪些菜，或问一道菜受了哪些原料的影响。",
    ),
    generative=T(
        "Forward mode returns in score matching and in fast samplers, where one direction is needed.",
        "在分数匹配和快速采样器中只需要一个方向，前向模式重新登场。",
    ),
    classical=T(
        "Sensitivity analysis of differential equations with few parameters runs forward.",
        "参数少的微分方程的敏感性分析用前向方式。",
    ),
    driving=T(
        "Real-time controllers linearize a vehicle model of few inputs by forward mode.",
        "实时控制器用前向模式线性化输入很少的车辆模型。",
    ),
    change=T(
        "Set the function to 1 input and 1,000 outputs: the bars change places.",
        "把函数改为 1 个输入、1000 个输出：两根柱子互换高低。",
    ),
    alone=True,
)


def two_layers(lab: Lab, inputs: int, outputs: int, hidden: int = 16) -> tuple[Any, Any, Any]:
    """tanh(B tanh(A x)), a point, and the Jacobian there written out."""
    rng = lab.rng(f"map {inputs} {outputs}")
    a, b = weights(rng, [inputs, hidden, outputs]).matrices
    x = rng.standard_normal(inputs)
    h = np.tanh(a @ x)
    y = np.tanh(b @ h)
    jacobian = ((1 - y**2)[:, None] * b) @ ((1 - h**2)[:, None] * a)
    p, q = fathom.tensor(a), fathom.tensor(b)
    return lambda t: fathom.tanh(q @ fathom.tanh(p @ t)), fathom.tensor(x), jacobian


@question.exact(
    "C2.3.7-01",
    T(
        "A forward-mode pass gives the derivative of all outputs along one input (or direction).",
        "一次前向模式得到所有输出对一个输入（或方向）的导数。",
    ),
    at_most(1e-12),
)
def pushed(lab: Lab) -> Evidence:
    """J v of a function of 7 inputs and 5 outputs against the Jacobian written out, for 20 random
    directions; unit directions against its columns."""
    f, x, jacobian = two_layers(lab, 7, 5)
    directions = lab.rng("directions").standard_normal((20, 7))

    def push(v: Any) -> Any:
        return func.jvp(f, (x,), (fathom.tensor(v),))[1].value()

    columns = np.stack([push(e) for e in np.eye(7)], axis=1)
    return All({
        "directions": max(float(np.abs(push(v) - jacobian @ v).max()) for v in directions),
        "columns": float(np.abs(columns - jacobian).max()),
    })  # fmt: skip


@question.exact(
    "C2.3.7-02",
    T(
        "A reverse pass gives the derivative of one output by all inputs.",
        "一次反向得到一个输出对所有输入的导数。",
    ),
    at_most(1e-12),
)
def pulled(lab: Lab) -> Evidence:
    """u^T J against the Jacobian written out, for 20 random weightings and for single outputs."""
    f, x, jacobian = two_layers(lab, 7, 5)
    pull = func.vjp(f, x)[1]
    weightings = lab.rng("weightings").standard_normal((20, 5))

    def row(u: Any) -> Any:
        return pull(fathom.tensor(u))[0].value()

    rows = np.stack([row(e) for e in np.eye(5)])
    return All({
        "weightings": max(float(np.abs(row(u) - u @ jacobian).max()) for u in weightings),
        "rows": float(np.abs(rows - jacobian).max()),
    })  # fmt: skip


@question.exact(
    "C2.3.7-03",
    T(
        "A gradient by a hundred million parameters takes a hundred million forward-mode passes, or "
        "one reverse pass.",
        "对一亿个参数求梯度，前向模式要一亿遍，反向模式只要一遍。",
    ),
    equals(1.0),
)
def counted(lab: Lab) -> Evidence:
    """Passes over parameters in forward mode, and passes in reverse mode, counted for 3, 30 and 120
    parameters: the rule is that each is 1."""
    found: dict[str, Any] = {}
    for n in (3, 30, lab.pick(120, 60)):
        table = fathom.autograd.compare_gradients(lambda *xs: sum(xs[1:], xs[0]) ** 2, [1.0] * n)
        found[f"forward, {n} parameters"] = table["forward"].passes / n
        found[f"reverse, {n} parameters"] = float(table["reverse"].passes)
    return All(found)


WIDTHS = [200, 200, 200, 1]  # 80,601 parameters


def by_library(
    lab: Lab, library: str, batch: int = 64
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """(forward and backward, forward alone) of the network, in one of the libraries."""
    x = lab.rng("batch").standard_normal((batch, 200)).astype(np.float32)
    if library == "NumPy":
        return by_hand(lab, x)
    if library == "Fathom":
        layers: Any = nn
        given: Any = fathom.tensor(x)
    else:
        import torch

        torch.set_num_threads(1)
        layers, given = torch.nn, torch.tensor(x)
    parts: list[Any] = []
    for a, b in itertools.pairwise(WIDTHS):
        parts += [layers.Linear(a, b), layers.Tanh()]
    net = layers.Sequential(*parts[:-1])

    def both() -> None:
        for p in net.parameters():
            p.grad = None
        (net(given) ** 2).mean().backward()

    return both, lambda: (net(given) ** 2).mean()


def by_hand(lab: Lab, x: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same in NumPy."""
    matrices = [w.astype(np.float32) for w in weights(lab.rng("net"), WIDTHS).matrices]

    def forward() -> list[Any]:
        outputs = [x]
        for k, w in enumerate(matrices):
            z = outputs[-1] @ w.T
            outputs.append(np.tanh(z) if k < 2 else z)
        return outputs

    def both() -> None:
        outputs = forward()
        delta = 2 * outputs[-1] / len(x)
        for k in (2, 1, 0):
            _ = delta.T @ outputs[k], delta.sum(axis=0)
            if k:
                delta = (delta @ matrices[k]) * (1 - outputs[k] ** 2)

    return both, forward


@question.experiment(
    "C2.3.7-04",
    T(
        "One traversal backwards costs about as much as a forward pass, up to a small constant.",
        "一次反向遍历的代价与一次前向同阶，只差一个小常数。",
    ),
    at_most(5.0),
    correction=T(
        "With a batch of 64 a step takes {n[PyTorch, batch 64]:.1f} (PyTorch) to "
        "{n[Fathom, batch 64]:.1f} (Fathom) forward passes; with single rows, where the forward "
        "pass only reads the weights and the backward pass writes a gradient as large, "
        "{n[PyTorch, batch 1]:.1f} (PyTorch) to {n[NumPy, batch 1]:.1f} (NumPy).",
        "批量 64 时一步相当于 {n[PyTorch, batch 64]:.1f}（PyTorch）到 {n[Fathom, batch 64]:.1f}（Fathom）次"
        "前向；单个样本时前向只读权重，而反向要写出同样大的梯度，为 {n[PyTorch, batch 1]:.1f}（PyTorch）到 "
        "{n[NumPy, batch 1]:.1f}（NumPy）次。",
    ),
    needs=("torch",),
)
def price(lab: Lab) -> Evidence:
    """Processor time of forward and backward over that of forward alone, 80,601 parameters, one core, both
    timed in turn; a small constant is taken to be at most 5 in all, to be cleared by a tenth."""
    return Settings(T("engine and batch", "计算引擎与批量"), {
        f"{name}, batch {b}": ratio(*by_library(lab, name, b), rounds=lab.pick(15, 4))
        for name in ("Fathom", "PyTorch", "NumPy")
        for b in (64, 1)
    })  # fmt: skip


SHAPES = ((1, 400), (100, 100), (400, 1))


@question.figure(T("Time for the whole Jacobian", "求完整雅可比的时间"))
def whole_jacobian(lab: Lab) -> Figure:
    """A function of n inputs and m outputs: one pass for each input, or for each output."""
    times: dict[str, list[float]] = {"forward": [], "reverse": []}
    for n, m in SHAPES:
        f, x, _ = two_layers(lab, n, m)
        times["forward"].append(1e3 * seconds(functools.partial(columns, f, x, n), 3))
        times["reverse"].append(1e3 * seconds(functools.partial(rows, f, x, m), 3))
    ticks = [T(f"{n} to {m}", f"{n} 入 {m} 出") for n, m in SHAPES]
    return Figure(
        Axis(T("inputs to outputs", "输入与输出"), ticks=ticks),
        Axis(T("milliseconds", "毫秒"), log=True),
        [
            Bars(T("forward mode", "前向模式"), times["forward"]),
            Bars(T("reverse mode", "反向模式"), times["reverse"]),
        ],
        T(
            "Forward mode is quicker where inputs are few, reverse mode where outputs are; with as "
            "many of both they are close.",
            "输入少时前向模式快，输出少时反向模式快；两者一样多时相近。",
        ),
    )


def columns(f: Any, x: Any, n: int) -> None:
    """The Jacobian by forward mode, a pass for each input."""
    for e in np.eye(n):
        func.jvp(f, (x,), (fathom.tensor(e),))


def rows(f: Any, x: Any, m: int) -> None:
    """The Jacobian by reverse mode, a pass for each output."""
    pull = func.vjp(f, x)[1]
    for e in np.eye(m):
        pull(fathom.tensor(e))


@question.figure(T("Forward and backward over forward", "前向加反向与前向之比"))
def constant(lab: Lab) -> Figure:
    """Time of forward and backward over forward alone, by batch size."""
    batches = [1, 8, 64, 256]
    lines = []
    for name in ("Fathom", "NumPy"):
        at: list[Sample] = [
            ratio(*by_library(lab, name, b), rounds=lab.pick(7, 3)) for b in batches
        ]
        lines.append(Line(T(name, name), batches, *band(at)))
    return Figure(
        Axis(T("batch", "批量"), log=True),
        Axis(T("time over forward", "与前向时间之比")),
        [*lines, Level(T("three products", "三次乘积"), y=3.0)],
        T(
            "From a few rows on a step costs two to four forward passes; a single row costs more, "
            "since its gradient is as large as all the weights.",
            "从几行起，一步相当于二到四次前向；单个样本更贵，因为它的梯度与全部权重一样大。",
        ),
    )
