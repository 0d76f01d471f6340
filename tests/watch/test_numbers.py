"""Every number of a reading against an independent computation from the tensors themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from watching_cases import grad_of

import runtrue
from runtrue.watch import gauge, noting, packets, record_of, stepping
from runtrue.watch.gauge import first_examples
from runtrue.watch.pace import Pace
from runtrue.watch.record import Reading
from runtrue.watch.stepping import spread

close: Callable[..., Any] = pytest.approx


class Net(nn.Module):
    """Layers with a ReLU, a tanh, a ReLU in place behind a normalization, and one without any."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.wide, self.deep, self.last = nn.Linear(4 * 16, 6), nn.Linear(6, 5), nn.Linear(5, 3)
        with torch.no_grad():
            self.wide.bias[:2] = -100.0  # two units that are dead

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.norm(self.conv(x)))
        x = torch.relu(self.wide(x.flatten(1)))
        found: Tensor = self.last(torch.tanh(20 * self.deep(x)))
        return found


def by_hand(net: Net, x: Tensor) -> dict[str, Tensor]:
    """What each layer gives on, computed step by step; "…_raw" before the activation, with its gradient kept."""
    found: dict[str, Tensor] = {}
    found["conv_raw"] = net.conv(x)
    found["conv"] = net.norm(found["conv_raw"]).clamp(min=0)
    found["wide_raw"] = net.wide(found["conv"].flatten(1))
    found["wide"] = found["wide_raw"].clamp(min=0)
    found["deep_raw"] = net.deep(found["wide"])
    found["deep"] = (20 * found["deep_raw"]).tanh()
    found["last"] = found["last_raw"] = net.last(found["deep"])
    for name in ("conv_raw", "wide_raw", "deep_raw", "last_raw"):
        found[name].retain_grad()
    return found


def readings_of(
    train: Callable[[Any, nn.Module, torch.optim.Optimizer], None], net: nn.Module, optimizer: torch.optim.Optimizer, run: Path
) -> list[Reading]:  # fmt: skip
    with runtrue.watch(net, optimizer, run=run, every=1) as watch:
        train(watch, net, optimizer)
        assert not watch._off
    return list(record_of(run).readings())


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 1, 6, 6, generator=generator), torch.arange(7) % 3


@pytest.fixture
def net() -> Net:
    torch.manual_seed(3)
    return Net()


def one_step(
    net: nn.Module, optimizer: torch.optim.Optimizer, data: tuple[Tensor, Tensor], watch: Any, clip: float | None = None
) -> None:  # fmt: skip
    loss = F.cross_entropy(net(data[0]), data[1])
    optimizer.zero_grad()
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    watch.step(loss)


def test_numbers_of_layers(net: Net, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    told = by_hand(net, data[0])
    F.cross_entropy(told["last"], data[1]).backward()
    net.zero_grad()
    net.norm.reset_running_stats()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    (reading,) = readings_of(lambda w, n, o: one_step(n, o, data, w), net, optimizer, tmp_path)
    numbers = reading.numbers
    for name in ("conv", "wide", "deep", "last"):
        values = told[name].detach().numpy().astype(np.float64)
        assert numbers[name, "mean"] == close(values.mean(), rel=1e-4, abs=1e-6), name
        assert numbers[name, "std"] == close(values.std(), rel=1e-4), name
        gradient = grad_of(told[f"{name}_raw"]).numpy().astype(np.float64)
        assert numbers[name, "signal_rms"] == close(np.sqrt((gradient**2).mean()), rel=1e-3), name
    for name in ("conv", "wide", "deep"):
        assert numbers[name, "zero_fraction"] == close((told[name] == 0).double().mean().item(), abs=1e-6), name
    dead = (told["wide"] == 0).all(0).double().mean().item()
    saturated = (told["deep"].abs() >= 0.95).double().mean().item()
    assert numbers["wide", "dead_fraction"] == close(dead) and dead >= 2 / 6
    assert numbers["deep", "saturated_fraction"] == close(saturated) and saturated > 0.2
    assert ("last", "zero_fraction") not in numbers and ("wide", "saturated_fraction") not in numbers


def test_a_unit_is_dead_when_it_was_silent_in_all_readings_of_a_window(tmp_path: Path) -> None:
    first = nn.Linear(2, 3)
    net = nn.Sequential(first, nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        first.bias.copy_(torch.tensor([0.0, 0.0, -1.0]))
    optimizer = torch.optim.SGD(net.parameters(), 0.0)

    def train(watch: Any, *_: Any) -> None:
        for i in range(3 * gauge.WINDOW):
            signs = torch.tensor([[1.0, -1.0]]) if i < gauge.WINDOW else torch.tensor([[-1.0, -1.0]])
            net(signs).sum().backward()
            optimizer.step()
            watch.step(0.0)

    shares = [3 * r.numbers["0", "dead_fraction"] for r in readings_of(train, net, optimizer, tmp_path)]
    assert shares == close([2.0] * (2 * gauge.WINDOW) + [3.0] * gauge.WINDOW)
    """The first unit fires in the first window alone: it is dead when a whole window lies behind."""


def test_numbers_of_parameters_and_of_the_real_step(net: Net, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    for case, optimizer in {
        "momentum": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.01),
        "adam": torch.optim.Adam(net.parameters(), 0.01),
        "adamw": torch.optim.AdamW(net.parameters(), 0.02, weight_decay=0.3),
    }.items():
        expected: list[dict[tuple[str, str], float]] = []

        def train(watch: Any, _: Any, optimizer: torch.optim.Optimizer, into: Any = expected) -> None:
            for _ in range(4):
                before = {n: p.detach().double().clone() for n, p in net.named_parameters()}
                loss = F.cross_entropy(net(data[0]), data[1])
                optimizer.zero_grad()
                loss.backward()
                gradients = {n: grad_of(p).double().clone() for n, p in net.named_parameters()}
                optimizer.step()
                watch.step(loss)
                row = {}
                for name, parameter in net.named_parameters():
                    moved = (parameter.detach().double() - before[name]).norm() / before[name].norm()
                    row[name, "update_ratio"] = moved.item()
                    row[name, "weight_norm"] = before[name].norm().item()
                    row[name, "grad_norm"] = gradients[name].norm().item()
                    if parameter.dim() > 1:
                        row[name, "grad_mean"] = gradients[name].mean().item()
                        row[name, "grad_std"] = gradients[name].std(correction=0).item()
                        row[name, "grad_zero"] = (gradients[name] == 0).double().mean().item()
                        row[name, "weight_mean"] = before[name].mean().item()
                        row[name, "weight_std"] = before[name].std(correction=0).item()
                into.append(row)

        found = readings_of(train, net, optimizer, tmp_path / case)
        assert len(found) == 4
        for reading, row in zip(found, expected, strict=True):
            for key, value in row.items():
                assert reading.numbers[key] == close(value, rel=2e-3, abs=2e-7), (case, key)
        assert {key for key in found[0].numbers if "." in key[0]} == set(expected[0])


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_clipping_is_seen_from_the_gradient_before_and_after(
    scale: float, net: Net, data: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    F.cross_entropy(net(data[0]), data[1]).backward()
    whole = math.sqrt(sum(grad_of(p).norm().item() ** 2 for p in net.parameters()))
    net.zero_grad()
    norms: list[float] = []

    def train(watch: Any, _: Any, optimizer: torch.optim.Optimizer) -> None:
        for i in range(2):  # what clips is known from the second step on, when there is a witness
            if i:
                net.zero_grad()
                F.cross_entropy(net(data[0]), data[1]).backward()
                norms.append(math.sqrt(sum(grad_of(p).norm().item() ** 2 for p in net.parameters())))
                net.zero_grad()
            one_step(net, optimizer, data, watch, clip=scale * whole if i else None)

    reading = readings_of(train, net, torch.optim.SGD(net.parameters(), 1e-4), tmp_path)[1]
    kept = min(1.0, scale * whole / norms[0])
    assert reading.numbers["", "clipped"] == close(kept, rel=1e-3)
    after = math.sqrt(sum(x * x for (_, what), x in reading.numbers.items() if what == "grad_norm"))
    assert after / reading.numbers["", "clipped"] == close(norms[0], rel=1e-3)


def test_accumulated_gradients_are_read_when_the_optimizer_steps(
    net: Net, data: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    sums: list[float] = []

    def train(watch: Any, _: Any, optimizer: torch.optim.Optimizer) -> None:
        for i in range(12):
            loss = F.cross_entropy(net(data[0] + 0.1 * i), data[1])
            loss.backward()
            if i % 4 == 3:
                sums.append(grad_of(net.last.weight).norm().item())
                optimizer.step()
                optimizer.zero_grad()
            watch.step(loss)

    found = readings_of(train, net, torch.optim.SGD(net.parameters(), 0.1), tmp_path)
    assert [reading.step for reading in found] == [0, 4, 8]
    assert [reading.numbers["last.weight", "grad_norm"] for reading in found] == close(sums, rel=1e-4)
    assert all(("last.weight", "update_ratio") in r.numbers and ("conv", "std") in r.numbers for r in found)


def test_a_reading_that_no_optimizer_ends_is_given_up(net: Net, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    def train(watch: Any, *_rest: Any) -> None:
        for _ in range(70):
            watch.step(F.cross_entropy(net(data[0]), data[1]))

    found = readings_of(train, net, torch.optim.SGD(net.parameters(), 0.1), tmp_path)
    assert [reading.step for reading in found] == [0] and ("conv", "std") in found[0].numbers


def test_learning_rates_of_each_group_where_they_change(net: Net, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(
        [{"params": net.conv.parameters(), "lr": 0.1}, {"params": net.last.parameters(), "lr": torch.tensor(0.01)}]
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    def train(watch: Any, *_rest: Any) -> None:
        for _ in range(5):
            one_step(net, optimizer, data, watch)
            schedule.step()

    readings_of(train, net, optimizer, tmp_path)
    rates = record_of(tmp_path).rates()
    assert rates[0] == [(0, close(0.1)), (2, close(0.05)), (4, close(0.025))]
    assert rates[1] == [(0, close(0.01)), (2, close(0.005)), (4, close(0.0025))]


def test_histograms_count_the_outputs(net: Net, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    told = by_hand(net, data[0])
    net.norm.reset_running_stats()
    readings_of(lambda w, n, o: one_step(n, o, data, w), net, torch.optim.SGD(net.parameters(), 0.1), tmp_path)
    found = {one.layer: one for one in record_of(tmp_path).histograms()}
    assert set(found) == {"conv", "wide", "deep", "last"}
    for name, one in found.items():
        values = told[name].detach().numpy().ravel().astype(np.float64)
        counts, edges = np.histogram(values, bins=24)
        assert (one.low, one.high) == close((edges[0], edges[-1]), rel=1e-5)
        assert sum(one.counts) == len(values)
        assert np.abs(np.array(one.counts) - counts).sum() <= 4, name  # a value on an edge may fall to the other side


def test_losses_and_seconds_of_every_step_are_there(net: Net, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    losses: list[float] = []

    def train(watch: Any, _: Any, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(20):
            loss = F.cross_entropy(net(data[0]), data[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
            losses.append(loss.item())

    readings_of(train, net, torch.optim.SGD(net.parameters(), 0.1), tmp_path)
    parts = record_of(tmp_path).steps()
    assert [part.mean for part in parts] == losses and [part.first for part in parts] == list(range(20))
    assert all(0 < part.seconds < 20 for part in parts)


def test_an_evaluation_is_no_part_of_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10**6, 10))
    monkeypatch.setattr("runtrue.watch.noting.time.perf_counter", lambda: float(next(now)))
    notes = noting.Notes(0)
    first = notes.step(1.0, [])
    for _ in range(100):
        next(now)
    notes.pause_ends()
    assert notes.step(1.0, []) < 10 * first


def test_numbers_of_halves_are_read_in_float32(tmp_path: Path) -> None:
    net = nn.Linear(300, 300).half()
    with torch.no_grad():
        net.weight.fill_(300.0)  # its norm, 90 000, is beyond what a half can hold
    optimizer = torch.optim.SGD(net.parameters(), 0.0)

    def train(watch: Any, *_: Any) -> None:
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        optimizer.step()
        watch.step(0.0)

    (reading,) = readings_of(train, net, optimizer, tmp_path)
    assert reading.numbers["weight", "weight_norm"] == close(90_000.0, rel=1e-3)
    assert reading.numbers["weight", "grad_norm"] == close(150.0)


def test_of_a_large_activation_the_first_examples_are_read() -> None:
    x = torch.randn(100, 3, 64, 64)
    part = first_examples(x)
    assert len(part) == gauge.MOST_READ // (3 * 64 * 64) and part.data_ptr() == x.data_ptr()
    assert first_examples(x[:5]) is not None and len(first_examples(x[:5])) == 5
    assert len(first_examples(torch.randn(2, 200_000))) == 1


@pytest.mark.parametrize("shape", [(512, 512), (500, 500), (30_000, 64), (64, 30_000), (128, 128, 3, 3), (100_000,)])
def test_of_a_large_parameter_pieces_from_all_over_are_read(shape: tuple[int, ...]) -> None:
    plain = torch.arange(math.prod(shape)).reshape(shape)
    lies = [plain] + ([plain.t().contiguous().t()] if plain.dim() == 2 else [])
    for places in [*lies, *([plain.to(memory_format=torch.channels_last)] if plain.dim() == 4 else [])]:
        part = spread(places, stepping.MOST_FOLLOWED).flatten()
        assert 0.45 * stepping.MOST_FOLLOWED <= len(part) <= 1.05 * stepping.MOST_FOLLOWED
        assert len(part.unique()) == len(part)
        rows, columns = part // math.prod(shape[1:]), part % math.prod(shape[1:])
        for seen, size in ((rows, shape[0]), (columns, math.prod(shape[1:]))):
            assert seen.max() > 0.9 * size - 2 and seen.min() < 0.1 * size + 1
            largest_gap = seen.unique().diff().max() if size > 1 else 0
            assert largest_gap <= max(1, 8 * size * stepping.PIECE // stepping.MOST_FOLLOWED), "no stretch is left out"


def test_a_small_parameter_is_read_whole_and_one_that_does_not_lie_together_by_rows() -> None:
    x = torch.randn(128, 256)
    assert spread(x, 2**15) is not None and torch.equal(spread(x, 2**15), x)
    apart = torch.randn(1000, 200)[:, :100]
    assert torch.equal(spread(apart, 10_000), apart[::10])


def test_numbers_of_a_large_parameter_are_close_to_those_of_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Linear(700, 800)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    before = net.weight.detach().clone()
    gradient = torch.randn_like(net.weight) * torch.rand(800, 1) + 0.1

    def train(watch: Any, *_: Any) -> None:
        net.weight.grad = gradient.clone()
        optimizer.step()
        watch.step(0.0)

    (reading,) = readings_of(train, net, optimizer, tmp_path)
    assert reading.numbers["weight", "grad_norm"] == close(float(gradient.norm()), rel=1e-4)
    for what, whole, rel in (
        ("weight_norm", before.norm(), 0.01), ("update_ratio", 0.01 * gradient.norm() / before.norm(), 0.06),
        ("weight_std", before.std(), 0.01), ("grad_mean", gradient.mean(), 0.2), ("grad_std", gradient.std(), 0.01),
    ):  # fmt: skip
        assert reading.numbers["weight", what] == close(float(whole), rel=rel), what


def test_parameters_of_the_same_size_and_other_shapes_are_read_beside_each_other(tmp_path: Path) -> None:
    """The layers of an inverted bottleneck: (96, 576) and (576, 96) among others."""
    net = nn.Sequential(
        *[nn.Linear(n, m, bias=False) for n, m in ((96, 576), (576, 96), (24, 2304), (864, 64), (64, 864), (96, 576))]
    )
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    before = [p.detach().clone() for p in net.parameters()]

    def train(watch: Any, *_: Any) -> None:
        for parameter in net.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        watch.step(0.0)

    (reading,) = readings_of(train, net, optimizer, tmp_path)
    for i, weight in enumerate(before):
        assert reading.numbers[f"{i}.weight", "weight_norm"] == close(float(weight.norm()), rel=0.03)
        assert reading.numbers[f"{i}.weight", "update_ratio"] == close(
            0.01 * weight.numel() ** 0.5 / float(weight.norm()), rel=0.04
        )


def test_the_pace_of_readings_keeps_to_its_share_of_the_time() -> None:
    pace = Pace()
    step = reads = 0
    clock = spent = 0.0
    while step < 20_000:  # a step takes 10 ms, a reading 5 ms more
        was_read = step == pace.next
        seconds = 0.010 + 0.005 * was_read
        if was_read:
            pace.after(step)
            reads, spent = reads + 1, spent + 0.005
        pace.took(seconds, was_read, 0.001)
        clock, step = clock + seconds, step + 1
    assert spent / clock == close(0.005, rel=0.1) and reads > 150
    assert Pace(every=7).after(0) == 7


def test_nothing_in_a_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device "meta" there is no number that could be waited for: `.item()`, `.tolist()`, `bool()` and copies to the host
    raise. What is sent to the scribe stands still there."""
    sent = packets._sent
    monkeypatch.setattr(
        packets, "_sent", lambda packed: sent(torch.zeros(packed.shape) if packed.device.type == "meta" else packed)
    )
    monkeypatch.setattr(noting, "FLUSH", 0.0)
    said: list[str] = []
    with torch.device("meta"):
        net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    with runtrue.watch(net, optimizer, every=1, say=said.append) as watch:
        for _ in range(20):
            x, y = torch.randn(7, 1, 6, 6, device="meta"), torch.zeros(7, dtype=torch.long, device="meta")
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            watch.step(loss)
        assert watch.readings == 21 and not watch._off
        watch._scribe.settle()
        numbers = watch._scribe.history.reads[-1].layout
        assert ("conv", "std") in numbers and ("conv.weight", "update_ratio") in numbers and ("", "clipped") in numbers
    assert not said


def test_a_learning_rate_on_another_device_is_not_waited_for() -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([{"params": [parameter], "lr": 0.1}])
    optimizer.param_groups.append({"params": [], "lr": torch.zeros((), device="meta")})
    assert noting.rates_of([optimizer]) == (0.1,)


def test_the_meta_device_does_refuse() -> None:
    x = torch.zeros((), device="meta")
    for wait in (x.item, x.tolist, x.cpu, lambda: bool(x > 0), lambda: float(x)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait()


def test_a_histogram_is_of_what_the_layer_gave_and_keeps_no_activation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 50), nn.ReLU(inplace=True), nn.Linear(50, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    kept: list[int] = []

    def train(watch: Any, *_: Any) -> None:
        loss = net(torch.randn(64, 4)).sum()
        watch._reader._gauge.settle()
        kept.extend(sample.untyped_storage().nbytes() for sample in (watch._reader._gauge.samples or {}).values())
        loss.backward()
        optimizer.step()
        watch.step(loss)

    readings_of(train, net, optimizer, tmp_path)
    assert len(kept) == 2 and max(kept) <= 4 * gauge.IN_HISTOGRAM


def test_complex_parameters_are_left_out_and_the_others_read(tmp_path: Path) -> None:
    """Networks that work on spectra have them."""

    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter, self.head = nn.Parameter(torch.randn(9, dtype=torch.cfloat)), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=16))
            return found

    net = Spectral()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    said: list[str] = []

    def train(watch: Any, *_: Any) -> None:
        watch._voice._say = said.append
        for _step in range(3):
            loss = net(torch.randn(8, 16)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)

    found = readings_of(train, net, optimizer, tmp_path)
    assert len(found) == 3 and not said
    assert {name for name, what in found[0].numbers if what == "grad_norm"} == {"head.weight", "head.bias"}
