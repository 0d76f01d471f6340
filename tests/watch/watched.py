"""Records for the tests: written by the recorder itself, with numbers that are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtrue.watch.record import FILE, Histogram, Reading, Record, Recorder

HOSTILE = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>alert(2)</script>"


def finding(
    cause: str, severity: str = "fault", where: str = "the loss", message: str = "", **evidence: Any
) -> dict[str, Any]:
    return {
        "cause": cause, "severity": severity, "where": where, "message": message or f"it is {cause}", "evidence": evidence,
    }  # fmt: skip


def record(
    folder: Path, losses: Sequence[float] = (2.0, 1.5, 1.0, 0.5), *, layers: Sequence[str] = ("first", "last"), every: int = 2,
    verdicts: Sequence[tuple[int, Mapping[str, Any]]] = (), epochs: Sequence[Mapping[str, float]] = (),
    rates: Mapping[int, Sequence[float]] | None = None, close: bool = True, **told: Any,
) -> Record:  # fmt: skip
    """10 ms a step; the standard deviation of layer i is i + 1, its gradient has the norm 0.1."""
    recorder = Recorder(folder / FILE)
    recorder.tell(**{"model": "Net", "parameters": 1234, "torch": "2.13.0", "started": 1.7e9, **told})
    if losses:
        recorder.losses(0, losses, [0.01] * len(losses))
    for step, changed in ({0: [0.1]} if rates is None else rates).items():
        recorder.rates([(step, changed)])
    for step in range(0, len(losses) if layers else 0, every):
        numbers = {(name, "std"): float(i + 1) for i, name in enumerate(layers)}
        numbers |= {(name, "signal_rms"): 0.5 for name in reversed(layers)}
        numbers |= {
            (f"{name}.weight", what): 0.1 for name in layers for what in ("grad_norm", "grad_mean", "weight_norm")
        }
        recorder.reading(Reading(step, 0.01 * step, numbers))
        recorder.histograms([Histogram(name, step, -1.0, 1.0, (1, 2, 1, 0)) for name in layers])
    for number, row in enumerate(epochs):
        recorder.epoch(number, (number + 1) * 2, row)
    for step, one in verdicts:
        recorder.verdict(step, one)
    recorder.flush()
    if close:
        recorder.close()
    else:
        KEPT.append(recorder)
    return Record(folder / FILE)


KEPT: list[Recorder] = []
"""Of runs that go on: closed at the end of the process."""


def healthy(folder: Path) -> Record:
    rows = [{"train_accuracy": 0.5 + 0.1 * i, "val_accuracy": 0.5 + 0.05 * i, "train_loss": 2.0 - i} for i in range(3)]
    return record(folder, [2.0 / (1 + i) for i in range(60)], epochs=rows, every=5)


def faulty(folder: Path) -> Record:
    layers = [{"layer": f"layer {i}", "dead_fraction": 0.9} for i in range(30)]
    told = [
        (30, finding("dead-units", "warning", "first", layers=layers, limit=0.5)),
        (
            40,
            finding(
                "diverging", "fault", "step 41", "the loss has been no number since step 41", first=41, rate=math.inf
            ),
        ),
        (41, finding("overfitting", "note", "the accuracies")),
    ]
    return record(folder, [1.0] * 41 + [math.nan] * 9, verdicts=told, every=5)


def hostile(folder: Path) -> Record:
    told = [
        (
            3,
            finding(
                HOSTILE, "fault", SCRIPT, f"{SCRIPT} `{HOSTILE}`", **{HOSTILE: SCRIPT, "layers": [{HOSTILE: SCRIPT}]}
            ),
        )
    ]
    names = [HOSTILE, SCRIPT, "{{ 7 * 7 }}", "a'b\"c\u2028d"]
    return record(
        folder, [1.0] * 20, layers=names, verdicts=told, epochs=[{"val_accuracy": 0.5, HOSTILE: 1.0}], model=SCRIPT
    )


def odd(folder: Path) -> Record:
    """No number, infinite, zero, enormous, negative: everywhere."""
    losses = [2.0] * 5 + [math.nan] * 3 + [1e30] * 2 + [math.inf, -math.inf] + [-1.0] * 4
    rows = [{"train_accuracy": math.nan, "val_accuracy": math.inf, "train_loss": 1e300, "val_loss": -5.0}] * 3
    told = [(9, finding("diverging", nan=math.nan, inf=math.inf, none=None, long="x" * 300))]
    made = record(
        folder, losses, epochs=rows, verdicts=told, rates={0: [math.inf, math.nan, 1e-3], 5: [0.0, 1e10, 1e-3]}
    )
    recorder = Recorder(made.path)
    values = (math.nan, math.inf, -math.inf, 0.0, 1e-38, 1e38)
    for step in (1, 7):
        numbers = {
            (f"layer {i}", what): x for i, x in enumerate(values) for what in ("std", "dead_fraction", "grad_norm")
        }
        recorder.reading(Reading(step, 0.0, numbers | {("a", "weight_norm"): math.nan, ("a", "signal_rms"): 0.0}))
        flat = Histogram("layer 0", step, 0.0, 0.0, (5, *[0] * 23))
        recorder.histograms(
            [flat, Histogram("layer 1", step, 0.0, 0.0, ()), Histogram("layer 2", step, -1e30, 1e30, (1,) * 24)]
        )
    recorder.close()
    return made


def deep(folder: Path) -> Record:
    """200 layers with long names."""
    names = [f"backbone.encoder.stage{i // 10}.block{i % 10}.convolution.parametrizations.original" for i in range(200)]
    return record(folder, [1.0] * 200, layers=names, every=4)


def empty(folder: Path) -> Record:
    return record(folder, (), rates={})


def unread(folder: Path) -> Record:
    return record(folder, [1.0, 0.5], layers=())


def single(folder: Path) -> Record:
    return record(folder, [1.0], layers=["fc"])


ALL = (healthy, faulty, hostile, odd, deep, empty, unread, single)
