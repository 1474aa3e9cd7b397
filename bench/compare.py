#!/usr/bin/env python3
"""Decode and prefill beside llama.cpp: both on the same file and threads, in turn, in one run.

    bench/compare.py [--build build] [--threads 1,2] [--rounds 7] MODEL.gguf...

Needs the Python package llama-cpp-python (the script is run by tools/venv.sh's interpreter with it
installed). Prints the median ratio shoal / llama.cpp and its spread, and the median rates.
"""
import argparse
import re
import statistics
import subprocess
import sys
import time

PREFILL, DECODE = 512, 32


def ours(build, model, threads):
    """(decode tok/s, prefill tok/s, share of the read limit)."""
    out = subprocess.run(
        [f"{build}/bench/bench_model", "--threads", str(threads), "--rounds", "1", "--prefill",
         str(PREFILL), "--decode", str(DECODE), model],
        check=True, capture_output=True, text=True, timeout=600).stdout
    m = re.search(r"decode +([\d.]+) tok/s.*= +(\d+) % .*prefill\(\d+\) +([\d.]+) tok/s", out)
    return float(m[1]), float(m[3]), int(m[2])


class Llama:
    """One open model of llama.cpp, timed through its evaluation call."""

    def __init__(self, model, threads):
        import llama_cpp
        self.llm = llama_cpp.Llama(model, n_ctx=2048, n_batch=PREFILL, n_ubatch=PREFILL,
                                   n_threads=threads, n_threads_batch=threads, verbose=False)

    def measure(self):
        ids = [i * 7919 % (self.llm.n_vocab() - 1) for i in range(PREFILL + DECODE)]
        self.llm.reset()
        start = time.perf_counter()
        self.llm.eval(ids[:PREFILL])
        middle = time.perf_counter()
        for token in ids[PREFILL:]:
            self.llm.eval([token])
        end = time.perf_counter()
        return DECODE / (end - middle), PREFILL / (middle - start)


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    print(f"ratio shoal / llama.cpp, median (min-max) of {args.rounds} interleaved rounds")
    for model in args.models:
        for threads in map(int, args.threads.split(",")):
            peer = Llama(model, threads)
            peer.measure()
            rows = []
            for _ in range(args.rounds):
                rows.append((*ours(args.build, model, threads), *peer.measure()))
            decode = [r[0] / r[3] for r in rows]
            prefill = [r[1] / r[4] for r in rows]
            print(f"{model.rsplit('/', 1)[-1]:36} {threads} threads  decode x{spread(decode)} "
                  f"[{statistics.median(r[0] for r in rows):.1f} / "
                  f"{statistics.median(r[3] for r in rows):.1f} tok/s, "
                  f"{statistics.median(r[2] for r in rows):.0f} % of the read limit]  "
                  f"prefill x{spread(prefill)} [{statistics.median(r[1] for r in rows):.0f} / "
                  f"{statistics.median(r[4] for r in rows):.0f} tok/s]", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
