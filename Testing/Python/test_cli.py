"""The command line as a program: its help, what it says, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import SMALL, THRESHOLD, run

from DeepDRRLogic.cli import main, scene

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def test_help_comes_without_loading_what_takes_time() -> None:
    lines = ("import sys", "from DeepDRRLogic.cli import main", "try:", "    main(['--help'])")
    code = "\n".join((*lines, "finally:", "    print(*sys.modules)"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    *_, modules = result.stdout.splitlines()
    assert result.returncode == 0
    assert all(f" {name} " in result.stdout for name in ("render", "sweep", "segment", "info", "spectrum", "presets"))
    assert not {"numpy", "numba", "SimpleITK", "scipy", "matplotlib", "xraylib"} & set(modules.split())


@pytest.mark.parametrize("command", ["render", "sweep", "segment", "info", "spectrum", "presets"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"deepdrr {command}" in shown
    assert command == "presets" or "Examples" in shown


def test_a_missing_ct_and_wrong_usage_end_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", "no_such_ct.nrrd") == 2
    assert "no_such_ct.nrrd" in capsys.readouterr().err
    assert run("render") == 2
    assert run("render", "phantom", "--kilovolt", 90) == 2
    assert run("paint") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_empty_path_is_no_ct(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "") == 2
    assert "The path of the CT is empty" in capsys.readouterr().err


def test_ctrl_c_ends_with_code_130(
    a_ct: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scene, "simulator", interrupted)
    assert run("render", a_ct, "--method", "threshold") == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    assert not list(Path().iterdir())


def test_a_fault_of_the_program_is_not_hidden(a_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "simulator", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["render", str(a_ct), "--method", "threshold"])


def test_warnings_are_heard_even_when_quiet(a_ct: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, *SMALL, *THRESHOLD, "--isocenter", 5000, 0, 0, "-o", "x.png") == 0
    shown = capfd.readouterr()
    assert "WARNING: No ray meets the volume" in shown.err
    assert not shown.out


def test_quiet_says_nothing(a_ct: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, *SMALL, *THRESHOLD, "-o", "x.png") == 0
    shown = capfd.readouterr()
    assert not shown.err and not shown.out
