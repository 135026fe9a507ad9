#!/bin/sh
# An environment for zipline, which needs pandas < 3, beside the one of Lookback.
#
#     examples/zipline_environment.sh FOLDER
#     FOLDER/bin/python examples/zipline_pipeline.py --signals PATH
#
# The readers need DuckDB and Arrow beside what zipline brings; a .pth file makes this folder's
# packages importable there.
set -eu
folder=${1:?usage: examples/zipline_environment.sh FOLDER}
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    "zipline-reloaded==3.2.1" "pandas>=2.3,<3" "duckdb==1.5.5" "pyarrow>=19"
site=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
printf '%s\n' "$here" > "$site/lookback.pth"
"$folder/bin/python" -c "import zipline; from signals import readers; print('zipline', zipline.__version__)"
