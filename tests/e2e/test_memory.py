#!/usr/bin/env python3
"""What a device holds and does while it serves and idles: test_memory.py BUILD [TEST]...

A synthetic model, and the real ones of SHOAL_MODELS where that folder is set.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import models
from harness import Cluster, expect, need_plain_build, run_tests

# Anonymous, shared and mapped pages beside weights and state: program, libraries, buffers of a
# step, vocabulary and the API.
OVERHEAD = 96 << 20
# Reported weights over the share's bytes in the file: padding of the compute layout.
LAYOUT = 1.05
# Of one processor, while nothing is asked.
IDLE_CPU = 0.005
IDLE_SECONDS = 10
# name: shares of two ranks. Gemma 3 has one KV head: both ranks hold its K/V matrices.
MODELS = {"slow": (1, 1), "SmolLM2-135M-Instruct.Q4_1": (2, 1), "gemma-3-270m-q4_k_m": (3, 1)}


class Context:
    def __init__(self, build):
        self.build = build
        self.program = f"{build}/src/cli/shoal"
        self.synthetic = models.folder(build)
        self.real = os.environ.get("SHOAL_MODELS")

    def each(self):
        """(folder, model, shares) of those that are here."""
        for name, shares in MODELS.items():
            for folder in filter(None, (self.synthetic, self.real)):
                if (pathlib.Path(folder) / f"{name}.gguf").exists():
                    yield pathlib.Path(folder), name, shares


def tensor_bytes(context, path, share=1.0):
    """Bytes of a share of all tensors in the file; one KV head's matrices are in every share."""
    text = subprocess.run([context.program, "inspect", path, "--json"], check=True,
                          stdout=subprocess.PIPE).stdout
    tensors = json.loads(text)["tensors"]
    total = sum(t["bytes"] for t in tensors)
    whole = sum(t["bytes"] for t in tensors if path.name.startswith("gemma-3-270m") and
                ("attn_k." in t["name"] or "attn_v." in t["name"]))
    return whole + (total - whole) * share


def ask(device, model):
    status, _, reply = device.request("POST", "/v1/completions", {
        "model": model, "prompt": [5 + i % 200 for i in range(600)], "max_tokens": 64,
        "temperature": 1, "seed": 1})
    expect(status == 200, f"{status}: {reply}")


def check(device, entry, model, share, split):
    weights, state = entry["weight_bytes"], entry["state_bytes"]
    held = device.memory()
    expect(weights > 0, f"{device.name} reports no weights: {entry}")
    print(f"{model}, {split}, {device.name}: holds {held / 2**20:.1f} MiB, weights "
          f"{weights / 2**20:.1f}, state {state / 2**20:.1f}, beside them "
          f"{(held - weights - state) / 2**20:.1f}; weights {weights / share:.3f} of the file's")
    expect(held <= weights + state + OVERHEAD,
           f"{model}, {split}: {device.name} holds {held}, weights {weights}, state {state}")
    expect(weights <= LAYOUT * share,
           f"{model}, {split}: {device.name} reports {weights}, its share of the file has {share:.0f}")


def one_device(context):
    need_plain_build(context.build)
    for folder, model, _ in context.each():
        with Cluster(context.program, folder) as c:
            d = c.up("--model", model, "--threads", "2")
            d.wait_model(model)
            ask(d, model)
            check(d, d.status()["devices"][0], model, tensor_bytes(context, folder / f"{model}.gguf"),
                  "alone")


def two_ranks(context):
    need_plain_build(context.build)
    for folder, model, shares in context.each():
        split = ":".join(map(str, shares))
        with Cluster(context.program, folder) as c:
            head = c.up("--model", model, "--split", split, "--threads", "1")
            worker = c.join(head, "--threads", "1")
            head.wait_model(model)
            ask(head, model)
            time.sleep(1.5)  # the worker's next heartbeat tells its state
            entries = {e["name"]: e for e in head.status()["devices"]}
            for d, part in zip((head, worker), shares):
                share = tensor_bytes(context, folder / f"{model}.gguf", part / sum(shares))
                check(d, entries[d.name], model, share, split)


def cpu_seconds(device):
    fields = pathlib.Path(f"/proc/{device.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_takes_no_processor(context):
    need_plain_build(context.build)
    with Cluster(context.program, context.synthetic) as c:
        head = c.up("--model", "slow", "--split", "1/1", "--threads", "2")
        worker = c.join(head, "--threads", "2")
        head.wait_model("slow")
        ask(head, "slow")
        time.sleep(1)
        before = [cpu_seconds(d) for d in (head, worker)]
        time.sleep(IDLE_SECONDS)
        for d, start in zip((head, worker), before):
            used = (cpu_seconds(d) - start) / IDLE_SECONDS
            print(f"idle: {d.name} takes {100 * used:.2f} % of a processor")
            expect(used < IDLE_CPU, f"{d.name} takes {100 * used:.2f} % of a processor while idle")


TESTS = [one_device, two_ranks, idle_takes_no_processor]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS, lambda: Context(sys.argv[1])))
