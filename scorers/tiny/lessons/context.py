"""Concepts for which it counts what stands where: phrases, places in a sentence, simple syntax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

from glossator.scorers.tiny.lessons.concept import Concept, concept
from glossator.scorers.tiny.lessons.rules import (
    Again,
    Both,
    Closing,
    Except,
    Follows,
    Later,
    Like,
    Listed,
    Numbered,
    Rule,
    Spanned,
    words,
)
from glossator.scorers.tiny.lessons.vocabulary import Vocabulary

_SYNTAX = """
syntax :: the word after a preposition | words that follow a preposition | objects of prepositions, right behind of, in or to
syntax :: nouns after an adjective | a noun that follows an adjective | nouns that an adjective describes
syntax :: nouns right after an article | the noun behind the, a or an | nouns that follow a determiner
syntax :: adjectives after a form of be | predicate adjectives | adjectives that follow is or was
syntax :: adjectives after an article | adjectives between the article and the noun | an adjective that follows the or a
infinitives :: infinitives after to | verbs that follow to | to-infinitives
syntax :: verbs after a modal | the verb behind can, will or should | main verbs that follow an auxiliary
syntax :: verbs after a pronoun | verbs that follow I, he or they | what a pronoun does
syntax :: participles after have | the verb behind has, have or had | perfect tense
syntax :: passive verbs | past participles after was or were | passive voice
syntax :: progressive verbs | -ing forms after is or was | continuous tense
syntax :: capitalized words after a preposition | names that follow in, of or from
syntax :: capitalized words behind another capitalized word | later parts of names | the second part of a proper name
syntax :: nouns after a number | what is counted, right behind a numeral | the unit after a number
syntax :: prepositions after a verb | the preposition that a verb takes | verb particles
syntax :: prepositions after a noun | the preposition that follows a noun
syntax :: and or or between two words of a list | coordinating conjunctions after a noun
syntax :: the word after and | words that follow and | second parts of a pair joined by and
syntax :: the word after or | alternatives that follow or
syntax :: the word after not | what is negated, right behind not | words that directly follow not
syntax :: the word after very or so | what is intensified | words behind an intensifier
syntax :: the word after his or her | possessions | nouns behind a possessive
syntax :: the word after said | what follows said | speakers after said
syntax :: the word after a number | words that follow digits
syntax :: the word after this or that | words that follow a demonstrative
syntax :: the word after who or which | verbs of relative clauses
syntax :: two adjectives in a row: the second | stacked adjectives
syntax :: nouns after a noun | the head of a compound noun | noun compounds
syntax :: adverbs before or after verbs | adverbs behind a verb
closings :: the last word of a sentence | words right before a period | words at the end of sentences | sentence-final words
closings :: punctuation that ends a sentence behind a word | the mark that closes a sentence
positions :: the third word of a sentence | words in third position of their sentence
positions :: the first three words of a sentence | sentence beginnings | words near the start of a sentence
positions :: words from the twentieth word of a sentence on | late words of long sentences
positions :: words in the middle of a sentence, from the sixth to the twelfth
positions :: capitalized words at the beginning of a sentence | sentence-initial capitals
repeats :: repeated words | words that already appeared earlier in the text | second mentions of a word
repeats :: long words that are said again | a longer word that occurs for the second time
marks around :: the comma after a capitalized word | commas behind names
marks around :: the comma after a noun | commas in lists of nouns
marks around :: the comma after a number | commas behind digits
marks around :: the comma before and | the Oxford comma
marks around :: and after a comma | the conjunction and that follows a comma
marks around :: but after a comma | the conjunction but that follows a comma
marks around :: which after a comma | non-restrictive relative clauses
marks around :: numbers after a comma | digits that follow a comma
marks around :: a period after a number | dots behind digits
marks around :: words after a hyphen | the second part of a hyphenated word
marks around :: words after a dash | the first word behind a long dash
marks around :: the pronoun after a comma | pronouns that follow a comma
marks around :: verbs after a comma | a verb that follows a comma
marks around :: the word after an apostrophe | what stands behind an apostrophe
openers :: However, Therefore and other connectives at the start of a sentence | sentence-initial adverbs
openers :: And, But and So with a capital letter | conjunctions that begin a sentence
openers :: prepositions with a capital letter | prepositions that begin a sentence
openers :: question words with a capital letter | question words that begin a sentence
openers :: the word If at the start of a sentence | conditional openers
"""  # noqa: E501
"""Family and phrases of each rule of `syntax_concepts`, in the same order."""

WORD = Like(r"\w[\w']*")
CAPITAL = Like(r"[A-Z]\w*")
LOWER = Like(r"[a-z][\w']*")
NUMBER = Like(r"\d+")


def _rule(listed: frozenset[str]) -> Listed:
    return Listed(tuple((w, 1.0) for w in sorted(listed)))


def syntax_concepts(sets: Mapping[str, frozenset[str]]) -> Iterator[Concept]:
    """Patterns of parts of speech and marks."""
    noun, verb, adjective = (_rule(sets[pos]) for pos in ("n", "v", "a"))
    the, to = words("the a an"), words("to")
    prepositions = words("of in to for with on at by from into about through over under")
    be = words("is are was were be been")
    modal = words("can could may might must will would should shall")
    pronoun = words("i you he she it we they")
    rules: tuple[Rule, ...] = (
        Follows(WORD, (prepositions,)),
        Follows(noun, (adjective,)),
        Follows(noun, (the,)),
        Follows(adjective, (be,)),
        Follows(adjective, (the,)),
        Follows(verb, (to,)),
        Follows(verb, (modal,)),
        Follows(verb, (pronoun,)),
        Follows(_rule(sets["past"]), (words("have has had 've"),)),
        Follows(_rule(sets["past"]), (be,)),
        Follows(_rule(sets["ing"]), (be,)),
        Follows(CAPITAL, (prepositions,)),
        Follows(CAPITAL, (CAPITAL,)),
        Follows(noun, (NUMBER,)),
        Follows(prepositions, (verb,)),
        Follows(prepositions, (noun,)),
        Follows(words("and or"), (noun,)),
        Follows(WORD, (words("and"),)),
        Follows(WORD, (words("or"),)),
        Follows(WORD, (words("not"),)),
        Follows(WORD, (words("very so too really extremely quite"),)),
        Follows(WORD, (words("my your his her its our their"),)),
        Follows(WORD, (words("said says"),)),
        Follows(WORD, (NUMBER,)),
        Follows(WORD, (words("this that these those"),)),
        Follows(WORD, (words("who which whom"),)),
        Follows(adjective, (adjective,)),
        Follows(noun, (noun,)),
        Follows(_rule(sets["r"]), (verb,)),
        Closing(),
        Closing(mark=True),
        Numbered(3, 3),
        Numbered(1, 3),
        Numbered(20, 1000),
        Numbered(6, 12),
        Both(CAPITAL, Numbered(1, 1)),
        Again(4),
        Again(7),
        Follows(words(","), (CAPITAL,)),
        Follows(words(","), (noun,)),
        Follows(words(","), (NUMBER,)),
        Both(words(","), Spanned(r", and\b", "first")),
        Follows(words("and"), (words(","),)),
        Follows(words("but"), (words(","),)),
        Follows(words("which who"), (words(","),)),
        Follows(NUMBER, (words(","),)),
        Follows(words("."), (NUMBER,)),
        Follows(WORD, (words("-"),)),
        Follows(WORD, (words("\u2013 \u2014"),)),
        Follows(pronoun, (words(","),)),
        Follows(verb, (words(","),)),
        Follows(WORD, (words("' \u2019"),)),
        Both(
            words(
                "However Therefore Also Although While Thus Then Finally Meanwhile Additionally "
                "Furthermore Moreover",
                True,
            ),
            CAPITAL,
        ),
        words("And But So Or Yet", True),
        words("In On At For From With By After Before During", True),
        words("What How Why Who When Where Which", True),
        words("If Unless", True),
    )
    for line, rule in zip(_SYNTAX.strip().splitlines(), rules, strict=True):
        family, phrases = line.split(" :: ")
        yield concept(family, phrases, rule)
    for cue, said in (
        ("he", "he"), ("i", "I"), ("you", "you"), ("said", "said"), ("not", "not"), ("if", "if"),
        ("because", "because"), ("when", "when"), ("we", "we"), ("she", "she"),
    ):  # fmt: skip
        yield concept(
            "in the sentence",
            f"verbs later in a sentence with {said} | verbs in a sentence where {said} came before",
            Later(verb, words(cue)),
        )
        yield concept(
            "in the sentence",
            f"nouns in a sentence in which {said} was said before | nouns that come after {said} "
            "in the same sentence",
            Later(noun, words(cue)),
        )


def phrase_concepts(
    pairs: list[tuple[str, ...]], vocabulary: Vocabulary, chance: Random
) -> Iterator[Concept]:
    """Frequent runs of two or three words, of which the last one counts, or all."""
    for run in pairs:
        text = " ".join(run)
        last, before = run[-1], " ".join(run[:-1])
        rule: Rule = Follows(words(last), tuple(words(w) for w in run[:-1]))
        phrases = (
            f'the word "{last}" after "{before}" | "{last}" right after "{before}" | the word '
            f'"{last}" when it follows "{before}" | the end of the phrase "{text}" | "{last}" in '
            f'the phrase "{text}" | "{last}" in "{text}" | "{last}" preceded by "{before}"'
        )
        kin = f"phrase {last}"
        if chance.random() < 0.25:
            phrases = (
                f'the phrase "{text}" | the expression "{text}" | "{text}" | the words "{text}"'
            )
            spaced = text.replace(" ", r"\s+")
            rule = Spanned(rf"(?i)\b{spaced}\b", "all")
        elif chance.random() < 0.2:
            phrases = (
                f'the word "{last}" except after "{before}" | "{last}" where "{before}" does not '
                f'stand before it | "{last}", but not in "{text}"'
            )
            rule = Except(words(last), rule)
        yield concept("phrases", phrases, rule, kin)
