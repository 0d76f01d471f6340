"""What the watch holds in memory: the same after thousands of steps as after hundreds, and little."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import runtrue
from runtrue.watch import Watch, noting

LAYERS = 100
MOST = 2e6  # bytes for a hundred layers, between readings: 0.8e6 to 1.1e6 were measured
PEAK = 4e6  # bytes while a reading is taken in and judged: 3.0e6 to 3.2e6 were measured


def tensors_of(watch: Watch) -> int:
    """Bytes of the tensors that the watch reaches and that are neither the model's nor the optimizers'."""
    known = {id(x) for x in gc.get_referents(*watch.model.parameters(), *watch.model.buffers())}
    foreign = (nn.Module, torch.optim.Optimizer, type)
    seen, waiting, found = known | {id(p) for p in watch.model.parameters()}, list[Any]([watch]), 0
    while waiting:
        one = waiting.pop()
        if (
            id(one) in seen
            or isinstance(one, foreign)
            or type(one).__name__ in ("module", "function", "builtin_function_or_method")
        ):
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            found += one.untyped_storage().nbytes()
        else:
            waiting += gc.get_referents(one)
    return found


@pytest.mark.slow  # every allocation of Python is counted
@pytest.mark.parametrize("steps", [32, 300])
def test_memory_is_bounded_and_small(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For `steps` steps, and three times as many behind them."""
    monkeypatch.setattr(noting, "HELD", 16)
    torch.manual_seed(0)
    model = nn.Sequential(*[layer for _ in range(LAYERS) for layer in (nn.Linear(4, 4), nn.ReLU())])
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    x, found = torch.randn(8, 4), list[Any]()

    def train(watch: Any, steps: int) -> None:
        for _ in range(steps):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
        found.append(watch.verdicts)  # everything is handed on, judged and written
        gc.collect()

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with runtrue.watch(model, optimizer, run=tmp_path, every=4, say=lambda _: None) as watch:
            train(watch, steps)
            early, early_tensors = tracemalloc.get_traced_memory()[0] - before, tensors_of(watch)
            tracemalloc.reset_peak()
            train(watch, 3 * steps)
            late, peak = (size - before for size in tracemalloc.get_traced_memory())
            late_tensors = tensors_of(watch)
            assert watch.readings == steps + 1
    finally:
        tracemalloc.stop()
    assert late + late_tensors < MOST and peak < PEAK, (late, late_tensors, peak)
    assert late - early < 0.1 * MOST and late_tensors <= early_tensors + 20_000, (
        early,
        late,
        early_tensors,
        late_tensors,
        found,
    )


def test_the_walk_finds_tensors() -> None:
    model = nn.Linear(2, 2)
    with runtrue.watch(model, torch.optim.SGD(model.parameters(), 0.1)) as watch:
        before = tensors_of(watch)
        watch._notes.mark = torch.zeros(10_000)
        assert tensors_of(watch) - before == 40_000
