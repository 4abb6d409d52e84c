"""S.3 What a residual connection does to gradients and to deep nets."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T, at_least,
    at_most, band, once, within,
)  # fmt: skip
from fathom.book.material.normed import few

question = Question(
    "S.3",
    title=T("How do residual connections help?", "残差连接有什么帮助？"),
    difficulty=3,
    frequency=5,
    topics=("residual connection", "degradation", "identity", "残差连接", "退化问题", "恒等映射"),
    answer=T(
        "A residual block computes x + F(x), so its Jacobian is I + dF/dx and the gradient "
        "reaches every earlier block "
        "directly as well as through the branches. With small branches the product over many "
        "blocks stays near "
        "the identity, where a plain stack multiplies factors that vanish. That is a tendency "
        "and not a guarantee: "
        "a branch with dF/dx = -I blocks the gradient, and branches of unit scale double the "
        "squared gradient in each "
        "block, 2^(L/2) over L blocks. Deep nets therefore scale the branches down (by "
        "1/sqrt(L), by zero initialization, by "
        "LayerScale) or normalize inside them. Then deep residual nets train where plain ones of "
        "the same depth end with a higher training loss, "
        "which is the degradation that they were made for.",
        "残差块计算 x + F(x)，雅可比矩阵是 I + dF/dx，梯度除了经过各分支，"
        "还能直接到达每个更早的块。"
        "分支较小时，许多块的乘积仍接近单位阵，而普通堆叠乘的是会消失的因子。这是一种倾向，"
        "不是保证："
        "dF/dx = -I 的分支会挡住梯度；单位尺度的分支使梯度平方每块翻倍，L 块之后放大 2^(L/2) 倍。"
        "因此深层网络会缩小分支（乘 1/√L、零初始化、LayerScale）或在分支内归一化。"
        "这样一来，同样深度下普通网络以更高的训练损失收场，而残差网络能训练："
        "这正是它要解决的退化问题。",
    ),
    flips=T(
        "With branches of unit scale and no normalization a deep residual net explodes.",
        "分支取单位尺度且没有归一化时，深层残差网络会爆炸。",
    ),
    analogy=T(
        "A through road past every village: one need not pass the market of each to reach the sea.",
        "绕过每个村庄的过境公路：去海边不必穿过每个村的集市。",
    ),
    generative=T(
        "The residual stream of a transformer is exactly this; GPT-2 scales its branches by "
        "1/sqrt of their number.",
        "Transformer 的残差流正是如此；GPT-2 把分支按数量的平方根缩小。",
    ),
    classical=T(
        "Boosting adds small corrections to what is there already, too.",
        "提升方法同样是在已有结果上加小的修正。",
    ),
    driving=T(
        "ResNet backbones are still the ones that perception stacks are measured against.",
        "ResNet 骨干至今仍是感知系统的比较基准。",
    ),
    change=T(
        "Scale the branches by 1/sqrt(L): the growth of 2^(L/2) turns into a factor below 2.",
        "把分支乘以 1/√L：2^(L/2) 的增长变为不到 2 的倍数。",
    ),
)


@question.exact(
    "CS.3-01",
    T("A residual block outputs F(x) + x.", "残差块输出 F(x) + x。"),
    at_most(1e-12),
)
def formula(lab: Lab) -> Evidence:
    """nn.Residual around a two-layer tanh branch, against plain arrays; largest difference."""
    rng = lab.rng("x")
    x = rng.standard_normal((16, 6))
    branch = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 6)).double()
    a, b, c, d = (p.value() for p in branch.parameters())
    by_hand = np.tanh(x @ a.T + b) @ c.T + d + x
    return float(np.abs(nn.Residual(branch)(fathom.tensor(x)).value() - by_hand).max())


@question.exact(
    "CS.3-02",
    T(
        "Its gradient is the upstream one times (dF/dx + I).",
        "其梯度等于上游梯度乘以 (dF/dx + I)。",
    ),
    at_most(1e-12),
)
def gradient(lab: Lab) -> Evidence:
    """The tape's gradient against upstream @ (J + I), J written out by hand; relative difference.

    Without the I the difference must be 0.1 or more.
    """
    rng = lab.rng("jacobian")
    w, v, x, up = (rng.standard_normal(s) / 2 for s in ((9, 6), (6, 9), 6, 6))
    leaf = fathom.tensor(x, requires_grad=True)
    inner = fathom.tensor(v) @ fathom.tanh(fathom.tensor(w) @ leaf)
    ((leaf + inner) * fathom.tensor(up)).sum().backward()
    jacobian = v @ np.diag(1 - np.tanh(w @ x) ** 2) @ w
    tape: Any = leaf.grad.value()
    size = np.linalg.norm(tape)
    return All({
        "with I": float(np.linalg.norm(tape - up @ (jacobian + np.eye(6))) / size),
        "without I": Check(float(np.linalg.norm(tape - up @ jacobian) / size), at_least(0.1)),
    })  # fmt: skip


def gain(rng: np.random.Generator, scale: float, blocks: int, plain: bool = False) -> float:
    """Length of a gradient after so many blocks over that before; random Jacobians of 64 units.

    scale : of the branch: 1 keeps the length of a vector on average.
    """
    g = rng.standard_normal(64)
    start = np.linalg.norm(g)
    for _ in range(blocks):
        step = rng.standard_normal((64, 64)) @ g * (scale / 8)
        g = step if plain else g + step
    return float(np.linalg.norm(g) / start)


@question.experiment(
    "CS.3-03",
    T(
        "Thanks to the identity gradients are carried stably, however small or large dF/dx is.",
        "有了恒等项，无论 dF/dx 多小或多大，梯度都能稳定传播。",
    ),
    within(0.1, 10.0),
    correction=T(
        "For small branches (gain over 50 blocks {n[0.01]:.2f}) and for those scaled by "
        "1/sqrt(50) ({n[scaled]:.2f}); at "
        "unit scale it is {n[unit scale]:.0e}, and dF/dx = -I lets nothing pass ({n[-I]:.0f}).",
        "分支很小时（50 块的增益 {n[0.01]:.2f}）和按 1/√50 缩放时（{n[scaled]:.2f}）如此；"
        "单位尺度时增益为 "
        "{n[unit scale]:.0e}，而 dF/dx = -I 时什么也传不过去（{n[-I]:.0f}）。",
    ),
    weight=3,
)
def guaranteed(lab: Lab) -> Evidence:
    """Length of the gradient after 50 blocks over that before; stable is 0.1 to 10.

    Random branch Jacobians of scale 0.01, 1 and 1/sqrt(50), and the branch -x.
    """
    seeds = lab.seeds(12, 4)
    sets = {"0.01": 0.01, "scaled": 50**-0.5, "unit scale": 1.0}
    at: dict[str, Evidence] = {
        name: Sample([gain(np.random.default_rng(s), scale, 50) for s in seeds])
        for name, scale in sets.items()
    }
    leaf = fathom.tensor(np.ones(4), requires_grad=True)
    nn.Residual(Negative())(leaf).sum().backward()
    at["-I"] = float(np.abs(leaf.grad.value()).max())
    return Settings(T("dF/dx", "dF/dx"), at)


class Negative(nn.Module):
    """A branch that takes its input away."""

    def forward(self, x: Any) -> Any:
        return -x


@once
def losses(lab: Lab, depth: int, kind: str) -> Any:
    """Training loss on 400 digits after 12 epochs of Adam, one a seed; blocks of 24 ReLU units."""

    def model() -> Any:
        blocks: list[Any] = []
        for _ in range(depth):
            norm = [nn.BatchNorm1d(24)] if kind == "batch norm" else []
            block = nn.Sequential(nn.Linear(24, 24), *norm, nn.ReLU())
            scale = depth**-0.5 if kind == "scaled" else 1.0
            blocks.append(block if kind == "plain" else nn.Residual(block, scale=scale))
        return nn.Sequential(nn.Linear(64, 24), *blocks, nn.Linear(24, 10))

    spec = {"model": model, "optimizer": "adam", "lr": 1e-3, "epochs": lab.pick(12, 2)}
    data = few()
    made = fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(6, 2), threads=1)
    return np.array([run.losses[-1] for run in made.runs])


@question.experiment(
    "CS.3-04",
    T(
        "Residual nets do not degrade with depth.",
        "残差网络不会随深度退化。",
    ),
    at_most(0.05),
    correction=T(
        "From 4 to 40 blocks the loss changes by {n[as they are/residual]:+.2f} with branches as "
        "they are, "
        "{n[scaled by 1 over sqrt(L)/residual]:+.2f} with scaled ones and "
        "{n[with batch norm/residual]:+.2f} "
        "with batch norm in them; by {n[as they are/plain]:+.2f} in the plain net.",
        "从 4 块到 40 块，损失的变化为：分支原样时 {n[as they are/residual]:+.2f}，缩放时 "
        "{n[scaled by 1 over sqrt(L)/residual]:+.2f}，分支内有批归一化时 "
        "{n[with batch norm/residual]:+.2f}；"
        "普通网络为 {n[as they are/plain]:+.2f}。",
    ),
    weight=3,
)
def no_degradation(lab: Lab) -> Evidence:
    """Training loss at 40 blocks less that at 4, on the same seeds: residual, and plain.

    Not degrading is taken to mean 0.05 at most; the plain net must be worse by 0.5 or more. 400
    digits, 12 epochs of Adam; the mean loss of the last epoch.
    """
    deep = lab.pick(40, 8)
    plain = Check(Sample(losses(lab, deep, "plain") - losses(lab, 4, "plain")), at_least(0.5))
    kinds = {
        "as they are": "residual",
        "scaled by 1 over sqrt(L)": "scaled",
        "with batch norm": "batch norm",
    }
    return Settings(
        T("branches", "分支"),
        {
            name: All({
                "residual": Sample(losses(lab, deep, kind) - losses(lab, 4, kind)), "plain": plain
            })
            for name, kind in kinds.items()
        },
    )  # fmt: skip


@question.figure(T("Gradient gain by depth", "梯度增益随深度的变化"))
def gain_by_depth(lab: Lab) -> Figure:
    """Random branch Jacobians of 64 units: plain, residual, and residual with scaled branches."""
    depths = [1, 5, 10, 20, 30, 50]
    kinds = (
        (T("plain, scale 0.5", "普通，尺度 0.5"), lambda n: 0.5, True),
        (T("residual, unit scale", "残差，单位尺度"), lambda n: 1.0, False),
        (T("residual, 1/sqrt(L)", "残差，1/√L"), lambda n: n**-0.5, False),
    )
    lines: list[Any] = []
    for name, scale, plain in kinds:
        found = np.array([
            [gain(np.random.default_rng(s), scale(n), n, plain) for n in depths]
            for s in lab.seeds(12, 4)
        ])  # fmt: skip
        middle = np.exp(np.log(found).mean(axis=0))
        lines.append(Line(name, depths, middle, found.min(axis=0), found.max(axis=0)))
    theory = Line(T("2^(L/2)", "2^(L/2)"), depths, 2.0 ** (np.array(depths) / 2), points=True)
    return Figure(
        Axis(T("blocks", "块数")),
        Axis(T("gain of the gradient", "梯度增益"), log=True),
        [*lines, theory, Level(T("unchanged", "不变"), y=1.0)],
        T(
            "Plain blocks lose the gradient; residual ones of unit scale let it grow like "
            "2^(L/2); "
            "scaled branches keep it.",
            "普通块使梯度消失；单位尺度的残差块使它按 2^(L/2) 增长；缩放过的分支使它保持不变。",
        ),
    )


@question.figure(T("Training loss by depth", "训练损失随深度的变化"))
def loss_by_depth(lab: Lab) -> Figure:
    """400 digits, 12 epochs of Adam; intervals over seeds."""
    depths = lab.pick([4, 12, 40], [4, 8])
    lines = []
    kinds = {
        "plain": T("plain", "普通"),
        "residual": T("residual", "残差"),
        "scaled": T("residual, 1/sqrt(L)", "残差，1/√L"),
    }
    for kind, name in kinds.items():
        at = [Sample(losses(lab, d, kind)) for d in depths]
        lines.append(Line(name, depths, *band(at)))
    return Figure(
        Axis(T("blocks", "块数")),
        Axis(T("training loss", "训练损失")),
        [*lines, Level(T("guessing", "瞎猜"), y=float(np.log(10)))],
        T(
            "Plain nets end near the loss of a guess as they get deeper; residual nets train at "
            "any "
            "depth if their branches are scaled.",
            "普通网络越深，训练损失越接近瞎猜；分支经过缩放的残差网络在任何深度都能训练。",
        ),
    )
