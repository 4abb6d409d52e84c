"""Every argument of the layers for sequences, and what they do together, against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from tests.oracles.test_nn_sequence import compare, draw, flat, twin

torch = pytest.importorskip("torch")

RECURRENT = [
    ("RNN", {"nonlinearity": "relu", "bidirectional": True, "batch_first": True}),
    ("RNN", {"nonlinearity": "tanh", "bias": False, "bidirectional": True, "num_layers": 3}),
    ("LSTM", {"proj_size": 2, "bias": False, "bidirectional": True, "batch_first": True}),
    ("LSTM", {"num_layers": 3, "dropout": 0.5, "bidirectional": True}),
    ("GRU", {"bias": False, "bidirectional": True, "num_layers": 2, "batch_first": True}),
    ("GRU", {"num_layers": 2, "dropout": 0.9}),
]


@pytest.mark.parametrize(("name", "options"), RECURRENT, ids=str)
def test_recurrent(name: str, options: dict[str, Any]) -> None:
    ours, theirs = twin(
        getattr(nn, name)(3, 4, **options), getattr(torch.nn, name)(3, 4, **options)
    )
    compare(ours.eval(), theirs.eval(), [draw(5, 2, 3)])


@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("mode", "weighted"), [("sum", True), ("sum", False), ("mean", False), ("max", False)]
)
def test_bags(mode: str, weighted: bool, last: bool, padding_idx: int | None) -> None:
    options = {"mode": mode, "include_last_offset": last, "padding_idx": padding_idx}
    ours, theirs = twin(nn.EmbeddingBag(6, 3, **options), torch.nn.EmbeddingBag(6, 3, **options))
    index = np.array([1, 2, 5, 2, 0, 4])
    offsets = np.array([0, 2, 2, 6]) if last else np.array([0, 2, 2])
    arrays = [draw(6)] if weighted else []
    compare(
        ours, theirs, arrays,
        lambda m, *w: m(fathom.tensor(index), fathom.tensor(offsets), *w),
        lambda m, *w: m(torch.tensor(index), torch.tensor(offsets), *w),
    )  # fmt: skip


@pytest.mark.parametrize("norm_type", [1.0, 2.0])
@pytest.mark.parametrize(  # PyTorch divides the gradients of a bag by the counts of other rows
    ("name", "frequency"), [("Embedding", True), ("Embedding", False), ("EmbeddingBag", False)]
)
def test_tables(name: str, norm_type: float, frequency: bool) -> None:
    options = {"max_norm": 0.7, "norm_type": norm_type, "scale_grad_by_freq": frequency}
    if name == "Embedding":
        options["padding_idx"] = 0
    ours, theirs = twin(
        getattr(nn, name)(6, 3, **options), getattr(torch.nn, name)(6, 3, **options)
    )
    index = np.array([[1, 2, 5], [2, 2, 0]])
    compare(ours, theirs, [], lambda m: m(fathom.tensor(index)), lambda m: m(torch.tensor(index)))
    np.testing.assert_allclose(ours.weight.value(), theirs.weight.detach(), rtol=1e-12)


@pytest.mark.parametrize("mask", ["none", "boolean", "float", "heads"])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_of_one_sequence(mask: str, padded: bool) -> None:
    rng = np.random.default_rng(1)
    closed = rng.random((5, 6)) < 0.3
    closed[:, 0] = False
    given = {
        "none": None, "boolean": closed, "float": rng.standard_normal((5, 6)),
        "heads": np.stack([closed, np.roll(closed, 1, 0)]),
    }[mask]  # fmt: skip
    padding = np.array([False] * 4 + [True] * 2) if padded else None
    if padded and mask == "float":  # PyTorch wants masks of one kind
        padding = np.where(padding, -np.inf, 0.0)
    ours, theirs = twin(nn.MultiheadAttention(8, 2), torch.nn.MultiheadAttention(8, 2))

    def call(lib: Any) -> Any:
        masks = [None if m is None else lib.tensor(m) for m in (padding, given)]
        return lambda m, q, k: flat(m(q, k, k, key_padding_mask=masks[0], attn_mask=masks[1]))

    compare(ours, theirs, [draw(5, 8), draw(6, 8, seed=1)], call(fathom), call(torch))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_transformer_with_every_mask() -> None:
    """All masks at once: whole model, decoder alone, encoder alone."""
    rng = np.random.default_rng(2)

    def closed(*shape: int) -> np.ndarray:
        found = rng.random(shape) < 0.3
        found[..., 0] = False  # PyTorch gives nan where all is closed
        return found

    given = {
        "src_mask": closed(6, 6), "tgt_mask": closed(4, 4), "memory_mask": closed(4, 6),
        "src_key_padding_mask": closed(3, 6), "tgt_key_padding_mask": closed(3, 4),
        "memory_key_padding_mask": closed(3, 6),
    }  # fmt: skip

    def call(lib: Any) -> Any:
        masks = {k: lib.tensor(v) for k, v in given.items()}
        of_source = {"mask": masks["src_mask"]}
        of_source["src_key_padding_mask"] = masks["src_key_padding_mask"]
        of_target = {k: v for k, v in masks.items() if not k.startswith("src")}

        def run(model: Any, x: Any, y: Any) -> Any:
            memory = model.encoder(x, **of_source)
            return model(x, y, **masks), model.decoder(y, memory, **of_target)

        return run

    ours, theirs = twin(*(lib.Transformer(8, 2, 1, 2, 12, 0.0) for lib in (nn, torch.nn)))
    compare(ours, theirs, [draw(6, 3, 8), draw(4, 3, 8, seed=1)], call(fathom), call(torch))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_causal_flags_are_causal_masks() -> None:
    ours, theirs = twin(*(lib.Transformer(8, 2, 1, 1, 12, 0.0) for lib in (nn, torch.nn)))
    shut = torch.tensor(np.triu(np.ones((4, 4), bool), 1))
    flags = {"src_is_causal": True, "tgt_is_causal": True, "memory_is_causal": True}
    compare(
        ours, theirs, [draw(4, 3, 8), draw(4, 3, 8, seed=1)],
        lambda m, x, y: m(x, y, **flags),
        lambda m, x, y: m(x, y, src_mask=shut, tgt_mask=shut, memory_mask=shut),
    )  # fmt: skip
