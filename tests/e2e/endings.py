"""What clients get when a device ends while it answers them."""

import concurrent.futures
import json

import models
from harness import expect

HELLO = [{"role": "user", "content": "Say hello."}]


def running(d):
    """Requests that the device works on now, from /api/status."""
    return sum(m.get("running", m.get("active", 0)) or 0 for m in d.status().get("models", []))


def last_answers(d, model):
    """Starts a stream and a whole answer without an end; what they got, once they have ended."""
    ask = {"model": model, "messages": HELLO, "temperature": 1, "logit_bias": models.NEVER_END}
    pool = concurrent.futures.ThreadPoolExecutor(2)
    both = [pool.submit(d.request, "POST", "/v1/chat/completions", {**ask, "stream": stream})
            for stream in (True, False)]
    d.wait_until(lambda: running(d) >= 2, "two running requests")
    return lambda: [f.result(30) for f in both]


def expect_words(answers):
    (status, _, events), (whole, _, reply) = answers
    expect(status == 200 and isinstance(events, str), f"{status} {events}")
    last = json.loads(events.strip().splitlines()[-1].removeprefix("data: "))
    expect(isinstance(last["error"]["message"], str), f"the stream ends with {last}")
    expect(whole == 503 and isinstance(reply["error"]["message"], str), f"{whole} {reply}")
