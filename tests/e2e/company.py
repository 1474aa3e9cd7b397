"""One seeded request alone and in company: the same tokens, each with the same probability."""

import threading

import models
from harness import expect

# The request that is looked at: long enough for others to come and go meanwhile.
TOKENS = 128
ASK = dict(messages=[{"role": "user", "content": "Tell me of the sea."}], max_tokens=TOKENS,
           temperature=1, seed=11, logprobs=True, top_logprobs=2, logit_bias=models.NEVER_END)
# Prompts of the seven others, in tokens: four that are there before, three that come in mid-answer;
# some take a single row of a step, some many chunks of prefill.
BEFORE, AFTER = [1, 33, 300, 700], [2, 90, 500]
# The others go on until they are let go.
MANY = 1500
WAIT_SECONDS = 60


class Other(threading.Thread):
    """A sampled answer that goes on until the event `enough` is set."""

    def __init__(self, device, model, length, enough):
        super().__init__(daemon=True)
        self.device, self.model, self.length, self.enough = device, model, length, enough
        self.began, self.error, self.ended_early = threading.Event(), None, False
        self.start()

    def run(self):
        ids = [5 + (31 * self.length + 7 * i) % 1900 for i in range(self.length)]
        try:
            with self.device.client().completions.create(
                    model=self.model, prompt=ids, max_tokens=MANY, temperature=1, seed=self.length,
                    stream=True, logit_bias=models.NEVER_END) as stream:
                for _ in stream:
                    self.began.set()
                    if self.enough.is_set():
                        return
            self.ended_early = True
        except Exception as e:  # whatever it is, the test shows it
            self.error = e
            self.began.set()


def answer(device, model, in_the_middle=lambda: None):
    """[(token, its log probability, those of the likeliest)], as the server sends them."""
    tokens, called = [], False
    with device.client().chat.completions.create(model=model, stream=True, **ASK) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                tokens += [(t.token, t.logprob, [(o.token, o.logprob) for o in t.top_logprobs])
                           for t in (choice.logprobs.content if choice.logprobs else [])]
            if tokens and not called:
                called = True
                in_the_middle()
    return tokens


def same_alone_and_among_seven(device, model):
    alone = answer(device, model)
    expect(len(alone) == TOKENS, f"{len(alone)} tokens alone, not {TOKENS}")
    enough = threading.Event()
    others = [Other(device, model, n, enough) for n in BEFORE]
    for o in others:
        expect(o.began.wait(WAIT_SECONDS), f"the other with {o.length} tokens did not begin")
    together = answer(device, model,
                      lambda: others.extend(Other(device, model, n, enough) for n in AFTER))
    met = sum(o.began.is_set() for o in others)
    enough.set()
    for o in others:
        o.join(WAIT_SECONDS)
        expect(o.error is None, f"the other with {o.length} tokens: {o.error}")
        expect(not o.ended_early, f"the other with {o.length} tokens ended before")
    expect(met == len(BEFORE) + len(AFTER), f"only {met} others were there before it ended")
    expect(together == alone, f"in company {together[:3]}..., alone {alone[:3]}...")
    expect(answer(device, model) == alone, "alone again it differs")
