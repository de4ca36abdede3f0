"""A narrower beam scatters less: the collimator decides, for every model, on the command line and in Slicer alike."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import view
from test_projector import random_volume

from DeepDRRLogic.collimator import CircularCollimator, RectangularCollimator, check_field, parse_collimator
from DeepDRRLogic.materials import material
from DeepDRRLogic.scatter import make_scatter
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.montecarlo import MonteCarloScatter
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.volume import MaterialVolume

CAMERA = view(size=(64, 48), pitch=5.0)
NARROW = RectangularCollimator(-40.0, -40.0, 40.0, 40.0, "mm")


def water() -> MaterialVolume:
    shape = (40, 20, 40)
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    affine[:3, 3] = (-195.0, -95.0, -195.0)
    return MaterialVolume(np.ones(shape, np.float32), np.zeros(shape, np.uint8), (material("water"),), affine)


def test_an_opening_is_the_same_part_of_a_detector_in_pixels_in_mm_and_on_coarser_pixels() -> None:
    pixels = RectangularCollimator(16.0 - 0.5, 12.0 - 0.5, 48.0 - 0.5, 36.0 - 0.5)
    assert pixels.field(CAMERA) == pytest.approx((0.25, 0.25, 0.75, 0.75))
    for opening in (pixels, CircularCollimator(10.0, (20.0, 30.0)), CircularCollimator(12.0)):
        in_mm = opening.in_mm(CAMERA)
        np.testing.assert_array_equal(in_mm.field_mask(CAMERA), opening.field_mask(CAMERA))
        for camera in (CAMERA, CAMERA.resampled(16, 12)):
            assert in_mm.field(camera) == pytest.approx(opening.field(CAMERA))


def test_shutters_that_are_not_there_at_all_leave_the_detector_open() -> None:
    inf = float("inf")
    assert RectangularCollimator(-inf, -inf, inf, 23.5).field(CAMERA) == pytest.approx((0.0, 0.0, 1.0, 0.5))
    assert RectangularCollimator(-inf, -inf, inf, 0.0, "mm").field(CAMERA) == pytest.approx((0.0, 0.0, 1.0, 0.5))


def test_the_edge_of_a_round_opening_beside_the_detector_has_a_field() -> None:
    opening = CircularCollimator(100.0, (-99.5, 20.0))
    assert opening.field_mask(CAMERA).any()
    assert check_field(opening.field(CAMERA))[2] == pytest.approx(0.5 / 64)


def test_a_circle_in_oblong_pixels_is_refused_in_mm() -> None:
    oblong = CAMERA.resampled(64, 24)
    with pytest.raises(ValueError, match=r"pixels of 5 mm by 10 mm is none on the detector; give the opening in mm"):
        CircularCollimator(8.0).in_mm(oblong)
    assert CircularCollimator(8.0, unit="mm").in_mm(oblong) == CircularCollimator(8.0, unit="mm")


def test_a_round_opening_has_its_own_area() -> None:
    u0, v0, u1, v1 = CircularCollimator(60.0, unit="mm").field(CAMERA)
    assert (u1 - u0) * 320.0 * (v1 - v0) * 240.0 == pytest.approx(np.pi * 60.0**2)


def test_an_opening_ends_where_the_detector_does_and_is_never_narrower_than_a_pixel() -> None:
    assert RectangularCollimator(-1e3, -1e3, 1e3, 0.0, "mm").field(CAMERA) == pytest.approx((0.0, 0.0, 1.0, 0.5))
    u0, v0, u1, v1 = RectangularCollimator(5.0, 5.0, 5.0, 5.0).field(CAMERA)
    assert ((u1 - u0) * 64, (v1 - v0) * 48) == pytest.approx((1.0, 1.0))
    with pytest.raises(ValueError, match="leaves no pixel"):
        CircularCollimator(3.0, (200.0, 0.0)).field(CAMERA)


@pytest.mark.parametrize("name", ["kernel", "network", "montecarlo"])
def test_scatter_is_that_of_the_beam_that_the_shutters_leave(name: str) -> None:
    if name == "network":
        pytest.importorskip("torch")
    model = make_scatter(name, (water(),), device="cpu")
    if isinstance(model, MonteCarloScatter):
        model.photons, model.tally = 20_000, 16
    plain, narrow, without = (
        XRaySimulator(water(), scatter=scatter, noise=None, collimator=collimator, device="cpu")(CAMERA)
        for scatter, collimator in ((model, None), (model, NARROW), (None, NARROW))
    )
    middle = (slice(20, 28), slice(28, 36))
    wide, less = (float((image.signal - without.signal)[middle].mean()) for image in (plain, narrow))
    # The Monte Carlo of this slab in this beam: 0.0425 of 0.3315.
    assert 0.05 < less / wide < 0.25
    assert narrow.metadata["scatter"]["field"] == pytest.approx(list(NARROW.field(CAMERA)))
    assert plain.metadata["scatter"]["field"] == [0.0, 0.0, 1.0, 1.0]


def test_a_model_that_knows_no_beam_is_taken_as_it_is_and_views_of_one_field_share_a_model() -> None:
    class Fog:
        def estimate(self, *_: object) -> None: ...

        def to_dict(self) -> dict[str, str]:
            return {"model": "fog"}

    volume = random_volume(shape=(4, 4, 4))
    fog = Fog()
    assert XRaySimulator(volume, scatter=fog, collimator=NARROW)._scatter_of(CAMERA, 0) is fog  # type: ignore[arg-type]
    for grid in (None, AntiScatterGrid()):
        simulator = XRaySimulator(volume, scatter="kernel", collimator=NARROW, grid=grid)
        narrow = simulator._scatter_of(CAMERA, 0)
        assert simulator._scatter_of(view(30, 10, size=(64, 48), pitch=5.0), 1) is narrow
        assert simulator.with_exposure(photons_per_pixel=1e4)._scatter_of(CAMERA, 0) is narrow
        assert simulator._scatter_of(view(size=(64, 48), pitch=6.0), 0) is not narrow


@pytest.mark.parametrize("words", ["circle:80mm", "circle:200.5px@320,240", "rect:-60,-80,60.25,80mm", "rect:1,2,3,4"])
def test_an_opening_can_be_put_in_words(words: str) -> None:
    opening = parse_collimator(words)
    assert parse_collimator(opening.words) == opening


def test_numbers_of_any_kind_make_an_opening_that_can_be_put_in_words() -> None:
    pair = np.array([1.0, 2.0])
    for opening in (
        CircularCollimator(np.float64(80.0), pair),  # type: ignore[arg-type]
        RectangularCollimator(np.float32(1.5), 2, np.int64(3), 4.0),  # type: ignore[arg-type]
    ):
        assert parse_collimator(opening.words) == opening
        hash(opening)


def test_what_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"collimator's radius is not an array of numbers: 'wide'"):
        CircularCollimator("wide")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"collimator's center has shape \(3,\)"):
        CircularCollimator(8.0, (1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"collimator's v1 is not an array of numbers: 'low'"):
        RectangularCollimator(0, 0, 1, "low")  # type: ignore[arg-type]


def test_words_for_pixels_leave_the_same_open_in_a_picture_of_fewer_pixels() -> None:
    opening = parse_collimator("circle:12px").in_mm(CAMERA)
    fine, coarse = (opening.field_mask(camera).mean() for camera in (CAMERA, CAMERA.resampled(32, 24)))
    assert coarse == pytest.approx(fine, rel=0.1)
