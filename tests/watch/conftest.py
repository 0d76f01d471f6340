"""A page in a browser, and the schema of the figures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def vega_lite() -> Any:
    """A validator of figures."""
    jsonschema = pytest.importorskip("jsonschema")
    altair = pytest.importorskip("altair")
    schema = next(Path(altair.__file__).parent.glob("vegalite/*/schema/vega-lite-schema.json"))
    return jsonschema.Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))


@dataclass
class Seen:
    """An open page, and everything that it complained about, asked for, or popped up."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def until(self, expression: str, seconds: float = 60.0) -> None:
        """Asked from outside: the policy of the page forbids Playwright's own way of waiting, which needs `eval`."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"after {seconds:g} seconds not yet: {expression}; {self.complaints}"
            self.page.wait_for_timeout(50)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """open_page(url, **context options) -> Seen."""
    contexts = []

    def opened(url: str, **options: Any) -> Seen:
        contexts.append(browser.new_context(**options))
        seen = Seen(contexts[-1].new_page())
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("dialog", seen.dismiss)
        seen.page.goto(url, wait_until="domcontentloaded")
        return seen

    yield opened
    for context in contexts:
        context.close()
