"""3.2.11 Leaky ReLU: a small slope on the left, and how large it should be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fathom
from fathom.activations import leaky_relu, relu
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Sample, Settings,
    Source, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, value
from fathom.book.material.data import accuracy
from fathom.book.material.dead import revived, rows_of, silenced
from fathom.book.material.elu_moments import normal_moments

question = Question(
    "3.2.11",
    title=T("Why Leaky ReLU, and how is its slope set?", "为什么用 Leaky ReLU？斜率如何设定？"),
    difficulty=3,
    frequency=4,
    topics=("leaky ReLU", "dying ReLU", "slope", "带泄漏的 ReLU", "神经元死亡", "斜率"),
    answer=T(
        "Leaky ReLU is x on the right and alpha x on the left, alpha usually 0.01. The slope lets a unit "
        "that is off on every row still receive a gradient, alpha times that of an active one, so "
        "it can move; nothing but the loss says that it must move back across 0. With plain "
        "gradient descent it moves alpha times as fast: in our runs 0.01 revived a fifth of the units "
        "that were just silent, 0.3 most of them; with Adam, which divides the size of gradients "
        "out, 0.001 revived three quarters; units far off (bias -10) stayed off at every slope. The price "
        "is that no output is exactly 0, so the sparsity of ReLU is lost, and at 0.01 the mean "
        "stays nearly that of ReLU. Written max(alpha x, x) it needs alpha at most 1. Take 0.01 by "
        "habit, 0.1 to 0.2 where units die or gradients must pass (discriminators), and learn it "
        "(PReLU) if data abound.",
        "Leaky ReLU 右侧为 x，左侧为 alpha·x，alpha 通常取 0.01。这个斜率让在所有样本上都关闭的单元仍能收到梯度，"
        "大小是激活单元的 alpha 倍，因此能够移动；但是否移回 0 以上由损失决定。普通梯度下降时移动速度是 alpha 倍："
        "在我们的实验中，0.01 救活了约五分之一刚好沉默的单元，0.3 救活大部分；Adam 会消去梯度的大小，0.001 就救活四分之三；"
        "而远离 0 的单元（偏置 -10）在任何斜率下都没有恢复。"
        "代价是没有精确的零，ReLU 的稀疏性消失；alpha = 0.01 时均值与 ReLU 几乎相同。"
        "写成 max(alpha·x, x) 要求 alpha 不大于 1。习惯上取 0.01；单元易死或梯度必须通过处（如判别器）取 0.1–0.2；"
        "数据充足时可以学习它（PReLU）。",
    ),
    flips=T(
        "If no unit dies, the slope changes hardly anything; then ReLU with its exact zeros is the "
        "better choice.",
        "如果没有单元死亡，这个斜率几乎没有影响，此时有精确零的 ReLU 更合适。",
    ),
    analogy=T(
        "A door left ajar: hardly any air comes through, but enough to push it open again.",
        "门留了一条缝：几乎不透风，但足以把门重新推开。",
    ),
    generative=T(
        "Discriminators of GANs use 0.2, so that the generator gets a gradient everywhere.",
        "GAN 的判别器取 0.2，使生成器处处都能得到梯度。",
    ),
    classical=T(
        "On small tabular networks it is a free safeguard against a bad start.",
        "在小型表格数据网络上，它是防止初始化不当的免费保险。",
    ),
    driving=T(
        "YOLO detectors up to version 3 used a slope of 0.1: fast on any chip, no dead filters.",
        "YOLOv3 及之前的检测器用 0.1 的斜率：在任何芯片上都快，且没有死滤波器。",
    ),
    change=T(
        "Change the optimizer from SGD to Adam: most units come back at every slope but 0.",
        "把优化器从 SGD 换成 Adam：除 0 以外，任何斜率下大多数单元都会复活。",
    ),
)  # fmt: skip

ALPHAS = (0.01, 0.5, 2.0)


@question.exact(
    "C3.2.11-01",
    T("LeakyReLU(x) = max(alpha x, x).", "LeakyReLU(x) = max(alpha·x, x)。"),
    at_most(1e-12),
    correction=T(
        "For alpha up to 1. With alpha 2 the maximum is the other branch on both sides, off by up to "
        "{n[alpha 2/negative inputs]:.0f} on [-5, 5].",
        "仅当 alpha 不大于 1。alpha = 2 时最大值在两侧都取另一支，[-5, 5] 上最多相差 "
        "{n[alpha 2/negative inputs]:.0f}。",
    ),
)
def as_maximum(lab: Lab) -> Evidence:
    """Largest difference of both forms on [-5, 0] and on [0, 5]."""
    left, right = np.linspace(-5, 0, 501), np.linspace(0, 5, 501)

    def apart(alpha: float, x: Any) -> float:
        return float(
            np.abs(value(lambda t: leaky_relu(t, alpha), x) - np.maximum(alpha * x, x)).max()
        )

    return Settings(
        T("alpha", "alpha"),
        {
            f"alpha {a:g}": All(
                {"negative inputs": apart(a, left), "positive inputs": apart(a, right)}
            )
            for a in ALPHAS
        },
    )


@question.exact(
    "C3.2.11-02",
    T(
        "At -1 Leaky ReLU with slope 0.01 gives -0.01.",
        "斜率 0.01 的 Leaky ReLU 在 -1 处输出 -0.01。",
    ),
    equals(-0.01, 1e-9),
)
def at_minus_one(lab: Lab) -> Evidence:
    """The value in Fathom and by hand."""
    return Routes({"Fathom": float(value(leaky_relu, -1.0)), "by hand": 0.01 * -1.0})


@question.exact(
    "C3.2.11-03",
    T("At 0 and everywhere left of it the slope is 0 for ReLU and 0.01 for Leaky ReLU.",
      "在 0 处及其左侧，ReLU 的斜率为 0，Leaky ReLU 为 0.01。"),
    at_most(1e-8),
    needs=("torch",),
)  # fmt: skip
def slope_table(lab: Lab) -> Evidence:
    """Largest deviation from the table at -10, -1, -0.001 and 0, by the tapes of two libraries. At 0
    neither function has a derivative: that both take the left one is their convention."""
    import torch

    x = np.array([-10.0, -1.0, -0.001, 0.0])
    at = torch.tensor(x, requires_grad=True)
    outs = torch.relu(at).sum(), torch.nn.functional.leaky_relu(at, 0.01).sum()
    theirs = [torch.autograd.grad(out, at)[0].numpy() for out in outs]
    return Routes({
        "Fathom": max(
            float(np.abs(derivative(relu, x)).max()),
            float(np.abs(derivative(leaky_relu, x) - 0.01).max()),
        ),
        "PyTorch": max(float(np.abs(theirs[0]).max()), float(np.abs(theirs[1] - 0.01).max())),
    })  # fmt: skip


@question.reference(
    "C3.2.11-04",
    T("0.01 is the slope that was recommended originally.", "0.01 是最初推荐的斜率。"),
    equals(0.01),
)
def original(lab: Lab) -> Evidence:
    """The slope in the paper that introduced the function, and the library's default."""
    return Published(
        0.01,
        (
            Source("Maas, Hannun & Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013, 0.95),
            Source("PyTorch documentation, torch.nn.LeakyReLU: negative_slope=0.01", 2024, 0.99),
        ),
    )  # fmt: skip


RATE = {"sgd": 0.1, "adam": 0.003}


@once
def brought_back(lab: Lab, optimizer: str, alpha: float, data: str = "digits",
                 bias: float | None = None) -> tuple[Sample, Sample]:  # fmt: skip
    """Share of units that fire again, and accuracy on the rows, after 2,000 steps. Half of the one
    hidden layer starts just silent on all rows, or with that bias."""
    x, y = rows_of(data)
    spec = {
        "model": lambda: silenced(
            0, x, int(y.max()) + 1, depth=1, bias=bias,
            activation=f"leaky_relu:negative_slope={alpha}",
        ),
        "optimizer": optimizer, "lr": RATE[optimizer], "batch_size": 64,
        "epochs": lab.pick(2000, 40) // math.ceil(len(x) / 64),
    }  # fmt: skip
    runs = fathom.train_many(spec, x, y, seeds=lab.seeds(8, 2)).runs
    back = [revived(r.model, 0, x) for r in runs]
    return Sample(back), Sample([accuracy(r.model, x, y) for r in runs])


@question.experiment(
    "C3.2.11-05",
    T("A slope of 0.001 hardly helps, one of 0.01 is enough to revive units.",
      "斜率 0.001 几乎无济于事，0.01 就足以使单元复活。"),
    at_least(0.1),
    correction=T(
        "It depends on optimizer and data. Of units just silent SGD revived "
        "{n[SGD, digits/0.001]:.0%} at 0.001 and {n[SGD, digits/0.01]:.0%} at 0.01 on digits, but "
        "{n[SGD, moons/0.01]:.0%} at 0.01 on moons; Adam, which divides the size of the gradient out, "
        "revived {n[Adam, digits/0.001]:.0%} and {n[Adam, moons/0.001]:.0%} with 0.001 already.",
        "取决于优化器和数据。对刚好沉默的单元，SGD 在 digits 上斜率 0.001 时救活 {n[SGD, digits/0.001]:.0%}，"
        "0.01 时 {n[SGD, digits/0.01]:.0%}；在 moons 上 0.01 也只救活 {n[SGD, moons/0.01]:.0%}。"
        "会消去梯度大小的 Adam 用 0.001 就分别救活 {n[Adam, digits/0.001]:.0%} 和 "
        "{n[Adam, moons/0.001]:.0%}。",
    ),
    weight=3,
)  # fmt: skip
def revival(lab: Lab) -> Evidence:
    """Share of units that fire on some training row after 2,000 steps, by optimizer and data: "hardly"
    is a tenth at most, and "enough to revive units", which does not say all or most, a tenth or more."""

    def on(optimizer: str, data: str) -> All:
        back = {a: brought_back(lab, optimizer, a, data, None)[0] for a in (0.001, 0.01)}
        return All({"0.001": Check(back[0.001], at_most(0.1)), "0.01": back[0.01]})

    return Settings(
        T("optimizer and data", "优化器与数据"),
        {
            f"{name}, {data}": on(name.lower(), data)
            for name in ("SGD", "Adam")
            for data in ("digits", "moons")
        },
    )


@question.exact(
    "C3.2.11-06",
    T("Leaky ReLU keeps an approximate sparsity.", "Leaky ReLU 保持近似的稀疏性。"),
    at_least(0.4),
    correction=T(
        "Not one output is exactly 0 ({n[exactly 0/drawn]:.0%}), so nothing can be skipped; if all "
        "below 0.02 in size counts, it is {n[below 0.02 in size/drawn]:.0%}, as for ReLU.",
        "没有一个输出恰为 0（{n[exactly 0/drawn]:.0%}），因此不能跳过计算；若把绝对值小于 0.02 的都算上，"
        "则为 {n[below 0.02 in size/drawn]:.0%}，与 ReLU 相当。",
    ),
    weight=2,
)
def sparse(lab: Lab) -> Evidence:
    """Share of outputs that count as 0 for N(0, 1) inputs (ReLU: 50 %): drawn, and from the normal
    distribution."""
    out = value(leaky_relu, lab.rng("z").standard_normal(200_000))

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return Settings(
        T("what counts as 0", "何为零"),
        {
            "exactly 0": Routes({"drawn": float((out == 0).mean()), "distribution": 0.0}),
            "below 0.02 in size": Routes({
                "drawn": float((np.abs(out) < 0.02).mean()), "distribution": phi(0.02) - phi(-2.0),
            }),
        },
    )  # fmt: skip


@question.exact(
    "C3.2.11-07",
    T("The mean of its outputs stays positive.", "其输出均值仍为正。"),
    at_least(0.01),
)
def mean_above_zero(lab: Lab) -> Evidence:
    """E f(z), z ~ N(0, 1), at 0.01: quadrature, and (1 - alpha) / sqrt(2 pi)."""
    return Routes({
        "quadrature": normal_moments(lambda x: np.where(x > 0, x, 0.01 * x))[0],
        "closed form": (1 - 0.01) / math.sqrt(2 * math.pi),
    })  # fmt: skip


@question.figure(T("Units revived against the slope", "复活的单元随斜率的变化"))
def by_slope(lab: Lab) -> Figure:
    """Half of a layer starts dead, just so or far off (bias -10); 2,000 steps on digits; bands over
    seeds."""
    alphas = lab.pick([0.0, 0.001, 0.01, 0.1, 0.3], [0.0, 0.01])
    shown = [max(a, 1e-4) for a in alphas]  # 0 has no place on a logarithmic axis
    kinds = [
        (T("SGD, just silent", "SGD，刚好沉默"), "sgd", None),
        (T("Adam, just silent", "Adam，刚好沉默"), "adam", None),
        (T("Adam, bias -10", "Adam，偏置 -10"), "adam", -10.0),
    ]
    lines = []
    for name, optimizer, bias in lab.pick(kinds, kinds[:1]):
        seen = [brought_back(lab, optimizer, a, "digits", bias)[0] for a in alphas]
        lines.append(Line(name, shown, *band(seen)))
    right = [brought_back(lab, "sgd", a, "digits", None)[1].mean for a in alphas]
    lines.append(Line(T("SGD, accuracy in training", "SGD，训练准确率"), shown, right))
    return Figure(
        Axis(T("slope (0 drawn at 0.0001)", "斜率（0 画在 0.0001 处）"), log=True),
        Axis(T("share", "比例")),
        lines,
        T(
            "With SGD the share of revived units rises with the slope; Adam revives most at any slope but "
            "0, yet none that is far off. The accuracy depends on none of it.",
            "用 SGD 时复活比例随斜率上升；Adam 下除 0 外任何斜率都能救活大多数，但远离 0 的救不活。"
            "准确率与这些都无关。",
        ),
    )
