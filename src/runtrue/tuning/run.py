"""A fine-tuning from its settings to its folder: read, look, train, judge, write down."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from runtrue.datasets import Images
from runtrue.findings import Finding
from runtrue.finetune import preparation
from runtrue.keeping import keep_random_state
from runtrue.report import Report
from runtrue.training import weights
from runtrue.training.errors import UntrainableError
from runtrue.training.folder import RunFolder, surroundings
from runtrue.training.resume import newest_sound
from runtrue.tuning import data, deep, head, network, norms, parts
from runtrue.tuning.folder import Place, read, write
from runtrue.tuning.judging import confusion, judged, mistakes
from runtrue.tuning.network import Start
from runtrue.tuning.page import write_page
from runtrue.tuning.settings import ConfigError, Settings
from runtrue.watch.api import watch as watching
from runtrue.watch.watching import Watch

Say = Callable[[str], None]
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


@dataclass(frozen=True)
class Asked:
    """One call: the settings, the folder, a network that was handed over, and whom to tell."""

    settings: Settings
    folder: RunFolder
    resume: bool = False
    net: Any = None
    renamed: Any = None
    say: Say = print

    @property
    def place(self) -> Place:
        return Place(self.folder)


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
    if asked.settings.mode == "deep":
        kept = trained(asked, images, start, class_weights)
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


def trained(asked: Asked, images: Images, start: Start, class_weights: Tensor | None) -> int:
    """Mode "deep"; returns the epoch whose weights are kept."""
    batch = min(asked.settings.batch_size, len(images.train))
    rule = norms.policy(asked.settings.norms, start.model, start.fresh, batch)
    plan = deep.Plan(start, images, asked.settings, class_weights)
    with norms.held(start.model, start.fresh, rule.name):
        course = resumed(asked, plan) if asked.resume else None
        if course is None:
            course, asked = begun(asked, plan, rule)
        plan = replace(plan, settings=asked.settings)
        seen = watch_of(asked, start.model, course)
        with seen if seen is not None else nullcontext():

            def told(row: dict[str, Any]) -> None:
                asked.folder.add_epoch(row)
                asked.say(line(row))
                if seen is not None:
                    seen.epoch(**{n: row[n] for n in ("train_loss", "val_loss", "train_accuracy", "val_accuracy")})

            why = deep.train(plan, course, asked.folder, told, seen)
    asked.say(f"ended {why}; the weights of epoch {course.kept_epoch} are kept")
    asked.folder.write_facts(ended=why, kept_epoch=course.kept_epoch)
    return course.kept_epoch


def begun(asked: Asked, plan: deep.Plan, rule: norms.Policy) -> tuple[deep.Course, Asked]:
    """The head first, on kept features; then the rate. Settled settings are written down."""
    asked.say(f"batch normalization: {rule.describe()}")
    found = head.train(plan.start, plan.images, asked.settings.seed, plan.class_weights, lambda row: None)
    row = found.history[-1] | {"epoch": 0, "step": 0}
    asked.folder.add_epoch(row)
    asked.say(f"the head alone: {row['val_accuracy']:.1%} of the validation set right")
    rate = asked.settings.lr
    trials = deep.Trials(rate, row["val_loss"], {}) if rate is not None else deep.found_rate(plan)
    asked.say(f"rate of what is new: {trials.describe()}")
    settled = asked.settings.changed(lr=trials.lr, norms=rule.name)
    asked = replace(asked, settings=settled)
    asked.place.write_settings(settled)
    told_parts(asked, parts.table(plan.start, settled, trials.lr, rule.name))
    asked.folder.write_facts(norms=rule.describe(), rate=trials.describe(), head_chosen=found.describe())
    course = replace(plan, settings=settled).course(trials.lr)
    course.judged_best(row["val_loss"], 0)
    course.save(asked.folder)
    return course, asked


def resumed(asked: Asked, plan: deep.Plan) -> deep.Course | None:
    """From the newest checkpoint that is whole; None where there is none yet."""
    path = newest_sound(asked.folder, asked.say, deep.NEEDED)
    if path is None or asked.settings.lr is None:
        return None
    course = plan.course(asked.settings.lr)
    course.load(path)
    asked.say(f"goes on behind epoch {course.epoch}")
    return course


def watch_of(asked: Asked, model: nn.Module, course: deep.Course) -> Watch | None:
    if not asked.settings.watch:
        return None
    return watching(model, course.optimizer, run=asked.folder.path, start=course.step, say=asked.say)


def told_parts(asked: Asked, rows: list[parts.Part]) -> None:
    write(asked.place.parts, rows)
    for one in parts.told(rows):
        asked.say(one)


def line(row: dict[str, Any]) -> str:
    return (
        f"epoch {row['epoch']}: training {row['train_accuracy']:.1%} right, validation {row['val_accuracy']:.1%}, loss "
        f"{row['val_loss']:.3g}, {row['seconds']:.0f} s"
    )


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
