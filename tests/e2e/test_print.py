#!/usr/bin/env python3
"""Whatever a command prints is fit for a terminal, and is an error where it can't be written:
test_print.py BUILD [TEST]...

Every command that `shoal help` lists is walked, at a terminal and through a pipe, with texts from a
server, a file, a folder and the command line that try to speak to the terminal.
"""

import http.server
import json
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata

import models as synthetic
from harness import REPORT, expect, Failed, free_port, run_tests

WAIT_SECONDS = 60
# Escape sequences, C0, C1 in UTF-8, bidirectional controls, separators, tags.
HOSTILE = ("x\x1b[2J\x1b]52;c;aGk=\x07y\x9b31mz\x85\u202eabc\u2066d\u200f\u061c\u2028e\ufeff"
           "\U000e0041\x7f\x08\x0bf")
HOSTILE_LINES = HOSTILE + "\nshoal: forged\r"
# What we write ourselves: styles (ECMA-48 SGR), the line of progress.
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?2004[hl]|\x1b\[K")


def unsafe(text, layout="\n\t\r"):
    """The first character that must not reach a terminal, or None."""
    for c in text:
        if c in layout:
            continue
        if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") or c in "\u200e\u200f\u061c\ufeff" \
                or 0x202a <= ord(c) <= 0x202e or 0x2066 <= ord(c) <= 0x206f \
                or 0xfff9 <= ord(c) <= 0xfffb or 0xe0000 <= ord(c) <= 0xe0fff:
            return c
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        devices = [{"name": HOSTILE_LINES, "id": HOSTILE, "isa": HOSTILE, "address": HOSTILE_LINES,
                    "alive": True, "weight_bytes": 1, "head": True},
                   {"name": "kelp", "id": "1fb8460a99", "isa": "avx512", "alive": True,
                    "address": "192.168.1.20:8421", "weight_bytes": 1 << 30,
                    "state_bytes": 29464985, "usable_bytes": 1023.4 * (1 << 20)}]
        rank = {"name": HOSTILE_LINES, "share": 1, "transports": [HOSTILE]}
        models = [{"id": HOSTILE, "state": HOSTILE, "why": HOSTILE_LINES, "split": HOSTILE,
                   "stages": [{"first_layer": 0, "end_layer": 1, "ranks": [rank]}]}]
        if self.path == "/v1/models":
            return self.reply(200, {"data": [{"id": HOSTILE}, {"id": "good"}]})
        if self.path.endswith("/api/status"):
            return self.reply(200, {"devices": devices, "models": models})
        self.reply(404, {"error": {"message": HOSTILE_LINES}})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["messages"][-1]["content"] == "fail":
            return self.reply(400, {"error": {"message": HOSTILE_LINES}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        event = {"choices": [{"delta": {"content": HOSTILE}, "finish_reason": None}]}
        self.wfile.write(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())

    def reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def gguf(path, texts):
    """A GGUF file of text keys and no tensors (ggml's docs/gguf.md)."""
    def text(s):
        raw = s.encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(raw)) + raw
    keys = b"".join(text(k) + struct.pack("<I", 8) + text(v) for k, v in texts.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(texts)) + keys)
    return str(path)


class World:
    def __init__(self, build):
        self.shoal = str(pathlib.Path(build) / "src/cli/shoal")
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        s.daemon_threads = True
        threading.Thread(target=s.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{s.server_port}"
        self.temp = tempfile.TemporaryDirectory(prefix="shoal-print-")
        self.folder = pathlib.Path(self.temp.name)
        self.file = gguf(self.folder / "hostile.gguf",
                         {"general.architecture": HOSTILE[:20], "general.name": HOSTILE_LINES,
                          HOSTILE: HOSTILE_LINES, "tokenizer.chat_template": HOSTILE_LINES})
        self.models = self.folder / "models"
        self.models.mkdir()
        self.tiny = str(synthetic.folder(build) / "tiny.gguf")
        bad = b"n\xff\x1b[31m\n.gguf"
        (pathlib.Path(os.fsdecode(os.fsencode(self.models) + b"/" + bad))).write_bytes(b"GGUF")
        gguf(self.models / f"{HOSTILE}.gguf", {"general.architecture": HOSTILE})

    def environment(self, **more):
        return {"HOME": str(self.folder / "home"), "TERM": "xterm", "PATH": os.environ["PATH"],
                **more}

    def commands(self):
        """What `shoal help` lists."""
        shown = subprocess.run([self.shoal, "help"], capture_output=True, text=True, check=True)
        return re.findall(r"^  (\w+) ", shown.stdout, re.M)

    def calls(self):
        """Command lines for each command, as many as have a way for foreign text to come in."""
        home, models = str(self.folder / HOSTILE), str(self.models)
        missing = str(self.folder / "missing" / HOSTILE_LINES)
        ports = ["--port", str(free_port()), "--peer-port", "0"]
        return {
            "up": [["up", "--home", home, "--models", models, "--model", HOSTILE, "--name",
                    HOSTILE_LINES, *ports], ["up", "--home", home, "--join", HOSTILE, *ports],
                   ["up", "--isa", HOSTILE],
                   ["up", "--invite", HOSTILE_LINES, "--home", home]],
            "pull": [["pull", missing, "--models", models], ["pull", self.url + "/" + HOSTILE],
                     ["pull", f"{self.url}/none.gguf", "--models", models]],
            "list": [["list", "--models", models], ["list", "--models", models, "--json"],
                     ["list", "--models", models, "--names"], ["list", "--models", missing]],
            "rm": [["rm", HOSTILE, "--models", models], ["rm", missing], ["rm", "n?", "--models", models]],
            "inspect": [["inspect", self.file], ["inspect", self.file, "--json"],
                        ["inspect", self.file, "--program"], ["inspect", missing]],
            "tokenize": [["tokenize", self.file], ["tokenize", missing]],
            "run": [["run", "good", "hello", "--url", self.url], ["run", "good", "fail", "--url", self.url],
                    ["run", "nosuch", "--url", self.url], ["run", self.file, "hi"],
                    ["run", missing + ".gguf", "hi"], ["run", "good", "x", "--url", HOSTILE]],
            "render": [["render", self.file], ["render", missing]],
            "eval": [["eval", self.file, "--text", missing], ["eval", missing, "--text", missing]],
            "bench": [["bench", self.file, "--threads", "1"], ["bench", missing]],
            "invite": [["invite", "--home", home, "--address", HOSTILE], ["invite", "--hours", HOSTILE]],
            "status": [["status", "--url", self.url], ["status", "--url", self.url, "--json"],
                       ["status", "--url", self.url + "/none" + HOSTILE]],
            "completions": [["completions", s] for s in ("bash", "zsh", "fish", HOSTILE)],
            "manual": [["manual"]],
            "version": [["version"], ["version", HOSTILE]],
            "help": [["help"], ["help", HOSTILE], [HOSTILE_LINES], ["run", "--" + HOSTILE]],
        }


def at_terminal(command, environment, seconds=None):
    """What a program shows at a pseudo-terminal; ended after some seconds where it goes on."""
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execve(command[0], command, environment)
        finally:
            os._exit(127)
    shown, end = b"", time.monotonic() + (seconds or WAIT_SECONDS)
    while time.monotonic() < end:
        if not select.select([descriptor], [], [], 0.1)[0]:
            continue
        try:
            more = os.read(descriptor, 65536)
        except OSError:
            break
        shown += more
    else:
        if not seconds:
            raise Failed(f"{command} does not end: {shown[-1000:]!r}")
        os.kill(pid, 15)
    os.waitpid(pid, 0)
    os.close(descriptor)
    return shown


def check(shown, command, layout="\n\t\r"):
    try:
        text = shown.decode()
    except UnicodeDecodeError as e:
        raise Failed(f"{command}: no UTF-8: {e}: {shown[-1000:]!r}") from e
    expect(not REPORT.search(text), f"{command}: {text[-4000:]}")
    found = unsafe(OURS.sub("", text), layout)
    expect(found is None, f"{command} prints U+{ord(found or ' '):04X}: {text[-2000:]!r}")
    expect("\nshoal: forged" not in text, f"{command}: a forged line: {text[-1000:]!r}")
    return text


def every_command_is_walked(w):
    expect(set(w.commands()) == set(w.calls()),
           f"no hostile text for {set(w.commands()) ^ set(w.calls())}")


def prints_nothing_hostile_at_a_terminal(w):
    for name, calls in w.calls().items():
        for arguments in calls:
            text = check(at_terminal([w.shoal, *arguments], w.environment(),
                                     3 if arguments[:2] == ["up", "--home"] else None), arguments)
            expect(text, f"{arguments} says nothing")


def prints_nothing_hostile_into_a_pipe(w):
    """But what a model says: that is the result, as it is."""
    for name, calls in w.calls().items():
        for arguments in calls:
            if arguments[:2] in (["run", "good"], ["up", "--home"]):
                continue
            r = subprocess.run([w.shoal, *arguments], env=w.environment(), capture_output=True,
                               stdin=subprocess.DEVNULL, timeout=WAIT_SECONDS)
            expect(b"\x1b" not in r.stdout + r.stderr, f"{arguments}: a style in a pipe: {r}")
            check(r.stdout + r.stderr, arguments)
    r = subprocess.run([w.shoal, "run", "good", "hello", "--url", w.url], env=w.environment(),
                       capture_output=True, timeout=WAIT_SECONDS)
    expect(r.stdout.decode() == HOSTILE + "\n", f"the answer was changed: {r.stdout!r}")
    check(r.stderr, "run")


def json_means_the_same(w):
    r = subprocess.run([w.shoal, "status", "--json", "--url", w.url], capture_output=True,
                       env=w.environment(), timeout=WAIT_SECONDS, check=True)
    expect(json.loads(r.stdout)["devices"][0]["name"] == HOSTILE_LINES, f"{r.stdout!r}")


def a_device_is_one_short_line(w):
    r = subprocess.run([w.shoal, "status", "--url", w.url], capture_output=True, text=True,
                       env=w.environment(), timeout=WAIT_SECONDS, check=True)
    kelp = next(line for line in r.stdout.split("\n") if line.startswith("kelp "))
    expect(kelp.split(" ", 1)[1].strip() == "1fb8460a alive avx512  1.00 GiB 28.1 MiB 1023 MiB "
           "192.168.1.20:8421", f"{kelp!r}")


def completions_offer_what_an_argument_takes(w):
    """rm takes names only, run a file too, completions a shell."""
    script = w.folder / "completions.bash"
    script.write_bytes(subprocess.run([w.shoal, "completions", "bash"], capture_output=True,
                                      check=True).stdout)
    folder = w.folder / "completions"
    folder.mkdir()
    (folder / "a file").touch()
    (folder / "shoal").write_text("#!/bin/sh\necho 'my model'; echo other\n")
    (folder / "shoal").chmod(0o755)
    for words, offered in ((["rm", ""], ["my model", "other"]), (["rm", "my"], ["my model"]),
                           (["run", ""], ["a file", "my model", "other", "shoal"]),
                           (["completions", ""], ["bash", "fish", "zsh"]),
                           (["help", "vers"], ["version"]), (["list", "--na"], ["--names"])):
        shell = (". \"$1\"; shift; COMP_WORDS=(shoal \"$@\"); COMP_CWORD=$#; _shoal; "
                 "printf '%s\\n' \"${COMPREPLY[@]}\"")
        r = subprocess.run(["bash", "-c", shell, "bash", str(script), *words], capture_output=True,
                           text=True, cwd=folder, timeout=WAIT_SECONDS,
                           env={**w.environment(), "PATH": f"{folder}:{os.environ['PATH']}"})
        expect(sorted(r.stdout.split("\n")[:-1]) == offered, f"{words}: {r}")


def has_styles_at_a_terminal_only(w):
    command = [w.shoal, "status", "--url", w.url]
    expect(b"\x1b[32malive" in at_terminal(command, w.environment()), "no colour")
    for more in {"NO_COLOR": "1"}, {"TERM": "dumb"}:
        shown = at_terminal(command, {**w.environment(), **more})
        expect(b"\x1b" not in shown and b"alive" in shown, f"{more}: {shown!r}")


def a_full_disk_is_an_error(w):
    """In every command that has a result; also where standard output is closed."""
    home, models = str(w.folder / "full"), str(w.models)
    tiny, words = w.tiny, w.folder / "words"
    words.write_text("a few words " * 400)
    calls = [["tokenize", tiny], ["eval", tiny, "--text", str(words)], ["inspect", "--program", tiny],
             ["pull", tiny, "--models", str(w.folder / "pulled")], ["list", "--models", models],
             ["list", "--json", "--models", models], ["bench", "--only", "limits", "--rounds", "1"],
             ["help"], ["help", "run"], ["version"], ["manual"], ["completions", "zsh"], ["inspect", w.file], ["inspect", "--json", w.file],
             ["status", "--url", w.url], ["status", "--json", "--url", w.url],
             ["run", "good", "hi", "--url", w.url], ["run", "--help"],
             ["up", "--home", home, "--models", models, "--port", "0", "--peer-port", "0"]]
    for arguments in calls:
        for shell in '"$@" >/dev/full', '"$@" >&-':
            r = subprocess.run(["/bin/sh", "-c", shell, "sh", w.shoal, *arguments],
                               env=w.environment(), capture_output=True, timeout=WAIT_SECONDS)
            expect(r.returncode == 1 and b"standard output can't be written" in r.stderr,
                   f"{arguments} {shell}: {r}")


TESTS = [every_command_is_walked, prints_nothing_hostile_at_a_terminal,
         prints_nothing_hostile_into_a_pipe, json_means_the_same, a_device_is_one_short_line,
         completions_offer_what_an_argument_takes, has_styles_at_a_terminal_only,
         a_full_disk_is_an_error]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS, lambda: World(sys.argv[1])))
