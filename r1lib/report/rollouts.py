"""Answers to read: those that a run kept, filtered; a whole group side by side; one answer token by token.

    rows = MetricsLog(folder / "rollouts.jsonl").rows()
    browse(rows, step=12, right=False, reflection=True)

What a model wrote is hostile text: it is escaped, never rendered. In JupyterLab `browse` has controls above the table; in a batch, in HTML
and in a notebook without its kernel the same table stands there for the filters that were given as parameters, and no widget is stored.
"""

import html
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from IPython.display import display

from r1lib import text
from r1lib.aha import Token
from r1lib.errors import R1Error
from r1lib.report import page
from r1lib.report.page import Cell

Row = Mapping[str, Any]                # of rollouts.jsonl: step, problem, question, gold, text, language, reward, rewards, advantage ...

_LANGUAGES = ("en", "zh", "mixed")
_BY_RULE = ("accuracy_reward", "code_reward")
_CARD = "border: 1px solid rgba(128, 128, 128, 0.45); border-radius: 6px; padding: 0.5em; overflow-wrap: anywhere"
_YES_NO = (("all", None), ("yes", True), ("no", False))


def is_right(row: Row) -> bool | None:
    """Whether an answer solved its problem, None where neither a rule nor tests could tell."""
    verdicts = [row["rewards"][name] for name in _BY_RULE if row["rewards"].get(name) is not None]
    return verdicts[0] == 1 if verdicts else None


def choose(rows: Sequence[Row], *, step: int | tuple[int, int] | None = None, right: bool | None = None, reflection: bool | None = None,
           language: str | None = None) -> list[Row]:
    """The rows that fit; None fits all.

    step: one, or the first and the last of several. right: by rule or tests. reflection: whether the answer has a reflective word.
    language: of the question, "en" or "zh"; "mixed": the thinking uses words of the other language, whatever the question's is.
    """
    if language not in (None, *_LANGUAGES):
        raise R1Error(f"language={language!r}: choose from {', '.join(_LANGUAGES)}, or None for all.")
    first, last = step if isinstance(step, tuple) else (step, step)

    def fits(row: Row) -> bool:
        mixed = language == "mixed" and text.mixes_languages(text.thinking(row["text"]), row["language"])
        return ((step is None or first <= row["step"] <= last) and right in (None, is_right(row))
                and reflection in (None, text.reflection_count(row["text"]) > 0) and (language in (None, row["language"]) or mixed))

    return [row for row in rows if fits(row)]


def browse(rows: Sequence[Row], *, step: int | tuple[int, int] | None = None, right: bool | None = None, reflection: bool | None = None,
           language: str | None = None, limit: int = 6, widgets: bool | None = None) -> None:
    """Show the answers of a run that fit the filters (see `choose`), at most `limit` of them.

    widgets: controls for the same filters, above the table, which follows them. None: where JupyterLab runs the kernel, and nowhere else.
    """
    filters = {"step": step, "right": right, "reflection": reflection, "language": language}
    shown = _shown(rows, filters, limit)
    if not (("JPY_SESSION_NAME" in os.environ) if widgets is None else widgets):
        display(shown, raw=True)
        return
    import ipywidgets  # here, because a batch run has no use for it

    steps = sorted({row["step"] for row in rows} | ({step} if isinstance(step, int) else set()))
    options = {"step": [("all", None), *((str(number), number) for number in steps)], "right": _YES_NO, "reflection": _YES_NO,
               "language": [("all", None), *((name, name) for name in _LANGUAGES)]}
    if isinstance(step, tuple):
        options["step"].insert(1, (f"{step[0]} to {step[1]}", step))
    controls = {name: ipywidgets.Dropdown(options=choices, value=filters[name], description=name, layout={"width": "15em"})
                for name, choices in options.items()}
    display(ipywidgets.HBox(list(controls.values())))
    # The table is an ordinary output that is replaced: inside an Output widget it would go when the kernel does.
    place = display(shown, raw=True, display_id=True)

    def follow(_: object) -> None:
        place.update(_shown(rows, {name: control.value for name, control in controls.items()}, limit), raw=True)

    for control in controls.values():
        control.observe(follow, names="value")


def _shown(rows: Sequence[Row], filters: Mapping[str, Any], limit: int) -> dict[str, str]:
    found = choose(rows, **filters)
    asked = ", ".join(f"{name}={value}" for name, value in filters.items() if value is not None) or "no filter"
    caption = f"{asked}: {len(found)} of {len(rows)} answers" + (f", the first {limit} of them" if len(found) > limit else "")
    cells = [(row["step"], f"{row['question']} (gold: {row['gold']})", coloured(row["text"], is_right(row) is True), _paid(row),
              f"{row['advantage']:+.2f}") for row in found[:limit]]
    return page.table(caption, ("step", "question", "answer", "reward", "advantage"), cells)


def _paid(row: Row) -> str:
    parts = ", ".join(f"{name.removesuffix('_reward')} {value:g}" for name, value in row["rewards"].items() if value is not None)
    return f"{row['reward']:g} ({parts})" if parts else f"{row['reward']:g}"


def coloured(answer: str, right: bool) -> Cell:
    """An answer as `page.coloured` shows it, its reflective words in bold."""
    drawn, plain = page.coloured(answer, right)
    parts, done = [], 0
    for match in text.reflections(drawn):                  # escaped text and our own spans, whose attributes hold no reflective word
        parts += [drawn[done:match.start()], f"<b>{match.group()}</b>"]
        done = match.end()
    return "".join([*parts, drawn[done:]]), plain


def group(rows: Sequence[Row], *, columns: int = 4) -> None:
    """All answers to one question side by side, the best paid first: what a step learns from is the number on top of each.

    A row needs text, question, gold, rewards, reward and advantage; rows of several questions are an `R1Error`.
    """
    if len({row["question"] for row in rows}) != 1:
        raise R1Error(f"a group is the answers to one question; these {len(rows)} rows have {len({row['question'] for row in rows})}.")
    caption = f"{rows[0]['question']} (gold: {rows[0]['gold']}), {len(rows)} answers"
    cards, lines = [], [caption]
    for row in sorted(rows, key=lambda row: -row["advantage"]):
        answer, plain = coloured(row["text"], is_right(row) is True)
        head = f"{row['advantage']:+.2f}"
        title = f'<b style="font-size: 1.25em">{head}</b> &nbsp;reward {html.escape(_paid(row))}'
        cards.append(f'<div style="{_CARD}"><div>{title}</div>{answer}</div>')
        lines.append(f"{head} | reward {_paid(row)} | " + plain.strip().replace("\n", " / "))
    grid = f'<div style="display: grid; grid-template-columns: repeat({columns}, minmax(0, 1fr)); gap: 0.5em">{"".join(cards)}</div>'
    display({"text/html": f"<div><p><b>{html.escape(caption)}</b></p>{grid}</div>", "text/plain": "\n".join(lines)}, raw=True)


def tinted(tokens: Sequence[Token], shade: Callable[[Token], float], *, colour: str = "201, 88, 10", mark: float = 0.3) -> Cell:
    """An answer whose tokens are tinted by a number from 0 to 1, which is also what the pointer shows, beside all that is known of a token.

    colour: red, green, blue. mark: in plain text, tokens of at least this shade have it in braces behind them.
    """
    drawn, plain = [], []
    for token in tokens:
        value = min(max(shade(token), 0.0), 1.0)
        about = f"probability {token.probability:.2f}, entropy {token.entropy:.2f}, opener {token.opener:.2f}"
        shown = html.escape(token.text).replace("\n", "↵<br>")
        drawn.append(f'<span title="{about}" style="background: rgba({colour}, {0.75 * value:.2f})">{shown}</span>' if shown else "")
        plain.append(f"{token.text}{{{value:.2f}}}" if value >= mark and token.text.strip() else token.text)
    return "".join(drawn), "".join(plain)
