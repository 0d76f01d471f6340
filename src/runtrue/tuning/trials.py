"""The rate of mode "deep", by short trials: the highest whose first steps do not tear up what the network knows."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from runtrue.keeping import seed_all
from runtrue.tuning.deep import STRIDE, Plan
from runtrue.tuning.head import batches
from runtrue.tuning.judging import judged

RATES = (1e-3, 3e-4, 1e-4)
"""Of what is new, for AdamW; what was kept gets a tenth of it at the most."""
STEPS = 5
WORSE = 1.05
"""Times the loss before, on the images to validate with: a rate after whose steps it is higher than that tears up what the
network knows, and the next lower one is tried. (The images to train with tell nothing: the head before was solved for them, and
any step away from there is a step up.)"""


@dataclass(frozen=True)
class Trials:
    """loss: before any step; after: at each rate that was tried; lr: the one that is taken."""

    lr: float
    loss: float
    after: dict[float, float]

    def describe(self) -> str:
        if not self.after:
            return f"{self.lr:g}, as you said"
        tried = ", ".join(f"{rate:g}: {loss:.3g}" for rate, loss in self.after.items())
        return f"{self.lr:g}, by trials of {STEPS} steps (validation loss {self.loss:.3g} before; {tried})"


def found_rate(plan: Plan) -> Trials:
    """The highest of RATES whose first steps do not harm. The model is as before."""
    kept = copy.deepcopy(plan.start.model.state_dict())
    before = judged(plan.start.model, batches(plan.images.val, plan.start)).loss
    after: dict[float, float] = {}
    for rate in RATES:
        optimizer = plan.course(rate).optimizer
        plan.start.model.train()
        for number, (inputs, labels) in zip(range(STEPS), plan.loader()):
            seed_all((plan.settings.seed * STRIDE + number) % 2**31)
            loss, _ = plan.loss(inputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after[rate] = judged(plan.start.model, batches(plan.images.val, plan.start)).loss
        plan.start.model.load_state_dict(kept)
        if after[rate] <= WORSE * before:
            break
    for parameter in plan.start.model.parameters():
        parameter.grad = None
    return Trials(next((r for r in after if after[r] <= WORSE * before), RATES[-1]), before, after)
