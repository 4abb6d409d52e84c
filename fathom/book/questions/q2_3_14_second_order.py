"""2.3.14 Second-order methods: what they do in one step, and what that costs."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Source, T,
    at_least, at_most, equals, once, within,
)  # fmt: skip
from fathom.book.material.normed import few
from fathom.book.material.speed import Exponent, processor, rounds_of, seconds
from fathom.book.statistics import slope
from fathom.nn import functional as F
from fathom.optim.newton import conjugate_gradient
from fathom.train.curvature import hvp_of

question = Question(
    "2.3.14",
    title=T(
        "Why are second-order methods rare in deep learning?", "二阶方法为何在深度学习中少见？"
    ),
    difficulty=3,
    frequency=2,
    topics=(
        "newton",
        "hessian",
        "conjugate gradient",
        "hessian-vector product",
        "牛顿法",
        "黑塞矩阵",
        "共轭梯度",
    ),
    answer=T(
        "Newton's step solves H d = -g and lands at the bottom of a quadratic bowl at once. For "
        "N parameters H "
        "has N^2 entries and a dense solve takes about (2/3) N^3 operations: at a million "
        "parameters that is 4000 GB "
        "in float32. The gradient of a mini-batch is noisy and its Hessian noisier, the loss is "
        "not convex, so "
        "that a bare Newton step walks to saddles, and first-order steps are so cheap that many "
        "of them win. "
        "The matrix is not always needed: conjugate gradients use products H v, which cost about "
        "two "
        "gradients each and O(N) memory. Structured approximations (K-FAC, Shampoo, L-BFGS, "
        "Gauss-Newton) are in use "
        "today. So it is the exact, dense method that is impractical, not second-order "
        "information.",
        "牛顿步求解 H d = -g，在二次碗形上一步到底。N 个参数的 H 有 N² 个元素，稠密求解约需 "
        "(2/3)N³ 次运算："
        "一百万个参数在 float32 下就是 4000 GB。小批梯度有噪声，其黑塞矩阵噪声更大；损失非凸，"
        "单纯的牛顿步会走向鞍点；"
        "而一阶步又便宜得足以多走许多步取胜。矩阵并非总要显式存在：共轭梯度只用乘积 H v，"
        "每次约为两次梯度的代价，"
        "内存 O(N)。带结构的近似（K-FAC、Shampoo、L-BFGS、高斯-牛顿）今天仍在使用。"
        "所以不实用的是精确的稠密方法，而不是二阶信息本身。",
    ),
    flips=T(
        "With few parameters and a deterministic loss (fitting a formula, a few hundred weights) "
        "second-order methods win by far.",
        "参数少且损失是确定性的（拟合公式、几百个权重）时，二阶方法遥遥领先。",
    ),
    analogy=T(
        "A survey of the whole mountain before each step: one step then suffices, but the survey "
        "takes a year.",
        "每走一步前先测绘整座山：一步就够，但测绘要一年。",
    ),
    generative=T(
        "Shampoo and its kin keep a small matrix a layer and train language models in fewer "
        "steps than Adam.",
        "Shampoo 一类方法为每层保存小矩阵，训练语言模型所需步数少于 Adam。",
    ),
    classical=T(
        "Logistic regression is fitted by Newton's method (IRLS) or L-BFGS as a matter of course.",
        "逻辑回归理所当然地用牛顿法（IRLS）或 L-BFGS 拟合。",
    ),
    driving=T(
        "Bundle adjustment and pose graphs are Gauss-Newton and Levenberg-Marquardt every frame.",
        "光束法平差和位姿图优化每帧都在用高斯-牛顿和 Levenberg-Marquardt。",
    ),
    change=T(
        "Replace the exact solve by twenty products H v: the quadratic growth of memory goes.",
        "把精确求解换成二十次 H v 乘积：内存的平方增长随之消失。",
    ),
    alone=True,
)

DAMPING = 10.0  # added to the Hessian, so that it is positive definite
AGE_OF_THE_UNIVERSE = 13.8e9 * 3.156e7  # seconds


@question.exact(
    "C2.3.14-01",
    T(
        "On a quadratic bowl Newton's method reaches the bottom in one step.",
        "在二次碗形上，牛顿法一步到达最低点。",
    ),
    at_most(1e-8),
)
def one_step(lab: Lab) -> Evidence:
    """Distance to the minimum after one step over that before; random bowls of 30 weights.

    Condition numbers up to 1e4; the step solved in NumPy, and by the library's Newton on the tape.
    """
    rng = lab.rng("bowls")
    by_hand, by_library = [], []
    for _ in range(5):
        turn = np.linalg.qr(rng.standard_normal((30, 30)))[0]
        h = turn @ np.diag(10.0 ** np.linspace(0, 4, 30)) @ turn.T
        bottom, start = rng.standard_normal(30), rng.standard_normal(30)
        reached = start - np.linalg.solve(h, h @ (start - bottom))
        w = nn.Parameter(start.copy())
        away = fathom.tensor(bottom)
        shape = fathom.tensor(h)

        def loss(w: Any = w, a: Any = away, m: Any = shape) -> Any:
            return 0.5 * ((w - a) @ m * (w - a)).sum()

        fathom.optim.Newton([w]).step(loss)
        far = np.linalg.norm(start - bottom)
        by_hand.append(np.linalg.norm(reached - bottom) / far)
        by_library.append(np.linalg.norm(w.value() - bottom) / far)
    return Routes({"NumPy": float(max(by_hand)), "library": float(max(by_library))})


def network(hidden: int) -> tuple[Any, Any]:
    """A tanh net on eight inputs, and its loss with a penalty."""
    data = few()
    model = nn.Sequential(nn.Linear(8, hidden), nn.Tanh(), nn.Linear(hidden, 1)).double()
    x = fathom.tensor(data.x[:60, 24:32].astype(np.float64))
    y = fathom.tensor((data.y[:60, None] % 2).astype(np.float64))
    parameters = list(model.parameters())

    def loss() -> Any:
        size = sum(((p**2).sum() for p in parameters), fathom.tensor(0.0, dtype=fathom.float64))
        return F.mse_loss(model(x), y) + 0.05 * size

    return model, loss


def peak(run: Any) -> float:
    """The most bytes that were newly allocated at a time."""
    tracemalloc.start()
    try:
        run()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@question.exact(
    "C2.3.14-02",
    T(
        "Conjugate gradients use the Hessian matrix, as Newton's method does.",
        "共轭梯度法与牛顿法一样使用黑塞矩阵。",
    ),
    at_least(1.0),
    correction=T(
        "They use its curvature, not the matrix: products H v are enough. At 2,001 weights the peak was {n[tape, peak memory]:.3f} "
        "of the "
        "matrix, and {n[differences of gradients]:.3f} with products from differences of "
        "gradients.",
        "用到的是曲率而不是矩阵：只需要乘积 H v。2001 个权重时峰值内存为该矩阵的 {n[tape, peak memory]:.3f}；"
        "用梯度差分求乘积时为 "
        "{n[differences of gradients]:.3f}。",
    ),
    weight=3,
)
def needs_the_matrix(lab: Lab) -> Evidence:
    """Memory in use while solving (H + 10) d = b for a net, over that of H; both to 1e-4 or better.

    Products on the tape (peak of allocations, rounded to 0.001), and products from differences of
    gradients in plain arrays (the vectors that are kept, and the net's rows).
    """
    model, loss = network(200)
    product, size = hvp_of(loss, model.parameters())
    b = lab.rng("b").standard_normal(size)
    solved: dict[str, Any] = {}

    def on_tape() -> None:
        made, _ = hvp_of(loss, model.parameters())
        solved["tape"] = conjugate_gradient(lambda v: made(v) + DAMPING * v, b, 1e-8)[0]

    on_tape()
    memory = peak(on_tape)
    gradient = flat_gradient(model)
    origin = fathom.nn.utils.parameters_to_vector(model.parameters()).value().copy()

    def difference(v: Any) -> Any:
        step = 1e-4 / np.linalg.norm(v)
        return (gradient(origin + step * v) - gradient(origin - step * v)) / (
            2 * step
        ) + DAMPING * v

    solved["differences"] = conjugate_gradient(difference, b, 1e-7 * float(np.linalg.norm(b)))[0]
    residual = [
        float(np.linalg.norm(product(d) + DAMPING * d - b) / np.linalg.norm(b))
        for d in solved.values()
    ]
    if max(residual) > 1e-4:  # not solved: the memory would say nothing
        return float("nan")
    vectors, rows = 8 * size, 3 * 60 * 200  # of conjugate gradients and of the net
    return Routes({
        "tape, peak memory": round(memory / (8.0 * size**2), 3),
        "differences of gradients": (vectors + rows) / float(size**2),
    })  # fmt: skip


def flat_gradient(model: Any) -> Any:
    """The gradient of `network`'s loss at given weights by hand, in plain arrays."""
    data = few()
    x = data.x[:60, 24:32].astype(np.float64)
    y = (data.y[:60, None] % 2).astype(np.float64)
    shapes = [p.shape for p in model.parameters()]
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]

    def at(w: Any) -> Any:
        a, b, c, d = (part.reshape(s) for part, s in zip(np.split(w, cuts), shapes, strict=True))
        h = np.tanh(x @ a.T + b)
        error = 2 * (h @ c.T + d - y) / len(y)
        back = (error @ c) * (1 - h**2)
        parts = (back.T @ x, back.sum(axis=0), error.T @ h, error.sum(axis=0))
        return np.concatenate([p.ravel() for p in parts]) + 0.1 * w

    return at


@question.reference(
    "C2.3.14-03",
    T(
        "Second-order methods have been given up altogether in deep learning.",
        "二阶方法在深度学习中已被完全抛弃。",
    ),
    correction=T(
        "Structured ones are in use: K-FAC, Shampoo (winner of an AlgoPerf track), L-BFGS.",
        "带结构的二阶方法仍在使用：K-FAC、Shampoo（AlgoPerf 竞赛一个赛道的冠军）、L-BFGS。",
    ),
    weight=2,
)
def given_up(lab: Lab) -> Evidence:
    """What kind of method won a benchmark of the fastest training: Shampoo, a second-order method in
    the title of the paper that scaled it up (Anil et al., 2020), or one of first order."""
    return Published(
        "second order (Distributed Shampoo)",
        (
            Source("MLCommons, AlgoPerf: Training Algorithms, leaderboard of the external tuning ruleset",
                   2024, 0.95),
            Source("Kasimbeg et al., Accelerating Neural Network Training: An Analysis of the AlgoPerf "
                   "Competition, abstract", 2025, 0.97),
        ),
        expected="first order",
    )  # fmt: skip


@question.exact(
    "C2.3.14-04",
    T(
        "The Hessian of a million parameters has 1e12 entries and takes 4000 GB.",
        "一百万个参数的黑塞矩阵有 1e12 个元素，需要 4000 GB。",
    ),
    equals(4000.0, 0.5),
)
def size_of_the_matrix(lab: Lab) -> Evidence:
    """4 bytes (float32) times N squared, in GB of 1e9 bytes; its symmetry would halve that.

    The bytes an entry takes are read from a real array.
    """
    entries = 1_000_000**2
    each = np.zeros((100, 100), np.float32).nbytes / 100**2
    return All({
        "GB": entries * each / 1e9, "entries": Check(float(entries), equals(1e12))
    })  # fmt: skip


@question.experiment(
    "C2.3.14-05",
    T("Inverting takes a time of order N^3.", "求逆的时间是 O(N³)。"),
    within(2.5, 3.5),
)
def cubic(lab: Lab) -> Evidence:
    """Slope of log processor time over log N, dense inverses of N = 640 to 2560 by LAPACK, in rounds;
    to clear the edges by what a tenth of the time at one end makes.

    An exponent printed as 3 is taken to half a unit of its digit, as every printed value. O(N^3)
    speaks of large N, so the sizes end where an inverse takes a second. Beside the time the slope
    of the counted multiplications of Gaussian elimination.
    """
    sizes = lab.pick((640, 1280, 2560), (128, 256, 512))
    rng = lab.rng("matrices")
    matrices = [rng.standard_normal((n, n)) + n * np.eye(n) for n in sizes]
    inverses = {str(n): partial(np.linalg.inv, m) for n, m in zip(sizes, matrices, strict=True)}
    times = np.array([*rounds_of(inverses, processor, lab.pick(5, 3), 1).values()]).T
    counted = [sum((n - k) * (n - k + 1) for k in range(1, n)) for n in sizes]
    return All({
        "time": Exponent(np.array(sizes), times),
        "multiplications": Check(slope(np.log(sizes), np.log(counted)), equals(3.0, 0.05)),
    })  # fmt: skip


@question.exact(
    "C2.3.14-06",
    T(
        "For ten million parameters no supercomputer could do one Newton update before the "
        "universe ends.",
        "一千万个参数时，任何超级计算机都无法在宇宙终结前完成一次牛顿更新。",
    ),
    at_least(AGE_OF_THE_UNIVERSE),
    correction=T(
        "The solve takes {n[an exascale machine]:.0f} s on an exascale machine and "
        "{n[one core of this machine]:.1e} s on a core of this machine, against an age of the "
        "universe of "
        "4.4e17 s; memory (8e14 bytes) is the harder part.",
        "求解在 E 级超算上需 {n[an exascale machine]:.0f} 秒，在本机单核上需 "
        "{n[one core of this machine]:.1e} 秒，而宇宙年龄为 4.4e17 秒；更难的是内存（8e14 字节）"
        "。",
    ),
    weight=2,
)
def until_the_end(lab: Lab) -> Evidence:
    """Seconds for (2/3) N^3 operations, N = 1e7, against 13.8 billion years (the universe's age).

    At 1.2e18 operations a second (Frontier's Linpack, TOP500), and at the rate one core reaches
    here on a dense solve (rounded to one digit).
    """
    n = 1024
    rng = lab.rng("solve")
    a, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    rate = 2 / 3 * n**3 / seconds(lambda: np.linalg.solve(a, b), 5)
    work = 2 / 3 * 1e7**3
    return Routes({
        "an exascale machine": work / 1.2e18,
        "one core of this machine": float(f"{work / rate:.0e}"),
    })  # fmt: skip


class Costs(NamedTuple):
    """Of one update, by the number of weights."""

    sizes: list[int]
    seconds: dict[str, list[float]]
    memory: dict[str, list[float]]


@once
def costs(lab: Lab) -> Costs:
    """Weights of nets, and seconds and peak bytes of one update by either method."""
    sizes: list[int] = []
    times: dict[str, list[float]] = {"Newton": [], "CG": []}
    bytes_: dict[str, list[float]] = {"Newton": [], "CG": []}
    for hidden in lab.pick((5, 10, 20, 40, 80, 120), (5, 10, 20)):
        for name, make in (
            ("Newton", lambda p: fathom.optim.Newton(p, damping=1.0)),
            ("CG", lambda p: fathom.optim.NewtonCG(p, max_cg=20, damping=1.0)),
        ):
            model, loss = network(hidden)
            method = make(list(model.parameters()))

            def update(method: Any = method, loss: Any = loss) -> None:
                method.step(loss)

            update()
            times[name].append(seconds(update, 2))
            bytes_[name].append(peak(update))
        sizes.append(sum(p.size for p in model.parameters()))
    return Costs(sizes, times, bytes_)


NAMES = {"Newton": T("exact Newton", "精确牛顿法"), "CG": T("Newton-CG", "牛顿共轭梯度")}


def against_size(sizes: list[int], values: Any, unit: T, caption: T) -> Figure:
    """A cost over the number of weights; the exponent over the larger half."""
    half = len(sizes) // 2

    def exponent(key: str) -> float:
        return slope(np.log(sizes[half:]), np.log(values[key][half:]))

    return Figure(
        Axis(T("weights", "权重数"), log=True),
        Axis(unit, log=True),
        [Line(name, sizes, values[key]) for key, name in NAMES.items()],
        caption,
        {f"exponent, {name.en}": exponent(key) for key, name in NAMES.items()},
    )


@question.figure(T("Memory of one update", "一次更新的内存"))
def memory_of_an_update(lab: Lab) -> Figure:
    """A tanh net of growing width: exact Newton, and 20 steps of conjugate gradients."""
    return against_size(costs(lab).sizes, costs(lab).memory, T("peak bytes", "峰值字节数"), T(
        "The memory of exact Newton rises with nearly the square of the number of weights, that "
        "of "
        "Hessian-vector products in proportion to it.",
        "精确牛顿法的内存接近按权重数的平方上升，黑塞-向量乘积的内存只按比例上升。",
    ))  # fmt: skip


@question.figure(T("Time of one update", "一次更新的时间"))
def time_of_an_update(lab: Lab) -> Figure:
    """The same nets; the shortest of three times."""
    return against_size(costs(lab).sizes, costs(lab).seconds, T("seconds", "秒"), T(
        "Exact Newton takes ever longer as weights are added, Newton-CG hardly.",
        "随着权重增多，精确牛顿法越来越慢，牛顿共轭梯度几乎不变。",
    ))  # fmt: skip
