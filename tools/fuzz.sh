#!/usr/bin/env bash
# Builds the libFuzzer targets and runs each for some seconds over its corpus.
#   fuzz.sh BUILD [SECONDS] [NAME]...
# New inputs go to BUILD/corpus/NAME, never into the repository; a crash is kept in BUILD/crash.
set -euo pipefail
build=$1
seconds=${2:-10}
shift 2 || shift $#
names=("$@")
cd "$(dirname "$0")/.."
ninja -C "$build" >/dev/null
if ((${#names[@]} == 0)); then
    for file in fuzz/fuzz_*.c; do
        name=${file#fuzz/fuzz_}
        [[ $name == main.c ]] || names+=("${name%.c}")
    done
fi
failed=0
mkdir -p "$build/crash"
for name in "${names[@]}"; do
    mkdir -p "$build/corpus/$name"
    log=$build/crash/$name.log
    if "$build/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$build/crash/$name-" \
        "$build/corpus/$name" "fuzz/corpus/$name" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
        cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
        printf '%-12s %10s runs  %6s edges  %5s MB\n' "$name" "$runs" "$cover" "$peak"
    else
        echo "$name FAILED: see $log" >&2
        tail -5 "$log" >&2
        failed=1
    fi
done
exit $failed
