"""Failures from threads: the data reach the network in a way that it cannot learn from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diagnosis import metrics
from diagnosis.data import body_measures, clothes, digits, progression, table, tumours
from diagnosis.parts import Arm, Case, Kit, labelled, register, standardized, tensor
from runtrue import Task

CASES: dict[str, Case] = {}
case = register(CASES)


@case(
    "Stack Overflow: NaN loss when training a regression network",
    "inputs-not-scaled",
    "targets-not-scaled",
    "learning-rate-too-high",
)
def regression_in_raw_units(sick: bool, kit: Kit) -> Arm:
    """Age, blood pressure and cholesterol as measured, a score up to 346, and SGD at its usual rate: NaN."""
    train = progression(raw=True) if sick else progression()
    model = kit.mlp([10, 32, 1], ["relu", ""])
    task = Task(model, train, loss=F.mse_loss, optimizer=SGD(model.parameters(), 0.01, momentum=0.9), epochs=80)
    return Arm(task, metrics.r2)


@case("Stack Overflow: house prices", "inputs-not-scaled", "targets-not-scaled", "learning-rate-too-low")
def house_prices(sick: bool, kit: Kit) -> Arm:
    """Square feet, rooms, age and a price of some hundred thousand, all as they are, with Adam."""
    n, r = 500, kit.rng
    feet, rooms, age = r.normal(1800, 500, n).clip(500), r.randint(1, 7, n), r.uniform(0, 80, n)
    price = 120 * feet + 15000 * rooms - 900 * age + 40 * np.maximum(feet - 2000, 0) + 15000 * r.randn(n) + 50000
    columns, prices = np.stack([feet, rooms, age], 1), price[:, None]
    train = (columns, prices) if sick else (standardized(columns), standardized(prices))
    model = kit.mlp([3, 32, 16, 1], ["relu", "relu", ""])
    optimizer = Adam(model.parameters(), 3e-3)
    data = tensor(train[0]), tensor(train[1])
    return Arm(Task(model, data, loss=F.mse_loss, optimizer=optimizer, epochs=60), metrics.r2)


@case("Stack Overflow: wine classification stuck at 40 % (Defect4ML's kind)", "inputs-not-scaled")
def wine_in_raw_units(sick: bool, kit: Kit) -> Arm:
    """Thirteen chemical columns, one of them up to 1,680."""
    model = kit.mlp([13, 16, 3], ["tanh", ""])
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    return labelled(model, table("wine", raw=sick), optimizer, 30, 16)


@case("Stack Overflow: accuracy equals the share of the larger class", "inputs-not-scaled", "saturating-activation")
def tumours_in_raw_units(sick: bool, kit: Kit) -> Arm:
    """Areas up to 4,254 beside fractal dimensions of 0.06, into sigmoid units: all of them stuck at 0 or 1."""
    model = kit.mlp([30, 16, 1], ["sigmoid", "sigmoid"])
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    task = Task(model, tumours(raw=sick), loss=F.binary_cross_entropy, optimizer=optimizer, epochs=30)
    return Arm(task, metrics.probability)


@case(
    "twenty men at a fitness club, a set of scikit-learn",
    "targets-not-scaled",
    "learning-rate-too-high",
    "inputs-not-scaled",
)
def weight_waist_and_pulse(sick: bool, kit: Kit) -> Arm:
    """Weight, waist and pulse (up to 247) from three exercises, 20 rows: the first steps throw the network out."""
    inputs, targets = table("linnerud", raw=sick)
    targets = targets if sick else tensor(standardized(targets.numpy()))
    model = kit.mlp([3, 16, 3], ["tanh", ""])
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    task = Task(model, (inputs, targets), loss=F.mse_loss, optimizer=optimizer, epochs=400, batch_size=20)
    return Arm(task, metrics.r2_by_column)


@case("PyTorch forum: a column of time stamps among normalised features", "inputs-not-scaled")
def a_column_of_time_stamps(sick: bool, kit: Kit) -> Arm:
    """Twelve standardized columns, and one of seconds since 1970."""
    inputs, labels = table("wine")
    seconds = 1.6e9 + 86400 * kit.rng.uniform(0, 365, len(inputs))
    column = tensor(seconds[:, None] if sick else standardized(seconds[:, None]))
    model = kit.mlp([14, 16, 3], ["relu", ""])
    optimizer = Adam(model.parameters(), 1e-2)
    train = torch.cat([inputs, column], 1), labels
    return labelled(model, train, optimizer, 30)


@case("Stack Overflow: pixels normalised twice", "inputs-not-scaled", "learning-rate-too-low", "init-too-small")
def pixels_divided_twice(sick: bool, kit: Kit) -> Arm:
    """ToTensor divided by 255 already, and the program does it again: inputs up to 0.004."""
    images, labels = digits()
    model = kit.mlp([784, 64, 10], ["relu", ""])
    optimizer = SGD(model.parameters(), 0.1)
    train = images / 255 if sick else images, labels
    return labelled(model, train, optimizer, 15)


@case("Stack Overflow: raw pixels into a deep network with SGD", "inputs-not-scaled", "learning-rate-too-high")
def raw_pixels_with_momentum(sick: bool, kit: Kit) -> Arm:
    """Grey levels 0 … 255 into a ReLU network at a rate that suits 0 … 1."""
    model = kit.mlp([784, 128, 64, 10], ["relu", "relu", ""])
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    return labelled(model, digits(raw=sick), optimizer, 8)


@case("Stack Overflow: labels were divided as well", "constant-targets")
def labels_scaled_to_zero(sick: bool, kit: Kit) -> Arm:
    """Labels were divided by 255 with the pixels and became integers: every label is 0, and the loss is perfect."""
    images, labels = digits()
    model = kit.mlp([784, 64, 10], ["relu", ""])
    train = images, (labels / 255).long() if sick else labels
    optimizer = Adam(model.parameters(), 1e-3)
    task = Task(model, train, loss=F.cross_entropy, optimizer=optimizer, epochs=8)
    return Arm(task, metrics.accuracy, (images, labels))


@case("integers divided as integers", "constant-inputs")
def pixels_divided_as_integers(sick: bool, kit: Kit) -> Arm:
    """`pixels // 256` of whole numbers: every image is black."""
    grey, labels = digits(raw=True)
    model = kit.mlp([784, 64, 10], ["relu", ""])
    train = (grey // 256 if sick else grey / 255), labels
    return labelled(model, train, Adam(model.parameters(), 1e-3), 8)


@case("inputs shuffled, labels not", "labels-unrelated")
def inputs_shuffled_alone(sick: bool, kit: Kit) -> Arm:
    """The images were put into another order than their labels. Judged on rows that were not trained on."""
    images, labels = digits()
    order = torch.from_numpy(kit.rng.permutation(1400))
    train = (images[:1400][order] if sick else images[:1400]), labels[:1400]
    model = kit.mlp([784, 64, 10], ["relu", ""])
    task = Task(model, train, loss=F.cross_entropy, optimizer=Adam(model.parameters(), 1e-3), epochs=10)
    return Arm(task, metrics.accuracy, (images[1400:], labels[1400:]))


@case("PyTorch forum: view is not permute", "labels-unrelated")
def view_instead_of_permute(sick: bool, kit: Kit) -> Arm:
    """(time, example, feature) is brought to (example, time, feature) by `view`: rows of several examples mix."""
    images, labels = clothes(1200, flat=False)
    stored = images.squeeze(1).permute(1, 0, 2).contiguous()  # (28, N, 28)
    sequences = stored.view(1200, 28, 28) if sick else stored.permute(1, 0, 2).contiguous()
    model = kit.mlp([784, 64, 10], ["relu", ""])
    train = sequences.flatten(1), labels
    task = Task(model, train, loss=F.cross_entropy, optimizer=Adam(model.parameters(), 1e-3), epochs=8)
    return Arm(task, metrics.accuracy, (images.flatten(1), labels))


@case("Stack Overflow: sorted by class", "unshuffled-batches")
def batches_of_one_class(sick: bool, kit: Kit) -> Arm:
    """The file is sorted by class and the loader does not shuffle: each batch unlearns the class before."""
    images, labels = digits()
    order = labels.argsort(stable=True)
    loader = DataLoader(TensorDataset(images[order], labels[order]), batch_size=32, shuffle=not sick)
    model = kit.mlp([784, 64, 10], ["relu", ""])
    optimizer = SGD(model.parameters(), 0.1)
    task = Task(model, loader, loss=F.cross_entropy, optimizer=optimizer, epochs=8)
    return Arm(task, metrics.accuracy, (images, labels))


@case("PyTorch forum: loss jumps once an epoch", "unshuffled-batches")
def garments_from_folders(sick: bool, kit: Kit) -> Arm:
    """An image folder is read class after class, without shuffle, by a convolution network."""
    images, labels = clothes(1000, flat=False)
    order = labels.argsort(stable=True)
    loader = DataLoader(TensorDataset(images[order], labels[order]), batch_size=50, shuffle=not sick)
    layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 13 * 13, 10)]
    model = kit.started(nn.Sequential(*layers))
    task = Task(model, loader, loss=F.cross_entropy, optimizer=SGD(model.parameters(), 0.02, momentum=0.9), epochs=8)
    return Arm(task, metrics.accuracy, (images, labels))


@case("PyTorch forum: loss is nan from the first epoch on", "non-finite-data")
def missing_values(sick: bool, kit: Kit) -> Arm:
    """Empty cells of a table were read as NaN. Judged on the complete rows."""
    inputs, targets = progression()
    holes = inputs.clone()
    holes[torch.from_numpy(kit.rng.rand(*inputs.shape) < 0.01)] = float("nan")
    model = kit.mlp([10, 32, 1], ["relu", ""])
    optimizer = Adam(model.parameters(), 5e-3)
    task = Task(model, (holes if sick else inputs, targets), loss=F.mse_loss, optimizer=optimizer, epochs=80)
    return Arm(task, metrics.r2, (inputs, targets))


@case("the logarithm of a feature that can be zero", "non-finite-data")
def logarithm_of_zero(sick: bool, kit: Kit) -> Arm:
    """Columns were taken to the logarithm, and the concavity of thirteen tumours is 0."""
    raw, targets = tumours(raw=True)
    logs = torch.log(raw if sick else raw + 1e-3)
    finite = logs[torch.isfinite(logs).all(1)]
    scaled = (logs - finite.mean(0)) / finite.std(0)
    model = kit.mlp([30, 16, 1], ["relu", ""])
    task = Task(
        model, (scaled, targets), loss=nn.BCEWithLogitsLoss(), optimizer=Adam(model.parameters(), 1e-3), epochs=30
    )
    kept = torch.isfinite(scaled).all(1)
    return Arm(task, metrics.logit, (scaled[kept], targets[kept]))


class SameRow(Dataset[tuple[Tensor, Tensor]]):
    """A dataset whose `__getitem__` forgets its index."""

    def __init__(self, inputs: Tensor, labels: Tensor, forgets: bool) -> None:
        self.inputs, self.labels, self.forgets = inputs, labels, forgets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        index = 0 if self.forgets else index
        return self.inputs[index], self.labels[index]


@case(
    "PyTorch forum: a Dataset that returns the same sample", "repeated-examples", "constant-inputs", "constant-targets"
)
def dataset_that_forgets_its_index(sick: bool, kit: Kit) -> Arm:
    """Every item of the dataset is the first one."""
    inputs, labels = table("wine")
    model = kit.mlp([13, 16, 3], ["relu", ""])
    optimizer = Adam(model.parameters(), 5e-3)
    task = Task(
        model, SameRow(inputs, labels, sick), loss=F.cross_entropy, optimizer=optimizer, epochs=30, batch_size=16
    )
    return Arm(task, metrics.accuracy, (inputs, labels))


@case("oversampling by copying a few rows", "repeated-examples", "class-imbalance", "train-val-mismatch")
def five_rows_copied(sick: bool, kit: Kit) -> Arm:
    """`rows[:5] * 80` instead of a sample of 400: five digits stand for all. Judged on other digits."""
    images, labels = digits()
    rows = torch.arange(5).repeat(80) if sick else torch.arange(400)
    model = kit.mlp([784, 64, 10], ["relu", ""])
    train, other = (images[rows], labels[rows]), (images[1000:], labels[1000:])
    task = Task(model, train, val=other, loss=F.cross_entropy, optimizer=Adam(model.parameters(), 2e-3), epochs=15)
    return Arm(task, metrics.accuracy, other)


@case("Stack Overflow: validation accuracy is 0 (iris in file order)", "train-val-mismatch")
def split_of_a_sorted_file(sick: bool, kit: Kit) -> Arm:
    """The first two thirds of iris for training, the rest for validation: the third species is never seen."""
    inputs, labels = table("iris")
    order = torch.arange(150) if sick else torch.from_numpy(kit.rng.permutation(150))
    train, held = order[:100], order[100:]
    model = kit.mlp([4, 16, 3], ["relu", ""])
    optimizer, val = Adam(model.parameters(), 1e-2), (inputs[held], labels[held])
    task = Task(model, (inputs[train], labels[train]), val=val, loss=F.cross_entropy, optimizer=optimizer, epochs=40)
    return Arm(task, metrics.accuracy, val)


@case("PyTorch forum: forgot the transform of the validation set", "train-val-mismatch")
def validation_in_other_units(sick: bool, kit: Kit) -> Arm:
    """Training columns are standardized, those of the validation are as measured."""
    inputs, labels = table("wine")
    raw, _ = table("wine", raw=True)
    order = torch.from_numpy(kit.rng.permutation(178))
    train, held = order[:120], order[120:]
    val = (raw if sick else inputs)[held], labels[held]
    model = kit.mlp([13, 16, 3], ["relu", ""])
    optimizer = Adam(model.parameters(), 5e-3)
    task = Task(model, (inputs[train], labels[train]), val=val, loss=F.cross_entropy, optimizer=optimizer, epochs=40)
    return Arm(task, metrics.accuracy, val)


@case("Stack Overflow: 97 % accuracy and not one fraud found", "class-imbalance")
def three_percent_shirts(sick: bool, kit: Kit) -> Arm:
    """Shirts among other clothes, 3 in 100: the network says no to all of them. Judged by balanced accuracy."""
    images, labels = clothes(3000)
    shirts, others = (labels == 6).nonzero().flatten()[:80], (labels != 6).nonzero().flatten()[:2400]
    rows = torch.cat([shirts, others])
    train = images[rows], (labels[rows] == 6).long()
    weight = None if sick else torch.tensor([1.0, 30.0])
    model = kit.mlp([784, 32, 2], ["relu", ""])
    optimizer = SGD(model.parameters(), 0.01)
    task = Task(model, train, loss=nn.CrossEntropyLoss(weight=weight), optimizer=optimizer, epochs=6)
    return Arm(task, metrics.balanced)


@case(
    "Stack Overflow: counts of hundreds of thousands",
    "targets-not-scaled",
    "learning-rate-too-high",
    "learning-rate-too-low",
)
def targets_in_millions(sick: bool, kit: Kit) -> Arm:
    """Inputs are standardized, the targets are incomes around 1,000,000, learned by RMSprop at its default rate."""
    inputs = tensor(kit.rng.randn(600, 6))
    score = inputs @ tensor([[1.0], [-0.5], [0.8], [0.2], [0.0], [-0.7]]) + inputs[:, :1] ** 2
    score = (score - score.mean()) / score.std()
    model = kit.mlp([6, 32, 1], ["relu", ""])
    optimizer = RMSprop(model.parameters(), 1e-2)
    train = inputs, 1e6 + 2e5 * score if sick else score
    return Arm(Task(model, train, loss=F.mse_loss, optimizer=optimizer, epochs=40), metrics.r2)


@case("PyTorch forum: forecasting with raw counts", "inputs-not-scaled", "targets-not-scaled")
def passengers_by_lstm(sick: bool, kit: Kit) -> Arm:
    """Monthly passengers (100 to 700) from the twelve months before, by an LSTM whose gates saturate."""
    months = np.arange(200)
    series = (120 + 2 * months) * (1 + 0.25 * np.sin(2 * np.pi * months / 12)) + 5 * kit.rng.randn(200)
    values = series if sick else (series - series.mean()) / series.std()
    windows = np.lib.stride_tricks.sliding_window_view(values, 13)
    train = tensor(windows[:, :12, None].copy()), tensor(windows[:, 12:].copy())
    model = Forecast()
    task = Task(model, train, loss=F.mse_loss, optimizer=Adam(model.parameters(), 1e-2), epochs=40, batch_size=16)
    return Arm(task, metrics.r2)


class Forecast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, 1) -> (B, 1)
        out: Tensor = self.head(self.lstm(x)[0][:, -1])
        return out


@case("a generator that is used up", "repeated-examples", "unshuffled-batches")
def one_batch_again_and_again(sick: bool, kit: Kit) -> Arm:
    """`next(iter(loader))` in the loop, with a loader that starts over at the same place: one batch is all there is."""
    images, labels = digits()
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=not sick)

    def epoch() -> Iterator[list[Tensor]]:
        for _ in range(len(loader)):
            yield next(iter(loader)) if sick else next(again)

    again = iter(_forever(loader))
    task = Task(
        partial(kit.mlp, [784, 64, 10], ["relu", ""]),
        epoch,
        loss=F.cross_entropy,
        optimizer=partial(Adam, lr=1e-3),
        epochs=6,
    )
    return Arm(task, metrics.accuracy, (images, labels))


def _forever(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[list[Tensor]]:
    while True:
        yield from loader


@case("Stack Overflow: distances in metres, angles in radians", "inputs-not-scaled")
def one_feature_a_thousand_times_larger(sick: bool, kit: Kit) -> Arm:
    """Two features decide, one in thousands and one below 1: the network sees only the first."""
    n, r = 500, kit.rng
    metres, radians = r.uniform(0, 5000, n), r.uniform(-0.5, 0.5, n)
    labels = torch.from_numpy((np.sin(6 * radians) + (metres - 2500) / 4000 > 0).astype(np.int64))
    columns = np.stack([metres, radians], 1)
    model = kit.mlp([2, 32, 2], ["relu", ""])
    train = tensor(columns if sick else standardized(columns)), labels
    return labelled(model, train, Adam(model.parameters(), 5e-3), 40)


@case("medical columns as measured", "inputs-not-scaled", "learning-rate-too-low")
def body_measures_as_measured(sick: bool, kit: Kit) -> Arm:
    """Ten columns in their own units, the target standardized: what they have in common drowns what tells them apart."""
    columns, targets = body_measures(), progression()[1]
    model = kit.mlp([10, 24, 1], ["tanh", ""])
    train = tensor(columns if sick else standardized(columns)), targets
    task = Task(model, train, loss=F.mse_loss, optimizer=Adam(model.parameters(), 1e-2), epochs=80)
    return Arm(task, metrics.r2)
