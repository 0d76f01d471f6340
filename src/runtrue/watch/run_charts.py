"""Figures of a record: the loss with its band, accuracies with their gap, rates, times, and several runs in one figure.

Data stand beside the figure, under a name (`datasets`): the page of a run that goes on exchanges them and keeps the figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import median
from typing import Any

from runtrue.report.theme import BLUE, GREY, LOG_ABOVE, NUMBERS, ORANGE, RED, Spec
from runtrue.watch.record import Stretch, thinned

MOST_POINTS = 600  # stretches in a figure: more than a screen has room for
MOST_COMPARED = 150  # stretches of each of several runs: noise of single steps would hide one run behind the other
MOST_RATES = 6  # groups of parameters with rates of their own in one figure
MOST_MARKS = 12  # verdicts marked in one figure
NAMED = 320  # pixels of width from which on they are named in the figure
LINES, ROOM = 3, 0.5  # lines of their names, and the share of the figure that a name needs
LONG = 5.0  # times the usual step, above which a step is cut off in the figure of times
NARROW = 0.05  # the least range of an axis of accuracies
CEILING = 3.0
FLAT = 0.1
"""The least range of an axis of losses, as a share of its values: a loss that only trembles should look flat."""
COLOURS = (BLUE, ORANGE, "#3b9c6d", "#a06cd5", RED, GREY, "#b8901c", "#2aa3a3", "#d16ba5", "#8c6d4f")
DASHES = ([1, 0], [6, 3], [2, 2])
STEPS = "datum.value < 10000 ? format(datum.value, ',') : format(datum.value, '~s')"
"""How an axis of steps writes its numbers: 2,500 and 25k."""
LEADING = "(!(datum.value > 0) || indexof([1, 2, 5], round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))) >= 0)"
LOG_NUMBERS: Spec = {
    "labelExpr": f"{LEADING} ? ({NUMBERS['labelExpr']}) : ''",
    "gridOpacity": {"condition": {"test": LEADING, "value": 1}, "value": 0},
    "labelOverlap": True,
}
"""How a logarithmic axis does: 1, 2, 5 of each power of ten, and a line for these alone."""
SETS = {"validation": BLUE, "training": ORANGE}
MARKS = {"fault": RED, "warning": ORANGE, "note": GREY}


def fewer(parts: Sequence[Stretch], most: int = MOST_POINTS) -> list[Stretch]:
    """The same curve in at most so many stretches."""
    if len(parts) <= most:
        return list(parts)
    return list(thinned(parts, math.ceil((parts[-1].last - parts[0].first + 1) / most)))


def middle(part: Stretch) -> float:
    return (part.first + part.last) / 2


def figure(height: int, datasets: Mapping[str, Sequence[Spec]], **rest: Any) -> Spec:
    """A figure whose data can be exchanged while it is looked at. Layers without data are left out: Vega warns of them."""
    filled = {name: list(rows) for name, rows in datasets.items() if rows}
    if "layer" in rest:
        rest["layer"] = [one for one in rest["layer"] if one.get("data", {}).get("name") in (None, *filled)]
    return {"height": height, "datasets": filled, **rest}


def step_axis(field: str = "step") -> Spec:
    scale = {"nice": False, "zero": False}
    axis = {
        "labelExpr": STEPS,
        "grid": False,
        "tickMinStep": 1,
        "tickCount": 8,
        "labelOverlap": True,
        "labelSeparation": 8,
    }
    return {"field": field, "type": "quantitative", "title": "step", "axis": axis, "scale": scale}


def told(title: str, field: str, form: str = ".5~g") -> Spec:
    """A line of a tooltip."""
    return {"field": field, "type": "quantitative", "title": title, "format": form}


# The loss


def loss_band(parts: Sequence[Stretch], marks: Sequence[Mapping[str, Any]] = ()) -> Spec:
    """Mean of the loss, over the band from the lowest to the highest of each stretch (N3.2); a rule where a verdict arose, and
    a bar along the top where losses were no numbers."""
    parts = fewer(parts)
    rows, log = loss_rows(parts)
    axis = LOG_NUMBERS if log else NUMBERS
    y = {"type": "quantitative", "title": "loss", "axis": axis, "scale": loss_scale(log)}
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    tips = [told("step", "step", ".6~g"), told("loss", "loss"), told("lowest", "low"), told("highest", "high")]
    layers: list[Spec] = [
        {"data": {"name": "frame"}, "mark": {"type": "point", "opacity": 0}, "encoding": {"y": {**y, "field": "loss"}}},
        {"data": {"name": "rows"}, "mark": {"type": "area", "color": BLUE, "opacity": 0.22}, "encoding": band},
        {
            "data": {"name": "rows"},
            "mark": {"type": "line", "color": BLUE, "strokeWidth": 2, "strokeJoin": "round", "point": len(rows) < 3},
            "encoding": {"y": {**y, "field": "loss"}},
        },
        {
            "data": {"name": "rows"},
            "mark": {"type": "rule", "opacity": 0, "strokeWidth": 4},
            "encoding": {"tooltip": tips},
        },
        lost_bar(),
        *mark_layers(),
    ]
    span = parts[-1].last - parts[0].first + 1 if parts else 1
    datasets = {
        "frame": frame(parts, rows, log),
        "rows": rows,
        "lost": lost_rows(parts),
        "marks": mark_rows(marks, span),
    }
    return figure(270, datasets, encoding={"x": step_axis()}, layer=layers)


def loss_rows(parts: Sequence[Stretch]) -> tuple[list[Spec], bool]:
    """A row a stretch that has a loss, and whether the axis is logarithmic. What lies far below all means is cut off then."""
    known = [p for p in parts if p.mean is not None and p.low is not None and p.high is not None]
    least = min((p.mean for p in known if p.mean is not None), default=0.0)
    log = least > 0 and max(p.high for p in known if p.high is not None) > LOG_ABOVE * least
    floor = least / 3 if log else -math.inf
    rows: list[Spec] = [
        {"step": middle(p), "loss": p.mean, "low": max(floor, p.low if p.low is not None else floor), "high": p.high}
        for p in known
    ]
    return rows, log


def loss_scale(log: bool) -> Spec:
    return {"type": "log", "nice": False} if log else {"zero": False, "nice": True}


def frame(parts: Sequence[Stretch], rows: Sequence[Spec], log: bool) -> list[Spec]:
    """Corners of the figure that no curve reaches: all steps, and a range that lets noise look like noise."""
    if not parts:
        return []
    low = min((row["low"] for row in rows), default=0.0)
    high = max((row["high"] for row in rows), default=1.0)
    missing = 0.0 if log else max(0.0, FLAT * max(abs(low), abs(high)) - (high - low)) / 2
    first, last = parts[0].first, max(parts[-1].last, parts[0].first + 1)
    return [{"step": first, "loss": low - missing}, {"step": last, "loss": high + missing}]


def lost_rows(parts: Sequence[Stretch]) -> list[Spec]:
    """Neighbouring stretches with losses that were no numbers, as one row."""
    rows: list[Spec] = []
    open_until: int | None = None
    for part in parts:
        if not part.lost:
            continue
        if rows and open_until == part.first:
            rows[-1] |= {"until": part.last + 1, "lost": rows[-1]["lost"] + part.lost}
        else:
            rows.append({"step": part.first, "until": part.last + 1, "lost": part.lost})
        open_until = part.last + 1
    return rows


def lost_bar() -> Spec:
    tips = [told("losses that were no numbers", "lost", ","), told("from step", "step", ",")]
    mark = {"type": "rule", "color": RED, "strokeWidth": 7, "strokeCap": "butt"}
    return {
        "data": {"name": "lost"},
        "mark": mark,
        "encoding": {"x2": {"field": "until"}, "y": {"value": 3}, "tooltip": tips},
    }


def mark_rows(marks: Sequence[Mapping[str, Any]], span: float) -> list[Spec]:
    """One a step at which verdicts arose. Names that have no room are left to the tooltips. span: steps in the figure."""
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for one in marks:
        by_step.setdefault(one["step"], []).append(one)
    rows: list[Spec] = []
    ends = [-math.inf] * LINES
    for step, found in sorted(by_step.items())[:MOST_MARKS]:
        causes = list(dict.fromkeys(str(one["cause"]) for one in found))
        more = f" +{len(causes) - 1}" if len(causes) > 1 else ""
        line = next((i for i, end in enumerate(ends) if step >= end), None)
        if line is not None:
            ends[line] = step + ROOM * span
        worst = next((grade for grade in MARKS if any(one["severity"] == grade for one in found)), "note")
        name = {"cause": f"{causes[0]}{more}", "causes": ", ".join(causes)}
        rows.append({"step": step, **name, "line": LINES if line is None else line, "grade": worst})
    return rows


def mark_layers() -> list[Spec]:
    """Rules, and the names beside them: to the left of a rule in the right part of the figure."""
    scale = {"domain": list(MARKS), "range": list(MARKS.values())}
    colour = {"field": "grade", "type": "nominal", "scale": scale, "legend": None}
    tips = [{"field": "causes", "title": "verdict"}, told("step", "step", ",")]
    rule = {"type": "rule", "strokeWidth": 1.5, "strokeDash": [4, 3]}
    upright = {"color": colour, "tooltip": tips, "y": {"value": 0}, "y2": {"value": "height"}}
    layers: list[Spec] = [{"data": {"name": "marks"}, "mark": rule, "encoding": upright}]
    text = {"type": "text", "baseline": "top", "fontWeight": 600, "clip": True}
    right = "scale('x', datum.step) > width * 0.55"
    for line in range(LINES):
        for side, test in (("right", right), ("left", f"!({right})")):
            room = f"width > {NAMED} && datum.line == {line} && {test}"
            layers.append({
                "data": {"name": "marks"},
                "mark": {**text, "align": side, "dx": -5 if side == "right" else 5},
                "encoding": {
                    "text": {"condition": {"test": room, "field": "cause"}, "value": ""},
                    "y": {"value": 10 + 16 * line},
                    "color": colour,
                },
            })  # fmt: skip
    return layers


# Epochs


def by_epoch(epochs: Sequence[Mapping[str, Any]], what: str) -> Spec | None:
    """Training and validation, of "accuracy" or "loss", and the gap between them (N3.3); None if neither was told."""
    names = {"training": f"train_{what}", "validation": f"val_{what}"}
    rows: list[Spec] = [
        {"epoch": row["epoch"] + 1, "value": row[key], "set": name}
        for row in epochs
        for name, key in names.items()
        if finite(row.get(key))
    ]
    if not rows:
        return None
    gaps: list[Spec] = [
        {"epoch": row["epoch"] + 1, "low": row[names["validation"]], "high": row[names["training"]]}
        for row in epochs
        if all(finite(row.get(key)) for key in names.values())
    ]
    share = what == "accuracy" and all(0 <= row["value"] <= 1 for row in rows)
    axis = {"format": "~%", "tickCount": 5} if share else NUMBERS
    y = {"type": "quantitative", "title": what, "axis": axis, "scale": {"zero": False}}
    form = ".2%" if share else ".5~g"
    there = {name: colour for name, colour in SETS.items() if any(row["set"] == name for row in rows)}
    colours = {"domain": list(there), "range": list(there.values())}
    tips = [{"field": "set"}, told("epoch", "epoch", ","), told(what, "value", form)]
    points = {"type": "line", "strokeWidth": 2.25, "point": {"size": 30, "filled": True}}
    layers: list[Spec] = [
        {
            "data": {"name": "gaps"},
            "mark": {"type": "area", "color": GREY, "opacity": 0.16},
            "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
        },
        {
            "data": {"name": "rows"},
            "mark": points,
            "encoding": {
                "y": {**y, "field": "value"},
                "color": {"field": "set", "type": "nominal", "scale": colours, "title": None},
                "tooltip": tips,
            },
        },
    ]
    low, high = (end(row["value"] for row in rows) for end in (min, max))
    missing = max(0.0, (NARROW if share else FLAT * max(abs(low), abs(high))) - (high - low)) / 2
    corners = [
        {"epoch": rows[0]["epoch"], "value": low - missing},
        {"epoch": rows[0]["epoch"], "value": high + missing},
    ]
    unseen = {
        "data": {"name": "frame"},
        "mark": {"type": "point", "opacity": 0},
        "encoding": {"y": {**y, "field": "value"}},
    }
    datasets = {"frame": corners, "gaps": gaps, "rows": rows}
    return figure(220, datasets, encoding={"x": epoch_axis()}, layer=[unseen, *layers])


def epoch_axis() -> Spec:
    only_whole = "datum.value % 1 ? '' : format(datum.value, 'd')"  # a tick may fall between two of few epochs
    whole = {"tickMinStep": 1, "labelExpr": only_whole, "grid": False, "tickCount": 10}
    scale = {"nice": False, "zero": False}
    return {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": whole, "scale": scale}


def last_told(epochs: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """What the last epoch that told it had, if it is a number."""
    return next((row[key] for row in reversed(epochs) if finite(row.get(key))), None)


def finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


# Rates and times


def rates(found: Mapping[int, Sequence[tuple[int, float]]], last: int) -> Spec:
    """Learning rates of the parameter groups; a rate holds until it changes. Groups that always have the same are one line."""
    alike: dict[tuple[tuple[int, float], ...], list[int]] = {}
    for part, changes in sorted(found.items()):
        alike.setdefault(tuple(map(tuple, changes)), []).append(part)  # type: ignore[arg-type]
    named = {grouped(parts, len(found)): changes for changes, parts in list(alike.items())[:MOST_RATES]}
    rows = [
        {"step": step, "value": rate, "name": name}
        for name, changes in named.items()
        for step, rate in [*spread_out(changes), (max(last, changes[-1][0]), changes[-1][1])]
        if math.isfinite(rate)
    ]
    spec = lines(rows, "learning rate", list(named), height=140)
    return {**spec, "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2}}


def spread_out(changes: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return list(changes[:: math.ceil(len(changes) / MOST_POINTS)])


def grouped(parts: Sequence[int], of: int) -> str:
    """`all groups`, `group 2`, `groups 0 to 3`, `groups 0, 2, 5 and 4 more`."""
    if len(parts) == of:
        return "all groups" if of > 1 else "learning rate"
    if len(parts) == 1:
        return f"group {parts[0]}"
    if all(b - a == 1 for a, b in pairwise(parts)):
        return f"groups {parts[0]} to {parts[-1]}"
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return f"groups {', '.join(map(str, parts[:3]))}{more}"


def seconds(parts: Sequence[Stretch]) -> Spec:
    """Time of a step over the run. What took far longer than usual is cut off: a validation between two steps, a compilation."""
    parts = fewer(parts)
    times = [1e3 * p.seconds / (p.last - p.first + 1) for p in parts]
    most = LONG * median(times) or math.inf
    rows: list[Spec] = [{"step": middle(p), "ms": ms, "drawn": min(ms, most)} for p, ms in zip(parts, times)]
    y = {
        "field": "drawn",
        "type": "quantitative",
        "title": "ms a step",
        "axis": NUMBERS,
        "scale": {"zero": True, "nice": True},
    }
    encoding = {"x": step_axis(), "y": y, "tooltip": [told("step", "step", ".6~g"), told("ms", "ms", ".3~g")]}
    mark = {"type": "line", "color": GREY, "strokeWidth": 1.5, "point": len(rows) < 3}
    return figure(130, {"rows": rows}, data={"name": "rows"}, mark=mark, encoding=encoding)


# Several runs


def lines(
    rows: Sequence[Spec], title: str, names: Sequence[str], *, x: Spec | None = None, log: bool = False, height: int = 250,
    form: str = ".5~g", share: bool = False,
) -> Spec:  # fmt: skip
    """A line a name. Rows: "value", "name", and the field of the axis."""
    across = x or step_axis()
    scale: Spec = {"type": "log", "nice": False} if log else {"zero": False, "nice": True}
    axis: Spec = {"format": "~%", "tickCount": 5} if share else LOG_NUMBERS if log else NUMBERS
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    dashes = [DASHES[i // len(COLOURS) % len(DASHES)] for i in range(len(names))]
    legend = {"labelLimit": 260} if len(names) > 1 else None
    by = {"field": "name", "type": "nominal", "title": None, "legend": legend}
    tips = [
        {"field": "name", "title": "of"},
        told(across["title"], across["field"], ".6~g"),
        told(title, "value", form),
    ]
    encoding = {
        "x": across,
        "y": {"field": "value", "type": "quantitative", "title": title, "scale": scale, "axis": axis},
        "color": {**by, "scale": {"domain": list(names), "range": colours}},
        "strokeDash": {**by, "scale": {"domain": list(names), "range": dashes}},
        "tooltip": tips,
    }
    few = len(rows) < 40 * max(1, len(names))
    mark = {"type": "line", "strokeWidth": 2, "strokeJoin": "round", "point": few and across["field"] == "epoch"}
    return figure(height, {"rows": rows}, data={"name": "rows"}, mark=mark, encoding=encoding)


def losses_of(runs: Mapping[str, Sequence[Stretch]]) -> Spec:
    """Mean losses of several runs, by step."""
    most = ceiling(runs)
    rows: list[Spec] = [
        {"step": middle(p), "value": min(most, p.mean), "name": name}
        for name, parts in runs.items()
        for p in fewer(parts, MOST_COMPARED)
        if p.mean is not None
    ]
    return lines(rows, "loss", list(runs), log=spans([row["value"] for row in rows]))


def losses_by_time(runs: Mapping[str, Sequence[Stretch]]) -> Spec:
    """The same by the seconds, minutes or hours that the training had taken."""
    most = ceiling(runs)
    longest = max(sum(p.seconds for p in parts) for parts in runs.values())
    unit, size = next((one for one in UNITS if longest > 2 * one[1]), UNITS[-1])
    rows: list[Spec] = []
    for name, parts in runs.items():
        kept = fewer(parts, MOST_COMPARED)
        times = accumulate(p.seconds / size for p in kept)
        rows += [
            {"time": time, "value": min(most, p.mean), "name": name}
            for p, time in zip(kept, times)
            if p.mean is not None
        ]
    x = {**step_axis("time"), "title": unit, "axis": {"grid": False, "format": "~g", "tickCount": 8}}
    return lines(rows, "loss", list(runs), x=x, log=spans([row["value"] for row in rows]))


UNITS = (("hours", 3600), ("minutes", 60), ("seconds", 1))


def ceiling(runs: Mapping[str, Sequence[Stretch]]) -> float:
    """A run that diverges must not press the others flat: its loss is cut off at some times the largest first loss."""
    first = [next((p.mean for p in parts if p.mean is not None), 0.0) for parts in runs.values()]
    return CEILING * max(first) if max(first) > 0 else math.inf


def is_cut(runs: Mapping[str, Sequence[Stretch]]) -> bool:
    most = ceiling(runs)
    return any(p.mean is not None and p.mean > most for parts in runs.values() for p in parts)


def spans(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) > LOG_ABOVE * min(values)


def epochs_of(runs: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> Spec | None:
    """One number of the epochs of several runs; None if none has it."""
    rows: list[Spec] = [
        {"epoch": row["epoch"] + 1, "value": row[key], "name": name}
        for name, epochs in runs.items()
        for row in epochs
        if finite(row.get(key))
    ]
    if not rows:
        return None
    share = key.endswith("accuracy") and all(0 <= row["value"] <= 1 for row in rows)
    form = ".2%" if share else ".5~g"
    return lines(rows, key.replace("_", " "), list(runs), x=epoch_axis(), height=220, form=form, share=share)


def rates_of(runs: Mapping[str, Mapping[int, Sequence[tuple[int, float]]]], last: Mapping[str, int]) -> Spec | None:
    """Learning rate of the first group of several runs."""
    rows: list[Spec] = []
    for name, found in runs.items():
        for changes in list(found.values())[:1]:
            ends = [*spread_out(changes), (max(last[name], changes[-1][0]), changes[-1][1])]
            rows += [{"step": step, "value": rate, "name": name} for step, rate in ends if math.isfinite(rate)]
    if not rows:
        return None
    spec = lines(rows, "learning rate", list(runs), height=140)
    return {**spec, "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2}}
