"""3.4.3 Six activations in a CNN, a recurrent network and a Transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import nn
from fathom.book import Axis, Bars, Figure, Lab, Level, Line, Question, Sample, T, once
from fathom.book.material.data import digits
from fathom.book.material.tiny_language import next_character, sentences, unseen_loss
from fathom.models.mlp import make_activation

question = Question(
    "3.4.3",
    title=T(
        "Which activations do CNNs, RNNs and Transformers prefer?",
        "CNN、RNN 与 Transformer 各偏好哪些激活函数？",
    ),
    difficulty=3,
    frequency=4,
    topics=("CNN", "RNN", "Transformer", "activation choice", "卷积网络", "循环网络", "激活函数选型"),
    answer=T(
        "CNNs keep ReLU and its relatives, simple recurrent nets tanh, gates sigmoid, Transformers GELU or "
        "a gate with SiLU; the reasons differ. In a CNN units are many and gradients short, so cheap "
        "ReLU is enough: here all but the sigmoid lie within two points. A recurrent net applies the "
        "same matrix at every step, so an unbounded function lets the state explode once the weights are a bit "
        "too large, and one that is often off forgets: over twenty steps ReLU and Leaky ReLU learn next "
        "to nothing, while tanh does, and GELU and SiLU too when the weights start orthogonal. In a "
        "Transformer normalization and shortcuts carry the signal; GELU is ahead in every seed, but by "
        "less than half a percent of the loss over ReLU. The sigmoid as hidden activation comes last "
        "or next to last everywhere. So habit is a good guide, and only in recurrent nets a wrong choice "
        "prevents learning; elsewhere it costs points, not the training.",
        "CNN 沿用 ReLU 一族，简单循环网络用 tanh，门用 sigmoid，Transformer 用 GELU 或 SiLU 门控；理由各不相同。"
        "CNN 单元多、梯度路径短，便宜的 ReLU 就够：这里除 sigmoid 外都相差不到两个百分点。循环网络每一步都乘同一个矩阵，"
        "所以权重稍大，无界函数就会让状态爆炸，而经常关断的函数会遗忘：二十步时 ReLU 与 Leaky ReLU 几乎学不到什么，"
        "tanh 能学会，权重从正交矩阵开始时 GELU 与 SiLU 也能。Transformer 的信号由归一化与残差承担；"
        "GELU 在每个种子上都领先，但损失只比 ReLU 低不到 0.5 %。sigmoid 作隐藏层激活处处垫底或倒数第二。"
        "所以照惯例选通常没错；只有在循环网络里选错会学不动，别处只损失一点精度，不至于训练失败。",
    ),
    flips=T(
        "Over a dozen steps instead of twenty the recurrent net learns with ReLU as well, and all but "
        "the sigmoid and SiLU are perfect.",
        "若只需记十二步而不是二十步，循环网络用 ReLU 也能学会，除 sigmoid 与 SiLU 外全部满分。",
    ),
    analogy=T(
        "Tyres: a road, a track and a field each have a usual kind, yet on a dry day the driver "
        "matters more; only on ice does the wrong kind fail.",
        "像轮胎：公路、赛道、田地各有常用的一种，晴天里还是看驾驶；只有在冰上，选错才会出事。",
    ),
    generative=T(
        "BERT and GPT take GELU, LLaMA a gate with SiLU in the feed-forward block; diffusion U-Nets "
        "take SiLU.",
        "BERT 与 GPT 的前馈层用 GELU，LLaMA 用 SiLU 门控，扩散模型的 U-Net 用 SiLU。",
    ),
    classical=T(
        "LSTM and GRU mix two: sigmoid for gates, which are shares, and tanh for states, which must "
        "stay bounded.",
        "LSTM 与 GRU 混用两种：门是比例，用 sigmoid；状态要有界，用 tanh。",
    ),
    driving=T(
        "Camera backbones keep ReLU (or ReLU6) for INT8; planners built on Transformers keep the GELU "
        "of their pretrained weights.",
        "摄像头骨干为 INT8 保留 ReLU（或 ReLU6）；基于 Transformer 的规划器沿用预训练权重的 GELU。",
    ),
    change=T(
        "Set `STEPS` to 12: ReLU's accuracy in the recurrent net goes from chance to 1.",
        "把 `STEPS` 设为 12：ReLU 在循环网络中的准确率从随机水平升到 1。",
    ),
)  # fmt: skip

Array = NDArray[Any]
NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "gelu", "silu")
KINDS = ("cnn", "rnn", "transformer")
STEPS = 20


def cnn(name: str) -> nn.Sequential:
    """Three convolutions of eight channels on 8 x 8 digits."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for inputs in (1, 8, 8):
        layers += [nn.Conv2d(inputs, 8, 3), make_activation(name)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))
    nn.init.apply_(net, "auto")
    return net


class Recall(nn.Module):
    """A simple recurrent network that reads symbols and says the first one at the end."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.inner, self.state = nn.Linear(4, 24), nn.Linear(24, 24, bias=False)
        self.out, self.bend = nn.Linear(24, 4), make_activation(name)
        nn.init.apply_(self, "orthogonal")

    def forward(self, x: Any) -> Any:
        rows = x.reshape(-1, STEPS, 4)
        h = self.bend(self.inner(rows[:, 0]))
        for t in range(1, STEPS):
            h = self.bend(self.inner(rows[:, t]) + self.state(h))
        return self.out(h)


class Characters(nn.Module):
    """A Transformer of two blocks that guesses the next character at every place."""

    def __init__(self, name: str, width: int = 16) -> None:
        super().__init__()
        text = sentences()
        places, kinds = text.x.shape[1], len(text.alphabet)
        self.embed, self.place = nn.Embedding(kinds, width), nn.Embedding(places, width)
        self.blocks = nn.ModuleList([Block(name, width) for _ in range(2)])
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, kinds))

    def forward(self, x: Any) -> Any:
        h = self.embed(x) + self.place(np.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.out(h)


class Block(nn.Module):
    """Causal attention and a feed-forward layer with the activation in it, both normalized before."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), make_activation(name), nn.Linear(4 * width, width)
        )

    def forward(self, h: Any) -> Any:
        rows, n = self.first(h), h.shape[1]
        later = np.triu(np.ones((n, n), bool), 1)
        h = h + self.attention(rows, rows, rows, need_weights=False, attn_mask=later)[0]
        return h + self.feed(self.second(h))


def symbols(rng: np.random.Generator, rows: int) -> tuple[Array, Array]:
    """One of four symbols a step, one-hot, (rows, 4 STEPS); the first is the answer."""
    said = rng.integers(0, 4, (rows, STEPS))
    return np.eye(4, dtype=np.float32)[said].reshape(rows, -1), said[:, 0]


@once
def reached(lab: Lab, kind: str, name: str) -> Sample:
    """Test accuracy (cnn, rnn), or minus the loss in nats a character (transformer)."""
    seeds = lab.seeds(4, 2)
    spec: dict[str, Any] = {"lr": 0.003, "batch_size": 50}
    if kind == "transformer":
        text, rows = sentences(), lab.pick(None, 64)
        spec |= {"model": lambda: Characters(name), "loss": next_character, "batch_size": 16,
                 "epochs": lab.pick(4, 1)}  # fmt: skip
        return Sample(
            -unseen_loss(fathom.train_many(spec, text.x[:rows], text.y[:rows], seeds=seeds))
        )
    if kind == "cnn":
        data = digits()
        parts: tuple[Any, ...] = (data.x, data.y, data.test_x, data.test_y)
        spec |= {"model": lambda: cnn(name), "epochs": lab.pick(6, 1)}
    else:
        rng = lab.rng("symbols")
        parts = (*symbols(rng, 1000), *symbols(rng, 500))
        spec |= {"model": lambda: Recall(name), "epochs": lab.pick(25, 1)}
    fleet = fathom.train_many(spec, *parts[:2], seeds=seeds, threads=1)
    return Sample(fleet.evaluate(*parts[2:])["accuracy"])


WORDS = {
    "cnn": T("CNN, digits", "CNN，数字"), "rnn": T("RNN, recall", "RNN，记忆"),
    "transformer": T("Transformer, characters", "Transformer，字符"),
}  # fmt: skip


def ranks(lab: Lab, kind: str, names: tuple[str, ...]) -> Array:
    """(activations, seeds): 1 is the best of that seed, ties share."""
    values = np.array([reached(lab, kind, n).values for n in names])
    better = (values[None] > values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    return np.asarray(better + (equal + 1) / 2)


@question.figure(T("Ranks in three architectures", "三种结构中的名次"))
def ranking(lab: Lab) -> Figure:
    """Each activation's rank among six within a seed, mean of four seeds with its interval. A CNN of three
    convolutions on digits (six passes), a recurrent network of 24 units that has to say the first of twenty
    symbols (25 passes), a Transformer of two blocks on characters (four passes); Adam."""
    names, kinds = lab.pick((NAMES, KINDS), (("tanh", "relu"), ("cnn",)))
    marks, told = [], {}
    for kind in kinds:
        at = [Sample(r) for r in ranks(lab, kind, names)]
        low, high = [max(s.low, 1.0) for s in at], [min(s.high, len(names)) for s in at]
        marks.append(Bars(WORDS[kind], [s.mean for s in at], low, high))
        for name in names:
            told[f"{kind}: {name}"] = reached(lab, kind, name).mean
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in names]),
        Axis(T("mean rank, 1 is best", "平均名次（1 为最好）")),
        marks,
        T(
            "The sigmoid is last or nearly so everywhere; GELU is first in the Transformer; ReLU falls to "
            "the sigmoid's place in the recurrent net, and among the rest of the CNNs the order is within "
            "the scatter.",
            "sigmoid 处处垫底或接近垫底；GELU 在 Transformer 中第一；ReLU 在循环网络里跌到与 sigmoid 相当；"
            "CNN 中其余几种的次序在波动范围之内。",
        ),
        told,
    )


@question.figure(T("Why a recurrent state wants bounds", "循环状态为什么要有界"))
def bounded(lab: Lab) -> Figure:
    """Root mean square of the state h <- f(W h + x) over 60 steps, W = g Q with Q orthogonal and g = 2,
    inputs N(0, 0.1^2), 64 units; mean of eight seeds, from the lowest to the highest."""
    lines = []
    for name in ("tanh", "sigmoid", "relu", "gelu"):
        runs = np.array([sizes(name, seed) for seed in lab.seeds(8, 2)])
        steps = np.arange(1, runs.shape[1] + 1)
        lines.append(
            Line(T(name, name), steps, runs.mean(axis=0), runs.min(axis=0), runs.max(axis=0))
        )
    return Figure(
        Axis(T("step", "时间步")),
        Axis(T("size of the state", "状态的大小"), log=True),
        [*lines, Level(T("bound of tanh", "tanh 的上界"), y=1.0)],
        T(
            "With a matrix that doubles lengths the bounded states settle at once; those of ReLU and "
            "GELU grow a million times.",
            "矩阵把长度放大一倍时，有界的状态很快稳定；ReLU 与 GELU 的状态增长上百万倍。",
        ),
    )  # fmt: skip


def sizes(name: str, seed: int, gain: float = 2.0, steps: int = 60) -> Array:
    """Root mean square of a state after each step."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((64, 64)))[0]
    f = getattr(fathom.activations, name)
    h, found = 0.1 * rng.standard_normal((32, 64)), []
    for _ in range(steps):
        z = gain * h @ q + 0.1 * rng.standard_normal(h.shape)
        h = f(fathom.tensor(z)).value()
        found.append(np.sqrt((h**2).mean()))
    return np.array(found)
