"""`runtrue train` and `runtrue predict`: what was asked for, as settings; what came of it, as words and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtrue.cli.output import Printer, fail, to_a_reader


def train(config: Path | None, run: Path | None, resume: Path | None, settings: dict[str, Any]) -> int:
    """Exit code: 0 trained, 1 the check before it found a fault, 2 the call, the data or the network is wrong."""
    from runtrue.datasets import DataError
    from runtrue.task import TaskError, blame
    from runtrue.training import ConfigError, UntrainableError, api

    try:
        api.need_extra()
        trained = api.train(config, run=run, resume=resume, progress=sys.stderr.isatty(), **settings)
    except (ConfigError, DataError, TaskError) as error:
        return fail(str(error))
    except UntrainableError as error:
        return untrainable(error)
    except KeyboardInterrupt:
        return stopped(run or resume)
    except Exception as error:  # noqa: BLE001 exit code 1 means that the check found a fault
        return fail(f"the training failed: {blame(error)}")
    last = trained.history[-1]
    print(
        f"validation: {last['val_accuracy']:.2%} right, loss {last['val_loss']:.4g}, after {len(trained.history)} epochs"
    )
    if trained.diverged:
        fail(
            f"the loss is no number since epoch {len(trained.history)}: a lower --lr, or clip in the settings, may help"
        )
    print(f"run: {trained.path}")
    print(f"report: {trained.folder.report}")
    return 1 if trained.diverged else 0


def untrainable(error: Any) -> int:
    from runtrue.report.text import print_report

    print_report(error.report, Printer())
    fail(
        f"not started: {error.report.faults[0].cause} (--no-check trains all the same); the report: {error.folder.check}"
    )
    return 1


def stopped(run: Path | None) -> int:
    where = f" {run}" if run is not None else " RUN"
    fail(f"stopped by Ctrl-C; go on with: runtrue train --resume{where}")
    return 130


def predict(run: Path, images: Sequence[Path], top: int, format: str) -> int:
    """Exit code: 0 every image was read, 1 some were not, 2 the call or the run is wrong."""
    from runtrue.finetune import SurgeryError, ZooError
    from runtrue.task import TaskError
    from runtrue.training import ConfigError
    from runtrue.training.values import OF_FILES, need

    try:
        need(OF_FILES, "predicting", "train")
        from runtrue.training import predict as predicting

        found = predicting.predict(run, images, top=top)
    except (ConfigError, TaskError, SurgeryError, ZooError) as error:
        return fail(str(error))
    with to_a_reader():
        if format == "json":
            print(json.dumps([one.to_dict() for one in found.predictions], indent=2))
        else:
            for one in found.predictions:
                print(f"{one.path}: {', '.join(f'{label} {share:.1%}' for label, share in one.classes)}")
    for skipped in found.skipped:
        fail(f"{skipped.path}: {skipped.reason}")
    return 1 if found.skipped else 0
