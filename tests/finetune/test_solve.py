"""A head that is solved: at the minimum of its objective, whatever the scale of the features, and with the penalty validated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runtrue.finetune.features import Features
from runtrue.finetune.solve import folds_of, outputs_of, solved, validated


def blobs(count: int, scale: float = 1.0, noise: float = 1.0) -> Features:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    inputs = noise * torch.randn(count, 20, generator=draw) + 2 * torch.eye(20)[labels]
    return Features(scale * inputs, labels)


@pytest.mark.parametrize("scale", [0.05, 1.0, 40.0])
def test_it_is_the_minimum(scale: float) -> None:
    found, decay = blobs(90, scale), 1e-2
    head = solved(nn.Linear(20, 3), found, decay)
    assert isinstance(head, nn.Linear)
    square = float(found.inputs.square().mean())
    for parameter in head.parameters():
        parameter.requires_grad_(True)
    loss = F.cross_entropy(head(found.inputs), found.labels) + decay / 2 * square * head.weight.square().sum()
    gradients = torch.autograd.grad(loss, list(head.parameters()))
    assert all(float(g.abs().max()) < 5e-3 * max(1.0, scale) for g in gradients)
    alike = solved(nn.Linear(20, 3), blobs(90), decay)
    assert torch.allclose(outputs_of(head, found), outputs_of(alike, blobs(90)), atol=0.05)


def test_the_head_that_is_given_stays_and_a_convolution_is_solved_too() -> None:
    found = blobs(60)
    head = nn.Conv2d(20, 3, 1)
    before = head.weight.clone()
    wide = Features(found.inputs[:, :, None, None], found.labels)
    best = solved(head, wide, 1e-2)
    assert torch.equal(before, head.weight)
    assert (outputs_of(best, wide).argmax(1) == found.labels).float().mean() > 0.9


def test_noise_asks_for_a_stronger_penalty_than_clear_features() -> None:
    draw = torch.Generator().manual_seed(1)
    noise = Features(torch.randn(60, 50, generator=draw), torch.randint(0, 3, (60,), generator=draw))
    parts = folds_of(noise.labels)
    chosen = validated(nn.Linear(50, 3), noise, parts)
    assert chosen.decay == 1.0 and chosen.losses[1.0] < chosen.losses[1e-4]
    clear = blobs(60, noise=0.3)
    assert validated(nn.Linear(20, 3), clear, folds_of(clear.labels)).decay < 1e-1


def test_class_weights_move_the_border() -> None:
    labels = torch.tensor([0] * 50 + [1] * 5)
    draw = torch.Generator().manual_seed(0)
    found = Features(torch.randn(55, 4, generator=draw) + labels[:, None].float(), labels)
    plain, weighted = (solved(nn.Linear(4, 2), found, 1e-2, w) for w in (None, torch.tensor([0.55, 5.5])))
    counts = [int((outputs_of(head, found).argmax(1) == 1).sum()) for head in (plain, weighted)]
    assert counts[0] < counts[1]


def test_folds_are_even_in_every_class() -> None:
    labels = torch.tensor([0] * 13 + [1] * 7)
    parts = folds_of(labels, 5, 3)
    for number in (0, 1):
        counts = torch.bincount(parts[labels == number], minlength=5)
        assert int(counts.max() - counts.min()) <= 1
    assert torch.equal(parts, folds_of(labels, 5, 3))
