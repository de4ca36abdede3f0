"""Packages that the module needs: missing ones are found, offered, and refused in words."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("slicer", reason="needs the wheel slicer-core")


from DeepDRRSlicerLib import dependencies


def test_missing_packages_are_found_offered_and_refused_in_words(tmp_path):
    needed = tmp_path / "requirements.txt"
    needed.write_text("# what is needed\nnumpy>=1.0\nnumpy>=99.0\nno-such-package-of-ours  # never there\n")
    lines = dependencies.missing(needed)
    assert lines == ["numpy>=99.0", "no-such-package-of-ours"]
    asked = []
    with pytest.raises(ValueError, match="Without them no X-ray can be made"):
        dependencies.install(lines, lambda text: bool(asked.append(text)))
    assert "no-such-package-of-ours" in asked[0]
    dependencies.install([], lambda text: pytest.fail("asked for nothing"))


def _pip_fails(*_, **__):
    raise subprocess.CalledProcessError(1, "pip install")


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_an_installation_that_fails_is_said_in_words(monkeypatch, version):
    packaging = SimpleNamespace(pip_ensure=_pip_fails) if version == "5.12" else None
    monkeypatch.setattr(dependencies, "_packaging", lambda: packaging)
    monkeypatch.setattr("slicer.util.pip_install", _pip_fails, raising=False)
    with pytest.raises(ValueError, match=r"no-such-package-of-ours\. Installing them failed: .*pip install"):
        dependencies.install(["no-such-package-of-ours"], lambda text: True)


def test_pytorch_that_can_not_be_installed_is_said_in_words(monkeypatch):
    utils = SimpleNamespace(PyTorchUtilsLogic=lambda: SimpleNamespace(installTorch=_pip_fails))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
    with pytest.raises(ValueError, match=r"The V-Net needs PyTorch, and installing it failed: .*pip install"):
        dependencies.install_torch("The V-Net", "choose another method")


def test_what_the_module_asks_for_is_there_in_the_tests():
    assert dependencies.missing() == []
