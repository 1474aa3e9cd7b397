"""GGUF files that differ from another one in what a header doesn't show, and the same model in
other files: made from a file's own bytes."""

import pathlib
import struct

# Bytes of scalar metadata types; 8 is a text, 9 an array.
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALIGNMENT = 32


class Gguf:
    """Where the parts of a GGUF file lie."""

    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        self.at = 8
        n_tensors, n_keys = self.number("Q"), self.number("Q")
        start = self.at
        for _ in range(n_keys):
            self.text()
            self.value(self.number("I"))
        self.n_keys, self.keys = n_keys, self.data[start:self.at]
        self.tensors = []  # (name, description without its offset, offset)
        for _ in range(n_tensors):
            begin = self.at
            name = self.text().decode()
            dims = self.number("I")
            self.at += 8 * dims + 4
            self.tensors.append((name, self.data[begin:self.at], self.number("Q")))
        self.base = -(-self.at // ALIGNMENT) * ALIGNMENT

    def number(self, kind):
        size = struct.calcsize(kind)
        self.at += size
        return struct.unpack("<" + kind, self.data[self.at - size:self.at])[0]

    def text(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at]

    def value(self, kind):
        if kind == 8:
            self.text()
        elif kind == 9:
            kind, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.value(kind)
        else:
            self.at += SCALARS[kind]

    def place(self, name):
        """The first byte of a tensor in the file, and how many there are."""
        starts = sorted(t[2] for t in self.tensors) + [len(self.data) - self.base]
        start = next(t[2] for t in self.tensors if t[0] == name)
        return self.base + start, starts[starts.index(start) + 1] - start

    def tensor(self, name):
        start, size = self.place(name)
        return self.data[start:start + size]


def other(path, to, tensor, at=0.5, most=None):
    """The same file but for bytes of one tensor: in its middle (at), every 34th of the 340 there
    (a Q8_0 block has 34 bytes: one weight each), or only `most` of them."""
    g = Gguf(path)
    start, size = g.place(tensor)
    data = bytearray(g.data)
    first = start + int(size * at) // 34 * 34 + 20
    for i in range(first, min(first + 340, start + size), 34)[:most]:
        data[i] ^= 0x10
    pathlib.Path(to).write_bytes(data)


def _key(name, kind, value):
    return (struct.pack("<Q", len(name)) + name.encode() +
            {"H": struct.pack("<IH", 2, value), "i": struct.pack("<Ii", 5, value)}[kind])


def split(path, folder, name, parts):
    """The same model as NAME-0000k-of-0000n.gguf in the folder; returns their paths."""
    g = Gguf(path)
    each = -(-len(g.tensors) // parts)
    paths = []
    for i in range(parts):
        mine = g.tensors[i * each:(i + 1) * each]
        keys = (_key("split.no", "H", i) + _key("split.count", "H", parts) +
                _key("split.tensors.count", "i", len(g.tensors)))
        n_keys, keys = (g.n_keys + 3, g.keys + keys) if i == 0 else (3, keys)
        table, body = b"", b""
        for tensor, description, _ in mine:
            table += description + struct.pack("<Q", len(body))
            body += g.tensor(tensor)
            body += bytes(-len(body) % ALIGNMENT)
        head = g.data[:8] + struct.pack("<QQ", len(mine), n_keys) + keys + table
        to = pathlib.Path(folder) / f"{name}-{i + 1:05d}-of-{parts:05d}.gguf"
        to.write_bytes(head + bytes(-len(head) % ALIGNMENT) + body)
        paths.append(to)
    return paths
