"""The words of the sandbox: what can be asked of a program, and what comes back."""

from dataclasses import dataclass
from typing import Any

TIMEOUT = "time-out"
NOT_RUN = "not run, because a call before it timed out"
MEMORY = "memory"
FLOOD = "it prints too much"

OUTPUT = 2**20                     # characters that a program may print
SOURCE = 200_000                   # characters of a program; a completion of 32,768 tokens has fewer


def one_line(error: str) -> str:
    """What a program says of its error, in one short line that is safe to show."""
    line = " ".join(error[:1000].split())
    return "".join(character if character.isprintable() else "?" for character in line)[:300] or "an error without a name"


@dataclass(frozen=True)
class Stdin:
    """Run the program as a script with this text on its standard input."""

    text: str


@dataclass(frozen=True)
class Check:
    """Run `check(candidate)` of this source where the program cannot see it; `candidate` calls the program's function `entry_point`.

    Arguments and results cross as plain data, so a check sees copies: it cannot look at what a function did to its argument in place.
    """

    source: str
    entry_point: str


Call = str | Stdin | Check         # a str is an expression, such as "f(2)"


@dataclass(frozen=True)
class Result:
    """What one call came to.

    value: what an expression gave, as plain data of exact types; True for a `Check` that passed; None otherwise.
    output: what was printed meanwhile. error: "" or one line. backend: where it ran.
    """

    value: Any
    output: str
    error: str
    backend: str
