"""3.2.6 What tanh does not mend, and where it is the better choice."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, T,
    at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.activation_cost import Costs, costs
from fathom.book.material.calculus import derivative, highest
from fathom.book.material.cells import lstm_step, lstm_weights, recurrent_accuracy, sign_of_sum
from fathom.book.material.gain import SHAPES, sigmoid
from fathom.book.material.speed import about

question = Question(
    "3.2.6",
    title=T(
        "What problems does tanh keep, and when is it the better choice?",
        "Tanh 还有哪些局限？什么时候更适合用它？",
    ),
    difficulty=3,
    frequency=3,
    topics=("tanh", "rnn", "gan", "saturation", "循环神经网络", "饱和", "生成器"),
    answer=T(
        "tanh still saturates: its slope is 1 at 0, 0.07 at 2, 0.01 at 3 and 0.0002 at 5, so deep "
        "stacks with large pre-activations lose their gradient. It also needs an exponential, "
        "which "
        "costs once to over twenty times a ReLU by engine and size, though next to the "
        "matrix "
        "products that hardly counts. It is the better choice where a bounded, signed value is "
        "wanted. In recurrent nets the state passes through the same layer at every step: tanh "
        "keeps "
        "it in (-1, 1), is centred and has slope 1 at 0, so it carries a signal over more steps "
        "than "
        "a sigmoid. An LSTM's output is o tanh(c). At the output tanh fits targets scaled to "
        "[-1, 1], as the images 2 (img / 255) - 1 of a GAN.",
        "tanh 仍会饱和：导数在 0 处为 1，2 处 0.07，3 处 0.01，5 处 0.0002，"
        "因此预激活较大的深层网络会丢失梯度。它还需要指数运算，视实现不同，开销从与 ReLU 持平到二"
        "十多倍，"
        "不过与矩阵乘法相比几乎可以忽略。需要有界、带符号的值时，它是更好的选择。"
        "循环网络中，状态每一步都经过同一层：tanh 把它限制在 (-1, 1)，零中心，0 处导数为 1，"
        "因而比 sigmoid 能把信号带过更多步。LSTM 的输出是 o tanh(c)。"
        "在输出层，tanh 适合缩放到 [-1, 1] 的目标，例如 GAN 中的图像 2 (img / 255) - 1。",
    ),
    flips=T(
        "With a well-scaled (orthogonal or identity) recurrent matrix ReLU carries a sum further "
        "than "
        "tanh, since it does not bound the state.",
        "如果循环矩阵尺度合适（正交或单位阵），ReLU 不限制状态，比 tanh 更能累计求和。",
    ),
    analogy=T(
        "A spring with stops: it answers small forces faithfully and does not break under large "
        "ones, "
        "but at the stop it tells nothing any more.",
        "带限位的弹簧：小力忠实响应，大力也不会损坏，但顶到限位后就不再反映任何变化。",
    ),
    generative=T(
        "The decoders of many image generators end in tanh; Gemma 2 caps its logits with one.",
        "许多图像生成器的解码器以 tanh 结尾；Gemma 2 用它限制 logit 的大小。",
    ),
    classical=T(
        "Elman networks, LSTM and GRU all use it for the candidate state.",
        "Elman 网络、LSTM 和 GRU 的候选状态都用它。",
    ),
    driving=T(
        "A policy's steering command is squashed by tanh into the range of the actuator.",
        "策略输出的转向指令用 tanh 压缩到执行器的范围内。",
    ),
    change=T(
        "Lengthen the sequences: the sigmoid's net is the first to fail.",
        "加长序列：最先失败的是 sigmoid 网络。",
    ),
    alone=True,
)


@question.exact(
    "C3.2.6-01",
    T(
        "tanh's slope is 1, .07, .01 and .0002 at 0, 2, 3 and 5.",
        "tanh 的导数在 0、2、3、5 处为 1、.07、.01、.0002。",
    ),
    equals(1.0, 1e-12),
)
def slopes(lab: Lab) -> Evidence:
    """Automatic derivatives and closed forms, to half a unit of the last printed digit."""
    told = {0: (1.0, 1e-12), 2: (0.07, 0.005), 3: (0.01, 0.005), 5: (0.0002, 5e-5)}

    def both(x: float) -> Routes:
        auto = float(derivative(fathom.tanh, x))
        return Routes({"autodiff": auto, "1 / cosh^2": float(1 / np.cosh(x) ** 2)})

    return All({f"at {x}": Check(both(float(x)), equals(*v)) for x, v in told.items()})


@once
def timed(lab: Lab) -> Costs:
    """Times of tanh and ReLU in three engines, by size."""
    return costs(lab.rng("costs"), lab.pick(5, 3), lab.pick(3, 1), ("relu", "tanh"))


@question.experiment(
    "C3.2.6-02",
    T("tanh is 5 to 10 times slower than ReLU.", "tanh 比 ReLU 慢 5 到 10 倍。"),
    about(5.0, 10.0),
    correction=T(
        "The factor belongs to engine and size. On 4,096 float32 numbers it is "
        "{n[PyTorch, 4k/quickest run]:.1f} in PyTorch, "
        "{n[Fathom, compiled, 4k/quickest run]:.1f} in compiled Fathom and "
        "{n[NumPy, 4k/quickest run]:.1f} in NumPy; on a million "
        "{n[PyTorch, 1M/quickest run]:.1f}, {n[Fathom, compiled, 1M/quickest run]:.1f} and "
        "{n[NumPy, 1M/quickest run]:.1f}.",
        "倍数取决于引擎和规模。4096 个 float32 时，PyTorch 为 {n[PyTorch, 4k/quickest run]:.1f}，"
        "Fathom 编译后为 {n[Fathom, compiled, 4k/quickest run]:.1f}，NumPy 为 "
        "{n[NumPy, 4k/quickest run]:.1f}；一百万个时分别为 {n[PyTorch, 1M/quickest run]:.1f}、"
        "{n[Fathom, compiled, 1M/quickest run]:.1f} 和 {n[NumPy, 1M/quickest run]:.1f}。",
    ),
    weight=2,
    needs=("torch", "scipy"),
)
def slower(lab: Lab) -> Evidence:
    """Time of tanh over that of ReLU on 1,024 to a million float32 numbers (in PyTorch float64
    too), forward, one thread, by the quickest run and by processor time, in three engines. The
    printed range is taken a fifth wider; a setting must clear its edges by a tenth.
    """
    return timed(lab).ratios("tanh")


@question.exact(
    "C3.2.6-03",
    T("An LSTM's output is o tanh(c).", "LSTM 的输出是 o·tanh(c)。"),
    at_most(1e-6),
    needs=("torch",),
)
def output(lab: Lab) -> Evidence:
    """Largest difference of h and sigma(the affine map of o) tanh(c) over 10 steps, with h and c of
    the cells of PyTorch and of Fathom; and of a cell written out.
    """
    import torch

    rng = lab.rng("lstm")
    w, x = lstm_weights(rng, 4, 6), rng.normal(size=(10, 3, 4))
    theirs, ours = torch.nn.LSTMCell(4, 6).double(), nn.LSTMCell(4, 6).double()
    for name, array in w._asdict().items():
        getattr(theirs, name).data = torch.from_numpy(array)
        getattr(ours, name).data[...] = array

    def by_torch(row: Any, h: Any, c: Any) -> Any:
        at, *states = (torch.from_numpy(v) for v in (row, h, c))
        with torch.no_grad():
            return [v.numpy() for v in theirs(at, tuple(states))]

    def by_fathom(row: Any, h: Any, c: Any) -> Any:
        at, *states = (fathom.tensor(v) for v in (row, h, c))
        with fathom.no_grad():
            return [v.value() for v in ours(at, tuple(states))]

    def far(step: Any) -> float:
        h, c, worst = np.zeros((3, 6)), np.zeros((3, 6)), 0.0
        for row in x:
            z = row @ w.weight_ih.T + h @ w.weight_hh.T + w.bias_ih + w.bias_hh
            h, c = step(row, h, c)
            worst = max(worst, float(np.abs(h - sigmoid(z[:, 18:]) * np.tanh(c)).max()))
        return worst

    by_hand = far(lambda row, h, c: lstm_step(row, h, c, w))
    return Routes({"PyTorch": far(by_torch), "Fathom": far(by_fathom), "NumPy": by_hand})


LENGTHS = (5, 11, 21, 31)
RADII = (0.5, 1.0, 1.5, 2.0)


@once
def accuracies(lab: Lab, name: str, steps: int, radius: float = 1.0) -> Any:
    """Of a net of 16 units that says the sign of a sum of +-1, on 500 other sequences; (seeds,)."""
    found = []
    for seed in lab.seeds(6, 3):
        rng = np.random.default_rng([seed, steps])
        task, test = sign_of_sum(rng, 500, steps), sign_of_sum(rng, 500, steps)
        updates = lab.pick(250, 30)
        found.append(recurrent_accuracy(name, task, test, rng, radius=radius, updates=updates))
    return np.array(found)


def kept(name: str, rng: np.random.Generator, steps: int = 20, width: int = 16) -> float:
    """log10 of the gradient that reaches the first of so many steps, over that at the last."""
    u = rng.standard_normal((width, width))
    u /= np.abs(np.linalg.eigvals(u)).max()
    v, h, before = rng.standard_normal(width), np.zeros(width), []
    for _ in range(steps):
        before.append(u @ h + v * rng.choice([-1.0, 1.0]))
        h = SHAPES[name][0](before[-1])
    g = rng.standard_normal(width)
    last = np.linalg.norm(g)
    for z in before[:0:-1]:
        g = u.T @ (g * SHAPES[name][1](z))
    return float(np.log10(np.linalg.norm(g) / last))


@question.experiment(
    "C3.2.6-04",
    T(
        "The state of a recurrent net uses tanh for its larger gradient and its centre at 0.",
        "循环网络的状态用 tanh，是因为它梯度更大且零中心。",
    ),
    at_least(0.02),
    weight=2,
)
def state(lab: Lab) -> Evidence:
    """Test accuracy with tanh less that with sigmoid states, paired, on the sign of a sum of 21
    numbers; orders of magnitude more gradient over 20 steps (1 or more); and the distance of the
    states' mean from 0, sigmoid's less tanh's (0.1 or more).
    """
    rngs = [np.random.default_rng(seed) for seed in lab.seeds(20, 8)]
    orders = [kept("tanh", rng) - kept("sigmoid", rng) for rng in rngs]
    centres = []
    for rng in rngs:
        z = rng.standard_normal((1000, 16))
        centres.append(abs(sigmoid(z).mean()) - abs(np.tanh(z).mean()))
    return All({
        "accuracy": Sample(accuracies(lab, "tanh", 21) - accuracies(lab, "sigmoid", 21)),
        "orders of magnitude of gradient": Check(Sample(orders), at_least(1.0)),
        "nearer to the centre": Check(Sample(centres), at_least(0.1)),
    })  # fmt: skip


@question.exact(
    "C3.2.6-05",
    T(
        "2 (img / 255) - 1 maps pixels onto the range of tanh.",
        "2 (img / 255) - 1 把像素映射到 tanh 的值域。",
    ),
    equals(0.0, 1e-12),
)
def pixels(lab: Lab) -> Evidence:
    """The least value + 1 and the greatest - 1 over 256 levels, and how uneven the steps are."""
    levels = 2 * (np.arange(256) / 255) - 1
    return All({
        "least + 1": float(levels.min() + 1),
        "greatest - 1": float(levels.max() - 1),
        "unevenness": float(np.ptp(np.diff(levels))),
    })  # fmt: skip


@question.exact(
    "C3.2.6-06",
    T(
        "The largest slopes of sigmoid, tanh and ReLU are 0.25, 1 and 1.",
        "sigmoid、tanh、ReLU 的最大导数为 0.25、1、1。",
    ),
    equals(0.25, 1e-9),
)
def largest(lab: Lab) -> Evidence:
    """By a fine grid and golden section on automatic derivatives."""
    told = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0}
    return All({
        name: Check(
            highest(lambda x, n=name: derivative(getattr(fathom, n), x), -6.0, 6.0)[1],
            equals(top, 1e-9),
        )
        for name, top in told.items()
    })  # fmt: skip


def drawn(lab: Lab, places: Any, found: Any, x: Axis, caption: T) -> Figure:
    """Accuracy by activation with intervals over seeds."""
    lines = []
    for name in SHAPES:
        if name == "identity":
            continue
        at = [Sample(found(name, place)) for place in places]
        lines.append(Line(T(name, name), places, *band(at)))
    guess = Level(T("guessing", "随机猜测"), y=0.5)
    return Figure(x, Axis(T("test accuracy", "测试准确率")), [*lines, guess], caption)


@question.figure(T("Accuracy against the length of the sequence", "准确率随序列长度的变化"))
def by_length(lab: Lab) -> Figure:
    """A recurrent net of 16 units, spectral radius 1 at the start, 250 steps of Adam."""
    return drawn(
        lab, LENGTHS, lambda name, steps: accuracies(lab, name, steps),
        Axis(T("length", "序列长度")),
        T(
            "All manage five steps; with longer sequences the sigmoid is the first to fail.",
            "五步时三者都能学会；序列变长后，最先失败的是 sigmoid。",
        ),
    )  # fmt: skip


@question.figure(T("Accuracy against the spectral radius", "准确率随谱半径的变化"))
def by_radius(lab: Lab) -> Figure:
    """The same net on 21 steps, by the spectral radius of its recurrent matrix at the start."""
    return drawn(
        lab, RADII, lambda name, radius: accuracies(lab, name, 21, radius),
        Axis(T("spectral radius", "谱半径")),
        T(
            "tanh and ReLU do best up to a radius of about 1.5; at 2 they lose, the unbounded ReLU "
            "most. The sigmoid hardly depends on it.",
            "tanh 和 ReLU 在谱半径不超过约 1.5 时最好；到 2 时变差，无界的 ReLU 损失最大。"
            "sigmoid 几乎不受谱半径影响。",
        ),
    )  # fmt: skip
