#!/usr/bin/env python3
"""`shoal pull` from a slow server on loopback, killed again and again: test_pull.py BUILD [TEST]..."""

import hashlib
import http.server
import json
import os
import pathlib
import pty
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import models
from harness import expect, run_tests

SEED = 11
KILLS = 6
CHUNK = 64 << 10
# About 6 MB/s: all kills fit into one file, and the test takes seconds.
CHUNK_SECONDS = 0.01
RUN_SECONDS = 60
with socket.socket() as probe:
    DEVICE_RUNS = probe.connect_ex(("127.0.0.1", 8420)) == 0


class Handler(http.server.BaseHTTPRequestHandler):
    """Ranges, tags, the hub's headers; as slow as the class above says."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        s = self.server
        s.asked.append((self.path, self.headers.get("Authorization")))
        if "/resolve/" in self.path:
            self.send_response(302)
            self.send_header("Location", "/store" + self.path[self.path.rindex("/"):])
            self.send_header("X-Linked-Size", str(len(s.data)))
            self.send_header("X-Linked-ETag", f'"{s.sha256}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and self.headers.get("If-Range", s.tag) == s.tag:
            first = int(match.group(1))
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(s.data) - 1}/{len(s.data)}")
        self.send_header("ETag", s.tag)
        self.send_header("Content-Length", str(len(s.data) - first))
        self.end_headers()
        try:
            for at in range(first, len(s.data), CHUNK):
                self.wfile.write(s.data[at:at + CHUNK])
                s.sent += len(s.data[at:at + CHUNK])
                time.sleep(CHUNK_SECONDS)
        except OSError:
            pass  # the client was killed


class World:
    def __init__(self, build):
        self.shoal = pathlib.Path(build) / "src/cli/shoal"
        self.temp = tempfile.TemporaryDirectory(prefix="shoal-pull-")
        self.path = pathlib.Path(self.temp.name)
        self.server = s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        s.data = (models.folder(build) / "wide.gguf").read_bytes()
        s.sha256 = hashlib.sha256(s.data).hexdigest()
        s.tag, s.sent, s.asked = '"one"', 0, []
        s.daemon_threads = True
        threading.Thread(target=s.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{s.server_port}"

    def start(self, *arguments, **environment):
        env = {**os.environ, "no_proxy": "*", "XDG_DATA_HOME": str(self.path), **environment}
        return subprocess.Popen([self.shoal, "pull", *arguments], env=env, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def run(self, *arguments, **environment):
        """(exit code, stdout, stderr)"""
        p = self.start(*arguments, **environment)
        out, err = p.communicate(timeout=RUN_SECONDS)
        return p.returncode, out, err


def killed_downloads_go_on(w):
    s, target = w.server, w.path / "shoal/models/w.gguf"
    part, rng, last = target.with_name("w.gguf.part"), random.Random(SEED), 0
    for i in range(KILLS):
        p = w.start(f"{w.url}/w.gguf")
        time.sleep(0.05 + rng.random() * 0.25)
        p.kill()
        p.communicate(timeout=RUN_SECONDS)
        size = part.stat().st_size if part.exists() else 0
        expect(size >= last, f"seed {SEED}, kill {i}: the part fell from {last} to {size} bytes")
        last = size
    expect(last > 0 and not target.exists(), f"no download was met on its way: {last} bytes")
    code, out, err = w.run(f"{w.url}/w.gguf")
    expect(code == 0, f"seed {SEED}: {err}")
    expect(out.strip() == str(target), f"stdout: {out}")
    expect(hashlib.sha256(target.read_bytes()).hexdigest() == s.sha256, "another sha256")
    expect(s.sha256 in err, f"no sha256 in: {err}")
    expect(sorted(p.name for p in target.parent.iterdir()) == ["w.gguf"], "something else stayed")
    # What was under way in the sockets at a kill is sent twice, no more.
    expect(s.sent < len(s.data) + KILLS * (8 << 20), f"{s.sent} bytes for {len(s.data)}")


def the_hub_is_asked_with_the_token(w):
    s = w.server
    s.asked.clear()
    folder = w.path / "other"
    code, out, err = w.run("hf:owner/repo/m.gguf@v2", "--models", str(folder), HF_ENDPOINT=w.url,
                           HF_TOKEN="hf_secret")
    expect(code == 0, err)
    expect(out.strip() == str(folder / "m.gguf"), out)
    expect(s.asked[0] == ("/owner/repo/resolve/v2/m.gguf", "Bearer hf_secret"), str(s.asked))
    expect("hf_secret" not in out + err, "the token was shown")
    expect("nobody named" not in err, "the hub's sha256 was not used")
    r = subprocess.run([w.shoal, "inspect", folder / "m.gguf"], capture_output=True, timeout=60)
    expect(r.returncode == 0, r.stderr)


def exit_codes_tell(w):
    folder = ["--models", str(w.path / "third")]
    expect(w.run()[0] == 2, "no argument")
    expect(w.run("hf:owner", *folder)[0] == 2, "half a name")
    expect(w.run(f"{w.url}/m.gguf", "--sha256", "x", *folder)[0] == 2, "a bad sha256")
    code, out, err = w.run(f"{w.url}/m.gguf", "--sha256", "0" * 64, *folder)
    expect(code == 1 and out == "" and w.server.sha256 in err, f"{code}: {out}{err}")
    expect(w.run("/nowhere/m.gguf", *folder)[0] == 1, "no such file")
    expect(not list((w.path / "third").iterdir()), "something stayed")


def shoal(w, *arguments, answer=None):
    """(exit code, stdout, stderr) of any command; answer: typed at a terminal."""
    env = {**os.environ, "XDG_DATA_HOME": str(w.path / "data"), "TERM": "dumb"}
    command = [str(w.shoal), *map(str, arguments)]
    if answer is None:
        r = subprocess.run(command, env=env, text=True, stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=RUN_SECONDS)
        return r.returncode, r.stdout, r.stderr
    leader, follower = pty.openpty()
    os.write(leader, answer.encode())
    r = subprocess.run(command, env=env, text=True, stdin=follower, capture_output=True,
                       timeout=RUN_SECONDS)
    os.close(leader)
    os.close(follower)
    return r.returncode, r.stdout, r.stderr


def a_folder_is_listed_and_cleared(w):
    folder = w.path / "data/shoal/models"
    expect(shoal(w, "list")[0] == 0 and "no models" in shoal(w, "list")[2], "an absent folder")
    folder.mkdir(parents=True)
    for name, size in (("Tiny.gguf", 10), ("big-00001-of-00002.gguf", 1000),
                       ("big-00002-of-00002.gguf", 2000), ("less-00001-of-00003.gguf", 5),
                       ("late.gguf.part", 7), ("late.gguf.part.json", 9), ("notes.txt", 1)):
        (folder / name).write_bytes(b"x" * size)
    os.mkfifo(folder / "pipe.gguf")
    (folder / "deep.gguf").mkdir()
    out = shoal(w, "list")[1]
    expect("pipe" not in out and "deep" not in out, f"no models: {out}")
    expect(shoal(w, "rm", "pipe", "--yes")[0] == 1 and (folder / "pipe.gguf").exists(), "rm")
    (folder / "pipe.gguf").unlink()
    (folder / "deep.gguf").rmdir()
    expect(re.search(r"^big +3.0 kB +\d{4}-\d\d-\d\d  2 files$", out, re.M), out)
    expect("only 1 of 3 files" in out and "unfinished" in out and "notes" not in out, out)
    expect(shoal(w, "list", "--names")[1] == "Tiny\nbig\n", "names")
    listed = {m["name"]: m for m in json.loads(shoal(w, "list", "--json")[1])}
    expect(listed["big"]["bytes"] == 3000 and listed["big"]["whole"] and
           not listed["late"]["whole"], f"{listed}")
    code, _, err = shoal(w, "rm", "tiny.gguf")
    expect(code == 2 and "--yes" in err and (folder / "Tiny.gguf").exists(), err)
    code, _, err = shoal(w, "rm", "tiny", answer="n\n")
    expect(code == 1 and "remove Tiny (10 B) from" in err and (folder / "Tiny.gguf").exists(), err)
    expect(shoal(w, "rm", "tiny", answer="y\n")[0] == 0, "rm with y")
    for name in "big-00001-of-00002", "LATE", "less":
        expect(shoal(w, "rm", name, "--yes")[0] == 0, f"rm {name}")
    expect([p.name for p in folder.iterdir()] == ["notes.txt"], f"{list(folder.iterdir())}")
    expect(shoal(w, "rm", "tiny", "--yes")[0] == 1, "rm of nothing")
    expect(shoal(w, "rm", str(folder / "notes.txt"), "--yes")[0] == 2, "rm of a path")


def a_name_means_the_same_everywhere(w):
    """The folder's name of a model, with its ending or without, in any case; or a path."""
    folder = w.path / "named"
    folder.mkdir()
    shutil.copy(models.folder(sys.argv[1]) / "tiny.gguf", folder / "Tiny.gguf")
    (folder / "half.gguf.part").write_bytes(b"x")
    ids = w.path / "ids"
    ids.write_text("1 5 6 7")
    for name in "Tiny", "tiny", "TINY.GGUF", folder / "Tiny.gguf":
        named = [name, "--models", folder]
        commands = [["inspect", *named], ["tokenize", *named], ["inspect", "--program", *named],
                        ["eval", *named, "--tokens", ids, "--logits", w.path / "logits"],
                        ["run", *named, "hi", "--max-tokens", "2", "--threads", "1"]]
        # By name a device that runs on this machine would be asked.
        for command in commands[:4] if DEVICE_RUNS and "/" not in str(name) else commands:
            code, out, err = shoal(w, *command)
            expect(code == 0, f"{command}: {err}")
    for bad, why in ("1 2\0 3", "not a token id at byte 3"), ("1 2 x", "at byte 4"), ("", "no token"):
        ids.write_text(bad)
        code, _, err = shoal(w, "eval", folder / "Tiny.gguf", "--tokens", ids, "--logits",
                             w.path / "logits")
        expect(code == 1 and why in err, f"{bad!r}: {err}")
    ids.write_text("1 5 6 7")
    script = '"$0" eval "$1" --tokens <(echo 1 5 6 7) --logits "$2"'
    r = subprocess.run(["bash", "-c", script, w.shoal, folder / "Tiny.gguf", w.path / "logits"],
                       capture_output=True, text=True, timeout=RUN_SECONDS)
    expect(r.returncode == 0, f"a pipe by its name: {r}")
    code, _, err = shoal(w, "run", "tiny", "hi", "--models", folder, "--url", "http://127.0.0.1:1")
    expect(code == 1 and "nobody answers" in err, f"who was named did not answer: {err}")
    if not DEVICE_RUNS:
        code, _, err = shoal(w, "run", "none", "hi", "--models", folder)
        expect(code == 1 and "no device runs here" in err and "no model \"none\" in" in err, err)
    for name, why in (("half", "not all here"), ("none", "no model"), ("./tiny", "No such file")):
        code, _, err = shoal(w, "inspect", name, "--models", folder)
        expect(code == 1 and why in err, f"{name}: {err}")
    code, _, err = shoal(w, "eval", "tiny", "--models", folder, "--tokens", ids, "--logits",
                         w.path / "logits", "--isa", "scalar,scalar")
    expect(code == 1 and "names 2 instruction sets, but there is 1 rank" in err, err)


if __name__ == "__main__":
    sys.exit(run_tests([killed_downloads_go_on, the_hub_is_asked_with_the_token, exit_codes_tell,
                        a_folder_is_listed_and_cleared, a_name_means_the_same_everywhere],
                       lambda: World(sys.argv[1])))
