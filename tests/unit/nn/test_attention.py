import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, DtypeError, ShapeError
from fathom.nn import functional as F
from fathom.nn.attention import key_value_cache
from fathom.nn.efficient import linear_attention, weighted_by_features
from fathom.nn.positional import alibi_slopes, sinusoids
from tests.unit.nn.layer_harness import run_layer_test


def draw(*shape, seed=0):
    return fathom.tensor(np.random.default_rng(seed).standard_normal(shape))


def attend(**options):
    """Self-attention as a layer of one input and one output."""
    return nn.MultiheadAttention(4, 2, batch_first=True, **options)


class TestMultihead:
    @pytest.mark.parametrize(
        ("options", "count"),
        [
            ({}, 3 * 4 * 5 + 4 * 5),
            ({"bias": False}, 64),
            ({"rotary": True}, 80),
            ({"alibi": True}, 80),
            ({"add_bias_kv": True, "add_zero_attn": True}, 88),
            ({"kdim": 3, "vdim": 2}, 16 + 12 + 8 + 12 + 20),
        ],
        ids=str,
    )
    def test_harness(self, options, count):
        run_layer_test(
            lambda: attend(**options),
            (2, 3, 4),
            (2, 5, options.get("kdim", 4)),
            (2, 5, options.get("vdim", 4)),
            parameters=count,
            output_shape=[(2, 3, 4), (2, 3, 7 if "add_zero_attn" in options else 5)],
            learns=False,  # a key's bias shifts all scores alike: its gradient is 0
        )

    def test_weights_are_shares(self):
        x = draw(2, 5, 4)
        out, weights = attend().double()(x, x, x, average_attn_weights=False)
        assert weights.shape == (2, 2, 5, 5)
        np.testing.assert_allclose(weights.value().sum(-1), 1.0, rtol=1e-12)
        plain, none = attend().double()(x, x, x, need_weights=False)
        assert none is None and plain.shape == out.shape

    def test_both_ways_agree(self):
        layer, x = attend().double(), draw(2, 5, 4)
        mask = np.triu(np.ones((5, 5), bool), 1)
        a, _ = layer(x, x, x, attn_mask=mask)
        b, _ = layer(x, x, x, need_weights=False, is_causal=True)
        c, _ = layer(x, x.clone(), x.clone(), is_causal=True)
        for other in (b, c):
            np.testing.assert_allclose(a.value(), other.value(), rtol=1e-12, atol=1e-14)

    def test_a_causal_mask_hides_the_future(self):
        layer, x = attend(rotary=True).double(), draw(1, 6, 4)
        y = x.value().copy()
        y[0, 4:] += 1.0
        a, b = (layer(v, v, v, is_causal=True)[0].value() for v in (x, fathom.tensor(y)))
        np.testing.assert_array_equal(a[0, :4], b[0, :4])
        assert (a[0, 4:] != b[0, 4:]).any()

    def test_a_query_without_keys_gets_the_output_bias(self):
        layer, x = attend().double(), draw(2, 3, 4)
        out, weights = layer(x, x, x, key_padding_mask=np.array([[True] * 3, [False] * 3]))
        assert not weights.value()[0].any()
        np.testing.assert_allclose(
            out.value()[0], np.broadcast_to(layer.out_proj.bias.value(), (3, 4)), atol=1e-15
        )

    def test_dropout_only_while_training(self):
        layer, x = attend(dropout=0.9).double(), draw(2, 5, 4)
        with fathom.seed(0):
            assert (layer(x, x, x)[1].value() == 0).any()
        assert (layer.eval()(x, x, x)[1].value() > 0).all()

    @pytest.mark.parametrize(
        "options",
        [{}, {"rotary": True}, {"alibi": True}, {"add_bias_kv": True, "add_zero_attn": True}],
        ids=str,
    )
    @pytest.mark.parametrize("batch_first", [True, False])
    def test_with_a_cache_it_goes_on_where_it_stopped(self, options, batch_first):
        layer, x = attend(**options).double(), draw(2, 7, 4)
        whole, weights = layer(x, x, x, is_causal=True)
        layer.batch_first = batch_first

        def turned(t):
            return t if batch_first else fathom.transpose(t, 0, 1)

        with fathom.no_grad(), key_value_cache(layer):
            for start, end in ((0, 3), (3, 4), (4, 7)):
                t = turned(x[:, start:end])
                part, own = layer(t, t, t, is_causal=True)
                wanted = whole.value()[:, start:end]
                np.testing.assert_allclose(turned(part).value(), wanted, rtol=1e-12, atol=1e-14)
                rows = weights.value()[:, start:end]
                np.testing.assert_allclose(own.value()[:, :, :end], rows[:, :, :end], rtol=1e-10)
        assert layer.cache is None

    def test_a_cache_is_for_attention_of_a_sequence_to_itself(self):
        layer, x, other = attend().double(), draw(2, 3, 4), draw(2, 5, 4, seed=1)
        wanted = layer(x, other, other)[0].value()
        with fathom.no_grad(), key_value_cache(layer) as (cache,):
            for _ in range(2):
                np.testing.assert_array_equal(layer(x, other, other)[0].value(), wanted)
            assert cache.length == 0

    def test_errors(self):
        layer = attend()
        x = fathom.ones(2, 5, 4)
        with pytest.raises(ArgumentError, match="multiple of num_heads"):
            nn.MultiheadAttention(5, 2)
        with pytest.raises(ShapeError, match=r"the key must be 4 wide; received \(2, 5, >3<\)"):
            layer(x, fathom.ones(2, 5, 3), x)
        with pytest.raises(ShapeError, match="one batch size"):
            layer(x, fathom.ones(3, 5, 4), fathom.ones(3, 5, 4))
        with pytest.raises(ShapeError, match="one length and batch"):
            layer(x, x, fathom.ones(2, 6, 4))
        with pytest.raises(ShapeError, match=r"attn_mask must have shape \(5, 5\) or \(4, 5, 5\)"):
            layer(x, x, x, attn_mask=np.ones((4, 4), bool))
        with pytest.raises(ShapeError, match="key_padding_mask must have shape"):
            layer(x, x, x, key_padding_mask=np.ones((2, 4), bool))
        with pytest.raises(DtypeError):
            layer(x, x, x, attn_mask=np.ones((5, 5), np.int64))
        with pytest.raises(ShapeError, match="3 axes each"):
            layer(x, x[0], x)


class TestTiled:
    @pytest.mark.parametrize("block", [1, 3, 7, 64])
    @pytest.mark.parametrize("causal", [False, True])
    def test_equals_naive_attention(self, block, causal):
        q, k, v = draw(2, 2, 13, 4), draw(2, 2, 13, 4, seed=1), draw(2, 2, 13, 3, seed=2)
        q = q * 10.0  # large scores: the running maximum matters
        got = nn.tiled_attention(q, k, v, causal, block=block)
        wanted = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        np.testing.assert_allclose(got.value(), wanted.value(), rtol=0, atol=1e-12)

    def test_gradients(self):
        leaves = [draw(7, 3, seed=i) for i in range(3)]
        for leaf in leaves:
            leaf.requires_grad_()
        nn.tiled_attention(*leaves, is_causal=True, block=3).sum().backward()
        got = [leaf.grad.value().copy() for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        F.scaled_dot_product_attention(*leaves, is_causal=True).sum().backward()
        for a, leaf in zip(got, leaves, strict=True):
            np.testing.assert_allclose(a, leaf.grad.value(), atol=1e-12)
        fathom.autograd.gradcheck(lambda *a: nn.tiled_attention(*a, block=3), leaves)

    def test_cross_attention_and_huge_scores(self):
        q, k = draw(5, 4) * 1e3, draw(9, 4, seed=1)
        got = nn.tiled_attention(q, k, k, block=4)
        wanted = F.scaled_dot_product_attention(q, k, k)
        assert np.isfinite(got.value()).all()
        np.testing.assert_allclose(got.value(), wanted.value(), atol=1e-12)

    def test_errors(self):
        with pytest.raises(ShapeError, match="tiled_attention: needs"):
            nn.tiled_attention(draw(3, 4), draw(3, 5), draw(3, 4))
        with pytest.raises(ArgumentError, match="block"):
            nn.tiled_attention(draw(3, 4), draw(3, 4), draw(3, 4), block=0)


class TestLinearAttention:
    @pytest.mark.parametrize("options", [{}, {"is_causal": True, "feature": "exp"}], ids=str)
    def test_harness(self, options):
        run_layer_test(
            lambda: nn.LinearAttention(4, 2, **options),
            (2, 5, 4),
            parameters=80,
            output_shape=(2, 5, 4),
        )

    @pytest.mark.parametrize("feature", ["elu", "relu", "exp"])
    @pytest.mark.parametrize("causal", [False, True])
    def test_equals_the_quadratic_form(self, feature, causal):
        phi = {
            "elu": lambda x: np.where(x > 0, x + 1, np.exp(x)),
            "relu": lambda x: np.maximum(x, 0),
            "exp": np.exp,
        }[feature]
        q, k, v = (draw(6, 4, seed=i) for i in range(3))
        weights = phi(q.value()) @ phi(k.value()).T
        if causal:
            weights = np.tril(weights)
        wanted = (weights @ v.value()) / (weights.sum(-1, keepdims=True) + 1e-6)
        got = linear_attention(q, k, v, causal, feature)
        np.testing.assert_allclose(got.value(), wanted, rtol=1e-10, atol=1e-12)

    def test_random_features_come_near_the_softmax_with_their_number(self):
        """Equal to softmax attention only approximately; the error falls like 1/sqrt(m)."""
        q, k, v = (draw(20, 4, seed=i) for i in range(3))
        exact = F.scaled_dot_product_attention(q, k, v).value()
        errors = []
        for m in (16, 16384):
            w = draw(m, 4, seed=9)
            fq, fk = (nn.softmax_features(x * 4**-0.25, w) for x in (q, k))
            errors.append(np.abs(weighted_by_features(fq, fk, v).value() - exact).mean())
        assert errors[0] > 0.02
        assert errors[1] < errors[0] / 4  # 1/32 but for large norms
        assert np.abs(linear_attention(q, k, v).value() - exact).mean() > 0.02

    def test_errors(self):
        with pytest.raises(ArgumentError, match="unknown feature"):
            nn.LinearAttention(4, 2, feature="cos")
        with pytest.raises(ShapeError, match="one length"):
            linear_attention(draw(3, 4), draw(5, 4), draw(5, 4), is_causal=True)
        with pytest.raises(ShapeError, match=r"\(n, time, 4\)"):
            nn.LinearAttention(4, 2)(fathom.ones(5, 4))


class TestPositions:
    @pytest.mark.parametrize("kind", ["SinusoidalPositionalEncoding", "LearnedPositionalEncoding"])
    def test_harness(self, kind):
        run_layer_test(lambda: getattr(nn, kind)(4, max_len=3), (2, 3, 4), output_shape=(2, 3, 4))
        layer = getattr(nn, kind)(4, max_len=8)
        x = fathom.zeros(2, 8, 4)
        np.testing.assert_array_equal(layer(x[:, :3], offset=5).value(), layer(x).value()[:, 5:])
        with pytest.raises(ShapeError, match=r"do not fit max_len 8"):
            layer(fathom.zeros(2, 9, 4))
        other = getattr(nn, kind)(4, max_len=8, batch_first=False)
        if kind.startswith("S"):
            np.testing.assert_array_equal(
                other(fathom.zeros(8, 2, 4)).value(), layer(x).value().swapaxes(0, 1)
            )

    def test_sinusoids_turn_by_the_same_angle_for_the_same_distance(self):
        table = sinusoids(50, 8)
        assert np.abs(np.square(table).sum(1) - 4).max() < 1e-12
        products = table @ table.T
        for k in (1, 7):
            np.testing.assert_allclose(np.diag(products, k), products[0, k], rtol=1e-12)

    @pytest.mark.parametrize("interleaved", [False, True])
    def test_rotary(self, interleaved):
        run_layer_test(lambda: nn.RotaryEmbedding(4, interleaved=interleaved), (2, 3, 4))
        layer = nn.RotaryEmbedding(6, interleaved=interleaved)
        q, k = draw(6), draw(6, seed=1)
        rows = (
            fathom.tensor(np.tile(q.value(), (12, 1))),
            fathom.tensor(np.tile(k.value(), (12, 1))),
        )
        a, b = (layer(r).value() for r in rows)
        products = a @ b.T
        for distance in (-3, 0, 5):  # only the distance matters
            np.testing.assert_allclose(
                np.diag(products, distance), np.diag(products, distance)[0], rtol=1e-10
            )
        np.testing.assert_allclose(np.linalg.norm(a, axis=1), np.linalg.norm(q.value()), rtol=1e-12)
        np.testing.assert_allclose(layer(rows[0][:4], offset=8).value(), a[8:], rtol=1e-12)
        with pytest.raises(ArgumentError, match="even"):
            nn.RotaryEmbedding(5)

    def test_alibi(self):
        np.testing.assert_allclose(alibi_slopes(8), 2.0 ** -np.arange(1, 9))
        assert len(set(alibi_slopes(12).tolist())) == 12
        bias = nn.alibi_bias(2, 3)
        assert bias.shape == (2, 3, 3)
        assert (np.diagonal(bias, axis1=1, axis2=2) == 0).all()
        assert bias[0, 2, 0] == 2 * bias[0, 1, 0] < 0
        assert (nn.alibi_bias(2, 1, 3)[:, 0] == bias[:, 2]).all()  # the last query of three
