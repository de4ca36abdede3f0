"""`python -m DeepDRRLogic.cli` does what `deepdrr` does."""

from __future__ import annotations

from DeepDRRLogic.cli import main

main()
