"""What is read from the rows of both splits, against numbers known by hand, by enumeration or by a second computation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from runtrue import Task, datasets
from runtrue.sandbox import sandbox
from runtrue.splits import SplitFacts, measure, train_and_score
from runtrue.splits.chance import all_on_one_side_p, chi_square_p, homogeneity_p, permutation_p
from runtrue.splits.compare import order, overlap, repeats, shift
from runtrue.splits.pool import Epochs, Mixed, pool_of, pooled
from runtrue.splits.relation import RIDGE, components, glance, left_out, nearest, products, relate, skill, standardized
from runtrue.splits.rows import Rows, at_random, labels_of, normal_scores, read, shuffled
from runtrue.splits.views import bits, fold, moments, same_token, spectrum, tokens, views

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- chance


@pytest.mark.parametrize(
    ("statistic", "freedom", "p"),  # critical values as in the published tables (Pearson and Hartley 1966, table 8)
    [
        (3.84146, 1, 0.05),
        (6.63490, 1, 0.01),
        (18.3070, 10, 0.05),
        (23.2093, 10, 0.01),
        (124.342, 100, 0.05),
        (0.0, 3, 1.0),
    ],
)
def test_chi_square(statistic: float, freedom: int, p: float) -> None:
    assert chi_square_p(statistic, freedom) == pytest.approx(p, rel=2e-4)


def test_homogeneity_by_hand() -> None:
    """Each cell is 5 off its expectation of 15: χ² = 4 · 25/15, one degree of freedom, for which p = erfc(√(χ²/2))."""
    table = torch.tensor([[10, 20], [20, 10]])
    assert homogeneity_p(table) == pytest.approx(math.erfc(math.sqrt(100 / 15 / 2)))
    assert homogeneity_p(torch.tensor([[10, 20, 0], [20, 40, 0], [0, 0, 0]])) == 1.0


@pytest.mark.parametrize(("count", "side", "other"), [(1, 3, 4), (2, 3, 4), (3, 3, 4), (4, 3, 4), (2, 5, 2)])
def test_all_on_one_side_by_enumeration(count: int, side: int, other: int) -> None:
    """Of all ways to choose the rows of one side, those that hold the given ones."""
    ways = list(itertools.combinations(range(side + other), side))
    share = sum(set(range(count)) <= set(way) for way in ways) / len(ways)
    assert all_on_one_side_p(count, side, other) == pytest.approx(share)


def test_a_permutation_p_counts_the_observed_order() -> None:
    assert permutation_p([5.0, *range(5)]) == pytest.approx(1 / 6)
    assert permutation_p([0.0, *range(5)]) == 1.0


# -- probes


def test_left_out_is_what_refitting_without_each_row_gives() -> None:
    x = torch.randn(12, 3, generator=drawn(0), dtype=torch.float64)
    y = torch.randn(12, 2, generator=drawn(1), dtype=torch.float64)
    kernel = x @ x.T
    centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    centred = centred / centred.diagonal().mean()
    for row in range(12):
        others = [i for i in range(12) if i != row]
        weights = torch.linalg.solve(centred[others][:, others] + RIDGE * torch.eye(11, dtype=torch.float64), y[others])
        torch.testing.assert_close((left_out(kernel) @ y)[row], centred[row, others] @ weights)


def test_nearest_neighbours_on_a_line() -> None:
    x = torch.arange(12.0)[:, None]
    smoother = nearest(torch.cdist(x, x))
    assert smoother[0].nonzero()[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert float(smoother[5, 5]) == 0 and smoother.sum(1).tolist() == pytest.approx([1.0] * 12)


def test_components_are_the_principal_ones() -> None:
    table = torch.randn(60, 16, generator=drawn(0)) @ torch.randn(16, 200, generator=drawn(1))
    left, sizes, _ = torch.linalg.svd(table, full_matrices=False)
    best = left[:, :16] * sizes[:16]
    found = components(table)
    torch.testing.assert_close(found @ found.T, best @ best.T, rtol=1e-3, atol=1e-1)


def test_products_of_two_features() -> None:
    table = standardized(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))
    assert products(table)[:, 1].tolist() == [1.0, -1.0, -1.0, 1.0], "their squares do not vary, their product does"
    assert not products(table)[:, [0, 2]].any()


def test_standardized_by_hand() -> None:
    table = torch.tensor([[0.0, 7.0, math.nan], [2.0, 7.0, 1.0], [0.0, 7.0, 1.0], [2.0, 7.0, 0.0]])
    assert standardized(table)[:, 0].tolist() == [-1.0, 1.0, -1.0, 1.0]
    assert not standardized(table)[:, 1].any() and torch.isfinite(standardized(table)).all()


def test_skill_is_held_against_the_best_constant() -> None:
    labels = torch.eye(2)[[0, 0, 0, 1]]
    assert skill(labels, labels) == 1.0
    assert skill(torch.eye(2)[[0, 0, 0, 0]], labels) == 0.0
    targets = torch.tensor([[0.0], [2.0]])
    assert skill(torch.ones(2, 1), targets) == 0.0 and skill(targets, targets) == 1.0


def test_under_chance_p_values_are_uniform() -> None:
    """Exact by construction: of 120 p-values, those under q are binomial with q."""
    found = []
    for seed in range(120):
        x = torch.randn(40, 4, generator=drawn(seed))
        labels = torch.eye(3)[torch.randint(0, 3, (40,), generator=drawn(1000 + seed))]
        found.append(glance({"plain": x}, labels, seed).p_value)
    for q, low, high in ((0.05, 0, 14), (0.25, 16, 45), (0.5, 43, 77)):  # 99.8 % of the binomial
        assert low <= sum(p <= q for p in found) <= high


def one_hot(classes: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(classes.long()).float()


def flipped(seed: int, places: int, used: int, rows: int = 800) -> tuple[Tensor, Tensor]:
    """The parity of `used` of `places` bits."""
    x = torch.randint(0, 2, (rows, places), generator=drawn(seed)).float()
    return x, one_hot(x[:, :used].sum(1) % 2)


def board(seed: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(800, 2, generator=drawn(seed))
    return x, one_hot((x * 6).long().sum(1) % 2)


def bars(seed: int) -> tuple[Tensor, Tensor]:
    """A bar that stands or lies, anywhere in the image."""
    images, kind = torch.zeros(400, 1, 12, 12), torch.randint(0, 2, (400,), generator=drawn(seed))
    for image, upright, (row, column) in zip(images, kind, torch.randint(0, 9, (400, 2), generator=drawn(seed + 1))):
        if upright:
            image[0, row : row + 4, column] = 1
        else:
            image[0, row, column : column + 4] = 1
    return images, one_hot(kind)


def frequency(seed: int) -> tuple[Tensor, Tensor]:
    """A tone of one of four frequencies, in any phase, as a sequence (N, T, 1)."""
    kind, phase = torch.randint(0, 4, (400,), generator=drawn(seed)), torch.rand(400, generator=drawn(seed + 1)) * 6.28
    angle = (kind[:, None] + 3) * torch.arange(64) / 64 * 2 * math.pi + phase[:, None]
    return torch.sin(angle)[:, :, None], one_hot(kind)


def adding(seed: int) -> tuple[Tensor, Tensor]:
    """Two of twenty numbers are marked; their sum is wanted (Hochreiter and Schmidhuber 1997, experiment 4)."""
    values = torch.rand(500, 20, generator=drawn(seed))
    marks = torch.zeros(500, 20).scatter_(1, torch.rand(500, 20, generator=drawn(seed + 1)).argsort(1)[:, :2], 1.0)
    return torch.stack([values, marks], 2), normal_scores((values * marks).sum(1, keepdim=True)).float()


def ends_alike(seed: int) -> tuple[Tensor, Tensor]:
    """Whether the first of twenty tokens comes again as the last."""
    words = torch.randint(0, 4, (500, 20), generator=drawn(seed))
    return words, one_hot(words[:, 0] == words[:, -1])


def modular(seed: int) -> tuple[Tensor, Tensor]:
    words = torch.randint(0, 23, (1000, 2), generator=drawn(seed))
    return words, one_hot(words.sum(1) % 23)


HARD: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
    "xor": lambda seed: flipped(seed, 2, 2),
    "xor of 2 among 40": lambda seed: flipped(seed, 40, 2),
    "parity of 3 among 10": lambda seed: flipped(seed, 10, 3),
    "parity of all 8": lambda seed: flipped(seed, 8, 8),
    "parity of all 12": lambda seed: flipped(seed, 12, 12),
    "checkerboard": board,
    "bars": bars,
    "frequency": frequency,
    "adding": adding,
    "ends alike": ends_alike,
    "sum modulo 23": modular,
}


@pytest.mark.parametrize("name", HARD)
def test_hard_but_real_problems_show_a_relation(name: str) -> None:
    for seed in range(2):
        inputs, labels = HARD[name](seed)
        found = relate(views(inputs), labels, seed)
        assert found.p_value <= 0.01, (name, seed, found)


@pytest.mark.parametrize("name", HARD)
def test_the_same_with_shuffled_labels_show_none(name: str) -> None:
    """Each p-value is uniform: three of them under 0.05 would be one case in 8,000."""
    found = []
    for seed in range(3):
        inputs, labels = HARD[name](seed)
        mixed = labels[torch.randperm(len(labels), generator=drawn(50 + seed))]
        found.append(relate(views(inputs[:300]), mixed[:300], seed).p_value)
    assert max(found) > 0.05


def test_real_images_show_a_relation_and_shuffled_ones_none() -> None:
    images, labels = datasets.fashion_mnist(limit=400)
    looked = views(images)
    assert relate(looked, one_hot(labels)).p_value <= 0.005
    mixed = one_hot(labels[torch.randperm(400, generator=drawn(1))])
    assert relate(looked, mixed).p_value > 0.05


# -- views


def test_few_numbers_stay_as_they_are_and_many_keep_their_distances() -> None:
    x = torch.randn(20, 5000, generator=drawn(0))
    assert torch.equal(fold(x[:, :1000]), x[:, :1000])
    near, far = torch.cdist(fold(x), fold(x)), torch.cdist(x, x)
    away = ~torch.eye(20, dtype=torch.bool)
    assert float((near[away] / far[away]).std()) < 0.05 and float((near[away] / far[away]).mean()) == pytest.approx(
        1, abs=0.05
    )


def test_a_spectrum_does_not_tell_where_something_is() -> None:
    x = torch.randn(4, 32, generator=drawn(0))
    torch.testing.assert_close(spectrum(x), spectrum(x.roll(5, 1)), rtol=1e-4, atol=1e-4)
    assert spectrum(torch.randn(3, 7, 4000)).shape[1] <= 256


def test_moments_by_hand() -> None:
    sequence = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # mean of x·xᵀ over two steps, and first step times second
    assert moments(sequence).tolist() == [[5.0, 7.0, 7.0, 10.0, 3.0, 4.0, 6.0, 8.0]]


def test_tokens_by_hand() -> None:
    words = torch.tensor([[3, 3, 5]])
    counted, placed = tokens(words)
    assert counted[0, 3] == 2 and counted[0, 5] == 1 and counted.sum() == 3 == placed.sum()
    assert same_token(words.float()).tolist() == [[1.0, 0.0, 0.0]]


def test_bits_of_a_truth_table_are_its_inputs_and_copies_add_little() -> None:
    table = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    assert bits(table) == pytest.approx(6.0)
    letters = torch.eye(26)[torch.randint(0, 26, (500,), generator=drawn(0))]
    assert bits(letters) < 8, "one of 26 letters is 4.7 bits, in however many columns"
    assert bits(torch.zeros(9, 3)) == 0.0 == bits(torch.zeros(9, 0))


@pytest.mark.parametrize(
    "inputs",
    [
        torch.zeros(6),
        torch.zeros(6, 3),
        torch.zeros(6, 3, 4),
        torch.zeros(6, 3, 40, 50),
        torch.zeros(6, 2, 3, 4, 5),
        torch.zeros(6, 200_000),
        torch.zeros(6, 3, dtype=torch.int64),
        torch.zeros(6, dtype=torch.int32),
        torch.zeros(6, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(6, 5, 5, dtype=torch.int64),
        torch.zeros(6, 4, dtype=torch.bool),
        torch.zeros(6, 4, dtype=torch.bfloat16),
        (torch.zeros(6, 3), torch.zeros(6, 2, dtype=torch.int64)),
        {"a": torch.zeros(6, 3), "b": torch.zeros(6, 4)},
        np.zeros((6, 3), dtype=np.float64),
    ],
)
def test_inputs_of_any_form_have_a_bounded_view(inputs: Any) -> None:
    found = views(inputs)
    assert "plain" in found
    assert all(
        table.shape[0] == 6 and table.shape[1] <= 1024 and table.dtype == torch.float32 for table in found.values()
    )


# -- labels


@pytest.mark.parametrize(
    ("targets", "loss", "kind", "names"),
    [
        (torch.tensor([2, 0, 2, 1]), "cross_entropy", "classes", (0, 1, 2)),
        (torch.tensor([[1.0], [0.0], [1.0], [1.0]]), "binary_cross_entropy", "classes", (0, 1)),
        (torch.tensor([1.0, -1.0, 1.0, 1.0]), "mse_loss", "classes", (-1, 1)),
        (torch.tensor([0.0, 1.0, 2.0, 3.5]), "mse_loss", "values", ()),
        (torch.tensor([0, 1, 2, 3]), "mse_loss", "values", ()),
        (torch.tensor([0, 1, 2, 3]), None, "classes", (0, 1, 2, 3)),
        (torch.eye(3)[[0, 1, 1, 2]], "cross_entropy", "classes", (0, 1, 2)),
        (torch.tensor([[1, 1], [0, 1], [0, 0], [1, 0]]), "binary_cross_entropy_with_logits", "values", ()),
        (torch.randint(2, 9, (4, 7)), "cross_entropy", "unknown", ()),
        (torch.zeros(4, 3, 8, 8), "mse_loss", "values", ()),
        (torch.zeros(4, 2, dtype=torch.complex64), "mse_loss", "unknown", ()),
        (None, None, "unknown", ()),
    ],
)
def test_what_a_row_is_labelled_with(
    targets: Tensor | None, loss: str | None, kind: str, names: tuple[int, ...]
) -> None:
    found = labels_of([targets], 4, loss, -100)
    assert found[:2] == (kind, names) and len(found[2]) == 4


def test_labels_that_the_loss_ignores_are_no_class() -> None:
    _, names, codes = labels_of([torch.tensor([3, -100, 5, 3])], 4, "cross_entropy", -100)
    assert names == (3, 5) and codes.tolist() == [0, -1, 1, 0]


def test_normal_scores_share_a_rank_where_values_are_equal() -> None:
    found = normal_scores(torch.tensor([[1.0], [9.0], [1.0], [2.0]]))[:, 0]
    expected = torch.special.ndtri(torch.tensor([1.0, 3.5, 1.0, 2.5], dtype=torch.float64) / 4)
    torch.testing.assert_close(found, expected)


# -- rows beside rows


def rows_of(pair: Any, size: int = 10, loss: str | None = None, *, fair: bool = False) -> Rows:
    """As they are read from a loader that goes through them in order."""
    loader = DataLoader(TensorDataset(*pair), size)
    with sandbox(Task(nn.Linear(1, 1), loader, loss=nn.MSELoss())) as box:
        found = read(box.batches, pairs=True, fair=fair, loss=loss)
    assert found is not None
    return found


def test_twins_by_hand() -> None:
    """Ten images: the second is the first with another label, the fourth and fifth are the third; two are black."""
    x = torch.randn(10, 4, generator=drawn(0))
    x[1], x[3], x[4], x[8:] = x[0], x[2], x[2], 0.0
    y = torch.tensor([0, 1, 1, 1, 1, 0, 0, 0, 0, 1])
    found = repeats(rows_of((x, y)))
    assert (found.rows, found.distinct, found.twins, found.contradicted) == (8, 5, 5, 2)
    assert found.share == pytest.approx(3 / 8)
    assert found.ceiling == pytest.approx(1 - 4 / 10)  # two pairs of one label each: 4 of 10 rows keep one bit of one


def test_the_ceiling_of_targets_is_the_variance_between() -> None:
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    found = repeats(rows_of((x, torch.tensor([0.0, 2.0, 4.0, 6.5]))))
    values = torch.tensor([0.0, 2.0, 4.0, 6.5], dtype=torch.float64)
    between = torch.tensor([1.0, 1.0, 5.25, 5.25], dtype=torch.float64)
    assert found.ceiling == pytest.approx(float(between.var() / values.var()))
    assert repeats(rows_of((x, torch.tensor([0.0, 0.0, 1.0, 1.0])))).ceiling == pytest.approx(1.0)


def test_minus_zero_and_the_precision_do_not_make_another_row() -> None:
    x = torch.tensor([[0.0, 1.5], [0.25, 2.0]])
    first, second = (
        rows_of((x, torch.zeros(2))),
        rows_of((torch.tensor([[-0.0, 1.5], [0.25, 3.0]]).double(), torch.zeros(2))),
    )
    assert (first.digests[0] == second.digests[0], first.digests[1] == second.digests[1]) == (True, False)


def test_rows_of_val_that_train_has() -> None:
    x = torch.randn(30, 4, generator=drawn(0))
    train, val = rows_of((x[:20], torch.zeros(20))), rows_of((x[15:], torch.zeros(15)))
    assert overlap(train, val, False).found == 5 and overlap(train, val, False).rows == 15


def sorted_rows(share: float, size: int = 10, seed: int = 0) -> Rows:
    """Two hundred rows of five classes, sorted but for those that are put anywhere."""
    labels = torch.arange(200) // 40
    moved = torch.rand(200, generator=drawn(seed)) >= share
    places = moved.nonzero()[:, 0]
    labels[places] = labels[places[torch.randperm(len(places), generator=drawn(seed + 1))]]
    return rows_of((torch.randn(200, 3, generator=drawn(seed)), labels), size)


def test_sorted_batches_lie_apart_and_shuffled_ones_do_not() -> None:
    whole = sorted_rows(1.0)
    found = order(whole, whole)
    assert found is not None and found.between == pytest.approx(1.0) and found.p_value < 1e-30
    assert (found.groups, found.group) == (20, 10)
    for seed in range(20):
        mixed = sorted_rows(0.0, seed=seed)
        chance = order(mixed, mixed)
        assert chance is not None and abs(chance.between) < 0.1 and chance.p_value > 1e-3


def test_the_excess_over_chance_has_mean_zero() -> None:
    """E[τ] = (k − 1)/(n − 1) for random batches: the excess averages out."""
    found = [order(rows, rows) for rows in (sorted_rows(0.0, seed=s) for s in range(30))]
    mean = sum(o.between for o in found if o) / 30
    assert abs(mean) < 0.009


def test_small_batches_are_taken_together_and_one_batch_says_nothing() -> None:
    single = sorted_rows(1.0, size=1)
    found = order(single, single)
    assert found is not None and found.group == 8 and found.between > 0.9
    whole = sorted_rows(1.0, size=200)
    assert order(whole, whole) is None


def test_targets_are_compared_by_quarters() -> None:
    x = torch.randn(200, 3, generator=drawn(0))
    rising = rows_of((x, x[:, 0].sort().values), loss="mse_loss")
    mixed = rows_of((x, x[:, 0]), loss="mse_loss")
    found, chance = order(rising, rising), order(mixed, mixed)
    assert found is not None and chance is not None
    assert found.between > 0.9 and abs(chance.between) < 0.1


def test_a_beginning_of_one_class_is_held_against_the_whole() -> None:
    labels = torch.arange(400) // 100
    x = torch.randn(400, 3, generator=drawn(0))
    mixed = torch.randperm(400, generator=drawn(1))[:100]
    found = order(rows_of((x[:100], labels[:100])), rows_of((x[mixed], labels[mixed]), fair=True))
    assert found is not None and found.between == pytest.approx(1.0) and found.p_value < 1e-10


def test_a_shift_by_hand() -> None:
    """Train has mean 0 and std 1 in both features; val has mean 2 and std 3 in one and the same in the other."""
    side = torch.tensor([-1.0, 1.0])
    train = torch.stack([side.repeat(50), side.repeat_interleave(50)], 1)
    val = torch.stack([3 * side.repeat(50) + 2, side.repeat_interleave(50)], 1)
    found = shift(train, val)
    assert found is not None and found.features == 2
    assert found.spread == pytest.approx(math.sqrt(3), rel=1e-4)  # geometric mean of 3 and 1
    assert found.offset == pytest.approx(math.sqrt((4 / 5 + 0) / 2), rel=1e-4)  # pooled variance (1 + 9)/2
    assert found.p_value == 1 / 200
    assert found.train_mean == pytest.approx(0, abs=1e-12) and found.val_mean == pytest.approx(1.0)


def test_rows_split_at_random_do_not_shift() -> None:
    found = []
    for seed in range(40):
        x = torch.randn(90, 6, generator=drawn(seed)).pow(3)  # heavy tails
        moved = shift(x[:60], x[60:])
        assert moved is not None
        found.append(moved.p_value)
    assert sum(p <= 0.05 for p in found) <= 6  # 99.8 % of the binomial
    assert shift(torch.zeros(5, 3), torch.zeros(5, 4)) is None
    assert shift(torch.zeros(5, 3), torch.zeros(5, 3)) is None


# -- a whole task


X = torch.randn(240, 8, generator=drawn(0))
Y = X[:, :3].argmax(1)
VX = torch.randn(80, 8, generator=drawn(1))
VY = VX[:, :3].argmax(1)


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs))


def task(**parts: Any) -> Task:
    usual: dict[str, Any] = {"model": network, "train": (X, Y), "loss": nn.CrossEntropyLoss(), "optimizer": SGD}
    return Task(**(usual | parts))


def facts_of(given: Task, loss: str | None = "cross_entropy") -> SplitFacts:
    with sandbox(given) as box:
        return measure(box, loss)


class Counted(Dataset[Any]):
    """Counts how often it is asked, and draws noise from generators of its own."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets, self.asked = inputs, targets, 0
        self.rng, self.torch = np.random.default_rng(0), drawn(0)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.asked += 1
        noise = 1e-9 * (self.rng.normal() + float(torch.randn((), generator=self.torch)))
        return self.inputs[index] + noise, self.targets[index]


VALS: dict[str, Callable[[], Any]] = {
    "tensors": lambda: (VX, VY),
    "arrays": lambda: (VX.numpy(), VY.numpy()),
    "dataset": lambda: TensorDataset(VX, VY),
    "loader": lambda: DataLoader(TensorDataset(VX, VY), 16),
    "shuffling loader": lambda: DataLoader(TensorDataset(VX, VY), 16, shuffle=True, generator=drawn(3)),
    "list": lambda: [(VX[:40], VY[:40]), (VX[40:], VY[40:])],
    "function": lambda: lambda: [(VX, VY)],
}


@pytest.mark.parametrize("form", VALS)
def test_val_of_every_form_is_read(form: str) -> None:
    found = facts_of(task(val=VALS[form]()))
    assert found.val is not None and found.val_error is None
    assert found.val.rows == 80 and found.val.whole and found.val.labels.rows == 80
    assert found.inputs is not None and 0.8 < found.inputs.spread < 1.25 and found.inputs.offset < 0.4
    assert found.overlap is not None and found.overlap.found == 0


def test_without_val_and_with_one_that_fails() -> None:
    assert facts_of(task()).val is None

    class Broken(Dataset[Any]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            raise OSError("no such file: 7.png")

    found = facts_of(task(val=Broken()))
    assert found.val is None and found.val_error is not None and "no such file: 7.png" in found.val_error
    assert found.val_error.startswith("val failed at batch 0") and found.train is not None
    mixed_up = facts_of(task(val=(VX, VY[:7])))
    assert mixed_up.val is None and "differ in their number of rows" in str(mixed_up.val_error)


def test_an_iterator_is_left_alone() -> None:
    waiting = iter([(VX, VY)])
    assert facts_of(task(val=waiting)).val is None
    assert next(waiting)[0] is VX


def test_reading_leaves_no_trace() -> None:
    def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
        train = DataLoader(Counted(X, Y), 16, generator=drawn(5))
        return train, DataLoader(Counted(VX, VY), 16, shuffle=True, generator=drawn(6), num_workers=2)

    (train, val), (other, untouched) = loaders(), loaders()
    state = torch.get_rng_state()
    model = network()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.set_rng_state(state)
    with sandbox(task(model=model, train=train, val=val)) as box:
        measure(box, "cross_entropy")
        assert train_and_score(box, 5, loss="cross_entropy") is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert val.num_workers == 2 and val._iterator is None
    for ours, theirs in ((train, other), (val, untouched)):
        assert isinstance(ours.dataset, Counted) and ours.dataset.asked == 0
        assert ours.generator is not None and theirs.generator is not None
        assert torch.equal(ours.generator.get_state(), theirs.generator.get_state())
        assert ours.dataset[3][0].tolist() == theirs.dataset[3][0].tolist()


def test_the_same_task_gives_the_same_facts() -> None:
    assert facts_of(task(val=(VX, VY))) == facts_of(task(val=(VX, VY)))


def test_labels_moved_by_a_row_are_found_in_every_form() -> None:
    moved = (X, Y.roll(-1))
    for source in (moved, TensorDataset(*moved), DataLoader(TensorDataset(*moved), 16), [moved]):
        found = facts_of(task(train=source)).relation
        assert found is not None and found.p_value > 0.05 and found.shift == 1 and found.shift_strength > 6
    back = facts_of(task(train=(X, Y.roll(1)))).relation
    assert back is not None and back.shift == -1
    right = facts_of(task()).relation
    assert right is not None and right.p_value <= 0.005 and right.shift == 0


def test_in_a_series_the_row_before_proves_nothing() -> None:
    """Whether the next step goes up cannot be told from the steps before; the step before that stands among the inputs."""
    steps = torch.randn(400, generator=drawn(2))
    windows = steps.unfold(0, 8, 1)[:-1]
    found = facts_of(task(model=lambda: nn.Linear(8, 2), train=(windows, (steps[8:] > 0).long()))).relation
    assert found is not None and found.p_value > 0.05 and found.shift == 0


def test_rows_that_repeat_do_not_give_the_labels_away() -> None:
    """Copies of a row have the same label whatever it is: one of each counts."""
    labels = torch.randint(0, 3, (240,), generator=drawn(3))
    found = facts_of(task(train=(X.repeat(4, 1), labels.repeat(4)))).relation
    assert found is not None and found.rows == 240 and found.p_value > 0.05


def test_a_sorted_loader_that_is_read_in_part_is_held_against_all_of_it() -> None:
    labels = torch.arange(4000) // 1000
    loader = DataLoader(
        TensorDataset(torch.randn(4000, 8, generator=drawn(0)), labels), 8
    )  # 100 of 500 batches are drawn
    found = facts_of(task(train=loader, model=partial(network, 4)))
    assert found.order is not None and found.order.between == pytest.approx(1.0)
    assert found.train is not None and found.train.fair and not found.train.whole
    assert set(found.train.labels.names) == {0, 1, 2, 3}


def test_a_loader_that_shuffles_has_no_order() -> None:
    assert facts_of(task(train=DataLoader(TensorDataset(X, Y), 16, shuffle=True))).order is None
    assert facts_of(task()).order is None and facts_of(task(train=TensorDataset(X, Y))).order is None


def test_rows_drawn_with_replacement_are_no_copies() -> None:
    sampler = torch.utils.data.WeightedRandomSampler([1.0] * 240, 480, generator=drawn(0))
    assert facts_of(task(train=DataLoader(TensorDataset(X, Y), 16, sampler=sampler))).repeats is None


@pytest.mark.parametrize(
    "val",
    [lambda t: t, lambda t: (X, Y), lambda t: (X[:], Y), lambda t: TensorDataset(X, Y)],
    ids=["the object", "its tensors", "views of them", "another form"],
)
def test_val_that_is_train(val: Callable[[Any], Any]) -> None:
    train = (X, Y)
    found = facts_of(task(train=train, val=val(train))).overlap
    assert found is not None and found.share == 1.0


def test_loaders_over_one_dataset_are_one_source() -> None:
    data = TensorDataset(X, Y)
    found = facts_of(task(train=DataLoader(data, 16, shuffle=True), val=DataLoader(data, 80))).overlap
    assert found is not None and found.same_source


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(X, Y)


@pytest.mark.parametrize(
    "train",
    [
        Stream(),
        [{"x": X, "y": Y}],
        [(torch.randn(3, n, 4), torch.tensor([0, 1, 2])) for n in (5, 6, 7, 8)],  # ragged
        [(torch.tensor([0.5]), torch.tensor([1.0]))] * 4,
    ],
    ids=["stream", "dicts", "ragged", "rows of one"],
)
def test_data_of_other_forms_do_not_fail(train: Any) -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        return next(model.parameters()).sum()

    found = facts_of(task(train=train, val=train, step=step), None)
    assert found.train is not None and found.train.kind == "unknown" and found.relation is None
    pairs = facts_of(
        task(train=train if not isinstance(train, list) or isinstance(train[0], tuple) else (X, Y), val=train)
    )
    assert pairs.train is not None


def test_tiny_sets_say_nothing_of_labels() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    found = facts_of(task(model=partial(nn.Linear, 2, 2), train=(x, torch.tensor([0, 1, 1, 0]))))
    assert found.relation is None and found.train is not None and found.train.bits == pytest.approx(2.0)


# -- pools


def test_a_pool_deals_every_row_once_an_epoch() -> None:
    with sandbox(task(train=DataLoader(TensorDataset(X, Y), 50))) as box:
        pool = pool_of(box)
    assert pool is not None and (pool.size, pool.batch, pool.shuffled, pool.whole) == (240, 50, False, True)
    dealt = list(itertools.islice(pool.endless(torch.arange(240), 0), 5))
    assert [len(batch[1]) for batch in dealt] == [50, 50, 50, 50, 40]
    assert torch.equal(torch.cat([b[0] for b in dealt]).sort(0).values, X.sort(0).values)
    for inputs, targets in dealt:
        assert torch.equal(inputs[:, :3].argmax(1), targets), "rows keep their labels"
    in_order = next(pool.endless(torch.arange(240), 0, mixed=False))
    assert torch.equal(in_order[0], X[:50])


def test_a_last_batch_of_one_row_is_left_out() -> None:
    pool = pooled([(X[:5], Y[:5]), (X[5:6], Y[5:6])], shuffled=False, whole=True)
    assert pool is not None
    assert [len(batch[1]) for batch in pool.batches(torch.arange(6))] == [5]


def test_what_cannot_be_put_together_is_no_pool() -> None:
    assert pooled([(torch.zeros(2, 3), Y[:2]), (torch.zeros(2, 4), Y[:2])], shuffled=False, whole=True) is None
    assert pooled([{"x": X[:2], "name": ["a", "b"]}], shuffled=False, whole=True) is None


def test_mixed_batches_hold_the_same_rows_anew_each_epoch() -> None:
    batches = [(X[i : i + 20], Y[i : i + 20]) for i in range(0, 240, 20)]
    mixed = Mixed(batches, buffer=6)
    torch.manual_seed(0)
    first, second = list(mixed), list(mixed)
    for epoch in (first, second):
        assert torch.equal(torch.cat([b[0] for b in epoch]).sort(0).values, X.sort(0).values)
        assert torch.equal(torch.cat([b[0] for b in epoch])[:, :3].argmax(1), torch.cat([b[1] for b in epoch]))
    assert not torch.equal(first[0][0], second[0][0])
    early = {tuple(row) for b in first[:6] for row in b[0].tolist()}
    assert early == {tuple(row) for row in X[:120].tolist()}, "a buffer at a time"


def test_epochs_are_chosen_anew() -> None:
    pool = pooled([(X, Y)], shuffled=False, whole=True)
    assert pool is not None
    epochs = Epochs(pool, lambda: torch.arange(30))
    assert len(epochs) == 1 and torch.equal(next(iter(epochs))[0], X[:30])


def test_a_shuffled_loader_keeps_the_settings() -> None:
    def together(rows: list[Any]) -> Any:
        return tuple(map(torch.stack, zip(*rows)))

    loader = DataLoader(TensorDataset(X, Y), 32, drop_last=True, collate_fn=together)
    other = shuffled(loader)
    assert (other.batch_size, other.drop_last, other.collate_fn) == (32, True, together)
    assert other.dataset is loader.dataset and not torch.equal(next(iter(other))[0], X[:32])
    assert at_random(other, 0) is other
    one, two = (next(iter(at_random(loader, 7)))[0] for _ in range(2))
    assert torch.equal(one, two)


# -- the trained network


def trained(given: Task, steps: int = 150, loss: str | None = "cross_entropy") -> Any:
    with sandbox(given) as box:
        return train_and_score(box, steps, loss=loss)


def test_a_network_that_learns_has_skill_on_rows_held_out() -> None:
    found = trained(task(val=(VX, VY)))
    assert found.rows + found.held_out == 240 and 30 <= found.held_out <= 66
    assert found.skill > 0.8 and found.held_out_skill > 0.6 and found.p_value == 1 / 200
    assert found.val_skill == pytest.approx(found.held_out_skill, abs=0.25)
    assert [r.name for r in found.recalls] == sorted(
        (0, 1, 2), key=lambda c: -found.recalls[[r.name for r in found.recalls].index(c)].rows
    )
    assert found.balanced_accuracy > 0.85


def test_shuffled_labels_are_memorised_and_not_held() -> None:
    labels = torch.randint(0, 3, (240,), generator=drawn(4))
    wide = nn.Sequential(nn.Linear(8, 200), nn.ReLU(), nn.Linear(200, 3))
    found = trained(task(model=wide, train=(X, labels)), 600)
    assert found.skill > 0.6 and found.held_out_skill < 0.1 and found.p_value > 0.05


def test_regression_is_scored_by_the_variance_explained() -> None:
    given = task(
        model=partial(network, 1), train=(X, X[:, :1] * 2 + 1), val=(VX, VX[:, 0] * 2 + 1), loss=nn.MSELoss(),
        optimizer=partial(torch.optim.SGD, lr=0.02, momentum=0.9),
    )  # fmt: skip
    found = trained(given, 200, "mse_loss")
    assert (
        found.held_out_skill > 0.8 and found.val_skill > 0.8 and found.recalls == () and found.balanced_accuracy is None
    )


@pytest.mark.parametrize(
    ("loss", "name", "low"),
    [(nn.BCEWithLogitsLoss(), "binary_cross_entropy_with_logits", 0.0), (nn.SoftMarginLoss(), None, -1.0)],
)
def test_one_output_for_two_classes(loss: nn.Module, name: str | None, low: float) -> None:
    sides = (X[:, :1] > 0).float()
    found = trained(task(model=partial(network, 1), train=(X, sides * (1 - low) + low), loss=loss), 150, name)
    assert found.skill > 0.8 and found.held_out_skill > 0.6


def test_a_treatment_is_scored_in_its_stead_and_nothing_stays() -> None:
    given = task(train=(X, Y))
    with sandbox(given) as box:
        before = [p.clone() for p in box.model.parameters()]
        plain = train_and_score(box, 100, loss="cross_entropy")
        slow = train_and_score(
            box, 100, lambda t: t.replace(optimizer=partial(torch.optim.SGD, lr=1e-6)), loss="cross_entropy"
        )
        assert all(torch.equal(a, b) for a, b in zip(before, box.model.parameters()))
        assert train_and_score(box, 100, loss="cross_entropy") == plain
    assert plain is not None and slow is not None and slow.skill < 0.3 < plain.skill


def test_what_cannot_be_scored_is_none() -> None:
    def fails(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("no")

    assert trained(task(train=(X[:30], Y[:30]))) is None, "too few rows"
    assert trained(task(loss=fails)) is None
    assert trained(task(step=lambda model, batch: model(batch[0]).sum())) is None
    assert trained(task(train=(X, torch.randint(2, 9, (240, 5))), loss=lambda o, t: o.sum())) is None


def test_the_same_row_twice_is_on_one_side() -> None:
    """Each row stands ten times, with labels at random: memory alone would score on the copies."""
    labels = torch.randint(0, 3, (60,), generator=drawn(6))
    wide = nn.Sequential(nn.Linear(8, 200), nn.ReLU(), nn.Linear(200, 3))
    found = trained(task(model=wide, train=(X[:60].repeat(10, 1), labels.repeat(10))), 400)
    assert found.skill > 0.8 and found.held_out % 10 == 0 and found.held_out_skill < 0.5
