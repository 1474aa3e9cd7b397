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
import re
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
WORDS = " ".join("word" + "x" * (i * 7 % 12) for i in range(60)) + "\n```\n" + "c " * 60 + "\n```\nend"
CTRL_A, CTRL_C, CTRL_D, CTRL_E = b"\x01", b"\x03", b"\x04", b"\x05"
CTRL_R, CTRL_U, CTRL_W = b"\x12", b"\x15", b"\x17"
UP, LEFT = b"\x1b[A", b"\x1b[D"
PROMPT = "> "


class Handler(http.server.BaseHTTPRequestHandler):
    """Echoes the last message as an event stream; "endless" never ends by itself, "cut" says that
    its answer has no more room, "broken" ends in the middle, "words" is long."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.paths.append(self.path)
        self.reply("application/json", json.dumps({"data": [{"id": "mock"}]}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        self.server.asked.append(body["messages"])
        self.server.bodies.append(body)
        self.server.paths.append(self.path)
        if body["model"] == "nosuch":
            return self.send_error(404)
        self.reply("text/event-stream")
        try:
            answer = WORDS if said == "words" else f"<{len(said)}:{said[:200]}>"
            tokens = 200 if said == "words" else 3
            for piece in [answer[i:i + 7] for i in range(0, len(answer), 7)]:
                self.event({"choices": [{"delta": {"content": piece}}]})
            while said == "endless":
                time.sleep(0.02)
                self.event({"choices": [{"delta": {"content": "."}}]})
            if said == "silent":
                self.rfile.read(1)  # until the client goes away
                raise OSError("closed")
            if said == "broken":
                return
            self.event({"choices": [{"delta": {}, "finish_reason":
                                     "length" if said == "cut" else "stop"}],
                        "usage": {"prompt_tokens": tokens, "completion_tokens": tokens}})
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
        s.bodies, s.paths = [], []
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

    def run(self, *arguments, model="mock", url=None, **more):
        """One `shoal run` without a terminal; input=None: nothing is piped in."""
        environment = {**self.environment(self.new_home()), **more.pop("environment", {})}
        self.server.asked.clear()
        self.server.bodies.clear()
        self.server.paths.clear()
        options = ["--url", url or self.url] if url != "" else []
        more.setdefault("input", b"")
        return subprocess.run([self.shoal, "run", model, *arguments, *options], env=environment,
                              capture_output=True, timeout=WAIT_SECONDS, **more)

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
        # Earlier ones stand there as one line, and are said whole.
        t.say(UP, UP, CTRL_E, "!")
        expect(w.said() == got + "!", f"recalled: {w.said()[:50]!r}")
        t.say(UP, UP, UP, UP, CTRL_A, "so: ")
        expect(w.said() == "so: " + words + " end", f"recalled: {w.said()[:50]!r}")
        t.type(CTRL_D)
        expect(t.end()[0] == 0, "no clean end")


def has_commands(w):
    with w.chat(w.new_home(), "--system", "be brief") as t:
        t.say("one")
        t.type("/help\r")
        expect("/clear" in t.wait("Ctrl-R"), "no help")
        t.wait_prompt()
        t.say("/clear")
        t.type("/?\r")
        t.wait("/clear")
        t.wait_prompt()
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


def a_pipe_is_one_prompt(w):
    lines = b'one\n\n/bye\ntwo\\\n"""x\n'
    text = lines.decode().rstrip()
    r = w.run(input=lines)
    expect(r.returncode == 0 and [a[-1]["content"] for a in w.server.asked] == [text], f"{w.server.asked} {r}")
    expect(b"\x1b" not in r.stdout and r.stdout == f"<{len(text)}:{text}>\n".encode(), f"{r}")
    r = w.run("Explain:", input=lines)
    expect(r.returncode == 0 and w.said() == "Explain:\n\n" + text, f"{w.said()!r}")
    r = w.run("Explain:")  # an empty one adds nothing
    expect(r.returncode == 0 and w.said() == "Explain:", f"{w.said()!r}")
    r = subprocess.run(["/bin/sh", "-c", '"$@" <&-', "sh", w.shoal, "run", "mock", "hi", "--url", w.url],
                       env=w.environment(w.new_home()), capture_output=True, timeout=WAIT_SECONDS)
    expect(r.returncode == 0 and w.said() == "hi", f"{r}")
    r = w.run("", input=b"x")
    expect(r.returncode == 2 and b"PROMPT is empty" in r.stderr, f"{r}")
    w.server.asked.clear()
    r = w.run(input=b" \n")
    expect(r.returncode == 2 and b"standard input is empty" in r.stderr and not w.server.asked, f"{r}")
    for bad, why in (b"a\0b", b"byte 1 is NUL"), (b"gr\xfc", b"not UTF-8"):
        r = w.run(input=bad)
        expect(r.returncode == 2 and why in r.stderr and not w.server.asked, f"{r}")
    r = subprocess.run([w.shoal, "run", "mock", "--url", w.url], input=b"x", capture_output=True,
                       env=w.environment(home := w.new_home()), timeout=WAIT_SECONDS)
    expect(not (home / ".local").exists(), "a pipe went into the history")


def options_reach_the_model(w):
    r = w.run("hi", "--top-p", "0.5", "--stop", "END", "--stop", "\n", "--temperature", "0", "--seed",
              "7", "--max-tokens", "9", "--system", "be brief")
    body = w.server.bodies[0]
    want = {"top_p": 0.5, "stop": ["END", "\n"], "temperature": 0, "seed": 7,
            "max_completion_tokens": 9}
    expect(r.returncode == 0 and {k: body.get(k) for k in want} == want, f"{body} {r}")
    expect(body["messages"][0] == {"role": "system", "content": "be brief"}, f"{body}")
    w.run("hi")
    expect(not set(want) & set(w.server.bodies[0]), f"{w.server.bodies}")


def quiet_and_json_say_nothing_else(w):
    r = w.run("words", "--quiet")
    expect(r.stderr == b"" and r.stdout.decode() == WORDS + "\n", f"{r}")
    r = w.run("words", "--json")
    expect(r.stderr == b"" and json.loads(r.stdout) ==
           {"model": "mock", "answer": WORDS, "finish_reason": "stop", "prompt_tokens": 200,
            "cached_tokens": 0, "completion_tokens": 200}, f"{r}")
    with Terminal([w.shoal, "run", "mock", "--json", "--url", w.url], w.environment(w.new_home())) as t:
        status, shown = t.end()
        expect(status == 2 and "not for a chat" in shown, f"{shown}")


def a_cut_answer_says_so(w):
    r = w.run("cut", "--quiet")
    expect(r.returncode == 0 and b"no more room in the model's context" in r.stderr, f"{r}")
    r = w.run("cut", "--max-tokens", "3")
    expect(r.returncode == 0 and b"cut at 3 tokens: --max-tokens" in r.stderr, f"{r}")
    r = w.run("cut", "--max-tokens", "1")
    expect(b"cut at 1 token: --max-tokens" in r.stderr, f"{r}")
    r = w.run("broken")
    expect(r.returncode == 1 and b"ended before the answer did" in r.stderr, f"{r}")
    r = w.run("whole")
    expect(b"cut" not in r.stderr, f"{r}")


def rates_of_a_handful_are_not_shown(w):
    few, many = w.run("hi").stderr, w.run("words").stderr
    expect(b"[prefill 3 tokens; decode 3 tokens]" in few, f"{few}")
    expect(many.count(b"/s") == 2, f"{many}")


def ctrl_c_of_one_prompt_exits_130(w):
    command = [w.shoal, "run", "mock", "--url", w.url]
    for word in "endless", "silent":
        with Terminal([*command, word], w.environment(w.new_home())) as t:
            t.wait(f"<{len(word)}:{word}>")
            t.type(CTRL_C)
            status, shown = t.end()
            expect(status == 130 and "shoal run" not in shown, f"{word}: {status} {shown[-200:]!r}")


def every_form_of_an_address_will_do(w):
    host = w.url.removeprefix("http://")
    proxies = {"no_proxy": "", "http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
    for url in w.url, w.url + "/", w.url + "/v1", w.url + "/v1//", host, host + "/v1/":
        r = w.run("hi", url=url, environment=proxies)
        expect(r.returncode == 0 and w.server.paths == ["/v1/chat/completions"],
               f"{url}: {w.server.paths} {r}")
        r = w.run("hi", url="", environment={"SHOAL_URL": url, **proxies})
        expect(r.returncode == 0, f"SHOAL_URL={url}: {r}")
    w.run("hi", url=w.url + "/prefix/v1")
    expect(w.server.paths == ["/prefix/v1/chat/completions"], f"{w.server.paths}")
    for url in "", "ftp://x", "http://", "http://a b":
        r = subprocess.run([w.shoal, "run", "mock", "hi", "--url", url], stdin=subprocess.DEVNULL,
                           env=w.environment(w.new_home()), capture_output=True, timeout=WAIT_SECONDS)
        expect(r.returncode == 2 and b"is no address of an endpoint" in r.stderr, f"{url}: {r}")


def words_wrap_at_the_margin(w):
    with Terminal([w.shoal, "run", "mock", "words", "--quiet", "--url", w.url],
                  w.environment(w.new_home())) as t:
        shown = t.end()[1].replace("\r", "")
    # Words that are taken back: so many columns to the left, and away with them.
    while back := re.search(r"\x1b\[(\d+)D\x1b\[K", shown):
        shown = shown[:back.start() - int(back[1])] + shown[back.end():]
    text, _, rest = shown.partition("```")
    lines = [line.rstrip() for line in text.strip().split("\n")]
    expect(len(lines) > 3 and max(map(len, lines)) < 80, f"{lines}")
    expect(" ".join(lines) == WORDS.split("\n")[0], f"{lines}")
    expect(all(len(a) + 1 + len(b.split(" ")[0]) >= 80 for a, b in zip(lines, lines[1:])), f"{lines}")
    expect(rest.split("\n")[1].strip() == ("c " * 60).strip(), f"code was wrapped: {rest!r}")


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
    r = w.run("hi", model="nosuch")
    expect(r.returncode == 1 and b'serves no "nosuch", but: mock' in r.stderr, f"{r}")
    r = subprocess.run([w.shoal, "run", "mock", "hello", "--url", "http://127.0.0.1:1"],
                       env=w.environment(w.new_home()), capture_output=True, text=True,
                       timeout=WAIT_SECONDS)
    expect(r.returncode == 1 and r.stdout == "" and r.stderr.startswith("shoal run: nobody"), f"{r}")


def ctrl_c_of_a_file_s_one_prompt_exits_130(w):
    command = [w.shoal, "run", str(w.models / "slow.gguf"), "tell me", "--threads", "1", "--quiet"]
    with Terminal(command, w.environment(w.new_home())) as t:
        t.wait(" w")
        t.type(CTRL_C)
        status, shown = t.end()
        expect(status == 130 and "loaded" not in shown, f"{status} {shown[-300:]!r}")


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
         lives_without_a_history, a_pipe_is_one_prompt, options_reach_the_model,
         quiet_and_json_say_nothing_else, a_cut_answer_says_so, rates_of_a_handful_are_not_shown,
         ctrl_c_of_one_prompt_exits_130, every_form_of_an_address_will_do,
         words_wrap_at_the_margin, a_plain_terminal_will_do,
         names_what_is_missing, ctrl_c_of_a_file_s_one_prompt_exits_130,
         stops_a_file_s_answer]


def setup():
    build = pathlib.Path(sys.argv[1])
    used = json.loads((build / "meson-info/intro-dependencies.json").read_text())
    if "libedit" not in [d["name"] for d in used]:
        return "built without libedit"
    return World(build)


if __name__ == "__main__":
    sys.exit(run_tests(TESTS, setup))
