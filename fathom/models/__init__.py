"""Whole architectures, ready to train, and single units, oldest to newest."""

from fathom.models.backprop import BackpropMLP
from fathom.models.charlstm import CharLSTM
from fathom.models.classics import fold, xor_network
from fathom.models.constructions import (
    Piece,
    box_indicator,
    count_linear_pieces,
    hidden_units,
    linear_pieces,
    parity_network,
    relu_interpolant,
    sawtooth_square,
    step_interpolant,
    tent_map,
)
from fathom.models.heads import Head, OrdinalLogits, head
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
from fathom.models.online import OnlineRun, online
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
from fathom.models.scaling import Scaled, compound_scaling
from fathom.models.separability import (
    Separability,
    augment,
    linear_program,
    linearly_separable,
    widest_margin,
)
from fathom.models.transformer import TransformerLM, windows
from fathom.models.word2vec import GloVe, SkipGram, WordVectors

__all__ = [
    "Adaline",
    "BackpropMLP",
    "Bound",
    "CharLSTM",
    "GloVe",
    "Head",
    "HebbianNeuron",
    "KernelPerceptron",
    "LIFNeuron",
    "LanguageModel",
    "LinearSVM",
    "McCullochPitts",
    "OnlineRun",
    "OrdinalLogits",
    "Perceptron",
    "Piece",
    "PocketPerceptron",
    "Scaled",
    "Separability",
    "SkipGram",
    "TransformerLM",
    "VotedPerceptron",
    "WordVectors",
    "augment",
    "boolean_functions",
    "boolean_inputs",
    "box_indicator",
    "compound_scaling",
    "count_linear_pieces",
    "fold",
    "head",
    "hidden_units",
    "lenet5",
    "linear_pieces",
    "linear_program",
    "linearly_separable",
    "mlp",
    "online",
    "parity_network",
    "perceptron_criterion",
    "realize",
    "relu_interpolant",
    "sawtooth_square",
    "step_interpolant",
    "tent_map",
    "widest_margin",
    "windows",
    "xor_network",
]
