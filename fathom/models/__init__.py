"""Whole architectures, ready to train, and single units, oldest to newest."""

from fathom.models.charlstm import CharLSTM
from fathom.models.classics import fold, xor_network
from fathom.models.language import LanguageModel
from fathom.models.lenet import lenet5
from fathom.models.mlp import mlp
from fathom.models.neurons import (
    HebbianNeuron,
    LIFNeuron,
    McCullochPitts,
    boolean_functions,
    boolean_inputs,
    realize,
)
from fathom.models.perceptron import (
    Adaline,
    Bound,
    KernelPerceptron,
    LinearSVM,
    Perceptron,
    PocketPerceptron,
    VotedPerceptron,
    perceptron_criterion,
)
from fathom.models.separability import (
    Separability,
    augment,
    linear_program,
    linearly_separable,
    widest_margin,
)
from fathom.models.transformer import TransformerLM, windows

__all__ = [
    "Adaline",
    "Bound",
    "CharLSTM",
    "HebbianNeuron",
    "KernelPerceptron",
    "LIFNeuron",
    "LanguageModel",
    "LinearSVM",
    "McCullochPitts",
    "Perceptron",
    "PocketPerceptron",
    "Separability",
    "TransformerLM",
    "VotedPerceptron",
    "augment",
    "boolean_functions",
    "boolean_inputs",
    "fold",
    "lenet5",
    "linear_program",
    "linearly_separable",
    "mlp",
    "perceptron_criterion",
    "realize",
    "widest_margin",
    "windows",
    "xor_network",
]
