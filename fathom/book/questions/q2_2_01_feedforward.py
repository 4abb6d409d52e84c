"""2.2.1 The layers of a feed-forward network, and what each is for."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Level, Line, NotMeasurable, Question, Routes, Sample,
    Settings, T, at_least, at_most, band, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.stacks import parameters, stack
from fathom.nn import Identity, Linear, Module, Sequential, Tanh, TransformerEncoderLayer

question = Question(
    "2.2.1",
    title=T(
        "What are the layers of a feed-forward network and what is each for?",
        "前馈网络由哪些层组成？各层有什么作用？",
    ),
    difficulty=2,
    frequency=3,
    topics=("MLP", "FNN", "architecture", "Transformer FFN", "前馈网络", "多层感知机", "输入层", "隐藏层", "输出层"),
    answer=T(
        "A feed-forward network sends data one way, from input to output, without loops. The input "
        "layer is only a name for the vector that comes in: it has no parameters and computes "
        "nothing, so standardizing the data is a step before the network. Hidden layers, each an "
        "affine map and a nonlinearity, turn features into ones that are easier to tell apart; on "
        "digits a linear classifier reads more from later layers than from the pixels. The output "
        "layer maps the last features to what the task asks for, with an activation to match: none "
        "for regression, softmax for classes. In a Transformer block the feed-forward part holds "
        "two thirds of the weights (8d² of 12d²), but of a whole small model less than half, "
        "because the embedding counts, too.",
        "前馈网络的数据从输入到输出单向流动，没有回路。输入层只是对输入向量的称呼：没有参数，也不做计算，"
        "因此数据标准化是网络之前的一步。隐藏层由仿射变换加非线性组成，把特征变成更易区分的形式；在手写"
        "数字上，线性分类器从靠后的层读出的信息多于从像素读出的。输出层把最后的特征映射成任务所需的形式，"
        "并配以相应的激活：回归不用激活，分类用 softmax。在一个 Transformer 块中，前馈部分占三分之二的"
        "权重（12d² 中的 8d²）；但在整个小模型中不到一半，因为还要算上词嵌入。",
    ),
    flips=T(
        "With feedback connections it is a recurrent network; with layers that learn the input's "
        "scale (batch norm first) the input does get standardized inside.",
        "若有反馈连接就成了循环网络；若第一层是批归一化，输入才会在网络内部被标准化。",
    ),
    analogy=T(
        "An assembly line: the loading dock works on nothing, each station reshapes, the last one packs.",
        "像流水线：收货台不加工，每个工位改造一次，最后一个工位打包。",
    ),
    generative=T(
        "Most weights of a large language model sit in feed-forward layers; GPT-3's hold 66 %.",
        "大语言模型的权重大多在前馈层；GPT-3 中占 66 %。",
    ),
    classical=T(
        "On tables of numbers a small MLP on standardized columns is the usual neural baseline.",
        "在表格数据上，对标准化后的列用小型 MLP 是常见的神经网络基线。",
    ),
    driving=T(
        "Heads that turn a feature vector into boxes, speeds and classes are small MLPs.",
        "把特征向量变成框、速度、类别的检测头都是小型 MLP。",
    ),
    change=T(
        "Probe a network with random weights: the rise of accuracy with depth is gone.",
        "改为探测随机权重的网络：准确率随深度的上升消失。",
    ),
)  # fmt: skip


@question.unmeasurable(
    "C2.2.1-01",
    T("FNN and MLP are two names of one thing.", "FNN 与 MLP 是同一种网络的两个名称。"),
)
def names(lab: Lab) -> Evidence:
    """A question of words: textbooks use them alike, others count any loop-free net as FNN."""
    return NotMeasurable(
        T(
            "a definition that everyone follows; many call every network without loops feed-forward, "
            "convolutional ones included, and fully connected ones MLP",
            "需要公认的定义；许多人把一切无回路的网络（包括卷积网络）都称为前馈网络，只把全连接的称为 MLP",
        )
    )


def raw(lab: Lab) -> Any:
    """Rows that are far from standardized: mean 20, deviation 5."""
    return 20 + 5 * lab.rng("rows").standard_normal((400, 6))


@question.exact(
    "C2.2.1-02",
    T("The input layer computes nothing.", "输入层不做任何计算。"),
    at_most(0.0),
)
def input_layer(lab: Lab) -> Evidence:
    """A net with an explicit input layer less the same net without; its parameters and work."""
    rest = [Linear(6, 5), Tanh(), Linear(5, 2)]
    x = fathom.tensor(raw(lab).astype(np.float32))
    explicit, bare = Sequential(Identity(), *rest), Sequential(*rest)
    apart = float((explicit(x) - bare(x)).abs().max().item())
    work = explicit.summary((6,)).multiply_adds - bare.summary((6,)).multiply_adds
    return All({
        "outputs": apart,
        "parameters": parameters(explicit) - parameters(bare),
        "multiply-adds": work,
    })  # fmt: skip


class Listener(Module):
    """Passes its input on and keeps it."""

    def forward(self, x: Any) -> Any:
        self.heard = x.value()
        return x


@question.exact(
    "C2.2.1-03",
    T(
        "The input layer standardizes the data before it passes them on.",
        "输入层在传递之前会把数据标准化。",
    ),
    at_most(0.05),
    correction=T(
        "Data of mean 20 arrive at the first weights with mean {n[heard]:.1f}: standardizing is a "
        "step of its own before the network.",
        "均值为 20 的数据到达第一层权重时均值仍为 {n[heard]:.1f}：标准化是网络之前单独的一步。",
    ),
    weight=2,
)
def standardizes(lab: Lab) -> Evidence:
    """Largest |mean| of a column where the first weights receive it.

    Listened to behind the input layer; and solved for from the first pre-activations (six units,
    six inputs).
    """
    x = fathom.tensor(raw(lab))
    listener, first = Listener(), Linear(6, 6).double()
    net = Sequential(Identity(), listener, first)
    z = net(x).value()
    solved = np.linalg.solve(first.weight.value(), (z - first.bias.value()).T).T
    return Routes({
        "heard": float(np.abs(listener.heard.mean(axis=0)).max()),
        "solved from z": float(np.abs(solved.mean(axis=0)).max()),
    })  # fmt: skip


def shares(width: int, blocks: int, tokens: int, places: int, extra: int = 0) -> float:
    """Share of the feed-forward weights in a model: blocks of 12 d², and the embeddings."""
    whole = blocks * 12 * width**2 + (tokens + places + extra) * width
    return blocks * 8 * width**2 / whole


def block_share(width: int = 96) -> float:
    """The same, counted on the library's block."""
    block = TransformerEncoderLayer(width, 4, dim_feedforward=4 * width)
    inner = sum(parameters(m) for n, m in block.named_modules() if n in ("linear1", "linear2"))
    return inner / parameters(block)


@question.exact(
    "C2.2.1-04",
    T(
        "The feed-forward nets hold more than half of a Transformer's parameters.",
        "FFN 占 Transformer 参数的一半以上。",
    ),
    at_least(0.5),
    correction=T(
        "Of a block they hold {n[one block/formula]:.2f}. With the embeddings it depends on the size: "
        "{n[GPT-3]:.2f} of GPT-3, {n[BERT base]:.2f} of BERT base, {n[GPT-2 small]:.2f} of GPT-2 small.",
        "在单个块中占 {n[one block/formula]:.2f}。算上词嵌入则取决于规模：GPT-3 为 {n[GPT-3]:.2f}，"
        "BERT base 为 {n[BERT base]:.2f}，GPT-2 small 为 {n[GPT-2 small]:.2f}。",
    ),
    weight=2,
)
def most_parameters(lab: Lab) -> Evidence:
    """8 d² over all weights: in one block (counted and by formula), and in whole published models."""
    return Settings(T("what is counted", "统计范围"), {
        "one block": Routes({"formula": 8 / 12, "counted": block_share()}),
        "GPT-3": shares(12_288, 96, 50_257, 2048),
        "BERT base": shares(768, 12, 30_522, 512, 2),
        "GPT-2 small": shares(768, 12, 50_257, 1024),
    })  # fmt: skip


# -- figures -------------------------------------------------------------------------------------

HIDDEN = 4


def probe(features: Any, labels: Any, test: Any, test_labels: Any) -> float:
    """Accuracy of a linear classifier (ridge regression on one-hot labels)."""
    mean, scale = features.mean(axis=0), features.std() + 1e-12
    rows, new = (np.column_stack([(f - mean) / scale, np.ones(len(f))]) for f in (features, test))
    gram = rows.T @ rows + 1e-2 * np.eye(rows.shape[1])
    w = np.linalg.solve(gram, rows.T @ np.eye(10)[labels])
    return float(((new @ w).argmax(axis=1) == test_labels).mean())


@once
def probed(lab: Lab, epochs: int) -> Any:
    """Probe accuracy at the input and behind each hidden layer, (seeds, layers)."""
    data = digits()
    seeds = lab.seeds(10, 3)
    spec = {"model": lambda: stack(64, 10, 24, HIDDEN), "epochs": max(epochs, 1), "lr": 2e-3,
            "batch_size": 32}  # fmt: skip
    if epochs:
        models = [r.model for r in
                  fathom.train_many(spec, data.x, data.y, seeds=seeds, threads=1).runs]  # fmt: skip
    else:
        models = []
        for seed in seeds:
            with fathom.seed(seed):
                models.append(stack(64, 10, 24, HIDDEN))
    found = []
    for model in models:
        layers = list(model.children())
        a, b = data.x.astype(np.float64), data.test_x.astype(np.float64)
        accuracies = [probe(a, data.y, b, data.test_y)]
        for k in range(HIDDEN):
            part = Sequential(*layers[2 * k : 2 * k + 2])
            with fathom.no_grad():
                a, b = (part(fathom.tensor(v.astype(np.float32))).value() for v in (a, b))
            accuracies.append(
                probe(a.astype(np.float64), data.y, b.astype(np.float64), data.test_y)
            )
        found.append(accuracies)
    return np.array(found)


@question.figure(
    T("What a linear classifier reads from each layer", "线性分类器从每一层读出的信息")
)
def probes(lab: Lab) -> Figure:
    """Linear probes on digits, 4 hidden layers of 24: trained and with random weights."""
    lines = []
    for epochs, name in (
        (lab.pick(40, 10), T("trained", "训练后")),
        (0, T("random weights", "随机权重")),
    ):
        at = [Sample(column) for column in probed(lab, epochs).T + 0.0]
        lines.append(Line(name, np.arange(HIDDEN + 1), *band(at)))
    return Figure(
        Axis(T("hidden layer (0: the pixels)", "隐藏层（0 为像素）")),
        Axis(T("accuracy of the probe", "探针准确率")),
        lines,
        T(
            "Trained layers make the classes easier to separate with a line; random layers of the "
            "same width lose information with depth.",
            "训练后的层使类别更易线性区分；同样宽度的随机层则随深度丢失信息。",
        ),
    )  # fmt: skip


@question.figure(T("Share of the feed-forward nets", "前馈网络所占比例"))
def share_by_width(lab: Lab) -> Figure:
    """8 d² of 12 d² a block, with embeddings of 50,257 tokens, by model width."""
    widths = [128, 256, 512, 768, 1024, 2048, 4096, 8192, 12_288]
    lines = [
        Line(T(f"{blocks} blocks", f"{blocks} 块"), widths,
             [shares(d, blocks, 50_257, 2048) for d in widths])
        for blocks in (6, 12, 24, 96)
    ]  # fmt: skip
    return Figure(
        Axis(T("width of the model", "模型宽度"), log=True),
        Axis(T("share of all parameters", "占全部参数的比例")),
        [*lines, Level(T("one half", "一半"), y=0.5), Level(T("block alone: 2/3", "单个块：2/3"), y=2 / 3)],
        T(
            "In narrow models the embedding outweighs the blocks; from a few thousand features on "
            "the share approaches two thirds.",
            "在窄模型中词嵌入超过各块；宽度达到几千后比例趋近三分之二。",
        ),
    )  # fmt: skip
