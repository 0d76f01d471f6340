"""The rate of mode "deep", by short trials: the highest whose first steps do not tear up what the network knows."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor
from torch.optim import AdamW

from runtrue.tuning.deep import Plan
from runtrue.tuning.head import batches
from runtrue.tuning.judging import judged

RATES = (1e-3, 3e-4, 1e-4)
"""Of what is new, for AdamW; what was kept gets a tenth of it at the most."""
STEPS = 5
WORSE = 1.05
"""Times the loss on the images to validate with, after as many steps at rate 0: a rate that ends higher tears up what the network
knows, and the next lower one is tried. (At rate 0 statistics that follow their batches move all the same, which on few images
costs more than any of these rates: 0.469 instead of 0.421 on photographs of the bench. The images to train with tell nothing:
the head was solved for them, and any step away from there is a step up.)"""


@dataclass(frozen=True)
class Trials:
    """loss: at rate 0; after: at each rate that was tried; lr: the one that is taken."""

    lr: float
    loss: float
    after: dict[float, float]

    def describe(self) -> str:
        if not self.after:
            return f"{self.lr:g}, as you said"
        tried = ", ".join(f"{rate:g}: {loss:.3g}" for rate, loss in self.after.items())
        return f"{self.lr:g}, by trials of {STEPS} steps (validation loss at rate 0: {self.loss:.3g}; {tried})"


def found_rate(plan: Plan) -> Trials:
    """The highest of RATES whose first steps do not harm. The model is as before."""
    kept = copy.deepcopy(plan.start.model.state_dict())
    still = ended(plan, 0.0, kept)
    after: dict[float, float] = {}
    for rate in RATES:
        after[rate] = ended(plan, rate, kept)
        if after[rate] <= WORSE * still:
            break
    return Trials(rate, still, after)


def ended(plan: Plan, rate: float, kept: dict[str, Tensor]) -> float:
    """Validation loss after the first steps at this rate. The model has the weights `kept` before and after."""
    model, optimizer = plan.start.model, AdamW(plan.groups(rate))
    model.train()
    for number, (inputs, labels) in zip(range(STEPS), plan.loader()):
        plan.seed(number)
        loss, _ = plan.loss(inputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    found = judged(model, batches(plan.images.val, plan.start)).loss
    model.load_state_dict(kept)
    return found
