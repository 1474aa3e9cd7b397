#!/usr/bin/env bash
# The kernels must compute the same bits by every compiler and on every processor.
#
#   kernels_digest.sh build OUT CC...    builds tests/kernels/digest.c by another (cross) compiler
#   kernels_digest.sh compare A B...     runs program A and command B; their digests must be equal
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

build() {
    local out=$1 cc machine isas isa variant os=src/os/cpu_arm.c
    shift
    cc=("$@" -std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -O2 -w -I"$root/src" -I"$root")
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT # global: the trap runs after the function
    machine=$("$1" -dumpmachine)
    declare -A flags=(
        [scalar]="" [neon]="" [dotprod]="-march=armv8.2-a+dotprod" [avx2]="-mavx2 -mfma -mf16c"
        [avx512]="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"
    )
    isas="scalar neon dotprod"
    if [[ $machine == x86_64* ]]; then
        isas="scalar avx2 avx512"
        os=src/os/cpu_x86.c
    fi
    cd "$root"
    for isa in $isas; do
        # shellcheck disable=SC2086 # flags are words
        for variant in "src/kernels/kernels_$isa"{,_prefetch,_zen1,_zen5}.c; do
            [ ! -e "$variant" ] || "${cc[@]}" ${flags[$isa]} -c "$variant" -o "$dir/${variant##*/}.o"
        done
    done
    "${cc[@]}" -static -o "$out" tests/kernels/digest.c tests/kernels/support.c \
        src/kernels/{dispatch,math,pack}.c src/quant/dequantize.c src/base/{error,utf8}.c "$os" \
        "$dir"/*.o -lm
}

compare() {
    local a b
    a=$("$1")
    shift
    b=$("$@")
    printf '%s\n---\n%s\n' "$a" "$b"
    [[ $(awk '{print $2}' <<<"$a"$'\n'"$b" | sort -u | wc -l) == 1 ]]
}

command=$1
shift
case $command in
build) (
    # Paths given from the build folder stay valid.
    out=$(realpath -m "$1")
    shift
    build "$out" "$@"
) ;;
compare) compare "$@" ;;
*) exit 2 ;;
esac
