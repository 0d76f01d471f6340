"""The pages of the experiments in a real browser: all figures drawn, nothing loaded, readable on a telephone and in the dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtrue import lab
from runtrue.demos import basic
from runtrue.lab import own_rates

pytestmark = pytest.mark.slow
EXPERIMENTS: dict[str, tuple[int, dict[str, Any]]] = {
    "init": (13, {"seeds": 1}),
    "learning-rates": (1, {"seeds": 1, "steps": 240}),
    "momentum": (3, {"seeds": 2, "epochs": 2, "width": 20, "batch_size": 200}),
    "decay": (4, {"seeds": 2, "epochs": 6, "width": 20, "batch_size": 500}),
    "penalty": (2, {"seeds": 1, "steps": 60, "width": 50}),
    "depth": (5, {"seeds": 2, "depths": (8, 14), "images": 32, "epochs": 2, "batch_size": 8}),
    "batchnorm": (7, {"seeds": 1, "width": 20, "depth": 4, "epochs": 1, "long": 2}),
    "regularization": (4, {"seeds": 1, "width": 20, "epochs": 2}),
    "dropout": (2, {"seeds": 1, "epochs": 3, "width": 16}),
    "overfit": (1, {"seeds": 1, "epochs": 3, "width": 8}),
    "small-regularization": (2, {"seeds": 1, "epochs": 3, "width": 8}),
    "finetune": (5, {"seeds": 2, "steps": 20, "images": (2, 5)}),
    "gap": (1, {"seeds": 1, "epochs": 3, "width": 8}),
    "own": (2, {"steps": 40}),
}
"""Charts on the page, and settings for a short run, by name."""


@pytest.fixture(scope="module", params=EXPERIMENTS)
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = EXPERIMENTS[request.param][1]
    made = (
        own_rates.run(basic.rate_too_low(), **settings)
        if request.param == "own"
        else lab.run(request.param, **settings)
    )
    return made.to_html(tmp_path_factory.mktemp("page") / f"{request.param}.html")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1000), ("dark", 1000), ("light", 390)])
def test_page(browser: Any, wait_until: Any, page_file: Path, scheme: str, width: int) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(page_file.as_uri())
    charts, _ = EXPERIMENTS[page_file.stem]
    wait_until(page, f"document.querySelectorAll('.plot svg').length === {charts}")
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilled = "Math.max(...[...document.querySelectorAll('.plot')].map(box => box.scrollWidth - box.clientWidth))"
    wait_until(page, f"{spilled} <= 0", 10)  # the last figure may still be fitting itself into its box
    page.close()
