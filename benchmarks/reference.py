"""Where the reference data lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def reference_folder() -> Path:
    """The folder that LOOKBACK_REFERENCE_DATA names; ends the command where it is unset."""
    folder = os.environ.get("LOOKBACK_REFERENCE_DATA", "")
    if not folder or not Path(folder).is_dir():
        sys.exit("set LOOKBACK_REFERENCE_DATA to the folder of reference data")
    return Path(folder).resolve()
