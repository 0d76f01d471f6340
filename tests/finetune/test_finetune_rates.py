"""Rates from a difference, what stands still, and heads on kept features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from runtrue import nets
from runtrue.finetune.dry import SurgeryError
from runtrue.finetune.features import Features, features, fit
from runtrue.finetune.rates import STAGES, groups, stages_of
from runtrue.finetune.still import Still, standing_still

FRESH = {"head.weight", "head.bias"}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nets.resnet(20)


def named(model: nn.Module, found: list[dict[str, Any]]) -> dict[str, float]:
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in found for p in group["params"]}


def test_rates_fall_from_back_to_front() -> None:
    model = net()
    fresh = {
        n for n, _ in model.named_parameters() if n.startswith(tuple(n for n, _ in list(model.named_modules())[-1:]))
    }
    found = groups(model, 0.1, fresh, kept=0.1, front=0.01, weight_decay=1e-4)
    rates = named(model, found)
    assert set(rates) == {n for n, _ in model.named_parameters()}
    in_order = [rates[n] for n, _ in model.named_parameters()]
    assert in_order == sorted(in_order) and in_order[0] == pytest.approx(1e-4) and in_order[-1] == 0.1
    kept = [r for n, r in rates.items() if n not in fresh]
    assert max(kept) == pytest.approx(0.01) and len(set(kept)) == STAGES
    assert all((group["weight_decay"] > 0) == all(p.dim() > 1 for p in group["params"]) for group in found)


def test_only_what_is_new_is_trained_at_a_share_of_0() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert set(named(model, groups(model, 0.1, {"1.weight", "1.bias"}))) == {"1.weight", "1.bias"}
    with pytest.raises(ValueError, match="nothing is new"):
        groups(model, 0.1, ())
    for wrong in ({"kept": -1.0}, {"front": 0.0}, {"kept": float("nan")}):
        with pytest.raises(ValueError, match="is a share of a rate"):
            groups(model, 0.1, (), **wrong)
    assert stages_of(nn.Linear(2, 2), ())["weight"] == (0, 1, "the network")


def test_what_stands_still_stands_still_whatever_the_loop_does() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    alike = {n: v.clone() for n, v in model.state_dict().items()}
    with standing_still(model, {"3.weight", "3.bias"}) as held:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
        for _ in range(3):
            model.train()
            model(torch.randn(16, 6)).square().sum().backward()
            optimizer.step()
        assert held.moved() == []
        assert all(torch.equal(alike[n], v) == (not n.startswith("3")) for n, v in model.state_dict().items())
    model.train()(torch.randn(16, 6))
    assert all(p.requires_grad for p in model.parameters())
    assert "1.running_mean" in held.moved(), "released, it follows the batches again, and the proof can fail"


def test_what_is_fresh_is_not_held() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    held = Still(model, {"1.weight", "1.bias"})
    model.train()(torch.randn(4, 1, 8, 8))
    assert held.norms == [] and set(held.moved()) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = 0.3 * torch.randn(count, 3, 16, 16, generator=draw)
    images += torch.eye(3)[labels][:, :, None, None]
    return images, labels


def test_a_head_on_kept_features_is_the_same_as_one_in_the_network() -> None:
    model = net().train()
    head = next(n for n, m in model.named_modules() if isinstance(m, nn.Linear))
    before, drawn = {n: v.clone() for n, v in model.state_dict().items()}, torch.get_rng_state()
    x, y = blobs(60, 0)
    found = features(model, head, [(x[:40], y[:40]), (x[40:], y[40:])])
    assert model.training and torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model.get_submodule(head)(found.inputs), model(x), atol=1e-4)
    twice = features(model, head, [(x, y)], mirror=True)
    assert (
        len(twice) == 120
        and torch.equal(twice.labels, torch.cat([y, y]))
        and torch.allclose(twice.inputs[:60], found.inputs, atol=1e-4)
    )
    fitted = fit(nn.Linear(found.inputs.shape[1], 3), found, features(model, head, [blobs(30, 1)]), epochs=40)
    assert fitted.accuracy > 0.9 and fitted.history[fitted.epoch - 1]["val_accuracy"] == fitted.accuracy


def test_early_stopping_keeps_the_best_head() -> None:
    draw = torch.Generator().manual_seed(0)
    train = Features(torch.randn(30, 50, generator=draw), torch.randint(0, 2, (30,), generator=draw))
    val = Features(torch.randn(200, 50, generator=draw), torch.randint(0, 2, (200,), generator=draw))
    fitted = fit(nn.Linear(50, 2), train, val, epochs=200, lr=0.1, patience=5)
    assert len(fitted.history) == fitted.epoch + 5 < 200
    assert min(row["val_loss"] for row in fitted.history) == fitted.history[fitted.epoch - 1]["val_loss"]


class Behind(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.body, self.head, self.times = nn.Linear(4, 4), nn.Linear(4, 4), times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        for _ in range(self.times):
            x = self.head(x)
        return x if self.times > 1 else 2 * x


def test_networks_whose_features_cannot_be_kept() -> None:
    data = [(torch.randn(4, 4), torch.zeros(4, dtype=torch.long))]
    with pytest.raises(SurgeryError, match="head is called 2 times"):
        features(Behind(2), "head", data)
    with pytest.raises(SurgeryError, match="something behind it changes them"):
        features(Behind(1), "head", data)
