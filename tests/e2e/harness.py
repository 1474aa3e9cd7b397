"""Starts `shoal up` processes on loopback as devices, asks them things, ends them again.

    with Cluster(shoal, models) as c:
        head = c.up("--model", "tiny")
        worker = c.join(head)
        head.wait_until(lambda s: ...)      # by /api/status
        head.client().chat.completions.create(...)

Every device has its own home in a temporary folder and ports that nobody else has. Every wait
is bounded; only what was started here is ended.
"""

import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# A device is up, or a small model placed, well within this on two busy cores.
START_SECONDS = 60
# A clean end takes less than two seconds; sanitizers and a busy machine take longer.
STOP_SECONDS = 15
REQUEST_SECONDS = 120
# Linux gives outgoing connections ports from 32768 on, others from 49152 on.
PORTS = (20000, 32768)
# What a sanitizer writes into a device's log.
REPORT = re.compile(r"(ERROR: (?:Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:)")


class Failed(Exception):
    """A test's expectation did not hold."""


class Skipped(Exception):
    """A test that makes no sense here; says why."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


def sanitizer(build):
    """What a build folder's programs are instrumented with ("address,undefined"); "" without."""
    options = pathlib.Path(build) / "meson-info" / "intro-buildoptions.json"
    for option in json.loads(options.read_text()) if options.exists() else []:
        if option["name"] == "b_sanitize" and option["value"] not in ("none", []):
            return str(option["value"])
    return ""


def need_plain_build(build):
    """Skips what measures or limits a process: sanitizers shadow memory and keep what is freed."""
    if sanitizer(build):
        raise Skipped(f"memory and processor time mean nothing under {sanitizer(build)} sanitizers")


def free_port():
    """A TCP port nobody has now, below those that systems give to outgoing connections: one of
    these could have taken it when a device starts, or starts again."""
    for _ in range(100):
        port = random.randrange(*PORTS)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failed(f"no free port of {PORTS}")


class Device:
    """One `shoal up` process."""

    def __init__(self, cluster, name, program, arguments, home):
        self.cluster, self.name, self.home = cluster, name, home
        self.port, self.peer_port = free_port(), free_port()
        self.log_path = cluster.path / f"{name}.log"
        command = [program, "up", "--home", home, "--name", name, "--port", self.port,
                   "--peer-port", self.peer_port, *arguments]
        self.command = [str(c) for c in command]
        self.log_file = open(self.log_path, "ab")
        self.process = None
        self.start()

    def start(self):
        """Starts the process; again after its end, with the same home and ports."""
        # meson lets malloc fill what it gives, which touches pages that nobody uses: a device's
        # memory is measured as its user finds it.
        environment = {k: v for k, v in os.environ.items() if k != "MALLOC_PERTURB_"}
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, env=environment,
                                        stdout=self.log_file, stderr=self.log_file)

    @property
    def peer(self):
        return f"127.0.0.1:{self.peer_port}"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def log(self):
        return self.log_path.read_text(errors="replace")

    def request(self, method, path, body=None, headers=None, timeout=REQUEST_SECONDS):
        """(status, headers, parsed JSON or text)."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        r = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json",
                                                           **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(r, timeout=timeout) as reply:
                status, head, text = reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as e:
            status, head, text = e.code, e.headers, e.read()
        try:
            return status, head, json.loads(text)
        except ValueError:
            return status, head, text.decode(errors="replace")

    def status(self):
        return self.request("GET", "/api/status", timeout=10)[2]

    def models(self):
        return [m["id"] for m in self.request("GET", "/v1/models", timeout=10)[2]["data"]]

    def wait_until(self, condition, what, seconds=START_SECONDS):
        """Polls condition() until it is true; errors of a device that isn't up yet count as no."""
        end = time.monotonic() + seconds
        last = None
        while time.monotonic() < end:
            expect(self.process.poll() is None,
                   f"{self.name} ended with {self.process.returncode} while waiting for {what}:\n"
                   f"{self.log()[-3000:]}")
            try:
                if condition():
                    return
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
                last = e
            time.sleep(0.05)
        raise Failed(f"{self.name}: no {what} within {seconds} s ({last}); its log ends\n"
                     f"{self.log()[-3000:]}")

    def wait_up(self):
        self.wait_until(lambda: self.request("GET", "/health", timeout=5)[0] < 600, "HTTP server")

    def wait_model(self, model, seconds=START_SECONDS):
        """Until a request for the model is answered."""
        self.wait_up()
        self.wait_until(lambda: model in self.models() and self.answers(model), f"model {model}",
                        seconds)

    def answers(self, model):
        status, _, _ = self.request("POST", "/v1/completions",
                                    {"model": model, "prompt": "a", "max_tokens": 1}, timeout=30)
        return status == 200

    def wait_log(self, text, seconds=START_SECONDS):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if text in self.log():
                return
            time.sleep(0.05)
        raise Failed(f"{self.name}: no \"{text}\" in the log within {seconds} s:\n{self.log()[-3000:]}")

    def client(self):
        import openai
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0,
                             timeout=REQUEST_SECONDS)

    def stop(self):
        """A clean end; returns its exit code and the seconds it took."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failed(f"{self.name} did not end within {STOP_SECONDS} s of SIGTERM")
        return self.process.returncode, time.monotonic() - start

    def end(self):
        """A clean end, if it still runs, also of a device that was stopped."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            code, _ = self.stop()
            expect(code == 0, f"{self.name} ended with {code}:\n{self.log()[-3000:]}")

    def reports(self):
        """What sanitizers found."""
        lines = self.log().splitlines()
        at = [i for i, line in enumerate(lines) if REPORT.search(line)]
        return [f"{self.name}: " + "\n".join(lines[i:i + 60]) for i in at[:3]]

    def end_of_log(self):
        code = self.process.poll()
        state = "runs" if code is None else f"ended with {code}"
        return "\n  ".join([f"{self.name} {state}; its log ends", *self.log().splitlines()[-12:]])

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def memory(self):
        """Resident bytes."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def shared_mappings(self):
        """Of memory that channels share with other processes."""
        return pathlib.Path(f"/proc/{self.process.pid}/maps").read_text().count("/memfd:")


class Cluster:
    """A temporary folder and the devices in it."""

    def __init__(self, program, models):
        self.program, self.models = program, models
        self.sanitized = sanitizer(pathlib.Path(program).resolve().parents[2])
        self.folder = tempfile.TemporaryDirectory(prefix="shoal-e2e-")
        self.path = pathlib.Path(self.folder.name)
        self.devices = []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        reports = []
        # What each says before it is ended: the one that a test waits for rarely tells why.
        ends = [d.end_of_log() for d in self.devices]
        try:
            if self.sanitized and kind is None:
                # Leaks are looked for at a clean end only.
                for d in self.devices:
                    d.end()
        finally:
            for d in self.devices:
                d.kill()
                d.log_file.close()
                reports += d.reports()
            self.folder.cleanup()
        if kind is None:
            expect(not reports, "\n".join(reports))
        elif kind is not Skipped:
            print("\n".join([*ends, *reports]), flush=True)

    def up(self, *arguments, program=None, models=None, name=None):
        """A device with an empty home."""
        name = name or f"device{len(self.devices)}"
        home = self.path / name
        home.mkdir(exist_ok=True)
        d = Device(self, name, program or self.program,
                   ["--models", models or self.models, *arguments], home)
        self.devices.append(d)
        return d

    def share_key(self, head, name):
        """Gives a device to be the head's cluster key; it must be made already."""
        home = self.path / name
        home.mkdir(exist_ok=True)
        end = time.monotonic() + START_SECONDS
        while not (head.home / "cluster.key").exists():
            expect(time.monotonic() < end, "the head made no cluster key")
            time.sleep(0.05)
        key = (head.home / "cluster.key").read_bytes()
        descriptor = os.open(home / "cluster.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as f:
            f.write(key)

    def join(self, head, *arguments, program=None, models=None, name=None):
        """A device that joins by the cluster key."""
        name = name or f"device{len(self.devices)}"
        head.wait_up()
        self.share_key(head, name)
        return self.up("--join", head.peer, *arguments, program=program, models=models, name=name)


def run_tests(tests, setup):
    """Runs functions in order; each gets what setup() gave. Prints cmocka's lines."""
    only = set(sys.argv[2:])
    failed = 0
    context = setup()
    if isinstance(context, str):
        for t in tests:
            print(f"skip: {context}\n[  SKIPPED ] {t.__name__}")
        return 77
    for test in tests:
        if only and test.__name__ not in only:
            continue
        start = time.monotonic()
        try:
            test(context)
            print(f"[       OK ] {test.__name__} ({time.monotonic() - start:.1f} s)", flush=True)
        except Skipped as why:
            print(f"skip: {why}\n[  SKIPPED ] {test.__name__}", flush=True)
        except Exception as e:  # a test may raise anything; all of it is a failure
            failed += 1
            print(f"[  FAILED  ] {test.__name__}: {e}", flush=True)
            if not isinstance(e, Failed):
                traceback.print_exc(file=sys.stdout)
    return 1 if failed else 0
