"""Do the inputs predict the labels, does the network answer more than one class, and do batches hold a fair mix?"""

from __future__ import annotations

from collections.abc import Iterator

from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.demos import splits as specimens
from runtrue.findings import Finding
from runtrue.measure import Measurements
from runtrue.splits import UNRELATED, Relation, Trained

ENOUGH, MANY = 200, 400  # rows with different inputs: to suspect, and to be certain that a relation would have shown
A_CLASS = 20  # rows a class, for the same
RARE, RARER = 60, 30  # … and rows that do not have the most frequent label
HELD_OUT = 70  # rows that the network was not trained on: a fifth of MANY, give or take
CODE = 32.0  # bits a row: shorter ones may spell a puzzle (a parity, a sum modulo a prime) that no neighbour gives away
LITTLE = 0.1  # progress or skill: under this nothing was learned
SOME = 0.3  # skill: from here on something was
NEARLY = 0.9  # of the steps of the plan
ALIKE = 0.2  # of the labels' spread lies between batches: two or three of ten classes a batch have 0.3, sorted ones 1
NEVER_BY_CHANCE = 1e-4


@check("labels-unrelated", sick=specimens.shuffled_labels, healthy=basic.healthy_mlp)
def labels_unrelated(m: Measurements) -> Iterator[Finding]:
    """The inputs do not predict the labels: labels were shuffled, or belong to other rows.

    Suspected where simple probes (nearest neighbours, ridge regression on values, products and spectra, a Gaussian kernel, each
    feature alone) predict labels of rows left out no better than the same labels in random order (exact permutation test).
    XOR, small parities, modular sums, sequences whose order matters and weak effects show in them. A fault only if, with at least
    400 rows and 20 a class, the network itself has no skill on rows held out either (and rows are no short codes, in which a
    puzzle could hide); or if the labels fit the inputs once they are moved by a row or two.
    """
    relation, trained = unrelated(m), m.splits.trained if m.splits else None
    if relation is None:
        return
    silent = trained is not None and not _at_chance(trained)
    if silent or (trained is None and m.progress >= LITTLE):
        return
    bits = m.splits.train.bits if m.splits and m.splits.train else 0.0
    yield _moved(relation) if relation.shift else _no_relation(relation, trained, bits)


def unrelated(m: Measurements) -> Relation | None:
    """What the probes found, if that is nothing and they had enough rows to find something."""
    found = m.splits.relation if m.splits else None
    if found is None or not found.p_value > UNRELATED:
        return None
    enough = found.shift or (found.rows >= ENOUGH and found.minority >= RARER)
    return found if enough else None


def _at_chance(trained: Trained) -> bool:
    return trained.p_value > UNRELATED and not trained.held_out_skill > LITTLE


def _no_relation(relation: Relation, trained: Trained | None, bits: float) -> Finding:
    power = relation.rows >= max(MANY, A_CLASS * relation.classes) and relation.minority >= RARE and bits >= CODE
    certain = power and trained is not None and trained.held_out >= HELD_OUT
    own = ""
    if trained is not None:
        learned = (
            "memorised what it was trained on" if trained.skill >= SOME else "did not learn what it was trained on"
        )
        own = (
            f"; the network {learned} (skill {trained.skill:.2g}) and has skill {trained.held_out_skill:.2g} on "
            f"{trained.held_out} rows held out"
        )
    return Finding(
        "labels-unrelated",
        "fault" if certain else "warning",
        "train targets",
        f"the inputs do not predict the labels: the best of the probes ({relation.probe}) does no better on {relation.rows} rows "
        f"than on the same labels in random order (p = {relation.p_value:.2g}, a relation has under {UNRELATED:g}){own}. Look at "
        "where inputs and labels are put together: one of them shuffled, sorted or filtered without the other",
        _relation_evidence(relation, trained),
    )


def _moved(relation: Relation) -> Finding:
    rows = f"{abs(relation.shift)} row{'s' if abs(relation.shift) > 1 else ''}"
    where, way = ("above", "down") if relation.shift > 0 else ("below", "up")
    return Finding(
        "labels-unrelated",
        "fault",
        "train targets",
        f"the labels stand {rows} {where} the inputs they belong to: as they are, the inputs do not predict them "
        f"(p = {relation.p_value:.2g}); moved {rows} {way}, they fit {relation.shift_strength:.1f} standard deviations better "
        "than chance",
        _relation_evidence(relation, None),
    )


def _relation_evidence(relation: Relation, trained: Trained | None) -> dict[str, float | int | str]:
    told: dict[str, float | int | str] = {
        "rows": relation.rows,
        "classes": relation.classes,
        "probe": relation.probe,
        "p_value": relation.p_value,
        "limit": UNRELATED,
        "probe_skill": relation.skill,
        "shift": relation.shift,
        "shift_strength": relation.shift_strength,
    }
    if trained is not None:
        told |= {"skill": trained.skill, "held_out_rows": trained.held_out, "held_out_skill": trained.held_out_skill}
        told |= {"held_out_p_value": trained.p_value}
    return told


@check("class-imbalance", sick=specimens.rare_class, healthy=specimens.rare_class_weighted)
def class_imbalance(m: Measurements) -> Iterator[Finding]:
    """One class is so frequent that the network answers it always: right for most rows, and nothing learned.

    Told where the largest class is past half way from an equal share to all rows, and the network, trained for as long as the
    user means to, never (under 2 %) recognises any other: its accuracy is that class's share. What counts is the balanced
    accuracy, the mean recall of the classes (Brodersen et al. 2010). Where the trial was shorter than the plan, or a rare class
    is never recognised while others are, it is a note.
    """
    trained = m.splits.trained if m.splits else None
    if trained is None or len(trained.recalls) < 2:
        return
    first, *others = trained.recalls
    rows = sum(recall.rows for recall in trained.recalls)
    share, equal = first.rows / rows, 1 / len(trained.recalls)
    evidence = {
        "classes": [{"class": r.name, "rows": r.rows, "recall": r.share} for r in trained.recalls[:32]],
        "largest_share": share,
        "limit": (1 + equal) / 2,
        "balanced_accuracy": trained.balanced_accuracy,
    }
    missed = [r for r in others if r.rows >= A_CLASS // 2 and r.share == 0]
    if share >= (1 + equal) / 2 and missed and all(r.share <= 0.02 for r in others):
        to_the_end = 0 < m.plan.steps <= trained.steps / NEARLY
        yield Finding(
            "class-imbalance",
            "warning" if to_the_end else "note",
            "train targets",
            f"class {first.name} has {share:.1%} of the rows and the trained network answers it always: of the "
            f"{rows - first.rows} rows of other classes it recognises none or next to none (balanced accuracy "
            f"{trained.balanced_accuracy:.3g}, where {equal:.3g} is chance) after {trained.steps} of {m.plan.steps} steps",
            evidence,
        )
    elif missed and trained.skill >= SOME and all(r.rows / rows <= equal / 5 for r in missed):
        names = ", ".join(str(r.name) for r in missed[:8])
        yield Finding(
            "class-imbalance",
            "note",
            "train targets",
            f"the trained network never answers class {names}, which {'has' if len(missed) == 1 else 'have'} "
            f"{sum(r.rows for r in missed) / rows:.2%} of the rows",
            evidence,
        )


@check("unshuffled-batches", sick=specimens.sorted_batches, healthy=specimens.shuffled_batches)
def unshuffled_batches(m: Measurements) -> Iterator[Finding]:
    """The rows of a batch have labels that are alike: the set is sorted, and the loader does not shuffle.

    Each step then pulls the network towards the labels of the moment. Told where a fifth of the labels' spread or more lies
    between batches, beyond what random batches have (Goodman and Kruskal's τ; targets by the quarter they lie in; batches of
    few rows together), and chance is ruled out (χ², p under 10⁻⁴). Suspected; a fault only if shuffling cures.
    """
    order = m.splits.order if m.splits else None
    if order is not None and order.between >= ALIKE and order.p_value <= NEVER_BY_CHANCE:
        yield Finding(
            "unshuffled-batches",
            "warning",
            "train",
            f"the labels of a batch are alike: {order.between:.0%} of their spread lies between batches (shuffled: 0 %, limit "
            f"{ALIKE:.0%}; {order.groups} groups of about {order.group} rows). Let the loader shuffle",
            {
                "between": order.between, "limit": ALIKE, "p_value": order.p_value,
                "groups": order.groups, "rows_a_group": order.group,
            },
        )  # fmt: skip
