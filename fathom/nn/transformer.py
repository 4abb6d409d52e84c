"""Transformer encoders and decoders (Vaswani et al., 2017), as in `torch.nn`, and newer parts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.attention import MultiheadAttention
from fathom.nn.checks import flag, number, positive
from fathom.nn.container import Sequential
from fathom.nn.dropout import Dropout, probability
from fathom.nn.linear import Linear
from fathom.nn.module import Module
from fathom.nn.norm import LayerNorm, RMSNorm
from fathom.ops.checks import one_of

__all__ = [
    "FeedForward",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

PLAIN: dict[str, Any] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": F.tanh,
}
GATED: dict[str, Any] = {  # act(x W1) * (x W3), then W2; Shazeer (2020)
    "glu": F.sigmoid,
    "reglu": F.relu,
    "geglu": F.gelu,
    "swiglu": F.silu,
}


def gated_width(d_model: int, multiple_of: int = 256) -> int:
    """2/3 of 4 d_model, rounded up: a gated layer of as many weights as a plain one of 4 d_model.

    >>> gated_width(4096)
    11008
    """
    return multiple_of * -(-int(2 * (4 * d_model) / 3) // multiple_of)


def _check_activation(kind: str, name: str) -> str:
    if name not in PLAIN and name not in GATED:
        fix = suggest(str(name), [*PLAIN, *GATED])
        raise ArgumentError(f"{kind}: unknown activation {name!r}", fix=fix)
    return name


def _feed(module: Any, x: Any) -> Any:
    """linear2(act(linear1 x)), or linear2(act(linear1 x) * linear3 x) with a gate."""
    if module.activation in GATED:
        hidden = GATED[module.activation](module.linear1(x)) * module.linear3(x)
    else:
        hidden = PLAIN[module.activation](module.linear1(x))
    return module.linear2(module.dropout(hidden))


class FeedForward(Module):
    """The two (with a gate, three) matrices around an activation: (..., d_model) -> the same.

    activation : relu, gelu, silu, tanh; with a gate glu, reglu, geglu, swiglu (Shazeer, 2020).
    hidden : 4 d_model by default, `gated_width(d_model, multiple_of)` with a gate.

    >>> import fathom
    >>> FeedForward(6, activation="swiglu", multiple_of=4).linear1.out_features
    16
    """

    builds_children = True

    def __init__(
        self,
        d_model: int,
        hidden: int | None = None,
        activation: str = "relu",
        dropout: float = 0.0,
        bias: bool = True,
        multiple_of: int = 1,
    ) -> None:
        super().__init__()
        self.d_model = positive(d_model, "d_model", "FeedForward")
        self.activation = _check_activation("FeedForward", activation)
        gated = activation in GATED
        if hidden is None:
            multiple = positive(multiple_of, "multiple_of", "FeedForward")
            hidden = gated_width(d_model, multiple) if gated else 4 * self.d_model
        self.hidden, self.bias = positive(hidden, "hidden", "FeedForward"), flag(bias, "bias", self)
        self.linear1 = Linear(self.d_model, self.hidden, self.bias)
        if gated:
            self.linear3 = Linear(self.d_model, self.hidden, self.bias)
        self.dropout = Dropout(probability(dropout, "FeedForward", "dropout"))
        self.linear2 = Linear(self.hidden, self.d_model, self.bias)

    def forward(self, x: TensorLike) -> Tensor:
        return _feed(self, x)

    def config(self) -> dict[str, Any]:
        return {
            "d_model": self.d_model,
            "hidden": self.hidden,
            "activation": self.activation,
            "dropout": self.dropout.p,
            "bias": self.bias,
        }


class _Block(Module):
    """What encoder and decoder layers share."""

    builds_children = True
    _attentions: tuple[str, ...] = ("self_attn",)

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        norm: str = "layer",
        rotary: bool = False,
        alibi: bool = False,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        one_of(kind, "norm", norm, ("layer", "rms"))
        self.activation = _check_activation(kind, activation)
        self.norm_first, self.norm = flag(norm_first, "norm_first", self), norm
        self.eps = number(layer_norm_eps, "layer_norm_eps", self, 0.0)
        self.bias = flag(bias, "bias", self)
        for name, size in (
            ("d_model", d_model), ("nhead", nhead), ("dim_feedforward", dim_feedforward),
        ):  # fmt: skip
            positive(size, name, self)
        probability(dropout, kind, "dropout")
        flag(batch_first, "batch_first", self), flag(rotary, "rotary", self)
        flag(alibi, "alibi", self)
        for name in self._attentions:
            own = name == "self_attn"
            attention = MultiheadAttention(
                d_model, nhead, dropout, self.bias, batch_first=batch_first,
                rotary=rotary and own, alibi=alibi and own,
            )  # fmt: skip
            self.add_module(name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, self.bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, self.bias)
        if activation in GATED:
            self.linear3 = Linear(d_model, dim_feedforward, self.bias)
        count = len(self._attentions) + 1
        for i in range(1, count + 1):
            self.add_module(f"norm{i}", self._make_norm(d_model))
        for i in range(1, count + 1):
            self.add_module(f"dropout{i}", Dropout(dropout))

    def _make_norm(self, d_model: int) -> Module:
        if self.norm == "rms":
            return RMSNorm(d_model, eps=self.eps)
        return LayerNorm(d_model, eps=self.eps, bias=self.bias)

    def config(self) -> dict[str, Any]:
        attention = self.self_attn
        return {
            "d_model": attention.embed_dim,
            "nhead": attention.num_heads,
            "dim_feedforward": self.linear1.out_features,
            "dropout": self.dropout.p,
            "activation": self.activation,
            "layer_norm_eps": self.eps,
            "batch_first": attention.batch_first,
            "norm_first": self.norm_first,
            "bias": self.bias,
            "norm": self.norm,
            "rotary": attention.rotary is not None,
            "alibi": attention.alibi,
        }

    def _residual(self, x: Any, number: int, part: Any) -> Any:
        """x + part(norm(x)) with `norm_first`, else norm(x + part(x))."""
        norm, dropout = self._modules[f"norm{number}"], self._modules[f"dropout{number}"]
        if self.norm_first:
            return x + dropout(part(norm(x)))
        return norm(x + dropout(part(x)))

    def _feed_forward(self, x: Any) -> Any:
        return _feed(self, x)


class TransformerEncoderLayer(_Block):
    """Self-attention and a feed-forward net, each with a residual and a norm.

    (time, n, d_model) -> the same; (n, time, d_model) with `batch_first`.

    norm_first : norm before each part (trains without warm-up; Xiong et al., 2020), not after.
    activation : relu, gelu, silu, tanh; with a gate (and `linear3`) glu, reglu, geglu, swiglu.
    norm : "layer", or "rms" (Zhang & Sennrich, 2019). rotary, alibi : see `MultiheadAttention`.

    >>> import fathom
    >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="swiglu")
    >>> layer(fathom.ones(2, 5, 8), is_causal=True).shape
    (2, 5, 8)
    """

    def forward(
        self,
        src: TensorLike,
        src_mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        def attend(x: Any) -> Any:
            return self.self_attn(
                x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal
            )[0]

        return self._residual(self._residual(src, 1, attend), 2, self._feed_forward)


class TransformerDecoderLayer(_Block):
    """Self-attention, attention to an encoder's output, and a feed-forward net.

    Arguments and shapes as for `TransformerEncoderLayer`; `memory` is (source, n, d_model).

    >>> import fathom
    >>> layer = TransformerDecoderLayer(8, 2, 16, batch_first=True)
    >>> layer(fathom.ones(2, 5, 8), fathom.ones(2, 7, 8), tgt_is_causal=True).shape
    (2, 5, 8)
    """

    _attentions = ("self_attn", "multihead_attn")

    def forward(
        self,
        tgt: TensorLike,
        memory: TensorLike,
        tgt_mask: TensorLike | None = None,
        memory_mask: TensorLike | None = None,
        tgt_key_padding_mask: TensorLike | None = None,
        memory_key_padding_mask: TensorLike | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        def attend(x: Any) -> Any:
            return self.self_attn(
                x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal
            )[0]

        def look(x: Any) -> Any:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask,
                is_causal=memory_is_causal,
            )[0]  # fmt: skip

        x = self._residual(self._residual(tgt, 1, attend), 2, look)
        return self._residual(x, 3, self._feed_forward)


class _Stack(Module):
    """Copies of one layer on top of each other, and a norm at the end."""

    builds_children = True
    _layer_argument = "encoder_layer"
    _layer_kind: type[_Block] = TransformerEncoderLayer

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        kind = type(self).__name__
        if not isinstance(layer, self._layer_kind):
            raise ArgumentError(
                f"{kind}: {self._layer_argument} must be a {self._layer_kind.__name__}; received "
                f"{layer!r}"
            )
        if norm is not None and not isinstance(norm, Module):
            raise ArgumentError(f"{kind}: norm must be a layer or None; received {norm!r}")
        count = positive(num_layers, "num_layers", kind)
        self.layers = Sequential(*(copy.deepcopy(layer) for _ in range(count)))
        self.norm = norm

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def config(self) -> dict[str, Any]:
        return {
            self._layer_argument: self.layers[0],
            "num_layers": self.num_layers,
            "norm": self.norm,
        }

    def extra_repr(self) -> str:
        return f"num_layers={self.num_layers}"


class TransformerEncoder(_Stack):
    """`num_layers` copies of a `TransformerEncoderLayer`, and a norm at the end if given.

    The copies start with the same weights, as in PyTorch.

    >>> import fathom
    >>> encoder = TransformerEncoder(TransformerEncoderLayer(8, 2, 16), 2)
    >>> encoder(fathom.ones(5, 3, 8)).shape
    (5, 3, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: TensorLike,
        mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        x: Any = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, is_causal)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(_Stack):
    """`num_layers` copies of a `TransformerDecoderLayer`, and a norm at the end if given.

    >>> import fathom
    >>> decoder = TransformerDecoder(TransformerDecoderLayer(8, 2, 16), 2)
    >>> decoder(fathom.ones(5, 3, 8), fathom.ones(4, 3, 8)).shape
    (5, 3, 8)
    """

    _layer_argument = "decoder_layer"
    _layer_kind = TransformerDecoderLayer

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: TensorLike,
        memory: TensorLike,
        tgt_mask: TensorLike | None = None,
        memory_mask: TensorLike | None = None,
        tgt_key_padding_mask: TensorLike | None = None,
        memory_key_padding_mask: TensorLike | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        x: Any = tgt
        for layer in self.layers:
            x = layer(
                x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                tgt_is_causal, memory_is_causal,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """Encoder and decoder, from one sequence to another: src (source, n, d), tgt (time, n, d).

    All matrices start by Xavier's rule (Glorot & Bengio, 2010).

    >>> import fathom
    >>> model = Transformer(8, 2, 1, 1, 16)
    >>> model(fathom.ones(5, 3, 8), fathom.ones(4, 3, 8), tgt_is_causal=True).shape
    (4, 3, 8)
    """

    builds_children = True

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        positive(d_model, "d_model", self)
        number(layer_norm_eps, "layer_norm_eps", self, 0.0)
        positive(num_encoder_layers, "num_encoder_layers", self)
        positive(num_decoder_layers, "num_decoder_layers", self)
        shared: tuple[Any, ...] = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias,
        )  # fmt: skip
        norms = [LayerNorm(d_model, eps=layer_norm_eps, bias=bias) for _ in range(2)]
        encoder_layer, decoder_layer = (
            TransformerEncoderLayer(*shared),
            TransformerDecoderLayer(*shared),
        )
        self.encoder = TransformerEncoder(encoder_layer, num_encoder_layers, norms[0])
        self.decoder = TransformerDecoder(decoder_layer, num_decoder_layers, norms[1])
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: TensorLike,
        tgt: TensorLike,
        src_mask: TensorLike | None = None,
        tgt_mask: TensorLike | None = None,
        memory_mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
        tgt_key_padding_mask: TensorLike | None = None,
        memory_key_padding_mask: TensorLike | None = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int) -> Tensor:
        """0 up to the diagonal and -inf above it, (sz, sz): a causal mask of floats.

        >>> Transformer.generate_square_subsequent_mask(2)
        tensor([[ 0., -inf],
                [ 0.,   0.]])
        """
        return Tensor(np.where(np.tri(sz, dtype=bool), 0.0, -np.inf).astype(np.float32))

    def config(self) -> dict[str, Any]:
        layer = self.encoder.layers[0].config()
        for key in ("norm", "rotary", "alibi"):
            del layer[key]
        return {
            **layer,
            "num_encoder_layers": self.encoder.num_layers,
            "num_decoder_layers": self.decoder.num_layers,
        }
