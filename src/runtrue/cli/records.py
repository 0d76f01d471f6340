"""`runtrue report` and `runtrue compare`: records of runs as pages, and in the forms of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtrue.cli.output import fail

FORMS = {"html": ".html", "json": ".json", "csv": ".csv"}


def report(run: Path, format: str, out: Path | None) -> int:
    """Exit code: 0 no fault in the record, 1 a fault, 2 the call or the run is wrong."""
    from runtrue.cli import finetuning
    from runtrue.watch import record_of
    from runtrue.watch.page import page

    if format == "html" and out is None and (done := finetuning.report(run)) is not None:
        return done
    try:
        record = record_of(run)
        folder = run if run.is_dir() else run.parent
        place = out or (folder / "tensorboard" if format == "tensorboard" else folder / f"watch{FORMS[format]}")
        written = write(record, format, place, page(record, folder.absolute().name) if format == "html" else "")
    except (OSError, ValueError, ImportError) as error:
        return fail(said(error))
    return told(record.verdicts(), written)


def told(verdicts: Sequence[Mapping[str, Any]], written: Path) -> int:
    """What was seen, a line each. Exit code: 1 for a fault."""
    from runtrue.report.numbers import count

    for one in verdicts:
        print(f"step {one['step']}: {one['severity']} {one['cause']} in {one['where']}: {one['message']}")
    faults = sum(one["severity"] == "fault" for one in verdicts)
    print(f"{count(faults, 'fault')}, {len(verdicts) - faults} of less weight; written: {written}")
    return 1 if faults else 0


def write(record: object, format: str, place: Path, text: str) -> Path:
    from runtrue.report.html import save_page
    from runtrue.watch import Record, export

    assert isinstance(record, Record)
    if format == "html":
        return save_page(text, place, "report")
    place.parent.mkdir(parents=True, exist_ok=True)
    forms = {"json": export.to_json, "csv": export.to_csv, "tensorboard": export.to_tensorboard}
    return forms[format](record, place)


def compare(runs: Sequence[Path], out: Path | None) -> int:
    """Exit code: 0 the page is written, 2 the call or a run is wrong."""
    from runtrue.report.html import save_page
    from runtrue.watch import record_of
    from runtrue.watch.compare import comparison

    if len(runs) < 2:
        return fail("compare needs two runs at least: runtrue compare RUN RUN")
    try:
        records = {name: record_of(run) for name, run in zip(names(runs), runs, strict=True)}
        print(f"written: {save_page(comparison(records), out or Path('compare.html'), 'comparison')}")
    except (OSError, ValueError) as error:
        return fail(said(error))
    return 0


def names(runs: Sequence[Path]) -> list[str]:
    """The folders' own names, or the whole paths where two are alike."""
    short = [run.absolute().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def serve(folder: Path, host: str, port: int) -> int:
    """Exit code: 0 ended by Ctrl-C, 2 the call is wrong, the address is taken, or the extra is not installed."""
    try:
        from runtrue.watch.serve import serve as serving

        serving(folder, host, port, say=lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        pass
    except (OSError, ImportError) as error:
        return fail(str(error))
    return 0


def said(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"{error}: `pip install tensorboard` brings it"
    return str(error)
