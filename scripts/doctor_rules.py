"""Write docs/doctor_rules.md: everything the doctor can find, from the records of the rules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fathom.doctor.rules import KINDS, RULES, Rule  # noqa: E402

HEAD = """# What the doctor can find

Made by `scripts/doctor_rules.py` from the records in `fathom/doctor/rules/`; not to be edited.
A *contract* is known before the first step or from how the loop goes about it, a *symptom* is
measured while the run goes on and counts only where its gates are open, a *probe* is an experiment
on a copy. Severity is that of the usual case.
"""
TITLES = {"contract": "Contracts", "symptom": "Symptoms", "probe": "Probes"}


def table() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind in KINDS:
        found = [rule for rule in RULES.values() if rule.kind == kind]
        if found:
            parts.append(f"## {TITLES[kind]} ({len(found)})\n")
            parts += ["\n".join(_entry(rule)) + "\n" for rule in found]
    return "\n".join(parts)


def _entry(rule: Rule) -> Iterator[str]:
    yield f"### {rule.name}\n"
    yield f"{rule.why}\n"
    yield f"* severity: {rule.severity}"
    yield f"* formula: {rule.formula}"
    if rule.thresholds:
        values = ", ".join(f"{name} {value:g}" for name, value in rule.thresholds.items())
        yield f"* thresholds: {values}"
    if rule.corpus:
        yield f"* calibrated on: {rule.corpus}"
    if rule.gates:
        yield f"* gates: {', '.join(rule.gates)}"
    if rule.exempt:
        yield f"* silent on: {'; '.join(rule.exempt)}"
    if rule.explains:
        yield f"* explains: {', '.join(sorted(rule.explains))}"


if __name__ == "__main__":
    path = ROOT / "docs" / "doctor_rules.md"
    path.write_text(table(), encoding="utf-8")
    print(f"{path}: {len(RULES)} rules")
