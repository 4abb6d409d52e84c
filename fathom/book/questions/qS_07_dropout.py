"""S.7 What dropout does."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T, at_most,
    band, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.softmaxes import shifted

question = Question(
    "S.7",
    title=T("What does dropout do?", "Dropout 有什么作用？"),
    difficulty=3,
    frequency=4,
    topics=("dropout", "ensemble", "regularization", "随机失活", "集成", "正则化"),
    answer=T(
        "In training dropout sets every unit to 0 with probability 1 - p and keeps it with "
        "probability p, anew for each row and step. No unit can count on another, so features are "
        "learnt that are useful on their own. It is training of a very large ensemble of "
        "sub-networks that share their weights: each step trains one of them. At test time the "
        "full network with outputs times p stands for the ensemble: exactly for the mean of a "
        "linear layer, and for the geometric mean of the sub-networks where one softmax layer "
        "follows; the plain average of their probabilities decides alike but is less confident. "
        "Today's inverted form divides by p in training, so that nothing is done at test time; the "
        "expectation is the same. It helps where a network would memorize, as with wrong labels "
        "and long training; on clean data it may gain nothing or slow learning.",
        "训练时，Dropout 以概率 1 - p 把每个单元置零，以概率 p 保留，每个样本、每一步重新抽取。任何"
        "单元都不能依赖别的单元，于是学到的特征各自有用。它相当于训练一个极大的、共享权重的子网络集"
        "成：每一步训练其中一个。测试时用完整网络、输出乘 p 来代表集成：对线性层的均值是精确的；后"
        "面只有一个 softmax 层时，恰是各子网络的几何平均；而概率的算术平均给出同样的判断，只是没那"
        "么自信。如今通用的 inverted 形式在训练时除以 p，测试时什么都不用做，期望相同。网络会死记硬"
        "背时它有帮助，例如标签有错、训练很久；数据干净时可能毫无收益，甚至拖慢学习。",
    ),
    flips=T(
        "With more data than the network can fit, dropout only slows learning: large language "
        "models are pretrained without it.",
        "数据多到网络拟合不完时，Dropout 只会拖慢学习：大语言模型预训练时不用它。",
    ),
    analogy=T(
        "A team in which somebody is absent each day: everyone learns to do without everyone else.",
        "一个每天都有人缺勤的团队：每个人都学会了不依赖别人。",
    ),
    generative=T(
        "Pretraining sees each token about once and drops dropout; fine-tuning on little data "
        "brings it back.",
        "预训练几乎每个词元只看一遍，因而不用 Dropout；小数据微调时再用回来。",
    ),
    classical=T(
        "A random forest is its relative: many weakened members, averaged; but its trees share "
        "nothing.",
        "随机森林是它的近亲：许多被削弱的成员取平均；但树之间什么也不共享。",
    ),
    driving=T(
        "Dropout left on at test time gives a spread over samples, a cheap sign that the network "
        "does not know the scene.",
        "测试时保留 Dropout，多次采样的离散程度可廉价地提示网络对场景没有把握。",
    ),
    change=T(
        "Give 30 % of the rows a random label: dropout, of no use on the clean digits, gains "
        "several percent.",
        "给 30% 的样本换上随机标签：在干净数字上毫无用处的 Dropout 就能提高好几个百分点。",
    ),
)

KEEP = 0.5


def network(dropout: bool, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, width), nn.ReLU()]
    layers += [nn.Dropout(1.0 - KEEP)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(width, 10))


@once
def members(lab: Lab) -> dict[str, Any]:
    """Of nets trained with dropout, one a seed: test probabilities of the scaled net, and of the
    averages of the first 1, 2, 5, ... of 200 sampled sub-networks; with the labels."""
    parts = digits()
    spec = {"model": lambda: network(True), "lr": 0.003, "epochs": lab.pick(20, 12)}
    fleet = fathom.train_many(spec, parts.x[:500], parts.y[:500], seeds=lab.seeds(8, 5))
    scaled, averages, geometric = [], [], []
    for run, seed in zip(fleet.runs, lab.seeds(8, 5), strict=True):
        rng = np.random.default_rng(seed)
        first, last = run.model[0], run.model[3]  # type: ignore[index]
        h = np.maximum(parts.test_x @ first.weight.value().T + first.bias.value(), 0.0)
        w, b = last.weight.value().T, last.bias.value()
        masks = (rng.random((200, h.shape[1])) < KEEP) / KEEP
        each = np.stack([shifted((h * mask) @ w + b) for mask in masks])
        scaled.append(shifted(h @ w + b))
        averages.append([each[:n].mean(axis=0) for n in SIZES])
        geometric.append(shifted(np.log(each + 1e-30).mean(axis=0)))
    found = {"scaled": scaled, "averages": averages, "geometric": geometric}
    return {**{k: np.array(v) for k, v in found.items()}, "y": parts.test_y}


SIZES = (1, 2, 5, 10, 20, 50, 100, 200)


def right(p: Any, y: Any) -> Any:
    """Accuracy of probabilities (..., rows, classes)."""
    return (p.argmax(axis=-1) == y).mean(axis=-1)


def apart(p: Any, q: Any) -> Any:
    """Mean total variation distance over rows."""
    return 0.5 * np.abs(p - q).sum(axis=-1).mean(axis=-1)


@question.experiment(
    "CS.7-01",
    T(
        "Dropout is the training of an ensemble of sub-networks, and the scaled net is its "
        "average.",
        "Dropout 等价于训练一个子网络集成，缩放后的网络就是它的平均。",
    ),
    at_most(0.05),
    correction=T(
        "The scaled net is the geometric mean of its sub-networks (probabilities "
        "{n[geometric/probabilities]:.3f} apart), not the arithmetic one "
        "({n[arithmetic/probabilities]:.3f} apart, less confident); both decide alike.",
        "缩放后的网络是各子网络的几何平均（概率相差 {n[geometric/probabilities]:.3f}），而不是算术"
        "平均（相差 {n[arithmetic/probabilities]:.3f}，后者更不自信）；两者的判断相同。",
    ),
    weight=2,
)
def is_an_ensemble(lab: Lab) -> Evidence:
    """Digits, 64 hidden units, half of them kept: the full net with scaled outputs against the mean
    of 200 sampled sub-networks with the same weights. Mean total variation distance of the
    probabilities, at most 0.05; test accuracies apart, at most 0.01.

    Both means that the literature speaks of are taken: the geometric one, which scaling gives for
    one softmax layer (Goodfellow et al., 2016, section 7.12), and the arithmetic one of a vote.
    """
    found = members(lab)

    def against(mean: Any) -> All:
        accuracies = right(found["scaled"], found["y"]) - right(mean, found["y"])
        return All({
            "probabilities": Sample(apart(found["scaled"], mean)),
            "accuracy": Check(Sample(np.abs(accuracies)), at_most(0.01)),
        })  # fmt: skip

    return Settings(T("mean of the sub-networks", "子网络的平均方式"), {
        "geometric": against(found["geometric"]),
        "arithmetic": against(found["averages"][:, -1]),
    })  # fmt: skip


@question.exact(
    "CS.7-02",
    T(
        "Keeping units with probability p in training and multiplying by p at test time gives the "
        "same expectation.",
        "训练时以概率 p 保留、测试时乘以 p，期望保持不变。",
    ),
    at_most(1e-12),
)
def same_expectation(lab: Lab) -> Evidence:
    """A layer of 10 units into 4: the mean over all 1,024 masks, weighted by their probability,
    against the layer with inputs times p, for three p; the library's classic and inverted dropout
    over 200,000 draws, in standard errors of the mean, which may reach 5."""
    rng = lab.rng("layer")
    x, w = rng.standard_normal(10), rng.standard_normal((10, 4))
    masks = np.array(list(product((0.0, 1.0), repeat=10)))
    gaps = []
    for p in (0.2, 0.5, 0.9):
        chance = p ** masks.sum(axis=1) * (1 - p) ** (10 - masks.sum(axis=1))
        gaps.append(np.abs(chance @ ((masks * x) @ w) - (p * x) @ w).max())
    rows = fathom.ones(200_000, 4).double()
    errors = {}
    for name, classic in (("classic", True), ("inverted", False)):
        layer = nn.Dropout(0.3, classic=classic)
        drawn, still = layer.train()(rows).value(), layer.eval()(rows).value()
        error = drawn.std(axis=0) / np.sqrt(len(drawn))
        errors[name] = Check(
            float((np.abs(drawn.mean(axis=0) - still[0]) / error).max()), at_most(5.0)
        )
    return All({"all masks": float(max(gaps)), **errors})


@question.figure(T("How many sub-networks one would have to average", "需要平均多少个子网络"))
def averaging(lab: Lab) -> Figure:
    """Distance of an average over n other sub-networks from the average over 200, and of the scaled
    net's."""
    found = members(lab)
    whole = found["averages"][:, -1]
    at = [Sample(apart(found["averages"][:, i], whole)) for i in range(len(SIZES) - 2)]
    once_only = Sample(apart(found["scaled"], whole))
    return Figure(
        Axis(T("sub-networks averaged", "平均的子网络数"), log=True),
        Axis(T("distance from the average of 200", "与 200 个平均的距离"), log=True),
        [
            Line(T("sampled sub-networks", "采样的子网络"), SIZES[:-2], *band(at)),
            Level(T("scaled net, one pass", "缩放后的完整网络，一次前向"), y=once_only.mean),
        ],
        T(
            "One pass of the scaled network comes as near to the average of the probabilities as "
            "sampling about five sub-networks; more samples come nearer, at many times the cost.",
            "缩放后的完整网络一次前向，与概率平均的接近程度相当于采样约五个子网络；采样更多会更接"
            "近，代价则高出许多倍。",
        ),
        {"accuracy, scaled": float(right(found["scaled"], found["y"]).mean()),
         "accuracy, average of 200": float(right(whole, found["y"]).mean()),
         "accuracy, one sub-network": float(right(found["averages"][:, 0], found["y"]).mean())},
    )  # fmt: skip


@question.figure(T("When dropout helps", "Dropout 何时有用"))
def gain(lab: Lab) -> Figure:
    """Test accuracy with dropout less that without, on the same seeds, by the share of training
    rows with a random label."""
    parts = digits()
    shares, lines = lab.pick((0.0, 0.1, 0.2, 0.4), (0.0, 0.3)), []
    for rows, epochs in ((100, lab.pick(120, 25)), (500, lab.pick(50, 8))):
        at = []
        for share in shares:
            rng = lab.rng(f"labels {rows}")
            wrong, other = rng.random(rows) < share, rng.integers(0, 10, rows)
            y, found = np.where(wrong, other, parts.y[:rows]), []
            for dropout in (True, False):
                spec = {"model": lambda d=dropout: network(d, 128), "lr": 0.003, "epochs": epochs}
                fleet = fathom.train_many(spec, parts.x[:rows], y, seeds=lab.seeds(5, 3))
                found.append(fleet.evaluate(parts.test_x, parts.test_y)["accuracy"])
            at.append(Sample(found[0] - found[1]))
        lines.append(Line(T(f"{rows} rows", f"{rows} 个样本"), shares, *band(at)))
    return Figure(
        Axis(T("share of random labels", "随机标签的比例")),
        Axis(T("gain in test accuracy", "测试准确率的提高")),
        [*lines, Level(T("no gain", "无收益"), y=0.0)],
        T(
            "On clean digits dropout gains nothing; with wrong labels, which a net without it "
            "memorizes, it does.",
            "在干净的数字上 Dropout 没有收益；有错误标签时（没有它的网络会把错误背下来）才有收益。",
        ),
    )
