#!/usr/bin/env python3
"""Checks what a compiler doesn't: layers, banned functions, lengths, docstrings, format.

    lint.py [FILE]...     all tracked .c and .h files without arguments

Prints FILE:LINE: what, and exits with 1 if there was anything. The code is laid out by
clang-format, so that functions begin and end at column 0: no parser is needed.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_LINES = 800
FUNCTION_LINES = 60
PARAMETERS = 6

BANNED = {
    "strcpy": "snprintf or memcpy", "strcat": "snprintf", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "strtok": "a cursor", "atoi": "strtol with checks",
    "atol": "strtol with checks", "atof": "strtod with checks", "gets": "fgets",
    "system": "nothing", "rand": "base/random.h", "srand": "base/random.h",
    "alloca": "an arena",
}
# The operating system is known to these layers only.
OS_HEADER = re.compile(r'^#include <((?:unistd|pthread|fcntl|poll|dirent|termios|ifaddrs)\.h'
                       r'|(?:sys|linux)/.*)>')
OS_LAYERS = {"os", "transport", "peer", "secure", "discover"}
# All that a command prints goes through one file, which makes texts from outside fit to be shown.
PRINTS = re.compile(r"\b(stdout|stderr|f?printf|vf?printf|f?puts|f?putc|putchar|json_dumpf|perror)\b")
PRINTER = "src/cli/print.c"
INCLUDE = re.compile(r'^#include "([a-z0-9_]+)/([^"]+)"')
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
# A prototype in a header, at column 0, that ends with ");" or an attribute.
PROTOTYPE = re.compile(r"^(?!typedef|static|#|extern)[a-z][A-Za-z0-9_ \*]*?\b([a-z_0-9]+)\(")


def read_layers():
    layers = {}
    for line in (ROOT / "tools/layers.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            name, _, allowed = line.partition(":")
            layers[name.strip()] = set(allowed.split())
    return layers


def find_cycle(layers):
    """A layer that reaches itself, or None."""
    for start in layers:
        seen, todo = set(), list(layers[start])
        while todo:
            layer = todo.pop()
            if layer == start:
                return start
            if layer not in seen:
                seen.add(layer)
                todo += layers.get(layer, ())
    return None


def blank(text):
    """The text with comments and strings replaced by spaces, line breaks kept."""
    return COMMENT_OR_STRING.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def count_parameters(text):
    """Top-level commas of a parameter list that begins after text's first bracket."""
    depth = n = 0
    for i, c in enumerate(text):
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth == 0:
                inside = text[text.index("(") + 1:i].strip()
                return 0 if inside in ("", "void") else n + 1
        elif c == "," and depth == 1:
            n += 1
    return 0


class File:
    def __init__(self, path, layers):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()
        self.lines = self.text.splitlines()
        self.code = blank(self.text).splitlines()
        self.layers = layers
        parts = path.relative_to(ROOT).parts
        self.layer = parts[1] if parts[0] == "src" else None
        self.found = []

    def report(self, line, what):
        self.found.append(f"{self.name}:{line}: {what}")

    def check_layers(self):
        if self.layer is None:
            return
        if self.layer not in self.layers:
            self.report(1, f"layer {self.layer} is not in tools/layers.txt")
            return
        allowed = self.layers[self.layer] | {self.layer, "base"}
        for i, line in enumerate(self.lines, 1):
            match = INCLUDE.match(line)
            if match and match.group(1) not in allowed:
                self.report(i, f"{self.layer} must not include {match.group(1)} (tools/layers.txt)")
            if match and match.group(2) == "internal.h" and match.group(1) != self.layer:
                self.report(i, f"{match.group(1)}/internal.h is for {match.group(1)} only")
            if self.layer not in OS_LAYERS and (match := OS_HEADER.match(line)):
                self.report(i, f"<{match.group(1)}> belongs to os, transport, peer or secure")
            if re.match(r"#include .*\.\./", line):
                self.report(i, "include by the layer's name, not by ..")

    def check_words(self):
        calls = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
        for i, line in enumerate(self.code, 1):
            for match in calls.finditer(line):
                self.report(i, f"{match.group(1)} is banned: use {BANNED[match.group(1)]}")
            if self.layer and self.layer != "os" and re.search(r"\bgetenv\s*\(", line):
                self.report(i, "getenv belongs to os/env.c")
            if self.layer == "cli" and self.name != PRINTER and (match := PRINTS.search(line)):
                self.report(i, f"{match.group(1)} belongs to {PRINTER}: use print_...")
        for i, line in enumerate(self.lines, 1):
            if match := UNFINISHED.search(line):
                self.report(i, f"{match.group(1)}: finish it or file it")

    def check_lengths(self):
        tables = self.path.suffix in (".inc", ".def")  # rule 3: exempt
        if len(self.lines) > FILE_LINES and not tables:
            self.report(1, f"{len(self.lines)} lines, more than {FILE_LINES}")
        if self.path.suffix != ".c" and self.path.suffix != ".inc":
            return
        i = 0
        while i < len(self.code):
            if self.code[i].rstrip() != "{":
                i += 1
                continue
            end = next((j for j in range(i, len(self.code)) if self.code[j].startswith("}")), i)
            # The head: back to the line after the last blank, comment, brace or statement.
            begin = i
            while begin > 0 and self.code[begin - 1].strip() and not re.search(
                    r"[;}]\s*$|^#|\\$", self.code[begin - 1]):
                begin -= 1
            head = " ".join(self.code[begin:i])
            match = re.search(r"\b(\w+)\s*\(", head)
            name = match.group(1) if match else "?"
            n = end - begin + 1
            if n > FUNCTION_LINES and match:
                self.report(begin + 1, f"{name} has {n} lines, more than {FUNCTION_LINES}")
            # Kernels' inner functions take their operands one by one: they live in registers.
            if match and self.path.suffix != ".inc" and \
                    count_parameters(head[match.start():]) > PARAMETERS:
                self.report(begin + 1, f"{name} has more than {PARAMETERS} parameters")
            i = end + 1

    def check_docstrings(self):
        """Each public prototype stands under a comment, or under a prototype that does."""
        if self.path.suffix != ".h" or self.layer is None or self.path.name.endswith("internal.h"):
            return
        documented = False
        comment = False
        statement = False
        for i, (line, code) in enumerate(zip(self.lines, self.code), 1):
            text = line.strip()
            if not text:
                documented = False
            elif comment or text.startswith("/*"):
                comment = "*/" not in text
                documented = True
            elif (match := PROTOTYPE.match(code)) and not statement:
                if not documented and "/*" not in line:
                    self.report(i, f"{match.group(1)} has no docstring")
            elif text.startswith(("struct", "enum", "typedef", "#", "union")) and not statement:
                documented = documented and not text.startswith("#")
            statement = bool(code.strip()) and not re.search(r"[;{}]\s*$", code) and not code.startswith("#")

    def check(self):
        self.check_layers()
        self.check_words()
        self.check_lengths()
        self.check_docstrings()
        return self.found


def check_format(paths):
    """clang-format's findings, one line each; empty where it isn't installed."""
    try:
        r = subprocess.run(["clang-format", "--dry-run", "--Werror", *map(str, paths)],
                           capture_output=True, text=True, cwd=ROOT)
    except FileNotFoundError:
        print("clang-format is not installed: format not checked")
        return []
    lines = [line for line in r.stderr.splitlines() if "clang-format-violations" in line]
    first = {}
    for line in lines:
        name, number = line.split(":")[:2]
        first.setdefault(name, number)
    return [f"{pathlib.Path(n).relative_to(ROOT) if n.startswith('/') else n}:{k}: make format"
            for n, k in first.items()]


def main():
    layers = read_layers()
    if len(sys.argv) > 1:
        paths = [pathlib.Path(a).resolve() for a in sys.argv[1:]]
    else:
        listed = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.inc"], cwd=ROOT,
                                capture_output=True, text=True, check=True).stdout
        paths = [ROOT / line for line in listed.splitlines() if (ROOT / line).exists()]
    found = []
    if (cycle := find_cycle(layers)):
        found.append(f"tools/layers.txt: {cycle} reaches itself")
    for path in paths:
        found += File(path, layers).check()
    found += check_format([p for p in paths if p.suffix in (".c", ".h")])
    print("\n".join(found) if found else f"lint: {len(paths)} files, nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
