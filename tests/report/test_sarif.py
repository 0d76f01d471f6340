"""What code scanning reads: SARIF 2.1.0. The schema below is written from the standard; section numbers are its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import jsonschema
import pytest
import report_samples as samples

from runtrue.checks import CHECKS
from runtrue.findings import Finding
from runtrue.report import Report
from runtrue.report.sarif import LEVEL, Place, Rule, Run, to_sarif, told

RULES = tuple(Rule(known.cause, known.meaning, known.explanation) for known in CHECKS.values())
CAUSES = tuple(rule.cause for rule in RULES)
HERE = Place("src/train.py:task", "src/train.py", 12)


def an_object(required: list[str], **properties: Any) -> dict[str, Any]:
    """Closed: a property that is not named here is a typing error, as in the official schema."""
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


def array(items: Any, **rules: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **rules}


TEXT = {"type": "string"}
INDEX = {"type": "integer", "minimum": -1}
BAG = {"type": "object"}  # 3.8
MESSAGE = an_object(
    ["text"], text={"type": "string", "minLength": 1}, markdown=TEXT
)  # 3.11, with text in place of an id
MULTIFORMAT = an_object(["text"], text={"type": "string", "minLength": 1}, markdown=TEXT)  # 3.12
CONFIGURATION = an_object([], enabled={"type": "boolean"}, level={"enum": ["none", "note", "warning", "error"]})  # 3.50
RULE = an_object(  # 3.49
    ["id"], id=TEXT, name=TEXT, shortDescription=MULTIFORMAT, fullDescription=MULTIFORMAT, help=MULTIFORMAT,
    helpUri={"type": "string", "format": "uri"}, defaultConfiguration=CONFIGURATION, properties=BAG,
)  # fmt: skip
DRIVER = an_object(  # 3.19
    ["name"], name=TEXT, version=TEXT, semanticVersion=TEXT, informationUri=TEXT, rules=array(RULE, uniqueItems=True)
)
ARTIFACT = an_object([], uri={"type": "string", "format": "uri-reference"}, uriBaseId=TEXT, index=INDEX)  # 3.4
REGION = an_object(
    [], startLine={"type": "integer", "minimum": 1}, startColumn={"type": "integer", "minimum": 1}
)  # 3.30
LOCATION = an_object(  # 3.28
    [], physicalLocation=an_object(["artifactLocation"], artifactLocation=ARTIFACT, region=REGION),  # 3.29
    logicalLocations=array(an_object([], name=TEXT, fullyQualifiedName=TEXT, kind=TEXT)),  # 3.33
)  # fmt: skip
RESULT = an_object(  # 3.27
    ["message"], ruleId=TEXT, ruleIndex=INDEX, level={"enum": ["none", "note", "warning", "error"]}, message=MESSAGE,
    locations=array(LOCATION), properties=BAG,
)  # fmt: skip
OVERRIDE = an_object(
    ["descriptor", "configuration"], descriptor=an_object([], id=TEXT, index=INDEX), configuration=CONFIGURATION
)
INVOCATION = an_object(
    ["executionSuccessful"], executionSuccessful={"type": "boolean"}, ruleConfigurationOverrides=array(OVERRIDE)
)
RUN = an_object(  # 3.14
    ["tool", "results"], tool=an_object(["driver"], driver=DRIVER), automationDetails=an_object([], id=TEXT),
    invocations=array(INVOCATION), results=array(RESULT), columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    properties=BAG,
)  # fmt: skip
LOG = an_object(["version", "runs"], **{"$schema": TEXT, "version": {"const": "2.1.0"}, "runs": array(RUN)})  # 3.13


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def run_of(report: Report, **parts: Any) -> dict[str, Any]:
    """The only run of the log, after everything that the standard asks for was looked at."""
    given = {"rules": RULES, "place": HERE, "version": "1.2.3", "causes": CAUSES, **parts}
    text = to_sarif(Run(report, **given))
    log = json.loads(text, parse_constant=refuse)
    assert text.isascii()
    jsonschema.validate(log, LOG)
    (run,) = log["runs"]
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(ids)) == len(ids)
    for result in run["results"]:  # 3.27.5 and 3.27.6: the index is that of the rule in the driver
        assert "ruleIndex" not in result or ids[result["ruleIndex"]] == result["ruleId"]
        assert result["locations"], "code scanning takes no result without a place"
    for override in run["invocations"][0]["ruleConfigurationOverrides"]:
        assert ids[override["descriptor"]["index"]] == override["descriptor"]["id"]
    for words in (text for result in run["results"] for text in result["message"].values()):
        assert not re.search(r"(?<!\{)(\{\{)*\{\d+\}", words), "a placeholder without arguments (3.11.5)"
        json.dumps(words, ensure_ascii=False).encode()  # no half of a character
    found: dict[str, Any] = run
    return found


@pytest.mark.parametrize("make", samples.ALL)
def test_every_report_is_a_log_of_the_standards_shape(make: Any) -> None:
    report = make()
    run = run_of(report)
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        (f.cause, LEVEL[f.severity]) for f in report.findings
    ]
    assert run["properties"]["ok"] is report.ok


def test_rules_are_the_register() -> None:
    driver = run_of(samples.healthy())["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("runtrue", "1.2.3")
    assert [rule["id"] for rule in driver["rules"]] == list(CHECKS)
    for rule in driver["rules"]:
        known = CHECKS[rule["id"]]
        undoubled = {
            key: rule[key]["text"].replace("{{", "{").replace("}}", "}")
            for key in ("shortDescription", "fullDescription")
        }
        assert undoubled == {"shortDescription": known.meaning, "fullDescription": known.explanation}
        assert f"runtrue check --explain {rule['id']}" in rule["help"]["text"]
        assert rule["properties"]["tags"] == [known.stage] and "helpUri" not in rule


def test_a_fault_says_where_in_the_file_and_in_the_network() -> None:
    result = run_of(samples.faulty())["results"][0]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "src/train.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 12},
    }
    (logical,) = location["logicalLocations"]
    assert logical["name"] == "net.0 to net.18 (10 layers)"
    assert logical["fullyQualifiedName"] == "src/train.py:task: net.0 to net.18 (10 layers)"


def test_a_fault_tells_cure_and_proof_and_no_replacement_of_text() -> None:
    result = run_of(samples.faulty())["results"][0]
    text = result["message"]["text"]
    said = [
        "The signal dies on its way",
        "Where: net.0",
        "Cure: Kaiming initialization.",
        "Proof: cured: loss 2.303 untreated, 0.421 treated.",
    ]
    places = [text.index(words) for words in said]
    assert places == sorted(places) and places[0] == 0
    assert f"```python\n{samples.CODE}\n```" in result["message"]["markdown"]
    told_of = result["properties"]
    assert told_of["remedy"] == {"name": "Kaiming initialization", "safe": True, "code": samples.CODE}
    assert told_of["explains"] == ["vanishing-gradient", "learning-rate-too-low"]
    assert told_of["evidence"]["std_last"] == 4.096e-07 and told_of["outcome"]["cured"] is True
    assert "curves" not in told_of["outcome"] and "fixes" not in result


def test_a_symptom_names_its_root() -> None:
    notes = {r["ruleId"]: r for r in run_of(samples.faulty())["results"] if r["level"] == "note"}
    assert "Explained by init-too-small." in notes["vanishing-gradient"]["message"]["text"]
    assert notes["vanishing-gradient"]["properties"]["explained_by"] == "init-too-small"


def test_what_was_not_looked_for_is_switched_off_in_this_run() -> None:
    left = tuple(cause for cause in CAUSES if cause not in ("dead-units", "init-symmetric"))
    run = run_of(samples.healthy(), causes=left, silenced={"dead-units": "pyproject.toml"})
    off = run["invocations"][0]["ruleConfigurationOverrides"]
    assert {o["descriptor"]["id"] for o in off} == {"dead-units", "init-symmetric"}
    assert all(o["configuration"] == {"enabled": False} for o in off)
    assert run["properties"]["notLookedFor"] == {"dead-units": "pyproject.toml"}


def test_each_target_is_a_category_of_its_own() -> None:
    assert run_of(samples.healthy())["automationDetails"] == {"id": "runtrue/src/train.py:task/"}


def test_the_cured_copy_is_told_beside() -> None:
    assert "afterTheCure" not in run_of(samples.faulty())["properties"]
    run = run_of(samples.faulty(), cured=samples.healthy())
    assert run["properties"]["afterTheCure"] == {"ok": True, "faults": []} and run["properties"]["ok"] is False


def test_a_demo_has_no_file() -> None:
    result = run_of(samples.faulty(), place=Place("demo:sick"))["results"][0]
    assert "physicalLocation" not in result["locations"][0] and result["locations"][0]["logicalLocations"]


def test_paths_are_uris(tmp_path: Path) -> None:
    odd = "my models/100 % {sure}/nétz#1.py"
    artifact = run_of(samples.faulty(), place=Place("x:task", odd))["results"][0]["locations"][0]["physicalLocation"][
        "artifactLocation"
    ]
    assert unquote(artifact["uri"]) == odd and artifact["uri"].isascii() and not set(" #{}") & set(artifact["uri"])
    outside = tmp_path / odd
    artifact = run_of(samples.faulty(), place=Place("x:task", str(outside)))["results"][0]["locations"][0][
        "physicalLocation"
    ]["artifactLocation"]
    parsed = urlparse(artifact["uri"])
    assert parsed.scheme == "file" and unquote(parsed.path) == outside.as_posix() and "uriBaseId" not in artifact


def test_message_strings_hold_no_placeholder_and_no_link() -> None:
    assert told("a {0} b {} {{1}} [x](1)") == "a {{0}} b {{}} {{{{1}}}} [x] (1)"
    code = 'print(f"{x}")  # ```'
    fault = Finding(
        "dead-units",
        "fault",
        "layer [0](http://x) {0}",
        "units {0} die\ud800",
        {"{0}": "{0}"},
        samples.remedy("{0}", True, code),
    )
    result = run_of(Report((fault,)))["results"][0]
    assert result["message"]["text"].startswith("units {{0}} die. Where: layer [0] (http://x) {{0}}.")
    assert f"````python\n{code.replace('{', '{{').replace('}', '}}')}\n````" in result["message"]["markdown"]
    assert result["properties"]["remedy"]["code"] == code, "to be pasted, so it is as it is"


def test_an_id_that_has_no_rule_is_told_all_the_same() -> None:
    report = Report((Finding("loss-spike", "warning", "run", "the loss jumped"),))
    (result,) = run_of(report)["results"]
    assert result["ruleId"] == "loss-spike" and "ruleIndex" not in result
