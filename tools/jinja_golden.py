#!/usr/bin/env python3
"""Golden renderings by Jinja2, in the environment that chat templates get from transformers.

Run: tools/jinja_golden.py [CONFORMANCE FOLDER] - writes tests/data/jinja/cases.json and, where the
folder is given, conversations.json (where Jinja2 and chat-template.json differ) and templates.json
(lengths and FNV-1a hashes of renderings). Needs the package jinja2. A null: Jinja2 refuses.

The environment is that of transformers' documentation ("Chat templates"): an immutable sandbox with
trim_blocks, lstrip_blocks and loop controls, tojson as plain json.dumps, raise_exception,
strftime_now (of one fixed moment here) and generation blocks."""
import datetime
import glob
import json
import os
import sys

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "tests", "data", "jinja")
NOW = datetime.datetime(2024, 7, 26, 14, 5, 9, 123)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, template, variables):
    try:
        return env.from_string(template).render(**variables)
    except Exception:
        return None


VARS = {
    "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e22, "tiny": 1.5e-7, "third": 0.1, "t": True,
    "fa": False, "no": None, "s": "hello world", "u": "Grüße, Ελλάς ß ﬁn 日本 😀", "e": "",
    "sp": "  a b\tc \n", "csv": "a,b,,c", "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "le": [],
    "m": [[1, 2], [3, 4]], "d": {"b": 1, "a": [1, {"x": None}], "c": "q\"'"}, "de": {},
    "people": [{"name": "Bo", "age": 31, "city": {"n": "X"}}, {"name": "al", "age": 25},
               {"name": "Cy", "age": 31, "city": {"n": "Y"}}],
    "html": "<a href=\"x\">R&D's</a>", "lines": "one\ntwo\n\nthree\n",
    "tree": [{"v": 1, "k": [{"v": 2, "k": []}, {"v": 3, "k": [{"v": 4, "k": []}]}]},
             {"v": 5, "k": []}],
}

EXPRESSIONS = """
n + 1|n - f|n * 2|n / 2|n // 2|neg // 2|n % 3|neg % 2|f % -2|-f // 1|2 ** 10|2 ** -1|2 ** 0.5|7 // 0|7 % 0|1 / 0
-n|+n|-2 ** 2|2 ** 3 ** 2|not n|n and z|z or 'x'|no or fa or 0|1 < 2 < 3|3 > 2 > 2|1 == 1.0 == true
'a' < 'b'|[1, 2] < [1, 3]|(1, 2) < (1, 2, 0)|1 < 'a'|none < 1|[] == ()|{} == {}|d == d|none == false|nope == nope2
nope == none|nope|nope.x|nope['x']|nope()|nope + 1|'a' + nope|nope ~ 'a'|[nope]|nope is defined|nope|length|-nope
d.nope|d.nope.x|d['nope']|d.nope is undefined|l[5]|l[-1]|l[0]|l['x']|s[0]|s[-1]|s[99]|u[2]|u[-1]|u|length|l.0|m.1.0
l[1:]|l[:-1]|l[::-1]|l[5:1:-2]|l[::0]|s[2:5]|s[::-1]|u[3:8]|u[::-2]|(1,2,3)[1:]|l[true]|s[:no]|s[-3:]|s[3:1]
'a' in s|'z' not in s|'' in s|1 in l|9 in l|'b' in d|1 in d|[1] in m|[1, 2] in m|1 in 's'|1 in n|nope in l|1 in nope|none in [none]
1.0|1e22|1e16|1e15|123456789.123|0.1 + 0.2|1e-5|0.0001|-0.0|big|tiny|third|1.5e300 * 1e10|5 / 2|4 / 2|1_000|0x1f|0b101|0o17|1_0.5_0
true|false|none|True|None|[true, none, 1.5, 'x', "it's", 'q"', 'b"\\'c']|(1,)|()|(1, 2)|{'a': 1, 2: [3]}|{1: 'a', true: 'b'}|{[1]: 2}|[[], {}]
'\\n\\t\\\\ \\x41 \\u00e9 \\101 \\q'|'a' 'b' "c"|'it\\'s'|['\\n', '\\x00', '\\u200b', 'é']|'\\N{DASH}'
'%s is %d' % ('a', 5)|'%5.2f|%-5d|%05d|%+d' % (f, 3, 4, 5)|'%(a)s' % {'a': 1}|'%x %X %o %e %g %c %r %%' % (255, 255, 8, f, f, 'z', 'q')|'%d' % 'a'|'%s' % [1, 2]|'%s %s' % (1,)|'x' % 1|'%s' % none|'%.3s|%8s|%-8s|' % ('abcdef', 'ab', 'cd')|'%d' % 3.99|'%i' % true|'%5s' % u|'%#x' % 10|'% d' % 5|'%*d' % (5, 3)|'%s' % nope
'{} {}'.format(1, 'a')|'{1} {0}'.format(1, 2)|'{a} {b.c}'.format(a=1, b={'c': 2})|'{:>5}|{:<5}|{:^5}|{:*^7}'.format(1, 2, 3, 'x')|'{:05d} {:+.2f} {:,} {:x} {:#b} {:e} {:%}'.format(42, f, 1234567, 255, 5, 1234.5, 0.25)|'{!r} {!s}'.format('a', 'b')|'{{}}'.format()|'{}'.format()|'{0[1]} {1[a]}'.format(l, {'a': 5})|'{:.3}'.format('abcdef')|'{:{}}'.format('a', 5)|'{:d}'.format('a')|'{:,.2f}'.format(1234567.891)|'{:_}'.format(1000000)|'{}'.format(none)|'{:10}|'.format(true)|'{:g}'.format(0.00001)|'{:.2}'.format(f)|'{0.__class__}'.format(1)
'a' ~ 1 ~ none ~ 1.0|1 ~ 2|'ab' * 3|3 * [1]|'a' * -1|[1] + [2]|(1,) + (2,)|[1] + (2,)|'a' + 1|1 + 'a'|'a' - 'b'|{} + {}
'x' if t else 'y'|'x' if fa|'x' if fa else 'y' if t else 'z'|('x' if fa) is undefined|n if n > 5 else -n|[1, 2 if t else 3]
s.upper()|u.upper()|u.lower()|u.title()|u.capitalize()|u.swapcase()|u.casefold()|'ǆ ŉ ΣΑΣ'.title()|'İ'.lower()|s.title()|"they're bill's".title()
sp.strip()|sp.lstrip()|sp.rstrip()|'xxaxx'.strip('x')|'xyaxy'.strip('yx')|'  '.strip()|s.strip(none)|s.strip(1)|'\\u00a0a\\u3000'.strip()
csv.split(',')|csv.split(',', 1)|csv.rsplit(',', 1)|sp.split()|sp.split(none, 1)|sp.rsplit(none, 1)|s.split('')|''.split()|''.split(',')|'a  b'.split(' ')|s.split('o', -1)|csv.rsplit(',')|s.split(maxsplit=1)|s.split(sep='o')
lines.splitlines()|lines.splitlines(true)|'a\\r\\nb\\rc'.splitlines()|''.splitlines()|s.partition(' ')|s.rpartition('o')|s.partition('zz')|s.rpartition('zz')
s.find('o')|s.rfind('o')|s.find('zz')|s.find('o', 5)|s.find('o', 0, 3)|s.find('o', -4)|u.find('日')|s.index('w')|s.index('zz')|s.rindex('l')|s.count('l')|s.count('')|'aaaa'.count('aa')|s.count('o', 5)|s.find('')|s.find('', 99)
s.startswith('he')|s.endswith('ld')|s.startswith(('x', 'h'))|s.startswith('lo', 3)|s.endswith('lo', 0, 5)|s.startswith(1)|s.removeprefix('hello')|s.removesuffix('world')|s.removeprefix('x')
s.replace('l', 'L')|s.replace('l', 'L', 1)|s.replace('', '-')|s.replace('', '-', 3)|s.replace('l', '')|u.replace('日', 'x')|s.replace('a')|s.replace('l', 'L', count=1)
s.center(21)|s.center(20, '*')|s.ljust(15, '.')|s.rjust(15)|'42'.zfill(5)|'-42'.zfill(5)|'a\\tb'.expandtabs(4)|', '.join(ls)|', '.join(l)|''.join(s)|'-'.join(d)
'abc'.isalpha()|'ab1'.isalpha()|'12'.isdigit()|'½'.isnumeric()|'½'.isdigit()|'²'.isdigit()|'²'.isdecimal()|'ab1'.isalnum()|' '.isspace()|''.isspace()|'AB'.isupper()|'aB'.islower()|'Ab Cd'.istitle()|u.isascii()|'a_1'.isidentifier()|'1a'.isidentifier()|'\\n'.isprintable()
s.nope|s.nope()|s.__class__|s['__class__']|s._x|d.__class__|d['__class__']|''.__class__.__mro__|l.__len__|n.__add__|d._x|nope.__class__
l.append(4)|l.pop()|d.pop('a')|d.update({})|l.sort()|d.clear()|l.append is defined|l.insert(0, 1)|d.setdefault('a', 1)|l.extend([1])|l.remove(3)|l.reverse()
l.index(2)|l.index(9)|l.count(1)|l.copy()|(1, 2).index(2)|d.keys()|d.values()|d.items()|d.keys()|list|d.get('b')|d.get('zz')|d.get('zz', 5)|d.copy()|d.items()|list|d.get([1])|de.items()|d.keys()[0]|(d.items()|list)[0][1]
range(3)|range(1, 4)|list|range(5, 0, -2)|list|range(3)[1]|range(10)[2:5]|list|range(0)|list|range(1, 10, 3)|range('a')|range(2, 1)|list|range(100001)|range(5)|length|range(1.5)|3 in range(5)
dict(a=1, b=2)|dict({'x': 1}, y=2)|dict([('a', 1)])|namespace(a=1).a|namespace(a=1).b|namespace({'k': 2}).k|namespace(a=1)|joiner()|cycler()|dict(1)
strftime_now('%Y-%m-%d')|strftime_now('%d %b %Y')|strftime_now('%A %B %-d %j %U %W %V %G %u %w %y %H %I %M %S %p %f %% %e %c %x %X %D %T %F %R')|strftime_now('%a, %Z%z|')|raise_exception('boom')|strftime_now('%-m/%_d %^a')
""".strip("\n")

FILTERS = """
s|upper|ls|upper|nope|upper|s|title|'foo-bar (baz) [q] it\\'s'|title|u|capitalize|n|string|no|string|s|capitalize
sp|trim|s|trim('hd')|nope|trim|l|trim|s|center(21)|s|replace('l', 'L')|s|replace('l', 'L', 1)|n|replace(7, 8)|u|lower|u|upper
lines|indent|lines|indent(2, true)|lines|indent(2, blank=true)|lines|indent('> ', first=true, blank=true)|''|indent|'a\\n'|indent|n|indent
(s ~ ' ' ~ s)|truncate(9)|(s ~ ' ' ~ s)|truncate(9, true)|(s ~ ' ' ~ s)|truncate(9, false, '…')|s|truncate(9, leeway=0)|s|truncate(2)|s|truncate
s|wordcount|u|wordcount|html|e|html|escape|html|safe|html|forceescape|{'a': 1, 'b': none, 'c': '<'}|xmlattr|{'a b': 1}|xmlattr|'a b/ü?&'|urlencode|{'a': 1, 'b c': 'd/e'}|urlencode|[('x', 1)]|urlencode|n|urlencode
'%s-%s'|format(1, 2)|'%(a)s'|format(a=5)|'%s'|format(1, a=2)|'12'|int|'12.7'|int|'x'|int|'x'|int(5)|'0x1f'|int(base=16)|'1f'|int(0, 16)|f|int|no|int|l|int|nope|int|' 42 '|int|'1_0'|int|true|int|'0b11'|int(0, 0)
'2.5'|float|'x'|float|'x'|float(1.5)|n|float|no|float|nope|float|'1e3'|float|'inf'|float|'nan'|float|'0x10'|float|'1_0.5'|float|true|float|l|float
neg|abs|f|abs|-2.5|abs|s|abs|true|abs|2.5|round|3.5|round|2.675|round(2)|n|round|1234|round(-2)|1250|round(-2)|2.51|round(1, 'floor')|2.41|round(1, 'ceil')|n|round(0, 'ceil')|1.5|round(0, 'x')|'a'|round|1e300|round(2)|2.5|round(-1)|0.5|round|-0.5|round|true|round
1000|filesizeformat|1|filesizeformat|999|filesizeformat|1500000|filesizeformat|1500000|filesizeformat(true)|0|filesizeformat|'1e6'|filesizeformat|1e27|filesizeformat|1023|filesizeformat(true)
l|list|s|list|d|list|nope|list|n|list|l|length|s|length|d|length|n|length|nope|length|u|length|no|length|l|first|le|first|s|first|d|first|nope|first|l|last|le|last|s|last|d|last
l|reverse|list|s|reverse|d|reverse|list|u|reverse|n|reverse|ls|join|ls|join(', ')|l|join('-')|people|join(', ', attribute='name')|le|join|s|join('.')|m|join|[1, none, nope]|join(',')|n|join
l|sort|ls|sort|ls|sort(case_sensitive=true)|l|sort(reverse=true)|ls|sort(true)|people|sort(attribute='age')|map(attribute='name')|list|people|sort(attribute='age,name')|map(attribute='name')|list|people|sort(attribute='age', reverse=true)|map(attribute='name')|list|[1, 'a']|sort|d|sort|people|sort(attribute='city.n')|[[2, 'b'], [1, 'c']]|sort(attribute=1)|[none, 1]|sort|s|sort|join
l|min|l|max|ls|min|ls|max|ls|max(case_sensitive=true)|le|min|people|max(attribute='age')|l|sum|le|sum|people|sum(attribute='age')|people|sum('age', 10)|ls|sum|m|sum(start=[])|[1.5, 2]|sum
[1, 2, 1, 3]|unique|list|['a', 'A', 'b']|unique|list|['a', 'A', 'b']|unique(true)|list|people|unique(attribute='age')|map(attribute='name')|list|m|unique|list|[1, 1.0, true]|unique|list
range(7)|batch(3)|list|range(7)|batch(3, 'x')|list|[]|batch(3)|list|range(7)|slice(3)|list|range(7)|slice(3, 'x')|list|range(2)|slice(3)|list|d|items|list|nope|items|list|l|items
d|dictsort|d|dictsort(reverse=true)|{'b': 1, 'A': 2}|dictsort|{'b': 1, 'A': 2}|dictsort(true)|{'b': 1, 'A': 2}|dictsort(by='value')|{'b': 1}|dictsort(by='x')|l|dictsort|{1: 2, 'a': 3}|dictsort
people|groupby('age')|people|groupby('age')|map('first')|list|people|groupby('city.n', default='?')|map(attribute='grouper')|list|['a', 'B', 'A']|map('upper')|list|people|groupby('name')|map('last')|map('length')|list
ls|map('upper')|list|people|map(attribute='name')|list|people|map(attribute='city.n', default='none')|list|people|map(attribute='zz')|list|l|map('string')|join|m|map('first')|list|m|map(attribute=1)|list|l|map|list|l|map('nope')|list|ls|map('replace', 'a', 'x')|list|ls|map('truncate', 1, end='')|list|people|map(attribute='name', other=1)|list
l|select('odd')|list|l|select|list|[0, 1, none, 'a']|select|list|[0, 1, none]|reject|list|l|reject('odd')|list|l|select('gt', 1)|list|l|select('>', 1)|list|people|selectattr('city')|map(attribute='name')|list|people|selectattr('age', 'equalto', 31)|map(attribute='name')|list|people|rejectattr('city')|map(attribute='name')|list|people|selectattr('age', '>=', 31)|list|length|people|selectattr('city.n', 'defined')|list|length|l|select('nope')|list|people|selectattr|list|people|rejectattr('age', 'in', [25])|list|length|l|select('divisibleby', 3)|list
nope|default('x')|no|default('x')|no|default('x', true)|''|default('x', boolean=true)|nope|d|n|d('x')|d.zz|default(5)|d|attr('b')|d|attr('keys')|s|attr('upper')|n|attr('zz')|s|attr('__class__')|nope.zz|default('x')|l[9]|default(1)
d|tojson|u|tojson|html|tojson|d|tojson(indent=2)|d|tojson(sort_keys=true)|d|tojson(separators=(',', ':'))|u|tojson(ensure_ascii=true)|'a\\n\\t\\x01\\x7f"\\\\/'|tojson|[1.0, 1e22, true, none, (1, 2)]|tojson|de|tojson(indent=2)|[[], {}]|tojson(indent=4)|nope|tojson|{1: 2, none: 3, true: 4, 1.5: 5}|tojson|{(1, 2): 3}|tojson|d|tojson(indent='--')|d|tojson(2)|{'b': 1, 'a': 2}|tojson(indent=0)|{'b': {'z': 1, 'y': 2}, 'a': 2}|tojson(sort_keys=true, indent=1)|range(3)|tojson|d.keys()|tojson|inf|tojson|(1e400)|tojson
n is odd|n is even|s is odd|n is divisibleby 7|n is divisibleby(2)|nope is defined|n is defined|no is none|t is true|fa is false|1 is true|t is boolean|n is integer|t is integer|f is float|n is number|t is number|s is string|d is mapping|l is sequence|s is sequence|d is sequence|n is sequence|l is iterable|n is iterable|s is iterable|nope is iterable|nope is sequence|range is callable|s.upper is callable|n is callable|nope is callable|'upper' is filter|'zz' is filter|'odd' is test|'zz' is test
n is eq 7|n is == 7|n is ne(8)|n is gt 3|n is ge 7|n is lt 3|n is le 7|n is greaterthan 3|n is lessthan 3|n is equalto 7|n is sameas 7|none is sameas none|true is sameas 1|n is in [7]|n is not in [7]|'a' is in 'abc'|s is lower|'AB' is upper|'Ab' is lower|n is lower|html is escaped|n is not odd|not n is odd|n is zz|n is not none and t|n is odd or fa|s is upper is lower|(d.items()) is sequence|d.items() is iterable|range(3) is sequence
tiny[1:2]|d[1:]|(l|map('string'))[1:]|nope[1:]|not (n|select('odd'))|(n|select('odd'))|list|(l|select('zz')) is iterable|[none, none]|sort|'ab'|sort(attribute='zz')|l is filter|n|truncate|l|truncate|'b c'.splitlines('x')|none|select('odd')|list|none|map('upper')|list|s|attr(nope)
(html|e) + '<'|'<' + (html|safe)|(html|e) ~ '<'|(html|e)|e|(html|e)|forceescape|(html|e).upper() + '&'|('<b>'|safe).replace('b', '<')|('<'|safe) * 2 + '<'|('<%s>'|safe) % '<'|('<%s %s>'|safe) % ('<', 1)|('<'|safe)[0] + '<'|('a,b'|safe).split(',')[0] + '<'|('<'|safe) + 1|('<'|e) is escaped|('<'|safe)|upper|length|[html|e, '<']|join('<')|('<{}>'|safe).format('<')|('<'|safe).join(['<'])|('<' |safe|trim) + '<'|('<'|safe|string) + '<'|('<'|safe|title) + '<'
n|nope|(l|first)|string|l | map('string') | join ( ' ' )|s|upper|lower|title|-1|abs|(-1)|abs|not l|length|l|length > 2|l|length + 1|'a'|upper ~ 'b'|l|join|length|[1]|first + 1|n|string * 2
""".strip("\n")

STATEMENTS = [
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in le %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in nope %}{{ x }}{% else %}none{% endfor %}", "{% for x in n %}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}",
    "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in l if loop.first %}{{ x }}{% endfor %}",
    "{% for a, b in m %}{{ a }}-{{ b }};{% endfor %}", "{% for a, b in l %}{{ a }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}", "{% for a, b in [(1,2,3)] %}{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}"
    "{{ loop.depth }}{{ loop.depth0 }}|{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x // 2) }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nope is defined }}{% endfor %}",
    "{% for x in l %}{{ loop }}{% endfor %}", "{{ loop }}", "{% for loop in l %}{% endfor %}",
    "{% for n in tree recursive %}{{ n.v }}@{{ loop.depth }}({{ loop(n.k) }}){% endfor %}",
    "{% for n in tree %}{{ loop(n.k) }}{% endfor %}",
    "{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}"
    "{{ x }};{% endfor %}",
    "{% break %}", "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in le %}{% else %}{% break %}{% endfor %}",
    "{% for x in range(3) %}{% set y = x %}{% endfor %}{{ y }}",
    "{% set y = 1 %}{% for x in l %}{% set y = y + x %}{{ y }},{% endfor %}{{ y }}",
    "{% set ns = namespace(y=1) %}{% for x in l %}{% set ns.y = ns.y + x %}{% endfor %}{{ ns.y }}",
    "{% set d.x = 1 %}", "{% set nope.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1] %}", "{% set a = 1, 2 %}{{ a }}", "{% set (a, b) = (1, 2) %}{{ b }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x|length }}",
    "{% set x | upper | replace('A', 'z') %}abc{% endset %}{{ x }}",
    "{% set ns = namespace() %}{% set ns.t %}body{% endset %}{{ ns.t }}", "{% set true = 1 %}",
    "{% set 'a' = 1 %}", "{% set l[0] = 1 %}", "{% set a.b.c = 1 %}", "{% set a b = 1 %}",
    "{% if t %}{% set x = 1 %}{% endif %}{{ x }}", "{% if fa %}{% set n = 1 %}{% endif %}{{ n }}",
    "{% if fa %}a{% elif z %}b{% elif t %}c{% else %}d{% endif %}",
    "{% if nope %}a{% else %}b{% endif %}", "{% if nope.x %}a{% endif %}", "{% if %}a{% endif %}",
    "{% if t %}a", "{% endif %}", "{% if t %}{% endfor %}", "{% nope %}", "{% if t: %}a{% endif %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|"
    "{{ m(a=5) }}|{{ m(1, c=9) }}|{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{% if n %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(4) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ v }}{% endmacro %}{% set v = 5 %}{{ m() }}",
    "{% macro m() %}{% set v = 6 %}{% endmacro %}{% set v = 5 %}{{ m() }}{{ v }}",
    "{% macro m(a, b=1) %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.caller }}",
    "{% macro m(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) m(3) %}<{{ y }}>{% endcall %}",
    "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call m() %}x{{ n }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}a{% endmacro %}{% call m() %}x{% endcall %}", "{% call n %}{% endcall %}",
    "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{{ m }}{% macro m() %}{% endmacro %}", "{% macro m() %}{% endmacro %}{{ m }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aa{% endfilter %}",
    "{% filter length %}abc{% endfilter %}", "{% if n|select('odd') %}lazy{% endif %}", "{% filter nope %}{% endfilter %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% set a = 5 %}{% with a = a + 1 %}{{ a }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{% endwith %}{{ q }}",
    "{% block a %}x{{ n }}{% endblock %}", "{% block a %}{% endblock %}{% block a %}{% endblock %}",
    "{% for x in l %}{% block b %}{{ x }}{% endblock %}{% endfor %}",
    "{% for x in l %}{% block b scoped %}{{ x }}{% endblock b %}{% endfor %}",
    "{% generation %}a{{ n }}{% endgeneration %}", "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% from 'x' import y %}",
    "{% print n, s %}", "{% do l %}", "{% autoescape false %}{{ html }}{% endautoescape %}",
    "{% raw %}{{ n }}{% if %}{% endraw %}", "a {%- raw -%} {{ n }} {%- endraw -%} b", "{% raw %}\nx\n{% endraw %}\ny",
    "{% raw %}", "{# a #}b", "a\n  {# c #}\nb", "a {#- c -#} b", "{# {{ x }} {% y #}z", "{# open",
    "{{ n", "{% if t", "{{ }}", "{{ n n }}", "{{ 'a }}", "{{ (1 }}", "{{ 1) }}", "{{ [1} }}", "{{ a.1b }}", "{{ $ }}",
    "a\n{% if t %}\nb\n{% endif %}\nc\n", "  {% if t %}  \n  b\n  {% endif %}  \nc", "a {% if t %} b {% endif %} c",
    "a\n  {%- if t %}\nb{% endif %}", "a\n  {%+ if t %}\nb{% endif %}", "a {%- if t -%} b {%- endif -%} c",
    "{% if t +%}\nb{% endif %}", "{% if t -%}\n  b{% endif %}", "  {{ n }}  \n  {{- n -}}  \nx", "a\r\nb\rc\n", "a\n\n", "\n",
    "{{ n }}\n", "x {{ n }}\n{{ n }}\n\n", "  {% if t %}a{% endif %}", "x\t {% if t %}a{% endif %}", "{%- if t %} a {% endif -%}  b",
    "{{ n -}} \n b", "{{- n }}", "a {{- n }}", "{{ '}}' }}{{ '%}' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a':{'b':1}}}}", "{{-1}}", "{{ - 1 }}",
    "{% set x = [] %}{% for i in l %}{% set x = x + [i] %}{% endfor %}{{ x }}", "a{% if t %}\n\nb{% endif %}",
    "{% for x in l -%}\n  {{ x }}\n{%- endfor %}", "{{ n\n+\n1 }}", "{% set x = {\n 'a': 1,\n} %}{{ x.a }}",
    "{{ n if t }}{{ n if fa }}{{ n|nope if fa else 1 }}", "{% if fa %}{{ n|nope }}{% endif %}ok", "{% if fa %}{{ n is nope }}{% endif %}ok",
    "{% if fa %}{% for x in l %}{{ n|nope }}{% endfor %}{% endif %}ok", "{% for x in le %}{{ x|nope }}{% endfor %}",
    "{% set g = l|map('string') %}{{ g|join }}{{ g|join }}", "{% set g = l|select %}{{ g|first }}{{ g|list }}", "{{ (l|map('string'))[0] is defined }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.current }}",
    "{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{{ range(3, *[5]) | list }}{{ dict(**{'a': 1}) }}",
    "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(1, *[2]) }}", "{{ dict(a=1, a=2) }}", "{{ dict(a=1, 2) }}",
    "{% for p in people|sort(attribute='name') %}{{ p.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for g in people|groupby('age') %}{{ g.grouper }}:{% for p in g.list %}{{ p.name }}{% endfor %};{% endfor %}",
    "{% for a, ps in people|groupby('age') %}{{ a }}{{ ps|length }}{% endfor %}", "{% for a,b in d|dictsort %}{{ a }}{{ b }}{% endfor %}",
    "{{ s.upper }}" if False else "{{ s.upper() if s.upper else 1 }}", "{% set f = s.upper %}{{ f() }}", "{{ [s.upper][0]() }}", "{{ d['a'][1]['x'] }}", "{{ d['keys'] is defined }}",
    "{% set d2 = {'keys': 1} %}{{ d2.keys() }}{{ d2['keys'] }}", "{{ n.bit_length() }}{{ f.is_integer() }}", "{{ namespace(_x=1)._x }}",
    "{% set ns = namespace(a=1) %}{{ ns }}{{ ns['a'] }}{{ ns.b is defined }}", "{% if 'a' in d and d.a is not string and d.a[0] == 1 %}y{% endif %}",
    "{% if (n > 5 and\n   t) %}y{% endif %}", "{{ 'a' if n == 7 and t or fa else 'b' }}", "{{ not t and fa }}{{ not (t and fa) }}", "{{ n == 7 == true }}",
    "{% for x in [1, 2, 3][1:] %}{{ x }}{% endfor %}", "{% for x in l[::-1] %}{{ x }}{% endfor %}", "{% for i in range(l|length) %}{{ l[i] }}{% endfor %}",
    "{% for x in (1, 2) %}{{ x }}{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}", "{{ d.a.1.x }}{{ d.a[0] }}", "{{ '' if n is defined else n }}", "{{ ('a', 'b')|join }}",
    "{{ undefined is undefined }}", "{% set _ = 1 %}{{ _ }}", "{{ __x }}", "{% set x = namespace %}{{ x(a=1).a }}", "{{ lipsum|d }}" if False else "{{ 1 }}",
]


def split_row(text):
    """Alternatives are apart by a bar without blanks around it, where what stands between is whole."""
    out, part, depth, quote, i = [], "", 0, None, 0
    while i < len(text):
        c = text[i]
        if quote:
            part += c
            if c == "\\":
                i += 1
                part += text[i]
            elif c == quote:
                quote = None
        elif c in "'\"":
            quote = c
            part += c
        elif c == "|" and depth == 0:
            out.append(part)
            part = ""
        else:
            depth += (c in "([{") - (c in ")]}")
            part += c
        i += 1
    return out + [part]


def templates():
    for row in EXPRESSIONS.split("\n"):
        for expression in split_row(row):
            yield "{{ " + expression + " }}"
    for row in FILTERS.split("\n"):
        parts = split_row(row)
        # A chain begins at each part that is no name of a filter.
        chain = None
        env = environment()
        for part in parts:
            name = part.strip().split("(")[0].strip()
            if chain is not None and (name in env.filters or name in ("nope", "zz", "d")):
                chain += "|" + part
                yield "{{ " + chain + " }}"
            else:
                chain = part
                yield "{{ " + chain + " }}"
    yield from STATEMENTS


def write_cases():
    env, cases, seen = environment(), [], set()
    for template in templates():
        if template in seen:
            continue
        seen.add(template)
        text = render(env, template, VARS)
        # Addresses in memory are nobody's golden text, and neither are methods' Python names.
        if text is not None and (" at 0x" in text or "<class" in text or "<bound" in text
                                 or "<built-in" in text or "<method" in text):
            continue
        cases.append((template, text))
    used = {"vars": VARS, "cases": cases}
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        f.write('{"vars": %s,\n"cases": [\n' % json.dumps(VARS, ensure_ascii=False))
        f.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in used["cases"]))
        f.write("\n]}\n")
    print(len(cases), "cases,", sum(t is None for _, t in cases), "refused")


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city & \"more\"",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "The city"},
        "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        "days": {"type": "array", "items": {"type": "integer"}, "description": "Which days"}},
        "required": ["city"]}}}
CALL = {"id": "call12345", "type": "function",
        "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2]}}}
SYSTEM = {"role": "system", "content": "You are brief."}
USER = {"role": "user", "content": "Hi, how is <it>?"}
REPLY = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nFine."}

REQUESTS = {
    "plain": {"messages": [USER]},
    "system": {"messages": [SYSTEM, USER]},
    "turns": {"messages": [SYSTEM, USER, REPLY, {"role": "user", "content": "Good."}]},
    "no prompt": {"messages": [USER, REPLY], "add_generation_prompt": False},
    "tools": {"messages": [USER], "tools": [WEATHER]},
    "call": {"messages": [SYSTEM, USER, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                          {"role": "tool", "name": "get_weather", "tool_call_id": "call12345",
                           "content": "{\"t\": 21.5}"}], "tools": [WEATHER]},
    "null content": {"messages": [USER, {"role": "assistant", "content": None,
                                         "tool_calls": [CALL]},
                                  {"role": "tool", "name": "get_weather",
                                   "tool_call_id": "call12345", "content": "ok"},
                                  {"role": "assistant", "content": "Sunny."},
                                  {"role": "user", "content": "Thanks"}], "tools": [WEATHER]},
    "thinking": {"messages": [USER], "enable_thinking": False, "reasoning_effort": "high"},
    "reasoning": {"messages": [USER, {"role": "assistant", "content": "Four.",
                                      "reasoning_content": "2+2"},
                               {"role": "user", "content": "And 3+3?"}]},
    "reasoning alone": {"messages": [USER, {"role": "assistant", "content": None,
                                            "reasoning": "R1"}, USER]},
    "thinking field": {"messages": [USER, {"role": "assistant", "content": "a",
                                           "thinking": "R2"}, {"role": "user", "content": "b"}]},
    "all reasoning": {"messages": [USER, {"role": "assistant", "content": "a", "reasoning": "R3",
                                          "thinking": "R4", "reasoning_content": "R5",
                                          "tool_calls": [CALL]},
                                   {"role": "tool", "name": "get_weather",
                                    "tool_call_id": "call12345", "content": "ok"}],
                      "tools": [WEATHER]},
    "reasoning called": {"messages": [USER, {"role": "assistant", "reasoning": "R6",
                                             "tool_calls": [CALL]},
                                      {"role": "tool", "name": "get_weather",
                                       "tool_call_id": "call12345", "content": "ok"}],
                         "tools": [WEATHER]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
    "two users": {"messages": [USER, USER]},
}


def messages_as_given(messages):
    """What apply_chat_template makes of messages: null fields go, reasoning gets both its names."""
    given = []
    for message in messages:
        message = {k: v for k, v in message.items() if v is not None}
        names = [n for n in ("reasoning_content", "thinking", "reasoning") if n in message]
        if names:
            text = message[names[0]]
            message = {"thinking": text, **message, "reasoning_content": text}
        given.append(message)
    return given


def write_conversations(folder):
    with open(os.path.join(folder, "chat-template.json")) as f:
        data = json.load(f)
    env, differ = environment(), {}
    for case in data["cases"]:
        variables = {"messages": data["conversation"] + case.get("extra_conversation", []),
                     "add_generation_prompt": data["add_generation_prompt"], "tools": None,
                     "documents": None}
        variables.update((k, case.get(k, "")) for k in ("bos_token", "eos_token"))
        text = render(env, case["template"], variables)
        if text != (case.get("expected_output_jinja") or case["expected_output"]):
            differ[case["name"]] = text
    with open(os.path.join(OUT, "conversations.json"), "w") as f:
        json.dump(differ, f, ensure_ascii=False, indent=1)
        f.write("\n")
    print("differ from chat-template.json:", ", ".join(differ))


def digest(text):
    h, raw = 0xCBF29CE484222325, text.encode()
    for byte in raw:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return "%d %016x" % (len(raw), h)


def write_templates(folder):
    env, results = environment(), {}
    for path in sorted(glob.glob(os.path.join(folder, "templates", "*.jinja"))):
        with open(path, newline="") as f:
            source = f.read()
        row = {}
        for name, request in REQUESTS.items():
            variables = {"add_generation_prompt": True, "tools": None, "documents": None,
                         "bos_token": "<s>", "eos_token": "</s>", **request,
                         "messages": messages_as_given(request["messages"])}
            text = render(env, source, variables)
            row[name] = None if text is None else digest(text)
        results[os.path.basename(path)] = row
    with open(os.path.join(OUT, "templates.json"), "w") as f:
        json.dump({"requests": REQUESTS, "results": results}, f, ensure_ascii=False, indent=0)
        f.write("\n")
    print(len(results), "templates,", sum(t is None for r in results.values() for t in r.values()),
          "of", sum(len(r) for r in results.values()), "renderings refused")


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    write_cases()
    if len(sys.argv) > 1:
        write_conversations(sys.argv[1])
        write_templates(sys.argv[1])
