"""The guide to data: its examples run, and what it says of numbers, keys and words is what the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from runtrue.datasets import arrays, folder, npz, pictures, places
from runtrue.datasets.load import FORMS, NAMED

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_examples_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"docs/data.md, block {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "cifar10 was not found. Looked for the folder cifar-10-batches-py" in printed
    assert "2 files skipped:" in printed


def test_words_keys_and_numbers_are_those_of_the_code() -> None:
    table = PAGE.split("|---|---|\n")[1].split("\n\n")[0]
    words = [word for line in table.splitlines() for word in re.findall(r"`(.*?)`", line.split("|")[1])]
    assert words == [*NAMED, *(f"{form}:PATH" for form in FORMS)]
    for pair in (*npz.TRAIN, *npz.VAL):
        assert f"`{pair[0]}`/`{pair[1]}`" in PAGE
    said = " ".join(PAGE.split())
    assert f"`size` × `size` pixels, {folder.SIDE} if nothing else is said" in said
    assert f"more than {arrays.LIMIT / 2**30:g} GiB of images" in said
    assert f"more than {pictures.MOST_PIXELS / 1e6:.0f} million pixels" in said
    assert f"`${places.VARIABLE}`" in said
    for known in places.KNOWN.values():
        assert all(f"`{place}`" in said for place in known.system)
