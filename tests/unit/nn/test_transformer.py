import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError
from fathom.nn.transformer import gated_width
from tests.unit.nn.layer_harness import run_layer_test

BLOCK = 4 * 4 * 5 + 2 * 4 * 6 + 6 + 4 + 4 * 4  # attention, two matrices, two norms


class TestFeedForward:
    @pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu", "geglu", "reglu", "glu"])
    def test_harness(self, activation):
        gated = activation.endswith("glu")
        run_layer_test(
            lambda: nn.FeedForward(4, 6, activation),
            (2, 3, 4),
            parameters=(3 if gated else 2) * 24 + (16 if not gated else 22) - 6,
            output_shape=(2, 3, 4),
        )

    def test_a_gated_net_has_as_many_weights_as_a_plain_one(self):
        plain = sum(p.size for p in nn.FeedForward(48, bias=False).parameters())
        gated = sum(
            p.size for p in nn.FeedForward(48, activation="swiglu", bias=False).parameters()
        )
        assert plain == gated == 2 * 48 * 192

    def test_gated_width_cuts_and_then_rounds_up(self):
        assert gated_width(4096, 256) == 11008  # 10922.67 -> 10922 -> 43 * 256
        assert gated_width(10, 1) == 26

    def test_swiglu_is_what_it_says(self):
        layer = nn.FeedForward(4, 6, "swiglu", bias=False).double()
        x = fathom.randn(3, 4, dtype=np.float64)
        w1, w2, w3 = (getattr(layer, f"linear{i}").weight.value() for i in (1, 2, 3))
        a = x.value() @ w1.T
        wanted = (a / (1 + np.exp(-a)) * (x.value() @ w3.T)) @ w2.T
        np.testing.assert_allclose(layer(x).value(), wanted, rtol=1e-12)

    def test_unknown_activation(self):
        with pytest.raises(ArgumentError, match="did you mean 'swiglu'"):
            nn.FeedForward(4, activation="swigl")


LAYERS = [
    ({}, BLOCK),
    ({"norm_first": True, "dropout": 0.3}, BLOCK),
    ({"activation": "swiglu"}, BLOCK + 4 * 6 + 6),
    ({"norm": "rms", "norm_first": True, "rotary": True}, BLOCK - 8),
    ({"alibi": True, "activation": "geglu"}, BLOCK + 4 * 6 + 6),
]


class TestLayers:
    @pytest.mark.parametrize(("options", "count"), LAYERS, ids=str)
    def test_encoder_layer(self, options, count):
        run_layer_test(
            lambda: nn.TransformerEncoderLayer(
                4, 2, 6, **{"dropout": 0.0, "batch_first": True, **options}
            ),
            (2, 3, 4),
            parameters=count,
            output_shape=(2, 3, 4),
        )

    def test_decoder_layer(self):
        run_layer_test(
            lambda: nn.TransformerDecoderLayer(4, 2, 6, 0.0, batch_first=True, norm_first=True),
            (2, 3, 4),
            (2, 5, 4),
            parameters=BLOCK + 80 + 8,
            output_shape=(2, 3, 4),
        )

    def test_stacks(self):
        run_layer_test(
            lambda: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True), 2, nn.RMSNorm(4)
            ),
            (2, 3, 4),
            parameters=2 * BLOCK + 4,
            output_shape=(2, 3, 4),
        )
        run_layer_test(
            lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6, 0.0), 2),
            (3, 2, 4),
            (5, 2, 4),
            output_shape=(3, 2, 4),
            batch_axis=1,
            gradcheck=False,
        )

    def test_whole(self):
        run_layer_test(
            lambda: nn.Transformer(4, 2, 1, 2, 6, 0.0, "gelu", batch_first=True),
            (2, 3, 4),
            (2, 5, 4),
            output_shape=(2, 5, 4),
            gradcheck=False,
        )

    def test_the_feed_forward_net_holds_two_thirds_of_the_weights(self):
        layer = nn.TransformerEncoderLayer(64, 4, 256, bias=False)
        own = {n: p.size for n, p in layer.named_parameters() if p.ndim == 2}
        feed = own["linear1.weight"] + own["linear2.weight"]
        assert feed / sum(own.values()) == pytest.approx(8 / 12)

    def test_the_order_of_norm_and_parts(self):
        """Post-norm puts out what its norm does; pre-norm is the identity without its parts."""
        x = fathom.randn(2, 3, 4)
        post = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True).eval()
        out = post(x).value()
        np.testing.assert_allclose(out.mean(-1), 0, atol=1e-5)
        np.testing.assert_allclose(out.std(-1), 1, atol=1e-2)
        pre = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=True).eval()
        for p in (*pre.self_attn.out_proj.parameters(), *pre.linear2.parameters()):
            nn.init.zeros_(p)
        np.testing.assert_allclose(pre(x).value(), x.value(), rtol=1e-6)

    def test_attention_without_skips_makes_tokens_alike(self):
        """Dong, Cordonnier & Loukas (2021)."""
        with fathom.seed(0):
            layers = [nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(6)]
            x = fathom.randn(1, 12, 16)

        def spread(v):
            v = v.value()[0]
            return np.linalg.norm(v - v.mean(0)) / np.linalg.norm(v)

        bare = skipped = x
        for layer in layers:
            bare = layer(bare, bare, bare)[0]
            skipped = skipped + layer(skipped, skipped, skipped)[0]
        assert spread(bare) < 1e-3 < 0.3 < spread(skipped)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="unknown norm 'batch'"):
            nn.TransformerEncoderLayer(4, 2, norm="batch")
        with pytest.raises(ArgumentError, match="encoder_layer must be a TransformerEncoderLayer"):
            nn.TransformerEncoder(nn.Linear(2, 2), 2)
        with pytest.raises(ArgumentError, match="num_layers"):
            nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 0)
