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
    "alloca": "an arena", "memrchr": "bytes_find_last",
}
# The operating system is known to these layers only.
OS_HEADER = re.compile(r'^#include <((?:unistd|pthread|fcntl|poll|dirent|termios|ifaddrs)\.h'
                       r'|(?:sys|linux)/.*)>')
OS_LAYERS = {"os", "transport", "peer", "secure", "discover"}
# All that a command prints goes through one file, which makes texts from outside fit to be shown.
PRINTS = re.compile(r"\b(stdout|stderr|f?printf|vf?printf|f?puts|f?putc|putchar|json_dumpf|perror)\b")
PRINTER = "src/cli/print.c"
# What turns recipes and programs into work knows no model family: those stand in one table.
FAMILIES = re.compile(r"\b(?:" + "|".join(re.findall(
    r"^FAMILY\((\w+)", (ROOT / "src/model/families/families.def").read_text(), re.M)) + r")\b")
NO_FAMILIES = ("src/quant/", "src/gguf/", "src/kernels/", "src/graph/", "src/backend/",
               "src/model/blocks/", "src/model/builder.", "src/model/recipe.", "src/model/model.")
COMMENT = re.compile(r"/\*.*?\*/", re.S)
INCLUDE = re.compile(r'^#include "([a-z0-9_]+)/([^"]+)"')
STRUCT = re.compile(r"^struct (\w+) \{", re.M)
# A function that other files can see, and a name that is used as a value or called.
DEFINITION = re.compile(r"^(?!static|typedef)[a-z][^;{}#]*?\b(\w+)\([^;{}]*\)\s*\n\{", re.M)
USE = re.compile(r"(?<![.>\w])(?<!enum )(?<!struct )([a-z_]\w+)\b(?!\s*:)")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
# A prototype in a header, at column 0, that ends with ");" or an attribute.
PROTOTYPE = re.compile(r"^(?!typedef|static|#|extern)[a-z][A-Za-z0-9_ \*]*?\b([a-z_0-9]+)\(")


def read_layers():
    """Layer -> layers that it may include, and the (kind, layer) that still have circles."""
    layers, exempt = {}, set()
    for line in (ROOT / "tools/layers.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        name, _, listed = line.partition(":")
        if name.startswith("circles of "):
            exempt |= {(name.removeprefix("circles of "), layer) for layer in listed.split()}
        elif line:
            layers[name.strip()] = set(listed.split())
    return layers, exempt


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


def circles(graph):
    """Groups of nodes that reach each other (Tarjan's strongly connected components above one)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(found)


def unit_of(name):
    """A .c and its .h are one; a table or a template (.def, .inc) is one by itself."""
    return re.sub(r"\.[ch]$", "", name)


def include_graph(files):
    """File (a .c with its .h) -> files of the same layer that it includes. A header named
    internal.h or ..._internal.h without a .c only says what several files share: it is none."""
    graph = {}
    sources = {f.unit for f in files if f.path.suffix == ".c"}
    for f in files:
        for line in f.lines:
            match = INCLUDE.match(line)
            if match and match.group(1) == f.layer:
                graph.setdefault(f.unit, set()).add(unit_of(f"{f.layer}/{match.group(2)}"))
        graph.setdefault(f.unit, set()).discard(f.unit)
    shared = {u for u in graph if u.endswith("internal") and u not in sources}
    return {u: to - shared for u, to in graph.items() if u not in shared}


def call_graph(files):
    """File -> files of the same layer whose functions it names: what internal.h hides."""
    defined, graph = {}, {}
    for f in files:
        if f.path.suffix == ".c":
            for match in DEFINITION.finditer("\n".join(f.code)):
                defined.setdefault(match.group(1), f.unit)
    for f in files:
        if f.path.suffix != ".h":
            names = set(USE.findall("\n".join(f.code)))
            graph.setdefault(f.unit, set()).update(defined[n] for n in names if n in defined)
            graph[f.unit].discard(f.unit)
    return graph


def check_circles(files, exempt):
    """Circles of files within a layer. exempt: (kind, layer) -> reported as outdated when clean."""
    found = []
    for layer in sorted({f.layer for f in files if f.layer}):
        of_layer = [f for f in files if f.layer == layer]
        for kind, graph in (("includes", include_graph), ("calls", call_graph)):
            groups = circles(graph(of_layer))
            if groups and (kind, layer) not in exempt:
                found += [f"src/{g[0]}: a circle of {kind}: {', '.join(g)}" for g in groups]
            if not groups and (kind, layer) in exempt:
                found.append(f"tools/layers.txt: {layer} has no circle of {kind} any more: "
                             f"take it off the list")
    return found


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
        self.unit = unit_of("/".join(parts[1:]))
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
            if match and match.group(2).endswith("internal.h"):
                self.check_internal(i, match.group(1), match.group(2))
            if self.layer not in OS_LAYERS and (match := OS_HEADER.match(line)):
                self.report(i, f"<{match.group(1)}> belongs to os, transport, peer or secure")
            if re.match(r"#include .*\.\./", line):
                self.report(i, "include by the layer's name, not by ..")

    def check_internal(self, line, layer, header):
        """Structs of internal.h are their layer's, those of NAME_internal.h the files NAME...'s:
        others may call what it declares, but not look into its structs."""
        owner, _, _ = pathlib.PurePath(header).name.rpartition("_internal.h")
        path = ROOT / "src" / layer / header
        if layer != self.layer:
            self.report(line, f"{layer}/{header} is for {layer} only")
        elif owner and not self.path.name.startswith(owner) and path.exists():
            for name in STRUCT.findall(path.read_text()):
                for i, code in enumerate(self.code, 1):
                    if re.search(rf"\bstruct {name}\b", code):
                        self.report(i, f"struct {name} is for {owner}*.c only ({layer}/{header})")

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

    def check_families(self):
        if not self.name.startswith(NO_FAMILIES):
            return
        code = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), self.text)
        for i, line in enumerate(code.splitlines(), 1):
            if match := FAMILIES.search(line):
                self.report(i, f"a model family's name, {match.group()}: a recipe's data decides")

    def check(self):
        self.check_layers()
        self.check_families()
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


class Planted:
    """A file that isn't there, for the self-test."""

    def __init__(self, unit, suffix, text):
        self.unit, self.layer = unit if suffix in (".c", ".h") else unit + suffix, unit.split("/")[0]
        self.path = pathlib.PurePath(unit + suffix)
        self.lines = text.split("\n")
        self.code = blank(text).split("\n")


def self_test():
    """Planted circles are found, and what only looks like one is not."""
    def planted(*files):
        return check_circles([Planted(*f) for f in files], set())

    function = "int {0}(void)\n{{\n    return {1};\n}}\n".format
    clean = [("x/a", ".c", '#include "x/a.h"\n#include "x/b.h"\n' + function("a_do", "b_do()")),
             ("x/a", ".h", ""), ("x/b", ".h", "int b_do(void);"),
             ("x/b", ".c", '#include "x/b.h"\n' + function("b_do", "s->a_do + t.a_do /* a_do() */"))]
    cases = [
        ("no circle", 0, clean),
        ("two headers", 1, [("x/a", ".h", '#include "x/b.h"'), ("x/b", ".h", '#include "x/a.h"')]),
        ("three files", 1, [("x/a", ".c", '#include "x/b.h"'), ("x/b", ".c", '#include "x/c.h"'),
                            ("x/c", ".h", '#include "x/a.h"'), ("x/b", ".h", "")]),
        ("through a shared header", 0, [("x/internal", ".h", '#include "x/a.h"'), ("x/a", ".h", ""),
                                        ("x/a", ".c", '#include "x/internal.h"')]),
        ("calls behind a shared header", 1, [("x/a", ".c", function("a_do", "b_do()")),
                                             ("x/b", ".c", function("b_do", "a_do()"))]),
        ("a function as a value", 1, [("x/a", ".c", function("a_do", "b_do()")),
                                      ("x/b", ".c", function("b_do", "call(a_do)"))]),
        ("a template beside its header", 0, [("x/a", ".h", ""), ("x/b", ".h", '#include "x/a.h"'),
                                             ("x/a", ".inc", '#include "x/b.h"')]),
        ("two layers", 0, [("x/a", ".c", '#include "y/b.h"'), ("y/b", ".c", '#include "x/a.h"')]),
    ]
    wrong = [name for name, n, files in cases if len(planted(*files)) != n]
    outdated = check_circles([Planted(*f) for f in clean], {("includes", "x")})
    wrong += [] if len(outdated) == 1 else ["an exemption that is no longer needed"]
    print("lint: self-test: " + (", ".join(wrong) + " went wrong" if wrong else "all found"))
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    layers, exempt = read_layers()
    if len(sys.argv) > 1:
        paths = [pathlib.Path(a).resolve() for a in sys.argv[1:]]
    else:
        listed = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.inc"], cwd=ROOT,
                                capture_output=True, text=True, check=True).stdout
        paths = [ROOT / line for line in listed.splitlines() if (ROOT / line).exists()]
    found = []
    if (cycle := find_cycle(layers)):
        found.append(f"tools/layers.txt: {cycle} reaches itself")
    files = [File(path, layers) for path in paths]
    for file in files:
        found += file.check()
    if len(sys.argv) == 1:
        found += check_circles(files, exempt)
    found += check_format([p for p in paths if p.suffix in (".c", ".h")])
    print("\n".join(found) if found else f"lint: {len(paths)} files, nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
