"""`fathom info`: versions and machine, for bug reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from fathom.cli import console
from fathom.cli.options import Command, json_option

NEEDED = ("numpy", "safetensors", "click", "rich", "threadpoolctl", "pooch", "jinja2", "matplotlib")
OPTIONAL = ("llvmlite", "scipy", "scikit-learn", "torch", "pytest", "hypothesis")


@click.command(
    "info",
    cls=Command,
    short_help="Versions, BLAS, threads, memory and folders, for bug reports.",
    examples=("fathom info", "fathom info --json"),
)
@json_option
def command(as_json: bool) -> None:
    """Print the versions and the machine that results and speed depend on."""
    facts = _facts()
    if as_json:
        console.print_json(facts)
        return
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text or 'absent'}" for key, text in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value)) or "none found"
        rows.append((name.replace("_", " "), "-" if value is None else str(value)))
    console.show(console.table(("", ""), rows, left=2))


def _facts() -> dict[str, Any]:
    import platform

    from fathom.version import __version__

    return {
        "fathom": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": _memory(),
        "blas": _blas(),
        "packages": {name: _version(name) for name in NEEDED},
        "optional": {name: _version(name) for name in OPTIONAL},
        "installed_in": str(Path(__file__).parents[2]),
        "data_folder": os.environ.get("FATHOM_DATA"),
        "cache_folder": _cache(),
    }  # fmt: skip


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> float | None:
    """Main memory in GiB, where the system tells."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return round(size / 2**30, 1)


def _blas() -> list[str]:
    import numpy  # noqa: F401 - brings the BLAS in
    import threadpoolctl

    return [
        f"{pool['internal_api']} {pool.get('version') or ''} "
        f"({pool.get('architecture', 'unknown')}), {pool['num_threads']} threads"
        for pool in threadpoolctl.threadpool_info()
    ]


def _cache() -> str:
    given = os.environ.get("FATHOM_CACHE")
    if given:
        return given
    import pooch

    return str(pooch.os_cache("fathom"))
