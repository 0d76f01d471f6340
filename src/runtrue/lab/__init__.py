"""The laboratory: claims about training, each as an experiment that measures it, shows it, and says whether it held.

>>> from runtrue import lab
>>> result = lab.run("init", depth=4, width=64, samples=128, seeds=1)
>>> sorted(result.series)
['batchnorm', 'he', 'large', 'small', 'xavier', 'xavier-relu']
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtrue.lab.experiment import Experiment
    from runtrue.lab.gallery import Gallery

__all__ = ["EXPERIMENTS", "listing", "run", "run_all"]

EXPERIMENTS: dict[str, str] = {
    "init": "The spread of the initial weights decides whether a deep network's signal dies, saturates or comes through.",
    "batchnorm": "Batch normalization lets gradients flow, allows higher rates and worse first weights, and costs time.",
    "penalty": "A penalty on the weights raises the first loss by what one computes by hand; a small one lets the loss fall.",
    "regularization": "L1 gives noise no weight, L2 shrinks all, max-norm bounds each unit; the strength has to be chosen.",
    "dropout": "Dropout keeps a network from memorising, and one pass without it stands for the mean of many networks.",
    "overfit": "A sound network without regularization memorises a few hundred images; with a bug it does not.",
    "small-regularization": "With a little regularization the loss falls, as a band that wobbles; with too much it does not.",
    "learning-rates": "Four rates, four curves: the loss rises at a very high rate, sticks at a high one, creeps at a low one.",
    "gap": "Training against validation accuracy tells a good run from a slightly and a severely overfitting one.",
    "momentum": "SGD falls at a small rate, but slowly; momentum is faster, and Nesterov momentum converges better still.",
    "decay": "A learning rate that decays, by steps, exponentially or as 1/t, ends lower than one that stays where it is.",
    "depth": "Plain networks get worse with depth, residual ones do not: a bridge carries the signal that comes back.",
    "finetune": "On a trained network few images suffice; low rates in front and higher ones behind beat a new head alone.",
}
"""Name -> its claim in one line. An experiment is the function `run` of the module `runtrue.lab.<name>`, with _ for -."""


def run(name: str, **settings: Any) -> Experiment:
    """Run the experiment `name` and return what it measured, its verdict and its figures.

    `settings` are the experiment's own: see the function `run` of `runtrue.lab.<name>`. Raises ValueError for an unknown
    name or a setting out of its limits, TypeError for a setting that the experiment does not have, DataError for images of the
    user's that cannot be used. The random state of the process is left as it is.
    """
    known = settings_of(name)
    if unknown := [setting for setting in settings if setting not in known]:
        raise TypeError(f"{name} has no setting {' or '.join(unknown)}; it has {', '.join(known)}")
    return _runner(name)(**settings)


def run_all(**settings: Any) -> Gallery:
    """Run every experiment, one after the other, and return what came of each: `.held`, `.entries`, `.to_html(path)`.

    `settings` are passed on to each of them. An experiment that fails is an entry with its error, and the others run still.
    Raises TypeError, before anything runs, for a setting that not every experiment has.
    """
    from runtrue.lab.gallery import gallery

    return gallery(EXPERIMENTS, settings)


def settings_of(name: str) -> tuple[str, ...]:
    """What can be set of the experiment `name`. Raises ValueError if there is none of that name."""
    return tuple(inspect.signature(_runner(name)).parameters)


def _runner(name: str) -> Callable[..., Experiment]:
    """The function that runs the experiment `name`. Raises ValueError if there is none."""
    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment is called {name!r}; there is: {', '.join(EXPERIMENTS)}")
    runner: Callable[..., Experiment] = importlib.import_module(f"runtrue.lab.{name.replace('-', '_')}").run
    return runner


def listing() -> str:
    """The experiments as text: name and claim, one a line. Imports nothing heavy."""
    column = max(map(len, EXPERIMENTS))
    return "\n".join(f"{name:{column}}  {claim}" for name, claim in EXPERIMENTS.items())
