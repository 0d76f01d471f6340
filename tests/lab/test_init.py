"""The experiment `init` against the published figures; its claims can fail; nothing of the process is touched."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from runtrue import lab
from runtrue.init.schemes import Fans
from runtrue.lab import init_judge, init_measure
from runtrue.lab.experiment import Experiment, Judgement
from runtrue.lab.text import print_experiment

SMALL_STD = (0.213081, 0.047551, 0.010630, 0.002378, 0.000532, 0.000119, 0.000026, 0.000006, 0.000001, 0.000000)
HE = {1: (0.562488, 0.825232), 5: (0.547678, 0.834092), 10: (0.552531, 0.844523)}
KEYS = {"small", "large", "xavier", "xavier-relu", "he", "batchnorm"}
READINGS = {"layer", "mean", "std", "grad_norm", "zero_fraction", "saturated_fraction"}
TINY: dict[str, Any] = {"depth": 4, "width": 40, "samples": 60, "seeds": 1}


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("init")


def stds(result: Experiment, key: str) -> list[float]:
    return [row["std"] for row in result.series[key]]


def test_published_figures_of_small_weights(result: Experiment) -> None:
    measured = stds(result, "small")[1:]
    for layer, (found, published) in enumerate(zip(measured, SMALL_STD, strict=True), start=1):
        if published > 1e-5:
            assert found == pytest.approx(published, rel=0.03), f"layer {layer}"
        else:
            assert found < 1e-5, f"layer {layer}"


def test_published_figures_of_he(result: Experiment) -> None:
    for layer, (mean, std) in HE.items():
        row = result.series["he"][layer]
        assert (row["mean"], row["std"]) == pytest.approx((mean, std), rel=0.15)


def test_spreads_that_theory_gives(result: Experiment) -> None:
    """Layer 1 sees unit Gaussians of size 500, so that its pre-activation is N(0, 500 std²); a ReLU of N(0, s²) has
    E[y²] = s²/2; a tanh's spread is integrated numerically."""
    z = np.linspace(-8, 8, 20001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    for key, scale in (
        ("small", 0.01 * math.sqrt(500)),
        ("xavier", 1.0),
        ("large", math.sqrt(500)),
        ("batchnorm", 1.0),
    ):
        expected = math.sqrt(np.trapezoid(np.tanh(scale * z) ** 2 * density, z))
        assert stds(result, key)[1] == pytest.approx(expected, rel=0.01), key
    for key, square in (("xavier-relu", 0.5), ("he", 1.0)):
        row = result.series[key][1]
        assert row["std"] ** 2 + row["mean"] ** 2 == pytest.approx(square, rel=0.02)
    assert stds(result, "xavier-relu")[10] / stds(result, "he")[10] == pytest.approx(2**-5, rel=1e-4)


def test_gradient_at_the_output_is_that_of_the_stated_loss(result: Experiment) -> None:
    """dL/dh_L = R / N, of norm √(N H) / N = √(500 / 1000)."""
    for rows in result.series.values():
        assert rows[-1]["grad_norm"] == pytest.approx(math.sqrt(0.5), rel=0.01)


def test_gradients_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = init_measure.draw(torch.randn(5, 6, generator=generator), 3, 6, generator)
    drawn = init_measure.Draw(drawn.inputs.double(), tuple(w.double() for w in drawn.weights), drawn.direction.double())
    for scheme in init_measure.SCHEMES.values():

        def loss(inputs: torch.Tensor, scheme: init_measure.Scheme = scheme) -> float:
            last = init_measure.outputs_of(scheme, replace(drawn, inputs=inputs))[-1].detach()
            return float((drawn.direction * last).sum() / 5)

        gradient = init_measure.gradients_of(init_measure.outputs_of(scheme, drawn), drawn.direction)[0]
        step = torch.zeros_like(drawn.inputs)
        step[2, 3] = 1e-6
        slope = (loss(drawn.inputs + step) - loss(drawn.inputs - step)) / 2e-6
        assert float(gradient[2, 3]) == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_all_parts_hold_and_say_their_numbers(result: Experiment) -> None:
    assert result.held
    assert [part.code for part in result.judgements] == ["N1.2", "N1.3", "N1.4", "N1.5", "N1.6c"]
    assert result.notes_code == "N1.2, N1.3, N1.4, N1.5, N1.6c"
    assert "0.213" in result.verdict and "published figures (7) are met" in result.verdict
    assert "the gradient of the loss is not zero" in result.verdict


def test_json_has_the_promised_keys(result: Experiment) -> None:
    said = json.loads(result.to_json())
    assert set(said) == {"experiment", "claim", "held", "verdict", "parts", "settings", "series"}
    assert said["experiment"] == "init" and said["held"] is True
    assert set(said["series"]) == KEYS
    for rows in said["series"].values():
        assert [row["layer"] for row in rows] == list(range(11))
        assert all(set(row) >= READINGS for row in rows)
    assert said["settings"]["seeds"] == 3 and len(said["series"]["he"][3]["std_by_seed"]) == 3
    assert said["series"]["small"][1]["published_std"] == 0.213081


def test_readings_of_the_saturated_and_of_the_silent(result: Experiment) -> None:
    assert all(row["saturated_fraction"] > 0.9 for row in result.series["large"][1:])
    assert all(0.4 < row["zero_fraction"] < 0.6 for row in result.series["he"][1:])
    assert all(row["saturated_fraction"] == 0 for row in result.series["he"])


def test_histograms_are_counts(result: Experiment) -> None:
    assert set(result.histograms) == KEYS
    bowl = result.histograms["large"][9]["counts"]
    assert bowl[0] + bowl[-1] > 0.8 * sum(bowl)
    spike = result.histograms["small"][9]["counts"]
    assert spike[len(spike) // 2] == sum(spike) > 0
    assert all(len(layer["edges"]) == len(layer["counts"]) + 1 for rows in result.histograms.values() for layer in rows)


def test_a_single_layer_does_not_show_the_claims() -> None:
    shallow = lab.run("init", depth=1, seeds=1)
    assert not shallow.held
    assert [part.code for part in shallow.judgements if not part.held] == ["N1.2", "N1.4", "N1.5", "N1.6c"]
    assert shallow.verdict.startswith("Does not hold: N1.2")


@pytest.mark.parametrize(
    ("key", "std", "code"),
    [("small", 0.045, "N1.2"), ("large", 0.05, "N1.3"), ("xavier", 0.02, "N1.4"), ("he", 0.045, "N1.5")],
)
def test_a_scheme_with_other_weights_fails(monkeypatch: pytest.MonkeyPatch, key: str, std: float, code: str) -> None:
    changed = replace(init_measure.SCHEMES[key], std=lambda fans: std)
    monkeypatch.setitem(init_measure.SCHEMES, key, changed)
    found = lab.run("init", seeds=1)
    assert not found.held
    assert code in [part.code for part in found.judgements if not part.held]


def test_batch_normalisation_left_out_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = replace(init_measure.SCHEMES["batchnorm"], normalized=False)
    monkeypatch.setitem(init_measure.SCHEMES, "batchnorm", plain)
    assert not lab.run("init", seeds=1).judgements[4].held


def test_missed_published_figures_fail(result: Experiment) -> None:
    rows = [{**row, "published_std": row["std"] * 1.1, "std_difference": -0.09} for row in result.series["small"]]
    judged = init_judge.small(rows)
    assert not judged.held and "missed by up to 9.1%" in judged.words


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_random_state() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    first, again, other = lab.run("init", **TINY), lab.run("init", **TINY), lab.run("init", **TINY, seed=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert first == again
    assert first.series != other.series


def test_the_settings_of_the_process_do_not_matter() -> None:
    expected, threads = lab.run("init", **TINY), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert lab.run("init", **TINY) == expected
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.get_num_threads() == threads


def test_more_seeds_are_averaged() -> None:
    both = lab.run("init", **{**TINY, "seeds": 2})
    alone = [lab.run("init", **TINY, seed=seed) for seed in (0, 1)]
    expected = [one.series["he"][2]["std"] for one in alone]
    assert both.series["he"][2]["std_by_seed"] == expected
    assert both.series["he"][2]["std"] == pytest.approx(np.mean(expected))
    assert both.series["he"][2]["std_spread"] == pytest.approx(np.std(expected))


def test_real_images() -> None:
    found = lab.run("init", data="fashion-mnist", seeds=1)
    assert found.settings["data"] == "fashion-mnist"
    assert stds(found, "small")[0] == pytest.approx(1, abs=0.1)
    assert "published_std" not in found.series["small"][1]
    assert {part.code: part.held for part in found.judgements}["N1.2"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": 0}, "depth must be a whole number from 1 to 200, got 0"),
        ({"width": 2.5}, "width must be a whole number from 2 to 5000, got 2.5"),
        ({"seeds": True}, "seeds must be"),
        ({"samples": 1}, "samples must be a whole number from 2"),
        ({"data": "mnist"}, "data must be one of gaussian, fashion-mnist, got 'mnist'"),
        ({"data": "fashion-mnist", "samples": 3001}, "at most 3000"),
        ({"samples": 100_000, "width": 5000}, "ask for fewer samples or layers"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lab.run("init", **settings)


def test_unknown_experiment() -> None:
    with pytest.raises(ValueError, match="no experiment is called 'nit'; there is: init"):
        lab.run("nit")
    assert "init" in lab.listing()


def test_underflow_and_very_deep_networks_are_judged() -> None:
    deep = lab.run("init", depth=120, width=20, samples=20, seeds=1)
    assert stds(deep, "small")[-1] == 0
    assert deep.judgements[0].held
    json.loads(deep.to_json())
    assert deep.draw(deep)


def test_text_fits_a_hundred_columns(result: Experiment) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text and all(key in text for key in KEYS)
    assert "held" in text and result.table in text


@pytest.mark.parametrize(("encoding", "width"), [("ascii", 40), ("utf-8", 60), ("latin-1", 120)])
def test_text_on_narrow_and_on_plain_terminals(encoding: str, width: int) -> None:
    tiny = lab.run("init", **TINY)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_experiment(tiny, Console(file=stream, width=width, legacy_windows=False))
    stream.seek(0)
    assert "NOT HELD" in stream.read()


def test_chart_and_page(result: Experiment, tmp_path: Path) -> None:
    assert result.chart.to_dict()["columns"] == 2
    page = result.to_html(tmp_path / "new" / "init.html").read_text(encoding="utf-8")
    assert "All 5 parts of the claim hold." in page
    assert "http://" not in page.split("<script>")[0]
    fragment = result._repr_html_()
    assert "<script" not in fragment and "<svg" in fragment


def test_an_experiment_without_parts_did_not_hold_and_without_figure_says_so() -> None:
    empty = Experiment("x", "X", "c", (), {}, {})
    assert not empty.held
    with pytest.raises(ValueError, match="no figure"):
        _ = empty.chart
    assert replace(empty, judgements=(Judgement("N1", "c", True, "w"),)).held


def test_schemes_scale_with_the_number_of_inputs() -> None:
    stds_of = {key: scheme.std(Fans(400, 100)) for key, scheme in init_measure.SCHEMES.items()}
    assert stds_of["xavier"] == pytest.approx(0.05)
    assert stds_of["he"] == pytest.approx(math.sqrt(2) * 0.05)
    assert (stds_of["small"], stds_of["large"], stds_of["batchnorm"]) == (0.01, 1.0, 0.01)
