"""`runtrue check --list` and `--explain`: the causes, and what one of them looks like in a sick and in a healthy network."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import runtrue
from runtrue.checks import CHECKS, Check
from runtrue.cli.output import Printer, fail, progress, to_a_reader
from runtrue.diagnosis import ensure_known, specimens
from runtrue.diagnosis.specimens import Comparison, Seen
from runtrue.findings import CAUSES, STAGE_OF
from runtrue.remedies import REMEDIES
from runtrue.report.content import layers_of, numbers_of
from runtrue.report.numbers import count, is_number, shown, telling
from runtrue.report.text import WIDEST, Line, Lines, Sheet, heading, layer_lines, pairs, styled

RUN = "during a run"

NEAREST: dict[str, tuple[str, ...]] = {
    "diverging": ("learning-rate-too-high", "exploding-gradient", "init-too-large", "non-finite-data"),
    "plateau": ("learning-rate-too-high", "learning-rate-too-low", "vanishing-gradient", "dead-units"),
    "oscillating": ("learning-rate-too-high",),
    "overfitting": ("train-val-mismatch", "train-val-overlap", "repeated-examples"),
    "underfitting": ("too-little-capacity", "learning-rate-too-low"),
    "loss-spike": ("learning-rate-too-high", "exploding-gradient", "non-finite-data"),
    "gradients-not-cleared": ("learning-rate-too-high",),
    "eval-mode-while-training": ("parameters-frozen",),
}
"""What comes nearest to an id without a check, among those that a check can find before a run."""


def listing() -> str:
    """Every id with its meaning, stage by stage; then those that only a run can show, and those without a check."""
    width = max(map(len, STAGE_OF))
    lines: list[str] = []
    for stage, causes in CAUSES.items():
        checked = [cause for cause in causes if cause in CHECKS]
        if checked:
            lines += [stage, *(f"  {cause:<{width}}  {CHECKS[cause].meaning}" for cause in checked), ""]
    without = [cause for cause in STAGE_OF if cause not in CHECKS]
    running = [cause for cause in without if STAGE_OF[cause] == RUN]
    rest = [cause for cause in without if STAGE_OF[cause] != RUN]
    lines += _named("found only during a run, not by a check before it", running)
    lines += _named("ids without a check in this version", rest)
    return "\n".join(lines).rstrip()


def _named(title: str, causes: Sequence[str]) -> list[str]:
    if not causes:
        return []
    return [
        title,
        *textwrap.wrap(", ".join(causes), WIDEST, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False),
        "",
    ]


def explain(cause: str) -> int:
    """Print everything about one cause. Exit code: 0, or 2 for an id that does not exist or has no check."""
    known = CHECKS.get(cause)
    if known is None:
        return fail(_why_not(cause))
    with progress() as say:
        seen = specimens.compare(cause, progress=say)
    console = Printer()
    sheet = Sheet(min(console.width, WIDEST), console.encoding.lower().startswith("utf"))
    with to_a_reader():
        for line in explanation(known, seen, sheet):
            console.print(styled(line, sheet, in_colour=console.is_terminal and not console.no_color), soft_wrap=True)
    return 0


def _why_not(cause: str) -> str:
    try:
        ensure_known((cause,))
    except ValueError as error:
        return str(error)
    near = [other for other in NEAREST.get(cause, ()) if other in CHECKS]
    others = [other for other in CAUSES[STAGE_OF[cause]] if other in CHECKS]
    instead = f"; the nearest that are looked for: {', '.join(near)}" if near else ""
    if STAGE_OF[cause] == RUN:
        return f"{cause} is found only during a run, not by a check before it{instead} (`runtrue check --list`)"
    if not near and others:
        instead = f"; looked for at the stage {STAGE_OF[cause]!r}: {', '.join(others)}"
    return f"{cause} is a known cause, but this version has no check for it{instead} (`runtrue check --list`)"


def explanation(known: Check, seen: Comparison, sheet: Sheet) -> Lines:
    """What it means, what it looks like, what cures it, where that comes from."""
    yield Line(known.cause, "bold")
    yield Line(f"stage: {known.stage}", "dim")
    yield Line()
    yield from paragraphs(known.explanation, sheet)
    yield from heading("Sick")
    yield from specimen(seen.sick, sheet)
    yield from told(known.cause, seen, sheet)
    yield from heading("Healthy")
    yield from specimen(seen.healthy, sheet)
    yield from healthy(known.cause, seen, sheet)
    yield from apart(seen, sheet)
    yield from remedies(known.cause, sheet)
    yield from heading("Source")
    yield from sheet.prose(f"The judge and its limits, with the reason of each: {source(known)}.", 4)


def paragraphs(text: str, sheet: Sheet, indent: int = 2) -> Lines:
    """Text as it stands in a docstring, wrapped anew."""
    for place, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if place:
            yield Line()
        yield from sheet.prose(" ".join(paragraph.split()), indent)


def specimen(seen: Seen, sheet: Sheet) -> Lines:
    run = f" ({count(seen.steps, 'step')} of training as it is)" if seen.steps else ""
    yield from sheet.prose(f"{seen.name}{': ' if seen.about else ''}{seen.about}{run}", 4, "dim")
    if seen.error:
        yield from sheet.prose(f"it could not be measured: {seen.error}", 4)


def told(cause: str, seen: Comparison, sheet: Sheet) -> Lines:
    """The judge's message on the sick one, with its evidence."""
    if not seen.sick.findings and not seen.sick.error:
        yield from sheet.prose("the judge is silent: on this machine the short run did not show it", 4)
    for finding in seen.sick.findings:
        yield from sheet.prose(finding.message, 4)
        yield Line()
        yield from pairs(numbers_of(finding), sheet)
        yield from drawn(cause, layers_of(finding), sheet)


def healthy(cause: str, seen: Comparison, sheet: Sheet) -> Lines:
    """That the judge is silent, and the reading that told the sick one, layer by layer."""
    if seen.healthy.error:
        return
    for finding in seen.healthy.findings:
        yield from sheet.prose(f"{finding.severity}: {finding.message}", 4)
    if not seen.healthy.findings:
        yield Line("the judge is silent", indent=4)
    layered = [layers_of(finding) for finding in seen.sick.findings]
    key = next((telling(cause, layers) for layers in layered if layers), None)
    if key is not None:
        yield from drawn(cause, [layer for layer in seen.healthy.layers if is_number(layer.get(key))], sheet)


def drawn(cause: str, layers: Sequence[Mapping[str, Any]], sheet: Sheet) -> Lines:
    key = telling(cause, layers)
    if key is not None:
        yield Line()
        yield from layer_lines(layers, key, sheet)


def apart(seen: Comparison, sheet: Sheet) -> Lines:
    """What else was measured of both and differs, side by side."""
    rows = [(name, shown(sick), shown(fine)) for name, (sick, fine) in seen.numbers_apart().items()]
    if not rows:
        return
    yield from heading("Side by side")
    rows = [("", "sick", "healthy"), *rows]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, sick, fine in rows:
        yield Line(f"{name:{first}}  {sick:{second}}  {fine}", "" if name else "dim", 4)


def remedies(cause: str, sheet: Sheet) -> Lines:
    """What each remedy does, in the order in which they are tried."""
    proposals = [propose.__doc__ or propose.__name__.replace("_", " ") for propose in REMEDIES.get(cause, ())]
    yield from heading("Remedy" if len(proposals) == 1 else "Remedies, in the order in which they are tried")
    for number, words in enumerate(proposals, 1):
        yield from sheet.prose(f"{f'{number}. ' if len(proposals) > 1 else ''}{' '.join(words.split())}", 4)
    if not proposals:
        yield from sheet.prose("none that can be tried; the message says what to look at", 4)


def source(known: Check) -> str:
    """The file and line of the judge, from the package on."""
    judge = inspect.unwrap(known.judge)
    file = Path(inspect.getsourcefile(judge) or "")
    home = Path(runtrue.__file__).parent.parent
    inside = file.relative_to(home) if file.is_relative_to(home) else file
    return f"{inside.as_posix()}, line {judge.__code__.co_firstlineno}"
