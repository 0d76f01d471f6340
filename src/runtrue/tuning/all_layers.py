"""Mode "deep" of a run: the head, the rate, all layers under watch, the best weights, and why they were lost if they were."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from runtrue.datasets import Images
from runtrue.training.resume import newest_sound
from runtrue.tuning import deep, norms, parts, torn, trials
from runtrue.tuning.asked import Asked, told_parts
from runtrue.tuning.head import batches
from runtrue.tuning.head import train as solve
from runtrue.tuning.network import Start
from runtrue.watch.api import watch as watching
from runtrue.watch.epoch_judges import EPOCHS_TOLD
from runtrue.watch.watching import Watch


def train(asked: Asked, images: Images, start: Start, class_weights: Tensor | None) -> int:
    """Returns the epoch whose weights the network has then."""
    batch = min(asked.settings.batch_size, len(images.train))
    rule = norms.policy(asked.settings.norms, start.model, start.fresh, batch)
    plan = deep.Plan(start, images, asked.settings, class_weights)
    with norms.held(start.model, start.fresh, rule.name):
        course = resumed(asked, plan) if asked.resume else None
        if course is None:
            course, asked = begun(asked, plan, rule)
        plan = replace(plan, settings=asked.settings)
        seen = watch_of(asked, plan, course)
        with seen if seen is not None else nullcontext():
            why = deep.train(plan, course, asked.folder, partial(told, asked, seen), seen)
            if seen is not None and any(found.where == EPOCHS_TOLD for found in seen.verdicts):
                explain(asked, plan, rule)
        course.take_best()
    asked.say(f"ended {why}; the weights of epoch {course.kept_epoch} are kept")
    asked.folder.write_facts(ended=why, kept_epoch=course.kept_epoch)
    return course.kept_epoch


def told(asked: Asked, seen: Watch | None, row: dict[str, Any]) -> None:
    """An epoch has ended."""
    asked.folder.add_epoch(row)
    asked.say(line(row))
    if seen is not None:
        seen.epoch(**known(row))


def explain(asked: Asked, plan: deep.Plan, rule: norms.Policy) -> None:
    """What the network knew is lost: say where that shows. Its last weights are still on it."""
    pixels, _ = next(iter(batches(plan.images.train, plan.start)))
    why = torn.explained(plan.start.model, pixels, rule.name, plan.settings.lr or 0.0)
    asked.say(why)
    asked.folder.write_facts(torn=why)


def begun(asked: Asked, plan: deep.Plan, rule: norms.Policy) -> tuple[deep.Course, Asked]:
    """The head first, on kept features; then the rate. Settled settings are written down."""
    asked.say(f"batch normalization: {rule.describe()}")
    found = solve(plan.start, plan.images, asked.settings.seed, plan.class_weights, lambda row: None)
    row = found.history[-1] | {"epoch": 0, "step": 0}
    asked.folder.add_epoch(row)
    asked.say(f"the head alone: {row['val_accuracy']:.1%} of the validation set right")
    rate = asked.settings.lr
    tried = trials.Trials(rate, row["val_loss"], {}) if rate is not None else trials.found_rate(plan)
    asked.say(f"rate of what is new: {tried.describe()}")
    settled = asked.settings.changed(lr=tried.lr, norms=rule.name)
    asked = replace(asked, settings=settled)
    asked.place.write_settings(settled)
    told_parts(asked, parts.table(plan.start, settled, tried.lr, rule.name))
    asked.folder.write_facts(norms=rule.describe(), rate=tried.describe(), head_chosen=found.describe())
    course = replace(plan, settings=settled).course(tried.lr)
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


def watch_of(asked: Asked, plan: deep.Plan, course: deep.Course) -> Watch | None:
    """It knows what the head alone could do, counted as in the epochs."""
    if not asked.settings.watch:
        return None
    before = None if course.step else known(asked.folder.history()[0] | deep.at_rest(plan))
    seen = watching(plan.start.model, course.optimizer, run=asked.folder.path, start=course.step, say=asked.say)
    if before is not None:
        seen.epoch(**before)
    return seen


def known(row: dict[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy")}


def line(row: dict[str, Any]) -> str:
    return (
        f"epoch {row['epoch']}: training {row['train_accuracy']:.1%} right, validation {row['val_accuracy']:.1%}, loss "
        f"{row['val_loss']:.3g}, {row['seconds']:.0f} s"
    )
