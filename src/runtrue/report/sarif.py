"""A report as SARIF 2.1.0 (OASIS): the form in which code scanning (GitHub, Azure DevOps, editors) takes findings.

Section numbers are those of the standard. The rules are the causes that have a check. No `fixes` are given: those are
replacements of text in a file (3.55), and where the user's code builds a network is not known; the cure stands in the
message and, as code to paste, in the properties.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtrue.findings import STAGE_OF, Finding, plain
from runtrue.report import Report
from runtrue.report.numbers import clean, one_line
from runtrue.report.proof import proof_of

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVEL = {"fault": "error", "warning": "warning", "note": "note"}
LONE = re.compile("[\ud800-\udfff]")
"""Halves of characters (names of files that are no text): JSON can spell them, UTF-8 cannot."""


@dataclass(frozen=True)
class Rule:
    """A cause that has a check: its meaning in one line, and the whole explanation."""

    cause: str
    meaning: str
    explanation: str


@dataclass(frozen=True)
class Place:
    """Where the target stands. `file`: relative to the root of the repository, or absolute if it lies outside of it."""

    target: str
    file: str = ""
    line: int = 1
    """1 where it could not be found: code scanning wants a line."""


@dataclass(frozen=True)
class Run:
    """One check and what is told about it."""

    report: Report
    rules: Sequence[Rule]
    place: Place
    version: str
    causes: Sequence[str]
    """What was looked for."""
    silenced: Mapping[str, str] = field(default_factory=dict)
    """Causes that were skipped, each with who said so."""
    cured: Report | None = None
    """The check of the cured copy, where there was one."""


def to_sarif(run: Run) -> str:
    """The log as text: one run, in plain ASCII, without a number that is not finite."""
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(run)]}, indent=2, allow_nan=False)


def _run(run: Run) -> dict[str, Any]:
    order = [rule.cause for rule in run.rules]
    return {
        "tool": {
            "driver": {
                "name": "runtrue",
                "version": run.version,
                "semanticVersion": run.version,
                "rules": [_rule(rule) for rule in run.rules],
            }
        },
        "automationDetails": {"id": f"runtrue/{legal(run.place.target)}/"},  # 3.17.3; code scanning's category
        "invocations": [_invocation(run, order)],
        "results": [_result(run, finding, order) for finding in run.report.findings],
        "columnKind": "unicodeCodePoints",
        "properties": _about(run),
    }


def _rule(rule: Rule) -> dict[str, Any]:
    """3.49. A helpUri would have to be absolute, and the manual has no fixed place."""
    help_text = f"{rule.explanation}\n\nMore: runtrue check --explain {rule.cause}"
    return {
        "id": rule.cause,
        "shortDescription": {"text": told(one_line(rule.meaning))},
        "fullDescription": {"text": told(rule.explanation)},
        "help": {"text": told(help_text)},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": [STAGE_OF[rule.cause]]},
    }


def _invocation(run: Run, order: Sequence[str]) -> dict[str, Any]:
    """3.20. Rules that were switched off for this run say so."""
    off = [cause for cause in order if cause not in run.causes]
    return {
        "executionSuccessful": True,
        "ruleConfigurationOverrides": [
            {"descriptor": {"id": cause, "index": order.index(cause)}, "configuration": {"enabled": False}}
            for cause in off
        ],
    }


def _about(run: Run) -> dict[str, Any]:
    report = run.report
    about: dict[str, Any] = {
        "ok": report.ok,
        "cost": {"seconds": round(report.seconds, 3), "steps": report.steps},
        "notLookedFor": {cause: legal(said_by) for cause, said_by in run.silenced.items()},
    }
    if run.cured is not None:
        about["afterTheCure"] = {"ok": run.cured.ok, "faults": [fault.cause for fault in run.cured.faults]}
    cleaned: dict[str, Any] = clean_all(plain(about))
    return cleaned


def _result(run: Run, finding: Finding, order: Sequence[str]) -> dict[str, Any]:
    """3.27."""
    index = {"ruleIndex": order.index(finding.cause)} if finding.cause in order else {}
    return {
        "ruleId": finding.cause,
        **index,
        "level": LEVEL[finding.severity],
        "message": {"text": told(_text(finding)), "markdown": told(_markdown(finding))},
        "locations": [_location(run.place, finding)],
        "properties": _properties(run.report, finding),
    }


def _location(place: Place, finding: Finding) -> dict[str, Any]:
    """3.28: the lines that make the task, and the part of the network."""
    found: dict[str, Any] = {
        "logicalLocations": [
            {
                "name": legal(one_line(finding.where)) or "task",
                "fullyQualifiedName": legal(f"{place.target}: {finding.where}"),
            }
        ]
    }
    if place.file:
        found["physicalLocation"] = {
            "artifactLocation": _artifact(place.file),
            "region": {"startLine": place.line},
        }
    return found


def _artifact(file: str) -> dict[str, str]:
    """3.4: a path inside the repository is relative to its root; another one is a URI of its own."""
    if Path(file).is_absolute():
        return {"uri": Path(file).as_uri()}
    return {"uri": quote(os.fsencode(file)), "uriBaseId": "%SRCROOT%"}


def _text(finding: Finding) -> str:
    """The message first: where there is little room, code scanning shows the first sentence."""
    said = [f"{one_line(finding.message).rstrip('.')}.", f"Where: {one_line(finding.where)}."]
    if finding.explained_by:
        said.append(f"Explained by {finding.explained_by}.")
    if finding.remedy is not None:
        said.append(f"Cure: {one_line(finding.remedy.name)}.")
    if finding.outcome is not None:
        said.append(f"Proof: {proof_of(finding.outcome)}")
    return " ".join(said)


def _markdown(finding: Finding) -> str:
    """The same with the code to paste."""
    if finding.remedy is None or not finding.remedy.code:
        return _text(finding)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", finding.remedy.code)), default=0))
    return f"{_text(finding)}\n\n{fence}python\n{clean(finding.remedy.code)}\n{fence}"


def _properties(report: Report, finding: Finding) -> dict[str, Any]:
    """3.8: the finding as `report.to_dict()` tells it, but for what the result says already and for the curves."""
    symptoms = report.explained_by(finding.cause) if finding.severity == "fault" else ()
    told_already = ("cause", "message")
    kept = {
        key: value
        for key, value in finding.to_dict(tuple(s.cause for s in symptoms)).items()
        if key not in told_already
    }
    if finding.outcome is not None:
        kept["outcome"] = {key: value for key, value in kept["outcome"].items() if key != "curves"}
    cleaned: dict[str, Any] = clean_all(kept)
    return cleaned


def told(text: str) -> str:
    """A message string (3.11.5): a brace that is no placeholder is doubled, and brackets do not make a link (3.11.6)."""
    return legal(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")


def legal(text: str) -> str:
    """`text` without control characters and halves of characters."""
    return LONE.sub("", clean(text))


def clean_all(value: Any) -> Any:
    """Every string in a JSON value made `legal`."""
    if isinstance(value, str):
        return legal(value)
    if isinstance(value, Mapping):
        return {legal(str(key)): clean_all(item) for key, item in value.items()}
    return [clean_all(item) for item in value] if isinstance(value, list) else value
