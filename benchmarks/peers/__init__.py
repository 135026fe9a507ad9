"""Other tools, run beside ours in environments of their own: `peer_python(name)`."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent


def peer_python(name: str) -> Path:
    """The interpreter of a peer's environment, made from `<name>.txt` beside this file.

    Environments are kept in LOOKBACK_PEERS (default ~/.cache/lookback-peers), one for each
    content of the file of requirements and of those that it includes.

    Raises
    ------
    subprocess.CalledProcessError
        The packages cannot be installed here; pip has said why.
    """
    requirements = HERE / f"{name}.txt"
    digest = hashlib.sha256(requirements_of(requirements)).hexdigest()[:8]
    home = Path(os.environ.get("LOOKBACK_PEERS", "~/.cache/lookback-peers")).expanduser()
    folder = home / f"{name}-{digest}"
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        print(f"installing {name} into {folder} (once)", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        done.touch()
    return python


def requirements_of(file: Path) -> bytes:
    """The content of a file of requirements and of each that it includes with `-r`."""
    content = file.read_bytes()
    included = re.findall(r"^-r (.+)$", content.decode(), re.MULTILINE)
    return content + b"".join(requirements_of(file.with_name(name)) for name in included)
