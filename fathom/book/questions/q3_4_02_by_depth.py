"""3.4.2 Depth sorts the activations, and normalization with shortcuts mixes them again."""

from __future__ import annotations

from typing import Any

import fathom
from fathom.book import Axis, Bars, Figure, Lab, Level, Line, Question, Sample, T, once
from fathom.book.material.data import digits
from fathom.book.material.stacks import stack

question = Question(
    "3.4.2",
    title=T("How to choose activations by depth?", "如何按网络深度选择激活函数？"),
    difficulty=3,
    frequency=4,
    topics=("depth", "activation choice", "residual", "normalization", "深度", "残差连接", "激活函数选型"),
    answer=T(
        "With two or three hidden layers the choice hardly matters, except that sigmoids learn slowly "
        "already. With depth the slopes multiply: each layer changes the gradient's mean square by the "
        "factor n Var(W) E[f'^2], so activation and initial weights have to be chosen together, He's "
        "for ReLU and GELU, LeCun's for SELU, Xavier's for tanh. In plain networks the sigmoid gives up "
        "first, before eight layers here; at twenty, SELU is ahead, tanh and GELU follow, and ReLU has "
        "lost most. Batch normalization alone does not settle it: at twenty layers without shortcuts it "
        "rescues the sigmoid and leaves ReLU worse off than before. Shortcuts with scaled branches help "
        "every one, and together with normalization they bring all within a few points. So look at the "
        "architecture first: in a residual network with normalization choose by cost, and only in a "
        "deep plain one by the mathematics of the signal.",
        "两三个隐藏层时选哪种几乎无所谓，只是 sigmoid 已经学得慢。层数一多，斜率就连乘：每层把梯度的均方乘以 "
        "n Var(W) E[f'^2]，所以激活函数必须与初始化一起选，ReLU 与 GELU 配 He，SELU 配 LeCun，tanh 配 Xavier。"
        "在普通网络里 sigmoid 最先失效，这里不到八层；到二十层时 SELU 领先，tanh 与 GELU 其次，ReLU 损失最大。"
        "单靠批归一化并不能解决：二十层且没有残差时，它救活了 sigmoid，却使 ReLU 比原来更差。"
        "分支经过缩放的残差对每一种都有帮助；再加上归一化，所有激活函数之间只差几个百分点。"
        "所以先看结构：带归一化的残差网络按成本选，只有很深的普通网络才需要按信号传播的数学来选。",
    ),
    flips=T(
        "With shortcuts and normalization together the depth no longer sorts the activations: even "
        "the sigmoid trains.",
        "残差与归一化同时具备时，深度不再区分激活函数：连 sigmoid 也能训练。",
    ),
    analogy=T(
        "Whispering down a line: with two people any voice will do, with forty only one that passes "
        "on exactly as loud as it hears, or a telephone line beside it.",
        "像传话：两个人怎么说都行，四十个人就要求每人恰好按听到的音量转述，或者旁边拉一条电话线。",
    ),
    generative=T(
        "Transformers of a hundred blocks choose among GELU, SiLU and ReLU freely: shortcuts and "
        "normalization carry the depth.",
        "上百层的 Transformer 可以在 GELU、SiLU、ReLU 之间随意选：深度由残差与归一化承担。",
    ),
    classical=T(
        "A network of two or three layers on a table trains with any of them, even the sigmoid.",
        "表格数据上两三层的网络用哪种都能训练，连 sigmoid 也行。",
    ),
    driving=T(
        "Backbones of fifty layers are residual with batch normalization; the activation is then "
        "chosen by what the chip computes fast.",
        "五十层的骨干网络都带残差和批归一化；激活函数便按芯片算得快的来选。",
    ),
    change=T(
        "Turn on `norm` and `residual` together: the gap of 0.7 between best and worst shrinks to "
        "0.04.",
        "同时打开 `norm` 与 `residual`：最好与最差之间 0.7 的差距缩小到 0.04。",
    ),
)  # fmt: skip

NAMES = ("sigmoid", "tanh", "relu", "gelu", "selu")
DEPTHS = (2, 8, 20)
DEEPEST = DEPTHS[-1]
TRAINED = 0.75


@once
def reached(lab: Lab, name: str, depth: int, norm: bool, residual: bool) -> Sample:
    """Test accuracies on digits after five passes of Adam, each activation with its own initial weights."""
    data = digits()
    spec: dict[str, Any] = {
        "model": lambda: stack(
            64, 10, 24, depth, activation=name, init="auto", norm=norm, residual=residual,
            scale=depth**-0.5 if residual else 1.0,
        ),
        "lr": 0.003, "batch_size": 64, "epochs": lab.pick(5, 1),
    }  # fmt: skip
    fleet = fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(3, 2), threads=1)
    return Sample(fleet.evaluate(data.test_x, data.test_y)["accuracy"])


@question.figure(T("Accuracy against depth, plain networks", "普通网络的准确率随深度的变化"))
def plain(lab: Lab) -> Figure:
    """Digits, 24 units a layer, five passes of Adam at 0.003, three seeds (the bands run from the worst to
    the best); neither normalization nor shortcuts. Below: the deepest network tried whose mean accuracy
    reaches 0.75."""
    names, depths = lab.pick((NAMES, DEPTHS), (("sigmoid", "relu"), (2,)))
    lines, deepest = [], {}
    for name in names:
        at = [reached(lab, name, depth, False, False) for depth in depths]
        low, high = [s.values.min() for s in at], [s.values.max() for s in at]
        lines.append(Line(T(name, name), depths, [s.mean for s in at], low, high))
        fine = [d for d, s in zip(depths, at, strict=True) if s.mean >= TRAINED]
        deepest[f"deepest with {name}"] = float(max(fine, default=0))
    return Figure(
        Axis(T("hidden layers", "隐藏层数")),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("chance", "随机水平"), y=0.1)],
        T(
            "With two layers four of five are level; with twenty the sigmoid learns nothing, ReLU little, "
            "and SELU nearly as much as before.",
            "两层时五种里有四种持平；二十层时 sigmoid 什么也学不到，ReLU 学得很少，SELU 几乎不减。",
        ),
        deepest,
    )


HELPS = (
    (T("plain", "普通"), False, False),
    (T("batch norm", "批归一化"), True, False),
    (T("shortcuts", "残差"), False, True),
    (T("both", "两者都有"), True, True),
)


@question.figure(T("What normalization and shortcuts change", "归一化与残差带来的变化"))
def helped(lab: Lab) -> Figure:
    """The same training with the greatest depth tried, 20 hidden layers; branches of shortcuts are scaled by
    1 / sqrt(depth). Bars: mean of three seeds, from the worst to the best."""
    names, depth, helps = lab.pick((NAMES, DEEPEST, HELPS), (("relu",), 2, HELPS[:1]))
    marks = []
    spread = {}
    for words, norm, residual in helps:
        at = [reached(lab, name, depth, norm, residual) for name in names]
        low, high = [s.values.min() for s in at], [s.values.max() for s in at]
        means = [s.mean for s in at]
        marks.append(Bars(words, means, low, high))
        spread[f"best less worst activation, {words.en}"] = max(means) - min(means)
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in names]),
        Axis(T("test accuracy", "测试准确率")),
        marks,
        T(
            "Normalization alone rescues the sigmoid and harms ReLU and GELU; shortcuts help all; with both "
            "the choice of activation hardly matters.",
            "单用归一化救活 sigmoid，却有损 ReLU 与 GELU；残差对所有函数都有帮助；两者都有时，选哪种几乎无所谓。",
        ),
        spread,
    )
