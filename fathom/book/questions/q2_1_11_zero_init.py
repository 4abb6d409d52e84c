"""2.1.11 Why the initial weights matter, and what breaks when all are 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings,
    T, at_least, at_most, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.stacks import stack
from fathom.nn import Linear, init
from fathom.nn.functional import cross_entropy

question = Question(
    "2.1.11",
    title=T(
        "Why does initialization matter and what breaks with all zeros?",
        "为什么初始化很重要？全零初始化会出什么问题？",
    ),
    difficulty=3,
    frequency=5,
    topics=("initialization", "symmetry", "zero init", "rank", "初始化", "全零初始化", "对称性"),
    answer=T(
        "Units of a layer that start with the same weights get the same gradient and stay the same "
        "for ever, so the layer is no wider than one unit. With all weights 0 it is often worse. "
        "The gradient reaches a layer through the weights behind it, which are 0; and those get a "
        "gradient only through activations that are not 0. With tanh or ReLU, where f(0) = 0, "
        "nothing but the output bias ever moves and the weight matrix keeps rank 0. With sigmoid, "
        "where f(0) = 1/2, the last layer moves first, then the one before it, and one effective "
        "unit a layer remains: rank 1. Random weights break the tie; biases may start at 0, "
        "because the weights already differ.",
        "同一层中初始权重相同的单元得到相同的梯度，并永远保持相同，因此这一层的有效宽度只有一个单元。"
        "全零往往更糟。梯度要经过后面的权重才能传到某层，而那些权重为 0；它们自己又只有在激活不为 0 时"
        "才有梯度。用 tanh 或 ReLU（f(0) = 0）时，除输出偏置外什么都不动，权重矩阵的秩保持 0。用 "
        "sigmoid（f(0) = 1/2）时，最后一层先动，再轮到前一层，每层只剩一个有效单元：秩为 1。随机权重"
        "打破这种平局；偏置可以从 0 开始，因为权重已经各不相同。",
    ),
    flips=T(
        "Zeros are fine where something else is random: biases, the last layer, or the end of a "
        "residual branch.",
        "只要别处有随机性，零就没问题：偏置、最后一层、残差分支的末端都可以从零开始。",
    ),
    analogy=T(
        "A team whose members all copy one another is one worker, however many are paid.",
        "人人互相照抄的团队，雇多少人都只等于一个人。",
    ),
    generative=T(
        "Diffusion transformers start the last layer of each branch at 0 on purpose: the rest is random.",
        "扩散 Transformer 有意把每个分支的末层置零：其余部分是随机的。",
    ),
    classical=T(
        "Linear and logistic regression may start at 0: there is nothing to tell apart.",
        "线性回归与逻辑回归可以从 0 开始：没有需要区分的隐单元。",
    ),
    driving=T(
        "A detection head starts with a bias for rare objects, its weights small and random.",
        "检测头的偏置按稀有目标的先验设定，权重取小的随机值。",
    ),
    change=T(
        "Draw the weights from Xavier's rule instead: the loss falls at once.",
        "改用 Xavier 规则抽取权重：损失立即下降。",
    ),
)

ACTIVATIONS = ("tanh", "relu", "sigmoid")
STEPS = 500


def layers(model: Any) -> list[Linear]:
    """The linear layers, from the first."""
    return [m for m in model.modules() if isinstance(m, Linear)]


def rows_apart(weight: Any) -> float:
    """Largest difference of two rows of a weight matrix."""
    return float(np.ptp(weight.value(), axis=0).max())


@once
def trained(lab: Lab, activation: str, rule: str) -> dict[str, Any]:
    """Two hidden layers on the digits, full batches of 200 rows, plain gradient steps, float64."""
    data = digits()
    x, y = fathom.tensor(data.x[:200].astype(np.float64)), data.y[:200]
    with fathom.seed(lab.seeds(1)[0]):
        model = stack(64, 10, 12, 2, activation=activation, init=rule).double()
    parameters = list(model.parameters())
    losses, apart, gradients = [], 0.0, {}
    for step in range(lab.pick(STEPS, 60)):
        loss = cross_entropy(model(x), y)
        loss.backward()
        if step == 1:
            gradients = {n: float(p.grad.square().sum().sqrt().item()) if p.grad is not None else 0.0
                         for n, p in model.named_parameters()}  # fmt: skip
        losses.append(float(loss.item()))
        for p in parameters:
            if p.grad is not None:
                p.data[...] = p.value() - 0.5 * p.grad.value()
            p.grad = None
        apart = max(apart, *(rows_apart(layer.weight) for layer in layers(model)[:2]))
    return {"model": model, "losses": losses, "apart": apart, "gradients": gradients}


@question.exact(
    "C2.1.11-01",
    T("With zero weights all hidden units of a layer have the same activation.", "全零初始化时，同一层所有隐单元的激活都相等。"),
    at_most(0.0),
)  # fmt: skip
def same_activations(lab: Lab) -> Evidence:
    """Largest difference of two units over 100 rows and both hidden layers, three activations."""
    x = fathom.tensor(digits().x[:100])
    found = {}
    for name in ACTIVATIONS:
        model, apart = stack(64, 10, 12, 2, activation=name, init="zeros"), 0.0
        h = x
        for layer in list(model)[:-1]:
            h = layer(h)
            apart = max(apart, float(np.ptp(h.value(), axis=1).max()))
        found[name] = apart
    return All(found)


@question.exact(
    "C2.1.11-02",
    T(
        "From zero weights all units of a layer get equal gradients, so they stay equal for ever.",
        "从全零出发，同层各单元的输入权重梯度相等，对称性因此永远保持。",
    ),
    at_most(1e-12),
    weight=4,
)
def same_for_ever(lab: Lab) -> Evidence:
    """Largest difference of two rows of a hidden weight matrix at any of 500 steps; three activations."""
    return All({name: trained(lab, name, "zeros")["apart"] for name in ACTIVATIONS})


def ranks(lab: Lab, activation: str) -> Evidence:
    """Rank of the first weight matrix by singular values, and by columns left after elimination."""
    weight = layers(trained(lab, activation, "zeros")["model"])[0].weight.value()
    left, found = weight.copy(), 0
    while np.abs(left).max() > 1e-9 and found < min(left.shape):
        i, j = np.unravel_index(np.abs(left).argmax(), left.shape)
        left = left - np.outer(left[:, j], left[i]) / left[i, j]
        found += 1
    size = int((np.linalg.svd(weight, compute_uv=False) > 1e-9).sum())
    return Routes({"singular values": size, "elimination": found})


@question.exact(
    "C2.1.11-03",
    T(
        "A network that starts at zero behaves like one with a single unit a layer.",
        "全零初始化的网络退化为每层只有一个神经元的网络。",
    ),
    equals(1),
    correction=T(
        "One unit is left with sigmoid (rank {n[sigmoid/singular values]:.0f}); with tanh and ReLU none "
        "is (rank {n[tanh/singular values]:.0f}): only the output bias learns.",
        "用 sigmoid 时剩一个有效单元（秩 {n[sigmoid/singular values]:.0f}）；用 tanh、ReLU 时一个也不剩"
        "（秩 {n[tanh/singular values]:.0f}）：只有输出偏置在学习。",
    ),
    weight=3,
)
def one_unit(lab: Lab) -> Evidence:
    """Rank of the first weight matrix after 500 gradient steps on the digits from all zeros."""
    return Settings(T("activation", "激活函数"), {name: ranks(lab, name) for name in ACTIVATIONS})


@question.exact(
    "C2.1.11-04",
    T(
        "If all rows of W are equal (and the biases are), all units of the layer give the same output.",
        "若 W 的各行相等（偏置也相等），则该层所有单元的输出相等。",
    ),
    at_most(0.0),
)
def equal_rows(lab: Lab) -> Evidence:
    """Largest difference of two outputs over 100 random rows; with unequal biases, for contrast."""
    rng = lab.rng("rows")
    layer = Linear(6, 9).double()
    layer.weight.data[...] = rng.standard_normal(6)
    layer.bias.data[...] = 0.3
    x = fathom.tensor(rng.standard_normal((100, 6)))
    equal = float(np.ptp(fathom.tanh(layer(x)).value(), axis=1).max())
    layer.bias.data[...] = rng.standard_normal(9)
    other = float(np.ptp(fathom.tanh(layer(x)).value(), axis=1).max())
    return All({"equal": equal, "with unequal biases": Check(other, at_least(0.1))})


@once
def fleets(lab: Lab) -> dict[str, Any]:
    """Test accuracy and row distance of nets with random weights, biases zero or random."""
    data = digits()
    seeds = lab.seeds(12, 3)

    def net(spread: float) -> Any:
        model = stack(64, 10, 32, 2)
        for layer in layers(model):
            init.normal_(layer.bias, 0.0, spread)  # type: ignore[arg-type]
        return model

    spec = {"model": net, "optimizer": "sgd", "lr": 0.1, "epochs": 30, "batch_size": 50}
    fleet = fathom.train_many(
        spec, data.x, data.y, seeds=seeds, grid={"spread": [0.0, 0.1]}, threads=1
    )
    accuracy = fleet.evaluate(data.test_x, data.test_y)["accuracy"].reshape(2, -1)
    apart = [rows_apart(layers(run.model)[0].weight) for run in fleet.runs[: len(seeds)]]
    return {"zero": accuracy[0], "random": accuracy[1], "apart": np.array(apart)}


@question.experiment(
    "C2.1.11-05",
    T("Biases of zero do not cause the symmetry problem.", "偏置初始化为零不会造成对称性问题。"),
    at_least(0.9),
    weight=2,
)
def zero_biases(lab: Lab) -> Evidence:
    """Test accuracy on the digits with random weights and zero biases; what random biases add.

    Two hidden layers of 32 ReLU units, 30 epochs. Random biases may not add more than 0.01.
    """
    found = fleets(lab)
    return All({
        "accuracy with zero biases": Sample(found["zero"]),
        "rows apart": Check(Sample(found["apart"]), at_least(0.1)),
        "added by random biases": Check(Sample(found["random"] - found["zero"]), at_most(0.01)),
    })  # fmt: skip


@once
def active(lab: Lab, bias: float) -> Any:
    """Share of active units of one He layer on standard normal rows, less that with bias 0."""
    found = []
    for seed in lab.seeds(20, 5):
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((500, 64)) @ rng.standard_normal((64, 256)) * np.sqrt(2 / 64)
        found.append((z + bias > 0).mean() - (z > 0).mean())
    return np.array(found)


def gained(bias: float, deviation: float = math.sqrt(2.0)) -> float:
    """Phi(b / s) - 1/2: the probability that a bias adds."""
    return 0.5 * math.erf(bias / deviation / math.sqrt(2.0))


@question.experiment(
    "C2.1.11-06",
    T(
        "A small positive bias (0.01 or 0.1) makes more ReLU units active at the start.",
        "小的正偏置（0.01 或 0.1）使 ReLU 单元在开始时更可能处于激活状态。",
    ),
    at_least(0.001),
)
def positive_bias(lab: Lab) -> Evidence:
    """Share of active units with the bias less that without; measured, and Phi(b / s) - 1/2.

    He weights on standard normal inputs, so s = sqrt(2). At least one unit in a thousand counts.
    """
    return All({
        f"bias {b}": Routes({"measured": Sample(active(lab, b)), "formula": gained(b)})
        for b in (0.01, 0.1)
    })  # fmt: skip


def every(losses: list[float]) -> Any:
    """The steps of every fifth loss."""
    return np.arange(0, len(losses), 5)


@question.figure(T("Training from zeros and from random weights", "从全零与从随机权重开始训练"))
def courses(lab: Lab) -> Figure:
    """Loss of the same net on the digits, by activation and initial weights."""
    lines = []
    for name in ACTIVATIONS:
        losses = trained(lab, name, "zeros")["losses"]
        lines.append(Line(T(f"{name}, zeros", f"{name}，全零"), every(losses), losses[::5]))
    losses = trained(lab, "tanh", "xavier_normal")["losses"]
    random = Line(T("tanh, Xavier", "tanh，Xavier"), every(losses), losses[::5])
    return Figure(
        Axis(T("step", "步数")),
        Axis(T("training loss", "训练损失")),
        [*lines, random, Level(T("ln 10: knows nothing", "ln 10：一无所知"), y=math.log(10))],
        T(
            "From zeros the loss falls only to what the frequencies of the classes give, whatever the "
            "activation; random weights learn at once.",
            "从全零出发，无论用哪种激活，损失只能降到类别频率所给出的水平；随机权重立即开始学习。",
        ),
    )


@question.figure(T("Gradients in the second step", "第二步时的梯度"))
def second_step(lab: Lab) -> Figure:
    """Norm of each parameter's gradient after one step from all zeros."""
    names = ["0.weight", "2.weight", "4.weight", "4.bias"]
    ticks = [T("first W", "第一层 W"), T("second W", "第二层 W"), T("last W", "末层 W"),
             T("last bias", "末层偏置")]  # fmt: skip
    bars = []
    for name in ACTIVATIONS:
        gradients = trained(lab, name, "zeros")["gradients"]
        bars.append(Bars(T(name, name), [gradients[n] for n in names]))
    return Figure(
        Axis(T("parameter", "参数"), ticks=ticks),
        Axis(T("gradient norm", "梯度范数")),
        bars,
        T(
            "Only the output bias has a gradient with tanh and ReLU; with sigmoid the last weights "
            "have one, and through them, now, the second layer.",
            "用 tanh 和 ReLU 时只有输出偏置有梯度；用 sigmoid 时末层权重有梯度，并由此使第二层开始有梯度。",
        ),
    )
