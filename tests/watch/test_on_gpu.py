"""On a GPU: nothing waits for it, nothing changes, and the numbers are those of the CPU. Skipped where there is none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import runtrue
from runtrue.watch import record_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(8 * 8 * 8, 300), nn.Tanh(), nn.Linear(300, 10),
    )  # fmt: skip


def trained(
    watch: Any, device: str = "cuda", steps: int = 12, half: bool = False, strict: bool = False
) -> dict[str, Any]:
    """Weights and random state at the end. strict: what waits for the GPU raises."""
    model = net().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    scaler = torch.amp.GradScaler(device, enabled=half)
    batches = [(torch.randn(16, 3, 8, 8).to(device), torch.randint(10, (16,)).to(device)) for _ in range(steps)]
    with watch(model, optimizer) as watching:
        for number, (x, y) in enumerate(batches):
            if strict and number == steps // 2:
                torch.cuda.set_sync_debug_mode("error")
            with torch.autocast(device, torch.float16, enabled=half):
                loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            watching.step(loss)
        torch.cuda.set_sync_debug_mode("default")
    return {"weights": [p.detach().cpu() for p in model.state_dict().values()], "random": torch.cuda.get_rng_state()}


class Nobody:
    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> Nobody:
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, loss: Any) -> None: ...


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("every", [1, None])
def test_weights_and_random_state_are_those_of_an_unwatched_training(every: int | None, half: bool) -> None:
    said: list[str] = []
    alone = trained(Nobody, half=half)
    watched = trained(partial(runtrue.watch, every=every, say=said.append), half=half)
    assert all(map(torch.equal, alone["weights"], watched["weights"])) and torch.equal(
        alone["random"], watched["random"]
    )
    assert not any("stopped" in line or "while reading" in line for line in said), said


@pytest.mark.parametrize("every", [1, None])
def test_no_step_waits_for_the_gpu(every: int | None) -> None:
    said: list[str] = []
    trained(partial(runtrue.watch, every=every, say=said.append), steps=20, strict=True)
    assert not any("stopped" in line or "while reading" in line for line in said), said


def test_the_guard_does_raise() -> None:
    x = torch.ones(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            x.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_numbers_are_those_of_the_cpu(tmp_path: Path) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        # dropout draws other masks on another device
        def watch(model: nn.Module, optimizer: Any, device: str = device) -> Any:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            return runtrue.watch(model, optimizer, run=tmp_path / device, every=1, say=lambda _: None)

        torch.manual_seed(1)
        trained(watch, device, steps=2)
        found[device] = next(iter(record_of(tmp_path / device).readings())).numbers
    assert found["cpu"].keys() == found["cuda"].keys() and len(found["cpu"]) > 30
    for key, value in found["cpu"].items():
        assert found["cuda"][key] == pytest.approx(value, rel=0.02, abs=1e-4), key
