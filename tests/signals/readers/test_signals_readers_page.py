"""The Python of docs/backtests.md, block by block, on the published file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from signals import readers

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "backtests.md").read_text()


@pytest.mark.filterwarnings("ignore")
def test_the_page_holds_what_it_says(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBACK_HOME", str(history))
    found: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, found)
    assert len(found["factor"]) > 3000
    assert len(found["year"]) < len(found["signals"])


def test_the_page_names_what_there_is() -> None:
    named = set(re.findall(r"`(to_\w+|\w+_feed|weights|prices|bars|total_returns)[(`]", PAGE))
    public = set(readers.__all__)
    assert named <= public | {"to_pandas", "to_polars", "to_arrow"}
    assert {name for name in public if name.startswith("to_")} <= named
    for example in re.findall(r"examples/(\w+\.\w+)", PAGE):
        assert (ROOT / "examples" / example).exists()
    scripts = {file.name for file in (ROOT / "examples").glob("*.py")} - {
        "inputs.py",
        "pictures.py",
    }
    assert scripts <= set(re.findall(r"(\w+\.py)", PAGE))
