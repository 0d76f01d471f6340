"""One thread: the same numbers on every machine, and tests that share its cores do not fight for them.

And pages as readers see them: in a browser, with everything that they complain about.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

pytest_plugins = ["pytester"]  # for the tests of our own plugin

torch.set_num_threads(1)

FLAGS = [
    f"--{flag}"
    for flag in (
        "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync", "disable-background-networking",
        "disable-component-update",
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """For the tests that look at a page as a reader sees it; they are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


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
        wait_until(self.page, expression, seconds, self.complaints)


def wait_until(page: Any, expression: str, seconds: float = 60.0, complaints: Sequence[str] = ()) -> None:
    """Asked from outside: the policy of a page forbids Playwright's own way of waiting, which needs `eval`."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"after {seconds:g} seconds not yet: {expression}; {complaints}"
        page.wait_for_timeout(20)


@pytest.fixture(name="wait_until", scope="session")
def wait_until_() -> Callable[..., None]:
    """wait_until(page, expression)"""
    return wait_until


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


@pytest.fixture(scope="module")
def vega_lite() -> Any:
    """A validator of figures."""
    jsonschema = pytest.importorskip("jsonschema")
    altair = pytest.importorskip("altair")
    schema = next(Path(altair.__file__).parent.glob("vegalite/*/schema/vega-lite-schema.json"))
    return jsonschema.Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))
