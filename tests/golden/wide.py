#!/usr/bin/env python3
"""Wide random models of every family: what must not change a bit, and what may by how much.

    wide.py BUILD [--long] [--compiler CC] [--arch NAME]... [--type NAME]... [--case NAME]...
            [--table FILE | --check FILE]

For each family, on 200 tokens, in fast and exact mode, with --long in every tensor type, else in
Q8_0 with fewer variants:

rows       in chunks of 1, 17 and 512, at 1, 2 and 3 threads, beside 7 others: the same bits
tcp        over 2, 3 and 7 stages joined by TCP, also beside 7 others: the same bits
isa        every instruction set of this machine, the scalar definition over fewer tokens: the same
           bits
compiler   --compiler, a build by another one: the same bits
split      5:3, 3:3:2, 1:7 and 2 x 2 in exact mode: max |d| <= 1e-4 x the row's max |logit|; experts
           whole, and by columns in F32 and Q8_0
mixed      5:3 with the ranks on different instruction sets: the bits of 5:3 on one; and again
           beside 7 others in chunks of 17
processes  5:3 over two processes, AVX2 and scalar: every whole value has the same bits in both
           (tests/stage/test_processes.c, which `make test` runs in Q4_0; here with --long)
fast       fast mode against exact mode, without experts (test_choices has those): mean KL <= 5e-3

--table writes what was measured as a Markdown table; cells that this run didn't measure stay.
--check compares what was measured with that table, which must be whole.
"""

import argparse
import pathlib
import random
import sys

import numpy as np

from library import Report, Shoal, build_by, divergence

FAMILIES = ["llama", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma3", "lfm2", "smollm3"]
EXPERTS = ["mixtral", "qwen3moe"]
TYPES = ["F32", "F16", "Q8_0", "Q4_0", "Q4_K"]
SPLIT_TYPES = ["F32", "Q8_0", "Q4_0", "Q4_K"]
COLUMN_TYPES = ["F32", "Q8_0"]
KL_TYPES = ["Q8_0", "Q4_0"]
SPLITS = ["5:3", "3:3:2", "1:7", "4@1:1/4@1:1"]
TOKENS = 200
# The scalar definition computes some 20 tokens a second.
SCALAR_TOKENS = 20
TOLERANCE = 1e-4
KL_MAX = 5e-3
PIPELINES = [["--transport", "tcp", "--split", "4@1/4@1", "--chunk", 17, "--beside", 7],
             ["--transport", "tcp", "--split", "3@1/3@1/2@1"],
             ["--transport", "tcp", "--split", "2@1/1@1/1@1/1@1/1@1/1@1/1@1", "--chunk", 64]]
ROWS = [["--chunk", 1, "--threads", 1], ["--chunk", 17, "--threads", 3, "--beside", 7],
        ["--beside", 7, "--threads", 2]]


def due(family, kind):
    """The columns of the table that apply to a family in a type."""
    found = ["rows", "tcp", "isa", "compiler"]
    if kind in SPLIT_TYPES:
        found += ["split", "mixed", "processes"]
    if kind in COLUMN_TYPES and family in EXPERTS:
        found.append("columns")
    if kind in KL_TYPES and family not in EXPERTS:
        found.append("fast")
    return found


class Wide:
    """The cases of one family in one type, and what they measured."""

    def __init__(self, shoal, other, options, family, kind):
        self.shoal, self.other, self.family, self.kind = shoal, other, family, kind
        self.long = options.long
        self.processes_program = pathlib.Path(options.build) / "tests/stage/test_processes"
        self.scalar_tokens = SCALAR_TOKENS if self.long else SCALAR_TOKENS // 3
        rng = random.Random(f"{family} {kind}")
        self.tokens = [rng.randrange(2003) for _ in range(TOKENS)]
        self.found = {}

    def model(self, *options):
        return self.shoal.synth("-".join([self.family, self.kind, *options]), "--preset", "wide",
                                "--arch", self.family, "--type", self.kind, *options)

    def unchanged(self, base, runs, tokens, shoal=None):
        """(good, detail): every run gives the bits of the plain one, in both modes."""
        for mode in [], ["--exact"]:
            plain = self.shoal.eval_hash(self.model(), tokens, *mode, *base)
            for options in runs:
                got = (shoal or self.shoal).eval_hash(self.model(), tokens, *mode, *options)
                if got != plain:
                    return False, f"{' '.join(map(str, mode + options))} gives other bits"
        return True, f"{2 * len(runs)} runs like the plain ones"

    def rows(self):
        return self.unchanged([], ROWS if self.long else ROWS[1:2], self.tokens)

    def tcp(self):
        return self.unchanged([], PIPELINES if self.long else PIPELINES[::2], self.tokens)

    def isa(self):
        sets = [["--isa", "avx2"], ["--isa", "scalar"]]
        return self.unchanged([], sets, self.tokens[:self.scalar_tokens])

    def compiler(self):
        return self.unchanged([], [[]], self.tokens, self.other)

    def mixed(self):
        few = self.tokens[:self.scalar_tokens]
        good, detail = self.unchanged(["--split", "5:3"],
                                      [["--split", "5:3", "--isa", "avx2,scalar"]], few)
        if not good:
            return good, detail
        return self.unchanged(["--split", "5:3"],
                              [["--split", "5:3", "--beside", 7, "--chunk", 17]], self.tokens)

    def processes(self):
        self.shoal.run(self.processes_program, self.family, self.kind)
        return True, "every whole value the same"

    def split(self, options=()):
        one = self.shoal.eval(self.model(), self.tokens, "--exact")
        worst = 0.0
        for split in SPLITS:
            many = self.shoal.eval(self.model(), self.tokens, "--exact", "--split", split, *options)
            worst = max(worst, (np.abs(one - many).max(axis=1) / np.abs(one).max(axis=1)).max())
        self.found["columns" if options else "split"] = f"{worst:.1e}"
        return bool(worst <= TOLERANCE), f"max |d| {worst:.1e} of the row's max |logit|"

    def fast(self):
        # With a tied matrix a random model is sure of the token it just saw: too easy.
        model = self.model("--untied")
        exact = self.shoal.eval(model, self.tokens, "--exact")
        fast = self.shoal.eval(model, self.tokens)
        model.unlink()
        kl = divergence(exact, fast).mean()
        self.found["fast"] = f"{kl:.1e}"
        return bool(kl <= KL_MAX), f"mean KL {kl:.1e}"

    def columns(self):
        return self.split(["--expert-columns"])

    def cases(self):
        """Names and functions of what is due and can be measured in this run."""
        return {what: getattr(self, what) for what in due(self.family, self.kind)
                if (what != "compiler" or self.other) and (what != "processes" or self.long)}

    def run(self, report, wanted):
        for what, function in self.cases().items():
            if wanted and what not in wanted:
                continue
            before = report.failed
            report.attempt(f"wide_{self.family}_{self.kind}_{what}", function)
            if what not in self.found:
                self.found[what] = "same bits" if report.failed == before else "DIFFER"
        self.model().unlink()


HEAD = """# Exactness

What `tests/golden/wide.py BUILD --long --compiler clang --table docs/exactness.md` measured, BUILD
being by gcc. `make test` measures every family in Q8_0 again and compares this table with what it
finds; `make test-long` measures all of it. The models are `shoal-synth --preset wide`: 8 layers,
width 512, 16 heads on 8 KV heads, FFN 768, vocabulary 2,003; qwen3moe 16 experts of width 256, 4
used; mixtral 8, 2 used; gemma3 window 64; lfm2 attends in layers 2, 5 and 7. Sequences have 200
tokens, the scalar instruction set's 20.

- **rows**: fast and exact mode, in chunks of 1, 17 and 512, at 1, 2 and 3 threads, beside 7 other
  sequences that join and leave: all logits the same bits.
- **tcp**: fast and exact mode over 2, 3 and 7 stages joined by TCP, also beside 7 others: the same
  bits.
- **isa**: fast and exact mode on AVX2 and on scalar: the bits of the best instruction set.
- **compiler**: fast and exact mode by gcc and by clang: the same bits.
- **split**: exact mode in 5:3, 3:3:2, 1:7 and 2 x 2, largest difference from one device as a share
  of the row's largest |logit| (at most 1e-4).
- **columns**: the same with columns of every expert instead of whole experts.
- **mixed**: 5:3 with one rank on AVX2 and one on scalar, and beside 7 others in chunks of 17: the
  bits of 5:3.
- **processes**: 5:3 over two processes joined by TCP, one on AVX2 and one on scalar, fast and exact
  mode: the residual after each layer, the chosen experts and whatever else both hold whole have the
  same bits at each of 20 tokens.
- **fast**: mean KL of fast mode from exact mode on the same file, with an output matrix of its own
  (at most 5e-3). For families with experts `tests/model/test_choices.c` counts the choices of
  experts that differ, of those that no other one led to (1.4 to 2.8 %, as many as the gaps between
  the router's logits make inevitable), and takes the KL before the first one (6e-4).

"""
COLUMNS = ["rows", "tcp", "isa", "compiler", "split", "columns", "mixed", "processes", "fast"]
# Measured cells have two digits.
ROUNDING = 0.06


def read_table(path):
    """{(family, type): {column: cell}} of an earlier run."""
    old = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 2 + len(COLUMNS) and cells[0] in FAMILIES:
            old[cells[0], cells[1]] = dict(zip(COLUMNS, cells[2:]))
    return old


def write_table(path, results):
    table = read_table(path)
    for w in results:
        table.setdefault((w.family, w.kind), {}).update(w.found)
    lines = [f"| {' | '.join(['family', 'type', *COLUMNS])} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for key in [(f, t) for f in FAMILIES for t in TYPES]:
        if key in table:
            cells = [table[key].get(c, "") for c in COLUMNS]
            lines.append(f"| {' | '.join([*key, *cells])} |")
    path.write_text(HEAD + "\n".join(lines) + "\n")


def equal_cells(a, b):
    if "e-" not in a or "e-" not in b:
        return a == b
    return abs(float(a) - float(b)) <= ROUNDING * float(a)


def check_table(path, results):
    """(good, detail): the table is what this script writes, whole, and says what was measured."""
    table = read_table(path)
    if not path.read_text().startswith(HEAD):
        return False, f"{path} has another text: write it with --table"
    for family in FAMILIES:
        for kind in TYPES:
            row = table.get((family, kind), {})
            bad = [c for c in due(family, kind) if row.get(c, "") in ("", "DIFFER")]
            if bad:
                return False, f"{family} {kind}: no good result for {', '.join(bad)}"
    for w in results:
        for column, cell in w.found.items():
            said = table[w.family, w.kind][column]
            if not equal_cells(said, cell):
                return False, f"{w.family} {w.kind} {column}: {cell}, the table says {said}"
    return True, f"{len(table)} rows, {sum(len(w.found) for w in results)} cells measured again"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--compiler")
    parser.add_argument("--arch", action="append", choices=FAMILIES)
    parser.add_argument("--type", action="append", choices=TYPES)
    parser.add_argument("--case", action="append", choices=COLUMNS)
    parser.add_argument("--table", type=pathlib.Path)
    parser.add_argument("--check", type=pathlib.Path)
    a = parser.parse_args()
    shoal, report = Shoal(a.build), Report()
    other = build_by(a.build, a.compiler) if a.compiler else None
    results = []
    for family in a.arch or FAMILIES:
        for kind in a.type or (TYPES if a.long else ["Q8_0"]):
            results.append(Wide(shoal, other, a, family, kind))
            results[-1].run(report, a.case)
            if a.table:
                write_table(a.table, results)
    if a.check:
        report.attempt("wide_table", lambda: check_table(a.check, results))
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
