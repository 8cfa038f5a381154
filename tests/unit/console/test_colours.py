"""Text can be read in light and dark: every pair of colours that meet has a contrast of at least 4.5 (WCAG 2.2, AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[3] / "services/console/static/base.css").read_text()
THEMES = {
    "light": CSS.index(":root {"),
    "dark by the system": CSS.index(':root:not([data-theme="light"])'),
    "dark by choice": CSS.index(':root[data-theme="dark"]'),
}
TEXTS = ("ink", "soft", "faint", "accent", "good", "warn", "bad", "approve", "challenge", "review", "decline")
GROUNDS = ("card", "paper", "well")
PAIRS = [(text, ground) for text in TEXTS for ground in GROUNDS]
PAIRS += [(name, f"{name}-soft") for name in ("good", "warn", "bad", "accent")] + [("on-accent", "accent")]
CONTRAST_MIN = 4.5


def colours(theme: str) -> dict[str, str]:
    start = THEMES[theme]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", CSS[start : CSS.index("}", start)]))


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_text_stands_out_from_its_ground(theme: str) -> None:
    found = colours(theme)
    weak = {
        f"{text} on {ground}": round(contrast(found[text], found[ground]), 2)
        for text, ground in PAIRS
        if contrast(found[text], found[ground]) < CONTRAST_MIN
    }
    assert weak == {}


def test_both_ways_to_the_dark_are_the_same() -> None:
    assert colours("dark by the system") == colours("dark by choice")
    assert set(colours("dark by choice")) == set(colours("light"))
