#!/usr/bin/env python3
"""A row is independent: the same bits whatever stands beside it.

    rows.py BUILD [--long] [--compiler CC] [--arch NAME]...

For each model, mode and type: all logits of a sequence, hashed, in prefill chunks of 1, 17 and
512, at 1, 2 and 3 threads, beside 7 other sequences, and over 2, 3 and 7 pipeline stages joined by
TCP, are the same; --compiler: and those of a build by another compiler. --long adds SmolLM2 over
1,100 tokens and more types.
"""

import argparse
import random
import sys

from library import Report, Shoal, build_by, real_model

# Options that must change nothing, each against the plain run; stages by the number of layers.
VARIANTS = [["--chunk", 1], ["--chunk", 17, "--threads", 3], ["--threads", 1],
            ["--beside", 7, "--threads", 2], ["--beside", 7, "--chunk", 17]]
WIDE_LAYERS, SMOLLM2_LAYERS = 8, 30


def stages(n, layers):
    """A pipeline of n stages, uneven where it can be: "3@1/3@1/2@1"."""
    sizes = [layers // n + (i < layers % n) for i in range(n)]
    return "/".join(f"{s}@1" for s in sizes)


def same(shoal, other, model, tokens, mode, layers):
    plain = shoal.eval_hash(model, tokens, *mode)
    runs = VARIANTS + [["--split", stages(n, layers), "--transport", "tcp", *more]
                       for n, more in ((2, ["--chunk", 17]), (3, ["--beside", 7]),
                                       (7, ["--chunk", 64, "--beside", 7]))]
    for options in runs:
        if shoal.eval_hash(model, tokens, *mode, *options) != plain:
            return False, f"{' '.join(map(str, mode + options))} gives other bits"
    if other and other.eval_hash(model, tokens, *mode) != plain:
        return False, f"{' '.join(mode)}: the other compiler gives other bits"
    return True, f"{len(tokens)} tokens, {len(runs) + bool(other)} runs like the plain one"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--compiler")
    parser.add_argument("--arch", action="append")
    a = parser.parse_args()
    shoal, report, rng = Shoal(a.build), Report(), random.Random(1)
    other = build_by(a.build, a.compiler) if a.compiler else None
    types = ["F32", "F16", "Q8_0", "Q4_0", "Q4_K"] if a.long else ["Q8_0", "Q4_K"]
    for arch in a.arch or ["llama"]:
        tokens = [rng.randrange(2003) for _ in range(600 if a.long else 200)]
        for kind in types:
            for mode in [], ["--exact"]:
                name = f"rows_{arch}_{kind}_{'exact' if mode else 'fast'}"

                def check(arch=arch, kind=kind, mode=mode, tokens=tokens):
                    model = shoal.synth(f"{arch}-{kind}", "--preset", "wide", "--arch", arch,
                                        "--type", kind)
                    return same(shoal, other, model, tokens, mode, WIDE_LAYERS)

                report.attempt(name, check)
    if a.long:
        model = real_model("smollm2")
        if model is None:
            report.skip("rows_smollm2", "smollm2 is not here: tools/fetch_model.sh smollm2")
        else:
            tokens = [rng.randrange(5, 49152) for _ in range(1100)]
            for mode in [], ["--exact"]:
                report.attempt(f"rows_smollm2_{'exact' if mode else 'fast'}",
                               lambda mode=mode: same(shoal, other, model, tokens, mode,
                                                      SMOLLM2_LAYERS))
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
