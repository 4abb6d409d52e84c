"""3.2.8 Where ReLU saves computing, and how much that is."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Published, Question,
    Routes, Sample, Settings, Source, T, at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.activation_cost import ENGINES, SIZES, Costs, costs
from fathom.book.material.data import digits
from fathom.book.material.mean_share import dense_shares
from fathom.book.material.speed import Ratio, Saved, about, processor, rounds_of
from fathom.book.material.stacks import stack
from fathom.doctor import bn_order
from fathom.nn.cost import conv_cost, linear_cost
from fathom.nn.summary import count_multiply_adds
from fathom.train import train_many

question = Question(
    "3.2.8",
    title=T(
        "Where do ReLU's computational advantages come from?",
        "ReLU 的计算优势体现在哪里？",
    ),
    difficulty=3,
    frequency=4,
    topics=("relu", "sparsity", "flops", "稀疏性", "计算量", "卷积"),
    answer=T(
        "ReLU is one comparison and needs no exponential, its backward pass is a mask, and about "
        "half of its outputs are exact zeros. How much quicker it is than sigmoid or tanh depends on "
        "function, engine and size: from not at all to twenty times and more (tanh in PyTorch). It "
        "matters "
        "little for the whole, because an activation works once per output element and a layer "
        "thousands of times: a 3x3 convolution of 256 to 256 channels on 28x28 takes 0.92 GFLOP, "
        "its "
        "activation 0.2 million evaluations. The zeros do not save time by themselves: at 50 % a "
        "dense product beats a sparse one, and only at about 80 % it turns. What remains is "
        "cheap hardware, exact INT8, and memory for a mask of one bit. Batch normalization in "
        "front of "
        "it does not centre its output, but one behind the next layer cancels what that does.",
        "ReLU 只是一次比较，不需要指数运算；反向传播就是一个掩码；输出约有一半恰好为零。"
        "它比 sigmoid 或 tanh 快多少取决于函数、引擎和规模：从没有差别到二十多倍（PyTorch 的 tanh）。"
        "对整体影响不大，因为激活对每个输出元素只算一次，而层要算几千次："
        "28x28 上 256 到 256 通道的 3x3 卷积需要 0.92 GFLOP，其激活只有 20 万次求值。"
        "零本身并不省时间：50 % 为零时稠密乘法快于稀疏乘法，到约 80 % 才反转。"
        "真正的好处是硬件廉价、INT8 下精确，以及掩码只需一比特。"
        "它前面的批归一化并不会让其输出零中心化，但下一层之后的批归一化会抵消其影响。",
    ),
    flips=T(
        "Where zeros come in whole blocks, or are 95 % of the activations, or hardware skips them, "
        "sparsity does pay.",
        "如果零成块出现、占激活的 95 %，或硬件能跳过零，稀疏性才真正划算。",
    ),
    analogy=T(
        "A cheaper stamp on a parcel: it is cheaper, but the postage is in the weight of the "
        "parcel.",
        "给包裹换了个更便宜的封条：确实便宜，但邮费取决于包裹的重量。",
    ),
    generative=T(
        "Language models pay for GELU or SwiGLU gladly; some go back to ReLU to skip the rows of "
        "zero activations in memory-bound decoding.",
        "语言模型乐意为 GELU 或 SwiGLU 付出代价；也有模型换回 ReLU，以便在受内存限制的解码中跳过"
        "零激活对应的行。",
    ),
    classical=T(
        "In a ResNet the activations are below one per cent of the arithmetic.",
        "在 ResNet 中，激活所占的运算不到百分之一。",
    ),
    driving=T(
        "On an embedded chip ReLU is fused into the convolution and costs nothing at all.",
        "在车载芯片上，ReLU 被融合进卷积，几乎零成本。",
    ),
    change=T(
        "Raise the share of zeros from 50 % to 99 %: the sparse product overtakes the dense one.",
        "把零的占比从 50 % 提高到 99 %：稀疏乘法反超稠密乘法。",
    ),
    alone=True,
)

CHANNELS, SIDE, KERNEL = 256, 28, 3
OUTPUTS = CHANNELS * SIDE * SIDE


@once
def timed_there(lab: Lab) -> Costs:
    """The times of sigmoid and ReLU on as many numbers as the convolution gives."""
    x = lab.rng("there").standard_normal(OUTPUTS).astype(np.float32)
    settings = {engine: (ENGINES[engine], x) for engine in ("PyTorch", "Fathom, compiled", "NumPy")}
    return Costs(settings, ("relu", "sigmoid"), lab.pick(8, 3), lab.pick(3, 1))


@once
def timed(lab: Lab) -> Costs:
    """Times of three functions in three engines, by size."""
    names = ("relu", "sigmoid", "tanh")
    return costs(
        lab.rng("costs"), lab.pick(5, 3), lab.pick(3, 1), names, lab.pick([*SIZES], ["4k", "1M"])
    )


@question.experiment(
    "C3.2.8-01",
    T(
        "ReLU is 5 to 10 times faster than sigmoid and tanh.",
        "ReLU 比 sigmoid、tanh 快 5 到 10 倍。",
    ),
    about(5.0, 10.0),
    correction=T(
        "The factor belongs to function, engine and size. In PyTorch, compiled Fathom and NumPy "
        "the sigmoid takes "
        "{n[sigmoid, PyTorch, 4k/quickest run]:.1f}, "
        "{n[sigmoid, Fathom, compiled, 4k/quickest run]:.1f} and "
        "{n[sigmoid, NumPy, 4k/quickest run]:.1f} times as long as ReLU on 4,096 float32 numbers, "
        "{n[sigmoid, PyTorch, 1M/quickest run]:.1f}, "
        "{n[sigmoid, Fathom, compiled, 1M/quickest run]:.1f} and "
        "{n[sigmoid, NumPy, 1M/quickest run]:.1f} on a million; tanh "
        "{n[tanh, PyTorch, 4k/quickest run]:.1f}, "
        "{n[tanh, Fathom, compiled, 4k/quickest run]:.1f}, "
        "{n[tanh, NumPy, 4k/quickest run]:.1f} and "
        "{n[tanh, PyTorch, 1M/quickest run]:.1f}, "
        "{n[tanh, Fathom, compiled, 1M/quickest run]:.1f}, "
        "{n[tanh, NumPy, 1M/quickest run]:.1f}.",
        "倍数取决于函数、引擎和规模。依 PyTorch、Fathom 编译后、NumPy 的次序，4096 个 float32 时 "
        "sigmoid 耗时是 ReLU 的 "
        "{n[sigmoid, PyTorch, 4k/quickest run]:.1f}、"
        "{n[sigmoid, Fathom, compiled, 4k/quickest run]:.1f}、"
        "{n[sigmoid, NumPy, 4k/quickest run]:.1f} 倍，一百万个时为 "
        "{n[sigmoid, PyTorch, 1M/quickest run]:.1f}、"
        "{n[sigmoid, Fathom, compiled, 1M/quickest run]:.1f}、"
        "{n[sigmoid, NumPy, 1M/quickest run]:.1f} 倍；tanh 分别为 "
        "{n[tanh, PyTorch, 4k/quickest run]:.1f}、"
        "{n[tanh, Fathom, compiled, 4k/quickest run]:.1f}、"
        "{n[tanh, NumPy, 4k/quickest run]:.1f} 和 "
        "{n[tanh, PyTorch, 1M/quickest run]:.1f}、"
        "{n[tanh, Fathom, compiled, 1M/quickest run]:.1f}、"
        "{n[tanh, NumPy, 1M/quickest run]:.1f}。",
    ),
    weight=2,
    needs=("torch", "scipy"),
)
def faster(lab: Lab) -> Evidence:
    """Times of sigmoid and tanh over that of ReLU on 1,024 to a million float32 numbers (in PyTorch
    float64 too), forward, one thread, by the quickest run and by processor time, in three engines.
    The printed range is taken a fifth wider; a setting must clear its edges by a tenth.
    """
    found = timed(lab)
    return Settings(
        T("function, engine and size", "函数、引擎与规模"),
        {
            f"{name}, {setting}": found.ratio(setting, name, "relu")
            for name in ("sigmoid", "tanh")
            for setting in found.times
        },
    )


@question.unmeasurable(
    "C3.2.8-02",
    T(
        "On a V100 10^6 elements take 0.5 ms for sigmoid or tanh and 0.05 ms for ReLU.",
        "在 V100 上，10^6 个元素的 sigmoid 或 tanh 需 0.5 ms，ReLU 需 0.05 ms。",
    ),
)
def on_a_gpu(lab: Lab) -> Evidence:
    """There is no GPU here. Shown instead: what its memory bandwidth allows for either."""
    return NotMeasurable(
        T(
            "a V100; reading and writing 8 MB at 0.9 TB/s takes 9 microseconds for any of the "
            "three",
            "需要 V100；以 0.9 TB/s 读写 8 MB，三者都只需约 9 微秒",
        ),
        {"8 MB at 0.9 TB/s, ms": 8e6 / 0.9e12 * 1e3},
    )


@question.exact(
    "C3.2.8-03",
    T(
        "On normal inputs half of ReLU's outputs are 0.",
        "输入为标准正态时，ReLU 的输出约一半为零。",
    ),
    equals(0.5, 0.01),
)
def half(lab: Lab) -> Evidence:
    """Share of exact zeros among 10^6, by the library and by NumPy from other draws."""
    size = lab.pick(1_000_000, 200_000)
    ours = fathom.relu(fathom.tensor(lab.rng("one").standard_normal(size))).value()
    theirs = np.maximum(lab.rng("other").standard_normal(size), 0.0)
    return Routes({"Fathom": float((ours == 0).mean()), "NumPy": float((theirs == 0).mean())})


SHARES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)


@once
def sparse_gain(lab: Lab, zeros: float) -> dict[str, Any]:
    """Time of a dense product over that of one that skips zeros, one number a round: SciPy's CSR
    format on a batch of 64, and for one row only the weights of its active units.
    """
    from scipy import sparse

    rng = lab.rng("matrices")
    n = lab.pick(1024, 256)
    w = rng.standard_normal((n, n)).astype(np.float32)
    a = np.maximum(rng.standard_normal((64, n)), 0.1).astype(np.float32)
    a[rng.random(a.shape) < zeros] = 0.0
    packed, row = sparse.csr_array(a), a[0]

    def active_rows() -> Any:
        active = np.flatnonzero(row)
        return row[active] @ w[active]

    tasks = {"dense": lambda: a @ w, "CSR": lambda: packed @ w, "one row": lambda: row @ w,
             "active rows": active_rows}  # fmt: skip
    times = rounds_of(tasks, processor, lab.pick(8, 3))
    return {
        "CSR, batch of 64": Ratio(times["dense"], times["CSR"]),
        "active rows, batch of 1": Ratio(times["one row"], times["active rows"]),
    }


@question.experiment(
    "C3.2.8-04",
    T(
        "ReLU's zeros let later computation be skipped.",
        "ReLU 输出的零可以让后续计算跳过。",
    ),
    at_least(1.1),
    correction=T(
        "Not at ReLU's 50 % on a processor: skipping then runs at {n[50 %/CSR, batch of 64]:.2f} "
        "and {n[50 %/active rows, batch of 1]:.2f} times the speed of the dense product; at 99 % "
        "at "
        "{n[99 %/CSR, batch of 64]:.1f} and {n[99 %/active rows, batch of 1]:.1f} times.",
        "在处理器上，ReLU 的 50 % 零并不够：此时跳零的速度只有稠密乘法的 "
        "{n[50 %/CSR, batch of 64]:.2f} 倍和 {n[50 %/active rows, batch of 1]:.2f} 倍；"
        "99 % 为零时为 {n[99 %/CSR, batch of 64]:.1f} 倍和 {n[99 %/active rows, batch of 1]:.1f} "
        "倍。",
    ),
    weight=3,
    needs=("scipy",),
)
def skipped(lab: Lab) -> Evidence:
    """Speed, in processor time, of products that skip zeros over the dense product's: 1024 x 1024 weights, zeros at
    random, one thread. A gain of a tenth counts, to be cleared by another.
    """
    return Settings(
        T("share of zeros", "零的占比"),
        {
            f"{zeros:.0%}".replace("%", " %"): Routes(sparse_gain(lab, zeros))
            for zeros in (0.5, 0.99)
        },
    )  # fmt: skip


@once
def conv_and_output(lab: Lab, padding: int = 1) -> tuple[Any, Any, Any]:
    """The convolution, its input and its output."""
    with fathom.seed(lab.seeds(1, 1)[0]):
        layer = nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding=padding)
    x = fathom.tensor(lab.rng("x").standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float32))
    with fathom.no_grad():
        return layer, x, layer(x)


def counted(lab: Lab, padding: int) -> int:
    """Multiply-adds of the convolution, counted by the operations as it runs."""
    layer, x, _ = conv_and_output(lab, padding)
    counts = [0]
    with fathom.no_grad(), count_multiply_adds(counts):
        layer(x)
    return sum(counts)


def by_library(padding: int = 1) -> int:
    """Multiplications and additions worked out from the sizes."""
    side = SIDE + 2 * padding - KERNEL + 1
    return conv_cost(CHANNELS, CHANNELS, (KERNEL, KERNEL), (side, side)).flops


@question.exact(
    "C3.2.8-05",
    T(
        "A 3x3 convolution of 256 to 256 channels on 28x28 takes about 0.32 GFLOP.",
        "28x28 上 256 到 256 通道的 3x3 卷积约需 0.32 GFLOP。",
    ),
    equals(0.32, 0.05),
    correction=T(
        "It takes {n[padded, multiplications and additions/counted]:.3f} GFLOP, or "
        "{n[padded, multiply-adds/counted]:.3f} if a multiply-add counts as one; without padding "
        "{n[unpadded, multiplications and additions/counted]:.3f} and "
        "{n[unpadded, multiply-adds/counted]:.3f}. No usual way of counting gives 0.32.",
        "实际为 {n[padded, multiplications and additions/counted]:.3f} GFLOP；一次乘加算一次时为 "
        "{n[padded, multiply-adds/counted]:.3f}；不填充时分别为 "
        "{n[unpadded, multiplications and additions/counted]:.3f} 和 "
        "{n[unpadded, multiply-adds/counted]:.3f}。哪种常用的算法都得不到 0.32。",
    ),
    weight=2,
)
def convolution(lab: Lab) -> Evidence:
    """In GFLOP at stride 1, with padding and without, a multiplication and an addition as two
    operations or as one: counted while it runs, and worked out from the sizes. "About" is taken as
    within 0.05.
    """

    def both(padding: int, each: int) -> Routes:
        return Routes({
            "counted": each * counted(lab, padding) / 1e9,
            "sizes": each * by_library(padding) / 2e9,
        })  # fmt: skip

    ways = {"multiplications and additions": 2, "multiply-adds": 1}
    return Settings(
        T("padding, and what counts as an operation", "填充方式与运算的计数方式"),
        {
            f"{name}, {way}": both(padding, each)
            for name, padding in (("padded", 1), ("unpadded", 0))
            for way, each in ways.items()
        },
    )


@question.exact(
    "C3.2.8-06",
    T(
        "The activation behind it takes 1.6e9 operations as exponentials, or 3.2e8 comparisons.",
        "其后的激活需要 1.6e9 次运算（指数）或 3.2e8 次比较。",
    ),
    equals(1.6e9, 5e7),
    correction=T(
        "One evaluation per output element is {n[comparisons/sizes]:.0f}; at five operations an "
        "exponential that is {n[exponentials/sizes]:.0f}.",
        "每个输出元素求值一次，共 {n[comparisons/sizes]:.0f} 次；"
        "按每次指数五次运算计，是 {n[exponentials/sizes]:.0f}。",
    ),
    weight=2,
)
def activation(lab: Lab) -> Evidence:
    """One evaluation per output element, times five for an exponential: from the sizes, and counted
    on the output of such a layer.
    """
    made = conv_and_output(lab)[2].size
    return All({
        "exponentials": Routes({"sizes": 5 * OUTPUTS, "output": 5 * made}),
        "comparisons": Check(Routes({"sizes": OUTPUTS, "output": made}), equals(3.2e8, 5e6)),
    })  # fmt: skip


@question.experiment(
    "C3.2.8-07",
    T("ReLU saves about 80 % of the activation's time.", "ReLU 节省约 80 % 的激活时间。"),
    equals(0.8, 0.05),
    correction=T(
        "In operations, if a sigmoid is five and ReLU one; the clock says otherwise. Against the "
        "sigmoid ReLU saves {n[time, PyTorch/quickest run]:.0%} of the time in PyTorch, "
        "{n[time, Fathom, compiled/quickest run]:.0%} in compiled Fathom and "
        "{n[time, NumPy/quickest run]:.0%} in NumPy.",
        "按一次 sigmoid 五次运算、一次 ReLU 一次运算计数时如此；实测时间则不然。与 sigmoid 相比，"
        "ReLU 在 PyTorch 中节省 {n[time, PyTorch/quickest run]:.0%} 的时间，Fathom 编译后节省 "
        "{n[time, Fathom, compiled/quickest run]:.0%}，NumPy 中节省 "
        "{n[time, NumPy/quickest run]:.0%}。",
    ),
    needs=("torch", "scipy"),
)
def saved(lab: Lab) -> Evidence:
    """1 less what ReLU takes over what the sigmoid takes on the 200,704 outputs of that
    convolution: in operations, five for the exponential as at the claim before; and in time,
    float32, in three engines, by the quickest run and by processor time. "About" is half a unit of
    the printed 8; a setting in time must clear its edges by a tenth of what is left.
    """
    operations = {"operations, five to one": 1 - OUTPUTS / (5 * OUTPUTS)}
    return Settings(
        T("what is counted, and in which engine", "计数的对象与所用引擎"),
        operations | {
            f"time, {engine}": Routes({
                clock: Saved(t["relu"], t["sigmoid"]) for clock, t in clocks.items()
            })
            for engine, clocks in timed_there(lab).times.items()
        },
    )  # fmt: skip


@question.experiment(
    "C3.2.8-08",
    T(
        "Next to the convolution the activation costs little.",
        "与卷积相比，激活的开销很小。",
    ),
    at_most(0.05),
    weight=2,
)
def small_share(lab: Lab) -> Evidence:
    """Processor time of ReLU and of the sigmoid on the output of the convolution over the convolution's own,
    in Fathom, one number a round; and ten operations an element over the convolution's. Little is
    taken as a twentieth.
    """
    layer, x, y = conv_and_output(lab)

    def quietly(run: Any, at: Any) -> Any:
        def call() -> Any:
            with fathom.no_grad():
                return run(at)

        return call

    tasks = {"conv": quietly(layer, x), "relu": quietly(fathom.relu, y),
             "sigmoid": quietly(fathom.sigmoid, y)}  # fmt: skip
    times = rounds_of(tasks, processor, lab.pick(6, 3))
    return All({
        "operations": 10 * OUTPUTS / by_library(),
        "time, ReLU": Ratio(times["relu"], times["conv"]),
        "time, sigmoid": Ratio(times["sigmoid"], times["conv"]),
    })  # fmt: skip


@question.exact(
    "C3.2.8-09",
    T(
        "A dense layer of 4096 x 4096 costs about 33 MFLOP.",
        "4096 x 4096 的全连接层约需 33 MFLOP。",
    ),
    equals(33.0, 1.0),
)
def dense(lab: Lab) -> Evidence:
    """In MFLOP a sample, by hand and by the library."""
    return Routes({
        "2 n^2": 2 * 4096**2 / 1e6, "library": linear_cost(4096, 4096, bias=False).flops / 1e6,
    })  # fmt: skip


@question.experiment(
    "C3.2.8-10",
    T(
        "Batch normalization in front of ReLU solves its problem of the centre.",
        "ReLU 之前的批归一化解决了它的非零中心问题。",
    ),
    at_most(0.05),
    correction=T(
        "It does not centre the outputs: the next layer sees a mean of "
        "{n[mean of the outputs/layers]:.2f}, 1 / sqrt(2 pi). That mean makes "
        "{n[gradient of a next layer without a norm/tape]:.0%} of the next layer's weight gradient; "
        "but if that layer has a batch norm of its own behind it, as in stacks of linear layer, "
        "norm, ReLU, the norm takes this part out "
        "({n[gradient of a next layer with a norm/tape]:.0%} is left).",
        "它并没有让输出居中：下一层看到的均值仍为 {n[mean of the outputs/layers]:.2f}，即 "
        "1 / sqrt(2π)。这个均值占下一层权重梯度的 "
        "{n[gradient of a next layer without a norm/tape]:.0%}；但如果下一层之后也有批归一化"
        "（线性层、归一化、ReLU 依次堆叠），这一部分就被消去"
        "（剩 {n[gradient of a next layer with a norm/tape]:.0%}）。",
    ),
    weight=3,
)
def norm_in_front(lab: Lab) -> Evidence:
    """Mean of what comes out of linear layer, batch norm, ReLU on normal rows, and E max(0, z) in
    closed form; and what harm that mean does: the share of the next layer's weight gradient, on
    digits at the start, that comes from the mean of its inputs, by the tape and by hand. Solved is
    0.05 or less.
    """
    x = lab.rng("rows").standard_normal((4000, 16))

    def share(norm: bool) -> Routes:
        found = np.array([dense_shares(seed, norm) for seed in lab.seeds(8, 3)])
        return Routes({"tape": Sample(found[:, 0]), "by hand": Sample(found[:, 1])})

    return Settings(
        T("where the centre is looked for", "从哪里看中心"),
        {
            "mean of the outputs": Routes({
                "layers": bn_order(x).before_mean, "closed form": 1 / np.sqrt(2 * np.pi),
            }),
            "gradient of a next layer without a norm": share(False),
            "gradient of a next layer with a norm": share(True),
        },
    )  # fmt: skip


@question.reference(
    "C3.2.8-11",
    T(
        "EfficientNet uses Swish; BERT, GPT and MLP-Mixer use GELU; ResNet and VGG use ReLU.",
        "EfficientNet 用 Swish；BERT、GPT 和 MLP-Mixer 用 GELU；ResNet 和 VGG 用 ReLU。",
    ),
)
def table(lab: Lab) -> Evidence:
    """The papers that introduced them, one by one."""
    told = {
        "EfficientNet": ("Swish", "Tan & Le, EfficientNet", 2019, 0.97),
        "BERT": ("GELU", "Devlin et al., BERT, appendix A.2", 2018, 0.98),
        "GPT": (
            "GELU",
            "Radford et al., Improving Language Understanding, section 4.1",
            2018,
            0.98,
        ),
        "MLP-Mixer": ("GELU", "Tolstikhin et al., MLP-Mixer, section 2", 2021, 0.98),
        "ResNet": ("ReLU", "He et al., Deep Residual Learning", 2015, 0.99),
        "VGG": ("ReLU", "Simonyan & Zisserman, section 2.1", 2014, 0.99),
    }
    claimed = {"EfficientNet": "Swish", "ResNet": "ReLU", "VGG": "ReLU"}
    return All({
        name: Published(found, (Source(work, year, sure),), expected=claimed.get(name, "GELU"))
        for name, (found, work, year, sure) in told.items()
    })  # fmt: skip


@question.unmeasurable(
    "C3.2.8-12",
    T(
        "Shares of use in 2024: ReLU in 70 % of convolutional nets, and so on.",
        "2024 年的使用占比：70 % 的卷积网络用 ReLU，等等。",
    ),
)
def shares_of_use(lab: Lab) -> Evidence:
    """Nobody counts deployed networks; the figures are given as an estimate."""
    return NotMeasurable(
        T(
            "a census of the networks in use, which does not exist",
            "需要一份在用网络的普查，而这样的普查并不存在",
        )
    )


@once
def accuracies(lab: Lab, name: str) -> Any:
    """Test accuracy on digits, (seeds,): two layers of 48, He's weights, Adam, 15 epochs."""
    data = digits()
    spec = {
        "model": lambda: stack(64, 10, 48, 2, activation=name),
        "optimizer": "adam", "lr": 0.003, "epochs": lab.pick(12, 3), "batch_size": 32,
    }  # fmt: skip
    fleet = train_many(spec, data.x, data.y, seeds=lab.seeds(12, 4))
    return fleet.evaluate(data.test_x, data.test_y)["accuracy"]


@once
def step_times(lab: Lab) -> Any:
    """Processor seconds of a training step of a small convolutional net by activation, one a round."""
    rng = lab.rng("images")
    x = fathom.tensor(rng.standard_normal((32, 8, 12, 12)).astype(np.float32))
    y = fathom.tensor(rng.integers(0, 10, 32))

    def task(layer: Any) -> Any:
        net = nn.Sequential(nn.Conv2d(8, 32, 3), layer(), nn.Conv2d(32, 32, 3), layer(),
                            nn.Flatten(), nn.Linear(32 * 64, 10))  # fmt: skip

        def run() -> None:
            for p in net.parameters():
                p.grad = None
            nn.functional.cross_entropy(net(x), y).backward()

        return run

    kinds = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
    return rounds_of({k: task(v) for k, v in kinds.items()}, processor, lab.pick(8, 3))


@question.experiment(
    "C3.2.8-13",
    T(
        "ReLU costs about 1 % of accuracy; GELU and Swish cost 5 to 10 % of training time.",
        "ReLU 损失约 1 % 的准确率；GELU 和 Swish 多花 5 到 10 % 的训练时间。",
    ),
    equals(0.01, 0.005),
    correction=T(
        "Swish gained 0.9 points on ImageNet with Mobile NASNet-A. On digits GELU differs from "
        "ReLU "
        "by {n[digits/accuracy, GELU]:+.4f} and Swish by {n[digits/accuracy, Swish]:+.4f}; in a "
        "small convolutional net here a step takes {n[digits/time, GELU]:.2f} and "
        "{n[digits/time, Swish]:.2f} times as long.",
        "在 ImageNet 上，Swish 使 Mobile NASNet-A 提高 0.9 个百分点。在手写数字上，GELU 与 ReLU "
        "相差 "
        "{n[digits/accuracy, GELU]:+.4f}，Swish 相差 {n[digits/accuracy, Swish]:+.4f}；"
        "在小型卷积网络里，一步耗时分别是 {n[digits/time, GELU]:.2f} 倍和 "
        "{n[digits/time, Swish]:.2f} 倍。",
    ),
    weight=2,
)
def trade(lab: Lab) -> Evidence:
    """Test accuracy on digits less that with ReLU, paired by seed, and processor time of a step over that
    with ReLU (to be 1.05 to 1.10); and the published gain of Swish on ImageNet.
    """
    times = step_times(lab)
    relu = accuracies(lab, "relu")
    nasnet = Source(
        "Ramachandran, Zoph & Le, Searching for Activation Functions, abstract", 2017, 0.97
    )
    return Settings(
        T("task", "任务"),
        {
            "digits": All({
                "accuracy, GELU": Sample(accuracies(lab, "gelu") - relu),
                "accuracy, Swish": Sample(accuracies(lab, "silu") - relu),
                "time, GELU": Check(Ratio(times["gelu"], times["relu"]), within(1.05, 1.10)),
                "time, Swish": Check(Ratio(times["silu"], times["relu"]), within(1.05, 1.10)),
            }),
            "ImageNet, accuracy as published": Published(0.009, (nasnet,)),
        },
    )  # fmt: skip


@question.reference(
    "C3.2.8-14",
    T("Stable Diffusion's U-Net usually uses ReLU.", "Stable Diffusion 的 U-Net 通常使用 ReLU。"),
    correction=T(
        "Its convolutional blocks use SiLU, the feed-forward parts of its attention blocks GEGLU.",
        "它的卷积块使用 SiLU，注意力块的前馈部分使用 GEGLU。",
    ),
)
def stable_diffusion(lab: Lab) -> Evidence:
    """The released code, and the public configuration of the reimplementation in wide use."""
    return Published(
        "SiLU",
        (
            Source("CompVis/stable-diffusion, openaimodel.py (ResBlock with nn.SiLU)", 2022, 0.97),
            Source("Hugging Face diffusers, UNet2DConditionModel, act_fn = silu", 2022, 0.97),
        ),
        expected="ReLU",
    )


@question.figure(T("When skipping zeros pays", "跳过零何时划算"))
def break_even(lab: Lab) -> Figure:
    """Speed of a product that skips zeros over the dense one, against the share of zeros."""
    found = [sparse_gain(lab, zeros) for zeros in SHARES]
    lines: list[Any] = []
    names = {
        "CSR, batch of 64": T("CSR, batch of 64", "CSR，批次 64"),
        "active rows, batch of 1": T("active rows, batch of 1", "仅激活行，批次 1"),
    }
    for key, name in names.items():
        at = [f[key] for f in found]
        lines.append(Line(name, SHARES, *band(at)))
    marks = [
        *lines,
        Level(T("dense", "稠密"), y=1.0),
        Level(T("ReLU's half", "ReLU 的一半"), x=0.5),
    ]
    return Figure(
        Axis(T("share of zeros", "零的占比")),
        Axis(T("speed over dense", "相对稠密的速度"), log=True),
        marks,
        T(
            "At the half that ReLU gives, skipping zeros is slower than not caring; it pays where "
            "nearly everything is 0.",
            "在 ReLU 给出的一半零处，跳零反而比不理会更慢；只有几乎全为零时才划算。",
        ),
    )


@once
def zeros_by_layer(lab: Lab, epochs: int) -> Any:
    """Share of zeros behind each of three ReLU layers of 48 on test digits, (seeds, layers)."""
    data = digits()
    spec = {
        "model": lambda: stack(64, 10, 48, 3), "optimizer": "adam", "lr": 0.003,
        "epochs": max(epochs, 1), "batch_size": 32,
    }  # fmt: skip
    nets: list[Any] = []
    if epochs:
        nets = [run.model for run in train_many(spec, data.x, data.y, seeds=lab.seeds(8, 3)).runs]
    else:
        for seed in lab.seeds(8, 3):
            with fathom.seed(seed):
                nets.append(stack(64, 10, 48, 3))
    rows = []
    for net in nets:
        h, shares = fathom.tensor(data.test_x), []
        with fathom.no_grad():
            for layer in net:
                h = layer(h)
                if isinstance(layer, nn.ReLU):
                    shares.append(float((h.value() == 0).mean()))
        rows.append(shares)
    return np.array(rows)


@question.figure(T("Zeros before and after training", "训练前后的零"))
def zeros(lab: Lab) -> Figure:
    """Share of exact zeros by layer at the start and after training on digits, over seeds."""
    lines: list[Any] = []
    for epochs, name in ((0, T("at the start", "初始")), (lab.pick(10, 3), T("trained", "训练后"))):
        at = [Sample(column) for column in zeros_by_layer(lab, epochs).T]
        lines.append(Line(name, (1, 2, 3), *band(at)))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("share of zeros", "零的占比")),
        [*lines, Level(T("half", "一半"), y=0.5)],
        T(
            "Half of the outputs are zero at the start, a little more than a third after training: "
            "far from the 80 % at which skipping them begins to pay.",
            "初始时一半输出为零，训练后略多于三分之一，远低于跳零开始划算的约 80 %。",
        ),
    )
