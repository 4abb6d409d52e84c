"""`fathom activations`: what is measured of each activation, and one of them in detail."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console
from fathom.cli.options import Command, ParamType, json_option, option

if TYPE_CHECKING:
    from fathom.activations.measure import Audit
    from fathom.ops.formula import Formula

WIDE = 130  # columns the table needs when it does not go to a terminal


class Setting(ParamType):
    """KEY=VALUE.

    >>> Setting().convert("task=counts", None, None)
    ('task', 'counts')
    """

    name = "key=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, choice = (part.strip() for part in str(value).partition("="))
        if not (key and equals and choice):
            self.fail(f"{value!r} should be KEY=VALUE, such as layer=output", param, ctx)
        return key.lower(), choice


@click.command(
    "activations",
    cls=Command,
    short_help="Properties of the activations, or one in detail.",
    examples=(
        "fathom activations",
        "fathom activations relu gelu silu --time",
        "fathom activations mish --plot mish.svg",
        "fathom activations silu --json",
        "fathom activations --benchmark",
        "fathom activations relu gelu silu --benchmark --json",
        "fathom activations --choose layer=output --choose task=counts",
        "fathom activations --choose architecture=cnn --choose environment=int8 --choose depth=20",
        "fathom activations --rules",
    ),
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw f, f' and f'' of the one NAME to a PNG, SVG or PDF file.",
)
@option("--time", "timing", is_flag=True, help="Also measure the cost, relative to ReLU.")
@option(
    "--benchmark",
    "timed",
    is_flag=True,
    help="Time every implementation twice: nanoseconds per number, and how stable the ranking is.",
)
@option(
    "--choose",
    "asked",
    type=Setting(),
    multiple=True,
    metavar="KEY=VALUE",
    help="Which activation to take, and why. KEY is layer (hidden, output, gate, attention), "
    "architecture, task, environment, depth or normalization; give it as often as needed.",
)
@option("--rules", is_flag=True, help="Print all rules --choose goes by.")
@json_option
def command(
    names: tuple[str, ...],
    plot: Path | None,
    timing: bool,
    timed: bool,
    asked: tuple[tuple[str, str], ...],
    rules: bool,
    as_json: bool,
) -> None:
    """Print what is measured of all activations, or of those named: range, kinks, slopes, ...

    With one NAME: the formula as Python and as LaTeX, its derivative, extrema, zeros and limits.
    """
    if sum((timed, bool(asked), rules, plot is not None)) > 1:
        raise click.UsageError("--benchmark, --choose, --rules and --plot exclude each other")
    if (asked or rules) and names:
        raise click.UsageError("--choose and --rules take no NAME")
    if asked:
        _choose(dict(asked), as_json)
    elif rules:
        _rules(as_json)
    elif timed:
        _benchmark([known(name) for name in names] or None, as_json)
    else:
        _audit(names, plot, timing, as_json)


def _audit(names: tuple[str, ...], plot: Path | None, timing: bool, as_json: bool) -> None:
    from fathom import activations
    from fathom.cli import figures

    if plot is not None and len(names) != 1:
        raise click.UsageError("--plot draws one activation: give one NAME")
    figures.check_path(plot)
    chosen = [activations.FORMULAS[known(name)] for name in names or activations.FORMULAS]
    found: list[Audit] = [activations.audit(f, timing=timing) for f in chosen]  # type: ignore[misc]
    if plot is not None:
        figures.write(chosen[0].plot(), plot)
    if len(names) == 1:
        _one(chosen[0], found[0], plot, as_json)
    elif as_json:
        console.print_json([measured(audit) for audit in found])
    else:
        _table(found)
        console.show("fathom activations NAME shows more of one.")


def known(name: str) -> str:
    """The formula's name for any spelling `fathom train --activation` takes.

    >>> known("Leaky-ReLU"), known("quick_gelu")
    ('leaky_relu', 'gelu_sigmoid')
    """
    from fathom.activations import FORMULAS
    from fathom.engine.errors import ArgumentError, suggest
    from fathom.nn.activation import ACTIVATIONS

    plain = name.lower().replace("_", "").replace("-", "")
    plain = {"linear": "identity", "quickgelu": "gelusigmoid"}.get(plain, plain)
    spellings = {key.replace("_", ""): key for key in (*ACTIVATIONS, *FORMULAS)}
    if plain not in spellings:
        raise ArgumentError(f"unknown activation {name!r}", fix=suggest(name, FORMULAS))
    if spellings[plain] not in FORMULAS:
        raise ArgumentError(
            f"{name} is no function of one number (it looks at a whole axis, or is random), so it "
            "has no such table",
            fix=f"help(fathom.activations.{spellings[plain]}) in Python",
        )
    return spellings[plain]


def measured(audit: Audit) -> dict[str, Any]:
    """An audit in JSON values; what is infinite is written "inf" or "-inf"."""
    return {**_plain(asdict(audit)), "smooth": audit.smooth, "zero_centred": audit.zero_centred}


def detailed(formula: Formula) -> dict[str, Any]:
    """The formula, its derivative, and what analysing it finds."""
    slope, analysis = formula.derivative(), formula.analyse()
    return {
        "formula": repr(formula),
        "latex": formula.latex(),
        "parameters": {name: formula.defaults[name] for name in formula.names[1:]},
        "derivative": repr(slope).partition(" = ")[2],
        "derivative_latex": slope.latex(),
        **_plain(asdict(analysis)),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _table(found: list[Audit]) -> None:
    from fathom.activations.measure import AuditTable

    made = console.table(AuditTable.header, [audit.cells() for audit in found], left=2)
    out = console.console()
    out.width = max(out.width, WIDE) if not out.is_terminal else out.width
    out.print()
    out.print(made)


def _one(formula: Formula, audit: Audit, plot: Path | None, as_json: bool) -> None:
    facts = detailed(formula)
    if as_json:
        more = {} if plot is None else {"plot": str(plot)}
        console.print_json({**measured(audit), **facts, **more})
        return
    rest = "".join(f", {name} = {value:g}" for name, value in facts["parameters"].items())
    console.show(facts["formula"] + (f"   with{rest[1:]}" if rest else ""))
    console.show(
        console.table(
            ("", ""),
            [("LaTeX", facts["latex"]), ("derivative", facts["derivative"]),
             ("as LaTeX", facts["derivative_latex"]), *_shape(formula, audit), *_rows(audit)],
            left=2,
        )
    )  # fmt: skip
    if plot is not None:
        console.show(f"plot    {plot}")


def _shape(formula: Formula, audit: Audit) -> list[tuple[str, str]]:
    found = formula.analyse()
    peaks = [f"{p.kind} {p.value:.5g} at {p.x:.5g}" for p in found.extrema]
    kinks = [f"{'f' + k.order * chr(39)} jumps by {k.jump:.4g} at {k.x:g}" for k in audit.kinks]
    zeros = [f"{zero:.5g}" for zero in found.zeros]
    rows = [
        ("extrema", ", ".join(peaks) or "none"),
        ("zeros", ", ".join(zeros) or "none"),
        (
            "limits",
            f"{found.left_limit + 0.0:.5g} on the left, {found.right_limit + 0.0:.5g} on the right",
        ),
        ("kinks", ", ".join(kinks) or "none"),
        ("slopes far out", f"{found.left_slope:.5g} and {found.right_slope:.5g}"),
    ]
    return [(name, text.replace("nan", "none")) for name, text in rows]


def _rows(audit: Audit) -> list[tuple[str, str]]:
    from fathom.activations.measure import AuditTable

    names = {"mean": "mean for N(0, 1)", "std": "std for N(0, 1)", "flat": "flat for N(0, 1)"}
    cells = zip(AuditTable.header, audit.cells(), strict=True)
    return [
        (names.get(name, name), cell)
        for name, cell in cells
        if name != "activation" and cell != "-"
    ]


# -- choosing and timing -------------------------------------------------------------------------


def _choose(asked: dict[str, str], as_json: bool) -> None:
    from fathom.activations import select
    from fathom.engine.errors import ArgumentError, suggest

    for key in asked:
        if key not in select.OPTIONS:
            raise ArgumentError(f"--choose knows no {key!r}", fix=suggest(key, select.OPTIONS))
    settings: dict[str, Any] = {
        key: int(value) if key == "depth" and value.isdigit() else value
        for key, value in asked.items()
    }
    found = select.choose(**settings)
    if as_json:
        console.print_json({key: getattr(found, key) for key in found.__dataclass_fields__})
    else:
        console.show(str(found))


def _rules(as_json: bool) -> None:
    from fathom.activations import select

    if as_json:
        console.print_json([asdict(rule) for rule in select.RULES])
    else:
        console.show(select.tree())


def _benchmark(names: list[str] | None, as_json: bool) -> None:
    from fathom.activations.benchmark import IMPLEMENTATIONS, benchmark

    first, again = benchmark(names), benchmark(names)
    stable = {
        f"{kind} {what}": first.stability(again, kind, what)
        for kind in IMPLEMENTATIONS
        for what in (("forward",) if kind == "table" else ("forward", "both"))
        if len(first.select(kind)) > 1
    }
    if as_json:
        rows = [asdict(row) for row in first.rows]
        console.print_json(
            {"rows": rows, "machine": first.machine, "size": first.size,
             "repeats": first.repeats, "rank_correlation": stable}
        )  # fmt: skip
        return
    console.show(console.table(first.header, first.cells(), left=2))
    about = "; ".join(f"{key} {value}" for key, value in first.machine.items())
    console.show(f"{first.size} float32, best of {first.repeats}. {about}")
    for name, value in stable.items():
        console.show(f"rank correlation with a second run, {name}: {value:.3f}")
