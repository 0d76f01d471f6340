"""A LightningModule, checked as it is: its own training_step, configure_optimizers and data module, without a Trainer.

    runtrue check examples/lightning_module.py:Clothes
    runtrue check examples/lightning_module.py:Broken

It needs pytorch-lightning, which `pip install runtrue[train]` brings.
"""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import runtrue
from runtrue import datasets, lightning_task

torch.set_num_threads(1)  # layers this small gain nothing from more


class Images(pl.LightningDataModule):
    """The one data module of this file, so that it need not be named."""

    def setup(self, stage: str) -> None:
        self.train_set = TensorDataset(*datasets.fashion_mnist())

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=100, shuffle=True)


class Clothes(pl.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams["lr"], total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Broken(Clothes):
    """Cross-entropy takes raw outputs, and applies a softmax of its own."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)
        self.net.append(nn.Softmax(dim=1))


if __name__ == "__main__":
    task = lightning_task.task_of(Clothes, Images, epochs=5)
    report = runtrue.check(task, budget=20)
    assert report.ok, report.faults
    print("Clothes: no fault")

    sick = lightning_task.task_of(Broken, Images, epochs=5)
    report = lightning_task.spoken(runtrue.check(sick, budget=20), sick)
    fault = report.faults[0]
    assert fault.cause == "softmax-before-cross-entropy" and fault.remedy is not None
    print(f"Broken: {fault.cause}: {fault.message}\n\n{fault.remedy.code}")
