"""Makes the tube spectra stored in DeepDRRLogic/data/spectra: python Testing/Tools/make_spectra.py"""

from __future__ import annotations

import json
from pathlib import Path

import spekpy

from DeepDRRLogic.spectrum import Spectrum

KVPS = (50, 60, 70, 80, 90, 100, 110, 120)
FOLDER = Path(__file__).parents[2] / "DeepDRRLogic" / "data" / "spectra"


def main() -> None:
    for kvp in KVPS:
        tube = Spectrum.tube(kvp)
        table = {
            "kvp": kvp,
            "description": tube.description,
            "source": f"SpekPy {spekpy.__version__}, model casim, bin centres; Testing/Tools/make_spectra.py",
            "photons_per_mas_mm2_at_1m": float(f"{tube.photons_per_mas_mm2_at_1m:.7g}"),
            "energies_kev": [round(float(energy), 4) for energy in tube.energies_kev],
            "photons": [float(f"{photons:.7g}") for photons in tube.photons],
        }
        lines = ",\n".join(
            f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()
        )
        (FOLDER / f"{kvp}kV.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        print(f"{kvp} kV: mean {tube.mean_energy_kev:.2f} keV, HVL {tube.half_value_layer_mm():.3f} mm Al")


if __name__ == "__main__":
    main()
