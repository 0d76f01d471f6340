"""All experiments at once: what is refused, what a failure leaves, and the page; most with experiments that only pretend."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runtrue import lab
from runtrue.cli.app import app
from runtrue.lab import gallery
from runtrue.lab.experiment import Experiment, Judgement
from runtrue.lab.gallery_page import DIGITS, headline, page
from runtrue.report.blocks import Block, Chart, Fold, Prose, Section

POINTS = [{"x": number, "y": 1 / (number + 1)} for number in range(50)]
THIRD = 1 / 3


def blocks(experiment: Experiment) -> list[Block]:
    axes = {axis: {"field": axis, "type": "quantitative"} for axis in "xy"}
    chart = Chart({"mark": "line", "data": {"values": POINTS}, "encoding": axes})
    other = Chart({"mark": "point", "data": {"values": [{"x": 7.25, "y": 1}]}, "encoding": axes})
    return [Prose("first words"), chart, Section("Numbers", [Fold("More", [other])], id="numbers")]


def good(seeds: int = 3, depth: int = 1) -> Experiment:
    parts = (Judgement("N1.1", "All is well.", True, "it is 1."),)
    return Experiment("good", "A good one", "c", parts, {"seeds": seeds, "depth": depth}, {}, draw=blocks)


def poor(seeds: int = 3, full: bool = False) -> Experiment:
    parts = (Judgement("N1.1", "This holds.", True, "it is 1."), Judgement("N1.2", "This does not.", False, "it is 2."))
    return Experiment("poor", "A poor one", "c", parts, {"seeds": seeds, "full": full}, {}, draw=blocks)


def broken(seeds: int = 3) -> Experiment:
    raise RuntimeError("no <memory>\nleft")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three experiments: one whose claim holds, one that fails, and one whose claim holds in part."""
    runs = {"good": good, "broken": broken, "poor": poor}
    monkeypatch.setattr(lab, "EXPERIMENTS", {name: f"claim of {name}" for name in runs})
    for name, run in runs.items():
        module: Any = types.ModuleType(f"runtrue.lab.{name}")
        module.run = run
        monkeypatch.setitem(sys.modules, module.__name__, module)


def call(*words: str) -> Any:
    return CliRunner().invoke(app, ["lab", *words])


@pytest.mark.usefixtures("pretended")
def test_one_that_fails_is_told_and_the_others_run_still() -> None:
    found = lab.run_all(seeds=2)
    assert [entry.outcome for entry in found.entries] == ["held", "failed", "does not hold: N1.2"]
    assert [entry.held for entry in found.entries] == [True, False, False] and not found.held
    assert [entry.name for entry in found.failed] == ["broken"] and found.missing == ()
    assert found.entries[1].error == "RuntimeError: no <memory> left"
    assert "in broken" in found.entries[1].trace
    told = [entry.experiment.settings["seeds"] for entry in found.entries if entry.experiment]
    assert told == [2, 2]


@pytest.mark.usefixtures("pretended")
def test_a_setting_that_one_of_them_lacks_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "ended", lambda *_: pytest.fail("an experiment ran"))
    with pytest.raises(TypeError, match="depth is no setting of broken, poor; all of them would get it: leave it out"):
        gallery.each(lab.EXPERIMENTS, {"seeds": 1, "depth": 2})
    with pytest.raises(ValueError, match="seeds must be a whole number of at least 1, got 0"):
        lab.run_all(seeds=0)


@pytest.mark.usefixtures("pretended")
def test_a_setting_that_an_experiment_lacks_is_named_with_those_that_it_has() -> None:
    with pytest.raises(TypeError, match="good has no setting full; it has seeds, depth"):
        lab.run("good", full=True)
    assert lab.run("poor", full=True).settings["full"] is True
    told = call("good", "--full")
    assert told.exit_code == 2 and "good has no setting full" in told.output


@pytest.mark.usefixtures("pretended")
def test_the_command_tells_a_line_an_experiment_and_has_the_exit_code_of_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = call("all", "--seeds", "1")
    assert told.exit_code == 1
    lines = told.output.splitlines()
    assert [line.split()[0] for line in lines] == ["good", "broken", "poor", "page:"]
    assert lines[1].endswith("s  failed: RuntimeError: no <memory> left")
    assert lines[2].endswith("s  does not hold: N1.2")
    assert lines[3] == "page: runtrue-lab-all.html" and Path("runtrue-lab-all.html").exists()
    monkeypatch.setattr(lab, "EXPERIMENTS", {"good": "", "poor": ""})
    assert call("all").exit_code == 0, "a claim that does not hold is a result, not a failure"


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("words", [("--depth", "2"), ("--full",), ("--seeds", "0")])
def test_a_wrong_call_of_all_writes_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    assert call("all", "--out", str(place), *words).exit_code == 2
    assert not place.exists()


@pytest.mark.usefixtures("pretended")
def test_json_of_all(tmp_path: Path) -> None:
    place = tmp_path / "new" / "all.json"
    assert call("all", "--format", "json", "--out", str(place)).exit_code == 1
    said = json.loads(place.read_text(encoding="utf-8"))
    assert said["schema"] == 1 and said["held"] is False
    good, broken, poor = said["experiments"]
    assert (good["experiment"], good["held"], good["error"]) == ("good", True, None)
    assert (broken["held"], broken["error"]) == (False, "RuntimeError: no <memory> left")
    assert [part["held"] for part in poor["parts"]] == [True, False]
    assert all(one["seconds"] >= 0 for one in said["experiments"])
    assert json.loads(call("all", "--format", "json").stdout)["experiments"][0]["experiment"] == "good"


@pytest.mark.usefixtures("pretended")
def test_the_page_is_kept_up_to_the_experiment_that_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(seeds: int = 3) -> Experiment:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["runtrue.lab.broken"], "run", stopped)
    place = tmp_path / "all.html"
    call("all", "--out", str(place))
    html = place.read_text(encoding="utf-8")
    assert "Not run yet: broken, poor." in html and "A good one" in html and html.count("not run") == 2


@pytest.mark.usefixtures("pretended")
def test_the_page_leads_from_the_table_to_each_section_and_no_anchor_stands_twice() -> None:
    html = page(lab.run_all())
    anchors = re.findall(r'\bid="([^"]+)"', html.split("<script>")[0])
    assert len(anchors) == len(set(anchors)) and {"good-numbers", "poor-numbers", "good-settings"} <= set(anchors)
    led = re.findall(r'<td><a href="#([^"]+)">', html)
    assert led == ["good", "broken", "poor"] and set(led) <= set(anchors)
    assert '<td><span class="tag bad">does not hold: N1.2</span></td>' in html
    assert "RuntimeError: no &lt;memory&gt; left" in html and "<memory>" not in html
    assert "runtrue lab broken" in html


@pytest.mark.usefixtures("pretended")
def test_the_main_figure_stands_open_and_the_rest_is_folded_with_numbers_cut_short() -> None:
    html = page(lab.run_all())
    section = html.split('id="good"')[1].split("</section>\n<section")[0]
    shown, folded = section.split("<details>", 1)
    (spec,) = re.findall(r'class="spec">(.*?)</script>', shown)
    values = json.loads(spec)["data"]["values"]
    assert values[2] == {"x": 2, "y": 0.33333} and DIGITS == 5
    assert "first words" in folded and "7.25" in folded and "All is well. Measured: it is 1." in shown
    assert blocks(good())[1].spec["data"]["values"][2]["y"] == THIRD, "the experiment keeps its own numbers"


@pytest.mark.usefixtures("pretended")
def test_the_headline_counts_and_names() -> None:
    found = lab.run_all()
    assert headline(found) == "1 of 3 claims holds; poor does not; broken failed"
    only = gallery.Gallery(found.entries[:1], ("good",))
    assert only.held and headline(only) == "The claim holds"
    part = gallery.Gallery(found.entries[:1], ("good", "poor"))
    assert not part.held and part.missing == ("poor",) and headline(part) == "1 of 2 claims holds"


def test_an_experiment_whose_figures_cannot_be_drawn_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(experiment: Experiment) -> list[Block]:
        raise KeyError("rate")

    monkeypatch.setattr(lab, "run", lambda name: Experiment(name, "T", "c", (), {}, {}, draw=draw))
    assert gallery.ended("init", {}).error == "KeyError: 'rate'"


def test_real_experiments_on_one_page() -> None:
    """The page of the smallest real runs: whole, and light enough to open at once."""
    small = {"init": {"depth": 2, "width": 16, "samples": 50}, "penalty": {"depth": 1, "width": 8, "steps": 20}}
    entries = tuple(gallery.ended(name, {"seeds": 1, **settings}) for name, settings in small.items())
    found = gallery.Gallery(entries, tuple(small))
    assert found.failed == ()
    assert len(page(found).encode()) < 1_500_000
    assert str(found).splitlines()[0].startswith("init ")


@pytest.mark.slow
@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1000), ("dark", 1000), ("light", 390)])
def test_the_page_in_a_browser(browser: Any, wait_until: Any, tmp_path: Path, scheme: str, width: int) -> None:
    """Open figures are drawn at once, folded ones when they are unfolded; nothing is loaded, nothing spills."""
    place = lab.run_all().to_html(tmp_path / "all.html")
    seen = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    said: list[str] = []
    seen.on("console", lambda message: said.append(message.text))
    seen.on("pageerror", lambda error: said.append(str(error)))
    seen.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    seen.goto(place.as_uri())
    wait_until(seen, "document.querySelectorAll('.plot svg').length === 2")
    seen.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    wait_until(seen, "document.querySelectorAll('.plot svg').length === 4")
    seen.locator("td a", has_text="poor").click()
    assert seen.evaluate("location.hash") == "#poor"
    assert seen.evaluate("document.documentElement.scrollWidth") <= width and said == []
    seen.close()
