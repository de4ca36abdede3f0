"""`deepdrr segment`, and what an image says of how its materials were found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from command_line import SMALL, THRESHOLD, rendered, run

from DeepDRRLogic import segmentation
from DeepDRRLogic.segmentation import read_segmentation, segment_by_thresholds, write_segmentation
from DeepDRRLogic.volume import MaterialLabels

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def segmentation_of(ct: str | Path, *options: object) -> dict[str, str]:
    return rendered(ct, *options, method=None).metadata["patient"]["segmentation"]


def test_segmentation_by_file_gives_the_image_of_the_thresholds_it_was_made_with(a_ct: Path) -> None:
    assert run("segment", a_ct, *THRESHOLD, "-o", "ct.seg.nrrd") == 0
    from_file = rendered(a_ct, "--segmentation", "ct.seg.nrrd", method=None)
    assert from_file.signal == pytest.approx(rendered(a_ct).signal)


def test_the_image_says_how_the_materials_were_found(a_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert segmentation_of(a_ct, "--method", "threshold") == {"method": "threshold"}
    assert segmentation_of(a_ct, "--bone-min-hu", 500) == {"method": "threshold"}
    assert segmentation_of("phantom", "--phantom-spacing", 6) == {"method": "phantom"}
    assert run("segment", a_ct, *THRESHOLD, "-o", "own.seg.nrrd") == 0
    own = {"method": "file", "file": str(Path("own.seg.nrrd").resolve())}
    assert segmentation_of(a_ct, "--segmentation", "own.seg.nrrd") == own
    monkeypatch.setattr(segmentation, "networks_installed", lambda: False)
    assert segmentation_of(a_ct) == {"method": "threshold"}


def test_the_image_says_by_which_weights_the_materials_were_found(a_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "networks_installed", lambda: True)
    monkeypatch.setattr(segmentation, "segment", lambda ct, *_, **__: segment_by_thresholds(ct))
    weights = Path(segmentation.__file__).parents[1] / "data" / "vnet.safetensors"
    found_by = {"method": "vnet", "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert segmentation_of(a_ct) == segmentation_of(a_ct, "--method", "vnet") == found_by


def test_a_segmentation_of_another_place_is_refused(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("segment", a_ct, *THRESHOLD, "-o", "ct.seg.nrrd") == 0
    labels = read_segmentation("ct.seg.nrrd")
    moved = labels.ras_from_ijk.copy()
    moved[2, 3] += 2000.0
    write_segmentation(MaterialLabels(labels.labels, labels.materials, moved), "moved.seg.nrrd")
    assert run("render", a_ct, *SMALL, "--segmentation", "moved.seg.nrrd", "-o", "shot.png") == 2
    assert "they do not meet: give the labels of this volume" in capsys.readouterr().err


def test_probabilities_go_into_a_volume_or_nowhere(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("segment", a_ct, "--method", "vnet", "--probabilities", "bone.txt") == 2
    assert "--probabilities bone.txt: give a .nrrd" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_higher_threshold_leaves_no_bone(a_ct: Path) -> None:
    image = rendered(a_ct, "--bone-min-hu", 1800)
    assert image.area_densities is not None
    assert image.area_densities[image.material_names.index("bone")].max() == 0
