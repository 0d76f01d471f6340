"""LightningModules as people write them, sick and healthy, on real images. Imported by tests, and checked as a file."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, TensorDataset

from runtrue import datasets

Batch = Any
ROWS, CLASSES = 1000, 10


def images(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    pixels, labels = datasets.fashion_mnist()
    return pixels[:rows], labels[:rows]


class Clothes(pl.LightningDataModule):
    def __init__(self, batch_size: int = 50) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        assert stage == "fit"
        self.train_set, self.val_set = TensorDataset(*images()), TensorDataset(*datasets.fashion_mnist("test"))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val_set, 256)


def body(*tail: nn.Module, depth: int = 1, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(64, 64), activation())]
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), activation(), *hidden, nn.Linear(64, CLASSES), *tail)


class Classifier(pl.LightningModule):
    """save_hyperparameters, torchmetrics, self.log, example_input_array."""

    def __init__(self, lr: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = self.build()
        self.train_acc = torchmetrics.Accuracy(task="multiclass", num_classes=CLASSES)
        self.example_input_array = torch.zeros(2, 1, 28, 28)

    def build(self) -> nn.Module:
        return body()

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.train_acc(logits, y)
        self.log("train_loss", loss, prog_bar=True, batch_size=x.size(0))
        self.log("train_acc", self.train_acc, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=self.hparams["lr"])


class SoftmaxInNet(Classifier):
    def build(self) -> nn.Module:
        return body(nn.Softmax(dim=1))

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.01)


class SoftmaxInStep(Classifier):
    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        x, y = batch
        loss = F.cross_entropy(self(x).softmax(1), y)
        optimizer: Any = self.optimizers()
        self.log_dict({"loss": loss, "rate": optimizer.param_groups[0]["lr"]})
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.01)


class ReluOutput(Classifier):
    def build(self) -> nn.Module:
        return body(nn.ReLU(), depth=2)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=0.01)


class LabelsFromOne(Classifier):
    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0]), batch[1] + 1)


class RateTooHigh(Classifier):
    def __init__(self) -> None:
        super().__init__(lr=3.0)


class TinyWeights(Classifier):
    def build(self) -> nn.Module:
        net = body(depth=7, activation=nn.Tanh)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.01)
        return net

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.05, momentum=0.9)


class Forgetful(pl.LightningModule):
    """configure_optimizers knows the head alone, and the encoder is no good as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = body(depth=2)[:-1], nn.Linear(64, CLASSES)
        for parameter in self.encoder.parameters():
            nn.init.normal_(parameter, std=0.05) if parameter.dim() > 1 else nn.init.constant_(parameter, -0.5)
        self.training_step_outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Any:
        return self.head(self.encoder(x))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.forward(batch[0]), batch[1])
        self.training_step_outputs.append(loss)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.log_dict(pl.utilities.grad_norm(self, norm_type=2))

    def configure_optimizers(self) -> Any:
        return [Adam(self.head.parameters(), lr=1e-3)]


class Inline(pl.LightningModule):
    """No forward: the outputs are computed line by line; a criterion module; a plateau schedule with its monitor."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.l2, self.criterion = nn.Linear(784, 64), nn.Linear(64, CLASSES), nn.CrossEntropyLoss()

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        x, y = batch
        hidden = F.relu(self.l1(x.view(x.size(0), -1)))
        loss = self.criterion(self.last(self.l2(hidden)), y)
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def last(self, x: Tensor) -> Tensor:
        return x

    def configure_optimizers(self) -> Any:
        optimizer = Adam(self.parameters(), lr=2e-3)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "train_loss"},
        }


class InlineSoftmax(Inline):
    def last(self, x: Tensor) -> Tensor:
        return x.softmax(1)

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.01)


class OneCycle(Classifier):
    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=int(self.trainer.estimated_stepping_batches))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Cosine(Classifier):
    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [CosineAnnealingLR(optimizer, self.trainer.max_epochs or 1)]


class Warmup(Classifier):
    """A rate that begins at 0."""

    def configure_optimizers(self) -> Any:
        optimizer = AdamW(self.parameters(), lr=4e-3)
        total = int(self.trainer.estimated_stepping_batches)

        def factor(step: int) -> float:
            return min(1.0, step / (0.2 * total))

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }


class Rows(Dataset[dict[str, Any]]):
    """Examples as dicts, with a name that no tensor can hold."""

    def __init__(self) -> None:
        self.pixels, self.labels = images()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"image": self.pixels[i], "label": self.labels[i], "name": f"image {i}"}


class Dicts(pl.LightningModule):
    """Its own data, set up late; a logger's own methods; parts that configure_model builds; every hook."""

    def prepare_data(self) -> None:
        assert self.trainer.is_global_zero

    def setup(self, stage: str) -> None:
        self.rows = Rows()

    def configure_model(self) -> None:
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 10)
        )
        self.seen = torchmetrics.MetricCollection({"acc": torchmetrics.Accuracy(task="multiclass", num_classes=10)})

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.rows, batch_size=50, shuffle=True, num_workers=2, persistent_workers=True)

    def on_train_epoch_start(self) -> None:
        self.print("an epoch begins")
        self.losses: list[float] = []

    def forward(self, image: Tensor) -> Any:
        return self.cnn(image)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(image=batch["image"])
        loss = F.cross_entropy(logits, batch["label"], label_smoothing=0.1)
        self.losses.append(loss.item())
        if self.global_step % 10 == 0 and self.logger is not None:
            writer: Any = self.logger
            writer.experiment.add_scalar("loss", loss.item(), self.current_epoch)
        self.log_dict(self.seen(logits, batch["label"]), sync_dist=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = Adam(self.parameters(), lr=2e-3)
        return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 5)}


class Noisy(Classifier):
    """Mixed images (Zhang et al. 2018): random numbers outside of the network, so the step stays whole."""

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        x, y = batch
        share, order = random.uniform(0.7, 1.0), torch.randperm(len(x))
        outputs = self(share * x + (1 - share) * x[order])
        return share * F.cross_entropy(outputs, y) + (1 - share) * F.cross_entropy(outputs, y[order])


class Moved(Classifier):
    """A hook that changes each batch, as augmentation on the device does."""

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        return batch[0].flip(-1), batch[1]


class Encoder(pl.LightningModule):
    """An autoencoder: forward encodes, training_step decodes as well, the target is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(784, 32), nn.Sequential(nn.ReLU(), nn.Linear(32, 784))

    def forward(self, x: Tensor) -> Any:
        return self.encoder(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, _ = batch
        x = x.view(x.size(0), -1)
        loss = F.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


class Student(Classifier):
    """A second loss asks for agreement with a slow copy of the network (Tarvainen and Valpola 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        outputs = self.net(batch[0])
        with torch.no_grad():
            wanted = self.teacher(batch[0])
        return F.cross_entropy(outputs, batch[1]) + 0.1 * F.mse_loss(outputs, wanted)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.net.parameters()):
            slow.data.lerp_(fast.data, 0.1)

    def configure_optimizers(self) -> Any:
        return Adam(self.net.parameters(), lr=2e-3)


SICK = {
    SoftmaxInNet: "softmax-before-cross-entropy",
    SoftmaxInStep: "softmax-before-cross-entropy",
    InlineSoftmax: "softmax-before-cross-entropy",
    ReluOutput: "output-activation-mismatch",
    LabelsFromOne: "labels-out-of-range",
    RateTooHigh: "learning-rate-too-high",
    TinyWeights: "init-too-small",
    Forgetful: "parameters-not-optimized",
}
HEALTHY = (Classifier, Inline, OneCycle, Cosine, Warmup, Dicts, Noisy, Moved, Encoder, Student)
