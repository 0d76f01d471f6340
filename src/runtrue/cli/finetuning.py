"""`runtrue finetune` and `runtrue zoo`: what was asked for, as settings; what came of it, as words and an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtrue.cli.output import fail, to_a_reader
from runtrue.cli.training import untrainable


def finetune(net: str | None, run: Path | None, resume: Path | None, settings: dict[str, Any]) -> int:
    """Exit code: 0 trained, 1 a fault was found before, 2 the call, the data or the network is wrong."""
    from runtrue.datasets import DataError
    from runtrue.finetune import SurgeryError, WeightsError, ZooError
    from runtrue.task import TaskError, blame
    from runtrue.training.errors import UntrainableError
    from runtrue.tuning import ConfigError, finetune
    from runtrue.tuning.folder import Place

    try:
        if net is None and resume is None:
            raise ConfigError("name a network (`runtrue zoo` lists them) or file.py:name, or a run to --resume")
        tuned = finetune(net, run=run, resume=resume, say=lambda text: print(text, flush=True), **settings)
    except (ConfigError, DataError, TaskError, SurgeryError, WeightsError, ZooError) as error:
        return fail(str(error))
    except UntrainableError as error:
        return untrainable(error)
    except KeyboardInterrupt:
        where = f" {run or resume}" if run or resume else " RUN"
        fail(f"stopped by Ctrl-C; go on with: runtrue finetune --resume{where}")
        return 130
    except Exception as error:  # noqa: BLE001 exit code 1 means that a fault was found
        return fail(f"the training failed: {blame(error)}")
    deep = Place(tuned.folder).read_settings().mode == "deep"
    kept = f", by the weights of epoch {tuned.kept_epoch}" if deep else ""
    print(f"validation: {tuned.val_accuracy:.2%} right{kept}")
    print(f"run: {tuned.folder.path}")
    print(f"report: {tuned.folder.report}")
    return 0


def zoo(pattern: str) -> int:
    """Exit code: 0 listed, 2 no library is installed, or no network has such a name."""
    from runtrue.finetune import ZooError, known, names

    try:
        found = list(names(pattern))
        if not found:
            return fail(f"no network's name fits {pattern!r}; * stands for any letters")
        with to_a_reader():
            for name in found:
                print(known(name).describe())
    except ZooError as error:
        return fail(str(error))
    return 0


def report(run: Path) -> int | None:
    """The page of a fine-tuning anew; None where the folder is none. Exit code: 0 written, 1 its record has a fault, 2 the
    run has not finished."""
    if not (run / "finetune.yaml").is_file():
        return None
    from runtrue.cli import records
    from runtrue.training.folder import RunFolder
    from runtrue.tuning import ConfigError
    from runtrue.tuning.folder import Place
    from runtrue.tuning.page import write_page
    from runtrue.watch import record_of
    from runtrue.watch.entries import FILE

    try:
        written = write_page(Place(RunFolder(run)))
        record = record_of(run) if (run / FILE).is_file() else None
    except (ConfigError, OSError, ValueError) as error:
        return fail(str(error))
    return records.told(record.verdicts() if record is not None else [], written)
