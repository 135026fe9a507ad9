"""Prefect's own settings, made before Prefect is imported.

Running a flow needs no server set up: without PREFECT_API_URL Prefect starts a temporary
one inside the process, with its files under LOOKBACK_HOME.
"""

from __future__ import annotations

import os
from pathlib import Path

# Twenty seconds, Prefect's default, is too short for its server on two cores.
STARTUP_SECONDS = 120


def configure(home: Path, *, quiet: bool = False) -> None:
    """Set what Prefect reads from the environment, unless the operator has set it.

    Parameters
    ----------
    home : LOOKBACK_HOME; Prefect's files lie in `prefect/` below it.
    quiet : silence Prefect's own log, where our output is what people read.
    """
    defaults = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_SECONDS),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
    }
    if quiet:
        defaults |= {
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # its server does not make the folder that its database lies in
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
