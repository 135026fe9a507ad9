"""Pictures of a report for its page: `python docs/report_pictures.py REPORT.html`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.signals.browser import chromium, headless

FOLDER = Path(__file__).parent / "report"
PANEL = "equity_week_direction"
# Of the panel's section: from its heading to where the champions begin.
CUT = f"""
(() => {{
    const top = document.getElementById('{PANEL}').getBoundingClientRect().top + scrollY;
    const cards = document.querySelectorAll('#{PANEL} ~ .cards')[0];
    const end = cards.querySelector('.wide').getBoundingClientRect().top + scrollY;
    return [top - 20, end];
}})()
"""


def main(page: Path) -> None:
    """Write the desktop's, the phone's and the panel's picture."""
    program = chromium()
    if program is None:
        sys.exit("no Chromium is installed")
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as profile,
        headless(program, Path(profile)) as tab,
    ):
        tab.open(page, 1280)
        tab.picture(FOLDER / "desktop.png", clip={"x": 0, "y": 0, "width": 1280, "height": 1240})
        tab.open(page, 1280, dark=True)
        top, end = tab.value(CUT)
        cut = {"x": 0, "y": top, "width": 1280, "height": end - top}
        tab.picture(FOLDER / "panel.png", clip=cut)
        tab.open(page, 400)
        top, _ = tab.value(CUT)
        cut = {"x": 0, "y": top, "width": 400, "height": 1500}
        tab.picture(FOLDER / "phone.png", clip=cut)
    for path in FOLDER.glob("*.png"):
        Image.open(path).convert("RGB").quantize(96).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
