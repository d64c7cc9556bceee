"""Texts made up where the corpus has none: code, markup, formulas, dates, prices, lists."""

from __future__ import annotations

from random import Random

_NAMES_TEXT = """
count total user data item index result value name path list node config key
"""
_NAMES = _NAMES_TEXT.split()
_VERBS_TEXT = """
get set load save parse find make update read write check send add init
"""
_VERBS = _VERBS_TEXT.split()
_PLAIN_TEXT = """
the report was sent to the office
we met at the station
she paid for lunch
the price went up
they will come back soon
the meeting was moved
please call before you visit
he lived there for a while
sales fell again this spring
nobody answered the phone
"""
_PLAIN = _PLAIN_TEXT.strip().splitlines()
_MONTHS_TEXT = """
January February March April May June July August September October
"""
_MONTHS = _MONTHS_TEXT.split()


def made_up(chance: Random) -> str:
    """A few lines of one kind."""
    return chance.choice((_code, _script, _markup, _formula, _figures, _figures, _items))(chance)


def _name(chance: Random) -> str:
    joined = (
        f"{chance.choice(_VERBS)}_{chance.choice(_NAMES)}",
        f"{chance.choice(_VERBS)}{chance.choice(_NAMES).capitalize()}",
        chance.choice(_NAMES),
    )
    return chance.choice(joined)


def _code(chance: Random) -> str:
    a, b, f = (_name(chance) for _ in range(3))
    lines = (
        *(
            f"def {f}({a}, {b}=None):",
            f"    return {f}({a})",
            f"    {a} = {b} + {chance.randint(0, 99)}",
        ),
        *(f"import {a}", f"    if {a} == {b}:", f"    for {a} in {b}:", f"class {f.capitalize()}:"),
        *(f"    self.{a} = {b}", f"    # {chance.choice(_PLAIN)}", f"    print('{a}')"),
        *(
            f"    assert {a} != {chance.randint(0, 9)}",
            f"    {b} += 1",
            f'    raise ValueError("{a}")',
        ),
    )
    return "\n".join(chance.sample(lines, 6))


def _script(chance: Random) -> str:
    a, b, f = (_name(chance) for _ in range(3))
    lines = (
        *(f"function {f}({a}) {{", f"  return {a}.{b};", f"  const {a} = {f}({b});", "}"),
        *(f"  if ({a} && {b}) {{", f"  let {b} = [];", f"  // {chance.choice(_PLAIN)}"),
        *(
            f"public static void {f}(int {a}) {{",
            f"  {a}.forEach(x => x.{b});",
            f"  this.{a} = {b};",
        ),
    )
    return "\n".join(chance.sample(lines, 6))


def _markup(chance: Random) -> str:
    tag, inner = chance.choice(("div", "p", "ul", "table", "span")), chance.choice(("a", "li", "b"))
    text, more = chance.sample(_PLAIN, 2)
    return (
        f'<{tag} class="{chance.choice(_NAMES)}">\n  <{inner}>{text}</{inner}>\n  {more}\n'
        f'</{tag}>\n<img src="{chance.choice(_NAMES)}.png" /> {{{chance.choice(_NAMES)}}}'
    )


def _formula(chance: Random) -> str:
    x, y = chance.sample("xyzabnkt", 2)
    text = chance.choice(_PLAIN)
    return (
        f"\\section{{{chance.choice(_NAMES)}}} Let ${x} = \\frac{{{y}}}{{{chance.randint(2, 9)}}}$ "
        f"be given; {text}. Then \\begin{{equation}} {x}^2 + {y} \\leq \\sum_{{i}} \\alpha_i "
        f"\\end{{equation}} and \\textbf{{{chance.choice(_NAMES)}}} holds for {x} > {y}."
    )


def _figures(chance: Random) -> str:
    n = chance.randint
    some = (
        f"on {chance.choice(_MONTHS)} {n(1, 30)}, {n(1800, 2022)}",
        f"at {n(1, 12)}:{n(0, 59):02d} {chance.choice(('am', 'pm', 'a.m.', 'p.m.'))}",
        f"for {chance.choice('$£€')}{n(1, 999)}.{n(0, 99):02d}",
        f"about {n(1, 99)}% of them",
        f"at http://www.{chance.choice(_NAMES)}.com/{chance.choice(_NAMES)}?id={n(1, 999)}",
        f"write to {chance.choice(_NAMES)}@{chance.choice(_NAMES)}.org",
        f"by {n(1, 9)}-{n(0, 9)}",
        f"with {n(1, 99)},{n(0, 999):03d} people",
        f"{n(2, 40)} {chance.choice(('miles', 'hours', 'days', 'years', 'feet', 'minutes'))}",
        f"in the {n(2, 9)}0s",
        f"version {n(0, 9)}.{n(0, 9)}",
        f"a {n(5, 90)}-year-old",
        f"on {n(1, 12)}/{n(1, 28)}/{n(1990, 2022)}",
        f"the U.S. and the {chance.choice(('EU', 'UN', 'BBC', 'FBI'))}",
        f"Mr. {chance.choice('ABCDEFG')}. {chance.choice(_NAMES).capitalize()}son",
    )
    picked = chance.sample(some, 5)
    return " ".join(f"{chance.choice(_PLAIN).capitalize()} {x}." for x in picked)


def _items(chance: Random) -> str:
    mark = chance.choice(("-", "*", "•", "1."))
    lines = [f"{mark} {x}" for x in chance.sample(_PLAIN, 5)]
    if mark == "1.":
        lines = [f"{i}. {line[3:]}" for i, line in enumerate(lines, 1)]
    return f"{chance.choice(_NAMES).capitalize()}:\n\n" + "\n".join(lines)
