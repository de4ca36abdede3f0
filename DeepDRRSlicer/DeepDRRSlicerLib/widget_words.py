"""Numbers and names as a person reads them."""

from __future__ import annotations

_SHORT = {"ap": "AP", "pa": "PA", "deepdrr": "DeepDRR", "csi": "CsI"}


def titled(name: str) -> str:
    """A title for a name: lateral_left is "Lateral left", ap is "AP"."""
    words = [_SHORT.get(word, word) for word in name.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def angle_words(primary_deg: float, secondary_deg: float) -> str:
    """Positioner angles as radiographers say them: "LAO 30.0°, CAUD 10.0°"."""
    first = f"{'LAO' if primary_deg >= 0 else 'RAO'} {abs(primary_deg):.1f}°"
    second = f"{'CRAN' if secondary_deg >= 0 else 'CAUD'} {abs(secondary_deg):.1f}°"
    return f"{first}, {second}"
