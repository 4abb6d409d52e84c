"""3.3.10 Softmax in floating point: where it breaks, and the forms that do not."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Settings, T, at_least,
    at_most, equals,
)  # fmt: skip
from fathom.book.material.softmaxes import exactly, library, log_shifted, naive, shifted
from fathom.nn import functional as F

question = Question(
    "3.3.10",
    title=T(
        "Which numerical hazards has softmax, and how are they avoided?",
        "softmax 有哪些数值隐患？如何避免？",
    ),
    difficulty=4,
    frequency=5,
    topics=("softmax", "log-softmax", "logsumexp", "overflow", "数值稳定性", "上溢", "下溢"),
    answer=T(
        "Written down naively, e^z overflows (from z = 88.7 in float32, 709.8 in float64, 11.1 in "
        "float16) and gives inf / inf = nan; if all scores are very negative, every exponential "
        "underflows and gives 0 / 0. Subtracting the largest score first changes nothing "
        "mathematically and puts all exponents at 0 or below: the sum lies between 1 and n, so "
        "neither can happen for finite scores. The sum counts too: three classes at 88 break the "
        "naive form in float32, though each exponential is finite. What is left is underflow of "
        "single outputs to exactly 0, harmless until the logarithm makes it -inf. So losses stay "
        "in logarithms: log softmax(z) = z - max - log sum e^(z - max), and cross-entropy takes "
        "logits, not probabilities. Infinite scores are a matter of their own: one +inf, or a "
        "row masked to -inf throughout, gives nan also in the stable form.",
        "直接按公式计算时，e^z 会上溢（float32 从 z = 88.7 起，float64 从 709.8 起，float16 从 11.1 起），得到 "
        "inf / inf = nan；若所有得分都很负，所有指数都下溢，得到 0 / 0。先减去最大得分在数学上不改变结果，"
        "却使所有指数不大于 0：和介于 1 与 n 之间，所以对有限得分两种情况都不会发生。求和也要计入：float32 中"
        "三个 88 的类别就会使朴素形式出错，尽管每个指数都是有限的。剩下的是个别输出下溢为恰好 0，在取对数变成 "
        "-inf 之前并无害处。所以损失要留在对数域：log softmax(z) = z - max - log sum e^(z - max)，"
        "交叉熵应接收 logits 而不是概率。无穷大的得分另当别论：出现一个 +inf，或整行被掩码为 -inf，"
        "稳定形式也会得到 nan。",
    ),
    flips=T(
        "For scores known to be small (bounded logits, float64) the naive form is right to "
        "rounding and saves one pass over the data.",
        "如果已知得分很小（有界 logits、float64），朴素形式在舍入误差内正确，还省一次遍历。",
    ),
    analogy=T(
        "Measure mountains from the highest peak down instead of from the centre of the earth: "
        "the differences are the same, the numbers small.",
        "量山高时从最高峰往下量，而不是从地心往上量：差值不变，数字却小。",
    ),
    generative=T(
        "Flash attention keeps a running maximum and a running sum, so the stable form needs one "
        "pass in blocks.",
        "FlashAttention 维护滚动的最大值与滚动的和，使稳定形式分块一遍即可算完。",
    ),
    classical=T(
        "The log-likelihoods of a mixture model or a naive Bayes classifier need logsumexp in "
        "the same way.",
        "混合模型或朴素贝叶斯的对数似然同样需要 logsumexp。",
    ),
    driving=T(
        "In float16 on the vehicle the limit is 11, not 88: a head that was fine in training can "
        "give nan on the road.",
        "车端用 float16 时界限是 11 而不是 88：训练时正常的输出头上路后可能给出 nan。",
    ),
    change=T(
        "Go from two classes at 88 to three: the naive float32 softmax turns from right to all "
        "zeros.",
        "把 88 处的类别从两个增加到三个：朴素 float32 softmax 由正确变为全零。",
    ),
)

DTYPES = ("float16", "float32", "float64")


def by_tensors(z: Any) -> tuple[Any, Any]:
    """exp(z) and exp(z) / sum in the library's operations, without the shift."""
    grown = fathom.exp(fathom.tensor(np.asarray(z)))
    return grown.value(), (grown / grown.sum(axis=-1, keepdims=True)).value()


def by_numpy(z: Any) -> tuple[Any, Any]:
    """The same in NumPy."""
    with np.errstate(all="ignore"):
        return np.exp(np.asarray(z)), naive(z)


def broken(z: Any, exponential: float) -> All:
    """Share of the exponentials that are the value named, and of the outputs that are nan."""
    ways = {"NumPy": by_numpy(z), "Fathom": by_tensors(z)}
    return All({
        f"exp is {exponential:g}": Routes({k: float(np.mean(e == exponential)) for k, (e, _) in ways.items()}),
        "softmax is nan": Routes({k: float(np.isnan(p).mean()) for k, (_, p) in ways.items()}),
    })  # fmt: skip


@question.exact(
    "C3.3.10-01",
    T(
        "exp of 1000, 1001, 1002 overflows, and the naive softmax is nan.",
        "1000、1001、1002 的 exp 上溢，朴素 softmax 得到 nan。",
    ),
    equals(1.0),
)
def overflow(lab: Lab) -> Evidence:
    """In float64 by NumPy and by Fathom's operations: share of inf and of nan."""
    return broken(np.array([1000.0, 1001.0, 1002.0]), np.inf)


@question.exact(
    "C3.3.10-02",
    T(
        "exp of -1000, -999, -998 is 0, and the naive softmax is nan.",
        "-1000、-999、-998 的 exp 为 0，朴素 softmax 得到 nan。",
    ),
    equals(1.0),
)
def underflow(lab: Lab) -> Evidence:
    """In float64 by NumPy and by Fathom's operations: share of zeros and of nan."""
    return broken(np.array([-1000.0, -999.0, -998.0]), 0.0)


def least(z: Any) -> Routes:
    """The smallest exponential after the shift, by both."""
    low = z - z.max()
    return Routes({"NumPy": float(np.exp(low).min()), "Fathom": float(by_tensors(low)[0].min())})


@question.exact(
    "C3.3.10-03",
    T(
        "After the shift all exponentials lie in (0, 1].",
        "平移之后所有指数都在 (0, 1] 内。",
    ),
    at_least(5e-324),
    correction=T(
        "None exceeds 1. But 0 is reached by underflow: e^(z - max) is "
        "{n[float64, gap 700/NumPy]:.0e} at a gap of 700 and "
        "{n[float64, gap 800/NumPy]:g} at 800 in float64; in float32 it is 0 at 110. The range "
        "is [0, 1].",
        "都不超过 1。但会因下溢而等于 0：float64 中差距 700 时 e^(z - max) 是 "
        "{n[float64, gap 700/NumPy]:.0e}，差距 800 时是 {n[float64, gap 800/NumPy]:g}；"
        "float32 中差距 110 时为 0。范围是 [0, 1]。",
    ),
    weight=2,
)
def after_shift(lab: Lab) -> Evidence:
    """The smallest exponential of (0, -gap) in float64 and float32, which must be above 0; and the
    largest over 1,000 random rows of deviation 100, which must not exceed 1. In decimal
    arithmetic, which has no underflow, 1 stands for an output above 0."""
    z = lab.rng("rows").standard_normal((1000, 10)) * 100.0
    top = float(np.exp(z - z.max(axis=1, keepdims=True)).max())
    found: dict[str, Evidence] = {
        f"{dtype}, gap {gap}": least(np.array([0.0, -gap], dtype))
        for dtype, gap in (("float32", 100), ("float32", 110), ("float64", 700), ("float64", 800))
    }
    found["exact, gap 800"] = All({
        "above 0": float(exactly([0.0, -800.0])[1] > 0), "largest": Check(top, at_most(1.0))
    })  # fmt: skip
    return Settings(T("precision and gap to the largest score", "精度与到最大得分的差距"), found)


@question.exact(
    "C3.3.10-04",
    T(
        "Shifted, 1000, 1001, 1002 have the exponentials 0.135, 0.368, 1 and the softmax (0.090, "
        "0.245, 0.665).",
        "平移后，1000、1001、1002 的指数是 0.135、0.368、1，softmax 是 (0.090, 0.245, 0.665)。",
    ),
    at_most(5e-4),
)
def example(lab: Lab) -> Evidence:
    """Largest distance from the printed values, half a unit of the third digit allowed; by NumPy,
    the library, and decimal arithmetic."""
    z = np.array([1000.0, 1001.0, 1002.0])
    ways = {
        "NumPy": shifted(z), "library": library(z),
        "decimals": np.array([float(p) for p in exactly(z)]),
    }  # fmt: skip
    printed = (0.090, 0.245, 0.665)
    return All({
        "exponentials": float(np.abs(np.exp(z - 1002.0) - (0.135, 0.368, 1.0)).max()),
        "softmax": Routes({k: float(np.abs(p - printed).max()) for k, p in ways.items()}),
    })  # fmt: skip


def log_library(z: Any) -> Any:
    """The library's log_softmax of an array."""
    return F.log_softmax(fathom.tensor(np.asarray(z)), -1).value()


@question.exact(
    "C3.3.10-05",
    T("log softmax(z)_i = z_i - log sum e^z_j.", "log softmax(z)_i = z_i - log sum e^z_j。"),
    at_most(1e-10),
)
def identity(lab: Lab) -> Evidence:
    """Over random rows: the logarithm of decimal probabilities against z - logsumexp, by NumPy's
    logaddexp and by the library's log_softmax; largest difference."""
    rows = lab.rng("rows").standard_normal((30, 6)) * 20.0
    exact = np.array([[float(p.ln()) for p in exactly(z)] for z in rows])
    total = np.logaddexp.reduce(rows, axis=1)[:, None]
    return Routes({
        "logaddexp": float(np.abs(rows - total - exact).max()),
        "library": float(np.abs(log_library(rows) - exact).max()),
    })  # fmt: skip


@question.exact(
    "C3.3.10-06",
    T(
        "Softmax and then the logarithm is unsafe; log-softmax is safe.",
        "先 softmax 再取对数不安全；log-softmax 是安全的。",
    ),
    equals(1.0),
    weight=3,
)
def logarithm(lab: Lab) -> Evidence:
    """For (0, -800): whether the logarithm of the stable softmax is -inf (1), in NumPy and in the
    library; the error of log-softmax there (to 1e-9); and the share of finite log-softmaxes for
    scores up to 1e300."""
    z, huge = np.array([0.0, -800.0]), np.array([[0.0, -1e300], [1e300, 0.0], [-1e300, -1e300]])
    with np.errstate(divide="ignore"):
        then_log = {"NumPy": np.log(shifted(z)), "library": np.log(library(z))}
    logs = {"NumPy": log_shifted, "library": log_library}
    return All({
        "log of softmax is -inf": Routes({k: float(v[1] == -np.inf) for k, v in then_log.items()}),
        "error of log-softmax": Check(
            Routes({k: float(np.abs(f(z) - (0.0, -800.0)).max()) for k, f in logs.items()}),
            at_most(1e-9),
        ),
        "log-softmax is finite": Routes({k: float(np.isfinite(f(huge)).mean()) for k, f in logs.items()}),
    })  # fmt: skip


@question.exact(
    "C3.3.10-07",
    T(
        "cross_entropy works with log-softmax inside, so it takes logits.",
        "cross_entropy 内部使用 log-softmax，所以接收的是 logits。",
    ),
    at_most(1e-9),
    weight=3,
    needs=("torch",),
)
def inside(lab: Lab) -> Evidence:
    """cross_entropy less the negative log-likelihood of log_softmax, relative, on logits of
    deviation 1,000, where the logarithm of a softmax would be infinite (share of such rows: more
    than a half); in Fathom and in PyTorch."""
    import torch

    rng = lab.rng("logits")
    z, y = rng.standard_normal((50, 10)) * 1000.0, rng.integers(0, 10, 50)
    tz, ty = torch.from_numpy(z), torch.from_numpy(y)
    ours = F.cross_entropy(fathom.tensor(z), fathom.tensor(y)).item()
    composed = F.nll_loss(F.log_softmax(fathom.tensor(z), -1), fathom.tensor(y)).item()
    torchs = torch.nn.functional.cross_entropy(tz, ty).item()
    theirs = torch.nn.functional.nll_loss(torch.log_softmax(tz, -1), ty).item()
    return All({
        "Fathom": abs(ours - composed) / abs(composed),
        "PyTorch": abs(torchs - theirs) / abs(theirs),
        "rows with p = 0": Check(float((shifted(z)[np.arange(50), y] == 0).mean()), at_least(0.5)),
    })  # fmt: skip


def wrong(z: Any, dtype: str) -> Routes:
    """Largest error of the naive softmax in a precision against float64, by both ways."""
    rows = z.astype(dtype)
    right = shifted(rows.astype(np.float64))
    ways = {"NumPy": naive(rows), "Fathom": by_tensors(rows)[1]}
    return Routes({k: float(np.abs(p - right).max()) for k, p in ways.items()})


@question.exact(
    "C3.3.10-08",
    T(
        "The naive softmax is safe for scores between -88 and 88.",
        "得分在 -88 到 88 之间时，朴素 softmax 是安全的。",
    ),
    at_most(1e-3),
    correction=T(
        "It depends on precision and number of classes. In float32 two classes at 88 are right, "
        "but three overflow the sum and all come out 0 (error "
        "{n[float32, 3 classes/NumPy]:.2f}); in float16 the limit is 11, so it is nan; in "
        "float64 the limit is 709.",
        "取决于精度与类别数。float32 中两个 88 的类别没有问题，三个就使和上溢，输出全为 0（误差 "
        "{n[float32, 3 classes/NumPy]:.2f}）；float16 的界限是 11，结果为 nan；float64 的界限是 709。",
    ),
    weight=4,
)
def within_88(lab: Lab) -> Evidence:
    """Largest error of the naive softmax over rows within the range: all at 88, all at -88, and
    1,000 uniform ones; a thousandth is allowed. By NumPy and by Fathom's operations."""

    def rows(classes: int) -> Any:
        inside = lab.rng("rows").uniform(-88.0, 88.0, (1000, classes))
        return np.vstack([np.full(classes, 88.0), np.full(classes, -88.0), inside])

    settings = [("float16", 2), ("float32", 2), ("float32", 3), ("float64", 2), ("float64", 1000)]
    return Settings(
        T("precision and number of classes", "精度与类别数"),
        {f"{dtype}, {n} classes": wrong(rows(n), dtype) for dtype, n in settings},
    )


def faults(p: Any) -> float:
    """Share of rows that hold anything but numbers from 0 to 1 with the sum 1 (to 2 %)."""
    q = np.asarray(p, np.float64)
    fine = np.isfinite(q).all(axis=-1) & (np.abs(q.sum(axis=-1) - 1.0) < 0.02)
    return float((~fine).mean())


@question.exact(
    "C3.3.10-09",
    T(
        "The stable softmax works for any real input.",
        "稳定版 softmax 对任意实数输入都有效。",
    ),
    equals(0.0),
    weight=3,
)
def any_real(lab: Lab) -> Evidence:
    """Share of faulty rows (nan, inf, or a sum off 1) over finite inputs up to the largest number
    of each precision, by NumPy and by the library. Infinite inputs are no real numbers; the
    figure shows what they give."""
    found = {}
    for dtype in DTYPES:
        top = float(np.finfo(dtype).max)
        sizes = (
            lab.rng("sizes").uniform(-1.0, 1.0, (500, 10))
            * np.logspace(-3, np.log10(top) - 1e-3, 500)[:, None]
        )
        edges = np.array([[top] * 10, [-top] * 10, [top, -top] * 5])
        z = np.vstack([sizes, edges]).astype(dtype)
        found[dtype] = Routes({"NumPy": faults(shifted(z)), "library": faults(library(z))})
    return All(dict(found))


@question.figure(T("Where the naive form breaks", "朴素形式在哪里失效"))
def breaking(lab: Lab) -> Figure:
    """Share of faulty rows of 10 random scores against their deviation, by precision."""
    scales = np.logspace(0, 4, 33)
    base = lab.rng("base").standard_normal((400, 10))
    lines = [
        Line(T(f"naive, {d}", f"朴素，{d}"), scales, [faults(naive((s * base).astype(d))) for s in scales])
        for d in DTYPES
    ]  # fmt: skip
    stable = [max(faults(shifted((s * base).astype(d))) for d in DTYPES) for s in scales]
    return Figure(
        Axis(T("deviation of the scores", "得分的标准差"), log=True),
        Axis(T("share of rows that fail", "出错行的比例")),
        [*lines, Line(T("stable, all three", "稳定，三种精度"), scales, stable)],
        T(
            "The naive form fails from single-digit scores in float16, from some dozens in "
            "float32, from hundreds in float64; the stable form never.",
            "朴素形式在 float16 中得分为个位数时就开始出错，float32 中为几十，float64 中为几百；稳定形式从不出错。",
        ),
        {
            "stable, one +inf: share of nan": float(np.isnan(shifted([np.inf, 0.0])).mean()),
            "stable, all -inf: share of nan": float(np.isnan(shifted([-np.inf] * 2)).mean()),
        },
    )


def safe_up_to(dtype: str, classes: int) -> float:
    """The largest score that so many equal classes may have in the naive form, by bisection."""
    low, high = 0.0, 1000.0
    for _ in range(30):
        middle = (low + high) / 2
        p = naive(np.full(classes, middle, dtype)).astype(np.float64)
        good = bool(np.abs(p * classes - 1.0).max() < 0.05)  # float16 sums are rough
        low, high = (middle, high) if good else (low, middle)
    return low


@question.figure(T("The limit falls with the number of classes", "界限随类别数下降"))
def limits(lab: Lab) -> Figure:
    """Largest score at which the naive softmax of n equal scores is right, by bisection."""
    counts = np.unique(np.logspace(0, 4, 17).astype(int))
    return Figure(
        Axis(T("number of classes", "类别数"), log=True),
        Axis(T("largest safe score", "最大安全得分"), log=True),
        [
            *(Line(T(d, d), counts, [safe_up_to(d, int(n)) for n in counts]) for d in DTYPES),
            Level(T("88", "88"), y=88.0),
        ],
        T(
            "The limit is log(largest number) - log n: 88 is right for two float32 classes, 79 "
            "for ten thousand; float16 has room for little.",
            "界限是 log(最大数) - log n：对两个 float32 类别 88 是对的，一万类时只有 79；float16 几乎没有余地。",
        ),
    )


@question.figure(T("The logarithm of a small probability", "小概率的对数"))
def logs(lab: Lab) -> Figure:
    """Relative error of the second entry of log p for the scores (0, -gap)."""
    gaps = np.linspace(1.0, 1000.0, 334)
    lines = []
    for dtype in ("float32", "float64"):
        z = np.column_stack([np.zeros_like(gaps), -gaps]).astype(dtype)
        right = -gaps - np.log1p(np.exp(-gaps))
        with np.errstate(divide="ignore"):
            composed = np.log(shifted(z))[:, 1]
        fused = log_shifted(z)[:, 1]
        for name, zh, found in (
            ("log of softmax", "先 softmax 再 log", composed),
            ("log-softmax", "log-softmax", fused),
        ):
            error = np.abs(found.astype(np.float64) / right - 1.0) + 1e-18
            lines.append(Line(T(f"{name}, {dtype}", f"{zh}，{dtype}"), gaps, error))
    return Figure(
        Axis(T("gap of the scores", "得分之差")),
        Axis(T("relative error of log p", "log p 的相对误差"), log=True),
        lines,
        T(
            "The curves of the composed form lose their digits and end, where p underflows and "
            "the logarithm is -inf: near 103 in float32, 745 in float64. Log-softmax goes on.",
            "先算 softmax 再取对数的曲线逐渐丢失精度并在 p 下溢处终止（对数为 -inf）：float32 约 103，"
            "float64 约 745。log-softmax 则不受影响。",
        ),
    )
