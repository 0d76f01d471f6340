"""A report as JUnit XML: the form in which CI systems (GitLab, Jenkins, Azure, CircleCI) take the results of tests.

One suite a check, one case a cause that was looked for. A fault fails its case. A warning is a case that was *skipped*, with its
message: it is neither passed nor failed, just as a suspicion that no trial verified is; GitLab, Jenkins and Azure show a
skipped case with its text, while GitLab drops the output of a case that passed. A note is output of a case that passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from runtrue.findings import STAGE_OF, Finding
from runtrue.report import Report
from runtrue.report.content import numbers_of
from runtrue.report.numbers import clean, one_line, shown
from runtrue.report.proof import proof_of

NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped (section 2.2, `Char`)."""


@dataclass(frozen=True)
class Suite:
    """One check: its report, the causes that were looked for, those that were silenced and by whom, the target's place."""

    report: Report
    causes: Sequence[str]
    silenced: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    """Where the target stands, relative to the root of the repository; empty if it stands in no file."""
    line: int = 1
    note: str = ""
    """Words behind the report's name, to tell two checks of one target apart."""

    @property
    def name(self) -> str:
        return f"{self.report.name} {self.note}".strip()

    @property
    def findings(self) -> dict[str, list[Finding]]:
        """Cause -> its findings, faults first; of what was looked for and of whatever else was found."""
        found: dict[str, list[Finding]] = {}
        for cause in (*self.causes, *(finding.cause for finding in self.report.findings)):
            found[cause] = []
        for finding in (*self.report.faults, *self.report.warnings, *self.report.notes):
            found[finding.cause].append(finding)
        return found


def to_junit(suites: Iterable[Suite]) -> str:
    """The XML as text. It is plain ASCII (other characters stand as references), so that no console or file garbles it."""
    root = Element("testsuites", name="runtrue")
    counts = [_suite(root, suite) for suite in suites]
    root.attrib |= {key: str(sum(count[key] for count in counts)) for key in ("tests", "failures", "errors", "skipped")}
    indent(root)
    text: str = tostring(root, encoding="us-ascii", xml_declaration=False).decode()
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'


def _suite(root: Element, suite: Suite) -> dict[str, int]:
    """The suite's element, and how many cases there are of each kind."""
    made = SubElement(root, "testsuite", name=legal(suite.name))
    _properties(made, suite)
    for cause, findings in suite.findings.items():
        _case(made, suite, cause, findings)
    counts = {
        "tests": len(made.findall("testcase")),
        "failures": len(made.findall("testcase/failure")),
        "errors": 0,
        "skipped": len(made.findall("testcase/skipped")),
    }
    made.attrib |= {key: str(count) for key, count in counts.items()} | {"time": f"{suite.report.seconds:.3f}"}
    return counts


def _properties(made: Element, suite: Suite) -> None:
    """What the check cost, and every cause that was not looked for although there is a check for it."""
    inside = SubElement(made, "properties")
    SubElement(inside, "property", name="steps", value=str(suite.report.steps))
    for cause, said_by in suite.silenced.items():
        SubElement(inside, "property", name=f"not looked for: {cause}", value=legal(said_by))


def _case(made: Element, suite: Suite, cause: str, findings: Sequence[Finding]) -> None:
    """At most one failure or skip a case: readers count cases."""
    case = SubElement(made, "testcase", classname=class_of(cause), name=cause)
    if suite.file:
        case.attrib |= {"file": legal(suite.file), "line": str(suite.line)}
    if not findings:
        return
    worst, text = findings[0].severity, legal("\n\n".join(body(suite.report, finding) for finding in findings))
    message = legal(one_line(findings[0].message))
    if worst == "fault":
        SubElement(case, "failure", message=message, type=cause).text = text
    elif worst == "warning":
        SubElement(case, "skipped", message=f"warning, not verified: {message}", type="runtrue.warning").text = text
    else:
        SubElement(case, "system-out").text = text


def class_of(cause: str) -> str:
    """`runtrue.initial-weights`: CI systems group cases by the part before the last dot, and by the whole."""
    return f"runtrue.{STAGE_OF[cause].replace(' ', '-')}"


def body(report: Report, finding: Finding) -> str:
    """A finding in lines of text: what, where, how much, what it explains, the cure, the proof."""
    told = [f"{finding.severity}: {finding.message}", f"where: {finding.where}"]
    numbers = numbers_of(finding)
    if numbers:
        told += ["", "evidence:", *(f"  {name}: {shown(value)}" for name, value in numbers.items())]
    symptoms = report.explained_by(finding.cause) if finding.severity == "fault" else ()
    told += [f"explains: {symptom.cause}: {symptom.message}" for symptom in symptoms]
    if finding.explained_by:
        told.append(f"explained by: {finding.explained_by}")
    if finding.remedy is not None:
        safety = "safe" if finding.remedy.safe else "not safe: it changes weights or the architecture"
        told += ["", f"cure: {finding.remedy.name} ({safety})", *_moved_in(finding.remedy.code)]
    if finding.outcome is not None:
        told += ["", f"proof: {proof_of(finding.outcome)}"]
    return "\n".join(clean(line) for line in told)


def _moved_in(code: str) -> list[str]:
    return [f"    {line}".rstrip() for line in code.splitlines()]


def legal(text: str) -> str:
    """`text` without what XML cannot hold."""
    return NO_XML.sub("", clean(text))
