"""What the commands write replaces no input, and no segments that nobody named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import SMALL, THRESHOLD, run
from dicom_files import GRIDS, legacy_slices, marked_hu, save

from DeepDRRLogic.cli import scene


@pytest.fixture(autouse=True)
def beside_a_ct(a_ct: Path, in_an_empty_folder: Path) -> None:
    shutil.copy(a_ct, in_an_empty_folder / "ct.nrrd")


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], message: str, *arguments: Any) -> None:
    before = contents()
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert contents() == before


def test_no_output_replaces_an_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("segment", "ct.nrrd", *THRESHOLD) == 0
    assert run("render", "ct.nrrd", *SMALL, *THRESHOLD, "-o", "shot.png") == 0
    Path("same.nrrd").hardlink_to("ct.nrrd")
    monkeypatch.setattr(scene, "read_ct", lambda *_: pytest.fail("the CT was read"))
    refused(capsys, "Writing ct.nrrd would replace ct.nrrd", "render", "ct.nrrd", "-o", "x.png", "-o", "ct.nrrd")
    refused(capsys, "Writing same.nrrd would replace ct.nrrd", "render", "ct.nrrd", "-o", "same.nrrd")
    refused(
        capsys, "Writing ct.nrrd would replace", "segment", "ct.nrrd", "-o", "x.seg.nrrd", "--probabilities", "ct.nrrd"
    )
    again = ["--segmentation", "ct.seg.nrrd", "-o", "ct.seg.nrrd"]
    refused(capsys, "Writing ct.seg.nrrd would replace ct.seg.nrrd", "render", "ct.nrrd", *again)
    again = ["--camera", "shot.png.json", "-o", "shot.png"]
    refused(capsys, "Writing shot.png.json would replace shot.png.json", "render", "ct.nrrd", *again)
    densities = Path("ct_area_densities.nrrd")
    shutil.copy("ct.nrrd", densities)
    again = [densities, "--save-area-densities", "-o", "ct.png"]
    refused(capsys, "would replace ct_area_densities.nrrd", "render", *again)


def test_no_output_is_written_twice(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "read_ct", lambda *_: pytest.fail("the CT was read"))
    twice = ["render", "ct.nrrd", "-o", "s.nrrd", "--save-area-densities", "-o", "s_area_densities.nrrd"]
    refused(capsys, "s_area_densities.nrrd would be written twice", *twice)
    refused(capsys, "s.png would be written twice", "render", "ct.nrrd", "-o", "s.png", "-o", "s.png")
    Path("folder").mkdir()
    same = ["-o", "s.png", "-o", "folder/../s.png"]
    refused(capsys, "s.png and folder/../s.png are one file, which would be written twice", "render", "ct.nrrd", *same)
    refused(capsys, "s.png.json would be written twice", "render", "ct.nrrd", "-o", "s.png", "-o", "s.png.json")
    refused(capsys, "s.csv would be written twice", "spectrum", "-o", "s.csv", "-o", "s.csv")


def test_no_output_replaces_a_slice_of_a_dicom_folder(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(Path("dicom"), legacy_slices(marked_hu(), GRIDS["axial"]))
    (folder / "IM0000").rename(folder / "slice.png")
    for source in (folder, folder / "IM0001"):
        refused(capsys, "would replace a slice of the CT in dicom", "render", source, "-o", "dicom/slice.png")
    for _ in range(2):  # a picture among the slices may be taken again
        assert run("render", folder, *SMALL, *THRESHOLD, "-o", "dicom/shot.png") == 0


def test_segments_are_replaced_only_where_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ct.seg.nrrd").write_text("corrected by hand")
    refused(capsys, "ct.seg.nrrd is there already: give -o ct.seg.nrrd to replace it", "segment", "ct.nrrd")
    assert run("segment", "ct.nrrd", *THRESHOLD, "-o", "ct.seg.nrrd") == 0
    assert Path("ct.seg.nrrd").read_bytes().startswith(b"NRRD")


def test_a_sweep_does_not_mix_with_another(capsys: pytest.CaptureFixture[str]) -> None:
    orbit = ["sweep", "ct.nrrd", *SMALL, *THRESHOLD, "--frames", 3, "-o", "orbit"]
    assert run(*orbit) == 0
    shown = "orbit holds another sweep, frame_0000.png and 3 more: give -o another folder, or delete them first"
    refused(capsys, shown, *orbit)
    for frame in Path("orbit").glob("frame_*.png"):
        frame.unlink()
    refused(capsys, "orbit holds another sweep, sweep.gif", *orbit)
    Path("orbit/sweep.gif").unlink()
    assert run(*orbit) == 0


def test_a_sweep_that_cannot_begin_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "There is no none.nrrd", "sweep", "none.nrrd", "-o", "orbit")
    refused(capsys, "cannot reach", "sweep", "ct.nrrd", "--preset", "biplane_frontal", "--to", 150, "-o", "orbit")
    assert not Path("orbit").exists()
    assert run("sweep", "ct.nrrd", *SMALL, *THRESHOLD, "--frames", 2, "--movie", "none", "-o", "orbit") == 0
    assert len(list(Path("orbit").iterdir())) == 4
    refused(capsys, "orbit.d", "sweep", "ct.nrrd", "-o", "orbit.d")
    Path("file").write_text("")
    refused(capsys, "file is a file: give a folder", "sweep", "ct.nrrd", "-o", "file")
