"""Modules and layers, losses and initial weights."""

from fathom.nn import functional, init
from fathom.nn.activation import ReLU, Sigmoid, Tanh, activation
from fathom.nn.container import Sequential
from fathom.nn.dropout import Dropout
from fathom.nn.linear import Flatten, Identity, Linear
from fathom.nn.losses import CrossEntropyLoss, MSELoss
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.nn.spec import from_spec, to_spec
from fathom.nn.summary import Summary

__all__ = [
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Summary",
    "Tanh",
    "activation",
    "from_spec",
    "functional",
    "init",
    "to_spec",
]
