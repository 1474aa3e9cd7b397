#!/usr/bin/env python3
"""Devices that die or hang, in every phase: faults.py BUILD [--trials N] [--seed N] [TEST]...

Three devices share a model; one of them is killed (kill -9) or stopped (SIGSTOP, later SIGCONT)
while it joins, loads, prefills, decodes or idles. Each time the client hears of it within five
seconds, nobody else has to be restarted, and the next request works once the device is back.
After all trials those that went on hold no more descriptors, shared mappings and memory than before.
The same for the head, whose workers free what they hold for it.

--trials is the number for each phase and signal (2); the long run takes 20.
"""

import argparse
import http.client
import json
import pathlib
import random
import re
import resource
import shutil
import signal
import sys
import threading
import time

import models
from harness import Cluster, expect, need_plain_build, run_tests

MODEL = "slow"
SPLIT = "3@1/3@1/3@1"
# The promise: a client hears of a lost device within this.
LOSS_SECONDS = 5
# A worker's line about the part it holds: its last layer, and how many the model has.
PART = re.compile(r"loaded layers \d+-(\d+) of (\d+)")
# A device is back, and the model placed again, well within this on a busy machine.
BACK_SECONDS = 90
PHASES = ("join", "load", "prefill", "decode", "idle")
# When the head can be met; to join is what the others do.
HEAD_PHASES = ("decode", "prefill", "idle", "load")
# Resident memory may differ by what an allocator keeps; a leaked placement is far larger (a share
# of the model is 45 MB, its state more).
MEMORY_SLACK = 16 << 20
# After the last trial, until what it left is gone.
SETTLE_SECONDS = 20
# A head that lost a placement lets go of its channels within this.
LINGER_SECONDS = 6
# A device that serves looks at its links again and again: a handful may be open for the moment.
DESCRIPTOR_SLACK = 3


class Ask(threading.Thread):
    """A streamed completion; knows when its first token and its end came, and with what error."""

    def __init__(self, device, prompt, max_tokens):
        super().__init__(daemon=True)
        self.device = device
        self.body = json.dumps({"model": MODEL, "prompt": prompt, "max_tokens": max_tokens,
                                "stream": True, "temperature": 1,
                                "logit_bias": models.NEVER_END})
        self.began, self.ended, self.error, self.whole = threading.Event(), None, None, False
        self.start()

    def run(self):
        try:
            c = http.client.HTTPConnection("127.0.0.1", self.device.port, timeout=60)
            c.request("POST", "/v1/completions", self.body, {"Content-Type": "application/json"})
            r = c.getresponse()
            if r.status != 200:
                self.error = json.loads(r.read())["error"]["message"]
            else:
                self.read_events(r)
            c.close()
        except (OSError, http.client.HTTPException, ValueError, KeyError) as e:
            self.error = f"no error of ours: {e!r}"
        self.ended = time.monotonic()
        self.began.set()

    def read_events(self, reply):
        for line in reply:
            line = line.decode().strip()
            if line == "data: [DONE]":
                self.whole = True
            elif line.startswith("data:"):
                event = json.loads(line[5:])
                if "error" in event:
                    self.error = event["error"]["message"]
                elif event["choices"]:
                    self.began.set()


class Trials:
    """A cluster of a head and two workers, and the means to hurt one of them."""

    def __init__(self, context, cluster, rng):
        self.rng = rng
        self.cluster = cluster
        self.head = cluster.up("--model", MODEL, "--split", SPLIT, "--threads", "1", name="head")
        self.workers = [cluster.join(self.head, "--threads", "1", name=n) for n in ("anna", "ben")]
        self.head.wait_model(MODEL, BACK_SECONDS)
        self.slowest = dict.fromkeys(PHASES, 0.0)

    def prompt(self, n):
        """Ids that no earlier prompt began with."""
        return [self.rng.randrange(10, 250) for _ in range(n)]

    def others(self, victim):
        return [d for d in [self.head, *self.workers] if d is not victim]

    def strike(self, victim, how):
        if how == "kill":
            victim.kill()
        else:
            victim.process.send_signal(signal.SIGSTOP)
        return time.monotonic()

    def bring_back(self, victim, how):
        if how == "kill":
            victim.start()
        else:
            victim.process.send_signal(signal.SIGCONT)

    def wait_placing(self, count):
        """Until the head has begun to place the model more than `count` times."""
        end = time.monotonic() + BACK_SECONDS
        while self.head.log().count("placing on") <= count:
            expect(time.monotonic() < end, f"no new placement:\n{self.head.log()[-2000:]}")
            time.sleep(0.005)

    def check_error(self, asked, struck, victim, phase):
        asked.join(LOSS_SECONDS + 30)
        expect(asked.ended is not None, f"{phase}: the client still waits")
        late = max(0.0, asked.ended - struck)
        expect(asked.error is not None, f"{phase}: the answer ended without an error")
        expect("no error of ours" not in asked.error, f"{phase}: {asked.error}")
        expect(late <= LOSS_SECONDS, f"{phase}: the error came after {late:.1f} s: {asked.error}")
        if phase in ("prefill", "decode", "idle"):
            expect(victim.name in asked.error,
                   f"{phase}: the error doesn't name {victim.name}: {asked.error}")
        self.slowest[phase] = max(self.slowest[phase], late)

    def back_and_working(self, victim, others, phase):
        self.head.wait_model(MODEL, BACK_SECONDS)
        for d in others:
            expect(d.process.poll() is None, f"{phase}: {d.name} ended")
        for d in [*others, victim]:
            d.wait_up()
            d.wait_until(lambda d=d: d.answers(MODEL), f"answer after {phase}", BACK_SECONDS)

    def trial(self, phase, how, victim):
        others = self.others(victim)
        door = self.rng.choice(others)
        pause = self.rng.random()
        if phase in ("join", "load"):
            # It leaves first, so that it can join and load again.
            placed = self.head.log().count("placing on")
            victim.kill()
            self.wait_waiting()
            victim.start()
            if phase == "load":
                self.wait_placing(placed)
            time.sleep(pause * (0.3 if phase == "join" else 0.1))
            struck = self.strike(victim, how)
            asked = Ask(door, self.prompt(8), 4000)
            asked.join(LOSS_SECONDS)
            # It may have come too late to be in time for the request; then that just works.
            if asked.ended is None or asked.error is not None:
                self.check_error(asked, struck, victim, phase)
        elif phase == "idle":
            time.sleep(pause * 0.3)
            struck = self.strike(victim, how)
            time.sleep(pause * 0.3)
            self.check_error(Ask(door, self.prompt(8), 4000), struck, victim, phase)
        else:
            asked = Ask(door, self.prompt(3500 if phase == "prefill" else 8), 4000)
            if phase == "decode":
                expect(asked.began.wait(60) and asked.error is None, f"no stream: {asked.error}")
            time.sleep(0.05 + pause * 0.3)
            expect(phase == "decode" or not asked.began.is_set(), "prefill was too short to be met")
            struck = self.strike(victim, how)
            self.check_error(asked, struck, victim, phase)
        self.bring_back(victim, how)
        self.back_and_working(victim, others, f"{phase}, {how}")

    def wait_waiting(self):
        """Until the head has seen that the placement is gone."""
        self.head.wait_until(lambda: all(m["state"] != "serving" for m in
                                         self.head.status()["models"] if m["id"] == MODEL),
                             "end of the placement", LOSS_SECONDS + 5)


def part_channels(device):
    """How many channels to others the part that a device holds needs.

    A head that starts anew deals parts in the order in which workers are back, so the same worker
    may hold the middle stage (steps, hidden in, hidden out) before and the last one after. The head
    holds the first stage (hidden out, steps to two workers).
    """
    held = PART.findall(device.log())
    if not held:
        return 0
    last, layers = map(int, held[-1])
    return 2 if last == layers - 1 else 3


def usage(devices):
    """What each holds beside its part's channels; memory counts only where it can be measured."""
    held = {}
    for d in devices:
        channels = part_channels(d)
        held[d.name] = (d.descriptors() - channels, d.shared_mappings() - channels,
                        0 if d.cluster.sanitized else d.memory())
    return held


def settled_usage(devices):
    """The least that each holds in a while without trials: what they hold for good."""
    least = usage(devices)
    end = time.monotonic() + LINGER_SECONDS
    while time.monotonic() < end:
        time.sleep(0.2)
        least = {n: tuple(map(min, least[n], now)) for n, now in usage(devices).items()}
    return least


def within(before, after):
    """What is above its bound, in words; empty when nothing is."""
    found = []
    for name, (fds, shared, memory) in before.items():
        fds_now, shared_now, memory_now = after[name]
        if fds_now > fds + DESCRIPTOR_SLACK:
            found.append(f"{name}: {fds} descriptors before, {fds_now} after")
        if shared_now > shared:
            found.append(f"{name}: {shared} shared mappings before, {shared_now} after")
        if memory_now > memory + MEMORY_SLACK:
            found.append(f"{name}: {memory >> 20} MiB before, {memory_now >> 20} MiB after")
    return found


def show_usage(how, before, after):
    for name, (fds, shared, memory) in before.items():
        fds_now, shared_now, memory_now = after[name]
        print(f"{how}: {name}: {fds} -> {fds_now} descriptors, {shared} -> {shared_now} shared "
              f"mappings, {memory / 2**20:.1f} -> {memory_now / 2**20:.1f} MiB")


def settled(devices, before):
    """Usage once it is within its bounds: connections that just ended take a moment to close."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        after = usage(devices)
        if not within(before, after) or time.monotonic() > end:
            return after
        time.sleep(0.2)


def hurt(context, how, victim_index):
    rng = random.Random(f"{context.seed} {how} {victim_index}")
    with context.cluster() as c:
        t = Trials(context, c, rng)
        victim = t.workers[victim_index]
        survivors = t.others(victim)
        # One of each phase first: buffers, caches and the allocator have their size then.
        for phase in PHASES:
            t.trial(phase, how, victim)
        before = settled_usage(survivors)
        for n in range(context.trials - 1):
            for phase in rng.sample(PHASES, len(PHASES)):
                t.trial(phase, how, victim)
        after = settled(survivors, before)
        show_usage(how, before, after)
        expect(not within(before, after), "; ".join(within(before, after)))
        print(f"{how}: {len(PHASES) * context.trials} trials, slowest error after the signal: " +
              ", ".join(f"{p} {s:.2f} s" for p, s in t.slowest.items()))


def killed_workers(context):
    hurt(context, "kill", context.seed % 2)


def stopped_workers(context):
    hurt(context, "stop", 1 - context.seed % 2)


class HeadTrials:
    """The head and two workers, of which the first one's memory shows whether it holds a part."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.head = cluster.up("--model", MODEL, "--split", SPLIT, "--threads", "1", name="head")
        anna = cluster.join(self.head, "--threads", "1", name="anna")
        anna.wait_log("joined")
        self.empty = anna.memory()
        self.workers = [anna, cluster.join(self.head, "--threads", "1", name="ben")]
        self.prompts = 0
        self.slowest = {p: (0.0, 0.0) for p in HEAD_PHASES}
        self.back()

    def back(self):
        self.head.wait_model(MODEL, BACK_SECONDS)
        for w in self.workers:
            expect(w.process.poll() is None, f"{w.name} ended")
            w.wait_until(lambda w=w: w.answers(MODEL), "answer through a worker", BACK_SECONDS)

    def ask(self, n):
        """Through the worker that lives on, with a prompt that no earlier one began with."""
        self.prompts += 1
        return Ask(self.workers[0], [20 + self.prompts // 200, 20 + self.prompts % 200] + [21] * n, 4000)

    def freed(self):
        """Whether the worker holds no part any more: a share is 45 MB."""
        return self.cluster.sanitized or self.workers[0].memory() < self.empty + MEMORY_SLACK

    def strike(self, how):
        self.head.process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        return time.monotonic()

    def bring_back(self, how):
        if how == "kill":
            self.head.kill()  # only waits for its end
            self.head.start()
        else:
            self.head.process.send_signal(signal.SIGCONT)

    def load_again(self):
        """The placement is lost and made again; returns while the workers load."""
        ben = self.workers[1]
        placed = self.head.log().count("placing on")
        ben.kill()
        ben.start()
        end = time.monotonic() + BACK_SECONDS
        while self.head.log().count("placing on") <= placed:
            expect(time.monotonic() < end, "no new placement")
            time.sleep(0.005)

    def trial(self, phase, how, pause):
        asked = None
        if phase == "load":
            self.load_again()
        elif phase != "idle":
            asked = self.ask(3500 if phase == "prefill" else 1)
            if phase == "decode":
                expect(asked.began.wait(60) and asked.error is None, f"no stream: {asked.error}")
        time.sleep(pause * 0.3)
        struck = self.strike(how)
        asked = asked or self.ask(1)
        asked.join(LOSS_SECONDS + 5)
        late = max(0.0, (asked.ended or time.monotonic()) - struck)
        expect(asked.ended is not None and late <= LOSS_SECONDS, f"{phase}: error after {late:.1f} s")
        expect(asked.error is not None, f"{phase}: the answer ended without an error")
        expect("no error of ours" not in asked.error, f"{phase}: {asked.error}")
        while not self.freed():
            expect(time.monotonic() - struck <= LOSS_SECONDS,
                   f"{phase}: the worker still holds {self.workers[0].memory() >> 20} MiB")
            time.sleep(0.02)
        free = time.monotonic() - struck
        self.slowest[phase] = tuple(map(max, self.slowest[phase], (late, free)))
        self.bring_back(how)
        self.back()


def head_falls(context, how):
    """Workers free what they hold for a head that is gone, and serve it again when it is back."""
    rng = random.Random(f"{context.seed} head {how}")
    with context.cluster() as c:
        t = HeadTrials(c)
        expect(c.sanitized or not t.freed(), "the worker holds nothing while it serves")
        for phase in HEAD_PHASES:
            t.trial(phase, how, rng.random())
        # ben was started anew for the load phase; anna lives through all.
        before = settled_usage(t.workers[:1])
        for n in range(context.trials - 1):
            for phase in rng.sample(HEAD_PHASES, len(HEAD_PHASES)):
                t.trial(phase, how, rng.random())
        after = settled(t.workers[:1], before)
        show_usage(f"head, {how}", before, after)
        expect(not within(before, after), "; ".join(within(before, after)))
        print(f"head, {how}: {len(HEAD_PHASES) * context.trials} trials, slowest error and freeing "
              "after the signal: " +
              ", ".join(f"{p} {a:.2f} and {b:.2f} s" for p, (a, b) in t.slowest.items()))


def killed_head(context):
    head_falls(context, "kill")


def stopped_head(context):
    head_falls(context, "stop")


def completion(device, model, prompt="word"):
    status, _, reply = device.request("POST", "/v1/completions", {
        "model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0})
    expect(status == 200, f"{model} gives {status}: {reply}")
    return reply["choices"][0]["text"]


def model_files_change(context):
    """Files that are cut short, vanish or were never models: words, and nothing is lost."""
    with context.cluster() as c:
        folder = c.path / "models"
        folder.mkdir()
        for name in ("tiny", MODEL):
            shutil.copyfile(context.models / f"{name}.gguf", folder / f"{name}.gguf")
        (folder / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 200)
        (folder / "empty.gguf").touch()
        d = c.up("--model", "tiny", "--model", MODEL, "--threads", "1", models=folder)
        d.wait_model("tiny")
        d.wait_model(MODEL)
        expect("bad.gguf" in d.log() and "empty.gguf" in d.log(), f"no word on bad files:\n{d.log()}")
        before = {m: completion(d, m) for m in ("tiny", MODEL)}
        # What is loaded needs no file: cut short, and then gone.
        with open(folder / "tiny.gguf", "r+b") as f:
            f.truncate(5000)
        (folder / f"{MODEL}.gguf").unlink()
        expect({m: completion(d, m) for m in before} == before, "other answers without the files")
        maps = pathlib.Path(f"/proc/{d.process.pid}/maps").read_text()
        mapped = sum(int(line.split()[0].split("-")[1], 16) - int(line.split()[0].split("-")[0], 16)
                     for line in maps.splitlines() if ".gguf" in line)
        expect(mapped < 1 << 20, f"{mapped} bytes of model files are still mapped:\n{maps}")


def file_cut_while_loading(context):
    """Cut short at a moment of loading that the seed chooses; mended, it is served."""
    rng = random.Random(f"{context.seed} cut")
    with context.cluster() as c:
        folder = c.path / "models"
        folder.mkdir()
        for name in ("tiny", MODEL):
            shutil.copyfile(context.models / f"{name}.gguf", folder / f"{name}.gguf")
        target = folder / f"{MODEL}.gguf"
        head = c.up("--model", "tiny", "--model", MODEL, "--threads", "1", models=folder)
        head.wait_model("tiny")
        head.wait_model(MODEL)
        for n in range(context.trials):
            head.kill()
            shutil.copyfile(context.models / f"{MODEL}.gguf", target)
            placed = head.log().count(f"{MODEL}: placing on")
            head.start()
            while head.log().count(f"{MODEL}: placing on") <= placed:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.05)
            with open(target, "r+b") as f:
                f.truncate(rng.randrange(target.stat().st_size))
            head.wait_model("tiny")
            head.wait_until(lambda: head.answers(MODEL) or any(
                m["id"] == MODEL and m["state"] != "serving" and len(m["why"]) > 20
                for m in head.status()["models"]), "model or a reason")
            if not head.answers(MODEL):
                print(f"cut: {[m['why'] for m in head.status()['models'] if m['id'] == MODEL]}")
                shutil.copyfile(context.models / f"{MODEL}.gguf", target)
                head.wait_model(MODEL, BACK_SECONDS)


def too_little_memory(context):
    """A worker whose address space is too small says so, and serves when it has more."""
    need_plain_build(context.build)
    for room in (100 << 20, 150 << 20):  # for less than the file, and less than weights beside it
        with context.cluster() as c:
            head = c.up("--model", MODEL, "--split", SPLIT, "--threads", "1")
            small = c.join(head, "--threads", "1", name="small")
            small.wait_log("joined")
            size = int(pathlib.Path(f"/proc/{small.process.pid}/statm").read_text().split()[0])
            _, most = resource.prlimit(small.process.pid, resource.RLIMIT_AS)
            resource.prlimit(small.process.pid, resource.RLIMIT_AS,
                             (size * resource.getpagesize() + room, most))
            c.join(head, "--threads", "1")
            head.wait_until(lambda: "emory" in head.status()["models"][0]["why"], "word of memory")
            print(f"{room >> 20} MiB: {head.status()['models'][0]['why']}")
            resource.prlimit(small.process.pid, resource.RLIMIT_AS, (most, most))
            head.wait_model(MODEL, BACK_SECONDS)
            expect(small.process.poll() is None, "the worker ended")


TESTS = [killed_workers, stopped_workers, killed_head, stopped_head, model_files_change,
         file_cut_while_loading, too_little_memory]


class Context:
    def __init__(self, arguments):
        self.trials, self.seed, self.build = arguments.trials, arguments.seed, arguments.build
        self.program = f"{arguments.build}/src/cli/shoal"
        self.models = models.folder(arguments.build)
        print(f"seed {self.seed}, {self.trials} trials a phase and signal")

    def cluster(self):
        return Cluster(self.program, self.models)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_intermixed_args()
    sys.argv[1:] = [arguments.build, *arguments.tests]
    return run_tests(TESTS, lambda: Context(arguments))


if __name__ == "__main__":
    sys.exit(main())
