#!/usr/bin/env python3
"""The two real models against their float32 references (the folder real/ of SHOAL_CONFORMANCE).

    real.py BUILD [--model smollm2|gemma3] [--part exact|greedy|perplexity|fast]...

exact       stored positions: logits within 5e-4, KL <= 1e-8
greedy      twelve prompts: our choice is the reference's, fed with the reference's own ids, up to
            the first step whose gap is < 0.01
perplexity  exact mode within 0.01 % of float32
fast        8-bit activations against our exact mode and float32: mean KL <= 1.1 x llama.cpp's,
            top-1 agreement >= its - 1 point, |change of perplexity| <= its + 0.4 points
"""

import argparse
import json
import sys

import numpy as np

from library import Gguf, Report, Shoal, conformance, divergence, real_model

LOGIT_MAX = 5e-4
KL_MAX = 1e-8
GAP_MIN = 0.01
PERPLEXITY_MAX = 1e-4
# Of perplexity: a window of tokens and the first position that is scored.
WINDOW, FIRST = 512, 256


def log_sum(logits):
    """log sum exp of each row, in double; row by row, since vocabularies are large."""
    return np.array([row.max() + np.log(np.exp((row - row.max()).astype(np.float64)).sum())
                     for row in logits])


def surprise(logits, targets):
    """Sum of -log probability of the targets."""
    return float((log_sum(logits) - logits[np.arange(len(targets)), targets]).sum())


class Real:
    def __init__(self, shoal, name):
        self.shoal = shoal
        self.name = name
        self.model = real_model(name)
        self.folder = conformance() / "real"
        self.golden = Gguf(self.folder / f"{name}.golden.gguf")
        self.sums = None

    def text(self, name):
        """Every stored figure of one text against exact mode."""
        t = {k.split(".", 1)[1]: v for k, v in self.golden.tensors.items()
             if k.startswith(name + ".")}
        ours = self.shoal.eval(self.model, t["tokens"], "--exact")
        worst = kl = 0.0
        if "logits" in t:
            rows = ours[t["logits_pos"]]
            worst = np.abs(rows - t["logits"]).max()
            kl = divergence(t["logits"], rows).max()
        if "logits_strided" in t:
            stride = self.golden.keys["golden.stride"]
            strided = ours[-8:, ::stride][:, :t["logits_strided"].shape[1]]
            worst = max(worst, np.abs(strided - t["logits_strided"]).max())
        top = np.take_along_axis(ours[-8:], t["top64_ids"].astype(np.int64), axis=1)
        worst = max(worst, np.abs(top - t["top64_logits"]).max())
        sums = np.abs(log_sum(ours) - t["logsumexp"]).max()
        chosen = ours.argmax(axis=1)
        wrong = int(((chosen != t["top1"]) & (t["gap"] >= GAP_MIN)).sum())
        good = worst <= LOGIT_MAX and kl <= KL_MAX and sums <= LOGIT_MAX and wrong == 0
        return bool(good), (f"{len(chosen)} tokens, max |d| {worst:.1e}, max KL {kl:.1e}, "
                            f"|log sum exp| {sums:.1e}, {wrong} other choices")

    def greedy(self):
        """Teacher-forced by the reference's ids: one run a prompt instead of 64."""
        prompts = json.loads((self.folder / "greedy.json").read_text())["prompts"][self.name]
        steps = same = 0
        for p in prompts:
            ids = p["f32"]["hf_ids"]
            ours = self.shoal.eval(self.model, p["prompt_ids"] + ids[:-1], "--exact")
            ours = ours[len(p["prompt_ids"]) - 1:]
            for row, want in zip(ours, ids):
                second, first = np.partition(row, -2)[-2:]
                if first - second < GAP_MIN:
                    break
                steps += 1
                if int(row.argmax()) != want:
                    return False, f"prompt {p['prompt'][:40]!r}: {int(row.argmax())}, not {want}"
                same += 1
        return True, f"{same} of {steps} steps the same"

    def tokens_of_text(self):
        bos = ["--bos"] if self.golden.keys["golden.bos_added"] else []
        out = self.shoal.run(self.shoal.program, "tokenize", self.model, "--special", *bos,
                             text=(self.folder / "ppl_text.txt").read_text())
        return [int(t) for t in out.split()]

    def run_windows(self):
        """Sums over every window's scored positions, in exact and in fast mode; a large
        vocabulary's logits are too many to be kept."""
        if self.sums:
            return self.sums
        tokens = self.tokens_of_text()
        sums = {"n": 0, "exact": 0.0, "fast": 0.0, "kl": 0.0, "agree": 0}
        for k in range(len(tokens) // WINDOW):
            window = tokens[WINDOW * k:WINDOW * (k + 1)]
            if self.golden.keys["golden.bos_added"]:
                window[0] = tokens[0]
            exact, fast = [self.shoal.eval(self.model, window, *o)[FIRST:WINDOW - 1]
                           for o in (["--exact"], [])]
            targets = np.array(window[FIRST + 1:])
            sums["n"] += len(targets)
            sums["exact"] += surprise(exact, targets)
            sums["fast"] += surprise(fast, targets)
            sums["kl"] += divergence(exact, fast).sum()
            sums["agree"] += int((exact.argmax(axis=1) == fast.argmax(axis=1)).sum())
        self.sums = sums
        return sums

    def perplexity_of(self, mode):
        sums = self.run_windows()
        return float(np.exp(sums[mode] / sums["n"]))

    def results(self):
        return json.loads((self.folder / "ppl.json").read_text())["results"][self.name]

    def perplexity(self):
        want = self.results()["transformers_f32"]["ppl"]
        got = self.perplexity_of("exact")
        return abs(got / want - 1) <= PERPLEXITY_MAX, f"{got:.4f}, reference {want:.4f}"

    def perplexity_printed(self):
        """`shoal eval --text` follows the same procedure."""
        want = self.results()["transformers_f32"]["ppl"]
        out = self.shoal.run(self.shoal.program, "eval", self.model, "--exact", "--text",
                             self.folder / "ppl_text.txt")
        numbers = [float(w) for w in out.replace(",", " ").split()
                   if w.replace(".", "", 1).isdigit()]
        near = [n for n in numbers if abs(n / want - 1) <= PERPLEXITY_MAX]
        return bool(near), f"printed {out.strip()!r}, reference {want:.4f}"

    def fast_text(self):
        results = self.results()
        theirs = results["llama_cpp_flash_auto_vs_f32"]
        sums = self.run_windows()
        kl, agree = sums["kl"] / sums["n"], sums["agree"] / sums["n"]
        f32 = results["transformers_f32"]["ppl"]
        change = abs(self.perplexity_of("fast") / f32 - 1)
        allowed = abs(results["llama_cpp"]["flash_auto"]["ppl"] / f32 - 1) + 0.004
        good = (kl <= 1.1 * theirs["mean_kld"] and agree >= theirs["top1_agreement"] - 0.01
                and change <= allowed)
        return good, (f"mean KL {kl:.5f} (llama.cpp {theirs['mean_kld']:.5f}), "
                      f"top-1 {100 * agree:.1f} % ({100 * theirs['top1_agreement']:.1f} %), "
                      f"perplexity {100 * change:+.2f} % (at most {100 * allowed:.2f} %)")

    def fast_short(self):
        """The six short texts, all positions, against our exact mode."""
        theirs = json.loads((self.folder / "llama_vs_f32.json").read_text())[self.name]
        limit = np.mean([t["default"]["mean_kld"] for t in theirs.values()])
        means = []
        for i in range(self.golden.keys["golden.text_count"]):
            tokens = self.golden.tensors[f"text{i}.tokens"]
            exact = self.shoal.eval(self.model, tokens, "--exact")
            means.append(divergence(exact, self.shoal.eval(self.model, tokens)).mean())
        kl = float(np.mean(means))
        return kl <= 1.1 * limit, f"mean KL {kl:.5f}, llama.cpp {limit:.5f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--model", choices=["smollm2", "gemma3"], default="smollm2")
    parser.add_argument("--part", action="append",
                        choices=["exact", "greedy", "perplexity", "fast"])
    a = parser.parse_args()
    report = Report()
    name = "real_" + a.model
    if conformance() is None:
        report.skip(name, "SHOAL_CONFORMANCE is not set")
        return report.exit_code()
    if real_model(a.model) is None:
        report.skip(name, f"{a.model} is not here: tools/fetch_model.sh {a.model}")
        return report.exit_code()
    real = Real(Shoal(a.build), a.model)
    parts = a.part or ["exact", "greedy", "perplexity", "fast"]
    if "exact" in parts:
        for text in [f"text{i}" for i in range(real.golden.keys["golden.text_count"])] + ["long"]:
            report.attempt(f"{name}_{text}", lambda text=text: real.text(text))
    if "greedy" in parts:
        report.attempt(name + "_greedy", real.greedy)
    if "perplexity" in parts:
        report.attempt(name + "_perplexity", real.perplexity)
        report.attempt(name + "_perplexity_printed", real.perplexity_printed)
    if "fast" in parts:
        report.attempt(name + "_fast_texts", real.fast_short)
        report.attempt(name + "_fast_perplexity_text", real.fast_text)
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
