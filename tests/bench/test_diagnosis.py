"""The bench of the diagnosis: its metrics, its loop, its splits, and that what it counts was seen by the oracle."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from _common import wilson
from diagnosis import loop, metrics, oracle, plants, run, tell
from diagnosis.hosts import Host, in_hand
from diagnosis.parts import Arm, Case, Kit, code_of, half_of
from diagnosis.sets import SETS
from diagnosis.worker import Spec, examine, same, state_of
from runtrue import Task
from runtrue.findings import CAUSES, STAGE_OF

EVERY = [(name, case) for name, cases in SETS.items() for case in cases.values()]
KEPT = oracle.load()


def counted(name: str) -> list[Case]:
    return [case for case in SETS[name].values() if oracle.counts(case, KEPT)]


# -- metrics


def test_wilson_interval_is_the_published_one() -> None:
    low, high = wilson(81, 263)  # Newcombe 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson(0, 20)
    assert (low, round(high, 4)) == (0.0, 0.1611)


def test_metrics_by_hand() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    scores = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [1.0, 0.0]])
    assert metrics.accuracy(scores, labels) == 0.75
    assert metrics.accuracy.chance(labels) == 0.5
    assert metrics.accuracy.skill(0.75, labels) == 0.5
    assert metrics.balanced(scores, torch.tensor([0, 1, 0, 0])) == 1.0
    assert metrics.balanced(scores, torch.tensor([0, 1, 1, 1])) == pytest.approx((1 + 1 / 3) / 2)
    yes = torch.tensor([[1.0], [0.0], [1.0], [1.0]])
    assert metrics.probability(torch.tensor([[0.6], [0.4], [0.4], [0.5]]), yes) == 0.5
    assert metrics.logit(torch.tensor([[0.6], [-0.4], [-0.4], [0.5]]), yes) == 0.75
    assert metrics.logit.chance(yes) == 0.75
    assert metrics.rounded(torch.tensor([[0.4], [0.6], [1.4], [1.6]]), labels) == 0.75
    assert metrics.rounded(scores, labels) == 0.75


def test_r2_by_hand() -> None:
    targets = torch.tensor([[0.0], [2.0], [4.0]])
    assert metrics.r2(torch.full((3, 1), 2.0), targets) == 0.0
    assert metrics.r2(torch.tensor([[0.0], [2.0], [2.0]]), targets) == pytest.approx(0.5)
    apart = torch.tensor([[0.0, 100.0], [2.0, 102.0]])
    means = torch.tensor([[1.0, 101.0], [1.0, 101.0]])
    assert metrics.r2(means, apart) > 0.99
    assert metrics.r2_by_column(means, apart) == 0.0


def test_an_output_that_is_no_number_has_no_metric() -> None:
    labels = torch.tensor([0, 1])
    broken = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    assert math.isnan(metrics.accuracy(broken, labels))
    assert metrics.accuracy.skill(math.nan, labels) == -math.inf
    assert not metrics.reaches(math.nan, 0.5)
    assert metrics.reaches(0.9, 1.0) and not metrics.reaches(0.89, 1.0)
    assert metrics.goal(-1.0) == pytest.approx(-1.1)


# -- the plain loop

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
Y = X.sum(1, keepdim=True)
SGD = partial(torch.optim.SGD, lr=0.1)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(X.split(16), Y.split(16))


@pytest.mark.parametrize(
    "train",
    [
        (X, Y),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True),
        batches,
        list(batches()),
        batches(),
    ],
    ids=["pair", "dataset", "loader", "function", "list", "iterator"],
)
def test_every_form_of_a_task_trains(train: Any) -> None:
    torch.manual_seed(0)
    task = Task(partial(nn.Linear, 3, 1), train, loss=nn.MSELoss(), optimizer=SGD, epochs=20, batch_size=16)
    model = loop.fit(task)
    assert not model.training
    assert loop.judge(model, Arm(task, metrics.r2, (X, Y))) > 0.999


def test_the_loop_is_gradient_descent() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    task = Task(
        model, (torch.ones(2, 1), torch.ones(2, 1)), loss=nn.MSELoss(), optimizer=SGD(model.parameters()), epochs=3
    )
    assert loop.fit(task).get_parameter("weight").item() == pytest.approx(1 - 0.8**3)  # w ← w − 0.1 · 2 (w − 1)
    assert loop.fit(task, epochs=1).get_parameter("weight").item() == pytest.approx(1 - 0.8**4)


def test_a_step_is_used_and_a_lost_run_ends() -> None:
    model = nn.Linear(3, 1)
    task = Task(
        model, (X, Y), step=lambda net, batch: ((net(batch[0]) - batch[1]) ** 2).mean(), optimizer=SGD, epochs=20
    )
    assert loop.judge(loop.fit(task), Arm(task, metrics.r2)) > 0.99
    lost = task.replace(step=None, loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=1e30), epochs=10**9)
    assert math.isnan(loop.judge(loop.fit(lost), Arm(lost, metrics.r2)))


# -- cases


def test_ids_are_unique_and_causes_exist() -> None:
    assert max(Counter(case.id for _, case in EVERY).values()) == 1
    for _, case in EVERY:
        assert set(case.accepted) <= set(STAGE_OF), case.id
        assert case.what and case.source, case.id


def test_the_halves_are_fixed_and_apart() -> None:
    for name, cases in SETS.items():
        halves = {case.id: case.half for case in cases.values()}
        assert set(halves.values()) == ({"develop"} if name == "public" else {"develop", "report"})
        if name != "public":
            assert all(half_of(identity) == half for identity, half in halves.items())
    assert half_of("a") == "develop" and half_of("e") == "report", "SHA-256, the same on every machine"
    chosen = [{spec.key for spec in run.specs(run.options(["--set", half]))} for half in ("develop", "report", "all")]
    assert not chosen[0] & chosen[1] and chosen[0] | chosen[1] == chosen[2] and all(chosen)


def test_there_are_as_many_as_promised_and_the_oracle_saw_them() -> None:
    stale = [case.id for _, case in EVERY if KEPT.get(case.id, {}).get("fingerprint") != case.fingerprint]
    assert not stale, f"{stale}: run bench/diagnosis/oracle.py"
    assert len([case for case in counted("public") if case.accepted]) == 17, (
        "one of the 18 comes near by luck of a seed"
    )
    assert len(counted("threads")) >= 35
    assert len(counted("injected")) >= 80
    assert len(counted("healthy")) >= 60


def test_every_cause_that_a_task_can_show_is_planted() -> None:
    shown = {cause for case in counted("injected") + counted("threads") for cause in case.accepted}
    of_a_run = {"gradients-not-cleared", "train-val-overlap", *CAUSES["during a run"]}
    assert set(STAGE_OF) - of_a_run - shown == set()


def test_the_verdict_of_the_oracle_follows_its_rule() -> None:
    case = SETS["threads"]["labels-from-one"]
    assert oracle.verdict(case, [0.9] * 3, [math.nan] * 3) == ""
    assert "healthy" in oracle.verdict(case, [0.9, 0.9, 0.6], [math.nan] * 3), (
        "chance is 0.4: less than half of the way"
    )
    assert "within 10 %" in oracle.verdict(case, [0.9] * 3, [0.3, 0.3, 0.82])
    assert "behind" in oracle.verdict(case, [0.75] * 3, [0.67] * 3)


@pytest.mark.filterwarnings("ignore:Using a target size")  # the fault itself
def test_the_oracle_finds_again_what_it_kept() -> None:
    case = SETS["public"]["column-against-row"]
    assert oracle.values(case, False, seeds=[0])[0] == pytest.approx(KEPT[case.id]["healthy"][0], abs=0.02)
    assert oracle.values(case, True, seeds=[0])[0] == pytest.approx(KEPT[case.id]["sick"][0], abs=0.05)


def test_an_arm_is_the_same_with_the_same_seed() -> None:
    case = SETS["public"]["parabola-at-a-high-rate"]
    first, again, other = (state_of(case.arm(True, seed).task) for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)
    keras = case.arm(True, 0, "keras").task.model
    assert isinstance(keras, nn.Module) and float(keras.get_parameter("0.bias").detach().abs().max()) == 0.0


def test_a_fingerprint_follows_the_code() -> None:
    def case(write: Callable[[bool, Kit], Arm]) -> Case:
        return Case("id", "source", "what", (), write, "develop")

    def one(sick: bool, kit: Kit, factor: object = None) -> Arm:
        raise NotImplementedError

    def other(sick: bool, kit: Kit) -> Arm:
        raise AssertionError

    prints = {case(write).fingerprint for write in (one, other, partial(one, factor=2.0), partial(one, factor=3.0))}
    assert len(prints) == 4
    assert "0x" not in code_of(partial(one, factor=plants.behind(nn.Sigmoid))), "an address would change with each run"


@pytest.mark.parametrize("name", ["data", "loss", "wiring", "network", "training"])
def test_a_planted_fault_leaves_the_healthy_arm_alone(name: str) -> None:
    from diagnosis import injected

    for fault in getattr(injected, name.upper()):
        host = fault.setting(fault.hosts[0].arm())
        before = [part.clone() for part in host.task.train]
        torch.manual_seed(0)
        sick = fault.plant(host)
        assert all(torch.equal(a, b) for a, b in zip(before, host.task.train)), fault.name
        assert sick is not host and isinstance(in_hand(sick.task).model, nn.Module)


def test_dropout_is_planted_behind_every_activation() -> None:
    arm = plants.dropped(0.9)(Host("mlp", "classes", "adam").arm())
    model = in_hand(arm.task).model
    assert isinstance(model, nn.Module)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.9] * 3


# -- a run


def test_a_case_from_beginning_to_end() -> None:
    spec = Spec("public", "column-against-row", sick=True, budget=2.0, random=False)
    row = examine(spec)
    assert row["key"] == "public/column-against-row/sick/torch/0"
    assert row["healthy"] == pytest.approx(KEPT[spec.id]["healthy"][0])
    assert isinstance(row["first"], bool) and row["touched"] is False and row["fix_error"] is None
    assert row["restored"] == metrics.reaches(row["treated"], row["healthy"])


def test_rows_survive_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    run.keep(path, {"key": "a", "code": "1", "treated": math.nan, "lost": None})
    run.keep(path, {"key": "b", "code": "2", "treated": 1.0, "lost": None})
    run.keep(path, {"key": "c", "code": "1", "treated": 1.0, "lost": "out of time"})
    with path.open("a") as file:
        file.write('{"key": "d", "co')
    assert set(run.load_rows(path, "1")) == {"a"}
    assert math.isnan(run.load_rows(path, "1")["a"]["treated"])


def test_the_table_counts_what_it_says() -> None:
    sick = {"set": "threads", "sick": True, "half": "report", "accepted": ["wrong-loss"], "seconds": 4.0}
    rows = [
        {**sick, "key": "1", "faults": ["wrong-loss"], "first": True, "among": True, "restored": True},
        {**sick, "key": "2", "faults": ["dead-units", "wrong-loss"], "first": False, "among": True, "restored": False},
        {**sick, "key": "3", "faults": [], "first": False, "among": False, "lost": "the process ended with code -9"},
        {**sick, "key": "6", "faults": [], "first": False, "accepted": ["labels-unrelated"], "restored": False},
        {"key": "4", "set": "healthy", "sick": False, "accepted": [], "faults": [], "seconds": 8.0},
        {"key": "5", "set": "healthy", "sick": False, "accepted": [], "faults": ["dead-units"], "seconds": 6.0},
    ]
    found = {line[0]: line[1:] for line in tell.summary(rows)}
    assert tell.head(rows) == ["", "bar", "threads", "healthy", "all"]
    assert found["sick: root cause named first"] == ["≥ 80 %", "1/4 = 25 % (5–70)", "–", "1/4 = 25 % (5–70)"]
    assert found["sick: an accepted cause among the faults"][1].startswith("2/4")
    assert found["sick: fix restores training"][1].startswith("1/4")
    assert found["… where a change to the task can"][1].startswith("1/3")
    assert found["healthy: any fault"][2].startswith("1/2 = 50 %")
    assert found["seconds of a check: median, worst"] == ["20, 60", "4.0, 4.0", "7.0, 8.0", "4.0, 8.0"]
    assert found["crashed, or out of time"][-1].startswith("1/6")
    assert [line.split(":")[0] for line in tell.confusion(rows)] == ["- 2", "- 3", "- 6", "- 5"]
    assert "ended with code -9" in tell.tell(rows)


@pytest.mark.slow
def test_a_process_that_dies_loses_its_own_row_only() -> None:
    spec = Spec("public", "column-against-row", sick=False, budget=1.0, random=False)
    (row,) = run.run([spec], jobs=1, work=os._exit)  # type: ignore[arg-type]
    assert "ended with code" in row["lost"]
    (row,) = run.run([spec], jobs=1)
    assert row["lost"] is None and row["faults"] == []
