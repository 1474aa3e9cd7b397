#!/usr/bin/env bash
# make bench: the machine's limits, every kernel against them, whole models, transports.
#   bench.sh BUILD
# Models: SmolLM2 if it is in the cache (tools/fetch_model.sh), and a synthetic 1.2 B llama in four
# types, written to the cache once (6 GB). ROUNDS and THREADS may be set; medians of ROUNDS.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
rounds=${ROUNDS:-5}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shoal
ninja -C "$build" bench/bench_kernels bench/bench_model bench/bench_transport tools/shoal-synth
mkdir -p "$cache/bench"

models=()
smol=$cache/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
[[ -f $smol ]] && models+=("$smol")
for type in Q4_0 Q8_0 Q4_K_M F16; do
    model=$cache/bench/llama-1b-$type.gguf
    if [[ ! -f $model ]]; then
        echo "writing $model" >&2
        "$build/tools/shoal-synth" --preset 1b --type "$type" "$model.part"
        mv "$model.part" "$model"
    fi
    models+=("$model")
done

echo "== kernels against the machine's own limits"
"$build/bench/bench_kernels"
for threads in ${THREADS:-1 2}; do
    echo "== models, $threads compute threads (median of $rounds)"
    "$build/bench/bench_model" --threads "$threads" --rounds "$rounds" "${models[@]}"
done
echo "== transports"
"$build/bench/bench_transport"
