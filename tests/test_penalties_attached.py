"""Penalties that act in an optimizer's steps: against arithmetic by hand, torch's own decay, and the penalties in a loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from runtrue import penalties
from runtrue.penalties import L1, L2, ElasticNet, MaxNorm, Penalty

MAKERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(SGD, lr=0.05),
    "momentum": partial(SGD, lr=0.05, momentum=0.9),
    "nesterov": partial(SGD, lr=0.05, momentum=0.9, nesterov=True),
    "adam": partial(Adam, lr=0.05),
    "adamw": partial(AdamW, lr=0.05, weight_decay=0.0),
}
X = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Flatten(),
        nn.Linear(384, 4),
    )


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in penalties.penalised(net)]


def go(
    net: nn.Module, optimizer: Optimizer, steps: int = 4, extra: Callable[[nn.Module], Tensor] | None = None
) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(X), Y)
        (loss if extra is None else loss + extra(net)).backward()
        optimizer.step()


def filled(*values: float) -> nn.Linear:
    net = nn.Linear(len(values), 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([values]))
        net.bias.fill_(100.0)
    return net


def at_rest(net: nn.Linear, optimizer: Optimizer, steps: int = 1) -> list[float]:
    """Steps with a gradient of zero: what is left is what the penalty does."""
    for _ in range(steps):
        optimizer.zero_grad()
        (0 * net(torch.ones(1, net.in_features))).sum().backward()
        optimizer.step()
    found: list[float] = net.weight[0].tolist()
    return found


def test_the_proximal_step_by_hand_makes_exact_zeros() -> None:
    net = filled(0.5, -0.25, 0.03, -0.04, 0.0)
    optimizer = SGD(net.parameters(), lr=0.1)
    L1(0.5).attach(net, optimizer)  # a step of 0.05
    after = at_rest(net, optimizer)
    assert after == [pytest.approx(0.45), pytest.approx(-0.2), 0.0, 0.0, 0.0]
    assert at_rest(net, optimizer, 5) == [pytest.approx(0.2), 0.0, 0.0, 0.0, 0.0]
    assert net.bias.item() == 100.0


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=6), st.floats(0, 2), st.floats(1e-3, 1))
def test_the_proximal_step_is_the_smallest_sum(values: list[float], strength: float, rate: float) -> None:
    net = filled(*values)
    optimizer = SGD(net.parameters(), lr=rate)
    L1(strength).attach(net, optimizer)
    for before, after in zip(values, at_rest(net, optimizer)):
        grid = [after, after + 1e-3, after - 1e-3, 0.0, before]
        costs = [(w - before) ** 2 / 2 + rate * strength * abs(w) for w in grid]  # what a proximal step minimises
        assert costs[0] <= min(costs) + 1e-6


def test_the_subgradient_throws_weights_across_zero() -> None:
    net = filled(0.5, 0.03, 0.0)
    optimizer = SGD(net.parameters(), lr=0.1)
    L1(0.5, "subgradient").attach(net, optimizer)
    assert at_rest(net, optimizer) == pytest.approx([0.45, -0.02, 0.0])
    assert at_rest(net, optimizer) == pytest.approx([0.4, 0.03, 0.0])


def test_decoupled_by_hand() -> None:
    net = filled(2.0, -4.0)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    L2(0.25).attach(net, optimizer)
    assert at_rest(net, optimizer) == pytest.approx([1.9, -3.8])
    assert at_rest(net, optimizer) == pytest.approx([1.805, -3.61]), "no momentum gathers"


def split(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    on = penalties.penalised(net)
    rest = [p for p in net.parameters() if all(p is not w for w in on)]
    return [{"params": on, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


@pytest.mark.parametrize(
    ("penalty", "make"),
    [
        (L2(0.1), partial(AdamW, lr=0.05)),
        (L2(0.1, "penalty"), MAKERS["sgd"]),
        (L2(0.1, "penalty"), MAKERS["momentum"]),
        (L2(0.1, "penalty"), MAKERS["nesterov"]),
        (L2(0.1, "penalty"), MAKERS["adam"]),
    ],
    ids=["AdamW", "SGD", "momentum", "Nesterov", "Adam"],
)
@pytest.mark.parametrize("foreach", [False, True])
def test_l2_is_torchs_own_weight_decay_to_the_last_bit(
    penalty: L2, make: Callable[..., Optimizer], foreach: bool
) -> None:
    ours, theirs = network(), network()
    optimizer = make(split(ours, 0.0), foreach=foreach)
    penalty.attach(ours, optimizer)
    go(ours, optimizer)
    go(theirs, make(split(theirs, 0.2), foreach=foreach))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))
    assert not torch.equal(weights(ours)[0], weights(network())[0])


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
@pytest.mark.parametrize(
    ("penalty", "term"),
    [
        (L1(0.02, "subgradient"), partial(penalties.l1, strength=0.02)),
        (L2(0.1, "penalty"), partial(penalties.l2, strength=0.1)),
        (ElasticNet(0.02, 0.1, "penalty"), partial(penalties.elastic_net, l1_strength=0.02, l2_strength=0.1)),
        (L2(0.1, "penalty", everything=True), partial(penalties.l2, strength=0.1, everything=True)),
        (L1(0.02, "subgradient", everything=True), partial(penalties.l1, strength=0.02, everything=True)),
    ],
    ids=["L1", "L2", "elastic net", "L2 everything", "L1 everything"],
)
def test_in_the_gradient_it_is_the_penalty_of_a_loss(
    penalty: Penalty, term: Callable[[nn.Module], Tensor], make: Callable[..., Optimizer]
) -> None:
    ours, theirs = network().double(), network().double()
    optimizer = make(ours.parameters())
    penalty.attach(ours, optimizer)
    inputs = X.double()
    for net, own, extra in ((ours, optimizer, None), (theirs, make(theirs.parameters()), term)):
        for _ in range(3):
            own.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs), Y)
            (loss if extra is None else loss + extra(net)).backward()
            own.step()
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(ours.parameters(), theirs.parameters()))


@pytest.mark.parametrize(
    "penalty", [L1(0.5), L2(0.5), L1(0.5, "subgradient"), L2(0.5, "penalty"), ElasticNet(0.5, 0.5)]
)
def test_biases_and_normalization_are_left_alone(penalty: Penalty) -> None:
    ours, without = network(), network()
    optimizer = SGD(ours.parameters(), lr=0.1)
    penalty.attach(ours, optimizer)
    go(ours, optimizer, 1)
    go(without, SGD(without.parameters(), lr=0.1), 1)
    on = {id(p) for p in penalties.penalised(ours)}
    for a, b in zip(ours.parameters(), without.parameters()):
        assert torch.equal(a, b) == (id(a) not in on)


def test_elastic_net_is_both() -> None:
    together, apart = network(), network()
    first, second = SGD(together.parameters(), lr=0.1), SGD(apart.parameters(), lr=0.1)
    ElasticNet(0.02, 0.1).attach(together, first)
    L1(0.02).attach(apart, second)
    L2(0.1).attach(apart, second)
    go(together, first)
    go(apart, second)
    assert all(torch.equal(a, b) for a, b in zip(together.parameters(), apart.parameters()))
    assert any(bool((w == 0).any()) for w in weights(together))


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
def test_max_norm_is_the_projection_after_each_step(make: Callable[..., Optimizer]) -> None:
    ours, theirs = network(), network()
    optimizer, other = make(ours.parameters()), make(theirs.parameters())
    MaxNorm(0.4).attach(ours, optimizer)
    for _ in range(3):
        go(ours, optimizer, 1)
        go(theirs, other, 1)
        penalties.max_norm_(theirs, 0.4)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))
    first, _, last = penalties.penalised(ours)
    for weight in (first, last):  # filters of the convolution, rows of the linear layer
        norms = weight.detach().flatten(1).norm(dim=1)
        assert norms.max() <= 0.4 * (1 + 1e-6) and bool((norms > 0.399).any())


def test_units_within_the_limit_stay_as_they_are() -> None:
    net = filled(0.3, 0.4)
    optimizer = SGD(net.parameters(), lr=0.1)
    MaxNorm(0.5000001).attach(net, optimizer)
    before = net.weight.tolist()[0]
    assert at_rest(net, optimizer, 3) == before


def test_each_weight_goes_by_the_rate_of_its_own_group_and_of_this_step() -> None:
    layers = [filled(1.0), filled(1.0), filled(1.0)]
    net = nn.Sequential(*layers)
    groups: list[dict[str, Any]] = [
        {"params": layers[0].parameters(), "lr": 0.1},
        {"params": layers[1].parameters(), "lr": 0.2},
    ]
    optimizer = SGD(groups, lr=1.0)
    for penalty in (L1(0.5), L2(0.5)):
        attached = penalty.attach(net, optimizer)
        with torch.no_grad():
            for layer in layers:
                layer.weight.fill_(1.0)
        optimizer.zero_grad()
        (0 * net(torch.ones(1, 1))).sum().backward()
        optimizer.step()
        first, second = (0.95, 0.9) if isinstance(penalty, L1) else (0.9, 0.8)
        assert [layer.weight.item() for layer in layers] == pytest.approx([first, second, 1.0]), (
            "the third is in no group"
        )
        attached.remove()
    L1(0.5).attach(net, optimizer)
    optimizer.add_param_group({"params": layers[2].parameters(), "lr": 0.4})
    optimizer.param_groups[0]["lr"] = 0.0
    with torch.no_grad():
        layers[0].weight.fill_(1.0)
    (0 * net(torch.ones(1, 1))).sum().backward()
    optimizer.step()
    assert layers[0].weight.item() == 1.0 and layers[2].weight.item() == pytest.approx(0.8)


@pytest.mark.parametrize("penalty", [L1(0.5), L2(0.5), L1(0.5, "subgradient"), L2(0.5, "penalty")])
def test_a_weight_without_a_gradient_rests(penalty: Penalty) -> None:
    first, second = filled(1.0), filled(1.0)
    net = nn.Sequential(first.requires_grad_(False), second)
    optimizer = SGD(net.parameters(), lr=0.1)
    penalty.attach(net, optimizer)
    (0 * net(torch.ones(1, 1))).sum().backward()
    optimizer.step()
    assert first.weight.item() == 1.0 != second.weight.item()
    first.requires_grad_(True)
    (0 * net(torch.ones(1, 1))).sum().backward()
    optimizer.step()
    assert first.weight.item() < 1.0, "thawed, it takes part"


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(
    "penalty", [L1(0.02), L2(0.1), L1(0.02, "subgradient"), L2(0.1, "penalty"), ElasticNet(0.02, 0.1), MaxNorm(0.4)]
)
def test_a_step_that_is_given_a_closure_is_the_same(penalty: Penalty, by_name: bool) -> None:
    """Lightning's steps: the closure clears the gradients and computes them anew."""
    plain, closed = network(), network()
    optimizer, other = AdamW(plain.parameters(), lr=0.05), AdamW(closed.parameters(), lr=0.05)
    penalty.attach(plain, optimizer)
    penalty.attach(closed, other)
    go(plain, optimizer, 3)

    def closure() -> Tensor:
        other.zero_grad()
        loss = nn.functional.cross_entropy(closed(X), Y)
        loss.backward()
        return loss

    losses = [other.step(closure=closure) if by_name else other.step(closure) for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), closed.parameters()))
    assert all(isinstance(loss, Tensor) for loss in losses)


@pytest.mark.parametrize("fused", [False, True], ids=["scaler skips", "optimizer skips"])
@pytest.mark.parametrize("penalty", [L1(0.02), L2(0.1), L1(0.02, "subgradient"), L2(0.1, "penalty"), MaxNorm(0.4)])
def test_gradients_that_are_scaled(penalty: Penalty, fused: bool) -> None:
    """The scale is not on the penalty, and a step with infinite gradients leaves the weights alone."""
    plain, scaled = network(), network()
    optimizer, other = (SGD(net.parameters(), lr=0.05, momentum=0.9, fused=fused) for net in (plain, scaled))
    penalty.attach(plain, optimizer)
    penalty.attach(scaled, other)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    go(plain, optimizer, 2)
    for step in range(3):
        if step == 1:
            before = copy.deepcopy(scaled.state_dict())
        other.zero_grad()
        loss = nn.functional.cross_entropy(scaled(X), Y)
        scaler.scale(loss).backward()
        if step == 1:
            gradient = penalties.penalised(scaled)[0].grad
            assert gradient is not None
            gradient[0, 0, 0, 0] = torch.inf  # the scaler has to find it
        scaler.step(other)
        scaler.update()
        if step == 1:
            near = 1e-6 if isinstance(penalty, MaxNorm) else 0.0  # a projection of what was projected: the last bit
            assert all(torch.allclose(before[name], p, near, 0.0) for name, p in scaled.named_parameters())
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(plain.parameters(), scaled.parameters()))


@pytest.mark.parametrize("penalty", [L1(0.02), L2(0.1)])
def test_a_rate_that_is_a_tensor(penalty: Penalty) -> None:
    plain, other = network(), network()
    optimizer = SGD(plain.parameters(), lr=0.05)
    same = SGD(other.parameters(), lr=torch.tensor(0.05, dtype=torch.float64))
    for net, own in ((plain, optimizer), (other, same)):
        penalty.attach(net, own)
        go(net, own, 2)
    assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(plain.parameters(), other.parameters()))


@pytest.mark.parametrize(
    "penalty", [L1(0.02), L2(0.1), L1(0.02, "subgradient"), L2(0.1, "penalty"), ElasticNet(0.02, 0.1), MaxNorm(0.4)]
)
def test_removed_it_is_gone(penalty: Penalty) -> None:
    ours, without = network(), network()
    optimizer = SGD(ours.parameters(), lr=0.05)
    attached = penalty.attach(ours, optimizer)
    attached.remove()
    attached.remove()
    go(ours, optimizer)
    go(without, SGD(without.parameters(), lr=0.05))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), without.parameters()))
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("penalty", [L1(0.02), L2(0.1), ElasticNet(0.1, 0.1), MaxNorm(1.0)])
def test_an_optimizer_of_another_model_is_an_error(penalty: Penalty) -> None:
    net = network()
    other = SGD(copy.deepcopy(net).parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match=r"holds none of the model's 3 weights \(0.weight, 3.weight, 5.weight\): attach"
    ):
        penalty.attach(net, other)
    with pytest.raises(ValueError, match="the model has no weight to be on"):
        penalty.attach(nn.BatchNorm1d(3), other)


def test_lbfgs_needs_the_penalty_in_the_loss() -> None:
    net = network()
    with pytest.raises(ValueError, match=r"L1: LBFGS .* penalties.l1"):
        L1(0.1).attach(net, torch.optim.LBFGS(net.parameters()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L1(-0.1), "L1: a strength is a number from 0 up, got -0.1"),
        (lambda: L2(float("nan")), "L2: a strength is a number from 0 up, got nan"),
        (lambda: ElasticNet(0.1, float("inf")), "ElasticNet: a strength"),
        (lambda: L1(0.1, cast(Any, "penalty")), "L1: how is one of proximal, subgradient, got 'penalty'"),
        (lambda: L2(0.1, cast(Any, "proximal")), "L2: how is one of decoupled, penalty"),
        (lambda: MaxNorm(0.0), "above 0"),
    ],
)
def test_what_is_no_penalty(make: Callable[[], Penalty], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_of_options() -> None:
    assert penalties.of() == ()
    assert penalties.of(l1=0.1) == (L1(0.1),)
    assert penalties.of(l2=0.1, max_norm=2.0) == (L2(0.1), MaxNorm(2.0))
    assert penalties.of(0.1, 0.2) == (ElasticNet(0.1, 0.2),)
    with pytest.raises(ValueError, match="from 0 up"):
        penalties.of(l1=-0.1)
