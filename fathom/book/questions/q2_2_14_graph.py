"""2.2.14 What a computation graph is, and how it serves automatic differentiation."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Published, Question, Settings, Source, T,
    at_least, at_most, equals,
)  # fmt: skip
from fathom.book.material.tape import in_order, operations, recorded

question = Question(
    "2.2.14",
    title=T(
        "What is a computation graph, and how does it serve automatic differentiation?",
        "什么是计算图？它如何支持自动微分？",
    ),
    difficulty=3,
    frequency=3,
    topics=("computation graph", "autodiff", "DAG", "计算图", "自动微分", "有向无环图"),
    answer=T(
        "A computation graph records which operations made a value, from which inputs. It is "
        "directed and has no cycles, because a value can only be made from values that exist "
        "already; a loop in the program is recorded as its repetitions. Going through it backwards "
        "in topological order gives the gradient of every input: each node multiplies what arrives "
        "from above by its own local derivative and passes it on, and where a value was used "
        "several times the contributions add. A node needs to know nothing else, and never forms a "
        "Jacobian, only its product with a vector. Textbooks often draw tensors as nodes and "
        "operations as edges. In PyTorch it is the other way round: nodes are operations "
        "(grad_fn), and edges are what flows between them.",
        "计算图记录一个值由哪些运算、从哪些输入得到。它是有向无环的，因为一个值只能由已经存在的值得到；"
        "程序里的循环会被记录成一次次的重复。按拓扑序反向走一遍就得到对每个输入的梯度：每个节点把上游传来的"
        "梯度乘以自己的局部导数再往下传，被多次使用的值则把各份梯度相加。节点不需要知道别的，也不必构造雅可比"
        "矩阵，只需它与向量的乘积。教科书常把张量画成节点、运算画成边。PyTorch 正相反：节点是运算"
        "（grad_fn），边是在它们之间流动的数据。",
    ),
    flips=T(
        "In a drawing by the convention of Goodfellow et al. nodes are variables; in what a "
        "framework records they are operations.",
        "按 Goodfellow 等人的画法，节点是变量；而框架实际记录的节点是运算。",
    ),
    analogy=T(
        "A recipe traced back: each step asks only how its result would change with its own "
        "ingredients.",
        "倒着看菜谱：每一步只问自己的成品会随自己的原料怎样变化。",
    ),
    generative=T(
        "Checkpointing drops parts of the graph of a large model and records them again when the "
        "backward pass arrives.",
        "重计算技术丢掉大模型计算图的一部分，等反向传播到达时再记录一遍。",
    ),
    classical=T(
        "Probabilistic programs and optimal control use the same graph for gradients of "
        "likelihoods and trajectories.",
        "概率编程与最优控制用同样的图求似然和轨迹的梯度。",
    ),
    driving=T(
        "Deployed networks are traced to a fixed graph, so that it can be fused and its memory "
        "planned beforehand.",
        "部署到车上的网络会被追踪成静态图，以便融合算子并预先规划内存。",
    ),
    change=T(
        "Start the loop from a larger number: fewer repetitions, fewer nodes, the same code.",
        "让循环从更大的数开始：重复更少，节点更少，代码不变。",
    ),
)


def program(lib: Any, x: Any, w: Any) -> Any:
    """A value of a loop whose length depends on the data, a branch, and shared parts."""
    while float((x * x).sum().detach()) < 50.0:
        x = x * 1.5 + lib.tanh(x) * w
    if float(x.sum().detach()) > 0:
        x = x * w
    first, second = lib.unbind(x)
    return (lib.sin(first) * second + first).sum()


def output(library: str, seed: int) -> Any:
    """The program's output, recorded by a library."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    if library == "PyTorch":
        import torch

        leaves = [torch.tensor(v, requires_grad=True) for v in (x, w)]
        return program(torch, *leaves)
    return program(fathom, *(fathom.tensor(v, requires_grad=True) for v in (x, w)))


def tensors_among(library: str, nodes: list[Any]) -> float:
    """Share of the inner nodes that are tensors of the library."""
    import torch

    kind = torch.Tensor if library == "PyTorch" else fathom.Tensor
    return float(np.mean([isinstance(n, kind) for n in operations(nodes)]))


@question.exact(
    "C2.2.14-01",
    T(
        "In a computation graph the nodes are tensors and the edges are operations.",
        "计算图中节点是张量，边是运算。",
    ),
    equals(1.0),
    correction=T(
        "That is one way of drawing it. In the graphs that frameworks record every inner node is "
        "an operation: share of tensors {n[recorded by PyTorch]:.0%} in PyTorch, "
        "{n[recorded by Fathom]:.0%} in Fathom.",
        "这只是一种画法。框架实际记录的图中，每个内部节点都是运算：张量所占比例在 PyTorch 中为 "
        "{n[recorded by PyTorch]:.0%}，在 Fathom 中为 {n[recorded by Fathom]:.0%}。",
    ),
    weight=2,
    needs=("torch",),
)
def what_nodes_are(lab: Lab) -> Evidence:
    """Share of tensors among the inner nodes behind the output of a program with a loop, a branch
    and an operation of two outputs; beside the convention of a textbook."""
    drawn = Source(
        "Goodfellow, Bengio & Courville, Deep Learning, section 6.5.1 (nodes indicate variables)",
        2016, 0.95,
    )  # fmt: skip
    return Settings(T("which graph", "哪种图"), {
        "drawn in a textbook": Published(1.0, (drawn,)),
        "recorded by PyTorch": tensors_among("PyTorch", recorded(output("PyTorch", 1))),
        "recorded by Fathom": tensors_among("Fathom", recorded(output("Fathom", 1))),
    })  # fmt: skip


@question.exact(
    "C2.2.14-02",
    T("The graph is directed and acyclic.", "计算图是有向无环图。"),
    equals(1.0),
    needs=("torch",),
)
def no_cycles(lab: Lab) -> Evidence:
    """Share of recorded programs (loops and branches among them) with a topological order, by
    Kahn's algorithm, in both libraries."""
    seeds = lab.seeds(50, 10)
    return All({
        name: float(np.mean([in_order(recorded(output(name, s))) for s in seeds]))
        for name in ("PyTorch", "Fathom")
    })  # fmt: skip


def chain(rng: np.random.Generator, widths: list[int]) -> list[Any]:
    """Matrices of a chain x -> tanh(A x) -> tanh(B ...) -> ..."""
    pairs = zip(widths[1:], widths[:-1], strict=True)
    return [rng.standard_normal((n, m)) / np.sqrt(m) for n, m in pairs]


@question.exact(
    "C2.2.14-03",
    T(
        "A node needs only its local derivative and the gradient that comes from above.",
        "每个节点只需局部导数与上游梯度的乘积。",
    ),
    at_most(1e-12),
)
def local_rules(lab: Lab) -> Evidence:
    """Gradients of a chain of five layers: local products one after the other, and the tape's,
    against the product of the full Jacobians; the same where a value is used twice."""
    rng = lab.rng("chain")
    matrices, x = chain(rng, [6, 9, 4, 7, 5, 3]), rng.standard_normal(6)
    values, up = [x], rng.standard_normal(3)
    for a in matrices:
        values.append(np.tanh(a @ values[-1]))
    jacobian, local = np.eye(6), up
    for a, h in zip(matrices, values[1:], strict=True):
        jacobian = ((1 - h**2)[:, None] * a) @ jacobian
    for a, h in zip(matrices[::-1], values[:0:-1], strict=True):
        local = a.T @ ((1 - h**2) * local)
    at = fathom.tensor(x, requires_grad=True)
    out = at
    for a in matrices:
        out = fathom.tanh(fathom.tensor(a) @ out)
    (out * fathom.tensor(up)).sum().backward()
    twice = fathom.tensor(x, requires_grad=True)
    (fathom.sin(twice) * fathom.exp(twice)).sum().backward()
    fork = np.exp(x) * np.cos(x) + np.sin(x) * np.exp(x)
    return All({
        "local products": float(np.abs(local - up @ jacobian).max()),
        "tape": float(np.abs(at.grad.value() - up @ jacobian).max()),
        "fork": float(np.abs(twice.grad.value() - fork).max()),
        "nodes": Check(len(operations(recorded(out))), at_least(5)),
    })  # fmt: skip


def doubled(start: float) -> Any:
    """A loop that doubles until 1,000 is reached; the number it starts from is a leaf."""
    x = fathom.tensor(np.array([start]), requires_grad=True)
    y = x
    while float(y.sum()) < 1000.0:
        y = y * 2.0
    return x, y.sum()


@question.figure(T("A loop as recorded", "被记录的循环"))
def loops(lab: Lab) -> Figure:
    """Doubling until 1,000: nodes of the graph, and the gradient, over the number at the start."""
    starts = np.geomspace(1.0, 900.0, 60)
    nodes, slopes = [], []
    for start in starts:
        x, y = doubled(float(start))
        nodes.append(len(operations(recorded(y))))
        y.backward()
        slopes.append(float(x.grad.value()[0]))
    return Figure(
        Axis(T("number at the start", "起始数"), log=True),
        Axis(T("count, and gradient", "节点数与梯度"), log=True),
        [
            Line(T("nodes", "节点数"), starts, nodes),
            Line(T("gradient", "梯度"), starts, slopes),
        ],
        T(
            "The same code leaves graphs of different size: a node for each repetition that took "
            "place; the gradient is 2 to their number.",
            "同一段代码留下大小不同的图：每次实际发生的重复对应一个节点；梯度等于 2 的重复次数次方。",
        ),
    )


@question.figure(T("Local products against Jacobians", "局部乘积与雅可比矩阵之比"))
def work(lab: Lab) -> Figure:
    """Multiplications for the gradient of one number behind ten layers, by width: vector times
    matrix at every node, and full Jacobians multiplied from the input on."""
    widths = [2, 4, 8, 16, 32, 64, 128, 256]
    return Figure(
        Axis(T("width", "宽度"), log=True),
        Axis(T("multiplications", "乘法次数"), log=True),
        [
            Line(T("local products", "局部乘积"), widths, [10 * n**2 for n in widths]),
            Line(T("full Jacobians", "完整雅可比"), widths, [9 * n**3 + n**2 for n in widths]),
        ],
        T(
            "A vector passed from node to node costs width squared a layer; multiplying whole "
            "Jacobians costs width cubed.",
            "向量逐节点传递，每层代价为宽度的平方；相乘完整的雅可比矩阵则为宽度的立方。",
        ),
    )
