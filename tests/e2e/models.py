"""Small synthetic models for the end-to-end tests, made once in a folder of the build."""

import os
import pathlib
import subprocess

# The synthetic vocabulary's tokens that end an answer, </s> and <|im_end|>, as a logit_bias that
# keeps a sampled answer going.
NEVER_END = {"2": -100, "4": -100}

# name: what shoal-synth is told. Wide enough to be split, small enough to answer at once.
MODELS = {
    "wide": ["--preset", "wide", "--arch", "llama", "--type", "Q8_0", "--seed", "1"],
    "other": ["--preset", "wide", "--arch", "llama", "--type", "Q4_K", "--seed", "2", "--layers",
              "4"],
    "tiny": ["--preset", "tiny", "--arch", "llama", "--type", "F32", "--seed", "4"],
    # Slow enough that loading and prefill can be met on their way.
    "slow": ["--preset", "wide", "--arch", "llama", "--type", "Q8_0", "--seed", "3", "--layers",
             "9", "--width", "1024", "--heads", "16", "--kv-heads", "4", "--ffn", "4096",
             "--context", "8192"],
}


def folder(build):
    """The folder with all of MODELS as NAME.gguf."""
    path = pathlib.Path(build) / "e2e-models"
    path.mkdir(exist_ok=True)
    for name, options in MODELS.items():
        target = path / f"{name}.gguf"
        if not target.exists():
            part = path / f"{name}.{os.getpid()}.part"
            subprocess.run([pathlib.Path(build) / "tools" / "shoal-synth", *options, part],
                           check=True, timeout=120)
            part.rename(target)
    return path
