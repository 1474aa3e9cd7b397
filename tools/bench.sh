#!/usr/bin/env bash
# make bench: the machine's limits and every kernel against them; models, split and with many
# streams; transports.
#   bench.sh BUILD
# Models: SmolLM2 and Gemma 3 if they are in the cache (tools/fetch_model.sh), a synthetic 1.2 B
# llama in four types and a synthetic mixture of experts, written to the cache once (8 GB).
# ROUNDS (5) and THREADS (1 up to the cores) may be set, MODELS to other files.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shoal
options=(--rounds "${ROUNDS:-5}" ${THREADS:+--threads "$THREADS"})
ninja -C "$build" src/cli/shoal bench/bench_transport tools/shoal-synth
shoal=$build/src/cli/shoal
mkdir -p "$cache/bench"

# synthetic NAME PRESET TYPE: the path of a model that is written where it isn't there.
synthetic() {
    local model=$cache/bench/$1-$3.gguf
    if [[ ! -f $model ]]; then
        echo "writing $model" >&2
        "$build/tools/shoal-synth" --preset "$2" --type "$3" "$model.part"
        mv "$model.part" "$model"
    fi
    echo "$model"
}

models=()
if [[ -n ${MODELS:-} ]]; then
    read -ra models <<<"$MODELS"
else
    for file in smollm2/SmolLM2-135M-Instruct.Q4_1.gguf gemma3/gemma-3-270m-q4_k_m.gguf; do
        [[ -f $cache/models/$file ]] && models+=("$cache/models/$file")
    done
    for type in Q4_0 Q8_0 Q4_K_M F16; do
        models+=("$(synthetic llama-1b 1b "$type")")
    done
    models+=("$(synthetic moe-4b moe Q4_0)")
fi

"$shoal" bench "${options[@]}"
for model in "${models[@]}"; do
    echo
    "$shoal" bench "${options[@]}" --only model,splits,streams "$model"
done
echo
"$build/bench/bench_transport"
