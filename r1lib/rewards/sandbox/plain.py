"""Reading what a sandbox says: the text of a Python literal becomes plain data, and nothing else can come of it."""

import ast
import re
from typing import Any

from r1lib.rewards.sandbox.child import DEEPEST, LONGEST, NotPlain

# A text is looked at before Python's parser is: every value and every opening bracket follows a bracket, a comma or a colon. So there is no
# operator and no chain of calls to nest a million times, no name but these, and no escape that makes the parser warn.
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|nan|inf)"
_ESCAPE = r"""\\[\\'"nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}"""
_STRING = rf"""(?:'(?:[^'\\\x00-\x1f]|{_ESCAPE})*+'|"(?:[^"\\\x00-\x1f]|{_ESCAPE})*+")"""
_VALUE = rf"-?{_NUMBER}[-+]{_NUMBER}j|-?{_NUMBER}j?|b?{_STRING}|True|False|None|set\(\)|frozenset\(\)|frozenset(?=\(\{{)"
_LITERAL = re.compile(rf"(?:(?<![^\[{{(, ])(?:{_VALUE})|(?<![^\[{{(, t])[\[{{(]|[\]}})]|, ?|: )*+")


def read(text: str) -> Any:
    """The value that a text stands for; `NotPlain` for a text that is no literal, is too long or too deep."""
    if len(text) > LONGEST:
        raise NotPlain(f"it is longer than {LONGEST} characters")
    if not _LITERAL.fullmatch(text):
        raise NotPlain("it is no plain data")
    try:
        return _value(ast.parse(text, mode="eval").body, 0)
    except NotPlain:
        raise
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError):
        raise NotPlain("it is no plain data") from None


def _value(node: ast.expr, depth: int) -> Any:
    if depth > DEEPEST:
        raise NotPlain(f"it is nested more than {DEEPEST} deep")
    match node:
        case ast.Constant(value):
            return value
        case ast.Name("nan" | "inf" as name):
            return float(name)
        case ast.Name("nanj" | "infj" as name):
            return complex(0, float(name[:-1]))
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand, depth)
        case ast.BinOp(left, ast.Add(), right):
            return _value(left, depth) + _value(right, depth)
        case ast.BinOp(left, ast.Sub(), right):
            return _value(left, depth) - _value(right, depth)
        case ast.List(items):
            return [_value(item, depth + 1) for item in items]
        case ast.Tuple(items):
            return tuple(_value(item, depth + 1) for item in items)
        case ast.Set(items):
            return {_value(item, depth + 1) for item in items}
        case ast.Dict(keys, values) if None not in keys:
            return {_value(key, depth + 1): _value(item, depth + 1) for key, item in zip(keys, values, strict=True)}
        case ast.Call(ast.Name("set"), []):
            return set()
        case ast.Call(ast.Name("frozenset"), items) if len(items) < 2:
            return frozenset(_value(items[0], depth) if items else ())
    raise NotPlain("it is no plain data")
