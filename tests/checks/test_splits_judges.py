"""The judges of rows and splits, on numbers made up for them: their limits from both sides, and silence where it is due."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtrue.checks import CHECKS, judge_all
from runtrue.checks.splits import wants_training
from runtrue.facts import DataFacts, TensorFacts
from runtrue.findings import Finding, plain
from runtrue.measure import LossFacts, Measurements, Plan, Start
from runtrue.splits import Labels, Order, Overlap, Recall, Relation, Repeats, Shift, Split, SplitFacts, Trained
from runtrue.trials import Curve

MINE = (
    "labels-unrelated", "class-imbalance", "unshuffled-batches", "repeated-examples", "train-val-overlap",
    "train-val-mismatch",
)  # fmt: skip
EVEN = Labels(tuple(range(10)), (100,) * 10)
TRAIN = Split(1000, True, True, "classes", EVEN, bits=4000.0)
STUCK, LEARNED = Curve((2.3,) * 40), Curve((2.3, *[0.2] * 40))
SEEN = Trained(300, 800, 200, skill=0.8, held_out_skill=0.7, p_value=0.005, val_skill=0.7)
LOST = Trained(300, 800, 200, skill=0.9, held_out_skill=0.02, p_value=0.6)
NO_RELATION = Relation(1000, 10, 900, 0.4, "Gaussian kernel", 1.3, 0.01)
ALIKE = Shift(784, 1.02, 0.05, 0.4, 0.0, 1.0, 0.01, 1.02)


def cross_entropy(outputs: int = 10) -> LossFacts:
    return LossFacts("cross_entropy", (32, outputs), outputs, -1.0, 1.0, "int64", (32,), 0.0, 9.0, -100, None)


def measured(curve: Curve = STUCK, outputs: int | None = 10, steps: int = 300, **facts: Any) -> Measurements:
    start = Start(loss=2.3, level=2.3, loss_facts=cross_entropy(outputs) if outputs else None)
    tensor = TensorFacts("", "float32", (32, 4), 1000, True, True, 0.0, 1.0, -3.0, 3.0, 0, 0, alike=False)
    splits = SplitFacts(**({"train": TRAIN} | facts))
    return Measurements(DataFacts((tensor,), None, 32), start, curve, Plan(steps, 300, True), splits=splits)


def said(cause: str, m: Measurements) -> list[Finding]:
    return list(CHECKS[cause].judge(m))


def severity(cause: str, m: Measurements) -> str | None:
    found = said(cause, m)
    assert len(found) <= 1
    return found[0].severity if found else None


def test_all_of_them_are_registered() -> None:
    assert set(MINE) <= set(CHECKS)


@pytest.mark.parametrize("cause", MINE)
def test_silent_on_the_healthy(cause: str) -> None:
    healthy = measured(
        LEARNED,
        val=replace(TRAIN, rows=200),
        relation=replace(NO_RELATION, p_value=0.005),
        order=Order(30, 32, 0.01, 0.3),
        repeats=Repeats(1000, 990, 20, 0, 1.0),
        overlap=Overlap(200, 1, False),
        inputs=ALIKE,
        trained=SEEN,
    )
    assert said(cause, healthy) == []
    assert not wants_training(replace(healthy, splits=replace(healthy.splits or SplitFacts(), trained=None)))


# -- labels-unrelated


@pytest.mark.parametrize(
    ("relation", "trained", "told"),
    [
        ({}, LOST, "fault"),
        ({}, None, "warning"),
        ({"p_value": 0.05}, LOST, None),
        ({"p_value": 0.051}, LOST, "fault"),
        ({}, replace(LOST, p_value=0.05), None),
        ({}, replace(LOST, held_out_skill=0.11), None),
        ({}, replace(LOST, held_out_skill=-3.0), "fault"),
        ({}, replace(LOST, skill=0.0), "fault"),
        ({}, replace(LOST, held_out=69), "warning"),
        ({"rows": 399}, LOST, "warning"),
        ({"rows": 400}, LOST, "fault"),
        ({"rows": 199}, LOST, None),
        ({"classes": 51}, LOST, "warning"),
        ({"minority": 59}, LOST, "warning"),
        ({"minority": 29}, LOST, None),
    ],
)
def test_labels_that_nothing_predicts(relation: dict[str, Any], trained: Trained | None, told: str | None) -> None:
    assert severity("labels-unrelated", measured(relation=replace(NO_RELATION, **relation), trained=trained)) == told


def test_a_network_that_learns_is_believed_until_its_held_out_rows_are_known() -> None:
    assert severity("labels-unrelated", measured(LEARNED, relation=NO_RELATION)) is None
    assert wants_training(measured(LEARNED, relation=NO_RELATION))
    assert severity("labels-unrelated", measured(LEARNED, relation=NO_RELATION, trained=LOST)) == "fault"
    assert not wants_training(measured(LEARNED, relation=NO_RELATION, trained=LOST))


def test_short_codes_may_spell_a_puzzle() -> None:
    for bits, told in ((31.0, "warning"), (32.0, "fault")):
        m = measured(train=replace(TRAIN, bits=bits), relation=NO_RELATION, trained=LOST)
        assert severity("labels-unrelated", m) == told


def test_labels_that_fit_a_row_away() -> None:
    moved = replace(NO_RELATION, shift=-2, shift_strength=12.4, rows=100, minority=20)
    (finding,) = said("labels-unrelated", measured(relation=moved))
    assert finding.severity == "fault" and "2 rows below" in finding.message and "2 rows up" in finding.message
    assert severity("labels-unrelated", measured(relation=moved, trained=SEEN)) is None
    (other,) = said("labels-unrelated", measured(relation=replace(moved, shift=1)))
    assert "1 row above" in other.message and "moved 1 row down" in other.message


def test_what_is_said_of_unrelated_labels() -> None:
    (finding,) = said("labels-unrelated", measured(relation=NO_RELATION, trained=LOST))
    assert "memorised what it was trained on (skill 0.9)" in finding.message
    assert "skill 0.02 on 200 rows held out" in finding.message and "p = 0.4" in finding.message
    assert finding.evidence["held_out_skill"] == 0.02 and finding.evidence["limit"] == 0.05


# -- class-imbalance


def recalls(*classes: tuple[int, float]) -> tuple[Recall, ...]:
    return tuple(Recall(i, rows, share) for i, (rows, share) in enumerate(classes))


@pytest.mark.parametrize(
    ("classes", "skill", "told"),
    [
        (((950, 1.0), (50, 0.0)), 0.0, "warning"),
        (((750, 1.0), (250, 0.0)), 0.0, "warning"),
        (((740, 1.0), (260, 0.0)), 0.0, None),
        (((950, 0.99), (50, 0.1)), 0.0, None),
        (((991, 1.0), (9, 0.0)), 0.0, None),
        (((600, 1.0), (200, 0.0), (200, 0.0)), 0.0, None),
        (((700, 1.0), (150, 0.0), (150, 0.0)), 0.0, "warning"),
        (((700, 1.0), (150, 0.5), (150, 0.0)), 0.3, None),
        (((500, 1.0), (485, 0.9), (15, 0.0)), 0.8, "note"),
        (((500, 1.0), (485, 0.9), (15, 0.0)), 0.2, None),
        (((1000, 1.0),), 0.0, None),
        ((), 0.5, None),
    ],
)
def test_one_class_that_is_answered_always(classes: Any, skill: float, told: str | None) -> None:
    trained = replace(SEEN, recalls=recalls(*classes), skill=skill)
    assert severity("class-imbalance", measured(trained=trained)) == told


def test_a_trial_shorter_than_the_plan_proves_nothing() -> None:
    trained = replace(SEEN, recalls=recalls((950, 1.0), (50, 0.0)), skill=0.0)
    for steps, told in ((300, "warning"), (333, "warning"), (340, "note"), (0, "note")):
        assert severity("class-imbalance", measured(steps=steps, trained=trained)) == told


def test_balanced_accuracy_by_hand() -> None:
    assert replace(SEEN, recalls=recalls((90, 1.0), (10, 0.5))).balanced_accuracy == 0.75
    assert SEEN.balanced_accuracy is None
    uneven = replace(TRAIN, labels=Labels((0, 1), (950, 50)))
    assert uneven.labels.largest_share == 0.95 and uneven.labels.share(1) == 0.05 and uneven.labels.share(7) == 0.0
    assert wants_training(measured(train=uneven)) and not wants_training(measured())


# -- unshuffled-batches


@pytest.mark.parametrize(
    ("between", "p_value", "told"),
    [(1.0, 0.0, "warning"), (0.2, 1e-4, "warning"), (0.19, 0.0, None), (0.5, 2e-4, None), (math.nan, 0.0, None)],
)
def test_labels_alike_within_batches(between: float, p_value: float, told: str | None) -> None:
    assert severity("unshuffled-batches", measured(order=Order(30, 32, between, p_value))) == told


# -- repeated-examples


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"distinct": 30, "twins": 1000, "contradicted": 1000, "ceiling": 0.02}, "fault"),
        ({"distinct": 30, "twins": 1000, "contradicted": 1000, "ceiling": 0.1}, "warning"),
        ({"distinct": 20, "twins": 1000}, "fault"),
        ({"distinct": 21, "twins": 1000}, "warning"),
        ({"distinct": 100, "twins": 1000}, "warning"),
        ({"distinct": 101, "twins": 1000}, "note"),
        ({"distinct": 799, "twins": 400}, "note"),
        ({"distinct": 801, "twins": 400}, None),
        ({"distinct": 900, "twins": 200, "contradicted": 200}, "warning"),
        ({"distinct": 900, "twins": 200, "contradicted": 199}, None),
        ({"rows": 19, "distinct": 1, "twins": 19}, None),
        ({"rows": 0, "distinct": 0, "twins": 0}, None),
    ],
)
def test_rows_that_come_again(numbers: dict[str, Any], told: str | None) -> None:
    usual: dict[str, Any] = {"rows": 1000, "contradicted": 0, "ceiling": 1.0}
    assert severity("repeated-examples", measured(repeats=Repeats(**(usual | numbers)))) == told


def test_rows_of_few_bits_are_alike_by_nature() -> None:
    xor = Repeats(1000, 4, 1000, 500, 0.01)
    for bits in (2.0, 20.0, 63.0):
        assert severity("repeated-examples", measured(repeats=xor, train=replace(TRAIN, bits=bits))) is None
    assert severity("repeated-examples", measured(repeats=xor, train=replace(TRAIN, bits=64.0))) == "fault"


def test_inputs_that_are_all_alike_are_another_finding() -> None:
    m = measured(repeats=Repeats(1000, 1, 1000, 1000, 0.0))
    alike = replace(m, data=DataFacts(tuple(replace(t, alike=True) for t in m.data.inputs), None, 32))
    assert severity("repeated-examples", alike) is None and severity("repeated-examples", m) == "fault"


# -- train-val-overlap


@pytest.mark.parametrize(
    ("found", "twins", "told"),
    [
        (200, 0, "warning"),
        (10, 0, "warning"),
        (9, 0, None),
        (20, 30, "warning"),
        (20, 40, None),
        (190, 900, "warning"),
        (180, 900, None),
    ],
)
def test_rows_in_both_splits(found: int, twins: int, told: str | None) -> None:
    m = measured(repeats=Repeats(1000, 900, twins, 0, 1.0), overlap=Overlap(200, found, False))
    assert severity("train-val-overlap", m) == told


def test_val_that_is_train_is_named_and_no_fault() -> None:
    (finding,) = said("train-val-overlap", measured(overlap=Overlap(200, 200, True)))
    assert finding.severity == "warning" and finding.message.startswith("val is the training set")
    partly = measured(train=replace(TRAIN, whole=False), overlap=Overlap(200, 60, False))
    assert "at least 60 of 200 rows" in said("train-val-overlap", partly)[0].message


def test_small_and_short_rows_are_in_both_by_nature() -> None:
    four = Split(4, True, True, "classes", Labels((0, 1), (2, 2)), bits=2.0)
    assert severity("train-val-overlap", measured(train=four, overlap=Overlap(4, 4, False))) is None
    bits = replace(TRAIN, rows=1024, bits=10.0)
    assert severity("train-val-overlap", measured(train=bits, overlap=Overlap(200, 200, False))) is None
    assert severity("train-val-overlap", measured(overlap=Overlap(19, 19, True))) is None


# -- train-val-mismatch


def labelled(*counts: int, first: int = 0, fair: bool = True) -> Split:
    named = sorted(((c, first + i) for i, c in enumerate(counts) if c), reverse=True)
    return Split(
        sum(counts), fair, fair, "classes", Labels(tuple(n for _, n in named), tuple(c for c, _ in named)), 4000.0
    )


@pytest.mark.parametrize(
    ("train", "val", "told", "where"),
    [
        (labelled(*[100] * 8), labelled(100, 100, first=8), "fault", "train"),
        (labelled(*[100] * 9), labelled(*[20] * 10), "fault", "train"),
        (labelled(*[100] * 9), labelled(*[30] * 9, 20), "warning", "train"),  # 20 of 290 rows
        (labelled(*[100] * 10), labelled(*[20] * 8), "warning", "val"),
        (labelled(*[100] * 10), labelled(*[20] * 10), None, ""),
        (labelled(6, 6, 6), labelled(2, 2, 0), "note", "train targets"),  # two of three, of ten outputs
        (labelled(10, 10, 0), labelled(1, 1, 3), None, ""),  # 3 rows of 25 on one side: 5/25 · 4/24 · 3/23 = 0.4 %
    ],
)
def test_classes_that_one_split_lacks(train: Split, val: Split, told: str | None, where: str) -> None:
    found = said("train-val-mismatch", measured(train=train, val=val))
    found = [f for f in found if f.where != "train targets"] or (found if where == "train targets" else [])
    if where == "train targets":
        assert not found, "18 rows are too few for ten outputs"
        return
    assert [(f.severity, f.where) for f in found] == ([(told, where)] if told else [])


def test_classes_lacking_are_a_fault_only_where_the_network_has_outputs_for_them() -> None:
    train, val = labelled(*[100] * 8), labelled(100, 100, first=8)
    for outputs, told in ((10, "fault"), (9, "warning"), (None, "warning")):
        found = said("train-val-mismatch", measured(outputs=outputs, train=train, val=val))
        assert [f.severity for f in found] == [told]
    unfair = said("train-val-mismatch", measured(train=labelled(*[100] * 8, fair=False), val=replace(val, fair=False)))
    assert unfair == [], "a beginning that was read says nothing of the whole"


def test_many_rare_classes_are_missing_by_chance() -> None:
    """A long tail: 2,000 rows of train show 1,500 classes, val shows 200 others once each."""
    train = labelled(*[2] * 500, *[1] * 1000)
    val = Split(400, True, True, "classes", Labels(tuple(range(1300, 1700)), (1,) * 400), 4000.0)
    assert [
        f for f in said("train-val-mismatch", measured(outputs=2000, train=train, val=val)) if f.severity != "note"
    ] == []


@pytest.mark.parametrize(
    ("spread", "offset", "p_value", "told"),
    [
        (255.0, 0.0, 0.005, "warning"),
        (1 / 255, 0.0, 0.005, "warning"),
        (1.76, 0.0, 0.005, "warning"),
        (0.57, 0.0, 0.005, "warning"),
        (1.74, 0.99, 0.005, None),
        (1.0, 1.01, 0.005, "warning"),
        (3.0, 2.0, 0.01, None),
        (math.nan, math.nan, 1.0, None),
    ],
)
def test_another_scale(spread: float, offset: float, p_value: float, told: str | None) -> None:
    shifted = replace(ALIKE, spread=spread, offset=offset, p_value=p_value)
    for what in ("inputs", "targets"):
        given: dict[str, Any] = {"val": TRAIN, what: shifted}
        m = measured(**given)
        found = said("train-val-mismatch", m)
        assert [(f.severity, f.where) for f in found] == ([(told, f"val {what}")] if told else [])
        assert wants_training(m) == (told is not None)
    few = measured(train=replace(TRAIN, rows=19), val=TRAIN, inputs=replace(ALIKE, spread=255.0, p_value=0.005))
    assert said("train-val-mismatch", few) == []


@pytest.mark.parametrize(
    ("own", "other", "told"),
    [(0.8, 0.1, "fault"), (0.8, 0.39, "fault"), (0.8, 0.41, "note"), (0.8, -5.0, "fault"), (0.2, 0.0, "warning")],
)
def test_another_scale_is_a_fault_where_it_costs_half_the_skill(own: float, other: float, told: str) -> None:
    trained = replace(SEEN, held_out_skill=own, val_skill=other)
    m = measured(val=TRAIN, inputs=replace(ALIKE, spread=9.0, p_value=0.005), trained=trained)
    (finding,) = said("train-val-mismatch", m)
    assert finding.severity == told
    assert (f"skill {own:.2g} on held-out rows of train and {other:.2g} on val" in finding.message) == (
        told != "warning"
    )


@pytest.mark.parametrize(("spread", "offset"), [(90.0, 0.0), (0.09, 0.0), (1.0, 11.0)])
def test_other_units_are_a_fault_where_they_cost_a_tenth_of_the_skill(spread: float, offset: float) -> None:
    shift = replace(ALIKE, spread=spread, offset=offset, p_value=0.005)
    for other, told in ((0.71, "fault"), (0.73, "note")):
        trained = replace(SEEN, held_out_skill=0.8, val_skill=other)
        (finding,) = said("train-val-mismatch", measured(val=TRAIN, inputs=shift, trained=trained))
        assert finding.severity == told


def test_other_shares_of_the_same_classes_are_a_note() -> None:
    for counts, told in (((100, 100), None), ((141, 59), "note"), ((130, 70), None)):
        found = said("train-val-mismatch", measured(outputs=2, train=labelled(500, 500), val=labelled(*counts)))
        assert [f.severity for f in found] == ([told] if told else [])
    assert said("train-val-mismatch", measured(outputs=2, train=labelled(50, 50), val=labelled(7, 3))) == []


@pytest.mark.parametrize(("rows", "outputs", "count"), [(800, 10, 1), (800, 8, 0), (190, 10, 0), (800, None, 0)])
def test_outputs_that_no_label_names_are_a_note(rows: int, outputs: int | None, count: int) -> None:
    found = said("train-val-mismatch", measured(outputs=outputs, train=labelled(*[rows // 8] * 8)))
    assert [f.severity for f in found] == ["note"] * count


def test_val_that_could_not_be_read_is_told() -> None:
    (finding,) = said("train-val-mismatch", measured(val_error="val failed at batch 0: OSError: no such file"))
    assert finding.severity == "note" and "no such file" in finding.message


# -- whatever the numbers are

ANY = st.floats(width=32) | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])
COUNT = st.integers(0, 10**6)
LABELS = st.lists(st.integers(1, 1000), max_size=6).map(
    lambda c: Labels(tuple(range(len(c))), tuple(sorted(c, reverse=True)))
)
SPLITS = st.builds(
    Split, COUNT, st.booleans(), st.booleans(), st.sampled_from(["classes", "values", "unknown"]), LABELS, ANY
)
SHIFTS = st.builds(Shift, COUNT, *[ANY] * 7)
FACTS = st.builds(
    SplitFacts,
    train=st.none() | SPLITS,
    val=st.none() | SPLITS,
    val_error=st.sampled_from([None, "no"]),
    relation=st.none() | st.builds(Relation, COUNT, COUNT, COUNT, ANY, st.just("a"), ANY, ANY, st.integers(-2, 2), ANY),
    order=st.none() | st.builds(Order, COUNT, COUNT, ANY, ANY),
    repeats=st.none() | st.builds(Repeats, COUNT, COUNT, COUNT, COUNT, ANY),
    overlap=st.none() | st.builds(Overlap, COUNT, COUNT, st.booleans()),
    inputs=st.none() | SHIFTS,
    targets=st.none() | SHIFTS,
    trained=st.none()
    | st.builds(
        Trained, COUNT, COUNT, COUNT, ANY, ANY, ANY, st.none() | ANY,
        st.lists(st.builds(Recall, st.integers(0, 9), st.integers(1, 99), st.floats(0, 1)), max_size=4).map(tuple),
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(FACTS, st.sampled_from([STUCK, LEARNED, Curve(())]))
def test_no_number_makes_a_judge_raise(facts: SplitFacts, curve: Curve) -> None:
    m = replace(measured(curve), splits=facts)
    for finding in judge_all(m, MINE):
        assert finding.message and finding.where
        json.dumps(plain(finding.evidence), allow_nan=False)
    wants_training(m)
