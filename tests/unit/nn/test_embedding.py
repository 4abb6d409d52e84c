import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, AxisError, ShapeError
from tests.unit.nn.layer_harness import run_layer_test

INDEX = np.array([[1, 2, 0], [4, 1, 1]])


class TestEmbedding:
    @pytest.mark.parametrize(
        "options",
        [{}, {"padding_idx": 0}, {"padding_idx": -1}, {"scale_grad_by_freq": True}],
        ids=str,
    )
    def test_harness(self, options):
        run_layer_test(
            lambda: nn.Embedding(5, 3, **options),
            inputs=[INDEX],
            parameters=15,
            output_shape=(2, 3, 3),
            gradcheck="scale_grad_by_freq" not in options and "padding_idx" not in options,
            per_sample="scale_grad_by_freq" not in options,
        )

    def test_lookup_is_a_product_with_one_hot_rows(self):
        layer = nn.Embedding(5, 3)
        hot = fathom.tensor(np.eye(5, dtype=np.float32)[INDEX])
        np.testing.assert_allclose(layer(INDEX).value(), (hot @ layer.weight).value(), rtol=1e-6)
        upstream = fathom.randn(2, 3, 3)
        gradients = [
            fathom.autograd.grad((rows * upstream).sum(), layer.weight)[0].value()
            for rows in (layer(INDEX), hot @ layer.weight)
        ]
        np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)
        assert not gradients[0][3].any()  # a row that was not looked up

    def test_padding_row_starts_at_zero_and_stays(self):
        layer = nn.Embedding(5, 3, padding_idx=1)
        assert not layer.weight.value()[1].any()
        layer(INDEX).sum().backward()
        assert not layer.weight.grad.value()[1].any()
        assert layer.weight.grad.value()[2].tolist() == [1.0, 1.0, 1.0]

    def test_max_norm_shortens_what_is_used_only(self):
        layer = nn.Embedding(5, 3, max_norm=0.1)
        before = layer.weight.value().copy()
        layer([0, 1])
        lengths = np.linalg.norm(layer.weight.value(), axis=1)
        assert (lengths[:2] <= 0.1 + 1e-6).all()
        np.testing.assert_array_equal(layer.weight.value()[2:], before[2:])

    def test_from_pretrained_is_frozen_unless_told(self):
        table = fathom.randn(4, 2)
        layer = nn.Embedding.from_pretrained(table)
        assert not layer.weight.requires_grad
        assert layer([3]).tolist() == [table[3].tolist()]
        assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
        twin = nn.from_spec(nn.to_spec(layer))
        assert not twin.weight.requires_grad

    def test_initial_rows_are_standard_normal(self):
        with fathom.seed(0):
            weight = nn.Embedding(300, 50).weight.value()
        assert weight.std() == pytest.approx(1.0, rel=0.03)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="num_embeddings must be a whole number"):
            nn.Embedding(0, 3)
        with pytest.raises(ArgumentError, match="padding_idx 5 is outside of the 5 rows"):
            nn.Embedding(5, 3, padding_idx=5)
        with pytest.raises(ArgumentError, match="max_norm must be > 0"):
            nn.Embedding(5, 3, max_norm=-1)
        with pytest.raises(ArgumentError, match="dense"):
            nn.Embedding(5, 3, sparse=True)
        with pytest.raises(ShapeError, match=r"needs \(rows, width\)"):
            nn.Embedding.from_pretrained(fathom.ones(3))
        with pytest.raises(AxisError, match="row 5 at position"):
            nn.Embedding(5, 3)([5])


class TestEmbeddingBag:
    @pytest.mark.parametrize("mode", ["sum", "mean", "max"])
    def test_harness(self, mode):
        run_layer_test(
            lambda: nn.EmbeddingBag(5, 3, mode=mode),
            inputs=[INDEX],
            parameters=15,
            output_shape=(2, 3),
            per_sample=False,
            learns=False,
        )

    def test_weights_and_empty_bags(self):
        layer = nn.EmbeddingBag(5, 3, mode="sum")
        rows = layer.weight.value()
        out = layer([1, 2, 3], offsets=[0, 2, 2], per_sample_weights=fathom.tensor([1.0, 2.0, 3.0]))
        np.testing.assert_allclose(out.value()[0], rows[1] + 2 * rows[2], rtol=1e-6)
        assert not out.value()[1].any()
        np.testing.assert_allclose(out.value()[2], 3 * rows[3], rtol=1e-6)

    def test_unknown_mode(self):
        with pytest.raises(ArgumentError, match="unknown mode 'median'"):
            nn.EmbeddingBag(5, 3, mode="median")
