"""A page in a browser, as a reader sees it; and the schema of the figures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest


@pytest.fixture(scope="module")
def vega_lite() -> Any:
    """A validator of figures."""
    altair = pytest.importorskip("altair")
    schema = next(Path(altair.__file__).parent.glob("vegalite/*/schema/vega-lite-schema.json"))
    return jsonschema.Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))


@dataclass
class Look:
    """An open page, and everything that it complained about, asked for, or popped up."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


def until(page: Any, expression: str, seconds: float = 30.0) -> None:
    """Asked again and again from outside: the policy of the page forbids Playwright's own way of waiting, which needs `eval`."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"after {seconds:g} seconds not yet: {expression}"
        page.wait_for_timeout(20)


@pytest.fixture
def look(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """look(html, **context options) -> Look, when its charts are drawn."""
    contexts = []

    def open_page(html: str, **options: Any) -> Look:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(**options))
        seen = Look(contexts[-1].new_page())
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("dialog", seen.dismiss)
        seen.page.goto(path.as_uri())
        until(seen.page, "[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg'))")
        return seen

    yield open_page
    for context in contexts:
        context.close()
