"""The Python of every how-to page works as it stands there, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ELSEWHERE = ("new-context",)  # changes the package; `test_new_context.py` follows it in a copy
PAGES = [page for page in sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md")) if page.stem not in ELSEWHERE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    scope = {"__name__": page.stem}

    for block in blocks:
        exec(compile(block, str(page), "exec"), scope)

    assert len(scope) > 1 or not blocks


def test_there_are_pages() -> None:
    assert PAGES
