"""Are instructions followed whose following can be seen? The 25 kinds of IFEval (arXiv 2311.07911), each a short rule of our own.

    verdicts(["punctuation:no_comma", "startend:quotation"], [{}, {}], '"No comma."')           # [True, True]

The benchmark's own program needs a language detector and a sentence splitter that are downloaded. Here sentences end at a full stop, a
question mark or an exclamation mark before white space; capitals and small letters are checked whatever the language; and in which
language an answer is written is not judged at all. Answers may be hostile: every rule takes time in proportion to their length.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1lib.errors import R1Error

Arguments = Mapping[str, Any]


def followed(gold: str, answer: str) -> bool | None:
    """Whether an answer follows all of a problem's instructions ("strict", prompt by prompt). gold: JSON, [instructions, arguments].

    None where those that can be judged are followed and another cannot be. `R1Error` for a malformed gold.
    """
    try:
        instructions, arguments = json.loads(gold)
    except (ValueError, TypeError) as error:
        raise R1Error(f"gold {gold!r} holds no instructions ({error}): mend the problem's row.") from None
    found = verdicts(instructions, arguments, answer)
    return False if False in found else None if None in found else True


def verdicts(instructions: Sequence[str], arguments: Sequence[Arguments], answer: str) -> list[bool | None]:
    """Instruction by instruction, whether an answer follows it; None for what is not judged. An answer without text follows nothing."""
    found: list[bool | None] = []
    for name, given in zip(instructions, arguments, strict=True):
        if name not in RULES:
            raise R1Error(f"instruction {name!r} is not known: choose one of {', '.join(RULES)}.")
        try:
            verdict = RULES[name](answer, {key: value for key, value in given.items() if value is not None})
        except (KeyError, TypeError, AttributeError) as error:
            raise R1Error(f"instruction {name!r} does not take {dict(given)} ({type(error).__name__}: {error}): mend that row.") from None
        found.append(verdict if answer.strip() or verdict is None else False)
    return found


# ------------------------------------------------------------------------------------------------------------------------------------------
# What the rules count

def _holds(count: int, relation: str, wanted: int) -> bool:
    if relation not in ("at least", "less than"):
        raise TypeError(f"relation {relation!r}")
    return count >= wanted if relation == "at least" else count < wanted


def _word(word: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def _sentences(answer: str) -> int:
    return sum(any(map(str.isalnum, part)) for part in re.split(r"[.!?。！？]+(?=\s|$)|\n{2,}", answer))


def _enclosed(line: str, opening: str, closing: str) -> list[str]:
    """What stands between an opening mark and the next closing one, from left to right; read once."""
    found, place = [], line.find(opening)
    while place >= 0 and (end := line.find(closing, place + len(opening))) >= 0:
        found.append(line[place + len(opening):end])
        place = line.find(opening, end + len(closing))
    return found


def _parts(answer: str, mark: str) -> list[str] | None:
    """An answer cut at a mark, without what is empty before the first and behind the last; None if another part is empty."""
    parts = [part.strip() for part in answer.split(mark)]
    inner = parts[1 if not parts[0] else 0:len(parts) - 1 if not parts[-1] else len(parts)]
    return inner if all(inner) else None


def _first_word(paragraph: str) -> str:
    word = paragraph.split()[0].lstrip("'\"") if paragraph.split() else ""
    return re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower()


# ------------------------------------------------------------------------------------------------------------------------------------------
# The rules: (answer, arguments) -> whether it is followed

def _nth_paragraph_begins(answer: str, given: Arguments) -> bool:
    paragraphs = [part.strip() for part in answer.split("\n\n") if part.strip()]
    wanted, place = given["first_word"].lower(), given["nth_paragraph"]
    return len(paragraphs) == given["num_paragraphs"] and place <= len(paragraphs) and _first_word(paragraphs[place - 1]) == wanted


def _postscript(answer: str, given: Arguments) -> bool:
    marker = given["postscript_marker"]
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(pattern, answer.lower()) is not None


def _highlights(answer: str, given: Arguments) -> bool:
    """*one* and **two**: in each line, what stands between two groups of asterisks."""
    pieces = [piece for line in answer.split("\n") for piece in re.split(r"\*+", line)[1:-1:2]]
    return sum(bool(piece.strip()) for piece in pieces) >= given["num_highlights"]


def _two_responses(answer: str, _: Arguments) -> bool:
    parts = _parts(answer, "******")
    return parts is not None and len(parts) == 2 and parts[0] != parts[1]


def _json(answer: str, _: Arguments) -> bool:
    inside = re.sub(r"^```(?:json|JSON|Json)?|```$", "", answer.strip()).strip()
    try:
        json.loads(inside)
    except (ValueError, RecursionError):
        return False
    return True


def _capital_words(answer: str, given: Arguments) -> bool:
    return _holds(sum(word.isupper() for word in re.findall(r"\w+", answer)), given["capital_relation"], given["capital_frequency"])


RULES: dict[str, Callable[[str, Arguments], bool | None]] = {
    "keywords:existence": lambda answer, given: all(word.lower() in answer.lower() for word in given["keywords"]),
    "keywords:frequency": lambda answer, given: _holds(answer.lower().count(given["keyword"].lower()), given["relation"],
                                                       given["frequency"]),
    "keywords:forbidden_words": lambda answer, given: not any(_word(word).search(answer) for word in given["forbidden_words"]),
    "keywords:letter_frequency": lambda answer, given: _holds(answer.lower().count(given["letter"].lower()), given["let_relation"],
                                                              given["let_frequency"]),
    "language:response_language": lambda answer, given: None,
    "length_constraints:number_sentences": lambda answer, given: _holds(_sentences(answer), given["relation"], given["num_sentences"]),
    "length_constraints:number_paragraphs": lambda answer, given: len(_parts(answer, "***") or ()) == given["num_paragraphs"],
    "length_constraints:number_words": lambda answer, given: _holds(len(re.findall(r"\w+", answer)), given["relation"], given["num_words"]),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph_begins,
    "detectable_content:number_placeholders": lambda answer, given: sum(
        len(_enclosed(line, "[", "]")) for line in answer.split("\n")) >= given["num_placeholders"],
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda answer, given: len(
        re.findall(r"^[ \t]*(?:\*[^*\n]|-)", answer, re.MULTILINE)) == given["num_bullets"],
    "detectable_format:constrained_response": lambda answer, given: any(
        f"My answer is {word}." in answer for word in ("yes", "no", "maybe")),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": lambda answer, given: len(
        re.findall(rf"{re.escape(given['section_spliter'])}\s?[0-9]+", answer)) >= given["num_sections"],
    "detectable_format:json_format": _json,
    "detectable_format:title": lambda answer, given: any(
        title.strip(" <>") for line in answer.split("\n") for title in _enclosed(line, "<<", ">>")),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda answer, given: answer.strip().lower().startswith(given["prompt_to_repeat"].strip().lower()),
    "startend:end_checker": lambda answer, given: answer.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower()),
    "startend:quotation": lambda answer, given: len(answer.strip()) > 1 and answer.strip()[0] == '"' == answer.strip()[-1],
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda answer, given: answer.isupper(),
    "change_case:english_lowercase": lambda answer, given: answer.islower(),
    "punctuation:no_comma": lambda answer, given: "," not in answer,
}
