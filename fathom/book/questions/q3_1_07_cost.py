"""3.1.7 What activations cost where a network runs."""

from __future__ import annotations

from math import erf, sqrt
from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Question, Region,
    Routes, Sample, Settings, T, at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.activation_cost import ENGINES, SIZES, Costs, costs, shown
from fathom.book.material.calculus import value
from fathom.book.material.speed import CLOCKS, Ratio, Task, about, rounds_of, shortest
from fathom.train.quantize import Affine, lookup_table

question = Question(
    "3.1.7",
    title=T(
        "What do activations cost in deployment, and when does it matter?",
        "部署时激活函数的计算开销有多大？何时重要？",
    ),
    difficulty=3,
    frequency=3,
    topics=("benchmark", "quantization", "deployment", "int8", "激活开销", "量化", "部署"),
    alone=True,
    answer=T(
        "Less than the tables say, and not in their order. An activation costs what its code "
        "costs: whether it is fused with its neighbours, vectorized, and limited by memory or by "
        "arithmetic. On one machine the same tanh takes 25 times ReLU in one library, 3 times in "
        "another and as long as ReLU in a third, all of it less for a thousand numbers than for a "
        "million; the tanh form of GELU is quicker than the exact one in some and slower in "
        "others. In a feed-forward block of width 512 on a processor core two matrix products "
        "dwarf it: GELU takes a few percent with decent code, so replacing it cannot speed the "
        "block up by more. On an accelerator, where products are quick and memory is not, GELU as "
        "a kernel of its own takes 28 % of that block by the roofline of an A100, and 5 % at width "
        "4096. It matters where products are cheap: small widths, depthwise "
        "convolutions, int8 chips that have ReLU in hardware. ReLU is exact on any int8 grid; "
        "Leaky ReLU's negative side collapses to two codes on the same grid; GELU needs a table of "
        "256 entries, right to half a step.",
        "比表格说的少，排序也不同。激活的开销就是它那段代码的开销：是否与前后算子融合、是否向量化、"
        "受限于内存还是运算。同一台机器上，同样的 tanh 在一个库里是 ReLU 的 25 倍，在另一个库里是 "
        "3 倍，在第三个库里与 ReLU 相当，而且一千个数时的倍数比一百万个数时小；tanh 近似的 GELU 在有的库里比精确版快，在有的库里更慢。宽"
        "度 512 的前馈块在处理器单核上，两次矩阵乘法远大于激活：代码得当时 GELU 只占百分之几，替换它"
        "带来的加速也不会更多。加速器上乘法快而内存慢：按 A100 的屋顶线模型，单独成核的 GELU 占该前馈"
        "块的 28%，宽度 4096 时占 5%。乘法便宜时它才重要：小宽度、深度可分离卷积、只有 ReLU 硬件单元的 int8 芯片。"
        "ReLU 在任何 int8 网格上都精确；Leaky ReLU 的负半边在同一网格上塌缩为两个码；GELU 需要 256 "
        "项的表，误差不超过半步。",
    ),
    flips=T(
        "If the matrix products are small or run on an accelerator, the activation's share grows: "
        "by Amdahl's law it is what is left.",
        "如果矩阵乘法很小或由加速器完成，激活的占比就上升：按阿姆达尔定律，剩下的就是它。",
    ),
    analogy=T(
        "Arguing about the price of stamps when sending a piano.",
        "寄一架钢琴，却在计较邮票的价钱。",
    ),
    generative=T(
        "In large language models SwiGLU's third matrix costs far more than its Swish.",
        "在大语言模型中，SwiGLU 的第三个矩阵比 Swish 本身贵得多。",
    ),
    classical=T(
        "Trees and linear models have no activation to pay for; for a logistic regression one "
        "sigmoid a row is nothing.",
        "树模型和线性模型没有激活开销；逻辑回归每行一个 sigmoid 可以忽略。",
    ),
    driving=T(
        "On a car's chip the question is not how quick GELU is but whether the compiler supports "
        "it in int8 at all.",
        "在车载芯片上，问题不是 GELU 快不快，而是编译器是否支持它的 int8 版本。",
    ),
    change=T(
        "Let the width fall from 512 to 64: the activation's share of the block rises several "
        "times.",
        "把宽度从 512 降到 64：激活在前馈块中的占比升高数倍。",
    ),
)

SHOWN = {"relu": "ReLU", "leaky_relu": "Leaky ReLU", "sigmoid": "sigmoid", "tanh": "tanh",
         "elu": "ELU", "gelu": "GELU", "gelu_tanh": "GELU, tanh form", "silu": "Swish"}  # fmt: skip


@once
def timed(lab: Lab) -> Costs:
    """Times of the activations in three engines."""
    sizes = lab.pick([*SIZES], ["1k", "1M"])
    return costs(lab.rng("cost"), lab.pick(5, 3), lab.pick(3, 1), sizes=sizes)


SAID = {  # times ReLU's, as printed
    "leaky_relu": (1.1, 1.1), "sigmoid": (5.0, 10.0), "tanh": (5.0, 10.0), "gelu": (15.0, 20.0),
    "gelu_tanh": (8.0, 12.0), "silu": (6.0, 10.0),
}  # fmt: skip
TIMED = (  # one over another: claim, slow, fast, region, weight
    ("C3.1.7-01", "leaky_relu", "relu", about(*SAID["leaky_relu"]), 1,
     T("Leaky ReLU costs 1.1 times ReLU.", "Leaky ReLU 的开销是 ReLU 的 1.1 倍。")),
    ("C3.1.7-02", "sigmoid", "relu", about(*SAID["sigmoid"]), 1,
     T("Sigmoid costs 5 to 10 times ReLU.", "sigmoid 的开销是 ReLU 的 5 到 10 倍。")),
    ("C3.1.7-03", "tanh", "relu", about(*SAID["tanh"]), 1,
     T("Tanh costs 5 to 10 times ReLU.", "tanh 的开销是 ReLU 的 5 到 10 倍。")),
    ("C3.1.7-04", "gelu", "relu", about(*SAID["gelu"]), 2,
     T("Exact GELU costs 15 to 20 times ReLU.", "精确 GELU 的开销是 ReLU 的 15 到 20 倍。")),
    ("C3.1.7-05", "gelu", "gelu_tanh", at_least(1.05), 3,
     T("The tanh form of GELU is quicker than the exact one.", "近似 GELU 比精确 GELU 快。")),
    ("C3.1.7-06", "gelu_tanh", "relu", about(*SAID["gelu_tanh"]), 1,
     T("The tanh form of GELU costs 8 to 12 times ReLU.", "tanh 近似 GELU 的开销是 ReLU 的 8 到 12 倍。")),
    ("C3.1.7-07", "silu", "relu", about(*SAID["silu"]), 1,
     T("Swish costs 6 to 10 times ReLU.", "Swish 的开销是 ReLU 的 6 到 10 倍。")),
)  # fmt: skip


MEASURED = T(
    "The ratio of times measured here, at a thousand and at a million numbers: "
    "{n[PyTorch, 1k/quickest run]:.2f} and {n[PyTorch, 1M/quickest run]:.2f} in PyTorch, "
    "{n[Fathom, compiled, 1k/quickest run]:.2f} and "
    "{n[Fathom, compiled, 1M/quickest run]:.2f} in compiled Fathom, "
    "{n[NumPy, 1k/quickest run]:.2f} and {n[NumPy, 1M/quickest run]:.2f} in NumPy and "
    "SciPy; for float64 numbers in PyTorch {n[PyTorch, float64, 1k/quickest run]:.2f} and "
    "{n[PyTorch, float64, 1M/quickest run]:.2f}.",
    "本机实测的耗时比（一千个数与一百万个数）：PyTorch {n[PyTorch, 1k/quickest run]:.2f} 与 "
    "{n[PyTorch, 1M/quickest run]:.2f}，Fathom 编译后 "
    "{n[Fathom, compiled, 1k/quickest run]:.2f} 与 "
    "{n[Fathom, compiled, 1M/quickest run]:.2f}，NumPy 与 SciPy "
    "{n[NumPy, 1k/quickest run]:.2f} 与 {n[NumPy, 1M/quickest run]:.2f}；PyTorch 中 float64 "
    "为 {n[PyTorch, float64, 1k/quickest run]:.2f} 与 "
    "{n[PyTorch, float64, 1M/quickest run]:.2f}。",
)


def claim_of_times(id: str, slow: str, fast: str, region: Region, weight: int, text: T) -> None:
    """A claim on how many times as long as another an activation takes."""

    @question.experiment(
        id, text, region, weight=weight, needs=("torch", "scipy"), correction=MEASURED
    )
    def measure(lab: Lab) -> Evidence:
        """1,024 to a million normal float32 numbers, in PyTorch float64 too, one thread: time over
        the other's in the same engine, by the quickest run and by processor time. A ratio of times
        carries to other machines to a fifth of itself at best: a printed range is taken a fifth
        wider at either end, and "quicker" is by a twentieth. A setting must clear each edge by a
        tenth.
        """
        return timed(lab).ratios(slow, fast)


for row in TIMED:
    claim_of_times(*row)


@question.exact(
    "C3.1.7-08",
    T("GELU(x) = x P(X <= x) = x Phi(x).", "GELU(x) = x P(X <= x) = x Phi(x)。"),
    at_most(1e-9),
)
def gelu_is(lab: Lab) -> Evidence:
    """Largest difference on [-6, 6] of the library's GELU from x times the normal distribution: by
    C's error function, and by integrating the density."""
    x = np.linspace(-6.0, 6.0, 241)
    ours = value(activations.gelu, x)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    middle = (x + 12.0) / 2  # the density from -12 to x
    points = middle[:, None] * (nodes + 1.0) - 12.0
    area = middle * (np.exp(-(points**2) / 2) @ weights) / np.sqrt(2 * np.pi)
    by_erf = np.array([0.5 * (1.0 + erf(v / sqrt(2))) for v in x])
    return Routes({
        "error function": float(np.abs(ours - x * by_erf).max()),
        "integral": float(np.abs(ours - x * area).max()),
    })  # fmt: skip


def feed_forward(engine: str, width: int, rng: np.random.Generator) -> dict[str, Task]:
    """A block of that width for 512 tokens and the GELU in it, as things to time."""
    x = rng.standard_normal((512, width)).astype(np.float32)
    w1, w2 = (
        (rng.standard_normal(s) / np.sqrt(s[0])).astype(np.float32)
        for s in ((width, 4 * width), (4 * width, width))
    )  # fmt: skip
    h = x @ w1
    bend = ENGINES[engine]("gelu", h)
    if engine == "NumPy":
        return {"block": lambda: (x @ w1, bend(), h @ w2), "activation": bend}
    if engine == "PyTorch":
        import torch

        tx, t1, t2 = (torch.from_numpy(a) for a in (x, w1, w2))
        block = torch.no_grad()(lambda: torch.nn.functional.gelu(tx @ t1) @ t2)
    else:
        fx, f1, f2 = (fathom.tensor(a) for a in (x, w1, w2))
        whole = fathom.compile(lambda a, b, c: activations.gelu(a @ b) @ c)
        block = fathom.no_grad()(lambda: whole(fx, f1, f2))
    return {"block": block, "activation": bend}


BLOCKS = ("PyTorch", "Fathom, compiled", "NumPy")


@once
def share(lab: Lab, engine: str) -> Routes:
    """GELU's share of the block's time at width 512, one number a round, by each clock."""
    tasks = feed_forward(engine, lab.pick(512, 128), lab.rng("block"))
    found: dict[str, Any] = {}
    for name, clock in CLOCKS.items():
        times = rounds_of(tasks, clock, lab.pick(6, 3))
        found[name] = Ratio(times["activation"], times["block"])
    return Routes(found)


A100 = (
    312e12,
    1.555e12,
)  # operations a second in bfloat16, bytes a second: NVIDIA's data sheet, 2020


def roofline(width: int, tokens: int = 4096) -> float:
    """GELU's share of a block on an A100, each step as quick as arithmetic or memory allows
    (Williams, Waterman & Patterson, 2009): bfloat16, GELU a kernel of its own."""
    rate, bandwidth = A100
    numbers = (
        tokens * width + 4 * width * width + 4 * tokens * width
    )  # of a product: in, weights, out
    product = max(2 * tokens * width * 4 * width / rate, 2 * numbers / bandwidth)
    gelu = 2 * 2 * tokens * 4 * width / bandwidth  # reads and writes the hidden numbers
    return gelu / (2 * product + gelu)


@question.experiment(
    "C3.1.7-09",
    T(
        "In a typical Transformer layer the activation takes about 20 % of the feed-forward "
        "block's time.",
        "典型 Transformer 层中，激活约占前馈块时间的 20%。",
    ),
    within(0.15, 0.25),
    correction=T(
        "It depends on machine and width. On an A100 as its data sheet has it, GELU takes "
        "{n[A100, width 512]:.0%} at width 512, {n[A100, width 768]:.0%} at BERT's 768 and "
        "{n[A100, width 4096]:.0%} at 4096, and nothing where it is fused into the product. On a "
        "core of this machine at width 512 it takes {n[PyTorch, one core/quickest run]:.1%} in "
        "PyTorch, {n[Fathom, compiled, one core/quickest run]:.1%} in compiled Fathom and "
        "{n[NumPy, one core/quickest run]:.0%} with NumPy and SciPy's error function.",
        "取决于机器和宽度。按 A100 的规格推算，GELU 在宽度 512 时占 {n[A100, width 512]:.0%}，BERT 的 "
        "768 时占 {n[A100, width 768]:.0%}，4096 时占 {n[A100, width 4096]:.0%}；与矩阵乘法融合后几乎为"
        "零。本机单核、宽度 512 时，PyTorch 中占 {n[PyTorch, one core/quickest run]:.1%}，编译后的 "
        "Fathom 中占 {n[Fathom, compiled, one core/quickest run]:.1%}，用 NumPy 加 SciPy 误差函数则占 "
        "{n[NumPy, one core/quickest run]:.0%}。",
    ),
    weight=3,
    needs=("torch", "scipy"),
)
def share_of_block(lab: Lab) -> Evidence:
    """Time of exact GELU alone over that of the block, width to 4 times the width and back. One
    core, 512 tokens of width 512, float32: by the quickest run and by processor time, to clear the
    edges by a tenth. An A100, bfloat16: the roofline of its data sheet (312 TFLOP/s, 1.555 TB/s) at
    the widths of the first Transformer, BERT and LLaMA. About 20 % is 15 to 25 %."""
    on_a_core = {f"{engine}, one core": share(lab, engine) for engine in BLOCKS}
    by_roofline = {f"A100, width {width}": roofline(width) for width in (512, 768, 4096)}
    return Settings(T("machine", "机器"), {**on_a_core, **by_roofline})


@question.exact(
    "C3.1.7-10",
    T(
        "20 % of a block that is 35 % of a layer is 5 to 10 % of the whole.",
        "占前馈块 20%，前馈块占一层 35%，合计为整体的 5% 到 10%。",
    ),
    within(0.05, 0.10),
)
def product(lab: Lab) -> Evidence:
    """The product of the two shares."""
    return 0.20 * 0.35


@question.unmeasurable(
    "C3.1.7-11",
    T("Mobile NPUs mostly have ReLU alone in hardware.", "移动端 NPU 通常只优化 ReLU。"),
)
def mobile(lab: Lab) -> Evidence:
    """It takes a survey of chips; none is here."""
    return NotMeasurable(T(
        "a survey of mobile accelerators and their compilers, with timings on the devices",
        "需要对移动端加速器及其编译器做调查，并在设备上计时",
    ))  # fmt: skip


def error_in_steps(name: str, same_grid: bool) -> Any:
    """Error of a table of 256 entries for the 256 codes of [-4, 4], in steps of the results'
    grid."""
    grid = Affine.fit(-4.0, 4.0)
    f = getattr(activations, name)
    table, out = lookup_table(lambda r: value(f, r), grid, grid if same_grid else None)
    exact = value(f, grid.dequantize(np.arange(-128, 128)))
    return np.abs(out.dequantize(table) - exact) / out.scale


@question.exact(
    "C3.1.7-12",
    T("ReLU in int8 loses nothing.", "ReLU 量化到 int8 无损。"),
    equals(0.0),
    weight=2,
)
def relu_in_int8(lab: Lab) -> Evidence:
    """Codes of 256 for which max(q, 0) s differs from max(q s, 0): by hand with three scales; and
    the error of the library's table on an affine grid, in steps."""
    q = np.arange(-128, 128)
    wrong = sum(
        int((np.maximum(q, 0) * s != np.maximum(q * s, 0)).sum()) for s in (0.1, 0.037, 2.5)
    )
    return Routes({"by hand": wrong, "library": float(error_in_steps("relu", True).max())})


@question.exact(
    "C3.1.7-13",
    T("Leaky ReLU in int8 loses nothing, either.", "Leaky ReLU 量化到 int8 也无损。"),
    at_most(1e-9),
    correction=T(
        "On the same grid the 128 negative codes become {n[negative codes left/by hand]:.0f}, and "
        "the error reaches {n[error/by hand]:.2f} steps. A finer grid for the negative side would "
        "be needed.",
        "在同一网格上，128 个负码只剩 {n[negative codes left/by hand]:.0f} 个，误差达 "
        "{n[error/by hand]:.2f} 步。负半边需要更细的网格。",
    ),
    weight=2,
)
def leaky_in_int8(lab: Lab) -> Evidence:
    """alpha = 0.01, results on the grid of the inputs: largest error in steps, and how many
    different codes the 128 negative ones become; by hand with zero point 0, and by the library's
    table."""
    q = np.arange(-128, 128)
    exact = np.where(q > 0, q, 0.01 * q)
    codes = np.rint(exact)
    grid = Affine.fit(-4.0, 4.0)
    table, _ = lookup_table(lambda r: value(activations.leaky_relu, r), grid, grid)
    below = np.arange(-128, 128) < grid.zero_point
    return All({
        "error": Routes({
            "by hand": float(np.abs(codes - exact).max()),
            "library": float(error_in_steps("leaky_relu", True).max()),
        }),
        "negative codes left": Check(Routes({
            "by hand": len(np.unique(codes[q < 0])), "library": len(np.unique(table[below])),
        }), at_least(127)),
    })  # fmt: skip


@question.exact(
    "C3.1.7-14",
    T(
        "GELU in int8 takes a table or a polynomial, and is less friendly than ReLU.",
        "GELU 的 int8 化需要查表或多项式，不如 ReLU 友好。",
    ),
    at_least(0.1),
)
def gelu_in_int8(lab: Lab) -> Evidence:
    """Error of a table of 256 entries, in steps of the results' own grid: GELU's less ReLU's on its
    best grid; and GELU's alone, which must not exceed half a step for a table to do."""
    own = float(error_in_steps("gelu", False).max())
    return All({
        "GELU less ReLU": own - float(error_in_steps("relu", True).max()),
        "GELU": Check(own, at_most(0.5)),
    })  # fmt: skip


@question.unmeasurable(
    "C3.1.7-15",
    T(
        "In place of GELU, its approximation makes inference 1.3 times as quick at less than 0.1 % "
        "loss, ReLU 1.5 times at 1 to 2 %.",
        "用近似 GELU 替换可使推理快 1.3 倍、损失不到 0.1%，用 ReLU 快 1.5 倍、损失 1% 到 2%。",
    ),
    weight=3,
)
def replaced(lab: Lab) -> Evidence:
    """The quality takes a language model. The speed is bounded by the activation's share (Amdahl):
    what the block gains at most, at width 512, were GELU free."""
    found = share(lab, "Fathom, compiled")["quickest run"]
    part = found.mean if isinstance(found, Sample) else 0.0
    return NotMeasurable(
        T(
            "a trained large language model, its accuracy with each activation, and its latency; "
            "the number beside this is the most the feed-forward block could gain here",
            "需要训练好的大语言模型、各激活下的精度与延迟；旁边的数字是此处前馈块最多能获得的加速",
        ),
        {"share of GELU": part, "most the block can gain": 1.0 / (1.0 - part)},
    )


@question.figure(
    T("Cost relative to ReLU, measured and printed", "相对 ReLU 的开销：实测与书中数字")
)
def ratios(lab: Lab) -> Figure:
    """Time over ReLU's of the same engine, a million numbers; the book's ranges beside them."""
    low, high = np.array([*SAID.values()]).T
    printed = Bars(T("the book", "书中"), np.sqrt(low * high), low, high)
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(SHOWN[n], SHOWN[n]) for n in SAID]),
        Axis(T("time, ReLU = 1", "耗时（ReLU = 1）"), log=True),
        [printed, *timed(lab).bars(SAID)],
        T(
            "No engine keeps to the printed ranges, and the engines do not agree with each other: tanh "
            "is the dearest in one and as cheap as ReLU in another.",
            "没有一个引擎处处落在书中的范围内，各引擎之间也不一致：tanh 在一个引擎里最贵，在另一个里"
            "与 ReLU 一样便宜。",
        ),
    )


@question.figure(T("GELU's share of a feed-forward block", "GELU 在前馈块中的占比"))
def share_by_width(lab: Lab) -> Figure:
    """Time of GELU alone over that of the block, 512 tokens, by width, compiled Fathom and
    NumPy."""
    widths = lab.pick([32, 64, 128, 256, 512], [32, 64, 128])
    lines = []
    for engine in ("Fathom, compiled", "NumPy"):
        at = []
        for width in widths:
            tasks = feed_forward(engine, width, lab.rng("block"))
            times = rounds_of(tasks, shortest, lab.pick(3, 2))
            at.append(Sample(times["activation"] / times["block"]))
        lines.append(Line(shown(engine), widths, *band(at)))
    return Figure(
        Axis(T("width", "宽度"), log=True),
        Axis(T("share of the block's time", "占前馈块时间的比例"), log=True),
        [*lines, Level(T("the book's 20 %", "书中的 20%"), y=0.2)],
        T(
            "The products grow with the square of the width, the activation with the width: its "
            "share falls, from where it matters to where it does not.",
            "矩阵乘法随宽度平方增长，激活只随宽度增长：占比随宽度下降，从重要变得无关紧要。",
        ),
    )


@question.figure(T("Error of int8 activations", "int8 激活的误差"))
def int8_errors(lab: Lab) -> Figure:
    """Error in steps for the 256 codes of [-4, 4]; Leaky ReLU and ReLU on the inputs' grid, GELU on
    its own."""
    x = Affine.fit(-4.0, 4.0).dequantize(np.arange(-128, 128))
    plans = (("relu", True), ("leaky_relu", True), ("gelu", False))
    return Figure(
        Axis(T("input", "输入")),
        Axis(T("error, steps", "误差（步）")),
        [Line(T(SHOWN[n], SHOWN[n]), x, error_in_steps(n, same)) for n, same in plans],
        T(
            "ReLU is exact everywhere; Leaky ReLU errs on its negative side, GELU everywhere, both "
            "by half a step at most.",
            "ReLU 处处精确；Leaky ReLU 在负半边有误差，GELU 处处有误差，都不超过半步。",
        ),
    )
