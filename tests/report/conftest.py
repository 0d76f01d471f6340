"""A report's page in a browser, as a reader sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def look(open_page: Any, tmp_path: Path) -> Any:
    """look(html, **context options) -> Seen, when its charts are drawn."""

    def opened(html: str, **options: Any) -> Any:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        seen = open_page(path.as_uri(), **options)
        seen.until("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg'))")
        return seen

    return opened
