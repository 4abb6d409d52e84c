"""S.6 Batch normalization and layer normalization side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Question, Sample, T, at_least, at_most,
    band, equals, once,
)  # fmt: skip
from fathom.book.material.normed import few, fleet, judged

question = Question(
    "S.6",
    title=T("BatchNorm versus LayerNorm", "BatchNorm 与 LayerNorm 有何区别？"),
    difficulty=3,
    frequency=5,
    topics=(
        "batch normalization",
        "layer normalization",
        "group normalization",
        "批归一化",
        "层归一化",
        "组归一化",
    ),
    answer=T(
        "Both subtract a mean, divide by a standard deviation and then scale and shift; they "
        "differ in what they average over. "
        "Batch norm takes each feature over the rows of the batch, layer norm each row over its "
        "features. "
        "Hence in training batch norm's output for a row depends on its companions and gets "
        "noisy with few rows, while layer norm's "
        "depends on the row alone. For inference batch norm keeps running averages, two buffers "
        "a layer, and so behaves differently in the two "
        "modes; layer norm has no buffers and one behaviour. Batch norm suits convolutions with "
        "batches of 16 and "
        "more; layer norm (or RMS norm) suits transformers and recurrent nets, where lengths "
        "vary and batches may be "
        "small. Group norm lies between: per row, over groups of channels.",
        "两者都减均值、除以标准差，再缩放和平移；区别在于对什么取平均。"
        "批归一化对每个特征跨批内各行统计，"
        "层归一化对每一行跨其特征统计。因此训练时批归一化对一行的输出取决于同批的其他行，"
        "行数少时噪声大；"
        "层归一化的输出只取决于该行自身。推理时批归一化使用滑动平均，每层两个缓冲区，"
        "两种模式行为不同；"
        "层归一化没有缓冲区，行为只有一种。批归一化适合批大小 16 以上的卷积网络；层归一化（或 "
        "RMS 归一化）"
        "适合 Transformer 和循环网络，那里长度不一、批可能很小。组归一化居中：按行，"
        "对通道分组统计。",
    ),
    flips=T(
        "In evaluation batch norm, too, treats each row by itself: it is a fixed affine map then.",
        "在评估模式下，批归一化同样逐行独立：它此时就是一个固定的仿射变换。",
    ),
    analogy=T(
        "Grading on the curve of the class (batch norm) against grading each pupil's subjects "
        "against "
        "his own average (layer norm).",
        "批归一化像按全班分布给某一科打分；层归一化像把一个学生各科与他自己的平均相比。",
    ),
    generative=T(
        "Language models use layer or RMS norm: a token's output must not depend on other texts "
        "in the batch.",
        "语言模型使用层归一化或 RMS 归一化：一个 token 的输出不应取决于批中其他文本。",
    ),
    classical=T(
        "Standardizing columns is batch norm's idea, normalizing rows to unit length layer norm's.",
        "按列标准化对应批归一化的思路，把每行归一到单位长度对应层归一化的思路。",
    ),
    driving=T(
        "With one large image a card detectors freeze or synchronize batch norm, or take group "
        "norm.",
        "一张卡只放一张大图时，检测器冻结或同步批归一化，或改用组归一化。",
    ),
    change=T(
        "Raise the batch from 2 to 64: batch norm's gap between training and evaluation closes.",
        "把批大小从 2 提到 64：批归一化训练与评估之间的差距消失。",
    ),
)


@question.exact(
    "CS.6-01",
    T(
        "Batch norm normalizes each feature over the batch, layer norm each sample over its "
        "features.",
        "批归一化对每个特征跨批归一化，层归一化对每个样本跨特征归一化。",
    ),
    at_most(1e-12),
    weight=2,
)
def axes(lab: Lab) -> Evidence:
    """Layers in training against means and variances over one axis in NumPy; largest difference.

    Taken over the other axis they must differ by 0.1 or more.
    """
    x = lab.rng("x").standard_normal((32, 8)) * 3 + np.arange(8)

    def over(axis: int) -> Any:
        mean, var = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-5)

    batch = nn.BatchNorm1d(8).double()(fathom.tensor(x)).value()
    layer = nn.LayerNorm(8).double()(fathom.tensor(x)).value()
    return All({
        "batch norm, over rows": float(np.abs(batch - over(0)).max()),
        "layer norm, over features": float(np.abs(layer - over(1)).max()),
        "axes exchanged": Check(
            float(min(np.abs(batch - over(1)).max(), np.abs(layer - over(0)).max())), at_least(0.1)
        ),
    })  # fmt: skip


def moved(norm: Any, lab: Lab) -> float:
    """How much the output for the first row changes where the other rows are exchanged."""
    rng = lab.rng("companions")
    row, others, new = (rng.standard_normal((n, 8)) for n in (1, 15, 15))
    first = norm(fathom.tensor(np.concatenate([row, others]))).value()[0]
    second = norm(fathom.tensor(np.concatenate([row, 2 * new]))).value()[0]
    return float(np.abs(first - second).max())


@question.exact(
    "CS.6-02",
    T(
        "Batch norm depends on the batch, its size and its rows; layer norm does not.",
        "批归一化依赖批的大小与其中的行；层归一化不依赖。",
    ),
    at_most(1e-12),
    weight=2,
)
def companions(lab: Lab) -> Evidence:
    """Change of one sample's output where the other 15 are exchanged, in training mode.

    0 for layer norm, alone or in a batch; at least 0.1 for batch norm. In evaluation batch norm's
    must be 0, too.
    """
    layer = nn.LayerNorm(8).double()
    x = fathom.tensor(lab.rng("companions").standard_normal((16, 8)))
    alone = float(np.abs(layer(x).value()[:1] - layer(x[:1]).value()).max())
    return All({
        "layer norm": moved(layer, lab),
        "layer norm, batch of 16 against 1": alone,
        "batch norm": Check(moved(nn.BatchNorm1d(8).double().train(), lab), at_least(0.1)),
        "batch norm in evaluation": moved(nn.BatchNorm1d(8).double().eval(), lab),
    })  # fmt: skip


@question.exact(
    "CS.6-03",
    T(
        "At inference batch norm needs running statistics, layer norm none.",
        "推理时批归一化需要滑动统计量，层归一化不需要。",
    ),
    equals(0.0),
)
def buffers(lab: Lab) -> Evidence:
    """Buffers of a layer norm; batch norm must keep a mean and a variance, and use them.

    Its output in evaluation is compared with the formula on the running averages, and layer
    norm's in both modes.
    """
    batch, layer = nn.BatchNorm1d(8).double(), nn.LayerNorm(8).double()
    rng = lab.rng("rows")
    for _ in range(20):
        batch(fathom.tensor(rng.standard_normal((32, 8)) * 2 + 1))
    x = rng.standard_normal((4, 8))
    state = dict(batch.named_buffers())
    mean, var = state["running_mean"].value(), state["running_var"].value()
    said = batch.eval()(fathom.tensor(x)).value()
    apart = np.abs(said - (x - mean) / np.sqrt(var + 1e-5)).max()
    both = [layer.train(mode)(fathom.tensor(x)).value() for mode in (True, False)]
    return All({
        "layer norm's buffers": float(len(list(layer.named_buffers()))),
        "layer norm, modes apart": float(np.abs(both[0] - both[1]).max()),
        "batch norm's statistics": Check(
            float(sum(name.startswith("running") for name in state)), equals(2.0)
        ),
        "batch norm, off the formula": Check(float(apart), at_most(1e-12)),
    })  # fmt: skip


BATCHES = (2, 4, 16, 64)
NAMES = {
    "batch": T("batch norm", "批归一化"),
    "layer": T("layer norm", "层归一化"),
    "group": T("group norm", "组归一化"),
}


@once
def trained(lab: Lab, norm: str, batch: int) -> tuple[Any, Any]:
    """Test accuracy, and how far outputs in the two modes lie apart; a number a seed."""
    nets = fleet(norm, batch, lab.seeds(10, 3), lr=min(0.1, batch / 160), epochs=lab.pick(15, 4))
    x, gaps = fathom.tensor(few().x[:batch]), []
    for run in nets.runs:
        quiet = run.model.eval()(x).value()
        loud = run.model.train()(x).value()
        run.model.eval()
        gaps.append(np.linalg.norm(loud - quiet) / np.linalg.norm(quiet))
    return judged(nets).test, np.array(gaps)


@question.figure(T("Test accuracy by batch size", "测试准确率随批大小的变化"))
def accuracy_by_batch(lab: Lab) -> Figure:
    """400 digits, 15 epochs of SGD, a rate of batch / 160 up to 0.1; intervals over seeds."""
    bars = []
    for norm, name in NAMES.items():
        at = [Sample(trained(lab, norm, b)[0]) for b in BATCHES]
        bars.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("batch size", "批大小"), ticks=[T(str(b), str(b)) for b in BATCHES]),
        Axis(T("test accuracy", "测试准确率")),
        bars,
        T(
            "At batches of two batch norm falls far behind; layer and group norm do as well as at "
            "larger ones.",
            "批大小为 2 时批归一化远远落后；层归一化与组归一化与大批时同样好。",
        ),
    )


@question.figure(T("Distance between training and evaluation mode", "训练模式与评估模式输出的差距"))
def gap_by_batch(lab: Lab) -> Figure:
    """Relative distance of the outputs for the same rows, trained nets, a batch of each size."""
    lines = []
    for norm, name in NAMES.items():
        at = [Sample(trained(lab, norm, b)[1]) for b in BATCHES]
        lines.append(Line(name, BATCHES, *band(at)))
    return Figure(
        Axis(T("batch size", "批大小"), log=True),
        Axis(T("relative distance", "相对差距")),
        lines,
        T(
            "Only batch norm says different things in its two modes, the more so the smaller the "
            "batch.",
            "只有批归一化在两种模式下输出不同，批越小差得越多。",
        ),
    )
