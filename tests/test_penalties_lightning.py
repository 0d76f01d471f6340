"""Penalties in Lightning's own loop, which computes the gradients inside a closure of the step: the same as a plain loop."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue.penalties import L1, L2, ElasticNet, MaxNorm, Penalty

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Lightning's warnings are its own
X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
EPOCHS, GATHERED, CLIP = 2, 2, 1.0


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def optimizer_of(net: nn.Module, penalty: Penalty) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.0)
    penalty.attach(net, optimizer)
    return optimizer


@pytest.mark.parametrize(
    "penalty", [L1(0.02), L2(0.1), L1(0.02, "subgradient"), L2(0.1, "penalty"), ElasticNet(0.02, 0.1), MaxNorm(0.5)]
)
def test_the_weights_are_those_of_a_plain_loop(penalty: Penalty) -> None:
    """With gradients that are gathered over two batches, and clipped before the penalty comes to them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning: Any = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer_of(self, penalty)

    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=16)
    module = Module()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    settings = {
        "max_epochs": EPOCHS,
        "accumulate_grad_batches": GATHERED,
        "gradient_clip_val": CLIP,
        "accelerator": "cpu",
    }
    lightning.Trainer(**settings, **quiet).fit(module, batches)
    net = network()
    optimizer = optimizer_of(net, penalty)
    for number, (inputs, labels) in enumerate(batch for _ in range(EPOCHS) for batch in batches):
        (nn.functional.cross_entropy(net(inputs), labels) / GATHERED).backward()
        if number % GATHERED:
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), net.parameters(), strict=True))
