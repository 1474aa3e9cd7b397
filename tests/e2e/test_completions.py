#!/usr/bin/env python3
"""What shells offer after "shoal", asked of the shells themselves, and the manual page:
test_completions.py BUILD [TEST]..."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from harness import Skipped, expect, run_tests

WAIT_SECONDS = 60
BASH = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shoal; printf '%s\\n' "${COMPREPLY[@]}\""""


class World:
    def __init__(self, build):
        self.shoal = pathlib.Path(build).resolve() / "src/cli/shoal"
        self.temp = tempfile.TemporaryDirectory(prefix="shoal-completions-")
        self.path = pathlib.Path(self.temp.name)
        models = self.path / "data/shoal/models"
        models.mkdir(parents=True)
        (models / "tiny one.gguf").write_bytes(b"x")
        (self.path / "a file.gguf").write_bytes(b"x")
        (self.path / "a folder").mkdir()
        self.env = {**os.environ, "HOME": str(self.path), "XDG_DATA_HOME": str(self.path / "data"),
                    "PATH": f"{self.shoal.parent}:{os.environ['PATH']}"}

    def run(self, *command):
        r = subprocess.run([str(c) for c in command], env=self.env, cwd=self.path, text=True,
                           capture_output=True, timeout=WAIT_SECONDS, stdin=subprocess.DEVNULL)
        expect(r.returncode == 0, f"{command}: {r}")
        expect(r.stderr == "", f"{command}: {r.stderr}")
        return r.stdout

    def commands(self):
        """{name: [option]} as help has them."""
        names = re.findall(r"^  (\w+) ", self.run(self.shoal, "help"), re.M)
        return {n: re.findall(r"^  (--[\w-]+)", self.run(self.shoal, "help", n), re.M) for n in names}

    def script(self, shell):
        if not shutil.which(shell):
            raise Skipped(f"{shell} is not installed")
        path = self.path / f"shoal.{shell}"
        path.write_text(self.run(self.shoal, "completions", shell))
        return path


def bash_offers_all(w):
    script = w.script("bash")
    ask = lambda *words: w.run("bash", "-c", BASH, "bash", script, "shoal", *words).splitlines()
    commands = w.commands()
    expect(ask("") == list(commands), f"{ask('')}")
    expect(ask("in") == ["inspect", "invite"], f"{ask('in')}")
    for name, options in commands.items():
        expect(ask(name, "-") == ["--help", *options], f"{name}: {ask(name, '-')}")
    expect(ask("up", "--home", "a") == ["a folder"], f"{ask('up', '--home', 'a')}")
    expect(ask("up", "--port", "") == [""], "a port")
    expect(ask("up", "--model", "ti") == ["tiny one"], f"{ask('up', '--model', 'ti')}")
    expect(set(ask("inspect", "")) >= {"a file.gguf", "tiny one"}, f"{ask('inspect', '')}")
    expect("status" in ask("help", "s"), f"{ask('help', 's')}")


def fish_offers_all(w):
    script = w.script("fish")
    ask = lambda line: [o.split("\t")[0] for o in
                        w.run("fish", "--no-config", "-c", f"source {script}; complete -C '{line}'")
                        .splitlines()]
    commands = w.commands()
    expect(set(ask("shoal ")) >= set(commands), f"{ask('shoal ')}")
    for name, options in commands.items():
        expect(set(ask(f"shoal {name} --")) >= set(options), f"{name}: {ask(f'shoal {name} --')}")
    expect("tiny one" in ask("shoal run ti"), f"{ask('shoal run ti')}")


def zsh_reads_its_script(w):
    script = w.script("zsh")
    w.run("zsh", "-n", script)
    text = script.read_text()
    for name, options in w.commands().items():
        part = re.search(rf"^    {name}\) (.*?) ;;$", text, re.M | re.S)
        expect(part and all(f"{o}[" in part[1] for o in options), f"{name}: {part and part[1]}")


def the_manual_has_all(w):
    page = w.path / "shoal.1"
    page.write_text(w.run(w.shoal, "manual"))
    if not shutil.which("man"):
        raise Skipped("man is not installed")
    w.env["MANWIDTH"], w.env["LC_ALL"] = "200", "C.UTF-8"
    text = re.sub(".\b", "", w.run("man", "--warnings", "-l", page))
    for name, options in w.commands().items():
        expect(re.search(rf"^ +shoal {name}\b", text, re.M), f"no {name}:\n{text}")
        expect(all(re.search(rf"^ +{o}( |$)", text, re.M) for o in options), f"{name}: {options}")


def help_fits_every_terminal(w):
    for name in ["help", *w.commands()]:
        for line in w.run(w.shoal, "help", name).splitlines():
            expect(len(line) <= 80, f"{name}: {line}")


TESTS = [help_fits_every_terminal, bash_offers_all, fish_offers_all, zsh_reads_its_script, the_manual_has_all]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS, lambda: World(sys.argv[1])))
