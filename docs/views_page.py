"""Make docs/views.md from the catalog: `python docs/views_page.py`."""

from __future__ import annotations

from pathlib import Path

from features.catalog import feature_views
from features.view import FeatureView, Input


def page() -> str:
    """The page, Markdown."""
    parts = [
        "# The views that are there",
        "Made from the catalog by `python docs/views_page.py`; a test compares them. "
        "How to read and to write views: [features.md](features.md).",
    ]
    parts.extend(_section(view) for view in sorted(feature_views().values(), key=lambda v: v.name))
    return "\n\n".join(parts) + "\n"


def _section(view: FeatureView) -> str:
    rows = "\n".join(
        f"| `{feature.name}` | {feature.memory} | {feature.description} |"
        for feature in view.features
    )
    static = f"; static inputs: {', '.join(view.static)}" if view.static else ""
    return (
        f"## {view.name}\n\n{view.description[0].upper()}{view.description[1:]}.\n\n"
        f"Reads {', '.join(_input(given) for given in view.inputs)}; "
        f"window {view.window} × {len(view.features)}; "
        f"target `{view.target}` {view.horizon} {view.horizon_unit} ahead{static}.\n\n"
        f"| feature | memory | what it is |\n|---|---|---|\n{rows}"
    )


def _input(given: Input) -> str:
    chosen = f" of {', '.join(given.entities)}" if given.entities else ""
    shared = " (shared)" if given.shared else ""
    memory = "the whole history" if given.memory is None else f"{given.memory} rows back"
    return f"`{given.table}`{chosen}{shared}, {memory}"


if __name__ == "__main__":
    Path(__file__).with_name("views.md").write_text(page())
