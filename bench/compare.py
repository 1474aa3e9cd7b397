#!/usr/bin/env python3
"""Decode and prefill beside llama.cpp: both on the same file and threads, in turn, in one run.

    bench/compare.py [--build build] [--threads 1,2] [--rounds 7] [--json] MODEL.gguf...

The newest llama-cpp-python is built for this machine once (minutes), in a virtual environment of
the cache, ~/.cache/shoal/bench/llama-cpp; delete that folder for a newer one. Prints the median
ratio shoal / llama.cpp and, for both, tokens/s and the share of the machine's limits, which
`shoal bench` measures in the same round: of the read bandwidth for decode, of the int8 or f32 peak
for prefill. Spreads are least to greatest.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
ENVIRONMENT = CACHE / "shoal" / "bench" / "llama-cpp"
PHASES = ("decode", "prefill")
ROUND_SECONDS = 600


def enter_environment():
    """Goes on in the interpreter that has llama-cpp-python, which is installed where it isn't."""
    if pathlib.Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    python = subprocess.run([ROOT / "tools" / "venv.sh", ENVIRONMENT, "llama_cpp",
                             "llama-cpp-python"], check=True, stdout=subprocess.PIPE,
                            text=True).stdout.strip()
    os.execv(python, [python, *sys.argv])


def ours(args, model, threads):
    """{phase: (tokens/s, the most that the limits allow)} of one round of shoal."""
    out = subprocess.run(
        [f"{args.build}/src/cli/shoal", "bench", model, "--only", "model", "--json", "--rounds",
         "1", "--threads", str(threads), "--prefill", str(args.prefill), "--decode",
         str(args.decode)],
        check=True, stdout=subprocess.PIPE, text=True, timeout=ROUND_SECONDS).stdout
    row = json.loads(out)["model"][0]
    rates = {p: row[f"{p}_tokens_per_second"]["median"] for p in PHASES}
    return {p: (rates[p], rates[p] / row[f"{p}_share"]["median"]) for p in PHASES}


class Llama:
    """One open model of llama.cpp, timed through its evaluation call."""

    def __init__(self, args, model, threads):
        import llama_cpp
        self.args, self.turn = args, 0
        self.llm = llama_cpp.Llama(model, n_ctx=args.prefill + args.decode + 8,
                                   n_batch=args.prefill, n_ubatch=args.prefill, n_threads=threads,
                                   n_threads_batch=threads, verbose=False)

    def measure(self):
        """{phase: tokens/s}."""
        prefill, decode = self.args.prefill, self.args.decode
        self.turn += 1
        ids = [(i * 7919 + self.turn) % (self.llm.n_vocab() - 1) for i in range(prefill + decode)]
        self.llm.reset()
        start = time.perf_counter()
        self.llm.eval(ids[:prefill])
        middle = time.perf_counter()
        for token in ids[prefill:]:
            self.llm.eval([token])
        end = time.perf_counter()
        return {"decode": decode / (end - middle), "prefill": prefill / (middle - start)}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(args, model, threads):
    """One model with so many threads, all rounds."""
    peer = Llama(args, model, threads)
    peer.measure()
    rounds = [(ours(args, model, threads), peer.measure()) for _ in range(args.rounds)]
    result = {"model": os.path.basename(model), "threads": threads}
    for p in PHASES:
        result[p] = {
            "ratio": spread([a[p][0] / b[p] for a, b in rounds]),
            "shoal": {"tokens_per_second": spread([a[p][0] for a, _ in rounds]),
                      "share": spread([a[p][0] / a[p][1] for a, _ in rounds])},
            "llama_cpp": {"tokens_per_second": spread([b[p] for _, b in rounds]),
                          "share": spread([b[p] / a[p][1] for a, b in rounds])},
        }
    return result


def text(value, scale=1.0, digits=1):
    return (f"{value['median'] * scale:.{digits}f} ({value['min'] * scale:.{digits}f}-"
            f"{value['max'] * scale:.{digits}f})")


def show(result):
    for p in PHASES:
        r = result[p]
        cells = [f"x{text(r['ratio'], digits=2):18}"]
        for engine in ("shoal", "llama_cpp"):
            cells.append(f"{text(r[engine]['tokens_per_second']):22} tokens/s"
                         f" {text(r[engine]['share'], 100, 0):>12} %")
        print(f"{result['model']:34} {result['threads']} {p:8} {'   '.join(cells)}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build", help="folder of the build")
    parser.add_argument("--threads", default="1,2", help="counts of threads, joined by commas")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=32, help="tokens after it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    enter_environment()
    import llama_cpp
    if not args.json:
        print(f"ratio shoal / llama.cpp (llama-cpp-python {llama_cpp.__version__}), then both: "
              f"median (least-greatest) of {args.rounds} rounds in turn, per cent of the limit")
    results = []
    for model in args.models:
        for threads in map(int, args.threads.split(",")):
            results.append(compare(args, model, threads))
            if not args.json:
                show(results[-1])
    if args.json:
        print(json.dumps({"llama_cpp_python": llama_cpp.__version__, "rounds": args.rounds,
                          "prefill": args.prefill, "decode": args.decode, "results": results},
                         indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
