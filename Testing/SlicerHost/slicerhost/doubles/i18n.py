"""Test double of `slicer.i18n`: nothing is translated."""

from __future__ import annotations


def tr(text: str) -> str:
    return text


def translate(_context: str, text: str) -> str:
    return text
