import numpy as np
import pytest

import fathom
from fathom.data import grammar
from fathom.engine.errors import ArgumentError
from fathom.models import GloVe, SkipGram, WordVectors
from fathom.models.word2vec import _cooccurrences, _pairs, _Rows
from fathom.nn import functional as F


@pytest.fixture(scope="module")
def learnt():
    corpus = grammar(1500)
    return corpus, SkipGram(width=16, window=8, lr=0.2, epochs=4).fit(corpus.sentences)


class TestSkipGram:
    def test_analogies_are_found_far_above_chance(self, learnt):
        corpus, model = learnt
        chance = 1 / (len(model.words) - 3)
        assert chance < 0.01
        assert model.accuracy(corpus.analogies) > 0.8
        assert model.accuracy(corpus.analogies, exclude=False) > 0.5
        assert model.analogy("king", "man", "woman")[0][0] == "queen"

    def test_what_was_not_learnt_is_at_chance(self, learnt):
        corpus, model = learnt
        noise = np.random.default_rng(0).standard_normal(model.vectors.shape)
        assert WordVectors(model.words, noise).accuracy(corpus.analogies) < 0.05

    def test_words_of_one_kind_are_near_each_other(self, learnt):
        _, model = learnt
        cities = {"berlin", "rome", "madrid", "tokyo", "cairo"}
        assert len({word for word, _ in model.nearest("paris", 5)} & cities) >= 4
        assert model.similarity("king", "queen") > model.similarity("king", "sushi")

    def test_the_loss_falls_and_seeds_decide(self, learnt):
        losses = learnt[1].losses
        assert losses[0] > losses[-1] and losses[0] < 6 * np.log(2)  # the start: ln 2 a score
        text = grammar(60, ("verbs",)).sentences
        first, again, other = (SkipGram(8, epochs=1, seed=s).fit(text).vectors for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_frequent_words_are_thinned_out(self):
        text = [["the", word] for word in "abcdefgh"] * 30
        model = SkipGram(4, epochs=1, subsample=0.02)
        words, counts, rows = model._read(text)
        kept = np.concatenate(model._thinned(rows, counts, fathom.Random(0)))
        shares = np.bincount(kept, minlength=9) / counts
        assert shares[0] == pytest.approx((0.02 / 0.5) ** 0.5, abs=0.08)
        assert shares[1:].mean() == pytest.approx((0.02 / 0.0625) ** 0.5, abs=0.08)
        assert words[0] == "the" and model.fit(text).vectors.shape == (9, 4)


class TestRows:
    def test_a_step_moves_the_rows_in_use_as_a_dense_gradient_would(self):
        """Lookup = one-hot matrix times table, in value and gradient; other rows stay."""
        start = np.random.default_rng(0).standard_normal((6, 3)).astype("f")
        index = np.array([[1, 4], [4, 4]])
        table = _Rows(start.copy(), rate=0.5)
        leaf, used, looked = table.take(index)
        weights = fathom.tensor(np.arange(12.0, dtype="f").reshape(2, 2, 3))
        (looked * weights).sum().backward()
        dense = fathom.tensor(start, requires_grad=True)
        hot: fathom.Tensor = F.one_hot(index, 6).astype(np.float32) @ dense
        np.testing.assert_allclose(looked.value(), hot.value(), rtol=1e-6)
        (hot * weights).sum().backward()
        assert used.tolist() == [1, 4]
        gradient = dense.grad.value()
        np.testing.assert_allclose(leaf.grad.value(), gradient[used], rtol=1e-6)
        assert not gradient[[0, 2, 3, 5]].any()
        table.step(leaf, used)
        np.testing.assert_allclose(table.table, start - 0.5 * np.sign(gradient), rtol=1e-4)

    def test_pairs_are_all_words_within_the_window(self):
        row = np.array([7, 8, 9, 5])
        first, second, distance = _pairs([row, row[:1]], 2)
        found = sorted(zip(first.tolist(), second.tolist(), distance.tolist(), strict=True))
        wanted = sorted(
            (row[i], row[j], abs(i - j)) for i in range(4) for j in range(4) if 0 < abs(i - j) <= 2
        )
        assert found == [tuple(map(int, pair)) for pair in wanted]


class TestGloVe:
    def test_analogies_are_found_far_above_chance(self):
        corpus = grammar(6000)
        model = GloVe(width=16, window=8, epochs=50).fit(corpus.sentences)
        assert model.accuracy(corpus.analogies) > 0.4  # chance is 0.6 %
        assert model.losses[-1] < 0.1 * model.losses[0]

    def test_meetings_count_by_distance(self):
        i, j, x = _cooccurrences([np.array([0, 1, 2]), np.array([0, 1])], 2, 3)
        table = dict(zip(zip(i.tolist(), j.tolist(), strict=True), x.tolist(), strict=True))
        assert table == {(0, 1): 2, (1, 0): 2, (1, 2): 1, (2, 1): 1, (0, 2): 0.5, (2, 0): 0.5}


class TestVectors:
    def test_as_a_layer(self):
        vectors = WordVectors(["a", "b"], [[1.0, 2.0], [3.0, 4.0]])
        layer = vectors.embedding()
        assert layer([vectors.number("b")]).tolist() == [[3.0, 4.0]]
        assert not layer.weight.requires_grad and vectors.embedding(freeze=False).weight is not None

    def test_errors(self):
        vectors = WordVectors(["king", "queen"], np.eye(2))
        with pytest.raises(ArgumentError, match=r"'kin' is not among the words[^$]*'king'"):
            vectors.nearest("kin")
        with pytest.raises(ArgumentError, match="different words and a row for each"):
            WordVectors(["a", "a"], np.eye(2))
        with pytest.raises(ArgumentError, match="two different words"):
            SkipGram().fit([["a"], ["a"]])
        with pytest.raises(ArgumentError, match="lr must be > 0"):
            GloVe(lr=0)
        with pytest.raises(ArgumentError, match="there are no questions"):
            vectors.accuracy([])
