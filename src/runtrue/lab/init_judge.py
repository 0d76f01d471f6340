"""What the readings say about N1.2 to N1.6: the judging half of `init`. Pure functions: rows in, judgements out.

Every limit lies between what was measured at the defaults (`runtrue lab init`: 10 layers of 500, seeds 0 to 2) and what
the opposite of the claim would give; both stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from runtrue.lab.experiment import Judgement, Row, Series

COLLAPSED = 1e-3
"""Spread of the last layer over that of the first, below which the signal is dead. Measured 1.4e-6; Xavier 0.37, He 1.0."""
VANISHED = 1e-3
"""Norm of the gradient at the input over that at the last output, below which it has vanished. Measured 3e-7; Xavier 0.27."""
MOSTLY = 0.8
"""Share of saturated outputs from which a layer counts as saturated. Measured 0.93 in every layer; Xavier at most 0.07."""
CENTRED = 0.1
"""|mean| over spread up to which the mean looks fine. Measured 0.001; in single draws of images up to 0.043."""
SLOWLY = 0.7
"""Least share of the spread that every layer keeps in a slow fall: √½ = 0.71 is Xavier with ReLU. Measured 0.77 and above."""
BROAD = 0.1
"""Spread of a tanh layer's outputs above which its histogram is broad. Measured 0.23 at layer 10; with small weights 3e-7."""
LOST = 0.1
"""Spread of the last layer over that of the first from which a ReLU's signal counts as lost. Measured 0.044 = √½⁹; He 1.0."""
ALIKE = 1.5
"""Largest over smallest spread of layers that are alike. Measured 1.07 for He (30 single draws: up to 1.38); Xavier 2.7."""
FEW = 0.2
"""Share of saturated outputs up to which a tanh works. Measured 0.07 with batch normalisation; large weights without it 0.93."""
KEPT = 0.1
"""Gradient at the input over that at the output, at least this and at most its inverse: kept. Measured 1.4; without 3e-7."""
SAME = 0.05
"""Relative difference of spreads up to which two initialisations gave the same. Measured 2e-4."""

Published = dict[str, dict[str, dict[int, float]]]
PUBLISHED: Published = {
    "small": {
        "std": {
            1: 0.213081, 2: 0.047551, 3: 0.010630, 4: 0.002378, 5: 0.000532,
            6: 0.000119, 7: 0.000026, 8: 0.000006, 9: 0.000001, 10: 0.000000,
        },
    },
    "he": {
        "mean": {1: 0.562488, 5: 0.547678, 10: 0.552531},
        "std": {1: 0.825232, 5: 0.834092, 10: 0.844523},
    },
}  # fmt: skip
"""Series -> reading -> layer -> the figure of the training notes, from one run of the same network."""
TOLERANCE = {"small": 0.03, "he": 0.15}
"""Relative difference allowed: layer 10 varies from draw to draw by 0.5 % with a tanh, by 11 % with a ReLU (30 seeds)."""
FAINTEST = 1e-5
"""Published figures below this have one digit or none left and are shown, not compared."""
ROUNDING = 5e-7
"""The figures are printed with six decimals."""


def with_published(series: Series) -> dict[str, list[Row]]:
    """The rows, with "published_std", "published_mean" and "std_difference", "mean_difference" (relative) where there are any."""
    return {key: [{**row, **beside(row, PUBLISHED.get(key, {}))} for row in rows] for key, rows in series.items()}


def beside(row: Row, published: dict[str, dict[int, float]]) -> Row:
    found: Row = {}
    for reading, figures in published.items():
        if (figure := figures.get(row["layer"])) is not None:
            found[f"published_{reading}"] = figure
            found[f"{reading}_difference"] = row[reading] / figure - 1 if figure > FAINTEST else None
    return found


def judge(series: Series) -> tuple[Judgement, ...]:
    """The five parts of the claim. Published figures are compared where the rows hold them (see `with_published`)."""
    return (
        small(series["small"]),
        large(series["large"]),
        xavier(series["xavier"]),
        he(series["xavier-relu"], series["he"]),
        batchnorm(series["batchnorm"], series["small"]),
    )


def small(rows: Sequence[Row]) -> Judgement:
    spread, gradient = fall(rows), gradient_kept(rows)
    same, compared = against_published(rows, TOLERANCE["small"])
    words = (
        f"the spread goes from {few(rows[1]['std'], 3)} at layer 1 to {few(rows[-1]['std'], 2)} at layer {len(rows) - 1}; "
        f"the gradient at the input is {few(gradient, 2)} of that at the output (dead: both below {COLLAPSED:g}).{compared}"
    )
    return Judgement(
        "N1.2",
        "Small weights, N(0, 0.01²): layer by layer the outputs collapse to 0, and the gradient vanishes.",
        spread < COLLAPSED and gradient < VANISHED and same,
        words,
    )


def large(rows: Sequence[Row]) -> Judgement:
    least = min(row["saturated_fraction"] for row in rows[1:])
    mean = max(abs(row["mean"]) / row["std"] if row["std"] > 0 else float("inf") for row in rows[1:])
    words = (
        f"in every layer at least {least:.0%} of the outputs stand at -1 or +1 (saturated: from {MOSTLY:.0%}), where a unit "
        f"passes less than a tenth of its gradient; the means stay within {few(mean, 1)} spreads of 0. {not_zero(rows)}"
    )
    return Judgement(
        "N1.3",
        "Large weights, N(0, 1): the means look fine, but nearly all outputs are -1 or +1: units are saturated, and pass "
        "almost no gradient.",
        least >= MOSTLY and mean <= CENTRED,
        words,
    )


def not_zero(rows: Sequence[Row]) -> str:
    """What becomes of the whole gradient: the notes call it zero, which is true of the units and not of the network."""
    kept = gradient_kept(rows)
    if not kept > 1:
        return f"The gradient at the input is {few(kept, 2)} of that at the output."
    factor = kept ** (1 / (len(rows) - 1))
    return (
        f"Yet the gradient of the loss is not zero: through the few other units it grows {factor:.1f}-fold a layer on its way "
        f"back, since large weights multiply it: at the input it is {few(kept, 2)} times what it is at the output."
    )


def xavier(rows: Sequence[Row]) -> Judgement:
    steps = [after["std"] / before["std"] if before["std"] else 0.0 for before, after in pairwise(rows[1:])]
    slowest = min(steps, default=1.0)
    words = (
        f"the spread goes from {few(rows[1]['std'], 3)} to {few(rows[-1]['std'], 3)} (broad: above {BROAD:g}); no layer "
        f"keeps less than {slowest:.2f} of it (slowly: at least {SLOWLY:g}); the gradient at the input is "
        f"{few(gradient_kept(rows), 2)} of that at the output."
    )
    return Judgement(
        "N1.4",
        "Xavier, N(0, 1) / √fan_in, with tanh: the spread shrinks slowly, and the histograms stay broad.",
        slowest >= SLOWLY and fall(rows) < 1 and rows[-1]["std"] > BROAD,
        words,
    )


def he(xavier_rows: Sequence[Row], rows: Sequence[Row]) -> Judgement:
    lost, ratio = fall(xavier_rows), unlike(rows)
    same, compared = against_published(rows, TOLERANCE["he"])
    words = (
        f"with Xavier the spread falls to {few(lost, 2)} of layer 1's at layer {len(rows) - 1} (lost: below {LOST:g}); with "
        f"He the largest spread is {ratio:.2f} times the smallest (alike: at most {ALIKE:g}), all near "
        f"{rows[-1]['std']:.2f}.{compared}"
    )
    return Judgement(
        "N1.5",
        "With ReLU, Xavier loses half of the signal a layer and the spread goes to 0; He, N(0, 1) / √(fan_in / 2), repairs it: "
        "every layer alike.",
        lost < LOST and ratio <= ALIKE and same,
        words,
    )


def batchnorm(rows: Sequence[Row], without: Sequence[Row]) -> Judgement:
    ratio, gradient, differs = unlike(rows), gradient_kept(rows), difference(rows)
    saturated = max(row["saturated_fraction"] for row in rows[1:])
    words = (
        f"with the weights N(0, 0.01²) the spread at layer {len(rows) - 1} is {few(rows[-1]['std'], 3)} "
        f"({few(without[-1]['std'], 2)} without batch normalisation); over the layers its largest is {ratio:.3f} times its "
        f"smallest; at most {saturated:.0%} of the outputs are saturated; the gradient at the input is {few(gradient, 2)} of "
        f"that at the output. Weights N(0, 1) give the same spreads within {differs:.2%}."
    )
    held = (
        ratio <= ALIKE
        and rows[-1]["std"] > BROAD
        and saturated <= FEW
        and KEPT <= gradient <= 1 / KEPT
        and differs <= SAME
    )
    return Judgement(
        "N1.6c",
        "With batch normalisation in front of the activation, the signal depends less on the initial weights.",
        held and fall(without) < COLLAPSED,
        words,
    )


def few(value: float, digits: int) -> str:
    """A number with so many digits that count: 0.213, 3e-7, 2.6e5."""
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def fall(rows: Sequence[Row]) -> float:
    """Spread of the last layer over that of the first; 0 if the first has none."""
    return float(rows[-1]["std"] / rows[1]["std"]) if rows[1]["std"] else 0.0


def gradient_kept(rows: Sequence[Row]) -> float:
    """Norm of the gradient at the input over that at the last output."""
    return float(rows[0]["grad_norm"] / rows[-1]["grad_norm"]) if rows[-1]["grad_norm"] else 0.0


def unlike(rows: Sequence[Row]) -> float:
    """Largest over smallest spread of the layers; infinite if one has none."""
    spreads = [float(row["std"]) for row in rows[1:]]
    return max(spreads) / min(spreads) if min(spreads) > 0 else float("inf")


def difference(rows: Sequence[Row]) -> float:
    """Largest relative difference between the spread with small and with large weights, of the same draw."""
    pairs = [(float(row["std_large_weights"]), float(row["std_by_seed"][0])) for row in rows[1:]]
    return max(abs(large / small - 1) if small else float("inf") for large, small in pairs)


def against_published(rows: Sequence[Row], tolerance: float) -> tuple[bool, str]:
    """Whether all published figures are met, and a sentence that says by how much; (True, "") if the rows hold none."""
    pairs = [
        (row[reading], row[f"published_{reading}"])
        for row in rows
        for reading in ("mean", "std")
        if row.get(f"{reading}_difference") is not None
    ]
    if not pairs:
        return True, ""
    met = all(abs(measured - figure) <= tolerance * figure + ROUNDING for measured, figure in pairs)
    worst = max(abs(measured / figure - 1) for measured, figure in pairs)
    return (
        met,
        f" The published figures ({len(pairs)}) are met within {worst:.1%} (allowed: {tolerance:.0%})."
        if met
        else (f" The published figures are missed by up to {worst:.1%} (allowed: {tolerance:.0%})."),
    )
