import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.models import CharLSTM, TransformerLM, lenet5, windows
from fathom.models.language import sample_token
from fathom.nn import functional as F
from fathom.nn.attention import key_value_cache
from tests.unit.nn.layer_harness import run_layer_test

IDS = np.array([[0, 1, 2, 1], [2, 2, 0, 1]])
TEXT = "the cat sat on the mat. " * 8


def transformer(**options):
    return TransformerLM(3, **{"d_model": 4, "heads": 2, "layers": 2, "context": 6, **options})


class TestTransformerLM:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"position": "rotary", "norm": "rms", "activation": "swiglu", "bias": False},
            {"position": "alibi", "tie": False},
            {"position": "sinusoidal", "norm_first": False},
        ],
        ids=str,
    )
    def test_harness(self, options):
        run_layer_test(
            lambda: transformer(**options),
            inputs=[IDS],
            output_shape=(2, 4, 3),
            gradcheck=options == {},
            learns=False,
        )

    @pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary", "alibi", "none"])
    def test_the_future_is_hidden(self, position):
        model = transformer(position=position)
        other = IDS.copy()
        other[:, 3] = 0
        a, b = model(IDS).value(), model(other).value()
        np.testing.assert_allclose(a[:, :3], b[:, :3], rtol=1e-5)

    def test_tied_weights_are_one_matrix(self):
        tied, free = transformer(), transformer(tie=False)
        assert "head.weight" in free.state_dict() and "head.weight" not in tied.state_dict()

    def test_it_learns_a_text_and_goes_on_with_it(self):
        with fathom.seed(0):
            model = TransformerLM(sorted(set(TEXT)), d_model=24, heads=2, layers=1, context=24)
            learn(model, 70)
        assert model.generate("the ca", 18, temperature=0) == TEXT[:24]
        assert len(model.generate("the ", 40, top_k=2, seed=1)) == 44  # beyond the context

    def test_errors(self):
        with pytest.raises(ShapeError, match=r"\(2, >7<\) is longer than the context, 6"):
            transformer()(np.zeros((2, 7), np.int64))
        with pytest.raises(ArgumentError, match="unknown position"):
            transformer(position="relative")
        with pytest.raises(ShapeError, match=r"\(n, time\)"):
            transformer()(np.zeros(3, np.int64))


class TestCharLSTM:
    def test_harness(self):
        run_layer_test(lambda: CharLSTM(3, 4, 5, layers=2), inputs=[IDS], output_shape=(2, 4, 3))

    def test_a_text_in_pieces(self):
        model = CharLSTM(3, 4, 5)
        whole = model(IDS).value()
        first, state = model.run(IDS[:, :2])
        second, _ = model.run(IDS[:, 2:], state)
        np.testing.assert_allclose(
            np.concatenate([first.value(), second.value()], 1), whole, rtol=1e-5
        )

    def test_it_learns_a_text_and_goes_on_with_it(self):
        with fathom.seed(0):
            model = CharLSTM(sorted(set(TEXT)), 16, 32)
            learn(model, 70)
        assert model.generate("the ca", 42, temperature=0) == TEXT[:48]


def learn(model, steps):
    x, y = windows(model.encode(TEXT), 24, 7)
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.015)
    for _ in range(steps):
        scores = model(x)
        loss = F.cross_entropy(scores.reshape(-1, model.vocabulary), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class TestCache:
    """What was computed for the tokens so far is kept, and nothing else is different."""

    @pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary", "alibi", "none"])
    @pytest.mark.parametrize("norm_first", [True, False])
    def test_scores_are_equal_token_by_token(self, position, norm_first):
        with fathom.seed(0):
            model = transformer(position=position, norm_first=norm_first, context=24, d_model=8)
            for parameter in model.parameters():  # larger than at the start, so that errors show
                nn.init.normal_(parameter, 0.0, 0.5)
        ids = np.random.default_rng(0).integers(0, 3, (2, 24))
        whole = model(ids).value()
        with fathom.no_grad(), key_value_cache(model) as caches:
            for start, end in ((0, 5), (5, 6), (6, 7), (7, 15), (15, 24)):
                part = model(ids[:, start:end], start).value()
                np.testing.assert_allclose(part, whole[:, start:end], rtol=1e-4, atol=1e-6)
            assert [cache.length for cache in caches] == [24, 24]
        np.testing.assert_array_equal(model(ids).value(), whole)  # nothing stays behind

    @pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary", "alibi", "none"])
    @pytest.mark.parametrize("temperature", [0, 1.0])
    def test_texts_are_equal_within_the_context_and_beyond(self, position, temperature):
        with fathom.seed(1):
            model = transformer(position=position, context=12, d_model=8)
            for parameter in model.parameters():
                nn.init.normal_(parameter, 0.0, 0.5)
        for prompt in ([1], [0, 1, 2], [1, 2] * 6, [2] * 15):
            how = {"temperature": temperature, "seed": 5}
            kept = model.generate(prompt, 16, **how)
            anew = model.generate(prompt, 16, cache=False, **how)
            assert kept.tolist() == anew.tolist() and len(kept) == len(prompt) + 16

    def test_each_token_is_read_once(self, monkeypatch):
        model, read = transformer(context=30), []
        forward = type(model).forward
        monkeypatch.setattr(
            type(model),
            "forward",
            lambda self, x, offset=0: read.append((x.shape[1], offset)) or forward(self, x, offset),
        )
        model.generate([0, 1, 2], 4, seed=0)
        assert read == [(3, 0), (1, 3), (1, 4), (1, 5)]

    def test_errors(self):
        model = transformer()
        with key_value_cache(model), pytest.raises(ArgumentError, match="gradients do not pass"):
            model(IDS)
        with fathom.no_grad(), key_value_cache(model):
            model(IDS)
            with pytest.raises(ShapeError, match="holds a batch of 2; received one of 1"):
                model(IDS[:1, :1], 4)
            with pytest.raises(ShapeError, match="longer than the context, 6"):
                model(IDS, 4)
        assert all(layer.self_attn.cache is None for layer in model.blocks.layers)


class TestGenerate:
    def test_seeds_and_modes(self):
        model = CharLSTM("abc", 4, 5, dropout=0.5)
        first = model.generate("a", 20, seed=3)
        assert first == model.generate("a", 20, seed=3) != model.generate("a", 20, seed=4)
        assert model.training  # as it was
        with fathom.seed(3):
            assert model.generate("a", 20) == first

    def test_numbers_in_numbers_out(self):
        out = transformer().generate([0, 1], 3, seed=0)
        assert out.dtype == np.int64 and out.shape == (5,) and out[:2].tolist() == [0, 1]

    def test_top_k_and_temperature(self):
        stream = fathom.Random(0).stream("generate")
        scores = np.array([0.0, 3.0, 2.0, -1.0])
        drawn = [sample_token(scores, 1.0, 2, stream) for _ in range(200)]
        assert set(drawn) == {1, 2}
        assert sample_token(scores, 0, None, stream) == 1
        shares = np.bincount(
            [sample_token(scores, 2.0, None, stream) for _ in range(4000)], minlength=4
        )
        wanted = np.exp(scores / 2) / np.exp(scores / 2).sum()
        np.testing.assert_allclose(shares / 4000, wanted, atol=0.03)

    def test_errors(self):
        model = CharLSTM("abc", 4, 5)
        with pytest.raises(ArgumentError, match="'z' is not in the vocabulary"):
            model.generate("az", 3)
        with pytest.raises(ArgumentError, match="temperature must be >= 0"):
            model.generate("a", 3, temperature=-1)
        with pytest.raises(ArgumentError, match="at least one"):
            model.generate("", 3)
        with pytest.raises(ArgumentError, match="must differ"):
            CharLSTM("aa")
        with pytest.raises(ArgumentError, match="size of its vocabulary only"):
            CharLSTM(3).generate("a", 3)


def test_windows():
    x, y = windows(np.arange(10), 4, 3)
    assert x.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert (y == x + 1).all()
    with pytest.raises(ArgumentError, match="more than 12 tokens"):
        windows(np.arange(10), 12)


class TestLeNet:
    def test_shape_and_parameters(self):
        for size in (28, 32):
            model = lenet5(size=size)
            assert model(fathom.zeros(2, 1, size, size)).shape == (2, 10)
            assert sum(p.size for p in model.parameters()) == 61706
        spec = nn.to_spec(model)
        assert repr(nn.from_spec(spec)) == repr(model)

    def test_options(self):
        model = lenet5(3, channels=3, activation_name="relu", pooling="max")
        assert model(fathom.zeros(1, 3, 28, 28)).shape == (1, 3)
        with pytest.raises(ArgumentError, match="unknown pooling"):
            lenet5(pooling="mean")
