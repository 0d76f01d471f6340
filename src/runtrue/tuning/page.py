"""The page of a fine-tuning: what was kept and what is new, at which rates, how it went, and which pictures are mistaken."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtrue.datasets import pictures
from runtrue.report.blocks import Block, Chart, Facts, Fold, Picture, Prose, Section, Sheet, Stat, Stats, Table
from runtrue.report.html import save_page
from runtrue.report.page import render_page
from runtrue.report.theme import BLUE, GREY, Spec
from runtrue.training.folder import RunFolder
from runtrue.training.page import alt, curves, run_facts, watched
from runtrue.tuning.folder import Place, read
from runtrue.tuning.settings import ConfigError, Settings

THUMB = 112  # pixels of a picture on the sheet: an object is still told
MODES = {"head": "a new head on a network that stands still", "deep": "all layers, slower towards the front"}
SHADES = {"domain": [0, 1], "range": [0.04, 0.6]}  # the counts are read on the darkest
ABREAST = 24  # letters that all names of classes together may have beside each other on a telephone
EPOCHS = ("epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr", "seconds")


def write_page(place: Place) -> Path:
    """Write report.html from what the folder holds. Raises ConfigError for a run that has not finished."""
    return save_page(page(place), place.run.report, "run")


def page(place: Place) -> str:
    settings, facts, found = place.read_settings(), place.run.read_facts(), read(place.validation)
    if not found:
        raise ConfigError(f"{place.run.path} has no validation.json: has the run finished? Go on with --resume")
    named = str(facts.get("data", settings.data)).splitlines()
    return render_page(
        place.run.path.name,
        subtitle=f"{settings.net}, {MODES[settings.mode]}, on {named[0] if named else settings.data}",
        status="bad" if "torn" in facts else "neutral",
        status_text=f"{found['accuracy']:.1%} of the validation set right",
        status_detail=detail(facts, found),
        blocks=blocks(place, settings, facts, found),
    )


def detail(facts: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    table = found["confusion"]
    total = sum(map(sum, table))
    wrong = total - sum(table[place][place] for place in range(len(table)))
    how = str(facts.get("stood_still") or f"it ended {facts['ended']}")
    lost = "What the network knew was torn up on the way; these are the weights before. " if "torn" in facts else ""
    return f"{wrong} of {total} pictures are taken for something else. {lost}{sentence(how)}"


def sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def blocks(place: Place, settings: Settings, facts: dict[str, Any], found: Mapping[str, Any]) -> list[Block]:
    history = place.run.history()
    kept = next((row for row in history if row["epoch"] == facts.get("kept_epoch")), history[-1])
    verdicts, layers = watched(place.run)
    numbers = Stats([
        Stat("validation accuracy", f"{kept['val_accuracy']:.2%}"),
        Stat("training accuracy", f"{kept['train_accuracy']:.2%}"),
        *([Stat("epoch of the weights", int(kept["epoch"]))] if settings.mode == "deep" else []),
    ])  # fmt: skip
    return [
        numbers,
        *looked_at(place.run),
        *torn(facts),
        *verdicts,
        parts_section(read(place.parts), facts),
        Section("How it went", [*went(history, settings)], id="curves"),
        confusion_section(found),
        *mistakes_section(found),
        *layers,
        *skipped_section(facts),
        Section("How it was done", [Facts(told(facts))], id="how"),
        Section("Settings", [Facts({name: str(value) for name, value in settings.to_dict().items()})], id="settings"),
        Section("Run", [Facts(run_facts(facts))], id="run"),
    ]


def looked_at(folder: RunFolder) -> list[Block]:
    """What was found before the training."""
    check = read(folder.check)
    found = [*check.get("faults", ()), *check.get("warnings", ())] if check else []
    if not found:
        return []
    rows = [[one["severity"], one["cause"], one["message"]] for one in found]
    return [Section("Before the training", [Table(["weight", "cause", "what"], rows)], id="check", tone="bad")]


def torn(facts: Mapping[str, Any]) -> list[Block]:
    """What was learned elsewhere and lost here."""
    why = str(facts.get("torn", ""))
    return [Section("What the network knew was lost", [Prose(sentence(why))], id="torn", tone="bad")] if why else []


def parts_section(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> Section:
    table = Table(
        ["part", "state", "parameters", "highest rate", "how"],
        [[row["part"], row["state"], row["parameters"], row["rate"], row["how"]] for row in rows],
        "From the front of the network to its head. A rate of 0: nothing moves by steps.",
    )
    said: list[Block] = [Prose(f"{facts.get('difference', '')}, from {facts.get('origin', '')}.".capitalize()), table]
    changed = {"another size": facts.get("resized"), "new": facts.get("new"), "left out": facts.get("dropped")}
    listed = [[name, what] for name, names in changed.items() for what in names or ()]
    return Section(
        "Kept and new", [*said, *([Fold("the tensors that were not kept", [Table(["", "tensor"], listed)])] if listed else [])],
        id="parts",
    )  # fmt: skip


def went(history: Sequence[dict[str, Any]], settings: Settings) -> list[Block]:
    across, first = ("round of L-BFGS", 1) if settings.mode == "head" else ("epoch (0: the head alone)", 0)
    how = (
        " On the training set counted while it is trained, on augmented images; epoch 0 on plain ones."
        if first == 0
        else ""
    )
    charts: list[Block] = [
        Chart(curves(history, reading, across, first), f"{title} by {across}.{how}", alt(history, reading))
        for reading, title in (("accuracy", "Share of right answers"), ("loss", "Cross-entropy"))
    ]
    table = Table(list(EPOCHS), [[row[key] for key in EPOCHS] for row in history[-50:]])
    return [*charts, Fold("the numbers", [table])]


def confusion_section(found: Mapping[str, Any]) -> Section:
    names, table = found["classes"], found["confusion"]
    rows = [
        [name, *counts, recall(counts, place)] for place, (name, counts) in enumerate(zip(names, table, strict=True))
    ]
    worst = min(range(len(names)), key=lambda place: table[place][place] / max(1, sum(table[place])))
    wrong = sum(table[worst]) - table[worst][worst]
    least = f"{names[worst]} is found least often." if wrong else "Every picture is found."
    said = f"Rows: what is on the picture; columns: what it was taken for. {least}"
    return Section(
        "What is taken for what",
        [Chart(heat(names, table), said, said), Fold("as a table", [Table(["", *names, "found"], rows)])],
        id="confusion",
    )


def recall(counts: Sequence[int], place: int) -> str:
    return f"{counts[place] / max(1, sum(counts)):.0%}"


def heat(names: Sequence[str], table: Sequence[Sequence[int]]) -> Spec:
    """Darker: a larger share of the row."""
    cells = [
        {"true": names[i], "taken": names[j], "count": count, "share": count / max(1, sum(row))}
        for i, row in enumerate(table)
        for j, count in enumerate(row)
    ]
    short = sum(map(len, names)) <= ABREAST
    axis = {"type": "nominal", "sort": list(names)}
    place = {
        "x": {
            "field": "taken",
            "title": "taken for",
            "axis": {"grid": False, "labelAngle": 0 if short else -40},
            **axis,
        },
        "y": {"field": "true", "title": "is", "axis": {"grid": False, "labelAngle": 0}, **axis},
    }
    tooltip = [{"field": "true"}, {"field": "taken"}, {"field": "count"}, {"field": "share", "format": ".0%"}]
    return {
        "height": max(120, 38 * len(names)),
        "data": {"values": cells},
        "encoding": place,
        "layer": [
            {
                "mark": {"type": "rect", "color": BLUE},
                "encoding": {
                    "opacity": {"field": "share", "type": "quantitative", "legend": None, "scale": SHADES},
                    "tooltip": tooltip,
                },
            },
            {
                "transform": [{"filter": "datum.count > 0"}],
                "mark": {"type": "text", "fontSize": 13},
                "encoding": {"text": {"field": "count", "type": "quantitative"}, "color": {"value": GREY}},
            },
        ],
    }  # fmt: skip


def mistakes_section(found: Mapping[str, Any]) -> list[Block]:
    """The surest of the wrong answers; pictures that cannot be read any more are named alone."""
    rows = found["mistakes"]
    if not rows:
        return []
    seen = dict(thumbs([Path(row["file"]) for row in rows]))
    sheet = [
        Picture(
            seen[number], f"{row['predicted']} {row['confidence']:.0%}", note(row),
            f"{Path(row['file']).name}: {row['true']}, taken for {row['predicted']}",
        )
        for number, row in enumerate(rows)
        if number in seen
    ]  # fmt: skip
    listed = [[row["file"], row["true"], row["predicted"], row["confidence"]] for row in rows]
    files = Fold("their files", [Table(["file", "is", "taken for", "share"], listed)])
    said = "The surest of the wrong answers first. In the first line what the picture was taken for, and how surely."
    return [
        Section(
            "The worst mistakes",
            [*([Sheet(sheet, said)] if sheet else []), files],
            id="mistakes",
        )
    ]  # fmt: skip


def note(row: Mapping[str, Any]) -> str:
    return f"is {row['true']} ({row['of_true']:.0%}), {Path(row['file']).name}"


def thumbs(paths: Sequence[Path]) -> list[tuple[int, bytes]]:
    """(place, JPEG) of each file that can be read."""
    from PIL import Image

    pixels, good, _ = pictures.read(paths, THUMB)
    found = []
    for place, one in zip(good, pixels, strict=True):
        file = io.BytesIO()
        Image.fromarray(one.transpose(1, 2, 0)).save(file, "JPEG", quality=82)
        found.append((place, file.getvalue()))
    return found


def skipped_section(facts: Mapping[str, Any]) -> list[Block]:
    skipped = facts.get("skipped") or []
    if not skipped:
        return []
    table = Table(["file", "why"], [[one["path"], one["reason"]] for one in skipped])
    return [Section(f"Left out: {len(skipped)} files", [Fold("the files", [table])], id="skipped")]


def told(facts: Mapping[str, Any]) -> dict[str, str]:
    words = {
        "images are prepared": "prepared", "classes": "weighing", "what stood still": "stood_still", "the head": "head_chosen",
        "batch normalization": "norms", "rate of what is new": "rate", "it ended": "ended",
    }  # fmt: skip
    return {title: str(facts[key]) for title, key in words.items() if facts.get(key)}
