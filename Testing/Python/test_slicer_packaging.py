"""What the Extensions Index, CMake and an installed Slicer need of this repository."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TOP = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
CATALOG = json.loads((ROOT / "DeepDRRSlicer.json").read_text(encoding="utf-8"))

# What Slicer 5.12 brings in its own Python; anything else must wait until it is installed.
SLICER_BRINGS = {"numpy", "vtk", "vtkmodules", "slicer", "SimpleITK", "pydicom", "qt", "ctk"}
SLICER_BRINGS_PACKAGES = {"numpy", "SimpleITK", "pydicom"}
CONSOLE_ONLY_PACKAGES = {"typer", "rich"}

FAKE_SLICER = """
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/nothing.cmake")
"""
FAKE_MACROS = """
include(CMakeParseArguments)
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(M "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${M_SCRIPTS} ${M_RESOURCES})
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "no ${file}")
    endif()
  endforeach()
  list(LENGTH M_SCRIPTS scripts)
  list(LENGTH M_RESOURCES resources)
  message(STATUS "module ${M_NAME} ${scripts} ${resources} ${M_WITH_SUBDIR} ${M_WITH_GENERIC_TESTS}")
endmacro()
macro(slicer_add_python_unittest)
  message(STATUS "unittest ${ARGN}")
endmacro()
"""


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "Testing" / "Tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def setting(name):
    (value,) = re.findall(rf'^set\({name} "([^"\n]*)"\)', TOP, re.MULTILINE)
    return value


def s4ext():
    lines = (ROOT / "DeepDRRSlicer.s4ext").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("module", ["DeepDRRLogic", "DeepDRRSlicer"])
def test_the_cmake_lists_name_every_file_that_is_there(module):
    tool = load_tool("update_cmake_lists")
    text = (ROOT / module / "CMakeLists.txt").read_text(encoding="utf-8")
    scripts, resources = tool.files_of(ROOT / module)
    remedy = "run: python Testing/Tools/update_cmake_lists.py"
    assert tool.listed(text, "MODULE_PYTHON_SCRIPTS") == scripts, remedy
    assert tool.listed(text, "MODULE_PYTHON_RESOURCES") == resources, remedy


def test_the_tool_adds_what_is_new_and_drops_what_is_gone(tmp_path):
    tool = load_tool("update_cmake_lists")
    for name in ("a.py", "sub/b.py", "data/c.json", "__pycache__/a.pyc", "CMakeLists.txt", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    before = "set(MODULE_PYTHON_SCRIPTS\n  gone.py\n  )\n\nset(MODULE_PYTHON_RESOURCES\n  )\nmacro(\n  NAME X\n  )\n"
    after = tool.updated(before, *tool.files_of(tmp_path))
    assert tool.listed(after, "MODULE_PYTHON_SCRIPTS") == ["a.py", "sub/b.py"]
    assert tool.listed(after, "MODULE_PYTHON_RESOURCES") == ["data/c.json"]
    assert after.endswith("macro(\n  NAME X\n  )\n")
    assert tool.updated(after, *tool.files_of(tmp_path)) == after


def test_catalogue_cmake_and_s4ext_say_the_same():
    assert "project(DeepDRRSlicer)" in TOP
    assert "cmake_minimum_required(VERSION 3.28.0...3.28.0 FATAL_ERROR)" in TOP
    older = s4ext()
    assert older["scmurl"] == CATALOG["scm_url"]
    assert older["scmurl"].removesuffix(".git") == older["homepage"] == setting("EXTENSION_HOMEPAGE")
    assert older["category"] == CATALOG["category"]
    assert older["depends"].split() == CATALOG["build_dependencies"] == setting("EXTENSION_DEPENDS").split()
    assert older["description"] == setting("EXTENSION_DESCRIPTION")
    assert older["contributors"] == setting("EXTENSION_CONTRIBUTORS")
    assert older["iconurl"] == setting("EXTENSION_ICONURL")
    assert older["screenshoturls"] == setting("EXTENSION_SCREENSHOTURLS")


def test_the_catalogue_entry_has_only_keys_of_its_schema():
    known = {"$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "build_subdirectory"}
    assert {"$schema", "category", "scm_url"} <= set(CATALOG) <= known | {"enabled", "tier"}
    assert CATALOG["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert 1 <= CATALOG["tier"] <= 5


def test_icon_and_screenshots_are_files_of_this_repository():
    for url in (setting("EXTENSION_ICONURL"), *setting("EXTENSION_SCREENSHOTURLS").split()):
        path = ROOT / url.split("/main/")[1]
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            if "Icons" in path.parts:
                assert picture.size == (128, 128)


def test_the_module_and_every_sample_have_their_picture():
    icons = ROOT / "DeepDRRSlicer" / "Resources" / "Icons"
    for name in ("DeepDRRSlicer", "PhantomChest", "PhantomPelvis", "PhantomTorso"):
        with Image.open(icons / f"{name}.png") as picture:
            assert picture.size == (128, 128)


def documents():
    return [ROOT / "README.md", *sorted((ROOT / "Resources" / "Documentation").glob("*.md"))]


@pytest.mark.parametrize("page", documents(), ids=lambda page: page.name)
def test_every_picture_and_file_that_a_page_points_to_is_there(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_what_the_tutorial_tells_people_to_click_is_in_the_panel():
    tutorial = (ROOT / "Resources" / "Documentation" / "tutorial.md").read_text(encoding="utf-8")
    panel = ElementTree.parse(ROOT / "DeepDRRSlicer" / "Resources" / "UI" / "DeepDRRSlicer.ui")
    shown = {text.text for text in panel.iter("string")}
    steps = tutorial[tutorial.index("## 1.") : tutorial.index("## If something")]
    elsewhere = {"DeepDRR X-ray simulator", "CTChest"}
    clicked = set(re.findall(r"\*\*([^*]+)\*\*", steps)) - elsewhere
    assert len(clicked) > 20
    assert clicked <= shown


def test_the_index_accepts_the_repository():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [ROOT / name for name in tracked.split("\0") if name and (ROOT / name).exists()]
    files = files or [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 100e6
    assert not [path for path in files if path.suffix in (".cxx", ".h")]
    assert "Apache License" in (ROOT / "LICENSE.txt").read_text(encoding="utf-8")


def test_only_the_module_itself_lies_where_slicer_looks_for_modules():
    assert [path.name for path in (ROOT / "DeepDRRSlicer").glob("*.py")] == ["DeepDRRSlicer.py"]
    assert not list(ROOT.glob("*.py"))


def imported_at_the_top(path):
    """The modules that importing a file imports at once, as absolute names."""
    package = path.relative_to(path.parents[1] if path.parent.name == "DeepDRRSlicerLib" else ROOT).parent.parts
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*inside, *([node.module] if node.module else [])))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def file_of(name):
    """The file of a module of ours, None for any other."""
    top = {"DeepDRRLogic": ROOT, "DeepDRRSlicerLib": ROOT / "DeepDRRSlicer"}.get(name.split(".")[0])
    stem = top / name.replace(".", "/") if top else None
    found = [path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.exists()] if stem else []
    return found[0] if found else None


def test_opening_the_module_imports_only_what_slicer_brings():
    library = ROOT / "DeepDRRSlicer" / "DeepDRRSlicerLib"
    waiting = [ROOT / "DeepDRRSlicer" / "DeepDRRSlicer.py", library / "sample_data.py", *library.glob("widget_*.py")]
    seen, outside = set(waiting), {}
    while waiting:
        path = waiting.pop()
        for name in imported_at_the_top(path):
            if name.split(".")[0] not in ("DeepDRRLogic", "DeepDRRSlicerLib"):
                outside.setdefault(name.split(".")[0], path.relative_to(ROOT).as_posix())
            elif (ours := file_of(name)) is not None and ours not in seen:
                seen.add(ours)
                waiting.append(ours)
    assert len(seen) > 10
    assert {name: by for name, by in outside.items() if name not in SLICER_BRINGS | sys.stdlib_module_names} == {}


def test_what_slicer_does_not_bring_is_offered_for_installation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "DeepDRRSlicer" / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    offered = {re.split(r"[<>=~! ]", line)[0] for line in lines if line and not line.startswith("#")}
    needed = {re.split(r"[<>=~! ]", line)[0] for line in project["dependencies"]}
    assert needed - SLICER_BRINGS_PACKAGES - CONSOLE_ONLY_PACKAGES <= offered
    assert "torch" not in offered, "torch comes through the PyTorch extension"


def test_the_terminology_file_is_what_the_tool_makes_of_the_materials():
    tool = load_tool("make_terminology")
    assert tool.PATH.read_text(encoding="utf-8") == tool.text(), "run: python Testing/Tools/make_terminology.py"


def test_slicer_reads_the_terminology_and_each_entry_names_its_material():
    slicer = pytest.importorskip("slicer", reason="needs the wheel slicer-core")
    from DeepDRRLogic.materials import material_names
    from DeepDRRLogic.segmentation.terminology import OWN_SCHEME, terminology_material
    from DeepDRRSlicerLib.sample_data import register_terminology

    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    logic.SetMRMLScene(slicer.vtkMRMLScene())
    context = register_terminology(logic)
    assert logic.IsTerminologyContextLoaded(context)
    found = []
    for index in range(logic.GetNumberOfCategoriesInTerminology(context)):
        category = slicer.vtkSlicerTerminologyCategory()
        assert logic.GetNthCategoryInTerminology(context, index, category)
        for number in range(logic.GetNumberOfTypesInTerminologyCategory(context, category)):
            kind = slicer.vtkSlicerTerminologyType()
            assert logic.GetNthTypeInTerminologyCategory(context, category, number, kind)
            assert kind.GetCodingSchemeDesignator() == OWN_SCHEME
            entry = slicer.vtkSlicerTerminologyEntry()
            entry.SetTerminologyContextName(context)
            entry.GetCategoryObject().Copy(category)
            entry.GetTypeObject().Copy(kind)
            found.append(terminology_material(logic.SerializeTerminologyEntry(entry)))
    assert sorted(found) == sorted(material_names())


def test_samples_are_registered_once_and_computed_only_when_chosen(monkeypatch):
    slicer = pytest.importorskip("slicer", reason="needs the wheel slicer-core")
    import types

    from DeepDRRSlicerLib import sample_data

    registered = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(category, sampleName, uris, fileNames, nodeNames, customDownloader, **other):
            # As Slicer's SampleDataSource compares and measures them.
            assert all(isinstance(each, str) for each in (uris, fileNames, nodeNames))
            assert Path(other["thumbnailFileName"]).exists()
            registered.append((category, sampleName, customDownloader, str(customDownloader)))

    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=SampleDataLogic))
    sample_data.register_samples()
    first = [(category, name, text) for category, name, _, text in registered]
    registered.clear()
    sample_data.register_samples()
    assert [(category, name, text) for category, name, _, text in registered] == first
    assert {category for category, _, _ in first} == {"DeepDRR"}

    scene = slicer.vtkMRMLScene()
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    coarse = sample_data.Sample("PhantomPelvis", "pelvis", 8.0)
    node = coarse.load()
    assert node.GetName() == "Phantom pelvis"
    assert slicer.util.arrayFromVolume(node).max() > 500
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1


def test_a_sample_offers_the_packages_that_it_needs_and_says_why_it_does_not_come(monkeypatch):
    slicer = pytest.importorskip("slicer", reason="needs the wheel slicer-core")
    from DeepDRRSlicerLib import dependencies, sample_data

    scene, asked, said = slicer.vtkMRMLScene(), [], []
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: bool(asked.append(text)), raising=False)
    monkeypatch.setattr(slicer.util, "errorDisplay", said.append, raising=False)
    monkeypatch.setattr(dependencies, "_packaging", lambda: None)
    monkeypatch.setattr(dependencies, "missing", lambda: ["no-such-package-of-ours>=1"])
    assert sample_data.Sample("PhantomPelvis", "pelvis", 8.0).load() is None
    assert "no-such-package-of-ours" in asked[0] and "Install them now?" in asked[0]
    assert "Without them no X-ray can be made" in said[0]
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_cmake_configures_the_extension(tmp_path):
    """With stand-ins for Slicer's macros, that check what the real ones check: every file of the lists exists."""
    cmake = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    version = subprocess.run([cmake, "--version"], capture_output=True, text=True).stdout if cmake else ""
    if not version or tuple(map(int, re.search(r"(\d+)\.(\d+)", version).groups())) < (3, 28):
        pytest.skip("needs CMake 3.28")
    for name, text in (("SlicerConfig.cmake", FAKE_SLICER), ("use.cmake", FAKE_MACROS), ("nothing.cmake", "")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [cmake, "-S", ROOT, "-B", tmp_path / "build", f"-DSlicer_DIR={tmp_path}", "-DBUILD_TESTING=ON"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tool = load_tool("update_cmake_lists")
    for module, options in (("DeepDRRLogic", "TRUE FALSE"), ("DeepDRRSlicer", "FALSE TRUE")):
        scripts, resources = tool.files_of(ROOT / module)
        assert f"module {module} {len(scripts)} {len(resources)} {options}" in done.stdout
    assert "unittest SCRIPT;DeepDRRSlicer.py" in done.stdout
