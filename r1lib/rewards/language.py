"""Does the model think in the language of the question? The paper's language-consistency reward, by script.

Counting words by script needs no model, gives the same on every machine, and can be checked by hand; languages of one script (English and
French) look alike to it, for them there is `language_consistency`.
"""

import functools
import keyword
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards.completion import Completion, Reward, content

# language -> the scripts that its words are written in, in the order of `text.SCRIPTS`, so that sums over them are equal to the last bit
LANGUAGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr", "vi"), ("latin",)),
    **dict.fromkeys(("ru", "uk"), ("cyrillic",)),
    "zh": ("han", "rare han"), "ja": ("han", "rare han", "kana"), "ko": ("hangul",), "ar": ("arabic",), "he": ("hebrew",),
    "el": ("greek",), "hi": ("devanagari",), "th": ("thai",),
}
LINGUA = "lingua-language-detector==2.1.1"

# What is written in no language: mathematics, code (a fence that is not closed takes the rest), addresses. A `$` opens mathematics only
# where no space follows, and closes it only where none stands before and no digit behind, since "$2 and $3" are amounts. Pieces that touch
# are taken as one, so that a sentence gains nothing by having each of its words in dollars or backticks. No piece can hold its own
# opening, so that the time stays linear.
_TECHNICAL = re.compile(
    r"(?>(?:\$\$[^$]+\$\$|\$(?=[^\s$])[^$\n]+(?<=\S)\$(?!\d)|\\\[(?s:(?!\\[\[\]]).)*\\\]|\\\((?:(?!\\[()]).)*\\\)|\\boxed\{[^{}\n]*\}"
    rf"|```(?s:.*?)(?:```|\Z)|{text.CODE}|(?:https?://|www\.)[!-~]*)[ \t,]*)+", re.MULTILINE)
# Unless it reads as a sentence: four plain words side by side, or letters that neither code nor formulas are written in.
_SENTENCE = re.compile(r"[A-Za-z]{2,}(?:[ ,]+[A-Za-z]+){3,}|[^\W\dA-Za-z_\u0370-\u03ff]+")
_KEYWORD = re.compile(rf"\b(?:{'|'.join(keyword.kwlist)})\b")
_MARK = re.compile("|".join(re.escape(mark) for mark in (*text.TAGS, text.EOS, text.PAD, text.USER, text.ASSISTANT)))
_UNIT = re.compile(r"(?<=\d)\s?(?:[kcdm]m|[km]?g|m[lL]|min|km/h|mph|mol|[kM]?Hz|kWh?)(?![A-Za-z])")
_FUNCTION = re.compile(r"(?<![A-Za-z])(?:sin|cos|tan|log|ln|exp|lim|sqrt|abs|min|max|gcd|lcm|mod|sum|len)(?=[ ]?[(_\d])")
_SPELLED = re.compile(r"(?<![A-Za-z])[a-z](?: [a-z]){3,}(?![A-Za-z])")         # h e l l o

_ALPHABETS = "A-Za-z\u0370-\u03ff\u0400-\u052f"
# A word in two of the alphabets that look alike ("Неllo"); up to three letters it is a formula (Δx, πr).
_TWO_ALPHABETS = re.compile(rf"(?<![{_ALPHABETS}])(?:[A-Za-z]++(?=[{_ALPHABETS}])|[\u0370-\u03ff]++(?=[{_ALPHABETS}])"
                            rf"|[\u0400-\u052f]++(?=[{_ALPHABETS}]))[{_ALPHABETS}]++")

_LATIN_RUN = re.compile(r"[A-Za-z]+(?:[ -][A-Za-z]+)*+")
_LONGEST_NAME, _MOST_NAMES = 3, 4                 # words; different names in one text
# Capitals that open an English sentence and are no names.
_OPENERS = frozenset((*text.REFLECTION_WORDS, *re.findall("[a-z]+", """
    a actually again ah all also and another answer as at because both by correct each easy finally find first for from given good great
    hence here hmm how i if in is it last let maybe my next no not now of oh ok okay on once or our perhaps right second since so start
    step still sure that the then there therefore these this those thus to try two we well what when where which why with yes you""")))


def _sentences(piece: re.Match) -> str:
    """What is language in a piece of mathematics, code or address: nothing, as a rule."""
    inside = _KEYWORD.sub("|", re.sub(r"[`$\\]", " ", text.plain(piece.group())))
    return f" {' '.join(_SENTENCE.findall(inside))} "


def _prose(think: str) -> str:
    """Thinking without tags, mathematics, code and addresses."""
    return _MARK.sub(" ", _TECHNICAL.sub(_sentences, think))


def _without_names(prose: str, scripts: Sequence[str]) -> str:
    """A text in another script than Latin without the Latin names in it: "Ann有3个苹果" is Chinese from end to end.

    A name is one to three words with capitals that touch, or are one space from, a letter of the target's script, with no other Latin word
    beside them, and no word that opens English sentences ("So我们"). A text names a few things: with more than four different ones, it is
    taken to be written that way, and all of them count as words.
    """
    target = re.compile(f"[{''.join(text.letters(script) for script in scripts)}]")
    names: dict[tuple[int, int], str] = {}
    for run in _LATIN_RUN.finditer(prose):
        parts, (start, end) = re.split("[ -]", run.group()), run.span()
        before, after = prose[max(start - 2, 0):start], prose[end:end + 2]
        touches = any(target.match(letter) for letter in (before.rstrip(" ")[-1:], after.lstrip(" ")[:1]) if letter)
        if touches and len(parts) <= _LONGEST_NAME and all(part[0].isupper() and part.lower() not in _OPENERS for part in parts):
            names[start, end] = run.group()
    if not names or len(set(names.values())) > _MOST_NAMES:
        return prose
    kept, position = [], 0
    for start, end in names:
        kept.append(prose[position:start])
        position = end
    return " ".join([*kept, prose[position:]])


def _count(prose: str, language: str) -> tuple[float, float]:
    """How many words of the target language, and how many words at all, a text without code and mathematics holds."""
    scripts = LANGUAGES[language]
    prose = text.plain(prose)
    if scripts != ("latin",):
        prose = _without_names(_SPELLED.sub("spelled", _FUNCTION.sub(" ", _UNIT.sub(" ", prose))), scripts)
    strange = 0
    if not prose.isascii():
        strange = sum(len(word) > 3 for word in _TWO_ALPHABETS.findall(prose))
        prose = _TWO_ALPHABETS.sub(" ", prose)
    found = text.words(prose) if not prose.isascii() else text.words(prose, ("latin",))
    return sum(found.get(script, 0.0) for script in scripts), sum(found.values()) + strange


def _rewards(completions: Sequence[Completion], language: Sequence[str | None],
             count: Callable[[str, str], tuple[float, float]]) -> list[float | None]:
    """The share of the target language in each thinking, by a way to count words."""
    rewards: list[float | None] = []
    for row, (completion, target) in enumerate(zip(completions, language, strict=True)):
        if target is None:
            rewards.append(None)
            continue
        if not isinstance(target, str) or target not in LANGUAGES:
            raise R1Error(f"row {row}: language {target!r} is not known: use {', '.join(LANGUAGES)}, or None where none is asked for.")
        written = content(completion).split(text.EOS, 1)[0]
        think = text.thinking(written)
        if not any(tag in written for tag in ("<think>", "</think>")) or not _MARK.sub("", think).strip():
            rewards.append(0.0)
            continue
        wanted, all_words = count(_prose(think), target)
        rewards.append(wanted / all_words if all_words else 1.0)
    return rewards


def language_consistency_reward(completions: Sequence[Completion], language: Sequence[str | None], **_: Any) -> list[float | None]:
    """The share of words in the thinking that are of the target language (paper eq. 7 of the Nature version; section 2.3.2 of v1), 0 to 1.

    language: codes of `LANGUAGES`, or None where the reward does not apply to a row.
    Words are counted by script; words of every other script are foreign, and so is a word in letters of two alphabets. Mathematics, code,
    addresses and names are no words. No thinking, or an empty one, earns 0. A thinking without any word, which is only mathematics, earns
    1: it mixes nothing, and a model that computes without talking should not have to talk for this reward.
    As in the paper, more words of the target language raise the share; but no padding reaches 1 while a foreign word is left.
    """
    return _rewards(completions, language, _count)


def language_consistency(among: Sequence[str]) -> Reward:
    """`language_consistency_reward` for languages that share a script, told apart by lingua: `language_consistency(among=("en", "fr"))`.

    among: the languages that may occur; the fewer, the surer. Every clause is given to the likeliest of those that share the target's
    script, and its words count as foreign where that is another one. Targets outside `among` are judged by script alone.
    """
    if unknown := [code for code in among if code not in LANGUAGES]:
        raise R1Error(f"language {unknown[0]!r} in among={tuple(among)!r} is not known: use {', '.join(LANGUAGES)}.")
    if all(len(_rivals(code, among)) < 2 for code in among):
        raise R1Error(f"among={tuple(among)!r} has no two languages of one script: language_consistency_reward tells scripts apart.")
    _detector(("en", "fr"))                        # so that a missing library is known now, and not in the middle of a training

    def count(prose: str, language: str) -> tuple[float, float]:
        rivals = _rivals(language, among) if language in among else ()
        if len(rivals) < 2:
            return _count(prose, language)
        detect, wanted, all_words = _detector(rivals), 0.0, 0.0
        for clause in _clauses(prose):
            own, every = _count(clause, language)
            wanted += own if own and detect(clause) in (language, None) else 0.0
            all_words += every
        return wanted, all_words

    def language_consistency_reward(completions: Sequence[Completion], language: Sequence[str | None], **_: Any) -> list[float | None]:
        return _rewards(completions, language, count)

    return language_consistency_reward


def _rivals(language: str, among: Sequence[str]) -> tuple[str, ...]:
    """The languages, itself included, that are written in a script of this one."""
    return tuple(code for code in among if set(LANGUAGES[code]) & set(LANGUAGES[language]))


_CLAUSE = re.compile(r"[^.,;:!?\n。，；：！？、]{1,200}[.,;:!?\n。，；：！？、]*")
_FEWEST_WORDS, _MOST_PIECES = 4, 10                # a clause with fewer words goes with the next one, though not without end


def _clauses(prose: str) -> Iterator[str]:
    """Pieces of a text that are short enough to be in one language, and long enough to tell which."""
    waiting: list[str] = []
    count = 0.0
    for piece in _CLAUSE.findall(prose):
        waiting.append(piece)
        count += sum(text.words(piece).values())
        if count >= _FEWEST_WORDS or len(waiting) == _MOST_PIECES:
            yield "".join(waiting)
            waiting, count = [], 0.0
    if waiting:
        yield "".join(waiting)


@functools.cache
def _detector(languages: tuple[str, ...]) -> Callable[[str], str | None]:
    """text -> which of these languages it is in, or None where nothing tells."""
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
    except ImportError:
        raise R1Error(f"lingua, which tells languages of one script apart, is not installed: pip install {LINGUA}") from None
    codes = [IsoCode639_1.from_str(code.upper()) for code in languages]
    built = LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()

    def detect(clause: str) -> str | None:
        # As lingua's models know it: accents composed, nothing invisible or ornamental, no lone surrogates.
        seen = "".join(letter for letter in clause if unicodedata.category(letter) not in ("Cf", "Cs"))
        found = built.detect_language_of(unicodedata.normalize("NFKC", seen))
        return None if found is None else found.iso_code_639_1.name.lower()

    return detect
