"""3.3.2 GELU in Transformers: what its slope is, and what it is worth."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom import activations
from fathom.book import (
    All, Axis, Bars, Evidence, Figure, Lab, Level, Line, NotMeasurable, Published, Question, Routes,
    Sample, Settings, Source, T, at_least, band, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, lowest, value
from fathom.book.material.data import digits
from fathom.book.material.smooth_gates import SHAPES
from fathom.book.material.stacks import stack
from fathom.book.material.tiny_language import transformers, unseen_loss

question = Question(
    "3.3.2",
    title=T(
        "Why do Transformers use GELU rather than ReLU?",
        "Transformer 为什么用 GELU 而不用 ReLU？",
    ),
    difficulty=4,
    frequency=5,
    topics=("gelu", "transformer", "ffn", "前馈层", "激活函数"),
    answer=T(
        "Mostly because BERT and GPT did: large-scale reports give GELU a small gain over ReLU at "
        "no cost in parameters. The argument for it is smoothness: its slope is continuous, is 0.5 rather than a jump at 0, and is not 0 "
        "on a whole half-line, so no unit is dead for good. Textbook tables of its slope are "
        "often wrong: at -2, -1, 0, 1 it is -0.085, -0.083, 0.5 and 1.083, negative on the left "
        "of -0.752 and above 1 on the right of 0.752. The feed-forward layer is linear, "
        "activation, linear; the normalization stands before or after the whole sub-layer, not "
        "between the two matrices. None of this shows at small scale: in the two-layer Transformers "
        "trained here for a short time the four activations end within 2 %, ReLU in front, and "
        "whether the loss oscillates is a matter of the step size. The next step was the gate: PaLM and LLaMA use "
        "SwiGLU, LLaMA with the hidden layer cut to two thirds for equal parameters.",
        "主要是因为 BERT 和 GPT 这么用：大规模实验报告 GELU 比 ReLU 略好，又不增加参数。"
        "理由是光滑：导数连续，在 0 处是 0.5 而不是跳变，也不在整个半轴上为 0，所以没有单元"
        "会永久死亡。教科书里的导数表常有错：在 -2、-1、0、1 处它是 -0.085、-0.083、0.5、1.083，"
        "在 -0.752 以左为负，在 0.752 以右大于 1。前馈层是“线性、激活、线性”；归一化放在整个子层之前或"
        "之后，不在两个矩阵之间。小规模上看不出这些好处：在这里短时间训练的两层 Transformer 中，四种激活函数相差不到 2 %，ReLU 还领先，而损失是否振荡取决于步长。"
        "下一步是门控：PaLM 与 LLaMA 用 SwiGLU，其中 LLaMA 把隐藏层缩到三分之二以保持参数量相等。",
    ),
    flips=T(
        "Where speed or sparse activations count more than a small gain, ReLU (or its square) is "
        "the better choice again.",
        "当速度或激活稀疏性比微小的收益更重要时，ReLU（或其平方）又成为更好的选择。",
    ),
    analogy=T(
        "A dimmer in place of a switch: the room is as bright in the end, the knob is easier to "
        "set.",
        "用调光旋钮代替开关：最后一样亮，只是更好调。",
    ),
    generative=T(
        "GPT-2 and GPT-3 have GELU; PaLM and LLaMA moved on to SwiGLU.",
        "GPT-2 与 GPT-3 用 GELU；PaLM 与 LLaMA 转向 SwiGLU。",
    ),
    classical=T(
        "For networks on tables ReLU and GELU are interchangeable; tune the step size first.",
        "在表格数据的网络里 ReLU 与 GELU 可以互换；先调学习率。",
    ),
    driving=T(
        "Camera backbones built as vision transformers inherit GELU from ViT.",
        "做成视觉 Transformer 的相机骨干网络从 ViT 继承了 GELU。",
    ),
    change=T(
        "Give the gated layer the full width of 4 d: its lead is then partly bought with "
        "parameters.",
        "给门控层完整的 4d 宽度：它的领先就有一部分是靠参数换来的。",
    ),
)

PLACES = (-2.0, -1.0, 0.0, 1.0)
PRINTED = (0.02, 0.09, 0.5, 0.84)


@once
def losses(lab: Lab, kind: str) -> Any:
    """Cross-entropy on unseen windows, one a seed, of Transformers with that activation."""
    fleet = transformers(lab.seeds(4, 2), kind, epochs=lab.pick(3, 1), rows=lab.pick(None, 96))
    return unseen_loss(fleet)


def perplexity_change(lab: Lab) -> float:
    """Perplexity with GELU over that with ReLU, less 1."""
    return float(np.exp((losses(lab, "gelu") - losses(lab, "relu")).mean()) - 1.0)


def slope_at(x: float) -> Routes:
    """GELU'(x) by the tape and as Phi(x) + x phi(x)."""
    return Routes({
        "autograd": float(derivative(activations.gelu, [x])[0]),
        "closed form": float(SHAPES["gelu"].slope(np.array([x]))[0]),
    })  # fmt: skip


@question.unmeasurable(
    "C3.3.2-01",
    T(
        "GELU lowers the perplexity of language models by 2 to 5 % against ReLU and raises tasks "
        "by 1 to 3 %.",
        "与 ReLU 相比，GELU 使语言模型困惑度降低 2 到 5 %，下游任务提高 1 到 3 %。",
    ),
    weight=2,
)
def gains(lab: Lab) -> Evidence:
    """Not measured; beside it the change of perplexity in Transformers of 16,000 weights."""
    return NotMeasurable(
        T(
            "pretraining of models of 100 million parameters or more with both activations, over "
            "several seeds",
            "需要用两种激活函数各预训练一亿参数以上的模型，并重复多个种子",
        ),
        {"perplexity change, GELU for ReLU, 16,000 weights": perplexity_change(lab)},
    )


class Network(NamedTuple):
    """A network whose losses are watched: its step sizes and how many seeds."""

    title: T
    rates: tuple[float, ...]
    seeds: int


NETWORKS = {  # step sizes doubled from where next to no loss rises to where 3 to 15 % of steps do
    "Transformer, 8 units": Network(
        T("Transformer, 8 units", "Transformer，8 单元"), (5e-3, 1e-2, 2e-2, 4e-2), 48
    ),
    "Transformer, 16 units": Network(
        T("Transformer, 16 units", "Transformer，16 单元"), (5e-3, 1e-2, 2e-2, 4e-2), 14
    ),
    "perceptron": Network(T("perceptron", "感知机"), (1e-2, 2e-2, 4e-2, 8e-2), 40),
}


@once
def curves(lab: Lab, network: str, kind: str, rate: float) -> Any:
    """Losses of every step of Adam on all rows at once, (seeds, steps): no noise of batches."""
    seeds = lab.seeds(NETWORKS[network].seeds, 3)
    if network != "perceptron":
        units, rows = (8, 16) if network == "Transformer, 8 units" else (16, 32)
        return transformers(
            seeds, kind, d_model=units, time=rows, rows=rows, batch=rows,
            epochs=lab.pick(60, 10), rate=rate,
        ).losses  # fmt: skip
    data = digits()
    spec = {
        "model": lambda: stack(64, 10, 32, 2, activation=kind),
        "lr": rate, "epochs": lab.pick(100, 30), "batch_size": 512,
    }  # fmt: skip
    return fathom.train_many(spec, data.x[:512], data.y[:512], seeds=seeds).losses


def rises(losses: Any) -> tuple[Any, Any]:
    """Share of the steps at which the loss goes up, and share of its path that leads up."""
    moves = np.diff(losses, axis=1)
    up = np.maximum(moves, 0.0)
    return (moves > 0).mean(axis=1), up.sum(axis=1) / np.abs(moves).sum(axis=1)


@once
def excess(lab: Lab, network: str) -> tuple[Any, Any]:
    """Both shares, ReLU's less GELU's, paired by seed: (seeds, step sizes) each."""
    pairs = [
        [rises(curves(lab, network, kind, rate)) for kind in ("relu", "gelu")]
        for rate in step_sizes(lab, network)
    ]
    steps, path = (np.array([relu[i] - gelu[i] for relu, gelu in pairs]).T for i in (0, 1))
    return steps, path


def step_sizes(lab: Lab, network: str) -> tuple[float, ...]:
    """All of them, or the largest when time is short."""
    rates = NETWORKS[network].rates
    return lab.pick(rates, rates[-1:])


@question.experiment(
    "C3.3.2-02",
    T(
        "The jump of ReLU's slope makes training oscillate; GELU is steadier.",
        "ReLU 导数的跳变使训练振荡；GELU 更平稳。",
    ),
    at_least(0.02),
    correction=T(
        "It is the step size that makes the loss go up and down. On average over step sizes from "
        "calm to rough, ReLU's share of rising steps less GELU's is "
        "{n[Transformer, 8 units/steps]:+.3f} and {n[Transformer, 16 units/steps]:+.3f} in the "
        "Transformers and {n[perceptron/steps]:+.3f} in the perceptron; its share of the path "
        "that leads up, {n[Transformer, 8 units/path]:+.3f}, "
        "{n[Transformer, 16 units/path]:+.3f} and {n[perceptron/path]:+.3f}. In the wider "
        "Transformer ReLU rises more often at moderate steps, GELU at large ones (see the figure).",
        "使损失上下起伏的是步长。在从平稳到剧烈的各步长上平均，ReLU 的上升步比例减去 GELU 的：两个 Transformer 为 "
        "{n[Transformer, 8 units/steps]:+.3f} 与 {n[Transformer, 16 units/steps]:+.3f}，感知机为 "
        "{n[perceptron/steps]:+.3f}；损失路径中上升部分之差依次为 {n[Transformer, 8 units/path]:+.3f}、"
        "{n[Transformer, 16 units/path]:+.3f}、{n[perceptron/path]:+.3f}。"
        "在较宽的 Transformer 中，中等步长时 ReLU 上升更频繁，大步长时则是 GELU（见图）。",
    ),
    weight=3,
)
def oscillation(lab: Lab) -> Evidence:
    """Share of full-batch Adam steps at which the loss rises, ReLU less GELU, paired by seed.

    The same for the share of the loss's path that leads up. In two-layer Transformers on
    characters and a perceptron on digits, as the mean over four step sizes, doubled from one at
    which next to no loss rises to one at which 3 to 15 % of the steps do: the claim names none.
    Two in a hundred more is what we call oscillating more. (At the one step size 0.01 the
    Transformer of 16 units, on 100 other seeds, lies astride this: 0.023, from 0.017 to 0.029.)
    """
    return Settings(
        T("network", "网络"),
        {
            name: Routes({
                way: Sample(found.mean(axis=1))
                for way, found in zip(("steps", "path"), excess(lab, name), strict=True)
            })
            for name in NETWORKS
        },
    )  # fmt: skip


@question.exact(
    "C3.3.2-03",
    T("GELU is not monotone.", "GELU 不是单调的。"),
    at_least(0.01),
)
def falls(lab: Lab) -> Evidence:
    """How far GELU falls from x = -12 to its minimum: in the library and by the closed form."""
    return Routes({
        "library": value(activations.gelu, -12.0).item()
        - lowest(lambda x: value(activations.gelu, x), -3.0, 0.0)[1],
        "closed form": float(SHAPES["gelu"].value(np.array([-12.0]))[0])
        - lowest(SHAPES["gelu"].value, -3.0, 0.0)[1],
    })  # fmt: skip


@question.exact(
    "C3.3.2-04",
    T("The slope of GELU at -2 is about 0.02.", "GELU 在 -2 处的导数约为 0.02。"),
    equals(0.02, 0.005),
    correction=T(
        "The slope there is {n[autograd]:.4f}; 0.02 is its first term, Phi(-2), without x phi(x).",
        "那里的导数是 {n[autograd]:.4f}；0.02 只是第一项 Phi(-2)，漏了 x phi(x)。",
    ),
)
def at_minus_two(lab: Lab) -> Evidence:
    """By the tape, and as Phi(x) + x phi(x)."""
    return slope_at(-2.0)


@question.exact(
    "C3.3.2-05",
    T("The slope of GELU at -1 is about 0.09.", "GELU 在 -1 处的导数约为 0.09。"),
    equals(0.09, 0.005),
    correction=T(
        "The slope there is {n[autograd]:.4f}: the size is nearly right, the sign is not.",
        "那里的导数是 {n[autograd]:.4f}：大小相近，符号相反。",
    ),
)
def at_minus_one(lab: Lab) -> Evidence:
    """By the tape, and as Phi(x) + x phi(x)."""
    return slope_at(-1.0)


@question.exact(
    "C3.3.2-06",
    T("The slope of GELU at 0 is 0.5.", "GELU 在 0 处的导数是 0.5。"),
    equals(0.5, 1e-12),
)
def at_zero(lab: Lab) -> Evidence:
    """By the tape, and as Phi(x) + x phi(x)."""
    return slope_at(0.0)


@question.exact(
    "C3.3.2-07",
    T("The slope of ReLU at 0 is 1.", "ReLU 在 0 处的导数是 1。"),
    equals(1.0),
    correction=T(
        "Both libraries take {n[Fathom]:.0f} there. Mathematically the slope does not exist: 0 "
        "from the left, 1 from the right, and any number between is a subgradient.",
        "两个库在那里都取 {n[Fathom]:.0f}。数学上导数不存在：左侧为 0，右侧为 1，其间任何数都是次梯度。",
    ),
    needs=("torch",),
)
def relu_at_zero(lab: Lab) -> Evidence:
    """What automatic differentiation gives, in Fathom and in PyTorch."""
    import torch

    at = torch.zeros(1, requires_grad=True)
    (theirs,) = torch.autograd.grad(torch.relu(at).sum(), at)
    ours = float(derivative(fathom.relu, [0.0])[0])
    return Routes({"Fathom": ours, "PyTorch": theirs.item()})


@question.exact(
    "C3.3.2-08",
    T("The slope of GELU at 1 is about 0.84.", "GELU 在 1 处的导数约为 0.84。"),
    equals(0.84, 0.005),
    correction=T(
        "The slope there is {n[autograd]:.4f}; 0.84 is the value, GELU(1) = Phi(1).",
        "那里的导数是 {n[autograd]:.4f}；0.84 是函数值，GELU(1) = Phi(1)。",
    ),
    weight=2,
)
def at_one(lab: Lab) -> Evidence:
    """By the tape, and as Phi(x) + x phi(x)."""
    return slope_at(1.0)


@question.reference(
    "C3.3.2-09",
    T(
        "A feed-forward layer is linear, layer norm, GELU, linear, in this order.",
        "前馈层的顺序是：线性、层归一化、GELU、线性。",
    ),
    correction=T(
        "It is linear, activation, linear. The norm stands after the sub-layer and its residual "
        "(Transformer, BERT) or before it (GPT-2).",
        "顺序是线性、激活、线性。归一化在子层及残差之后（Transformer、BERT），或在子层之前（GPT-2）。",
    ),
    weight=3,
)
def order(lab: Lab) -> Evidence:
    """The steps of a feed-forward layer in the released code of two models with GELU."""
    return Published(
        "linear, GELU, linear",
        (
            Source(
                "Devlin et al., BERT, released code (modeling.py: intermediate, output)", 2018, 0.98
            ),
            Source("Radford et al., GPT-2, released code (model.py: mlp)", 2019, 0.99),
        ),
        expected="linear, layer norm, GELU, linear",
    )


@question.unmeasurable(
    "C3.3.2-10",
    T(
        "GELU's gain over ReLU grows with the size of the model: 0.5, 1.5, 2.5, 3.5 %.",
        "GELU 相对 ReLU 的收益随模型规模增长：0.5、1.5、2.5、3.5 %。",
    ),
)
def with_size(lab: Lab) -> Evidence:
    """Not measured; the change of perplexity at 16,000 weights stands beside it."""
    return NotMeasurable(
        T(
            "the same pretraining at four sizes up to billions of parameters, with both "
            "activations",
            "需要在直到数十亿参数的四种规模上，用两种激活函数各做一遍同样的预训练",
        ),
        {"perplexity change, GELU for ReLU, 16,000 weights": perplexity_change(lab)},
    )


@question.reference(
    "C3.3.2-11",
    T(
        "LLaMA and PaLM use SwiGLU, BERT and GPT-3 use GELU.",
        "LLaMA 与 PaLM 用 SwiGLU，BERT 与 GPT-3 用 GELU。",
    ),
)
def who_uses_what(lab: Lab) -> Evidence:
    """The papers; GPT-3 refers to GPT-2's architecture, whose code has the tanh form."""
    told = {
        "LLaMA": ("SwiGLU", Source("Touvron et al., LLaMA, section 2.2", 2023, 0.98)),
        "PaLM": ("SwiGLU", Source("Chowdhery et al., PaLM, section 2", 2022, 0.98)),
        "BERT": ("GELU", Source("Devlin et al., BERT, appendix A.2", 2018, 0.97)),
        "GPT-3": ("GELU", Source("Brown et al., GPT-3, section 2.1, and GPT-2's code", 2020, 0.9)),
    }
    claimed = {"LLaMA": "SwiGLU", "PaLM": "SwiGLU", "BERT": "GELU", "GPT-3": "GELU"}
    return All(
        {name: Published(fact, (work,), claimed[name]) for name, (fact, work) in told.items()}
    )


@question.figure(T("Slopes: printed and true", "导数：教科书与实际"))
def slopes(lab: Lab) -> Figure:
    """The slopes a textbook prints beside those of the tape."""
    true_slopes = derivative(activations.gelu, PLACES)
    ticks = [T(f"{x:g}", f"{x:g}") for x in PLACES]
    return Figure(
        Axis(T("x", "x"), ticks=ticks),
        Axis(T("slope of GELU", "GELU 的导数")),
        [Bars(T("printed", "书中"), PRINTED), Bars(T("true", "实际"), true_slopes)],
        T(
            "Only the slope at 0 is printed right: on the left it is negative, on the right it "
            "exceeds 1.",
            "书中只有 0 处的导数是对的：左边实际为负，右边实际大于 1。",
        ),
    )


@question.figure(T("Small Transformers of equal size", "参数量相等的小 Transformer"))
def small_transformers(lab: Lab) -> Figure:
    """Loss on unseen text less that with ReLU, paired by seed; 16,000 weights each."""
    shown = lab.pick({"gelu": "GELU", "silu": "SiLU", "swiglu": "SwiGLU"}, {"gelu": "GELU"})
    base = losses(lab, "relu")
    at = [Sample(losses(lab, kind) - base) for kind in shown]
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in shown.values()]),
        Axis(T("loss less ReLU's, nats a character", "与 ReLU 的损失之差 (nat/字符)")),
        [
            Bars(T("unseen text", "未见文本"), *band(at)),
            Level(T("ReLU", "ReLU"), y=0.0),
        ],
        T(
            "At equal parameters and after a short training none is ahead of ReLU: all lie within "
            "2 % of its loss, above it. Whiskers are the 95 % intervals over seeds.",
            "参数量相等、短时间训练后，没有一个优于 ReLU：都在其损失之上、相差不到 2 %。"
            "须线是各种子的 95 % 区间。",
        ),
        {"loss with ReLU": float(base.mean())},
    )  # fmt: skip


@question.figure(T("Does ReLU oscillate?", "ReLU 会振荡吗？"))
def by_step_size(lab: Lab) -> Figure:
    """Share of the steps at which the loss rises, ReLU less GELU, by the size of the step."""
    lines = []
    for name, network in NETWORKS.items():
        at = [Sample(column) for column in excess(lab, name)[0].T]
        lines.append(
            Line(network.title, step_sizes(lab, name), [s.mean for s in at],
                 [s.low for s in at], [s.high for s in at])
        )  # fmt: skip
    return Figure(
        Axis(T("step size of Adam", "Adam 的步长"), log=True),
        Axis(T("rising steps, ReLU less GELU", "上升步比例之差 (ReLU - GELU)")),
        [*lines, Level(T("as many", "相同"), y=0.0)],
        T(
            "At moderate steps the loss of the wider Transformer rises more often with ReLU, at "
            "large ones with GELU; elsewhere the two hardly differ. Bands are 95 % intervals over "
            "seeds.",
            "较宽的 Transformer 在中等步长下 ReLU 的损失上升更频繁，大步长下则是 GELU；其余情形几乎无差别。"
            "色带为各种子的 95 % 区间。",
        ),
    )
