"""3.3.7 SwiGLU: a gate in the feed-forward layer, and what it costs and brings."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Published, Question,
    Routes, Sample, Settings, Source, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.smooth_gates import logistic
from fathom.book.material.stacks import parameters
from fathom.book.material.tiny_language import sentences, transformers, unseen_loss
from fathom.nn.transformer import FeedForward, gated_width

question = Question(
    "3.3.7",
    title=T(
        "What is SwiGLU, and why do large language models use it?",
        "什么是 SwiGLU？大语言模型为什么用它？",
    ),
    difficulty=4,
    frequency=4,
    topics=("swiglu", "glu", "ffn", "transformer", "门控", "前馈层"),
    answer=T(
        "SwiGLU is a feed-forward layer with a gate: W2 (Swish(x W1) * (x W3)), where the "
        "product is element by element and Swish(z) = z sigmoid(z). A GLU has the plain sigmoid "
        "in that place; the other branch is linear, so every hidden unit is a product of two "
        "functions of x. It has three matrices, so the hidden width is cut from 4d to 8d/3 to "
        "keep the 8d^2 weights of the plain layer; int(8d/3) rounds down, which leaves d or 2d "
        "weights fewer unless 3 divides d, and LLaMA rounds up to a multiple of 256 (11008 for d "
        "= 4096). The evidence for it is empirical: Shazeer (2020) found lower perplexity at "
        "equal parameters and compute, and gave no reason. Its hidden layer is dense: Swish is "
        "0 at a single point, so the gate weights but does not switch off.",
        "SwiGLU 是带门控的前馈层：W2 (Swish(x W1) * (x W3))，其中乘法逐元素进行，Swish(z) = z sigmoid(z)。"
        "GLU 在该处用普通 sigmoid；另一支是线性的，所以每个隐藏单元都是 x 的两个函数之积。它有三个矩阵，"
        "因此把隐藏宽度从 4d 缩到 8d/3，以保持普通前馈层的 8d^2 个权重；int(8d/3) 是向下取整，除非 3 整除 d，"
        "否则会少 d 或 2d 个权重，而 LLaMA 向上取整到 256 的倍数（d = 4096 时为 11008）。支持它的证据是经验性的："
        "Shazeer (2020) 在参数量与计算量相等时得到更低的困惑度，但没有给出原因。它的隐藏层是稠密的："
        "Swish 只在一点上为 0，所以门只是加权，并不关断。",
    ),
    flips=T(
        "Where exact zeros save work (sparse inference), a ReLU or ReGLU layer is better than "
        "SwiGLU.",
        "当精确的零能省下计算时（稀疏推理），ReLU 或 ReGLU 层比 SwiGLU 更合适。",
    ),
    analogy=T(
        "One hand writes the message, the other turns its volume: both are learnt from the same "
        "input.",
        "一只手写消息，另一只手调它的音量：两只手都从同一个输入学习。",
    ),
    generative=T(
        "PaLM, LLaMA, Mistral, Qwen and DeepSeek all have SwiGLU in their feed-forward layers.",
        "PaLM、LLaMA、Mistral、Qwen 与 DeepSeek 的前馈层都用 SwiGLU。",
    ),
    classical=T(
        "Gated units also help in networks on tables (TabNet has GLU), at the price of a third "
        "matrix.",
        "门控单元在表格网络里也有用（TabNet 用 GLU），代价是多一个矩阵。",
    ),
    driving=T(
        "Transformers that predict trajectories take over SwiGLU; on the vehicle the third "
        "matrix costs one more launch unless it is fused with the first.",
        "轨迹预测 Transformer 沿用 SwiGLU；在车端若不与第一个矩阵融合，第三个矩阵就多一次核函数启动。",
    ),
    change=T(
        "Stop the training after the first epochs: SwiGLU is behind ReLU then, for a product of "
        "two small factors starts smaller still.",
        "只训练最初几轮就停：此时 SwiGLU 落后于 ReLU，因为两个小因子之积起步更小。",
    ),
)

WIDTHS = (512, 768, 1024, 4096)
KINDS = {"relu": "ReLU", "gelu": "GELU", "geglu": "GEGLU", "swiglu": "SwiGLU"}
SEEDS = {"relu": 12, "gelu": 12, "geglu": 3, "swiglu": 12}
SEEN = 24  # seeds looked at while this was planned; those after them judge
RATES = (5e-3, 1e-2)  # 0.0025 and 0.02 were worse for ReLU, GELU and SwiGLU on six other seeds


def arrays(lab: Lab) -> tuple[Any, Any, Any]:
    """Rows and two matrices in float64."""
    rng = lab.rng("matrices")
    return rng.standard_normal((64, 12)), rng.standard_normal((12, 8)), rng.standard_normal((12, 8))


@question.exact(
    "C3.3.7-01",
    T("GLU(x) = (x W1) * sigmoid(x W2).", "GLU(x) = (x W1) * sigmoid(x W2)。"),
    at_most(1e-12),
    needs=("torch",),
)
def glu(lab: Lab) -> Evidence:
    """The formula in NumPy against `glu` of both products side by side; largest difference."""
    import torch

    x, w1, w2 = arrays(lab)
    formula = (x @ w1) * logistic(x @ w2)
    both = np.concatenate([x @ w1, x @ w2], axis=1)
    ours = activations.glu(fathom.tensor(both)).value()
    theirs = torch.nn.functional.glu(torch.from_numpy(both)).numpy()
    return Routes({
        "Fathom": float(np.abs(formula - ours).max()),
        "PyTorch": float(np.abs(formula - theirs).max()),
    })  # fmt: skip


@question.exact(
    "C3.3.7-02",
    T(
        "SwiGLU has Swish in the place of the sigmoid: Swish(x W1) * (x W2).",
        "SwiGLU 用 Swish 代替 sigmoid 门：Swish(x W1) * (x W2)。",
    ),
    at_most(1e-12),
)
def swiglu(lab: Lab) -> Evidence:
    """The formula in NumPy against the function, and against the feed-forward layer with its last
    matrix; largest difference. The function's halves are (value, gate)."""
    x, w1, w2 = arrays(lab)
    gate, formula = x @ w1, logistic(x @ w1) * (x @ w1) * (x @ w2)
    function = activations.swiglu(fathom.tensor(np.concatenate([x @ w2, gate], axis=1))).value()
    layer = FeedForward(12, 8, "swiglu", bias=False).double()
    layer.linear1.weight.data, layer.linear3.weight.data = w1.T.copy(), w2.T.copy()
    whole = formula @ layer.linear2.weight.value().T
    return Routes({
        "function": float(np.abs(formula - function).max()),
        "layer": float(np.abs(whole - layer(fathom.tensor(x)).value()).max()),
    })  # fmt: skip


@question.exact(
    "C3.3.7-03",
    T(
        "Three matrices of two thirds of the width have the parameters of two of the full width: "
        "3 d (2/3 d_ff) = 2 d d_ff.",
        "三个宽度为三分之二的矩阵与两个全宽矩阵参数量相等：3 d (2/3 d_ff) = 2 d d_ff。",
    ),
    equals(0.0),
)
def two_thirds(lab: Lab) -> Evidence:
    """The difference in exact fractions over a grid, and on layers whose width 3 divides."""
    fractions = max(
        abs(3 * d * (Fraction(2, 3) * f) - 2 * d * f) for d in (7, 512, 4096) for f in (10, 2048)
    )
    counted = [
        parameters(FeedForward(d, 2 * f // 3, "swiglu", bias=False))
        - parameters(FeedForward(d, f, "relu", bias=False))
        for d, f in ((8, 12), (30, 120), (48, 192))
    ]
    return Routes({"fractions": float(fractions), "layers": max(map(abs, counted))})


@question.unmeasurable(
    "C3.3.7-04",
    T(
        "PaLM-62B has perplexity 10.2 with GELU and 9.8 with SwiGLU, LLaMA-65B 9.5.",
        "PaLM-62B 用 GELU 时困惑度 10.2，用 SwiGLU 时 9.8；LLaMA-65B 为 9.5。",
    ),
    weight=2,
)
def large_models(lab: Lab) -> Evidence:
    """Not measured: PaLM was not published with GELU. Beside it the perplexity per character of
    Transformers of 15,000 weights."""
    return NotMeasurable(
        T(
            "two PaLM-62B pretrainings that differ in the activation only, and perplexities of "
            "both families on one text with one tokenizer; neither is published",
            "需要两次仅激活函数不同的 PaLM-62B 预训练，以及两个模型族在同一文本、同一分词器下的困惑度；两者都没有公开",
        ),
        {
            f"perplexity a character, {KINDS[kind]}, small": float(np.exp(losses(lab, kind)).mean())
            for kind in ("gelu", "swiglu")
        },
    )


@question.exact(
    "C3.3.7-05",
    T(
        "The plain layer (width 4d) and the gated one (width 8d/3) both have 8 d^2 weights.",
        "普通前馈层（宽 4d）与门控前馈层（宽 8d/3）都有 8 d^2 个权重。",
    ),
    equals(0.0),
)
def both_have(lab: Lab) -> Evidence:
    """2 d 4d and 3 d (8d/3) less 8 d^2 in exact fractions; no rounding, no biases."""
    return All({
        f"d = {d}": All({
            "plain": float(Fraction(2 * d * 4 * d - 8 * d * d)),
            "gated": float(3 * d * Fraction(8 * d, 3) - 8 * d * d),
        })
        for d in WIDTHS
    })  # fmt: skip


@question.exact(
    "C3.3.7-06",
    T(
        "A SwiGLU layer of width int(8d/3) has exactly 8 d^2 parameters.",
        "宽度为 int(8d/3) 的 SwiGLU 层恰有 8 d^2 个参数。",
    ),
    equals(0.0),
    correction=T(
        "Only where 3 divides d, as for 768. Otherwise the width is cut: against 8 d^2 "
        "the difference is {n[d = 512/arithmetic]:.0f} parameters for d = 512, "
        "{n[d = 1024/arithmetic]:.0f} for 1024 and {n[d = 4096/arithmetic]:.0f} for 4096.",
        "仅当 3 整除 d（如 768）时成立。否则宽度被截断：与 8 d^2 相比，d = 512 时差 "
        "{n[d = 512/arithmetic]:.0f} 个参数，1024 时差 {n[d = 1024/arithmetic]:.0f}，4096 时差 "
        "{n[d = 4096/arithmetic]:.0f}。",
    ),
)
def exactly(lab: Lab) -> Evidence:
    """Parameters less 8 d^2, without biases: 3 d int(8d/3), and counted on the shapes of a layer
    (below d = 2000 one is made, above it the three shapes are multiplied out)."""

    def counted(d: int) -> int:
        width = int(8 * d / 3)
        if d < 2000:
            return parameters(FeedForward(d, width, "swiglu", bias=False))
        return sum(math.prod(shape) for shape in ((width, d), (width, d), (d, width)))

    return Settings(
        T("the width d of the model", "模型宽度 d"),
        {
            f"d = {d}": Routes({
                "arithmetic": 3 * d * (8 * d // 3) - 8 * d * d, "layer": counted(d) - 8 * d * d
            })
            for d in WIDTHS
        },
    )  # fmt: skip


@once
def trained(lab: Lab, kind: str, rate: float) -> Any:
    """Two-layer Transformers on characters with that layer, no biases."""
    return transformers(
        lab.seeds(SEEN + SEEDS[kind], 2)[-SEEDS[kind] :],
        kind,
        epochs=lab.pick(16, 1),
        rows=lab.pick(None, 64),
        rate=rate,
        bias=False,
    )


def steady(lab: Lab, kind: str) -> Any:
    """The networks of the smaller rate, at which none goes astray."""
    return trained(lab, kind, RATES[0])


@once
def losses(lab: Lab, kind: str) -> Any:
    """Cross-entropy on unseen windows, nats a character, one a seed: at the better of the rates.

    Which is better the first half of the windows says, the second half judges.
    """
    rates = lab.pick(RATES, RATES[:1])
    parts = [windows_loss(trained(lab, kind, rate)) for rate in rates]
    best = np.argmin([first for first, _ in parts], axis=0)
    return np.array([second for _, second in parts])[best, np.arange(len(best))]


def windows_loss(fleet: Any) -> tuple[Any, Any]:
    """Loss of each network on the first half of the unseen windows, and on the second."""
    text = sentences()
    half = len(text.test_x) // 2
    return unseen_loss(fleet, slice(half)), unseen_loss(fleet, slice(half, None))


@question.experiment(
    "C3.3.7-07",
    T(
        "With as many parameters, SwiGLU is better than the plain feed-forward layer.",
        "参数量相等时，SwiGLU 优于普通前馈层。",
    ),
    at_least(0.01),
    weight=4,
)
def better(lab: Lab) -> Evidence:
    """Loss on unseen windows with ReLU (and GELU) less that with SwiGLU, paired by seed, in
    two-layer character Transformers of exactly equal parameters and the same order of rows, each
    at the better of two step sizes, chosen on other windows. A hundredth of a nat, a perplexity
    lower by 1 %, counts as better. No seed had been looked at when this was settled; five for GELU
    did not decide, so it was given as many as the others.
    """
    plain, gated = {k: losses(lab, k) for k in ("relu", "gelu")}, losses(lab, "swiglu")
    sizes = {k: parameters(steady(lab, k).runs[0].model) for k in ("relu", "gelu", "swiglu")}
    return All({
        "over ReLU": Sample(plain["relu"] - gated[: len(plain["relu"])]),
        "over GELU": Sample(plain["gelu"] - gated[: len(plain["gelu"])]),
        "difference in parameters": Check(max(sizes.values()) - min(sizes.values()), equals(0.0)),
    })  # fmt: skip


@once
def hidden(lab: Lab, kind: str) -> tuple[Any, Any]:
    """What the last matrix of each trained network's first layer is given, on unseen windows; and
    the same computed again in NumPy from the layer's inputs. (seeds, entries) each."""
    x, seen, again = fathom.tensor(sentences().test_x[:20]), [], []
    for run in steady(lab, kind).runs:
        block, caught = run.model.blocks.layers[0], dict[str, Any]()
        hooks = [
            block.linear1.register_forward_pre_hook(
                lambda _, given, into=caught: into.update(x=given[0].value())
            ),
            block.linear2.register_forward_pre_hook(
                lambda _, given, into=caught: into.update(h=given[0].value())
            ),
        ]
        with fathom.no_grad():
            run.model(x)
        for hook in hooks:
            hook.remove()
        z = caught["x"] @ block.linear1.weight.value().T
        gated = kind == "swiglu"
        other = caught["x"] @ block.linear3.weight.value().T if gated else 1.0
        again.append((z * logistic(z) * other if gated else np.maximum(z, 0.0)).ravel())
        seen.append(caught["h"].ravel())
    return np.array(seen), np.array(again)


def below(h: Any, share: float) -> Any:
    """Share of the entries of each row that are at most so large, in units of its rms."""
    return (np.abs(h) <= share * np.sqrt((h**2).mean(axis=1, keepdims=True))).mean(axis=1)


@question.experiment(
    "C3.3.7-08",
    T("The gate makes the hidden representation sparse.", "门控产生稀疏的隐藏表示。"),
    at_least(0.5),
    correction=T(
        "{n[exact zeros/in the network]:.2%} of the hidden entries are 0, and "
        "{n[at most 1 % of the rms/in the network]:.1%} are at most a hundredth of the rms: the "
        "representation is dense. ReLU's hidden layer is the sparse one (see the figure).",
        "隐藏单元中恰为 0 的占 {n[exact zeros/in the network]:.2%}，不超过均方根百分之一的占 "
        "{n[at most 1 % of the rms/in the network]:.1%}：表示是稠密的。稀疏的是 ReLU 的隐藏层（见图）。",
    ),
    weight=2,
)
def sparse(lab: Lab) -> Evidence:
    """Share of the hidden entries of trained SwiGLU layers that are exactly 0, and that are at
    most a hundredth of the rms; read from the network, and computed again in NumPy from its
    weights. We call sparse what is mostly zeros (ReLU on centred inputs gives a half)."""
    seen, again = hidden(lab, "swiglu")
    return All({
        name: Routes({
            "in the network": Sample(below(seen, share)), "NumPy": Sample(below(again, share))
        })
        for name, share in (("exact zeros", 0.0), ("at most 1 % of the rms", 0.01))
    })  # fmt: skip


@question.reference(
    "C3.3.7-09",
    T(
        "SwiGLU models: PaLM (2022) 540B, LLaMA (2023) 7-65B, LLaMA 2 7-70B, LLaMA 3 (2024) "
        "8-405B, Mistral 7B.",
        "使用 SwiGLU 的模型：PaLM (2022) 540B，LLaMA (2023) 7-65B，LLaMA 2 7-70B，LLaMA 3 (2024) 8-405B，Mistral 7B。",
    ),
)
def models(lab: Lab) -> Evidence:
    """The reports of the models: activation, sizes and, where the claim gives it, the year; for
    Mistral's activation the released code."""
    claimed = {
        "PaLM": (2022, "540B"), "LLaMA": (2023, "7B to 65B"), "LLaMA 2": (None, "7B to 70B"),
        "LLaMA 3": (2024, "8B to 405B"), "Mistral": (None, "7B"),
    }  # fmt: skip
    told = {
        "PaLM": (2022, "540B", "Chowdhery et al., PaLM, abstract, section 2", 0.98),
        "LLaMA": (2023, "7B to 65B", "Touvron et al., LLaMA, abstract, section 2.2", 0.98),
        "LLaMA 2": (2023, "7B to 70B", "Touvron et al., Llama 2, abstract, section 2.2", 0.97),
        "LLaMA 3": (
            2024,
            "8B to 405B",
            "Grattafiori et al., The Llama 3 Herd of Models, table 3",
            0.95,
        ),
        "Mistral": (2023, "7B", "Jiang et al., Mistral 7B, and its released code", 0.93),
    }
    parts: dict[str, Evidence | Check] = {}
    for name, (year, sizes, work, sure) in told.items():
        works = (Source(work, year, sure),)
        when, asked = claimed[name]
        parts[f"{name}, activation"] = Published("SwiGLU", works, "SwiGLU")
        parts[f"{name}, sizes"] = Published(sizes, works, asked)
        if when:
            parts[f"{name}, year"] = Check(Published(year, works), equals(when))
    return All(parts)


@question.reference(
    "C3.3.7-10",
    T(
        "DeepSeek 7B to 67B combines SwiGLU with a mixture of experts.",
        "DeepSeek 7B 到 67B 把 SwiGLU 与混合专家结合起来。",
    ),
    correction=T(
        "DeepSeek LLM 7B and 67B are dense, with SwiGLU. The mixture of experts came with "
        "DeepSeekMoE (16B) and DeepSeek-V2 (236B).",
        "DeepSeek LLM 7B 与 67B 是稠密模型，使用 SwiGLU。混合专家始于 DeepSeekMoE (16B) 与 DeepSeek-V2 (236B)。",
    ),
)
def deepseek(lab: Lab) -> Evidence:
    """What kind of feed-forward layer the 7B and 67B models have in DeepSeek's own reports; the
    second takes the 7B model as its dense baseline."""
    return Published(
        "dense",
        (
            Source("DeepSeek-AI, DeepSeek LLM, section 2.2 (LLaMA's design)", 2024, 0.95),
            Source("Dai et al., DeepSeekMoE (16B; DeepSeek 7B is its dense baseline)", 2024, 0.95),
        ),
        expected="mixture of experts",
    )


@question.exact(
    "C3.3.7-11",
    T("int(8 * d_model / 3) rounds up.", "int(8 * d_model / 3) 是向上取整。"),
    at_least(0.0),
    correction=T(
        "It cuts off: for 512 the result is {n[d = 512/int]:.2f} against 8d/3, for 1024 "
        "{n[d = 1024/int]:.2f}. To round up to a multiple takes m * -(-w // m), as in LLaMA.",
        "它是截断：d = 512 时结果与 8d/3 之差为 {n[d = 512/int]:.2f}，1024 时为 {n[d = 1024/int]:.2f}。"
        "向上取整到倍数要写 m * -(-w // m)，如 LLaMA。",
    ),
)
def rounds(lab: Lab) -> Evidence:
    """int(8d/3) less 8d/3 in Python and with NumPy's cast to int64; rounding up is 0 or more."""
    return All({
        f"d = {d}": Routes({
            "int": float(int(8 * d / 3) - Fraction(8 * d, 3)),
            "astype": float(int(np.array(8 * d / 3).astype(np.int64)) - Fraction(8 * d, 3)),
        })
        for d in (512, 1024, 4096)
    })  # fmt: skip


@question.figure(T("Small Transformers of exactly equal size", "参数量完全相等的小 Transformer"))
def equal_size(lab: Lab) -> Figure:
    """Loss on unseen windows for four feed-forward layers, same parameters, each at its better rate."""
    at = [Sample(losses(lab, kind)) for kind in KINDS]
    return Figure(
        Axis(T("feed-forward layer", "前馈层"), ticks=[T(n, n) for n in KINDS.values()]),
        Axis(T("loss, nats a character", "每字符损失 (nat)")),
        [
            Bars(T("unseen text", "未见文本"), *band(at)),
            Level(T("ReLU", "ReLU"), y=at[0].mean),
        ],
        T(
            "The two gated layers end below the two plain ones; bands are 95 % intervals over "
            "seeds.",
            "两种门控层的损失低于两种普通层；误差带是各种子的 95 % 区间。",
        ),
        {f"parameters, {KINDS[k]}": parameters(steady(lab, k).runs[0].model) for k in KINDS},
    )  # fmt: skip


@question.figure(T("The gate takes a while to pay", "门控要训练一阵才见效"))
def by_epoch(lab: Lab) -> Figure:
    """Training loss of each epoch, mean of the seeds, the band spans them."""
    lines = []
    for kind in ("relu", "gelu", "swiglu"):
        found = steady(lab, kind).losses
        name = KINDS[kind]
        lines.append(
            Line(T(name, name), np.arange(1, found.shape[1] + 1), found.mean(axis=0),
                 found.min(axis=0), found.max(axis=0))
        )  # fmt: skip
    return Figure(
        Axis(T("epoch", "轮")),
        Axis(T("training loss, nats", "训练损失 (nat)")),
        lines,
        T(
            "SwiGLU starts behind ReLU and GELU, passes ReLU about half-way, and leads at the end; "
            "bands span the seeds.",
            "SwiGLU 起初落后于 ReLU 与 GELU，约在中途超过 ReLU，最后领先；色带为各种子的范围。",
        ),
    )


@question.figure(T("How sparse is the hidden layer?", "隐藏层有多稀疏？"))
def how_sparse(lab: Lab) -> Figure:
    """Share of hidden entries at most a threshold, trained networks, ReLU and SwiGLU."""
    levels = np.logspace(-4, 0.5, 28)
    lines = []
    for kind in ("relu", "swiglu"):
        shares = np.array([below(hidden(lab, kind)[0], t) for t in levels])
        lines.append(
            Line(T(KINDS[kind], KINDS[kind]), levels, shares.mean(axis=1), shares.min(axis=1),
                 shares.max(axis=1))
        )  # fmt: skip
    return Figure(
        Axis(T("threshold / rms", "阈值 / 均方根"), log=True),
        Axis(T("share of entries below", "低于阈值的比例")),
        lines,
        T(
            "ReLU's curve starts high: most of its entries are exactly 0. SwiGLU's starts at 0 "
            "and rises only towards the rms; bands span the seeds.",
            "ReLU 的曲线起点就高：大部分元素恰为 0。SwiGLU 从 0 开始，到接近均方根处才升高；色带为各种子的范围。",
        ),
    )


@question.figure(T("Parameters against 8 d^2", "参数量与 8 d^2 之比"))
def rounding(lab: Lab) -> Figure:
    """The three ways to round the gated width: cut off, up to 256, and not at all."""
    d = np.arange(64, 4097, 64)
    ways = {
        T("int(8d/3)", "int(8d/3)"): [int(8 * v / 3) for v in d],
        T("up to a multiple of 256", "向上到 256 的倍数"): [gated_width(int(v), 256) for v in d],
    }
    return Figure(
        Axis(T("model width d", "模型宽度 d"), log=True),
        Axis(T("parameters / 8 d^2", "参数量 / 8 d^2")),
        [
            *(Line(name, d, 3 * np.array(w) / (8.0 * d)) for name, w in ways.items()),
            Level(T("equal", "相等"), y=1.0),
        ],
        T(
            "Cutting off costs next to nothing; rounding up to 256 adds a half to a layer of 100 "
            "units and under 5 % from 2000 on.",
            "截断几乎没有影响；向上取整到 256 在宽约 100 时使参数增加一半，宽 2000 以上则增加不到 5 %。",
        ),
    )
