"""The two specimens of a check, measured on demand: the sick one is told, the healthy one passes in silence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from runtrue.budget import Budget
from runtrue.checks import CHECKS, Check
from runtrue.checks.registry import Specimen
from runtrue.demos import basic
from runtrue.diagnosis.specimens import Comparison, Seen, compare, name_of, see
from runtrue.task import Task

QUICK = ("labels-out-of-range", "targets-not-scaled", "init-symmetric")


def told_apart(cause: str, seen: Comparison) -> None:
    assert seen.sick.error is None is seen.healthy.error
    assert {finding.cause for finding in seen.sick.findings} == {cause}
    assert seen.healthy.findings == ()


@pytest.mark.parametrize("cause", QUICK)
def test_a_check_tells_its_own_specimens_apart(cause: str) -> None:
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    seen = compare(cause, seconds=4)
    told_apart(cause, seen)
    assert seen.healthy.steps > 0 and seen.healthy.layers
    assert torch.equal(before, torch.get_rng_state()) and threads == torch.get_num_threads()


@pytest.mark.slow
@pytest.mark.parametrize("cause", [cause for cause in CHECKS if cause not in QUICK])
def test_every_check_tells_its_own_specimens_apart(cause: str) -> None:
    told_apart(cause, compare(cause))


def test_an_unknown_cause_has_no_specimens() -> None:
    with pytest.raises(KeyError):
        compare("plateau")


def test_a_demo_is_named_as_it_can_be_typed() -> None:
    def some_task() -> Task:
        raise NotImplementedError

    assert name_of(basic.tanh_small_init) == "demo:tanh-small-init" and name_of(some_task) == "some task"


def tiny() -> Task:
    """Inputs of 0 and 2, targets of 5; a second line."""
    x = torch.tensor([[0.0], [2.0]]).repeat(8, 1)
    return Task(lambda: nn.Linear(1, 1), (x, 5 * torch.ones(16, 1)), loss=nn.MSELoss(), optimizer=nn_sgd, batch_size=16)


def nn_sgd(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.25)  # type: ignore[arg-type]


def checked(specimen: Specimen) -> Check:
    return Check("constant-targets", CHECKS["constant-targets"].judge, specimen, basic.healthy_mlp)


def test_the_numbers_are_those_of_the_task() -> None:
    seen = see(checked(tiny), tiny, Budget(2))
    assert seen.about == "Inputs of 0 and 2, targets of 5; a second line." and seen.name == "tiny"
    numbers = seen.numbers
    expected = {
        "inputs, mean": 1.0, "inputs, std": 1.0, "inputs, smallest": 0.0, "inputs, largest": 2.0,
        "targets, mean": 5.0, "targets, std": 0.0, "learning rate": 0.25, "parameters frozen": 0,
        "inputs, examples that are not finite": 0, "loss of the best constant guess": 0.0,
    }  # fmt: skip
    assert {name: numbers[name] for name in expected} == pytest.approx(expected)
    assert numbers["loss after the untreated run"] < 0.1 * numbers["loss at the start"]
    assert not any(math.isnan(value) for value in numbers.values())
    assert [finding.cause for finding in seen.findings] == ["constant-targets"] and seen.steps > 0


def test_a_run_that_was_lost_ends_with_nan_and_what_was_not_measured_is_left_out() -> None:
    def lost() -> Task:
        return tiny().replace(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e30))

    assert not math.isfinite(see(checked(lost), lost, Budget(2)).numbers["loss after the untreated run"])

    def fails() -> Task:
        x = torch.zeros(8, 2)
        return Task(lambda: nn.Linear(2, 2), (x, torch.full((8,), 7)), loss=nn.CrossEntropyLoss())

    seen = see(CHECKS["labels-out-of-range"], fails, Budget(2))
    assert seen.steps == 0 and "loss after the untreated run" not in seen.numbers
    assert [finding.cause for finding in seen.findings] == ["labels-out-of-range"]


def test_a_specimen_that_cannot_be_run_is_told_as_such() -> None:
    def broken() -> Task:
        return tiny().replace(loss=lambda outputs, targets: outputs)

    seen = see(checked(broken), broken, Budget(2))
    assert seen.error is not None and "not a scalar" in seen.error and seen.findings == ()


def test_only_numbers_that_differ_stand_side_by_side() -> None:
    nan = math.nan
    sick = Seen(
        "a", "", numbers={"same": 1.0, "near": 1.0, "far": 1.0, "zero": 0.0, "lost": nan, "both": nan, "alone": 1.0}
    )
    fine = Seen("b", "", numbers={"same": 1.0, "near": 1.05, "far": 2.0, "zero": 3.0, "lost": 0.5, "both": nan})
    apart = Comparison(sick, fine).numbers_apart()
    assert list(apart) == ["far", "zero", "lost"] and apart["far"] == (1.0, 2.0)
