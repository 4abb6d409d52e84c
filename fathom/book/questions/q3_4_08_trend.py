"""3.4.8 From ReLU to GELU and SwiGLU in large models: what the gate buys, and whether size matters."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import Axis, Figure, Lab, Level, Line, Question, Sample, T, band, once
from fathom.book.material.stacks import parameters
from fathom.book.material.tiny_language import transformers, unseen_loss
from fathom.nn import FeedForward

question = Question(
    "3.4.8",
    title=T(
        "What is the trend of activations in large models and why the move to GELU/SwiGLU?",
        "大模型激活函数的演进趋势是什么？为什么转向 GELU/SwiGLU？",
    ),
    difficulty=3,
    frequency=4,
    topics=("gelu", "swiglu", "history", "scaling", "大模型", "门控", "演进"),
    answer=T(
        "The first transformer (2017) used ReLU; GPT and BERT (2018) took GELU; from PaLM and LLaMA "
        "(2022, 2023) on SwiGLU is the rule, Gemma has GEGLU. The first step exchanged the function, "
        "the second the layer: a gate multiplies two linear maps of the input, so a layer can form "
        "products, which a plain layer must piece together. To pay for the third matrix the width "
        "falls to two thirds, 8/3 d instead of 4 d. The gains published at equal parameters are "
        "small, of the order of a percent of the perplexity, and empirical: Shazeer (2020) offers no "
        "explanation. They are taken because in a large matrix product the function costs next to "
        "nothing. It is not a law: OPT and T5 train with ReLU, Primer found squared ReLU, and sparse "
        "activations by ReLU are returning where inference speed counts.",
        "最初的 Transformer（2017）用 ReLU；GPT 与 BERT（2018）改用 GELU；自 PaLM 和 LLaMA（2022、"
        "2023）起 SwiGLU 成为主流，Gemma 用 GEGLU。第一步换的是函数，第二步换的是层：门控把输入的两个线性映"
        "射相乘，一层就能形成乘积，而普通层只能拼凑。为了抵消第三个矩阵，宽度降到三分之二，即 8/3 d 而不是 "
        "4 d。在参数量相等时，已发表的收益很小，约为困惑度的百分之一量级，而且是经验性的：Shazeer（2020）没"
        "有给出解释。之所以采用，是因为在大矩阵乘法旁边函数几乎不花钱。这不是定律：OPT 和 T5 用 ReLU 训练，"
        "Primer 搜到了平方 ReLU，在看重推理速度的地方，ReLU 的稀疏激活正在回归。",
    ),
    flips=T(
        "Where inference is bound by memory, the exact zeros of ReLU let whole rows of weights be "
        "skipped, and it wins.",
        "当推理受内存限制时，ReLU 的精确零可以跳过整行权重，这时它占优。",
    ),
    analogy=T(
        "A switch, then a dimmer, then a dimmer turned by another lamp.",
        "先是开关，再是调光器，后来是由另一盏灯控制的调光器。",
    ),
    generative=T(
        "A LLaMA block spends two thirds of its feed-forward weights on value and gate.",
        "LLaMA 的前馈层有三分之二的权重用于值和门。",
    ),
    classical=T(
        "Products of features were made by hand in polynomial regression; a gate learns which to "
        "make.",
        "多项式回归里特征乘积由人工构造；门控则学习该构造哪些。",
    ),
    driving=T(
        "Planners built on language-model backbones inherit SwiGLU; camera backbones on small chips "
        "keep ReLU.",
        "基于语言模型骨干的规划器继承了 SwiGLU；小芯片上的视觉骨干仍用 ReLU。",
    ),
    change=T(
        "Take a target without products (sums of ReLUs): the plain layer fits it better than the "
        "gated one.",
        "换一个不含乘积的目标（若干 ReLU 之和）：普通层的拟合优于门控层。",
    ),
)

KINDS = {"relu": "ReLU", "gelu": "GELU", "swiglu": "SwiGLU"}
SIZES = (12, 24, 36)  # 3 divides them: plain and gated have exactly as many parameters


@once
def losses(lab: Lab, kind: str, d_model: int) -> tuple[int, Any]:
    """(parameters, cross-entropy on unseen windows of each seed)."""
    fleet = transformers(
        lab.seeds(5, 2), kind, d_model=d_model, epochs=lab.pick(8, 1), rows=lab.pick(None, 32),
        rate=5e-3, bias=False,
    )  # fmt: skip
    return parameters(fleet.runs[0].model), unseen_loss(fleet)


@question.figure(T("Lead over ReLU against size", "相对 ReLU 的领先随规模的变化"))
def lead(lab: Lab) -> Figure:
    """Character Transformers of two layers at exactly equal parameters, the same seeds and order of
    rows: loss with ReLU less that with another, paired, in nats a character."""
    sizes = lab.pick(SIZES, (12,))
    lines, numbers, counts = [], {}, [losses(lab, "relu", d)[0] for d in sizes]
    for kind in ("gelu", "swiglu"):
        at = [Sample(losses(lab, "relu", d)[1] - losses(lab, kind, d)[1]) for d in sizes]
        lines.append(Line(T(KINDS[kind], KINDS[kind]), counts, *band(at)))
        if len(sizes) > 1:
            slopes = np.polyfit(np.log10(counts), np.array([s.values for s in at]), 1)[0]
            numbers[f"slope of {KINDS[kind]} per tenfold size"] = float(slopes.mean())
            numbers[f"its standard error, {KINDS[kind]}"] = float(
                slopes.std(ddof=1) / np.sqrt(len(slopes))
            )
    return Figure(
        Axis(T("parameters", "参数量"), log=True),
        Axis(T("lead over ReLU, nats", "相对 ReLU 的领先（nat）")),
        [*lines, Level(T("no difference", "无差别"), y=0.0)],
        T(
            "In short runs at one learning rate SwiGLU trails ReLU in the smallest network and leads "
            "it in the larger two (by a tenth of a nat, at the largest within the scatter); GELU "
            "trails. Three sizes show a tendency, not a law.",
            "在单一学习率的短训练中，SwiGLU 在最小的网络里落后于 ReLU，在较大的两个里领先（约 0.1 nat，最"
            "大的一个仍在波动范围内）；GELU 落后。三个规模只能看出趋势，不是定律。",
        ),
        numbers,
    )


def targets(kind: str, x: Any, rng: np.random.Generator) -> Any:
    """Products of neighbouring entries, or sums of four random ReLUs an output; unit variance."""
    if kind == "products":
        return x * np.roll(x, 1, axis=1)
    inner = np.maximum(x @ rng.standard_normal((x.shape[1], 4 * x.shape[1])) / 2.0, 0.0)
    y = inner.reshape(len(x), x.shape[1], 4).sum(axis=2)
    return (y - y.mean(axis=0)) / y.std(axis=0)


@once
def fitted(lab: Lab, target: str, kind: str, width: int) -> Sample:
    """Mean squared error on new rows of one feed-forward layer of six inputs and outputs."""
    rng = lab.rng(f"rows of {target}")
    x = rng.standard_normal((1536, 6)).astype(np.float32)
    y = targets(target, x, rng).astype(np.float32)
    hidden = width * 2 // 3 if kind == "swiglu" else width
    spec = {
        "model": lambda: FeedForward(6, hidden, kind), "lr": 0.01, "loss": "mse",
        "epochs": lab.pick(30, 3), "batch_size": 64,
    }  # fmt: skip
    fleet = fathom.train_many(spec, x[:1024], y[:1024], seeds=lab.seeds(6, 2))
    return Sample(fleet.evaluate(x[1024:], y[1024:])["loss"])


def fits(lab: Lab, target: str, caption: T) -> Figure:
    """The error by width and kind."""
    widths = lab.pick((12, 24, 48, 96), (12, 48))
    lines = []
    for kind, name in KINDS.items():
        at = [fitted(lab, target, kind, w) for w in widths]
        lines.append(Line(T(name, name), [12 * w for w in widths], *band(at)))
    return Figure(
        Axis(T("weights", "权重数"), log=True),
        Axis(T("mean squared error", "均方误差"), log=True),
        lines,
        caption,
    )


@question.figure(T("A layer that has to multiply", "需要做乘法的层"))
def products(lab: Lab) -> Figure:
    """One layer of six inputs learns the products of neighbours, 30 passes of Adam; as many weights
    plain (two matrices) as gated (three, two thirds as wide); new rows, bands over six seeds."""
    return fits(
        lab,
        "products",
        T(
            "With as many weights the gated layer's error on products is several to many times smaller; "
            "plain layers need ever more units for them.",
            "权重数相同时，门控层在乘积上的误差小数倍到数十倍；普通层要用越来越多的单元去逼近。",
        ),
    )


@question.figure(T("A layer that has to bend", "需要做折线的层"))
def bends(lab: Lab) -> Figure:
    """The same with sums of four ReLUs as targets."""
    return fits(
        lab,
        "bends",
        T(
            "On sums of ReLUs it is the other way round: the gated layer's error is the largest at every "
            "width, and ReLU's the smallest once it is wide enough.",
            "目标是 ReLU 之和时正好相反：门控层在每个宽度上误差最大，宽度足够时 ReLU 的误差最小。",
        ),
    )
