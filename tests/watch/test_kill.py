"""A training killed with -9 at any moment: its record opens, and misses at most what was not handed on yet."""

from __future__ import annotations

import mmap
import os
import random
import signal
import sqlite3
import struct
import time
import traceback
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from watching_cases import mlp

import runtrue
from runtrue.watch import noting, record_of
from runtrue.watch.recorder import Recorder

PACKET = 5  # steps that the children of this test hand on together, instead of those of a second

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def train(run: Path, progress: mmap.mmap) -> None:
    """Without end. progress: the steps that are done, and those that are written for certain."""
    noting.HELD, noting.FLUSH = PACKET, 1e9
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = runtrue.watch(model, optimizer, run=run, every=1, say=lambda _: None)
    x, y = torch.randn(6, 5), torch.arange(6) % 3
    done = 0
    while True:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        struct.pack_into("q", progress, 0, done + 1)
        watch.step(loss)
        done += 1
        if done % (4 * PACKET) == 0:
            watch.epoch(val_accuracy=0.5)
        if done % PACKET == 0:
            watch._scribe.settle()
            struct.pack_into("q", progress, 8, done)


def killed(run: Path, after: float) -> tuple[int, int]:
    """A child that trained for so many seconds behind its first packet: the steps that it did, and those that were written."""
    progress = mmap.mmap(-1, 16)
    child = os.fork()
    if child == 0:  # pragma: no cover - the child
        try:
            train(run, progress)
        except BaseException:  # noqa: BLE001 told here, and by the exit status
            traceback.print_exc()
        finally:
            os._exit(3)
    while struct.unpack_from("q", progress, 8)[0] == 0:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child ended by itself"
        time.sleep(0.001)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    return struct.unpack("qq", progress[:16])


def check(run: Path, done: int, written: int) -> None:
    record = record_of(run)
    parts, readings = record.steps(), list(record.readings())
    recorded = parts[-1].last + 1
    assert written <= recorded <= done and recorded >= done - 2 * PACKET
    assert sum(part.count for part in parts) == recorded and parts[0].first == 0
    assert [one.step for one in readings] == list(range(recorded))
    assert all(one.numbers.keys() >= {("0.weight", "update_ratio"), ("0", "std")} for one in readings)
    assert len(record.epochs()) in (recorded // (4 * PACKET), recorded // (4 * PACKET) - 1)
    assert record.histograms() and record.rates() and record.meta["model"] == "Sequential"


def kill_often(times: int, place: Path) -> None:
    noise = random.Random(0)
    for i in range(times):
        run = place / str(i)
        done, written = killed(run, noise.uniform(0.0, 0.06))
        check(run, done, written)
        if i % 10 == 0:
            gone_on_with(run, written)


def gone_on_with(run: Path, step: int) -> None:
    """By the process that comes next."""
    recorder = Recorder(record_of(run).path)
    recorder.forget_from(step)
    recorder.losses(step, [7.0], [0.1])
    recorder.close()
    assert record_of(run).steps()[-1][:4] == (step, step, 1, 7.0)
    db = sqlite3.connect(record_of(run).path)
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    db.close()


def test_ten_kills(tmp_path: Path) -> None:
    kill_often(10, tmp_path)


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    kill_often(200, tmp_path)


def test_a_second_is_the_interval() -> None:
    assert noting.FLUSH == 1.0 and noting.HELD == 512
