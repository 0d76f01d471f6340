"""Remedies for rows and splits: each cures in a plain training loop, its code does the same, the user's data stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from runtrue import Remedy, Task, batches
from runtrue.checks import judge_all
from runtrue.findings import Finding
from runtrue.measure import Measurements, Plan, measure_data, measure_start
from runtrue.remedies import REMEDIES, remedies_for
from runtrue.sandbox import Sandbox, sandbox
from runtrue.splits import measure, train_and_score
from runtrue.trials import Changed, run

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.randn(600, 24, generator=drawn(0))
Y = X[:, :3].argmax(1)
VX = torch.randn(200, 24, generator=drawn(1))
VY = VX[:, :3].argmax(1)
SORTED = Y.argsort(stable=True)
SIX, VSIX = X[:, :6].argmax(1), VX[:, :6].argmax(1)
IN_ORDER = SIX.argsort(stable=True)


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, outputs))


def task(**parts: Any) -> Task:
    usual: dict[str, Any] = {
        "model": network,
        "train": (X, Y),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": SGD,
        "epochs": 5,
    }
    return Task(**(usual | parts))


class Wrapped(Dataset[Any]):
    """Twelve rows for six hundred labels."""

    def __len__(self) -> int:
        return 600

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index % 12], Y[index]


class Sorted(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(X[i], SIX[i]) for i in IN_ORDER])


RARE = (X[:, 0] > 1.8).long()  # 23 of 600


def zero(outputs: int) -> nn.Module:
    net = nn.Linear(24, outputs)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net


def rare() -> Task:
    return task(model=partial(zero, 2), train=(X, RARE), optimizer=partial(torch.optim.SGD, lr=0.005, momentum=0.9))


def sorted_task(train: Any) -> Task:
    return task(model=partial(network, 6), train=train, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9))


SICK: dict[str, Callable[[], Task]] = {
    "labels a row off": lambda: task(train=(X, Y.roll(-1))),
    "a rare class": rare,
    "a rare class, function": lambda: rare().replace(loss=F.cross_entropy),
    "a rare class, binary": lambda: rare().replace(
        model=partial(zero, 1), train=(X, RARE[:, None].float()), loss=nn.BCEWithLogitsLoss()
    ),
    "sorted, in a loader": lambda: sorted_task(DataLoader(TensorDataset(X[IN_ORDER], SIX[IN_ORDER]), 32)),
    "sorted, in a list": lambda: sorted_task([(X[r], SIX[r]) for r in IN_ORDER.split(30)]),
    "sorted, in a stream": lambda: sorted_task(Sorted()),
    "rows repeated": lambda: task(train=Wrapped()),
    "rows repeated, in tensors": lambda: task(train=(X[:12].repeat(50, 1), Y)),
    "val is train": lambda: task(val=(X, Y)),
    "val is train, in loaders": lambda: task(
        train=DataLoader(TensorDataset(X, Y), 32, shuffle=True), val=DataLoader(TensorDataset(X, Y), 64)
    ),
    "val has rows of train": lambda: task(val=(torch.cat([VX, X[:100]]), torch.cat([VY, Y[:100]]))),
    "val has rows of train, in a loader": lambda: task(
        val=DataLoader(TensorDataset(torch.cat([VX, X[:100]]), torch.cat([VY, Y[:100]])), 50)
    ),
    "split after sorting": lambda: task(
        train=(X[SORTED][:400], Y[SORTED][:400]), val=(X[SORTED][400:], Y[SORTED][400:])
    ),
    "split after sorting, in datasets": lambda: task(
        train=TensorDataset(X[SORTED][:400], Y[SORTED][:400]), val=TensorDataset(X[SORTED][400:], Y[SORTED][400:])
    ),
    "val on another scale": lambda: task(val=(VX * 0.01 + 5, VY)),
    "val on another scale, in a loader": lambda: task(val=DataLoader(TensorDataset(VX * 0.01 + 5, VY), 50)),
    "targets of val on another scale": lambda: task(
        model=partial(network, 1), train=(X, X[:, :1]), val=(VX, VX[:, :1] * 100 + 500), loss=nn.MSELoss()
    ),
}


@dataclass(frozen=True)
class Proposed:
    finding: Finding
    remedy: Remedy


def proposed(given: Task, box: Sandbox) -> list[Proposed]:
    """What the judges say of a task that was examined as a check would, and the remedies for it."""
    start, data = measure_start(box), measure_data(box)
    loss = start.loss_facts.name if start.loss_facts else None
    steps = (given.epochs or 1) * (box.batches.per_epoch or 20)
    facts = measure(box, loss)
    facts = replace(facts, trained=train_and_score(box, steps, loss=loss))
    m = Measurements(data, start, run(box, steps=40), Plan(steps, steps, True), splits=facts)
    causes = {c for c in REMEDIES if c in MINE}
    return [Proposed(f, r) for f in judge_all(m, causes) if f.severity != "note" for r in remedies_for(f, m, box)]


MINE = {
    "labels-unrelated", "class-imbalance", "unshuffled-batches", "repeated-examples", "train-val-overlap",
    "train-val-mismatch",
}  # fmt: skip


def remedies(given: Task) -> list[Remedy]:
    with sandbox(given) as box:
        return [p.remedy for p in proposed(given, box)]


@cache
def remedies_of(name: str) -> list[Remedy]:
    return remedies(SICK[name]())


def cured(sick: Task | str, which: int = 0) -> Task:
    """The task as `fix` gives it."""
    given = SICK[sick]() if isinstance(sick, str) else sick
    other = (remedies_of(sick) if isinstance(sick, str) else remedies(given))[which].apply(given)
    assert isinstance(other, Task)
    train = other.train.settled() if isinstance(other.train, Changed) else other.train
    return other.replace(train=train)


def fit(given: Task, epochs: int = 8) -> nn.Module:
    """A plain loop. Tensors are shuffled, as the user's own loop does; anything else gives its batches as it likes."""
    torch.manual_seed(1)
    built = given.built()
    assert isinstance(built.model, nn.Module) and given.loss is not None and callable(given.optimizer)
    optimizer = given.optimizer(built.model.parameters())
    source = given.train
    if isinstance(source, (TensorDataset, Dataset)) and not isinstance(source, IterableDataset):
        source = DataLoader(source, 32, shuffle=True)
    elif batches.is_pair(source):
        source = DataLoader(TensorDataset(*source), 32, shuffle=True)
    elif isinstance(source, IterableDataset):
        source = DataLoader(source, 32)
    for _ in range(epochs):
        for inputs, targets in source:
            optimizer.zero_grad()
            given.loss(built.model(inputs), targets).backward()
            optimizer.step()
    return built.model.eval()


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        return float((model(inputs).argmax(1) == targets).float().mean())


def pairs_of(source: Any) -> tuple[Tensor, Tensor]:
    if batches.is_pair(source):
        return source[0], source[1]
    if isinstance(source, Dataset):
        source = DataLoader(source, 64)
    taken = list(source)
    return torch.cat([b[0] for b in taken]), torch.cat([b[1] for b in taken])


@pytest.mark.parametrize("name", SICK)
def test_the_data_stay_as_they_are(name: str) -> None:
    given, found = SICK[name](), remedies_of(name)
    tensors = [t.clone() for t in (X, Y, VX, VY)]
    assert found and len({r.name for r in found}) == len(found)
    for remedy in found:
        compile(remedy.code, remedy.name, "exec")
        other = remedy.apply(given)
        assert other.train is not None
    assert all(torch.equal(a, b) for a, b in zip(tensors, (X, Y, VX, VY)))


@pytest.mark.parametrize("name", [n for n in SICK if n.startswith(("labels", "sorted", "rows"))])
def test_a_trial_sees_the_cure(name: str) -> None:
    """The same number of steps: the treated run ends lower, and is the same whenever it is run."""
    with sandbox(SICK[name]()) as box:
        (found,) = proposed(SICK[name](), box)
        ends = [run(box, found.remedy.treat, steps=60).losses for _ in range(2)]
        assert ends[0] == ends[1]
        plain = run(box, steps=60).end
    assert sum(ends[0][-12:]) / 12 < 0.7 * plain


# -- one by one, in a plain loop


@pytest.mark.parametrize("rows", [1, -2])
def test_labels_go_back_to_their_rows(rows: int) -> None:
    given = task(train=(X, Y.roll(-rows)))
    assert accuracy(fit(given), VX, VY) < 0.5
    other = cured(given)
    assert accuracy(fit(other), VX, VY) > 0.8
    inputs, targets = pairs_of(other.train)
    assert torch.equal(inputs[:, :3].argmax(1), targets) and len(inputs) == 600 - abs(rows)
    (remedy,) = remedies(given)
    names: dict[str, Any] = {"inputs": X, "targets": Y.roll(-rows)}
    exec(remedy.code, names)
    assert torch.equal(names["inputs"], inputs) and torch.equal(names["targets"], targets)


def test_labels_that_were_shuffled_have_no_remedy() -> None:
    assert remedies(task(train=(X, Y[torch.randperm(600, generator=drawn(8))]))) == []


def recall(model: nn.Module, rare_rows: Tensor) -> float:
    with torch.no_grad():
        outputs = model(X)
    answers = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    return float((answers[rare_rows == 1] == 1).float().mean())


@pytest.mark.parametrize("name", ["a rare class", "a rare class, function", "a rare class, binary"])
@pytest.mark.parametrize("which", [0, 1], ids=["weights", "sampler"])
def test_a_rare_class_is_recognised(name: str, which: int) -> None:
    given = SICK[name]()
    assert recall(fit(given, 5), RARE) < 0.1
    assert recall(fit(cured(name, which), 5), RARE) > 0.6


def test_weights_give_every_class_the_same_say() -> None:
    share = RARE.float().mean()
    loss = cured("a rare class").loss
    assert isinstance(loss, nn.CrossEntropyLoss) and loss.weight is not None
    torch.testing.assert_close(loss.weight, torch.stack([0.5 / (1 - share), 0.5 / share]))
    binary = cured("a rare class, binary").loss
    assert isinstance(binary, nn.BCEWithLogitsLoss) and binary.pos_weight is not None
    assert float(binary.pos_weight) == pytest.approx(float((1 - share) / share))
    names: dict[str, Any] = {"nn": nn, "torch": torch}
    exec(remedies_of("a rare class")[0].code, names)
    torch.testing.assert_close(names["loss_fn"].weight, loss.weight, rtol=1e-3, atol=1e-3)


def test_other_settings_of_the_loss_are_kept() -> None:
    smooth = nn.CrossEntropyLoss(label_smoothing=0.05, ignore_index=7)
    loss = cured(rare().replace(loss=smooth)).loss
    assert isinstance(loss, nn.CrossEntropyLoss)
    assert (loss.label_smoothing, loss.ignore_index) == (0.05, 7) and smooth.weight is None


def test_a_loss_of_the_users_own_gets_the_sampler_alone() -> None:

    def own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    own = rare().replace(loss=own_loss)
    assert [r.name for r in remedies(own)] == ["draw every class as often"]


def test_the_sampler_draws_classes_as_often_and_keeps_rows_whole() -> None:
    inputs, targets = pairs_of(cured("a rare class", 1).train)
    assert len(inputs) >= 599 and float(targets.float().mean()) == pytest.approx(0.5, abs=0.1)
    assert torch.equal((inputs[:, 0] > 1.8).long(), targets)


@pytest.mark.parametrize("name", [n for n in SICK if n.startswith("sorted")])
def test_shuffled_rows_can_be_learned(name: str) -> None:
    given = SICK[name]()
    assert accuracy(fit(given, 3), VX, VSIX) < 0.5
    other = cured(name)
    assert accuracy(fit(other, 3), VX, VSIX) > 0.65
    inputs, targets = pairs_of(other.train)
    assert torch.equal(inputs.sort(0).values, X.sort(0).values) and torch.equal(inputs[:, :6].argmax(1), targets)
    assert not torch.equal(pairs_of(other.train)[0], inputs), "a new order each epoch"


def test_a_shuffling_loader_stays_a_loader() -> None:
    train = cured("sorted, in a loader").train
    assert isinstance(train, DataLoader) and train.batch_size == 32


@pytest.mark.parametrize("name", ["rows repeated", "rows repeated, in tensors"])
def test_each_row_stays_once(name: str) -> None:
    given = SICK[name]()
    other = cured(name)
    inputs, targets = pairs_of(other.train)
    assert len(inputs) == 12 == len(inputs.unique(dim=0))
    assert accuracy(fit(other, 100), inputs, targets) == 1.0
    assert accuracy(fit(given, 20), *pairs_of(given.train)) < 0.6


def test_rows_held_out_are_not_trained_on() -> None:
    for name in ("val is train", "val is train, in loaders"):
        other = cured(name)
        train, val = pairs_of(other.train)[0], pairs_of(other.val)[0]
        assert (len(train), len(val)) == (480, 120)
        assert len(torch.cat([train, val]).unique(dim=0)) == 600
        assert accuracy(fit(other), *pairs_of(other.val)) > 0.8


@pytest.mark.parametrize("name", [n for n in SICK if n.startswith("val has rows")])
def test_only_rows_that_train_lacks_are_left_in_val(name: str) -> None:
    other = cured(name)
    inputs, targets = pairs_of(other.val)
    assert torch.equal(inputs.sort(0).values, VX.sort(0).values) and torch.equal(inputs[:, :3].argmax(1), targets)


@pytest.mark.parametrize("name", [n for n in SICK if n.startswith("split after")])
def test_a_new_split_has_every_class_in_both(name: str) -> None:
    given = SICK[name]()
    assert accuracy(fit(given), *pairs_of(given.val)) < 0.35
    other = cured(name)
    train, val = pairs_of(other.train), pairs_of(other.val)
    assert (len(train[0]), len(val[0])) == (400, 200) and len(torch.cat([train[0], val[0]]).unique(dim=0)) == 600
    assert set(train[1].tolist()) == set(val[1].tolist()) == {0, 1, 2}
    assert accuracy(fit(other), *val) > 0.8


@pytest.mark.parametrize("name", ["val on another scale", "val on another scale, in a loader"])
def test_inputs_of_val_come_to_the_scale_of_train(name: str) -> None:
    given = SICK[name]()
    model = fit(given)
    assert accuracy(model, *pairs_of(given.val)) < 0.6
    inputs, targets = pairs_of(cured(name).val)
    assert accuracy(model, inputs, targets) > 0.75
    assert float(inputs.mean()) == pytest.approx(float(X.mean()), abs=0.02)
    assert float(inputs.std()) == pytest.approx(float(X.std()), rel=0.05)


def test_targets_of_val_come_to_the_scale_of_train() -> None:
    _, targets = pairs_of(cured("targets of val on another scale").val)
    assert float(targets.mean()) == pytest.approx(float(X[:, 0].mean()), abs=0.02)
    assert float(targets.std()) == pytest.approx(float(X[:, 0].std()), rel=0.05)


def test_what_val_is_worth_after_the_cure_is_scored() -> None:
    """What the engine asks: the skill on val, untreated and treated, where no training loss can tell."""
    for name in ("val on another scale", "split after sorting"):
        with sandbox(SICK[name]()) as box:
            found = proposed(SICK[name](), box)[0]
            before = train_and_score(box, 100, loss="cross_entropy")
            after = train_and_score(box, 100, found.remedy.treat, loss="cross_entropy")
        assert before is not None and after is not None and before.val_skill is not None and after.val_skill is not None
        assert before.val_skill < 0.3 < 0.5 < after.val_skill, name


def test_a_change_that_stands_already_is_kept() -> None:
    """Another remedy changed every batch: the redrawn ones are changed as well."""
    given = SICK["sorted, in a list"]()
    with sandbox(given) as box:
        (found,) = proposed(given, box)
        marked = Changed(given.train, lambda batch: (batch[0] * 0 + 7, batch[1]))
        treated = found.remedy.treat(box.start().replace(train=marked))
        assert isinstance(treated.train, Changed)
        inputs, targets = treated.train.change(box.batch(0))
        assert bool((inputs == 7).all()) and len(set(targets.tolist())) > 2
        settled = next(iter(treated.train.settled()))
        assert bool((settled[0] == 7).all())
