"""3.4.5 Whether an activation trains stably: what to measure, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom.book import Axis, Bars, Figure, Heat, Lab, Line, Question, Sample, T, once
from fathom.book.material.data import accuracy, digits
from fathom.book.material.dead import silenced
from fathom.book.material.stacks import stack
from fathom.doctor import dead_units, gradient_flow, saturation

question = Question(
    "3.4.5",
    title=T(
        "How do activations affect training stability, and how to assess it?",
        "激活函数如何影响训练稳定性？如何评估？",
    ),
    difficulty=4,
    frequency=4,
    topics=("gradient flow", "dead units", "saturation", "stability", "梯度流", "训练稳定性", "诊断"),
    answer=T(
        "An activation acts on stability through three things: its slope, which multiplies the gradient "
        "at every layer; its flat parts, where units stop learning; and its range, which bounds or feeds "
        "the growth of the signal. So measure before training, on one batch and by layer: the size of "
        "what comes in, the gradient in relation to weights and loss, the shares of saturated and of dead "
        "units, and the step over the weights. The popular ratio of first to last gradient is not enough: "
        "among ten planted illnesses it saw a fifth, since a signal that shrinks or grows leaves all "
        "layers' gradients equally wrong; all probes together noticed every one. Their price is false "
        "alarms, one in six: ReLU networks have a fifth of a layer dead by chance and mostly train on. "
        "Vanishing, collapsed or exploding networks did not learn at all, saturated ones badly; but healthy "
        "at the start is no warranty, because the learning rate is not in the diagnosis: SELU with sixteen "
        "layers stays at chance with 0.1 and learns well with 0.03; a healthy sigmoid wants 1.0.",
        "激活函数从三方面影响稳定性：斜率在每层乘到梯度上；平坦段使单元停止学习；值域限制或助长信号的增长。"
        "所以应在训练前用一个批次逐层测量：输入的大小、梯度相对于权重和损失的大小、饱和与死亡单元的比例、"
        "更新量与权重之比。常用的“首层与末层梯度之比”不够：十种植入的病症它只看出五分之一，"
        "因为信号缩小或放大时，各层梯度同样不正常；所有探针合起来则一个不漏。代价是误报，约六分之一："
        "ReLU 网络偶然会有某层五分之一的单元死亡，却大多照样能训练。消失、坍缩、爆炸的网络完全学不动，饱和的学得差；"
        "但开始时健康并不是保证，因为诊断里没有学习率：十六层的 SELU 用 0.1 停在随机水平，用 0.03 就学得好；健康的 sigmoid 则需要 1.0。",
    ),
    flips=T(
        "With normalization and shortcuts the activation no longer decides on stability; the learning rate "
        "does.",
        "有归一化与残差时，稳定性不再由激活函数决定，而由学习率决定。",
    ),
    analogy=T(
        "A check-up: pulse, temperature and blood pressure each miss illnesses that another one "
        "shows.",
        "像体检：脉搏、体温、血压各有漏诊的病，要靠另一项发现。",
    ),
    generative=T(
        "Large runs log gradient norms and the largest activations of each block: a spike there comes "
        "before the spike of the loss.",
        "大模型训练记录每块的梯度范数与最大激活：那里的尖峰先于损失的尖峰。",
    ),
    classical=T(
        "A network of two layers that does not learn: look first for dead or saturated units and at "
        "the scale of the inputs.",
        "两层网络学不动：先查死亡或饱和的单元，以及输入的尺度。",
    ),
    driving=T(
        "A camera's new exposure moves the inputs: saturation and dead shares tell before the accuracy "
        "does.",
        "相机曝光一变，输入就偏移：饱和率与死亡率会先于准确率报警。",
    ),
    change=T(
        "Raise `DEAD` from 0.2 to 0.45: most false alarms on ReLU go, and the planted half-dead "
        "layers are still found.",
        "把 `DEAD` 从 0.2 提到 0.45：对 ReLU 的误报大多消失，植入的半死层仍能发现。",
    ),
)  # fmt: skip

Array = NDArray[Any]
DEAD, STUCK = 0.2, 0.5
SIGNS = ("healthy", "vanishing", "collapse", "exploding", "saturated", "dead")
SIGN_WORDS = {
    "healthy": T("healthy", "健康"), "vanishing": T("vanishing", "消失"),
    "collapse": T("forward collapse", "前向坍缩"), "exploding": T("exploding", "爆炸"),
    "saturated": T("saturated", "饱和"), "dead": T("dead units", "死亡单元"),
}  # fmt: skip
# what the doctor calls a verdict of its own, in the words above
CALLED = {"forward collapse": "collapse", "non-finite": "exploding"}


class Planted(NamedTuple):
    """A network with a known condition."""

    name: str
    condition: str
    make: Callable[[], Any]


def net(activation: str, depth: int, gain: float = 1.0, **options: Any) -> Callable[[], Any]:
    """A stack of 32 units a layer; the hidden weights after the usual rule times `gain`."""

    def make() -> Any:
        model = stack(64, 10, 32, depth, activation=activation, **({"init": "auto"} | options))
        for layer in model:
            if isinstance(layer, fathom.nn.Linear) and layer.out_features == 32 and gain != 1.0:
                layer.weight.data[...] = gain * layer.weight.value()
        return model

    return make


def half_dead(layer: int, depth: int) -> Callable[[], Any]:
    """A ReLU network with half of a layer's units silent on all rows."""
    return lambda: silenced(layer, digits().x, 10, depth=depth)


PLANTED = (
    Planted("ReLU, 3 layers", "healthy", net("relu", 3)),
    Planted("ReLU, 8 layers", "healthy", net("relu", 8)),
    Planted("tanh, 4 layers", "healthy", net("tanh", 4)),
    Planted("tanh, 12 layers", "healthy", net("tanh", 12)),
    Planted("SELU, 16 layers", "healthy", net("selu", 16)),
    Planted("GELU, 4 layers", "healthy", net("gelu", 4)),
    Planted("sigmoid, 2 layers", "healthy", net("sigmoid", 2)),
    Planted("ELU, 6 layers", "healthy", net("elu", 6)),
    Planted("Leaky ReLU, 6 layers", "healthy", net("leaky_relu", 6)),
    Planted("ReLU, 12 layers, shortcuts", "healthy",
            net("relu", 12, residual=True, scale=12**-0.5)),
    Planted("sigmoid, 8 layers", "vanishing", net("sigmoid", 8)),
    Planted("sigmoid, 14 layers", "vanishing", net("sigmoid", 14)),
    Planted("tanh, 12 layers, weights x 0.3", "collapse", net("tanh", 12, 0.3)),
    Planted("ReLU, 12 layers, weights x 0.3", "collapse", net("relu", 12, 0.3)),
    Planted("ReLU, 12 layers, weights x 3", "exploding", net("relu", 12, 3.0)),
    Planted("ReLU, 16 layers, shortcuts unscaled, weights x 2", "exploding",
            net("relu", 16, 2.0, residual=True)),
    Planted("tanh, 3 layers, weights x 30", "saturated", net("tanh", 3, 30.0)),
    Planted("sigmoid, 2 layers, weights x 60", "saturated", net("sigmoid", 2, 60.0)),
    Planted("ReLU, half of layer 1 dead", "dead", half_dead(0, 3)),
    Planted("ReLU, half of layer 2 dead", "dead", half_dead(1, 3)),
)  # fmt: skip


def flat_share(model: Any, x: Array) -> float:
    """The largest share of flat pre-activations in a layer of a bounded activation (0 without one)."""
    rows = saturation(model, x).rows
    return max((r.flat_share for r in rows if r.kind in ("Sigmoid", "Tanh")), default=0.0)


def dead_share(model: Any, x: Array) -> float:
    """The largest share of dead units in a layer."""
    return max(row.dead_share for row in dead_units(model, x).rows)


def diagnosis(model: Any) -> tuple[str, str]:
    """By all three probes (units first, then the flow), and by the ratio of gradients alone."""
    data = digits()
    flow = gradient_flow(model, "cross_entropy", data.x[:200], data.y[:200])
    if flat_share(model, data.x[:200]) >= STUCK:
        found = "saturated"
    elif dead_share(model, data.x) >= DEAD and flow.verdict == "healthy":
        found = "dead"
    else:
        found = CALLED.get(flow.verdict, flow.verdict)
    return found, CALLED.get(flow.ratio_verdict, flow.ratio_verdict)


@once
def examined(lab: Lab) -> list[tuple[str, str, str]]:
    """(condition, diagnosis, that by the ratio) of every planted network and seed."""
    found = []
    for seed in lab.seeds(5, 1):
        for plant in PLANTED[:: lab.pick(1, 2)]:
            with fathom.seed(seed):
                model = plant.make()
            found.append((plant.condition, *diagnosis(model)))
    return found


@question.figure(T("Twenty planted networks, diagnosed", "对二十个植入病症的网络作诊断"))
def scored(lab: Lab) -> Figure:
    """Ten healthy and ten sick networks on digits before training, five seeds each. A bounded activation with
    half of a layer's inputs on flat ground is saturated; else a sick flow names itself; else a layer
    with a fifth of its units dead is. Shown: share of each condition with each diagnosis."""
    found = examined(lab)
    values = np.zeros((len(SIGNS), len(SIGNS)))
    for condition, said, _ in found:
        values[SIGNS.index(condition), SIGNS.index(said)] += 1
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    sick = [f for f in found if f[0] != "healthy"]
    well = [f for f in found if f[0] == "healthy"]
    told = {
        "right, all probes": float(np.mean([c == s for c, s, _ in found])),
        "sick ones noticed, all probes": float(np.mean([s != "healthy" for _, s, _ in sick])),
        "sick ones noticed, gradient ratio alone": float(
            np.mean([r != "healthy" for *_, r in sick])
        ),
        "false alarms, all probes": float(np.mean([s != "healthy" for _, s, _ in well])),
        "false alarms, gradient ratio alone": float(np.mean([r != "healthy" for *_, r in well])),
    }
    ticks = [SIGN_WORDS[s] for s in SIGNS]
    return Figure(
        Axis(T("diagnosis", "诊断"), ticks=ticks),
        Axis(T("planted", "植入的状况"), ticks=ticks),
        [Heat(T("share", "比例"), shares, (-0.5, 5.5), (-0.5, 5.5))],
        T(
            "Every illness is named rightly; the only mistakes are healthy networks of ReLU reported for "
            "dead units.",
            "每种病症都说对了；唯一的错误是把健康的 ReLU 网络报为有死亡单元。",
        ),
        told,
    )


SHOWN = {
    T("ReLU, He", "ReLU，He"): net("relu", 10), T("tanh", "tanh"): net("tanh", 10),
    T("sigmoid", "sigmoid"): net("sigmoid", 10),
    T("tanh, weights x 0.3", "tanh，权重 ×0.3"): net("tanh", 10, 0.3),
    T("ReLU, weights x 3", "ReLU，权重 ×3"): net("relu", 10, 3.0),
}  # fmt: skip


@question.figure(T("Leverage by layer", "各层的杠杆"))
def leverages(lab: Lab) -> Figure:
    """Gradient norm times weight norm over the loss, of each layer of five networks of ten hidden layers at
    the start: geometric mean of five seeds, from the lowest to the highest."""
    data, lines = digits(), []
    for name, make in SHOWN.items():
        runs = []
        for seed in lab.seeds(5, 2):
            with fathom.seed(seed):
                model = make()
            rows = gradient_flow(model, "cross_entropy", data.x[:200], data.y[:200]).rows
            runs.append([np.log10(max(r.leverage, 1e-30)) for r in rows])
        at = np.array(runs)
        middle, low, high = (10.0 ** f(at, axis=0) for f in (np.mean, np.min, np.max))
        lines.append(Line(name, np.arange(1, at.shape[1] + 1), middle, low, high))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("leverage", "杠杆"), log=True),
        lines,
        T(
            "Only the sigmoid shows in the slope of its line; small and large weights shift a whole line, "
            "which no ratio of layers can see.",
            "只有 sigmoid 体现在曲线的斜率上；权重过小或过大使整条线平移，任何层间比值都看不出来。",
        ),
    )


@question.figure(T("Does the diagnosis foretell the training?", "诊断能预言训练结果吗？"))
def foretold(lab: Lab) -> Figure:
    """Test accuracy of the planted networks after five passes of SGD at 0.1 over digits, by their diagnosis
    beforehand: mean and interval over networks and seeds."""
    found: dict[str, list[float]] = {s: [] for s in SIGNS}
    seeds, plants = lab.seeds(2, 1), PLANTED[:: lab.pick(1, 4)]
    ends = [trained(plant, seeds, lab.pick(5, 1)) for plant in plants]
    for seed, row in zip(seeds, zip(*ends, strict=True), strict=True):
        for plant, end in zip(plants, row, strict=True):
            with fathom.seed(seed):
                said = diagnosis(plant.make())[0]
            found[said].append(end)
    shown = [s for s in SIGNS if len(found[s]) > 1] or ["healthy"]
    at = [Sample(found[s] if len(found[s]) > 1 else [0.0, 0.0]) for s in shown]
    bars = Bars(T("accuracy", "准确率"), [s.mean for s in at],
                [max(s.low, 0.0) for s in at], [min(s.high, 1.0) for s in at])  # fmt: skip
    return Figure(
        Axis(T("diagnosis before training", "训练前的诊断"), ticks=[SIGN_WORDS[s] for s in shown]),
        Axis(T("test accuracy after it", "训练后的测试准确率")),
        [bars],
        T(
            "Vanishing, collapse and explosion foretell chance; saturation foretells a bad result; dead units "
            "in a fifth of a layer do little harm, and healthy networks may still fail at this rate.",
            "消失、坍缩、爆炸预示随机水平；饱和预示结果差；一层里五分之一单元死亡危害不大，健康的网络在此学习率下也可能失败。",
        ),
        {f"lowest, {s}": min(found[s]) for s in shown if found[s]}
        | biggest_updates(lab)
        | other_rates(lab),
    )


def other_rates(lab: Lab) -> dict[str, float]:
    """Mean test accuracy of two healthy networks at the rate above and at another one."""
    told = {}
    both = ((PLANTED[6], 1.0), (PLANTED[4], 0.03))
    for plant, other in both[: lab.pick(2, 1)]:
        for rate in (0.1, other):
            seeds, epochs = lab.seeds(2, 1), lab.pick(5, 1)
            told[f"{plant.name}, rate {rate}"] = float(np.mean(trained(plant, seeds, epochs, rate)))
    return told


def biggest_updates(lab: Lab) -> dict[str, float]:
    """The first step of SGD at 0.1 over the weights, in the layer where it is largest, of healthy networks;
    mean of seeds."""
    data, told = digits(), {}
    for plant in PLANTED[: lab.pick(10, 2)]:
        sizes = []
        for seed in lab.seeds(2, 1):
            with fathom.seed(seed):
                model = plant.make()
            flow = gradient_flow(model, "cross_entropy", data.x[:64], data.y[:64], lr=0.1)
            sizes.append(max(row.update for row in flow.rows))
        told[f"update over weights, {plant.name}"] = float(np.mean(sizes))
    return told


def trained(plant: Planted, seeds: Sequence[int], epochs: int, rate: float = 0.1) -> list[float]:
    """Test accuracy after plain SGD, one a seed; 0.1 where it diverged."""
    data = digits()
    spec = {
        "model": plant.make, "optimizer": "sgd", "lr": rate, "batch_size": 64, "epochs": epochs,
    }  # fmt: skip
    runs = fathom.train_many(spec, data.x, data.y, seeds=seeds, threads=1).runs
    return [0.1 if r.diverged else accuracy(r.model, data.test_x, data.test_y) for r in runs]
