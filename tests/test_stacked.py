"""Variants in one pass: the curves that single runs give, or None. What cannot be stacked is refused before it is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import Task, optimizers, trials
from runtrue.sandbox import Sandbox, sandbox
from runtrue.stacked import LINEAR_IN_RATE, Stack, Treat, stack
from runtrue.trials import Changed, Curve

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(24, 1, 8, 8, generator=GENERATOR)
Y = torch.randint(0, 3, (24,), generator=GENERATOR)
RATES = (1.0, 0.1, 3.0)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 3))


def cnn() -> nn.Module:
    """With batch normalization: statistics of its own for each variant, in buffers."""
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3)
    return nn.Sequential(*layers, nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 3))


def a_task(build: Callable[[], nn.Module] = mlp, **parts: Any) -> Task:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "loss": nn.CrossEntropyLoss(),
        "optimizer": partial(torch.optim.SGD, lr=0.1),
        "batch_size": 8,
    }
    return Task(build(), (X, Y), **(given | parts))


def faster(factor: float) -> Treat:
    return lambda task: task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))


def initialised(seed: int) -> Treat:
    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        torch.manual_seed(seed)
        for module in task.model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.reset_parameters()
        return task

    return treat


def singly(box: Sandbox, treats: list[Treat | None], **given: Any) -> list[Curve]:
    return [trials.run(box, treat, **given) for treat in treats]


def at_once(box: Sandbox, treats: list[Treat | None], **given: Any) -> list[Curve]:
    stacked = stack(box, treats)
    assert stacked is not None
    curves = stacked.train(**given)
    assert curves is not None
    return curves


def assert_alike(found: list[Curve], wanted: list[Curve], rel: float = 2e-4) -> None:
    assert len(found) == len(wanted) and [c.steps for c in found] == [c.steps for c in wanted]
    for one, other in zip(found, wanted):
        known = [(a, b) for a, b in zip(one.losses, other.losses) if math.isfinite(a) or math.isfinite(b)]
        assert [a for a, _ in known] == pytest.approx([b for _, b in known], rel=rel) and one.error is None


# -- the curves


OPTIMIZERS: list[Any] = [
    *[partial(kind, lr=0.01) for kind in LINEAR_IN_RATE],  # type: ignore[call-arg]
    partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    partial(torch.optim.SGD, lr=0.05, momentum=0.5, dampening=0.1, maximize=True),
    partial(torch.optim.Adam, lr=0.01, amsgrad=True, weight_decay=0.1, betas=(0.5, 0.9)),
    partial(torch.optim.Adam, lr=0.01, foreach=True),
    partial(torch.optim.AdamW, lr=0.01, weight_decay=0.5, fused=True),
    partial(torch.optim.RMSprop, lr=0.01, centered=True, momentum=0.9, weight_decay=0.1),
    partial(torch.optim.NAdam, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
]


@pytest.mark.parametrize("build", [mlp, cnn])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_rates_give_the_curves_of_single_runs(build: Callable[[], nn.Module], optimizer: Any) -> None:
    with sandbox(a_task(build, optimizer=optimizer)) as box:
        treats: list[Treat | None] = [faster(rate) for rate in RATES]
        wanted = singly(box, treats, steps=25)
        assert_alike(at_once(box, treats, steps=25), wanted)
    assert len({curve.end for curve in wanted}) == len(RATES), "the rates made a difference"


@pytest.mark.parametrize("build", [mlp, cnn])
def test_initial_weights_give_the_curves_of_single_runs(build: Callable[[], nn.Module]) -> None:
    with sandbox(a_task(build)) as box:
        treats: list[Treat | None] = [None, initialised(1), lambda task: faster(0.3)(initialised(2)(task))]
        assert_alike(at_once(box, treats, steps=25), singly(box, treats, steps=25))


def test_groups_keep_their_settings() -> None:
    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        first, *others = parameters
        return torch.optim.AdamW([{"params": [first], "lr": 0.001, "weight_decay": 0.5}, {"params": others}], lr=0.05)

    with sandbox(a_task(optimizer=optimizer)) as box:
        treats: list[Treat | None] = [faster(rate) for rate in RATES]
        assert_alike(at_once(box, treats, steps=25), singly(box, treats, steps=25))


def test_what_is_frozen_or_not_held_stays() -> None:
    task = a_task(cnn)
    assert isinstance(task.model, nn.Sequential)
    task.model[0].weight.requires_grad_(False)
    task = task.replace(optimizer=torch.optim.SGD(task.model[4].parameters(), lr=0.1))
    with sandbox(task) as box:
        treats: list[Treat | None] = [faster(rate) for rate in RATES]
        assert_alike(at_once(box, treats, steps=10), singly(box, treats, steps=10))


class ReadsItsStatistics(nn.Module):
    """Its output depends on a buffer that every step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert self.norm.running_mean is not None
        return self.last(self.norm(self.first(x.flatten(1))) - self.norm.running_mean.clone())


def test_each_variant_has_its_own_buffers() -> None:
    with sandbox(a_task(ReadsItsStatistics)) as box:
        treats: list[Treat | None] = [initialised(1), faster(3.0), None]
        assert_alike(at_once(box, treats, steps=15), singly(box, treats, steps=15))


def test_a_loss_that_closes_over_the_model_sees_the_variant() -> None:
    task = a_task()
    assert isinstance(task.model, nn.Sequential)
    net: Any = task.model
    with sandbox(task.replace(loss=lambda o, t: F.cross_entropy(o, t) + 0.1 * net[1].weight.square().sum())) as box:
        treats: list[Treat | None] = [initialised(1), faster(0.3), None]
        assert_alike(at_once(box, treats, steps=15), singly(box, treats, steps=15))


def test_a_step_function_is_run_whole() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]) * 2, batch[1])

    with sandbox(a_task(loss=None, step=step)) as box:
        treats: list[Treat | None] = [faster(rate) for rate in RATES]
        assert_alike(at_once(box, treats, steps=15), singly(box, treats, steps=15))


def test_a_lost_variant_ends_where_its_single_run_ends_and_the_others_go_on() -> None:
    with sandbox(a_task(loss=lambda o, t: F.mse_loss(o[:, 0], t * 1.0))) as box:
        treats: list[Treat | None] = [faster(0.01), faster(1e3), faster(0.1), faster(1e12)]
        wanted = singly(box, treats, steps=50)
        assert [curve.steps < 50 for curve in wanted] == [False, True, False, True]
        assert_alike(at_once(box, treats, steps=50), wanted)
        only_lost = treats[1::2]
        assert_alike(at_once(box, only_lost, steps=50), singly(box, only_lost, steps=50))


def test_batches_goals_and_deadlines_are_those_of_single_runs() -> None:
    with sandbox(a_task()) as box:
        treats: list[Treat | None] = [faster(rate) for rate in RATES]
        small = trials.small_set(box, 4)
        given: dict[str, Any] = {"steps": 200, "batch": lambda _: small, "until": 0.3}
        wanted = singly(box, treats, **given)
        assert len({curve.steps for curve in wanted}) > 1
        assert_alike(at_once(box, treats, **given), wanted)
        assert {curve.steps for curve in at_once(box, treats, steps=9, deadline=time.monotonic() - 1)} == {1}
        assert [curve.losses for curve in at_once(box, treats, steps=0)] == [(), (), ()]


def test_changed_data_that_all_share_are_changed() -> None:
    changed = Changed((X, Y), lambda batch: (batch[0] * 3, batch[1]))
    with sandbox(a_task()) as box:
        treats: list[Treat | None] = [
            lambda task: task.replace(train=changed),
            lambda task: faster(3.0)(task.replace(train=changed)),
        ]
        assert_alike(at_once(box, treats, steps=9), singly(box, treats, steps=9))


def test_the_box_is_left_as_it_was_and_every_step_is_counted() -> None:
    with sandbox(a_task(cnn)) as box:
        held = {name: value.clone() for name, value in box.start().model.state_dict().items()}
        random = torch.get_rng_state()
        stacked, before = stack(box, [initialised(1), faster(3.0)]), box.steps
        assert isinstance(stacked, Stack)
        first = stacked.train(steps=7)
        assert first is not None and box.steps == before + 14
        assert all(torch.equal(value, held[name]) for name, value in box.model.state_dict().items())
        assert all(parameter.grad is None for parameter in box.model.parameters()) and box.model.training
        assert torch.equal(torch.get_rng_state(), random)
        again = stacked.train(steps=7)
        assert again is not None and [c.losses for c in again] == [c.losses for c in first], "from the same place"


# -- what is refused


class Own(torch.optim.SGD):
    """Whatever it does, it is not known."""


def stepped(kind: Callable[..., torch.optim.Optimizer]) -> Task:
    task = a_task()
    assert isinstance(task.model, nn.Module)
    optimizer = kind(task.model.parameters())
    task.model(X).sum().backward()
    optimizer.step()
    return task.replace(optimizer=optimizer)


@pytest.mark.parametrize(
    "make",
    [
        lambda: a_task(lambda: nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 3))),
        lambda: a_task(optimizer=torch.optim.LBFGS),
        lambda: a_task(optimizer=partial(torch.optim.Rprop, lr=0.01)),
        lambda: a_task(optimizer=partial(Own, lr=0.01)),
        lambda: a_task(optimizer=partial(torch.optim.SGD, lr=math.nan)),
        lambda: a_task(optimizer=lambda p: torch.optim.SGD([*p, nn.Parameter(torch.ones(1))], lr=0.1)),
        lambda: stepped(partial(torch.optim.Adam, lr=0.01)),
    ],
    ids=["recurrent", "LBFGS", "Rprop", "own class", "no rate", "foreign parameter", "stepped before"],
)
def test_tasks_that_are_not_stacked(make: Callable[[], Task]) -> None:
    with sandbox(make()) as box:
        assert stack(box, [None, lambda task: task]) is None


def with_attribute(task: Task) -> Task:
    assert isinstance(task.model, nn.Sequential)
    setattr(task.model[2], "p", 0.5)  # noqa: B010
    return task


def with_layer(task: Task) -> Task:
    assert isinstance(task.model, nn.Sequential)
    task.model.append(nn.ReLU())
    return task


def with_hook(task: Task) -> Task:
    assert isinstance(task.model, nn.Sequential)
    task.model[1].register_forward_hook(lambda *_: None)
    return task


def frozen(task: Task) -> Task:
    assert isinstance(task.model, nn.Sequential)
    task.model[1].requires_grad_(False)
    return task


def fails(task: Task) -> Task:
    raise ValueError("does not fit")


@pytest.mark.parametrize(
    "treat",
    [
        with_attribute,
        with_layer,
        with_hook,
        frozen,
        fails,
        lambda task: task.replace(model=mlp()),
        lambda task: task.replace(loss=F.cross_entropy),
        lambda task: task.replace(train=Changed(task.train, lambda batch: batch)),
        lambda task: task.replace(optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
        lambda task: task.replace(optimizer=optimizers.adam),
    ],
)
def test_treatments_that_are_not_stacked(treat: Treat) -> None:
    with sandbox(a_task()) as box:
        assert stack(box, [None, treat]) is None
        assert stack(box, [None, faster(2.0)]) is not None, "the box is as it was"


class Branches(nn.Module):
    """What it computes depends on what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x.flatten(1))
        return out if out.sum() > 0 else -out


@pytest.mark.parametrize(
    "build",
    [Branches, lambda: nn.Sequential(mlp(), nn.Dropout(0.5)), lambda: nn.Sequential(mlp(), nn.RReLU())],
    ids=["branches", "dropout", "random slopes"],
)
def test_what_fails_in_one_pass_is_none(build: Callable[[], nn.Module]) -> None:
    with sandbox(a_task(build)) as box:
        stacked = stack(box, [None, faster(2.0)])
        assert stacked is not None and stacked.train(steps=3) is None
        assert trials.run(box, steps=3).error is None
