"""Concepts of form: case, letters, numbers, formats, code; patterns over words and over text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from glossator.scorers.tiny.lessons.concept import Concept, concept
from glossator.scorers.tiny.lessons.rules import Like, Spanned

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"

_WORDS = r"""
case :: [A-Z][a-z]{4,} :: capitalized words of five letters or more | longer words that start with an uppercase letter
case :: [A-Z]{2,5} :: acronyms | abbreviations in capitals such as FBI and UK | short all-caps words
case :: [A-Z]{4,} :: words in all caps with four letters or more | SHOUTED words
case :: [a-z]+ :: lowercase words | words written without capitals
case :: [a-z]*[A-Z][a-z]+[A-Z]\w* :: camel case words such as iPhone and YouTube | mixed-case names
case :: [A-Z]\w? :: capital letters standing alone or with one more letter | very short capitalized words
case :: [A-Z][a-z]+(?:son|ton|ley|man|berg|ford) :: capitalized names that end in -son, -ton, -ley, -man, -berg or -ford | English surnames and place names by their ending
case :: I :: the capital letter I | the pronoun I
case :: The|A|An :: capitalized articles | The or A at the start of a sentence
case :: He|She|They|We|It :: capitalized pronouns | pronouns that begin a sentence
letters :: \w{1,3} :: very short words | words of at most three letters
letters :: [A-Za-z]{3} :: words of three letters | three-letter words
letters :: [A-Za-z]{4} :: four-letter words | words with exactly four letters
letters :: [A-Za-z]{5} :: five-letter words | words with exactly five letters
letters :: [A-Za-z]{9,} :: long words | words of nine or more letters
letters :: [A-Za-z]{12,} :: very long words | words of at least twelve letters
letters :: (?i)\w*(.)\1\w* :: words with a double letter, such as all and book | words in which a letter is doubled
letters :: (?i)[aeiou]\w+ :: words that begin with a vowel | words starting with a, e, i, o or u
letters :: (?i)\w+[aeiou] :: words that end in a vowel | words whose last letter is a vowel
letters :: (?i)\w*[xz]\w* :: words with an x or z | words that contain the letters x or z
letters :: (?i)\w*q\w* :: words with the letter q | words containing q
letters :: (?i)\w+-?y :: words ending in y | words whose last letter is y
letters :: (?i)\w*[^\Waeiouy\d_]{3}\w* :: words with three consonants in a row | consonant clusters
numbers :: \d{3,} :: numbers of three digits or more | longer numerals
numbers :: \d{4} :: four-digit numbers | numbers with exactly four digits
numbers :: 19\d\d :: years of the twentieth century | years such as 1945 and 1987 | numbers that begin with 19
numbers :: 1[0-8]\d\d :: years before 1900 | years from the Middle Ages to the nineteenth century
numbers :: \d*[13579] :: odd numbers | numbers in digits that are odd
numbers :: \d+0s|\d0s :: decades such as 1990s and 80s | names of decades in digits
numbers :: \d+[a-z]{1,2} :: numbers with a letter behind them, as in 5k and 10am | digits followed by letters
numbers :: \d*[05] :: numbers divisible by five | numbers that end in 0 or 5
numbers :: [IVX]{2,} :: Roman numerals | numerals such as II, IV and XIX
numbers :: 0\d* :: numbers that begin with zero | digits with a leading zero
marks :: [^\w\s] :: punctuation of all kinds | any character that is neither letter nor digit
marks :: [^\x00-\x7f]+ :: non-ASCII characters | unusual Unicode symbols
marks :: \w*[à-ÿ]\w* :: words with accents | accented letters
"""  # noqa: E501
"""Family, a pattern that a word fits, and phrases."""
_SPANS = r"""
formats :: all :: MONTH \d{1,2}(?:, \d{4})?|\d{1,2} MONTH(?: \d{4})?|\d{1,2}/\d{1,2}/\d{2,4}|\d{4}-\d\d-\d\d :: dates | calendar dates | dates such as May 5, 2012 | references to specific dates
formats :: all :: [$£€]\d[\d,.]*(?: (?:million|billion))?|\d+ (?:dollars|euros|pounds) :: prices | amounts of money | sums of money such as $20 | monetary values
formats :: all :: \d{1,2}:\d\d(?: ?[apAP]\.?[mM]\.?)?|\d{1,2} ?[ap]\.?m\.?\b :: clock times | times of day in digits such as 7:30 | times like 5 pm
formats :: all :: \d+(?:\.\d+)?(?: ?%| percent) :: percentages | shares in percent | numbers with a percent sign
formats :: all :: https?://\S+|www\.\S+|\b\w+\.(?:com|org|net)\b :: URLs | web addresses | links to web pages | internet addresses
formats :: all :: \S+@\S+\.\w+ :: e-mail addresses | email addresses | addresses with an @
formats :: all :: \d+\.\d+ :: decimal numbers | numbers with a decimal point
formats :: all :: \d{1,3}(?:,\d{3})+ :: large numbers with commas | numbers such as 12,000 | thousands separated by commas
formats :: all :: \d+ ?[-–] ?\d+ :: ranges and scores such as 3-1 | two numbers joined by a dash | number ranges
formats :: all :: \d+-year-old|\d+ years? old|aged? \d+ :: ages of people | expressions of age such as 12-year-old
formats :: all :: \(\d{4}\)|\(\d{4}[-–]\d{2,4}\) :: years in parentheses | bracketed years
formats :: all :: \d+ (?:miles|feet|meters|metres|km|kilometers|inches|yards|acres) :: distances and lengths | measurements such as 10 miles
formats :: all :: \d+ (?:minutes|hours|days|weeks|months|years|seconds) :: durations | a number with a unit of time, as in 10 days
formats :: all :: (?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof)\. :: abbreviated titles such as Mr. and Dr. | titles with a period
formats :: all :: \b(?:e\.g\.|i\.e\.|etc\.?|vs\.?) :: Latin abbreviations such as e.g. and etc. | the abbreviations i.e. and e.g.
formats :: all :: \b[A-Z]\.(?: ?[A-Z]\.)* :: initials with periods | abbreviations such as U.S. | letters followed by a dot
formats :: all :: \b[a-z]+-[a-z]+(?:-[a-z]+)* :: hyphenated words | compounds with a hyphen such as well-known
formats :: all :: \b[A-Z][a-z]+ [A-Z][a-z]+ :: full names | two capitalized words in a row | first and last names of people
formats :: last :: \b[A-Z][a-z]+ [A-Z][a-z]+ :: the last name in a full name | surnames that follow a first name
formats :: last :: \b[A-Z][a-z]+, [A-Z][a-z]+ :: the state or country after a city and a comma | the place after a comma in City, State
formats :: all :: \n+ :: line breaks | newlines | blank lines between paragraphs | newline tokens
formats :: last :: \n+\s*\w+ :: the first word of a line | words that begin a new line | words right after a newline
formats :: all :: \n+\s*(?:\d+[.)]|[-*•]) :: list markers at the beginning of a line | bullets and item numbers
formats :: first :: [a-zA-Z]+:  :: words before a colon | labels followed by a colon
formats :: all :: \.\.\.|… :: ellipses | three dots
formats :: all :: [!?]{2,}|! :: exclamation points, single or repeated | excited punctuation
formats :: all :: \w+'s\b :: possessive nouns with 's | words ending in an apostrophe and s
formats :: all :: --|—|– :: long dashes | double hyphens and em dashes
formats :: all :: \",|,\"|,” :: a comma next to a closing quotation mark | the comma that ends a quotation
formats :: all :: \[[^\]]{0,60}\] :: text in square brackets | bracketed notes
code :: all :: </?\w+[^>\n]*> :: HTML tags | markup tags in angle brackets | XML elements
code :: all :: </\w+> :: closing HTML tags | end tags
code :: all :: (?<=\\)[a-zA-Z]+|\\[a-zA-Z]+ :: LaTeX commands | backslash commands | words after a backslash
code :: all :: \b\w+(?=\() :: names of functions being called | the identifier before an opening parenthesis in code
code :: all :: \b\w+(?= = ) :: variables that are assigned | names on the left of an equals sign
code :: all :: \b(?:def|class|return|import|from|if|else|for|while|try|except|function|var|const|let|public|static|void|int)\b :: keywords of programming languages | code keywords such as return and def
code :: all :: #[^\n]*|//[^\n]* :: comments in source code | code comments
code :: all :: [{}] :: curly braces | { and } in code
code :: all :: ==|!=|<=|>=|\+=|&&|\|\||->|=> :: operators in code | comparison operators such as == and <=
code :: all :: \b\w+_\w+\b :: snake case identifiers | names with an underscore
code :: all :: (?<=['\"])[^'\"\n]{1,30}(?=['\"]) :: string literals | text between quotes
code :: all :: \$[^$\n]{1,40}\$ :: inline math between dollar signs | LaTeX formulas
code :: all :: self|this :: self or this in object-oriented code | references to the current object
code :: all :: ;(?=\n|$) :: semicolons at the end of a line of code | statement terminators
"""  # noqa: E501
"""Family, which words count of what the pattern finds in the text, the pattern, and phrases."""

_SUFFIXES = (
    ("ness", "kindness"), ("ful", "careful"), ("less", "endless"), ("ist", "artist"),
    ("ism", "tourism"), ("ward", "forward"), ("ship", "friendship"), ("hood", "childhood"),
    ("ive", "active"), ("al", "local"), ("ic", "public"), ("ize", "realize"), ("ate", "private"),
    ("ance", "distance"), ("ence", "science"), ("ant", "important"), ("ent", "different"),
    ("age", "village"), ("ist", "scientist"), ("ian", "musician"), ("est", "largest"),
    ("en", "open"), ("or", "actor"), ("ure", "picture"), ("ish", "british"), ("ght", "right"),
    ("th", "month"), ("ck", "back"), ("nd", "hand"), ("ology", "biology"), ("ia", "india"),
    ("ese", "japanese"), ("land", "england"), ("burg", "hamburg"), ("ton", "boston"),
    ("some", "handsome"), ("self", "himself"), ("one", "someone"), ("thing", "something"),
    ("body", "somebody"), ("ough", "though"), ("ould", "could"), ("ss", "class"), ("es", "types"),
    ("ies", "cities"), ("sion", "version"), ("ture", "nature"), ("ery", "very"), ("ary", "library"),
    ("ical", "medical"), ("ative", "native"), ("s", "years"), ("e", "have"), ("t", "that"),
)  # fmt: skip
_PREFIXES = (
    ("dis", "discover"), ("mis", "mistake"), ("pre", "present"), ("inter", "international"),
    ("over", "overall"), ("sub", "subject"), ("super", "supermarket"), ("trans", "transport"),
    ("anti", "antibody"), ("auto", "automatic"), ("de", "decide"), ("ex", "example"),
    ("fore", "foreign"), ("im", "important"), ("micro", "microwave"), ("multi", "multiple"),
    ("non", "nonsense"), ("out", "outside"), ("photo", "photograph"), ("semi", "seminar"),
    ("tele", "television"), ("com", "company"), ("per", "person"), ("sh", "should"),
    ("st", "state"),
    ("th", "think"), ("ch", "child"), ("str", "street"), ("wh", "which"), ("bl", "black"),
    ("gr", "great"), ("a", "about"), ("m", "more"), ("w", "work"), ("k", "know"), ("pa", "part"),
    ("mo", "more"), ("any", "anything"), ("every", "everything"), ("some", "something"),
)  # fmt: skip
_PARTS = ("oo", "ee", "ight", "ea", "ou", "ar", "ch", "ck", "qu", "ph", "man", "er", "art", "ll",
          "ss", "sc", "ring", "and", "ound", "old", "eat", "rt")  # fmt: skip


def form_concepts() -> Iterator[Concept]:
    """All of them."""
    for line in _WORDS.strip().splitlines():
        family, pattern, phrases = line.split(" :: ")
        yield concept(family, phrases, Like(pattern))
    kinds: dict[str, Literal["all", "first", "last"]]
    kinds = {"all": "all", "first": "first", "last": "last"}
    for line in _SPANS.strip().splitlines():
        family, which, pattern, phrases = line.split(" :: ")
        yield concept(family, phrases, Spanned(pattern.replace("MONTH", _MONTH), kinds[which]))
    for end, example in _SUFFIXES:
        phrases = (
            f"words ending in -{end} | words with the suffix -{end} | tokens ending in -{end} | "
            f'words that end with "{end}" | words ending in "{end}", such as {example} | '
            f"-{end} words | the ending -{end} | words like {example} that end in -{end}"
        )
        yield concept("suffixes", phrases, Like(rf"(?i)\w+{end}"))
    for begin, example in _PREFIXES:
        phrases = (
            f"words starting with {begin}- | words with the prefix {begin}- | {begin}- words | "
            f'words that start with "{begin}" | words beginning with "{begin}", such as {example} '
            f"| tokens starting with {begin}- | the beginning {begin}-"
        )
        yield concept("prefixes", phrases, Like(rf"(?i){begin}\w+"))
    for part in _PARTS:
        phrases = (
            f'words containing "{part}" | words with the letters {part} in them | words that have '
            f'"{part}" somewhere inside | tokens with "{part}"'
        )
        yield concept("substrings", phrases, Like(rf"(?i)\w*{part}\w*"))
    for letter in "bcdfghlnoprtv":
        phrases = (
            f"words starting with {letter} | words that begin with the letter {letter} | words "
            f"whose first letter is {letter.upper()}"
        )
        yield concept("initials", phrases, Like(rf"(?i){letter}\w*"))
        phrases = f"words ending in {letter} | words whose last letter is {letter}"
        yield concept("finals", phrases, Like(rf"(?i)\w*{letter}"))
        big = letter.upper()
        phrases = f"capitalized words starting with {big} | names that begin with {big}"
        yield concept("initials", phrases, Like(rf"{big}\w+"))
