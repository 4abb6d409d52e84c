"""Who may import whom, and what `import fathom` may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fathom"

# A package may import those before it; `cli` and `studio` may import everything.
MAY_IMPORT = {
    "engine": set(),
    "ops": {"engine"},
    "compile": {"engine", "ops"},
    "nn": {"engine", "ops", "activations"},
    "optim": {"engine", "ops"},
    "data": {"engine"},
    "autograd": {"engine", "ops"},
    "activations": {"engine", "ops"},
    "models": {"engine", "ops", "nn"},
    "train": {"engine", "ops", "activations", "nn", "optim", "data", "compile"},
    "doctor": {"engine", "ops", "activations", "nn", "optim", "data", "train"},
}
EVERYTHING = {"cli", "studio", "book", "interop"}


def imports_of(path: Path) -> set[str]:
    """The packages of Fathom a module imports, those for type checkers left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("fathom.") and n.count(".")}
    return {name for name in found if (PACKAGE / name).is_dir()}


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_arrows_point_one_way(package: str) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        wrong = imports_of(path) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)}"


def test_every_package_has_its_place() -> None:
    packages = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(MAY_IMPORT) | EVERYTHING


HEAVY = "click rich matplotlib jinja2 pooch safetensors llvmlite scipy sklearn torch pandas"


@pytest.mark.parametrize("statement", ["import fathom", "import fathom.cli"])
def test_import_is_light(statement: str) -> None:
    allowed = {"click"} if "cli" in statement else set()
    heavy = set(HEAVY.split()) - allowed
    code = f"{statement}, sys; print(*sorted({heavy!r} & {{m.split('.')[0] for m in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
