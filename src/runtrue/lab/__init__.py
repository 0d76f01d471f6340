"""The laboratory: claims about training, each as an experiment that measures it, shows it, and says whether it held.

>>> from runtrue import lab
>>> result = lab.run("init", depth=4, width=64, samples=128, seeds=1)
>>> sorted(result.series)
['batchnorm', 'he', 'large', 'small', 'xavier', 'xavier-relu']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtrue.lab.experiment import Experiment

__all__ = ["EXPERIMENTS", "listing", "run"]

EXPERIMENTS: dict[str, str] = {
    "init": "The spread of the initial weights decides whether a deep network's signal dies, saturates or comes through.",
    "learning-rates": "Four rates, four curves: the loss rises at a very high rate, sticks at a high one, creeps at a low one.",
    "momentum": "SGD falls at a small rate, but slowly; momentum is faster, and Nesterov momentum converges better still.",
    "decay": "A learning rate that decays, by steps, exponentially or as 1/t, ends lower than one that stays where it is.",
    "penalty": "A penalty on the weights raises the first loss by what one computes by hand; a small one lets the loss fall.",
}
"""Name -> its claim in one line. An experiment is the function `run` of the module `runtrue.lab.<name>`, with _ for -."""


def run(name: str, **settings: Any) -> Experiment:
    """Run the experiment `name` and return what it measured, its verdict and its figures.

    `settings` are the experiment's own: see the function `run` of `runtrue.lab.<name>`. Raises ValueError for an unknown
    name or a setting out of its limits, TypeError for a setting that the experiment does not have. The random state of the
    process is left as it is.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment is called {name!r}; there is: {', '.join(EXPERIMENTS)}")
    experiment: Experiment = importlib.import_module(f"runtrue.lab.{name.replace('-', '_')}").run(**settings)
    return experiment


def listing() -> str:
    """The experiments as text: name and claim, one a line. Imports nothing heavy."""
    column = max(map(len, EXPERIMENTS))
    return "\n".join(f"{name:{column}}  {claim}" for name, claim in EXPERIMENTS.items())
