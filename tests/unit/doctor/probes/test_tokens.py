import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.random import Random

X = Random(0).stream("x").normal((4, 16, 32))


class Attention(nn.Module):
    def __init__(self, skip):
        super().__init__()
        self.mix = nn.MultiheadAttention(32, 4, batch_first=True)
        self.skip = skip

    def forward(self, x):
        mixed = self.mix(x, x, x, need_weights=False)[0]
        return x + mixed if self.skip else mixed


def stack(skip, depth=6):
    with fathom.seed(0):
        return nn.Sequential(*[Attention(skip) for _ in range(depth)])


def test_attention_alone_collapses_and_a_skip_prevents_it():
    alone = doctor.rank_collapse(stack(False), X)
    assert alone.rows[3].residual < 1e-3 and alone.collapsed
    residuals = [row.residual for row in alone.rows]
    assert residuals == sorted(residuals, reverse=True) and alone.rows[3].cosine > 0.999
    skipped = doctor.rank_collapse(stack(True), X)
    assert skipped.residual > 0.5 and not skipped.collapsed


def test_residual_and_cosine_by_hand():
    row = doctor.rank_collapse([lambda x: x[:, :2] * 1.0], X).rows[1]
    a, b = X[:, 0].astype(np.float64), X[:, 1].astype(np.float64)
    rest = np.linalg.norm(a - b) / np.sqrt(2)
    assert row.residual == pytest.approx(rest / np.sqrt((a**2).sum() + (b**2).sum()))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert row.cosine == pytest.approx(cosines.mean())


def test_the_three_ways_to_name_layers_agree():
    model = stack(False, 3)
    ways = [
        doctor.rank_collapse(model, X),
        doctor.rank_collapse(list(model), X),
        doctor.rank_collapse(model, X, only=Attention),
    ]
    for found in ways[1:]:
        assert [r.residual for r in found.rows] == [r.residual for r in ways[0].rows]
    inside = doctor.rank_collapse(model, X, only="*.mix")
    assert [row.name for row in inside.rows] == ["input", "0.mix", "1.mix", "2.mix"]


def test_an_encoder_with_time_first():
    with fathom.seed(0):
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.3)
        model = nn.TransformerEncoder(layer, 2)
    found = doctor.rank_collapse(model, np.swapaxes(X, 0, 1), token_axis=0)
    assert not found.collapsed and found.rows[0].name == "input"
    assert model.training
    again = doctor.rank_collapse(model, np.swapaxes(X, 0, 1), token_axis=0)
    assert found.to_dict() == again.to_dict()


def test_bad_arguments():
    with pytest.raises(ShapeError, match="tokens"):
        doctor.rank_collapse(stack(True, 1), X[0])
    with pytest.raises(ArgumentError, match="no layer"):
        doctor.rank_collapse([], X)
