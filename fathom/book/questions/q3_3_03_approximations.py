"""3.3.3 Stand-ins for GELU: how far off, what libraries take, and whether they are quicker."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes,
    Settings, Source, T, at_least, at_most, equals, once, true,
)  # fmt: skip
from fathom.book.material.activation_cost import SIZES, Costs, costs, shown
from fathom.book.material.calculus import highest, value
from fathom.book.material.smooth_gates import SHAPES, logistic
from fathom.book.material.speed import about
from fathom.nn import functional as F

question = Question(
    "3.3.3",
    title=T("How is GELU approximated and why?", "GELU 如何近似？为什么要近似？"),
    difficulty=4,
    frequency=3,
    topics=("gelu", "approximation", "benchmark", "近似", "误差函数"),
    answer=T(
        "Two stand-ins are common. The tanh form x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 "
        "is at most 0.00047 from x Phi(x); the sigmoid form x sigmoid(1.702 x) is up to 0.0203 "
        "off, and ReLU, the crudest, up to 0.170. They were made because the error function used "
        "to be slow or missing. Whether they save time depends on the engine: where erf has a "
        "vectorized kernel the gain is small or even a loss, and a form composed of several "
        "operations pays for its passes over memory. PyTorch and TensorFlow default to the exact "
        "form; the tanh form must be asked for (approximate='tanh', approximate=True). Use the "
        "form the weights were trained with: GPT-2 the tanh form, CLIP the sigmoid "
        "form.",
        "常见的替代有两种。tanh 形式 x (1 + tanh(√(2/π) (x + 0.044715 x^3))) / 2 与 x Phi(x) 最多差 "
        "0.00047；sigmoid 形式 x sigmoid(1.702 x) 最多差 0.0203；最粗的 ReLU 最多差 0.170。当初提出它们，"
        "是因为误差函数很慢或根本没有。能否省时间取决于计算引擎：erf 有向量化内核时，收益很小甚至"
        "为负；由几个运算拼成的形式要为多次读写内存付出代价。PyTorch 与 TensorFlow 默认都是精确形式，"
        "tanh 形式须显式指定（approximate='tanh'、approximate=True）。应使用权重训练时的那种形式：GPT-2 用 tanh "
        "形式，CLIP 用 sigmoid 形式。",
    ),
    flips=T(
        "Where erf is not vectorized (NumPy with SciPy here) the stand-ins are an order of "
        "magnitude quicker.",
        "在 erf 没有向量化的地方（这里是 NumPy 加 SciPy），替代形式快一个数量级。",
    ),
    analogy=T(
        "Taking 22/7 for pi: close enough for carpentry, a nuisance when two plans must match.",
        "用 22/7 代替 π：做木工够用，但要两张图纸严丝合缝时就麻烦了。",
    ),
    generative=T(
        "Load GPT-2's weights into exact GELU and the outputs drift by a little in every layer.",
        "把 GPT-2 的权重装进精确 GELU，每层输出都会有一点偏移。",
    ),
    classical=T(
        "For a small network take the exact form and do not think about it.",
        "小网络直接用精确形式，不必多想。",
    ),
    driving=T(
        "On embedded accelerators GELU becomes a table or the sigmoid form; check the accuracy "
        "after the swap.",
        "在嵌入式加速器上 GELU 会变成查找表或 sigmoid 形式；替换后要检验精度。",
    ),
    change=T(
        "Set the coefficient 0.044715 to 0: the tanh form's error grows tenfold and more.",
        "把系数 0.044715 设为 0：tanh 形式的误差增大十倍以上。",
    ),
    alone=True,
)

FORMS: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "sigmoid": lambda x: x * logistic(1.702 * x),
    "relu": lambda x: np.maximum(x, 0.0),
}
LIBRARY = {
    "tanh": activations.gelu_tanh,
    "sigmoid": activations.gelu_sigmoid,
    "relu": activations.relu,
}


@once
def errors(lab: Lab, name: str) -> Routes:
    """Largest distance from exact GELU on [-10, 10], float64, 20,001 places and a refinement.

    In NumPy with the C library's error function, and with the library's formulas.
    """

    def by_hand(x: Any) -> Any:
        return np.abs(FORMS[name](x) - SHAPES["gelu"].value(x))

    def ours(x: Any) -> Any:
        return np.abs(value(LIBRARY[name], x) - value(activations.gelu, x))

    return Routes({
        "NumPy": highest(by_hand, -10.0, 10.0)[1], "library": highest(ours, -10.0, 10.0)[1]
    })  # fmt: skip


@question.exact(
    "C3.3.3-01",
    T(
        "The tanh form's largest distance from GELU is about 0.003.",
        "tanh 形式与 GELU 的最大误差约 0.003。",
    ),
    equals(0.003, 0.0005),
    correction=T(
        "It is at most {n[NumPy]:.6f} off: six times as accurate as that.",
        "最大误差是 {n[NumPy]:.6f}，比书中所说精确六倍。",
    ),
)
def error_of_tanh(lab: Lab) -> Evidence:
    """Largest distance from exact GELU on [-10, 10], in NumPy and with the library's formulas."""
    return errors(lab, "tanh")


@question.exact(
    "C3.3.3-02",
    T(
        "0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) is what the library computes in its "
        "tanh mode.",
        "0.5 x (1 + tanh(√(2/π) (x + 0.044715 x^3))) 就是库的 tanh 模式。",
    ),
    at_most(2e-6),
    needs=("torch",),
)
def tanh_mode(lab: Lab) -> Evidence:
    """Largest difference on [-10, 10] in float32, whose grain is 1e-6 at 10: two libraries."""
    import torch

    x = np.linspace(-10.0, 10.0, 20_001, dtype=np.float32)
    written = FORMS["tanh"](x)
    theirs = torch.nn.functional.gelu(torch.from_numpy(x), approximate="tanh").numpy()
    ours = F.gelu(fathom.tensor(x), approximate="tanh").value()
    return All({
        "PyTorch": float(np.abs(written - theirs).max()),
        "Fathom": float(np.abs(written - ours).max()),
    })  # fmt: skip


@question.exact(
    "C3.3.3-03",
    T(
        "The sigmoid form's largest distance from GELU is about 0.02.",
        "sigmoid 形式与 GELU 的最大误差约 0.02。",
    ),
    equals(0.02, 0.005),
)
def error_of_sigmoid(lab: Lab) -> Evidence:
    """Largest distance from exact GELU on [-10, 10], in NumPy and with the library's formulas."""
    return errors(lab, "sigmoid")


@question.exact(
    "C3.3.3-04",
    T("0.5 x (1 + sign(x)) is ReLU.", "0.5 x (1 + sign(x)) 就是 ReLU。"),
    equals(0.0),
)
def sign_form(lab: Lab) -> Evidence:
    """Largest difference on [-10, 10], 0 among the places: in NumPy and with tensors."""
    x = np.linspace(-10.0, 10.0, 2001)
    at = fathom.tensor(x)
    ours = 0.5 * at * (1.0 + activations.sign(at)) - activations.relu(at)
    return Routes({
        "NumPy": float(np.abs(0.5 * x * (1.0 + np.sign(x)) - np.maximum(x, 0.0)).max()),
        "tensors": float(ours.abs().max().item()),
    })  # fmt: skip


@question.exact(
    "C3.3.3-05",
    T(
        "The tanh form is more accurate than the sigmoid form.",
        "tanh 形式比 sigmoid 形式更精确。",
    ),
    at_least(2.0),
)
def which_is_closer(lab: Lab) -> Evidence:
    """Error of the sigmoid form over that of the tanh form: the largest, and the mean square.

    The mean square is over even places of [-4, 4]. Twice as accurate is the least that counts.
    """
    tanh, sigmoid = errors(lab, "tanh"), errors(lab, "sigmoid")
    x = np.linspace(-4.0, 4.0, 4001)
    exact = SHAPES["gelu"].value(x)
    rms = [float(np.sqrt(((FORMS[n](x) - exact) ** 2).mean())) for n in ("sigmoid", "tanh")]
    return All({
        "largest": Routes({k: float(sigmoid[k]) / float(tanh[k]) for k in tanh}),  # type: ignore[arg-type]
        "root mean square": rms[0] / rms[1],
    })  # fmt: skip


@once
def timed(lab: Lab) -> Costs:
    """Times of every form in every engine, by size."""
    names = ("relu", "gelu", "gelu_tanh", "gelu_sigmoid")
    sizes = lab.pick([*SIZES], ["1k", "1M"])
    return costs(lab.rng("costs"), lab.pick(5, 3), lab.pick(3, 1), names, sizes)


def gain(lab: Lab, form: str) -> Settings:
    """Time of exact GELU over that of a stand-in, by engine and size, by two clocks."""
    return timed(lab).ratios("gelu", form)


SPEEDS = T(
    "It depends on engine and size. At a thousand and at a million numbers it is "
    "{n[PyTorch, 1k/quickest run]:.1f} and {n[PyTorch, 1M/quickest run]:.1f} times as quick in "
    "PyTorch, {n[Fathom, compiled, 1k/quickest run]:.1f} and "
    "{n[Fathom, compiled, 1M/quickest run]:.1f} times compiled by Fathom, "
    "{n[NumPy, 1k/quickest run]:.1f} and {n[NumPy, 1M/quickest run]:.0f} times in NumPy with "
    "SciPy's error function.",
    "取决于引擎和规模。一千个数与一百万个数时，在 PyTorch 中是精确形式的 "
    "{n[PyTorch, 1k/quickest run]:.1f} 与 {n[PyTorch, 1M/quickest run]:.1f} 倍速，Fathom 编译后 "
    "{n[Fathom, compiled, 1k/quickest run]:.1f} 与 {n[Fathom, compiled, 1M/quickest run]:.1f} 倍，"
    "NumPy 配 SciPy 的误差函数 {n[NumPy, 1k/quickest run]:.1f} 与 "
    "{n[NumPy, 1M/quickest run]:.0f} 倍。",
)


@question.experiment(
    "C3.3.3-06",
    T(
        "The tanh form is 2 to 3 times as quick as exact GELU.",
        "tanh 形式比精确 GELU 快 2 到 3 倍。",
    ),
    about(2.0, 3.0),
    correction=SPEEDS,
    weight=2,
    needs=("torch", "scipy"),
)
def speed_of_tanh(lab: Lab) -> Evidence:
    """Forward time of exact GELU over the tanh form's, 1,024 to a million float32 numbers (in
    PyTorch float64 too), one thread, by the quickest run and by processor time, side by side in
    rounds. The printed range is taken a fifth wider; a setting must clear its edges by a tenth.
    """
    return gain(lab, "gelu_tanh")


@question.experiment(
    "C3.3.3-07",
    T(
        "The sigmoid form is 3 to 5 times as quick as exact GELU.",
        "sigmoid 形式比精确 GELU 快 3 到 5 倍。",
    ),
    about(3.0, 5.0),
    correction=SPEEDS,
    weight=2,
    needs=("torch", "scipy"),
)
def speed_of_sigmoid(lab: Lab) -> Evidence:
    """As before; PyTorch has no kernel for it, so there it is a product and a sigmoid."""
    return gain(lab, "gelu_sigmoid")


@question.exact(
    "C3.3.3-08",
    T(
        "The largest distance of the crudest stand-in, ReLU, from GELU is 0.1.",
        "最粗的替代 ReLU 与 GELU 的最大误差是 0.1。",
    ),
    equals(0.1, 0.05),
    correction=T(
        "It is off by up to {n[NumPy]:.4f}, at |x| = 0.75.",
        "最大误差为 {n[NumPy]:.4f}，位于 |x| = 0.75。",
    ),
)
def error_of_relu(lab: Lab) -> Evidence:
    """Largest distance from exact GELU on [-10, 10], in NumPy and with the library's formulas."""
    return errors(lab, "relu")


@question.experiment(
    "C3.3.3-09",
    T(
        "The crudest stand-in is more than 10 times as quick as exact GELU.",
        "最粗的替代比精确 GELU 快 10 倍以上。",
    ),
    at_least(8.0),
    correction=SPEEDS,
    needs=("torch", "scipy"),
)
def speed_of_relu(lab: Lab) -> Evidence:
    """Forward time of exact GELU over ReLU's, as before; more than 10 is taken a fifth lower."""
    return gain(lab, "relu")


@question.exact(
    "C3.3.3-10",
    T("F.gelu computes the tanh form by default.", "F.gelu 默认计算 tanh 形式。"),
    true(),
    correction=T(
        "The default is the exact form (approximate='none').",
        "默认是精确形式（approximate='none'）。",
    ),
    weight=3,
    needs=("torch",),
)
def default_form(lab: Lab) -> Evidence:
    """PyTorch: which form the values of F.gelu(x) are, and what nn.GELU() says of itself."""
    import torch

    x = torch.linspace(-4.0, 4.0, 801, dtype=torch.float64)
    said = torch.nn.functional.gelu(x)
    to_tanh, to_exact = (
        (said - torch.nn.functional.gelu(x, approximate=a)).abs().max().item()
        for a in ("tanh", "none")
    )
    return Routes({
        "values": to_tanh < to_exact, "nn.GELU().approximate": torch.nn.GELU().approximate == "tanh"
    })  # fmt: skip


@question.exact(
    "C3.3.3-11",
    T(
        "approximate='tanh' and approximate='none' choose between the two forms.",
        "approximate='tanh' 与 approximate='none' 选择两种形式。",
    ),
    at_most(1e-12),
    needs=("torch",),
)
def both_accepted(lab: Lab) -> Evidence:
    """Largest difference of each mode from its formula, float64: PyTorch and Fathom."""
    import torch

    x = np.linspace(-6.0, 6.0, 1201)
    formulas = {"tanh": FORMS["tanh"](x), "none": SHAPES["gelu"].value(x)}
    found = {}
    for mode, formula in formulas.items():
        theirs = torch.nn.functional.gelu(torch.from_numpy(x), approximate=mode).numpy()
        ours = F.gelu(fathom.tensor(x), approximate=mode).value()
        found[f"PyTorch {mode}"] = float(np.abs(theirs - formula).max())
        found[f"Fathom {mode}"] = float(np.abs(ours - formula).max())
    return All({k: Check(v, at_most(1e-12)) for k, v in found.items()})


@question.reference(
    "C3.3.3-12",
    T(
        "tf.nn.gelu(approximate=True or False) chooses between the two forms.",
        "tf.nn.gelu(approximate=True 或 False) 选择两种形式。",
    ),
)
def tensorflow(lab: Lab) -> Evidence:
    """The values at 1 that TensorFlow's documentation prints, less those of the two forms: with
    approximate=True the tanh form, otherwise the exact one. The forms are 1.5e-4 apart there."""
    page = Source("TensorFlow API documentation, tf.nn.gelu, example", 2024, 0.98)
    tanh = 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (1 + 0.044715)))
    exact = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    return All({
        "approximate=True": Check(Published(0.841192, (page,)), equals(tanh, 1e-6)),
        "approximate=False": Check(Published(0.8413447, (page,)), equals(exact, 1e-6)),
    })  # fmt: skip


@question.exact(
    "C3.3.3-13",
    T(
        "Vision transformers built with PyTorch's defaults compute the tanh form.",
        "用 PyTorch 默认设置搭建的 ViT 计算 tanh 形式。",
    ),
    true(),
    correction=T(
        "nn.GELU() and the encoder layer's 'gelu' are both exact.",
        "nn.GELU() 与编码层的 'gelu' 都是精确形式。",
    ),
    weight=2,
    needs=("torch",),
)
def vision_transformers(lab: Lab) -> Evidence:
    """Whether what ViTs are built of gives the tanh form's values, not the exact ones.

    nn.GELU(), which torchvision's and timm's blocks take, and TransformerEncoderLayer with
    activation="gelu".
    """
    import torch

    x = torch.linspace(-4.0, 4.0, 801, dtype=torch.float64)
    exact, tanh = SHAPES["gelu"].value(x.numpy()), FORMS["tanh"](x.numpy())

    def is_tanh(f: Any) -> bool:
        said = f(x).numpy()
        return bool(np.abs(said - tanh).max() < np.abs(said - exact).max())

    layer = torch.nn.TransformerEncoderLayer(4, 1, 4, activation="gelu")
    return Routes(
        {"nn.GELU()": is_tanh(torch.nn.GELU()), "encoder layer": is_tanh(layer.activation)}
    )


@question.figure(T("How far off the stand-ins are", "各替代形式的误差"))
def error_curves(lab: Lab) -> Figure:
    """Distance of each stand-in from exact GELU, on a logarithmic scale."""
    x = np.linspace(-6.0, 6.0, 601)
    exact = SHAPES["gelu"].value(x)
    names = {"tanh": T("tanh form", "tanh 形式"), "sigmoid": T("sigmoid form", "sigmoid 形式"),
             "relu": T("ReLU", "ReLU")}  # fmt: skip
    lines = [
        Line(names[n], x, np.maximum(np.abs(FORMS[n](x) - exact), 1e-7)) for n in FORMS
    ]  # fmt: skip
    return Figure(
        Axis(T("x", "x")),
        Axis(T("|difference from GELU|", "|与 GELU 之差|"), log=True),
        [*lines, Level(T("0.003, as printed for tanh", "书中 tanh 的 0.003"), y=0.003)],
        T(
            "The tanh form stays below 0.0005, the sigmoid form below 0.021, ReLU is off by up "
            "to 0.17; drawn from 1e-7 up.",
            "tanh 形式始终低于 0.0005，sigmoid 形式低于 0.021，ReLU 最多差 0.17；图从 1e-7 画起。",
        ),
        {f"largest, {n}": float(errors(lab, n)["NumPy"]) for n in FORMS},  # type: ignore[arg-type]
    )


@question.figure(T("Time of each form by engine", "各形式在不同引擎中的耗时"))
def times(lab: Lab) -> Figure:
    """Nanoseconds a number of a million, quickest runs, mean of the rounds; engines that are installed."""
    forms = {"gelu": T("exact", "精确"), "gelu_tanh": T("tanh form", "tanh 形式"),
             "gelu_sigmoid": T("sigmoid form", "sigmoid 形式"), "relu": T("ReLU", "ReLU")}  # fmt: skip
    times, size = timed(lab).times, SIZES["1M"]
    found = {s.removesuffix(", 1M"): clocks for s, clocks in times.items() if s.endswith(", 1M")}
    bars = [
        Bars(name, [found[e]["quickest run"][form].mean() * 1e9 / size for e in found])
        for form, name in forms.items()
    ]
    return Figure(
        Axis(T("engine", "引擎"), ticks=[shown(e) for e in found]),
        Axis(T("nanoseconds a number", "每个数的纳秒数"), log=True),
        bars,
        T(
            "Which form is quickest differs by engine: where the error function has a vectorized "
            "kernel the exact form costs less or little more than the tanh form.",
            "哪种形式最快因引擎而异：误差函数有向量化内核时，精确形式比 tanh 形式更省或只略贵。",
        ),
    )
