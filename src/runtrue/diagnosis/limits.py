"""What counts as learned, cured, slow or sick, and how a budget is divided. Shares are of the baseline (see `baselines`)."""

from __future__ import annotations

LEARNED = 0.6  # removed in a trial: from here on the network trains, and nothing is treated
STRUGGLING = 0.1  # under this it has shown no learning; the best constant prediction has 0
CURED = 0.2  # the treated run removes at least this much …
GAIN = 0.2  # … and at least this much more than its untreated twin …
REMAINS = 0.7  # … and keeps at most this share of the loss that the twin has left
SIGMAS = 4.0  # of the noise of both curves: a smaller gain could be chance
PROMISING = 0.03  # a gain beyond chance, too small for a cure: the trial may have been too short
LONGER = 4  # times the steps of a trial, for a second look where the first was too short to tell
LEARNS_LATER = 0.3  # the same where only the rate is suspected: one that learns this much in its plan is not lost
MUCH_LONGER = 20  # times the steps of a trial, at most, to see whether the untreated network gets there later
CATCH_UP_SHARE = 0.6  # of the time left, for that
SIGN = 0.01  # a loss that fell by less shows no sign of learning
CATCHES_UP = 0.6  # of the progress of the cured run: an untreated one that gets there later is slow, not sick
AHEAD = 1.5  # times the trial's steps: a plan that is no longer than this was seen, not guessed

TRIAL_SHARE = 0.15  # of the budget, for one trial
SMALL_SHARE = 0.1  # of the budget, for memorising a few examples
FAST_SECONDS = 1.5  # a trial may have more than FEW_STEPS steps while it is this short
FEW_STEPS, LEAST_STEPS, MOST_STEPS = 100, 12, 2000
USUAL_EPOCHS, USUAL_STEPS = 10, 1000  # the plan assumed where the task names none: the longer of the two
MEMORISED = 0.1  # share of the loss that may be left on the small set (N3.1)
SMALL_STEPS, SMALL_LEAST = 200, 40

FACTS = ("parameters-frozen", "parameters-not-optimized", "graph-detached")
"""True whatever the training does; told as notes if the network learns all the same."""
RATES = ("learning-rate-too-high", "learning-rate-too-low")
"""Suspected only because nothing was learned: unless a trial confirms them, they say nothing."""
