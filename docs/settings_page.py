"""Writes docs/settings.md from the settings object: `python docs/settings_page.py`."""

from __future__ import annotations

from pathlib import Path

from db.settings import Settings

PAGE = Path(__file__).with_name("settings.md")
MADE = {"home": "~/.lookback", "publication_lag_days": "{}", "symbols": "twenty large US stocks"}

HEAD = """# Settings

From the environment, or from `lookback.toml` in the working folder (or the file that
`LOOKBACK_CONFIG` names); the environment wins. Secrets come from the environment only.

| setting | default | what it is |
|---|---|---|
"""


def page() -> str:
    """The page as Markdown, a row for each setting."""
    rows = [
        f"| `LOOKBACK_{name.upper()}` | {_default(name)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return HEAD + "\n".join(rows) + "\n"


def _default(name: str) -> str:
    if name in MADE:
        return f"`{MADE[name]}`"
    default = Settings.model_fields[name].default
    return "" if default is None else f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page())
