#!/usr/bin/env python3
"""Tiny random models of each family against the logits of their reference implementation.

    check.py BUILD [NAME]...

Exact mode: max |difference| <= max(5e-5, 5 x what the reference itself differs from its float64
self) and KL <= 1e-9 at every position.
"""

import sys

import numpy as np

from library import DATA, Gguf, Report, Shoal, divergence

# Largest |difference| of the reference in float32 from itself in float64: how well-conditioned the
# case is (the models' index, column f64).
F64 = {
    "llama": 4.3e-06, "llama-llama3rope": 6.0e-06, "llama-bias": 4.1e-06, "llama-linear": 5.4e-06,
    "llama-yarn": 4.3e-06, "mistral": 6.2e-06, "gemma3": 8.6e-06, "gemma3-linear": 8.0e-06,
    "qwen2": 5.5e-06, "qwen3": 7.7e-06, "qwen3_moe": 7.0e-06, "mixtral": 4.8e-06,
    "lfm2": 1.0e-05, "smollm3": 6.5e-06, "gemma4": 2.0e-05,
    "gemma4-kv": 8.5e-06,
}
KL_MAX = 1e-9


def check(shoal, name):
    golden = Gguf(DATA / f"{name}.golden.gguf")
    reference = golden.tensors["logits"]
    ours = shoal.eval(DATA / f"{name}.gguf", golden.tensors["tokens"], "--exact")
    if ours.shape != reference.shape:
        return False, f"logits are {ours.shape}, not {reference.shape}"
    worst = np.abs(ours - reference).max()
    kl = divergence(reference, ours).max()
    bound = max(5e-5, 5 * F64[name])
    return bool(worst <= bound and kl <= KL_MAX), f"max |d| {worst:.1e}, max KL {kl:.1e}"


def main():
    shoal = Shoal(sys.argv[1])
    report = Report()
    for name in sys.argv[2:] or F64:
        report.attempt("golden_" + name, lambda name=name: check(shoal, name))
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
