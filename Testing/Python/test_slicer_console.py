"""The module's library in a Python of its own: light, found beside its source, and worked by the README's lines."""

from __future__ import annotations

import re

from slicer_scene import MODULE, run_python


def test_the_library_imports_nothing_heavy():
    script = (
        f"import sys; sys.path[:0] = [{str(MODULE)!r}, {str(MODULE.parent)!r}]\n"
        "import DeepDRRSlicerLib.scene_logic, DeepDRRSlicerLib.live, DeepDRRSlicerLib.dependencies\n"
        "print(sorted({'numba', 'torch', 'xraylib', 'SimpleITK', 'spekpy', 'qt'} & set(sys.modules)))"
    )
    assert run_python(script).strip() == "[]"


def test_from_a_source_folder_the_simulator_beside_it_is_found(tmp_path):
    run_python(
        f"import sys; from pathlib import Path; root, module = Path({str(MODULE.parent)!r}), {str(MODULE)!r}\n"
        "sys.path[:] = [module, *(p for p in sys.path if not (Path(p) / 'DeepDRRLogic').is_dir())]\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]\n"
        "from importlib.util import find_spec\n"
        "assert find_spec('DeepDRRLogic') is None, 'the simulator is found without its help'\n"
        "import DeepDRRSlicerLib.technique, DeepDRRLogic\n"
        "assert Path(DeepDRRLogic.__file__).parents[1] == root\n",
        cwd=tmp_path,
    )


def test_the_console_lines_of_the_readme_work_without_slicer(tmp_path):
    text = (MODULE.parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(# In Slicer's Python console.*?)```", text, re.DOTALL)
    assert found, "the README has lost its console lines"
    prelude = (
        f"import sys; sys.path[:0] = [{str(MODULE)!r}, {str(MODULE.parent)!r}]\n"
        "import slicer; slicer.mrmlScene = slicer.vtkMRMLScene()\n"
        "from DeepDRRLogic import segmentation; segmentation.networks_installed = lambda: False  # quicker\n"
    )
    run_python(prelude + found[1].replace("/tmp/", f"{tmp_path}/"), cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"xray.png", "xray.png.json"}
