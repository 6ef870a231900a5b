"""House rules that can be read off the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LONGEST = 450
DRAWERS = {"utils", "util", "common", "misc", "helpers"}
ORACLES = {"diffusers", "transformers"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of every module that a file imports, at any depth of the file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def undocumented(tree: ast.Module) -> list[str]:
    """Public functions, classes and methods that have no docstring; `forward` is told by its class."""
    missing: list[str] = []

    def visit(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None and not is_stub(node) and node.name != "forward":
                missing.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(tree.body, "")
    return missing


def is_stub(node: ast.AST) -> bool:
    """Whether this is a method of a protocol: a signature with `...` as its body."""
    body = getattr(node, "body", [])
    return len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_every_file_keeps_the_house_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)

    assert len(text.splitlines()) <= LONGEST
    assert path.stem not in DRAWERS
    assert not imported(tree) & ORACLES
    assert undocumented(tree) == []


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py" and p.parent.name != "undiffuse"], ids=named)
def test_packages_inside_re_export_nothing(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == ""


def test_there_are_sources() -> None:
    assert len(SOURCES) > 40
