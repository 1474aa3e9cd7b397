#!/usr/bin/env python3
"""Memory that just holds what the plan counted: test_tight.py BUILD [TEST]...

One device in a memory cgroup of its own. Chats of full context, one after another and eight at
once, never take more than was planned, and none is refused.
"""

import os
import pathlib
import subprocess
import sys
import threading

from harness import Cluster, Failed, Skipped, expect, need_plain_build, run_tests

MIB = 1 << 20
CONTEXT = 1024
# 4 layers, 8 KV heads of 128, keys and values, f16.
TOKEN_BYTES = 4 * 2 * 8 * 128 * 2
# What is kept back when a model is placed, and room for three contexts beside it.
LIMIT = 256 * MIB + 96 * MIB + 3 * CONTEXT * TOKEN_BYTES
# Program, libraries, buffers of a step, vocabulary and the API.
OVERHEAD = 96 * MIB
CHATS = 64
AT_ONCE = 8
SYNTH = ["--preset", "wide", "--arch", "llama", "--type", "Q8_0", "--seed", "5", "--width", "256",
         "--heads", "8", "--kv-heads", "8", "--head-dim", "128", "--ffn", "512",
         "--layers", "4", "--context", str(CONTEXT)]


class Context:
    def __init__(self, build):
        self.build = build
        self.program = f"{build}/src/cli/shoal"
        self.models = pathlib.Path(build) / "e2e-tight"
        self.models.mkdir(exist_ok=True)
        model = self.models / "keys.gguf"
        if not model.exists():
            part = model.with_suffix(".part")
            subprocess.run([f"{build}/tools/shoal-synth", *SYNTH, part], check=True, timeout=120)
            part.rename(model)


class Group:
    """A memory cgroup below the one that this process is in, of version 1 or 2."""

    def __init__(self, limit):
        self.path = None
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, inside = line.split(":", 2)
            if number == "0":
                root, name = pathlib.Path("/sys/fs/cgroup"), "memory.max"
            elif "memory" in controllers.split(","):
                root, name = pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
            else:
                continue
            path = pathlib.Path(f"{root}{inside}") / f"shoal-tight-{os.getpid()}"
            try:
                path.mkdir()
                self.path = path
                (path / name).write_text(str(limit))
                return
            except OSError:
                self.close()
        raise Skipped("no memory cgroup can be made here")

    def close(self):
        if self.path is not None:
            self.path.rmdir()
            self.path = None

    def wrapper(self, folder, program):
        """A program that enters the group and becomes shoal."""
        script = pathlib.Path(folder) / "shoal-in-group"
        script.write_text(f'#!/bin/sh\necho $$ > {self.path}/cgroup.procs\nexec {program} "$@"\n')
        script.chmod(0o755)
        return script


def peak(device):
    for line in pathlib.Path(f"/proc/{device.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise Failed("no VmHWM")


def chat(device, seed, tokens=8):
    """A prompt of its own that fills the context but for the answer."""
    prompt = [5 + (seed * 7919 + i * i) % 400 for i in range(CONTEXT - tokens - 1)]
    status, _, reply = device.request("POST", "/v1/completions", {
        "model": "keys", "prompt": prompt, "max_tokens": tokens, "seed": seed,
        "logit_bias": {"2": -100, "4": -100}})
    expect(status == 200, f"chat {seed}: {status}: {reply}")
    expect(reply["usage"]["completion_tokens"] == tokens, f"chat {seed}: {reply['usage']}")


def check(device, when):
    model = device.status()["models"][0]
    entry = device.status()["devices"][0]
    pool = model["pool_tokens"] * TOKEN_BYTES
    most = entry["weight_bytes"] + pool + OVERHEAD
    print(f"{when}: {peak(device) / MIB:.1f} MiB at most; pool {model['pool_tokens']} tokens, "
          f"{pool / MIB:.1f} MiB, of it in use {entry['state_bytes'] / MIB:.1f}")
    expect(CONTEXT <= model["pool_tokens"] < AT_ONCE * CONTEXT, "the pool is not tight")
    expect(entry["state_bytes"] <= pool, f"{when}: state {entry['state_bytes']} of {pool}")
    expect(peak(device) <= most, f"{when}: {peak(device)} bytes, planned {most}")


def chats_stay_within_the_plan(context):
    need_plain_build(context.build)
    group = Group(LIMIT)
    try:
        with Cluster(context.program, context.models) as c:
            c.program = group.wrapper(c.path, pathlib.Path(context.program).resolve())
            d = c.up("--model", "keys", "--threads", "2")
            d.wait_model("keys")
            for i in range(CHATS):
                chat(d, i)
            check(d, f"{CHATS} chats")
            failed = []

            def one(seed):
                try:
                    chat(d, seed)
                except (Failed, OSError) as e:
                    failed.append(e)

            threads = [threading.Thread(target=one, args=(1000 + i,)) for i in range(AT_ONCE)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            expect(not failed, str(failed))
            check(d, f"{AT_ONCE} at once")
    finally:
        group.close()


if __name__ == "__main__":
    sys.exit(run_tests([chats_stay_within_the_plan], lambda: Context(sys.argv[1])))
