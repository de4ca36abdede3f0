"""The truths that scatter models are held to: runs that add up, and errors told apart from the truth's own noise."""

from __future__ import annotations

import make_scatter_set
import numpy as np
import pytest
from scatter import without_noise


def some_run(rng, histories, relative_error=0.2):
    energy = np.exp(rng.normal(size=(3, 1, 1))) * np.ones((3, 24, 24))
    error = relative_error * energy / np.sqrt(histories)
    total = np.linalg.norm(error, axis=0, keepdims=True)
    drawn = energy + error * rng.normal(size=energy.shape)
    return energy, {
        "photons": np.float32(drawn / 50.0),
        "energy_kev": np.float32(drawn),
        "energy_error_kev": np.float32(np.concatenate([error, total])),
        "seconds": np.array(1.0),
        "histories": np.array(histories),
        "runs": np.array(1),
    }


def test_runs_of_a_scene_add_up_to_a_truth_with_the_noise_of_all_photons():
    exact, one = some_run(np.random.default_rng(1), 4.0)
    _, other = some_run(np.random.default_rng(1), 12.0)
    both = make_scatter_set.together(one, other)
    assert both["runs"] == 2 and both["histories"] == 16.0
    assert both["energy_error_kev"] == pytest.approx(one["energy_error_kev"] / 2.0)
    assert make_scatter_set.uncertainty(both) == pytest.approx(make_scatter_set.uncertainty(one) / 2.0, rel=0.05)
    assert both["energy_kev"] == pytest.approx(0.25 * one["energy_kev"] + 0.75 * other["energy_kev"], rel=1e-6)
    assert np.abs(both["energy_kev"].mean(axis=(1, 2)) / exact[:, 0, 0] - 1.0).max() < 0.02


@pytest.mark.parametrize("noise", [0.01, 0.02])
def test_the_noise_of_the_truth_is_taken_off_the_median_error_and_never_more_than_that(noise):
    rng = np.random.default_rng(2)
    errors = 0.05 * rng.normal(size=20_000) * np.exp(0.5 * rng.normal(size=20_000))
    deviations = noise * np.exp(0.5 * rng.normal(size=20_000))
    exact, seen = np.median(np.abs(errors)), errors + deviations * rng.normal(size=20_000)
    raw, found = np.median(np.abs(seen)), without_noise(seen, deviations)
    assert raw > 1.02 * exact
    assert 0.99 * exact < found < exact + 0.4 * (raw - exact)
    assert without_noise(errors, np.zeros(20_000)) == pytest.approx(exact)
