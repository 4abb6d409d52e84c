# ruff: noqa: F403
"""Modules and layers, losses and initial weights."""

from fathom.nn import activation as activation_layers
from fathom.nn import (
    adaptive,
    container,
    conv,
    coordinate,
    dropout,
    efficient,
    frozen,
    functional,
    gate,
    init,
    lazy,
    linear,
    losses,
    moe,
    norm,
    packing,
    padding,
    penalties,
    pooling,
    recurrent,
    resample,
    residual,
    separable,
    transformer,
)
from fathom.nn.activation import *
from fathom.nn.adaptive import *
from fathom.nn.attention import MultiheadAttention
from fathom.nn.container import *
from fathom.nn.conv import *
from fathom.nn.coordinate import *
from fathom.nn.cost import conv_cost, linear_cost
from fathom.nn.decay import decay_groups
from fathom.nn.dropout import *
from fathom.nn.efficient import *
from fathom.nn.embedding import Embedding, EmbeddingBag
from fathom.nn.frozen import *
from fathom.nn.gate import *
from fathom.nn.lazy import *
from fathom.nn.linear import *
from fathom.nn.losses import *
from fathom.nn.module import Module
from fathom.nn.moe import *
from fathom.nn.norm import *
from fathom.nn.packing import *
from fathom.nn.padding import *
from fathom.nn.parameter import Parameter
from fathom.nn.penalties import *
from fathom.nn.pooling import *
from fathom.nn.positional import (
    LearnedPositionalEncoding,
    RotaryEmbedding,
    SinusoidalPositionalEncoding,
    alibi_bias,
)
from fathom.nn.recurrent import *
from fathom.nn.resample import *
from fathom.nn.residual import *
from fathom.nn.separable import *
from fathom.nn.spec import from_spec, to_spec
from fathom.nn.summary import Summary
from fathom.nn.transformer import *

__all__ = [
    "Embedding",
    "EmbeddingBag",
    "LearnedPositionalEncoding",
    "Module",
    "MultiheadAttention",
    "Parameter",
    "RotaryEmbedding",
    "SinusoidalPositionalEncoding",
    "Summary",
    "alibi_bias",
    "conv_cost",
    "decay_groups",
    "from_spec",
    "functional",
    "init",
    "linear_cost",
    "to_spec",
]
__all__ += activation_layers.__all__
__all__ += adaptive.__all__
__all__ += container.__all__
__all__ += conv.__all__
__all__ += coordinate.__all__
__all__ += dropout.__all__
__all__ += efficient.__all__
__all__ += frozen.__all__
__all__ += gate.__all__
__all__ += lazy.__all__
__all__ += linear.__all__
__all__ += losses.__all__
__all__ += moe.__all__
__all__ += norm.__all__
__all__ += packing.__all__
__all__ += padding.__all__
__all__ += penalties.__all__
__all__ += pooling.__all__
__all__ += recurrent.__all__
__all__ += resample.__all__
__all__ += residual.__all__
__all__ += separable.__all__
__all__ += transformer.__all__
