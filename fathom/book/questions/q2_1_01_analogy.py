"""2.1.1 How far the analogy between biological and artificial neurons carries."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Settings, Source, T,
    at_most, equals, once, within,
)  # fmt: skip
from fathom.book.material.planes import found_by_search
from fathom.models import LIFNeuron, McCullochPitts, boolean_inputs
from fathom.nn import Linear

question = Question(
    "2.1.1",
    title=T(
        "How far does the analogy between a biological and an artificial neuron carry?",
        "生物神经元与人工神经元的类比在多大程度上成立？",
    ),
    difficulty=2,
    frequency=3,
    topics=("neuron", "mcculloch-pitts", "threshold", "firing rate", "神经元", "阈值", "发放率"),
    answer=T(
        "The analogy is one of roles: inputs stand for dendrites, weights for the strength of "
        "synapses, the sum for the cell body, the bias for the firing threshold with its sign "
        "turned, and the output for the axon. What the output stands for is a firing rate, not a "
        "spike. The unit of McCulloch and Pitts (1943) came first and can do less than the unit "
        "we use: its inputs are 0 or 1, its weights fixed, an inhibitory input vetoes, and "
        "nothing is learnt. A real cell works in time: it integrates, leaks, fires and "
        "is then silent for a while, and below a threshold current it does not fire at all. A "
        "sigmoid describes the average rate well where noise blurs that threshold; without noise it "
        "misses the silence below. Networks today are justified by how they train, "
        "not by how well they resemble tissue.",
        "这个类比是角色上的对应：输入对应树突，权重对应突触强度，加权和对应胞体，偏置对应取负号的"
        "发放阈值，输出对应轴突。输出代表的是发放率，而不是单个脉冲。1943 年的 McCulloch-Pitts "
        "单元出现更早、能力也更弱：输入只有 0 和 1，权重固定，抑制性输入一票否决，而且不学习。"
        "真实细胞在时间中工作：积分、泄漏、发放、随后不应期；电流低于阈值时完全不发放。"
        "有噪声把阈值抹平时，sigmoid 能很好地描述平均发放率；没有噪声时，它描述不了阈值以下的沉默。"
        "今天的网络以可训练性为依据，而不是以与组织的相似程度为依据。",
    ),
    flips=T(
        "If timing carries the information (coincidence of spikes, bursts), the rate picture and "
        "with it the analogy breaks down.",
        "如果信息由时序携带（脉冲同步、簇发放），发放率的图景连同这个类比就不再成立。",
    ),
    analogy=T(
        "An artificial neuron is to a cell what a thermometer's reading is to the weather: one number "
        "kept of a process in time.",
        "人工神经元之于细胞，好比温度计读数之于天气：把一个随时间变化的过程压缩成一个数。",
    ),
    generative=T(
        "Nothing in a language model spikes; attention has no counterpart in the 1943 unit.",
        "语言模型里没有脉冲；注意力在 1943 年的单元中也没有对应物。",
    ),
    classical=T(
        "A unit with a sigmoid is logistic regression; the biology is only its history.",
        "带 sigmoid 的单元就是逻辑回归；生物学只是它的来历。",
    ),
    driving=T(
        "Event cameras and spiking chips are where the analogy is taken literally, for the energy "
        "it saves.",
        "事件相机与脉冲芯片为了省电，才真正按字面采用这个类比。",
    ),
    change=T(
        "Turn the noise of the current up: the kink at the threshold blurs and a sigmoid fits.",
        "加大电流噪声：阈值处的折点被抹平，sigmoid 就能拟合了。",
    ),
)

CURRENTS = np.linspace(0.5, 3.0, 200)
# inputs a cell receives, as counted in tissue
CORTEX, GRANULE, PURKINJE = 7_000, 4, 175_000


def realized_by_mp(bits: int) -> set[tuple[int, ...]]:
    """Truth tables of all units of 1943: each input vetoes, is not connected, or has one to
    `bits` endings on the cell, which count alike (more change nothing up to three bits)."""
    inputs = boolean_inputs(bits)
    tables = set()
    for roles in product(range(-1, bits + 1), repeat=bits):
        for threshold in range(sum(max(r, 0) for r in roles) + 2):
            veto = [i for i, role in enumerate(roles) if role < 0]
            unit = McCullochPitts(threshold, [max(r, 0) for r in roles], veto)
            tables.add(tuple(unit(inputs).tolist()))
    return tables


@question.exact(
    "C2.1.1-01",
    T(
        "The neuron of real inputs and any activation is the McCulloch-Pitts neuron.",
        "实数输入、任意激活函数的神经元就是 McCulloch-Pitts 神经元。",
    ),
    equals(1.0),
    correction=T(
        "The unit of 1943 is a special case: of the functions of three bits that a weighted sum "
        "with a threshold can do it does {n[functions of three bits]:.0%}, and none of the values "
        "between 0 and 1 that a sigmoid unit gives for real inputs.",
        "1943 年的单元只是特例：加权和加阈值能实现的三比特函数，它只能实现 "
        "{n[functions of three bits]:.0%}；sigmoid 单元在实数输入上给出的 0 与 1 之间的值，它一个也给不出。",
    ),
)
def the_same_unit(lab: Lab) -> Evidence:
    """Share of what the weighted unit does that a unit of 1943 does too: a veto, and endings on the
    cell that all count alike, several from one input allowed.

    Once over the truth tables of three bits, once over outputs at 1,000 random real inputs.
    """
    inputs = boolean_inputs(3)
    weighted = {v for v in product((0, 1), repeat=8) if found_by_search(inputs, v)}
    out = fathom.sigmoid(Linear(3, 1).double()(fathom.tensor(lab.rng("x").normal(size=(1000, 3)))))
    return Routes({
        "functions of three bits": len(realized_by_mp(3) & weighted) / len(weighted),
        "outputs for real inputs": float(np.isin(out.value(), (0.0, 1.0)).mean()),
    })  # fmt: skip


@question.exact(
    "C2.1.1-02",
    T(
        "A neuron computes f(sum of w_i x_i + b), which is f(w . x + b).",
        "神经元计算 f(Σ w_i x_i + b)，即 f(w·x + b)。",
    ),
    at_most(1e-12),
)
def sum_and_product(lab: Lab) -> Evidence:
    """Largest difference of a loop in Python, a dot product and a layer; 200 random neurons."""
    rng = lab.rng("neurons")
    w, x, b = rng.normal(size=(200, 10)), rng.normal(size=(200, 10)), rng.normal(size=200)
    looped = np.array(
        [np.tanh(sum(a * c for a, c in zip(u, v, strict=True)) + s)
         for u, v, s in zip(w, x, b, strict=True)]
    )  # fmt: skip
    dotted = np.tanh([np.dot(u, v) + s for u, v, s in zip(w, x, b, strict=True)])
    layer = Linear(10, 200).double()
    layer.weight.data[...], layer.bias.data[...] = w, b
    ours = np.diag(fathom.tanh(layer(fathom.tensor(x))).value())
    return All({
        "loop and dot product": float(np.abs(looped - dotted).max()),
        "loop and layer": float(np.abs(looped - ours).max()),
    })  # fmt: skip


@question.exact(
    "C2.1.1-03",
    T("The bias acts as the firing threshold.", "偏置起发放阈值的作用。"),
    equals(0.0),
)
def threshold(lab: Lab) -> Evidence:
    """Share of 100,000 random neurons where w . x + b > 0 and w . x > -b disagree; and of bits
    where a unit with threshold -b (McCulloch-Pitts) disagrees with a step after adding b.
    """
    rng = lab.rng("thresholds")
    dot = (rng.normal(size=(100_000, 5)) * rng.normal(size=(100_000, 5))).sum(axis=1)
    b = rng.normal(size=100_000)
    bits, wrong = boolean_inputs(5), []
    for needed in (1, 2, 3, 4):
        layer = Linear(5, 1).double()
        layer.weight.data[...], layer.bias.data[...] = 1.0, -needed
        stepped = fathom.nn.Step()(layer(fathom.tensor(bits.astype(float)))).value()[:, 0]
        wrong.append(float((stepped != McCullochPitts(needed)(bits)).mean()))
    return All({
        "real inputs": float(((dot + b > 0) != (dot > -b)).mean()), "bits": max(wrong)
    })  # fmt: skip


@question.reference(
    "C2.1.1-04",
    T(
        "A biological neuron has on the order of 10,000 synapses.",
        "一个生物神经元有约 10⁴ 个突触。",
    ),
    within(3_000, 30_000),
    correction=T(
        f"It depends on the kind of cell: about {CORTEX:,} in the human cortex, but {GRANULE} on a "
        f"cerebellar granule cell (four fifths of the brain's neurons) and some {PURKINJE:,} on a "
        "Purkinje cell.",
        f"取决于细胞类型：人类皮层约 {CORTEX:,} 个；小脑颗粒细胞（占全脑神经元的五分之四）只接收约 "
        f"{GRANULE} 个，浦肯野细胞则约 {PURKINJE:,} 个。",
    ),
)
def synapses(lab: Lab) -> Evidence:
    """Counts published for three kinds of cells, judged as 10^3.5 to 10^4.5 (rounded).

    The human cerebellum has 69 of the brain's 86 billion neurons (Azevedo et al., 2009), nearly
    all of them granule cells.
    """
    counts = {
        "neocortex": (CORTEX, Source("Pakkenberg et al., Aging and the human neocortex", 2003, 0.9)),
        "cerebellar granule cell": (
            GRANULE, Source("Eccles, Ito & Szentagothai, The Cerebellum as a Neuronal Machine",
                            1967, 0.9)),
        "Purkinje cell (rat)": (
            PURKINJE, Source("Napper & Harvey, Number of parallel fiber synapses on a Purkinje "
                             "cell", 1988, 0.9)),
    }  # fmt: skip
    return Settings(
        T("kind of cell", "细胞类型"),
        {name: Published(count, (work,)) for name, (count, work) in counts.items()},
    )


@once
def firing(lab: Lab, noise: float) -> Any:
    """Spikes a second at each current, by simulation; `noise` is the deviation of the input, nA."""
    neuron = LIFNeuron(dt=0.5)
    steps = lab.pick(8_000, 2_000)
    drive = np.broadcast_to(CURRENTS, (steps, len(CURRENTS)))
    if noise:
        drive = drive + noise * lab.rng(f"noise {noise}").normal(size=drive.shape)
    return neuron.simulate(drive)[1].sum(axis=0) / (steps * neuron.dt / 1000.0)


def fitted_sigmoid(rate: Any) -> tuple[Any, float]:
    """The sigmoid top * s(gain (I - centre)) nearest to the rates, and its R^2; finer grids."""
    gains, centres = np.geomspace(0.3, 60.0, 40), np.linspace(0.5, 5.0, 40)
    best, curve = np.inf, rate
    for _ in range(5):
        shapes = 1 / (1 + np.exp(-gains[:, None, None] * (CURRENTS - centres[:, None])))
        tops = (shapes @ rate) / np.square(shapes).sum(axis=-1)
        loss = np.square(tops[..., None] * shapes - rate).sum(axis=-1)
        i, j = divmod(int(loss.argmin()), 40)
        best, curve = float(loss[i, j]), tops[i, j] * shapes[i, j]
        gains = np.geomspace(gains[max(i - 1, 0)], gains[min(i + 1, 39)], 40)
        centres = np.linspace(centres[max(j - 1, 0)], centres[min(j + 1, 39)], 40)
    return curve, 1.0 - best / float(np.square(rate - rate.mean()).sum())


@question.figure(
    T("Firing rate of a spiking neuron, and the sigmoid nearest to it",
      "脉冲神经元的发放率与最接近它的 sigmoid")
)  # fmt: skip
def rates(lab: Lab) -> Figure:
    """A leaky integrate-and-fire neuron at 200 currents, without and with noise; fitted sigmoids."""
    rheobase = LIFNeuron().threshold_current
    lines, numbers = [], {"threshold current, nA": rheobase}
    names = {
        0.0: (T("spikes, no noise", "脉冲计数，无噪声"), T("sigmoid fit", "sigmoid 拟合")),
        4.0: (T("spikes, noisy current", "脉冲计数，电流带噪声"),
              T("sigmoid fit (noisy)", "sigmoid 拟合（带噪声）")),
    }  # fmt: skip
    for noise, (counted, fit) in names.items():
        rate = firing(lab, noise)
        curve, share = fitted_sigmoid(rate)
        lines += [Line(counted, CURRENTS, rate), Line(fit, CURRENTS, curve)]
        silent = CURRENTS < rheobase
        numbers[f"R^2, noise {noise:g}"] = share
        numbers[f"rate below threshold, noise {noise:g}"] = float(rate[silent].mean())
        numbers[f"sigmoid there, noise {noise:g}"] = float(curve[silent].mean())
    return Figure(
        Axis(T("input current (nA)", "输入电流 (nA)")),
        Axis(T("spikes a second", "每秒脉冲数")),
        [*lines, Level(T("threshold current", "阈值电流"), x=rheobase)],
        T(
            "Without noise the cell is silent below the threshold current, where the sigmoid is "
            "not; with noise the kink blurs.",
            "无噪声时，细胞在阈值电流以下完全沉默，而 sigmoid 不为零；有噪声时折点被抹平。",
        ),
        numbers,
    )


@question.figure(T("What one unit can do with n bits", "一个单元在 n 比特上能做什么"))
def truth_tables(lab: Lab) -> Figure:
    """Boolean functions realized by the unit of 1943, by a weighted threshold unit, and all."""
    bits = [1, 2, 3]
    tables = [[v for v in product((0, 1), repeat=2**n)] for n in bits]
    weighted = [
        sum(found_by_search(boolean_inputs(n), v) for v in all_of)
        for n, all_of in zip(bits, tables, strict=True)
    ]
    return Figure(
        Axis(T("number of bits", "比特数")),
        Axis(T("functions", "函数个数"), log=True),
        [
            Line(T("all functions", "全部函数"), bits, [len(t) for t in tables]),
            Line(T("weighted sum, threshold", "加权和 + 阈值"), bits, weighted),
            Line(T("McCulloch-Pitts, 1943", "McCulloch-Pitts（1943）"), bits,
                 [len(realized_by_mp(n)) for n in bits]),
        ],
        T(
            "Real weights can do more than the unit of 1943, and both fall behind the number of "
            "all functions.",
            "实数权重比 1943 年的单元能做的更多，而两者都远少于全部函数的数目。",
        ),
    )  # fmt: skip
