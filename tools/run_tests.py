#!/usr/bin/env python3
"""Builds and runs the tests of a meson build folder and counts their cases.

    run_tests.py BUILD [--suite NAME]... [--jobs N]

A test that prints its cases (cmocka, or the lines of tests/e2e and tests/golden) is counted by
cases, any other as one. Skipped cases are counted with their reasons. The last line is

    N passed, N failed, N skipped

and the exit code is 1 if anything failed.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time

# cmocka's standard output, and the same form from our python tests.
CASE = re.compile(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (\S+)")
REASON = re.compile(r"^(?:skip(?:ped)?: )?(.*)")
DEFAULT_SUITES = ["unit", "simulation", "fuzz", "golden", "e2e"]


def count_cases(text):
    """(passed names, failed names, skipped names, reasons) of one test's output."""
    passed, failed, skipped, reasons = [], [], [], []
    said = ""
    for line in text.splitlines():
        match = CASE.match(line)
        if not match and line.strip() and not line.startswith("["):
            said = REASON.match(line).group(1)
        # cmocka repeats the failed and skipped names after its summary.
        if match and "test(s), listed below" not in line:
            kind, name = match.groups()
            if name.rstrip(":").isdigit():
                continue
            into = {"OK": passed, "FAILED": failed, "SKIPPED": skipped}[kind]
            if name not in into:
                into.append(name)
                if kind == "SKIPPED":
                    # A test says why just before it skips.
                    reasons.append(said or "no reason given by " + name)
    return passed, failed, skipped, reasons


def show_failure(name, result, text):
    print(f"--- {name} failed ({result}); the end of its output:")
    for line in text.splitlines()[-40:]:
        print("    " + line)


def run_meson(build, suites, jobs):
    command = ["meson", "test", "-C", build, "--no-rebuild", "--logbase", "testlog",
               "--timeout-multiplier", "4"]  # shared machines: a limit only ends a hang
    for suite in suites:
        command += ["--suite", suite]
    if jobs:
        command += ["--num-processes", str(jobs)]
    log = pathlib.Path(build) / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # One line a test as it ends; meson's own summary is left out.
    tail = collections.deque(maxlen=20)
    for line in process.stdout:
        tail.append(line)
        if re.match(r"\s*\d+/\d+ ", line):
            print(line.rstrip(), flush=True)
    process.wait()
    if not log.exists():
        print("".join(tail))
        return []
    return [json.loads(line) for line in log.read_text().splitlines()]


def gather_real_models(build):
    """SHOAL_MODELS: one folder with links to the real models that were fetched, if any was."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    found = sorted((cache / "shoal" / "models").glob("*/*.gguf"))
    folder = pathlib.Path(build).resolve() / "real-models"
    if "SHOAL_MODELS" in os.environ or not found:
        return
    folder.mkdir(exist_ok=True)
    for path in found:
        link = folder / path.name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    os.environ["SHOAL_MODELS"] = str(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--suite", action="append")
    parser.add_argument("--jobs", type=int)
    arguments = parser.parse_args()
    start = time.monotonic()
    # Both would hide which libraries are used.
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
    os.environ.setdefault("CMOCKA_MESSAGE_OUTPUT", "STDOUT")
    built = subprocess.run(["ninja", "-C", arguments.build], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
    if built.returncode:
        print(built.stdout[-6000:])
        print("the build failed\n0 passed, 1 failed")
        return 1
    print(f"built in {time.monotonic() - start:.0f} s", flush=True)
    gather_real_models(arguments.build)
    tests = run_meson(arguments.build, arguments.suite or DEFAULT_SUITES, arguments.jobs)
    n_passed = n_failed = n_skipped = 0
    why = collections.Counter()
    for test in tests:
        text = test.get("stdout", "") + test.get("stderr", "")
        passed, failed, skipped, reasons = count_cases(text)
        bad = test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL")
        if bad:
            show_failure(test["name"], test["result"], text)
        if test["result"] == "SKIP" and not skipped:
            skipped = [test["name"]]
            reasons = [(text.strip().splitlines() or ["no reason given"])[-1]]
        if not (passed or failed or skipped) and not bad:
            passed = [test["name"]]
        n_passed += len(passed)
        n_failed += max(len(failed), 1) if bad else 0
        n_skipped += len(skipped)
        why.update(reasons)
    if not tests:
        print("no tests were run")
        n_failed += 1
    for reason, n in why.items():
        print(f"skipped {n}: {reason}")
    print(f"took {time.monotonic() - start:.0f} s")
    print(f"{n_passed} passed, {n_failed} failed, {n_skipped} skipped")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
