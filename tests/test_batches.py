"""The batches of a task: the user's tensors are out of reach, and every trial sees the same ones."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import runtrue
from runtrue import Task, TaskError
from runtrue.batches import draw, head, in_this_process, is_pair, map_tensors, own, size_of, tensors_of

X = torch.arange(10.0).reshape(10, 1)
Y = torch.arange(10)


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(x, y) for x, y in zip(X, Y)])


SOURCES: dict[str, Any] = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "dataset": TensorDataset(X, Y),
    "loader": DataLoader(TensorDataset(X, Y), 4),
    "stream": Stream(),
    "list": [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "function": lambda: iter([(X, Y)]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_comes_out_is_never_the_users(name: str) -> None:
    for inputs, targets in draw(SOURCES[name], 4):
        inputs.fill_(-1)
        targets.fill_(-1)
    assert X.flatten().tolist() == list(range(10)) and Y.tolist() == list(range(10))


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_step_gives_the_same_batch_even_after_writing_into_it(name: str) -> None:
    batches = draw(SOURCES[name], 4, seed=3)
    first = [own(batches.get(i)) for i in range(5)]
    batches.get(0)[0].zero_()
    for i in reversed(range(5)):
        assert torch.equal(first[i][0], batches.get(i)[0]) and torch.equal(first[i][1], batches.get(i)[1])


@pytest.mark.parametrize("name", SOURCES)
def test_inputs_stay_beside_their_targets(name: str) -> None:
    for inputs, targets in draw(SOURCES[name], 4):
        assert torch.equal(inputs.flatten().long(), targets)


class InPlace(nn.Module):
    """Scales its inputs where they lie."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mul_(0.1).sub_(0.5))


@pytest.mark.parametrize("name", ["tensors", "dataset", "loader", "list"])
def test_a_model_that_works_in_place_cannot_reach_the_users_data(name: str) -> None:
    task = Task(InPlace(), SOURCES[name], loss=lambda o, t: nn.functional.cross_entropy(o, t % 3), batch_size=4)
    runtrue.check(task.replace(optimizer=partial(torch.optim.SGD, lr=0.1), epochs=20), budget=2)
    assert X.flatten().tolist() == list(range(10)) and Y.tolist() == list(range(10))


def epoch(batches: Any, number: int) -> list[int]:
    return [int(v) for i in range(batches.held) for v in batches.get(number * batches.held + i)[1]]


def test_tensors_are_shuffled_anew_each_epoch_by_the_seed() -> None:
    batches, again, other = draw((X, Y), 4, seed=0), draw((X, Y), 4, seed=0), draw((X, Y), 4, seed=1)
    epochs = [epoch(batches, i) for i in range(3)]
    assert all(sorted(seen) == list(range(10)) for seen in epochs)
    assert len({tuple(seen) for seen in [*epochs, list(range(10))]}) == 4
    assert [epoch(again, i) for i in range(3)] == epochs
    assert epoch(other, 0) not in (epochs[0], list(range(10)))
    assert (batches.held, batches.per_epoch, batches.shuffled) == (3, 3, True)


def test_drawing_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    list(draw((X, Y), 4))
    assert torch.equal(before, torch.get_rng_state())


def test_a_dataset_is_shuffled_by_the_seed_and_a_loader_as_it_says() -> None:
    data = TensorDataset(X, Y)
    first, second = epoch(draw(data, 4, seed=0), 0), epoch(draw(data, 4, seed=1), 0)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert epoch(draw(DataLoader(data, 4), 99), 0) == list(range(10))
    assert draw(DataLoader(data, 4), 99).shuffled is False
    assert draw(DataLoader(data, 4, shuffle=True), 99).shuffled is True
    assert draw(SOURCES["list"], 4).shuffled is None


@pytest.mark.parametrize(("rows", "sizes"), [(9, [4, 4]), (10, [4, 4, 2]), (8, [4, 4]), (1, [1]), (4, [4])])
@pytest.mark.parametrize("form", ["tensors", "dataset", "loader", "list"])
def test_a_last_batch_of_one_is_left_out_if_there_are_larger_ones(form: str, rows: int, sizes: list[int]) -> None:
    x, y = X[:rows], Y[:rows]
    data = TensorDataset(x, y)
    whole = [(x[i : i + 4], y[i : i + 4]) for i in range(0, rows, 4)]
    forms: dict[str, Any] = {"tensors": (x, y), "dataset": data, "loader": DataLoader(data, 4), "list": whole}
    assert [len(batch[1]) for batch in draw(forms[form], 4)] == sizes
    kept = [len(batch[1]) for batch in draw(forms[form], 4, drop_single=False)]
    assert kept == [len(batch[1]) for batch in whole]


def test_batches_of_one_by_plan_stay() -> None:
    assert draw(DataLoader(TensorDataset(X, Y), 1), 99).held == 10


def test_an_iterator_is_used_up_and_a_list_is_not() -> None:
    assert draw(iter(SOURCES["list"]), 4).used_up
    assert not draw(SOURCES["list"], 4).used_up
    with pytest.raises(TaskError, match="gave no batch"):
        draw(iter([]), 4)


def test_step_after_the_last_sees_the_first_again() -> None:
    batches = draw(SOURCES["list"], 4)
    assert batches.held == 2 and torch.equal(batches.get(2)[0], X[:4]) and torch.equal(batches.get(5)[0], X[4:])


def test_an_endless_loader_is_read_for_a_while() -> None:
    def forever() -> Iterator[Any]:
        while True:
            yield X, Y

    batches = draw(forever, 4)
    assert 0 < batches.held <= 100 and batches.per_epoch is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((X, Y), True),
        ([X, Y], True),
        ((X.numpy(), Y), True),
        (((X, X), Y), True),
        (({"a": X}, Y), True),
        ((X, Y, Y), False),
        ((X,), False),
        (X, False),
        ([(X, Y), (X, Y)], False),
        ([X[:3], Y[:5]], False),
        ((1.0, Y), False),
        ((X, "b"), False),
        ([X[0], torch.tensor(1)], False),
    ],
)
def test_what_is_a_pair(value: Any, expected: bool) -> None:
    assert is_pair(value) is expected


def test_a_tuple_with_unequal_rows_is_an_error() -> None:
    with pytest.raises(TaskError, match=r"number of rows: \[3, 5\]"):
        is_pair((X[:3], Y[:5]))


def test_head_takes_the_first_examples_of_everything() -> None:
    batch = ({"a": X, "b": [X * 2]}, Y)
    first = head(batch, 3)
    assert (
        torch.equal(first[0]["a"], X[:3]) and torch.equal(first[0]["b"][0], X[:3] * 2) and torch.equal(first[1], Y[:3])
    )
    first[1].zero_()
    assert Y.tolist() == list(range(10))
    assert len(head(batch, 99)[1]) == 10 and head(batch, 99)[1] is not Y


def test_head_without_a_common_first_dimension_is_the_whole() -> None:
    graph = (torch.zeros(7, 3), torch.zeros(2, 20))
    assert [tuple(t.shape) for t in head(graph, 4)] == [(7, 3), (2, 20)]


def test_head_keeps_numbers_that_stand_for_the_batch() -> None:
    assert head((X, torch.tensor(5)), 2)[1].item() == 5


def test_structures_keep_their_types() -> None:
    batch = {
        "pair": Pair(X, Y),
        "list": [X, "text", 3, None],
        "ordered": collections.OrderedDict(b=X, a=Y),
        "array": np.array([1.5, 2.5]),
        "words": np.array(["a", "b"]),
    }
    copied = own(batch)
    assert isinstance(copied["pair"], Pair) and torch.equal(copied["pair"].left, X) and copied["pair"].left is not X
    assert copied["list"][1:] == ["text", 3, None] and isinstance(copied["list"], list)
    assert isinstance(copied["ordered"], collections.OrderedDict) and list(copied["ordered"]) == ["b", "a"]
    assert copied["array"].tolist() == [1.5, 2.5] and isinstance(copied["array"], Tensor)
    assert copied["words"].tolist() == ["a", "b"]
    assert batch["list"][0] is X, "the structure itself is the user's and stays"  # type: ignore[index]


def test_all_tensors_of_a_structure() -> None:
    assert [t.shape[0] for t in tensors_of([X, {"a": Y[:3], "b": (X[:2], "no")}, None])] == [10, 3, 2]
    assert size_of(({"a": X}, Y)) == 10 and size_of((X, Y[:3])) == 0 and size_of("none") == 0
    assert size_of((X, torch.tensor(3))) == 10
    assert torch.equal(map_tensors((X,), lambda t: t + 1)[0], X + 1)


def test_the_copy_of_a_loader_starts_no_process() -> None:
    loader = DataLoader(TensorDataset(X, Y), 4, num_workers=2, persistent_workers=True, prefetch_factor=3, timeout=5)
    alone = in_this_process(loader)
    assert alone.num_workers == 0 and alone.batch_sampler is loader.batch_sampler
    seen = [batch[1].tolist() for batch in alone]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers, loader.timeout) == (2, 3, True, 5)
    assert loader._iterator is None
