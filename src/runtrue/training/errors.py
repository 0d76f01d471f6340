"""What keeps a training from being started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtrue.report import Report
    from runtrue.training.folder import RunFolder


class UntrainableError(Exception):
    """The check before the training found a fault. Carries its report; nothing was trained."""

    def __init__(self, report: Report, folder: RunFolder) -> None:
        super().__init__(f"{report.faults[0].message} (the run was not started; the whole report: {folder.check})")
        self.report, self.folder = report, folder
