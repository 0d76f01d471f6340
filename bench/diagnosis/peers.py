"""Other installable tools on the same arms, each driven as its documentation says, in an environment of their own.

Run: `python bench/diagnosis/peers.py --peers-python PEERS/bin/python [--set report] [--only PATTERN] [--limit N] [--steps 200]`;
README.md says how to install them. Every tool sees the training of each arm for the same steps. What it says is mapped to cause
ids by the table beside its adapter, as generously as is honest: a text that names no cause ("not learning") is an alarm without
a name, and a training that stops with an error is nobody's alarm. pulseml is not driven: it is a terminal program around a
language model and a hosted dashboard.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from diagnosis import loop
from diagnosis.hosts import in_hand
from diagnosis.parts import Arm, Case
from diagnosis.sets import SETS

Causes = tuple[str, ...]
Rules = tuple[tuple[str, Causes], ...]
"""Pattern in what a tool says -> the causes that this names. The first that fits counts; () is an alarm without a name."""


@dataclass(frozen=True)
class Moment:
    """A training step between backward and the optimizer's step."""

    number: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    inputs: Tensor
    targets: Tensor
    loss: float

    @property
    def gradient_norm(self) -> float:
        found = [p.grad.norm() for p in self.model.parameters() if p.grad is not None]
        return float(torch.stack(found).norm()) if found else 0.0

    @property
    def rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


def training(arm: Arm, steps: int, optimizer: torch.optim.Optimizer | None = None) -> Iterator[Moment]:
    """The plain loop of `loop.fit` for so many steps; ends early where the training stops with an error."""
    task = arm.task
    model, made = task.model, optimizer or task.optimizer
    assert isinstance(model, nn.Module) and isinstance(made, torch.optim.Optimizer)
    each, number = loop.epochs_of(task.train, task.batch_size), 0
    model.train()
    while number < steps:
        for inputs, targets in each():
            made.zero_grad()
            try:
                loss = loop.loss_of(task, model, (inputs, targets))
                loss.backward()
            except (RuntimeError, IndexError, ValueError):
                return
            yield Moment(number, model, made, inputs, targets, float(loss.detach()))
            made.step()
            number += 1
            if number >= steps:
                return


# -- one function a tool: what it says of an arm, and what that names


def torchdiag(arm: Arm, steps: int) -> list[str]:
    """`check_gradients`, `check_dead_neurons` and `verify_step` print; at the start and after half of the steps."""
    tool = importlib.import_module("torchdiag")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        tool.summary(arm.task.model)
        for moment in training(arm, steps // 2 + 1):
            if moment.number in (0, steps // 2):
                tool.check_gradients(moment.model)
                tool.check_dead_neurons(moment.model, moment.inputs)
        inputs, targets = next(iter(loop.epochs_of(arm.task.train, arm.task.batch_size)()))
        tool.verify_step(arm.task.model, arm.task.optimizer, arm.task.loss, inputs, targets)
    return [line.strip() for line in said.getvalue().splitlines()]


TORCHDIAG: Rules = (
    ("ALL parameters are frozen", ("parameters-frozen",)),
    ("gradient is None|None gradients", ("graph-detached", "parameters-frozen", "parameters-not-optimized")),
    (r"— exploding", ("exploding-gradient",)),
    (r"— vanishing", ("vanishing-gradient",)),
    (r"neurons dead$", ("dead-units",)),
    ("No parameters changed", ("parameters-not-optimized", "parameters-frozen", "learning-rate-too-low")),
    ("not finite|failed:", ()),
)


def traintools(arm: Arm, steps: int) -> list[str]:
    """`BatchInspector` and `GradientHealthMonitor` at their defaults, every tenth step."""
    tool = importlib.import_module("traintools")
    batches, gradients = tool.BatchInspector(), tool.GradientHealthMonitor()
    said = []
    for moment in training(arm, steps):
        if moment.number % 10 == 0:
            said += batches.inspect(moment.inputs, moment.targets, step=moment.number).warnings
            said += gradients.inspect(moment.model, step=moment.number, lr=moment.rate).warnings
    return [str(text) for text in said]


TRAINTOOLS: Rules = (
    ("non-finite values", ("non-finite-data",)),
    ("inputs.*abs max", ("inputs-not-scaled",)),
    ("targets.*abs max", ("targets-not-scaled",)),
    ("inputs.*nearly constant", ("constant-inputs",)),
    ("targets.*nearly constant", ("constant-targets",)),
    ("dominant class", ("class-imbalance", "unshuffled-batches", "constant-targets")),
    ("labels outside", ("labels-out-of-range",)),
    ("vanish", ("vanishing-gradient",)),
    ("explod", ("exploding-gradient",)),
    ("update.*ratio", ("learning-rate-too-high", "learning-rate-too-low")),
    (".", ()),
)


def torchtest2(arm: Arm, steps: int) -> list[str]:
    """`check_model` on one batch with loss and optimizer. What it calls FAIL is an alarm, WARN is not."""
    tool = importlib.import_module("torchtest2")
    task = arm.task
    inputs, targets = next(iter(loop.epochs_of(task.train, task.batch_size)()))
    report = tool.check_model(task.model, inputs, targets, loss_fn=task.loss, optimizer=task.optimizer)
    return [f"{found.name}: {found.message}" for found in report.results if found.status.value == "FAIL"]


TORCHTEST2: Rules = (
    ("^optimizer_coverage", ("parameters-not-optimized",)),
    ("^frozen_params", ("parameters-frozen",)),
    ("^gradient_flow", ("graph-detached", "parameters-frozen", "dead-units", "init-symmetric")),
    ("^params_change", ("parameters-not-optimized", "parameters-frozen", "learning-rate-too-low")),
    ("^initial_loss", ("init-too-large",)),
    ("^loss:.*not connected", ("graph-detached", "parameters-frozen")),
    ("^gradient_magnitude", ("exploding-gradient", "init-too-large")),
    ("^output_finite", ("non-finite-data",)),
    (".", ()),
)


def torcheck(arm: Arm, steps: int) -> list[str]:
    """All checks on the whole module; for classes "the output is not within (0, 1)", as its documentation proposes. It raises."""
    tool = importlib.import_module("torcheck")
    model, optimizer, targets = arm.task.model, arm.task.optimizer, arm.examination[1]
    try:
        tool.register(optimizer)
        of_classes = {} if targets.is_floating_point() else {"output_range": (0, 1), "negate_range": True}
        tool.add_module(model, module_name="model", changing=True, check_nan=True, check_inf=True, **of_classes)
        task, each = arm.task, loop.epochs_of(arm.task.train, arm.task.batch_size)
        assert isinstance(model, nn.Module) and isinstance(optimizer, torch.optim.Optimizer)
        for _, (inputs, labels) in zip(range(steps), each()):
            optimizer.zero_grad()
            loop.loss_of(task, model.train(), (inputs, labels)).backward()
            optimizer.step()
    except (RuntimeError, IndexError, ValueError) as error:  # its own, or the training's, which no rule knows
        return [str(error)]
    return []


TORCHECK: Rules = (
    ("belong to any optimizer", ("parameters-not-optimized",)),
    (
        "should change",
        ("parameters-frozen", "parameters-not-optimized", "graph-detached", "dead-units", "init-symmetric"),
    ),
    (
        "shouldn't all|should not all",
        ("softmax-before-cross-entropy", "sigmoid-before-bce-with-logits", "output-activation-mismatch"),
    ),
    ("NaN|infin", ()),
)


def torchmortem(arm: Arm, steps: int) -> list[str]:
    """`Autopsy` at its defaults."""
    tool = importlib.import_module("torchmortem")
    with tool.Autopsy(arm.task.model, optimizer=arm.task.optimizer) as autopsy:
        for moment in training(arm, steps):
            autopsy.step(loss=moment.loss)
    report = autopsy.get_report()
    severe = [found for found in report.findings if found.severity > 0]  # above INFO
    return [found.title for found in severe]


TORCHMORTEM: Rules = (
    ("Vanishing|stalling", ("vanishing-gradient",)),
    ("Exploding", ("exploding-gradient",)),
    ("Dead units", ("dead-units",)),
    ("saturation", ("saturating-activation",)),
    ("ratio too low", ("learning-rate-too-low",)),
    ("ratio too high|divergence|Catapult|Edge of stability", ("learning-rate-too-high",)),
    (".", ()),
)


def gradsnitch(arm: Arm, steps: int) -> list[str]:
    """`watch`, `log`, `report`."""
    tool = importlib.import_module("gradsnitch")
    monitor = tool.watch(arm.task.model, arm.task.optimizer)
    with contextlib.redirect_stdout(io.StringIO()):
        for moment in training(arm, steps):
            monitor.log(moment.number, moment.loss)
        return [f"{found.code} {found.name}" for found in monitor.report()]


GRADSNITCH: Rules = (
    ("GS001", ("learning-rate-too-high", "non-finite-data")),
    ("GS002|GS003", ("exploding-gradient", "learning-rate-too-high")),
    ("GS005", ("learning-rate-too-low", "parameters-frozen", "init-too-small", "labels-unrelated")),
    ("GS006|GS009", ("learning-rate-too-high",)),
    ("GS007", ("vanishing-gradient", "dead-units", "saturating-activation")),
    ("GS008.*too high", ("learning-rate-too-high",)),
    ("GS008.*too low", ("learning-rate-too-low",)),
    (".", ()),
)


def runmedic(arm: Arm, steps: int) -> list[str]:
    """`runmedic diagnose` on a CSV of loss, gradient norm and rate."""
    importlib.import_module("runmedic")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "train_loss", "grad_norm", "lr"])
            writer.writerows([m.number, m.loss, m.gradient_norm, m.rate] for m in training(arm, steps))
        command = [sys.executable, "-m", "runmedic", "diagnose", str(path), "--json"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        told = json.loads(answer) if answer.strip() else []  # a log without rows is refused
    return [
        f"{found['check']}: {found['title']} {' '.join(found['likely_causes'])}"
        for run in (told if isinstance(told, list) else told.get("runs", [told]))
        for found in run["findings"]
        if found["severity"] != "info"
    ]


RUNMEDIC: Rules = (
    ("^non_finite", ("learning-rate-too-high", "non-finite-data")),
    ("^divergence|^loss_spikes|^grad_spikes", ("learning-rate-too-high", "exploding-gradient")),
    (
        "^no_learning",
        ("learning-rate-too-low", "learning-rate-too-high", "parameters-frozen", "labels-unrelated", "graph-detached"),
    ),
    (".", ()),
)


def trainspotter(arm: Arm, steps: int) -> list[str]:
    """`run_all` on a run of train/loss, grad_norm and lr; what it calls info is no alarm."""
    tool = importlib.import_module("trainspotter")
    run = tool.Run()
    for moment in training(arm, steps):
        for name, value in (("train/loss", moment.loss), ("grad_norm", moment.gradient_norm), ("lr", moment.rate)):
            run.add_point(name, moment.number, value)
    return [found.title for found in tool.run_all(run) if str(found.severity) != "info"]


TRAINSPOTTER: Rules = (
    ("Diverged", ("learning-rate-too-high", "non-finite-data")),
    ("spike", ("learning-rate-too-high",)),
    ("explosion", ("exploding-gradient", "learning-rate-too-high")),
    (".", ()),
)


def trainpulse(arm: Arm, steps: int) -> list[str]:
    """`Monitor` at its defaults."""
    tool = importlib.import_module("trainpulse")
    monitor = tool.Monitor()
    for moment in training(arm, steps):
        monitor.log("loss", moment.number, moment.loss)
        monitor.log("grad_norm", moment.number, moment.gradient_norm)
        monitor.log("learning_rate", moment.number, moment.rate)
    return [f"{alert.detector}: {alert.message}" for alert in monitor.report().alerts]


TRAINPULSE: Rules = (
    ("^nan", ("learning-rate-too-high", "non-finite-data")),
    ("^loss_spike", ("learning-rate-too-high",)),
    ("^gradient.*(explo|above|large|exceed)", ("exploding-gradient",)),
    ("^gradient.*(vanish|below|small)", ("vanishing-gradient",)),
    ("^plateau", ("learning-rate-too-low",)),
    (".", ()),
)


PEERS: dict[str, tuple[Callable[[Arm, int], list[str]], Rules]] = {
    "torchdiag": (torchdiag, TORCHDIAG),
    "traintools": (traintools, TRAINTOOLS),
    "torchtest2": (torchtest2, TORCHTEST2),
    "torcheck": (torcheck, TORCHECK),
    "torchmortem": (torchmortem, TORCHMORTEM),
    "gradsnitch": (gradsnitch, GRADSNITCH),
    "runmedic": (runmedic, RUNMEDIC),
    "trainspotter": (trainspotter, TRAINSPOTTER),
    "trainpulse": (trainpulse, TRAINPULSE),
}


def named(said: list[str], rules: Rules) -> list[Causes]:
    """What each alarm names, in the order in which the tool says it; texts that no rule knows are no alarm."""
    found = []
    for text in said:
        match = next((causes for pattern, causes in rules if re.search(pattern, text)), None)
        if match is not None and match not in found:
            found.append(match)
    return found


def ask(arm: Arm, steps: int) -> dict[str, dict[str, Any]]:
    """All tools on one arm; each gets a copy that no other has trained."""
    answers: dict[str, dict[str, Any]] = {}
    for name, (adapter, rules) in PEERS.items():
        torch.manual_seed(0)
        own = Arm(in_hand(arm.task.copy()), arm.metric, arm.judged_on)
        try:
            said = [text for text in adapter(own, steps) if any(re.search(pattern, text) for pattern, _ in rules)]
            answers[name] = {"named": named(said, rules), "said": sorted(set(said))[:8]}
        except ModuleNotFoundError as error:
            answers[name] = {"error": f"not installed: {error.name}"}
        except Exception as error:  # noqa: BLE001 - a tool that crashes in the user's loop
            answers[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return answers


# -- in the bench's own process: ask the other environment about every arm, and tell


def chosen(options: argparse.Namespace) -> list[tuple[str, Case, bool]]:
    from diagnosis import oracle

    rows, found = oracle.load(), []
    for name, cases in SETS.items():
        for case in cases.values():
            if options.set in ("all", case.half) and oracle.counts(case, rows):
                found += [(name, case, True)] if case.accepted else []
                found += [(name, case, False)] if name != "injected" else []
    found = [each for each in found if options.only in f"{each[0]}/{each[1].id}"]
    return found[: options.limit] if options.limit else found


def summary(rows: list[dict[str, Any]]) -> list[list[str]]:
    from diagnosis.tell import share

    lines = []
    for peer in PEERS:
        told = [{**row["peers"][peer], "row": row} for row in rows]
        sick = [each for each in told if each["row"]["sick"]]
        well = [each for each in told if not each["row"]["sick"]]
        first = share(sick, lambda each: right(each.get("named", [])[:1], each["row"]["accepted"]))
        among = share(sick, lambda each: right(each.get("named", []), each["row"]["accepted"]))
        alarmed = share(sick, lambda each: bool(each.get("named")))
        false = share(well, lambda each: bool(each.get("named")))
        lines.append([peer, first, among, alarmed, false, str(sum("error" in each for each in told))])
    return lines


def right(alarms: list[list[str]], accepted: list[str]) -> bool:
    return any(cause in accepted for causes in alarms for cause in causes)


def question(name: str, case: Case, sick: bool, options: argparse.Namespace) -> dict[str, Any]:
    """One arm, in a process of the peers' environment."""
    command = [options.peers_python, __file__, "--ask", name, case.id, str(int(sick)), str(options.steps)]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'bench'}", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        peers = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError):
        peers = {peer: {"error": "no answer"} for peer in PEERS}
    return {"set": name, "id": case.id, "sick": sick, "accepted": list(case.accepted), "peers": peers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", help="the Python of the environment in which the tools are installed")
    parser.add_argument("--set", choices=("develop", "report", "all"), default="report")
    parser.add_argument("--only", default="")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--steps", type=int, default=200, help="of training that each tool sees")
    parser.add_argument("--ask", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.ask:
        name, identity, sick, steps = options.ask
        answers = ask(SETS[name][identity].arm(bool(int(sick))), int(steps))
        print("\n" + json.dumps(answers), flush=True)
        return
    if not options.peers_python:
        parser.error("--peers-python is needed: see README.md")
    from _common import table, write

    rows = []
    for name, case, sick in chosen(options):
        rows.append(question(name, case, sick, options))
        alarms = {peer: told.get("named", told.get("error")) for peer, told in rows[-1]["peers"].items()}
        print(f"{name}/{case.id}/{'sick' if sick else 'healthy'}: {json.dumps(alarms)}", flush=True)
    head = ["tool", "named first", "among", "any alarm on sick", "alarm on healthy", "no answer"]
    lines = summary(rows)
    print("\n" + table(head, lines))
    print(write("peers", {"head": head, "table": lines, "arms": rows}, set=options.set, steps=options.steps))


if __name__ == "__main__":
    main()
