"""The experiment `init`: what the initial weights do to the signal and to the gradient of a deep network.

Training notes N1.2 to N1.5, and N1.6 in part. Six networks of the same shape get the same samples and the same weights but
for their scale; nothing is trained. Small weights, large weights, Xavier (Glorot & Bengio 2010) and He (He et al. 2015), and
batch normalisation (Ioffe & Szegedy 2015) in front of the activation, with the small weights that kill the plain network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Generator, Tensor

from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row, within
from runtrue.lab.init_judge import judge, with_published
from runtrue.lab.init_measure import LARGE_NORMALIZED, SCHEMES, Draw, averaged, draw, measure

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

DATA = ("gaussian", "fashion-mnist")
IMAGES = 3000
"""Fashion-MNIST images that ship with runtrue for training."""
LIMITS = {"depth": (1, 200), "width": (2, 5000), "samples": (2, 100_000), "seeds": (1, 100), "seed": (0, 2**31)}
"""Smallest and largest value of each number; a spread over the batch needs two samples."""
MOST_VALUES = 50_000_000
"""Outputs that one network may have: with their gradients 0.4 GB."""
MOST_AT_ONCE = 4
"""Networks measured at a time: 1.6 GB at the most."""
T = TypeVar("T")
LOSS = "L = sum(R * h_L) / N, R a fixed unit Gaussian (N, H); grad_norm is the 2-norm of dL/dh_l, for layer 0 of dL/dx"
COMPARABLE = {"width": 500, "data": "gaussian"}
"""Settings of the published figures. Depth only adds layers. One draw of a ReLU network is off
by up to 27 % at layer 10 (30 seeds); means of three stay within 14 %."""
LEAST_SAMPLES, LEAST_SEEDS = 500, 3


def run(
    *,
    depth: int = 10,
    width: int = 500,
    samples: int = 1000,
    seeds: int = 3,
    seed: int = 0,
    data: str = "gaussian",
) -> Experiment:
    """Measure all six networks and judge the claims.

    `depth` layers of `width` units see `samples` samples: unit Gaussian of size `width`, or flat Fashion-MNIST images
    (784 pixels, standardised). Readings are means over `seeds` draws of samples and weights, from `seed` on.
    Raises ValueError for a setting out of its limits.
    """
    settings = {"depth": depth, "width": width, "samples": samples, "seeds": seeds, "seed": seed, "data": data}
    validate(settings)
    series, histograms = measured(settings)
    comparable = all(settings[name] == value for name, value in COMPARABLE.items())
    series = with_published(series) if comparable and samples >= LEAST_SAMPLES and seeds >= LEAST_SEEDS else series
    return Experiment(
        experiment="init",
        title="What the initial weights do to a deep network",
        claim=EXPERIMENTS["init"],
        judgements=judge(series),
        settings={**settings, "loss": LOSS, "torch": torch.__version__},
        series=series,
        histograms=histograms,
        draw=blocks,
    )


def validate(settings: dict[str, Any]) -> None:
    """Raises ValueError that says which setting is wrong, its limits, and what to do."""
    within(settings, LIMITS)
    if settings["data"] not in DATA:
        raise ValueError(f"data must be one of {', '.join(DATA)}, got {settings['data']!r}")
    if settings["data"] == "fashion-mnist" and settings["samples"] > IMAGES:
        raise ValueError(
            f"samples must be at most {IMAGES} with data='fashion-mnist', got {settings['samples']}: ask for fewer"
        )
    values = settings["samples"] * settings["width"] * (settings["depth"] + 1)
    if values > MOST_VALUES:
        raise ValueError(
            f"samples * width * (depth + 1) must be at most {MOST_VALUES:,}, got {values:,}: ask for fewer samples or layers"
        )


def measured(settings: dict[str, Any]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """(readings averaged over the seeds, histograms of the first seed), each by series."""
    runs: dict[str, list[list[Row]]] = {key: [] for key in SCHEMES}
    histograms: dict[str, list[Row]] = {}
    large: list[Row] = []
    first = settings["seed"]
    for seed in range(first, first + settings["seeds"]):
        drawn = drawn_for(settings, seed)
        schemes = [*SCHEMES.values(), *([LARGE_NORMALIZED] if seed == first else [])]
        found = in_parallel([partial(measure, scheme, drawn) for scheme in schemes])
        for key, (rows, counted) in zip(SCHEMES, found, strict=False):
            runs[key].append(rows)
            histograms.setdefault(key, counted)
        large = found[-1][0] if seed == first else large
    series = {key: averaged(rows) for key, rows in runs.items()}
    for row, other in zip(series["batchnorm"], large, strict=True):
        row["std_large_weights"] = other["std"]
    return series, histograms


def in_parallel(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """What the jobs return. Each runs on one core: threads inside an operation wait for one another, and on a busy machine
    the experiment took ten times as long. The sums are then the same on every machine, too."""
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(cores, MOST_AT_ONCE), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return [done.result() for done in [pool.submit(job) for job in jobs]]
    finally:
        torch.set_num_threads(cores)


def drawn_for(settings: dict[str, Any], seed: int) -> Draw:
    generator = Generator().manual_seed(seed)
    return draw(inputs_for(settings, generator), settings["depth"], settings["width"], generator)


def inputs_for(settings: dict[str, Any], generator: Generator) -> Tensor:
    """(N, width) of unit Gaussian, or (N, 784) of images, others for each seed."""
    if settings["data"] == "gaussian":
        return torch.randn(settings["samples"], settings["width"], generator=generator, dtype=torch.float32)
    from runtrue.datasets import fashion_mnist

    images, _ = fashion_mnist(flat=True)
    return images[torch.randperm(len(images), generator=generator)[: settings["samples"]]]


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.figure import init_blocks

    return init_blocks(experiment)
