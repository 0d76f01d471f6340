"""Activation checkpointing: outputs, gradients and running statistics are those without it, and memory is saved."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.nets import imagenet_resnet, plain, resnet
from runtrue.nets.stage import Stage, statistics_kept

NETS: dict[str, Callable[..., nn.Module]] = {
    "residual": lambda **how: resnet(32, 5, 2, **how),
    "option B": lambda **how: resnet(20, 5, 2, "B", **how),
    "plain": lambda **how: plain(20, 5, 2, **how),
    "without normalisation": lambda **how: resnet(20, 5, 2, norm=None, **how),
    "dropout": lambda **how: resnet(20, 5, 2, dropout=0.3, **how),
    "for large images": lambda **how: imagenet_resnet(18, 5, 2, **how),
}
X, LABELS = torch.randn(4, 2, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(4)


def pair(key: str) -> tuple[nn.Module, nn.Module]:
    """The same network with and without checkpointing."""
    net, checkpointed = NETS[key](), NETS[key](checkpoint=True)
    checkpointed.load_state_dict(net.state_dict())
    return net, checkpointed


def step(net: nn.Module, x: Tensor = X) -> Tensor:
    torch.manual_seed(1)  # of the dropout
    out: Tensor = net(x)
    F.cross_entropy(out, LABELS).backward()
    return out


def assert_same(net: nn.Module, other: nn.Module) -> None:
    """Gradients and buffers, bit for bit."""
    for (name, one), two in zip(net.named_parameters(), other.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None and torch.equal(one.grad, two.grad), name
    for (name, a), b in zip(net.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("key", NETS)
def test_outputs_gradients_and_statistics_are_the_same_to_the_bit(key: str) -> None:
    net, checkpointed = pair(key)
    for _ in range(2):  # the second step starts from the statistics of the first
        assert torch.equal(step(net), step(checkpointed))
    assert_same(net, checkpointed)
    assert all(b == 2 for name, b in net.named_buffers() if name.endswith("num_batches_tracked"))
    assert torch.equal(net.eval()(X), checkpointed.eval()(X))


def test_it_really_computes_twice() -> None:
    """Without this the test above would hold for a switch that does nothing."""
    net = resnet(20, 5, 2, checkpoint=True)
    calls = [0]
    net.get_submodule("stage2.1.conv1").register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    out = step(net)
    assert calls == [2] and out.requires_grad
    net(X), net.eval()(X)
    assert calls == [4]


def test_normalisation_whose_statistics_are_frozen_or_cumulative() -> None:
    """momentum=None counts batches: one that was counted twice would weigh less."""
    net, checkpointed = pair("residual")
    for model in (net, checkpointed):
        layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for layer in layers[::2]:
            layer.momentum = None
        for layer in layers[::3]:
            layer.eval()
        for x in (X, 2 * X + 1):
            step(model, x)
    assert_same(net, checkpointed)


def test_statistics_are_put_back_after_an_error() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    layer: Any = net[0]
    mean = layer.running_mean

    def passed_and_lost() -> None:
        with statistics_kept(net):
            net(X)
            assert layer.running_mean is not mean and layer.num_batches_tracked == 1
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        passed_and_lost()
    assert layer.running_mean is mean and not mean.any() and layer.num_batches_tracked == 0


def test_far_less_is_kept_for_the_way_back() -> None:
    def kept(**how: Any) -> int:
        """Bytes of activations that wait for the backward pass, each counted once."""
        seen: dict[int, int] = {}
        net = resnet(110, 5, 2, **how)
        own = {p.data_ptr() for p in (*net.parameters(), *net.buffers())}

        def pack(t: Tensor) -> Tensor:
            if t.data_ptr() not in own:
                seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = net(X)
        assert out.requires_grad
        return sum(seen.values())

    assert kept(checkpoint=True) < kept() / 10


def test_a_group_is_about_the_root_of_the_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One group would keep least for the way back, and hold the whole stage when it computes it again."""
    sizes: list[int] = []

    def counted(group: nn.Sequential, x: Tensor, **_: Any) -> Tensor:
        sizes.append(len(group))
        out: Tensor = group(x)
        return out

    monkeypatch.setattr("runtrue.nets.stage.checkpoint", counted)
    resnet(62, 5, 2, checkpoint=True)(X)
    assert sizes == [4, 4, 2] * 3


def stages(net: nn.Module) -> list[Stage]:
    return [layer for layer in net.modules() if isinstance(layer, Stage)]


def test_only_very_deep_networks_are_checkpointed_unless_asked() -> None:
    with torch.device("meta"):
        assert [one.checkpointed for one in stages(resnet(110))] == [False] * 3
        assert [one.checkpointed for one in stages(resnet(1202))] == [True] * 3
        assert [one.checkpointed for one in stages(imagenet_resnet(18))] == [False] * 4
        assert [one.checkpointed for one in stages(plain(8, checkpoint=True))] == [True] * 3


def test_a_copy_is_checkpointed_too_and_a_slice_is_not() -> None:
    net = copy.deepcopy(resnet(20, checkpoint=True))
    first = stages(net)[0]
    assert first.checkpointed and repr(first).startswith("Stage(\n  checkpointed")
    assert not first[:2].checkpointed
    assert list(net.state_dict()) == list(resnet(20).state_dict())
