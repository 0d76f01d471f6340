"""A check's result in the forms that machines read: JSON, JUnit XML, SARIF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from runtrue import __version__
from runtrue.checks import CHECKS
from runtrue.cli import places
from runtrue.report import Report
from runtrue.report.junit import Suite, to_junit
from runtrue.report.sarif import Place, Rule, Run, to_sarif
from runtrue.settings import Choice


@dataclass(frozen=True)
class Result:
    """One check of a target. `cured`: the check of the cured copy, where there was one."""

    target: str
    report: Report
    choice: Choice
    cured: Report | None = None


def as_json(result: Result) -> str:
    return result.report.to_json()


def as_junit(result: Result) -> str:
    """One suite, and a second one for the cured copy."""
    file, line = places.find(result.target)
    choice = result.choice
    suites = [Suite(result.report, choice.causes, choice.silenced, file, line)]
    if result.cured is not None:
        causes = tuple(cause for cause in CHECKS if cause not in choice.skip)
        cured = replace(result.cured, name=result.report.name)
        suites.append(Suite(cured, causes, choice.silenced, file, line, "after the cure"))
    return to_junit(suites)


def as_sarif(result: Result) -> str:
    place = Place(result.target, *places.find(result.target))
    rules = tuple(Rule(known.cause, known.meaning, known.explanation) for known in CHECKS.values())
    choice = result.choice
    return to_sarif(Run(result.report, rules, place, __version__, choice.causes, choice.silenced, result.cured))


FORMS: dict[str, Callable[[Result], str]] = {"json": as_json, "junit": as_junit, "sarif": as_sarif}
