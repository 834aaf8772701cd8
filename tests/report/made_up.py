"""Measures of a case that nobody has."""

import numpy as np

from nisf.measures.case import CaseMeasures
from nisf.measures.curve import VolumeCurve
from nisf.measures.wall import Wall

SEGMENTS = tuple(f"segment {k}" for k in range(1, 18))


def measures(case="janeway_ellen", scale=1.0, **changes):
    times = np.arange(10) / 10
    ml = 100 + 40 * np.cos(2 * np.pi * times)
    thickness = np.linspace(6, 12, 17)
    told = {
        "values": {
            "lv_edv_ml": 140.0 * scale,
            "lv_ef_percent": 57.14,
            "lv_mass_g": None,
            "lv_edv_slices_ml": 138.0,
            "lv_edv_index_ml_per_m2": 75.3,
            "heart_rate_bpm": 61.0,
        },
        "intervals": {"lv_edv_ml": (131.0, 149.0)},
        "phases": {"ED": 0.0, "ES": 0.5},
        "curve": VolumeCurve(times, {"blood": ml, "muscle": 0 * ml + 90}, {}, 900.0),
        "wall": Wall({"ED": thickness, "ES": 1.4 * thickness}, "ED", "ES", SEGMENTS),
        "quality": "amber",
        "predicted_dice": 0.81,
        "reasons": (f"{case}: <b>borders</b> are uncertain",),
        "notes": (f"{case} has no height",),
    }
    return CaseMeasures(case, **{**told, **changes})
