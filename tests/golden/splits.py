#!/usr/bin/env python3
"""Tensor splits give one device's logits; one placement always gives the same bits.

    splits.py BUILD [--long] [--arch NAME]...

Exact mode: max |difference| <= 1e-4 x the row's max |logit| from one device. Under one placement
the bits are the same beside 7 others, in chunks of 1, 17 and 512, and whatever joins the ranks:
memory, shared memory, TCP plain or sealed.
"""

import argparse
import random
import sys

import numpy as np

from library import Report, Shoal, real_model

TOLERANCE = 1e-4
SPLITS = ["5:3", "3:3:2", "1:7", "4@1:1/4@1:1"]


def close(shoal, model, tokens, split):
    one = shoal.eval(model, tokens, "--exact")
    many = shoal.eval(model, tokens, "--exact", "--split", split)
    worst = (np.abs(one - many).max(axis=1) / np.abs(one).max(axis=1)).max()
    return bool(worst <= TOLERANCE), f"{split}: max |d| {worst:.1e} of the row's max |logit|"


def steady(shoal, model, tokens, split, mode):
    plain = shoal.eval_hash(model, tokens, "--split", split, *mode)
    runs = [["--chunk", 1, "--transport", "shm"], ["--chunk", 17, "--transport", "tcp"],
            ["--beside", 7, "--transport", "tcp-sealed"], ["--beside", 7, "--chunk", 17]]
    for options in runs:
        if shoal.eval_hash(model, tokens, "--split", split, *mode, *options) != plain:
            return False, f"{split} with {' '.join(map(str, options))} gives other bits"
    return True, f"{split}: {len(runs)} runs like the plain one"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--arch", action="append")
    a = parser.parse_args()
    shoal, report, rng = Shoal(a.build), Report(), random.Random(2)
    types = ["F32", "Q8_0", "Q4_0", "Q4_K"] if a.long else ["F32", "Q4_K"]
    for arch in a.arch or ["llama"]:
        tokens = [rng.randrange(2003) for _ in range(200)]
        for kind in types:
            def make(arch=arch, kind=kind):
                return shoal.synth(f"{arch}-{kind}", "--preset", "wide", "--arch", arch,
                                   "--type", kind)

            for split in SPLITS:
                report.attempt(f"split_{arch}_{kind}_{split}",
                               lambda split=split: close(shoal, make(), tokens, split))
            report.attempt(f"steady_{arch}_{kind}_exact",
                           lambda: steady(shoal, make(), tokens, "5:3", ["--exact"]))
            report.attempt(f"steady_{arch}_{kind}_fast",
                           lambda: steady(shoal, make(), tokens, "3:3:2", []))
    model = real_model("smollm2")
    if model is None:
        report.skip("split_smollm2", "smollm2 is not here: tools/fetch_model.sh smollm2")
    else:
        tokens = [rng.randrange(5, 49152) for _ in range(256 if a.long else 64)]
        for split in ["2:1", "1:1:1"]:
            report.attempt(f"split_smollm2_{split}",
                           lambda split=split: close(shoal, model, tokens, split))
    if a.long and (model := real_model("gemma3")):
        tokens = [2] + [rng.randrange(500, 200000) for _ in range(127)]
        report.attempt("split_gemma3_3:1", lambda: close(shoal, model, tokens, "3:1"))
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
