"""Mode "deep": the head first, then all layers, each slower than the one behind it (N1.1, mode 2). A run that was cut off goes on
behind its last whole epoch, and ends with the weights of an uninterrupted one: batches follow from seed and epoch, the random
numbers of a step from seed and step."""

from __future__ import annotations

import copy
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

from runtrue import schedules
from runtrue.datasets import Augment, Images, Loader
from runtrue.finetune.rates import groups, stages_of
from runtrue.keeping import seed_all
from runtrue.training.folder import RunFolder
from runtrue.tuning.head import batches
from runtrue.tuning.judging import judged, raw
from runtrue.tuning.network import Start
from runtrue.tuning.settings import ConfigError, Settings

STRIDE = 1_000_003  # a prime: seeds of neighbouring runs share no step's random numbers for as many steps
CROP = 10  # the padding of a random crop is the side divided by this: objects stay whole
WARMUP = 1.0  # epochs: Adam's second moments are not known before (Loshchilov and Hutter 2019 train so)
NEEDED = ("state_dict", "optimizer", "schedule", "epoch", "global_step", "best", "lowest", "kept_epoch")
Row = dict[str, Any]


@dataclass(eq=False)
class Course:
    """A training on its way: all that a checkpoint holds."""

    model: nn.Module
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
        self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return True

    def save(self, folder: RunFolder) -> None:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        path = folder.checkpoints / f"epoch-step={self.step}.ckpt"
        beside = path.with_name(f".{path.name}")
        torch.save(
            {
                "state_dict": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(), "epoch": self.epoch, "global_step": self.step, "best": self.best,
                "lowest": self.lowest, "kept_epoch": self.kept_epoch,
            },
            beside,
        )  # fmt: skip
        beside.replace(path)
        for _, old in folder.saved()[2:]:
            old.unlink()

    def load(self, path: Path) -> None:
        held = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(held["state_dict"])
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

    def course(self, lr: float) -> Course:
        model, settings = self.start.model, self.settings
        found = groups(
            model, lr, self.start.fresh, kept=settings.kept, front=settings.front, weight_decay=settings.weight_decay
        )
        optimizer = AdamW(found)
        schedule = schedules.scheduler(
            optimizer, "cosine", epochs=settings.epochs, steps_per_epoch=len(self.loader()), per="step",
            warmup=min(WARMUP, settings.epochs / 4),
        )  # fmt: skip
        return Course(model, optimizer, schedule)

    def loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = raw(self.start.model(inputs)).float()
        return F.cross_entropy(outputs, labels, self.class_weights), outputs


def augment_of(plan: Plan) -> Augment:
    if plan.settings.augment == "auto":
        return Augment(crop=min(plan.images.size) // CROP, flip=True)
    try:
        return Augment.parse(plan.settings.augment)
    except ValueError as error:
        raise ConfigError(f"augment: {error}") from None


def train(plan: Plan, course: Course, folder: RunFolder, told: Callable[[Row], None], watch: Any = None) -> str:
    """Train on from where the course is; returns why it ended. The model has the weights of its best epoch then."""
    why = f"after {plan.settings.epochs} epochs"
    while course.epoch < plan.settings.epochs:
        began = time.monotonic()
        row = _epoch(plan, course, watch)
        course.epoch += 1
        row |= judged(course.model, batches(plan.images.val, plan.start)).row("val")
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
    course.model.load_state_dict(course.best)
    return why


def _epoch(plan: Plan, course: Course, watch: Any) -> Row:
    """One pass over the training set; losses and accuracies are counted while it is trained, on augmented images."""
    loader = plan.loader()
    loader.set_epoch(course.epoch)
    course.model.train()
    asleep(plan, course)
    total, right, examples = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64), 0
    for inputs, labels in loader:
        seed_all((plan.settings.seed * STRIDE + course.step) % 2**31)
        loss, outputs = plan.loss(inputs, labels)
        course.optimizer.zero_grad()
        loss.backward()
        course.optimizer.step()
        course.schedule.step()
        course.step += 1
        if watch is not None:
            watch.step(loss.detach())
        total += loss.detach().double() * len(labels)
        right += (outputs.argmax(1) == labels).sum()
        examples += len(labels)
    rate = float(course.optimizer.param_groups[-1]["lr"])
    return {"lr": rate, "train_loss": float(total) / examples, "train_accuracy": float(right) / examples}


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


# The rate

RATES = (1e-3, 3e-4, 1e-4)
"""Of what is new, for AdamW; what was kept gets a tenth of it at the most."""
STEPS = 5
WORSE = 1.05
"""Times the loss before, on the images to validate with: a rate after whose steps it is higher than that tears up what the
network knows, and the next lower one is tried. (The images to train with tell nothing: the head before was solved for them, and
any step away from there is a step up.)"""


@dataclass(frozen=True)
class Trials:
    """loss: before any step; after: at each rate that was tried; lr: the one that is taken."""

    lr: float
    loss: float
    after: dict[float, float]

    def describe(self) -> str:
        if not self.after:
            return f"{self.lr:g}, as you said"
        tried = ", ".join(f"{rate:g}: {loss:.3g}" for rate, loss in self.after.items())
        return f"{self.lr:g}, by trials of {STEPS} steps (validation loss {self.loss:.3g} before; {tried})"


def found_rate(plan: Plan) -> Trials:
    """The highest of RATES whose first steps do not harm. The model is as before."""
    kept = copy.deepcopy(plan.start.model.state_dict())
    before = judged(plan.start.model, batches(plan.images.val, plan.start)).loss
    after: dict[float, float] = {}
    for rate in RATES:
        optimizer = plan.course(rate).optimizer
        plan.start.model.train()
        for number, (inputs, labels) in zip(range(STEPS), plan.loader()):
            seed_all((plan.settings.seed * STRIDE + number) % 2**31)
            loss, _ = plan.loss(inputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after[rate] = judged(plan.start.model, batches(plan.images.val, plan.start)).loss
        plan.start.model.load_state_dict(kept)
        if after[rate] <= WORSE * before:
            break
    for parameter in plan.start.model.parameters():
        parameter.grad = None
    return Trials(next((r for r in after if after[r] <= WORSE * before), RATES[-1]), before, after)
