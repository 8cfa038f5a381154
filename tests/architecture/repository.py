"""The repository as the tidy tests see it: its files, and what its code says."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that is, or is about to be, part of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return tuple(ROOT / name for name in sorted(listed.split("\0")) if name and (ROOT / name).is_file())


def python_files(*rooms: str) -> list[Path]:
    """Tracked Python files below ``rooms``."""
    wanted = tuple(str(ROOT / room) + "/" for room in rooms)
    return [path for path in tracked_files() if path.suffix == ".py" and str(path).startswith(wanted)]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(tree_of(path))


def strings(path: Path) -> Iterator[str]:
    """Every string literal, docstrings included."""
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def place(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if isinstance(node, ast.stmt | ast.expr | ast.excepthandler) else ""
    return f"{path.relative_to(ROOT)}{line}"
