"""What machines read: valid JSON, of a stable shape, whatever the numbers are."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import report_samples as samples

NUMBER = {"type": ["number", "null"]}
CURVE = {"type": "array", "items": NUMBER}
OUTCOME = {
    "type": ["object", "null"],
    "required": ["before", "after", "cured", "steps", "seeds", "baseline", "skill", "curves"],
    "additionalProperties": False,
    "properties": {
        "before": NUMBER,
        "after": NUMBER,
        "cured": {"type": "boolean"},
        "steps": {"type": "integer"},
        "seeds": {"type": "integer"},
        "baseline": NUMBER,
        "skill": {"type": "object", "required": ["before", "after"], "properties": {"before": NUMBER, "after": NUMBER}},
        "curves": {"type": "object", "required": ["before", "after"], "properties": {"before": CURVE, "after": CURVE}},
    },
}
REMEDY = {
    "type": ["object", "null"],
    "required": ["name", "safe", "code"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "safe": {"type": "boolean"}, "code": {"type": "string"}},
}
TEXT = {"type": "string"}
FINDING = {
    "type": "object",
    "required": ["cause", "severity", "where", "message", "evidence", "remedy", "outcome", "explains", "explained_by"],
    "additionalProperties": False,
    "properties": {
        "cause": TEXT,
        "severity": {"enum": ["fault", "warning", "note"]},
        "where": TEXT,
        "message": TEXT,
        "evidence": {"type": "object"},
        "remedy": REMEDY,
        "outcome": OUTCOME,
        "explains": {"type": "array", "items": TEXT},
        "explained_by": {"type": ["string", "null"]},
    },
}
FINDINGS = {"type": "array", "items": FINDING}
REPORT = {
    "type": "object",
    "required": ["schema", "ok", "faults", "warnings", "notes", "cost"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "ok": {"type": "boolean"},
        "faults": FINDINGS,
        "warnings": FINDINGS,
        "notes": FINDINGS,
        "cost": {"type": "object", "required": ["seconds", "steps"]},
    },
}


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("make", samples.ALL)
def test_every_report_is_json_of_the_published_shape(make: Any) -> None:
    read = json.loads(make().to_json(), parse_constant=refuse)
    jsonschema.validate(read, REPORT)
    assert read == make().to_dict()


def test_the_root_cause_lists_what_it_explains() -> None:
    (fault,) = samples.faulty().to_dict()["faults"]
    assert fault["explains"] == ["vanishing-gradient", "learning-rate-too-low"]
    assert [note["explained_by"] for note in samples.faulty().to_dict()["notes"]] == ["init-too-small"] * 2 + [None]


def test_a_number_that_is_not_finite_becomes_null() -> None:
    (fault,) = samples.broken().to_dict()["faults"]
    assert fault["outcome"]["before"] is None and fault["outcome"]["after"] == 0.39
    assert fault["outcome"]["curves"]["before"][12:15] == [2.3 * 3**12, None, None]
