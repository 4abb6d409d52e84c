"""2.1.7 How a multilayer perceptron gets past the limit of one layer."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Heat, Lab, Level, Line, NotMeasurable, Question, Routes,
    Sample, Settings, T, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.planes import dots, found_by_search
from fathom.models import TransformerLM, boolean_inputs, fold, linearly_separable, xor_network

question = Question(
    "2.1.7",
    title=T(
        "How does a multilayer perceptron escape the limit of a single layer?",
        "多层感知机如何突破单层的局限？",
    ),
    difficulty=3,
    frequency=5,
    topics=("mlp", "xor", "feature transform", "convex regions", "多层感知机", "异或", "特征变换"),
    answer=T(
        "A hidden layer changes the representation: each hidden unit draws one plane, and the output "
        "unit separates the samples in the space of the hidden activations instead of that of the inputs. "
        "For XOR two units, OR and AND, send the four corners to three points that a line separates. "
        "The nonlinearity is what makes it work: W2 (W1 x + b1) + b2 is again one affine map with "
        "W' = W2 W1 and b' = W2 b1 + b2. One hidden layer is not limited to convex regions; that holds "
        "only if the output unit is an AND of half-planes. With enough hidden units and free "
        "output weights, one layer fits rings and separate islands. More layers are a matter of "
        "economy, of units and of data, rather than of possibility.",
        "隐藏层改变了表示：每个隐藏单元划一个平面，输出单元不再在输入空间、而是在隐藏激活的空间里做划分。"
        "对 XOR，OR 和 AND 两个单元把四个角送到三个点，用一条直线就能分开。起作用的是非线性："
        "没有它，W2(W1x + b1) + b2 仍是一个仿射映射，W' = W2W1，b' = W2b1 + b2。"
        "单隐藏层并不局限于凸区域；只有当输出单元是对各半平面取 AND 时才如此。"
        "隐藏单元足够多、输出权重自由时，一层就能拟合圆环和互不相连的岛。"
        "加深是为了节省单元和数据，而不是从不可能变为可能。",
    ),
    flips=T(
        "Take the activation away and any depth is one linear layer again.",
        "去掉激活函数，无论多深都等于一个线性层。",
    ),
    analogy=T(
        "Fold the sheet of paper first, then cut it once with straight scissors: unfolded, the cut is "
        "no longer straight.",
        "先把纸折起来，再直剪一刀：展开之后，剪口就不再是直线了。",
    ),
    generative=T(
        "Two thirds of the weights of a GPT block lie in its two-layer MLP.",
        "GPT 每个块约三分之二的权重在两层的 MLP 里。",
    ),
    classical=T(
        "It learns the features that one would otherwise craft for a linear model.",
        "它自己学出原本要为线性模型手工设计的特征。",
    ),
    driving=T(
        "“Free road” is no convex region of the sensors' readings; a linear rule cannot draw it.",
        "“可通行区域”在传感器读数空间里不是凸集，线性规则画不出来。",
    ),
    change=T(
        "Set the hidden width to 2 or the activation to the identity: the ring cannot be drawn.",
        "把隐藏宽度设为 2，或把激活换成恒等函数：圆环就画不出来了。",
    ),
)

CORNERS = boolean_inputs()
XOR = np.array([0, 1, 1, 0])
INNER, OUTER = 0.4, 0.8


def by_steps(x: Any) -> tuple[Any, Any]:
    """Hidden activations (OR, AND) and output of the net with the printed weights, in NumPy."""
    hidden = (x @ np.ones((2, 2)) + (-0.5, -1.5) > 0).astype(float)
    return hidden, (hidden @ (1.0, -1.0) - 0.5 > 0).astype(int)


@question.exact(
    "C2.1.7-01",
    T(
        "With steps, OR (1, 1, -0.5), AND (1, 1, -1.5) and output (1, -1, -0.5) compute XOR, row by row.",
        "用阶跃单元，OR (1,1,-0.5)、AND (1,1,-1.5)、输出 (1,-1,-0.5) 逐行实现 XOR。",
    ),
    equals(0.0),
)
def printed_weights(lab: Lab) -> Evidence:
    """Entries that are wrong in the table of h1, h2 and y (four rows), by NumPy and by layers."""
    table = np.array([[0, 0, 0], [1, 0, 1], [1, 0, 1], [1, 1, 0]])
    hidden, out = by_steps(CORNERS)
    net, x = xor_network("or and").double(), fathom.tensor(CORNERS.astype(np.float64))
    layers = np.column_stack([net[1](net[0](x)).value(), net(x).value()])
    return All({
        "NumPy": float((np.column_stack([hidden, out]) != table).sum()),
        "layers": float((layers != table).sum()),
    })  # fmt: skip


@question.exact(
    "C2.1.7-02",
    T("The hidden map makes XOR linearly separable.", "隐藏层的映射使 XOR 线性可分。"),
    equals(1.0),
)
def separable_inside(lab: Lab) -> Evidence:
    """Whether a plane separates (1) or not (0): the images, and before them the corners."""
    hidden = by_steps(CORNERS)[0]
    return All({
        "images, linear program": float(bool(linearly_separable(hidden, XOR))),
        "images, search": float(found_by_search(hidden, XOR)),
        "corners": Check(float(bool(linearly_separable(CORNERS, XOR))), equals(0.0)),
    })  # fmt: skip


@question.exact(
    "C2.1.7-03",
    T(
        "Two linear layers are one, with W' = W2 W1 and b' = W2 b1 + b2.",
        "两个线性层等于一个：W' = W2W1，b' = W2b1 + b2。",
    ),
    at_most(1e-12),
)
def collapse(lab: Lab) -> Evidence:
    """Largest difference on 100 random rows, float64: by NumPy, and of layers and their fold."""
    rng = lab.rng("matrices")
    w1, w2 = rng.normal(size=(8, 5)) / 2, rng.normal(size=(3, 8)) / 3
    b1, b2, x = rng.normal(size=8), rng.normal(size=3), rng.normal(size=(100, 5))
    apart = (x @ w1.T + b1) @ w2.T + b2 - (x @ (w2 @ w1).T + (w2 @ b1 + b2))
    with fathom.seed(0):
        net = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3)).double()
    rows = fathom.tensor(x)
    folded = (net(rows) - fold(net)(rows)).abs().max().item()
    return All({"NumPy": float(np.abs(apart).max()), "layers": float(folded)})


@question.exact(
    "C2.1.7-04",
    T(
        "Without a hidden layer the classifier is linear.",
        "没有隐藏层就是线性分类器。",
    ),
    at_most(1e-10),
)
def no_hidden_layer(lab: Lab) -> Evidence:
    """Logistic regressions fitted to rings: how far the log-odds at a mix of two points are from the mix
    of their log-odds, relative; and the share of pairs of one class with a midpoint of another.
    """
    data = fathom.data.load("circles", n=200, seed=0)
    bends, crossed = [], []
    for seed in lab.seeds(10, 4):
        with fathom.seed(seed):
            layer = nn.Linear(2, 1).double()
        rng = np.random.default_rng(seed)
        p, q = rng.uniform(-2, 2, size=(2, 500, 2))
        layer.bias.data[...] = rng.normal()
        x = fathom.tensor(data.x.astype(np.float64))
        target = fathom.tensor(np.asarray(data.y, np.float64)[:, None])
        for _ in range(30):
            layer.zero_grad()
            fathom.nn.functional.binary_cross_entropy_with_logits(layer(x), target).backward()
            layer.weight.data[...] -= 0.5 * layer.weight.grad.value()
        odds = [layer(fathom.tensor(at)).value()[:, 0] for at in (p, q, 0.3 * p + 0.7 * q)]
        bends.append(np.abs(odds[2] - 0.3 * odds[0] - 0.7 * odds[1]).max())
        crossed.append(
            pairs_crossed(lambda at, f=layer: f(fathom.tensor(at)).value()[:, 0] > 0, p, q)
        )
    return All(
        {"bend of the log-odds": float(max(bends)), "midpoints outside": float(max(crossed))}
    )


def pairs_crossed(inside: Any, p: Any, q: Any) -> float:
    """Share of pairs with both ends inside whose midpoint is not: 0 for a convex region."""
    both = inside(p) & inside(q)
    return float((~inside((p + q) / 2))[both].mean()) if both.any() else 0.0


def labels(shape: str, x: Any) -> Any:
    """1 inside a ring, or inside two discs that do not touch."""
    if shape == "ring":
        radius = np.hypot(x[:, 0], x[:, 1])
        return ((radius > INNER) & (radius < OUTER)).astype(np.int64)
    centres = np.array([[-0.5, 0.0], [0.5, 0.0]])
    apart = np.linalg.norm(x[:, None] - centres, axis=2).min(axis=1)
    return (apart < 0.35).astype(np.int64)


def widths(lab: Lab) -> list[int]:
    """Hidden units tried."""
    return lab.pick([2, 4, 8, 16, 64], [4, 64])


def one_layer(width: int) -> Any:
    """One hidden layer of tanh."""
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))


@once
def points(lab: Lab, count: int, name: str) -> Any:
    """Rows evenly from the square [-1, 1]^2."""
    return lab.rng(name).uniform(-1, 1, size=(count, 2)).astype(np.float32)


@once
def fitted(lab: Lab, shape: str) -> dict[int, Any]:
    """Trained networks by width: test accuracy and how far from convex, (seeds, 2), and models."""
    x, test = points(lab, 600, "train"), points(lab, 2000, "test")
    p, q = points(lab, 4000, "pairs").reshape(2, 2000, 2)
    spec = {"model": one_layer, "epochs": lab.pick(150, 60), "batch_size": 64, "lr": 0.05}
    fleet = fathom.train_many(
        spec, x, labels(shape, x), seeds=lab.seeds(5, 3), grid={"width": widths(lab)}
    )
    accuracy = fleet.evaluate(test, labels(shape, test))["accuracy"]
    found: dict[int, Any] = {w: ([], []) for w in widths(lab)}
    for run, right in zip(fleet.runs, accuracy, strict=True):
        numbers, models = found[run.settings["width"]]
        numbers.append((right, pairs_crossed(inside(run.model), p, q)))
        models.append(run.model)
    return {w: (np.array(numbers), models) for w, (numbers, models) in found.items()}


def inside(model: Any) -> Any:
    """Whether a model says 1, as a function of an array of rows."""

    def says(x: Any) -> Any:
        with fathom.no_grad():
            out = model(fathom.tensor(np.asarray(x, np.float32))).value()
        return out[:, 1] > out[:, 0]

    return says


def either_side(x: Any) -> Any:
    """One hidden layer by hand, an OR of two half-planes: x1 + x2 below -0.5 or above 0.5."""
    total = x.sum(axis=1)
    return (total - 0.5 > 0).astype(int) + (-total - 0.5 > 0) - 0.5 > 0


@question.experiment(
    "C2.1.7-05",
    T(
        "One hidden layer can classify convex regions only; arbitrary boundaries take two or more.",
        "单隐藏层只能划出凸区域；任意边界需要两层以上。",
    ),
    at_most(0.01),
    correction=T(
        "One hidden layer of 64 tanh units learns a ring and two separate discs; of the midpoints of "
        "pairs in the learnt region {n[ring, trained]:.0%} and {n[two discs, trained]:.0%} lie "
        "outside it, and 0 would if it were convex.",
        "64 个 tanh 单元的单隐藏层能学会圆环和两个分离的圆盘；所学区域内点对的中点分别有 "
        "{n[ring, trained]:.0%} 和 {n[two discs, trained]:.0%} 落在区域外，而凸区域应为 0。",
    ),
    weight=3,
)
def convex_only(lab: Lab) -> Evidence:
    """Share of pairs of points classified positive whose midpoint is not (0 if the region is convex):
    networks of one hidden layer, trained on a ring and on two discs, and one set by hand.
    """
    p, q = points(lab, 4000, "pairs").reshape(2, 2000, 2)
    return Routes({
        "ring, trained": Sample(fitted(lab, "ring")[64][0][:, 1]),
        "two discs, trained": Sample(fitted(lab, "discs")[64][0][:, 1]),
        "two half-planes, by hand": pairs_crossed(either_side, p, q),
    })  # fmt: skip


@question.unmeasurable(
    "C2.1.7-06",
    T(
        "Models like GPT are in essence very deep MLPs with attention added.",
        "GPT 一类模型本质上是很深的 MLP 加上注意力。",
    ),
)
def in_essence(lab: Lab) -> Evidence:
    """A way of seeing it, not a number; shown is where a block's weights lie."""
    with fathom.seed(0):
        model = TransformerLM("abc", d_model=64, heads=4, layers=2, context=16)
    sizes = {name: p.size for name, p in model.named_parameters()}
    feed = sum(n for name, n in sizes.items() if "linear1" in name or "linear2" in name)
    attention = sum(n for name, n in sizes.items() if "attn" in name or "attention" in name)
    return NotMeasurable(
        T(
            "A definition of “in essence”; the shares of the weights can be counted.",
            "需要先定义“本质上”；能数的只是权重的占比。",
        ),
        {
            "share of the MLP in a block's weights": feed / (feed + attention),
            "share of attention": attention / (feed + attention),
        },
    )


def against_two_layers(activation: str) -> All:
    """Weight matrices of a feed-forward block, and its distance from act(x W1 + b1) W2 + b2."""
    with fathom.seed(0):
        block = nn.FeedForward(16, 32, activation=activation).double()
    x = np.random.default_rng(0).normal(size=(2, 5, 16))
    act = {"relu": fathom.relu, "gelu": fathom.nn.functional.gelu,
           "swiglu": fathom.nn.functional.silu}[activation]  # fmt: skip
    w1, b1 = block.linear1.weight.value(), block.linear1.bias.value()
    w2, b2 = block.linear2.weight.value(), block.linear2.bias.value()
    rows = x.reshape(-1, 16) @ w1.T + b1  # each place on its own
    by_hand = (act(fathom.tensor(rows)).value() @ w2.T + b2).reshape(x.shape)
    matrices = sum(p.ndim == 2 for p in block.parameters())
    return All({
        "weight matrices": Check(matrices, equals(2.0)),
        "difference": float(np.abs(block(fathom.tensor(x)).value() - by_hand).max()),
    })  # fmt: skip


@question.exact(
    "C2.1.7-07",
    T(
        "The feed-forward part of a Transformer is a two-layer MLP.",
        "Transformer 的前馈部分是两层 MLP。",
    ),
    at_most(1e-12),
    correction=T(
        "It is with ReLU or GELU, applied to each place alone. The gated one of LLaMA (SwiGLU) has "
        "{n[SwiGLU/weight matrices]:.0f} matrices and multiplies two of their products.",
        "用 ReLU 或 GELU 时是，且逐位置独立计算。LLaMA 的门控形式（SwiGLU）有 "
        "{n[SwiGLU/weight matrices]:.0f} 个矩阵，其中两路结果逐元素相乘。",
    ),
)
def feed_forward(lab: Lab) -> Evidence:
    """Largest difference of the library's block from a two-layer MLP on its weights, row by row; and
    its weight matrices.
    """
    return Settings(
        T("activation", "激活"),
        {
            "ReLU": against_two_layers("relu"),
            "GELU": against_two_layers("gelu"),
            "SwiGLU": against_two_layers("swiglu"),
        },
    )


@question.figure(T("XOR in the space of the hidden units", "隐藏空间中的 XOR"))
def hidden_space(lab: Lab) -> Figure:
    """The four corners sent through OR and AND, with the line of the output unit."""
    images, _ = by_steps(CORNERS)
    line = np.array([[0.45, -0.05], [1.25, 0.75]])  # h1 - h2 = 0.5
    return Figure(
        Axis(T("h1 = OR", "h1 = OR（或）")),
        Axis(T("h2 = AND", "h2 = AND（与）")),
        [
            dots(T("XOR = 1: (0, 1) and (1, 0)", "XOR = 1：(0,1) 与 (1,0)"), images[XOR == 1]),
            dots(T("XOR = 0: (0, 0) and (1, 1)", "XOR = 0：(0,0) 与 (1,1)"), images[XOR == 0]),
            Line(T("h1 - h2 = 0.5", "h1 - h2 = 0.5（输出单元）"), *line.T),
        ],
        T(
            "The two positive corners fall on one point; the line of the output unit cuts it off from "
            "the other two.",
            "两个正角重合为一点；输出单元的直线把它与另外两点分开。",
        ),
        {"distinct images": float(len(np.unique(images, axis=0)))},
    )  # fmt: skip


@question.figure(T("One hidden layer on regions that are not convex", "单隐藏层与非凸区域"))
def by_width(lab: Lab) -> Figure:
    """Test accuracy of one hidden layer of tanh against its width: a ring and two discs."""
    lines, numbers = [], {}
    names = {"ring": T("ring", "圆环"), "discs": T("two discs", "两个圆盘")}
    for shape, name in names.items():
        found = fitted(lab, shape)
        at = [Sample(found[w][0][:, 0]) for w in widths(lab)]
        lines.append(Line(name, widths(lab), *band(at)))
        numbers[f"{name.en}, midpoints outside at 64"] = float(found[64][0][:, 1].mean())
    filled = 1.0 - np.pi * INNER**2 / 4.0
    return Figure(
        Axis(T("hidden units", "隐藏单元数"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("a disc for the ring (convex)", "用圆盘代替圆环（凸）"), y=filled)],
        T(
            "With enough units one hidden layer draws both shapes, the ring better than the convex disc "
            "that fills its hole.",
            "单元足够时，单隐藏层能画出两种形状，圆环的准确率超过填满空洞的凸圆盘。",
        ),
        numbers,
    )


@question.figure(T("The ring as 64 tanh units draw it", "64 个 tanh 单元画出的圆环"))
def drawn_ring(lab: Lab) -> Figure:
    """Difference of the two logits over the square, of the first trained network of 64 units."""
    model = fitted(lab, "ring")[64][1][0]
    side = np.linspace(-1, 1, 61, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    with fathom.no_grad():
        out = model(fathom.tensor(grid)).value()
    odds = np.clip(out[:, 1] - out[:, 0], -6, 6).reshape(61, 61)
    turn = np.linspace(0, 2 * np.pi, 100)
    rims = [
        Line(name, r * np.cos(turn), r * np.sin(turn))
        for name, r in ((T("inner rim", "内缘"), INNER), (T("outer rim", "外缘"), OUTER))
    ]
    return Figure(
        Axis(T("x1", "x1")),
        Axis(T("x2", "x2")),
        [Heat(T("log-odds", "对数几率"), odds, (-1.0, 1.0), (-1.0, 1.0)), *rims],
        T(
            "The positive region is a ring with a hole: not convex, and drawn by one hidden layer.",
            "正区域是带空洞的圆环：不是凸集，却由单隐藏层画出。",
        ),
    )  # fmt: skip
