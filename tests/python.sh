#!/bin/sh
# Runs a test script with the test clients' python (see tools/venv.sh); skipped where that can't be
# made, for instance without a network.
tools=$(dirname "$0")/../tools
if ! python=$("$tools/venv.sh" 2>/tmp/shoal-venv.$$); then
    echo "skip: no python with the test clients: $(tail -1 /tmp/shoal-venv.$$)"
    rm -f /tmp/shoal-venv.$$
    exit 77
fi
rm -f /tmp/shoal-venv.$$
export PYTHONDONTWRITEBYTECODE=1
# meson has glibc fill all memory it hands out, which touches pages that a device only reserves:
# the memory tests would measure that.
unset MALLOC_PERTURB_
exec "$python" "$@"
