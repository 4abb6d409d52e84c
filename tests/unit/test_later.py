"""Packages that `import fathom` leaves for later."""

import subprocess
import sys

import pytest

import fathom


@pytest.mark.parametrize(("package", "name"), [("doctor", "watch"), ("book", "__name__")])
def test_they_come_when_asked_for(package: str, name: str) -> None:
    there = f"'fathom.{package}' in sys.modules"
    code = f"import sys, fathom; print({there}); fathom.{package}.{name}"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="module 'fathom' has no attribute 'docter'"):
        fathom.docter  # noqa: B018
