"""The Lightning module: what it counts, the random numbers of a step, and a run that was cut off at any step and goes on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pl = pytest.importorskip("pytorch_lightning")

from runtrue.training.callbacks import checkpoints  # noqa: E402 only where Lightning is
from runtrue.training.folder import RunFolder  # noqa: E402
from runtrue.training.module import Recipe, Resumable, Row, Training, count  # noqa: E402
from runtrue.training.resume import newest_sound  # noqa: E402
from runtrue.training.run import quiet  # noqa: E402

STEPS = 5


class Numbered:
    """Batches that follow from epoch and number."""

    def __init__(self) -> None:
        self.epoch, self.first = 0, 0

    def __len__(self) -> int:
        return STEPS

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def start_at(self, batch: int) -> None:
        self.first = batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first, self.first = self.first, 0
        for number in range(first, STEPS):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(100 * self.epoch + number))
            yield x, (x[:, 0] > 0).long()


class Stop(Exception):  # noqa: N818 no error
    pass


class StopAt(pl.Callback):  # type: ignore[misc, name-defined]
    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Stop


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def falling(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + 0.01 * t))


def train(path: Path, stop: int | None = None, every: int | None = 2) -> tuple[nn.Module, list[Row]]:
    """Three epochs, or as many as there are left; stops in front of the step."""
    folder, loader, told = RunFolder(path), Numbered(), list[Row]()
    module = Training(network(), Recipe(sgd, falling, seed=3), told.append)
    with quiet():
        trainer = pl.Trainer(
            max_epochs=3, accelerator="cpu", devices=1, logger=False, default_root_dir=path, num_sanity_val_steps=0,
            callbacks=[StopAt(stop), *checkpoints(folder, every)], enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        found = newest_sound(folder, pytest.fail)
        try:
            trainer.fit(module, Resumable(loader, module), Numbered(), ckpt_path=found, weights_only=True)
        except Stop:
            assert stop is not None
    return module.net, [{name: value for name, value in row.items() if name != "seconds"} for row in told]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, list[Row]]:
    return train(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stop", [1, 3, STEPS, STEPS + 2, 2 * STEPS + 4])
def test_a_run_that_was_cut_off_ends_like_one_that_was_not(
    tmp_path: Path, uninterrupted: tuple[nn.Module, list[Row]], stop: int
) -> None:
    net, rows = uninterrupted
    _, before = train(tmp_path, stop)
    again, after = train(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert before == rows[: len(before)] and after == rows[-len(after) :] and len(before) + len(after) >= 3


def test_without_checkpoints_within_an_epoch_it_goes_on_at_its_start(
    tmp_path: Path, uninterrupted: tuple[nn.Module, list[Row]]
) -> None:
    train(tmp_path, STEPS + 3, every=None)
    again, after = train(tmp_path, every=None)
    assert after == uninterrupted[1][1:]
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted[0].parameters(), again.parameters(), strict=True))


def test_two_checkpoints_of_each_kind_are_kept(tmp_path: Path) -> None:
    train(tmp_path)
    names = sorted(path.name for path in RunFolder(tmp_path).checkpoints.iterdir())
    assert names == ["epoch-step=10.ckpt", "epoch-step=15.ckpt", "within-step=12.ckpt", "within-step=14.ckpt"]


def test_the_rows_are_those_of_a_loop_written_by_hand(uninterrupted: tuple[nn.Module, list[Row]]) -> None:
    """Without dropout's random numbers the whole training can be followed: here its validation at the end."""
    net, rows = uninterrupted
    net.eval()
    right = total = 0
    loss = 0.0
    for x, y in Numbered():
        outputs = net(x).detach().double()
        loss += float(nn.functional.cross_entropy(outputs, y, reduction="sum"))
        right, total = right + int((outputs.argmax(1) == y).sum()), total + len(y)
    assert rows[-1]["val_accuracy"] == right / total
    assert rows[-1]["val_loss"] == pytest.approx(loss / total, rel=1e-6)
    assert [row["step"] for row in rows] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert rows[-1]["lr"] == pytest.approx(0.1 / (1 + 0.01 * 3 * STEPS))


def test_batches_of_different_size_count_by_their_examples() -> None:
    counts = torch.zeros(3, dtype=torch.float64)
    for size, loss in ((3, 1.0), (1, 5.0)):
        outputs = torch.tensor([[1.0, 0.0]]).repeat(size, 1)
        count(counts, torch.tensor(loss), outputs, torch.zeros(size, dtype=torch.long))
    assert counts.tolist() == [8.0, 4.0, 4.0] and math.isclose(counts[0] / counts[2], 2.0)
