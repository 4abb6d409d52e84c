"""2.2.2 How forward propagation is computed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Question, Sample, T,
    at_most, equals, once,
)  # fmt: skip
from fathom.book.material.speed import seconds
from fathom.nn import Linear, ReLU, Sequential

question = Question(
    "2.2.2",
    title=T("How is forward propagation computed?", "前向传播是如何计算的？"),
    difficulty=3,
    frequency=4,
    topics=("forward pass", "matmul", "latency", "前向传播", "矩阵乘法", "时延"),
    answer=T(
        "Layer by layer: z_l = W_l a_(l-1) + b_l and a_l = f(z_l), beginning with a_0 = x. For m "
        "inputs and n units W is n x m, so each row of W holds the weights of one unit and z has n "
        "entries. For a batch, samples are rows: Z = A Wᵀ + b, one matrix product with the bias "
        "added to every row. It is the same sum as three nested loops, but a matrix product uses "
        "cache and vector units and is faster by orders of magnitude. The cost is about two "
        "operations for each weight and sample. In training the activations are kept for the "
        "backward pass; in inference they are not, which saves most of the memory.",
        "逐层进行：z_l = W_l a_(l-1) + b_l，a_l = f(z_l)，从 a_0 = x 开始。m 个输入、n 个单元时 W 为 "
        "n x m，W 的每一行是一个单元的权重，z 有 n 个分量。对一个批次，样本按行排列：Z = A Wᵀ + b，"
        "一次矩阵乘法，再把偏置加到每一行。它与三重循环是同一个和，但矩阵乘法能利用缓存与向量单元，"
        "快几个数量级。代价约为每个权重、每个样本两次运算。训练时要保留激活供反向传播使用；推理时不保留，"
        "可省下大部分内存。",
    ),
    flips=T(
        "For a single sample the product is matrix times vector: memory traffic, not arithmetic, "
        "sets the pace.",
        "只有一个样本时是矩阵乘向量：决定速度的是内存带宽而不是运算量。",
    ),
    analogy=T(
        "A relay: each runner takes the baton, changes it, and hands it on; nobody runs back.",
        "像接力：每一棒接过、改造、再传下去，没有人往回跑。",
    ),
    generative=T(
        "Every generated token is one forward pass; caching keys and values spares the old ones.",
        "每生成一个词元就是一次前向传播；缓存键值可免去重复计算旧词元。",
    ),
    classical=T(
        "Scoring a tabular model is a few matrix products: microseconds a row.",
        "给表格模型打分只是几次矩阵乘法：每行仅微秒级。",
    ),
    driving=T(
        "At 30 images a second one forward pass must fit into 33 ms, with all else that has to run.",
        "每秒 30 帧时，一次前向传播连同其他任务必须在 33 毫秒内完成。",
    ),
    change=T(
        "Use a batch of one and narrow layers: the advantage of matrix products shrinks.",
        "把批大小设为 1、层变窄：矩阵乘法的优势缩小。",
    ),
    alone=True,
)

SIZES = (7, 11, 5, 3)


def drawn(lab: Lab, sizes: tuple[int, ...], rows: int) -> tuple[list[Any], list[Any], Any]:
    """Weights (out, in), biases and inputs."""
    rng = lab.rng(f"net {sizes} {rows}")
    pairs = list(itertools.pairwise(sizes))
    w = [rng.standard_normal((o, i)) / np.sqrt(i) for i, o in pairs]
    return w, [rng.standard_normal(o) for _, o in pairs], rng.standard_normal((rows, sizes[0]))


def by_loops(weights: list[Any], biases: list[Any], x: Any) -> list[list[float]]:
    """Three nested loops a layer; ReLU behind every layer."""
    found = []
    for sample in x.tolist():
        a = sample
        for w, b in zip(weights, biases, strict=True):
            z = []
            for row, shift in zip(w.tolist(), b.tolist(), strict=True):
                total = shift
                for weight, value in zip(row, a, strict=True):
                    total += weight * value
                z.append(total)
            a = [max(v, 0.0) for v in z]
        found.append(a)
    return found


def by_matrices(weights: list[Any], biases: list[Any], x: Any) -> Any:
    """NumPy, samples as rows."""
    a = x
    for w, b in zip(weights, biases, strict=True):
        a = np.maximum(a @ w.T + b, 0.0)
    return a


def by_layers(weights: list[Any], biases: list[Any]) -> Sequential:
    """The library's layers with these weights."""
    net = Sequential()
    for w, b in zip(weights, biases, strict=True):
        layer = Linear(w.shape[1], w.shape[0]).to(w.dtype)
        layer.weight.data[...] = w
        layer.bias.data[...] = b
        net.append(layer)
        net.append(ReLU())
    return net


@question.exact(
    "C2.2.2-01",
    T(
        "z_l = W_l a_(l-1) + b_l, with W_l of n rows (units) and m columns (inputs).",
        "z_l = W_l a_(l-1) + b_l，其中 W_l 有 n 行（单元）、m 列（输入）。",
    ),
    at_most(1e-12),
    weight=2,
)
def recurrence(lab: Lab) -> Evidence:
    """Largest difference of loops, matrices and layers on the same weights, 32 rows; and shapes."""
    w, b, x = drawn(lab, SIZES, 32)
    loops, matrices, net = np.array(by_loops(w, b, x)), by_matrices(w, b, x), by_layers(w, b)
    layers = net(fathom.tensor(x)).value()
    wrong = sum(net[2 * k].weight.shape != (SIZES[k + 1], SIZES[k]) for k in range(len(SIZES) - 1))
    return All({
        "loops and matrices": float(np.abs(loops - matrices).max()),
        "loops and layers": float(np.abs(loops - layers).max()),
        "wrong shapes": Check(wrong, equals(0)),
    })  # fmt: skip


@question.unmeasurable(
    "C2.2.2-02",
    T("On board a forward pass must take less than 30 ms.", "车载前向推理的时延必须低于 30 毫秒。"),
)
def on_board(lab: Lab) -> Evidence:
    """A requirement, not a fact to measure; what 30 ms mean on the road, for comparison."""
    return NotMeasurable(
        T(
            "the vehicle's requirements: sensors' rates, speed, braking distance, and its computer",
            "需要具体车辆的要求：传感器帧率、车速、制动距离，以及车载计算平台",
        ),
        {
            "ms between images at 30 a second": 1000 / 30,
            "metres driven in 30 ms at 120 km/h": 120 / 3.6 * 0.03,
        },
    )


# -- figures -------------------------------------------------------------------------------------


@once
def times(lab: Lab) -> dict[str, list[float]]:
    """Milliseconds of a forward pass of 64 rows through three layers, shortest of several runs."""
    found: dict[str, list[float]] = {"loops": [], "matrices": [], "layers": []}
    for width in lab.pick((16, 32, 64, 128, 256), (16, 32, 64)):
        w, b, x = drawn(lab, (width,) * 4, 64)
        net, rows = by_layers(w, b), fathom.tensor(x)

        def layers(net: Any = net, rows: Any = rows) -> Any:
            with fathom.no_grad():
                return net(rows).value()

        runs: dict[str, Callable[[], Any]] = {
            "loops": lambda w=w, b=b, x=x: by_loops(w, b, x),  # type: ignore[misc]
            "matrices": lambda w=w, b=b, x=x: by_matrices(w, b, x),  # type: ignore[misc]
            "layers": layers,
        }
        for name, run in runs.items():
            found[name].append(1000 * seconds(run, 2 if name == "loops" else 20))
    return found


@question.figure(T("Time of loops, matrices and layers", "循环、矩阵与层的耗时"))
def speed(lab: Lab) -> Figure:
    """The same forward pass computed in three ways, by width."""
    found = times(lab)
    widths = [16, 32, 64, 128, 256][: len(found["loops"])]
    names = {
        "loops": T("Python loops", "Python 循环"),
        "matrices": T("NumPy products", "NumPy 矩阵乘法"),
        "layers": T("Fathom's layers", "Fathom 的层"),
    }
    return Figure(
        Axis(T("width", "宽度"), log=True),
        Axis(T("milliseconds for 64 rows", "64 行耗时（毫秒）"), log=True),
        [Line(name, widths, found[key], points=False) for key, name in names.items()],
        T(
            "The numbers are the same, the time is not: matrix products are faster than loops by "
            "two orders of magnitude and more, the wider the layers.",
            "数值相同，耗时不同：矩阵乘法比循环快两个数量级以上，层越宽差距越大。",
        ),
        {"loops / matrices at the widest": found["loops"][-1] / found["matrices"][-1]},
    )


@question.figure(T("Rounding through depth", "舍入误差随深度的变化"))
def rounding(lab: Lab) -> Figure:
    """Relative error of float32 and of eight-bit-mantissa (bfloat16) activations against float64."""
    depths = list(range(1, 41))
    single, half = [], []
    for seed in lab.seeds(10, 4):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((64, 64))
        exact, a, c = x, x.astype(np.float32), x.astype(np.float32)
        errors: list[tuple[float, float]] = []
        for _ in depths:
            w = rng.standard_normal((64, 64)) * np.sqrt(2 / 64)
            exact = np.maximum(exact @ w, 0)
            a = np.maximum(a @ w.astype(np.float32), 0)
            c = bfloat16(np.maximum(c @ w.astype(np.float32), 0))
            size = np.linalg.norm(exact)
            errors.append(
                (float(np.linalg.norm(a - exact) / size), float(np.linalg.norm(c - exact) / size))
            )
        single.append([e for e, _ in errors])
        half.append([e for _, e in errors])
    lines = []
    for name, values in (
        (T("float32", "单精度 float32"), single),
        (T("bfloat16", "半精度 bfloat16"), half),
    ):
        at = [Sample(column) for column in np.log10(values).T]
        middle, low, high = (
            10 ** np.array([getattr(s, part) for s in at]) for part in ("mean", "low", "high")
        )
        lines.append(Line(name, depths, middle, low, high))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("relative error", "相对误差"), log=True),
        [*lines, Level(T("1 %", "1 % 误差"), y=0.01)],
        T(
            "Rounding adds up slowly with depth: float32 stays near a millionth, activations cut to "
            "bfloat16 err by about a percent.",
            "舍入误差随深度缓慢累积：float32 保持在百万分之一左右，激活截成 bfloat16 时约为百分之一。",
        ),
    )  # fmt: skip


def bfloat16(x: Any) -> Any:
    """Float32 rounded to a mantissa of 8 bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)
