"""The code of remedies in the words of a LightningModule: `self`, and the methods in which the lines belong."""

from __future__ import annotations

import re
from dataclasses import replace

from runtrue.findings import Finding
from runtrue.lightning_task.inline import LossOf
from runtrue.lightning_task.optimizer import Configured
from runtrue.lightning_task.parts import StepLoss
from runtrue.lightning_task.step import training_step
from runtrue.report import Report
from runtrue.task import Task

OPTIMIZER = "# in configure_optimizers"
STEP = "# in training_step"
INIT = "# at the end of __init__"


def is_adapted(task: Task) -> bool:
    """True for a task that `task_of` made."""
    return isinstance(task.loss, (StepLoss, LossOf)) or task.step is training_step


def spoken(report: Report, task: Task) -> Report:
    """The report with the code of its remedies as it is written in a LightningModule; any other task's as it is."""
    if not is_adapted(task):
        return report
    schedules = task.optimizer.schedules if isinstance(task.optimizer, Configured) else ()
    return replace(report, findings=tuple(_finding(f, schedules) for f in report.findings))


def _finding(finding: Finding, schedules: tuple[str, ...]) -> Finding:
    if finding.remedy is None:
        return finding
    return replace(finding, remedy=replace(finding.remedy, code=in_module(finding.remedy.code, schedules)))


def in_module(code: str, schedules: tuple[str, ...] = ()) -> str:
    """The same code as it stands in a LightningModule.

    >>> print(in_module("optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"))
    # in configure_optimizers
    optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
    >>> print(in_module("model.net[4] = nn.Identity()  # was: softmax"))
    # at the end of __init__
    self.net[4] = nn.Identity()  # was: softmax
    """
    behind = re.fullmatch(r"model = nn\.Sequential\(model, (.*)\)", code.strip())
    if behind:
        return f"{STEP}\noutputs = {behind[1]}(outputs)  # behind the last layer, before the loss"
    lines: list[str] = []
    place = ""
    for line in code.split("\n"):
        here = _place(line) or place
        if here != place:
            lines.append(here)
            place = here
        lines.append(re.sub(r"\bmodel\b(?=[.,)\]])", "self", line))
    if schedules and OPTIMIZER in lines:
        lines.append(f"# and the rates of {', '.join(schedules)} by the same factor: it sets those of the optimizer")
    return "\n".join(lines)


def _place(line: str) -> str:
    """The method in which a line belongs; "" where the line before says it."""
    if re.match(r"optimizer = |for group in optimizer", line):
        return OPTIMIZER
    if re.match(r"(loss|outputs|targets|inputs|mean, std|prediction)\b.* = ", line):
        return STEP
    if re.match(r"model[.\[]|for (name|module|parameter|layer)\b|from torch import nn|layer = model", line):
        return INIT
    return ""
