"""What the logit tests share: reading tensors, running `shoal eval`, comparing, reporting.

Reports have cmocka's form, so that tools/run_tests.py counts every case:

    [       OK ] name
    [  FAILED  ] name: why
    skip: why
    [  SKIPPED ] name
"""

import hashlib
import math
import os
import pathlib
import struct
import subprocess
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "data" / "golden"
# Of one run of `shoal eval`; far above what any of them takes on two slow cores.
EVAL_SECONDS = 900

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
           11: "<q", 12: "<d"}
TENSORS = {0: np.float32, 26: np.int32}


class Gguf:
    """Metadata and F32 / I32 tensors of a GGUF file that we trust (our own test data)."""

    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        self.at = 0
        magic, _, n_tensors, n_keys = self.take("<IIQQ")
        assert magic == 0x46554747, path
        self.keys = {}
        for _ in range(n_keys):
            name = self.text()
            self.keys[name] = self.value(self.take("<I")[0])
        infos = [self.info() for _ in range(n_tensors)]
        align = self.keys.get("general.alignment", 32)
        start = (self.at + align - 1) // align * align
        self.tensors = {}
        for name, dims, kind, offset in infos:
            if kind in TENSORS:
                n = math.prod(dims)
                flat = np.frombuffer(self.data, TENSORS[kind], n, start + offset)
                self.tensors[name] = flat.reshape(dims[::-1])

    def take(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        n = self.take("<Q")[0]
        self.at += n
        return self.data[self.at - n:self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            of, n = self.take("<IQ")
            return [self.value(of) for _ in range(n)]
        return self.take(SCALARS[kind])[0]

    def info(self):
        name = self.text()
        dims = self.take("<" + "Q" * self.take("<I")[0])
        kind, offset = self.take("<IQ")
        return name, dims, kind, offset


class Shoal:
    """Runs the program; files go to a folder that ends with the object."""

    def __init__(self, build):
        self.program = pathlib.Path(build) / "src" / "cli" / "shoal"
        self.synth_program = pathlib.Path(build) / "tools" / "shoal-synth"
        self.folder = tempfile.TemporaryDirectory(prefix="shoal-test-")
        self.path = pathlib.Path(self.folder.name)
        self.count = 0

    def run(self, *arguments, text=None):
        """Standard output; raises with the program's own words if it fails."""
        r = subprocess.run([str(a) for a in arguments], input=text, capture_output=True, text=True,
                           timeout=EVAL_SECONDS)
        if r.returncode:
            raise RuntimeError(f"{' '.join(map(str, arguments))}: exit code {r.returncode}: "
                               f"{r.stderr.strip()[-500:]}")
        return r.stdout

    def eval_file(self, model, tokens, *options):
        """Path of the logits of these token ids, float32 (tokens, vocabulary)."""
        self.count += 1
        ids = self.path / f"{self.count}.tokens"
        out = self.path / f"{self.count}.f32"
        ids.write_text(" ".join(str(int(t)) for t in tokens) + "\n")
        self.run(self.program, "eval", model, "--tokens", ids, "--logits", out, *options)
        return out

    def eval(self, model, tokens, *options):
        out = self.eval_file(model, tokens, *options)
        logits = np.fromfile(out, "<f4").reshape(len(tokens), -1)
        out.unlink()
        return logits

    def eval_hash(self, model, tokens, *options):
        """SHA-256 of the logits' bytes."""
        out = self.eval_file(model, tokens, *options)
        h = hashlib.sha256()
        with open(out, "rb") as f:
            while block := f.read(1 << 22):
                h.update(block)
        out.unlink()
        return h.hexdigest()

    def synth(self, name, *options):
        """Path of a synthetic model, made once."""
        path = self.path / f"{name}.gguf"
        if not path.exists():
            self.run(self.synth_program, *options, path)
        return path


def build_by(build, compiler):
    """The Shoal of a second build, by another compiler, inside the build folder."""
    folder = pathlib.Path(build) / f"by-{pathlib.Path(compiler).name}"
    commands = [["ninja", "-C", folder, "src/cli/shoal", "tools/shoal-synth"]]
    if not (folder / "build.ninja").exists():
        commands.insert(0, ["meson", "setup", folder, ROOT, "-Dtests=disabled"])
    for command in commands:
        r = subprocess.run([str(c) for c in command], env={**os.environ, "CC": str(compiler)},
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode:
            raise RuntimeError(f"{command[0]} by {compiler} failed:\n{r.stdout[-3000:]}")
    return Shoal(folder)


def softmax_log(logits):
    """log softmax of each row, in double."""
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def divergence(reference, ours):
    """KL(reference || ours) of each row, in double; blocks of rows bound the memory."""
    out = []
    for i in range(0, len(reference), 16):
        p, q = softmax_log(reference[i:i + 16]), softmax_log(ours[i:i + 16])
        out.append((np.exp(p) * (p - q)).sum(axis=1))
    return np.concatenate(out)


class Report:
    """Counts cases and prints each as it ends."""

    def __init__(self):
        self.failed = self.passed = self.skipped = 0
        self.start = time.monotonic()

    def case(self, name, good, detail=""):
        now = time.monotonic()
        if good:
            self.passed += 1
            print(f"[       OK ] {name} ({detail}; {now - self.start:.1f} s)", flush=True)
        else:
            self.failed += 1
            print(f"[  FAILED  ] {name}: {detail}", flush=True)
        self.start = now

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip: {why}\n[  SKIPPED ] {name}", flush=True)

    def attempt(self, name, function):
        """function() gives (good, detail); what it raises is a failure."""
        try:
            good, detail = function()
        except (RuntimeError, subprocess.TimeoutExpired, ValueError, OSError) as e:
            good, detail = False, str(e)
        self.case(name, good, detail)

    def exit_code(self):
        if self.failed:
            return 1
        return 77 if self.skipped and not self.passed else 0


def real_model(name):
    """Path of a fetched real model, or None: tools/fetch_model.sh puts it there."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    found = sorted((cache / "shoal" / "models" / name).glob("*.gguf"))
    return found[0] if found else None


def conformance():
    folder = os.environ.get("SHOAL_CONFORMANCE")
    return pathlib.Path(folder) if folder else None
