"""What counts as learned, cured, slow or sick, and how a budget is divided.

A quality is a skill (see `runtrue.skill`): 0 as the best constant prediction, 1 perfect, -1 lost; where no skill can be told, the
share of the constant's loss that was removed takes its place.
"""

from __future__ import annotations

SOUND = 0.9  # quality from here on: the network trains, and nothing is treated
ENOUGH = 0.97  # skill at which a run is stopped before its time: it will not be found wanting any more
HOPELESS = -0.5  # skill at which a run whose loss has not fallen is stopped as well: far worse than a constant
LEARNED = 0.6  # the same as a share of the loss, where there is no skill to go by
STRUGGLING = 0.1  # under this it has shown no learning; the best constant prediction has 0
CURED = 0.2  # the treated run reaches at least this quality …
REMAINS = 0.7  # … and leaves at most this share of what the twin misses …
SIGMAS = 4.0  # … and for losses, gains this many times the noise of both curves: less could be chance

CEILING = {"fit": 0.9, "scale": 0.8, "rate": 0.6}
"""Quality of the untreated network up to which a suspicion of this weight is treated at all, once the whole plan was seen."""
EARLY_CEILING = {"fit": 0.6, "scale": 0.6, "rate": 0.1}
"""The same where only a part of the plan could be seen: a network that learns has the rest of it to get better."""
OFTEN_MEANT = ("parameters-frozen", "parameters-not-optimized")
"""A body that was trained before stands still, and its new head is trained: …"""
MEANT = 0.5  # … a quality from here on is taken as meant so. Heads on bodies of random weights reached 0.3 and less
GAIN = {"fit": 0.1, "scale": 0.2, "rate": 0.25}
"""What a remedy must add to the quality of the untreated network."""
SHARE_OF_CURED = {"fit": 1.0, "scale": 0.8, "rate": 0.6}
"""An untreated network that reaches more than this share of the cured one's quality is not sick, only slower."""
NEAR = 0.05  # two qualities that differ by less are alike: the cause further upstream, the smaller change, is preferred
MUCH = 0.4  # gained: the cause is found, and what is still missing may not be there to be had
MORE = 0.1  # what a further remedy must add to be worth naming
FEW_ROWS = 50  # a share of so few right answers is a matter of luck: several seeds
CONFIRMED_BY = 2  # seeds beside the first, where a verdict needs them

PROMISING = 0.03  # a gain beyond chance, too small for a cure: the trial may have been too short
LONGER = 4  # times the steps of a trial, for a second look where the first was too short to tell
LEARNS_LATER = 0.3  # the same where only the rate is suspected: one that learns this much in its plan is not lost
MUCH_LONGER = 20  # times the steps of a trial, at most, to see whether the untreated network gets there later
CATCH_UP_SHARE = 0.6  # of the time left, for that
SIGN = 0.01  # a loss that fell by less shows no sign of learning
CATCHES_UP = 0.6  # of the progress of the cured run: an untreated one that gets there later is slow, not sick
AHEAD = 1.5  # times the trial's steps: a plan that is no longer than this was seen, not guessed

SPENT_ON_PURPOSE = 0.93  # of the budget: a step, an evaluation, the last confirmation end a little late
TRIAL_SHARE = 0.15  # of the budget, for one trial
SMALL_SHARE = 0.1  # of the budget, for memorising a few examples
FAST_SECONDS = 1.5  # a trial may have more than FEW_STEPS steps while it is this short
WHOLE_SHARE = 0.1  # of the budget: a plan that takes no longer is trained as a whole, the others as far as this reaches
FEW_STEPS, LEAST_STEPS, MOST_STEPS = 100, 12, 2000
USUAL_EPOCHS, USUAL_STEPS = 10, 1000  # the plan assumed where the task names none: the longer of the two
MEMORISED = 0.1  # share of the loss that may be left on the small set (N3.1)
SMALL_STEPS, SMALL_LEAST = 200, 40

FACTS = ("parameters-frozen", "parameters-not-optimized", "graph-detached")
"""True whatever the training does; told as notes if the network learns all the same."""
RATES = ("learning-rate-too-high", "learning-rate-too-low")
"""Suspected only because nothing was learned: unless a trial confirms them, they say nothing."""
FITS = (
    *FACTS, "softmax-before-cross-entropy", "sigmoid-before-bce-with-logits", "logits-without-log-softmax",
    "output-activation-mismatch", "wrong-loss", "loss-shape-broadcast", "init-symmetric", "missing-nonlinearity",
    "eval-mode-while-training", "unshuffled-batches", "class-imbalance",
)  # fmt: skip
"""Seen in the structure of the task, not in the size of a number: good reason to suspect even a network that learns a bit."""
STANDING = ("train-val-overlap", "train-val-mismatch", "repeated-examples")
"""Of data that a network may well learn from: told whatever the training does, and never a reason to treat."""
LAST = (*RATES, "too-little-capacity")
"""Whose remedies help many a healthy network as well: treated only where it learns poorly."""


def weight_of(cause: str) -> str:
    """How much a suspicion of this cause is worth: "fit" (structure), "scale" (a number), "rate" (nothing was learned)."""
    return "rate" if cause in LAST else "fit" if cause in FITS else "scale"
