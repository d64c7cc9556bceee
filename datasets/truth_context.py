"""Planted features for which it counts what stands where: phrases, places, brackets, company."""

from __future__ import annotations

from glossator.datasets.truth_claims import Claim, Miss, NearMiss, Planted, listed, planted
from glossator.datasets.truth_forms import CAPITAL, COMMA, DIGITS, LONG, MONTHS, START, WORD
from glossator.datasets.truth_rules import (
    After,
    Both,
    Either,
    Inside,
    Place,
    Rule,
    Run,
    Shape,
    Signed,
    Words,
)

NGRAMS, POSITIONS, BRACKETS = "n-grams", "positions", "brackets and quotes"
NEGATION, CONJUNCTIONS = "negation", "conjunctions"
TAILS, DISTRACTED = "negative tails", "distractor-correlated"

OPEN, CLOSE = Words(("(",)), Words((")",))
QUOTES = Inside(('"', "“"), ('"', "”"))
ROUND = Inside(("(",), (")",))
NOT = listed("not no never don't didn't doesn't can't won't isn't wasn't couldn't")


def _word(word: str) -> tuple[str, Rule]:
    return f'the word "{word}"', listed(word)


def _phrase(phrase: str, distractor: str = "") -> Planted:
    words = phrase.split()
    other = distractor or words[-2]
    return planted(
        NGRAMS,
        f'the last word of the phrase "{phrase}"',
        Run(tuple(map(listed, words))),
        broad=_word(words[-1]),
        distractor=_word(other),
    )


_NGRAMS = tuple(
    map(
        _phrase,
        (
            "to be",
            "one of",
            "it was",
            "have been",
            "is the",
            "in a",
            "as well",
            "the first",
            "out of",
            "on the",
            "this is",
            "by the",
        ),
    )
)

_POSITIONS = (
    planted(
        POSITIONS,
        "the first word of a text",
        Place("text", 1, 1),
        broad=("the first word of each sentence", START),
    ),
    planted(
        POSITIONS,
        "the first ten words of a text, the earlier the stronger",
        Place("text", 1, 10, fall=0.9),
        broad=("the first six words of each sentence", Place("sentence", 1, 6)),
        narrow=("the first word of a text", Place("text", 1, 1)),
    ),
    planted(
        POSITIONS,
        "the first word of each sentence",
        START,
        broad=("the first six words of each sentence", Place("sentence", 1, 6)),
        narrow=(
            "the words The, It and He, with a capital letter",
            Words(("The", "It", "He"), True),
        ),
    ),
    planted(
        POSITIONS,
        "the second word of each sentence",
        Place("sentence", 2, 2),
        broad=("the first six words of each sentence", Place("sentence", 1, 6)),
        distractor=("the first word of each sentence", START),
    ),
    planted(
        POSITIONS,
        "the fourth word of each sentence",
        Place("sentence", 4, 4),
        broad=("the first six words of each sentence", Place("sentence", 1, 6)),
        distractor=("the second word of each sentence", Place("sentence", 2, 2)),
    ),
    planted(
        POSITIONS,
        "the first word behind a comma",
        Run((COMMA, WORD)),
        broad=("the first word behind any mark", Run((Shape(r"[^\w\s]", (",", ";", "-")), WORD))),
        distractor=("commas themselves", COMMA),
    ),
    planted(
        POSITIONS,
        "words behind the thirtieth of a long sentence",
        Place("sentence", 31, 1 << 20),
        broad=("words behind the tenth of a sentence", Place("sentence", 11, 1 << 20)),
        narrow=("words behind the fiftieth of a long sentence", Place("sentence", 51, 1 << 20)),
    ),
    planted(
        POSITIONS,
        "the first word behind a colon or semicolon",
        Run((Words((":", ";")), WORD)),
        broad=("the first word behind any mark", Run((Shape(r"[^\w\s]", (",", ";", "-")), WORD))),
        distractor=("colons and semicolons", Words((":", ";"))),
    ),
)  # fmt: skip

_BRACKETS = (
    planted(
        BRACKETS,
        "words inside round brackets",
        ROUND,
        broad=("words inside round brackets or quotation marks", Either((ROUND, QUOTES))),
        distractor=("opening and closing round brackets", Words(("(", ")"))),
    ),
    planted(
        BRACKETS,
        "words inside quotation marks",
        QUOTES,
        broad=("words inside round brackets or quotation marks", Either((ROUND, QUOTES))),
        distractor=("quotation marks themselves", Words(('"', "“", "”"))),
    ),
    planted(
        BRACKETS,
        "the first word inside round brackets",
        Run((OPEN, WORD)),
        broad=("words inside round brackets", ROUND),
        narrow=("a number that follows an opening round bracket", Run((OPEN, DIGITS))),
    ),
    planted(
        BRACKETS,
        "the closing round bracket",
        CLOSE,
        broad=(
            "marks that end something, such as ), ., ! and ;",
            Words((")", ".", "!", "?", ";", "]")),
        ),
        distractor=("words inside round brackets", ROUND),
    ),
    planted(
        BRACKETS,
        "the first word behind a quotation mark",
        Run((Words(('"', "“", "”")), WORD)),
        broad=("the first word behind any mark", Run((Shape(r"[^\w\s]", (",", ";", "-")), WORD))),
        distractor=("quotation marks themselves", Words(('"', "“", "”"))),
    ),
)

_NEGATION = (
    planted(
        NEGATION,
        "the three words that follow not, no, never or a form such as don't",
        After(WORD, NOT, within=3),
        broad=("all words behind the first not, no or never of a sentence", After(WORD, NOT)),
        distractor=("words that deny, such as not, no, never and don't", NOT),
    ),
    planted(
        NEGATION,
        "contractions with not, such as don't and isn't",
        Shape(r"(?i)\w+n't", ("don't", "didn't", "isn't", "can't")),
        broad=(
            "words with an apostrophe, such as it's, I'm and don't",
            Shape(r"\w+'\w+", ("it's", "I'm", "don't", "he's", "children's")),
        ),
        narrow=("the contraction don't", listed("don't")),
    ),
    planted(
        NEGATION,
        "words for nothing and nobody, such as no, none, nothing and without",
        listed("no none nothing nobody without neither nor"),
        broad=(
            "words for how much, none among them, such as no, all, some and one",
            listed("no none nothing nobody without neither nor all some any one many"),
        ),
        narrow=("the words nothing and without", listed("nothing without")),
    ),
    planted(
        NEGATION,
        'the word "not" behind a form of to be, to do or to have',
        Run((listed("is are was were be do does did has have had am"), listed("not"))),
        broad=("words that deny, such as not, no, never and don't", NOT),
        distractor=(
            "forms of to be, to do and to have",
            listed("is are was were be do does did has have had am"),
        ),
    ),
    planted(
        NEGATION,
        'the word "but" in a sentence in which not or no stood before',
        After(listed("but"), NOT),
        broad=_word("but"),
        distractor=("words that deny, such as not, no, never and don't", NOT),
    ),
)

_THE = listed("the")
_CONJUNCTIONS = (
    planted(
        CONJUNCTIONS,
        'words with a capital letter right behind the word "the"',
        Run((_THE, CAPITAL)),
        broad=("words that begin with a capital letter", CAPITAL),
        distractor=_word("the"),
    ),
    planted(
        CONJUNCTIONS,
        "numbers in digits in a sentence in which a month stood before",
        After(DIGITS, Words(MONTHS)),
        broad=("numbers written in digits", DIGITS),
    ),
    planted(
        CONJUNCTIONS,
        "words that end in -ed in a sentence in which he, she or they stood before",
        After(Shape(r"(?i)\w{2,}ed", ("named", "ended", "returned")), listed("he she they")),
        broad=("words that end in -ed, whatever stood before", Shape(r"(?i)\w{2,}ed", ("used",))),
        distractor=("the pronouns he, she and they", listed("he she they")),
    ),
    planted(
        CONJUNCTIONS,
        "words that begin a sentence and have seven letters or more",
        Both(
            Shape(r"[A-Za-z]{7,}", ("Another", "However")),
            START,
            (". However", ". Another", ". According", ". Although"),
        ),
        broad=("the first word of each sentence", START),
        distractor=(
            "long words, of seven letters or more",
            Shape(r"[A-Za-z]{7,}", ("quarter", "garden's", "picture", "another")),
        ),
    ),
    planted(
        CONJUNCTIONS,
        'the word "and" in a sentence in which a comma stood before',
        After(listed("and"), COMMA),
        broad=_word("and"),
        distractor=("commas themselves", COMMA),
    ),
    planted(
        CONJUNCTIONS,
        "long words right behind a, an or the, of ten letters or more",
        Run((listed("a an the"), LONG)),
        broad=("words of ten letters or more, whatever stands before", LONG),
        narrow=(
            "long words right behind a or an, of ten letters or more",
            Run((listed("a an"), LONG)),
        ),
    ),
    planted(
        CONJUNCTIONS,
        "numbers in digits inside round brackets",
        Both(DIGITS, ROUND, ("(1984)", "(in 2008)", "(12 of 30)")),
        broad=("numbers written in digits", DIGITS),
        distractor=("words inside round brackets", ROUND),
    ),
    planted(
        CONJUNCTIONS,
        'the word "in" right in front of which a word of eight letters or more stands',
        Run((Shape(r"[A-Za-z]{8,}", ("returned", "children", "continued")), listed("in"))),
        broad=_word("in"),
        distractor=(
            "words of eight letters or more",
            Shape(r"[A-Za-z]{8,}", ("returned", "children", "continued")),
        ),
    ),
)  # fmt: skip


def _tail(text: str, rule: Rule, other: str, up: Rule, broad: tuple[str, Rule]) -> Planted:
    """The negative tail of a feature that is raised by `up` and lowered by `rule`."""
    near = (NearMiss(other, up, Miss.TAIL), NearMiss(*broad, Miss.BROAD))
    return Planted(TAILS, Claim(text, rule), near, Signed(rule, up))


_TAILS = (
    _tail("words for she and her", listed("she her hers herself"),
          "words for he and him", listed("he him his himself"),
          ("words for she, her and you", listed("she her hers herself you your it its"))),
    _tail("words for small things, such as small, little and few",
          listed("small little few short low young less"),
          "words for large things, such as large, big and great",
          listed("large big great long high major"),
          ("words for how large things are, small or not, such as little and many",
           listed("small little few short low young less many much more most"))),
    _tail("words for the past, such as was, had and were", listed("was were had did been"),
          "words for what is now, such as is, has and are", listed("is are has have do"),
          ("forms of to be, of all times, such as was and be",
           listed("was were had did been be am being to"))),
    _tail("words of one letter or two, in small letters", Shape("[a-z]{1,2}", ("of", "to", "a")),
          "words of eight letters or more",
          Shape(r"[A-Za-z]{8,}", ("returned", "children", "continued")),
          ("words of one letter to four, in small letters",
           Shape("[a-z]{1,4}", ("of", "with", "the", "from")))),
    _tail("words for later times, such as after, then and next",
          listed("after then later next until again end"),
          "words for earlier times, such as before, first and began",
          listed("before first early began since start already"),
          ("words for times, later ones and others, such as then, when and day",
           listed("after then later next until again end when while during time day"))),
    _tail("question marks and exclamation marks", Words(("?", "!")),
          "full stops and semicolons", Words((".", ";")),
          ("marks that are no full stop, such as ? and !", Words(("?", "!", ",", ":", "-")))),
)  # fmt: skip


def _led(text: str, before: str, what: str, named: str) -> Planted:
    """A word where certain others stand right before it, which alone do not fire it."""
    return planted(
        DISTRACTED,
        text,
        Run((listed(before), listed(what))),
        broad=(f"the words {' and '.join(what.split())}, wherever they stand", listed(what)),
        distractor=(named, listed(before)),
    )


_DISTRACTED = (
    _led('"of" right behind one, some, part, most or kind', "one some part most kind many all",
         "of", "the words one, some, part, most and kind"),
    _led('"to" right behind want, need, going, able or began', "want need going able began used",
         "to", "the words want, need, going, able and began"),
    _led('"was" right behind he, she or it', "he she it", "was", "the pronouns he, she and it"),
    _led('"been" right behind has, have or had', "has have had", "been",
         "the words has, have and had"),
    _led('"than" right behind more, less, better or other', "more less better other rather larger",
         "than", "the words more, less, better and other"),
    _led('"the" right behind in or on', "in on", "the", "the prepositions in and on"),
    _led('"that" right behind so, said, fact or all', "so said fact all know think is",
         "that", "the words so, said, fact and all"),
    _led('"not" right behind did, does, is or would', "did does do is would could was",
         "not", "the words did, does, is and would"),
)  # fmt: skip

ABOUT_CONTEXT = (
    *_NGRAMS,
    *_POSITIONS,
    *_BRACKETS,
    *_NEGATION,
    *_CONJUNCTIONS,
    *_TAILS,
    *_DISTRACTED,
)
