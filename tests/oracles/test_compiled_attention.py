"""Attention in native code, whole and by tiles, against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom.compile.native import attention_plan
from fathom.nn import functional as F

torch = pytest.importorskip("torch")
pytest.importorskip("llvmlite")


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads, length, source, width", [(3, 512, 512, 32), (2, 130, 259, 17)])
def test_attention(
    heads: int, length: int, source: int, width: int, causal: bool, tiled: bool,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(attention_plan, "LARGE", 0 if tiled else 1 << 60)
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    monkeypatch.setenv("FATHOM_NUM_THREADS", "2")
    rng = np.random.default_rng(5)
    shapes = [(heads, length, width), (heads, source, width), (heads, source, width + 3)]
    given = [rng.normal(size=s).astype(np.float32) for s in shapes]
    weights = rng.normal(size=(heads, length, width + 3)).astype(np.float32)
    ours = [fathom.tensor(a, requires_grad=True) for a in given]
    theirs = [torch.tensor(a, requires_grad=True) for a in given]

    def step() -> Any:
        out = F.scaled_dot_product_attention(*ours, is_causal=causal)
        (out * fathom.tensor(weights)).sum().backward()
        slopes = [x.grad for x in ours]
        for x in ours:
            x.grad = None
        return (out.detach(), *slopes)

    compiled = fathom.compile(step, backend="native")
    found = [np.array(v.numpy() if isinstance(v, fathom.Tensor) else v) for v in compiled()]
    (entry,) = [entry for entries in compiled._entries.values() for entry in entries]
    names = {u.steps[0].primitive.name for u in entry.program.schedule.units if u.steps}
    assert ("attend" in names) == ("attend_backward" in names) == tiled
    out = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal)
    (out * torch.tensor(weights)).sum().backward()
    for mine, wanted in zip(found, [out.detach(), *(x.grad for x in theirs)], strict=True):
        scale = float(wanted.abs().max())
        np.testing.assert_allclose(mine, wanted.numpy(), rtol=1e-5, atol=1e-5 * scale)
