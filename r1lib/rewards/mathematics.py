"""Is a mathematical answer equal to the gold? By text, then by number, then by algebra in a process that can be killed.

    grade(gold="\\\\frac{\\\\sqrt{3}}{2}", answer="$0.5\\\\sqrt{3}$")     # True
    examine(gold="7", answer="3+4")                              # Verdict(right=False, rule="number", why="it is not a finished number")

What is right: the same text; or the same number, exactly, in any of the ways people write numbers; or, where the gold is no plain number,
an expression that equals it. Where a number is asked for, a number must answer: 3+4 leaves the work to the grader. Where the gold says what
a variable is (x = 5, x > 3), the answer must say so too: 2x + 3 = 13 may be the question. Among expressions the form is not judged: who is
asked to expand (x+1)^2 can answer with just that.

Lists, intervals, matrices and equations are taken apart here, by their signs and brackets. sympy is shown single expressions, nothing that
is built to keep it busy (`_screened`), and never in the caller's process; what needs more than `SECONDS` is stopped, from any thread.
"""

import atexit
import contextlib
import functools
import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from r1lib.errors import R1Error

LONGEST = 300                      # characters of an answer; the longest of the 12,500 golds of MATH has 159
SECONDS = 0.8                      # of processor time for one comparison, which takes 0.01: a busy machine changes no verdict
_HANGS = 10.0                      # seconds on the clock after which a worker counts as lost
_MEMORY = 2**30                    # bytes of address space of the worker, of which sympy takes a fifth
_START = 60                        # seconds to start it; on an idle machine it takes one

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """rule: what decided, one of "none", "text", "number", "screen", "algebra". why: what is wrong with the answer, "" if it is right."""

    right: bool
    rule: str
    why: str = ""


def grade(*, gold: str, answer: str) -> bool:
    """Whether `answer` equals `gold`. Never raises on an answer; an `R1Error` names a gold that no answer could be compared with."""
    return examine(gold=gold, answer=answer).right


def examine(*, gold: str, answer: str) -> Verdict:
    """`grade` with its reasons."""
    if not isinstance(gold, str) or not gold.strip():
        raise R1Error(f"gold answer {gold!r} is not a text that an answer can be compared with: mend the problem's row.")
    wanted = _gold(gold)
    if not answer.strip():
        return Verdict(False, "none", "there is no answer")
    if len(answer) > LONGEST:
        return Verdict(False, "screen", f"it has more than {LONGEST} characters")
    text = canonical(answer)
    if wanted.words:
        return Verdict(True, "text") if _same_words(wanted.text, text) else Verdict(False, "text", "it is another text")
    found = _solved(text)
    if wanted.name and found.name and wanted.name != found.name and "(" not in wanted.name + found.name:
        return Verdict(False, "text", f"it says what {found.name} is, not what {wanted.name} is")
    if wanted.number is not None:
        number = _number(found.value, wanted.number.unit)
        why = _unequal(wanted.number, number) if number else "it is not a finished number"
        return Verdict(not why, "number", why)
    if _same_text(wanted.text, text) or _same_text(wanted.value, found.value):
        return Verdict(True, "text")
    # x + y = 5 is also x = 5 - y, and y = 2x + 3 is also 2x - y = -3; but x = 5 is not 2x = 10
    whole = _is_relation(wanted.value) or (_is_relation(found.value) and wanted.name != "" and bool(_letters(wanted.value)))
    try:
        screened = _screened(text if whole else found.value, wanted.text)
    except _NotRead as refused:
        return Verdict(False, "screen", str(refused))
    right, why = WORKER.compare(_taken_apart(wanted.text if whole else wanted.value), _taken_apart(screened))
    return Verdict(right, "algebra", why)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The gold

class _Gold(NamedTuple):
    """A gold answer, read once. words: it is compared as a text. name, value: as in `_Solved`. number: None if the value is none."""

    text: str
    words: bool
    name: str
    value: str
    number: "_Number | None"


@functools.lru_cache(maxsize=65536)
def _gold(gold: str) -> _Gold:
    if len(gold) > LONGEST:
        raise R1Error(f"gold answer {gold[:40]!r}... has {len(gold)} characters, more than {LONGEST}: mend the problem's row.")
    text = canonical(gold)
    name, value = _solved(text)
    factors = re.search(r"[0-9]([A-Za-z]+)(?:\^\{[23]\})?$", value)                # 5m may be five times m; 5 m and 5cm are lengths
    number = None if factors and len(factors[1]) == 1 else _number(value, "" if factors else None)
    if number is not None:
        return _Gold(text, False, name, value, number)
    if _WORDS.fullmatch(_OR.sub(", ", text)) or _CHOICE.fullmatch(text) or _ONLY_WORDS.fullmatch(gold):
        return _Gold(text, True, "", text, None)
    try:
        parts = _taken_apart(_screened(value, value))
        right, why = WORKER.compare(parts, parts)
    except _NotRead as refused:
        right, why = False, str(refused)
    if not right:
        raise R1Error(f"gold answer {gold!r} cannot be compared with anything: {why}. Mend the problem's row.")
    return _Gold(text, False, name, value, None)


# ------------------------------------------------------------------------------------------------------------------------------------------
# One way of writing

_SIGNS = str.maketrans({
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\leq ", "≥": r"\geq ",
    "≠": r"\neq ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ", "θ": r"\theta ", "，": ",", "\u00a0": " ", "\u202f": " ",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"})
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_AROUND = tuple(re.compile(pattern, re.DOTALL) for pattern in (
    r"\$\$(?P<inside>(?:[^$\\]|\\.)+)\$\$", r"\$(?P<inside>(?:[^$\\]|\\.)+)\$", r"\\\((?P<inside>.+)\\\)", r"\\\[(?P<inside>.+)\\\]",
    r"\*\*(?P<inside>[^*]+)\*\*", r"\\(?:boxed|fbox)\s*\{(?P<inside>.+)\}"))
# In this order. What stands on the right is all that the later rules have to know.
_REWRITES = tuple((re.compile(pattern), new) for pattern, new in (
    (r"\\(?:left|right|displaystyle|textstyle|[bB]igg?[lr]?)(?![A-Za-z])", ""),
    (r"(?<!\\)\\[()\[\]]", " "),                                                            # \(1\) and \(-2\)
    (r"\{,\}|,\\!\s*|(?<=[0-9])\\,(?=[0-9]{3}(?![0-9]))", ","),                          # between thousands
    (r"(?<!\\)\\[!,;: ]|(?<=\S)~|\\q?quad(?![A-Za-z])", " "),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\(?:le|leqslant)(?![A-Za-z])|<=", r"\\leq "),
    (r"\\(?:ge|geqslant)(?![A-Za-z])|>=", r"\\geq "),
    (r"\\lt(?![A-Za-z])", "<"),
    (r"\\gt(?![A-Za-z])", ">"),
    (r"\\ne(?![A-Za-z])|!=", r"\\neq "),
    (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\\mathbb\s*(?:\{R\}|R(?![A-Za-z]))", r"(-\\infty ,\\infty )"),
    (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\([$%])", r"\1"),
    (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])|\\degree(?![A-Za-z])", "°"),
    (r"\*\*", "^"),
    (r"\*", r"\\cdot "),
    (r"(?<=[0-9])\s*[xX]\s*(?=10\s*\^)", r"\\times "),
    (r"(?<![A-Za-z\\])sqrt(?![A-Za-z])|√", r"\\sqrt"),
    (r"(?<![A-Za-z\\])(pi|sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan)(?![A-Za-z])", r"\\\1 "),
    (r"(?<![A-Za-z\\])(?:inf|infinity|oo)(?![A-Za-z])", r"\\infty "),
    (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"\\sqrt\s*([0-9]+(?:\.[0-9]+)?|[A-Za-z])", r"\\sqrt{\1}"),
    (r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\{[^{}]*\})\s*([0-9A-Za-z])", r"\\frac\1{\2}"),
    (r"\\frac\s*([0-9A-Za-z])\s*\{", r"\\frac{\1}{"),
    (r"\^\s*\(([^()]*)\)", r"^{\1}"),
    (r"\^\s*(-?[0-9]*\.?[0-9]+|-?[A-Za-z])", r"^{\1}"),
    (r"\s+", " "),
))
_FULL_STOP = re.compile(r"(?<=[^.])\.$")


def canonical(text: str) -> str:
    """One way of writing for the many in which the same answer is written; what it does not know it leaves as it is."""
    text = re.sub("⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda digits: "^{" + digits.group().translate(_SUPERSCRIPTS) + "}", text).translate(_SIGNS).strip()
    for _ in range(3):                                        # $\boxed{...}$, and a full stop behind any of them
        text = _FULL_STOP.sub("", text).strip()
        for around in _AROUND:
            if match := around.fullmatch(text):
                text = match["inside"].strip()
    if text.count("$") > 3:                                   # $1$ and $-2$
        text = re.sub(r"\\?\$", " ", text)
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    return text.strip()


_CHOICE = re.compile(r"[A-Z]|\([A-Za-z]\)")
# Words, dates and times of day, ratios, and what sympy has no arithmetic for
_WORDS = re.compile(r"(?=.*[A-Za-z]{3})[A-Za-z0-9][A-Za-z0-9 .,:'-]*|[0-9]+(?: ?: ?[0-9]+)* ?[ap]\.? ?m\.?|[0-9]+(?: ?: ?[0-9]+)+"
                    r"|-?\\infty|\\emptyset")
_ONLY_WORDS = re.compile(r"\s*\\(?:text|mbox|textbf)\{[A-Za-z' -]{2,}\}\s*")


def _same_words(gold: str, answer: str) -> bool:
    """Regardless of capitals, spaces and full stops; choices with or without brackets. Letters of other alphabets are no letters."""
    if _CHOICE.fullmatch(gold):
        return re.fullmatch(r"\(?[A-Za-z][).]?", answer) is not None and answer.strip("().").upper() == gold.strip("()").upper()
    return answer.isascii() == gold.isascii() and re.sub("[ .]", "", answer).lower() == re.sub("[ .]", "", gold).lower()


def _same_text(gold: str, answer: str) -> bool:
    """To the letter, but for spaces; those between digits count."""
    return gold.replace(" ", "") == answer.replace(" ", "") and not re.search(r"[0-9] +[0-9]", gold + "|" + answer)


# ------------------------------------------------------------------------------------------------------------------------------------------
# What an answer is made of

_Parts = str | list[Any]                  # one expression, or [kind, part, part, ...]
_CUP, _CELL, _ROW = re.compile(r"\\cup(?![A-Za-z])"), re.compile("&"), re.compile(r"\\\\")
_OR = re.compile(r",? (?:or|and) ")
_BETWEEN = re.compile(f"{_OR.pattern}|,")
_BETWEEN_VALUES = re.compile(rf"{_OR.pattern}|(?<![0-9]),|,(?![0-9]{{3}}(?![0-9]))")               # not between thousands
_RELATION = re.compile(r"=|<|>|\\(?:leq|geq|neq|in)(?![A-Za-z])")
_MATRIX = re.compile(r"\\begin\{(?P<kind>[pb]?matrix)\}(?P<rows>.*)\\end\{(?P=kind)\}", re.DOTALL)
_BRACKETS = re.compile(r"(?P<opening>\(|\[|\\?\{)(?P<inside>.*?)(?P<closing>\)|\]|\\?\})", re.DOTALL)


def _split(text: str, at: re.Pattern) -> tuple[list[str], list[str]]:
    """The parts of a text between signs that stand in no bracket, and these signs. Brackets need not match: (1,2] is an interval."""
    parts, signs, depth, start, position = [], [], 0, 0, 0
    while position < len(text):
        depth += (text[position] in "([{") - (text[position] in ")]}")
        sign = None if depth else at.match(text, position)
        if sign:
            parts.append(text[start:position].strip())
            signs.append(sign.group().strip())
            start = sign.end()
        position = sign.end() if sign else position + 1
    return [*parts, text[start:].strip()], signs


def _is_relation(text: str) -> bool:
    return bool(_split(text, _RELATION)[1])


def _taken_apart(text: str) -> _Parts:
    """["set", ...] for lists of values with or without curly brackets, ["()", ...] and ["[)", ...] for points, intervals and the like,
    ["union", ...], ["=", left, right], ["matrix of 2 rows", ...]; an expression is just its text."""
    if matrix := _MATRIX.fullmatch(text):
        rows = [_split(row, _CELL)[0] for row in _split(matrix["rows"], _ROW)[0]]
        rows = rows[:-1] if rows[-1] == [""] else rows                             # \\ behind the last row
        return [f"matrix of {len(rows)} rows", *(_taken_apart(cell) for row in rows for cell in row)]
    for kind, at in (("set", _BETWEEN), ("union", _CUP)):
        parts = _split(text, at)[0]
        if len(parts) > 1:
            return [kind, *_elements(parts)]
    sides, signs = _ascending(*_split(text, _RELATION))
    if signs:
        return [" ".join(signs).replace(r"\in", "="), *sides]
    brackets = _BRACKETS.fullmatch(text)
    if brackets and _closes_last(text):
        parts = _split(brackets["inside"], _BETWEEN)[0]
        if brackets["opening"].endswith("{"):
            return ["set", *_elements(parts)] if len(parts) > 1 else _taken_apart(parts[0])
        if len(parts) > 1:
            return [brackets["opening"] + brackets["closing"], *map(_taken_apart, parts)]
    if text.count(r"\pm") == 1:
        return ["set", *(text.replace(r"\pm", sign) for sign in "+-")]
    return text


def _elements(parts: list[str]) -> list[_Parts]:
    """Sets inside a set are its elements: \\{1 \\pm \\sqrt{5}, -2\\} has three."""
    read = map(_taken_apart, parts)
    return [element for part in read for element in (part[1:] if part[:1] == ["set"] else [part])]


def _closes_last(text: str) -> bool:
    """Whether the bracket that opens first closes last: (1,2) does, (a+1)(b+1) does not."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if not depth and character in ")]}":
            return position == len(text) - 1
    return False


def _ascending(sides: list[str], signs: list[str]) -> tuple[list[str], list[str]]:
    """5 > x \\geq 2 as 2 \\leq x < 5."""
    if not set(signs) <= {">", r"\geq"}:
        return sides, signs
    return sides[::-1], [{">": "<", r"\geq": r"\leq"}[sign] for sign in reversed(signs)]


class _Solved(NamedTuple):
    """name: the variable or function that a text is solved for, "" if for none. value: what it is."""

    name: str
    value: str


_VARIABLE = r"(?:[A-Za-z]|[A-Z]{2,3}|\\[a-z]+ ?)(?:_(?:[0-9A-Za-z]|\{[0-9A-Za-z]+\}))?"
_NAME = re.compile(rf"{_VARIABLE}|[A-Za-z](?:\^\{{-1\}})?\([0-9A-Za-z](?:, ?[0-9A-Za-z])*\)|\({_VARIABLE}(?:, ?{_VARIABLE})+\)")


def _solved(text: str) -> _Solved:
    """("x", "5") for x = 5, ("x", "1, -2") for x = 1 or x = -2, ("x", "(2,\\infty)") for x > 2; ("", text) if it is solved for nothing."""
    parts, between = _split(text, _BETWEEN_VALUES)
    solved = [_Solved(*(_equals(part) or _ranges(part) or ("", part))) for part in parts]
    values = [value for _, value in solved]
    ranges = [bool(_ranges(part)) for part in parts]
    if solved[0].name and {name for name, _ in solved} <= {solved[0].name, ""}:
        if not any(ranges):
            return _Solved(solved[0].name, ", ".join(values))
        if all(ranges) and all("or" in word for word in between):
            return _Solved(solved[0].name, r" \cup ".join(values))
    return _Solved("", ", ".join(parts))


def _equals(text: str) -> tuple[str, str] | None:
    """("x", "5") for x = 5, ("x", "[1,2]") for x \\in [1,2], None for anything else."""
    sides, signs = _split(text, _RELATION)
    return (sides[0], sides[1]) if signs in (["="], [r"\in"]) and _names(sides[0], sides[1]) else None


def _ranges(text: str) -> tuple[str, str] | None:
    """("x", "(2,3]") for 2 < x \\leq 3, ("x", "(2,\\infty)") for x > 2, None for anything else. Whether (2,3) is a point nobody can see."""
    sides, signs = _ascending(*_split(text, _RELATION))
    if not signs or not set(signs) <= {"<", r"\leq"} or len(signs) > 2:
        return None
    place = 1 if len(sides) == 3 or not _names(sides[0], sides[1]) else 0
    if not _names(sides[place], *sides[:place], *sides[place + 1:]):
        return None
    low = "([" [signs[0] != "<"] + sides[0] if place else r"(-\infty "
    high = sides[-1] + ")]"[signs[-1] != "<"] if place < len(signs) else r"\infty )"
    return sides[place], f"{low},{high}"


def _names(name: str, *others: str) -> bool:
    """Whether this is the name of something that the others do not speak of, as f in f(x) = 2x and x in x = 5."""
    return _NAME.fullmatch(name) is not None and not _letters(re.sub(r"(?<=[A-Za-z}])\(.*", "", name)) & _letters(" ".join(others))


# ------------------------------------------------------------------------------------------------------------------------------------------
# Numbers

@dataclass(frozen=True)
class _Number:
    """value: exact. unit: "" if none was given. base: 10, or what a subscript says; then `value` is that of its digits."""

    value: Fraction
    unit: str = ""
    base: int = 10


_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}|[0-9]{1,100})"
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<money>[$€£¥]?)\s*(?P<minus>-?)(?:"
    r"(?:(?P<whole>[0-9]{1,9})(?:\s+|\s*(?=\\)))?(?:\\frac\s*\{\s*(?P<top>-?[0-9]{1,30})\s*\}\s*\{\s*(?P<bottom>-?[0-9]{1,30})\s*\}"
    r"|(?P<over>[0-9]{1,30})\s*/\s*(?P<under>[0-9]{1,30}))"
    rf"|(?P<integer>{_INTEGER})?(?:\.(?P<decimals>[0-9]{{0,100}})(?:\\overline\s*\{{(?P<repeated>[0-9]{{1,30}})\}})?)?"
    r"(?:\s*(?:\\times|\\cdot)\s*10\^\{(?P<power>-?[0-9]{1,2})\}|[eE](?P<exponent>[-+]?[0-9]{1,2}))?"
    r"(?:_(?:\{(?P<base>[0-9]{1,2})\}|(?P<subscript>[0-9]{1,2})))?)"
    r"(?: (?P<large>thousand|million|billion|trillion))?"
    r"\s*(?P<unit>[$€£¥%¢]|°[CF]?|/? ?[A-Za-z](?:[A-Za-z /]{0,40}[A-Za-z])?(?: ?\^\{[23]\})?)?")
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNITS = {alias.strip(): names.split(",")[0] for names in (
    "$, dollar, dollars, usd, USD", "€, euro, euros, EUR", "£, GBP", "¥, yuan, yen", "¢, cent, cents", "%, percent, per cent",
    "°, degree, degrees, deg", "°C, degrees Celsius", "°F, degrees Fahrenheit", "unit, units", "mm, millimeter, millimeters, millimetres",
    "cm, centimeter, centimeters, centimetre, centimetres", "m, meter, meters, metre, metres",
    "km, kilometer, kilometers, kilometre, kilometres", "in, inch, inches", "ft, foot, feet", "yd, yard, yards", "mi, mile, miles",
    "s, sec, second, seconds", "min, minute, minutes", "h, hr, hrs, hour, hours", "day, days", "week, weeks", "month, months",
    "year, years", "mg, milligrams", "g, gram, grams", "kg, kilogram, kilograms", "lb, lbs, pound, pounds", "oz, ounce, ounces",
    "ton, tons", "ml, mL, milliliter, milliliters", "L, l, liter, liters, litre, litres", "gallon, gallons", "mi/h, mph")
    for alias in names.split(",")}
_POWERS = {"square": "^{2}", "sq": "^{2}", "cubic": "^{3}", None: ""}


def _number(text: str, own_unit: str | None = "") -> _Number | None:
    """A number as people write it: 1,234.50, $5, 12 %, 7 cm, 3/4, 1 1/2, 2.5 \\times 10^{3}, 0.1\\overline{6}, 101_2; None for all else.

    A fraction that is a whole number (14/2) is not finished, and a word that is no unit makes it something else (7 dozen). A gold may be
    in units of its own (7 marbles): None allows any, and its answers are allowed that one.
    """
    found = _NUMBER.fullmatch(text)
    if not found or not (found["integer"] or found["decimals"] or found["top"] or found["over"]) or (found["sign"] and found["minus"]):
        return None
    unit, money = _unit(found["unit"] or "", own_unit), _UNITS.get(found["money"], "")
    if money and unit is not None:                                    # $5 per hour, $5 dollars, but not $5 cm
        unit = money + unit.removeprefix(money) if unit.removeprefix(money)[:1] in ("", "/") else None
    if unit is None:
        return None
    if found["top"] or found["over"]:
        top, bottom = int(found["top"] or found["over"]), int(found["bottom"] or found["under"])
        if bottom == 0 or top % bottom == 0 or (found["whole"] and not 0 < top < bottom):
            return None
        value = Fraction(top, bottom) + int(found["whole"] or 0)
    else:
        decimals, repeated = found["decimals"] or "", found["repeated"]
        value = Fraction(f"{(found['integer'] or '0').replace(',', '')}.{decimals or 0}")
        if repeated:
            value += Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(decimals))
        value *= Fraction(10) ** int(found["power"] or found["exponent"] or 0)
    value *= _LARGE.get(found["large"], 1) * (-1 if found["sign"] == "-" or found["minus"] else 1)
    return _Number(value, unit, int(found["base"] or found["subscript"] or 10))


def _unit(text: str, own: str | None) -> str | None:
    """One name for each unit ("mi/h" for miles per hour), "" for none, None for what is no unit."""
    units = []
    for part in re.sub(r" ?/ ?| ?\bper ", "/", text).split("/"):
        kind, name, power = re.fullmatch(r"(?:(square|sq|cubic) )?(.*?) ?(\^\{[23]\})?", part).groups()
        if name and name not in _UNITS:
            return text if text == own or own is None and re.search("[A-Za-z]{3}", text) else None
        units.append(_UNITS.get(name, "") + (power or _POWERS[kind]))
    return "/".join(units)


def _unequal(gold: _Number, answer: _Number) -> str:
    """What tells two numbers apart, "" if nothing does. A unit counts only where both have one: golds are often bare."""
    if gold.base != answer.base:
        return "it is written in another base"
    if gold.value != answer.value and not (gold.unit == "%" and not answer.unit and gold.value == 100 * answer.value):
        return "it is another number"
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return f"it is in {answer.unit}, not in {gold.unit}"
    return ""


# ------------------------------------------------------------------------------------------------------------------------------------------
# What sympy is not shown

_COMMAND = re.compile(r"\\[A-Za-z]+")
_KNOWN = frozenset(_COMMAND.findall(
    r"\frac \sqrt \pi \cdot \times \div \pm \infty \leq \geq \neq \cup \in \binom \begin \end \overline \lfloor \rfloor \lceil \rceil "
    r"\log \ln \exp \sin \cos \tan \cot \sec \csc \arcsin \arccos \arctan \sinh \cosh \tanh \alpha \beta \gamma \delta \epsilon "
    r"\varepsilon \theta \lambda \mu \rho \sigma \tau \phi \varphi \psi \omega"))
_LAYOUT = re.compile(r"\\(?:begin|end)\{[pb]?matrix\}")
_CHARACTERS = re.compile(r"[0-9A-Za-z\\{}()\[\]|+\-/^_=<>!.,& ]*")
_DROPPED = re.compile(r"[^A-Za-z ] ?_|\\(?:[a-z]*(?:sin|cos|tan|cot|sec|csc)h?|exp) ?_|\^\{? ?T|\.[0-9]*\.")          # by the parser
_DEGREES = re.compile(r"([0-9.]+|(?<!\\)\b[A-Za-z]|\\[a-z]+) ?°")


class _NotRead(ValueError):
    """Why an expression is not shown to sympy."""


def _letters(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", _LAYOUT.sub(" ", text))))


def _screened(text: str, gold: str) -> str:
    """An expression, if it is one that may be shown to sympy; raises _NotRead if it is not.

    What equals the gold needs no variable that the gold has not, and no sign outside of a small set. That keeps words out, and nearly all
    that is built to keep sympy busy. The rest are signs that the parser drops or takes for something else.
    """
    text = _DEGREES.sub(r"\\frac{\\pi \\cdot \1}{180}", text)
    if unknown := sorted(set(_COMMAND.findall(_LAYOUT.sub(" ", text))) - _KNOWN):
        raise _NotRead(f"{unknown[0]} is not read")
    if not _CHARACTERS.fullmatch(text):
        raise _NotRead("it has signs that no answer needs")
    if foreign := sorted(_letters(text) - _letters(gold) - set("ei")):
        raise _NotRead(f"the gold knows no {foreign[0]}")
    if _DROPPED.search(text):
        raise _NotRead("it has subscripts, superscripts or points where none are read")
    if text != gold and re.search(r"[0-9] +[0-9]", text):
        raise _NotRead("its numbers cannot be told apart")
    _refuse_what_is_costly(text)
    return text


def _refuse_what_is_costly(text: str) -> None:
    """High powers, towers of powers, factorials, deep nests."""
    depth = deepest = powers = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    if deepest > 10:
        raise _NotRead("its brackets are nested too deep")
    of_brackets = 1                                                   # ((x^{99})^{99})^{99} is a power of all three
    for match in re.finditer(r"\^", text):
        exponent = _argument(text, match.end())
        powers += 1
        inner = re.sub(r"\^\{[0-9]\}", "", exponent)
        if "^" in inner or "!" in exponent or re.search(r"[0-9]{5}", exponent) or inner != exponent and not _letters(exponent):
            raise _NotRead("a power of it is too high")
        if text[:match.start()].rstrip()[-1:] in tuple(")}]"):
            of_brackets *= max([1, *map(int, re.findall("[0-9]+", exponent))])
    if powers > 15 or of_brackets > 10_000 or re.search(r"\^\{[^{}]*\} ?\^", text):
        raise _NotRead("it has too many powers, or too high ones")
    if re.search(r"!\s*!|[0-9]{5}\s*!|\.[0-9]+\s*!|\\binom\{[^{}]*(?:[0-9]{5}|\^)", text) or text.count("!") > 4:
        raise _NotRead("a factorial of it is too large")
    for match in re.finditer(r"(\([^()]*\)|[)\]}|]|\\r(?:floor|ceil))\s*!", text):     # (2n)! is a formula, (10^{9})! is an attack
        if not _letters(match[1]) or "^" in match[1]:
            raise _NotRead("a factorial of it is too large")


def _argument(text: str, start: int) -> str:
    """What stands as argument at this place: a group in curly brackets, or one sign."""
    if start >= len(text) or text[start] != "{":
        return text[start:start + 1]
    depth = 0
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[start + 1:end]
    return text[start:]


# ------------------------------------------------------------------------------------------------------------------------------------------
# The process that compares

@dataclass
class Worker:
    """One process that runs `math_verify.py`; started when it is first needed, and anew when somebody has ended it.

    Any thread may call it. There is one for all of them, so they queue: what needs `SECONDS` delays the others, and changes no verdict.
    graded, timeouts, starts: how often, since the program began.
    """

    graded: int = 0
    timeouts: int = 0
    starts: int = 0
    _process: subprocess.Popen | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def compare(self, gold: _Parts, answer: _Parts) -> tuple[bool, str]:
        """Whether the answer is the gold, and why not; False for what takes too long or ends the process."""
        with self._lock:
            self.graded += 1
            for _ in range(2):                                            # a worker that somebody else ended is worth a second try
                said = self._ask(gold, answer)
                if said is not None:
                    return said
            return False, "it ends the process that compares"

    def stop(self) -> None:
        """End the process; the next comparison starts another."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def _ask(self, gold: _Parts, answer: _Parts) -> tuple[bool, str] | None:
        """The worker's verdict; None when it died before it was asked or without a word."""
        answered = False
        try:
            self._start()
            self._process.stdin.write(json.dumps({"id": self.graded, "gold": gold, "answer": answer}).encode() + b"\n")
            said = self._line(_HANGS)
            if said == "late":
                answered = True
                self.timeouts += 1
                if self.timeouts & (self.timeouts - 1) == 0:              # the 1st, 2nd, 4th, 8th ..., so that an attack floods no log
                    _log.warning("%r needs more than %s s to be compared with %r and is counted as wrong (time-out %d of %d comparisons)",
                                 answer, SECONDS, gold, self.timeouts, self.graded)
                return False, f"it needs more than {SECONDS} s"
            verdict = json.loads(said) if said else {"id": None}
            answered = verdict["id"] == self.graded
            return (verdict["right"] is True, verdict["why"]) if answered else None
        except (BrokenPipeError, json.JSONDecodeError):      # it is gone, or what it says is no verdict
            return None
        finally:                                        # also when Ctrl-C comes in between: no later question may read this answer
            if not answered:
                self.stop()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        self.starts += 1
        # A session of its own: Ctrl-C in a notebook is for the notebook. -P: a file in the caller's folder is no library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("math_verify.py")), str(SECONDS), str(_MEMORY)], bufsize=0,
            start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"})
        if self._line(_START) != "ready":
            raise R1Error(f"the process that compares expressions does not start: see what `{sys.executable} "
                          f"{Path(__file__).with_name('math_verify.py')} 1 {_MEMORY}` says.")

    def _line(self, seconds: float) -> str:
        """One line from the worker, "" if it ends or does not come in time."""
        received = b""
        deadline = time.monotonic() + seconds
        while not received.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return ""
            chunk = self._process.stdout.read(4096)
            if not chunk:
                return ""
            received += chunk
        return received.decode().strip()


WORKER = Worker()
atexit.register(lambda: WORKER.stop())                  # whichever it is then


def _after_fork() -> None:
    """A forked process has no part in its parent's worker."""
    global WORKER
    WORKER = Worker()


os.register_at_fork(after_in_child=_after_fork)
