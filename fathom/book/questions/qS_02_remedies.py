"""S.2 What to do against vanishing and exploding gradients."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Question, Routes, Sample, Settings, T,
    at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.gain import passage
from fathom.book.material.normed import few
from fathom.book.material.signal import through
from fathom.nn.utils import clip_grad_norm_, clip_grad_value_

question = Question(
    "S.2",
    title=T("How are vanishing and exploding gradients remedied?", "如何解决梯度消失与梯度爆炸？"),
    difficulty=3,
    frequency=5,
    topics=(
        "initialization",
        "residual",
        "batch normalization",
        "gradient clipping",
        "optimizer",
        "初始化",
        "残差",
        "梯度裁剪",
    ),
    answer=T(
        "Remedies act at different places. Initialization sets the factor of each layer to 1 at "
        "the start: He's for ReLU, "
        "Xavier's for tanh; for the sigmoid it is not enough, since its slope of at most 0.25 "
        "stays. ReLU-like activations take "
        "the slope out of the product, normalization restores the scale in every layer and "
        "during training, and residual "
        "connections add the identity. Clipping bounds the step when a gradient explodes, by "
        "value (each element, which turns the "
        "direction) or by norm (which does not), and does nothing against vanishing. Adam "
        "divides by the gradient's own size, so that it "
        "compensates a uniform scale down to about eps = 1e-8; it cannot bring back a gradient "
        "lost in rounding. Structural "
        "remedies come first, clipping and optimizer on top.",
        "各种对策作用在不同的地方。初始化使每层的因子在开始时为 1：ReLU 用 He，tanh 用 Xavier；"
        "对 sigmoid 还不够，"
        "因为最大 0.25 的导数仍在。ReLU 类激活把导数从乘积中去掉，归一化在每一层、"
        "整个训练过程中恢复尺度，"
        "残差连接加上恒等项。裁剪在梯度爆炸时限制步长：按值裁剪限制每个元素（会改变方向），"
        "按范数裁剪不改变方向；"
        "它对梯度消失无能为力。Adam 除以梯度自身的大小，因此能补偿统一的尺度，直到约 eps = 1e-8 "
        "为止；"
        "但它找不回已淹没在舍入误差里的梯度。先用结构性的对策，再加裁剪和优化器。",
    ),
    flips=T(
        "In a net of two or three layers none of this matters much; plain SGD does.",
        "两三层的网络里这些都不太重要，普通 SGD 就够。",
    ),
    analogy=T(
        "A chain of weak amplifiers: set each to gain 1, lay a cable past them, or put a limiter "
        "at the end.",
        "一串放大器：把每个增益设为 1，或绕过它们拉一根直通线，或在末端装限幅器。",
    ),
    generative=T(
        "Transformers use nearly all at once: scaled initial weights, pre-norm, residual stream, "
        "AdamW, clipping at 1.",
        "Transformer 几乎全部用上：缩放初始化、前置归一化、残差流、AdamW、范数裁剪到 1。",
    ),
    classical=T(
        "Before 2010 nets were trained layer by layer to get round the problem.",
        "2010 年以前靠逐层预训练绕开这个问题。",
    ),
    driving=T(
        "Detectors with fine-tuned backbones inherit good scales and add clipping for rare bad "
        "batches.",
        "用预训练骨干微调的检测器继承了良好的尺度，再加裁剪应付偶发的坏批次。",
    ),
    change=T(
        "Take the skips out of the working pair: the matrix shows which remedy carried the other.",
        "从有效的组合中去掉跳跃连接：矩阵会显示是哪一个对策在起作用。",
    ),
)


@question.experiment(
    "CS.2-01",
    T(
        "He's weights for ReLU and Xavier's for sigmoid and tanh ease gradient problems.",
        "ReLU 用 He 初始化、sigmoid 与 tanh 用 Xavier 初始化，可缓解梯度问题。",
    ),
    within(-1.0, 1.0),
    correction=T(
        "The first layer's gradient is 10^{n[ReLU, He]:z.1f} of the last's with ReLU, "
        "10^{n[tanh, Xavier]:.1f} with "
        "tanh, but 10^{n[sigmoid, Xavier]:.0f} with the sigmoid.",
        "首层梯度与末层之比：ReLU 为 10^{n[ReLU, He]:z.1f}，tanh 为 10^{n[tanh, Xavier]:.1f}，而 "
        "sigmoid 只有 "
        "10^{n[sigmoid, Xavier]:.0f}。",
    ),
    weight=3,
)
def initial_weights(lab: Lab) -> Evidence:
    """log10 of first over last gradient through 20 layers of 100 units; healthy is -1 to 1."""
    pairs = {
        "ReLU, He": ("relu", 0.02**0.5),
        "tanh, Xavier": ("tanh", 0.1),
        "sigmoid, Xavier": ("sigmoid", 0.1),
    }
    return Settings(
        T("activation and weights", "激活函数与初始化"),
        {
            name: Sample([
                np.log10(passage(f, np.random.default_rng(s), std=std).backward)
                for s in lab.seeds(15, 4)
            ])
            for name, (f, std) in pairs.items()
        },
    )  # fmt: skip


@question.exact(
    "CS.2-02",
    T(
        "Clipping keeps gradients within a range such as [-5, 5].",
        "裁剪把梯度限制在 [-5, 5] 之类的范围内。",
    ),
    at_most(5.0),
)
def in_a_range(lab: Lab) -> Evidence:
    """Largest element after clipping by value at 5 and by norm at 5, over 500 gradients.

    Cosines with the raw gradient tell the two apart: 1 by norm (to 1e-9), at most 0.99 by value
    on average.
    """
    g = lab.rng("gradients").standard_normal((500, 40)) * 6
    largest, cosines = {}, {}
    for name, clip in (("value", clip_grad_value_), ("norm", clip_grad_norm_)):
        cut = np.empty_like(g)
        for i, row in enumerate(g):
            w = nn.Parameter(np.zeros(40))
            w.grad = fathom.tensor(row.copy())
            clip([w], 5.0)
            cut[i] = w.grad.value()
        largest[name] = float(np.abs(cut).max())
        both = np.linalg.norm(cut, axis=1) * np.linalg.norm(g, axis=1)
        cosines[name] = float(((cut * g).sum(axis=1) / both).mean())
    return All({
        "largest element, by value": largest["value"],
        "largest element, by norm": largest["norm"],
        "cosine, by value": Check(cosines["value"], at_most(0.99)),
        "cosine, by norm": Check(cosines["norm"], equals(1.0, 1e-9)),
    })  # fmt: skip


def sigmoid_ratio(seed: int, depth: int, residual: bool) -> float:
    """log10 of first over last gradient in a sigmoid net with Xavier's weights."""
    rng = np.random.default_rng(seed)
    signal = through(fathom.sigmoid, rng, depth=depth, rule="xavier", residual=residual, batch=50)
    return float(np.log10(signal.backward_ratio))


@question.experiment(
    "CS.2-03",
    T(
        "Fewer layers and residual links help.",
        "减少层数和使用残差连接有帮助。",
    ),
    at_least(1.0),
    weight=2,
)
def fewer_and_residual(lab: Lab) -> Evidence:
    """Powers of ten by which first over last gradient rises, from a plain sigmoid net of 30 layers.

    By taking 5 layers, and by adding the input of each layer to its output; help is a factor of
    ten or more. Paired seeds, 100 units.
    """
    few_layers, links = [], []
    for seed in lab.seeds(10, 3):
        plain = sigmoid_ratio(seed, 30, False)
        few_layers.append(sigmoid_ratio(seed, 5, False) - plain)
        links.append(sigmoid_ratio(seed, 30, True) - plain)
    return All({"5 layers": Sample(few_layers), "residual": Sample(links)})


SCALES = ("1", "1e-4", "1e-8", "1e-10")


def steps_of(name: str, g: Any) -> float:
    """Mean size of the library's last step over 100 gradients, in units of the rate."""
    w = nn.Parameter(np.zeros(g.shape[1]))
    method = fathom.optim.make(name, [w], lr=1.0)
    for row in g:
        before = w.value().copy()
        w.grad = fathom.tensor(row)
        method.step()
    return float(np.abs(w.value() - before).mean())


def steps_by_hand(name: str, g: Any) -> float:
    """The same from the formulas."""
    m, v = np.zeros(g.shape[1]), np.zeros(g.shape[1])
    for row in g:
        m = 0.9 * m + 0.1 * row
        v = 0.999 * v + 0.001 * row**2 if name == "adam" else 0.99 * v + 0.01 * row**2
    n = len(g)
    if name == "adam":
        m, v = m / (1 - 0.9**n), v / (1 - 0.999**n)
    else:
        m = g[-1]
    return float(np.abs(m / (np.sqrt(v) + 1e-8)).mean())


@question.exact(
    "CS.2-04",
    T(
        "Adam and RMSProp ease gradient problems, since the scale of the gradient cancels.",
        "Adam 与 RMSProp 能缓解梯度问题，因为梯度的尺度被约去。",
    ),
    within(0.9, 1.1),
    correction=T(
        "Down to eps: scaled by 1e-4 Adam's step is {n[1e-4/Adam/library]:.3f} of the full one, "
        "by 1e-8 "
        "{n[1e-8/Adam/library]:.2f}, by 1e-10 {n[1e-10/Adam/library]:.3f}.",
        "只到 eps 为止：梯度缩小到 1e-4 时 Adam 的步长为原来的 {n[1e-4/Adam/library]:.3f}，1e-8 "
        "时 "
        "{n[1e-8/Adam/library]:.2f}，1e-10 时 {n[1e-10/Adam/library]:.3f}。",
    ),
    weight=2,
)
def scale_cancels(lab: Lab) -> Evidence:
    """Step after 100 gradients of size 1 scaled down, over that without scaling; 0.9 to 1.1 holds.

    Library and formula, eps = 1e-8, float64.
    """
    g = lab.rng("gradients").standard_normal((100, 50))
    names = {"Adam": "adam", "RMSProp": "rmsprop"}
    ways = {"library": steps_of, "formula": steps_by_hand}
    return Settings(
        T("scale of the gradient", "梯度的尺度"),
        {
            scale: All({
                name: Routes({
                    way: run(key, g * float(scale)) / run(key, g) for way, run in ways.items()
                })
                for name, key in names.items()
            })
            for scale in SCALES
        },
    )  # fmt: skip


DEPTH, WIDTH = 12, 24
REMEDIES = {
    "relu": T("ReLU", "ReLU"),
    "residual": T("residual", "残差"),
    "norm": T("batch norm", "批归一化"),
    "adam": T("Adam", "Adam"),
    "weights": T("weights 4 times", "权重 4 倍"),
}


def patient(taken: tuple[str, ...]) -> Any:
    """A deep sigmoid net with Xavier's weights, and what was prescribed."""
    layers: list[Any] = [nn.Linear(64, WIDTH)]
    for _ in range(DEPTH):
        linear = nn.Linear(WIDTH, WIDTH)
        nn.init.xavier_normal_(linear.weight, gain=4.0 if "weights" in taken else 1.0)
        norm = [nn.BatchNorm1d(WIDTH)] if "norm" in taken else []
        block = nn.Sequential(linear, *norm, nn.ReLU() if "relu" in taken else nn.Sigmoid())
        scale = DEPTH**-0.5
        layers.append(nn.Residual(block, scale=scale) if "residual" in taken else block)
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


@once
def treated(lab: Lab, taken: tuple[str, ...]) -> Any:
    """Training loss after 10 epochs on 400 digits, one a seed."""
    data = few()
    spec = {
        "model": lambda: patient(taken), "epochs": lab.pick(10, 1), "batch_size": 32,
        "optimizer": "adam" if "adam" in taken else "sgd", "lr": 0.003 if "adam" in taken else 0.1,
    }  # fmt: skip
    made = fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(2, 2), threads=1)
    return np.array([run.losses[-1] for run in made.runs])


@question.figure(T("Remedies alone and in pairs: final loss", "单个与成对的对策：最终损失"))
def ablation(lab: Lab) -> Figure:
    """A sigmoid net of 12 hidden layers on digits; mean training loss over seeds, 10 epochs."""

    def loss(*taken: str) -> float:
        return float(treated(lab, tuple(sorted(set(taken)))).mean())

    tried = dict(list(REMEDIES.items())[: lab.pick(5, 2)])
    bars = [Bars(T("alone", "单独"), [loss(name) for name in tried])]
    for partner, words in tried.items():
        bars.append(Bars(
            T(f"with {words.en}", f"加{words.zh}"), [loss(name, partner) for name in tried]
        ))  # fmt: skip
    pairs = {f"{a} and {b}": loss(a, b) for a, b in combinations(tried, 2)}
    best = list(pairs)[int(np.nanargmin(list(pairs.values())))]
    return Figure(
        Axis(T("remedy", "对策"), ticks=list(tried.values())),
        Axis(T("training loss", "训练损失")),
        [*bars, Level(T("guessing", "瞎猜"), y=float(np.log(10)))],
        T(
            "Alone only skips and batch norm help within ten epochs; Adam, ReLU and larger "
            "weights "
            "need a partner, and larger weights with ReLU diverge (no bar). Skips make the best "
            "pairs.",
            "单独使用时，十轮之内只有跳跃连接和批归一化有效；Adam、ReLU 和放大权重都需要搭档，"
            "放大权重加 ReLU 则发散（无柱）。最好的组合都含跳跃连接。",
        ),
        {"no remedy": loss(), f"best pair, {best}": pairs[best]},
    )


@question.figure(T("First over last gradient by remedy", "各对策下首层与末层梯度之比"))
def gradients(lab: Lab) -> Figure:
    """At the start, 30 layers of 100 units; log10, intervals over seeds."""
    seeds = lab.seeds(10, 3)
    root = np.sqrt(0.02)

    def by(name: str, std: float) -> list[float]:
        return [
            float(np.log10(passage(name, np.random.default_rng(s), std=std, depth=30).backward))
            for s in seeds
        ]

    found = {
        T("sigmoid", "sigmoid"): by("sigmoid", 0.1),
        T("weights 4 times", "权重 4 倍"): by("sigmoid", 0.4),
        T("5 layers", "5 层"): [sigmoid_ratio(s, 5, False) for s in seeds],
        T("residual", "残差"): [sigmoid_ratio(s, 30, True) for s in seeds],
        T("tanh", "tanh"): by("tanh", 0.1),
        T("ReLU, He", "ReLU，He"): by("relu", root),
    }
    at = [Sample(v) for v in found.values()]
    return Figure(
        Axis(T("net", "网络"), ticks=list(found)),
        Axis(T("log10 of the ratio", "比值的 log10")),
        [Bars(T("first over last", "首层比末层"), *band(at))],
        T(
            "A plain sigmoid net loses eighteen orders of magnitude in 30 layers; skips and ReLU "
            "with He's weights lose next to none.",
            "普通 sigmoid 网络经 30 层损失十八个数量级；跳跃连接和采用 He 初始化的 ReLU "
            "几乎没有损失。",
        ),
    )  # fmt: skip
