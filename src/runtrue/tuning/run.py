"""A fine-tuning from its settings to its folder: read, look, train, judge, write down."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from runtrue.datasets import Images
from runtrue.datasets.images import counted
from runtrue.findings import Finding
from runtrue.finetune import preparation
from runtrue.keeping import keep_random_state
from runtrue.report import Report
from runtrue.training import weights
from runtrue.training.errors import UntrainableError
from runtrue.training.folder import RunFolder, surroundings
from runtrue.tuning import all_layers, data, head, network, norms, parts
from runtrue.tuning.asked import Asked, told_parts
from runtrue.tuning.folder import Place, read, write
from runtrue.tuning.judging import confusion, judged, mistakes
from runtrue.tuning.network import Start
from runtrue.tuning.page import write_page
from runtrue.tuning.settings import ConfigError

MOST_MISTAKES = 24  # pictures on the sheet
LOOKED_AT = 64  # images by which their preparation is judged


@dataclass(frozen=True)
class Tuned:
    """A finished fine-tuning: its folder, its network with the best weights, those of `kept_epoch`, and a row an epoch."""

    folder: RunFolder
    net: nn.Module
    history: tuple[dict[str, Any], ...]
    kept_epoch: int
    classes: tuple[str, ...]

    @property
    def val_accuracy(self) -> float:
        """Of the weights that are kept, from 0 to 1."""
        return next(float(row["val_accuracy"]) for row in self.history if row["epoch"] == self.kept_epoch)


def run(asked: Asked) -> Tuned:
    """As asked. The random state of the process is left as it is."""
    restore = keep_random_state()
    try:
        return _run(asked)
    finally:
        restore()


def _run(asked: Asked) -> Tuned:
    wanted = network.wants(asked.settings, asked.net)
    wanted = replace(wanted, framing=data.framing(asked.settings))
    images = data.read(asked.settings, wanted.side, wanted.framing)
    asked.say(images.describe())
    start = network.start(asked.settings, len(images.classes), wanted, asked.net, asked.renamed)
    asked.say(f"{asked.settings.net}: {start.difference.describe()} (from {start.origin}); images: {wanted.describe()}")
    class_weights = data.weights_of(images.train.labels, len(images.classes), asked.settings)
    told = {
        "weighing": data.weighing(images.train.labels, images.classes, class_weights),
        "prepared": wanted.describe(),
    }
    asked.say(told["weighing"])
    if not asked.resume:
        begin(asked, images, start, told)
    if filled := norms.filled(start.model, head.batches(images.train, start)):
        asked.say(f"{counted(filled, 'normalization')} had seen nothing: statistics taken from the training images")
    asked.folder.write_facts(training=time.time())
    if asked.settings.mode == "deep":
        kept = all_layers.train(asked, images, start, class_weights)
    else:
        kept = headed(asked, images, start, class_weights)
    return finished(asked, images, start, kept)


def begin(asked: Asked, images: Images, start: Start, told: dict[str, str]) -> None:
    """What is known before the first step. Raises UntrainableError for images that the network was not trained to see."""
    asked.folder.write_facts(
        status="started", started=time.time(), seed=asked.settings.seed, **surroundings(), **told, data=images.describe(),
        classes=list(images.classes), parameters=sum(p.numel() for p in start.model.parameters()), origin=start.origin,
        difference=start.difference.describe(), dropped=list(start.difference.dropped),
        resized=[str(one) for one in start.difference.resized], new=list(start.difference.new), head=start.head,
        skipped=[{"path": str(one.path), "reason": one.reason} for one in images.skipped],
    )  # fmt: skip
    asked.place.write_settings(asked.settings)
    began = time.monotonic()
    found = tuple(data.overlap(images)) + (tuple(looked_at(start, images)) if asked.settings.check else ())
    report = Report(found, time.monotonic() - began, name=asked.settings.net)
    asked.folder.check.write_text(report.to_json() + "\n", encoding="utf-8")
    for one in report.warnings:
        asked.say(f"warning, {one.cause}: {one.message}")
    if not report.ok:
        asked.folder.write_facts(status=f"not started: {report.faults[0].cause}")
        raise UntrainableError(report, asked.folder)


def looked_at(start: Start, images: Images) -> tuple[Finding, ...]:
    """Whether the images reach the network as it was trained to see them."""
    pixels, _ = next(iter(head.batches(images.train, start, LOOKED_AT)))
    fit = preparation.measured(start.model, pixels, start.wants.known_mean, start.wants.known_std)
    return tuple(preparation.judged(fit)) if fit is not None else ()


def headed(asked: Asked, images: Images, start: Start, class_weights: Tensor | None) -> int:
    """Mode "head"; returns the epoch that is kept, the last one."""
    rows = parts.table(start, asked.settings, None, "stand still")
    told_parts(asked, rows)
    found = head.train(start, images, asked.settings.seed, class_weights, lambda row: None)
    for row in found.history:
        asked.folder.add_epoch(row)
    if found.moved:
        raise RuntimeError(f"what was to stand still has moved: {', '.join(found.moved[:3])}")
    asked.say(found.describe())
    asked.folder.write_facts(
        stood_still=f"{found.still} tensors, parameters and statistics, are to the bit what they were",
        head_chosen=found.describe(), kept_epoch=found.history[-1]["epoch"],
    )  # fmt: skip
    return int(found.history[-1]["epoch"])


def finished(asked: Asked, images: Images, start: Start, kept_epoch: int) -> Tuned:
    model = start.model.eval()
    described = weights.Described(
        asked.settings.net, "batch", 0.0, tuple(images.classes), start.wants.mean, start.wants.std, images.channels,
        start.wants.side, asked.settings.data, start.head, start.wants.framing,
    )  # fmt: skip
    weights.keep(asked.folder.weights, model, described)
    found = judged(model, head.batches(images.val, start))
    write(
        asked.place.validation,
        {
            "classes": list(images.classes), "confusion": confusion(found, len(images.classes)),
            "accuracy": found.accuracy, "loss": found.loss,
            "mistakes": mistakes(found, images.val, images.classes, MOST_MISTAKES),
        },
    )  # fmt: skip
    history = asked.folder.history()
    asked.folder.write_facts(status="finished", finished=time.time(), last=history[-1], val_accuracy=found.accuracy)
    write_page(asked.place)
    return Tuned(asked.folder, model, tuple(history), kept_epoch, tuple(images.classes))


def again(folder: RunFolder) -> dict[str, Any]:
    """What a finished run wrote of its validation."""
    found = read(Place(folder).validation)
    if not found:
        raise ConfigError(f"{folder.path} has no validation: has the run finished?")
    return dict(found)
