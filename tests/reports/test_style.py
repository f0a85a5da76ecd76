from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

import scoreline.reports
from scoreline.reports.compare.shown.pictures import STROKES
from scoreline.reports.drawing import COLOURS

STYLE = Path(scoreline.reports.__file__).parent / "templates" / "style"

WRITTEN = ("ink", "muted", "blue", "amber", "green", "plum", "slate", "red", "teal", "olive")
"""Colours that letters are written in."""


def variables(mode: str) -> dict[str, str]:
    """The colours of a mode: dark ones replace light ones."""
    light, dark = (STYLE / "base.css").read_text(encoding="utf-8").split("@media (prefers-color-scheme: dark)")
    paper = (STYLE / "media.css").read_text(encoding="utf-8").split("@media print")[1]
    found = re.findall(r"--(\w+): (#\w+);", light + {"light": "", "dark": dark, "print": paper}[mode])
    return dict(found)


def linear_light(colour: str) -> list[float]:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]


def luminance(colour: str) -> float:
    """WCAG 2: relative luminance of #rrggbb or #rgb."""
    linear = linear_light(colour)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_by_hand() -> None:
    assert contrast("#000000", "#fff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
@pytest.mark.parametrize("ground", ["paper", "card", "tint"])
def test_every_letter_can_be_read(mode: str, ground: str) -> None:
    colours = variables(mode)
    pale = {name: contrast(colours[name], colours[ground]) for name in WRITTEN}
    assert {name: round(value, 2) for name, value in pale.items() if value < 4.5} == {}


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_a_page_has_every_colour_of_a_drawing(mode: str) -> None:
    assert set(COLOURS) <= set(variables(mode))


def test_no_colour_of_a_drawing_is_another_ones_beginning() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS)


# What is left of linear red, green and blue without the long or the middle cones (Viénot, Brettel and Mollon 1999).
BLINDNESS = {
    "none": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deuteranopia": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


def seen(colour: str, blindness: str) -> tuple[float, float, float]:
    """CIE L*a*b* of what is seen."""
    light = linear_light(colour)
    red, green, blue = (sum(a * b for a, b in zip(row, light, strict=True)) for row in BLINDNESS[blindness])
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    f, g, h = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return 116 * g - 16, 500 * (f - g), 200 * (g - h)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("blindness", list(BLINDNESS))
def test_arms_that_share_a_dash_differ_in_colour_for_everybody(mode: str, blindness: str) -> None:
    colours = variables(mode)
    for one, other in combinations(STROKES, 2):
        if one.dash == other.dash:
            there, here = seen(colours[one.colour], blindness), seen(colours[other.colour], blindness)
            assert sum((a - b) ** 2 for a, b in zip(there, here, strict=True)) ** 0.5 > 15, (one.colour, other.colour)


def test_every_arm_has_a_colour_and_a_marker_of_its_own() -> None:
    assert len({stroke.colour for stroke in STROKES}) == len({stroke.marker for stroke in STROKES}) == len(STROKES) == 8
    assert len({stroke.dash for stroke in STROKES[:4]}) == 4
