#!/usr/bin/env python3
"""One device and its OpenAI-shaped endpoint: test_api.py BUILD [TEST]..."""

import json
import shutil
import socket
import sys
import threading
import time

import openai

import company
import endings
import models
from harness import Cluster, Failed, expect, run_tests

MODEL = "wide"
HELLO = [{"role": "user", "content": "Say hello."}]
# A request's work must end within a token of the client's close; this is many tokens.
CANCEL_SECONDS = 5


def chat(device, **fields):
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 8, "temperature": 0, **fields}
    return device.request("POST", "/v1/chat/completions", body)


def models_are_listed(d):
    client = d.client()
    ids = [m.id for m in client.models.list()]
    expect(MODEL in ids, f"{MODEL} is not among {ids}")
    expect(client.models.retrieve(MODEL).id == MODEL, "retrieve gives another model")
    status, _, _ = d.request("GET", "/health")
    expect(status == 200, f"/health answers {status}")


def contexts_are_told(d):
    """What is given, by default as long as fits, and where one that was asked for is cut."""
    listed = {m["id"]: m for m in d.request("GET", "/v1/models")[2]["data"]}
    for m in d.status()["models"]:
        told = listed[m["id"]]
        expect(told["ready"] and told["context_length"] == m["context"], f"{told} but {m}")
        expect(f"{m['id']}: serving on 1 device, context {m['context']}" in d.log(),
               f"no context in the log:\n{d.log()[-2000:]}")
    with Cluster(d.cluster.program, d.cluster.models) as cluster:
        other = cluster.up("--model", "tiny", "--context", "100000", "--threads", "1")
        other.wait_model("tiny")
        expect("a context of 100000 tokens was asked for" in other.log(), other.log()[-2000:])
        expect(other.status()["models"][0]["context"] < 100000, "more than the model has")


def chat_answers(d):
    r = d.client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8,
                                           temperature=0)
    expect(r.object == "chat.completion" and len(r.choices) == 1, f"odd reply {r}")
    expect(r.choices[0].message.role == "assistant", "the role is not assistant")
    expect(r.choices[0].finish_reason in ("stop", "length"), r.choices[0].finish_reason)
    expect(r.usage.prompt_tokens > 0 and 0 < r.usage.completion_tokens <= 8, f"usage {r.usage}")
    expect(r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens,
           f"usage {r.usage}")


def stream_gives_the_same_text(d):
    client = d.client()
    ask = dict(model=MODEL, messages=HELLO, max_tokens=24, temperature=1, seed=7)
    whole = client.chat.completions.create(**ask)
    parts, finish, usage = [], None, None
    for chunk in client.chat.completions.create(**ask, stream=True,
                                                stream_options={"include_usage": True}):
        if chunk.usage:
            usage = chunk.usage
        for choice in chunk.choices:
            parts.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    expect("".join(parts) == whole.choices[0].message.content, "streamed and whole text differ")
    expect(finish == whole.choices[0].finish_reason, f"finish {finish}")
    expect(usage == whole.usage or usage.completion_tokens == whole.usage.completion_tokens,
           f"usage {usage}, not {whole.usage}")


def completions_answer(d):
    client = d.client()
    r = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=5,
                                  temperature=0)
    expect(r.object == "text_completion" and r.usage.completion_tokens <= 5, f"odd reply {r}")
    again = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=5,
                                      temperature=0)
    expect(r.choices[0].text == again.choices[0].text, "greedy text differs between two runs")
    text = "".join(c.choices[0].text for c in client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=5, temperature=0, stream=True)
        if c.choices)
    expect(text == r.choices[0].text, "streamed completion differs")


def several_prompts_give_several_choices(d):
    r = d.client().completions.create(model=MODEL, prompt=["One", "Two"], max_tokens=3,
                                      temperature=0)
    expect([c.index for c in r.choices] == [0, 1], f"choices {r.choices}")


def logprobs_are_given(d):
    r = d.client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4,
                                           temperature=0, logprobs=True, top_logprobs=3)
    content = r.choices[0].logprobs.content
    expect(len(content) == r.usage.completion_tokens, f"{len(content)} logprobs")
    for c in content:
        expect(c.logprob <= 0 and len(c.top_logprobs) == 3, f"odd logprob {c}")
        expect(c.top_logprobs[0].logprob >= c.top_logprobs[1].logprob, "not in order")


def seeds_repeat_and_differ(d):
    def text(seed):
        return d.client().completions.create(model=MODEL, prompt="x", max_tokens=16, seed=seed,
                                             temperature=1).choices[0].text

    expect(text(1) == text(1), "one seed gives two texts")
    expect(len({text(s) for s in range(1, 6)}) > 1, "five seeds give one text")


def stop_strings_end_the_text(d):
    client = d.client()
    ask = dict(model=MODEL, prompt="x", max_tokens=24, seed=3, temperature=1)
    whole = client.completions.create(**ask).choices[0].text
    expect(len(whole) > 4, f"too short to try: {whole!r}")
    stop = whole[2:4]
    r = client.completions.create(**ask, stop=stop).choices[0]
    expect(r.text == whole[:whole.index(stop)], f"{r.text!r} of {whole!r} stopped at {stop!r}")
    expect(r.finish_reason == "stop", r.finish_reason)


def bad_fields_are_named(d):
    cases = [
        ({"temperature": 3}, 400, "temperature"), ({"temperature": "hot"}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"), ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "messages"),
        ({"top_p": -1}, 400, "top_p"), ({"n": 3}, 400, "n"), ({"stop": [1]}, 400, "stop"),
        ({"logit_bias": {"x": 1}}, 400, "logit_bias"), ({"model": None}, 400, "model"),
        ({"model": "no-such-model"}, 404, "model"), ({"stream": "yes"}, 400, "stream"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools"),
    ]
    for fields, want, param in cases:
        status, _, reply = chat(d, **fields)
        error = reply["error"] if isinstance(reply, dict) else {}
        expect(status == want, f"{fields} gives {status} {reply}")
        expect(isinstance(error.get("message"), str) and "type" in error and "code" in error,
               f"{fields}: no OpenAI error in {reply}")
        expect((error.get("param") or "").startswith(param), f"{fields}: param {error.get('param')}")


def python_errors_are_the_package_s(d):
    client = d.client()
    for kind, fields in ((openai.NotFoundError, {"model": "nothing"}),
                         (openai.BadRequestError, {"temperature": 9})):
        try:
            client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **fields})
        except kind:
            continue
        raise Failed(f"{fields} raises no {kind.__name__}")


def a_long_prompt_is_refused(d):
    status, _, reply = d.request("POST", "/v1/completions", {
        "model": MODEL, "prompt": [5] * 200_000, "max_tokens": 1})
    expect(status == 400 and reply["error"]["code"] == "context_length_exceeded",
           f"{status} {str(reply)[:300]}")


def odd_paths_and_methods(d):
    for method, path, want in (("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405),
                               ("POST", "/v1/models", 405), ("DELETE", "/health", 405)):
        status, _, reply = d.request(method, path, {} if method == "POST" else None)
        expect(status == want, f"{method} {path} gives {status}")
        expect("message" in reply["error"], f"{method} {path}: {reply}")
    status, _, reply = d.request("POST", "/v1/chat/completions", b"{not json")
    expect(status == 400 and "error" in reply, f"bad JSON gives {status} {reply}")


def foreign_origins_are_refused(d):
    status, _, _ = d.request("GET", "/v1/models", headers={"Host": "evil.example:80"})
    expect(status in (400, 403, 421), f"a foreign Host gives {status}")
    status, _, _ = d.request("POST", "/v1/completions", {"model": MODEL, "prompt": "x"},
                             headers={"Origin": "http://evil.example"})
    expect(status == 403, f"a foreign Origin gives {status}")


def raw(d, data, seconds=10):
    """What comes back for these bytes until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", d.port), timeout=seconds) as s:
        s.sendall(data)
        out = b""
        try:
            while block := s.recv(65536):
                out += block
                if out.endswith(b"\r\n\r\n") or b"}" in out[-3:]:
                    break
        except (TimeoutError, ConnectionError):
            pass
        return out


def bad_http_does_no_harm(d):
    for data in (b"\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00\xff" * 8,
                 b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        reply = raw(d, data, seconds=3)
        expect(b" 200 " not in reply[:20], f"{data[:40]!r} gives {reply[:60]!r}")
    expect(d.request("GET", "/health")[0] == 200, "the server is gone")


def a_close_ends_the_work(d):
    # No end token: the answer goes on until the context is full.
    body = json.dumps({"model": MODEL, "messages": HELLO, "stream": True, "temperature": 1,
                       "logit_bias": models.NEVER_END}).encode()
    with socket.create_connection(("127.0.0.1", d.port), timeout=10) as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                  b"application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        expect(b"data:" in s.recv(65536) + s.recv(65536), "no stream began")
    end = time.monotonic() + CANCEL_SECONDS
    while endings.running(d):
        expect(time.monotonic() < end, "the work goes on after the client's close")
        time.sleep(0.02)


def post(body):
    """A chat request as bytes."""
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            b"application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def a_close_ends_a_whole_answer_too(d):
    body = json.dumps({"model": MODEL, "messages": HELLO, "temperature": 1,
                       "logit_bias": models.NEVER_END}).encode()
    with socket.create_connection(("127.0.0.1", d.port), timeout=10) as s:
        s.sendall(post(body))
        d.wait_until(lambda: endings.running(d) == 1, "a running request")
    end = time.monotonic() + CANCEL_SECONDS
    while endings.running(d):
        expect(time.monotonic() < end, "the work goes on after the client's close")
        time.sleep(0.02)


def a_half_closed_client_gets_its_answer(d):
    """As `nc -N` does it."""
    for stream, last in ((False, b'"usage"'), (True, b"data: [DONE]")):
        body = json.dumps({"model": MODEL, "messages": HELLO, "stream": stream, "temperature": 1,
                           "max_tokens": 100, "logit_bias": models.NEVER_END}).encode()
        with socket.create_connection(("127.0.0.1", d.port), timeout=30) as s:
            s.sendall(post(body))
            s.shutdown(socket.SHUT_WR)
            reply = b""
            while block := s.recv(65536):
                reply += block
        expect(reply.startswith(b"HTTP/1.1 200 OK\r\n") and last in reply,
               f"stream {stream}: {reply[:100]!r} ... {reply[-300:]!r}")


def idle_connections_hold_nobody_up(d):
    idle = [socket.create_connection(("127.0.0.1", d.port)) for _ in range(600)]
    try:
        start = time.monotonic()
        status, _, _ = chat(d, max_tokens=2)
        expect(status == 200, f"beside 600 idle connections: {status}")
        expect(time.monotonic() - start < 5, f"it took {time.monotonic() - start:.1f} s")
    finally:
        for s in idle:
            s.close()


def large_logprobs_are_bounded_before_they_start(d):
    context = next(m["context"] for m in d.status()["models"] if m["id"] == MODEL)
    # A completion's JSON takes up to 600 bytes a token with 5 alternatives.
    prompts = 100_000_000 // (context * 600)
    expect(prompts > 1, f"a context of {context} tokens is too long for this")
    ask = {"model": MODEL, "max_tokens": context, "logprobs": 5, "logit_bias": models.NEVER_END}
    status, _, reply = d.request("POST", "/v1/completions", {**ask, "prompt": ["x"] * (prompts * 3 // 2)})
    expect(status == 400 and reply["error"]["param"] == "logprobs", f"{status} {reply}")
    body = json.dumps({**ask, "prompt": ["x"] * prompts}).encode()
    head = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            % len(body))
    with socket.create_connection(("127.0.0.1", d.port)) as a, \
            socket.create_connection(("127.0.0.1", d.port)) as b:
        a.sendall(head + body)
        b.sendall(head + body)
        d.wait_until(lambda: endings.running(d) > 0, "running requests")
        status, reply_headers, reply = d.request("POST", "/v1/completions",
                                                 {**ask, "prompt": ["x"] * prompts})
        expect(status == 429 and "Retry-After" in reply_headers, f"{status} {reply}")
    d.wait_until(lambda: endings.running(d) == 0, "end of the work")


def many_at_once_get_their_own_answers(d):
    def text(seed):
        return d.client().completions.create(model=MODEL, prompt=f"number {seed}", max_tokens=24,
                                             seed=seed, temperature=1).choices[0].text

    alone = [text(s) for s in range(8)]
    together = [None] * 8

    def work(i):
        together[i] = text(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    expect(alone == together, "texts change in company")


def a_seeded_answer_is_the_same_in_company(d):
    company.same_alone_and_among_seven(d, MODEL)


def two_models_answer_in_turn(d):
    for name in (MODEL, "other", MODEL):
        r = d.client().completions.create(model=name, prompt="x", max_tokens=4, temperature=0)
        expect(r.model == name, f"asked {name}, answered by {r.model}")


def a_slow_sender_holds_nobody_up(d):
    with socket.create_connection(("127.0.0.1", d.port)) as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        status, _, _ = chat(d, max_tokens=2)
        expect(status == 200, f"beside a slow sender: {status}")


def an_unreadable_model_is_named(d):
    expect("--model cut is not served" in d.log() and "cut.gguf" in d.log(), d.log()[-2000:])


def ends_cleanly(d):
    """Answers that run are ended in words, a stream's by an event, a whole one by its body."""
    answers = endings.last_answers(d, MODEL)
    code, seconds = d.stop()
    expect(code == 0, f"exit code {code}")
    expect(seconds < 5, f"took {seconds:.1f} s")
    endings.expect_words(answers())


TESTS = [models_are_listed, contexts_are_told, chat_answers, stream_gives_the_same_text, completions_answer,
         several_prompts_give_several_choices, logprobs_are_given, seeds_repeat_and_differ,
         stop_strings_end_the_text, bad_fields_are_named, python_errors_are_the_package_s,
         a_long_prompt_is_refused, odd_paths_and_methods, foreign_origins_are_refused,
         bad_http_does_no_harm, a_close_ends_the_work,
         a_close_ends_a_whole_answer_too, a_half_closed_client_gets_its_answer,
         idle_connections_hold_nobody_up, large_logprobs_are_bounded_before_they_start, many_at_once_get_their_own_answers,
         a_seeded_answer_is_the_same_in_company,
         two_models_answer_in_turn, a_slow_sender_holds_nobody_up, an_unreadable_model_is_named,
         ends_cleanly]


def main():
    build = sys.argv[1]
    with Cluster(f"{build}/src/cli/shoal", models.folder(build)) as cluster:
        def setup():
            folder = cluster.path / "models"
            shutil.copytree(cluster.models, folder)
            (folder / "cut.gguf").write_bytes((folder / "tiny.gguf").read_bytes()[:5000])
            d = cluster.up("--model", MODEL, "--model", "cut", "--model", "other", "--threads",
                           "2", models=folder)
            d.wait_model(MODEL)
            d.wait_model("other")
            return d

        return run_tests(TESTS, setup)


if __name__ == "__main__":
    sys.exit(main())
