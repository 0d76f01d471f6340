"""A record in the forms of other tools: every number arrives, and what is no number is said to be none."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import watched

from runtrue.watch import export


def test_json_holds_everything_and_is_strict(tmp_path: Path) -> None:
    record = watched.odd(tmp_path)
    text = export.to_json(record, tmp_path / "watch.json").read_text()
    told = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert set(told) == {"schema", "meta", "steps", "rates", "epochs", "verdicts", "events", "readings", "histograms"}
    assert told["schema"] == 1 and told["meta"]["model"] == "Net" and told["rates"]["1"][0] == [0, None]
    assert sum(part["count"] for part in told["steps"]) + sum(part["lost"] for part in told["steps"]) == 16
    (odd,) = (one for one in told["readings"] if one["step"] == 7)
    numbers = {(name, what): x for name, what, x in odd["numbers"]}
    assert numbers["layer 0", "std"] is None and numbers["layer 3", "std"] == 0.0
    assert told["verdicts"][0]["cause"] == "diverging" and len(told["histograms"]) == len(record.histograms())


def test_csv_has_a_line_for_every_number(tmp_path: Path) -> None:
    record = watched.record(
        tmp_path, [2.0, 1.0, math.nan], layers=['a,\n"b'], epochs=[{"val_accuracy": 0.5}], rates={0: [0.1]}
    )
    with export.to_csv(record, tmp_path / "watch.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["step", "layer", "what", "value"]
    found = {(int(step), layer, what): float(value) for step, layer, what, value in rows}
    assert found[0, "", "loss"] == 2.0 and found[1, "", "loss"] == 1.0 and found[2, "", "loss_lost"] == 1.0
    assert (2, "", "loss") not in found and found[0, "", "seconds_a_step"] == pytest.approx(0.01)
    assert found[0, "group 0", "lr"] == 0.1 and found[2, "", "val_accuracy"] == 0.5
    assert found[2, 'a,\n"b', "std"] == 1.0 and found[0, 'a,\n"b.weight', "grad_norm"] == pytest.approx(0.1)
    assert len(rows) == len(list(export.rows(record)))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    record = watched.healthy(tmp_path / "run")
    with pytest.raises(OSError):
        export.to_csv(record, tmp_path / "missing" / "watch.csv")
    export.to_json(record, tmp_path / "watch.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "watch.json"]


def test_tensorboard_reads_the_curves_and_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = watched.faulty(tmp_path / "run")
    other = tmp_path / "events.out.tfevents.1.mine"
    other.write_bytes(b"")
    for _ in range(2):
        assert export.to_tensorboard(record, tmp_path) == tmp_path
    (written,) = (path for path in tmp_path.glob("events.*") if path != other)
    assert other.exists(), "only what runtrue wrote is replaced"
    read = loading.EventAccumulator(str(written))
    read.Reload()
    losses = read.Scalars("loss")
    assert [event.step for event in losses] == list(range(41)) and {event.value for event in losses} == {1.0}
    assert {"lr/group 0", "std/first"} <= set(read.Tags()["scalars"])
    assert any(tag.startswith("verdicts/diverging") for tag in read.Tags()["tensors"])
