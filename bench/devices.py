#!/usr/bin/env python3
"""Real devices on this machine, measured through the endpoint: several `shoal up` processes split a
model and are timed in turn, in one run, beside one process with one and with two threads.

    bench/devices.py [--build build] [--rounds 7] [--decode 48] [--case NAME]... [--only FIGURE]
                     MODEL.gguf...

All set-ups stay loaded (idle ones take no processor time). A round decodes with each of them and
then prefills with each, every other round in reverse: what is compared lies seconds apart, since
the memory of a shared host is at times twice as fast as at others.
Prints medians with their spread, and the ratios that matter: two devices to one process with two
threads, a pipeline to one process with one thread, many streams to one.
"""
import argparse
import http.client
import json
import pathlib
import random
import statistics
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from harness import Cluster  # noqa: E402
from models import NEVER_END  # noqa: E402

LOAD_SECONDS = 240
SHORT, LONG = 512, 2048  # tokens of a prompt
# name: (devices, threads of each, further options of the head, prompts, numbers of streams)
SETUPS = {
    "pipeline": (2, 1, ["--split", "1/1"], [LONG], [1, 2]),
    "1 thread": (1, 1, [], [LONG], [1, 2]),
    "tensor shm": (2, 1, ["--split", "1:1"], [SHORT], [1]),
    "2 threads": (1, 2, [], [SHORT], [1, 8]),
    "tensor tcp sealed": (2, 1, ["--split", "1:1", "--seal"], [SHORT], [1]),
}


class Stream(threading.Thread):
    """One streamed completion of a random prompt; notes when each token came."""

    def __init__(self, device, model, prompt, tokens):
        super().__init__(daemon=True)
        self.device, self.times, self.error = device, [], None
        self.body = json.dumps({"model": model, "prompt": prompt, "max_tokens": tokens,
                                "temperature": 0, "stream": True, "logit_bias": NEVER_END})

    def run(self):
        try:
            c = http.client.HTTPConnection("127.0.0.1", self.device.port, timeout=300)
            self.start_time = time.perf_counter()
            c.request("POST", "/v1/completions", self.body, {"Content-Type": "application/json"})
            reply = c.getresponse()
            if reply.status != 200:
                raise RuntimeError(reply.read().decode())
            for line in reply:
                if line.startswith(b"data: {"):
                    self.times.append(time.perf_counter())
        except Exception as e:  # the caller asks for it
            self.error = e


class Bench:
    def __init__(self, model, decode):
        self.model, self.decode = model, decode
        self.rng = random.Random(time.time_ns())

    def prompt(self, tokens):
        return [self.rng.randrange(300, 2000) for _ in range(tokens)]

    def streams(self, device, n, prompt, tokens):
        all_streams = [Stream(device, self.model, self.prompt(prompt), tokens) for _ in range(n)]
        for s in all_streams:
            s.start()
        for s in all_streams:
            s.join(600)
            if s.error or len(s.times) < 2:
                raise RuntimeError(f"a stream ended early: {s.error}")
        return all_streams

    def prefill(self, device, tokens):
        """Prompt tokens a second up to the first token of the answer."""
        (s,) = self.streams(device, 1, tokens, 2)
        return tokens / (s.times[0] - s.start_time)

    def decoded(self, device, n):
        """Tokens a second of n streams together, from when all decode until the first ends."""
        all_streams = self.streams(device, n, 32, self.decode + 8 * (n > 1))
        first = max(s.times[0] for s in all_streams)
        last = min(s.times[-1] for s in all_streams)
        count = sum(sum(first < t <= last for t in s.times) for s in all_streams)
        return count / (last - first)


def start(cluster, setup, model):
    devices, threads, options = SETUPS[setup][:3]
    slug = setup.replace(" ", "-")
    head = cluster.up("--model", model, "--threads", threads, *options, name=slug)
    for i in range(1, devices):
        cluster.join(head, "--threads", threads, *[o for o in options if o == "--seal"],
                     name=f"{slug}-{i}")
    head.wait_model(model, LOAD_SECONDS)
    return head


def show(name, values, unit="tok/s"):
    return f"{name} {statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f}) {unit}"


def overlap(head):
    """{steps: tokens/s} that the head's scheduler measured for the streams of last time."""
    (model,) = head.status()["models"]
    return {m["steps"]: m["tokens_per_second"] for m in model.get("overlap", {}).get("measured", [])}


def measure_decode(bench, setup, head, figures):
    streams = SETUPS[setup][4]
    for n in streams:
        figures.setdefault(f"decode x{n}", []).append(bench.decoded(head, n))
    for steps, rate in overlap(head).items():
        figures.setdefault(f"x{streams[-1]} in {steps} steps", []).append(rate)


def measure_prefill(bench, setup, head, figures):
    for n in SETUPS[setup][3]:
        figures.setdefault(f"prefill {n}", []).append(bench.prefill(head, n))


FIGURES = {"decode": measure_decode, "prefill": measure_prefill}


def measure(bench, heads, rounds, kinds):
    """{setup: {figure: [a value a round]}}"""
    figures = {setup: {} for setup in heads}
    order = list(heads)
    for _ in range(rounds):
        for kind in kinds:
            for setup in order:
                FIGURES[kind](bench, setup, heads[setup], figures[setup])
        order.reverse()
    return figures


def ratios(figures, ours, base, figure, base_figure=None):
    """The ratio of each round, where both were measured."""
    a, b = figures.get(ours, {}).get(figure), figures.get(base, {}).get(base_figure or figure)
    if a and b:
        values = [x / y for x, y in zip(a, b)]
        print(f"    {ours} / {base}: {figure}"
              f"{' to ' + base_figure if base_figure else ''} {show('', values, 'x')}")


def report(model, figures):
    print(model)
    for setup, all_figures in figures.items():
        print(f"  {setup:18} " + "; ".join(show(k, v) for k, v in all_figures.items()))
    for kind in "tensor shm", "tensor tcp sealed":
        for figure in "decode x1", f"prefill {SHORT}":
            ratios(figures, kind, "2 threads", figure)
    ratios(figures, "pipeline", "1 thread", "decode x1")
    for steps in 1, 2:
        ratios(figures, "pipeline", "pipeline", f"x2 in {steps} steps", "decode x1")
    ratios(figures, "pipeline", "1 thread", f"prefill {LONG}")
    for setup in figures:
        for n in 2, 4, 8:
            ratios(figures, setup, setup, f"decode x{n}", "decode x1")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--decode", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--case", action="append", choices=SETUPS, help="only these set-ups")
    parser.add_argument("--only", choices=FIGURES, help="only these figures")
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    for path in args.models:
        with Cluster(ROOT / args.build / "src" / "cli" / "shoal", path.parent) as cluster:
            heads = {s: start(cluster, s, path.stem) for s in args.case or SETUPS}
            bench = Bench(path.stem, args.decode)
            kinds = [args.only] if args.only else FIGURES
            report(path.stem, measure(bench, heads, args.rounds, kinds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
