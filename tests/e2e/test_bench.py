#!/usr/bin/env python3
"""`shoal bench` of a tiny model, every part once: test_bench.py BUILD [TEST]..."""

import json
import pathlib
import subprocess
import sys

import models
from harness import expect, run_tests

RUN_SECONDS = 200
TRANSPORTS = ["memory", "shm", "tcp", "tcp-sealed"]
STREAMS = [1, 2, 4, 8, 16]


def bench(program, *arguments):
    """(exit code, standard output, standard error)."""
    r = subprocess.run([program, "bench", *map(str, arguments)], capture_output=True, text=True,
                       timeout=RUN_SECONDS)
    return r.returncode, r.stdout, r.stderr


def check_figures(row, at):
    """Every measured figure is positive and its median lies within its spread."""
    for key, value in row.items():
        if isinstance(value, dict):
            expect(0 < value["min"] <= value["median"] <= value["max"], f"{at}: {key} is {value}")


def every_part_is_in_the_object(c):
    code, out, err = bench(c.program, c.model, "--json", "--rounds", 1, "--prefill", 64,
                           "--threads", 1)
    expect(code == 0 and not err, f"exit code {code}: {err}")
    r = json.loads(out)
    expect(r["rounds"] == 1 and r["cores"] >= 1 and r["isa"], f"head: {out[:400]}")
    expect(r["weight_bytes_per_token"] > 0, "no bytes a token")
    for part in ("limits", "kernels", "model", "splits", "streams"):
        expect(r[part], f"{part} is empty")
        for row in r[part]:
            check_figures(row, part)
    expect([t["threads"] for t in r["model"]] == [1], f"threads: {r['model']}")
    expect(len({k["type"] for k in r["kernels"]}) == len(r["kernels"]) > 10, "types of kernels")
    expect([(s["split"], s["transport"]) for s in r["splits"]] ==
           [(s, t) for s in ("tensor", "pipeline") for t in TRANSPORTS], f"splits: {r['splits']}")
    expect([s["streams"] for s in r["streams"]] == STREAMS, f"streams: {r['streams']}")


def parts_are_printed_as_tables(c):
    code, out, err = bench(c.program, c.model, "--only", "model", "--rounds", 2, "--prefill", 64)
    expect(code == 0 and not err, f"exit code {code}: {err}")
    lines = out.splitlines()
    expect(any("decode tokens/s" in line and "of the read" in line for line in lines), out)
    expect("GEMV" not in out and "streams" not in out, f"more than the model: {out}")


def a_prompt_beyond_the_context_is_refused(c):
    code, out, err = bench(c.program, c.model, "--prefill", 1024)
    expect(code == 1 and "context of 1024 tokens" in err, f"exit code {code}: {err}")


class Context:
    def __init__(self):
        build = pathlib.Path(sys.argv[1])
        self.program = build / "src" / "cli" / "shoal"
        self.model = models.folder(build) / "tiny.gguf"


if __name__ == "__main__":
    sys.exit(run_tests([every_part_is_in_the_object, parts_are_printed_as_tables,
                        a_prompt_beyond_the_context_is_refused], Context))
