"""How a watch begins and ends: what its record says of the run, to whom verdicts go, and what is done at the end. None of it
holds the watch itself, so that a watch that nobody needs any more can end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from runtrue.findings import Finding
from runtrue.watch.hooks import Hooks
from runtrue.watch.loop import Loop, compiled, unwrapped
from runtrue.watch.noting import Notes
from runtrue.watch.reading import Reader
from runtrue.watch.recorder import Recorder
from runtrue.watch.scribe import Scribe, finding_as_told
from runtrue.watch.voice import Voice


def blind(notes: Notes, voice: Voice, error: Exception) -> None:
    said = f"{type(error).__name__} while reading the layers: {error}; they are not read any more, everything else is"
    notes.event("not seen", said)
    voice(f"runtrue: {said}")


def finish(hooks: Hooks, reader: Reader, notes: Notes, loop: Loop, scribe: Scribe) -> None:
    """The last packet, and the end of the record: at `close`, or when the watch is needed by nobody any more."""
    reader.forward_ends()
    hooks.remove()
    try:
        scribe.take(notes.packet(loop.counts))
    except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
        scribe.say(f"runtrue: {type(error).__name__} at the end of the watching: {error}")
    scribe.close()


def described(model: nn.Module) -> dict[str, Any]:
    sized = [p for p in model.parameters() if not isinstance(p, UninitializedParameter)]
    return {
        "model": type(unwrapped(model)).__name__,
        "parameters": sum(p.numel() for p in sized),
        "torch": str(torch.__version__),
        "started": time.time(),
        "compiled": compiled(model),
    }


def recorder_of(path: Path, start: int, told: Mapping[str, Any]) -> Recorder:
    """The file of a run. What an earlier process wrote of this step and later ones is not this run's."""
    recorder = Recorder(path)
    recorder.forget_from(start)
    recorder.tell(**told)
    if start:
        recorder.event(start, "resumed", f"the run goes on from step {start:,}")
    recorder.flush()
    return recorder


def tell(say: Callable[[str], None], told: Callable[[int, Finding], None] | None, step: int, finding: Finding) -> None:
    say(finding_as_told(step, finding))
    if told is not None:
        told(step, finding)
