"""The experiment `overfit`: each bug is the bug that it is said to be, claims that can fail, and what the check names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import runtrue
from runtrue import datasets, lab
from runtrue.findings import STAGE_OF
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.overfit_bugs import CASES, HINDERING, PASSING, SOUND, HeadOnly, Mixing, Shuffling, sound
from runtrue.lab.overfit_judge import judge

TINY: dict[str, Any] = {"seeds": 1, "epochs": 3, "width": 8}
X = torch.randn(6, 784, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 4, 5])


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("overfit", **TINY)


@pytest.mark.slow
def test_the_claim_holds_at_the_defaults() -> None:
    found = lab.run("overfit")
    assert found.held, found.verdict


@pytest.mark.slow
@pytest.mark.parametrize("key", list(CASES)[::4])  # each takes up to a minute
def test_the_check_names_what_the_table_says(key: str) -> None:
    case = CASES[key]
    images, unseen = datasets.fashion_mnist(flat=True, limit=500), datasets.fashion_mnist("test", flat=True, limit=500)
    report = runtrue.check(case.task(100, images, unseen, epochs=80, batch_size=50), budget=120)
    faults = [fault.cause for fault in report.faults]
    assert faults[:1] == ([case.named] if case.named and not case.noted else [])
    assert not case.noted or case.named in [finding.cause for finding in report.findings]


def test_causes_are_causes() -> None:
    assert {case.named for case in CASES.values() if case.named} <= set(STAGE_OF)
    assert not CASES[SOUND].named


def test_images_are_shuffled_in_training_alone() -> None:
    torch.manual_seed(0)
    net = Shuffling(8)
    assert torch.equal(net.eval()(X), net.net(X))
    shuffled = net.train()(X)
    order = torch.cdist(shuffled, net.net(X)).argmin(1)
    assert sorted(order.tolist()) == list(range(6)) != order.tolist()


def test_mixed_images_hold_pixels_of_others() -> None:
    seen: list[Tensor] = []
    net = Mixing(8)
    net.net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(torch.arange(6.0).repeat_interleave(784).reshape(6, 784))
    assert seen[0].unique(dim=1).shape[1] == 6, "every row has pixels of all six images"


def gradients(net: nn.Module) -> list[str]:
    nn.functional.cross_entropy(net(X), Y).backward()
    return [name for name, weight in net.named_parameters() if weight.grad is not None]


def test_only_the_head_gets_a_gradient() -> None:
    assert gradients(HeadOnly(8)) == ["net.head.weight", "net.head.bias"]
    assert len(gradients(sound(8))) == 6


def test_optimizers_with_a_bug() -> None:
    net = sound(8)
    other = CASES["wrong-parameters"].optimizer(net.parameters())
    assert not {id(p) for group in other.param_groups for p in group["params"]} & {id(p) for p in net.parameters()}
    piling = CASES["not-cleared"].optimizer(net.parameters())
    gradients(net)
    weight = next(net.parameters())
    assert weight.grad is not None
    before = weight.grad.clone()
    piling.zero_grad()
    assert torch.equal(weight.grad, before)
    rates = [CASES[key].optimizer(net.parameters()).param_groups[0]["lr"] for key in ("rate-too-high", "rate-too-low")]
    assert rates == [1.0, 1e-5]


def test_other_bugs() -> None:
    assert torch.allclose(CASES["softmax-twice"].built(8)(X).sum(1), torch.ones(6))
    assert all(not p.any() for p in CASES["zero-weights"].built(8).parameters())
    assert [len(weight) for weight in CASES["two-units"].built(8).parameters()] == [2, 2, 10, 10]
    labels = torch.arange(500) % 10
    shuffled = CASES["labels-shuffled"].labels(labels)
    assert torch.equal(shuffled.bincount(), labels.bincount()) and (shuffled == labels).float().mean() < 0.2
    linear = CASES["no-activation"].built(8).double()
    x = X.double()
    assert torch.allclose(linear(2 * x) - linear(0 * x), 2 * (linear(x) - linear(0 * x)), atol=1e-9)


def test_rows_and_curves(result: Experiment) -> None:
    assert [row["bug"] for row in result.series["bugs"]] == list(CASES) == list(result.curves)
    for row in result.series["bugs"]:
        curves = result.curves[row["bug"]]
        assert len(curves) == 1 and row["error_by_seed"] == [curve[-1] for curve in curves]
    assert not result.judgements[0].held, "three epochs are not enough"


def test_the_same_seed_gives_the_same_and_leaves_the_process_alone(result: Experiment) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert lab.run("overfit", **TINY).curves == result.curves
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "softmax-before-cross-entropy" in text and "…" not in text
    page = result.to_html(tmp_path / "overfit.html").read_text(encoding="utf-8")
    assert "zero_grad does nothing" in page and "as a note" in page
    assert len(json.loads(result.to_json())["series"]["bugs"]) == len(CASES)
    assert result.chart.to_dict()["height"] == 300


# -- the judge, on rows made by hand


def rows(**errors: float) -> list[Row]:
    """As claimed, but for the errors given by the key of a bug, with _ for -."""
    as_claimed = {SOUND: 0.0, **dict.fromkeys(HINDERING, 0.5), **dict.fromkeys(PASSING, 0.0)}
    found = as_claimed | {key.replace("_", "-"): error for key, error in errors.items()}
    return [
        {
            "bug": key,
            "error": error,
            "error_by_seed": [error, error],
            "lowest_error": error,
            "all_right_after": 9,
            "val_accuracy": 0.7,
        }
        for key, error in found.items()
    ]


def test_rows_as_claimed_hold() -> None:
    assert all(part.held for part in judge({"bugs": rows()}))


@pytest.mark.parametrize(
    ("changed", "code"),
    [({SOUND: 0.002}, "N3.1a"), ({"head_only": 0.0}, "N3.1b"), ({"labels_shuffled": 0.002}, "N3.1c")],
)
def test_every_part_can_fail(changed: dict[str, float], code: str) -> None:
    found = judge({"bugs": rows(**changed)})
    assert [part.code for part in found if not part.held] == [code]
    assert code != "N3.1b" or "Memorised all the same: head-only" in found[1].words
