#!/usr/bin/env python3
"""Files that look alike and are not the same model: test_identity.py BUILD [TEST]...

A header and a size say nothing of the weights. Devices must serve what was named, refuse a
pipeline of two checkpoints before it serves, and know the same model under another name.
"""

import os
import pathlib
import shutil
import sys
import time

import checkpoints
import models
from harness import Cluster, Skipped, expect, run_tests

MODEL = "wide"
SPLIT = "4@1/4@1"
# What a device says of a file that isn't the head's.
REFUSED = "is another model than the head's"
# A prompt of the reports' vocabulary, and what each of the two files answers at temperature 0.
REPORT_PROMPT = [1, 40, 50, 60]
REPORT_LOGPROBS = {"same-header-a": [0.0, 0.0, 0.0, 0.0],
                   "same-header-b": [-1.5208, -2.8587, -1.6919, -1.1075]}
# Fresh clusters until a draw misses one chunk of five.
DRAWS = 6
# Hashing in the background and what follows from it is done well within this.
HASH_SECONDS = 60
# A head places again, with the pauses between its attempts.
AGAIN_SECONDS = 60


class Context:
    def __init__(self, build):
        self.program = f"{build}/src/cli/shoal"
        self.models = models.folder(build)
        self.wide = self.models / f"{MODEL}.gguf"
        self.answers = {}

    def cluster(self):
        return Cluster(self.program, self.models)

    def answer_alone(self, path):
        """What one device says that has only this file."""
        key = pathlib.Path(path).read_bytes()
        if key not in self.answers:
            with self.cluster() as c:
                folder = folder_of(c, "alone", {MODEL: path})
                d = c.up("--model", MODEL, "--threads", "1", models=folder)
                d.wait_model(MODEL)
                self.answers[key] = answer(d)
        return self.answers[key]


def folder_of(cluster, name, files):
    """A folder with copies of files under these names."""
    folder = cluster.path / name
    folder.mkdir()
    for model, path in files.items():
        shutil.copy(path, folder / f"{model}.gguf")
    return folder


def answer(device, model=MODEL):
    """Tokens and their probabilities."""
    _, _, r = device.request("POST", "/v1/completions",
                             {"model": model, "prompt": "The sea was calm", "max_tokens": 12,
                              "temperature": 0, "logprobs": 1})
    log = r["choices"][0]["logprobs"]
    return list(zip(log["tokens"], log["token_logprobs"]))


def other_file(cluster, context, tensor="blk.6.ffn_down.weight", **more):
    """A second checkpoint with the header of the first."""
    path = cluster.path / f"other-{tensor}.gguf"
    checkpoints.other(context.wide, path, tensor, **more)
    return path


def root(device, model=MODEL):
    """The digest of all of a model's bytes, once they were hashed."""
    def known():
        return any(m["id"] == model and m["root"] for m in device.status()["models"])
    device.wait_until(known, f"root of {model}", HASH_SECONDS)
    return next(m["root"] for m in device.status()["models"] if m["id"] == model)


def expect_refused(head, tensor, seconds=HASH_SECONDS):
    """Head and worker differ: it is said by name, and nothing was served."""
    head.wait_log(REFUSED, seconds)
    log = head.log()
    expect(f"tensor {tensor} differs" in log, f"the tensor isn't named:\n{log[-2000:]}")
    expect("serving on 2 devices" not in log, f"a mixed pipeline served:\n{log[-2000:]}")
    status, _, r = head.request("POST", "/v1/completions",
                                {"model": MODEL, "prompt": "a", "max_tokens": 1})
    expect(status == 503 and REFUSED in r["error"]["message"], f"{status}: {r}")


def the_file_that_was_named_is_served(context):
    with context.cluster() as c:
        second = other_file(c, context)
        want = {"a": context.answer_alone(context.wide), "b": context.answer_alone(second)}
        expect(want["a"] != want["b"], "both checkpoints answer the same: nothing is tested")
        folder = folder_of(c, "both", {"a": context.wide, "b": second})
        device = c.up("--model", "b", "--model", "a", "--threads", "1", models=folder)
        for name in ("b", "a"):
            device.wait_model(name)
            got = answer(device, name)
            expect(got == want[name], f"{name}: {got}, alone in its folder: {want[name]}")
        expect(root(device, "a") != root(device, "b"), "two models, one root")


def reported_files_give_their_own_probabilities(context):
    reports = pathlib.Path(os.environ.get("SHOAL_CONFORMANCE", "/nowhere")) / "reports"
    if not reports.is_dir():
        raise Skipped("SHOAL_CONFORMANCE names no folder with reports")
    with context.cluster() as c:
        folder = folder_of(c, "reports", {n: reports / f"{n}.gguf" for n in REPORT_LOGPROBS})
        device = c.up("--threads", "1", *(a for n in REPORT_LOGPROBS for a in ("--model", n)),
                      models=folder)
        for name, want in REPORT_LOGPROBS.items():
            device.wait_model(name)
            _, _, r = device.request("POST", "/v1/completions",
                                     {"model": name, "prompt": REPORT_PROMPT, "max_tokens": 4,
                                      "temperature": 0, "logprobs": 1})
            got = r["choices"][0]["logprobs"]["token_logprobs"]
            expect(all(abs(g - w) < 1e-3 for g, w in zip(got, want)) and len(got) == len(want),
                   f"{name}: {got}, right is {want}")


def another_checkpoint_is_refused_by_name(context):
    """Tensors of the head's own layers, of the worker's, and of neither (a norm behind all)."""
    for tensor in ("blk.1.attn_q.weight", "blk.6.ffn_up.weight", "token_embd.weight"):
        with context.cluster() as c:
            # All bytes of it differ: whichever chunk is drawn.
            second = c.path / "second.gguf"
            every_chunk(context.wide, second, tensor)
            head = c.up("--model", MODEL, "--split", SPLIT, "--threads", "1")
            c.join(head, "--threads", "1", models=folder_of(c, "worker", {MODEL: second}))
            expect_refused(head, tensor)


def every_chunk(path, to, tensor):
    """A file that differs in each MiB of a tensor."""
    shutil.copy(path, to)
    _, size = checkpoints.Gguf(path).place(tensor)
    for i in range(-(-size // (1 << 20))):
        checkpoints.other(to, to, tensor, at=min((i * (1 << 20) + 64) / size, 0.99), most=1)


def one_byte_is_refused_where_the_head_knows_the_model(context):
    """One byte of a tensor in the worker's share: no draw has to find it."""
    with context.cluster() as c:
        second = other_file(c, context, most=1)
        head = c.up("--model", MODEL, "--threads", "1")
        head.wait_model(MODEL)
        root(head)
        expect(head.stop()[0] == 0, "the head did not end cleanly")
        head.command += ["--split", SPLIT]
        head.start()
        c.join(head, "--threads", "1", models=folder_of(c, "worker", {MODEL: second}))
        expect_refused(head, "blk.6.ffn_down.weight")


def one_byte_that_no_draw_found_ends_the_placement(context):
    """One byte of a tensor of five chunks, and a head that doesn't know all of its model yet: four
    of five draws miss it. Then it is served, and ends when both have hashed all."""
    for _ in range(DRAWS):
        with context.cluster() as c:
            second = c.path / "second.gguf"
            checkpoints.other(context.models / "slow.gguf", second, "blk.8.ffn_down.weight", most=1)
            head = c.up("--model", "slow", "--split", "3@1/6@1", "--threads", "1")
            c.join(head, "--threads", "1", models=folder_of(c, "worker", {"slow": second}))
            head.wait_log(REFUSED, HASH_SECONDS)
            log = head.log()
            expect("tensor blk.8.ffn_down.weight differs" in log, log[-2000:])
            before = log[:log.index(REFUSED)]
            if "serving on 2 devices" in before:
                expect("placement ended" in log, log[-2000:])
                return
    raise Skipped(f"in {DRAWS} clusters it was found before they served: by a draw, or since all was "
                  "hashed before it was loaded")


def a_difference_within_a_part_is_refused(context):
    """Split files: the second part of the worker's differs."""
    with context.cluster() as c:
        folders = [c.path / "head", c.path / "worker"]
        for f in folders:
            f.mkdir()
            parts = checkpoints.split(context.wide, f, MODEL, 3)
        checkpoints.other(parts[1], parts[1], last_tensor(parts[1]))
        head = c.up("--model", MODEL, "--split", SPLIT, "--threads", "1", models=folders[0])
        c.join(head, "--threads", "1", models=folders[1])
        expect_refused(head, last_tensor(parts[1]))


def last_tensor(path):
    return checkpoints.Gguf(path).tensors[-1][0]


def split_files_serve_what_the_whole_one_says(context):
    with context.cluster() as c:
        folder = c.path / "parts"
        folder.mkdir()
        checkpoints.split(context.wide, folder, MODEL, 3)
        head = c.up("--model", MODEL, "--split", SPLIT, "--threads", "1", models=folder)
        c.join(head, "--threads", "1", models=folder)
        head.wait_model(MODEL)
        expect(answer(head) == context.answer_alone(context.wide), "parts give another answer")


def a_file_that_changes_later_is_not_mixed_in(context):
    """The worker's file is replaced while it serves: what runs goes on, and when the head starts
    again, before the worker has looked at its folder anew, the new weights are refused."""
    with context.cluster() as c:
        folder = folder_of(c, "worker", {MODEL: context.wide})
        want = context.answer_alone(context.wide)
        head = c.up("--model", MODEL, "--split", SPLIT, "--threads", "1")
        worker = c.join(head, "--threads", "1", models=folder)
        head.wait_model(MODEL)
        second = other_file(c, context)
        os.replace(second, folder / f"{MODEL}.gguf")
        expect(answer(head) == want, "what is served changed with the file")
        head.kill()
        head.log_path.write_text("")
        head.start()
        expect_refused(head, "blk.6.ffn_down.weight", AGAIN_SECONDS)
        expect(worker.process.poll() is None, "the worker ended")
        # With the right file back it serves again, by itself.
        shutil.copy(context.wide, folder / f"{MODEL}.gguf")
        head.wait_model(MODEL, AGAIN_SECONDS)
        expect(answer(head) == want, "another answer than before")


def the_heads_own_file_is_not_exchanged(context):
    """The head's file, or a part of it, is written to while it serves: what runs goes on; a
    placement after that is refused, since its requests began with other weights; a new start
    serves what is there."""
    for parts in (1, 3):
        with context.cluster() as c:
            folders = [c.path / "head", c.path / "worker"]
            for f in folders:
                f.mkdir()
                paths = checkpoints.split(context.wide, f, MODEL, parts) if parts > 1 else [
                    pathlib.Path(shutil.copy(context.wide, f / f"{MODEL}.gguf"))]
            name = paths[-1].name
            head = c.up("--model", MODEL, "--split", SPLIT, "--threads", "1", models=folders[0])
            worker = c.join(head, "--threads", "1", models=folders[1])
            head.wait_model(MODEL)
            want = answer(head)
            second = c.path / "second.gguf"
            checkpoints.other(folders[0] / name, second, last_tensor(folders[0] / name))
            with open(folders[0] / name, "r+b") as f:
                f.write(second.read_bytes())
            expect(answer(head) == want, "what is served changed with the file")
            expect(worker.stop()[0] == 0, "the worker did not end cleanly")
            worker.start()
            head.wait_log("was written to or replaced", AGAIN_SECONDS)
            expect(head.log().count("serving on 2 devices") == 1, "it served mixed weights")
            os.replace(second, folders[1] / name)
            expect(head.stop()[0] == 0, "the head did not end cleanly")
            head.start()
            head.wait_model(MODEL, AGAIN_SECONDS)
            expect(answer(head) != want, "still the answer of the old bytes")


def a_copy_under_another_name_is_the_same_model(context):
    """The worker has the head's model under another name, beside two others of its header."""
    with context.cluster() as c:
        others = {f"a{i}": other_file(c, context, t)
                  for i, t in enumerate(("blk.2.attn_v.weight", "blk.7.ffn_down.weight"))}
        folder = folder_of(c, "worker", {"a0": others["a0"], "mine": context.wide,
                                         "z": others["a1"]})
        head = c.up("--model", MODEL, "--split", SPLIT, "--threads", "1")
        c.join(head, "--threads", "1", models=folder)
        head.wait_model(MODEL)
        expect(answer(head) == context.answer_alone(context.wide), "another answer")


def of_several_files_the_heads_is_taken(context):
    """The worker's other file differs in one chunk of five: no draw can be relied on, but the head
    knows all of its model."""
    with context.cluster() as c:
        slow = context.models / "slow.gguf"
        second = c.path / "second.gguf"
        checkpoints.other(slow, second, "blk.8.ffn_down.weight", most=1)
        folder = folder_of(c, "worker", {"a": second, "slow": slow})
        head = c.up("--model", "slow", "--threads", "1")
        head.wait_model("slow")
        want = answer(head, "slow")
        root(head, "slow")
        expect(head.stop()[0] == 0, "the head did not end cleanly")
        head.command += ["--split", "3@1/6@1"]
        head.log_path.write_text("")
        head.start()
        c.join(head, "--threads", "1", models=folder)
        head.wait_model("slow")
        expect(answer(head, "slow") == want, "another answer than of the head alone")
        expect("placement ended" not in head.log(), head.log()[-2000:])


def a_list_is_made_once(context):
    """The second start finds the list; a file that was touched is hashed again, to the same
    root."""
    with context.cluster() as c:
        folder = folder_of(c, "models", {MODEL: context.wide})
        device = c.up("--model", MODEL, "--threads", "1", models=folder)
        device.wait_model(MODEL)
        first = root(device)
        lists = list((device.home / "chunks").iterdir())
        expect(len(lists) == 1, f"lists: {lists}")
        made = lists[0].stat().st_mtime_ns
        for touched in (False, True):
            expect(device.stop()[0] == 0, "the device did not end cleanly")
            if touched:
                now = time.time() + 2
                os.utime(folder / f"{MODEL}.gguf", (now, now))
            device.start()
            device.wait_model(MODEL)
            expect(root(device) == first, "another root of the same bytes")
            again = lists[0].stat().st_mtime_ns
            expect((again != made) == touched, f"touched: {touched}, list written: {again != made}")


TESTS = [the_file_that_was_named_is_served, reported_files_give_their_own_probabilities,
         another_checkpoint_is_refused_by_name,
         one_byte_is_refused_where_the_head_knows_the_model,
         one_byte_that_no_draw_found_ends_the_placement, a_difference_within_a_part_is_refused,
         split_files_serve_what_the_whole_one_says, a_file_that_changes_later_is_not_mixed_in,
         the_heads_own_file_is_not_exchanged, a_copy_under_another_name_is_the_same_model,
         of_several_files_the_heads_is_taken, a_list_is_made_once]


def main():
    return run_tests(TESTS, lambda: Context(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
