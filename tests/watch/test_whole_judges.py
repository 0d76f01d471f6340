"""Judges from end to end: tiny trainings with one known fault, and their healthy twins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import runtrue
from runtrue.findings import Finding
from runtrue.watch import Watch

X, Y = torch.randn(256, 8, generator=torch.Generator().manual_seed(0)), torch.arange(256) % 2
X[:, 0] += 3.0 * Y


def network(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), *more, nn.ReLU(), nn.Linear(16, 2))


def batches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        part = torch.randint(256, (32,), generator=draw)
        yield X[part], Y[part]


def trained(
    model: nn.Module, rate: float = 0.1, steps: int = 160, clear: bool = True, order: str = "right",
    held: nn.Module | None = None, at_epoch: Callable[[Watch, nn.Module], Any] | None = None, spoil: int | None = None,
) -> dict[str, Finding]:  # fmt: skip
    optimizer = torch.optim.SGD((held or model).parameters(), rate)
    watch = runtrue.watch(model, optimizer, every=5, say=lambda _: None)
    for step, (x, y) in enumerate(batches(steps)):
        loss = F.cross_entropy(model(x * (float("nan") if step == spoil else 1.0)), y)
        if clear and order != "late":
            optimizer.zero_grad()
        if order == "late":
            optimizer.step()
            optimizer.zero_grad()
        loss.backward()
        if order == "right":
            optimizer.step()
        watch.step(loss)
        if at_epoch is not None and step % 50 == 49:
            at_epoch(watch, model)
    watch.close()
    return {one.cause: one for one in watch.verdicts}


def severities(**options: Any) -> dict[str, str]:
    return {cause: one.severity for cause, one in trained(**options).items()}


def test_healthy() -> None:
    assert severities(model=network(nn.BatchNorm1d(16)), at_epoch=evaluates) == {}
    assert severities(model=network(), rate=0.01) == {}


def evaluates(watch: Watch, model: nn.Module, mode: str = "evaluation", back: bool = True) -> None:
    model.train(mode == "training")
    with torch.no_grad():
        right = float((model(X).argmax(1) == Y).float().mean())
    watch.epoch(train_accuracy=right, val_accuracy=right)
    model.train(back)


def test_gradients_not_cleared() -> None:
    assert trained(network(), clear=False)["gradients-not-cleared"].severity == "fault"


def test_stepped_before_the_gradient_is_there() -> None:
    found = trained(nn.Linear(8, 2), order="late")  # with more layers torch itself refuses
    assert {cause: one.severity for cause, one in found.items()} == {"step-before-backward": "warning"}


def test_forgotten_mode() -> None:
    norm = nn.BatchNorm1d(16)
    found = trained(network(norm), at_epoch=lambda w, m: evaluates(w, m, back=False))
    assert {cause: one.severity for cause, one in found.items()} == {"eval-mode-while-training": "fault"}
    found = trained(network(norm), at_epoch=lambda w, m: evaluates(w, m, mode="training"))
    assert {cause: one.severity for cause, one in found.items()} == {"train-mode-while-evaluating": "fault"}


def test_another_networks_optimizer() -> None:
    assert severities(model=network(), held=network()) == {"parameters-not-optimized": "fault"}


@pytest.mark.parametrize(("rate", "cause"), [(1e6, "diverging"), (1e-7, "learning-rate-too-low")])
def test_rates(rate: float, cause: str) -> None:
    found = trained(network(), rate=rate, steps=200)
    assert [c for c, one in found.items() if one.severity != "note"] == [cause]


def test_nothing_but_numbers_in_the_data() -> None:
    found = trained(network(), spoil=40, steps=60)
    assert found["diverging"].severity == "fault" and found["diverging"].evidence["first"] == 40
    assert "the inputs of the batch hold NaN" in found["diverging"].message


def test_losses_that_are_not_told() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with runtrue.watch(model, optimizer, every=5, say=lambda _: None) as watch:
        for x, y in batches(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            watch.step()
    assert not watch.verdicts


def test_a_run_that_is_gone_on_with_keeps_its_steps() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    steps: list[int] = []
    with runtrue.watch(
        model, optimizer, every=5, start=1000, say=lambda _: None, told=lambda s, _: steps.append(s)
    ) as watch:
        for x, y in batches(40):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            watch.step(loss)
    assert [one.cause for one in watch.verdicts] == ["gradients-not-cleared"] and 1020 <= steps[0] <= 1040
