"""Arithmetic read by a parser of our own: the four signs, brackets and whole numbers, nothing else.

Model output never reaches `eval` or sympy here.
"""

import re
from fractions import Fraction

LONGEST = 100                                     # characters; the longest honest answer has a fifth of that
_TOKEN = re.compile(r"\s*(?:([0-9]{1,6})|([-+*/()]))")


class NotAnExpression(ValueError):
    """The text is no arithmetic expression."""


def evaluate(text: str) -> tuple[Fraction, list[int], set[str]]:
    """The exact value of an expression, the numbers it uses in order, and its signs.

    Raises NotAnExpression for anything else, for a division by zero, and for text longer than LONGEST, so that the depth of the recursion
    is bounded.
    """
    text = text.strip().replace("×", "*").replace("÷", "/").replace("−", "-")
    if not text or len(text) > LONGEST:
        raise NotAnExpression("empty or too long")
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise NotAnExpression(f"unexpected {text[position:position + 10]!r}")
        tokens.append(match.group().strip())
        position = match.end()
    numbers: list[int] = []
    signs: set[str] = set()

    def take() -> str:
        return tokens.pop(0) if tokens else ""

    def atom() -> Fraction:
        token = take()
        if token.isdigit():
            numbers.append(int(token))
            return Fraction(int(token))
        if token == "(":
            value = total()
            if take() != ")":
                raise NotAnExpression("a bracket is not closed")
            return value
        raise NotAnExpression(f"unexpected {token!r}")

    def product() -> Fraction:
        value = atom()
        while tokens and tokens[0] in "*/":
            sign, right = take(), atom()
            signs.add(sign)
            if sign == "/" and right == 0:
                raise NotAnExpression("division by zero")
            value = value * right if sign == "*" else value / right
        return value

    def total() -> Fraction:
        value = product()
        while tokens and tokens[0] in "+-":
            sign, right = take(), product()
            signs.add(sign)
            value = value + right if sign == "+" else value - right
        return value

    value = total()
    if tokens:
        raise NotAnExpression(f"unexpected {tokens[0]!r}")
    return value, numbers, signs
