"""Whatever goes wrong in the watch, on the disk or in what the user handed in: it is told once, and the training goes on."""

from __future__ import annotations

import gc
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_unchanged import clean, ended, hooks_of, same, seeded
from torch import nn
from watching_cases import CASES, Nobody, mlp

import runtrue
from runtrue.tape import Tape
from runtrue.watch import gauge, loop, noting, reading, record_of, scribe, seeking, watching, witness
from runtrue.watch.history import History
from runtrue.watch.record import Recorder

NAME = "cnn_with_batch_norm_and_relu_in_place"
ENDS_WATCHING: list[tuple[Any, str]] = [
    (reading.Reader, "forward_begins"), (reading.Reader, "step_begins"), (reading.Reader, "step_ends"),
    (reading.Reader, "finish"), (reading.Reader, "arm"), (reading.Reader, "named"), (noting.Notes, "step"),
    (noting.Notes, "packet"), (loop.Loop, "forward"), (loop.Loop, "step"), (loop.Loop, "came_back"),
    (witness.Witness, "fresh"), (witness.Witness, "added"), (witness.Sentinel, "fresh"), (seeking.Seeker, "forward_begins"),
    (seeking.Seeker, "forward_ends"), (seeking.Seeker, "seek"), (watching, "mark_of"), (reading, "facts"), (reading, "fetch"),
]  # fmt: skip
ENDS_LAYERS: list[tuple[Any, str]] = [
    (gauge.Gauge, "layer_output"), (gauge.Gauge, "activation_output"), (gauge.Gauge, "signal"), (gauge.Gauge, "_count"),
    (Tape, "_follow"),
    (Tape, "_enter_module"), (Tape, "_leave_module"), (Tape, "_layer_called"),
]  # fmt: skip
ON_THE_OTHER_THREAD: list[tuple[Any, str]] = [
    (scribe, "judge"), (scribe, "derived"), (scribe, "counted"), (History, "add_losses"), (History, "add_read"),
    (scribe.Scribe, "_summarize"),
]  # fmt: skip
ON_THE_DISK = ["losses", "rates", "reading", "histograms", "epoch", "flush", "close", "forget_from", "tell"]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return ended(CASES[NAME], Nobody)


def breaks(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception, after: int = 2) -> None:
    """`owner.name` raises the error from its third call on."""
    whole, calls = getattr(owner, name), iter(range(10**9))

    def broken(*args: Any, **kwargs: Any) -> Any:
        if next(calls) >= after:
            raise error
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, broken)


def watched(said: list[str], run: Path | None = None, **options: Any) -> dict[str, Any]:
    return ended(CASES[NAME], partial(runtrue.watch, run=run, every=1, say=said.append, **options))


@pytest.mark.parametrize(("owner", "name"), ENDS_WATCHING, ids=lambda x: x if isinstance(x, str) else "")
def test_an_error_of_ours_ends_the_watching_alone(
    owner: Any, name: str, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    breaks(monkeypatch, owner, name, AssertionError("of ours"), after=0 if name == "packet" else 2)
    if name == "packet":
        monkeypatch.setattr(noting, "FLUSH", 0.0)
    monkeypatch.setattr(reading, "LOOKING_UP", 1e9)  # facts are looked up at every reading
    if name == "seek":
        monkeypatch.setattr(owner, name, lambda _: 1 / 0)
    found = watched(said, tmp_path)
    assert same(alone, found) and clean()
    troubles = [line for line in said if "stopped watching at step" in line]
    assert len(troubles) == 1 and "the training goes on" in troubles[0] and len(said) <= 2, said
    assert list(record_of(tmp_path).meta)


@pytest.mark.parametrize(("owner", "name"), ENDS_LAYERS, ids=lambda x: x if isinstance(x, str) else "")
def test_an_error_in_reading_layers_ends_that_alone(
    owner: Any, name: str, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    breaks(monkeypatch, owner, name, AssertionError("of ours"))
    found = watched(said, tmp_path)
    assert same(alone, found) and clean()
    assert len(said) == 1 and "AssertionError while reading the layers: of ours" in said[0]
    record = record_of(tmp_path)
    last = list(record.readings())[-1]
    assert ("0.weight", "grad_norm") in last.numbers and ("0", "std") not in last.numbers
    assert len(record.steps()) == 12
    assert [kind for _, kind, told in record.events() if "of ours" in told] == ["not seen"]


@pytest.mark.parametrize(("owner", "name"), ON_THE_OTHER_THREAD, ids=lambda x: x if isinstance(x, str) else "")
def test_an_error_on_the_scribes_thread_is_told_once(
    owner: Any, name: str, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(noting, "FLUSH", 0.0)
    breaks(monkeypatch, owner, name, AssertionError("of ours"), after=0)
    assert same(alone, watched(said, tmp_path))
    assert len([line for line in said if "of ours" in line]) == 1, said


@pytest.mark.parametrize("name", ON_THE_DISK)
def test_a_full_disk_ends_the_recording_alone(
    name: str, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(noting, "FLUSH", 0.0)
    breaks(monkeypatch, Recorder, name, sqlite3.OperationalError("database or disk is full"), after=0)
    assert same(alone, watched(said, tmp_path))
    assert len(said) == 1 and "recording stopped" in said[0] and "disk is full" in said[0], said


def test_judging_goes_on_without_a_record(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with runtrue.watch(model, optimizer, run=tmp_path / "file" / "below", say=said.append) as watch:
        for _ in range(30):  # gradients are never cleared
            F.cross_entropy(model(torch.randn(6, 5)), torch.randint(0, 3, (6,))).backward()
            optimizer.step()
            watch.step(1.0)
        assert [finding.cause for finding in watch.verdicts] == ["gradients-not-cleared"]
    assert len(said) == 2 and "recording stopped" in said[0]


@pytest.fixture
def little_disk() -> Iterator[None]:
    """Files of this process end at 40 kB: what is written behind is refused by the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_really_full(
    little_disk: None, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(noting, "FLUSH", 0.0)
    assert same(alone, watched(said, tmp_path))
    assert len(said) == 1 and "recording stopped" in said[0], said


@pytest.mark.parametrize("kind", ["text", "other database", "other schema"])
def test_a_file_that_is_something_else_is_left_as_it_is(kind: str, alone: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "watch.sqlite"
    if kind == "text":
        file.write_text("no database at all, and longer than the head that one has " * 20)
    else:
        db = sqlite3.connect(file)
        table = "meta (key text primary key, value text)" if kind == "other schema" else "birds (name text)"
        db.execute(f"create table {table}")
        if kind == "other schema":
            db.execute("insert into meta values ('schema', '99')")
        db.commit()
        db.close()
    before, said = file.read_bytes(), list[str]()
    assert same(alone, watched(said, tmp_path))
    assert len(said) == 1 and "recording stopped" in said[0]
    assert file.read_bytes() == before
    with pytest.raises(ValueError):
        record_of(tmp_path)


def test_what_the_user_handed_in_fails(alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noting, "FLUSH", 0.0)

    def fails(*_: Any) -> None:
        raise OSError("the stream is closed")

    said: list[str] = []
    assert same(alone, watched(said, log=fails, told=fails))
    assert len(said) == 1 and "`log` raised OSError: the stream is closed" in said[0]
    assert same(alone, ended(CASES[NAME], partial(runtrue.watch, every=1, say=fails)))


def test_a_verdict_reaches_told_though_an_earlier_one_failed() -> None:
    got: list[str] = []

    def told(step: int, finding: Any) -> None:
        got.append(finding.cause)
        raise OSError("no")

    said: list[str] = []
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with runtrue.watch(model, optimizer, say=said.append, told=told) as watch:
        for _ in range(30):
            F.cross_entropy(model(torch.randn(6, 5)), torch.randint(0, 3, (6,))).backward()
            optimizer.step()
            watch.step(1.0)
    assert got == ["gradients-not-cleared"]
    assert len([line for line in said if "telling a verdict: no" in line]) == 1


def few_steps(watch: Any, count: int = 3) -> None:
    for _ in range(count):
        loss = F.cross_entropy(watch.model(torch.randn(6, 5)), torch.randint(0, 3, (6,)))
        watch.optimizers[0].zero_grad()
        loss.backward()
        watch.optimizers[0].step()
        watch.step(loss)


def started(run: Path | None = None, **options: Any) -> Any:
    model = mlp()
    return runtrue.watch(model, torch.optim.SGD(model.parameters(), 0.1), run=run, every=1, **options)


def test_closed_twice_and_used_afterwards(tmp_path: Path) -> None:
    watch = started(tmp_path)
    few_steps(watch)
    watch.close()
    watch.close()
    few_steps(watch)
    watch.epoch(val_accuracy=0.5)
    assert watch.verdicts == () and watch.ok and watch.steps == 3
    assert len(record_of(tmp_path).steps()) == 3 and clean() and not hooks_of(watch.model)


def test_a_watch_that_nobody_keeps_ends_by_itself_and_loses_nothing(tmp_path: Path) -> None:
    watch = started(tmp_path)
    few_steps(watch, 5)
    model, thread = watch.model, watch._scribe._thread
    del watch
    gc.collect()
    assert not thread.is_alive() and not hooks_of(model) and clean()
    assert len(record_of(tmp_path).steps()) == 5
    model(torch.randn(2, 5)).sum().backward()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # newer Pythons warn of what the child may not do
def test_the_end_of_the_process_is_an_end_of_the_record(tmp_path: Path) -> None:
    code = os.fork()
    if code == 0:  # pragma: no cover - the child
        try:
            watch = started(tmp_path)
            few_steps(watch, 4)
            watch._finalizer()  # what Python calls at its end
        finally:
            os._exit(0)
    os.waitpid(code, 0)
    assert len(record_of(tmp_path).steps()) == 4
    assert started()._finalizer.atexit


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_leaves_the_record_to_its_parent(tmp_path: Path) -> None:
    watch = started(tmp_path)
    few_steps(watch)
    code = os.fork()
    if code == 0:  # pragma: no cover - the child
        status = 1
        try:
            few_steps(watch, 50)
            watch.epoch(val_accuracy=0.5)
            watch.verdicts  # noqa: B018 must not wait for a thread that is not there
            watch.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(code, 0)[1] == 0
    few_steps(watch)
    watch.close()
    record = record_of(tmp_path)
    assert len(record.steps()) == 6 and not record.epochs()


def test_an_interrupt_within_the_loop_keeps_what_was_seen(tmp_path: Path) -> None:
    def loop() -> None:
        with started(tmp_path) as watch:
            few_steps(watch)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert len(record_of(tmp_path).steps()) == 3


def test_a_slow_disk_holds_nobody_up_and_what_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noting, "FLUSH", 0.0)
    monkeypatch.setattr(scribe, "WAITING", 4)
    free, whole = threading.Event(), Recorder.losses
    monkeypatch.setattr(Recorder, "losses", lambda *args: free.wait(20) and whole(*args))
    watch = started(tmp_path)
    few_steps(watch, 20)
    assert watch.steps == 20 and watch._scribe.dropped >= 14
    free.set()
    watch.close()
    record = record_of(tmp_path)
    assert any("are missing" in told for _, kind, told in record.events() if kind == "not recorded")
    assert len(record.steps()) < 8


def test_epochs_take_what_is_a_number(tmp_path: Path) -> None:
    said: list[str] = []
    with started(tmp_path, say=said.append) as watch:
        for _ in range(2):
            watch.epoch(val_accuracy=torch.tensor(0.5), val_loss=None, matrix=[[1]], name="x")
    assert [row["val_accuracy"] for row in record_of(tmp_path).epochs()] == [0.5, 0.5]
    assert [row["epoch"] for row in record_of(tmp_path).epochs()] == [-1, 0], "none is lost where no step is told"
    assert len(said) == 2 and "epoch(matrix=…) got list" in said[0]


def test_what_was_known_before_the_first_step_is_known_after_a_resume(tmp_path: Path) -> None:
    with started(tmp_path) as watch:
        watch.epoch(train_accuracy=0.9, train_loss=0.1)
        few_steps(watch)
        watch.epoch(train_accuracy=0.1, train_loss=2.0)
    with started(tmp_path, start=watch.steps) as again:
        few_steps(again)
        assert again.ok
        for _ in range(2):
            again.epoch(train_accuracy=0.1, train_loss=2.0)
        assert [(one.cause, one.where) for one in again.verdicts] == [("diverging", "the epochs")]
    assert [row["epoch"] for row in record_of(tmp_path).epochs()] == [-1, 0, 1, 2]


def test_steps_without_a_loss_are_no_lost_losses(tmp_path: Path) -> None:
    with started(tmp_path) as watch:
        for i in range(60):
            watch.step(torch.tensor(1.0) if i % 3 == 0 else None)
        assert watch.ok and watch._scribe.history.steps == 60
    parts = record_of(tmp_path).steps()
    assert sum(part.count for part in parts) == 20 and sum(part.lost for part in parts) == 0


@pytest.mark.parametrize(
    "loss", [1.5, torch.tensor(1.5), torch.tensor([1.5]), torch.tensor([1.0, 2.0]), torch.tensor(1.5).half()]
)
def test_losses_of_all_kinds(loss: Any, tmp_path: Path) -> None:
    with started(tmp_path) as watch:
        watch.step(loss)
    assert record_of(tmp_path).steps()[0].mean == 1.5


def test_layers_of_tensors_that_cannot_be_looked_at() -> None:
    """Within vmap no number can be asked for: the layers are left out, with one sentence, and the result is the same."""

    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = torch.func.vmap(self.net)(x)
            return found

    results, said = [], list[str]()
    for watching_it in (False, True):
        seeded()
        model = Mapped()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with runtrue.watch(model, optimizer, every=1, say=said.append) if watching_it else Nobody() as watch:
            for _ in range(4):
                loss = model(torch.randn(6, 5)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.step(loss)
        results.append(dict(model.state_dict()))
    assert same(*results) and len(said) == 1 and "while reading the layers" in said[0]


def test_log_gets_numbers_on_the_thread_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noting, "FLUSH", 0.0)
    got: list[tuple[dict[str, float], int]] = []
    threads: set[int] = set()

    def log(numbers: dict[str, float], step: int) -> None:
        threads.add(threading.get_ident())
        got.append((numbers, step))

    with started(log=log) as watch:
        for _ in range(6):
            few_steps(watch, 1)
            time.sleep(0.01)
    assert threads == {threading.get_ident()}
    assert [step for _, step in got] == list(range(6))
    assert all(set(numbers) == {"loss", "lr", "seconds", "grad_norm", "update_ratio"} for numbers, _ in got)
    assert got[0][0]["lr"] == 0.1
