"""Planted features that are about the form of words: case, affixes, numbers and formats."""

from __future__ import annotations

from glossator.datasets.truth_claims import Planted, listed, planted
from glossator.datasets.truth_rules import (
    Either,
    Glued,
    Place,
    Run,
    Shape,
    Without,
    Words,
)

CASING, AFFIXES, NUMBERS = "casing", "affixes", "numbers and formats"

WORD = Shape(r"\w[\w']*", ("stone", "road", "garden", "wind"))
CAPITAL = Shape(r"[A-Z]\w*", ("Anna", "Oslo", "Peter", "London", "Maria"))
DIGITS = Shape(r"\d+", ("7", "12", "250", "1984", "31", "6"))
LONG = Shape(r"[A-Za-z]{10,}", ("incredible", "government", "population", "understanding"))
START = Place("sentence", 1, 1)
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
COMMA = Words((",",))


_CASING = (
    planted(
        CASING,
        "words of two letters or more that are written in capital letters alone",
        Shape(r"[A-Z]{2,}", ("NASA", "TD", "USA", "EU", "BBC")),
        broad=("words that begin with a capital letter", CAPITAL),
        narrow=(
            "words of exactly three letters, all of them capital letters",
            Shape(r"[A-Z]{3}", ("USA", "BBC", "FBI")),
        ),
    ),
    planted(
        CASING,
        "words with a capital letter that are not the first of their sentence",
        Without(CAPITAL, START, ("to Oslo", "with Anna", "of London")),
        broad=("words that begin with a capital letter", CAPITAL),
        narrow=(
            "words of eight letters or more, with a capital letter, inside a sentence",
            Without(
                Shape(r"[A-Z]\w{7,}", ("Patriots", "Washington")),
                START,
                ("to Washington", "the Patriots"),
            ),
        ),
    ),
    planted(
        CASING,
        "single capital letters, as in initials",
        Shape(r"[B-HJ-Z]", ("B", "C", "M", "T", "J")),
        broad=(
            "words of one letter, capital or small, such as a, I and B",
            Shape(r"[A-Za-z]", ("a", "I", "B", "s")),
        ),
        narrow=("the single capital letters M and J", Words(("M", "J"), True)),
    ),
    planted(
        CASING,
        "words that begin with a capital S",
        Shape(r"S\w*", ("She", "Sunday", "South", "Some", "Smith")),
        broad=(
            "words that begin with the letter s, capital or small",
            Shape(r"[sS]\w*", ("she", "some", "Sunday", "small", "side")),
        ),
        narrow=(
            "the words She, So and Some, with a capital letter",
            Words(("She", "So", "Some"), True),
        ),
    ),
    planted(
        CASING,
        "words in small letters alone, of ten letters or more",
        Shape(r"[a-z]{10,}", ("incredible", "government", "population", "understanding")),
        broad=(
            "long words, of seven letters or more",
            Shape(r"[A-Za-z]{7,}", ("quarter", "garden's", "picture", "another")),
        ),
        narrow=(
            "words in small letters alone, of twelve letters or more",
            Shape(r"[a-z]{12,}", ("proclamation", "understanding", "relationship")),
        ),
    ),
)  # fmt: skip


def _ending(end: str, others: tuple[str, str], longest: int, examples: str) -> Planted:
    words = tuple(examples.split())
    long = tuple(w for w in words if len(w) >= longest)
    named = f"-{end}, -{others[0]} or -{others[1]}"
    wide = "|".join((end, *others))
    added = tuple(f"nam{other}" for other in others)
    return planted(
        AFFIXES,
        f"words that end in -{end}",
        Shape(rf"(?i)\w{{2,}}{end}", words),
        broad=(f"words that end in {named}", Shape(rf"(?i)\w{{2,}}(?:{wide})", words + added)),
        narrow=(
            f"words of {longest} letters or more that end in -{end}",
            Shape(rf"(?i)(?=\w{{{longest},}}$)\w+{end}", long),
        ),
    )


def _beginning(begin: str, others: tuple[str, str], longest: int, examples: str) -> Planted:
    words = tuple(examples.split())
    long = tuple(w for w in words if len(w) >= longest)
    wide = "|".join((begin, *others))
    added = tuple(f"{other}main" for other in others)
    return planted(
        AFFIXES,
        f"words that begin with {begin}-",
        Shape(rf"(?i){begin}\w{{2,}}", words),
        broad=(
            f"words that begin with {begin}-, {others[0]}- or {others[1]}-",
            Shape(rf"(?i)(?:{wide})\w{{2,}}", words + added),
        ),
        narrow=(
            f"words of {longest} letters or more that begin with {begin}-",
            Shape(rf"(?i)(?=\w{{{longest},}}$){begin}\w+", long),
        ),
    )


_AFFIXES = (
    _ending("ing", ("ed", "er"), 8, "going making running something beginning returning"),
    _ending("ly", ("al", "le"), 8, "only early finally really quickly completely"),
    _ending("tion", ("ment", "er"), 11, "nation action population organization proclamation"),
    _ending("ed", ("ing", "en"), 8, "used named ended continued completed released"),
    _ending("ment", ("ent", "nt"), 10, "moment movement government development agreement"),
    _ending("able", ("le", "al"), 10, "able stable capable considerable unbelievable available"),
    _ending("ous", ("us", "es"), 8, "famous various previous dangerous religious"),
    _ending("ity", ("ty", "ly"), 9, "city quality community university ability possibility"),
    _ending("er", ("or", "ar"), 7, "her never number leader another december"),
    _beginning("re", ("pro", "de"), 8, "red real return record released represented remember"),
    _beginning("con", ("com", "in"), 9, "control contain continued considered connection concert"),
    _beginning("un", ("in", "under"), 8, "until union unable unlikely university unfortunate"),
)  # fmt: skip

_CURRENCY = Words(("$", "£", "€"))
_NUMBERS = (
    planted(
        NUMBERS,
        "numbers written in digits",
        DIGITS,
        broad=(
            "numbers written in digits or as words, such as 12, one and two",
            Either((DIGITS, listed("one two three four five six seven eight nine ten first"))),
        ),
        narrow=("numbers of exactly two digits", Shape(r"\d\d", ("12", "31", "50"))),
    ),
    planted(
        NUMBERS,
        "years of the last five centuries, such as 1863",
        Shape(r"(?:1[5-9]\d\d|20[0-2]\d)", ("1984", "2008", "1863", "1776", "2001")),
        broad=("numbers written in digits", DIGITS),
        narrow=("years from 2000 on", Shape(r"20[0-2]\d", ("2008", "2001", "2015"))),
    ),
    planted(
        NUMBERS,
        "numbers of one digit",
        Shape(r"\d", tuple("1234567")),
        broad=("numbers of one, two or three digits", Shape(r"\d{1,3}", ("12", "350", "7"))),
        narrow=("the digits 1 and 2, standing alone", Words(("1", "2"))),
    ),
    planted(
        NUMBERS,
        "even numbers in digits",
        Shape(r"\d*[02468]", ("12", "250", "8", "1984", "30")),
        broad=("numbers written in digits", DIGITS),
        narrow=("numbers in digits that end in 0", Shape(r"\d*0", ("250", "30", "100"))),
    ),
    planted(
        NUMBERS,
        "numbers in digits, the longer the stronger",
        Shape(r"\d+", ("7", "12", "250", "1984"), full=4),
        broad=(
            "numbers written in digits or as words, such as 12, one and two",
            Either((DIGITS, listed("one two three four five six seven eight nine ten first"))),
        ),
        narrow=("numbers of exactly two digits", Shape(r"\d\d", ("12", "31", "50"))),
    ),
    planted(
        NUMBERS,
        "ordinal numbers with digits, such as 1st and 19th",
        Shape(r"\d+(?:st|nd|rd|th)", ("19th", "1st", "2nd", "3rd", "20th")),
        broad=(
            "words and numbers that begin with a digit",
            Shape(r"\d\w*", ("19th", "12", "1984", "80s")),
        ),
        narrow=("ordinal numbers with digits that end in -th", Shape(r"\d+th", ("19th", "20th"))),
    ),
    planted(
        NUMBERS,
        "the number behind a currency sign, such as 5 in $5",
        Run((_CURRENCY, Glued(DIGITS))),
        broad=("numbers written in digits", DIGITS),
        distractor=("the currency signs $, £ and €", _CURRENCY),
    ),
    planted(
        NUMBERS,
        "the sign % behind a number",
        Run((DIGITS, Words(("%",)))),
        broad=(
            "signs that are neither words nor stops, such as %, $, / and -",
            Words(("%", "$", "/", "-", "&", "*", "+")),
        ),
        distractor=("numbers written in digits", DIGITS),
    ),
    planted(
        NUMBERS,
        "the digits behind a decimal point",
        Run((DIGITS, Glued(Words((".",))), Glued(DIGITS))),
        broad=("numbers written in digits", DIGITS),
        distractor=("stops in a text, such as . and ;", Words((".", ";", ":"))),
    ),
    planted(
        NUMBERS,
        "the three digits behind the comma of a large number",
        Run((DIGITS, Glued(COMMA), Glued(Shape(r"\d{3}", ("000", "500", "250"))))),
        broad=("numbers written in digits", DIGITS),
        narrow=("the digits 000", Words(("000",))),
    ),
    planted(
        NUMBERS,
        "the number of a day behind the name of a month, such as 4 in July 4",
        Run((Words(MONTHS, True), Shape(r"\d\d?", ("4", "12", "31", "22")))),
        broad=("numbers of one or two digits", Shape(r"\d\d?", ("4", "12", "31"))),
        distractor=("names of months, with a capital letter", Words(MONTHS, True)),
    ),
)  # fmt: skip

ABOUT_FORMS = (*_CASING, *_AFFIXES, *_NUMBERS)
