"""Mode "deep": the head first, then all layers, each slower than the one behind it (N1.1, mode 2). A run that was cut off goes on
behind its last whole epoch, and ends with the weights of an uninterrupted one: batches follow from seed and epoch, the random
numbers of a step from seed and step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from runtrue import schedules
from runtrue.datasets import Augment, Images, Loader
from runtrue.finetune.rates import groups, stages_of
from runtrue.keeping import keep_modes, seed_all
from runtrue.training.folder import RunFolder
from runtrue.tuning.head import batches
from runtrue.tuning.judging import Count, judged, raw
from runtrue.tuning.network import Start
from runtrue.tuning.settings import ConfigError, Settings

STRIDE = 1_000_003  # a prime: seeds of neighbouring runs share no step's random numbers for as many steps
CROP = 10  # the padding of a random crop is the side divided by this: objects stay whole
WARMUP = 1.0  # epochs: Adam's second moments are not known before (Loshchilov and Hutter 2019 train so)
LEAST_MEAN = 30
"""Steps that the mean of the weights reaches back at the least; beyond that it is those of one epoch. MobileNetV2 on photographs
of 7 and of 8 classes, 5 folds each, 8 epochs of AdamW at 1e-3, right answers at the lowest validation loss: the head alone 0.896
and 0.779, weights of single steps 0.911 and 0.773, means over 10 steps 0.901 and 0.782, over 33 steps 0.906 and 0.794; at the
end, whatever the loss: single steps 0.883 and 0.768, means over 33 steps 0.897 and 0.769."""
NEEDED = ("state_dict", "mean", "optimizer", "schedule", "epoch", "global_step", "best", "lowest", "kept_epoch")
Row = dict[str, Any]


@dataclass(eq=False)
class Course:
    """A training on its way: all that a checkpoint holds. mean: the network with a running mean of its weights and statistics,
    which is what is judged and kept: on few images it forgets less of what the network knew than any single step's weights."""

    model: nn.Module
    mean: AveragedModel
    optimizer: Optimizer
    schedule: LRScheduler
    epoch: int = 0
    step: int = 0
    lowest: float = math.inf
    kept_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    def judged_best(self, loss: float, epoch: int) -> bool:
        """Remember the weights if the validation loss is the lowest so far."""
        if not loss < self.lowest:
            return False
        self.lowest, self.kept_epoch = loss, epoch
        self.best = {name: value.detach().clone() for name, value in self.mean.module.state_dict().items()}
        return True

    def take_best(self) -> None:
        self.model.load_state_dict(self.best)

    def save(self, folder: RunFolder) -> None:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        path = folder.checkpoints / f"epoch-step={self.step}.ckpt"
        beside = path.with_name(f".{path.name}")
        torch.save(
            {
                "state_dict": self.model.state_dict(), "mean": self.mean.state_dict(),
                "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(), "epoch": self.epoch,
                "global_step": self.step, "best": self.best, "lowest": self.lowest, "kept_epoch": self.kept_epoch,
            },
            beside,
        )  # fmt: skip
        beside.replace(path)
        for _, old in folder.saved()[2:]:
            old.unlink()

    def load(self, path: Path) -> None:
        held = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(held["state_dict"])
        self.mean.load_state_dict(held["mean"])
        self.optimizer.load_state_dict(held["optimizer"])
        self.schedule.load_state_dict(held["schedule"])
        self.epoch, self.step = held["epoch"], held["global_step"]
        self.lowest, self.kept_epoch, self.best = held["lowest"], held["kept_epoch"], held["best"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What does not change on the way."""

    start: Start
    images: Images
    settings: Settings
    class_weights: Tensor | None = None

    def loader(self) -> Loader:
        size = min(self.settings.batch_size, len(self.images.train))
        return Loader(
            self.images.train, size, mean=self.start.wants.mean, std=self.start.wants.std, augment=augment_of(self),
            seed=self.settings.seed, drop_last=True,
        )  # fmt: skip

    def seed(self, step: int) -> None:
        """The random numbers of a step."""
        seed_all((self.settings.seed * STRIDE + step) % 2**31)

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """For the optimizer, each part at its rate."""
        settings = self.settings
        return groups(
            self.start.model, lr, self.start.fresh, kept=settings.kept, front=settings.front,
            weight_decay=settings.weight_decay,
        )  # fmt: skip

    def course(self, lr: float) -> Course:
        model, settings = self.start.model, self.settings
        optimizer, steps = AdamW(self.groups(lr)), len(self.loader())
        schedule = schedules.scheduler(
            optimizer, "cosine", epochs=settings.epochs, steps_per_epoch=steps, per="step",
            warmup=min(WARMUP, settings.epochs / 4),
        )  # fmt: skip
        return Course(model, averaged(model, max(LEAST_MEAN, steps)), optimizer, schedule)

    def loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = raw(self.start.model(inputs)).float()
        return F.cross_entropy(outputs, labels, self.class_weights), outputs


def averaged(model: nn.Module, steps: int) -> AveragedModel:
    """The running mean of the last so many steps (exponential; Polyak and Juditsky 1992), from the weights of now on."""

    @torch.no_grad()
    def towards(means: Any, nows: Any, number: Any) -> None:
        for mean, now in zip(means, nows, strict=True):
            moved = torch.lerp(mean, now, 1 / steps) if mean.is_floating_point() else now
            mean.copy_(torch.where(mean == now, now, moved))  # a mask's -inf stays what it is

    found = AveragedModel(model, multi_avg_fn=towards, use_buffers=True)
    found.update_parameters(model)
    return found


def augment_of(plan: Plan) -> Augment:
    if plan.settings.augment == "auto":
        return Augment(crop=min(plan.images.size) // CROP, flip=True)
    try:
        return Augment.parse(plan.settings.augment)
    except ValueError as error:
        raise ConfigError(f"augment: {error}") from None


def train(plan: Plan, course: Course, folder: RunFolder, told: Callable[[Row], None], watch: Any = None) -> str:
    """Train on from where the course is; returns why it ended. The model has the weights of its last step then; those of its
    best epoch are a matter of `Course.take_best`."""
    why = f"after {plan.settings.epochs} epochs"
    while course.epoch < plan.settings.epochs:
        began = time.monotonic()
        row = _epoch(plan, course, watch)
        course.epoch += 1
        row |= judged(course.mean.module, batches(plan.images.val, plan.start)).row("val")
        row |= {"epoch": course.epoch, "step": course.step, "seconds": time.monotonic() - began}
        course.judged_best(row["val_loss"], course.epoch)
        told(row)
        course.save(folder)
        if not math.isfinite(row["train_loss"]):
            why = f"the loss is no number since epoch {course.epoch}"
            break
        if course.epoch - course.kept_epoch >= plan.settings.patience:
            why = f"no lower validation loss in {plan.settings.patience} epochs"
            break
    return why


def _epoch(plan: Plan, course: Course, watch: Any) -> Row:
    """One pass over the training set; losses and accuracies are counted while it is trained, on augmented images."""
    loader = plan.loader()
    loader.set_epoch(course.epoch)
    course.model.train()
    asleep(plan, course)
    count = Count()
    for inputs, labels in loader:
        plan.seed(course.step)
        loss, outputs = plan.loss(inputs, labels)
        course.optimizer.zero_grad()
        loss.backward()
        course.optimizer.step()
        course.schedule.step()
        course.mean.update_parameters(course.model)
        course.step += 1
        if watch is not None:
            watch.step(loss.detach())
        count.add(loss, outputs, labels)
    return {"lr": float(course.optimizer.param_groups[-1]["lr"])} | count.row()


@torch.no_grad()
def at_rest(plan: Plan) -> Row:
    """What is counted in an epoch, in training mode and on augmented images, of one whose steps have a rate of 0: what the epochs
    are compared with. The network is left as it is."""
    model, count = plan.start.model, Count()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    restore_modes = keep_modes(model)
    try:
        model.train()
        for number, (inputs, labels) in enumerate(plan.loader()):
            plan.seed(number)
            count.add(*plan.loss(inputs, labels), labels)
    finally:
        model.load_state_dict(kept)
        restore_modes()
    return count.row()


def asleep(plan: Plan, course: Course) -> None:
    """Gradual unfreezing (Howard and Ruder 2018, section 3.3): stages of kept layers join in from back to front."""
    if not plan.settings.gradual:
        return
    share = min(1.0, course.epoch / plan.settings.gradual)
    stages = stages_of(plan.start.model, plan.start.fresh)
    trained = {id(p) for group in course.optimizer.param_groups for p in group["params"]}
    for name, parameter in plan.start.model.named_parameters():
        if id(parameter) not in trained:
            continue
        stage, count, _ = stages[name]
        parameter.requires_grad_(stage >= count - round(share * count))
        if not parameter.requires_grad:
            parameter.grad = None
