"""What CI systems read: well-formed XML whatever the messages hold, one case a cause, counts that agree with the cases."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
import report_samples as samples

from runtrue.findings import Finding, Outcome
from runtrue.report import Report
from runtrue.report.junit import Suite, class_of, legal, to_junit
from runtrue.report.proof import proof_of

CAUSES = ("repeated-examples", "class-imbalance", "init-too-small", "dead-units", "vanishing-gradient")
XML_CHAR = re.compile(r"[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")  # XML 1.0, production [2]
CHILDREN = {"failure", "skipped", "system-out"}


def read(*suites: Suite) -> Element:
    """The XML as a parser sees it, its shape checked on the way."""
    text = to_junit(suites)
    assert text.isascii() and text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    root = fromstring(text)
    assert root.tag == "testsuites" and [child.tag for child in root] == ["testsuite"] * len(suites)
    for suite in root:
        head, *cases = suite
        assert head.tag == "properties" and all({"name", "value"} == set(entry.attrib) for entry in head)
        assert {case.tag for case in cases} <= {"testcase"}
        for case in cases:
            assert {"name", "classname"} <= set(case.attrib)
            assert len(case) <= 1 and {child.tag for child in case} <= CHILDREN
        agree(suite, cases)
    for key in ("tests", "failures", "errors", "skipped"):
        assert int(root.attrib[key]) == sum(int(suite.attrib[key]) for suite in root)
    return root


def agree(suite: Element, cases: list[Element]) -> None:
    kinds = [child.tag for case in cases for child in case]
    counted = {"tests": len(cases), "failures": kinds.count("failure"), "errors": 0, "skipped": kinds.count("skipped")}
    assert {key: int(suite.attrib[key]) for key in counted} == counted
    assert float(suite.attrib["time"]) >= 0


def case_of(root: Element, cause: str) -> Element:
    (found,) = [case for case in root.iter("testcase") if case.attrib["name"] == cause]
    return found


@pytest.mark.parametrize("make", samples.ALL)
def test_every_report_is_well_formed(make: Any) -> None:
    root = read(Suite(make(), CAUSES))
    strings = [text for element in root.iter() for text in (element.text or "", *element.attrib.values())]
    assert all(XML_CHAR.fullmatch(text) for text in strings)
    assert {case.attrib["name"] for case in root.iter("testcase")} == {*CAUSES, *(f.cause for f in make().findings)}


def test_a_fault_fails_its_case_with_evidence_cure_and_proof() -> None:
    root = read(Suite(samples.faulty(), CAUSES, file="src/train.py", line=12))
    case = case_of(root, "init-too-small")
    assert case.attrib["classname"] == "runtrue.initial-weights"
    assert case.attrib["file"] == "src/train.py" and case.attrib["line"] == "12"
    (failure,) = case
    assert failure.tag == "failure" and failure.attrib["message"].startswith("The signal dies on its way")
    body = failure.text or ""
    said = [
        "fault: The signal dies", "where: net.0 to net.18", "  std last: 4.096e-7", "  limit: 0.1",
        "explains: vanishing-gradient: The gradient of", "cure: Kaiming initialization (safe)",
        "    for layer in model.modules():\n        if isinstance(layer, nn.Linear):",
        "proof: cured: loss 2.303 untreated, 0.421 treated. Both were trained for the same 60 steps",
    ]  # fmt: skip
    places = [body.index(words) for words in said]
    assert places == sorted(places)


def test_a_warning_is_skipped_and_a_note_is_output_of_a_case_that_passed() -> None:
    root = read(Suite(samples.faulty(), CAUSES))
    (skipped,) = case_of(root, "class-imbalance")
    assert skipped.tag == "skipped"
    assert skipped.attrib["message"].startswith("warning, not verified: Class 3 makes up 41 % of the examples")
    assert "cure: Weight the classes in the loss (not safe" in (skipped.text or "")
    for cause, words in (("repeated-examples", "12 of 3,000"), ("vanishing-gradient", "explained by: init-too-small")):
        (output,) = case_of(root, cause)
        assert output.tag == "system-out" and words in (output.text or "")
    assert list(case_of(root, "dead-units")) == []
    (suite,) = root
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["skipped"]) == ("6", "1", "1")


def test_skill_is_told_where_it_is_known() -> None:
    outcome = Outcome(0.2, 0.9, True, 40, skill_before=0.0, skill_after=0.75)
    assert proof_of(outcome).startswith(
        "cured: loss 0.2 untreated, 0.9 treated; skill 0 and 0.75 (0 like the best constant, 1 perfect). Both"
    )
    assert "skill" not in proof_of(Outcome(0.2, 0.9, False, 40, skill_after=0.75))


def test_two_findings_of_one_cause_are_one_case_and_the_worst_decides() -> None:
    mild = Finding("non-finite-data", "note", "train inputs", "1 of 9 examples holds a NaN")
    bad = Finding("non-finite-data", "fault", "train targets", "3 of 9 targets are NaN")
    (case,) = read(Suite(Report((mild, bad)), ["non-finite-data"])).iter("testcase")
    (failure,) = case
    assert failure.attrib["message"] == "3 of 9 targets are NaN" and "1 of 9 examples holds a NaN" in (
        failure.text or ""
    )


def test_what_was_silenced_is_a_property_and_no_case() -> None:
    root = read(Suite(samples.healthy(), CAUSES[1:], {"repeated-examples": "pyproject.toml"}))
    properties = {entry.attrib["name"]: entry.attrib["value"] for entry in root.iter("property")}
    assert properties == {"steps": "180", "not looked for: repeated-examples": "pyproject.toml"}
    assert [case.attrib["name"] for case in root.iter("testcase")] == list(CAUSES[1:])


def test_two_checks_are_two_suites() -> None:
    root = read(Suite(samples.faulty(), CAUSES), Suite(samples.healthy(), CAUSES, note="after the cure"))
    assert [suite.attrib["name"] for suite in root] == ["train.py:task", "demo:healthy after the cure"]
    assert root.attrib["failures"] == "1"


def test_any_character_at_all() -> None:
    every = "".join(map(chr, (*range(0x250), *range(0xD7F0, 0xE010), *range(0xFFF0, 0x10010), 0x10FFFF)))
    hard = f"]]>&<\"' {every} nan"
    fault = Finding(
        "dead-units", "fault", hard, hard, {hard: float("nan"), "inf": float("inf")}, samples.remedy(hard, True, hard)
    )
    (failure,) = case_of(read(Suite(Report((fault,), name=hard), CAUSES, file=hard)), "dead-units")
    assert "]]>&<\"'" in failure.attrib["message"] and "\U0010ffff" in failure.attrib["message"]
    assert "  inf: inf" in (failure.text or "")
    kept = legal(every)
    assert XML_CHAR.fullmatch(kept) and "\n" in kept and "\t" in kept and "\ufffd" in kept and "\ue000" in kept


def test_classes_are_named_for_the_stage() -> None:
    assert [class_of(cause) for cause in ("wrong-loss", "plateau")] == [
        "runtrue.loss-and-output",
        "runtrue.during-a-run",
    ]
