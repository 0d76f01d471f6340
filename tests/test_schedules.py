"""Decay of the learning rate: formulas by hand, torch's scheduler along them, and a run that goes on where it stopped."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from runtrue import schedules
from runtrue.schedules import DECAYS, cosine, exponential, inverse, scheduler, step

EPOCHS, STEPS = 6, 4


def optimizer_of(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def followed(optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def rates(decay: str, steps: int = EPOCHS * STEPS, **settings: Any) -> list[float]:
    optimizer = optimizer_of(1.0)
    return followed(optimizer, scheduler(optimizer, decay, epochs=EPOCHS, steps_per_epoch=STEPS, **settings), steps)


def test_formulas_by_hand() -> None:
    assert [step(t) for t in (0, 19.9, 20, 40, 60)] == pytest.approx([1, 1, 0.8, 0.64, 0.512])
    assert [step(t, every=2, factor=0.5) for t in (1, 2, 5)] == [1, 0.5, 0.25]
    assert [exponential(t, 0.5) for t in (0, 2, 4)] == pytest.approx([1, 0.36787944117, 0.13533528323])
    assert [inverse(t, 0.5) for t in (0, 2, 8)] == [1, 0.5, 0.2]
    assert [cosine(t, 12) for t in (0, 4, 6, 12, 15)] == pytest.approx([1, 0.75, 0.5, 0, 0], abs=1e-15)


BY_HAND: dict[str, Callable[[float], float]] = {
    "none": lambda t: 1.0,
    "step": lambda t: 0.5 ** (t // 2),
    "exp": lambda t: math.e ** (-0.3 * t),
    "inverse": lambda t: 1 / (1 + 0.3 * t),
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t / EPOCHS)),
}


@pytest.mark.parametrize("decay", DECAYS)
def test_per_step_time_passes_and_per_epoch_the_rate_is_held(decay: str) -> None:
    settings: dict[str, Any] = {"k": 0.3, "every": 2, "factor": 0.5}
    by_step = rates(decay, per="step", **settings)
    assert by_step == pytest.approx([BY_HAND[decay](number / STEPS) for number in range(EPOCHS * STEPS)])
    by_epoch = rates(decay, **settings)
    assert by_epoch == pytest.approx([BY_HAND[decay](number // STEPS) for number in range(EPOCHS * STEPS)])


def test_the_step_falls_on_the_very_step_that_begins_an_epoch() -> None:
    for steps_per_epoch in (1, 3, 7, 469):
        optimizer = optimizer_of(1.0)
        schedule = scheduler(optimizer, "step", epochs=41, steps_per_epoch=steps_per_epoch, per="step").lr_lambdas[0]
        for epoch, after in ((20, 0.8), (40, 0.64)):
            number = epoch * steps_per_epoch
            assert schedule(number) == pytest.approx(after) and schedule(number - 1) == pytest.approx(after / 0.8)


@pytest.mark.parametrize(("decay", "last"), [("exp", 0.01), ("inverse", 0.1)])
def test_without_k_the_end_is_known(decay: str, last: float) -> None:
    assert rates(decay, EPOCHS * STEPS + 1, per="step")[-1] == pytest.approx(last)
    with_warmup = rates(decay, EPOCHS * STEPS + 1, per="step", warmup=2)
    assert with_warmup[-1] == pytest.approx(last)


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_the_warmup_rises_in_a_line_and_the_decay_begins_after_it(per: str) -> None:
    found = rates("cosine", per=per, warmup=2)
    assert found[:9] == pytest.approx([*(number / 9 for number in range(1, 9)), 1.0])
    after = [0.5 * (1 + math.cos(math.pi * t / 4)) for t in range(4)]
    assert found[8::STEPS] == pytest.approx(after)
    half = rates("none", warmup=0.5)
    assert half[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_every_group_keeps_its_own_first_rate() -> None:
    optimizer = optimizer_of(1.0, 0.01)
    schedule = scheduler(optimizer, "exp", epochs=4, steps_per_epoch=1, k=0.5)
    followed(optimizer, schedule, 2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([math.exp(-1), 0.01 * math.exp(-1)])


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("stop", [1, 5, 9])
def test_a_run_that_goes_on_follows_the_rates_of_one_that_never_stopped(decay: str, per: str, stop: int) -> None:
    settings: dict[str, Any] = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "per": per, "warmup": 1}
    whole = rates(decay, per=per, warmup=1)
    optimizer = optimizer_of(1.0)
    schedule = scheduler(optimizer, decay, **settings)
    first = followed(optimizer, schedule, stop)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = optimizer_of(1.0)
    resumed = scheduler(again, decay, **settings)
    again.load_state_dict(saved["optimizer"])
    resumed.load_state_dict(saved["schedule"])
    assert first + followed(again, resumed, EPOCHS * STEPS - stop) == whole


def test_the_saved_schedule_counts_more_than_that_of_the_new_run() -> None:
    optimizer = optimizer_of(1.0)
    saved = scheduler(optimizer, "exp", epochs=4, steps_per_epoch=1, k=0.5).state_dict()
    again = scheduler(optimizer_of(1.0), "step", epochs=9, steps_per_epoch=2)
    again.load_state_dict(saved)
    assert again.lr_lambdas[0](3) == pytest.approx(math.exp(-1.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": "linear"}, "there is no decay 'linear' here; there are: none, step, exp, inverse, cosine"),
        ({"per": "batch"}, 'per "epoch" or per "step", not per \'batch\''),
        ({"epochs": 0}, "need epochs above 0"),
        ({"steps_per_epoch": 0}, "at least 1 step"),
        ({"warmup": 6}, "the warmup must end before the run does: from 0 to 6 epochs, got 6"),
        ({"k": -1}, "need k from 0 up"),
        ({"every": 0}, "every above 0"),
        ({"factor": 1.5}, "factor from 0 to 1"),
    ],
)
def test_what_is_wrong_is_said(settings: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"decay": "exp", "epochs": EPOCHS, "steps_per_epoch": STEPS}
    with pytest.raises(ValueError, match=message):
        scheduler(optimizer_of(1.0), **(given | settings))


def test_the_default_is_the_notes_own() -> None:
    optimizer = optimizer_of(0.1)
    schedule = scheduler(optimizer, "step", epochs=60, steps_per_epoch=1)
    assert sorted(set(followed(optimizer, schedule, 60)), reverse=True) == pytest.approx([0.1, 0.08, 0.064])
    assert (schedules.EVERY, schedules.FACTOR) == (20, 0.8)
