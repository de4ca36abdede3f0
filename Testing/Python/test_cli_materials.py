"""Where the command line takes the materials from: segmentations, label maps, and a V-Net that takes its time."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import typer
from command_line import SMALL, rendered, run

from DeepDRRLogic import memory, segmentation
from DeepDRRLogic.cli import scene
from DeepDRRLogic.cli.app import app
from DeepDRRLogic.cli.options import PatientOptions
from DeepDRRLogic.segmentation import segment_by_thresholds
from DeepDRRLogic.volume import CTVolume

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def write_label_map(ct: Path, name: str, values: tuple[int, int, int], folded: slice = slice(None)) -> str:
    """The thresholds' air, soft tissue and bone under other numbers."""
    found = segment_by_thresholds(CTVolume.read(ct))
    image = sitk.ReadImage(str(ct))
    labels = sitk.GetImageFromArray(np.array(values, np.int16)[found.labels])
    labels.CopyInformation(image)
    sitk.WriteImage(labels[:, :, folded], name)
    return name


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.nrrd"])
def test_a_label_map_gives_the_image_of_the_materials_that_it_names(a_ct: Path, name: str) -> None:
    write_label_map(a_ct, name, (0, 7, 30))
    image = rendered(a_ct, "--segmentation", name, "--materials", "7=soft_tissue,25-50=bone", method=None)
    assert image.signal == pytest.approx(rendered(a_ct).signal)
    patient = image.metadata["patient"]
    assert patient["segmentation"] == {"method": "file", "file": str(Path(name).resolve())}
    assert patient["options"]["materials"] == "7=soft_tissue,25-50=bone"


def test_tissues_are_told_apart_however_the_materials_were_found(a_ct: Path) -> None:
    write_label_map(a_ct, "labels.nrrd", (0, 1, 2))
    of_file = rendered(
        a_ct, "--segmentation", "labels.nrrd", "--materials", "1=soft_tissue,2=bone", "--tissues", method=None
    )
    assert of_file.material_names == ("air", "soft_tissue", "bone", "trabecular_bone", "adipose")
    found = rendered(a_ct, "--tissues")
    assert found.signal == pytest.approx(of_file.signal)
    assert found.metadata["patient"]["options"]["tissues"] == "True"
    assert run("segment", a_ct, "--method", "threshold", "--tissues", "-q", "-o", "five.seg.nrrd") == 0
    again = rendered(a_ct, "--segmentation", "five.seg.nrrd", method=None)
    assert again.material_names == found.material_names
    assert again.signal == pytest.approx(found.signal)
    assert rendered(a_ct).material_names == ("air", "soft_tissue", "bone")


def test_the_later_of_two_ranges_wins_and_zero_may_be_named() -> None:
    assert scene.parse_materials("0-3 = soft_tissue, 2=cortical bone") == {
        0: "soft_tissue",
        1: "soft_tissue",
        2: "cortical bone",
        3: "soft_tissue",
    }
    assert scene.parse_materials("-1=air") == {-1: "air"}
    assert scene.parse_materials("L1-L5=bone") == {"L1-L5": "bone"}
    assert scene.parse_materials("1=skin,0-3=muscle") == dict.fromkeys(range(4), "muscle")


def test_the_name_of_a_segment_may_have_commas() -> None:
    assert scene.parse_materials("L1, left=bone, L1, right, fused =titanium,Aorta=blood") == {
        "L1, left": "bone",
        "L1, right, fused": "titanium",
        "Aorta": "blood",
    }


def test_a_segment_is_given_its_material_by_name(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = sitk.ReadImage(write_label_map(a_ct, "labels.nrrd", (0, 1, 1)))
    for key, text in {"ID": "Stem", "Name": "Hip stem", "LabelValue": "1", "Layer": "0"}.items():
        labels.SetMetaData(f"Segment0_{key}", text)
    sitk.WriteImage(labels, "x.seg.nrrd")
    assert run("render", a_ct, "--segmentation", "x.seg.nrrd") == 2
    assert "or pass --materials 'Hip stem=bone'." in capsys.readouterr().err
    image = rendered(a_ct, "--segmentation", "x.seg.nrrd", "--materials", "Hip stem=titanium", method=None)
    assert image.material_names == ("air", "titanium")
    assert run("render", a_ct, "--segmentation", "x.seg.nrrd", "--materials", "Hip stern=titanium") == 2
    assert "no segment is named or tagged 'Hip stern'; there are Hip stem." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--segmentation", "labels.nii.gz"], "labels.nii.gz is no .seg.nrrd: save"),
        (["--segmentation", "labels.nii.gz"], "stand for, as in --materials 1=soft_tissue,2=bone."),
        (["--segmentation", "labels.nrrd"], "names no segments"),
        (["--segmentation", "labels.nrrd"], "stand for, as in --materials 1=soft_tissue,2=bone."),
        (["--segmentation", "labels.nrrd", "--materials", "7=bone"], "stand for no material, 30: name one for each"),
        (["--segmentation", "labels.nrrd", "--materials", "7=bone,stem=bone"], "--materials has the keys 7, 'stem'"),
        (["--segmentation", "labels.nrrd", "--materials", "7=gold"], "Unknown material 'gold'"),
        (["--segmentation", "labels.nrrd", "--materials", "7"], "--materials says '7'; give such as 1=soft_tissue"),
        (["--segmentation", "labels.nrrd", "--materials", "7, 30=bone"], "--materials says '7, 30=bone'; give such as"),
        (["--segmentation", "labels.nrrd", "--materials", "7=bone,L1, left"], "--materials says 'L1, left'; give such"),
        (["--segmentation", "labels.nrrd", "--materials", "7=bone,,30=bone"], "--materials says ''; give such as"),
        (["--segmentation", "labels.nrrd", "--materials", "7=bone,7=lung,30=bone"], "--materials says twice what 7 is"),
        (
            ["--segmentation", "labels.nrrd", "--materials", "Stem=bone,stem=lung"],
            "--materials says twice what stem is",
        ),
        (["--segmentation", "labels.nrrd", "--materials", "9-7=bone"], "--materials says '9-7=bone'; give such as"),
        (["--segmentation", "labels.nrrd", "--materials", "0-9999999999=bone"], "give such as 1=soft_tissue"),
        (["--materials", "7=bone"], "--materials says what is in a --segmentation: give that, too."),
    ],
)
def test_a_label_map_without_its_materials_is_refused_with_the_remedy(
    a_ct: Path, options: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("labels.nrrd", "labels.nii.gz"):
        write_label_map(a_ct, name, (0, 7, 30))
    assert run("render", a_ct, *SMALL, *options) == 2
    assert message in capsys.readouterr().err


def test_a_label_map_in_place_of_the_ct_is_referred_to_the_option(
    a_ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("labels.nii.gz", "labels.seg.nrrd"):
        assert run("info", write_label_map(a_ct, name, (0, 1, 2))) == 2
        shown = capsys.readouterr().err
        assert "--segmentation" in shown and "read_segmentation" not in shown


def test_a_segmentation_of_half_the_ct_is_told(a_ct: Path, capfd: pytest.CaptureFixture[str]) -> None:
    half = write_label_map(a_ct, "half.nii.gz", (0, 1, 2), slice(20))
    rendered(a_ct, "--segmentation", half, "--materials", "1=soft_tissue,2=bone", method=None)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("WARNING: 4")
    assert "ml of the CT's matter (above -500 HU) lie outside the segmentation" in line


def test_after_a_slow_segmentation_the_way_to_save_its_time_is_told(
    a_ct: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segmentation, "segment", lambda ct, *_, **__: segment_by_thresholds(ct))
    said = (
        f"Materials took 30 s. To find them but once: deepdrr segment {a_ct} --keep-table, then --segmentation ct.seg"
    )
    for seconds, options, expected in ((30.0, [], True), (3.0, [], False), (30.0, ["-q"], False)):
        clock = itertools.count(step=seconds)
        monkeypatch.setattr(scene.time, "perf_counter", lambda clock=clock: float(next(clock)))
        assert run("render", a_ct, *SMALL, "--keep-table", *options, "-o", "shot.png") == 0
        assert (said in capsys.readouterr().err) is expected


def test_the_advice_finds_the_same_materials() -> None:
    of_vnet = {"series": "Body 2.5", "hu_offset": -1024.0, "correct_tilt": True, "tissues": True}
    of_thresholds = {"method": "threshold", "air_max_hu": -700.0, "bone_min_hu": 200.0, "phantom_spacing": 3.0}
    for given in ({}, of_vnet, of_thresholds):
        wanted = PatientOptions("my ct", ct_energy_kev=70.0, **given)
        _, command, *words = shlex.split(scene._segment_command(wanted))
        assert (command, len(words)) == ("segment", 1 + len(given))
        its = parsed_by_segment(words)
        assert {name: its[name] for name in given} == given
        assert its["ct"] == "my ct"


def parsed_by_segment(words: list[str]) -> dict[str, Any]:
    """What `deepdrr segment` understands by these words."""
    command = typer.main.get_command(app).commands["segment"]
    return command.make_context("segment", words).params


@pytest.mark.parametrize(("tissues", "needed"), [([], "1.7 GB"), (["--tissues"], "2.1 GB")])
@pytest.mark.parametrize("command", [["render"], ["sweep", "--frames", "2", "-o", "orbit"]])
def test_an_image_that_memory_cannot_hold_is_refused_before_the_materials_are_found(
    a_ct: Path,
    command: list[str],
    tissues: list[str],
    needed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: 100_000_000)
    monkeypatch.setattr(scene, "patient", lambda *_: pytest.fail("too late"))
    name, *options = command
    field = ["--collimator", "circle:40mm"]
    assert run(name, a_ct, *SMALL, *tissues, *options, *field, "--size", "6200x4800", "-q") == 2
    said = f"An image of 6200×4800 pixels needs {needed}; 0.1 GB are free. Take fewer pixels, such as --size 1240x960."
    assert said in capsys.readouterr().err
