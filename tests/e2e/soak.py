#!/usr/bin/env python3
"""Many requests of every kind at once: soak.py BUILD [--requests N] [--seed N].

32 connections send valid requests (plain and streamed), invalid ones of many kinds, ones whose
client goes away, and ones that come byte by byte. Every valid one must be answered, nothing may
crash, and the level of resident memory stays flat within 5 % after the warm-up.
"""

import argparse
import json
import random
import socket
import statistics
import sys
import threading
import time

import models
from harness import Cluster, expect, run_tests

MODEL = "tiny"
CONNECTIONS = 32
# The first part of the requests, at least this many, lets caches and the allocator find their size:
# sessions and buffers that grow when they are first used were all used after 1,000 to 1,400.
WARM_UP = 1500
FLAT = 0.05
# What requests hold while they are answered comes and goes: bursts reach so far above the level.
BURST = 0.25
# A tiny model's own memory is small: noise of an allocator must not count as a leak.
FLAT_BYTES = 1 << 20
ANSWER_SECONDS = 120
# The connection that asks for them, and one that is just being closed.
DESCRIPTOR_SLACK = 2
KINDS = ["valid"] * 10 + ["stream"] * 6 + ["invalid"] * 8 + ["aborted"] * 4 + ["loris"] * 2


class Connection:
    """One HTTP connection, kept over requests while the server keeps it."""

    def __init__(self, port):
        self.port, self.socket = port, None

    def open(self):
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port),
                                                   timeout=ANSWER_SECONDS)
            self.rest = b""
        return self.socket

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def more(self):
        block = self.socket.recv(65536)
        if not block:
            raise ConnectionError("closed")
        self.rest += block

    def until(self, end):
        while end not in self.rest:
            self.more()
        part, self.rest = self.rest.split(end, 1)
        return part

    def exactly(self, n):
        while len(self.rest) < n:
            self.more()
        part, self.rest = self.rest[:n], self.rest[n:]
        return part

    def reply(self):
        """(status, body)."""
        head = self.until(b"\r\n\r\n").decode()
        status = int(head.split(" ", 2)[1])
        fields = {}
        for line in head.split("\r\n")[1:]:
            key, value = line.split(":", 1)
            fields[key.lower()] = value.strip()
        body = b""
        if fields.get("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n").split(b";")[0], 16):
                body += self.exactly(size)
                self.exactly(2)
            self.exactly(2)
        else:
            body = self.exactly(int(fields.get("content-length", 0)))
        if fields.get("connection", "").lower() == "close":
            self.close()
        return status, body


def post(path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


def fields(rng, **more):
    body = {"model": MODEL, "max_tokens": rng.randrange(1, 24), "temperature": rng.choice([0, 1]),
            "seed": rng.randrange(1000)}
    if rng.random() < 0.3:
        body["logprobs"] = rng.choice([1, 3])
    if rng.random() < 0.2:
        body["stop"] = ["a", "the"]
    body["prompt"] = "word " * rng.randrange(1, 40) + str(rng.random())
    return {**body, **more}


def invalid(rng):
    """What must be refused: (bytes, whether the connection still makes sense afterwards)."""
    bad = fields(rng)
    kind = rng.randrange(12)
    if kind < 6:
        bad.update([{"temperature": "hot"}, {"max_tokens": -2}, {"model": "nothing"},
                    {"prompt": 7}, {"prompt": [5] * 100_000}, {"top_p": 9}][kind])
        return post("/v1/completions", bad), True
    if kind == 6:
        return post("/v1/chat/completions", b'{"model": "tiny", "messages": [{"role"'), True
    if kind == 7:
        return post("/v1/chat/completions", b"[" * 3000), True
    if kind == 8:
        return post("/v1/nothing", {}), True
    if kind == 9:
        return bytes(rng.randrange(256) for _ in range(200)) + b"\r\n\r\n", False
    if kind == 10:
        return b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", False
    return b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", False


class Soak:
    def __init__(self, device, n, seed):
        self.device, self.n, self.seed = device, n, seed
        self.lock = threading.Lock()
        self.next, self.done, self.counts, self.wrong = 0, 0, {}, []

    def take(self):
        with self.lock:
            self.next += 1
            return self.next - 1 if self.next <= self.n else None

    def work(self):
        connection = Connection(self.device.port)
        while (i := self.take()) is not None:
            rng = random.Random(self.seed * 1_000_003 + i)
            kind = rng.choice(KINDS)
            try:
                getattr(self, kind)(connection, rng)
            except (OSError, ValueError, KeyError, IndexError) as e:
                connection.close()
                with self.lock:
                    self.wrong.append(f"request {i} ({kind}): {e!r}")
            with self.lock:
                self.done += 1
                self.counts[kind] = self.counts.get(kind, 0) + 1
        connection.close()

    def valid(self, connection, rng):
        connection.open().sendall(post("/v1/completions", fields(rng)))
        status, body = connection.reply()
        if status != 200 or not json.loads(body)["choices"][0]["finish_reason"]:
            raise ValueError(f"{status} {body[:200]}")

    def stream(self, connection, rng):
        connection.open().sendall(post("/v1/completions", fields(rng, stream=True)))
        status, body = connection.reply()
        if status != 200 or not body.rstrip().endswith(b"data: [DONE]") or b'"error"' in body:
            raise ValueError(f"{status} ...{body[-200:]}")

    def invalid(self, connection, rng):
        data, stays = invalid(rng)
        if not stays:
            connection.close()
        try:
            connection.open().sendall(data)
            status, body = connection.reply()
        except (OSError, IndexError):
            # A server may cut off what isn't HTTP.
            if stays:
                raise
            connection.close()
            return
        if status < 400:
            raise ValueError(f"{data[:80]} gives {status} {body[:100]}")
        if not stays:
            connection.close()

    def aborted(self, connection, rng):
        connection.close()
        s = connection.open()
        s.sendall(post("/v1/completions", fields(rng, stream=rng.random() < 0.5, max_tokens=2000,
                                                 logit_bias=models.NEVER_END)))
        if rng.random() < 0.5:
            s.settimeout(0.1)
            try:
                s.recv(1024)
            except TimeoutError:
                pass
        connection.close()

    def loris(self, connection, rng):
        connection.close()
        s = connection.open()
        data = post("/v1/completions", fields(rng))
        end = time.monotonic() + rng.random() * 2
        at = 0
        try:
            while time.monotonic() < end and at < len(data) - 1:
                s.sendall(data[at:at + 1])
                at += 1
                time.sleep(0.02)
        except ConnectionError:
            pass
        connection.close()


def level(samples):
    """The median of resident bytes over (requests done, bytes)."""
    return statistics.median(m for _, m in samples)


def check_memory(samples, sanitized):
    """samples: from the warm-up to the end. The level of the last fifth is that of the first."""
    part = max(1, len(samples) // 5)
    first, last = level(samples[:part]), level(samples[-part:])
    most = max(m for _, m in samples)
    print(f"memory after {samples[0][0]} requests {first / 2**20:.2f} MiB, of the last fifth "
          f"{last / 2**20:.2f} ({100 * (last / first - 1):+.1f} %), {most / 2**20:.2f} at most")
    expect(sanitized or last <= first + max(first * FLAT, FLAT_BYTES) and most <= first * (1 + BURST),
           f"memory grew: {samples}")


def soak(context):
    device, n = context.device, context.requests
    expect(device.process.poll() is None, "the device is not up")
    s = Soak(device, n, context.seed)
    descriptors = device.descriptors()
    threads = [threading.Thread(target=s.work, daemon=True) for _ in range(CONNECTIONS)]
    start = time.monotonic()
    for t in threads:
        t.start()
    warm, samples, last = max(WARM_UP, n // 5), [], 0
    while any(t.is_alive() for t in threads):
        expect(device.process.poll() is None,
               f"the device ended with {device.process.returncode}:\n{device.log()[-3000:]}")
        if s.done >= warm and s.done >= last + max(n // 50, 1):
            last = s.done
            samples.append((s.done, device.memory()))
        time.sleep(0.05)
    expect(not s.wrong, f"{len(s.wrong)} went wrong, the first: {s.wrong[:3]}")
    samples.append((s.done, device.memory()))
    print(f"{s.done} requests in {time.monotonic() - start:.0f} s: {s.counts}")
    check_memory(samples, device.cluster.sanitized)
    device.wait_until(lambda: device.answers(MODEL), "answer after all", 30)
    device.wait_until(lambda: device.status()["requests"] == 0, "end of all work", 30)
    device.wait_until(lambda: device.descriptors() <= descriptors + DESCRIPTOR_SLACK,
                      f"end of all connections ({descriptors} descriptors before)", 30)


TESTS = [soak]


class Context:
    def __init__(self, arguments, device):
        self.requests, self.seed, self.device = arguments.requests, arguments.seed, device


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--requests", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.argv[1:] = [arguments.build]
    with Cluster(f"{arguments.build}/src/cli/shoal", models.folder(arguments.build)) as cluster:
        def setup():
            d = cluster.up("--model", MODEL, "--threads", "1", "--context", "4096")
            d.wait_model(MODEL)
            return Context(arguments, d)

        return run_tests(TESTS, setup)


if __name__ == "__main__":
    sys.exit(main())
