"""The procedural phantom: anatomy on the right side, exact labels, plausible HU, landmarks that hit."""

from __future__ import annotations

import numpy as np
import pytest

from DeepDRRLogic import memory
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.phantom import Phantom, phantom
from DeepDRRLogic.projector import make_projector
from DeepDRRLogic.volume import MaterialVolume

AIR, SOFT_TISSUE, BONE = 0, 1, 2
LUMBAR = [f"L{n}" for n in range(1, 6)]
THORACIC = [f"T{n}" for n in range(1, 13)]


@pytest.fixture(scope="module")
def patient() -> Phantom:
    return phantom(seed=0, spacing_mm=2.0)


@pytest.fixture(scope="module")
def coarse() -> Phantom:
    return phantom(seed=0, spacing_mm=4.0)


@pytest.fixture(scope="module")
def pelvis() -> Phantom:
    return phantom(seed=3, spacing_mm=1.5, region="pelvis")


def voxel(p: Phantom, ras: np.ndarray) -> tuple[int, ...]:
    ijk = np.linalg.inv(p.ct.ras_from_ijk) @ [*ras, 1.0]
    return tuple(np.rint(ijk[2::-1]).astype(int))


def coordinates(p: Phantom) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RAS x (1,1,n), y (1,n,1), z (n,1,1) of the axis-aligned grid."""
    k, j, i = (np.arange(n) for n in p.ct.shape)
    m = p.ct.ras_from_ijk
    x, y, z = m[0, 0] * i + m[0, 3], m[1, 1] * j + m[1, 3], m[2, 2] * k + m[2, 3]
    return x[None, None, :], y[None, :, None], z[:, None, None]


def around(p: Phantom, ras: np.ndarray, radius_mm: float) -> np.ndarray:
    x, y, z = coordinates(p)
    return (x - ras[0]) ** 2 + (y - ras[1]) ** 2 + (z - ras[2]) ** 2 <= radius_mm**2


def runs(line: np.ndarray) -> int:
    """How many separate stretches of True there are."""
    return int((np.diff(np.concatenate([[0], line.astype(int)])) == 1).sum())


@pytest.mark.parametrize(("region", "expected"), [("torso", 31), ("chest", 20), ("pelvis", 10)])
def test_all_landmarks_lie_in_the_ct(region: str, expected: int) -> None:
    body = phantom(seed=0, spacing_mm=8.0, region=region)
    ijk = np.array([np.linalg.inv(body.ct.ras_from_ijk) @ [*point, 1.0] for point in body.landmarks.values()])[:, :3]
    assert len(ijk) == expected
    assert np.all(ijk > -0.5) and np.all(ijk < np.array(body.ct.shape[::-1]) - 0.5)


def test_the_same_seed_gives_the_same_voxels_and_landmarks(coarse: Phantom) -> None:
    again = phantom(seed=0, spacing_mm=4.0)
    np.testing.assert_array_equal(again.ct.hu, coarse.ct.hu)
    np.testing.assert_array_equal(again.labels.labels, coarse.labels.labels)
    assert all(np.array_equal(again.landmarks[name], point) for name, point in coarse.landmarks.items())


def test_another_seed_is_another_but_similar_patient(coarse: Phantom) -> None:
    other = phantom(seed=1, spacing_mm=4.0)
    assert other.landmarks.keys() == coarse.landmarks.keys()
    shifts = [np.linalg.norm(other.landmarks[n] - coarse.landmarks[n]) for n in coarse.landmarks]
    assert 2.0 < max(shifts) < 60.0
    first, second = (MaterialVolume.from_ct(p.ct, p.labels).mass_g / 1000.0 for p in (coarse, other))
    assert first != second
    assert all(30.0 < mass_kg < 70.0 for mass_kg in (first, second))


def test_mass_does_not_depend_on_the_voxel_size(patient: Phantom, coarse: Phantom) -> None:
    fine, rough = (MaterialVolume.from_ct(p.ct, p.labels).mass_g for p in (patient, coarse))
    assert rough == pytest.approx(fine, rel=0.01)


def test_air_outside_the_body_is_exactly_minus_1000(patient: Phantom) -> None:
    hu = patient.ct.hu
    assert hu.min() == -1000
    for face in (hu[:, 0], hu[:, -1]):
        assert np.all(face == -1000)
    # From the front of every column to the skin there is nothing else.
    outside = np.logical_and.accumulate(hu <= -1000, axis=1)
    assert 0.1 < outside.mean() < 0.6
    assert np.all(patient.labels.labels[outside] == AIR)


def test_noise_is_of_the_given_size_inside_and_absent_outside(coarse: Phantom) -> None:
    noisy = phantom(seed=0, spacing_mm=4.0, noise_hu=20.0)
    difference = noisy.ct.hu.astype(float) - coarse.ct.hu
    soft = (coarse.labels.labels == SOFT_TISSUE) & (coarse.ct.hu > -500)
    assert difference[soft].std() == pytest.approx(20.0, rel=0.03)
    assert abs(difference[soft].mean()) < 0.5
    assert np.all(difference[coarse.ct.hu == -1000] == 0)
    np.testing.assert_array_equal(noisy.labels.labels, coarse.labels.labels)


def test_liver_lies_on_the_right_and_heart_on_the_left(patient: Phantom) -> None:
    hu, marks = patient.ct.hu, patient.landmarks
    assert marks["liver"][0] > 40 and marks["heart"][0] < -20
    assert hu[around(patient, marks["liver"], 12.0)].mean() == pytest.approx(60, abs=4)
    assert hu[around(patient, marks["heart"], 12.0)].mean() == pytest.approx(45, abs=4)
    x, _, _ = coordinates(patient)
    lung = (patient.labels.labels == SOFT_TISSUE) & (hu < -700)
    right, left = (lung & (x > 0)).sum(), (lung & (x < 0)).sum()
    assert 0.55 < left / right < 0.97, "the heart takes its room from the left lung"
    litres = (right + left) * 8e-6
    assert 2.5 < litres < 6.5


def test_right_dome_of_the_diaphragm_is_higher(patient: Phantom) -> None:
    lung = (patient.labels.labels == SOFT_TISSUE) & (patient.ct.hu < -700)
    _, _, z = coordinates(patient)

    def dome_mm(x_mm: float) -> float:
        _, j, i = voxel(patient, np.array([x_mm, -12.0, 300.0]))
        columns = lung[:, j - 2 : j + 3, i - 2 : i + 3].reshape(len(lung), -1)
        return float(np.median(z.ravel()[columns.argmax(axis=0)]))

    assert dome_mm(100.0) > dome_mm(-100.0) + 3.0


def test_stomach_gas_is_on_the_left_and_in_front_of_its_fluid(patient: Phantom) -> None:
    x, y, z = coordinates(patient)
    gas = (patient.labels.labels == AIR) & (patient.ct.hu < -900)
    box = (np.abs(x) > 20) & (np.abs(x) < 75) & (y > 0) & (y < 75) & (z > 135) & (z < 175)
    left, right = (gas & box & (x < 0)).sum(), (gas & box & (x > 0)).sum()
    assert left > 500 and right < 0.02 * left
    fluid = (patient.labels.labels == SOFT_TISSUE) & box & (np.abs(x + 50) < 20)
    assert np.broadcast_to(y, gas.shape)[gas & box].mean() > np.broadcast_to(y, gas.shape)[fluid].mean() + 20


def test_labels_agree_with_the_numbers(patient: Phantom) -> None:
    hu, labels = patient.ct.hu, patient.labels.labels
    assert [m.name for m in patient.labels.materials] == ["air", "soft_tissue", "bone"]
    assert 1200 < hu.max() < 2200
    assert np.mean(hu[labels == AIR] < -950) > 0.97
    body = (labels == SOFT_TISSUE) & (hu > -500)
    assert np.percentile(hu[body], [10, 50, 90]) == pytest.approx([-100, 45, 60], abs=20)
    bone = hu[labels == BONE]
    assert 300 < bone.mean() < 650
    assert np.mean(hu[labels != BONE] > 400) < 0.005
    grams = bone.size * 8e-3 * 1.3
    assert 3500 < grams < 9000, "skeleton of trunk, pelvis and upper thighs"


def test_marrow_is_bone_inside_a_dense_cortex(patient: Phantom) -> None:
    _, _, z = coordinates(patient)
    x = coordinates(patient)[0]
    k = int(np.argmin(np.abs(z.ravel() + 230)))
    right = x[0, 0] > 0
    shaft = (patient.labels.labels[k] == BONE) & right
    hu = patient.ct.hu[k]
    j, i = (round(float(axis.mean())) for axis in np.nonzero(shaft))
    assert shaft[j, i] and hu[j, i] < 50, "fat marrow in the canal"
    for row in (hu[j, i:], hu[j, :i][::-1], hu[j:, i], hu[:j, i][::-1]):
        assert row[:12].max() > 1200, "cortex on every side"
    equivalent_mm = 2 * np.sqrt(shaft.sum() * 4 / np.pi)
    assert equivalent_mm == pytest.approx(28, abs=4)


def test_there_are_seventeen_vertebrae_with_discs_between(patient: Phantom) -> None:
    spine = [patient.landmarks[name] for name in LUMBAR[::-1] + THORACIC[::-1]]
    assert len(spine) == 17 and np.all(np.diff([p[2] for p in spine]) > 15)
    first, last = spine[0], spine[-1]
    z = np.linspace(first[2], last[2], 800)
    centers = np.array(spine)
    line = [np.array([*(np.interp(h, centers[:, 2], centers[:, a]) for a in (0, 1)), h]) for h in z]
    bone = np.array([patient.labels.labels[voxel(patient, point)] == BONE for point in line])
    assert runs(bone) == 17
    for name in LUMBAR + THORACIC:
        trabecular = patient.ct.hu[around(patient, patient.landmarks[name], 5.0)]
        assert 120 < trabecular.mean() < 350


def test_spine_has_lordosis_below_and_kyphosis_above(patient: Phantom) -> None:
    y = {name: patient.landmarks[name][1] for name in LUMBAR + THORACIC}
    assert y["L3"] > y["L5"] + 5 and y["L3"] > y["T12"] + 10, "the lumbar spine bends forward"
    assert y["T8"] < y["T12"] - 5 and y["T8"] < y["T1"] - 20, "the thoracic spine bends backward"


def test_ribs_cross_the_side_of_the_chest_alike_on_both_sides(patient: Phantom) -> None:
    x, _, z = coordinates(patient)
    _, j, _ = voxel(patient, np.array([0.0, -30.0, 250.0]))
    chest = (z.ravel() > 120) & (z.ravel() < 420)
    side = patient.labels.labels[chest, j, :] == BONE
    counts = [runs((side & keep).any(axis=1)) for keep in (x[0] > 85, x[0] < -85)]
    assert counts[0] == counts[1]
    assert 8 <= counts[0] <= 10, "the third to the tenth rib or so cross the axillary plane"


def test_ribs_run_down_and_forward(patient: Phantom) -> None:
    x, y, z = coordinates(patient)
    chest = (z.ravel() > 150) & (z.ravel() < 310)
    # Seen from the side, between spine and sternum.
    picture = ((patient.labels.labels == BONE) & (x > 85)).any(axis=2)[chest]
    back, front = (picture[:, int(np.argmin(np.abs(y.ravel() - v)))] for v in (-60.0, -20.0))
    shifts = np.arange(0, 18)
    match = [np.mean(back[s:] == front[: len(front) - s]) for s in shifts]
    drop_mm = 2.0 * shifts[int(np.argmax(match))]
    assert 12 < drop_mm < 32, "20 to 40 degrees of slope over 40 mm"


def test_femoral_heads_are_equal_balls_at_mirrored_landmarks(pelvis: Phantom) -> None:
    right, left = (pelvis.landmarks[f"femoral_head_{side}"] for side in ("right", "left"))
    np.testing.assert_allclose(right * [-1, 1, 1], left, atol=1e-9)
    assert right[0] > 0
    labels = pelvis.labels.labels
    for center in (right, left):
        assert np.mean(labels[around(pelvis, center, 22.0)] == BONE) > 0.995
        gap = around(pelvis, center, 25.4) & ~around(pelvis, center, 24.4)
        above = gap & (coordinates(pelvis)[2] > center[2] + 12)
        assert np.mean(labels[above] == BONE) < 0.15, "a joint space of soft tissue above the head"
    heads = [np.mean(pelvis.ct.hu[around(pelvis, c, 20.0)]) for c in (right, left)]
    assert heads[0] == pytest.approx(heads[1], rel=0.02)
    # Hip bones and femora mirror each other to the voxel; only spine and bowel know left from right.
    lateral = np.abs(coordinates(pelvis)[0]) > 60
    bone = (labels == BONE) & lateral
    np.testing.assert_array_equal(bone, bone[:, :, ::-1])


def test_projected_landmark_is_the_centre_of_the_joint_space_in_the_picture(pelvis: Phantom) -> None:
    center = pelvis.landmarks["femoral_head_right"]
    camera = CArm(isocenter_ras_mm=tuple(center), width=320, height=320, pixel_pitch_mm=0.4).camera()
    volume = MaterialVolume.from_ct(pelvis.ct, pelvis.labels)
    bone = make_projector(volume, device="cpu").project(camera)[BONE]
    u0, v0 = camera.project(center)
    pixels_per_mm = 1020.0 / 530.0 / 0.4
    radii = np.arange(22.0, 30.0, 0.1) * pixels_per_mm
    narrowest = []
    for angle in np.radians(np.arange(-35, 36, 5)):
        u, v = u0 + radii * np.sin(angle), v0 - radii * np.cos(angle)
        profile = bone[np.rint(v).astype(int), np.rint(u).astype(int)]
        narrowest.append(radii[int(np.argmin(profile))] / pixels_per_mm)
    # This patient's head has a radius of 23.1 mm, the socket one of 26.2 mm.
    assert np.mean(narrowest) == pytest.approx(24.5, abs=0.8)
    assert np.std(narrowest) < 0.5


def test_bones_stay_inside_the_body(patient: Phantom) -> None:
    bone = patient.labels.labels == BONE
    outside = np.logical_and.accumulate(patient.ct.hu == -1000, axis=1)
    outside |= np.logical_and.accumulate(patient.ct.hu[:, ::-1] == -1000, axis=1)[:, ::-1]
    reached = outside.copy()
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
        reached |= np.roll(outside, step, axis)
    assert not np.any(reached & bone)


def test_a_region_shows_the_same_patient(pelvis: Phantom) -> None:
    whole = phantom(seed=3, spacing_mm=4.0)
    for name, point in pelvis.landmarks.items():
        np.testing.assert_array_equal(point, whole.landmarks[name])
    assert pelvis.labels.labels[voxel(pelvis, whole.landmarks["L5"])] == BONE
    assert pelvis.ct.shape[0] * 1.5 == pytest.approx(320, rel=0.08)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing_mm": 0.1}, "spacing_mm is 0.1"),
        ({"spacing_mm": float("nan")}, "spacing_mm is nan"),
        ({"region": "foot"}, "Unknown region 'foot'; known are torso"),
        ({"noise_hu": -1.0}, "noise_hu is -1.0"),
    ],
)
def test_arguments_that_make_no_phantom_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phantom(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("region", "bytes_per_voxel"), [("torso", 14.0), ("pelvis", 26.0)])
def test_a_phantom_that_does_not_fit_is_refused_before_it_is_painted(
    region: str, bytes_per_voxel: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it needs was measured at fine voxels, by tracemalloc."""
    voxels = phantom(spacing_mm=9.0, region=region).ct.hu.size
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: int(voxels * bytes_per_voxel))
    monkeypatch.setattr("DeepDRRLogic.phantom._paint", lambda *_: pytest.fail("painted"))
    with pytest.raises(ValueError, match=r"The phantom has .* are free.*: give a larger spacing_mm, or one region"):
        phantom(spacing_mm=9.0, region=region)
