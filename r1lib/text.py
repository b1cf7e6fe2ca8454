"""The text around a question and inside an answer: prompt templates, the chat format, and the one grammar that reads a completion.

Every reward, board and evaluation reads completions through `parse`, so that nothing can be right for one of them and wrong for another.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PAD, EOS, USER, ASSISTANT = "<|pad|>", "<|eos|>", "<|user|>", "<|assistant|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")

# The paper's structure (Table 1): who speaks, think first, answer second, in which tags; then the question. The words are ours.
PAPER_TEMPLATE = (
    "Below, a User talks with an Assistant. The User asks a question and the Assistant answers it. Before it answers, the Assistant works "
    "the question out in its mind. What it thinks stands between <think> and </think>, what it answers stands between <answer> and "
    "</answer>, like this: <think> how it reasons </think> <answer> what it answers </answer>. User: {question} Assistant:"
)
# The same in fewer tokens, for models of a few million parameters that read every prompt token on two cores.
MINIATURE_TEMPLATE = "The Assistant thinks in <think> </think>, then answers in <answer> </answer>.\nUser: {question}\nAssistant:"

_TEMPLATES = {"paper": PAPER_TEMPLATE, "miniature": MINIATURE_TEMPLATE}


def zero_prompt(question: str, *, template: Literal["miniature", "paper"] = "miniature") -> str:
    """The R1-Zero prompt: plain text, no chat tokens, no system role, and no hint how to think (paper section 2.2.3)."""
    return _TEMPLATES[template].replace("{question}", question)


def chat_prompt(question: str) -> str:
    """The R1 chat prompt, for models that had supervised fine-tuning."""
    return f"{USER}{question}{ASSISTANT}"


@dataclass(frozen=True)
class Parsed:
    """A completion taken apart.

    think, answer: the text inside the tags without outer white space, or None where it cannot be told which text that is.
    faults: what departs from `<think> ... </think> <answer> ... </answer>`, in words; empty for a well-formed completion.
    """

    think: str | None
    answer: str | None
    faults: tuple[str, ...]

    @property
    def well_formed(self) -> bool:
        return not self.faults


_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))


def parse(completion: str) -> Parsed:
    """Read one completion: white space is free, order is not, no tag twice, nothing before, between or after.

    Text behind the first end-of-text token is not the model's answer and is not looked at. An answer is returned only when it is the single
    `<answer>` element and lies outside the thinking, so that an answer hidden in the thinking, or one of several, earns nothing.
    """
    text = completion.split(EOS, 1)[0]
    marks = [(match.group(), match.start(), match.end()) for match in _TAG.finditer(text)]
    seen = [mark[0] for mark in marks]
    faults = [f"{tag} is missing" for tag in TAGS if tag not in seen]
    faults += [f"{tag} stands {seen.count(tag)} times" for tag in TAGS if seen.count(tag) > 1]

    def inside(opening: str, closing: str) -> str | None:
        """The text of an element whose two tags stand once each, next to each other."""
        if seen.count(opening) != 1 or seen.count(closing) != 1:
            return None
        first = seen.index(opening)
        if first + 1 >= len(seen) or seen[first + 1] != closing:
            return None
        return text[marks[first][2]:marks[first + 1][1]].strip()

    think, answer = inside("<think>", "</think>"), inside("<answer>", "</answer>")
    if answer is not None:
        place = seen.index("<answer>")
        if seen[:place][-1:] == ["<think>"] or "</think>" in seen[place:]:
            answer = None                                        # inside a thinking, closed or not, or before it
    if not faults and seen != list(TAGS):
        faults.append("the tags stand in another order")
    if not faults:
        gaps = [text[:marks[0][1]], text[marks[1][2]:marks[2][1]], text[marks[3][2]:]]
        places = ["before <think>", "between </think> and <answer>", "after </answer>"]
        faults += [f"text {place}" for gap, place in zip(gaps, places, strict=True) if gap.strip()]
        faults += [f"nothing in {name}" for name, element in (("<think>", think), ("<answer>", answer)) if not element]
    return Parsed(think, answer, tuple(faults))


# The ten reflective words that the paper counts (Nature, Extended Data Fig. 1), and what stands for them in Chinese.
REFLECTION_WORDS = ("wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check")
REFLECTION_WORDS_ZH = ("等等", "检查", "不对", "错")
# A Chinese character is a word character to `\b`, so that "再check一下" would hold no word; and 没错, 不错 mean that all is well.
_REFLECTION = re.compile(
    rf"(?<![A-Za-z0-9_])(?:{'|'.join(REFLECTION_WORDS)})(?![A-Za-z0-9_])|(?<![没不])(?:{'|'.join(REFLECTION_WORDS_ZH)})", re.IGNORECASE)


def reflections(text: str) -> list[re.Match[str]]:
    """Every reflective word of a text with its place, in order."""
    return list(_REFLECTION.finditer(text))


def reflection_count(text: str) -> int:
    """How many reflective words a text holds."""
    return len(reflections(text))


# script -> (its letters, how many of them make a word at least, how many words one finding counts). Where words are spaced, a finding is a
# run of letters; where they are not, it is one letter, which counts what it is worth in spaced words, so that all languages weigh alike.
_SCRIPTS: dict[str, tuple[str, int, float]] = {
    "latin": ("A-Za-z", 2, 1.0),                                     # one letter alone is a variable, not a word; so it is in Greek
    "han": ("\u4e00-\u9fff", 0, 1.6),
    "rare han": ("\u3005-\u3007\u3400-\u4dbf\U00020000-\U0003ffff", 0, 1.6),
    "kana": ("\u3041-\u3096\u30a1-\u30fa\u30fc", 0, 1.6),
    "hangul": ("\u1100-\u115e\u1161-\u11ff\uac00-\ud7a3", 1, 1.0),
    "cyrillic": ("\u0400-\u052f", 1, 1.0),
    "greek": ("\u0370-\u03ff", 2, 1.0),
    "arabic": ("\u0620-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f\u08a0-\u08c9", 1, 1.0),
    "hebrew": ("\u05d0-\u05f2", 1, 1.0),
    "devanagari": ("\u0904-\u0939\u093d\u0950\u0958-\u0961\u0971-\u097f", 1, 1.0),
    "thai": ("\u0e01-\u0e3a\u0e40-\u0e46", 0, 3.5),
}
_KNOWN = "".join(letters for letters, _, _ in _SCRIPTS.values())
_WORDS = {script: (re.compile(f"[{letters}]" + (f"{{{least},}}" if least else "")), letters_a_word)
          for script, (letters, least, letters_a_word) in _SCRIPTS.items()}
# Letters of all other scripts; between U+2000 and U+2BFF there are only signs, some of which Python takes for letters or numbers.
_WORDS["other"] = (re.compile(rf"(?:(?![{_KNOWN}\u2000-\u2bff])[^\W\d_])+"), 1.0)
SCRIPTS = tuple(_WORDS)


def letters(script: str) -> str:
    """The letters of a script, as the inside of a regular expression's brackets."""
    return _SCRIPTS[script][0]


def words(text: str, scripts: Iterable[str] = SCRIPTS) -> dict[str, float]:
    """How many words of each script a text holds: the one counter behind everything here that speaks of languages.

    Takes the text as it is; `plain` undoes disguises, and code and signs have to be taken out before.
    """
    found = {}
    for script in scripts:
        pattern, letters_a_word = _WORDS[script]
        found[script] = len(pattern.findall(text)) / letters_a_word
    return found


_FILLERS = (0x115F, 0x1160, 0x3164, 0xFFA0)           # Hangul letters that nobody sees


@functools.cache
def _undisguise() -> dict[int, str | None]:
    """What `plain` does to single characters: None takes one away."""
    table: dict[int, str | None] = dict.fromkeys(_FILLERS)
    for code in (*range(0x80, 0x20000), *range(0xE0000, 0xE0200)):
        category, name = unicodedata.category(chr(code)), unicodedata.name(chr(code), "")
        if category[0] == "M" or category == "Cf" or (category == "Lm" and code < 0x300):
            table[code] = None
        elif category[0] == "L" and name.startswith("LATIN") and not unicodedata.decomposition(chr(code)):
            letter = name.split("LETTER ")[-1][0]                # "LATIN SMALL LETTER O WITH STROKE"
            table[code] = letter if category == "Lu" else letter.lower()
    return table


def plain(text: str) -> str:
    """A text in its plainest letters: no accents and other marks, nothing invisible, no full-width or ornamental letters.

    For counting words only: it spoils Thai and Hindi for readers. Takes time linear in the text.
    """
    if text.isascii():
        return text
    # Marks go first: Unicode normalization sorts every run of them, in quadratic time.
    return unicodedata.normalize("NFKD", text.translate(_undisguise())).translate(_undisguise())


# Code and the commands of TeX belong to no language, whatever letters they are written in.
CODE = r"```(?s:.*?)```|`[^`\n]*`|^[ \t]*(?:def|return)\b.*|\\[A-Za-z]+"
_NOT_LANGUAGE = re.compile(rf"{_TAG.pattern}|{CODE}", re.MULTILINE)


def chinese_share(text: str) -> float:
    """The share of Chinese among the words of a text, 0 to 1; tags, code, numbers and signs are no words. Without words it is 0."""
    found = words(_NOT_LANGUAGE.sub(" ", text), ("han", "latin"))
    both = found["han"] + found["latin"]
    return found["han"] / both if both else 0.0


def thinking(completion: str) -> str:
    """The text in the `<think>` element; where it cannot be told which text that is (no tags, cut off), all that stands before the answer.

    So a model that has not learnt the tags yet is measured by the same yardstick as one that has.
    """
    think = parse(completion).think
    return completion.split(EOS, 1)[0].split("<answer>", 1)[0] if think is None else think


def mixes_languages(think: str, language: str) -> bool:
    """Whether thinking about a question in this language ("en" or "zh") uses words of the other one; `thinking` says which text to pass.

    Foreign is any Chinese character to an English question, any Latin word of two letters or more to a Chinese one (`x` is a variable).
    """
    foreign = "latin" if language == "zh" else "han"
    return words(_NOT_LANGUAGE.sub(" ", think), (foreign,))[foreign] > 0
