#!/usr/bin/env python3
"""Several devices on loopback: test_cluster.py BUILD [TEST]..."""

import concurrent.futures
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import company
import endings
import models
from harness import Cluster, Failed, expect, run_tests

MODEL = "wide"
# A lost worker is noticed within this in every phase.
LOSS_SECONDS = 5
# A stranger on the peer port is closed within this.
STRANGER_SECONDS = 5


class Context:
    def __init__(self, build):
        self.build = build
        self.program = f"{build}/src/cli/shoal"
        self.models = models.folder(build)
        self.alone = None

    def cluster(self):
        return Cluster(self.program, self.models)


def text(device, seed=5, n=16):
    r = device.client().completions.create(model=MODEL, prompt="The sea was calm", max_tokens=n,
                                           seed=seed, temperature=1)
    return r.choices[0].text


def text_alone(context):
    """What one device says: what every pipeline must say too."""
    if context.alone is None:
        with context.cluster() as c:
            d = c.up("--model", MODEL, "--threads", "1")
            d.wait_model(MODEL)
            context.alone = text(d)
    return context.alone


def transports(status):
    """Of each rank's channels."""
    model = next(m for m in status["models"] if m["id"] == MODEL)
    return [set(r["transports"]) for s in model["stages"] for r in s["ranks"]]


def split_answers(context, split, n, *options, over="shm"):
    """Starts n devices with a split; the answer through them. over: what their channels must be."""
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--split", split, "--threads", "1", *options)
        others = [c.join(head, "--threads", "1", *options) for _ in range(n - 1)]
        head.wait_model(MODEL)
        answer = text(head)
        through = text(others[-1])
        status = head.status()
        expect(len(status["devices"]) == n, f"{len(status['devices'])} devices in {status}")
        expect(through == answer, "another device's endpoint gives another answer")
        # The head is the first rank's device and reaches it within its process.
        want = [{over} | ({"memory"} if i == 0 else set()) for i in range(n)]
        head.wait_until(lambda: all(transports(head.status())), "report of all transports")
        expect(transports(head.status()) == want, f"transports {transports(head.status())}")
        return answer


def pipelines_say_what_one_device_says(context):
    want = text_alone(context)
    for split, n in (("4@1/4@1", 2), ("3@1/3@1/2@1", 3)):
        got = split_answers(context, split, n)
        expect(got == want, f"{split}: {got!r}, one device: {want!r}")


def a_seeded_answer_is_the_same_in_company(context):
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--split", "4@1/4@1", "--threads", "1")
        c.join(head, "--threads", "1")
        head.wait_model(MODEL)
        company.same_alone_and_among_seven(head, MODEL)


def stream(device, seed, most):
    """Text of a stream that its client leaves after `most` pieces."""
    parts = []
    with device.client().completions.create(model=MODEL, prompt=f"{seed} ships", max_tokens=40,
                                            seed=seed, temperature=1, stream=True) as chunks:
        for chunk in chunks:
            parts += [c.text for c in chunk.choices]
            if len(parts) >= most:
                break
    return "".join(parts)


def two_stages_under_load_and_their_end(context):
    """Streams side by side, some left by their clients, a device that goes and comes back."""
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--split", "4@1/4@1", "--threads", "2")
        worker = c.join(head, "--threads", "2")
        for again in (False, True):
            if again:
                worker.start()
            head.wait_model(MODEL)
            worker.wait_until(lambda: MODEL in worker.models(), "the head's model at the worker")
            with concurrent.futures.ThreadPoolExecutor(8) as threads:
                asked = [threads.submit(stream, d, seed, most) for seed in (1, 2)
                         for d in (head, worker) for most in (1000, 3)]
                got = [a.result() for a in asked]
            expect(got[0] == got[2] and got[4] == got[6], f"two answers to one question: {got}")
            code, _ = worker.stop()
            expect(code == 0, f"the worker ended with {code}:\n{worker.log()[-3000:]}")
        code, _ = head.stop()
        expect(code == 0, f"the head ended with {code}:\n{head.log()[-3000:]}")


def tensor_split_answers_the_same_every_time(context):
    answers = {split_answers(context, "5:3", 2) for _ in range(2)}
    expect(len(answers) == 1, f"two runs, two answers: {answers}")


def hybrid_of_four_devices_answers(context):
    split_answers(context, "4@1:1/4@1:1", 4)


def sealed_channels_change_nothing(context):
    got = split_answers(context, "4@1/4@1", 2, "--seal", over="sealed tcp")
    expect(got == text_alone(context), "sealed data channels give another answer")


def one_device_that_seals_is_enough(context):
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--split", "4@1/4@1", "--threads", "1")
        c.join(head, "--threads", "1", "--seal")
        head.wait_model(MODEL)
        expect(text(head) == text_alone(context), "another answer")
        head.wait_until(lambda: all(transports(head.status())), "report of all transports")
        expect(transports(head.status()) == [{"memory", "sealed tcp"}, {"sealed tcp"}],
               f"transports {transports(head.status())}")


def status_names_transports(context):
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--split", "4@1/4@1", "--threads", "1")
        other = c.join(head, "--threads", "1")
        head.wait_model(MODEL)
        head.wait_until(lambda: all(transports(head.status())), "report of all transports")
        shown = subprocess.run([context.program, "status", "--url", head.url], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
        for line in (f"{head.name} (share 1, over memory + shm)",
                     f"{other.name} (share 1, over shm)"):
            expect(line in shown, f"no {line!r} in\n{shown}")


def the_head_s_end_is_told_to_clients_of_others(context):
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--threads", "1")
        other = c.join(head, "--threads", "1")
        head.wait_model(MODEL)
        other.wait_until(lambda: MODEL in other.models(), "the head's model at the other device")
        answers = endings.last_answers(other, MODEL)
        code, _ = head.stop()
        expect(code == 0, f"the head ended with {code}:\n{head.log()[-3000:]}")
        endings.expect_words(answers())


def streams_travel_between_devices(context):
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--threads", "1")
        other = c.join(head, "--threads", "1")
        head.wait_model(MODEL)
        other.wait_until(lambda: MODEL in other.models(), "the head's model at the other device")
        parts = [chunk.choices[0].text for chunk in other.client().completions.create(
            model=MODEL, prompt="x", max_tokens=8, stream=True, temperature=0) if chunk.choices]
        whole = head.client().completions.create(model=MODEL, prompt="x", max_tokens=8,
                                                 temperature=0).choices[0].text
        expect("".join(parts) == whole, "the stream through another device differs")
        answers = endings.last_answers(other, MODEL)
        code, _ = other.stop()
        expect(code == 0, f"the other device ended with {code}:\n{other.log()[-3000:]}")
        endings.expect_words(answers())


def foreign_key(cluster, name):
    """The key of another cluster; without any, `up --join` ends at once and says so."""
    (cluster.path / name).mkdir()
    key = cluster.path / name / "cluster.key"
    key.touch(mode=0o600)
    key.write_text("ab" * 32 + "\n")


def the_wrong_key_is_refused(context):
    with context.cluster() as c:
        head = c.up("--threads", "1")
        head.wait_up()
        foreign_key(c, "stranger")
        stranger = c.up("--join", head.peer, "--threads", "1", name="stranger")
        end = time.monotonic() + 20
        while time.monotonic() < end and not (names_key(head) and names_key(stranger)):
            time.sleep(0.05)
        expect(names_key(head), f"the head's log has no line about the key:\n{head.log()}")
        expect(names_key(stranger), f"the stranger's log has no line about the key:\n{stranger.log()}")
        expect(len(head.status()["devices"]) == 1, "the stranger became a member")


def names_key(device):
    return any(word in device.log() for word in ("cluster key", "cluster's key"))


def a_stranger_gets_no_application_byte(context):
    with context.cluster() as c:
        head = c.up("--threads", "1")
        head.wait_up()
        for hello in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"\x16\x03\x01\x00\x05hello"):
            start = time.monotonic()
            got = b""
            with socket.create_connection(("127.0.0.1", head.peer_port),
                                          timeout=STRANGER_SECONDS + 2) as s:
                s.sendall(hello)
                try:
                    while block := s.recv(4096):
                        got += block
                except TimeoutError:
                    raise Failed(f"{hello[:10]!r}: still open") from None
                except ConnectionError:
                    pass
            expect(time.monotonic() - start <= STRANGER_SECONDS + 1, f"{hello[:10]!r}: slow close")
            # Only TLS records: alert (21) or handshake (22).
            expect(got == b"" or got[0] in (21, 22), f"{hello[:10]!r} is answered {got[:40]!r}")
        expect(head.request("GET", "/health")[0] == 200, "the head is gone")


def tls_without_membership_is_closed(context):
    with context.cluster() as c:
        head = c.up("--threads", "1")
        head.wait_up()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        start = time.monotonic()
        got = b""
        try:
            with socket.create_connection(("127.0.0.1", head.peer_port), timeout=8) as s:
                with tls.wrap_socket(s) as t:
                    t.sendall(b"x" * 200)
                    got = t.recv(100)
        except TimeoutError:
            raise Failed("a client without a certificate stays connected") from None
        except (ssl.SSLError, ConnectionError):
            pass
        expect(got == b"", f"application bytes for a stranger: {got!r}")
        expect(time.monotonic() - start <= STRANGER_SECONDS + 1, "slow close")


def a_device_without_the_model_says_so(context):
    with context.cluster() as c:
        empty = c.path / "empty"
        empty.mkdir()
        head = c.up("--model", MODEL, "--split", "4@1/4@1", "--threads", "1")
        c.join(head, "--threads", "1", models=empty)
        head.wait_until(lambda: "wide" in head.log() and any(
            w in head.log() for w in ("lacks", "does not have", "doesn't have", "has no", "no model")),
            "line about the missing model")


def a_lost_worker_ends_the_request(context):
    with context.cluster() as c:
        head = c.up("--model", MODEL, "--split", "4@1/4@1", "--threads", "1")
        worker = c.join(head, "--threads", "1")
        head.wait_model(MODEL)
        result = {}

        def ask():
            start = time.monotonic()
            try:
                # No end token: the answer goes on until the context is full.
                for chunk in head.client().chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True,
                        temperature=1, logit_bias=models.NEVER_END):
                    result["began"] = True
            except Exception as e:  # any error of the client's is what we want to see
                result["error"] = e
            result["end"] = time.monotonic()
            result["seconds"] = result["end"] - start

        t = threading.Thread(target=ask)
        t.start()
        end = time.monotonic() + 30
        while "began" not in result and "end" not in result and time.monotonic() < end:
            time.sleep(0.02)
        killed = time.monotonic()
        worker.kill()
        t.join(30)
        expect("end" in result, "the request still hangs 30 s after its worker died")
        late = result["end"] - killed
        expect("error" in result, f"the request ended without an error: {result}")
        expect(late <= LOSS_SECONDS + 1, f"the error came {late:.1f} s after the death")
        expect(head.process.poll() is None, "the head ended with its worker")
        expect(head.request("GET", "/health")[0] in (200, 503), "the head does not answer")
        # The device comes back by itself being started: no restart of the head.
        back = c.join(head, "--threads", "1", name=worker.name)
        head.wait_model(MODEL, seconds=60)
        expect(back.process.poll() is None, "the returned worker ended")


def unknown_peers_of_join_fail_with_words(context):
    with context.cluster() as c:
        foreign_key(c, "joiner")
        d = c.up("--join", "127.0.0.1:1", "--threads", "1", name="joiner")
        d.wait_log("127.0.0.1:1", seconds=20)


def joining_without_a_key_says_what_to_do(context):
    with context.cluster() as c:
        d = c.up("--join", "127.0.0.1:1", "--threads", "1")
        d.wait_log("--invite", seconds=20)
        d.process.wait(10)
        expect(d.process.returncode == 1, f"exit code {d.process.returncode}")


def a_copied_home_is_refused_and_all_say_so(context):
    with context.cluster() as c:
        head = c.up("--threads", "1")
        first = c.join(head, "--threads", "1")
        head.wait_until(lambda: len(head.status()["links"]) == 1, "a link")
        shutil.copytree(first.home, c.path / "copy")
        copy = c.up("--join", head.peer, "--threads", "1", name="copy")
        for d in head, first, copy:
            d.wait_log("device.key from the copy" if d is not copy else "Remove device.key here",
                       seconds=20)
        expect("lost" not in head.log(), f"the copy threw the first out:\n{head.log()}")
        again = subprocess.run([context.program, "up", "--home", str(first.home), "--port", "0"],
                               stderr=subprocess.PIPE, text=True, timeout=20)
        expect(again.returncode == 1 and "one home is one device" in again.stderr, again.stderr)
        subprocess.run([context.program, "invite", "--home", str(head.home)], check=True,
                       stdout=subprocess.DEVNULL)


TESTS = [pipelines_say_what_one_device_says, a_seeded_answer_is_the_same_in_company,
         two_stages_under_load_and_their_end, tensor_split_answers_the_same_every_time,
         hybrid_of_four_devices_answers, sealed_channels_change_nothing,
         one_device_that_seals_is_enough, status_names_transports,
         streams_travel_between_devices, the_head_s_end_is_told_to_clients_of_others,
         the_wrong_key_is_refused,
         a_stranger_gets_no_application_byte, tls_without_membership_is_closed,
         a_device_without_the_model_says_so, a_lost_worker_ends_the_request,
         unknown_peers_of_join_fail_with_words, joining_without_a_key_says_what_to_do,
         a_copied_home_is_refused_and_all_say_so]


def main():
    return run_tests(TESTS, lambda: Context(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
