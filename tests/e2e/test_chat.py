#!/usr/bin/env python3
"""`shoal run` as a person sees it, through a pseudo-terminal: test_chat.py BUILD [TEST]...

A scripted server writes down what it was asked; the last test loads a real, small file instead.
"""

import fcntl
import http.server
import json
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

import models
from harness import expect, Failed, run_tests

WAIT_SECONDS = 60
CTRL_A, CTRL_C, CTRL_D, CTRL_E = b"\x01", b"\x03", b"\x04", b"\x05"
CTRL_R, CTRL_U, CTRL_W = b"\x12", b"\x15", b"\x17"
UP, LEFT = b"\x1b[A", b"\x1b[D"
PROMPT = "> "


class Handler(http.server.BaseHTTPRequestHandler):
    """Echoes the last message as an event stream; "endless" never ends by itself."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply("application/json", json.dumps({"data": [{"id": "mock"}]}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        self.server.asked.append(body["messages"])
        self.reply("text/event-stream")
        try:
            self.event({"choices": [{"delta": {"content": f"<{len(said)}:{said[:200]}>"}}]})
            while said == "endless":
                time.sleep(0.02)
                self.event({"choices": [{"delta": {"content": "."}}]})
            if said == "silent":
                self.rfile.read(1)  # until the client goes away
                raise OSError("closed")
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.gone.set()

    def reply(self, kind, text=""):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())

    def event(self, value):
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()


class Terminal:
    """A program at a pseudo-terminal of 24 rows."""

    def __init__(self, command, environment):
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.execve(command[0], command, environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.shown, self.status = "", None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)

    def read(self, seconds):
        """What came within that time; None at the end."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return ""
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:
            return None
        return data.decode(errors="replace") if data else None

    def wait(self, text):
        """Until text is shown; takes all that was shown up to its end."""
        end = time.monotonic() + WAIT_SECONDS
        while text not in self.shown:
            more = self.read(max(0, end - time.monotonic()))
            if not more:
                raise Failed(f"no {text!r} but {self.shown[-2000:]!r}")
            self.shown += more
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def wait_prompt(self):
        """Until a line is being edited: libedit asks the terminal to mark pasted text just before."""
        self.wait("\x1b[?2004h")
        self.wait(PROMPT)

    def type(self, *keys):
        for key in keys:
            data = key.encode() if isinstance(key, str) else key
            while data:  # a terminal takes only so much at once
                written = os.write(self.descriptor, data[:512])
                data = data[written:]
                self.shown += self.read(0) or ""

    def say(self, *keys):
        """Types a message and waits until it is answered and the next one may be typed."""
        self.type(*keys, "\r")
        self.wait_prompt()

    def end(self):
        """The exit code, and the rest of what was shown."""
        limit = time.monotonic() + WAIT_SECONDS
        while (more := self.read(1)) is not None:
            self.shown += more
            expect(time.monotonic() < limit, f"it doesn't end: {self.shown[-2000:]!r}")
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status, self.shown


class World:
    def __init__(self, build):
        self.shoal = str(pathlib.Path(build) / "src/cli/shoal")
        self.models = models.folder(build)
        self.server = s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        s.daemon_threads, s.asked, s.gone = True, [], threading.Event()
        threading.Thread(target=s.serve_forever, daemon=True).start()
        self.temp = tempfile.TemporaryDirectory(prefix="shoal-chat-")
        self.url = f"http://127.0.0.1:{s.server_port}"

    def new_home(self):
        return pathlib.Path(tempfile.mkdtemp(dir=self.temp.name))

    def environment(self, home, **more):
        return {"HOME": str(home), "TERM": "xterm", "PATH": os.environ["PATH"], "no_proxy": "*",
                **more}

    def chat(self, home, *arguments, **more):
        """At the prompt of a chat with the scripted server."""
        self.server.asked.clear()
        self.server.gone.clear()
        command = [self.shoal, "run", "mock", "--url", self.url, *arguments]
        t = Terminal(command, self.environment(home, **more))
        t.wait_prompt()
        return t

    def said(self):
        """What the server was asked last."""
        expect(self.server.asked, "nothing was asked")
        return self.server.asked[-1][-1]["content"]


def edits_a_line(w):
    with w.chat(w.new_home()) as t:
        t.say("hallo welt", LEFT * 9, b"\x7f", "Hu", CTRL_E, "!", CTRL_A, ">")
        expect(w.said() == ">Huallo welt!", f"arrows: {w.said()!r}")
        t.say("one two", CTRL_W, "three", LEFT * 5, CTRL_U, "four ")
        expect(w.said() == "four three", f"Ctrl-W, Ctrl-U: {w.said()!r}")
        t.say("gr\u00fc\u00dfe \u4e16\u754c", LEFT, b"\x7f", "\u00e9")
        expect(w.said() == "gr\u00fc\u00dfe \u00e9\u754c", f"UTF-8: {w.said()!r}")
        expect(len(w.server.asked[-1]) == 5, "the conversation lost its history")


def recalls_in_another_process(w):
    home = w.new_home()
    with w.chat(home) as t:
        t.say("the first question")
        t.say('"""several', "\r", 'lines"""')
        expect(w.said() == "several\nlines", f"quotes: {w.said()!r}")
        t.say("a line\\", "\r", "and another")
        expect(w.said() == "a line\nand another", f"backslash: {w.said()!r}")
        t.type("/bye\r")
        expect(t.end()[0] == 0, "/bye is no clean end")
    path = home / ".local/state/shoal/chat_history"
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    expect(kept == ["the first question", '"""several\nlines"""', "a line\nand another"],
           f"the file has {kept}")
    expect(path.stat().st_mode & 0o777 == 0o600, "others may read the history")
    with w.chat(home) as t:
        t.say(UP, UP)
        expect(w.said() == "several\nlines", f"arrow up: {w.said()!r}")
        t.say(CTRL_R, "first", CTRL_E, "!")
        expect(w.said() == "the first question!", f"Ctrl-R: {w.said()!r}")


def interrupts_at_the_prompt(w):
    with w.chat(w.new_home()) as t:
        t.type("never to be said", LEFT * 3, CTRL_C)
        expect("never to be said" in t.wait("^C"), "the line was not shown")
        t.wait_prompt()
        expect(not w.server.asked, "Ctrl-C sent the line")
        t.type('"""begun', "\r")
        t.wait("... ")
        t.type(CTRL_C)
        t.wait_prompt()
        t.say("said")
        expect([m["content"] for m in w.server.asked[0]] == ["said"], f"{w.server.asked}")
        t.type(CTRL_D)
        expect(t.end()[0] == 0, "Ctrl-D is no clean end")


def interrupts_an_answer(w):
    for word in "endless", "silent":  # while pieces come, and while none do
        with w.chat(w.new_home()) as t:
            t.type(word, "\r")
            t.wait(f"<{len(word)}:{word}>")
            t.type(CTRL_C)
            t.wait_prompt()
            expect(w.server.gone.wait(WAIT_SECONDS), f"{word}: the request goes on")
            t.say("next")
            expect(len(w.server.asked[-1]) == 3, f"{word}: the stopped answer is not remembered")
            t.type(CTRL_D)
            expect(t.end()[0] == 0, f"{word}: no clean end")


def takes_pasted_text(w):
    pasted = "first line\r\tsecond \u00e4\rthird"
    with w.chat(w.new_home()) as t:
        t.say(f"see: \x1b[200~{pasted}\x1b[201~ ok")
        expect(w.said() == "see: first line\n\tsecond \u00e4\nthird ok", f"paste: {w.said()!r}")
        expect(len(w.server.asked) == 1, "a pasted line's end sent it")


def takes_texts_taller_than_the_screen(w):
    """libedit 3.1 crashes where one is edited: moving about must stay harmless."""
    home = w.new_home()
    words = " ".join(f"word{i}" for i in range(2500))
    with w.chat(home) as t:
        t.say(f"\x1b[200~{words}\x1b[201~", UP, LEFT, CTRL_A, CTRL_E, CTRL_U, " end")
        expect(w.said() == words + " end", f"pasted: {len(w.said())} characters")
        typed = "x" * 5000
        t.say(typed, CTRL_A, "y", CTRL_E, "z")
        got = w.said()
        expect(got.replace("y", "") == typed + "z" and len(got) == 5002, f"typed: {len(got)}")
        t.say("short")
        t.say(UP, UP, LEFT, "!", CTRL_A, UP)  # the tall ones are not offered
        expect(w.said() == "short" or w.said() == "shor!t", f"recalled: {w.said()[:50]!r}")
        t.type(CTRL_D)
        expect(t.end()[0] == 0, "no clean end")


def has_commands(w):
    with w.chat(w.new_home(), "--system", "be brief") as t:
        t.say("one")
        t.type("/help\r")
        expect("/clear" in t.wait("Ctrl-R"), "no help")
        t.wait_prompt()
        t.say("/clear")
        t.type("/nosuch\r")
        t.wait("there is no /nosuch")
        t.wait_prompt()
        t.say("/etc/fstab is what?")
        roles = [(m["role"], m["content"]) for m in w.server.asked[-1]]
        expect(roles == [("system", "be brief"), ("user", "/etc/fstab is what?")], f"{roles}")


def lives_without_a_history(w):
    home = w.new_home()
    (home / "file").write_text("")
    with w.chat(home, XDG_STATE_HOME=str(home / "file")) as t:
        t.type("one\r")
        t.wait("no history of what you type is kept")
        t.wait_prompt()
        t.type("two\r")
        t.wait_prompt()
        t.say(UP, UP, "!")
        expect(w.said() == "one!", f"{w.said()!r}")
        t.type(CTRL_D)
        status, shown = t.end()
        expect(status == 0 and "no history" not in shown, "told twice")


def is_plain_without_a_terminal(w):
    home = w.new_home()
    w.server.asked.clear()
    r = subprocess.run([w.shoal, "run", "mock", "--url", w.url], input='one\n\n/bye\ntwo\\\n"""x\n',
                       env=w.environment(home), capture_output=True, text=True,
                       timeout=WAIT_SECONDS)
    said = [a[-1]["content"] for a in w.server.asked]
    expect(r.returncode == 0 and said == ["one", "/bye", "two\\", '"""x'], f"{said} {r.stderr}")
    expect("\x1b" not in r.stdout and r.stdout.startswith("<3:one>\n"), f"{r.stdout!r}")
    expect(not (home / ".local").exists(), "a pipe's lines went into the history")


def a_plain_terminal_will_do(w):
    w.server.asked.clear()
    command = [w.shoal, "run", "mock", "--url", w.url]
    with Terminal(command, w.environment(w.new_home(), TERM="dumb")) as t:
        t.wait(PROMPT)
        t.type("one\\\n")
        t.wait("... ")
        t.type("two\n")
        t.wait("<7:one")
        t.wait(PROMPT)
        t.type(CTRL_D)
        expect(t.end()[0] == 0 and w.said() == "one\ntwo", f"{w.said()!r}")


def names_what_is_missing(w):
    for model, text in ("nosuch", '"nosuch", but: mock'), ("./nosuch.gguf", "nosuch.gguf: "):
        with Terminal([w.shoal, "run", model, "--url", w.url], w.environment(w.new_home())) as t:
            status, shown = t.end()
            expect(status == 1 and text in shown, f"{status}: {shown}")
    r = subprocess.run([w.shoal, "run", "mock", "hello", "--url", "http://127.0.0.1:1"],
                       env=w.environment(w.new_home()), capture_output=True, text=True,
                       timeout=WAIT_SECONDS)
    expect(r.returncode == 1 and r.stdout == "" and r.stderr.startswith("shoal run: nobody"), f"{r}")


def stops_a_file_s_answer(w):
    command = [w.shoal, "run", str(w.models / "slow.gguf"), "--threads", "1", "--temperature", "0"]
    with Terminal(command, w.environment(w.new_home())) as t:
        loading = t.wait("loaded in")
        expect("slow.gguf  100 %" in loading and "MB/s" in loading, f"no progress: {loading!r}")
        t.wait_prompt()
        t.type("tell me\r")
        t.wait(" w")  # the synthetic vocabulary's words
        t.type(CTRL_C)
        expect("[prefill" not in t.wait("\x1b[?2004h"), "the answer was not stopped")
        t.wait(PROMPT)
        t.type(CTRL_D)
        expect(t.end()[0] == 0, "no clean end")


TESTS = [edits_a_line, recalls_in_another_process, interrupts_at_the_prompt, interrupts_an_answer,
         takes_pasted_text, takes_texts_taller_than_the_screen, has_commands,
         lives_without_a_history, is_plain_without_a_terminal, a_plain_terminal_will_do,
         names_what_is_missing, stops_a_file_s_answer]


def setup():
    build = pathlib.Path(sys.argv[1])
    used = json.loads((build / "meson-info/intro-dependencies.json").read_text())
    if "libedit" not in [d["name"] for d in used]:
        return "built without libedit"
    return World(build)


if __name__ == "__main__":
    sys.exit(run_tests(TESTS, setup))
