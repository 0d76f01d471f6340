"""The code of remedies in the words of a LightningModule: `self`, and the methods in which the lines belong."""

from __future__ import annotations

import re
from dataclasses import replace

from runtrue.findings import Finding
from runtrue.lightning_task.inline import LossOf
from runtrue.lightning_task.optimizer import Configured
from runtrue.lightning_task.parts import StepLoss
from runtrue.lightning_task.whole import WholeStep
from runtrue.report import Report
from runtrue.task import Task

OPTIMIZER = "# in configure_optimizers"
STEP = "# in training_step"
DATA = "# where the data are made"
INIT = "# at the end of __init__"
ABSOLUTE = {"OneCycleLR", "CyclicLR"}  # rates of their own, whatever the optimizer was given


def is_adapted(task: Task) -> bool:
    """True for a task that `task_of` made."""
    return isinstance(task.loss, (StepLoss, LossOf)) or isinstance(task.step, WholeStep)


def spoken(report: Report, task: Task) -> Report:
    """The report with the code of its remedies as it is written in a LightningModule; any other task's as it is."""
    if not is_adapted(task):
        return report
    made = task.optimizer if isinstance(task.optimizer, Configured) else None
    return replace(report, findings=tuple(_finding(f, made) for f in report.findings))


def _finding(finding: Finding, made: Configured | None) -> Finding:
    if finding.remedy is None:
        return finding
    code = in_module(finding.remedy.code)
    return replace(finding, remedy=replace(finding.remedy, code=code if made is None else scheduled(code, made)))


def scheduled(code: str, made: Configured) -> str:
    """The rate that was tried, which is constant, as the rate to give to the schedule.

    >>> import torch
    >>> half = Configured(torch.nn.Linear(1, 1), (0.05,), ("OneCycleLR",), 2.0)
    >>> print(scheduled("optimizer = torch.optim.SGD(self.parameters(), lr=0.005)", half))
    optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
    # OneCycleLR sets the rate: give it max_lr=0.01, which is a mean of 0.005, the rate that was tried
    """
    found = re.search(r"^optimizer = .*\blr=([0-9.e+-]+)", code, re.MULTILINE)
    if found is None or not made.schedules:
        return code
    tried = float(found[1])
    peak = f"{tried * made.peak:.4g}"
    code = code[: found.start(1)] + peak + code[found.end(1) :]
    names = ", ".join(made.schedules)
    told = f"which is a mean of {tried:.4g}, the rate that was tried"
    if set(made.schedules) & ABSOLUTE:
        return f"{code}\n# {names} sets the rate: give it max_lr={peak}, {told}"
    return code if made.peak == 1 else f"{code}\n# before {names}, {told}"


def in_module(code: str) -> str:
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
    return "\n".join(lines)


def _place(line: str) -> str:
    """The method in which a line belongs; "" where the line before says it."""
    if re.match(r"optimizer = |for group in optimizer", line):
        return OPTIMIZER
    if re.match(r"(mean, std|inputs\b.*|seen|keep) = ", line):
        return DATA
    if re.match(r"(loss|outputs|targets|prediction)\b.* = ", line):
        return STEP
    if re.match(r"model[.\[]|for (name|module|parameter|layer)\b|from torch import nn|layer = model", line):
        return INIT
    return ""
