"""3.2.9 Dying ReLU: units that put out 0 for every row, how they come about, what prevents them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.activations import elu, gelu, selu
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T,
    at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.calculus import value
from fathom.book.material.dead import dead_share, dead_shares, revived, rows_of, silenced
from fathom.book.material.stacks import stack
from fathom.doctor import dead_units
from fathom.nn import Module, Parameter, ReLU

question = Question(
    "3.2.9",
    title=T("What is the dying-ReLU problem?", "什么是 ReLU 神经元死亡问题？"),
    difficulty=4,
    frequency=5,
    topics=("dying ReLU", "dead units", "leaky ReLU", "learning rate", "神经元死亡", "死亡神经元", "学习率"),
    answer=T(
        "A ReLU unit is dead when its pre-activation is at most 0 on every row of the data: it puts "
        "out 0 everywhere, gets gradient 0, and its own weights stand still. A step that is too "
        "long, which throws the bias far down, is the usual cause; but in deep networks with zero "
        "biases some units are dead from the start, and a very small rate leaves them so. "
        "Death is not for ever: a unit behind a layer that still learns often comes back, while "
        "one in the first layer, whose inputs never change, does not. Counting zeros in one batch "
        "says nothing, since a healthy ReLU puts out zeros half of the time; take each unit's "
        "largest output over all rows. Remedies are a smaller rate or warm-up, He initialization, "
        "batch normalization before the ReLU, and activations with a slope on the left.",
        "如果一个 ReLU 单元的预激活在所有样本上都不大于 0，它就“死”了：输出恒为 0，梯度为 0，自身权重不再变化。"
        "常见原因是步长过大，把偏置一下推到很负；但在偏置为零的深层网络里，有些单元从初始化起就是死的，"
        "学习率很小时它们也一直死着。死亡并非永久：前面还有层在学习的单元常常会复活，"
        "而第一层的输入不变，死了就不再恢复。只数一个批次里的零没有意义，健康的 ReLU 本来就有一半输出为零；"
        "应看每个单元在全部样本上的最大输出。对策：减小学习率或预热、He 初始化、在 ReLU 之前做批归一化、"
        "改用左侧有斜率的激活函数。",
    ),
    flips=T(
        "With batch normalization before the ReLU no unit dies even at a rate of 0.5.",
        "在 ReLU 之前加批归一化后，即使学习率为 0.5 也没有单元死亡。",
    ),
    analogy=T(
        "A smoke alarm whose threshold was turned up so far that no smoke ever sets it off; and as "
        "it never rings, nobody turns it back.",
        "烟雾报警器的门槛被调得太高，再大的烟也不响；正因为它从不响，也就没人去把它调回来。",
    ),
    generative=T(
        "GELU and SiLU in language models leave a small slope on the left, so that no unit is lost "
        "for good in long runs.",
        "语言模型里的 GELU 和 SiLU 在左侧保留小斜率，长时间训练中单元不会彻底失效。",
    ),
    classical=T(
        "Dead units are capacity paid for and not used; pruning them changes no output.",
        "死亡单元是付了代价却没用上的容量；剪掉它们，输出不变。",
    ),
    driving=T(
        "A detector trained on day scenes may hold units dead there and alive at night: measure on "
        "all conditions before pruning.",
        "只用白天场景训练的检测器，有些单元白天是死的，夜里却会激活：剪枝前要在所有工况下测量。",
    ),
    change=T(
        "Raise the learning rate to 0.5 in a network of 8 layers; then switch batch normalization "
        "on.",
        "在 8 层网络里把学习率提高到 0.5，再打开批归一化。",
    ),
)  # fmt: skip

W, X, UPSTREAM, RATE = np.array([0.5, 0.5]), np.array([-1.0, 1.0]), 10.0, 0.1
RATES = (0.01, 0.1, 0.5)
DEPTHS = (3, 8, 12)


@once
def shares(lab: Lab, depth: int, rate: float, kind: str = "relu", data: str = "digits") -> Any:
    """Dead shares after ten passes (quick: before training), one a seed; kind "norm" is ReLU behind
    batch norm."""
    return dead_shares(
        lab.seeds(32 if data == "moons" else 16, 2), depth, rate,
        activation="relu" if kind == "norm" else kind, norm=kind == "norm", data=data,
        epochs=lab.pick(10, 0),
    )  # fmt: skip


@question.exact(
    "C3.2.9-01",
    T("For w = (0.5, 0.5) and x = (-1, 1) the pre-activation is 0.",
      "w = (0.5, 0.5)、x = (-1, 1) 时预激活为 0。"),
    equals(0.0),
)  # fmt: skip
def on_the_kink(lab: Lab) -> Evidence:
    """The weighted sum in NumPy and on the tape."""
    return Routes({"NumPy": float(W @ X), "Fathom": float(fathom.tensor(W) @ fathom.tensor(X))})


@question.exact(
    "C3.2.9-02",
    T("At that point a gradient dL/dz of 10 flows into the weights.",
      "在这一点，大小为 10 的梯度 dL/dz 流入权重。"),
    at_least(1.0),
    correction=T(
        "It depends on the slope taken at exactly 0, where any from 0 to 1 is a subgradient. Fathom and "
        "PyTorch take 0: of an upstream 10 a gradient of length {n[0, as libraries take it/Fathom]:g} "
        "reaches w, and the unit stays. With slope 1 it is {n[1/tape]:.1f}. In a library the unit must "
        "be just above 0 to be thrown out.",
        "取决于 0 处取什么斜率（0 到 1 之间都是次梯度）。Fathom 和 PyTorch 取 0：上游的 10 传到 w 的梯度长度为 "
        "{n[0, as libraries take it/Fathom]:g}，单元原地不动；取 1 时为 {n[1/tape]:.1f}。"
        "在这些库里，预激活必须略大于 0 才会被这一步推走。",
    ),
    weight=2,
    needs=("torch",),
)  # fmt: skip
def through_the_kink(lab: Lab) -> Evidence:
    """Length of the gradient of w when 10 comes in from above the ReLU, so that dL/dz is 10 times its
    slope at 0: with the slope Fathom and PyTorch take, and with 1, by the tape and by hand."""
    import torch

    ours, x = fathom.tensor(W, requires_grad=True), fathom.tensor(X)

    def length(bend: Callable[[Any], Any]) -> float:
        (slope,) = fathom.autograd.grad(UPSTREAM * bend(ours @ x), [ours])
        return float(np.linalg.norm(slope.value()))

    theirs = torch.tensor(W, requires_grad=True)
    (other,) = torch.autograd.grad(UPSTREAM * torch.relu(theirs @ torch.tensor(X)), theirs)
    return Settings(
        T("slope of ReLU taken at 0", "ReLU 在 0 处取的斜率"),
        {
            "0, as libraries take it": Routes({
                "Fathom": length(fathom.relu), "PyTorch": float(other.norm()),
            }),
            "1": Routes({
                "tape": length(lambda z: fathom.where(z >= 0.0, z, 0.0)),
                "by hand": float(np.linalg.norm(UPSTREAM * 1.0 * X)),
            }),
        },
    )  # fmt: skip


def thrown() -> Any:
    """The weights after a step of gradient descent with 10 x as the gradient."""
    return W - RATE * UPSTREAM * X


@question.exact(
    "C3.2.9-03",
    T("A step of rate 0.1 against 10 x leads to w = (1.5, -0.5), where the pre-activation is -2.",
      "以学习率 0.1 沿 -10x 走一步，得 w = (1.5, -0.5)，预激活为 -2。"),
    at_most(1e-12),
)  # fmt: skip
def after_the_step(lab: Lab) -> Evidence:
    """Differences from the numbers said; the step by hand and by an optimizer."""
    p = Parameter(W.copy())
    (p * fathom.tensor(UPSTREAM * X)).sum().backward()
    fathom.optim.SGD([p], lr=RATE).step()
    said = np.array([1.5, -0.5])
    return All({
        "weights by hand": float(np.abs(thrown() - said).max()),
        "weights by SGD": float(np.abs(p.value() - said).max()),
        "pre-activation": abs(float(thrown() @ X) + 2.0),
    })  # fmt: skip


@question.exact(
    "C3.2.9-04",
    T("With these weights the unit is dead.", "取这组权重后，该单元已经死亡。"),
    equals(1.0),
    correction=T(
        "It is silent on the one row it was shown, not dead: it fires on {n[fires at (1, -1)/Fathom]:g} "
        "at (1, -1), and a unit without bias is silent on half of all directions "
        "({n[share of inputs with output 0/drawn]:.1%}) whatever its weights.",
        "它只是对那一个样本沉默，并没有死：在 (1, -1) 处输出 {n[fires at (1, -1)/Fathom]:g}；"
        "没有偏置的单元无论权重如何，都只对一半方向"
        "（{n[share of inputs with output 0/drawn]:.1%}）沉默。",
    ),
    weight=3,
)  # fmt: skip
def dead_or_silent(lab: Lab) -> Evidence:
    """Dead is silent for all inputs, as the claim means it: the share of standard normal inputs with
    output 0, drawn, and by the distribution of w . x; and the output at (1, -1), which must be 0."""
    w = thrown()
    drawn = lab.rng("inputs").standard_normal((100_000, 2)) @ w
    below = 0.5 * (1 + math.erf(0.0 / np.linalg.norm(w)))
    other = fathom.relu(fathom.tensor(w) @ fathom.tensor(-X))
    return All({
        "share of inputs with output 0": Routes(
            {"drawn": float((drawn <= 0).mean()), "normal distribution": below}
        ),
        "fires at (1, -1)": Check(
            Routes({"Fathom": float(other), "NumPy": float(max(w @ -X, 0.0))}), equals(0.0)
        ),
    })  # fmt: skip


@once
def back_to_life(lab: Lab, layer: int, decay: float) -> Sample:
    """Share of units silenced on purpose that fire again after training, one a seed."""
    x, y = rows_of("digits")
    spec = {
        "model": lambda: silenced(layer, x, 10), "optimizer": "sgd", "lr": 0.1,
        "weight_decay": decay, "epochs": lab.pick(20, 3), "batch_size": 64,
    }  # fmt: skip
    runs = fathom.train_many(spec, x, y, seeds=lab.seeds(8, 2)).runs
    return Sample([revived(r.model, layer, x) for r in runs])


@question.experiment(
    "C3.2.9-05",
    T("A unit that is dead cannot come back.", "单元一旦死亡就再也不能恢复。"),
    at_most(0.0),
    correction=T(
        "It depends on whether its inputs can change: in the first layer none of the silenced "
        "units came back, in the second, behind a layer that went on learning, "
        "{n[second layer, the first learns on]:.0%} did.",
        "取决于它的输入能否变化：第一层里被置死的单元无一恢复；"
        "第二层前面有层在继续学习，{n[second layer, the first learns on]:.0%} 恢复了。",
    ),
    weight=4,
)
def for_ever(lab: Lab) -> Evidence:
    """Half of a layer's units get a bias that leaves them just silent on all digits; share that
    fires again after 20 passes of SGD (rate 0.1)."""
    return Settings(
        T("where the unit is and what acts on it", "单元的位置与作用于它的因素"),
        {
            "first layer": back_to_life(lab, 0, 0.0),
            "first layer, weight decay 0.01": back_to_life(lab, 0, 0.01),
            "second layer, the first learns on": back_to_life(lab, 1, 0.0),
        },
    )


def finite(values: Any) -> Sample:
    """The seeds at which nothing diverged."""
    return Sample(values[np.isfinite(values)])


def more(lab: Lab, depth: int, high: float) -> Sample:
    """Dead share at a rate less that at 0.01; pairs in which one diverged are left out."""
    return finite(shares(lab, depth, high) - shares(lab, depth, 0.01))


@question.experiment(
    "C3.2.9-06",
    T("Too large a learning rate is the main cause of dead units: raising it raises their share.",
      "学习率过大是单元死亡的主因：提高学习率，死亡比例随之上升。"),
    at_least(0.05),
    correction=T(
        "From 0.01 to 0.5 the share rises by {n[0.5/8 layers]:.1%} in 8 layers; but from 0.01 to "
        "0.1 it changes by {n[0.1/8 layers]:.1%}: many of the units were dead from the start, and a "
        "moderate rate revives them.",
        "学习率从 0.01 提到 0.5，8 层网络的死亡比例上升 {n[0.5/8 layers]:.1%}；但从 0.01 提到 0.1 变化为 "
        "{n[0.1/8 layers]:.1%}：许多单元从初始化起就是死的，适中的学习率反而让它们复活。",
    ),
    weight=4,
)  # fmt: skip
def by_rate(lab: Lab) -> Evidence:
    """Dead share at the higher rate less that at 0.01, same seeds; ReLU stacks on digits."""
    return Settings(
        T("the rate to which 0.01 is raised", "由 0.01 提高到的学习率"),
        {
            f"{high}": All({f"{d} layers": more(lab, d, high) for d in (8, 12)})
            for high in (0.1, 0.5)
        },
    )


def said_of_depth(lab: Lab, data: str, rate: float, deep: int) -> All:
    """The dead shares at three depths, each against the range said of it."""
    ranges = {3: within(0.05, 0.10), 8: within(0.10, 0.20), deep: within(0.20, 0.40)}
    return All({
        f"{depth} layers": Check(finite(shares(lab, depth, rate, "relu", data)), region)
        for depth, region in ranges.items()
    })  # fmt: skip


@question.experiment(
    "C3.2.9-07",
    T("The share of dead units grows with depth: 5-10 % in shallow networks, 10-20 % in deeper "
      "ones, 20-40 % in deep ones.",
      "死亡比例随深度增加：浅层网络 5%–10%，较深 10%–20%，很深 20%–40%。"),
    within(0.05, 0.40),
    correction=T(
        "It depends on data, rate and what counts as deep. With 3, 8 and 20 layers on moons at rate "
        "0.01 it is {n[moons, 0.01, deep 20/3 layers]:.0%}, {n[moons, 0.01, deep 20/8 layers]:.0%}, "
        "{n[moons, 0.01, deep 20/20 layers]:.0%}, as said. On digits it is "
        "{n[digits, 0.01, deep 20/3 layers]:.0%}, {n[digits, 0.01, deep 20/8 layers]:.0%}, "
        "{n[digits, 0.01, deep 20/20 layers]:.0%} at 0.01, {n[digits, 0.1, deep 20/3 layers]:.0%}, "
        "{n[digits, 0.1, deep 20/8 layers]:.0%}, {n[digits, 0.1, deep 20/20 layers]:.0%} at 0.1, and with "
        "3, 8 and 12 layers {n[digits, 0.5, deep 12/3 layers]:.0%}, "
        "{n[digits, 0.5, deep 12/8 layers]:.0%}, {n[digits, 0.5, deep 12/12 layers]:.0%} at 0.5.",
        "取决于数据、学习率以及多深才算“很深”。moons 上学习率 0.01，3、8、20 层为 "
        "{n[moons, 0.01, deep 20/3 layers]:.0%}、{n[moons, 0.01, deep 20/8 layers]:.0%}、"
        "{n[moons, 0.01, deep 20/20 layers]:.0%}，与所说相符。digits 上学习率 0.01 时为 "
        "{n[digits, 0.01, deep 20/3 layers]:.0%}、{n[digits, 0.01, deep 20/8 layers]:.0%}、"
        "{n[digits, 0.01, deep 20/20 layers]:.0%}，0.1 时为 {n[digits, 0.1, deep 20/3 layers]:.0%}、"
        "{n[digits, 0.1, deep 20/8 layers]:.0%}、{n[digits, 0.1, deep 20/20 layers]:.0%}；0.5 时 3、8、12 "
        "层为 {n[digits, 0.5, deep 12/3 layers]:.0%}、{n[digits, 0.5, deep 12/8 layers]:.0%}、"
        "{n[digits, 0.5, deep 12/12 layers]:.0%}。",
    ),
    weight=2,
)  # fmt: skip
def by_depth(lab: Lab) -> Evidence:
    """Share of units silent on all training rows after ten passes of SGD; stacks of 3 (shallow), 8
    (deeper) and 12 or 20 layers (deep: the claim gives no number), on digits and on moons. At a rate
    of 0.5 only those on digits up to 12 layers train."""
    cases = [(data, rate, deep) for data in ("digits", "moons") for rate in (0.01, 0.1)
             for deep in (12, 20)]  # fmt: skip
    return Settings(
        T("data, learning rate and layers of a deep network", "数据、学习率与“很深”的层数"),
        {
            f"{data}, {rate}, deep {deep}": said_of_depth(lab, data, rate, deep)
            for data, rate, deep in [*cases, ("digits", 0.5, 12)]
        },
    )


def makes(base: type[Any], parameter: Callable[[], Any], parent: str) -> bool:
    """Whether a layer can be made whose constructor keeps a parameter; `parent` says when the base's
    constructor is called: "first", "last" or "never"."""

    class Slope(base):  # type: ignore[misc]
        def __init__(self) -> None:
            if parent == "first":
                super().__init__()
            self.alpha = parameter()
            if parent == "last":
                super().__init__()

    try:
        return hasattr(Slope(), "alpha")
    except Exception:
        return False


@question.exact(
    "C3.2.9-08",
    T("The printed PReLU module, which sets its slope in the constructor, can be made.",
      "书中打印的 PReLU 模块（在构造函数里设置斜率）可以实例化。"),
    equals(1.0),
    correction=T(
        "Only if the base class's constructor runs first: else the parameter has nowhere to be "
        "registered and both libraries refuse.",
        "前提是先调用基类的构造函数；否则参数无处登记，两个库都会报错。",
    ),
    needs=("torch",),
)  # fmt: skip
def can_be_made(lab: Lab) -> Evidence:
    """The listing is known by its description only, so where it calls `super().__init__()` is the
    setting; made in PyTorch and in Fathom."""
    import torch

    def both(parent: str) -> Routes:
        return Routes({
            "PyTorch": makes(
                torch.nn.Module, lambda: torch.nn.Parameter(torch.tensor(0.25)), parent
            ),
            "Fathom": makes(Module, lambda: Parameter(np.float32(0.25)), parent),
        })  # fmt: skip

    return Settings(
        T("when super().__init__() is called", "何时调用 super().__init__()"),
        {parent: both(parent) for parent in ("first", "last", "never")},
    )


@question.experiment(
    "C3.2.9-09",
    T("Batch normalization lowers the share of dead units.", "批归一化降低死亡单元的比例。"),
    at_least(0.02),
    weight=3,
)
def normalized(lab: Lab) -> Evidence:
    """Dead share without less that with batch normalization, 8 layers on digits, same seeds."""
    return All({
        f"rate {rate}": finite(shares(lab, 8, rate) - shares(lab, 8, rate, "norm"))
        for rate in RATES
    })  # fmt: skip


@question.exact(
    "C3.2.9-10",
    T("SELU is a multiple of ELU.", "SELU 是 ELU 乘以一个常数。"),
    at_most(1e-12),
    correction=T(
        "Of the ELU with alpha 1.6733; against the usual alpha of 1 the left halves differ by up to "
        "{n[alpha 1]:.2f}.",
        "仅对 alpha = 1.6733 的 ELU 成立；与通常 alpha = 1 的 ELU 相比，左半支最多相差 {n[alpha 1]:.2f}。",
    ),
)
def multiple(lab: Lab) -> Evidence:
    """Largest difference of SELU and 1.0507 ELU on [-8, 8]."""
    x = np.linspace(-8, 8, 2001)
    scale, alpha = fathom.activations.SELU_SCALE, fathom.activations.SELU_ALPHA
    ours = value(selu, x)
    return Settings(
        T("alpha of the ELU", "ELU 的 alpha"),
        {
            f"alpha {a:.5g}": float(
                np.abs(ours - scale * value(lambda t, a=a: elu(t, a), x)).max()  # type: ignore[misc]
            )
            for a in (alpha, 1.0)
        },
    )


def gelu_slope(x: float) -> Routes:
    """|GELU'| in float32: by the tape, and as Phi(x) + x phi(x) in NumPy."""
    at = fathom.tensor(np.array([x], np.float32), requires_grad=True)
    (slope,) = fathom.autograd.grad(gelu(at).sum(), [at])
    z = np.float32(x)
    density = np.exp(-z * z / np.float32(2)) / np.float32(np.sqrt(2 * np.pi))
    below = np.float32(0.5 * math.erfc(-x / math.sqrt(2)))
    return Routes({
        "tape": abs(float(slope.value()[0])), "formula": abs(float(below + z * density))
    })  # fmt: skip


@question.exact(
    "C3.2.9-11",
    T("GELU has no zone in which its gradient is 0.", "GELU 没有梯度为 0 的区域。"),
    at_least(1e-45),
    correction=T(
        "Its slope falls like a bell: at -3 it is {n[-3/tape]:.4f} in size, at -15 it is exactly "
        "{n[-15/tape]:g} in float32. A unit thrown that far is as dead as a ReLU.",
        "它的斜率按钟形衰减：在 -3 处大小为 {n[-3/tape]:.4f}，在 -15 处 float32 下恰为 {n[-15/tape]:g}。"
        "被推到那么远的单元和死掉的 ReLU 一样。",
    ),
    weight=2,
)
def tail_of_gelu(lab: Lab) -> Evidence:
    """Size of the slope in float32 (whose smallest positive number is 1.4e-45)."""
    return Settings(T("input", "输入"), {f"{x:g}": gelu_slope(x) for x in (-3.0, -5.0, -15.0)})


def check_dead_neurons(model: Any, x: Any, shared: bool) -> dict[str, float]:
    """The usual diagnostic: a hook on every ReLU that notes the share of zeros.

    shared : whether the hooks read the loop's variable, so that all write under its last name."""
    found: dict[str, float] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, ReLU):

            def note(m: Any, i: Any, out: Any, own: str = name) -> None:
                found[name if shared else own] = float((out.value() == 0).mean())  # noqa: B023

            hooks.append(layer.register_forward_hook(note))
    with fathom.no_grad():
        model(fathom.tensor(x))
    for hook in hooks:
        hook.remove()
    return found


@once
def healthy(lab: Lab) -> dict[str, Any]:
    """Two ReLU layers of 32, biases 0.2 at first, after three passes over digits: what the diagnostic
    says of the first 64 rows, with hooks that share a name and not; by layer zeros in these rows and
    units silent on all, in NumPy, and the doctor's dead units; and the dead share of the whole."""
    x, y = rows_of("digits")

    def start() -> Any:
        net = stack(x.shape[1], 10, 32, 2)
        for layer in (net[0], net[2]):
            layer.bias.data[...] = 0.2
        return net

    spec = {"model": start, "lr": 0.001, "epochs": 3}
    net = fathom.train_many(spec, x, y, seeds=lab.seeds(1, 1)).runs[0].model
    h: Any = x
    zeros, silent = [], []
    for layer in (net[0], net[2]):  # type: ignore[index]
        h = np.maximum(h @ layer.weight.value().T + layer.bias.value(), 0)
        zeros.append((h[:64] == 0).mean())
        silent.append((h.max(axis=0) == 0).mean())
    rows = dead_units(net, x).rows
    return {
        "shared": check_dead_neurons(net, x[:64], True),
        "own": check_dead_neurons(net, x[:64], False),
        "zeros": np.array(zeros), "silent": np.array(silent),
        "dead by layer": np.array([row.dead / row.units for row in rows]),
        "dead": dead_share(net, x),
    }  # fmt: skip


@question.exact(
    "C3.2.9-12",
    T("A hook that averages (output == 0) over a batch reports the share of dead units of every "
      "ReLU layer.",
      "在一个批次上对 (output == 0) 求平均的钩子，能报告每个 ReLU 层的死亡比例。"),
    within(-0.01, 0.01),
    correction=T(
        "It reports the share of zeros, here at least {n[its own layer/zeros in excess/hooks]:.2f} too "
        "much of every layer of a network whose dead share is {n[its own layer/dead share]:.2f}; and if "
        "the hooks read the loop's variable, there is only "
        "{n[the loop's last layer/entries]:g} entry for two layers, under another layer's name.",
        "它报告的是零的比例：网络的死亡比例为 {n[its own layer/dead share]:.2f}，每一层都至少多报了 "
        "{n[its own layer/zeros in excess/hooks]:.2f}；如果各个钩子读取的是同一个循环变量，"
        "两层还只得到 {n[the loop's last layer/entries]:g} 条记录，并且挂在别的层名下。",
    ),
    weight=4,
)  # fmt: skip
def diagnostic(lab: Lab) -> Evidence:
    """The listing is known by its description (zeros of one batch, a hook a ReLU), so it is written
    with hooks that keep their layer's name and with hooks that share the loop's, and run on a healthy
    network: what it says less the layer's share of units silent on all rows, at the layer where that
    is least; the same counted in NumPy; and how many entries there are."""
    seen = healthy(lab)

    def excess(said: dict[str, float], layers: slice) -> Routes:
        zeros, silent = seen["zeros"][layers], seen["silent"][layers]
        told = np.array(list(said.values()))
        return Routes({
            "hooks": float((told - seen["dead by layer"][layers]).min()),
            "counted": float((zeros - silent).min()),
        })  # fmt: skip

    return Settings(
        T("the name each hook writes under", "钩子记录时所用的层名"),
        {
            "its own layer": All({
                "zeros in excess": excess(seen["own"], slice(0, 2)),
                "entries": Check(len(seen["own"]), equals(2)),
                "dead share": Check(seen["dead"], at_most(0.1)),
            }),
            "the loop's last layer": All({
                "zeros in excess": excess(seen["shared"], slice(1, 2)),
                "entries": Check(len(seen["shared"]), equals(2)),
            }),
        },
    )  # fmt: skip


@question.figure(T("Dead units against the learning rate", "死亡单元比例随学习率的变化"))
def dying(lab: Lab) -> Figure:
    """Stacks of ReLU layers of 32 on digits, ten passes of SGD; shares of units silent on all
    training rows."""
    rates = lab.pick([0.01, 0.03, 0.1, 0.25, 0.5], list(RATES))
    kinds = [(T(f"{d} layers", f"{d} 层"), d, "relu") for d in DEPTHS]
    kinds.append((T("8 layers, batch norm", "8 层，批归一化"), 8, "norm"))
    lines = []
    for name, depth, kind in kinds:
        seen = [finite(shares(lab, depth, rate, kind)) for rate in rates]
        lines.append(Line(name, rates, *band(seen)))
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("share of dead units", "死亡单元比例")),
        lines,
        T(
            "Deep networks start with dead units; a moderate rate revives some, a large one kills "
            "many, and with batch normalization none dies.",
            "深层网络一开始就有死亡单元；适中的学习率能救活一部分，过大的会杀死很多，"
            "有批归一化时无一死亡。",
        ),
    )


@question.figure(T("What the zero count says, and what is dead", "零的比例与真正的死亡比例"))
def zeros_and_dead(lab: Lab) -> Figure:
    """A healthy network: share of zeros in one batch beside the share of dead units."""
    seen = healthy(lab)
    return Figure(
        Axis(T("measure", "指标"), ticks=[
            T("zeros in a batch", "批次中的零"), T("dead units", "死亡单元"),
        ]),
        Axis(T("share", "比例")),
        [Bars(T("healthy network", "健康的网络"), [float(seen["zeros"].mean()), seen["dead"]])],
        T(
            "A healthy ReLU layer puts out many zeros while no unit, or hardly one, is dead.",
            "健康的 ReLU 层有很多零输出，而死亡的单元没有或几乎没有。",
        ),
    )  # fmt: skip
