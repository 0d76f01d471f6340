"""The plain loop of the experiments: reproducible, the same beside other runs, and nothing is left behind."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from runtrue.lab.runs import Run, evaluate, fit, seed_by_seed, side_by_side

X = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
EXAMPLES = (X, (X[:, 0] > 0).long())


def trained(seed: int, epochs: int = 3) -> Run:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    return fit(net, EXAMPLES, EXAMPLES, epochs=epochs, batch_size=20, optimizer=optimizer, schedule=schedule, seed=seed)


def test_it_learns_and_tells_epoch_by_epoch() -> None:
    run = trained(0)
    assert len(run.losses) == 3 * 6 and len(run.epochs) == 3 and not run.diverged
    assert run.epochs[-1].val_accuracy > 0.9 and run.epochs[-1].val_loss < run.epochs[0].val_loss
    assert run.epochs[-1].train_loss == run.epochs[-1].val_loss, "the same examples"


def test_side_by_side_is_one_after_the_other_and_leaves_the_random_state() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    together = side_by_side([partial(trained, seed) for seed in (0, 1, 0)])
    alone = side_by_side([partial(trained, 1)])
    assert together[0] == together[2] != together[1] and together[1] == alone[0]
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_an_error_of_a_job_is_raised() -> None:
    def broken() -> Run:
        raise ValueError("no such net")

    with pytest.raises(ValueError, match="no such net"):
        side_by_side([broken, broken])


def test_a_lost_loss_ends_the_run() -> None:
    net = nn.Linear(6, 2)
    with torch.no_grad():
        net.weight.fill_(float("nan"))
    run = fit(net, EXAMPLES, EXAMPLES, epochs=5, batch_size=20, optimizer=torch.optim.SGD(net.parameters(), lr=0.1))
    assert run.diverged and len(run.epochs) == 1


def test_evaluate_by_hand_and_the_mode_is_put_back() -> None:
    net = nn.Linear(6, 2)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor([0.0, 1.0]))
    loss, accuracy = evaluate(net, EXAMPLES)
    share = float(EXAMPLES[1].double().mean())
    assert accuracy == pytest.approx(share) and net.training
    p = torch.tensor(1.0).sigmoid().double()
    assert loss == pytest.approx(float(-share * p.log() - (1 - share) * (1 - p).log()), rel=1e-5)


def test_seed_by_seed_gives_each_kind_its_results_in_the_order_of_the_seeds() -> None:
    assert seed_by_seed(lambda kind, number: f"{kind}{number}", "ab", range(3, 5)) == {
        "a": ["a3", "a4"],
        "b": ["b3", "b4"],
    }
