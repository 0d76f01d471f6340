"""A report as the blocks of a page: what was found, how it shows, the cure, and the proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtrue.findings import Finding, Outcome, Remedy
from runtrue.rates import suggest
from runtrue.report import Measured, Report, charts
from runtrue.report.blocks import Block, Chart, Code, Facts, Fold, Prose, Section, Stat, Stats, Table, Tag, Tone
from runtrue.report.numbers import (
    count,
    four_digits,
    is_finite,
    is_number,
    label,
    layer_names,
    one_line,
    reading,
    readings,
    shown,
    telling,
)
from runtrue.report.rate_charts import rate_curves

SAFE = "Nothing that you have is lost."
UNSAFE = "Read it before you paste it: it changes weights or the architecture."
SKILL = (
    "Skill is of the predictions in evaluation mode: 0 like the best constant guess, 1 perfect (right answers, or R²). It can "
    "be compared where the cure changes the loss itself."
)
VANISH = "These vanish with the cure; they need none of their own."
Layers = Sequence[Mapping[str, Any]]


def headline(report: Report) -> tuple[Tone, str, str]:
    """Status, verdict and the line under it, for the banner."""
    cost = f"{report.seconds:.1f} seconds, {count(report.steps, 'training step')}"
    if report.warnings:
        cost = f"{count(len(report.warnings), 'warning')}, {cost}"
    if report.ok:
        return "good", "No fault found", cost
    causes = ", ".join(fault.cause for fault in report.faults)
    return "bad", f"{count(len(report.faults), 'fault')}: {causes}", cost


def report_blocks(report: Report) -> list[Block]:
    """Everything that the page tells."""
    blocks: list[Block] = [fault_section(report, fault, place) for place, fault in enumerate(report.faults)]
    warnings = [finding for finding in report.warnings if not is_told(report, finding)]
    notes = [finding for finding in report.notes if not is_told(report, finding)]
    if warnings:
        blocks.append(Section("Warnings", list(told(warnings)), id="warnings", kicker="Suspected, not verified"))
    if notes:
        blocks.append(Section("Notes", list(told(notes)), id="notes"))
    shown_above = any(fault.outcome and fault.outcome.before_curve for fault in report.faults)
    blocks.append(measured_section(report.measured, with_curve=not shown_above))
    if len(report.measured.rates) > 1:
        others = [fault.cause for fault in report.faults if not fault.cause.startswith("learning-rate")]
        blocks.append(rates_section(report.measured, others))
    facts = {**report.measured.facts, "cost": f"{report.seconds:.1f} s, {count(report.steps, 'training step')}"}
    blocks.append(Section("This check", [Facts(facts)], id="facts"))
    return blocks


def brief_blocks(report: Report) -> list[Block]:
    """What a notebook cell shows: the faults with cure and proof, and one line for everything else."""
    blocks: list[Block] = []
    for place, fault in enumerate(report.faults):
        inner = [Prose(fault.message), Facts({"where": fault.where}), *cure(fault.remedy), *proof(fault.outcome)]
        blocks.append(Section(fault.cause, [*inner, *symptoms(report, fault)], kicker=fault_kicker(fault, place)))
    others = [f for f in (*report.warnings, *report.notes) if not is_told(report, f)]
    if others:
        blocks.append(Facts({f"{finding.severity}: {finding.cause}": finding.message for finding in others}))
    measured = report.measured
    if report.ok and measured.curve:
        blocks.append(curve_chart(measured))
    return blocks


def is_told(report: Report, finding: Finding) -> bool:
    """True if the finding is told under the fault that explains it."""
    return any(finding.explained_by == fault.cause for fault in report.faults)


def fault_kicker(fault: Finding, place: int) -> str:
    return f"{'Root cause' if place == 0 else 'Fault'} (stage: {fault.stage})"


def fault_section(report: Report, fault: Finding, place: int) -> Section:
    blocks = [
        Prose(fault.message, lead=True),
        Facts({"where": fault.where}),
        *evidence(fault),
        *cure(fault.remedy),
        *proof(fault.outcome),
        *symptoms(report, fault),
    ]
    anchor = fault.cause if place == 0 else f"{fault.cause}-{place + 1}"
    return Section(fault.cause, blocks, id=anchor, kicker=fault_kicker(fault, place), tone="bad")


def told(findings: Sequence[Finding]) -> Iterator[Section]:
    """A warning or a note: the message, the numbers, and a cure that was not tried."""
    for finding in findings:
        facts = Facts({"where": finding.where, **numbers_of(finding)})
        blocks = [Prose(finding.message), facts, *drawn_layers(finding)]
        yield Section(finding.cause, [*blocks, *cure(finding.remedy), *proof(finding.outcome)])


def evidence(finding: Finding) -> list[Block]:
    """The numbers that the finding rests on, and the reading that shows it best, layer by layer."""
    numbers = numbers_of(finding)
    blocks = [*([Facts(numbers)] if numbers else []), *drawn_layers(finding)]
    return [Section("Evidence", blocks)] if blocks else []


def numbers_of(finding: Finding) -> dict[str, Any]:
    """The evidence but for the layers, its keys as words."""
    return {label(key): value for key, value in finding.evidence.items() if key != "layers"}


def layers_of(finding: Finding) -> list[Mapping[str, Any]]:
    """The series over the layers in the evidence; empty if there is none."""
    return [layer for layer in finding.evidence.get("layers", ()) if isinstance(layer, Mapping)]


def drawn_layers(finding: Finding) -> list[Block]:
    layers = layers_of(finding)
    key = telling(finding.cause, layers)
    if key is None:
        return []
    return [layer_chart(layers, key), Fold("The numbers, layer by layer", [layer_table(layers)])]


def layer_chart(layers: Layers, key: str) -> Chart:
    spec = charts.by_layer(layers, key)
    alt = f"{reading(key)} of {count(len(layers), 'layer')}: {ends(layers, key)}"
    odd = any(is_number(layer.get(key)) and not is_finite(layer[key]) for layer in layers)
    zero = spec["encoding"]["x"]["scale"]["type"] == "log" and any(layer.get(key) == 0 for layer in layers)
    marks = " A triangle is a zero." * zero + " A cross is no finite number." * odd
    return Chart(spec, f"{reading(key).capitalize()}, layer by layer, the input at the top.{marks}", alt)


def ends(layers: Layers, key: str) -> str:
    """First and last reading in words, for a chart's description."""
    return f"{shown(layers[0].get(key))} in the first, {shown(layers[-1].get(key))} in the last"


def layer_table(layers: Layers) -> Table:
    texts = [key for key in ("kind", "activation") if any(layer.get(key) for layer in layers)]
    keys = [*texts, *(key for key in readings(layers) if key != "layer")]
    rows = [[name, *(layer.get(key) for key in keys)] for name, layer in zip(layer_names(layers), layers, strict=True)]
    return Table(["layer", *map(label, keys)], rows, "Readings of each layer")


def cure(remedy: Remedy | None) -> list[Block]:
    if remedy is None:
        return []
    safety = Tag("safe", "good") if remedy.safe else Tag("changes what you have", "neutral")
    why = SAFE if remedy.safe else UNSAFE
    return [Section("Cure", [Prose(f"{remedy.name}. {why}"), Code(remedy.code, "The change by hand")], tags=[safety])]


def proof(outcome: Outcome | None) -> list[Block]:
    """Untreated and treated, trained alike."""
    if outcome is None:
        return []
    verdict = Tag("cured", "good") if outcome.cured else Tag("not cured", "bad")
    tone: Tone = "good" if outcome.cured else "bad"
    stats = [Stat("untreated, loss at the end", outcome.before), Stat("treated, loss at the end", outcome.after, tone)]
    if outcome.baseline is not None:
        stats.append(Stat("best constant guess", outcome.baseline))
    blocks: list[Block] = [Prose(how_tried(outcome)), Stats(stats)]
    if outcome.skill_before is not None and outcome.skill_after is not None:
        skills = [Stat("untreated, skill", outcome.skill_before), Stat("treated, skill", outcome.skill_after, tone)]
        blocks += [Stats(skills), Prose(SKILL)]
    if outcome.before_curve or outcome.after_curve:
        spec = charts.loss_curves(outcome.before_curve, outcome.after_curve, outcome.baseline)
        alt = f"Loss by step: untreated ends at {shown(outcome.before)}, treated at {shown(outcome.after)}."
        blocks.append(Chart(spec, lost(outcome), alt))
    return [Section("Proof", blocks, tags=[verdict])]


def how_tried(outcome: Outcome) -> str:
    """What was held equal between the two runs."""
    others = outcome.seeds - 1
    seeds = f", and again with {count(others, 'other seed')} (curves of the first, skill of all)" if others else ""
    return f"Both were trained for the same {count(outcome.steps, 'step')} on the same batches{seeds}."


def lost(outcome: Outcome) -> str:
    """The caption's words on a curve that left the finite numbers."""
    pairs = (("untreated", outcome.before_curve), ("treated", outcome.after_curve))
    gone = [f"{name} from step {len(charts.until_lost(c))} on" for name, c in pairs if not all(map(is_finite, c))]
    return f"The loss was not a finite number: {', '.join(gone)} (cross)." if gone else ""


def symptoms(report: Report, fault: Finding) -> list[Block]:
    explained = report.explained_by(fault.cause)
    if not explained:
        return []
    lines = {f"{finding.cause} ({one_line(finding.where)})": finding.message for finding in explained}
    return [Section("What it explains", [Prose(VANISH), Facts(lines)])]


def rates_section(measured: Measured, others: list[str]) -> Section:
    """Several learning rates, several curves (N3.2), and the one to take. `others`: faults that none of them cured."""
    judged = measured.rates
    rows = [[four_digits(c.rate), c.verdict, c.losses[0], c.losses[-1]] for c in judged]
    verdicts = ", ".join(f"{four_digits(c.rate)} {c.verdict}" for c in judged)
    blocks: list[Block] = [
        Prose(f"Tried while {', '.join(others)} still stood: a rate cures none of it." if others else suggest(judged).reason),
        Chart(rate_curves(judged, measured.baseline), "The loss at every rate that was tried, the task's own among them.",
              f"Loss by step at {count(len(judged), 'learning rate')}: {verdicts}."),
        Table(["rate", "verdict", "loss at the start", "at the end"], rows, "What each rate did"),
        Facts({f"{four_digits(c.rate)}, {c.verdict}": c.reason for c in judged}),
    ]  # fmt: skip
    return Section("Learning rates", blocks, id="rates")


def curve_chart(measured: Measured) -> Chart:
    spec = charts.loss_curves(measured.curve, (), measured.baseline, names=("loss", ""))
    alt = f"Loss by step: from {shown(measured.curve[0])} to {shown(measured.curve[-1])}."
    return Chart(spec, "Loss of the network as it was given, step by step.", alt)


def measured_section(measured: Measured, with_curve: bool) -> Section:
    """The network as it was given: its loss, and what each layer read at the start."""
    blocks: list[Block] = [curve_chart(measured)] if with_curve and measured.curve else []
    layers = measured.layers
    there = readings(layers)
    if "std" in there:
        alt = f"Mean and standard deviation of each layer's output. Standard deviation: {ends(layers, 'std')}"
        caption = "Mean and spread of each layer's output at the start."
        blocks.append(Chart(charts.mean_and_spread(layers), caption, alt))
    if "grad_norm" in there:
        blocks.append(layer_chart(layers, "grad_norm"))
    if layers:
        blocks.append(Fold(f"All readings of {count(len(layers), 'layer')}", [layer_table(layers)]))
    return Section("What was measured", blocks or [Prose("Nothing was measured.")], id="measured")
