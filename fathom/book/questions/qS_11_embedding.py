"""S.11 Embeddings: a table of rows, what it equals, what it saves, what its directions mean."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes,
    Sample, Settings, Source, T, at_least, at_most, band, once,
)  # fmt: skip
from fathom.data import grammar
from fathom.models.word2vec import SkipGram, WordVectors

question = Question(
    "S.11",
    title=T("What is an embedding?", "什么是嵌入（Embedding）？"),
    difficulty=2,
    frequency=4,
    topics=("embedding", "one-hot", "word2vec", "analogy", "嵌入", "独热编码", "词向量", "类比"),
    answer=T(
        "An embedding is a table of V rows of d numbers, one row for each of V symbols, learnt "
        "with the rest of the network. Looking up row i is the product of the one-hot vector e_i "
        "with the table, without the multiplication; the gradient reaches only the rows that were "
        "used. One-hot vectors are all equally far apart (the square root of 2), so they say only "
        "whether two symbols are the same; in an embedding symbols used alike come to lie near "
        "each other, and a relation that recurs (male to female) becomes about the same difference "
        "everywhere. Against one-hot vectors written out it saves memory by d / V; against indices "
        "it saves nothing, for the index needs the same V x d weights behind it. The meaning comes "
        "from the training, not from the table: untrained rows are random.",
        "嵌入是一张 V 行 d 列的表，V 个符号各占一行，与网络其余部分一起学习。查第 i 行就是独热向量 e_i 乘"
        "这张表，只是省去了乘法；梯度只到达用到的行。独热向量两两距离相等（根号 2），只能说明两个符号是"
        "否相同；在嵌入中，用法相近的符号彼此靠近，反复出现的关系（男到女）在各处变成大致相同的差向量。"
        "与写成稠密形式的独热向量相比，内存降为 d / V；与下标相比并不节省，因为下标后面同样要有 V x d 个"
        "权重。含义来自训练而不是来自表本身：未训练的行是随机的。",
    ),
    flips=T(
        "With few symbols and much data for each (days of the week), one-hot inputs do as well: "
        "the first layer's weights are then the embedding.",
        "符号很少且每个都有大量数据时（例如星期几），独热输入同样好：此时第一层的权重就是嵌入。",
    ),
    analogy=T(
        "One-hot is a list of names; an embedding is a map on which they have places.",
        "独热编码是一份名单；嵌入是一张地图，每个名字在上面都有位置。",
    ),
    generative=T(
        "A language model's first and often also its last matrix is the token embedding; tying the "
        "two saves V x d weights.",
        "语言模型的第一个矩阵（往往也是最后一个）就是词元嵌入；两者共享可省下 V x d 个权重。",
    ),
    classical=T(
        "Factoring the table of how often words meet gives vectors with the same arithmetic, "
        "without a network.",
        "对词共现表做矩阵分解，不用网络也能得到有同样算术性质的向量。",
    ),
    driving=T(
        "Kinds of agents, lanes and traffic signs enter a motion forecaster as embeddings.",
        "交通参与者、车道和标志的类别以嵌入的形式进入轨迹预测模型。",
    ),
    change=T(
        "Learn from 20 sentences instead of 300: the analogies fall towards those of random rows.",
        "把 300 句换成 20 句来学：类比准确率会跌向随机行的水平。",
    ),
)

WIDTH, SIZES = 16, (20, 40, 80, 160, 300)


@question.exact(
    "CS.11-01",
    T(
        "One-hot vectors show no relations of meaning: all are equally far apart.",
        "独热向量不含语义关系：两两距离全都相等。",
    ),
    at_most(1e-12),
)
def equally_far(lab: Lab) -> Evidence:
    """Pairwise distances of 200 one-hot vectors from the square root of 2, by differences and by
    inner products; and the largest cosine of two of them."""
    rows = np.eye(200)
    pairs = ~np.eye(200, dtype=bool)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)[pairs]
    inner = nn.functional.one_hot(fathom.tensor(np.arange(200)), 200).value().astype(np.float64)
    products = (inner @ inner.T)[pairs]
    return All({
        "distances": Routes({
            "differences": float(np.abs(apart - np.sqrt(2.0)).max()),
            "inner products": float(np.abs(np.sqrt(2.0 - 2.0 * products) - np.sqrt(2.0)).max()),
        }),
        "cosine": float(np.abs(products).max()),
    })  # fmt: skip


@question.exact(
    "CS.11-02",
    T(
        "An embedding is a learnable V x d table; its rows are the vectors, and looking one up is "
        "multiplying by a one-hot vector.",
        "嵌入是一张可学习的 V x d 表，行就是向量；查表等于用独热向量去乘。",
    ),
    at_most(1e-12),
    needs=("torch",),
)
def look_up(lab: Lab) -> Evidence:
    """Largest difference of looked-up rows from one-hot @ table, and of the table's gradients,
    60 symbols drawn from 40 (repeats among them), by two libraries; float64."""
    import torch

    rng = lab.rng("table")
    table, chosen = rng.standard_normal((40, 7)), rng.integers(0, 40, 60)
    upstream, hot = rng.standard_normal((60, 7)), np.eye(40)[chosen]
    layer = nn.Embedding(40, 7).double()
    layer.weight.data = table.copy()
    out = layer(fathom.tensor(chosen))
    (out * fathom.tensor(upstream)).sum().backward()
    theirs = torch.tensor(table, requires_grad=True)
    found = torch.nn.functional.embedding(torch.from_numpy(chosen), theirs)
    (found * torch.from_numpy(upstream)).sum().backward()
    values, gradient = hot @ table, hot.T @ upstream
    return All({
        "rows": Routes({
            "Fathom": float(np.abs(out.value() - values).max()),
            "PyTorch": float(np.abs(found.detach().numpy() - values).max()),
        }),
        "gradient": Routes({
            "Fathom": float(np.abs(layer.weight.grad.value() - gradient).max()),
            "PyTorch": float(np.abs(theirs.grad.numpy() - gradient).max()),
        }),
    })  # fmt: skip


def stored(symbols: int, width: int) -> dict[str, float]:
    """Bytes of arrays of that size in float32, and of int32 indices."""
    return {
        "rows": np.zeros((symbols, width), np.float32).nbytes,
        "one-hot": np.zeros((symbols, symbols), np.float32).nbytes,
        "indices": np.arange(symbols, dtype=np.int32).nbytes,
    }


@question.exact(
    "CS.11-03",
    T("Embeddings take less memory than one-hot codes.", "嵌入比独热编码省内存。"),
    at_most(0.9),
    correction=T(
        "It depends on what is stored. Against one-hot vectors written out, the table takes "
        "{n[one-hot vectors written out/formula]:.1%} (d / V). A one-hot code kept as an index with "
        "the first layer it needs takes as much ({n[an index, and the first layer behind "
        "it/formula]:.1f} times), and the index alone far less.",
        "取决于存的是什么。与写成稠密形式的独热向量相比，表只占 "
        "{n[one-hot vectors written out/formula]:.1%}（d / V）。若独热编码以下标存放、再加上它所需的第一"
        "层权重，则一样大（{n[an index, and the first layer behind it/formula]:.1f} 倍）；只存下标则小得"
        "多。",
    ),
    weight=2,
)
def memory(lab: Lab) -> Evidence:
    """Bytes of a table of V = 4,000 rows of d = 64 float32 numbers (with the indices that look them
    up) over those of the one-hot codes of the same V symbols: counted on arrays and layers, and by
    the formula."""
    v, d = 4000, 64
    kept = stored(v, d)
    first = nn.Linear(v, d, bias=False).weight.value().nbytes
    ours = nn.Embedding(v, d).weight.value().nbytes
    table = ours + kept["indices"]
    return Settings(T("how the one-hot codes are kept", "独热编码的存放方式"), {
        "one-hot vectors written out": Routes({
            "counted": table / kept["one-hot"], "formula": (v * d + v) / v**2
        }),
        "an index, and the first layer behind it": Routes({
            "counted": table / (kept["indices"] + first), "formula": (v * d + v) / (v + v * d)
        }),
        "an index alone": Routes({
            "counted": table / kept["indices"], "formula": (v * d + v) / v
        }),
    })  # fmt: skip


def factored(sentences: Any, width: int = WIDTH) -> WordVectors:
    """Word vectors without a network: positive pointwise mutual information of words that share a
    sentence, and its singular vectors (Levy & Goldberg, 2014)."""
    words = sorted({word for sentence in sentences for word in sentence})
    number = {word: i for i, word in enumerate(words)}
    met = np.zeros((len(words), len(words)))
    for sentence in sentences:
        at = [number[word] for word in sentence]
        for i, a in enumerate(at):
            for b in at[:i] + at[i + 1 :]:
                met[a, b] += 1.0
    share = met / met.sum()
    alone = share.sum(axis=1)
    with np.errstate(divide="ignore"):
        pmi = np.maximum(np.log(share / np.outer(alone, alone)), 0.0)
    u, s, _ = np.linalg.svd(pmi)
    return WordVectors(words, u[:, :width] * np.sqrt(s[:width]))


@once
def learnt(lab: Lab, way: str, size: int, seed: int) -> WordVectors:
    """Vectors of width 16 by skip-gram, by factoring, or of random rows, from `size` sentences."""
    sentences = grammar(size, ("people",), seed=seed).sentences
    if way == "skip-gram":
        return SkipGram(WIDTH, window=10, epochs=lab.pick(8, 4), batch_size=256, seed=seed).fit(
            sentences
        )
    if way == "factored":
        return factored(sentences)
    words = sorted({word for sentence in sentences for word in sentence})
    return WordVectors(words, np.random.default_rng(seed).standard_normal((len(words), WIDTH)))


@once
def analogies(lab: Lab, way: str, size: int) -> dict[str, Sample]:
    """Share of role-and-gender analogies solved, one a seed; with the three given words left out
    of the answers, and with them allowed."""
    found = []
    for seed in lab.seeds(6, 3):
        corpus = grammar(size, ("people",), seed=seed)
        vectors = learnt(lab, way, size, seed)
        known = [q for q in corpus.analogies if all(word in vectors for word in q)]
        found.append([vectors.accuracy(known), vectors.accuracy(known, exclude=False)])
    return {n: Sample(c) for n, c in zip(("left out", "allowed"), np.array(found).T, strict=True)}


@question.experiment(
    "CS.11-04",
    T(
        "Of word vectors, king - man + woman lies nearest to queen.",
        "在词向量中，king - man + woman 离 queen 最近。",
    ),
    at_least(0.5),
    correction=T(
        "In vectors of natural text queen comes first only when king, man and woman are left out of "
        "the answers, as the evaluations do; with them allowed king itself is nearest. From sentences "
        "made by rule, each of which tells role and gender, "
        "{n[made by rule/share solved/skip-gram]:.0%} of such analogies are solved.",
        "在自然文本的词向量中，只有像通常评测那样把 king、man、woman 排除在答案之外，queen 才排第一；若允许"
        "它们作答，最近的是 king 自己。而用规则生成、每句都交代角色与性别的句子来学，此类类比能答对 "
        "{n[made by rule/share solved/skip-gram]:.0%}。",
    ),
    weight=2,
)
def king_and_queen(lab: Lab) -> Evidence:
    """The nearest word in vectors of natural text, as published, with the three given words left out
    and allowed; and in vectors of 300 sentences made by rule, each of which tells a word's role and
    its gender, the share of 60 analogies (six roles, two genders) whose fourth word is nearest of
    67, the given ones left out; skip-gram, and singular vectors of co-occurrence."""
    size = lab.pick(300, 160)
    ways = {way: analogies(lab, way, size)["left out"] for way in ("skip-gram", "factored")}
    chance = analogies(lab, "random", size)["left out"]
    left_out = (
        Source("Mikolov, Yih & Zweig, Linguistic Regularities in Continuous Space Word "
               "Representations", 2013, 0.95),
    )  # fmt: skip
    allowed = (
        Source("Rogers, Drozd & Li, The (Too Many) Problems of Analogical Reasoning with Word Vectors",
               2017, 0.85),
        Source("Nissim, van Noord & van der Goot, Fair Is Better than Sensational", 2020, 0.85),
    )  # fmt: skip
    return Settings(T("text, and whether the given words may answer", "文本，以及是否允许题中词作答"), {
        "natural, left out": Published("queen", left_out, "queen"),
        "natural, allowed": Published("king", allowed, "queen"),
        "made by rule": All({
            "share solved": Routes(dict(ways)),
            "share with random rows": Check(chance, at_most(0.1)),
        }),
    })  # fmt: skip


@question.figure(T("Analogies against the amount of text", "类比准确率随文本量的变化"))
def more_text(lab: Lab) -> Figure:
    """Share of analogies solved from 20 to 300 sentences, bands over seeds."""
    sizes = lab.pick(SIZES, (20, 160))
    plans = (
        ("skip-gram", "left out", T("skip-gram", "skip-gram")),
        ("skip-gram", "allowed", T("skip-gram, given words allowed", "skip-gram，允许题中词作答")),
        ("factored", "left out", T("factored co-occurrence", "共现矩阵分解")),
        ("random", "left out", T("random rows", "随机行")),
    )
    lines = []
    for way, rule, name in plans:
        at = [analogies(lab, way, size)[rule] for size in sizes]
        lines.append(Line(name, sizes, *band(at)))
    return Figure(
        Axis(T("sentences", "句子数"), log=True),
        Axis(T("share of analogies solved", "类比答对率")),
        [*lines, Level(T("guessing among 67 words", "67 个词中瞎猜"), y=1 / 67)],
        T(
            "From a handful of sentences nothing is learnt; with a few hundred nearly every analogy "
            "is solved, by skip-gram as by factoring the counts. Random rows stay at chance.",
            "只有寥寥几句时学不到什么；有几百句后几乎每个类比都能答对，skip-gram 与计数矩阵分解皆如此。"
            "随机行始终停在瞎猜水平。",
        ),
    )


@once
def closeness(lab: Lab) -> dict[str, dict[str, Sample]]:
    """Mean cosine of two people of the same role, of the same gender, and of neither."""
    corpus = grammar(10, ("people",))
    quads = corpus.analogies  # (king, man, woman, queen): a-d role, a-b gender, a-c neither
    found: dict[str, dict[str, list[float]]] = {}
    for seed in lab.seeds(6, 3):
        for way in ("skip-gram", "factored", "random"):
            vectors = learnt(lab, way, lab.pick(300, 160), seed)
            for kind, other in (("role", 3), ("gender", 1), ("neither", 2)):
                mean = np.mean([vectors.similarity(q[0], q[other]) for q in quads])
                found.setdefault(way, {}).setdefault(kind, []).append(float(mean))
    return {way: {k: Sample(v) for k, v in kinds.items()} for way, kinds in found.items()}


@question.figure(T("How near words lie that share something", "有共同点的词相距多近"))
def neighbours(lab: Lab) -> Figure:
    """Mean cosine of pairs of people, by what they share; bars over seeds."""
    found = closeness(lab)
    kinds = {
        "role": T("role", "角色"), "gender": T("gender", "性别"), "neither": T("neither", "都不同"),
    }  # fmt: skip
    names = {
        "skip-gram": T("skip-gram", "skip-gram"), "factored": T("factored", "矩阵分解"),
        "random": T("random rows", "随机行"),
    }  # fmt: skip
    marks = []
    for way, name in names.items():
        at = [found[way][k] for k in kinds]
        marks.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("what the two words share", "两词的共同点"), ticks=list(kinds.values())),
        Axis(T("mean cosine", "平均余弦")),
        [*marks, Level(T("one-hot, any two", "独热，任意两词"), y=0.0)],
        T(
            "Learnt vectors put king near queen (same role) and nearer to man than to woman (same "
            "gender); one-hot and random ones make no difference.",
            "学得的向量把 king 放在 queen 附近（同角色），并且比 woman 更靠近 man（同性别）；独热和随机"
            "向量没有这种区别。",
        ),
    )
