"""A pytest fixture: `def test_it_trains(runtrue): runtrue.check(task)` fails with the report as its message.

pytest loads this file whenever runtrue is installed, so it imports nothing until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from runtrue.report import Report

FailOn = Literal["fault", "warning"]
SEVERITIES: tuple[FailOn, ...] = ("fault", "warning")


@dataclass(frozen=True)
class Gate:
    """What the fixture `runtrue` gives to a test. `folder`: where pytest's rootdir is; `name`: of the test."""

    folder: Path
    name: str = "task"

    def check(
        self,
        task: Any,
        train: Any = None,
        *,
        fail_on: FailOn = "fault",
        only: Iterable[str] = (),
        skip: Iterable[str] = (),
        **arguments: Any,
    ) -> Report:
        """`runtrue.check` with the same arguments; the test fails with the report if a fault was found.

        fail_on: "warning" fails also for what was suspected and could not be verified. What [tool.runtrue] of the nearest
        pyproject.toml skips, seen from pytest's rootdir, is skipped. A task that cannot be run, an unknown cause id or a
        wrong pyproject.toml fail the test in one line. Returns the report if the test may go on.
        """
        from runtrue import api, settings
        from runtrue.task import TaskError

        if fail_on not in SEVERITIES:
            pytest.fail(f'fail_on must be "fault" or "warning", not {fail_on!r}', pytrace=False)
        try:
            choice = settings.choice(only, skip, settings.nearest(self.folder), "skip=")
            report = api.check(task, train, only=choice.only, skip=choice.skip, **arguments)
        except (TaskError, ValueError, TypeError) as error:
            pytest.fail(f"runtrue: {error}", pytrace=False)
        report = replace(report, name=self.name)
        if report.faults or (fail_on == "warning" and report.warnings):
            pytest.fail(message(report, choice.silenced), pytrace=False)
        return report


def message(report: Report, silenced: Iterable[str]) -> str:
    """The report as text, what fails the test in its first line: pytest's summary shows no other."""
    text = str(report).partition("\n")[2] if report.faults else f"suspected: {_causes(report)}\n{report}"
    skipped = ", ".join(silenced)
    return f"{text}\nnot looked for: {skipped}" if skipped else text.rstrip()


def _causes(report: Report) -> str:
    return ", ".join(warning.cause for warning in report.warnings)


@pytest.fixture(name="runtrue")
def gate(request: pytest.FixtureRequest) -> Gate:
    """Fails the test if a network will not train: `runtrue.check(task)`, with the arguments of `runtrue.check`."""
    return Gate(request.config.rootpath, request.node.name)
