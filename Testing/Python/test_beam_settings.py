"""What stands in the beam besides the patient, grid and collimator; and random numbers from image to image."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import view
from test_projector import random_volume

from DeepDRRLogic.collimator import CircularCollimator
from DeepDRRLogic.display import DisplaySettings
from DeepDRRLogic.exposure import Exposure
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.kernel import KernelScatter
from DeepDRRLogic.scatter.montecarlo import MonteCarloScatter
from DeepDRRLogic.simulator import XRaySimulator

CAMERA = view(size=(48, 36), pitch=5.0)
GRID = AntiScatterGrid(ratio=8)
PATIENT = random_volume(shape=(20, 22, 24))
QUIET = {"noise": None, "device": "cpu"}


class NoGrid:
    """A scatter model that was written without grids in mind."""

    def estimate(self, area_densities, materials, camera, spectrum, detector) -> Exposure:
        raise AssertionError

    def to_dict(self) -> dict[str, str]:
        return {"model": "no grid"}


def test_a_grid_of_the_simulator_is_that_of_its_scatter_model() -> None:
    with_grid = XRaySimulator(PATIENT, scatter="kernel", grid=GRID, **QUIET)(CAMERA)
    by_hand = XRaySimulator(PATIENT, scatter=KernelScatter(PATIENT, grid=GRID), **QUIET)(CAMERA)
    np.testing.assert_array_equal(with_grid.signal, by_hand.signal)
    assert with_grid.metadata["scatter"] == by_hand.metadata["scatter"]
    assert with_grid.metadata["scatter"]["grid"]["ratio"] == 8


def test_a_grid_can_be_put_in_and_taken_out_again() -> None:
    bare = XRaySimulator(PATIENT, scatter="kernel", **QUIET)
    gridded = bare.with_exposure(grid=GRID)
    scattered, less = (one(CAMERA).signal - XRaySimulator(PATIENT, **QUIET)(CAMERA).signal for one in (bare, gridded))
    assert 0.0 < less.mean() < 0.6 * scattered.mean()
    assert gridded.with_exposure(grid=None)(CAMERA) == bare(CAMERA)
    assert gridded.with_exposure(photons_per_pixel=1e3).grid == GRID and gridded.preview(2).grid == GRID


@pytest.mark.parametrize(("scatter", "reason"), [(None, "there is no scatter"), (NoGrid(), "knows no grid")])
def test_a_grid_with_nothing_to_act_on_is_refused(scatter: NoGrid | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        XRaySimulator(PATIENT, scatter=scatter, grid=GRID)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [({"grid": 10}, "AntiScatterGrid"), ({"collimator": "circle:80mm"}, "parse_collimator")],
)
def test_a_name_or_number_where_a_thing_belongs_is_refused_at_once(settings: dict[str, object], remedy: str) -> None:
    with pytest.raises(TypeError, match=remedy):
        XRaySimulator(PATIENT, scatter="kernel", **settings)  # type: ignore[arg-type]


def test_an_exposure_says_which_settings_it_has() -> None:
    with pytest.raises(TypeError, match=r"no kvp; it has spectrum, .*grid"):
        XRaySimulator(PATIENT).with_exposure(kvp=80)


def test_an_image_knows_its_collimator_and_is_shown_with_it() -> None:
    opening = CircularCollimator(60.0, unit="mm")
    image = XRaySimulator(PATIENT, collimator=opening, **QUIET)(CAMERA)
    assert image.metadata["collimator"] == opening.words and image.collimator == opening
    outside = ~opening.field_mask(CAMERA)
    assert outside.any() and not image.display()[outside].any()
    np.testing.assert_array_equal(image.display(), image.display(DisplaySettings(collimator=opening)))
    assert image.signal[outside].min() > 0.0
    assert XRaySimulator(PATIENT, **QUIET)(CAMERA).collimator is None


def test_images_of_a_series_do_not_share_the_photons_of_a_monte_carlo() -> None:
    drawn = MonteCarloScatter(PATIENT, photons=2000, tally=4, device="cpu")
    fixed = MonteCarloScatter(PATIENT, photons=2000, tally=4, device="cpu", seed=7)
    one, two, again = (XRaySimulator(PATIENT, scatter=drawn, **QUIET)(CAMERA, seed) for seed in (1, 2, 1))
    assert one == again and not np.array_equal(one.signal, two.signal)
    assert (one.metadata["scatter"]["seed"], two.metadata["scatter"]["seed"]) == (1, 2)
    same = [XRaySimulator(PATIENT, scatter=fixed, **QUIET)(CAMERA, seed) for seed in (1, 2)]
    np.testing.assert_array_equal(same[0].signal, same[1].signal)
    assert same[0].metadata["scatter"]["seed"] == 7
