"""3.3.1 GELU: what it is, and the random gate it is the mean of."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom import activations
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Published, Question,
    Routes, Sample, Settings, Source, T, at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.calculus import derivative, difference, highest, lowest, root, value
from fathom.book.material.smooth_gates import (
    SHAPES, normal_share, normal_share_summed, sign_changes,
)  # fmt: skip

question = Question(
    "3.3.1",
    title=T("What is GELU and what intuition motivates it?", "什么是 GELU？它背后的直觉是什么？"),
    difficulty=4,
    frequency=5,
    topics=("gelu", "stochastic gate", "normal distribution", "随机门控", "激活函数"),
    answer=T(
        "GELU multiplies its input by the probability that a standard normal number lies below "
        "it: GELU(x) = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2. The picture behind it is a gate "
        "that keeps x with probability Phi(x) and else puts 0, like dropout that looks at the "
        "input; GELU is the mean of that gate, so it is itself deterministic. ReLU is the same "
        "product with a step for a gate: the gate jumps, the function does not. The slope is "
        "Phi(x) + x phi(x); it is 0.5 at 0, overshoots 1 up to 1.129 at x = sqrt 2, is 0 at "
        "x = -0.752 and negative beyond, down to -0.129 at -sqrt 2. So GELU is smooth, not "
        "monotone, has its minimum -0.170 at -0.752, and is close to ReLU once |x| exceeds 3. "
        "BERT and the GPT models up to GPT-3 use it; LLaMA and PaLM take SwiGLU instead.",
        "GELU 把输入乘以“一个标准正态数小于它”的概率：GELU(x) = x Phi(x) = x (1 + erf(x / √2)) / 2。"
        "背后的图景是一个随机门：以概率 Phi(x) 保留 x，否则置 0，就像会看输入的 dropout；GELU 是这个门的"
        "期望，因此本身是确定性的。ReLU 是同样的乘积，只是门换成阶跃：跳变的是门，函数本身并不跳。"
        "导数是 Phi(x) + x phi(x)：在 0 处为 0.5，在 x = √2 处超过 1、达到 1.129，在 x = -0.752 处为 0，"
        "再往左为负，在 -√2 处最低为 -0.129。所以 GELU 光滑、非单调，最小值 -0.170 位于 -0.752；"
        "|x| 超过 3 以后就与 ReLU 很接近。BERT 和直到 GPT-3 的 GPT 系列用它；LLaMA 与 PaLM 改用 SwiGLU。",
    ),
    flips=T(
        "With inputs much larger than 1 in size the gate is practically a step, and GELU cannot "
        "be told from ReLU.",
        "当输入的绝对值远大于 1 时，门几乎就是阶跃，GELU 与 ReLU 无法区分。",
    ),
    analogy=T(
        "A doorman who lets people in the more surely the taller they are; GELU is how much "
        "height gets in on average.",
        "一个看身高放人的门卫：越高越容易进；GELU 就是平均放进来的身高。",
    ),
    generative=T(
        "BERT, GPT-2 and GPT-3 have GELU in every feed-forward layer; many later models gate "
        "with SiLU instead.",
        "BERT、GPT-2、GPT-3 的每个前馈层都用 GELU；之后的许多模型改用 SiLU 作门控。",
    ),
    classical=T(
        "In small networks it is a drop-in for ReLU whose gain is of the size of the seed noise.",
        "在小网络里它可以直接替换 ReLU，收益与随机种子带来的波动相当。",
    ),
    driving=T(
        "Vision transformers for perception carry GELU; on INT8 hardware it becomes a table.",
        "感知用的视觉 Transformer 带着 GELU；到 INT8 硬件上它变成一张查找表。",
    ),
    change=T(
        "Give the gate's noise a deviation of 0.1 instead of 1: the curve turns into ReLU.",
        "把门的噪声标准差从 1 改成 0.1：曲线就变成 ReLU。",
    ),
)

GRID = np.linspace(-3.0, 3.0, 25)
WIDE = np.linspace(-8.0, 8.0, 4001)


def slope(x: Any) -> Any:
    """GELU' by automatic differentiation."""
    return derivative(activations.gelu, x)


def slope_by_hand(x: Any) -> Any:
    """Phi(x) + x phi(x)."""
    return SHAPES["gelu"].slope(np.asarray(x, np.float64))


@question.exact(
    "C3.3.1-01",
    T(
        "GELU(x) = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2.",
        "GELU(x) = x Phi(x) = x (1 + erf(x / √2)) / 2。",
    ),
    at_most(1e-12),
)
def two_forms(lab: Lab) -> Evidence:
    """Largest difference on [-8, 8] of the library's GELU from each form.

    Phi is integrated from the normal density; the other form takes the C library's erf.
    """
    ours = value(activations.gelu, WIDE)
    return All({
        "x Phi(x), Phi integrated": float(np.abs(ours - WIDE * normal_share_summed(WIDE)).max()),
        "erf form": float(np.abs(ours - WIDE * normal_share(WIDE)).max()),
    })  # fmt: skip


@once
def gates(lab: Lab) -> tuple[Any, Any]:
    """Mean of x times a gate that opens when N(0, 1) falls below x: (seeds, places); and draws."""
    draws = lab.pick(40_000, 10_000)
    means = []
    for seed in lab.seeds(25, 15):
        rng = np.random.default_rng(seed)
        means.append([x * (rng.standard_normal(draws) < x).mean() for x in GRID])
    return np.array(means), draws


@question.experiment(
    "C3.3.1-02",
    T(
        "A gate that keeps x with probability Phi(x), else gives 0, has the mean x Phi(x).",
        "以概率 Phi(x) 保留 x、否则输出 0 的门，其期望是 x Phi(x)。",
    ),
    within(0.8, 1.2),
)
def mean_of_the_gate(lab: Lab) -> Evidence:
    """Root mean square over 25 places of (mean of the gate - GELU) / standard error, a seed.

    By chance alone it is 1. The gate compares x with a drawn normal number, so no Phi is used.
    A bias of 0.7 standard errors (0.0013 at x = 1) would leave the region.
    """
    means, draws = gates(lab)
    open_share = normal_share(GRID)
    at = GRID != 0
    error = np.abs(GRID) * np.sqrt(open_share * (1 - open_share) / draws)
    apart = (means - value(activations.gelu, GRID))[:, at] / error[at]
    return Sample(np.sqrt((apart**2).mean(axis=1)))


@question.exact(
    "C3.3.1-03",
    T(
        "Phi(2) = 0.98, Phi(0) = 0.5, Phi(-2) = 0.02.",
        "Phi(2) = 0.98，Phi(0) = 0.5，Phi(-2) = 0.02。",
    ),
    at_most(0.005),
)
def shares(lab: Lab) -> Evidence:
    """Phi by the error function and by integrating the density, less the two-digit values."""
    x, said = np.array([2.0, 0.0, -2.0]), np.array([0.98, 0.5, 0.02])
    return Routes({
        "error function": float(np.abs(normal_share(x) - said).max()),
        "integral": float(np.abs(normal_share_summed(x) - said).max()),
    })  # fmt: skip


@question.exact(
    "C3.3.1-04",
    T("ReLU is a hard step.", "ReLU 是硬阶跃。"),
    at_least(0.5),
    correction=T(
        "Its gate is, and with it the slope: it jumps by {n[the gate/one-sided values]:.0f} at 0. "
        "ReLU itself is continuous: over a width of 2e-9 across 0 it rises by "
        "{n[ReLU itself/one-sided values]:.0e}.",
        "它的门（也就是导数）是硬阶跃：在 0 处跳变 {n[the gate/one-sided values]:.0f}。ReLU 本身连续："
        "跨过 0、宽 2e-9 的区间内只上升 {n[ReLU itself/one-sided values]:.0e}。",
    ),
)
def jump_of_relu(lab: Lab) -> Evidence:
    """Height of the jump at 0: f(h) - f(-h) for h = 1e-9, and the audit of the formula.

    Of ReLU and of its gate ReLU(x) / x, which is the slope too; GELU has Phi in its place.
    """
    near = np.array([1e-9, -1e-9])
    of_relu, of_gate = value(activations.relu, near), derivative(activations.relu, near)
    kinks = activations.audit("relu", timing=False).kinks

    def jump(order: int) -> float:
        return float(sum(abs(k.jump) for k in kinks if k.order == order))

    return Settings(T("what is meant", "指的是什么"), {
        "ReLU itself": Routes({
            "one-sided values": float(of_relu[0] - of_relu[1]), "audit": jump(0)
        }),
        "the gate": Routes({
            "one-sided values": float(of_gate[0] - of_gate[1]), "audit": jump(1)
        }),
    })  # fmt: skip


@question.exact(
    "C3.3.1-05",
    T("GELU'(x) = Phi(x) + x phi(x).", "GELU'(x) = Phi(x) + x phi(x)。"),
    at_most(1e-12),
)
def slope_formula(lab: Lab) -> Evidence:
    """Largest difference on [-8, 8] from the tape's slope, and from central differences."""
    hand = slope_by_hand(WIDE)
    apart = float(np.abs(difference(activations.gelu, WIDE) - hand).max())
    return All({
        "autograd": float(np.abs(slope(WIDE) - hand).max()),
        "central differences": Check(apart, at_most(1e-8)),
    })  # fmt: skip


@question.exact(
    "C3.3.1-06",
    T(
        "The slope of GELU rises towards 1 and never exceeds it.",
        "GELU 的导数上升趋于 1，从不超过 1。",
    ),
    at_most(1.0),
    correction=T(
        "It overshoots to {n[autograd]:.4f} at x = sqrt 2 before it comes back to 1.",
        "它在 x = √2 处冲到 {n[autograd]:.4f}，然后才回落到 1。",
    ),
    weight=2,
)
def largest_slope(lab: Lab) -> Evidence:
    """The largest slope on [-8, 8]: of the tape, and of the closed form at sqrt 2."""
    return Routes({
        "autograd": highest(slope, -8.0, 8.0)[1],
        "closed form at sqrt 2": float(slope_by_hand([np.sqrt(2.0)])[0]),
    })  # fmt: skip


@question.exact(
    "C3.3.1-07",
    T("For x > 0 the slope is close to 1.", "x > 0 时导数接近 1。"),
    at_most(0.2),
    correction=T(
        "From 1 on it is within {n[1 < x < 8/autograd]:.2f} of 1. Between 0 and 1 it rises from "
        "0.5, which is {n[0 < x < 1/autograd]:.2f} away, and is above 1 from 0.75 on.",
        "x > 1 时与 1 相差不超过 {n[1 < x < 8/autograd]:.2f}。在 0 与 1 之间它从 0.5 升起，偏差 "
        "{n[0 < x < 1/autograd]:.2f}，从 0.75 起超过 1。",
    ),
)
def right_of_zero(lab: Lab) -> Evidence:
    """Largest distance of the slope from 1 between 0 and 1, and between 1 and 8.

    Within 0.2 counts as close.
    """
    places = {
        "0 < x < 1": np.linspace(0.0, 1.0, 1001)[1:], "1 < x < 8": np.linspace(1.0, 8.0, 7001)
    }  # fmt: skip
    return Settings(T("x", "x"), {
        name: Routes({
            "autograd": float(np.abs(slope(x) - 1.0).max()),
            "closed form": float(np.abs(slope_by_hand(x) - 1.0).max()),
        })
        for name, x in places.items()
    })  # fmt: skip


@question.exact(
    "C3.3.1-08",
    T(
        "For x < 0 the slope is small but never exactly 0.",
        "x < 0 时导数很小，但从不恰好为 0。",
    ),
    equals(0.0),
    correction=T(
        "It is 0 once, at the minimum x = {n[place/autograd]:.4f}, and negative beyond it; "
        "right of the minimum it climbs to 0.5. What is true: it is 0 on no interval.",
        "它在最小值点 x = {n[place/autograd]:.4f} 处为 0，再往左为负，往右升到 0.5。成立的是：它不在任何区间上为 0。",
    ),
    weight=2,
)
def zeros_of_the_slope(lab: Lab) -> Evidence:
    """How often the slope changes its sign on [-8, 0), and where: the tape's, the closed form's."""
    ways = {"autograd": slope, "closed form": slope_by_hand}
    return All({
        "zeros": Routes({k: sign_changes(f, -8.0, -1e-9) for k, f in ways.items()}),
        "place": Check(Routes({k: root(f, -2.0, 0.0) for k, f in ways.items()}), within(-2.0, 0.0)),
    })  # fmt: skip


@question.reference(
    "C3.3.1-09",
    T(
        "All leading large language models (BERT, GPT-4, Claude) use GELU.",
        "所有主流大语言模型（BERT、GPT-4、Claude）都用 GELU。",
    ),
    correction=T(
        "BERT does; PaLM and LLaMA use SwiGLU, and what GPT-4 and Claude use is not published.",
        "BERT 用；PaLM 与 LLaMA 用 SwiGLU，而 GPT-4 与 Claude 用什么并未公开。",
    ),
    weight=3,
)
def language_models(lab: Lab) -> Evidence:
    """The activations that published architectures state; two leading families state another."""
    bert = Source("Devlin et al., BERT, appendix A.2", 2018, 0.98)
    others = (
        Source("Chowdhery et al., PaLM, section 2 (SwiGLU)", 2022, 0.98),
        Source("Touvron et al., LLaMA, section 2.2 (SwiGLU)", 2023, 0.98),
    )
    return All({
        "BERT": Published("GELU", (bert,), "GELU"),
        "PaLM, LLaMA": Published("SwiGLU", others, "GELU"),
        "GPT-4, Claude": NotMeasurable(T("a published architecture", "公开的结构")),
    })  # fmt: skip


@question.reference(
    "C3.3.1-10",
    T("FlashAttention is made for GELU.", "FlashAttention 是为 GELU 设计的。"),
    correction=T(
        "It computes exact softmax attention by blocks; the activation of the feed-forward layer "
        "plays no part in it.",
        "它分块计算精确的 softmax 注意力；前馈层的激活函数与它无关。",
    ),
    weight=2,
)
def flash_attention(lab: Lab) -> Evidence:
    """The function that the algorithm of the two papers computes by blocks."""
    return Published(
        "softmax attention",
        (
            Source("Dao et al., FlashAttention (exact softmax attention, tiling)", 2022, 0.98),
            Source("Dao, FlashAttention-2 (work partitioning of the same)", 2023, 0.97),
        ),
        expected="GELU",
    )


@question.figure(T("The random gate and its mean", "随机门与它的均值"))
def gate_mean(lab: Lab) -> Figure:
    """Few draws of the gate with a band over seeds, beside GELU and ReLU."""
    few = 50
    found = np.array([
        [x * (np.random.default_rng([seed, i]).standard_normal(few) < x).mean()
         for i, x in enumerate(GRID)]
        for seed in lab.seeds(25, 6)
    ])  # fmt: skip
    at = [Sample(column) for column in found.T]
    return Figure(
        Axis(T("x", "x")),
        Axis(T("output", "输出")),
        [
            Line(T("gate, 50 draws, mean of the seeds", "门：50 次抽样，各种子的均值"), GRID, *band(at)),
            Line(T("GELU", "GELU"), GRID, value(activations.gelu, GRID)),
            Line(T("ReLU", "ReLU"), GRID, value(activations.relu, GRID)),
        ],
        T(
            "A gate that opens when a normal number falls below x passes GELU(x) on average; "
            "ReLU lies above it everywhere, most at |x| = 0.75.",
            "当正态随机数小于 x 时打开的门，平均输出就是 GELU(x)；ReLU 处处在它之上，"
            "在 |x| = 0.75 处差得最多。",
        ),
    )  # fmt: skip


@question.figure(T("The slope of GELU overshoots on both sides", "GELU 的导数在两侧都越界"))
def slopes(lab: Lab) -> Figure:
    """GELU' and the step that is ReLU's slope, with the measured extremes."""
    x = np.linspace(-5.0, 5.0, 401)
    low, high = (f(slope, -5.0, 5.0) for f in (lowest, highest))
    zero = root(slope, -2.0, 0.0)
    return Figure(
        Axis(T("x", "x")),
        Axis(T("slope", "导数")),
        [
            Line(T("GELU", "GELU"), x, slope(x)),
            Line(T("ReLU", "ReLU"), x, (x > 0).astype(float)),
            Line(T("extremes and zero", "极值点与零点"), [low[0], zero, high[0]],
                 [low[1], 0.0, high[1]], points=True),
            Level(T("1", "1"), y=1.0),
        ],
        T(
            "The slope is 0.5 at 0, exceeds 1 between 0.75 and infinity, is 0 at -0.752 and "
            "negative to the left of it.",
            "导数在 0 处为 0.5，在 0.75 以右超过 1，在 -0.752 处为 0，再往左为负。",
        ),
        {"highest": high[1], "lowest": low[1], "zero at": zero},
    )  # fmt: skip
