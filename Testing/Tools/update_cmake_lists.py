"""Writes into each module's CMakeLists.txt which files are installed: every file that is there.

python Testing/Tools/update_cmake_lists.py            # rewrites the lists
python Testing/Tools/update_cmake_lists.py --check    # fails if there is anything to rewrite
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = ("DeepDRRLogic", "DeepDRRSlicer")
_NOT_INSTALLED = ("CMakeLists.txt",)
_BY_PRODUCTS = ("__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache")


def files_of(module: Path) -> tuple[list[str], list[str]]:
    """Scripts and resources of a module, relative to it, in order."""
    found = sorted(
        path.relative_to(module)
        for path in module.rglob("*")
        if path.is_file()
        and path.name not in _NOT_INSTALLED
        and not path.name.startswith(".")
        and not set(path.parts) & set(_BY_PRODUCTS)
        and path.suffix not in (".nbi", ".nbc", ".pyc")
    )
    scripts = [path.as_posix() for path in found if path.suffix == ".py"]
    return scripts, [path.as_posix() for path in found if path.suffix != ".py"]


def listed(text: str, variable: str) -> list[str]:
    """The files in a list of a CMakeLists.txt."""
    return _list_pattern(variable).search(text)[1].split()


def updated(text: str, scripts: list[str], resources: list[str]) -> str:
    """The text of a CMakeLists.txt with both lists replaced."""
    for variable, names in (("MODULE_PYTHON_SCRIPTS", scripts), ("MODULE_PYTHON_RESOURCES", resources)):
        lines = "".join(f"  {name}\n" for name in names)
        text = _list_pattern(variable).sub(lambda _, v=variable, new=lines: f"set({v}\n{new}  )", text, count=1)
    return text


def main(check: bool) -> int:
    stale = []
    for name in MODULES:
        path = ROOT / name / "CMakeLists.txt"
        before = path.read_text(encoding="utf-8")
        after = updated(before, *files_of(ROOT / name))
        if after != before:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(after, encoding="utf-8")
    print(("To update: " if check else "Updated: ") + ", ".join(stale) if stale else "All lists are up to date.")
    return 1 if check and stale else 0


def _list_pattern(variable: str) -> re.Pattern[str]:
    return re.compile(rf"set\({variable}\s*\n(.*?)\s*\)", re.DOTALL)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
