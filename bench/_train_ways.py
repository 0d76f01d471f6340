"""The same training by hand and as the users of each library write it: a ResNet-20 on 3 x 32 x 32 images.

All ways: batches of 128 in random order, crops of 32 out of 40 with a border of zeros, flips, normalisation, SGD with momentum
0.9, weight decay 1e-4, the rate times 0.8 every 20 epochs. A way trains one epoch and ticks the clock after each step. It raises
ImportError where its package is missing, UnmeasuredError where it cannot do what the plan asks.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from runtrue import datasets, nets

Setting = Literal["float32", "channels_last", "bf16"]

BATCH, SIZE, BORDER, CHANNELS = 128, 32, 4, 3
RATE, MOMENTUM, DECAY = 0.1, 0.9, 1e-4
EVERY, FACTOR = 20, 0.8
MEAN, STD = (datasets.MEAN,) * CHANNELS, (datasets.STD,) * CHANNELS
CPU = torch.device("cpu")


class UnmeasuredError(Exception):
    """This way cannot do what the plan asks; the message says why."""


@dataclass(frozen=True)
class Plan:
    """setting: float32, the same with channels_last, or bf16 with that. workers: processes that load images; 0 is none."""

    setting: Setting
    steps: int
    warmup: int
    workers: int = 0

    @property
    def images(self) -> int:
        """Of one epoch: no way has to begin a second one."""
        return (self.steps + self.warmup) * BATCH

    @property
    def channels_last(self) -> bool:
        return self.setting != "float32"

    @property
    def bf16(self) -> bool:
        return self.setting == "bf16"

    def laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images


@dataclass
class Clock:
    """When each step ended, and its loss: a way that is fast because it does not train would show."""

    times: list[float] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)

    def tick(self, loss: Tensor) -> None:
        self.times.append(time.perf_counter())
        self.losses.append(loss.detach())

    def told(self, plan: Plan) -> dict[str, float]:
        """Images per second after the warm-up, and the mean loss of the last five steps."""
        assert len(self.times) == plan.steps + plan.warmup, f"{len(self.times)} steps instead of those of {plan}"
        seconds = self.times[-1] - self.times[plan.warmup - 1]
        loss = torch.stack(self.losses[-5:]).float().mean().item()
        return {"images_per_second": plan.steps * BATCH / seconds, "loss": loss}


def stored(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` images, uint8 (N, 32, 32, 3), and labels (N,): the shipped ones, repeated."""
    images, labels = datasets.fashion_mnist(size=SIZE, channels=CHANNELS, normalize=False)
    places = torch.arange(count) % len(labels)
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return pixels[places].numpy(), labels[places].numpy()


def network(plan: Plan) -> nn.Module:
    torch.manual_seed(0)
    net: Any = nets.resnet(20, classes=10, in_channels=CHANNELS)  # Any: torch's types know no memory_format here
    made: nn.Module = net.to(memory_format=torch.channels_last) if plan.channels_last else net
    return made


# -- by hand


@dataclass(frozen=True)
class Hand:
    """The ingredients of the loop by hand. keep_memory: glibc keeps what a step frees for the next one (Linux).

    On an AVX2 processor (20 rounds, CPU time of one thread, other work beside it) a step without channels_last took 1.15 times as
    long (quartiles 1.11 and 1.23). ReLU not in place took 1.02, SGD in a loop 0.98 and foreach 0.99, gradients kept 1.01, each
    within its noise of 1: convolutions are 72 % of a step, BatchNorm 13, ReLU 8, SGD and the images less than 1 each.
    """

    inplace: bool = True
    sgd: Literal["loop", "foreach", "fused"] = "fused"
    set_to_none: bool = True
    keep_memory: bool = False
    compiled: bool = False


INGREDIENTS = {
    "by hand": Hand(),
    "ReLU not in place": Hand(inplace=False),
    "SGD in a loop": Hand(sgd="loop"),
    "SGD foreach": Hand(sgd="foreach"),
    "gradients kept": Hand(set_to_none=False),
    "memory kept": Hand(keep_memory=True),
    "torch.compile": Hand(compiled=True),
}
"""The loop by hand, and the same with one ingredient changed."""


def by_hand(plan: Plan, clock: Clock, hand: Hand = INGREDIENTS["by hand"]) -> None:
    """The fastest loop that was found; `train_speed.py --ingredients` shows what each part of it does."""
    if hand.keep_memory:
        keep_memory()
    net = network(plan)
    for layer in net.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = hand.inplace
    settings: dict[str, Any] = {"momentum": MOMENTUM, "weight_decay": DECAY}
    settings |= {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}[hand.sgd]
    optimizer = torch.optim.SGD(net.parameters(), RATE, **settings)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, EVERY, FACTOR)
    forward: Any = torch.compile(net) if hand.compiled else net
    for images, labels in batches(plan):
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
            loss = F.cross_entropy(forward(images), labels)
        optimizer.zero_grad(hand.set_to_none)
        loss.backward()
        optimizer.step()
        clock.tick(loss)
    schedule.step()


def keep_memory() -> None:
    """mallopt(3): large blocks from the heap (M_MMAP_THRESHOLD is -3), which is never given back (M_TRIM_THRESHOLD is -1)."""
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and libc.mallopt(-3, 1 << 30) and libc.mallopt(-1, (1 << 31) - 1)):
        raise UnmeasuredError("this C library has no such mallopt")


def batches(plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops and flips of a whole batch in one gather; images stand in memory as channels_last wants them."""
    pixels, classes = map(torch.from_numpy, stored(plan.images))
    padded = F.pad(pixels, (0, 0, BORDER, BORDER, BORDER, BORDER))  # (N, 40, 40, 3)
    line = torch.arange(SIZE)
    scale, shift = 1 / (255 * datasets.STD), -datasets.MEAN / datasets.STD
    for places in torch.randperm(len(classes)).split(BATCH):
        top, left = torch.randint(2 * BORDER + 1, (2, BATCH, 1))
        columns = torch.where(torch.rand(BATCH, 1) < 0.5, line, line.flip(0)) + left
        cut = padded[places[:, None, None], (top + line)[:, :, None], columns[:, None, :]]  # (B, 32, 32, 3)
        images = cut.permute(0, 3, 1, 2).to(torch.float32).mul_(scale).add_(shift)
        yield images if plan.channels_last else images.contiguous(), classes[places]


# -- pytorch-lightning


def lightning(plan: Plan, clock: Clock) -> None:
    """A LightningModule, a Trainer, and a DataLoader over images that are transformed one by one."""
    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Classifier(pl.LightningModule):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.net(plan.laid_out(images)), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, EVERY, FACTOR)]

    class Tick(pl.Callback):
        def on_train_batch_end(self, *told: Any) -> None:
            clock.tick(told[2]["loss"])

    precision: Any = "bf16-mixed" if plan.bf16 else "32-true"
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", precision=precision, callbacks=[Tick()], **quiet)
    data = OneByOne(*stored(plan.images), transform=one_by_one(as_tensor=True))
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=plan.workers)
    trainer.fit(Classifier(network(plan)), loader)


class OneByOne(torch.utils.data.Dataset[Any]):
    """Images as most data sets hand them out: a PIL image each, and a transform."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], transform: Callable[[Any], Any]) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[place])), int(self.labels[place])


def one_by_one(as_tensor: bool) -> Callable[[Any], Any]:
    """torchvision's RandomCrop and RandomHorizontalFlip, then ToTensor and Normalize if `as_tensor`; where there is no
    torchvision, the same by PIL and torch."""
    try:
        transforms = torchvision().transforms
    except ImportError:
        return partial(by_pil, as_tensor=as_tensor)
    moves = [transforms.RandomCrop(SIZE, padding=BORDER), transforms.RandomHorizontalFlip()]
    numbers = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)] if as_tensor else []
    composed: Callable[[Any], Any] = transforms.Compose([*moves, *numbers])
    return composed


def by_pil(image: Any, as_tensor: bool) -> Any:
    from PIL import ImageOps

    top, left = torch.randint(2 * BORDER + 1, (2,)).tolist()
    image = ImageOps.expand(image, BORDER).crop((left, top, left + SIZE, top + SIZE))
    image = ImageOps.mirror(image) if torch.rand(1).item() < 0.5 else image
    if not as_tensor:
        return image
    grey = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
    return grey.sub_(torch.tensor(MEAN)[:, None, None]).div_(torch.tensor(STD)[:, None, None])


MENDED: list[Any] = []


def torchvision() -> Any:
    """A build for CUDA looks for operators that a torch for the CPU has not got: they are declared, and never called."""
    try:
        import torchvision
    except RuntimeError:
        MENDED.append(torch.library.Library("torchvision", "DEF"))
        MENDED[-1].define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        MENDED[-1].define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    import torchvision.transforms

    return torchvision


# -- timm


def timm(plan: Plan, clock: Clock) -> None:
    """The loader, optimizer, schedule and meters of timm's train script, put together as in its `train_one_epoch`."""
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter

    net = network(plan)
    optimizer = create_optimizer_v2(net, opt="momentum", lr=RATE, weight_decay=DECAY, momentum=MOMENTUM)
    steps = plan.steps + plan.warmup
    schedule, _ = create_scheduler_v2(
        optimizer, "step", num_epochs=EVERY, decay_epochs=EVERY, decay_rate=FACTOR, updates_per_epoch=steps
    )
    loader = create_loader(
        OneByOne(*stored(plan.images), transform=lambda image: image),
        input_size=(CHANNELS, SIZE, SIZE), batch_size=BATCH, is_training=True, mean=MEAN, std=STD,
        num_workers=plan.workers, device=CPU,
    )  # fmt: skip
    loader.dataset.transform = numpy_of(one_by_one(as_tensor=False))  # its own would crop and resize as for ImageNet
    autocast = partial(torch.autocast, "cpu", torch.bfloat16) if plan.bf16 else contextlib.nullcontext
    losses, loss_of = AverageMeter(), nn.CrossEntropyLoss()
    net.train()
    optimizer.zero_grad()
    for number, (images, labels) in enumerate(loader):
        with autocast():
            loss = loss_of(net(plan.laid_out(images)), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.update(loss.item(), len(images))
        schedule.step_update(num_updates=number + 1, metric=losses.avg)
        clock.tick(loss)


def numpy_of(transform: Callable[[Any], Any]) -> Callable[[Any], NDArray[np.uint8]]:
    """Images as timm's prefetcher wants them: uint8 (C, H, W), which it normalises a batch at a time."""
    return lambda image: np.moveaxis(np.asarray(transform(image)), -1, 0)


# -- fastai


def fastai(plan: Plan, clock: Clock) -> None:
    """A Learner on a DataBlock: crops image by image, flips and normalisation a batch at a time."""
    import fastai.vision.all as fv

    if plan.bf16:
        raise UnmeasuredError("fastai casts to bf16 on CUDA alone")
    pixels, labels = stored(plan.images + 1)  # the first is for the validation that a Learner wants

    class Tick(fv.Callback):  # type: ignore[misc]
        def after_batch(self) -> None:
            if self.training:
                clock.tick(self.loss)

    block = fv.DataBlock(
        blocks=(fv.ImageBlock, fv.CategoryBlock),
        get_items=lambda source: list(range(source)),
        get_x=lambda place: pixels[place],
        get_y=lambda place: labels[place],
        splitter=fv.IndexSplitter([0]),
        item_tfms=[fv.CropPad(SIZE + 2 * BORDER, pad_mode="zeros"), fv.RandomCrop(SIZE)],
        batch_tfms=[fv.Flip(), fv.Normalize.from_stats(MEAN, STD, cuda=False)],
    )
    loaders = block.dataloaders(plan.images + 1, bs=BATCH, num_workers=plan.workers, device=CPU)
    learner = fv.Learner(
        loaders,
        network(plan),
        loss_func=nn.CrossEntropyLoss(),
        opt_func=partial(fv.SGD, mom=MOMENTUM, wd=DECAY),
        cbs=[Tick()],
    )
    if plan.channels_last:
        learner.to_channelslast(use_amp=False)
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, RATE)


# -- runtrue


def runtrue_way(plan: Plan, clock: Clock) -> None:
    """`runtrue.train` with the same settings. A decay of 1e-4 is an L2 of half of it: λ w² pulls with 2 λ w."""
    import runtrue
    from runtrue.training.module import Training

    def tick(_: Training, outputs: Any, *rest: Any) -> None:
        clock.tick(outputs["loss"])

    pixels, labels = (torch.from_numpy(array) for array in stored(plan.images))
    images = pixels.permute(0, 3, 1, 2).contiguous()
    Training.on_train_batch_end = tick  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as place:
        runtrue.train(
            data=((images, labels), (images[:BATCH], labels[:BATCH])), net="resnet20", epochs=1, batch_size=BATCH, lr=RATE,
            momentum=MOMENTUM, decay="step", decay_every=EVERY, decay_factor=FACTOR, l2=DECAY / 2, augment=f"crop:{BORDER},flip",
            precision="bf16" if plan.bf16 else "32", channels_last=plan.channels_last, check=False, logger="none",
            progress=False, say=lambda _: None, run=f"{place}/run",
        )  # fmt: skip


Way = Callable[[Plan, Clock], None]
WAYS: dict[str, tuple[Way, tuple[int, ...]]] = {
    "by hand": (by_hand, (0,)),
    "runtrue": (runtrue_way, (0,)),
    "lightning": (lightning, (0, 2)),
    "timm": (timm, (0, 2)),
    "fastai": (fastai, (0, 2)),
}
"""Each way, and the numbers of loading processes with which it is tried; none where the images are in memory."""


def way_of(name: str) -> Way:
    return WAYS[name][0] if name in WAYS else partial(by_hand, hand=INGREDIENTS[name])


def measured(way: str, plan: Plan) -> dict[str, Any]:
    """One run in this process: {"images_per_second", "loss"}, or {"skipped": why}."""
    clock = Clock()
    if plan.bf16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return {
            "skipped": "this processor has no fast bf16 convolutions (oneDNN wants AVX-512): a step takes 10 times as long"
        }
    with contextlib.suppress(ImportError):
        torchvision()  # mended first: the libraries import it as well
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own advice, such as to load by more processes
            way_of(way)(plan, clock)
    except (ImportError, UnmeasuredError) as error:
        return {"skipped": str(error)}
    return dict(clock.told(plan))
