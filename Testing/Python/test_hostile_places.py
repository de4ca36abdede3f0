"""Machines that do not help: nowhere to keep compiled code, a disk that is full."""

from __future__ import annotations

import ast
import errno
import logging
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from DeepDRRLogic import image_io
from DeepDRRLogic.animation import write_mp4
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.files import replaced_when_written
from DeepDRRLogic.image import XRayImage
from DeepDRRLogic.image_io import require_image_path
from DeepDRRLogic.materials import material
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.volume import MaterialVolume


@pytest.fixture(scope="module")
def image() -> XRayImage:
    density = np.ones((4, 4, 4), np.float32)
    volume = MaterialVolume(density, np.zeros(density.shape, np.uint8), (material("water"),), np.eye(4))
    return XRaySimulator(volume)(CArm(width=16, height=12, pixel_pitch_mm=1).camera())


def test_without_a_place_for_its_cache_compiled_code_still_runs_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import numba

    from DeepDRRLogic import compiled

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    no_folder = tmp_path / "file"
    no_folder.write_text("")
    names: dict[str, Any] = {}
    exec(compile("def double(x): return 2.0 * x", str(no_folder / "kernel.py"), "exec"), names)
    double = names["double"]
    compiled._say_that_nothing_is_kept.cache_clear()
    with caplog.at_level(logging.WARNING):
        functions = [compiled.compiled()(double), compiled.compiled(fastmath=True)(double)]
    assert [function(21.0) for function in functions] == [42.0, 42.0]
    assert [record.message.count("NUMBA_CACHE_DIR") for record in caplog.records] == [1]


def test_compiled_code_is_kept_for_the_next_process() -> None:
    from DeepDRRLogic.projector.march import march_band

    code = "from DeepDRRLogic.projector.march import march_band; print(march_band.stats.cache_path)"
    root = Path(__file__).parents[2]
    second = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert Path(second.stdout.strip()) == Path(march_band.stats.cache_path)


def test_a_nrrd_that_the_disk_has_no_room_for_is_said_in_a_line_and_leaves_nothing(
    image: XRayImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import SimpleITK as sitk

    def run_full(volume: Any, name: str, **options: Any) -> None:
        Path(name).write_bytes(b"NRRD0004")
        raise RuntimeError("ITK ERROR: NrrdImageIO: Write: Error writing")

    monkeypatch.setattr(sitk, "WriteImage", run_full)
    with pytest.raises(OSError, match="is the disk full"):
        image.save(tmp_path / "shot.nrrd")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_that_takes_no_files_is_said_before_an_image_is_made() -> None:
    with pytest.raises(ValueError, match=r"Cannot write /proc/shot.png: the folder /proc takes no files \("):
        require_image_path("/proc/shot.png")


def test_a_full_disk_is_said_with_the_name_of_the_image(
    image: XRayImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / ".a1b2.part.npz"))

    monkeypatch.setattr(image_io, "_write_npz", run_full)
    with pytest.raises(OSError, match=r"Cannot write .*shot\.npz.* \(No space left on device\): make room") as raised:
        image.save(tmp_path / "shot.npz")
    assert ".part" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def write_pair(picture: Path, sidecar: Path, text: str) -> None:
    with replaced_when_written(picture, sidecar) as temporaries:
        for temporary in temporaries:
            temporary.write_text(text)


def no_hard_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("link", [os.link, no_hard_links])
@pytest.mark.parametrize("before", [[], ["a.png", "b.json"]])
def test_a_second_file_that_is_refused_takes_the_first_back(
    link: Callable[..., None], before: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Path.replace

    def refuse_sidecars(its: Path, target: Path) -> Path:
        if target.name == "b.json":
            raise PermissionError(errno.EACCES, "Access is denied", str(its), None, str(target))
        return move(its, target)

    for name in before:
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(Path, "replace", refuse_sidecars)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match=r"Cannot write \S+b\.json \(Access is denied\): see that nothing"):
        write_pair(tmp_path / "a.png", tmp_path / "b.json", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(before, "old")


@pytest.mark.parametrize("link", [os.link, no_hard_links])
def test_a_pair_that_was_there_is_replaced(
    link: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", link)
    for text in ("old", "new"):
        write_pair(tmp_path / "a.png", tmp_path / "b.json", text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.png": "new", "b.json": "new"}


def test_two_threads_that_write_one_pair_do_not_mix_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (tmp_path / "a.png", tmp_path / "b.json")
    move, half_way, other_done = Path.replace, threading.Event(), threading.Event()

    def dawdle_half_way(its: Path, target: Path) -> Path:
        if threading.current_thread() is slow and target == pair[1]:
            half_way.set()
            other_done.wait(0.3)
        return move(its, target)

    monkeypatch.setattr(Path, "replace", dawdle_half_way)
    slow = threading.Thread(target=write_pair, args=(*pair, "slow"))
    slow.start()
    half_way.wait(10)
    write_pair(*pair, "other")
    other_done.set()
    slow.join()
    assert pair[0].read_text() == pair[1].read_text()


@pytest.mark.skipif(os.name != "posix", reason="symbolic links and modes are POSIX's")
def test_a_link_is_followed_and_a_file_keeps_its_permissions(image: XRayImage, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real, link = elsewhere / "real", tmp_path / "link.npz"
    link.symlink_to(real)
    umask = os.umask(0o027)
    try:
        image.save(link)
        assert real.stat().st_mode & 0o777 == 0o640
        real.chmod(0o604)
        image.save(link)
    finally:
        os.umask(umask)
    assert link.is_symlink()
    assert XRayImage.load(link) == image
    assert real.stat().st_mode & 0o777 == 0o604
    assert [path.name for path in elsewhere.iterdir()] == ["real"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("link", [os.link, no_hard_links])
def test_each_of_a_pair_keeps_its_permissions(
    link: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = tmp_path / "a.png", tmp_path / "b.json"
    write_pair(*pair, "old")
    for path, mode in zip(pair, (0o640, 0o604), strict=True):
        path.chmod(mode)
    monkeypatch.setattr(os, "link", link)
    write_pair(*pair, "new")
    assert [(path.read_text(), path.stat().st_mode & 0o777) for path in pair] == [("new", 0o640), ("new", 0o604)]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links are POSIX's")
def test_a_link_into_a_folder_that_is_missing_is_said_before_an_image_is_made(tmp_path: Path) -> None:
    link = tmp_path / "shot.png"
    link.symlink_to(tmp_path / "gone" / "shot.png")
    with pytest.raises(ValueError, match=r"the folder \S+gone does not exist"):
        require_image_path(link)


@pytest.mark.parametrize("kept_bytes", [0, 600])
def test_a_movie_that_the_encoder_could_not_finish_is_not_kept(
    kept_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """imageio-ffmpeg ends silently when its encoder fails; here the file is cut after it has been written."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    count = ffmpeg.count_frames_and_secs

    def count_what_is_left(name: str) -> Any:
        with Path(name).open("r+b") as file:
            file.truncate(kept_bytes)
        return count(name)

    monkeypatch.setattr(ffmpeg, "count_frames_and_secs", count_what_is_left)
    frames = np.random.default_rng(1).integers(0, 256, (5, 48, 64)).astype(np.uint8)
    with pytest.raises(OSError, match="of 5 frames"):
        write_mp4(frames, tmp_path / "orbit.mp4", fps=10)
    assert not list(tmp_path.iterdir())


def test_the_command_line_names_its_own_options_where_a_message_names_arguments() -> None:
    from DeepDRRLogic.cli.grouping import _one_line

    text = _one_line(ValueError("Read it with correct_tilt=True, or\nhu_offset=-1024; choose with series=, or x=1."))
    assert text == "Read it with --correct-tilt, or --hu-offset=-1024; choose with --series=, or x=1."


@pytest.mark.parametrize(
    ("materials", "typed"),
    [
        ("{1: 'soft_tissue', 2: \"bone\"}", "1=soft_tissue,2=bone"),
        (repr({"L1, left": "bone"}), "'L1, left=bone'"),
        (repr({"a}: b": "bone", "second": "lung"}), "'a}: b=bone,second=lung'"),
        (repr({'Paget\'s "bone"': "bone"}), "'Paget'\"'\"'s \"bone\"=bone'"),
    ],
)
def test_materials_in_a_message_are_those_that_the_command_line_takes(materials: str, typed: str) -> None:
    from DeepDRRLogic.cli.grouping import _one_line
    from DeepDRRLogic.cli.scene import parse_materials

    assert _one_line(ValueError(f"Pass materials={materials}.")) == f"Pass --materials {typed}."
    (words,) = shlex.split(typed)
    assert parse_materials(words) == ast.literal_eval(materials)
