"""Count lines of code (no blanks, comments or docstrings) in each file of a folder.

python scripts/code_lines.py fathom/engine
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path


def code_lines(path: Path) -> int:
    """Lines that hold a token which is neither comment nor docstring."""
    source = path.read_text()
    docs: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                docs.update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
            tokenize.ENDMARKER, tokenize.ENCODING}  # fmt: skip
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skip:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


def main(folders: list[str]) -> None:
    total = 0
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            count = code_lines(path)
            total += count
            print(f"{count:6}  {path}")
    print(f"{total:6}  total")


if __name__ == "__main__":
    main(sys.argv[1:] or ["fathom"])
