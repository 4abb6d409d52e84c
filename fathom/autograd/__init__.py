"""Gradients: asking for them, checking them, writing them, and looking at the graph behind them."""

from fathom.autograd import functional
from fathom.autograd.anomaly import Anomaly, AnomalyError, detect_anomaly
from fathom.autograd.checkpoint import checkpoint
from fathom.autograd.compare import Comparison, compare_gradients
from fathom.autograd.function import Function
from fathom.autograd.gradcheck import (
    GradientMismatchError,
    gradcheck,
    gradgradcheck,
    numerical_grad,
)
from fathom.autograd.graph import graph_svg, graph_text
from fathom.autograd.memory import MemoryReport, memory_report
from fathom.autograd.quotients import difference_quotient
from fathom.autograd.steps import BackwardStep, backward_steps
from fathom.engine.backward import backward, grad
from fathom.engine.modes import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = [
    "Anomaly",
    "AnomalyError",
    "BackwardStep",
    "Comparison",
    "Function",
    "GradientMismatchError",
    "MemoryReport",
    "backward",
    "backward_steps",
    "checkpoint",
    "compare_gradients",
    "detect_anomaly",
    "difference_quotient",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph_svg",
    "graph_text",
    "inference_mode",
    "memory_report",
    "no_grad",
    "numerical_grad",
    "set_grad_enabled",
]
