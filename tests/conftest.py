"""One thread: the same numbers on every machine, and tests that share its cores do not fight for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
