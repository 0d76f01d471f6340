"""Parts of networks exchanged, left out, put in between; and the errors where they do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from runtrue import nets
from runtrue.finetune.changing import drop, insert, swap
from runtrue.finetune.dry import SurgeryError, example_for, flow
from runtrue.finetune.heads import replace_head

X = torch.randn(2, 3, 32, 32)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nets.resnet(20)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_swap_drop_and_insert_run() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    swap(model, "1", nn.GELU())
    insert(model, "0", nn.BatchNorm2d(8))
    drop(model, "1")
    assert [type(m).__name__ for m in model] == ["Inserted", "Passed", "Conv2d"] and model(X).shape == (
        2,
        4,
        28,
        28,
    )


def test_a_part_that_does_not_fit_is_named_with_both_shapes_and_the_network_is_as_before() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    before, parts = state(model), list(model)
    with pytest.raises(
        SurgeryError, match=r"swap '0': it gives \(2, 6, 30, 30\) now, \(2, 8, 30, 30\) before, and 1 cannot"
    ):
        swap(model, "0", nn.Conv2d(3, 6, 3), example=X)
    with pytest.raises(SurgeryError, match=r"swap '3': 3 cannot take \(2, 8, 30, 30\), which 2 gives: "):
        swap(model, "3", nn.Conv2d(9, 4, 3), example=X)
    with pytest.raises(SurgeryError, match=r"insert after '2'.*2\.1 cannot take \(2, 8, 30, 30\), which 2\.0 gives"):
        insert(model, "2", nn.Linear(7, 7), example=X)
    assert list(model) == parts and all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_names_and_examples_that_are_wrong() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    with pytest.raises(SurgeryError, match=r"drop: no part of the network is called '7'"):
        drop(model, "7")
    with pytest.raises(SurgeryError, match=r"swap: no part of the network is called ''"):
        swap(model, "", nn.ReLU())
    with pytest.raises(SurgeryError, match=r"does not take the example as it is"):
        swap(model, "1", nn.Tanh(), example=torch.randn(2, 4, 8, 8))


def test_a_dry_run_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)).train()
    model[1].eval()
    before, drawn = state(model), torch.get_rng_state()
    found = flow(model, X)
    assert found.outputs["1"] == (2, 8, 30, 30) and found.order == ["", "0", "1", "2"]
    assert torch.equal(drawn, torch.get_rng_state()) and all(
        torch.equal(before[n], v) for n, v in model.state_dict().items()
    )
    assert model.training and not model[1].training and model[2].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3)), (2, 1, 224, 224)), (nn.Linear(5, 2), (2, 5)), (nn.Embedding(9, 3), (2, 16)),
        (nn.Sequential(nn.Conv1d(4, 2, 3)), (2, 4, 224)),
    ],
)  # fmt: skip
def test_an_example_is_made_as_the_first_layer_asks(model: nn.Module, shape: tuple[int, ...]) -> None:
    example = example_for(model)
    assert example is not None and tuple(example.shape) == shape and flow(model, example).error is None
    assert example_for(nn.ReLU()) is None


def test_a_new_head() -> None:
    model = net().double().eval()
    others = {n: v for n, v in state(model).items() if not n.startswith("head")}
    (name,) = replace_head(model, 3)
    assert model(X.double()).shape == (2, 3) and all(torch.equal(others[n], model.state_dict()[n]) for n in others)
    assert model.get_parameter(f"{name}.weight").dtype == torch.float64


def test_heads_that_cannot_be_replaced() -> None:
    with pytest.raises(SurgeryError, match="at least 2 classes, got 1"):
        replace_head(net(), 1)
    with pytest.raises(SurgeryError, match="is Conv2d, not a Linear"):
        replace_head(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), 3)
    with pytest.raises(SurgeryError, match="no layer with weights"):
        replace_head(nn.ReLU(), 3)
    with pytest.raises(SurgeryError, match="no part of the network is called 'tail'"):
        replace_head(net(), 3, name="tail")
    with pytest.raises(SurgeryError, match="a single layer"):
        replace_head(nn.Linear(3, 4), 3)
