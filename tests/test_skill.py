"""Skill by hand: shares of right answers over the most frequent one, R², and what cannot be told."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from runtrue import skill
from runtrue.tape import LossCall, LossCalls


def test_labels_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2])  # always saying 0 is right in 3 of 5
    assert skill.of_labels(torch.tensor([0, 0, 0, 0, 0]), labels) == pytest.approx(0.0)
    assert skill.of_labels(labels, labels) == pytest.approx(1.0)
    assert skill.of_labels(torch.tensor([0, 0, 0, 1, 1]), labels) == pytest.approx((0.8 - 0.6) / 0.4)
    assert skill.of_labels(torch.full((5,), -1), labels) == skill.LOST


def test_where_one_label_has_most_rows_rare_ones_count_as_much() -> None:
    labels = torch.tensor([0] * 18 + [1] * 2)
    assert skill.of_labels(torch.zeros(20, dtype=torch.long), labels) == pytest.approx(0.0)
    alert = torch.tensor([0] * 12 + [1] * 8)  # right in 14 of 20, which is worse than always 0; recalls 12/18 and 1
    assert skill.of_labels(alert, labels) == pytest.approx((12 / 18 + 1) / 2 * 2 - 1)


def test_one_label_alone_tells_nothing() -> None:
    assert skill.of_labels(torch.tensor([3, 3]), torch.tensor([3, 3])) is None
    assert skill.of_numbers(torch.ones(4, 1), torch.ones(4, 1)) is None


def test_numbers_are_r_squared_output_by_output() -> None:
    wanted = torch.tensor([[0.0, 10.0], [2.0, 30.0], [4.0, 20.0]])
    constant = wanted.mean(0).expand(3, 2)
    assert skill.of_numbers(constant, wanted) == pytest.approx(0.0)
    off = wanted + torch.tensor([1.0, 0.0])
    assert skill.of_numbers(off, wanted) == pytest.approx(1 - 3 / (8 + 200))
    assert skill.of_numbers(wanted * float("nan"), wanted) == skill.LOST
    assert skill.of_numbers(wanted * 1e6, wanted) == skill.LOST  # worse than the worst that counts


def test_yes_or_no_is_told_apart_in_the_middle_or_at_zero() -> None:
    wanted = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0]])
    said = torch.tensor([[0.1], [0.2], [0.4], [0.6], [0.7]])
    assert skill.of_numbers(said, wanted) == pytest.approx(1.0)
    assert skill.of_numbers(said, wanted, threshold=0.0) == pytest.approx((0.4 - 0.6) / 0.4)  # all say yes
    signs = torch.tensor([[-1.0], [1.0], [1.0]])
    assert skill.of_numbers(signs * 0.3, signs) == pytest.approx(1.0)


def test_one_hot_rows_are_read_as_labels() -> None:
    wanted = F.one_hot(torch.tensor([0, 1, 2, 2])).float()
    raw = torch.tensor([[5.0, 4.0, 3.0], [0.0, 0.1, 0.0], [-3.0, -2.0, -1.0], [9.0, 0.0, 0.0]])
    assert skill.of_numbers(raw, wanted) == pytest.approx((0.75 - 0.5) / 0.5)


def calls_of(*losses: tuple[str, Tensor, Tensor]) -> list[LossCall]:
    return [LossCall(name, given, wanted, {}) for name, given, wanted in losses]


def test_a_column_against_a_row_means_the_same_numbers() -> None:
    wanted = torch.tensor([1.0, 2.0, 3.0, 5.0])
    assert skill.of_calls(calls_of(("mse_loss", wanted[:, None], wanted))) == pytest.approx(1.0)


def test_batches_are_put_together_and_several_losses_averaged() -> None:
    first = ("cross_entropy", torch.eye(3), torch.tensor([0, 1, 2]))
    second = (
        "cross_entropy",
        torch.eye(3),
        torch.tensor([0, 1, 1]),
    )  # 5 of 6 right; the most frequent label has 3 of 6
    assert skill.of_calls(calls_of(first, second)) == pytest.approx((5 / 6 - 3 / 6) / (3 / 6))
    numbers = ("mse_loss", torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]]))
    both = skill.of_calls(calls_of(first, numbers, first, numbers))
    assert both == pytest.approx((1.0 + 0.0) / 2)


def test_ignored_labels_do_not_count() -> None:
    given, wanted = torch.eye(3), torch.tensor([0, 1, 255])
    call = LossCall("cross_entropy", given, wanted, {"ignore_index": 255})
    assert skill.of_calls([call]) == pytest.approx(1.0)


def test_losses_whose_predictions_mean_nothing_by_themselves() -> None:
    assert skill.of_calls(calls_of(("kl_div", torch.ones(2, 2), torch.ones(2, 2)))) is None
    assert skill.of_calls([]) is None
    assert skill.of_calls(calls_of(("mse_loss", torch.ones(4, 3), torch.ones(4)))) is None


def test_outputs_of_a_hand_written_loss() -> None:
    labels = torch.tensor([0, 1, 1])
    assert skill.of_outputs([torch.eye(3)[[0, 1, 1]]], [labels]) == pytest.approx(1.0)
    assert skill.of_outputs([torch.ones(3, 2)], [torch.ones(3)]) is None


def test_only_loss_calls_are_recorded_and_the_result_is_untouched() -> None:
    with LossCalls() as recorder:
        loss = F.mse_loss(torch.tensor([1.0, 3.0]).relu(), target=torch.tensor([0.0, 0.0]))
    assert float(loss) == 5.0 and [call.name for call in recorder.calls] == ["mse_loss"]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(labels: list[int], random: object) -> None:
    wanted = torch.tensor(labels)
    said = (wanted + torch.arange(len(labels))) % 4
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    one, other = skill.of_labels(said, wanted), skill.of_labels(said[order], wanted[order])
    assert one == other if one is None or other is None else one == pytest.approx(other)
