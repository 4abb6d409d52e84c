"""3.3.15 Mish: x tanh(softplus x), measured."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import activations, nn
from fathom.book import Axis, Bars, Figure, Lab, Level, Line, Question, Sample, T, band, once
from fathom.book.material.activation_cost import in_fathom, in_numpy
from fathom.book.material.calculus import derivative, lowest, value
from fathom.book.material.data import digits
from fathom.book.material.smooth_gates import SHAPES
from fathom.book.material.speed import rounds_of, shortest
from fathom.models.mlp import make_activation

question = Question(
    "3.3.15",
    title=T("What is Mish, and why did YOLOv4 use it?", "什么是 Mish？YOLOv4 为什么用它？"),
    difficulty=3,
    frequency=2,
    topics=("mish", "benchmark", "yolov4", "激活函数", "目标检测"),
    answer=T(
        "Mish is x tanh(softplus(x)) = x tanh(log(1 + e^x)) (Misra, 2019): smooth, not monotone, "
        "unbounded above and bounded below, with the minimum -0.3088 at x = -1.1924. It is close "
        "to SiLU, whose minimum is -0.2785 at -1.2785; its slope exceeds 1 a little before it "
        "settles there. YOLOv4 (2020) chose it for its backbone because ImageNet classifiers "
        "with it were a little more accurate in its ablations than with Leaky ReLU; changes of "
        "training such as CutMix, Mosaic and label smoothing came with it. The price is time: "
        "an exponential, a logarithm and a tanh (or one exponential and a division after "
        "rewriting), and more memory for the backward pass. Later YOLO versions went back to "
        "SiLU or Leaky ReLU. On small networks the difference from ReLU and SiLU is "
        "about the size of the noise of the seed.",
        "Mish 是 x tanh(softplus(x)) = x tanh(log(1 + e^x))（Misra，2019）：光滑、非单调、上无界、下有界，"
        "最小值 -0.3088 在 x = -1.1924 处。它与 SiLU 接近（最小值 -0.2785，在 -1.2785 处）；导数在趋于 1 之前略超过 1。"
        "YOLOv4（2020）在骨干网络中采用它，因为在其消融实验中，用它的 ImageNet 分类器比用 Leaky ReLU 略准，"
        "同时还引入了 CutMix、Mosaic、标签平滑等训练方法。代价是时间：一次指数、一次对数、一次 tanh"
        "（改写后为一次指数与一次除法），反向传播还要更多显存。后来的 YOLO 版本又回到 SiLU 或 Leaky ReLU。"
        "在小网络上，它与 ReLU、SiLU 的差别大约与随机种子的波动相当。",
    ),
    flips=T(
        "Where every millisecond or 8-bit arithmetic counts, ReLU's cheap exactness is worth "
        "more than Mish's small gain.",
        "当每毫秒或 8 位量化都要计较时，ReLU 的廉价与精确比 Mish 的微小收益更有价值。",
    ),
    analogy=T(
        "A door closer with a soft stop: it gives a little past closed before it rests.",
        "带缓冲的闭门器：关过头一点点再停住。",
    ),
    generative=T(
        "Language models skipped Mish: GELU was there before it, SwiGLU came after.",
        "语言模型跳过了 Mish：之前有 GELU，之后有 SwiGLU。",
    ),
    classical=T(
        "In small networks on tables try it only after the step size and the width are tuned.",
        "在小型表格网络中，先调好学习率与宽度再考虑换成它。",
    ),
    driving=T(
        "Detectors on the vehicle often replace Mish by ReLU or hard Swish before quantization.",
        "车端检测器在量化前常把 Mish 换成 ReLU 或 hard-swish。",
    ),
    change=T(
        "Time it in another engine: the factor over ReLU changes, for it measures how cheap "
        "ReLU is there as much as how dear Mish is.",
        "换一个引擎计时：相对 ReLU 的倍数会变，因为它既反映 Mish 有多贵，也反映 ReLU 在那里有多便宜。",
    ),
    alone=True,
)

KINDS = {"relu": "ReLU", "leaky_relu": "Leaky ReLU", "silu": "SiLU", "mish": "Mish"}


@question.figure(T("Mish, its slope, and its neighbours", "Mish、它的导数与相近函数"))
def shape(lab: Lab) -> Figure:
    """Values of three activations and the slope of Mish, by automatic differentiation."""
    x = np.linspace(-5.0, 3.0, 161)
    place, least = lowest(lambda at: value(activations.mish, at), -3.0, 0.0)
    closed = SHAPES["mish"]
    return Figure(
        Axis(T("x", "x")),
        Axis(T("value, slope", "函数值、导数")),
        [
            Line(T("Mish", "Mish"), x, value(activations.mish, x)),
            Line(T("SiLU", "SiLU"), x, value(activations.silu, x)),
            Line(T("ReLU", "ReLU"), x, value(activations.relu, x)),
            Line(T("slope of Mish", "Mish 的导数"), x, derivative(activations.mish, x)),
        ],
        T(
            "Mish dips a little deeper than SiLU and climbs a little sooner; its slope is "
            "negative left of the minimum and slightly above 1 from about 0.8 on.",
            "Mish 比 SiLU 下探略深、上升略早；导数在最小值左侧为负，约从 0.8 起略大于 1。",
        ),
        {
            "minimum": least,
            "place of the minimum": place,
            "largest slope": float(derivative(activations.mish, np.linspace(0, 4, 4001)).max()),
            "value, distance from the closed form": float(
                np.abs(value(activations.mish, x) - closed.value(x)).max()
            ),
            "slope, distance from the closed form": float(
                np.abs(derivative(activations.mish, x) - closed.slope(x)).max()
            ),
        },
    )


def small_cnn(kind: str) -> Any:
    """Two convolutions of 8 and 16 maps with a pooling after each, on 8 x 8 pictures."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), make_activation(kind), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), make_activation(kind), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


@once
def accuracies(lab: Lab, kind: str) -> Any:
    """Test accuracy on digits of small convolutional networks, one a seed."""
    data, rows = digits(), lab.pick(1258, 200)
    spec = {
        "model": lambda: small_cnn(kind), "epochs": lab.pick(10, 2), "batch_size": 64, "lr": 5e-3,
    }  # fmt: skip
    fleet = fathom.train_many(
        spec, data.x[:rows].reshape(-1, 1, 8, 8), data.y[:rows], seeds=lab.seeds(12, 3)
    )
    return fleet.evaluate(data.test_x.reshape(-1, 1, 8, 8), data.test_y)["accuracy"]


@question.figure(T("A small CNN on digits", "数字上的小型 CNN"))
def networks(lab: Lab) -> Figure:
    """Test error after the same training; the same start and order of rows for every seed."""
    error = {kind: 100.0 * (1.0 - accuracies(lab, kind)) for kind in KINDS}
    at = [Sample(e) for e in error.values()]
    gain = Sample(error["relu"] - error["mish"])
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in KINDS.values()]),
        Axis(T("test error, %", "测试错误率 (%)")),
        [
            Bars(T("digits", "数字"), *band(at)),
            Level(T("ReLU", "ReLU"), y=at[0].mean),
        ],
        T(
            "The four differ by less than the 95 % intervals over seeds: on this task the choice "
            "does not show.",
            "四者的差别小于各种子的 95 % 区间：在这个任务上看不出选择的影响。",
        ),
        {"Mish's gain over ReLU, %": gain.mean, "low": gain.low, "high": gain.high},
    )  # fmt: skip


@question.figure(T("What it costs", "它要花多少时间"))
def cost(lab: Lab) -> Figure:
    """Time of one pass over 262,144 float32 numbers, over ReLU's in the same engine and round."""
    x = lab.rng("x").standard_normal(1 << 18).astype(np.float32)
    engines = {T("NumPy", "NumPy"): in_numpy, T("Fathom, compiled", "Fathom 编译"): in_fathom}
    bars = []
    for name, make in engines.items():
        times = rounds_of({k: make(k, x) for k in KINDS}, shortest, lab.pick(15, 3))
        at = [Sample(times[k] / times["relu"]) for k in KINDS]
        bars.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in KINDS.values()]),
        Axis(T("time / ReLU's", "时间 / ReLU 的时间"), log=True),
        [*bars, Level(T("ReLU", "ReLU"), y=1.0)],
        T(
            "Mish takes several times as long as ReLU and longer than SiLU in either engine. The "
            "factor depends on the engine, for it measures how cheap ReLU is there as well.",
            "在两种引擎中 Mish 的时间都是 ReLU 的数倍，也比 SiLU 长。倍数取决于引擎，因为它也反映 ReLU 在那里有多便宜。",
        ),
    )
