#!/usr/bin/env bash
# Builds the libFuzzer targets and runs each for some seconds over its corpus.
#   fuzz.sh BUILD [SECONDS] [NAME]...
# New inputs go to BUILD/corpus/NAME, never into the repository; a crash is kept in BUILD/crash.
# Each target's bounds stand in fuzz/bounds.def and are checked by the target itself; the limits
# given to libFuzzer end a hang, and count what is no heap.
#   fuzz.sh --merge BUILD NAME...
# adds a smallest set of the new inputs that reaches what fuzz/corpus does not.
set -euo pipefail
cd "$(dirname "$0")/.."
# Beside an input's heap: the program, its shadow memory, libFuzzer's own copy of the corpus.
own_mb=640
# Processor time is bounded by the target; this is for waits, on a machine that does other things.
hang_s=20
merge=0
if [[ $1 == --merge ]]; then merge=1; shift; fi
build=$1
seconds=10
if ((!merge)); then seconds=${2:-10}; shift; fi
shift || true
names=("$@")
if ((${#names[@]} == 0)); then
    mapfile -t names < <(sed -n 's/^BOUND(\([a-z]*\),.*/\1/p' fuzz/bounds.def)
fi
ninja -C "$build" "${names[@]/#/fuzz/fuzz_}" >/dev/null
# Freed memory is kept back for a while to catch late uses; the default keeps 256 MB.
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=32:detect_leaks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
mkdir -p "$build/crash"

if ((merge)); then
    for name in "${names[@]}"; do
        "$build/fuzz/fuzz_$name" -set_cover_merge=1 -use_counters=0 "fuzz/corpus/$name" "$build/corpus/$name" 2>&1 |
            grep -E "^MERGE-OUTER: .* new files" || true
    done
    exit 0
fi
failed=0
for name in "${names[@]}"; do
    read -r mib bytes < <(sed -n "s/^BOUND($name, [0-9]*, \([0-9]*\), \([0-9]*\))/\1 \2/p" \
        fuzz/bounds.def)
    mkdir -p "$build/corpus/$name"
    log=$build/crash/$name.log
    dictionary=()
    if [[ -e fuzz/dict/$name.dict ]]; then dictionary=(-dict="fuzz/dict/$name.dict"); fi
    if "$build/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout="$hang_s" \
        -rss_limit_mb=$((own_mb + mib)) -max_len="$bytes" "${dictionary[@]}" \
        -print_final_stats=1 -artifact_prefix="$build/crash/$name-" \
        "$build/corpus/$name" "fuzz/corpus/$name" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
        cover=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 edges  \2/p' "$log" | tail -1)
        printf '%-12s %10s runs  %s features  %5s MB\n' "$name" "$runs" "$cover" "$peak"
    else
        echo "$name FAILED: see $log" >&2
        tail -5 "$log" >&2
        failed=1
    fi
done
exit $failed
