"""`python -m DeepDRRLogic.cli` does what `deepdrr` does."""

from __future__ import annotations

from . import main

main()
