"""The bridge between 3D Slicer's scene and DeepDRRLogic, the simulator. Files that need Qt say so in their first line.

    from DeepDRRSlicerLib.scene_logic import SceneLogic

In a source checkout only this folder's parent is on the path, so the repository root, where DeepDRRLogic lies, is
added when the simulator is not installed otherwise.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]

if find_spec("DeepDRRLogic") is None and (_CHECKOUT / "DeepDRRLogic").is_dir():
    sys.path.append(str(_CHECKOUT))
