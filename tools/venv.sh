#!/usr/bin/env bash
# Makes .venv with what the tests' clients need (openai, numpy), once, and prints its python.
# SHOAL_PYTHON names an interpreter that has them already.
set -euo pipefail
cd "$(dirname "$0")/.."
need='import openai, numpy'
if [[ -n ${SHOAL_PYTHON:-} ]]; then
    "$SHOAL_PYTHON" -c "$need"
    echo "$SHOAL_PYTHON"
    exit 0
fi
python=$PWD/.venv/bin/python
if [[ -e .venv/ready ]]; then
    echo "$python"
    exit 0
fi
if [[ ! -x $python ]]; then
    if ! "${PYTHON:-python3}" -m venv .venv >/dev/null 2>&1; then
        # Debian splits ensurepip off.
        [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null &&
            apt-get install -y -q --no-install-recommends python3-venv >/dev/null 2>&1 || true
        rm -rf .venv
        "${PYTHON:-python3}" -m venv .venv >&2
    fi
fi
.venv/bin/pip install -q --disable-pip-version-check 'openai>=1.40' 'numpy>=1.24' >&2
.venv/bin/python -c "$need"
touch .venv/ready
echo "$python"
