"""Pages that are made from the code are up to date."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_settings_page_is_the_settings() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "settings_page.py"))["page"]
    assert (ROOT / "docs" / "settings.md").read_text() == page()
    assert "| None |" not in page()
