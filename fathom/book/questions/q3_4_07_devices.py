"""3.4.7 Activations on devices: what INT8 costs, by table, by polynomial and piecewise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import activations, nn
from fathom.book import Axis, Bars, Figure, Lab, Question, Sample, T, band, once
from fathom.book.material.data import accuracy, digits
from fathom.book.material.smooth_gates import SHAPES
from fathom.models.mlp import make_activation
from fathom.train.quantize import Lookup, quantize

question = Question(
    "3.4.7",
    title=T(
        "How do activations affect mobile or embedded deployment?",
        "激活函数如何影响移动端与嵌入式部署？",
    ),
    difficulty=3,
    frequency=3,
    topics=("quantization", "int8", "hard-swish", "lookup table", "量化", "端侧部署", "查找表"),
    answer=T(
        "On integer hardware an activation must be cheap on codes of 8 bits and must not waste them. "
        "ReLU is a maximum with the zero point and fuses into the layer before it at no cost; ReLU6 "
        "adds a minimum and fixes the range to 0 to 6, so the grid needs no calibration. Hard-swish "
        "is Swish made of clip and product, seven integer operations. Any other function of one "
        "number is a table of 256 bytes, exact to half a step of the output grid, where the machine "
        "has a fast gather; without one a polynomial such as I-BERT's for GELU takes about a dozen "
        "integer operations. With well calibrated ranges "
        "the choice hardly touches accuracy (on digits no kind loses measurably); with an outlier "
        "among the calibration rows all lose, ReLU6 least, for its range is fixed. Gates and softmax "
        "are the hard part, for products and sums need more than 8 bits.",
        "在整数硬件上，激活函数要在 8 位编码上便宜，还不能浪费编码。ReLU 就是与零点取最大值，可与前一层融"
        "合，不增加成本；ReLU6 再加一次取最小值，把范围固定在 0 到 6，网格无需校准。hard-swish 是用截断和"
        "乘积构成的 Swish，需七次整数运算。其他任何一元函数都是一张 256 字节的表，误差不超过输出网格的半步，"
        "前提是机器能快速查表；否则可用多项式，如 I-BERT 的 GELU，约需十几次整数运算。校准得当时，"
        "选择几乎不影响准确率（在 digits 上没有一种有可测的损失）；校准数据里有离群值时都会掉点，ReLU6 掉得最"
        "少，因为它的范围固定。真正困难的是门控和 softmax，因为"
        "乘积与求和需要超过 8 位。",
    ),
    flips=T(
        "With float16 units, as on phone GPUs and most accelerators now, the choice hardly matters: "
        "memory traffic, not the function, costs the time.",
        "若有 float16 单元（如今的手机 GPU 和多数加速器），选择几乎无所谓：耗时的是访存而不是函数。",
    ),
    analogy=T(
        "With a ruler marked in whole centimetres, draw shapes made of straight lines, or keep a "
        "ready-made stencil for the curves.",
        "只有整厘米刻度的尺子时，要么画由直线构成的图形，要么备一块现成的曲线板。",
    ),
    generative=T(
        "On-device language models keep weights at 4 to 8 bits and the SiLU of the gate in 16: it "
        "is a small share of the time.",
        "端侧语言模型的权重用 4 到 8 位，门控里的 SiLU 用 16 位：它只占很小一部分时间。",
    ),
    classical=T(
        "MobileNetV2 took ReLU6 and MobileNetV3 hard-swish (in its later layers) for this reason.",
        "MobileNetV2 选 ReLU6、MobileNetV3（在靠后的层）选 hard-swish，正是出于这个原因。",
    ),
    driving=T(
        "Perception on vehicle chips runs in INT8; convolution and ReLU fused into one operation "
        "keep its latency predictable.",
        "车载芯片上的感知以 INT8 运行；卷积与 ReLU 融合为一个算子，使延迟可预测。",
    ),
    change=T(
        "Calibrate with one outlier thirty times as large: the steps grow accordingly and every "
        "activation loses accuracy, ReLU6 least.",
        "在校准数据里加入一个大三十倍的离群值：步长随之增大，所有激活都会掉点，ReLU6 最少。",
    ),
)

SCALE = 8.0 / 127.0  # of the codes in and out, zero point 0
SHIFT = 24


class Whole:
    """Integers that count what is done with them."""

    def __init__(self, values: Any) -> None:
        self.values, self.done = np.asarray(values, np.int64), 0

    def __call__(self, function: Callable[..., Any], *others: Any) -> Whole:
        """Replace the values by function(values, *others): one operation."""
        self.values = function(self.values, *others)
        self.done += 1
        return self

    def scaled(self, factor: float) -> Whole:
        """Times a real factor below 1, in fixed point: product, rounding, shift."""
        multiplier = round(factor * 2**SHIFT)
        self(np.multiply, multiplier)(np.add, 2 ** (SHIFT - 1))
        return self(np.right_shift, SHIFT)


def relu(q: Whole) -> Whole:
    """max(q, 0)."""
    return q(np.maximum, 0)


def relu6(q: Whole) -> Whole:
    """min(max(q, 0), 6)."""
    return q(np.maximum, 0)(np.minimum, round(6.0 / SCALE))


def hard_swish(q: Whole) -> Whole:
    """x clip(x + 3, 0, 6) / 6."""
    x = q.values
    q(np.add, round(3.0 / SCALE))(np.maximum, 0)(np.minimum, round(6.0 / SCALE))
    return q(np.multiply, x).scaled(SCALE / 6.0)


def gelu_table(q: Whole) -> Whole:
    """A table of 256 codes: an offset and a load."""
    table = np.rint(SHAPES["gelu"].value(np.arange(-128, 128) * SCALE) / SCALE).astype(np.int64)
    return q(np.add, 128)(lambda index: table[index])


def gelu_polynomial(q: Whole) -> Whole:
    """I-BERT's: erf by a parabola on the clipped |x| / sqrt(2), in whole numbers."""
    x, unit = q.values, 0.2888 * SCALE**2 / 2.0  # of the parabola
    one, sign = round(1.0 / unit), np.sign(x)
    q(np.abs)(np.minimum, round(1.769 * math.sqrt(2.0) / SCALE))
    q(np.subtract, round(1.769 * math.sqrt(2.0) / SCALE))(np.square)
    q(lambda p: one - p)(np.multiply, sign)(np.add, one)(np.multiply, x)
    q.done += 1  # the sign
    return q.scaled(unit / 2.0)


PROGRAMS = {
    "ReLU": (relu, activations.relu), "ReLU6": (relu6, activations.relu6),
    "hard-swish": (hard_swish, activations.hard_swish),
    "GELU, table": (gelu_table, activations.gelu),
    "GELU, polynomial": (gelu_polynomial, activations.gelu),
}  # fmt: skip


def parabola(x: Any) -> Any:
    """I-BERT's GELU in real numbers (Kim et al., 2021)."""
    z = np.minimum(np.abs(x) / math.sqrt(2.0), 1.769)
    return 0.5 * x * (1.0 + np.sign(x) * (1.0 - 0.2888 * (z - 1.769) ** 2))


@question.figure(T("Operations and error of integer activations", "整数激活的运算次数与误差"))
def operations(lab: Lab) -> Figure:
    """Each program is run on all 256 codes of a grid over -8 to 8 with integers that count; the
    numbers below are the largest error in steps of the grid against the real function."""
    codes, done, errors = np.arange(-128, 128), [], []
    for program, function in PROGRAMS.values():
        found = program(Whole(codes))
        exact = function(fathom.tensor(codes * SCALE)).value() / SCALE
        done.append(found.done)
        errors.append(float(np.abs(found.values - exact).max()))
    words = ("ReLU", "ReLU6", "hard-swish", "GELU 查表", "GELU 多项式")
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[
            T(en, zh) for en, zh in zip(PROGRAMS, words, strict=True)
        ]),
        Axis(T("count, or steps of the grid", "次数，或网格步数")),
        [
            Bars(T("integer operations a number", "每个数的整数运算次数"), done),
            Bars(T("largest error, steps", "最大误差（步）"), errors),
        ],
        T(
            "ReLU costs one operation and no error; hard-swish seven. GELU takes two with a table "
            "of 256 bytes, which is right to half a step, or a dozen as a polynomial without one.",
            "ReLU 只需一次运算且无误差；hard-swish 需七次。GELU 用 256 字节的表只需两次，误差不超过半"
            "步；不用表而用多项式则需十几次。",
        ),
        {f"error of {name}, steps": e for name, e in zip(PROGRAMS, errors, strict=True)},
    )  # fmt: skip


KINDS = ("relu", "relu6", "leaky_relu", "hard_swish", "silu", "gelu", "gelu, polynomial")


@once
def trained(lab: Lab, kind: str) -> list[Any]:
    """Networks 64-32-32-10 on digits."""
    data = digits()

    def make() -> nn.Sequential:
        first, second = make_activation(kind), make_activation(kind)
        return nn.Sequential(nn.Linear(64, 32), first, nn.Linear(32, 32), second, nn.Linear(32, 10))

    spec = {"model": make, "lr": 0.003, "epochs": lab.pick(12, 3)}
    return [
        run.model for run in fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(12, 3)).runs
    ]


def by_polynomial(small: Any) -> Any:
    """The quantized network with the parabola's values in its tables of GELU."""
    for i, layer in enumerate(small.layers):
        if isinstance(layer, Lookup):
            values = parabola(layer.grid_in.dequantize(np.arange(-128, 128)))
            table = layer.grid_out.quantize(values)
            small.layers[i] = Lookup(table, layer.grid_in, layer.grid_out, layer.name)
    return small


@once
def lost(lab: Lab, kind: str, outlier: float) -> Sample:
    """Test accuracy in float less that in INT8, in points, one a seed; the calibration rows may
    hold one row `outlier` times as large."""
    data, name = digits(), kind.split(",")[0]
    rows = data.x[:400].copy()
    rows[0] *= outlier
    found = []
    for model in trained(lab, name):
        small = quantize(model, rows)
        small = by_polynomial(small) if kind != name else small
        said = small.predict(data.test_x).argmax(axis=1)
        found.append(
            accuracy(model, data.test_x, data.test_y) - float((said == data.test_y).mean())
        )
    return Sample(100.0 * np.array(found))


@question.figure(T("Accuracy lost by INT8", "INT8 损失的准确率"))
def drop(lab: Lab) -> Figure:
    """Digits, twelve networks a kind: points of test accuracy lost when weights and activations
    go to INT8, calibrated on 400 digits, and with one of them 30 times as bright."""
    kinds = lab.pick(KINDS, ("relu", "gelu", "gelu, polynomial"))
    plans = (
        (1.0, T("clean calibration", "正常校准")), (30.0, T("one outlier", "含一个离群值")),
    )  # fmt: skip
    marks = []
    for outlier, name in plans:
        at = [lost(lab, kind, outlier) for kind in kinds]
        marks.append(Bars(name, *band(at)))
    model = trained(lab, "relu")[0]
    small = quantize(model, digits().x[:400])
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[
            T(k, k.replace("polynomial", "多项式").replace(", ", " ")) for k in kinds
        ]),
        Axis(T("accuracy lost, points", "损失的准确率（百分点）")),
        marks,
        T(
            "Calibrated on clean data no activation loses measurably, GELU by table as by "
            "polynomial; one bright outlier costs four to six points, and under one with ReLU6, "
            "whose range is bounded.",
            "用正常数据校准时，没有一种激活有可测的损失，GELU 查表与多项式相同；一个离群值会带来四到六个百"
            "分点的损失，而范围有界的 ReLU6 不到一个百分点。",
        ),
        {"bytes of the network, INT8 over float32": small.nbytes / small.floats},
    )  # fmt: skip
