#!/usr/bin/env bash
# Makes a virtual environment once and prints its python.
#   venv.sh                               .venv with what the tests' clients need (openai, numpy);
#                                         SHOAL_PYTHON names an interpreter that has them already
#   venv.sh FOLDER MODULES PACKAGE...     another folder: packages to install, modules to import
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.venv need='openai, numpy' packages=('openai>=1.40' 'numpy>=1.24')
if [[ $# -gt 0 ]]; then
    folder=$1 need=$2 packages=("${@:3}")
elif [[ -n ${SHOAL_PYTHON:-} ]]; then
    "$SHOAL_PYTHON" -c "import $need"
    echo "$SHOAL_PYTHON"
    exit 0
fi
[[ $folder == /* ]] || folder=$PWD/$folder
python=$folder/bin/python
if [[ -e $folder/ready ]]; then
    echo "$python"
    exit 0
fi
if [[ ! -x $python ]]; then
    if ! "${PYTHON:-python3}" -m venv "$folder" >/dev/null 2>&1; then
        # Debian splits ensurepip off.
        [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null &&
            apt-get install -y -q --no-install-recommends python3-venv >/dev/null 2>&1 || true
        rm -rf "$folder"
        "${PYTHON:-python3}" -m venv "$folder" >&2
    fi
fi
"$folder/bin/pip" install -q --disable-pip-version-check "${packages[@]}" >&2
"$python" -c "import $need"
touch "$folder/ready"
echo "$python"
