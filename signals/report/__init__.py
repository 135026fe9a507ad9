"""The report: one self-contained HTML page for a session, read from the published file."""

from signals.report.night import Finding
from signals.report.page import report_page

__all__ = ["Finding", "report_page"]
