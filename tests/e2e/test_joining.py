#!/usr/bin/env python3
"""How a device is let in, from the command line: test_joining.py BUILD [TEST]..."""

import os
import pathlib
import signal
import subprocess
import sys

import models
from harness import Cluster, expect, free_port, run_tests

WAIT_SECONDS = 60


class Context:
    def __init__(self, build):
        self.program = f"{build}/src/cli/shoal"
        self.models = models.folder(build)

    def cluster(self):
        return Cluster(self.program, self.models)

    def shoal(self, *arguments, **more):
        return subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True,
                              timeout=WAIT_SECONDS, **more)

    def invitation(self, head, *addresses):
        """Made on the head; its addresses are tried in this order."""
        head.wait_up()
        options = [word for a in addresses for word in ("--address", a)]
        r = self.shoal("invite", "--home", head.home, *options)
        expect(r.returncode == 0, f"{r}")
        return r.stdout.strip()


def linked(head, n):
    head.wait_until(lambda: sum(d["alive"] for d in head.status()["devices"]) == n, f"{n} devices")


def an_invitation_comes_from_a_file(context):
    with context.cluster() as c:
        head = c.up()
        path = c.path / "invitation"
        path.write_text("\n  " + context.invitation(head, head.peer) + "\n")
        member = c.up("--invite-file", path)
        linked(head, 2)
        # The same command again, with an invitation that is used up: the key is there now.
        member.stop()
        member.start()
        linked(head, 2)


def an_invitation_is_not_seen_in_ps(context):
    with context.cluster() as c:
        head = c.up()
        member = c.up("--invite", context.invitation(head, head.peer))
        linked(head, 2)
        shown = pathlib.Path(f"/proc/{member.process.pid}/cmdline").read_bytes()
        expect(b"shoal1:" not in shown and b"--invite" in shown, f"{shown}")


def every_address_of_an_invitation_is_tried(context):
    with context.cluster() as c:
        head = c.up()
        dead = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        c.up("--invite", context.invitation(head, *dead, head.peer))
        linked(head, 2)


def a_cluster_of_one_s_own_is_not_given_up_in_silence(context):
    with context.cluster() as c:
        head = c.up()
        own = c.up()
        own.wait_up()
        key = (own.home / "cluster.key").read_text()
        own.stop()
        invitation = context.invitation(head, head.peer)
        join = ["up", "--home", own.home, "--models", c.models, "--port", own.port, "--peer-port",
                own.peer_port, "--invite-file", "-"]
        r = context.shoal(*join, input=invitation)
        expect(r.returncode == 1 and "heads a cluster of its own" in r.stderr and
               "--replace" in r.stderr, f"{r}")
        expect((own.home / "cluster.key").read_text() == key, "the key was replaced")
        own.command += ["--invite", invitation, "--replace"]
        own.start()
        linked(head, 2)
        expect((own.home / "cluster.key.old").read_text() == key, "the old key is not kept")


def an_invitation_needs_a_device_and_tells_its_port(context):
    with context.cluster() as c:
        head = c.up()
        head.wait_up()
        r = context.shoal("invite", "--home", head.home)
        expect(f"--join THIS-MACHINE:{head.peer_port} " in r.stderr, f"{r}")
        with open("/dev/full", "w") as full:
            r = subprocess.run([context.program, "invite", "--home", head.home], stdout=full,
                               stderr=subprocess.PIPE, timeout=WAIT_SECONDS)
        expect(r.returncode == 1 and b"can't be written" in r.stderr, f"{r}")
        c.up("--invite", context.invitation(head, "127.0.0.1"))  # without a port: the real one
        linked(head, 2)
        r = context.shoal("invite", "--home", head.home, "--address", "::1:21501")
        expect(r.returncode == 1 and "is not an address" in r.stderr, f"{r}")
        head.stop()
        for home in head.home, c.path / "nowhere":
            r = context.shoal("invite", "--home", home)
            expect(r.returncode == 1 and r.stdout == "" and "no device runs in" in r.stderr, f"{r}")
            expect(not (c.path / "nowhere").exists(), "a home was made")


def commands_find_the_device_of_this_home(context):
    with context.cluster() as c:
        d = c.up("--model", "tiny")
        d.wait_model("tiny")
        (c.path / "data").mkdir()
        (c.path / "data/shoal").symlink_to(d.home)
        env = {**os.environ, "XDG_DATA_HOME": str(c.path / "data")}
        r = context.shoal("status", env=env)
        expect(r.returncode == 0 and d.name in r.stdout, f"{r}")
        r = context.shoal("run", "tiny", "hi", "--max-tokens", "2", env=env, input="")
        expect(r.returncode == 0 and "this process answers" not in r.stderr, f"{r}")


def what_is_no_invitation_is_refused(context):
    with context.cluster() as c:
        for text, why in (("", "empty"), ("shoal1:x!", "not base64url"), ("x" * 5000, "at most"),
                          ("shoal1:AA\0BB", "no NUL bytes")):
            r = context.shoal("up", "--home", c.path / "new", "--models", c.models, "--port",
                              free_port(), "--invite-file", "-", input=text)
            expect(r.returncode == 1 and why in r.stderr, f"{text[:20]!r}: {r}")
        r = context.shoal("up", "--home", c.path / "new", "--invite", "a", "--invite-file", "b")
        expect(r.returncode == 1 and "two ways" in r.stderr, f"{r}")
        head = c.up()
        for address in "::1:21501", "[nas]:1", "1:2:3":
            r = context.shoal("up", "--home", c.path / "new", "--port", free_port(), "--models",
                              c.models, "--join", address, "--invite", context.invitation(head))
            expect(r.returncode == 1 and "is not an address" in r.stderr, f"{address}: {r}")


def a_name_is_cut_between_characters(context):
    with context.cluster() as c:
        head = c.up()
        long = c.join(head, name="x" + "\u00e4" * 40)
        odd = c.join(head, name="odd")
        odd.stop()
        odd.command[odd.command.index("--name") + 1] = b"gr\xfc\xdfe\x1b[2J"
        odd.start()
        linked(head, 3)
        names = {d["name"] for d in head.status()["devices"]}
        expect("x" + "\u00e4" * 31 in names and "gr??e?[2J" in names, f"{names}")
        expect(long.status()["devices"], "its own status is empty")


def a_file_s_name_may_be_any_bytes(context):
    with context.cluster() as c:
        folder = c.path / "folder"
        folder.mkdir()
        name = os.fsencode(folder) + b"/gr\xfc\xdfe\x1b[2J.gguf"
        pathlib.Path(os.fsdecode(name)).write_bytes((c.models / "tiny.gguf").read_bytes())
        d = c.up("--model", "gr??e?[2J", models=folder)
        d.wait_model("gr??e?[2J")
        expect(d.models() == ["gr??e?[2J"] and "\x1b" not in d.log(), d.log())


def hanging_up_ends_it_cleanly(context):
    with context.cluster() as c:
        d = c.up()
        d.wait_up()
        d.process.send_signal(signal.SIGHUP)
        expect(d.process.wait(WAIT_SECONDS) == 0, f"ended with {d.process.returncode}")
        expect("ending" in d.log(), d.log())
        # As nohup has it, it goes on.
        d.process = subprocess.Popen(["nohup", *d.command], stdin=subprocess.DEVNULL,
                                     stdout=d.log_file, stderr=d.log_file)
        d.wait_up()
        d.process.send_signal(signal.SIGHUP)
        expect(d.request("GET", "/health")[0] < 600 and d.stop()[0] == 0, "SIGHUP ended it")


TESTS = [an_invitation_comes_from_a_file, an_invitation_is_not_seen_in_ps,
         every_address_of_an_invitation_is_tried,
         an_invitation_needs_a_device_and_tells_its_port, commands_find_the_device_of_this_home,
         a_cluster_of_one_s_own_is_not_given_up_in_silence, what_is_no_invitation_is_refused,
         a_name_is_cut_between_characters, a_file_s_name_may_be_any_bytes,
         hanging_up_ends_it_cleanly]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS, lambda: Context(sys.argv[1])))
