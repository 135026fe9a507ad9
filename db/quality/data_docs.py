"""Data Docs: Great Expectations' pages for a night, one page each suite and an index.

Great Expectations renders the pages; what they would load from the network (styles,
scripts, pictures) is taken out, so that they read the same without one. The pages hold
counts only, no rows.
"""

from __future__ import annotations

import html
import json
import os
import re
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from db.quality.verdict import Verdict

STYLE = """
body { font-family: system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.bad, .text-danger { color: #b00020; } .odd, .text-warning { color: #9a6700; }
.good, .text-success { color: #1a7f37; }
.fa-check-circle::before { content: "\\2713"; } .fa-times::before { content: "\\2717"; }
.fa-exclamation-triangle::before { content: "!"; }
.card:has(.btn-group-toggle) { display: none; } /* filters need a script */
"""

_REMOTE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<footer\b.*?</footer>|<img\b[^>]*>|<style\b.*?</style>",
    re.DOTALL | re.IGNORECASE,
)
_INDEX_LINK = re.compile(r'href="[./]*/index\.html"')
_SUITE_LINK = re.compile(r'<a\s+href="[./]*/expectations/[^"]*"\s*>(.*?)</a>', re.DOTALL)


def write_data_docs(verdicts: Sequence[Verdict], folder: Path) -> Path:
    """Writes the pages of some sources and brings the indices up to date.

    Sources of a night may come together or one after the other; each replaces what it
    left there before. A source without new rows has no page, but stands in the index.

    Parameters
    ----------
    verdicts
        Of one source each.
    folder
        Usually `reports/data_docs` under the service's home.

    Returns
    -------
    Path
        `folder/index.html`: the newest night by source, and links to all nights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for verdict in verdicts:
        night = folder / verdict.session.isoformat()
        night.mkdir(exist_ok=True)
        pages = {suite: f"{_file_name(suite)}.html" for suite in verdict.documents}
        for suite, document in verdict.documents.items():
            _write(night / pages[suite], _page(document, verdict.session))
        _write(night / f"{_file_name(verdict.source)}.json", json.dumps(_summary(verdict, pages)))
        _write(night / "index.html", _index(night, "", []))
    return _write_front_page(folder)


def _write_front_page(folder: Path) -> Path:
    """The newest night by source, and links to all nights."""
    nights = sorted((path.parent for path in folder.glob("*/index.html")), reverse=True)
    names = [night.name for night in nights]
    page = _index(nights[0], f"{names[0]}/", names) if nights else "no night was judged yet"
    _write(folder / "index.html", page)
    return folder / "index.html"


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _summary(verdict: Verdict, pages: dict[str, str]) -> dict[str, Any]:
    """What the index says of a source."""
    return {
        "source": verdict.source,
        "kind": verdict.kind,
        "stopped": verdict.stopped,
        "stale": verdict.stale,
        "accepted": len(verdict.accepted),
        "rejected": len(verdict.rejected),
        "failed": [
            f"{result.rule}: {result.unexpected:,} ({result.detail})"
            for result in verdict.results
            if not result.success
        ],
        "pages": pages,
    }


def _write(path: Path, text: str) -> None:
    """A reader sees the old page or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def _page(document: Any, session: date) -> str:
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    document.meta["run_id"] = {
        "run_name": f"night of {session.isoformat()}",
        "run_time": f"{session.isoformat()}T00:00:00Z",
    }
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(document))
    page = _SUITE_LINK.sub(r"\1", _REMOTE.sub("", page))
    page = _INDEX_LINK.sub('href="index.html"', page)
    return page.replace("</head>", f"<style>{STYLE}</style></head>", 1)


def _index(night: Path, prefix: str, nights: Sequence[str]) -> str:
    summaries = [json.loads(path.read_text("utf-8")) for path in sorted(night.glob("*.json"))]
    rows = "\n".join(_row(summary, prefix) for summary in summaries)
    links = "".join(f'<li><a href="{name}/index.html">{name}</a></li>' for name in nights)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Data quality, night of {night.name}</title>
<style>{STYLE}</style></head><body>
<h1>Data quality, night of {night.name}</h1>
<table><tr><th>source</th><th>kind</th><th>verdict</th><th>accepted</th><th>quarantined</th>
<th>rules failed</th><th>suites</th></tr>
{rows}
</table>
{f"<h2>Nights</h2><ul>{links}</ul>" if nights else ""}
</body></html>
"""


def _row(summary: dict[str, Any], prefix: str) -> str:
    links = [
        f'<a href="{prefix}{page}">{html.escape(suite)}</a>'
        for suite, page in summary["pages"].items()
    ]
    cells = [
        html.escape(summary["source"]),
        html.escape(summary["kind"]),
        _status(summary),
        f"{summary['accepted']:,}",
        f"{summary['rejected']:,}",
        "<br>".join(html.escape(line) for line in summary["failed"]) or "none",
        "<br>".join(links) or "no new rows",
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _status(summary: dict[str, Any]) -> str:
    if summary["stopped"] is not None:
        return f'<span class="bad">stopped: {html.escape(summary["stopped"])}</span>'
    if summary["stale"] is not None:
        return f'<span class="odd">stale: {html.escape(summary["stale"])}</span>'
    if summary["rejected"]:
        return '<span class="odd">accepted in part</span>'
    return '<span class="good">accepted</span>'
