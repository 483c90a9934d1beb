"""Contrast of everything that is read (WCAG 2.2, 1.4.3), in light and in dark."""

from __future__ import annotations

import re

import pytest

from mergenode.adapters.http.page.stylesheet import STYLESHEET

TEXTS = ("ink", "soft", "link", "good", "look", "bad", *(f"c{place}" for place in range(6)))
PAIRS = [
    *((text, ground) for text in TEXTS for ground in ("card", "paper")),
    ("look", "look-ground"), ("bad", "bad-ground"), ("ink", "look-ground"), ("ink", "bad-ground"), ("card", "link"),
    *((f"t{step}", f"h{step}") for step in range(9)),
]  # fmt: skip


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(theme: int) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{([^}]*)\}", STYLESHEET)[theme]))
    for text, ground in PAIRS:
        dark, light = sorted((luminance(colours[text]), luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_nothing_is_fetched() -> None:
    assert "url(" not in STYLESHEET and "@import" not in STYLESHEET and "<" not in STYLESHEET
