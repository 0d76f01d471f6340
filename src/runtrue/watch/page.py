"""The page of a record, and of several beside each other: verdicts first, then the curves, then the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtrue.report.blocks import Block, Chart, Facts, Fold, Prose, Section, Stat, Stats, Table, Tag, Tone
from runtrue.report.layer_charts import histograms_by_layer
from runtrue.report.page import render_page
from runtrue.watch import run_charts
from runtrue.watch.record import Histogram, Reading, Record, Stretch

MAPS = (
    ("std", "standard deviation of the outputs", False),
    ("dead_fraction", "share of dead units", True),
    ("saturated_fraction", "share of saturated outputs", True),
    ("signal_rms", "gradient at the outputs (root mean square)", False),
    ("grad_norm", "norm of the gradient", False),
    ("weight_norm", "norm of the weights", False),
    ("update_ratio", "relative change in a step", False),
)
MOST_HISTOGRAMS = 24


def page(record: Record, name: str) -> str:
    steps, verdicts = record.steps(), record.verdicts()
    faults = [one for one in verdicts if one["severity"] == "fault"]
    last = steps[-1].last + 1 if steps else 0
    status: Tone = "bad" if faults else "good" if last else "neutral"
    said = f"{faults[0]['cause']} at step {faults[0]['step']}" if faults else f"no fault in {last:,} steps"
    return render_page(
        name,
        subtitle=described(record.meta),
        status=status,
        status_text=said,
        status_detail=faults[0]["message"] if faults else "",
        blocks=blocks(record, steps, verdicts),
    )


def described(meta: Mapping[str, Any]) -> str:
    return f"{meta.get('model', 'a model')}, {meta.get('parameters', 0):,} parameters, torch {meta.get('torch', '?')}"


def blocks(record: Record, steps: Sequence[Stretch], verdicts: Sequence[Mapping[str, Any]]) -> list[Block]:
    if not steps:
        return [Prose("Nothing is recorded yet: the first numbers come a second after the first step.")]
    readings, epochs = list(record.readings()), record.epochs()
    found: list[Block] = [numbers(steps, epochs, len(readings)), *map(verdict, verdicts)]
    found.append(Section("Curves", list(curves(record, steps, epochs, verdicts)), id="curves"))
    if maps := list(layer_maps(readings)):
        found.append(Section("Layers over time", maps, id="layers"))
    if shapes := histograms(record.histograms()):
        found.append(Section("Outputs of the layers", shapes, id="histograms"))
    told = [[step, kind, text] for step, kind, text in record.events()]
    if told:
        found.append(Section("Events", [Table(["step", "what", "told"], told)], id="events"))
    return found


def numbers(steps: Sequence[Stretch], epochs: Sequence[Mapping[str, Any]], readings: int) -> Stats:
    done = sum(part.last - part.first + 1 for part in steps)
    last = next((part.mean for part in reversed(steps) if part.mean is not None), None)
    stats = [Stat("steps", f"{done:,}"), Stat("loss now", "none" if last is None else f"{last:.4g}")]
    accuracy = next((row["val_accuracy"] for row in reversed(epochs) if "val_accuracy" in row), None)
    stats += [Stat("validation accuracy", f"{accuracy:.2%}")] if isinstance(accuracy, float) else []
    return Stats(
        [
            *stats,
            Stat("ms a step", f"{1e3 * sum(p.seconds for p in steps) / max(1, done):.3g}"),
            Stat("readings", readings),
        ]
    )


def verdict(told: Mapping[str, Any]) -> Section:
    tone: Tone = "bad" if told["severity"] == "fault" else "neutral"
    plain = {key: str(value) for key, value in told["evidence"].items() if not isinstance(value, (list, dict))}
    lists: list[Block] = [
        Table(list(rows[0]), [list(row.values()) for row in rows])
        for rows in told["evidence"].values()
        if isinstance(rows, list) and rows and isinstance(rows[0], dict)
    ]
    return Section(
        told["cause"], [Prose(told["message"]), Fold("evidence", [Facts(plain), *lists])],
        kicker=f"step {told['step']:,}, in {told['where']}", tags=[Tag(told["severity"], tone)], tone=tone,
    )  # fmt: skip


def curves(
    record: Record, steps: Sequence[Stretch], epochs: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]
) -> list[Block]:
    marks = [one for one in verdicts if one["severity"] != "note"]
    first, last = (next((p.mean for p in side if p.mean is not None), None) for side in (steps, reversed(steps)))
    found: list[Block] = [
        Chart(
            run_charts.loss_band(steps, marks), "Loss by step: its mean, and the band from the lowest to the highest (N3.2).",
            f"The loss from {first} to {last} over {steps[-1].last + 1} steps.",
        )
    ]  # fmt: skip
    for what in ("accuracy", "loss"):
        spec = run_charts.by_epoch(epochs, what)
        if spec is not None:
            found.append(
                Chart(spec, f"{what.capitalize()} by epoch on both sets (N3.3).", f"{what} of {len(epochs)} epochs")
            )
    if found_rates := record.rates():
        found.append(
            Chart(
                run_charts.rates(found_rates, steps[-1].last),
                "Learning rate of each parameter group.",
                "learning rates",
            )
        )
    found.append(Chart(run_charts.seconds(steps), "Time of a step.", "time of a step"))
    return found


def layer_maps(readings: Sequence[Reading]) -> list[Block]:
    found: list[Block] = []
    for what, title, share in MAPS:
        spec = run_charts.layer_map(readings, what, title, share=share)
        if spec is not None:
            found.append(Chart(spec, f"{title.capitalize()}, layer by layer, over the steps.", f"a map of the {title}"))
    return found


def histograms(found: Sequence[Histogram]) -> list[Block]:
    """The last of each layer, and of one early step to compare with."""
    by_step: dict[int, list[Histogram]] = {}
    for one in found:
        if one.counts:
            by_step.setdefault(one.step, []).append(one)
    if not by_step:
        return []
    shown = sorted({min(by_step), max(by_step)})
    return [
        Chart(
            histograms_by_layer([layer(one) for one in by_step[step][:MOST_HISTOGRAMS]], title="output"),
            f"Outputs of the layers at step {step:,}.", f"histograms of {len(by_step[step])} layers",
        )
        for step in shown
    ]  # fmt: skip


def layer(one: Histogram) -> dict[str, Any]:
    bins = len(one.counts)
    width = (one.high - one.low) or 1.0
    return {"layer": one.layer, "counts": one.counts, "edges": [one.low + width * i / bins for i in range(bins + 1)]}


def comparison(records: Mapping[str, Record]) -> str:
    """Several runs in the same figures, and what each came to."""
    steps = {name: record.steps() for name, record in records.items()}
    epochs = {name: record.epochs() for name, record in records.items()}
    rows = [row(name, record, steps[name], epochs[name]) for name, record in records.items()]
    head = ["run", "model", "parameters", "steps", "last loss", "val accuracy", "ms a step", "verdicts"]
    found: list[Block] = [
        Table(head, rows),
        Chart(run_charts.losses_of(steps), "Mean loss by step.", f"the losses of {len(records)} runs"),
    ]
    for what in ("val_accuracy", "val_loss"):
        points = [
            {"epoch": e["epoch"] + 1, what: e[what], "run": name} for name in epochs for e in epochs[name] if what in e
        ]
        if points:
            spec = run_charts.lines(
                points, what, "run", list(records), scale={"zero": False}, x=run_charts.epoch_axis(), title=what.replace("_", " ")
            )  # fmt: skip
            found.append(Chart(spec, f"{what.replace('val_', 'Validation ')} by epoch.", what))
    return render_page(" and ".join(records), subtitle="runs beside each other", blocks=found)


def row(name: str, record: Record, steps: Sequence[Stretch], epochs: Sequence[Mapping[str, Any]]) -> list[Any]:
    meta = record.meta
    done = sum(part.last - part.first + 1 for part in steps)
    loss = next((part.mean for part in reversed(steps) if part.mean is not None), None)
    accuracy = next((one["val_accuracy"] for one in reversed(epochs) if "val_accuracy" in one), None)
    causes = ", ".join(f"{one['cause']} ({one['severity']})" for one in record.verdicts()) or "none"
    spent = 1e3 * sum(part.seconds for part in steps) / max(1, done)
    return [name, meta.get("model"), meta.get("parameters"), done, loss, accuracy, spent, causes]
