"""Two real processes: numbers brought together, one record, and processes that train different networks told apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import runtrue
from runtrue.watch import record_of
from runtrue.watch.record import Reading

pytestmark = pytest.mark.slow  # each starts two processes

STEPS = 6
PROGRAM = """
import os, sys, warnings
import torch, torch.distributed as dist, torch.nn.functional as F
from torch import nn
import runtrue
from test_ranks import net, batches, STEPS

how, run = sys.argv[1], sys.argv[2]
rank = int(os.environ["RANK"])
dist.init_process_group("gloo")
torch.set_num_threads(1)
model = net()
if how == "ddp":
    model = nn.parallel.DistributedDataParallel(model)
if how == "fsdp":
    from torch.distributed.device_mesh import init_device_mesh
    from runtrue.training.distribution import shard
    shard(model, init_device_mesh("cpu", (2,)))
if how == "apart" and rank:
    with torch.no_grad():
        model[0][0].weight += 1.0
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
together = how != "each"
with runtrue.watch(model, optimizer, run=run, every=1, ranks=together) as watch:
    for step, (x, y) in enumerate(batches(rank)):
        if how == "lost" and rank and step == 3:
            watch.model[0][0].weight.data.fill_(float("nan"))
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.step(loss)
        if how == "gone" and rank and step == 2:
            watch.close()
    causes = [(one.cause, one.severity) for one in watch.verdicts]
    counts = watch._loop.counts
print("CAUSES", rank, causes, "EARLY", counts["early step"], "OFF", watch._off)
if how == "ddp":
    torch.save(model.module.state_dict(), run + f"/weights{rank}.pt")
dist.destroy_process_group()
"""


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Linear(5, 9), nn.ReLU()), nn.Sequential(nn.Linear(9, 7), nn.Tanh()), nn.Linear(7, 3)
    )


def batches(rank: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    whole = [
        (torch.randn(8, 5, generator=generator), torch.randint(0, 3, (8,), generator=generator)) for _ in range(STEPS)
    ]
    return [(x[4 * rank : 4 * rank + 4], y[4 * rank : 4 * rank + 4]) for x, y in whole] if rank >= 0 else whole


def two(how: str, run: Path) -> list[str]:
    """What the processes said."""
    program = run / "program.py"
    run.mkdir(parents=True, exist_ok=True)
    program.write_text(PROGRAM)
    here = Path(__file__).parent
    surroundings = {
        **os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": f"{Path(runtrue.__file__).parent.parent}{os.pathsep}{here}",
        "MASTER_PORT": str(20_000 + os.getpid() % 20_000),
    }  # fmt: skip
    running = [
        subprocess.Popen(
            [sys.executable, str(program), how, str(run)], env={**surroundings, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[0] for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(said)
    return said


def alone(run: Path) -> tuple[list[Reading], nn.Module]:
    """One process that sees both halves of each batch."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    with runtrue.watch(model, optimizer, run=run, every=1) as watch:
        for x, y in batches(-1):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return list(record_of(run).readings()), model


SAME = ("grad_norm", "weight_norm", "update_ratio", "grad_mean", "grad_std", "weight_mean", "weight_std", "grad_zero")


def assert_alike(ours: list[Reading], theirs: list[Reading]) -> None:
    assert [one.step for one in ours] == [one.step for one in theirs] == list(range(STEPS))
    for one, other in zip(ours, theirs, strict=True):
        parameters = {key: value for key, value in other.numbers.items() if key[1] in SAME}
        assert len(parameters) == 3 * 3 + 3 * 8
        for key, value in parameters.items():
            assert one.numbers[key] == pytest.approx(value, rel=2e-3, abs=1e-6), (one.step, key)
        for key, value in other.numbers.items():
            if key[1] in ("mean", "zero_fraction", "saturated_fraction"):
                assert one.numbers[key] == pytest.approx(value, rel=1e-3, abs=1e-5), (one.step, key)


def mean_losses(model: nn.Module) -> float:
    (x, y), (x2, y2) = batches(0)[0], batches(1)[0]
    return float((F.cross_entropy(model(x), y) + F.cross_entropy(model(x2), y2)).detach() / 2)


def test_ddp_gives_the_numbers_of_one_process_and_one_record(tmp_path: Path) -> None:
    whole, model = alone(tmp_path / "alone")
    said = two("ddp", tmp_path / "two")
    found = list(record_of(tmp_path / "two").readings())
    assert_alike(found, whole)
    assert found[0].numbers["", "loss"] == pytest.approx(mean_losses(net()), rel=1e-5)
    assert sorted(path.name for path in (tmp_path / "two").glob("watch*")) == ["watch.sqlite"]
    assert len(record_of(tmp_path / "two").steps()) == STEPS
    assert all("[]" in line and "EARLY 0" in line for line in said), said
    weights = [torch.load(tmp_path / "two" / f"weights{rank}.pt") for rank in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.allclose(weights[0][name], value, atol=1e-6) for name, value in model.state_dict().items())


def test_sharded_parameters_have_the_norms_of_the_whole_ones(tmp_path: Path) -> None:
    whole, _ = alone(tmp_path / "alone")
    said = two("fsdp", tmp_path / "two")
    assert_alike(list(record_of(tmp_path / "two").readings()), whole)
    assert all("[]" in line and "EARLY 0" in line and "OFF True" in line for line in said), said
    assert not record_of(tmp_path / "two").events()


def test_a_rank_with_other_weights_is_a_fault(tmp_path: Path) -> None:
    said = two("apart", tmp_path)
    assert "('ranks-apart', 'fault')" in said[0] and "fault ranks-apart in 0.0.weight" in said[0]
    assert "fault ranks-apart" not in said[1], "rank 0 alone tells it"


def test_a_rank_that_loses_its_numbers_replays_for_itself(tmp_path: Path) -> None:
    two("lost", tmp_path)
    assert len(list(record_of(tmp_path).readings())) == STEPS


def test_processes_that_are_not_watched_together_keep_a_record_each(tmp_path: Path) -> None:
    two("each", tmp_path)
    assert sorted(path.name for path in tmp_path.glob("watch*")) == ["watch-rank1.sqlite", "watch.sqlite"]
    for name in ("watch.sqlite", "watch-rank1.sqlite"):
        assert len(record_of(tmp_path / name).steps()) == STEPS


def test_a_rank_that_stops_watching_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = PROGRAM.replace(
        "import runtrue\n",
        "import runtrue, runtrue.watch.ranks as r\nfrom datetime import timedelta\nr.PATIENCE = timedelta(seconds=3)\n",
    )
    monkeypatch.setitem(globals(), "PROGRAM", program)
    said = two("gone", tmp_path)
    assert "numbers are this process's own from step 3 on" in said[0]
    assert len(list(record_of(tmp_path).readings())) == STEPS
