"""3.2.10 ReLU's outputs are never negative: what that does to the updates, and what mends it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, NotMeasurable, Question, Routes,
    Sample, Settings, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import value
from fathom.book.material.data import digits
from fathom.book.material.elu_moments import normal_moments
from fathom.book.material.mean_share import conv_share
from fathom.book.material.race import Race, race
from fathom.book.material.stacks import stack
from fathom.doctor import sign_agreement, sign_agreement_of
from fathom.models.mlp import make_activation

question = Question(
    "3.2.10",
    title=T("How does ReLU's non-zero centre affect updates?", "ReLU 的非零中心如何影响参数更新？"),
    difficulty=3,
    frequency=3,
    topics=("ReLU", "zero-centred", "batch normalization", "convergence", "零中心", "批归一化", "收敛"),
    answer=T(
        "ReLU gives values of one sign, so for a single example all weights of a unit in the next layer "
        "are pushed the same way. Over a batch the pushes of different examples have different signs "
        "and the tie is gone: with 64 rows hardly a unit moves as one. What remains is a mean that "
        "stretches the curvature in one direction and slows gradient descent. Batch "
        "normalization before the ReLU does not centre what the next layer gets: that mean is 0.40 "
        "in any case; it fixes the scale and the share of active units, and where the next layer has its "
        "own norm, that one takes the effect of the mean out of the gradient. To centre the outputs, "
        "normalize behind the ReLU, or use tanh or SELU. In practice the scale matters more than the centre: "
        "ReLU learns digits sooner than a sigmoid, and with normalization sooner still.",
        "ReLU 的输出不变号，因此对单个样本，下一层同一单元的所有权重都被推向同一方向。但在一个批次上，"
        "不同样本的推动方向不同，这种约束就消失了：64 个样本时几乎没有单元整体同向移动。"
        "剩下的影响是均值把某个方向的曲率拉长，使梯度下降变慢。放在 ReLU 之前的批归一化并不能让下一层的输入居中："
        "那个均值始终是 0.40；它固定的是尺度和激活单元的比例；若下一层也有归一化，它会消去这个均值对梯度的影响。要让输出居中，应把归一化放在 ReLU 之后，或改用 tanh、SELU。"
        "实践中尺度比中心更重要：ReLU 学 digits 比 sigmoid 快，加上归一化更快。",
    ),
    flips=T(
        "With a batch of one row the updates of a unit do share one sign, and the path zigzags.",
        "批大小为 1 时，一个单元的更新确实全部同号，路径呈之字形。",
    ),
    analogy=T(
        "Steering with pedals that can only push, never pull: one rider zigzags, a crew evens out.",
        "只能推不能拉的方向盘：一个人开会走之字形，一队人合力就被抵消。",
    ),
    generative=T(
        "Layer normalization in transformers centres what each block gets, whatever the activation.",
        "Transformer 的层归一化让每个模块的输入居中，与激活函数无关。",
    ),
    classical=T(
        "Centring the inputs of a linear model helps for the same reason.",
        "线性模型把输入居中能加快收敛，原因相同。",
    ),
    driving=T(
        "A camera's pixels are all positive: subtracting their mean is the same cure at the input.",
        "相机像素全为正：减去均值就是在输入端做同样的处理。",
    ),
    change=T(
        "Change the batch size from 1 to 64: the share of updates of one sign falls from 1 to 0.",
        "把批大小从 1 改到 64：同号更新的比例从 1 降到接近 0。",
    ),
)  # fmt: skip

ROOT = 1 / math.sqrt(2 * math.pi)  # E relu(z), z ~ N(0, 1)


@once
def one_sign(lab: Lab, kind: str) -> dict[int, float]:
    """Share of units whose weights all move the same way, by batch size; 20 random ReLU inputs, or
    the second layer of a network on digits."""
    sizes, repeats = (1, 4, 16, 64), lab.pick(50, 10)
    if kind == "random inputs":
        z = lab.rng("inputs").standard_normal((2000, 20))
        return sign_agreement(np.maximum(z, 0), sizes=sizes, repeats=repeats).by_batch()
    data = digits()
    with fathom.seed(lab.seeds(1, 1)[0]):
        net = stack(64, 10, 32, 2)
    found = sign_agreement_of(net, "auto", data.x, data.y, sizes=sizes, repeats=repeats)
    return found.by_batch("2")


@question.exact(
    "C3.2.10-01",
    T("All weights of a unit behind a ReLU layer must grow or shrink together.",
      "ReLU 层之后，一个单元的所有权重只能一起增大或一起减小。"),
    at_least(0.99),
    correction=T(
        "For one example only. With a batch of 64 the share of units that move so is "
        "{n[batch of 64/network on digits]:.1%}.",
        "只对单个样本成立。批大小为 64 时，这样同向移动的单元只占 {n[batch of 64/network on digits]:.1%}。",
    ),
    weight=3,
)  # fmt: skip
def together(lab: Lab) -> Evidence:
    """Share of units whose gradients have one sign: with random ReLU inputs, and in a network on
    digits."""
    return Settings(
        T("rows in the batch", "批大小"),
        {
            f"batch of {size}": Routes({
                kind: one_sign(lab, kind)[size] for kind in ("random inputs", "network on digits")
            })
            for size in (1, 64)
        },
    )  # fmt: skip


@once
def behind_convolution(lab: Lab) -> dict[str, float]:
    """Mean of what comes out of conv-BN-ReLU and of conv-ReLU-BN, 16 channels on digits."""
    images = fathom.tensor(digits().x[:512].reshape(-1, 1, 8, 8))
    with fathom.seed(lab.seeds(1, 1)[0]), fathom.no_grad():
        conv, norm = nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16)
        return {
            "before": float(fathom.relu(norm(conv(images))).mean()),
            "behind": float(norm(fathom.relu(conv(images))).mean()),
        }


@question.experiment(
    "C3.2.10-02",
    T("In the order convolution, BN, ReLU the normalization relieves ReLU's non-zero centre.",
      "在“卷积–BN–ReLU”的顺序里，BN 缓解了 ReLU 的非零中心。"),
    at_most(0.05),
    correction=T(
        "Not what the ReLU puts out: the next layer gets a mean of "
        "{n[mean of the outputs/convolution on digits]:.2f}, as 1/sqrt(2 pi) = "
        "{n[mean of the outputs/closed form]:.2f} foretells, and only BN behind the ReLU makes it 0. But "
        "it does relieve the effect: that mean makes {n[gradient of a next layer without BN]:.0%} of the "
        "weight gradient of a next layer without BN, and {n[gradient of a next layer with BN]:.0%} of one "
        "with BN behind it, which takes the mean of its outputs off.",
        "ReLU 的输出并未居中：下一层得到的均值为 {n[mean of the outputs/convolution on digits]:.2f}，与 "
        "1/sqrt(2π) = {n[mean of the outputs/closed form]:.2f} 相符，只有把 BN 放在 ReLU 之后才为 0。"
        "但它的影响确实被缓解：若下一层没有 BN，这个均值占其权重梯度的 "
        "{n[gradient of a next layer without BN]:.0%}；若下一层之后也有 BN（它减去该层输出的均值），则为 "
        "{n[gradient of a next layer with BN]:.0%}。",
    ),
    weight=3,
)  # fmt: skip
def order(lab: Lab) -> Evidence:
    """Mean behind conv-BN-ReLU on digits, and E relu(z) for the normalized z ~ N(0, 1); and the share
    of the next convolution's weight gradient at the start that comes from the mean of its inputs, with
    BN behind it, as this order has it, and without. Relieved is 0.05 or less."""

    def share(norm: bool) -> Sample:
        return Sample([conv_share(seed, norm) for seed in lab.seeds(8, 3)])

    return Settings(
        T("where the centre is looked for", "从哪里看中心"),
        {
            "mean of the outputs": Routes({
                "convolution on digits": behind_convolution(lab)["before"], "closed form": ROOT,
            }),
            "gradient of a next layer without BN": share(False),
            "gradient of a next layer with BN": share(True),
        },
    )  # fmt: skip


@question.exact(
    "C3.2.10-03",
    T("Averaging over many channels brings ReLU outputs nearer to mean 0.",
      "对许多通道求平均，使 ReLU 输出的均值更接近 0。"),
    at_least(0.05),
    correction=T(
        "Averages keep the mean: one channel and 512 differ by {n[drawn]:.3f}. What shrinks is the "
        "scatter around 0.40.",
        "平均不改变均值：1 个通道与 512 个通道相差 {n[drawn]:.3f}。减小的是围绕 0.40 的离散程度。",
    ),
)  # fmt: skip
def channels(lab: Lab) -> Evidence:
    """Mean of ReLU outputs of one channel less that of the average of 512, N(0, 1) inputs."""
    z = np.maximum(lab.rng("channels").standard_normal((lab.pick(4000, 1000), 512)), 0)
    return Routes({
        "drawn": float(z[:, 0].mean()) - float(z.mean(axis=1).mean()), "linearity of the mean": ROOT - 512 * ROOT / 512
    })  # fmt: skip


@question.exact(
    "C3.2.10-04",
    T("relu(x) + x is better balanced around 0, thanks to the x that is added.",
      "relu(x) + x 因为加上了 x 而更均衡地分布在 0 两侧。"),
    at_least(0.05),
    correction=T(
        "The mean itself stays where it was (nearer to 0 by {n[mean/quadrature]:.3f}), since x adds a mean of "
        "0. Against the spread, which grows, it falls by {n[mean over spread/quadrature]:.2f}.",
        "均值本身不变（接近 0 的量为 {n[mean/quadrature]:.3f}），因为 x 的均值为 0。"
        "但相对于增大了的离散程度，它减小了 {n[mean over spread/quadrature]:.2f}。",
    ),
)  # fmt: skip
def skip(lab: Lab) -> Evidence:
    """How much nearer to 0 the mean of relu(x) + x is than that of relu(x), x ~ N(0, 1), in itself and
    in standard deviations: by quadrature, and in closed form."""
    plain = normal_moments(lambda x: np.maximum(x, 0))
    summed = normal_moments(lambda x: np.maximum(x, 0) + x)
    spread = [math.sqrt(v) for v in (plain[1], summed[1])]
    exact = [math.sqrt(0.5 - ROOT**2), math.sqrt(2.5 - ROOT**2)]
    return Settings(
        T("measure of balance", "均衡的度量"),
        {
            "mean": Routes({"quadrature": plain[0] - summed[0], "closed form": ROOT - ROOT}),
            "mean over spread": Routes({
                "quadrature": plain[0] / spread[0] - summed[0] / spread[1],
                "closed form": ROOT / exact[0] - ROOT / exact[1],
            }),
        },
    )  # fmt: skip


@question.exact(
    "C3.2.10-05",
    T(
        "A sigmoid's mean output is 0.5, ReLU's is positive.",
        "sigmoid 的输出均值为 0.5，ReLU 的为正。",
    ),
    at_least(0.01),
)
def means(lab: Lab) -> Evidence:
    """E f(z), z ~ N(0, 1): quadrature, and drawn."""
    z = lab.rng("means").standard_normal(lab.pick(1_000_000, 100_000))
    sigmoid = Routes({
        "quadrature": normal_moments(lambda x: value(fathom.sigmoid, x))[0],
        "drawn": float(value(fathom.sigmoid, z).mean()),
    })  # fmt: skip
    return All({
        "sigmoid": Check(sigmoid, equals(0.5, 0.002)),
        "ReLU": Routes({
            "quadrature": normal_moments(lambda x: np.maximum(x, 0))[0],
            "drawn": float(np.maximum(z, 0).mean()),
        }),
    })  # fmt: skip


@once
def raced(lab: Lab, activation: str, norm: bool = False, rate: float = 0.3,
          optimizer: str = "sgd") -> Race:  # fmt: skip
    """Two layers of 32 on digits, 30 passes."""
    return race(
        lab.seeds(10, 2), activation, rate=rate, epochs=lab.pick(30, 2), depth=2, norm=norm,
        optimizer=optimizer, init="auto",
    )  # fmt: skip


@question.unmeasurable(
    "C3.2.10-06",
    T("To 98 % on MNIST a sigmoid takes over 50 epochs, tanh 30, ReLU 15, ReLU with BN 10.",
      "在 MNIST 上达到 98%：sigmoid 需 50 轮以上，tanh 30 轮，ReLU 15 轮，ReLU 加 BN 10 轮。"),
)  # fmt: skip
def on_mnist(lab: Lab) -> Evidence:
    """The network, the optimizer and its rate are not given; epochs to a training loss of 0.2 on the small
    digits are shown (SGD at 0.3, 31 where not within 30)."""
    runs = {"sigmoid": False, "tanh": False, "relu": False}
    nearest = {k: float(raced(lab, k, v).epochs_to(0.2).mean()) for k, v in runs.items()}
    nearest["relu with BN"] = float(raced(lab, "relu", True).epochs_to(0.2).mean())
    return NotMeasurable(
        T(
            "needs MNIST, which is not shipped, and the architecture, optimizer and rate that were used; "
            "other rates change the numbers at will",
            "需要未随附的 MNIST，以及所用的结构、优化器和学习率；换学习率就会任意改变这些数字",
        ),
        nearest=nearest,
    )


@question.experiment(
    "C3.2.10-07",
    T("Batch normalization clearly speeds up ReLU networks.", "批归一化明显加快 ReLU 网络的收敛。"),
    at_least(1.2),
    correction=T(
        "It depends on the optimizer: the epochs without over those with BN are {n[SGD, 0.1]:.2f} for SGD "
        "at 0.1, {n[SGD, 0.3]:.2f} at 0.3 and {n[Adam, 0.003]:.2f} for Adam.",
        "取决于优化器：无 BN 与有 BN 所需轮数之比，SGD 0.1 时为 {n[SGD, 0.1]:.2f}，0.3 时为 "
        "{n[SGD, 0.3]:.2f}，Adam 为 {n[Adam, 0.003]:.2f}。",
    ),
    weight=3,
)
def faster(lab: Lab) -> Evidence:
    """Epochs to a mean training loss of 0.2 without over with BN, same seeds, digits; "clearly" is a
    factor of 1.2."""

    def quotient(rate: float, optimizer: str) -> Sample:
        plain = raced(lab, "relu", False, rate, optimizer).epochs_to(0.2)
        return Sample(plain / raced(lab, "relu", True, rate, optimizer).epochs_to(0.2))

    return Settings(
        T("optimizer and rate", "优化器与学习率"),
        {
            "SGD, 0.1": quotient(0.1, "sgd"),
            "SGD, 0.3": quotient(0.3, "sgd"),
            "Adam, 0.003": quotient(0.003, "adam"),
        },
    )


def network(order_: str) -> nn.Sequential:
    """Two layers of 32: "sigmoid", "tanh", "relu", or ReLU with BN "before" or "behind" it."""
    layers: list[nn.Module] = []
    for width in (64, 32):
        layers.append(nn.Linear(width, 32))
        name = order_ if order_ in ("sigmoid", "tanh") else "relu"
        layers += [nn.BatchNorm1d(32)] if order_ == "before" else []
        layers += [make_activation(name)]
        layers += [nn.BatchNorm1d(32)] if order_ == "behind" else []
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    nn.init.apply_(model, "auto")
    return model


ORDERS = {
    "sigmoid": T("sigmoid", "sigmoid 函数"), "tanh": T("tanh", "tanh 函数"),
    "relu": T("ReLU", "ReLU 函数"), "before": T("BN, ReLU", "先 BN 后 ReLU"),
    "behind": T("ReLU, BN", "先 ReLU 后 BN"),
}  # fmt: skip


@once
def trained(lab: Lab, order_: str) -> tuple[Any, Sample]:
    """(seeds, epochs) losses, and the mean of what comes into the last layer."""
    data = digits()
    spec = {
        "model": lambda: network(order_), "optimizer": "sgd", "lr": 0.1, "batch_size": 64,
        "epochs": lab.pick(20, 2),
    }  # fmt: skip
    fleet = fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(8, 2))
    seen = []
    for run in fleet.runs:
        h: Any = fathom.tensor(data.x)
        with fathom.no_grad():
            for layer in list(run.model)[:-1]:
                h = layer(h)
        seen.append(float(h.mean()))
    return fleet.losses, Sample(seen)


@question.figure(T("Learning digits with five kinds of layers", "五种层学习 digits 的过程"))
def learning(lab: Lab) -> Figure:
    """Mean training loss by epoch, SGD at 0.1, two layers of 32; bands over seeds."""
    lines = []
    for key, name in ORDERS.items():
        seen = [Sample(column) for column in trained(lab, key)[0].T]
        lines.append(Line(name, range(1, len(seen) + 1), *band(seen)))
    return Figure(
        Axis(T("epoch", "轮次")),
        Axis(T("training loss", "训练损失"), log=True),
        lines,
        T(
            "The sigmoid is last by far; normalization in either order is ahead of plain ReLU.",
            "sigmoid 远远落后；无论哪种顺序，加归一化都领先于单纯的 ReLU。",
        ),
    )


@question.figure(T("What the last layer receives", "最后一层收到的输入均值"))
def received(lab: Lab) -> Figure:
    """Mean over training rows and units of the last layer's input, after training."""
    seen = [trained(lab, key)[1] for key in ORDERS]
    return Figure(
        Axis(T("kind of layer", "层的类型"), ticks=list(ORDERS.values())),
        Axis(T("mean", "均值")),
        [Bars(T("mean of the input", "输入均值"), *band(seen))],
        T(
            "Only tanh and a norm behind the ReLU hand on a mean near 0; a norm before it does not.",
            "只有 tanh 和放在 ReLU 之后的归一化传出接近 0 的均值；放在之前则不然。",
        ),
    )  # fmt: skip
