#!/usr/bin/env python3
"""`shoal pull` from a slow server on loopback, killed again and again: test_pull.py BUILD [TEST]..."""

import hashlib
import http.server
import os
import pathlib
import random
import re
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


if __name__ == "__main__":
    sys.exit(run_tests([killed_downloads_go_on, the_hub_is_asked_with_the_token, exit_codes_tell],
                       lambda: World(sys.argv[1])))
