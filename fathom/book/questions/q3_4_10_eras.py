"""3.4.10 From sigmoid to SwiGLU: each era's activation with the weights and norms it came with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import Axis, Figure, Lab, Level, Line, Question, Sample, T, band, once
from fathom.book.material.data import digits
from fathom.book.material.stacks import stack
from fathom.doctor.probes.flow import gradient_flow

question = Question(
    "3.4.10",
    title=T(
        "Summary: what changed in activation design from sigmoid to SwiGLU?",
        "总结：从 sigmoid 到 SwiGLU，激活函数的设计思想有何变化？",
    ),
    difficulty=3,
    frequency=3,
    topics=("history", "summary", "depth", "residual", "设计思想", "深度", "演进", "总结"),
    answer=T(
        "Each step answered the bottleneck of its time. Sigmoid and tanh came from neurons and "
        "probabilities: bounded, smooth, and vanishing with depth. ReLU (2010 to 2012) gave up "
        "boundedness and smoothness for a slope of 1 and a cheap kernel; Leaky ReLU, ELU and SELU "
        "repaired its zero side and its mean by the shape of the function. Then batch norm and "
        "residual connections (2015) took over the care of scale and gradient, and the activation "
        "was free to be chosen for quality: GELU and Swish, smooth and not monotone. SwiGLU leaves "
        "the function of one number behind: the layer multiplies two maps of its input. So the aim "
        "moved from imitating neurons to letting gradients through, and from there to what a layer "
        "can express for its parameters. What made depth possible was chiefly initialization, norm "
        "and residual; exchange those, and the ranking of activations changes.",
        "每一步都在解决当时的瓶颈。sigmoid 与 tanh 源自神经元和概率：有界、平滑，但随深度消失。ReLU（2010 "
        "至 2012）放弃有界与平滑，换来斜率 1 和便宜的计算；Leaky ReLU、ELU、SELU 用函数形状修补它的零侧"
        "和均值。随后批归一化与残差连接（2015）接管了尺度和梯度，激活函数便可以只按质量来选：GELU 与 Swish，"
        "平滑且非单调。SwiGLU 则走出了一元函数：层把输入的两个映射相乘。目标于是从模仿神经元，变为让梯度通"
        "过，再变为同样参数下一层能表达什么。让网络变深的主要是初始化、归一化和残差；换掉它们，激活函数的排名"
        "也会变。",
    ),
    flips=T(
        "In two layers all recipes after the sigmoid's lie within a few points of each other: "
        "without depth there is little to repair.",
        "只有两层时，sigmoid 之后的各种配方只差几个百分点：没有深度，就没有多少可修补的。",
    ),
    analogy=T(
        "Cars: first the engine had to run at all, then roads were paved, and then one could care "
        "about comfort.",
        "像汽车：先要让发动机转起来，再把路铺好，然后才谈得上舒适。",
    ),
    generative=T(
        "A language model's block today is RMS norm, residual, SwiGLU: three inventions of which only "
        "the last is an activation.",
        "如今语言模型的块是 RMS 归一化、残差、SwiGLU：三项发明里只有最后一项是激活函数。",
    ),
    classical=T(
        "The sigmoid stays where a probability is wanted, at the output; it lost the inside only.",
        "需要概率的地方，sigmoid 仍在输出层；它失去的只是内部的位置。",
    ),
    driving=T(
        "Cars run the eras side by side: ReLU in the camera backbone, GELU in the transformer over "
        "it, sigmoid at the heads.",
        "车上各时代并存：视觉骨干用 ReLU，其上的 Transformer 用 GELU，检测头用 sigmoid。",
    ),
    change=T(
        "Take the residual connections out of the last two recipes: their depth goes.",
        "从最后两种配方里去掉残差连接：它们的深度优势随之消失。",
    ),
)  # fmt: skip


class PreNorm(nn.Module):
    """x + f(norm(x))."""

    def __init__(self, norm: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = norm, inner

    def forward(self, x: Any) -> Any:
        return x + self.inner(self.norm(x))


WIDTH = 24


def blocks(activation: str, norm: Callable[[int], nn.Module], depth: int) -> nn.Sequential:
    """`depth` layers in pre-norm feed-forward blocks of two, behind a linear layer; as many weights
    a block as two layers of `WIDTH`, or nearly."""
    hidden = 2 * WIDTH // 3 if activation == "swiglu" else WIDTH
    parts = [
        PreNorm(norm(WIDTH), nn.FeedForward(WIDTH, hidden, activation)) for _ in range(depth // 2)
    ]
    return nn.Sequential(nn.Linear(64, WIDTH), *parts, norm(WIDTH), nn.Linear(WIDTH, 10))


def plain(activation: str, init: str, norm: bool = False) -> Callable[[int], nn.Module]:
    """Layers of one width, one behind the other."""
    return lambda depth: stack(64, 10, WIDTH, depth, activation=activation, init=init, norm=norm)


RECIPES: dict[str, tuple[T, Callable[[int], nn.Module]]] = {
    "sigmoid": (T("sigmoid, Xavier", "sigmoid，Xavier"), plain("sigmoid", "xavier_normal")),
    "tanh": (T("tanh, Xavier", "tanh，Xavier"), plain("tanh", "xavier_normal")),
    "relu": (T("ReLU, He", "ReLU，He"), plain("relu", "he_normal")),
    "relu_bn": (T("ReLU, He, batch norm", "ReLU，He，批归一化"), plain("relu", "he_normal", True)),
    "selu": (T("SELU, LeCun", "SELU，LeCun"), plain("selu", "lecun_normal")),
    "tanh_residual": (
        T("tanh, layer norm, residual", "tanh，层归一化，残差"),
        lambda depth: blocks("tanh", nn.LayerNorm, depth),
    ),
    "gelu": (
        T("GELU, layer norm, residual", "GELU，层归一化，残差"),
        lambda depth: blocks("gelu", nn.LayerNorm, depth),
    ),
    "swiglu": (
        T("SwiGLU, RMS norm, residual", "SwiGLU，RMS 归一化，残差"),
        lambda depth: blocks("swiglu", nn.RMSNorm, depth),
    ),
}  # fmt: skip
DEPTHS = (2, 8, 32)


@once
def trained(lab: Lab, recipe: str, depth: int) -> tuple[Sample, Sample]:
    """(test accuracy, loss of the last pass) after eight passes of Adam at 0.003, one a seed."""
    data, make = digits(), RECIPES[recipe][1]
    spec = {
        "model": lambda: make(depth), "lr": 0.003, "epochs": lab.pick(8, 1), "batch_size": 64,
    }  # fmt: skip
    rows = lab.pick(None, 256)
    fleet = fathom.train_many(spec, data.x[:rows], data.y[:rows], seeds=lab.seeds(4, 2))
    said = fleet.evaluate(data.test_x, data.test_y)
    return Sample(said["accuracy"]), Sample(fleet.losses[:, -1])


def by_depth(lab: Lab, name: T, depths: Any, at: list[Sample]) -> Line:
    """Means with bands."""
    return Line(name, depths, *band(at))


@question.figure(T("How deep each era could go", "每个时代能走多深"))
def reach(lab: Lab) -> Figure:
    """Digits, one recipe of training for all (Adam at 0.003, eight passes), width 24: test accuracy
    by depth, bands over four seeds. Below: the training loss at the greatest depth."""
    depths = lab.pick(DEPTHS, (2,))
    names = lab.pick(tuple(RECIPES), ("sigmoid", "relu", "swiglu"))
    lines = [
        by_depth(lab, RECIPES[n][0], depths, [trained(lab, n, d)[0] for d in depths]) for n in names
    ]
    return Figure(
        Axis(T("layers", "层数"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("chance", "随机水平"), y=0.1)],
        T(
            "Every era beats the sigmoid at two layers. Without residuals all lose their accuracy by 32 "
            "layers, batch norm included; with norm and residual tanh goes as deep as GELU and SwiGLU.",
            "两层时各时代都胜过 sigmoid。没有残差时，到 32 层准确率都垮掉，有批归一化也不例外；有了归一化和残"
            "差，tanh 能与 GELU、SwiGLU 走得一样深。",
        ),
        {f"training loss, {n}, {depths[-1]} layers": trained(lab, n, depths[-1])[1].mean
         for n in names},
    )  # fmt: skip


@once
def healthy(lab: Lab, recipe: str, depth: int) -> Sample:
    """log10 of the leverage of the first layer's weights over that of the last's, at the start."""
    data, found = digits(), []
    for seed in lab.seeds(4, 2):
        with fathom.seed(seed):
            model = RECIPES[recipe][1](depth)
        flow = gradient_flow(model, "auto", data.x[:256], data.y[:256])
        found.append(np.log10(max(flow.gradient_ratio, 1e-30)))
    return Sample(found)


@question.figure(T("Gradients before training", "训练前的梯度"))
def health(lab: Lab) -> Figure:
    """Relative change of the loss for a relative change of the first layer's weights over that for
    the last's, by depth, before training; bands over four seeds."""
    depths = lab.pick(DEPTHS, (2, 8))
    lines = [
        by_depth(lab, name, depths, [healthy(lab, n, d) for d in depths])
        for n, (name, _) in RECIPES.items()
    ]
    return Figure(
        Axis(T("layers", "层数"), log=True),
        Axis(T("first over last, log10", "首层比末层，log10")),
        [*lines, Level(T("equal", "相等"), y=0.0)],
        T(
            "The sigmoid loses some twenty powers of ten over 32 layers; batch norm without residuals "
            "gains nearly three, it explodes; all others stay near balance, though balance at the "
            "start alone did not train the deep plain networks.",
            "sigmoid 在 32 层上损失约二十个数量级；没有残差的批归一化则增大近三个数量级，即爆炸；其余都接近平"
            "衡，但仅有初始的平衡还不足以训练好很深的普通网络。",
        ),
    )
