"""A LightningModule as a task: against a real Trainer, on sick and healthy modules, and without a trace in the user's objects."""

from __future__ import annotations

import copy
import math
import random
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

pl = pytest.importorskip("pytorch_lightning")

import lightning_modules as samples  # noqa: E402
from lightning_modules import HEALTHY, SICK, Classifier, Clothes, images  # noqa: E402

import runtrue  # noqa: E402
from runtrue import lightning_task  # noqa: E402
from runtrue.lightning_task import task_of  # noqa: E402
from runtrue.lightning_task.code import in_module, scheduled  # noqa: E402
from runtrue.lightning_task.data import Together  # noqa: E402
from runtrue.lightning_task.optimizer import Configured  # noqa: E402
from runtrue.lightning_task.whole import WholeStep  # noqa: E402
from runtrue.sandbox import sandbox  # noqa: E402
from runtrue.tape import LossCalls  # noqa: E402
from runtrue.task import Task, TaskError, forward  # noqa: E402


def checked(kind: type, budget: float = 12.0, epochs: int | None = 10) -> tuple[Task, runtrue.Report]:
    data = lightning_task.data_module_in(vars(samples), kind)
    task = task_of(kind, data, epochs=epochs)
    return task, lightning_task.spoken(runtrue.check(task, budget=budget), task)


# -- the verdicts


def slow_unless(kind: type, quick: tuple[type, ...]) -> Any:
    return pytest.param(kind, id=kind.__name__, marks=() if kind in quick else pytest.mark.slow)


QUICK_SICK = (samples.InlineSoftmax, samples.LabelsFromOne)
QUICK_HEALTHY = (samples.Dicts, samples.Noisy, samples.Warmup, samples.Student)
CURES = {
    samples.SoftmaxInNet: r"# at the end of __init__\nself.net\[4\] = nn.Identity\(\)  # was: softmax",
    samples.InlineSoftmax: r"# in forward of the model: leave out the softmax behind the last layer",
    samples.SoftmaxInStep: r"# in the loss: leave out the softmax behind the last layer",
    samples.LabelsFromOne: r"# in training_step\ntargets = targets - 1",
    samples.RateTooHigh: r"# in configure_optimizers\noptimizer = torch.optim.Adam\(self.parameters\(\), lr=0.00?3\)",
    samples.Forgetful: r"# in configure_optimizers\noptimizer = torch.optim.Adam\(self.parameters\(\), lr=0.001\)",
    samples.TinyWeights: r"# at the end of __init__\nfrom torch import nn(.|\n)*layer = self.get_submodule\(name\)",
    samples.ReluOutput: r"# at the end of __init__\nself.net\[6\] = nn.Identity\(\)  # was: relu",
}


@pytest.mark.parametrize("kind", [slow_unless(kind, QUICK_SICK) for kind in SICK])
def test_the_fault_of_a_sick_module_is_named_first(kind: type) -> None:
    _, report = checked(kind, epochs=2 if "Softmax" in kind.__name__ else 10)
    assert report.faults and report.faults[0].cause == SICK[kind], report.faults
    assert report.faults[0].remedy is not None
    assert re.match(CURES[kind], report.faults[0].remedy.code), report.faults[0].remedy.code


@pytest.mark.parametrize("kind", [slow_unless(kind, QUICK_HEALTHY) for kind in HEALTHY])
def test_a_healthy_module_has_no_fault(kind: type) -> None:
    _, report = checked(kind, budget=5)
    assert report.ok, report.faults


# -- a Trainer does the same


class Recorded(Clothes):
    """The same batches in the same order for the Trainer and for us."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(*images(200)), 50)


def trained_by_lightning(module: Any) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers and logging intervals
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(module, Recorded())
    weights: dict[str, Tensor] = module.state_dict()
    return weights


def trained_by_us(task: Task) -> dict[str, Tensor]:
    model = task.model
    assert isinstance(model, nn.Module) and callable(task.optimizer)
    optimizer = task.optimizer(model.parameters())
    for batch in task.train:
        optimizer.zero_grad()
        forward(task, model, batch)[1].backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("kind", [Classifier, samples.Inline, samples.Moved, samples.Encoder, samples.SoftmaxInStep])
def test_the_steps_are_those_of_a_trainer(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(3)
    module = kind()
    task = task_of(module, Recorded())
    assert task.step is None, "told apart"
    ours, theirs = trained_by_us(task), trained_by_lightning(module)
    weights = [name for name, _ in module.named_parameters()]
    assert weights and all(torch.equal(ours[name], theirs[name]) for name in weights)


def test_a_step_that_draws_random_numbers_is_run_as_a_whole() -> None:
    torch.manual_seed(3)
    module = samples.Noisy()
    task = task_of(module, Recorded())
    assert task.step is not None and task.loss is None
    for seeded in (random.seed, torch.manual_seed):
        seeded(5)
    ours = trained_by_us(task)
    for seeded in (random.seed, torch.manual_seed):
        seeded(5)
    expected = module
    optimizer = Adam(expected.parameters(), lr=2e-3)
    for batch in Recorded().train_dataloader():
        optimizer.zero_grad()
        expected.training_step(batch, 0).backward()
        optimizer.step()
    assert all(torch.equal(ours[name], p) for name, p in expected.named_parameters())


def test_what_a_network_wants_of_itself_is_no_skill() -> None:
    """The loss against the teacher is not seen from outside; the loss itself is whole."""
    task = task_of(samples.Student, Recorded)
    assert isinstance(task.step, WholeStep) and task.step.hidden == {1} and isinstance(task.model, nn.Module)
    batch = next(iter(task.train))
    with LossCalls() as seen:
        loss = task.step(task.model, batch)
    assert [call.name for call in seen.calls] == ["cross_entropy"]
    model: Any = task.model
    outputs, wanted = model.net(batch[0]), model.teacher(batch[0])
    assert torch.equal(loss, F.cross_entropy(outputs, batch[1]) + 0.1 * F.mse_loss(outputs, wanted))


# -- no trace


def everything(holder: Any) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in vars(holder).items() if not name.startswith("_modules")}


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(type(one) is type(other) and (one == other or not hasattr(type(one), "__eq__") or callable(one)))


def test_the_users_objects_and_random_numbers_are_as_before() -> None:
    module: Any = samples.SoftmaxInStep()
    data = Clothes()
    module.training_step_outputs = [1]
    module.eval()
    before = [everything(part) for part in module.modules()], dict(vars(data)), module.hparams.copy()
    state = torch.get_rng_state(), random.getstate()
    task = task_of(module, data, epochs=3)
    runtrue.check(task, budget=3)
    after = [everything(part) for part in module.modules()], dict(vars(data)), module.hparams.copy()
    assert all(map(alike, before[0], after[0])) and before[1:] == after[1:]
    assert module._trainer is None and "forward" not in vars(module) and "log" not in vars(module)
    assert torch.equal(state[0], torch.get_rng_state()) and state[1] == random.getstate()
    assert task.model is not module


def test_a_class_gives_the_same_weights_for_the_same_seed() -> None:
    models: list[Any] = [task_of(Classifier, Clothes, seed=seed).model for seed in (1, 1, 2)]
    one, same, other = (model.net[1].weight for model in models)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_the_fixed_task_is_a_copy() -> None:
    task = task_of(samples.SoftmaxInNet, Clothes, epochs=2)
    report = runtrue.check(task, budget=10, only=["softmax-before-cross-entropy"])
    cured: Any = runtrue.fix(task, report).task
    given: Any = task.model
    assert cured.model is not given and isinstance(given.net[4], nn.Softmax)
    assert isinstance(cured.model.net[4], nn.Identity) and cured.loss.module is cured.model


# -- what Lightning gives and takes


def test_lightning_is_not_imported_by_us() -> None:
    code = "import sys, runtrue.targets; print([m for m in ('pytorch_lightning', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_lightning_is_known_by_both_of_its_names() -> None:
    base = type("LightningModule", (nn.Module,), {"__module__": "lightning.pytorch.core.module"})
    own = type("Own", (base,), {"__module__": "train", "setup": lambda self, stage: None})
    assert lightning_task.is_module(own) and lightning_task.is_module(Classifier) and lightning_task.is_module(own())
    assert not lightning_task.is_module(nn.Linear(1, 1)) and not lightning_task.is_module(Clothes)
    stranger = type("LightningModule", (nn.Module,), {"__module__": "lightning"})  # a file of the user's own
    assert not lightning_task.is_module(stranger)
    assert lightning_task.is_data_module(Clothes) and lightning_task.is_data_module(Clothes())


def test_what_modules_ask_their_trainer() -> None:
    class Asks(Classifier):
        def configure_optimizers(self) -> Any:
            trainer: Any = self.trainer
            asked.update(
                steps=trainer.estimated_stepping_batches, batches=trainer.num_training_batches, epochs=trainer.max_epochs,
                size=trainer.datamodule.hparams["batch_size"], again=trainer.fit_loop.setup_data(), rank=self.global_rank,
                epoch=self.current_epoch, schedules=self.lr_schedulers(), loader=len(trainer.train_dataloader),
                device=str(self.device),
            )  # fmt: skip
            return super().configure_optimizers()

    asked: dict[str, Any] = {}
    task_of(Asks, Clothes, epochs=7)
    expected = {"steps": 140, "batches": 20, "epochs": 7, "size": 50, "loader": 20, "rank": 0, "epoch": 0}
    assert {key: asked[key] for key in expected} == expected
    assert asked["again"] is None and asked["schedules"] is None and asked["device"] == "cpu"


def test_how_long_is_among_the_hyperparameters() -> None:
    class Planned(Classifier):
        def __init__(self, max_epochs: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert task_of(Planned, Clothes).epochs == 4 and task_of(Planned, Clothes, epochs=2).epochs == 2
    assert task_of(Classifier, Clothes).epochs is None


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("pl.Trainer(max_epochs=12)", 12),
        ("Trainer(max_epochs=12, logger=False)\nTrainer(max_epochs=12)", 12),
        ("Trainer(max_epochs=1)\nTrainer(max_epochs=12)", None),
        ("Trainer(max_epochs=n)", None),
        ("Trainer(max_epochs=-1)", None),
        ("x = 1", None),
        ("x = ", None),
    ],
)
def test_how_long_a_file_trains(tmp_path: Path, text: str, epochs: int | None) -> None:
    file = types.ModuleType("file")
    file.__file__ = str(tmp_path / "file.py")
    (tmp_path / "file.py").write_text(text, encoding="utf-8")
    assert lightning_task.epochs_in(file) == epochs


def rates_of(optimizers: Any, epochs: int = 10) -> Configured:
    class Scheduled(Classifier):
        def configure_optimizers(self) -> Any:
            return optimizers(self)

    made = task_of(Scheduled, Recorded, epochs=epochs).optimizer
    assert isinstance(made, Configured)
    return made


def test_a_schedule_is_tried_at_one_rate() -> None:
    schedule = torch.optim.lr_scheduler

    def decays(module: Any) -> Any:
        optimizer = SGD(module.parameters(), lr=0.4)
        return {"optimizer": optimizer, "lr_scheduler": schedule.StepLR(optimizer, 5, gamma=0.1)}

    def rises(module: Any) -> Any:
        optimizer = SGD(module.parameters(), lr=0.4)
        rule = schedule.LambdaLR(optimizer, lambda step: step / 39)
        return [optimizer], [{"scheduler": rule, "interval": "step"}]

    def by_epoch(module: Any) -> Any:
        groups = [{"params": module.net[1].parameters(), "lr": 0.1}, {"params": module.net[3].parameters()}]
        optimizer = SGD(groups, lr=0.4)
        return ([optimizer], schedule.LambdaLR(optimizer, lambda epoch: epoch / 9))

    assert rates_of(decays).rates == (0.4,), "the rate that it begins with"
    assert rates_of(rises).rates == pytest.approx((0.2,)), "the mean of 0, 0.4 / 39, … 0.4 over 40 steps"
    assert rates_of(rises).peak == pytest.approx(2.0)
    assert rates_of(by_epoch).rates == pytest.approx((0.05, 0.2)), "a rate for each group"
    assert rates_of(lambda m: [SGD(m.parameters(), lr=0.3)]).rates is None
    made = rates_of(rises)
    assert [group["lr"] for group in made(made.module.parameters()).param_groups] == pytest.approx([0.2])


def test_code_as_it_stands_in_a_module() -> None:
    behind = in_module("model = nn.Sequential(model, nn.LogSoftmax(dim=1))")
    assert (
        behind
        == "# in training_step\noutputs = nn.LogSoftmax(dim=1)(outputs)  # behind the last layer, before the loss"
    )
    loop = in_module('from torch import nn\n\nfor name in ("net.1",):\n    layer = model.get_submodule(name)')
    assert (
        loop.startswith("# at the end of __init__\nfrom torch import nn\n\nfor name") and "self.get_submodule" in loop
    )
    assert in_module("# in the loss: leave out the softmax") == "# in the loss: leave out the softmax"
    scaled = in_module("mean, std = inputs.mean(0), inputs.std(0)\ninputs = (inputs - mean) / std")
    assert scaled.split("\n")[0] == "# where the data are made" and scaled.count("#") == 1
    two = in_module("for p in ():\n    pass\noptimizer = torch.optim.Adam(model.parameters(), lr=1)").split("\n")
    assert two[-2:] == ["# in configure_optimizers", "optimizer = torch.optim.Adam(self.parameters(), lr=1)"]
    half = Configured(nn.Linear(1, 1), (0.5,), ("LambdaLR",), 2.0)
    said = scheduled("optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)", half)
    assert said.startswith(
        "optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)\n# before LambdaLR, which is"
    )


def test_the_forms_of_data() -> None:
    x, y = images(120)
    pairs = TensorDataset(x, y)
    for data in ((x, y), pairs, DataLoader(pairs, 30), lambda: (x, y), [(x[:60], y[:60]), (x[60:], y[60:])], Clothes):
        task = task_of(Classifier, data)
        with sandbox(task) as box:
            outputs, loss = box.loss(box.start(), box.batch(0))
        assert task.step is None and outputs.shape[1:] == (10,) and math.isfinite(loss)
    assert task_of(Classifier, Clothes).val is not None


def test_several_loaders_make_one_batch() -> None:
    six: Any = torch.arange(6)
    a: DataLoader[Any] = DataLoader(six, 2)
    b: DataLoader[Any] = DataLoader(six[:3], 2)
    assert [[part.tolist() for part in batch] for batch in Together([a, b])] == [
        [[0, 1], [0, 1]], [[2, 3], [2]], [[4, 5], [0, 1]],
    ]  # fmt: skip
    assert [batch["b"].tolist() for batch in Together({"a": a, "b": b})] == [[0, 1], [2], [0, 1]]


# -- what cannot be checked is said in one line


def step(self: Any, batch: Any, batch_idx: int) -> Any:
    return F.cross_entropy(self(batch[0]), batch[1])


def manual(self: Any, lr: float = 0.1) -> None:
    Classifier.__init__(self, lr)
    self.automatic_optimization = False


def needs(self: Any, hidden: int, lr: float) -> None:
    Classifier.__init__(self, lr)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "manual": ({"__init__": manual}, r"steps its optimizers itself \(automatic_optimization = False\).*runtrue.Task"),
    "two": (
        {"configure_optimizers": lambda self: [Adam(self.net.parameters()), SGD(self.net.parameters(), lr=1.0)]},
        r"returned 2 optimizers \(Adam, SGD\): a check trains with one loss and one optimizer",
    ),
    "two dicts": (
        {"configure_optimizers": lambda self: [{"optimizer": Adam(self.parameters())} for _ in range(2)]},
        r"returned 2 optimizers \(Adam, Adam\)",
    ),
    "none": ({"configure_optimizers": lambda self: None}, "configure_optimizers returned None: Lightning would train nothing"),
    "text": ({"configure_optimizers": lambda self: "adam"}, "configure_optimizers returned an object of type str"),
    "fails": ({"configure_optimizers": lambda self: self.nett}, "configure_optimizers failed: AttributeError.*nett"),
    "needs": ({"__init__": needs}, r"Module needs arguments \(missing a required argument: 'hidden'\).*write a function"),
    "setup": ({"setup": lambda self, stage: dict[str, int]()["x"]}, "Module.setup failed: KeyError: 'x'"),
    "no loss": ({"training_step": lambda self, batch, i: None}, r"returned no loss \(None\).*Lightning skips such a batch"),
    "no key": ({"training_step": lambda self, batch, i: {"l": 1}}, r"returned a dict without 'loss' \(it has: l\)"),
    "number": ({"training_step": lambda self, batch, i: 3.0}, "returned an object of type float, not a loss tensor"),
    "iterator": ({"training_step": lambda self, dataloader_iter: None}, "draws its own batches"),
    "trainer": (
        {"training_step": lambda self, b, i: step(self, b, i) * self.trainer.mine},
        "Module.training_step cannot take this batch.*a check has no Trainer, and what stands in for it has no 'mine'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_line(name: str) -> None:
    body, said = WRONG[name]
    kind = type("Module", (Classifier,), body)
    with pytest.raises(TaskError, match=said) as raised:
        runtrue.check(task_of(kind, Clothes), budget=1)
    assert "\n" not in str(raised.value)


def test_missing_data_are_said_in_one_line() -> None:
    class Empty(Clothes):
        def train_dataloader(self) -> Any:
            return None

    with pytest.raises(TaskError, match="Classifier has no train_dataloader, and no data were named: add --data"):
        task_of(Classifier)
    with pytest.raises(TaskError, match=r"Empty.train_dataloader returned None"):
        task_of(Classifier, Empty)
    with pytest.raises(TaskError, match=r"several data modules \(Clothes, Empty\): say which by --data"):
        lightning_task.data_module_in({"Clothes": Clothes(), "Empty": Empty()}, Classifier)
    assert lightning_task.data_module_in({"Clothes": Clothes, "Empty": Empty}, Classifier) is Empty, (
        "the last of a line"
    )
    with pytest.raises(TaskError, match="is of type Linear, not a LightningModule"):
        task_of(nn.Linear(2, 2), Clothes)


def test_targets_that_the_loss_brings_into_range_are_in_range() -> None:
    """What BCE sees counts, not what the batch holds."""
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    task = Task(
        nn.Linear(6, 6), (x, 3 * x), epochs=5, optimizer=lambda p: Adam(p, lr=0.05),
        loss=lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs, targets.clamp(0, 1)),
    )  # fmt: skip
    assert runtrue.check(task, budget=2, only=["labels-out-of-range"]).ok
    bare = task.replace(loss=nn.BCEWithLogitsLoss())
    assert runtrue.check(bare, budget=2, only=["labels-out-of-range"]).faults[0].cause == "labels-out-of-range"


def test_a_module_is_checked_from_python_as_well() -> None:
    report = runtrue.check(samples.LabelsFromOne(), train=samples.Clothes(), epochs=10, budget=12)
    assert report.faults[0].cause == "labels-out-of-range"
    assert report.faults[0].remedy is not None and "training_step" in report.faults[0].remedy.code
    with pytest.raises(TaskError, match="brings its loss, optimizer itself"):
        runtrue.check(samples.LabelsFromOne(), train=samples.Clothes(), loss=F.cross_entropy, optimizer=SGD)
