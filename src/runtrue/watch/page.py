"""The page of a record: verdicts first, with their evidence; then the curves, the layers, and what came up beside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from runtrue.report.blocks import Block, Chart, Facts, Fold, Prose, Section, Stat, Stats, Table, Tag, Tone
from runtrue.report.numbers import count, label, one_line
from runtrue.report.page import render_page
from runtrue.report.theme import Spec
from runtrue.watch import layer_maps, run_charts
from runtrue.watch.record import Reading, Record, Stretch

MAPS = (
    ("std", "standard deviation of the outputs", False),
    ("zero_fraction", "share of zeros in the outputs", True),
    ("dead_fraction", "share of dead units", True),
    ("saturated_fraction", "share of saturated outputs", True),
    ("signal_rms", "gradient at the outputs (root mean square)", False),
    ("grad_norm", "norm of the gradient", False),
    ("weight_norm", "norm of the weights", False),
    ("update_ratio", "relative change in a step", False),
)
MOST_HISTOGRAMS = 24
MOST_EVIDENCE = 20  # rows of a table of evidence
MOST_EVENTS = 100
MOST_TOLD = 5  # verdicts with a section of their own
QUIET = 60.0  # seconds without a word after which a run that was not closed no longer counts as going on
LAYERS = "Layers over time"
GRADES = ("fault", "warning", "note")


@dataclass(frozen=True)
class Content:
    """What the page of a run shows, on disk and by `runtrue serve` alike."""

    title: str
    subtitle: str
    tone: Tone
    said: str
    detail: str
    blocks: list[Block]


def page(record: Record, name: str) -> str:
    found = content(record, name)
    return render_page(
        found.title,
        subtitle=found.subtitle,
        status=found.tone,
        status_text=found.said,
        status_detail=found.detail,
        blocks=found.blocks,
    )


def content(record: Record, name: str) -> Content:
    steps, verdicts, meta = record.steps(), in_order(record.verdicts()), record.meta
    tone, said, detail = headline(steps, verdicts)
    blocks = body(record, steps, verdicts, meta)
    return Content(name, described(meta), tone, said, detail, blocks)


def grade(told: Mapping[str, Any]) -> str:
    return str(told.get("severity")) if told.get("severity") in GRADES else "note"


def in_order(verdicts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Faults first; within a grade as they arose."""
    return sorted(verdicts, key=lambda one: GRADES.index(grade(one)))


def headline(steps: Sequence[Stretch], verdicts: Sequence[Mapping[str, Any]]) -> tuple[Tone, str, str]:
    """How the run stands in one line, and the reason."""
    by_grade = {kind: [one for one in verdicts if grade(one) == kind] for kind in GRADES}
    faults, warnings = by_grade["fault"], by_grade["warning"]
    if not steps and not verdicts:
        return "neutral", "Nothing is recorded yet", "The first numbers come a second after the first step."
    if faults:
        more = f", and {count(len(faults) - 1, 'more fault')}" if len(faults) > 1 else ""
        return "bad", f"{faults[0]['cause']} at step {faults[0]['step']:,}{more}", ""
    if warnings:
        return "neutral", f"No fault so far, {count(len(warnings), 'warning')}", ""
    return "good", "No fault so far", ""


def described(meta: Mapping[str, Any]) -> str:
    size = meta.get("parameters")
    told = [str(meta.get("model", "a model")), f"{size:,} parameters" if isinstance(size, int) else ""]
    started = f"started {at(meta['started'])}" if isinstance(meta.get("started"), (int, float)) else ""
    return ", ".join(part for part in (*told, started) if part)


def at(moment: float) -> str:
    """The local time, to the minute."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return "at an unknown time"


def state(meta: Mapping[str, Any], written: float, now: float) -> str:
    """`ended`, `going on`, or since when nothing came. written, now: seconds since the epoch, as files have them."""
    if "ended" in meta:
        return "ended"
    silent = now - written
    return "going on" if silent < QUIET else f"silent for {duration(silent)}, and was not closed"


def duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def body(
    record: Record, steps: Sequence[Stretch], verdicts: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> list[Block]:
    epochs, facts = record.epochs(), Section("Run", [Facts(run_facts(record, meta))], id="run")
    if not steps:
        return [*judged(verdicts), facts]
    readings = list(record.readings(most=layer_maps.MOST_COLUMNS))
    found: list[Block] = [numbers(record, steps, epochs), *judged(verdicts)]
    found.append(Section("Curves", curves(record, steps, epochs, verdicts), id="curves"))
    if maps := layer_figures(readings, steps[-1].last):
        found.append(Section(LAYERS, maps, id="layers"))
    if shapes := histograms(record, readings, steps[-1].last):
        found.append(Section("Outputs of the layers", shapes, id="outputs"))
    if events := record.events():
        told = [[step, kind, text] for step, kind, text in events[-MOST_EVENTS:]]
        found.append(Section("Events", [Table(["step", "what", "told"], told)], id="events"))
    return [*found, facts]


def numbers(record: Record, steps: Sequence[Stretch], epochs: Sequence[Mapping[str, Any]]) -> Stats:
    done = steps[-1].last + 1
    loss = last_loss(steps)
    stats = [Stat("steps", f"{done:,}"), Stat("loss now", "none" if loss is None else f"{loss:.4g}")]
    for key in ("val_accuracy", "train_accuracy"):
        last = run_charts.last_told(epochs, key)
        if last is not None:
            name = "validation accuracy" if key.startswith("val") else "training accuracy"
            stats.append(Stat(name, f"{last:.2%}" if 0 <= last <= 1 else f"{last:.4g}"))
    return Stats(
        [*stats, Stat("ms a step", f"{step_ms(steps):.3g}"), Stat("took", duration(sum(p.seconds for p in steps)))]
    )


def last_loss(steps: Sequence[Stretch]) -> float | None:
    return next((part.mean for part in reversed(steps) if part.mean is not None), None)


def step_ms(steps: Sequence[Stretch]) -> float:
    """The usual one: validation and pauses between two steps are not counted."""
    return median(1e3 * part.seconds / (part.last - part.first + 1) for part in steps)


# Verdicts


def judged(verdicts: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The first faults and warnings in sections of their own, the others and all notes behind them in folds."""
    heavy = [one for one in verdicts if grade(one) != "note"]
    told: list[Block] = [verdict(one, place) for place, one in enumerate(heavy[:MOST_TOLD], 1)]
    for some, kind in ((heavy[MOST_TOLD:], "more verdict"), ([v for v in verdicts if grade(v) == "note"], "note")):
        if some:
            rows = [[one["step"], one["cause"], one["where"], one["message"]] for one in some]
            told.append(Fold(count(len(some), kind), [Table(["step", "what", "where", "told"], rows)]))
    return told


def verdict(one: Mapping[str, Any], place: int) -> Section:
    tone: Tone = "bad" if grade(one) == "fault" else "neutral"
    told = one.get("evidence") or {}
    said: list[Block] = [Prose(sentence(str(one["message"])))]
    if told:
        said.append(Fold("Evidence", evidence(told)))
    where = one_line(str(one.get("where", "")))
    return Section(
        str(one["cause"]), said, id=f"verdict-{place}", kicker=f"Step {one['step']:,} · {where}",
        tags=[Tag(grade(one), tone)], tone=tone,
    )  # fmt: skip


def sentence(message: str) -> str:
    """With a capital letter, where it does not begin with a name."""
    plain_word = message.partition(" ")[0].isalpha()
    return f"{message[:1].upper()}{message[1:]}" if plain_word else message


def evidence(told: Mapping[str, Any]) -> list[Block]:
    """Numbers, one under the other; what was read of several layers as a table."""
    tables: list[Block] = []
    plain: dict[str, Any] = {}
    for key, value in told.items():
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            heads = list(dict.fromkeys(name for row in value for name in row))
            rows = [[row.get(name) for name in heads] for row in value[:MOST_EVIDENCE]]
            more = f"the first {MOST_EVIDENCE} of {len(value)}" if len(value) > MOST_EVIDENCE else ""
            tables.append(Table([label(name) for name in heads], rows, more))
        elif value not in ("", None, []):
            plain[label(key)] = value
    return [*([Facts(plain)] if plain else []), *tables]


# Curves


def curves(
    record: Record, steps: Sequence[Stretch], epochs: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]
) -> list[Block]:
    found: list[Block] = []
    first, last = (next((p.mean for p in side if p.mean is not None), None) for side in (steps, reversed(steps)))
    if first is None or last is None:
        found.append(Prose("No step had a loss that is a number. `watching.step(loss)` tells it."))
    else:
        marks = [one for one in verdicts if grade(one) != "note"]
        alt = f"The loss from {first:.4g} to {last:.4g} over {steps[-1].last + 1:,} steps."
        lost = sum(part.lost for part in steps)
        bar = f" The red bar along the top marks {lost:,} losses that were no numbers." if lost else ""
        caption = f"Loss by step: its mean, over the band from the lowest to the highest (N3.2).{bar}"
        found.append(Chart(run_charts.loss_band(steps, marks), caption, alt, "loss"))
    for what in ("accuracy", "loss"):
        spec = run_charts.by_epoch(epochs, what)
        if spec is not None:
            found.append(
                Chart(
                    spec,
                    epoch_caption(what, epochs),
                    f"{what} on both sets in {len(epochs)} epochs",
                    f"{what}-by-epoch",
                )
            )
    if changes := record.rates():
        rates = run_charts.rates(changes, steps[-1].last)
        found.append(Chart(rates, rates_caption(rates, changes), "learning rates by step", "rates"))
    alt = f"time of a step, {step_ms(steps):.3g} ms as a rule"
    found.append(
        Chart(
            run_charts.seconds(steps),
            f"Time of a step; more than {run_charts.LONG:g} times the usual is cut off.",
            alt,
            "time",
        )
    )
    return found


def epoch_caption(what: str, epochs: Sequence[Mapping[str, Any]]) -> str:
    both = [row for row in epochs if all(run_charts.finite(row.get(f"{side}_{what}")) for side in ("train", "val"))]
    said = f"{what.capitalize()} by epoch."
    if both and what == "accuracy":
        gap = both[-1]["train_accuracy"] - both[-1]["val_accuracy"]
        by = f"{round(gap, 3) + 0.0:+.1%}" if abs(gap) <= 1 else f"{gap:+.3g}"
        said = f"Accuracy by epoch; grey, the gap between training and validation (N3.3), {by} now."
    return said


def rates_caption(spec: Spec, changes: Mapping[int, Any]) -> str:
    shown = len(spec["encoding"]["color"]["scale"]["domain"])
    left = "; groups with the same rates are one line" if shown < len(changes) and len(changes) > 1 else ""
    return f"Learning rate of {'each parameter group' if len(changes) > 1 else 'the optimizer'}{left}."


# Layers


def layer_section(record: Record) -> Section | None:
    """The maps alone, for the page of `runtrue train`; None if no layer was read."""
    steps, readings = record.steps(), list(record.readings(most=layer_maps.MOST_COLUMNS))
    maps = layer_figures(readings, steps[-1].last if steps else 0)
    return Section(LAYERS, maps, id="layers") if maps else None


def layer_figures(readings: Sequence[Reading], last: int) -> list[Block]:
    if not readings:
        return []
    told = [f"Read at {count(len(readings), 'step')}, {read_gap([one.step for one in readings])}."]
    found: list[Block] = []
    none: list[str] = []
    for what, title, share in MAPS:
        spec = layer_maps.layer_map(readings, what, title, last, share=share)
        if spec is None:
            continue
        rows = spec["datasets"]["rows"]
        if share and not any(x for row in rows for x in row["value"]):
            none.append(title)
            continue
        caption = f"{title[0].upper()}{title[1:]}, layer by layer, over the steps.{oddities(rows, share)}"
        found.append(Chart(spec, caption, f"a map of the {title} of {count(len(rows), 'layer')}", what))
    if none:
        told.append(f"0 throughout: the {', the '.join(none)}.")
    return [Prose(" ".join(told)), *found] if found or none else []


def read_gap(steps: Sequence[int]) -> str:
    if len(steps) < 2:
        return f"at step {steps[0]:,}"
    return f"the last at step {steps[-1]:,}, as a rule {median(b - a for a, b in pairwise(steps)):,.0f} apart"


def oddities(rows: Sequence[Mapping[str, Any]], share: bool) -> str:
    """What the colours outside of the scale mean, where there are any."""
    values = {x for row in rows for x in row["value"]}
    zero = " Grey: exactly 0." if not share and layer_maps.NOTHING in values else ""
    return zero + (" Red: not a finite number." if layer_maps.LOST in values else "")


def histograms(record: Record, readings: Sequence[Reading], last: int) -> list[Block]:
    """Over the layers, early and now, and over the steps."""
    order = dict.fromkeys(name for read in readings for name, what in read.numbers if what == "std")
    by_layer = layer_maps.in_order(record.histograms(), order)
    steps = sorted({one.step for found in by_layer.values() for one in found})
    found: list[Block] = []
    if (spec := layer_maps.over_time(by_layer, last)) is not None:
        caption = "Outputs of each layer (up) over the steps (across): the brighter, the more of them have this value."
        alt = f"histograms of the outputs of {count(len(by_layer), 'layer')} over the steps"
        found.append(Chart(spec, caption, alt, "over-time"))
    for step, when in (*((steps[-1], "now") for _ in steps[:1]), *((steps[0], "early") for _ in steps[1:2])):
        spec = layer_maps.over_depth(by_layer, step, MOST_HISTOGRAMS)
        if spec is not None:
            alt = f"histograms of the outputs at step {step:,}"
            chart = Chart(spec, f"Outputs of the layers at step {step:,}.", alt, f"over-depth-{when}")
            found.append(chart if when == "now" else Fold(f"The same at step {step:,}", [chart]))
    return found


def run_facts(record: Record, meta: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "model": meta.get("model"), "parameters": meta.get("parameters"), "torch": meta.get("torch"),
        "compiled": meta.get("compiled"), "record": str(record.path),
    }  # fmt: skip
    times = {key: at(meta[key]) for key in ("started", "ended") if isinstance(meta.get(key), (int, float))}
    known = {key: value for key, value in told.items() if value is not None} | times
    return known | ({} if "ended" in meta else {"ended": "not yet, or the run was cut off"})
