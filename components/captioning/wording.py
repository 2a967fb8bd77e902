"""From a model's answer to a caption: what is shown stays, words for medium and style are removed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

_DETERMINER = r"(?:an?|the|this|that|these|its|his|her|their|some)"
# Words that begin a new phrase: a style word after one of them says nothing about what comes before it.
_BREAK = r"(?:in|on|at|with|of|by|from|near|and|or|is|are|was|were|has|under|behind|beside|\w+ing)\b"
_SHOWS = (
    r"(?:of|shows?|showing|depicts?|depicting|features?|featuring|portrays?|portraying|presents?|captures?|capturing|illustrates?|"
    r"displays?|contains?|with)"
)
_PREPOSITION = r"(?:in|with|as|like|of|by|from|on|using|and|or|holding|wearing)"
_ARTIST = r"(?-i:\s+of\s+[A-Z][\w'’.-]*(?:\s+(?:(?:van|von|de|da|del|der|di|la)\s+)*[A-Z][\w'’.-]*)*)?"
_DANGLING = re.compile(rf"(?:^|\s)(?:in|with|as|like|of|by|from|on|using|and|or|but|{_DETERMINER})$", re.I)
_LEADING = re.compile(r"^(?:and|or|but|of)\s+", re.I)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'“])")
_CLAUSE_END = re.compile(r"\s*[,;:]\s+|\s+[–—-]\s+")
_SHORT_CLAUSE = 4
"""A clause with fewer words than this before its style word says nothing but the style."""


def caption_of(answer: str, omit: Sequence[str], prompt: str = "") -> str:
    """The caption in a model's answer, on one line, without any word of ``omit``; empty if nothing is left.

    A phrase, a clause or a sentence is removed with the style word that it is about: ``A watercolor painting of a dog in a garden, in
    the style of Monet.`` becomes ``a dog in a garden``. Only whole words match, in the singular and plural, in any case. ``prompt`` is
    the text that the model continued. An unfinished last sentence is cut off if a complete one precedes it.
    """
    text = _plain(answer)
    if prompt and text.casefold().startswith(prompt.casefold()):
        text = text[len(prompt) :].strip()
    sentences = _SENTENCE_END.split(text)
    if len(sentences) > 1 and not sentences[-1].endswith((".", "!", "?")):
        del sentences[-1]
    words = _patterns(tuple(omit))
    bare = (sentence.strip(" ,.;:!-") for sentence in sentences)
    kept = [_leave_out(sentence, words) if words else sentence for sentence in bare]
    return _begin(". ".join(sentence for sentence in kept if sentence))


def _plain(answer: str) -> str:
    """The text on one line, without markup, enclosing quotation marks or an introduction such as ``Caption:``."""
    text = " ".join(re.sub(r"[*_#`]+|<[^<>]*>", " ", answer).split())
    text = re.sub(r"\s+(?=[.;:!?])", "", re.sub(r"(?:\s*,)+", ",", text))
    text = re.sub(r"^[^.:]{0,40}\b(?:caption|description)\b[^.:]{0,20}:\s*", "", text, flags=re.I)
    return re.sub(r"^there (?:is|are)\s+", "", text.strip("\"'“”‘’ "), flags=re.I)


def _begin(text: str) -> str:
    """Lower-case a first word such as an article: a caption follows ``a photo of sks style,``, so it does not begin a sentence."""
    first = text.partition(" ")[0]
    return (
        text[:1].lower() + text[1:] if re.fullmatch(rf"{_DETERMINER}|two|three|four|five|several|many|people|there", first, re.I) else text
    )


@dataclass(frozen=True)
class _Patterns:
    """``word`` finds a style word, ``lead`` the words that introduce a subject, ``about`` a sentence on the style alone.

    ``phrases`` mean nothing without the style word and are removed with it; before a noun (``attributes``) and elsewhere (``rest``) the
    word is removed alone.
    """

    word: re.Pattern[str]
    lead: re.Pattern[str]
    about: re.Pattern[str]
    phrases: tuple[re.Pattern[str], ...]
    attributes: re.Pattern[str]
    rest: re.Pattern[str]


@cache
def _patterns(omit: tuple[str, ...]) -> _Patterns | None:
    spelled = [r"[\s-]+".join(re.escape(part) for part in re.split(r"[\s-]+", phrase.strip())) for phrase in omit if phrase.strip()]
    if not spelled:
        return None
    # Longest first, so that "pixel art" is removed as a whole even if "art" is listed too.
    word = rf"(?<![\w-])(?:{'|'.join(sorted(spelled, key=len, reverse=True))})(?:e?s)?(?![\w-])"
    before = rf"(?:(?:{word}|(?!{_BREAK})[\w'’-]+)\s+)"
    is_last = rf"(?!\s+(?!{_BREAK}|{_DETERMINER}\b)\w)"
    phrases = (
        rf"\s*\bin\s+{_DETERMINER}\s+(?:(?!{_BREAK})[\w'’-]+,?\s+){{0,4}}{word}(?<=style){_ARTIST}",
        rf"\s*\b{_PREPOSITION}\s+{_DETERMINER}\s+{before}{{0,3}}{word}{_ARTIST}{is_last}",
        rf"\s*\b{_PREPOSITION}\s+{before}{{0,1}}{word}{_ARTIST}{is_last}",
        # What somebody in the picture is painting or drawing.
        rf"\s*{word}(?<=ing)\s+{_DETERMINER}\s+[\w'’-]+",
    )
    verbs = r"(?:is|are|was|were|has|have|uses?|looks?|seems?)"

    def compiled(pattern: str) -> re.Pattern[str]:
        return re.compile(pattern, re.I)

    return _Patterns(
        compiled(word),
        compiled(rf"^(?:(?:this|that|it|here)\s+is\s+)?(?:{_DETERMINER}\s+)?{before}{{0,4}}?{word}\s+(?:that\s+|which\s+|is\s+)?{_SHOWS}\s+"),
        compiled(rf"^(?:{_DETERMINER}\s+)?{before}{{0,3}}?{word}(?:\s+of\s+{word})?\s+{verbs}\b"),
        tuple(compiled(phrase) for phrase in phrases),
        compiled(rf"\b(an?)\s+(?:{word}\s+)+(?=(\w))"),
        compiled(rf"(?:\b{_DETERMINER}\s+)?{word}{_ARTIST}"),
    )  # fmt: skip


def _leave_out(sentence: str, words: _Patterns) -> str:
    """Remove style words from a sentence; one that has none stays as it is."""
    if not words.word.search(sentence):
        return sentence
    text, led = words.lead.subn("", sentence, count=1)
    if not led and words.about.search(text):
        return ""
    text = words.phrases[0].sub("", text)
    clauses = (_clause(clause.strip(), words) for clause in _CLAUSE_END.split(text))
    return ", ".join(clause for clause in clauses if clause)


def _clause(text: str, words: _Patterns) -> str:
    text = words.lead.sub("", text, count=1)
    if _names_the_style(text, words):
        return ""
    for phrase in words.phrases:
        text = phrase.sub(" ", text)
    text = words.attributes.sub(lambda found: ("an " if found[2].lower() in "aeiou" else "a ") if found[1] else "", text)
    text = " ".join(text.split())
    # Repeated, since what is left may join up to another style word: "pixel photo art".
    while words.word.search(text):
        text = " ".join(words.rest.sub(" ", text).split())
    before = None
    while before != text:
        before, text = text, _DANGLING.sub("", _LEADING.sub("", text.strip(" ,.;:-"))).strip()
    return text


def _names_the_style(clause: str, words: _Patterns) -> bool:
    """Whether a short clause ends with a style word, as in ``bold visible brushstrokes``, and so says nothing else."""
    *_, last = [None, *words.word.finditer(clause)]
    if last is None or last.end() != len(clause):
        return False
    rest = clause[: last.start()]
    return len(rest.split()) < _SHORT_CLAUSE and not re.search(rf"(?:^|\s){_BREAK}", words.word.sub("", rest), re.I)
