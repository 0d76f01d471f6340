"""Images that do not reach a network as it was trained to see them are told by its stored statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue.datasets import fashion_mnist
from runtrue.finetune.preparation import FAR, FEW, Fit, judged, measured, spreads

MEAN, STD = (0.286,), (0.353,)  # of Fashion-MNIST


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Real ones, 0 to 1."""
    found = fashion_mnist()[0][:256]
    return found if found.dim() == 4 else found.unsqueeze(1)


@pytest.fixture(scope="module")
def trained(images: Tensor) -> nn.Module:
    """Its statistics are those of normalized images."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(10)
    )
    net.train()
    with torch.no_grad():
        for _ in range(80):
            net((images - MEAN[0]) / STD[0])
    return net


CASES: dict[str, tuple[Any, str]] = {
    "0 to 255": (lambda x: 255 * x, "divide by 255 and normalize"),
    "0 to 1": (lambda x: x, "normalize with mean"),
    "normalized twice": (lambda x: ((x - MEAN[0]) / STD[0] - MEAN[0]) / STD[0], "normalize once, not twice"),
}


def test_images_that_are_prepared_as_the_weights_ask_are_fine(trained: nn.Module, images: Tensor) -> None:
    for part in (images[:FEW], images[:32], images):
        fit = measured(trained, (part - MEAN[0]) / STD[0], MEAN, STD)
        assert fit is not None and fit.layer == "1" and not list(judged(fit)), fit


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_preparation_is_named_with_what_to_do(case: str, trained: nn.Module, images: Tensor) -> None:
    spoil, told = CASES[case]
    fit = measured(trained, spoil(images[:64]), MEAN, STD)
    assert fit is not None and fit.given > FAR
    (finding,) = judged(fit)
    assert finding.cause == "inputs-not-scaled" and finding.severity == "fault" and told in finding.message, (
        finding.message
    )


def test_images_of_another_kind_are_a_warning(trained: nn.Module) -> None:
    torch.manual_seed(0)
    fit = measured(trained, 40 * torch.randn(64, 1, 28, 28) * torch.rand(64, 1, 28, 28) ** 4, (0.0,), (1.0,))
    assert fit is not None
    found = list(judged(Fit(fit.layer, fit.given, dict.fromkeys(fit.ways, fit.given), fit.images)))
    assert [one.severity for one in found] == ["warning"] and "none of the usual mistakes" in found[0].message


def test_it_waits_for_enough_images_and_leaves_no_trace(trained: nn.Module, images: Tensor) -> None:
    before, drawn = {n: v.clone() for n, v in trained.state_dict().items()}, torch.get_rng_state()
    fit = measured(trained, 255 * images[: FEW - 1], MEAN, STD)
    assert fit is not None and fit.given > FAR and not list(judged(fit))
    assert trained.training and torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(before[n], v) for n, v in trained.state_dict().items())
    assert not any(m._forward_pre_hooks for m in trained.modules())
    assert measured(nn.Sequential(nn.Conv2d(1, 2, 3)), images, MEAN, STD) is None


def test_the_look_ends_at_the_first_normalization(trained: nn.Module, images: Tensor) -> None:
    reached: list[int] = []
    handle = trained.get_submodule("2").register_forward_hook(lambda *_: reached.append(1))
    measured(trained, (images[:32] - MEAN[0]) / STD[0], MEAN, STD)
    handle.remove()
    assert not reached


def test_how_wide_the_activations_are_beside_what_is_stored(trained: nn.Module, images: Tensor) -> None:
    x = (images - MEAN[0]) / STD[0]
    assert spreads(trained, x)["1"] == pytest.approx(1, abs=0.1)
    assert spreads(trained, 20 * x)["1"] == pytest.approx(20, rel=0.1)
    assert spreads(trained, float("inf") * torch.ones_like(x))["1"] > 1e30
    assert spreads(nn.Sequential(nn.Conv2d(1, 2, 3)), x) == {}


def test_a_network_that_has_seen_nothing_stored_nothing_to_compare_with(images: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    assert measured(net, 255 * images[:32], MEAN, STD) is None
    with torch.no_grad():
        net.train()(images[:32])
    assert measured(net, 255 * images[:32], MEAN, STD) is not None
