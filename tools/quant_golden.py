#!/usr/bin/env python3
"""Writes tests/quant/golden.inc: what the `gguf` Python package makes of blocks of every type.

Usage: quant_golden.py > tests/quant/golden.inc        (needs: pip install gguf numpy)

The blocks come from a counter through SplitMix64 (base/random.h: random_at(type id, word)), so the
test makes the same ones. Halves (scales) are made finite by clearing the exponent's top bit. Of
each type stand here the FNV-1a hash of all f32 bits and the first weights of the first block."""
import gguf
import numpy as np

MASK = (1 << 64) - 1
BLOCKS = 1024
# type: offsets of the halves in a block
TYPES = {
    "F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def words(seed, n):
    base = mix((seed + 0x9E3779B97F4A7C15) & MASK)
    return [mix((base + i * 0x9E3779B97F4A7C15) & MASK) for i in range(n)]


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def main():
    print("/* Made by tools/quant_golden.py with gguf", end=" ")
    print("(Python package); do not edit.")
    print(" * GOLDEN(type, hash of the f32 bits of 1024 blocks, the first four weights' bits) */")
    for name, halves in TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        total = BLOCKS * size
        raw = np.array(words(int(kind), (total + 7) // 8), dtype="<u8").view(np.uint8)[:total]
        blocks = raw.reshape(BLOCKS, size).copy()
        if name == "F32" or name == "BF16":
            blocks[:, size - 1] &= 0xBF  # no NaN: their payloads are no part of the format
        for at in halves:
            blocks[:, at + 1] &= 0xBF
        values = gguf.dequantize(blocks, kind).astype("<f4").reshape(-1)
        first = ", ".join(f"0x{v:08x}" for v in values[:4].view("<u4"))
        print(f"GOLDEN({name}, 0x{fnv(values.tobytes()):016x}, {first})")


if __name__ == "__main__":
    main()
