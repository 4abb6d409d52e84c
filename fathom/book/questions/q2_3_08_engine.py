"""2.3.8 What PyTorch (and Fathom) do when backward is called."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.autograd import backward_steps, memory_report
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Question, Routes, Settings, T, at_least,
    equals,
)  # fmt: skip
from fathom.book.material.tape import operations, recorded, searches

question = Question(
    "2.3.8",
    title=T(
        "How do PyTorch or TensorFlow implement backward internally?",
        "PyTorch 或 TensorFlow 内部如何实现 backward？",
    ),
    difficulty=4,
    frequency=3,
    topics=("autograd", "saved tensors", "dynamic graph", "grad_fn", "自动求导", "动态图"),
    answer=T(
        "While the forward pass runs, every operation on a tensor that wants a gradient records a "
        "node (grad_fn) with edges to the nodes its inputs came from, and saves what its rule needs: "
        "a linear layer its input and weights, sigmoid, tanh and ReLU their output, GELU and SiLU "
        "their input. Nodes are operations and edges are where gradients flow; parameters are "
        "leaves, reached through an AccumulateGrad node. Calling backward counts how many gradients "
        "each node awaits and runs ready nodes, the most recently recorded first: a topological "
        "order by a priority queue, neither breadth-first nor depth-first. Gradients are added into "
        ".grad of the leaves, hence zero_grad. Saved activations grow with the batch and outweigh "
        "gradients and optimizer state when it is large; for small batches it is the other way "
        "round.",
        "前向运行时，每个作用在需要梯度的张量上的运算都记录一个节点（grad_fn），带有指向各输入来源节点的边，并"
        "保存其规则所需的量：线性层保存输入和权重，sigmoid、tanh、ReLU 保存输出，GELU 与 SiLU 保存输入。节点是"
        "运算，边是梯度流动的方向；参数是叶子，经由 AccumulateGrad 节点到达。调用 backward 时先统计每个节点要等"
        "几份梯度，再执行就绪的节点，最近记录的优先：这是用优先队列实现的拓扑序，既非广度优先也非深度优先。梯度累加"
        "到叶子的 .grad 中，所以要 zero_grad。保存的激活随批量增长，批量大时超过梯度与优化器状态；批量小时则相反。",
    ),
    flips=T(
        "With checkpointing the activations are dropped and computed again, and weights, gradients "
        "and optimizer state dominate the memory.",
        "使用重计算时激活被丢弃并重新计算，内存便以权重、梯度和优化器状态为主。",
    ),
    analogy=T(
        "A receipt is stapled to every purchase; refunds go through the pile from the newest, each "
        "when all that depend on it are settled.",
        "每笔交易都钉上收据；退款从最新的开始，依赖它的都结清后才轮到它。",
    ),
    generative=T(
        "Long contexts are bound by saved activations; sharding the optimizer state does not help "
        "there, recomputing does.",
        "长上下文受限于保存的激活；切分优化器状态无济于事，重计算才有用。",
    ),
    classical=T(
        "TensorFlow 2 records on a GradientTape, JAX traces functions: the same rules, stored "
        "differently.",
        "TensorFlow 2 用 GradientTape 记录，JAX 追踪函数：规则相同，存放方式不同。",
    ),
    driving=T(
        "Inference on the vehicle runs without recording, so that nothing is kept.",
        "车上推理不记录计算图，因此什么也不保留。",
    ),
    change=T(
        "Lower the batch from 4,096 to 1: the activations' share of memory falls to almost nothing.",
        "把批量从 4096 降到 1：激活所占的内存份额几乎降为零。",
    ),
)


@question.exact(
    "C2.3.8-01",
    T(
        "Parameters created with requires_grad are leaves of the graph.",
        "用 requires_grad 创建的参数是计算图的叶子节点。",
    ),
    equals(1.0),
    needs=("torch",),
)
def leaves(lab: Lab) -> Evidence:
    """is_leaf of tensors and layers' parameters so created, in both libraries; and of what is
    computed from them, which must not be a leaf."""
    import torch

    ours = fathom.ones(3, requires_grad=True)
    theirs = torch.ones(3, requires_grad=True)
    return All({
        "PyTorch tensor": theirs.is_leaf,
        "PyTorch layer": all(p.is_leaf for p in torch.nn.Linear(2, 3).parameters()),
        "Fathom tensor": ours.is_leaf,
        "Fathom layer": all(p.is_leaf for p in nn.Linear(2, 3).parameters()),
        "computed, PyTorch": Check((theirs * 2).is_leaf, equals(0.0)),
        "computed, Fathom": Check((ours * 2).is_leaf, equals(0.0)),
    })  # fmt: skip


@question.exact(
    "C2.3.8-02",
    T(
        "In PyTorch's graph the nodes are tensors and the edges are Function objects such as "
        "AddBackward and MmBackward.",
        "PyTorch 的图中节点是张量，边是 AddBackward、MmBackward 等 Function 对象。",
    ),
    equals(1.0),
    correction=T(
        "The Function objects are the nodes: walking next_functions from W x + b meets tensors in "
        "{n[objects that are tensors]:.0%} of the cases, PyTorch's own name for their class is "
        "torch.autograd.graph.Node, and one Function serves all the outputs of an operation and "
        "links more than two tensors. Tensors as nodes is a picture for teaching, in which every "
        "operation of two inputs would be two edges.",
        "Function 对象才是节点：从 W x + b 沿 next_functions 走，遇到的对象中张量占 "
        "{n[objects that are tensors]:.0%}；PyTorch 自己把这个类称为 torch.autograd.graph.Node；而且一个 "
        "Function 对应一个运算的所有输出，连接两个以上的张量。“张量为节点”只是教学用的图示，"
        "在那里每个双输入运算都要画成两条边。",
    ),
    weight=2,
    needs=("torch",),
)
def functions(lab: Lab) -> Evidence:
    """Share of tensors among the objects that next_functions leads to from (W x + b); share of
    these objects that PyTorch does not class as a node; share of Functions that join exactly two
    tensors, as an edge must, in W x + b and an unbind."""
    import torch

    w, x, b = (torch.ones(*s, requires_grad=True) for s in ((2, 3), (3, 1), (2, 1)))
    out = w @ x + b
    objects = recorded(out)
    parts = torch.unbind(out)
    shared = [p.grad_fn for p in parts]
    ends = [len(n.next_functions) + 1 for n in operations(objects)]
    ends.append(len(shared[0].next_functions) + sum(s is shared[0] for s in shared))
    return Routes({
        "objects that are tensors": float(np.mean([isinstance(n, torch.Tensor) for n in objects])),
        "functions not of class Node": float(np.mean([
            not isinstance(n, torch.autograd.graph.Node) for n in objects
        ])),
        "functions with two ends": float(np.mean([count == 2 for count in ends])),
    })  # fmt: skip


ACTIVATIONS = ("sigmoid", "tanh", "relu", "gelu", "silu")


def saved_by_torch(name: str) -> dict[str, bool]:
    """Which of a layer's input a, sum z and output the graph of f(W a + b) keeps."""
    import torch

    layer, a = torch.nn.Linear(3, 4), torch.randn(5, 3, requires_grad=True)
    z = layer(a)
    out = getattr(torch.nn.functional, name)(z)
    kept = [
        getattr(node, field)
        for node in operations(recorded(out))
        for field in dir(node)
        if field.startswith("_saved")
    ]
    return {
        key: any(isinstance(k, torch.Tensor) and k.shape == t.shape and bool((k == t).all())
                 for k in kept)
        for key, t in (("a", a), ("z", z), ("output", out))
    }  # fmt: skip


def saved_by_fathom(name: str) -> dict[str, bool]:
    """The same in Fathom."""
    rng = np.random.default_rng(0)
    layer, a = nn.Linear(3, 4), fathom.tensor(rng.standard_normal((5, 3)).astype(np.float32))
    z = layer(a)
    out = getattr(nn.functional, name)(z)
    kept = [s for node in operations(recorded(out)) for s in node.saved_arrays()]
    return {
        key: any(k.shape == t.shape and bool((k == t.value()).all()) for k in kept)
        for key, t in (("a", a), ("z", z), ("output", out))
    }


@question.exact(
    "C2.3.8-03",
    T(
        "The forward pass saves both a layer's input a and its weighted sum z.",
        "前向计算会同时保存层的输入 a 与加权和 z。",
    ),
    equals(1.0),
    correction=T(
        "The input always; the sum only if the activation's rule needs it: sigmoid, tanh and ReLU "
        "keep their output instead, GELU and SiLU keep z.",
        "输入总会保存；加权和只有在激活的规则需要时才保存：sigmoid、tanh、ReLU 改存输出，GELU 与 SiLU 保存 z。",
    ),
    weight=2,
    needs=("torch",),
)
def both_saved(lab: Lab) -> Evidence:
    """Whether the saved tensors of PyTorch's graph behind f(W a + b) hold both a and z, by value."""
    import torch

    torch.manual_seed(lab.seeds(1, 1)[0])
    found = {name: saved_by_torch(name) for name in ACTIVATIONS}
    return Settings(
        T("the activation", "激活函数"), {n: float(f["a"] and f["z"]) for n, f in found.items()}
    )


WIDTHS = [64, 256, 256, 10]


def torch_bytes(batch: int) -> tuple[int, int]:
    """(bytes of activations saved, bytes of gradients and Adam's two moments) in PyTorch."""
    import torch

    parts: list[Any] = []
    for a, b in itertools.pairwise(WIDTHS):
        parts += [torch.nn.Linear(a, b), torch.nn.Tanh()]
    net = torch.nn.Sequential(*parts[:-1])
    own = {p.data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def pack(t: Any) -> Any:
        if t.data_ptr() not in own:
            kept[t.data_ptr()] = t.numel() * t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = net(torch.zeros(batch, 64))
    optimizer = torch.optim.Adam(net.parameters())
    (out**2).sum().backward()
    optimizer.step()
    state = [v for s in optimizer.state.values() for k, v in s.items() if k != "step"]
    state += [p.grad for p in net.parameters()]
    return sum(kept.values()), sum(t.numel() * t.element_size() for t in state)


def fathom_bytes(batch: int) -> tuple[int, int]:
    """The same in Fathom; gradients and the two moments are each as large as the parameters."""
    parts: list[Any] = []
    for a, b in itertools.pairwise(WIDTHS):
        parts += [nn.Linear(a, b), nn.Tanh()]
    net = nn.Sequential(*parts[:-1])
    kept = memory_report(net(fathom.zeros(batch, 64))).bytes
    return kept, 3 * sum(p.value().nbytes for p in net.parameters())


def over(pair: tuple[int, int]) -> float:
    """Activations over gradients and optimizer state."""
    return pair[0] / pair[1]


@question.exact(
    "C2.3.8-04",
    T(
        "Saved activations are the main reason why training takes so much more memory than "
        "inference.",
        "保存的激活值是训练比推理耗费内存多得多的根本原因。",
    ),
    at_least(1.0),
    correction=T(
        "It depends on the batch. Activations over gradients and Adam's state in a 64-256-256-10 "
        "network: {n[1/PyTorch]:.3f} at batch 1, {n[64/PyTorch]:.2f} at 64, {n[4096/PyTorch]:.0f} at "
        "4,096.",
        "取决于批量。在 64-256-256-10 网络中，激活与（梯度加 Adam 状态）之比：批量 1 为 "
        "{n[1/PyTorch]:.3f}，64 为 {n[64/PyTorch]:.2f}，4096 为 {n[4096/PyTorch]:.0f}。",
    ),
    weight=3,
    needs=("torch",),
)
def memory(lab: Lab) -> Evidence:
    """Bytes of tensors saved for the backward pass (parameters left out) over bytes of gradients
    and Adam's moments, a 64-256-256-10 tanh network, both libraries."""
    return Settings(T("the batch size", "批量"), {
        str(b): Routes({"PyTorch": over(torch_bytes(b)), "Fathom": over(fathom_bytes(b))})
        for b in (1, 64, 4096)
    })  # fmt: skip


def two_branches(x: Any, sin: Callable[[Any], Any]) -> Any:
    """Two chains of three operations which are recorded in turns: a1 b1 b2 b3 a2 a3, then a sum."""
    a, b = sin(x), sin(x)
    b = sin(sin(b))
    return sin(sin(a)) + b


def torch_order() -> tuple[list[Any], list[Any]]:
    """(operations in the order in which the engine ran them, the root's searches flattened)."""
    import torch

    out = two_branches(torch.tensor(0.3, requires_grad=True), torch.sin)
    ran: list[int] = []
    nodes = operations(recorded(out))
    for k, node in enumerate(nodes):
        node.register_prehook(lambda grads, k=k: ran.append(k))
    orders = [operations(o) for o in searches(out.grad_fn).values()]
    out.backward()
    return [nodes[k] for k in ran], orders


def fathom_order() -> tuple[list[Any], list[Any]]:
    """The same in Fathom."""
    out = two_branches(fathom.tensor(0.3, requires_grad=True), fathom.sin)
    orders = [operations(o) for o in searches(out.node).values()]
    return [step.node for step in backward_steps(out)], orders


def same(a: list[Any], b: list[Any]) -> bool:
    """Whether the lists hold the same objects in the same order."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def topological(order: list[Any]) -> bool:
    """Whether every node ran after all that hand it gradients."""
    place = {id(n): k for k, n in enumerate(order)}
    return all(
        place[id(n)] < place[id(after)]
        for n in order
        for after, _ in n.next_functions
        if id(after) in place
    )


@question.exact(
    "C2.3.8-05",
    T(
        "The engine goes through the graph breadth-first or depth-first, in topological order.",
        "引擎按广度优先或深度优先的方式以拓扑序遍历计算图。",
    ),
    equals(1.0),
    correction=T(
        "The order is topological, but of neither kind: among the nodes that are ready the one "
        "recorded last runs first (a priority queue).",
        "顺序确是拓扑序，但两者都不是：在就绪的节点中，最后记录的最先执行（优先队列）。",
    ),
    needs=("torch",),
)
def traversal(lab: Lab) -> Evidence:
    """Two chains recorded in turns: whether the order in which the nodes ran is topological, and
    whether it is one of the orders of a breadth-first or depth-first search (either child first,
    reverse postorder included); PyTorch by hooks on the nodes, Fathom step by step."""
    found = {"PyTorch": torch_order(), "Fathom": fathom_order()}
    return All({
        "topological": All({name: topological(ran) for name, (ran, _) in found.items()}),
        "breadth- or depth-first": Routes({
            name: any(same(ran, o) for o in orders) for name, (ran, orders) in found.items()
        }),
    })  # fmt: skip


@question.exact(
    "C2.3.8-06",
    T(
        "Gradients are added into .grad of the leaves.",
        "梯度累加到叶子的 .grad 中。",
    ),
    equals(2.0),
    needs=("torch",),
)
def accumulated(lab: Lab) -> Evidence:
    """.grad after two backward passes of the same loss over that after one, in both libraries."""
    import torch

    start = lab.rng("x").standard_normal(4)
    x: Any = torch.tensor(start, requires_grad=True)
    y = fathom.tensor(start, requires_grad=True)
    (x**2).sum().backward()
    (y**2).sum().backward()
    one = float(x.grad.norm()), float(np.linalg.norm(y.grad.value()))
    (x**2).sum().backward()
    (y**2).sum().backward()
    two = float(x.grad.norm()), float(np.linalg.norm(y.grad.value()))
    return All({"PyTorch": two[0] / one[0], "Fathom": two[1] / one[1]})


@question.figure(T("What training keeps, by batch size", "训练保留的内存随批量的变化"))
def by_batch(lab: Lab) -> Figure:
    """Kilobytes of a 64-256-256-10 tanh network under Adam, in Fathom."""
    batches = [1, 4, 16, 64, 256, 1024, 4096]
    found = [fathom_bytes(b) for b in batches]
    state = found[0][1] / 1024
    return Figure(
        Axis(T("batch size", "批量"), log=True),
        Axis(T("kilobytes", "千字节"), log=True),
        [
            Line(T("saved activations", "保存的激活"), batches, [k / 1024 for k, _ in found]),
            Line(T("gradients and Adam", "梯度与 Adam 状态"), batches, [state] * len(batches)),
            Line(T("weights", "权重"), batches, [state / 3] * len(batches)),
        ],
        T(
            "Activations grow with the batch and pass gradients and optimizer state at a few hundred "
            "rows; below, they are the smaller part.",
            "激活随批量增长，几百行时超过梯度与优化器状态；在此之下只占较小部分。",
        ),
    )


@question.figure(T("What a layer keeps for its backward pass", "一层为反向传播保留了什么"))
def by_activation(lab: Lab) -> Figure:
    """f(W a + b) in Fathom: whether the input a, the sum z and the output are kept (1) or not."""
    found = [saved_by_fathom(name) for name in ACTIVATIONS]
    names = (("a", T("input a", "输入 a")), ("z", T("sum z", "加权和 z")),
             ("output", T("output", "输出")))  # fmt: skip
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in ACTIVATIONS]),
        Axis(T("kept", "是否保留")),
        [Bars(name, [float(f[key]) for f in found]) for key, name in names],
        T(
            "Every layer keeps its input; sigmoid, tanh and ReLU keep their output, GELU and SiLU "
            "the weighted sum.",
            "每层都保留输入；sigmoid、tanh、ReLU 保留输出，GELU 与 SiLU 保留加权和。",
        ),
    )
