"""Faults of the training loop itself, which no look at the parts can tell. Pure: history in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from runtrue.findings import Finding
from runtrue.watch.history import History
from runtrue.watch.layer_judges import HELD, held
from runtrue.watch.progress import progress

MANY = 20  # steps that a habit has to last
MOST = 0.9  # share of them
REPEATED = 16  # batches in a row that are the same, within an epoch that was told
WORSE = 0.1
"""Accuracy by which the validation lags behind the training, from which one batch again and again is a mistake: on purpose it is
a trial of the network, or a training on all that there is."""
MOVES = 1e-5
"""rate · ‖gradient‖ / ‖weight‖ from which a weight has to change: half a unit in the last place of float32 is 6e-8."""


def judge_loop(history: History) -> Iterator[Finding]:
    yield from not_cleared(history)
    yield from wrong_mode(history)
    yield from evaluated_in_training(history)
    yield from nothing_to_train(history)
    yield from stepped_early(history)
    yield from not_optimized(history)
    yield from frozen_that_moves(history)
    yield from same_batch(history)
    yield from ranks_apart(history)


def not_cleared(history: History) -> Iterator[Finding]:
    stale = list(history.stale)
    if len(stale) >= MANY and sum(stale) >= MOST * len(stale):
        yield Finding(
            "gradients-not-cleared", "fault", "the loop",
            f"in {sum(stale)} of the last {len(stale)} steps the gradient that the optimizer used held those of earlier "
            "batches too: call optimizer.zero_grad() once before each backward pass that follows a step.",
            {"steps": len(stale), "not_cleared": sum(stale), "limit": MOST},
        )  # fmt: skip


def wrong_mode(history: History) -> Iterator[Finding]:
    """Steps in evaluation mode. After steps in training mode they are an oversight; from the start on they may be meant."""
    counts, dependent = history.counts, history.facts.get("by mode", [])
    wrong, total = counts["stepped in evaluation"], counts["step"]
    frozen = set(history.facts.get("frozen", []))
    dependent = [
        name for name in dependent if f"{name}.weight" not in frozen
    ]  # frozen norms are meant to be in that mode
    if wrong < MANY or not dependent:
        return
    forgotten = wrong < total and counts["free, evaluation"] > 0 and any(
        one["step"] and not one["stepped in evaluation"] for one in history.epoch_counts
    )  # fmt: skip
    yield Finding(
        "eval-mode-while-training", "fault" if forgotten else "warning", "the loop",
        f"{wrong} of {total} optimizer steps were taken in evaluation mode: dropout is off and batch normalization uses stored "
        f"statistics ({len(dependent)} such layers, {dependent[0]} first). Call model.train() "
        + ("after each evaluation." if forgotten else "before the training, unless this is meant."),
        {"steps": total, "in_evaluation": wrong, "layers": dependent[:20]},
    )  # fmt: skip


def evaluated_in_training(history: History) -> Iterator[Finding]:
    """Passes without gradients beside the training. One in each step is a part of it: a teacher, or labels made up."""
    dependent = history.facts.get("by mode", [])
    if not dependent:
        return
    rows = [
        counts for row, counts in zip(history.epochs, history.epoch_counts)
        if any(name.startswith("val") for name in row)
        and 0 < counts["free, training"] < counts["step"]
        and not counts["free, evaluation"]
        and not counts["gradient, evaluation"]
    ]  # fmt: skip
    if not rows:
        return
    passes = sum(counts["free, training"] for counts in rows)
    yield Finding(
        "train-mode-while-evaluating", "fault", "the evaluation",
        f"in {len(rows)} epochs all {passes} forward passes without gradients ran in training mode: dropout was active and "
        f"batch normalization used (and learned) the statistics of the validation batches ({dependent[0]} first). Call "
        "model.eval() before the evaluation and model.train() behind it.",
        {"epochs": len(rows), "passes": passes, "layers": dependent[:20]},
    )  # fmt: skip


def stepped_early(history: History) -> Iterator[Finding]:
    counts = history.counts
    total = counts["step"]
    if total < MANY or foreign(history) or all_frozen(history):
        return
    if counts["empty step"] >= MOST * total:
        yield Finding(
            "step-before-backward", "fault", "the loop",
            f"in {counts['empty step']} of {total} steps the optimizer found no gradient at all: it is stepped before "
            "loss.backward(), or the gradients are cleared between the two. The order is zero_grad, backward, step.",
            {"steps": total, "empty": counts["empty step"], "limit": MOST},
        )  # fmt: skip
    elif counts["early step"] >= MOST * total:
        yield Finding(
            "step-before-backward", "warning", "the loop",
            f"in {counts['early step']} of {total} steps the optimizer was stepped after a forward pass and before its "
            "backward pass: it used the gradient of the batch before. The order is zero_grad, backward, step.",
            {"steps": total, "early": counts["early step"], "limit": MOST},
        )  # fmt: skip


def not_optimized(history: History) -> Iterator[Finding]:
    facts = history.facts
    if not facts or history.counts["step"] < MANY:
        return
    held_names, left = facts["held"], facts["not held"]
    if foreign(history):
        yield Finding(
            "parameters-not-optimized", "fault", "the optimizer",
            f"none of the optimizer's {held_names} parameters belongs to the model that is watched: it was built for another "
            "network, or before the layers were exchanged. Build the optimizer from model.parameters().",
            {"held": held_names, "foreign": facts["foreign"]},
        )  # fmt: skip
        return
    asked = undone(history)
    if asked:
        yield Finding(
            "parameters-not-optimized", "fault", "the optimizer",
            f"no parameter moved in the last {HELD} readings, though their gradients are not 0: the optimizer holds copies, or "
            "its step is undone.", {"parameters": asked[:20]},
        )  # fmt: skip
    elif left:
        meant = facts["foreign"] == 0 and only_the_end(history, left)
        yield Finding(
            "parameters-not-optimized", "note" if meant else "warning", left[0],
            f"{len(left)} of {facts['parameters']} parameters that ask for a gradient are in no optimizer that is watched, "
            f"{left[0]} first: they keep their initial values. Hand them to the optimizer, or set requires_grad to False if "
            "that is meant.",
            {"not_held": left[:20], "count": len(left)},
        )  # fmt: skip


def all_frozen(history: History) -> bool:
    """Nothing that the optimizer holds asks for a gradient, and none ever came."""
    facts, counts = history.facts, history.counts
    return bool(
        facts and facts["held"] and not facts["held and asking"] and counts["empty step"] >= MOST * counts["step"]
    )


def nothing_to_train(history: History) -> Iterator[Finding]:
    if history.counts["step"] >= MANY and all_frozen(history) and not foreign(history):
        held_names = history.facts["held"]
        yield Finding(
            "parameters-frozen", "fault", "the optimizer",
            f"none of the optimizer's {held_names} parameters asks for a gradient (requires_grad is False): no step changes "
            "anything. Set requires_grad to True on those that are to be trained, after whatever froze the others.",
            {"held": held_names, "frozen": history.facts["frozen"][:20]},
        )  # fmt: skip


def foreign(history: History) -> bool:
    """The optimizer holds nothing of the model, and no gradient reaches what it holds. (With master weights one does.)"""
    facts, counts = history.facts, history.counts
    return bool(
        facts and facts["held"] and facts["foreign"] == facts["held"] and facts["parameters"]
        and counts["empty step"] >= MOST * counts["step"]
    )  # fmt: skip


def undone(history: History) -> list[str]:
    """Parameters, if these are all, that stay as they are while gradient and rate are large enough to change them."""
    changes, gradients, sizes = (history.series(what) for what in ("update_ratio", "grad_norm", "weight_norm"))
    still = [name for name, one in changes.items() if (last := held(one)) and not any(last)]
    found = progress(history)
    if not still or len(still) < len(changes) or (found is not None and found.learned):
        return []
    at_zero = set(history.facts["at rate 0"])
    return [
        n
        for n in still
        if n not in at_zero and history.rate * min(gradients[n][-HELD:]) > MOVES * max(sizes[n][-HELD:])
    ]


def only_the_end(history: History, left: list[str]) -> bool:
    """What the optimizer holds is the end of the model and no more than half of it: the head is trained, and that is meant."""
    order = history.facts.get("names", [])
    held_names = [n for n in order if n not in set(left) and n not in set(history.facts["frozen"])]
    return (
        bool(order and held_names)
        and order.index(held_names[0]) > max(map(order.index, left))
        and len(left) >= len(held_names)
    )


def frozen_that_moves(history: History) -> Iterator[Finding]:
    changed = {
        name for name, one in history.series("update_ratio").items() if any(one)
    }  # frozen in turn with another network
    moving = [n for n in history.facts.get("frozen norms that move", []) if not {f"{n}.weight", f"{n}.bias"} & changed]
    if moving and history.counts["step"] >= MANY:
        yield Finding(
            "parameters-frozen", "warning", moving[0],
            f"the parameters of {len(moving)} batch normalizations are frozen, {moving[0]} first, but their running statistics "
            "still follow the batches: frozen means both. Call eval() on these layers after each model.train().",
            {"layers": moving[:20]},
        )  # fmt: skip


def same_batch(history: History) -> Iterator[Finding]:
    if history.epochs and history.alike >= REPEATED:
        one = history.epochs[-1]
        lags = one.get("train_accuracy", 0.0) - one.get("val_accuracy", 1.0) > WORSE
        yield Finding(
            "repeated-examples", "warning" if lags else "note", "the batches",
            f"the last {history.alike + 1} steps saw the very same batch: the loader is drawn from anew in every step, or one "
            "batch is reused.",
            {"steps": history.alike + 1, "limit": REPEATED},
        )  # fmt: skip


def ranks_apart(history: History) -> Iterator[Finding]:
    if history.apart:
        first = history.apart[0]
        yield Finding(
            "ranks-apart", "fault", first,
            f"{len(history.apart)} parameters have different values on different ranks, {first} first: the processes train "
            "different networks. Wrap the model in DistributedDataParallel before the first step, and load the same weights "
            "everywhere.",
            {"parameters": history.apart[:20]},
        )  # fmt: skip
