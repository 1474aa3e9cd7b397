#!/usr/bin/env python3
"""A device that dies in mid-answer costs a pause where another can take its place:
test_survival.py BUILD [TEST]...

Three devices, a pipeline over two of them. What the stream says is compared token by token with
that of a run which nothing disturbs.
"""

import http.client
import json
import random
import signal
import sys
import time

import models
from harness import Cluster, expect, run_tests

TOKENS = 120
SPLIT = "1/1"
# A stopped device is noticed after four seconds of silence; loading takes well under one.
PAUSE_SECONDS = 20


class Context:
    def __init__(self, build):
        self.program = f"{build}/src/cli/shoal"
        self.models = models.folder(build)


def stream(device, seed, temperature):
    """Yields (token id text, seconds since the one before) of a completion."""
    body = {"model": "slow", "prompt": [7 + i % 90 for i in range(300)], "max_tokens": TOKENS,
            "seed": seed, "temperature": temperature, "stream": True,
            "logit_bias": models.NEVER_END, "stream_options": {"include_usage": True}}
    c = http.client.HTTPConnection("127.0.0.1", device.port, timeout=60)
    c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = c.getresponse()
    expect(reply.status == 200, f"status {reply.status}")
    last = time.monotonic()
    for line in reply:
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        event = json.loads(line[6:])
        expect("error" not in event, f"the stream ended with {event}")
        now = time.monotonic()
        yield event, now - last
        last = now
    c.close()


def read(device, seed, temperature, disturb=None):
    """(text, usage, longest pause) of a whole stream. disturb: token count -> what to do then."""
    text, usage, longest, n = "", None, 0.0, 0
    for event, pause in stream(device, seed, temperature):
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            text += choice["text"]
            n += 1
            if disturb is not None and n in disturb:
                disturb[n]()
        longest = max(longest, pause)
    return text, usage, longest


def survive(context, how, temperature, seed):
    after = random.Random(seed).randrange(2, TOKENS * 3 // 4)
    with Cluster(context.program, context.models) as c:
        head = c.up("--model", "slow", "--split", SPLIT, "--threads", "1")
        first = c.join(head, "--threads", "1")
        head.wait_model("slow")
        c.join(head, "--threads", "1")
        head.wait_until(lambda: len(head.status()["devices"]) == 3, "third device")
        whole, usage, _ = read(head, seed, temperature)
        expect(usage["completion_tokens"] == TOKENS, f"undisturbed: {usage}")
        text, usage, pause = read(head, seed, temperature,
                                  {after: lambda: first.process.send_signal(how)})
        print(f"{how.name} after {after} tokens: a pause of {pause:.2f} s")
        expect(usage["completion_tokens"] == TOKENS, f"disturbed: {usage}")
        expect(text == whole, f"after {after} tokens another text: {text!r}, undisturbed {whole!r}")
        expect(pause < PAUSE_SECONDS, f"a pause of {pause:.1f} s")


def a_killed_worker_costs_a_pause(context):
    survive(context, signal.SIGKILL, 0, 11)


def a_killed_worker_costs_a_sampled_stream_a_pause(context):
    survive(context, signal.SIGKILL, 1, 12)


def a_stopped_worker_costs_a_pause(context):
    survive(context, signal.SIGSTOP, 0, 13)


def one_after_the_other(context):
    """The device that took over is killed too, soon after, and a third one takes its place."""
    with Cluster(context.program, context.models) as c:
        head = c.up("--model", "slow", "--split", SPLIT, "--threads", "1")
        workers = [c.join(head, "--threads", "1")]
        head.wait_model("slow")
        for n in (3, 4):
            workers.append(c.join(head, "--threads", "1"))
            head.wait_until(lambda: len(head.status()["devices"]) == n, f"{n} devices")
        whole, _, _ = read(head, 14, 1)

        def kill_present():
            layers = [r["name"] for m in head.status()["models"] for st in m["stages"]
                      for r in st["ranks"]]
            for w in workers:
                if w.name in layers:
                    w.process.kill()

        text, usage, pause = read(head, 14, 1, {20: kill_present, 70: kill_present})
        print(f"two killed: the longest pause {pause:.2f} s")
        expect(usage["completion_tokens"] == TOKENS and text == whole, f"{usage}: {text!r}")
        expect(sum(w.process.poll() is not None for w in workers) == 2, "not two were killed")


if __name__ == "__main__":
    sys.exit(run_tests([a_killed_worker_costs_a_pause, one_after_the_other,
                        a_killed_worker_costs_a_sampled_stream_a_pause,
                        a_stopped_worker_costs_a_pause], lambda: Context(sys.argv[1])))
