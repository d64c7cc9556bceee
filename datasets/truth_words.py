"""Planted features that are about words: single ones, lists, topics, words of two senses."""

from __future__ import annotations

from glossator.datasets.truth_claims import Claim, Miss, NearMiss, Planted, listed, planted
from glossator.datasets.truth_rules import Either, Words

TOKENS, LISTS, TOPICS, SENSES = "single tokens", "word lists", "topics", "two senses"

_TOKENS = (
    ("because", "words that give a reason, such as because, since, as and so", "since as so for"),
    ("however", "words of contrast, such as however, but, although and yet", "but although yet"),
    ("between", "words for where a thing is, such as between, over, under and near",
     "over under near at behind"),
    ("people", "words for persons, such as people, man, woman and child",
     "man men woman women child children person he she"),
    ("time", "words for spans of time, such as time, day, week and year",
     "day days week year years hour minutes when"),
    ("city", "words for places where people live, such as city, house, home and town",
     "house home town country state states village"),
    ("would", "auxiliary verbs, such as would, could, can and will",
     "could can will should may might must"),
    ("they", "pronouns of the third person, such as they, he, she and it", "he she it"),
    ("first", "ordinal numbers and other words of order, such as first, second, last and then",
     "second third last next then after before"),
    ("good", "words of praise and blame, such as good, great, bad and poor",
     "great best better well bad poor new"),
    ("after", "words for when a thing happens, such as after, before, when and then",
     "before when then while until during"),
    ("more", "words for how much there is, such as more, most, all and some",
     "most all some many much few less"),
)  # fmt: skip
"""A word, a broader description, and what that adds."""


def _token(word: str, broad: str, more: str) -> Planted:
    capital = word.capitalize()
    return planted(
        TOKENS,
        f'the word "{word}"',
        listed(word),
        broad=(broad, Words((word, *more.split()))),
        narrow=(f'the word "{capital}" where it has a capital letter', Words((capital,), True)),
    )


_LISTS = (
    ("names of colours, such as red, green and white",
     "red green blue white black yellow brown gold",
     "the colour black", "black",
     "words for how a thing looks, such as red, large, new and long",
     "large new long old small high big young little"),
    ("names of months, such as March and October",
     "January February April June July August September October November December",
     "the last months of a year, November and December", "November December",
     "names of months and words for when, such as October, later and then",
     "later then now early when after"),
    ("names of weekdays, such as Monday and Friday",
     "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
     "the weekdays Monday and Tuesday", "Monday Tuesday",
     "words for days and nights, such as Friday, day, week and night",
     "day days night week year today time"),
    ("words for relatives, such as father, wife and son",
     "father mother son daughter brother sister wife husband family parents",
     "words for the parents of somebody, such as father and mother", "father mother parents",
     "words for persons, relatives among them, such as wife, man and he",
     "man men woman friend people he she who"),
    ("words for parts of the body, such as hand, head and eyes",
     "hand hands head eyes face heart hair foot feet arm body",
     "the words hand and hands", "hand hands",
     "words for parts of things, such as hand, side, end and part",
     "side end part point line top back door"),
    ("verbs of speaking, such as said, told and asked",
     "said told asked says called say stated wrote announced",
     "verbs of asking and calling, such as asked and called", "asked called",
     "verbs of what people did, such as said, went, took and was",
     "went took made got was had found gave"),
    ("verbs of coming and going, such as came, went and returned",
     "went came go come goes going left returned moved leave ran run",
     "the verbs went and came", "went came",
     "verbs for what people do, such as go, get, take and make",
     "get take make made took have had do give"),
    ("words that ask, such as who, what, where and how",
     "who what where how why whom whose",
     "the words what and why", "what why",
     "words that ask or join, such as who, which, that and if", "which that if when whether"),
    ("prepositions of direction, such as from, into and through",
     "from into through toward towards across along out",
     "the prepositions into and through", "into through",
     "prepositions, such as from, of, in, on and at", "of in on at by with to"),
    ("numbers written as words, such as two, three and ten",
     "one two three four five six seven eight nine ten",
     "the numbers four to ten written as words", "four five six seven eight nine ten",
     "words for how many, such as two, both, many and all",
     "both many all some few several any no a"),
    ("words for the one who speaks, such as I, me, my and our",
     "I me my mine we us our myself",
     "words for those who speak together, such as we and our", "we us our",
     "personal pronouns, such as I, you, they and his",
     "you your he she it they his her their them"),
    ("adverbs of time, such as now, then, later and again",
     "now then later again today soon already once ago yesterday",
     "the adverbs now and today", "now today",
     "adverbs, such as now, very, also and only", "very also only just even so well not"),
)  # fmt: skip
"""A description and its words; a narrower one and its words; a broader one and what it adds."""

_TOPICS = (
    ("games and sports, such as game, team and score",
     "game games team teams score player players season ball goal coach match win field play"),
    ("war and armies, such as war, army and soldiers",
     "war army soldiers military battle troops forces weapons killed attack enemy officer peace"),
    ("states and their rule, such as government, law and party",
     "government law party president council minister political vote election court act state"),
    ("songs and those who make them, such as music, band and album",
     "music album band song songs singer concert guitar piano record sing dance listen"),
    ("belief and worship, such as church, God and holy",
     "church god holy christian bible faith prayer religious bishop pope temple religion soul"),
    ("illness and healing, such as doctor, pain and disease",
     "doctor pain disease hospital medical health treatment patients sick drug symptoms blood"),
    ("buying and selling, such as money, price and market",
     "money price market company business bank cost pay buy sell sold tax trade economic economy"),
    ("computers and what runs on them, such as software, data and file",
     "software data file files computer internet web users user code program click page system"),
    ("schools and learning, such as school, students and book",
     "school students student university college teacher class learn book books education study"),
    ("land, water and weather, such as river, mountain and rain",
     "river mountain rain island lake sea water forest wind snow south north coast valley sun"),
)  # fmt: skip
"""What a topic is about, and its words; two others are added for a broader description."""


def _topic(i: int) -> Planted:
    about, words = _TOPICS[i]
    (other, more), (third, most) = (_TOPICS[(i + k) % len(_TOPICS)] for k in (1, 3))
    some = words.split()[:3]
    return planted(
        TOPICS,
        f"words about {about}",
        listed(words),
        broad=(
            f"words about {_named(about)}, {_named(other)}, or {_named(third)}",
            listed(f"{words} {more} {most}"),
        ),
        narrow=(f"the words {some[0]}, {some[1]} and {some[2]}", listed(" ".join(some))),
    )


def _named(about: str) -> str:
    return about.partition(", such as")[0]


_SENSES = (
    ('the word "bank"', "bank banks", "words for young animals and children", "child children dog"),
    ("forms of the verb to use", "use used using uses", "names of compass points",
     "north south east west"),
    ("words for fire and heat", "fire hot heat burn burning warm",
     "the words under and below", "under below beneath"),
    ("the verbs to know and to think", "know think thought knew known",
     "words for centuries and years", "century centuries year years"),
    ("words for buildings, such as house and church", "house church building room home castle",
     "the words very and really", "very really extremely quite"),
    ("forms of the verb to play", "play played playing plays", "the words key and set",
     "key keys set sets"),
    ("words for kings and presidents", "king president queen prince minister lincoln",
     "the words off and away", "off away"),
    ("the words against and without", "against without",
     "forms of the verb to see", "see saw seen seeing sees"),
    ("words for a lack or a loss", "lost loss lack lose losing less",
     "words for friends", "friend friends member members group"),
    ("the words same and different", "same different", "forms of the verb to make",
     "make made making makes"),
)  # fmt: skip


def _senses(one: str, words: str, other: str, more: str) -> Planted:
    first, second = Claim(one, listed(words)), Claim(other, listed(more))
    return Planted(
        SENSES,
        Claim(f"{one}, and also {other}", Either((first.rule, second.rule))),
        tuple(NearMiss(c.text, c.rule, Miss.SENSE) for c in (first, second)),
    )


ABOUT_WORDS = (
    *(_token(*row) for row in _TOKENS),
    *(
        planted(
            LISTS,
            text,
            # the first ones are the strongest, as in a feature that leans to some of its words
            Words(tuple(words.split()), fall=0.5),
            broad=(broad, listed(f"{words} {more}")),
            narrow=(narrow, listed(some)),
        )
        for text, words, narrow, some, broad, more in _LISTS
    ),
    *(_topic(i) for i in range(len(_TOPICS))),
    *(_senses(*row) for row in _SENSES),
)
