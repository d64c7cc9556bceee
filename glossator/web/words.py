"""Texts and numbers as a page shows them: escaped, nothing invisible, nothing too long."""

from __future__ import annotations

import re
from collections.abc import Callable

from markupsafe import Markup, escape

from glossator.types import FeatureId

LONGEST = 600
"""Characters of one text that a page shows."""

_SIGNS = {"\n": "\u21b5", "\r": "\u240d", "\t": "\u21e5"}
_UNKNOWN = "\u2013"


def shown(text: str, longest: int = LONGEST) -> Markup:
    """`text` escaped for the body of a page, with every invisible character named.

    Control, bidirectional, zero-width and private characters, and halves of surrogate pairs, stand
    there as `U+202E` in a box of their own; line breaks and tabs as a sign. What is cut off is
    counted.
    """

    def box(name: str) -> Markup:
        return Markup('<span class="ctl">{}</span>').format(name)

    return Markup("").join(_parts(text, longest, box, escape))


def attribute(text: str, longest: int = LONGEST) -> str:
    """The same without boxes, for a title or a label; the template escapes it."""
    return "".join(_parts(text, longest, lambda name: f"\u27e8{name}\u27e9", str))


def _parts(
    text: str, longest: int, box: Callable[[str], str], rest: Callable[[str], str]
) -> list[str]:
    cut = text[:longest]
    # Most texts hold nothing to name, and a report has a hundred thousand tokens.
    if cut.isprintable():
        parts = [rest(cut)]
    else:
        parts = []
        # Python calls all of the invisible ones unprintable, and some spaces, which may stay.
        for character in cut:
            if character.isprintable() or (character.isspace() and character not in _ENDS):
                parts.append(rest(character))
            else:
                parts.append(box(_SIGNS.get(character, f"U+{ord(character):04X}")))
    if len(text) > longest:
        parts.append(rest(f" \u2026 ({len(text) - longest:,} more characters)"))
    return parts


_ENDS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")
"""What Python takes for space and a reader of a page cannot see."""


def figure(value: float | None, digits: int = 2) -> str:
    """`value` with a fixed number of decimals and a true minus sign; a dash for None."""
    if value is None:
        return _UNKNOWN
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")


def short(value: float | None) -> str:
    """`value` to three significant digits, for activations of any size."""
    if value is None:
        return _UNKNOWN
    text = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "\u2212")


def share(value: float | None) -> str:
    """A share as a percentage with as many digits as small ones need."""
    return _UNKNOWN if value is None else f"{100 * value:.3g}%"


def probability(value: float | None) -> str:
    """A p or q value; below a thousandth only that."""
    if value is None:
        return _UNKNOWN
    return "<0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def dollars(value: float | None) -> str:
    """US dollars, to the cent or to two digits below it."""
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.2g}"


def duration(seconds: float | None) -> str:
    """Seconds as `41 s`, `12 min 5 s` or `3 h 20 min`."""
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, one: str, many: str = "") -> str:
    """`1 window`, `2 windows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def local_name(feature: FeatureId) -> str:
    """The name of `feature` within its model: `layers.7.mlp.neurons/123`."""
    return str(feature).removeprefix(f"{feature.model}//")


def broken(name: str, longest: int = 120) -> Markup:
    """`name` as `shown`, with leave to break the line behind each `/`."""
    return Markup("/<wbr>").join(shown(part) for part in name[:longest].split("/"))


def natural(feature: FeatureId) -> tuple[object, ...]:
    """A key that sorts features by model, layer and number, as a person would."""
    site = tuple(
        (0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part)
        for part in re.split(r"([0-9]+)", feature.site)
    )
    return feature.model, site, feature.coder or "", feature.index, feature.negative
