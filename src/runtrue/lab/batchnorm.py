"""The experiment `batchnorm`: what batch normalization does for a network, what it costs, and whether that is worth it (N1.6).

Perceptrons of ReLUs, deep and shallow: the same weights and batches with a normalization in front of every activation and
without. Each gets the learning rate that is best for it: rates are tried first, and the other parts use what was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch

from runtrue.curves import end
from runtrue.lab import EXPERIMENTS
from runtrue.lab.batchnorm_judge import best, judge, learned, speed, verdict
from runtrue.lab.batchnorm_measure import SHALLOW, Net, gradients, timings, trained
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.runs import Run, side_by_side
from runtrue.lab.training import CONSTANT, INPUTS, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

RATES = tuple(float(f"{10 ** (half / 2):.2g}") for half in range(-7, 3))
"""0.00032 to 10, half a decade apart: from where little is learned in so few steps to where all is lost."""
SCALES = tuple(float(f"{10 ** (half / 2):.2g}") for half in range(-4, 5))
"""Factors of He's weights, 0.01 to 100."""
DROPOUT = 0.1
"""Probability of a hidden unit to be switched off, where dropout is used. With 0.2 ten layers without normalization come to an
accuracy of 0.40 in 12 epochs (with 0.1 of 0.77, without dropout of 0.80), which says nothing about a gap."""
PLAN = {"width": 100, "epochs": 3, "long": 12}
"""What is trained if nothing else is said: at every rate and scale for `epochs`, at the best rates for `long` epochs."""
FULL = {"width": 500, "epochs": 5, "long": 40}
"""The larger setting: layers as wide as in the notes."""
ONE_SEED = {"seeds": 1}
"""For the learning rates of the networks beside the deep one: half a decade is coarse enough for one seed to tell."""
MOST = {"epochs": 1000, "long": 1000}
KEPT = 60
"""Points of a curve that are kept, each the mean over as many steps as it takes."""

Training = tuple[Net, float, int]
"""A network, its learning rate, and for how many epochs."""


def run(
    *,
    data: str = "fashion-mnist",
    seeds: int = 3,
    seed: int = 0,
    depth: int = 10,
    width: int | None = None,
    batch_size: int = 50,
    epochs: int | None = None,
    long: int | None = None,
    full: bool = False,
) -> Experiment:
    """Train with and without batch normalization, read gradients, time steps, and judge the claims.

    The deep network has `depth` layers of `width` units, the shallow one two. Every learning rate and every scale of the
    weights is tried for `epochs` epochs (every rate for `long`, where nothing was learned at any); at the best rates training
    goes on for `long`, with and without dropout. `data`: Fashion-MNIST images, or unit Gaussians labelled by a linear teacher.
    `full`: 500 units instead of 100, 5 and 40 epochs instead of 3 and 12.
    Raises ValueError for a setting out of its limits.
    """
    given = {key: value for key, value in (("width", width), ("epochs", epochs), ("long", long)) if value is not None}
    settings: dict[str, Any] = {
        "data": data,
        "seeds": seeds,
        "seed": seed,
        "depth": depth,
        **(FULL if full else PLAN),
        **given,
    }
    settings |= {"batch_size": batch_size, "momentum": 0.9, "dropout": DROPOUT, "full": full}
    validate(settings)
    if depth <= SHALLOW:
        raise ValueError(f"depth must be above {SHALLOW}, that of the network beside the deep one, got {depth}")
    for name, most in MOST.items():
        if isinstance(settings[name], bool) or not isinstance(settings[name], int) or not 1 <= settings[name] <= most:
            raise ValueError(f"{name} must be a whole number from 1 to {most}, got {settings[name]!r}")
    series, curves = measured(settings)
    return Experiment(
        experiment="batchnorm",
        title="Batch normalization: what it gives and what it costs",
        claim=EXPERIMENTS["batchnorm"],
        judgements=judge(series),
        settings={**settings, "optimizer": "SGD", "torch": torch.__version__},
        series=series,
        curves=curves,
        draw=blocks,
    )


def measured(settings: dict[str, Any]) -> tuple[dict[str, list[Row]], dict[str, list[list[float]]]]:
    """The rows of every part, and the loss curves of the long runs."""
    depth, width, data = settings["depth"], settings["width"], settings["data"]
    short, long = settings["epochs"], settings["long"]
    cases = cases_of(settings)
    deep, *others = cases.values()
    nets = [net for case in cases.values() for net in (case, normed(case))]
    tried = train_all(settings, [(net, rate, short) for net in nets[:2] for rate in RATES])
    tried |= train_all(settings | ONE_SEED, [(net, rate, short) for net in nets[2:] for rate in RATES])
    by_rate = {net: [row(tried[net, rate, short], rate=rate) for rate in RATES] for net in nets}
    at = {net: best(rows)[0] for net, rows in by_rate.items()}
    slow = [net for net, rows in by_rate.items() if not learned(best(rows)[1], CONSTANT)]
    longer_tried = train_all(settings | ONE_SEED, [(net, rate, long) for net in slow for rate in RATES])
    at |= {net: best([row(longer_tried[net, rate, long], rate=rate) for rate in RATES])[0] for net in slow}

    kinds = {(case, kind): of_kind(case, kind, at, long) for case in (deep, others[-1]) for kind in KINDS}
    scaled = {net: [(replace(net, scale=scale), at[net], short) for scale in SCALES] for net in (deep, normed(deep))}
    longer = {net: (net, at[net], long) for net in nets}
    ran = train_all(settings, [*kinds.values(), *longer.values(), *scaled[deep], *scaled[normed(deep)]])

    times = timings(depth, width, data, settings["batch_size"])
    ratios = {one["network"]: one["ratio"] for one in times}
    names = {net: name for name, net in cases.items()}
    runs = {net: ran[one] for net, one in longer.items()}
    series = {
        "gradients": gradients(depth, width, data, seeds_of(settings)),
        "rates": by_rate[deep],
        "rates-norm": by_rate[normed(deep)],
        "scales": [row(ran[one], scale=one[0].scale) for one in scaled[deep]],
        "scales-norm": [row(ran[one], scale=one[0].scale) for one in scaled[normed(deep)]],
        "dropout": [
            regularized(ran[one], network=names[case], kind=kind, rate=one[1]) for (case, kind), one in kinds.items()
        ],
        "time": times,
        "worth": [compared(name, runs[net], runs[normed(net)], ratios[sized(net)]) for net, name in names.items()],
        "long": [long_run(name, one, runs[one], at[one]) for net, name in names.items() for one in (net, normed(net))],
    }
    return series, curves_of(names, runs)


def curves_of(names: Mapping[Net, str], runs: Mapping[Net, Sequence[Run]]) -> dict[str, list[list[float]]]:
    """By name, for each seed one."""
    return {
        f"{name}{', normalized' * one.norm}": [thinned(run.losses) for run in runs[one]]
        for net, name in names.items()
        for one in (net, normed(net))
    }


# -- what is trained


def cases_of(settings: Mapping[str, Any]) -> dict[str, Net]:
    """The networks of which it is asked whether it is worth it; the other parts are about the first."""
    depth, width, inputs = settings["depth"], settings["width"], INPUTS[settings["data"]]
    return {
        f"{depth} layers": Net(depth, width, inputs),
        f"{depth} layers, torch": Net(depth, width, inputs, "torch"),
        f"{SHALLOW} layers": Net(SHALLOW, width, inputs),
    }


def normed(net: Net) -> Net:
    return replace(net, norm=True)


def sized(net: Net) -> str:
    return f"{net.depth} x {net.width}"


KINDS = {"none": (False, 0.0), "norm": (True, 0.0), "dropout": (False, DROPOUT), "both": (True, DROPOUT)}
"""Batch normalization, and how much dropout."""


def of_kind(case: Net, kind: str, at: Mapping[Net, float], epochs: int) -> Training:
    norm, dropout = KINDS[kind]
    net = replace(case, norm=norm)
    return replace(net, dropout=dropout), at[net], epochs


def seeds_of(settings: Mapping[str, Any]) -> range:
    return range(settings["seed"], settings["seed"] + settings["seeds"])


def train_all(settings: Mapping[str, Any], wanted: Iterable[Training]) -> dict[Training, list[Run]]:
    """Every training with every seed, side by side."""
    plan = [(one, seed) for one in dict.fromkeys(wanted) for seed in seeds_of(settings)]
    common = (settings["data"], settings["batch_size"], settings["momentum"])
    runs = side_by_side([partial(trained, *one, seed, *common) for one, seed in plan])
    found: dict[Training, list[Run]] = {}
    for (one, _), ended in zip(plan, runs, strict=True):
        found.setdefault(one, []).append(ended)
    return found


# -- what is told of it


def row(runs: Sequence[Run], **what: float) -> Row:
    """Of one setting: the end of the loss of the batches, the mean of the last fifth; NaN if a seed was lost."""
    ends = [math.nan if run.diverged else end(run.losses) for run in runs]
    return {
        **what,
        "end": fmean(ends),
        "end_spread": pstdev(ends) if all(map(math.isfinite, ends)) else math.nan,
        "removed_fraction": (CONSTANT - fmean(ends)) / CONSTANT,
        "end_by_seed": ends,
    }


def regularized(runs: Sequence[Run], **what: Any) -> Row:
    """Of one network: both accuracies after the last epoch, in evaluation mode, and the gap between them."""
    ends = [run.epochs[-1] for run in runs]
    vals, gaps = [one.val_accuracy for one in ends], [one.train_accuracy - one.val_accuracy for one in ends]
    return {
        **what,
        "train_fraction": fmean(one.train_accuracy for one in ends),
        "val_fraction": fmean(vals),
        "val_spread": pstdev(vals),
        "gap_fraction": fmean(gaps),
        "gap_spread": pstdev(gaps),
    }


def compared(name: str, without: Sequence[Run], with_norm: Sequence[Run], ratio: float) -> Row:
    """Of one network: how fast it comes where both come, with normalization over without."""
    speeds = [
        speed(plain.losses, other.losses, ratio, CONSTANT) for plain, other in zip(without, with_norm, strict=True)
    ]
    by_second = [one.by_second for one in speeds]
    return {
        "network": name,
        "by_step": fmean(one.by_step for one in speeds),
        "by_second": fmean(by_second),
        "least": min(by_second),
        "most": max(by_second),
        "val_fraction": fmean(run.epochs[-1].val_accuracy for run in without),
        "norm_val_fraction": fmean(run.epochs[-1].val_accuracy for run in with_norm),
        "ratio": ratio,
        "verdict": verdict(by_second),
    }


def long_run(name: str, net: Net, runs: Sequence[Run], rate: float) -> Row:
    """Of one network: where the loss of the batches ended, and both accuracies."""
    told = regularized(runs)
    ended = row(runs)
    return {
        "network": name,
        "norm": "with" if net.norm else "without",
        "rate": rate,
        "steps": max(len(run.losses) for run in runs),
        **{key: ended[key] for key in ("end", "end_spread", "end_by_seed")},
        **{key: told[key] for key in ("train_fraction", "val_fraction")},
    }


def thinned(losses: Sequence[float]) -> list[float]:
    """Means over neighbouring steps, KEPT of them at most, with five digits."""
    size = max(1, math.ceil(len(losses) / KEPT))
    return [float(f"{fmean(losses[at : at + size]):.5g}") for at in range(0, len(losses), size)]


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.batchnorm_figure import batchnorm_blocks

    return batchnorm_blocks(experiment)
