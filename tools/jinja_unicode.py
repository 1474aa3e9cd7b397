#!/usr/bin/env python3
"""Writes src/jinja/unicode.inc: the properties of code points that string methods need.

Run: python3 tools/jinja_unicode.py > src/jinja/unicode.inc
Source: Python's str methods, which follow the Unicode character database."""
import sys

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(test):
    out, start, last = [], None, None
    for c in POINTS:
        if test(chr(c)):
            if start is not None and c == last + 1:
                last = c
            else:
                if start is not None:
                    out.append((start, last))
                start = last = c
    if start is not None:
        out.append((start, last))
    return out


def write_ranges(name, test):
    rows = ranges(test)
    print(f"static const struct range {name}[] = {{")
    for i in range(0, len(rows), 5):
        print("    " + " ".join("{ 0x%x, 0x%x }," % r for r in rows[i:i + 5]))
    print("};\n")


def write_deltas(name, method):
    """Runs of single mappings with one difference and one stride."""
    items = [(c, ord(m)) for c in POINTS for m in [method(chr(c))] if len(m) == 1 and ord(m) != c]
    rows = []
    for c, m in items:
        if rows:
            first, last, stride, delta = rows[-1]
            if delta == m - c and (c - last in (1, 2)) and stride in (0, c - last):
                rows[-1] = (first, c, c - last, delta)
                continue
        rows.append((c, c, 0, m - c))
    print(f"static const struct mapping {name}[] = {{")
    for i in range(0, len(rows), 4):
        print("    " + " ".join("{ 0x%x, 0x%x, %d, %d }," % (a, b, s or 1, d)
                                for a, b, s, d in rows[i:i + 4]))
    print("};\n")


def write_special(name, method):
    print(f"static const struct special {name}[] = {{")
    for c in POINTS:
        m = method(chr(c))
        if len(m) > 1:
            print("    { 0x%x, %d, { %s } }," % (c, len(m), ", ".join("0x%x" % ord(x) for x in m)))
    print("};\n")


def main():
    print("/* Made by tools/jinja_unicode.py. */")
    write_ranges("space", str.isspace)
    write_ranges("alpha", str.isalpha)
    write_ranges("digit", str.isdigit)
    write_ranges("decimal", str.isdecimal)
    write_ranges("numeric", str.isnumeric)
    write_ranges("unprintable", lambda c: not c.isprintable())
    write_ranges("upper", str.isupper)
    write_ranges("lower", str.islower)
    write_ranges("titled", lambda c: c.istitle() and not c.isupper())
    write_deltas("to_upper", str.upper)
    write_deltas("to_lower", str.lower)
    write_deltas("to_title", str.title)
    write_deltas("to_fold", str.casefold)
    write_special("special_upper", str.upper)
    write_special("special_lower", str.lower)
    write_special("special_title", str.title)
    write_special("special_fold", str.casefold)


if __name__ == "__main__":
    sys.exit(main())
