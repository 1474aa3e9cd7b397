#!/usr/bin/env python3
"""Real devices on this machine, measured through the endpoint: several `shoal up` processes split a
model and are compared, in one run, with one process with one and with two threads.

    bench/devices.py [--build build] [--rounds 7] [--decode 64] [--pipeline 1/1] [--only TEXT]
                     MODEL.gguf...

All set-ups stay loaded (idle ones take no processor time). The memory of a shared host is at times
twice as fast as at others, so each ratio is measured by itself: what is compared with before, ours,
and what it is compared with again. Prints medians with their spread: two devices to one process
with two threads, a pipeline to one process with one thread, many streams to one.
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
# name: (devices, threads of each, further options of the head, where {pipeline} is its SPEC)
SETUPS = {
    "pipeline": (2, 1, ["--split", "{pipeline}"]),
    "1 thread": (1, 1, []),
    "tensor shm": (2, 1, ["--split", "1:1"]),
    "2 threads": (1, 2, []),
    "tensor tcp sealed": (2, 1, ["--split", "1:1", "--seal"]),
}
# kind: (what is measured, beside what): a set-up with its number of streams or tokens of a prompt
COMPARISONS = {
    "decode": [
        (("pipeline", 1), ("1 thread", 1)),
        (("pipeline", 2), ("pipeline", 1)),
        (("1 thread", 2), ("1 thread", 1)),
        (("tensor shm", 1), ("2 threads", 1)),
        (("tensor tcp sealed", 1), ("2 threads", 1)),
        (("2 threads", 8), ("2 threads", 1)),
    ],
    "prefill": [
        (("pipeline", LONG), ("1 thread", LONG)),
        (("tensor shm", SHORT), ("2 threads", SHORT)),
        (("tensor tcp sealed", SHORT), ("2 threads", SHORT)),
    ],
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


def start(cluster, setup, model, pipeline):
    devices, threads, options = SETUPS[setup]
    options = [o.format(pipeline=pipeline) for o in options]
    slug = setup.replace(" ", "-")
    head = cluster.up("--model", model, "--threads", threads, *options, name=slug)
    for i in range(1, devices):
        cluster.join(head, "--threads", threads, *[o for o in options if o == "--seal"],
                     name=f"{slug}-{i}")
    head.wait_model(model, LOAD_SECONDS)
    return head


def show(name, values, unit="tok/s"):
    return f"{name} {statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f}) {unit}"


def name_of(kind, ours, base):
    return f"{ours[0]}, {kind} {ours[1]} / {base[0]}, {kind} {base[1]}"


def overlap(head):
    """{steps: tokens/s} that the head's scheduler measured for the streams of last time."""
    (model,) = head.status()["models"]
    return {m["steps"]: m["tokens_per_second"] for m in model.get("overlap", {}).get("measured", [])}


class Figures:
    """What came out: values of each figure, and ratios of each comparison, one a round."""

    def __init__(self, bench, heads):
        self.bench, self.heads = bench, heads
        self.values, self.ratios = {}, {}

    def take(self, kind, setup, n):
        one = self.bench.prefill if kind == "prefill" else self.bench.decoded
        value = one(self.heads[setup], n)
        self.values.setdefault((setup, f"{kind} {n}"), []).append(value)
        return value

    def compare(self, kind, ours, base):
        before = self.take(kind, *base)
        value = self.take(kind, *ours)
        beside = (before + self.take(kind, *base)) / 2
        name = name_of(kind, ours, base)
        self.ratios.setdefault(name, []).append(value / beside)
        if ours[1] == 2:
            for steps, rate in overlap(self.heads[ours[0]]).items():
                self.ratios.setdefault(f"{name}, in {steps} steps", []).append(rate / beside)

    def report(self, model):
        print(model)
        for (setup, figure), values in sorted(self.values.items()):
            print(f"  {show(f'{setup:18} {figure:12}', values)}")
        for name, values in self.ratios.items():
            print(f"    {show(name, values, 'x')}")
        sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--decode", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--pipeline", default="1/1", metavar="SPEC",
                        help="how it is cut: layers evenly by default, though the last device reads"
                        " the output matrix for each decoded token, so fewer there may be faster")
    parser.add_argument("--only", default="", metavar="TEXT",
                        help="only ratios with this in their name, such as 'pipeline, decode 1'")
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    pairs = [(kind, *pair) for kind, all_pairs in COMPARISONS.items() for pair in all_pairs
             if args.only in name_of(kind, *pair)]
    if not pairs:
        parser.error(f"no ratio has '{args.only}' in its name")
    setups = {setup for _, *pair in pairs for setup, _ in pair}
    for path in args.models:
        with Cluster(ROOT / args.build / "src" / "cli" / "shoal", path.parent) as cluster:
            heads = {s: start(cluster, s, path.stem, args.pipeline) for s in SETUPS if s in setups}
            figures = Figures(Bench(path.stem, args.decode), heads)
            for round_ in range(args.rounds):
                for kind, ours, base in pairs:
                    figures.compare(kind, ours, base)
                print(f"round {round_ + 1} of {args.rounds}", file=sys.stderr)
            figures.report(path.stem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
