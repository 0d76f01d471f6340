"""From settings to the parts of a training: data, network, optimizer, schedule."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from runtrue import datasets, groups, init, nets, optimizers, penalties, schedules, targets
from runtrue.datasets import Augment, Images, Loader, Split
from runtrue.keeping import seed_all
from runtrue.task import Task, TaskError, blame
from runtrue.training.config import Config, ConfigError
from runtrue.training.module import Recipe
from runtrue.training.naming import called, is_target

EXAMPLES = 64  # images on which the initial weights are measured, where they are
MIRRORED = ("fashion-mnist", "fashion-mnist-subset", "cifar10", "cifar100", "folder", "csv")
"""Data whose pictures mean the same in a mirror: clothes, things, animals. Digits and unknown arrays may not."""
CROP = 8  # the padding of a random crop is the side divided by this: 4 pixels of 32 (He et al. 2015, section 4.2)


def images_of(config: Config, data: Any = None) -> Images:
    """The images that the settings name, or those given. Raises `datasets.DataError`, TaskError or ConfigError."""
    if data is None and is_target(config.data):
        data = targets.named(config.data)
    if data is None:
        return datasets.load(config.data, size=config.size, seed=config.seed, val_fraction=config.val_fraction)
    if callable(data) and not isinstance(data, Images):
        data = called(data, {}, f"the data {config.data}")
    if isinstance(data, Images):
        return data
    return datasets.from_tensors(data)


def network_of(config: Config, images: Images, net: Any = None) -> nn.Module:
    """The network that the settings name, or a copy of the one given, with its initial weights. Seeded by the settings.

    A function or class gets what it asks for by name: classes, in_channels, size.
    """
    seed_all(config.seed)
    known = {"classes": len(images.classes), "in_channels": images.channels, "size": max(images.size)}
    if net is None and is_target(config.net):
        net = targets.named(config.net)
    own = net is not None
    if net is None:
        norm: Literal["batch"] | None = None if config.norm == "none" else "batch"
        try:
            made = nets.named(config.net, **known, norm=norm, dropout=config.dropout)
        except ValueError as error:
            raise ConfigError(f"net: {error}") from None
    else:
        made = copy.deepcopy(net) if isinstance(net, nn.Module) else called(net, known, f"the network {config.net}")
    if not isinstance(made, nn.Module):
        raise TaskError(f"the network {config.net} is an object of type {type(made).__name__}, not an nn.Module")
    fits(made, images)
    scheme = config.init if config.init != "default" else "net" if own else "auto"
    if scheme != "net":
        init.apply(made, scheme, example=normalized(images.train, images, EXAMPLES)[0])
    return made


@torch.no_grad()
def fits(net: nn.Module, images: Images) -> None:
    """Raises TaskError unless the network takes two of the images and gives one output a class."""
    inputs = normalized(images.train, images, 2)[0]
    mode = net.training
    net.eval()
    try:
        outputs = net(inputs)
    except Exception as error:
        raise TaskError(f"the network cannot take images {tuple(inputs.shape)}: {blame(error)}") from error
    finally:
        net.train(mode)
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[1] < len(images.classes):
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        need = len(images.classes)
        raise TaskError(
            f"the network gives {got} for two images, but there are {need} classes: it must give (2, {need})"
        )


def normalized(split: Split, images: Images, limit: int) -> tuple[Tensor, Tensor]:
    """The first images and labels, as the network gets them."""
    first = Loader(split, min(limit, len(split)), mean=images.mean, std=images.std, shuffle=False)
    return next(iter(first))


def augment_of(config: Config, images: Images) -> Augment:
    if config.augment != "auto":
        try:
            return Augment.parse(config.augment)
        except ValueError as error:
            raise ConfigError(f"augment: {error}") from None
    return Augment(crop=min(images.size) // CROP, flip=config.data.partition(":")[0] in MIRRORED)


def loaders_of(
    config: Config,
    images: Images,
    *,
    rank: int = 0,
    world: int = 1,
    channels_last: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[Loader, Loader]:
    """To train with, augmented and in random order, and to validate with; the images are kept on the device.

    A batch is that of all processes together. Raises ConfigError if it cannot be divided among them.
    """
    if config.batch_size % world:
        raise ConfigError(
            f"batch_size is that of all {world} processes together: it must be a multiple of {world}, got {config.batch_size}"
        )
    each: dict[str, Any] = {"mean": images.mean, "std": images.std, "rank": rank, "world": world}
    each |= {"channels_last": channels_last, "device": device}
    own = min(config.batch_size, len(images.train)) // world
    if not own:
        raise ConfigError(f"{len(images.train)} images are too few for {world} processes")
    train = Loader(
        images.train, own, augment=augment_of(config, images), shuffle=True, seed=config.seed, drop_last=True, **each
    )
    return train, Loader(images.val, own, shuffle=False, **each)


def recipe_of(config: Config, steps_per_epoch: int) -> Recipe:
    return Recipe(
        optimizer=partial(optimizer_of, config),
        schedule=partial(
            schedules.scheduler,
            decay=config.decay, epochs=config.epochs, steps_per_epoch=steps_per_epoch, per=config.decay_per,
            warmup=config.warmup, k=config.decay_rate, every=config.decay_every, factor=config.decay_factor,
        ),
        penalties=penalties.of(l1=config.l1, l2=config.l2, max_norm=config.max_norm),
        seed=config.seed,
        compile=config.compile,
    )  # fmt: skip


def optimizer_of(config: Config, net: nn.Module) -> Optimizer:
    found = groups.parameter_groups(net, config.lr)
    return optimizers.named(config.optimizer, found, lr=config.lr, momentum=config.momentum)


def task_of(config: Config, images: Images, net: nn.Module, device: str = "cpu") -> Task:
    """The training as a task to be checked: the same network, data and optimizer, and regularization as part of the loss."""
    train, val = loaders_of(config, images, device=device)
    loss = nn.CrossEntropyLoss()

    def step(model: nn.Module, batch: Any) -> Tensor:
        found: Tensor = loss(model(batch[0]), batch[1])
        return found + penalties.elastic_net(model, config.l1, config.l2)

    return Task(
        net,
        train=train,
        val=val,
        loss=loss,
        step=step if config.l1 or config.l2 > HARMLESS else None,
        optimizer=optimizer_of(config, net),
        epochs=config.epochs,
        batch_size=config.batch_size,
    )


HARMLESS = 1e-3  # an L2 up to this is left out of the check: it costs what a loss without it shows, and stops nobody
