"""The page of a fine-tuning, and the command: what it prints and with which code it ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tuning_pictures import asking  # type: ignore[import-not-found]
from typer.testing import CliRunner

from runtrue.cli.app import app
from runtrue.datasets import Split
from runtrue.tuning.folder import Place
from runtrue.tuning.judging import Judged, confusion, mistakes
from runtrue.tuning.page import heat, write_page


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_mistakes_and_who_is_taken_for_whom() -> None:
    outputs = torch.tensor([[9.0, 0, 0], [0, 1.0, 0], [4.0, 0, 0], [0, 0, 1.0]])
    found = Judged(outputs, torch.tensor([0, 1, 1, 0]))
    assert found.accuracy == 0.5 and confusion(found, 3) == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    split = Split(torch.zeros(4, 3, 2, 2), found.labels, tuple(Path(f"{n}.png") for n in range(4)))
    rows = mistakes(found, split, ("a", "b", "c"), 5)
    assert [(row["file"], row["true"], row["predicted"]) for row in rows] == [("2.png", "b", "a"), ("3.png", "a", "c")]
    assert rows[0]["confidence"] == pytest.approx(float(outputs[2].softmax(0)[0]))
    assert len(mistakes(found, split, ("a", "b", "c"), 1)) == 1


def test_the_page_shows_parts_and_mistakes(tune: Callable[..., Any], vega_lite: Any) -> None:
    tuned = tune(mode="deep", epochs=2, lr=10.0, norms="freeze-statistics", patience=9)
    place = Place(tuned.folder)
    found = '{"classes": ["a", "<b>"], "confusion": [[2, 1], [0, 3]], "accuracy": 0.83, "loss": 1, "mistakes": [%s]}'
    one = '{"file": "%s", "place": 0, "true": "a", "predicted": "<b>", "confidence": 0.9, "of_true": 0.1}'
    picture = next(Path(tuned.folder.read_facts()["data"].splitlines()[1].removeprefix("read from ")).rglob("*.png"))
    place.validation.write_text(found % (one % picture))
    text = write_page(place).read_text()
    assert len(re.findall(r'<img src="data:image/jpeg;base64,/9j/', text)) == 1
    assert "&lt;b&gt; 90%" in text and "<b>" not in text
    assert "highest rate" in text and "a is found least often" in text and "1 of 6 pictures" in text
    assert list(vega_lite.iter_errors(heat(["a", "b"], [[2, 1], [0, 3]]))) == []


def test_the_command(small: tuple[str, Path], coloured: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = asking(small, coloured, run)
    done = invoke(*asked)
    assert (
        done.exit_code == 0 and "validation: 100.00% right" in done.output and str(run / "report.html") in done.output
    )
    told = invoke("predict", str(run), str(coloured / "red" / "0.png"))
    assert told.exit_code == 0 and ": red " in told.output
    (run / "report.html").unlink()
    assert invoke("report", str(run)).exit_code == 0 and (run / "report.html").is_file()
    again = invoke(*asked)
    assert again.exit_code == 2 and "is not empty" in again.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["finetune"], "name a network"),
        (["finetune", "nowhere.py:net", "--data", "{data}"], "there is no file nowhere.py"),
        (["finetune", "{net}", "--data", "{data}", "--mode", "hed"], "did you mean 'head'"),
        (["finetune", "{net}", "--data", "{data}", "--weights", "none.pth"], "there is no file none.pth"),
        (["finetune", "{net}", "--weights", "{weights}"], "say where the photographs are"),
        (["finetune", "--resume", "{data}"], "is no run of runtrue finetune"),
        (
            ["finetune", "{net}", "--data", "{data}", "--weights", "{weights}", "--augment", "twist", "--mode", "deep"],
            "augment: ",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(
    words: list[str],
    said: str,
    small: tuple[str, Path],
    coloured: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"net": small[0], "weights": str(small[1]), "data": str(coloured)}
    done = invoke(*(word.format(**known) for word in words))
    assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output


def test_images_prepared_otherwise_have_code_1(small: tuple[str, Path], coloured: Path, tmp_path: Path) -> None:
    asked = asking(small, coloured, tmp_path / "r")
    done = invoke(*asked, "--mean", "0", "--std", "0.004")
    assert done.exit_code == 1 and "inputs-not-scaled" in done.output
