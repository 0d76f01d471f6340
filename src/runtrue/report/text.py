"""A report as text: coloured on a terminal, plain in a pipe or a file, and never markup from a user's string."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtrue.findings import Finding, Outcome, Remedy
from runtrue.report import Report, drawing
from runtrue.report.content import headline, how_tried, is_told, layers_of, numbers_of
from runtrue.report.numbers import clean, elided, is_number, label, layer_names, one_line, short_names, shown, telling

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MOST_LAYERS = 14
WIDEST = 100
"""Columns beyond which a line of prose is tiring to read, however wide the terminal is."""
ASCII = str.maketrans("–…×→", "-.x>")


@dataclass(frozen=True)
class Line:
    """One line to print: its words, their style, how far it is moved in, and a drawing at its end.

    Code stands at the margin, to be copied.
    """

    text: str = ""
    style: str = ""
    indent: int = 0
    code: bool = False
    drawn: str = ""


Lines = Iterator[Line]


@dataclass(frozen=True)
class Sheet:
    """What the lines are written on: how wide it is, and whether it can show block characters."""

    width: int
    unicode: bool

    def prose(self, text: str, indent: int, style: str = "") -> Lines:
        for paragraph in clean(text).splitlines():
            for line in textwrap.wrap(paragraph, self.width - indent, break_on_hyphens=False):
                yield Line(line, style, indent)


def render(report: Report, console: Console | None = None, width: int = 80) -> str:
    """The report as text: plain and `width` wide, or just as `console` would show it."""
    from rich.console import Console

    if console is not None:
        with console.capture() as captured:
            print_report(report, console)
        return captured.get()
    page = io.StringIO()
    print_report(report, Console(file=page, width=width, color_system=None, force_terminal=False, legacy_windows=False))
    return page.getvalue()


def print_report(report: Report, console: Console) -> None:
    """Print the report. Colours and block characters are used only where the console can show them."""
    sheet = Sheet(min(console.width, WIDEST), console.encoding.lower().startswith("utf"))
    for line in lines(report, sheet):
        console.print(styled(line, sheet, in_colour=console.is_terminal and not console.no_color), soft_wrap=True)


def styled(line: Line, sheet: Sheet, in_colour: bool) -> Text:
    """The line for rich, as `Text`: what stands in it is never read as markup."""
    from rich.text import Text

    words, drawn = (text if sheet.unicode else in_ascii(text) for text in (line.text, line.drawn))
    if line.code and in_colour:
        from rich.syntax import Syntax

        highlighted = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(words)
        highlighted.rstrip()
        return highlighted
    said = Text.assemble(" " * line.indent, (words, line.style), (drawn, "blue"))
    said.rstrip()
    return said


def in_ascii(text: str) -> str:
    """`text` for a console that shows nothing else; what it cannot show becomes a question mark."""
    return text.translate(ASCII).encode("ascii", "replace").decode()


def lines(report: Report, sheet: Sheet) -> Lines:
    """Every line of the report, the root cause first."""
    _, verdict, detail = headline(report)
    yield Line(one_line(report.name), "dim")
    yield from sheet.prose(verdict, 0, "bold green" if report.ok else "bold red")
    yield Line(detail, "dim")
    for fault in report.faults:
        yield from fault_lines(report, fault, sheet)
    if report.ok:
        yield from healthy_lines(report, sheet)
    warnings = [finding for finding in report.warnings if not is_told(report, finding)]
    notes = [finding for finding in report.notes if not is_told(report, finding)]
    yield from told("Warnings (suspected, not verified)", warnings, "yellow", sheet)
    yield from told("Notes", notes, "bold", sheet)


def fault_lines(report: Report, fault: Finding, sheet: Sheet) -> Lines:
    yield Line()
    yield Line(fault.cause, "bold red")
    yield from sheet.prose(f"where: {one_line(fault.where)}", 2, "dim")
    yield Line()
    yield from sheet.prose(fault.message, 2)
    yield from evidence(fault, sheet)
    explained = report.explained_by(fault.cause)
    if explained:
        yield Line()
    for symptom in explained:
        yield from sheet.prose(f"explains: {symptom.cause}: {symptom.message}", 2)
    yield from cure(fault.remedy, sheet)
    yield from proof(fault.outcome, sheet)


def heading(words: str, style: str = "bold") -> Lines:
    yield Line()
    yield Line(words, style, 2)


def evidence(finding: Finding, sheet: Sheet) -> Lines:
    """The numbers of a finding, then its reading layer by layer."""
    numbers, layers = numbers_of(finding), layers_of(finding)
    key = telling(finding.cause, layers)
    if not numbers and key is None:
        return
    yield from heading("Evidence")
    yield from pairs(numbers, sheet)
    if numbers and key is not None:
        yield Line()
    if key is not None:
        yield from layer_lines(layers, key, sheet)


def pairs(numbers: Mapping[str, Any], sheet: Sheet) -> Lines:
    """Labels and values in two columns; a long value goes on under itself."""
    column = min(max(map(len, numbers), default=0), sheet.width // 3)
    for name, value in numbers.items():
        start = f"{elided(name, column):{column}}  "
        for line in textwrap.wrap(shown(value), sheet.width - 4 - len(start)) or [""]:
            yield Line(start + line, indent=4)
            start = " " * len(start)


def layer_lines(layers: Sequence[Mapping[str, Any]], key: str, sheet: Sheet) -> Lines:
    """One row a layer: name, number, bar. Of many layers, the first and the last ones."""
    names = [elided(name, sheet.width // 3) for name in short_names(layer_names(layers), sheet.width // 3)]
    values = [layer[key] if is_number(layer.get(key)) else None for layer in layers]
    shares = drawing.fractions(values)
    column, digits = max(5, *map(len, names)), max(len(label(key)), 9)
    room = min(40, sheet.width - 4 - column - digits - 4)
    scale = "(bars on a log scale)" if drawing.is_log(values) else ""
    yield Line(f"{'layer':{column}}  {label(key):{digits}}  {scale}".rstrip(), "dim", 4)
    head, tail = drawing.folded(len(layers), MOST_LAYERS)
    for place in (*head, *tail):
        if tail and place == tail[0]:
            yield Line(f"… {len(layers) - len(head) - len(tail)} layers more …", "dim", 4)
        words = f"{names[place]:{column}}  {shown(values[place]):{digits}}  "
        yield Line(words, indent=4, drawn=drawing.bar(shares[place], room, sheet.unicode))


def cure(remedy: Remedy | None, sheet: Sheet) -> Lines:
    if remedy is None:
        return
    safety = "safe" if remedy.safe else "not safe: it changes weights or the architecture"
    yield Line()
    yield from sheet.prose(f"Cure: {one_line(remedy.name)} ({safety})", 2, "bold")
    yield Line()
    for line in clean(remedy.code).splitlines():
        yield Line(line, code=True)


def proof(outcome: Outcome | None, sheet: Sheet) -> Lines:
    """Untreated and treated on one scale, where each began and ended, and the verdict."""
    if outcome is None:
        return
    yield from heading("Proof: cured", "bold green") if outcome.cured else heading("Proof: not cured", "bold red")
    yield from sheet.prose(how_tried(outcome), 4)
    curves = {"untreated": (outcome.before_curve, outcome.before), "treated": (outcome.after_curve, outcome.after)}
    losses = [f"{shown(curve[0])} -> {shown(end)}" if curve else shown(end) for curve, end in curves.values()]
    column = max(map(len, losses))
    room = min(40, sheet.width - column - 22)
    sparks = drawing.sparklines([curve for curve, _ in curves.values()], room, sheet.unicode)
    for name, loss, spark in zip(curves, losses, sparks, strict=True):
        yield Line(f"{name:9}  loss {loss:{column}}  ", indent=4, drawn=spark)
    if outcome.skill_before is not None and outcome.skill_after is not None:
        ends = f"{shown(outcome.skill_before)} -> {shown(outcome.skill_after)}"
        yield Line(f"Skill (0 like the best constant guess, 1 perfect): {ends}.", indent=4)
    if outcome.baseline is not None:
        yield Line(f"The best constant guess has loss {shown(outcome.baseline)}.", "dim", 4)


def healthy_lines(report: Report, sheet: Sheet) -> Lines:
    """What was measured, when there is nothing to complain about."""
    measured = report.measured
    if measured.curve:
        yield from heading("Loss, step by step")
        (spark,) = drawing.sparklines([measured.curve], min(50, sheet.width - 28), sheet.unicode)
        yield Line(f"{shown(measured.curve[0])} -> {shown(measured.curve[-1])}  ", indent=4, drawn=spark)
    key = telling("", measured.layers)
    if key is not None:
        yield from heading("Layers at the start")
        yield from layer_lines(measured.layers, key, sheet)


def told(title: str, findings: Sequence[Finding], style: str, sheet: Sheet) -> Lines:
    """Warnings or notes: the message, the numbers in one line, the name of a cure."""
    if findings:
        yield Line()
        yield Line(title, style)
    for finding in findings:
        yield from sheet.prose(f"{finding.cause} ({one_line(finding.where)}): {finding.message}", 2)
        numbers = (f"{name} {shown(value)}" for name, value in numbers_of(finding).items())
        yield from sheet.prose(", ".join(numbers), 4, "dim")
        if finding.remedy is not None:
            yield from sheet.prose(f"possible cure: {one_line(finding.remedy.name)}", 4, "dim")
