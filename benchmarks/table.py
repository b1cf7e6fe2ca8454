"""benchmarks/README.md, from what lies in results/: nothing in it is typed by hand but the words."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
WORDS = """# Benchmarks

Our sampler and trainer beside transformers, TRL and vLLM: the same weights, prompts and lengths, one after the other on one machine, each
in a process of its own, the median of several repetitions after one that warms up. `python -m benchmarks cpu` (`make bench`) makes the
first table again, `python -m benchmarks h200` the second, on a GPU with the packages that it compares with. Raw numbers: `results/`.

Where answers end by themselves, engines draw other answers of other lengths, so what is compared is the time for one token.
"""
NAMES = {"generate": "transformers `generate`", "vllm": "vLLM", "trl": "TRL, `generate`", "trl+vllm": "TRL, vLLM colocate"}


def write() -> Path:
    parts = [WORDS]
    for file in sorted((FOLDER / "results").glob("*.json")):
        records = [record for record in json.loads(file.read_text(encoding="utf-8")) if record.get("what") in ("rollout", "step")]
        if records:
            parts += [f"## {records[0]['machine']}", "", *_rows(records), "", *_shares(records), ""]
    for picture in sorted((FOLDER / "results").glob("growth-*.png")):
        parts += [f"![Tokens/s and seconds a step over batch, length and model](results/{picture.name})", ""]
    page = FOLDER / "README.md"
    words = (FOLDER / "notes.md").read_text(encoding="utf-8") if (FOLDER / "notes.md").exists() else ""
    page.write_text("\n".join([*parts, words]), encoding="utf-8")
    return page


def _rows(records: list[dict[str, Any]]) -> list[str]:
    rows = ["| what | model | prompts x samples | answers | ours | peer | | times as fast | memory, ours and peer (GB) |", "|---" * 9 + "|"]
    for record in records:
        answers = "as the model ends them" if "--natural" in record["options"] else "of one length"
        theirs = _value(record["peer"], record["unit"]) if record["peer"] else record.get("error", "")
        held = ", ".join(f"{raw['peak_gb']:.1f}" for raw in (record["ours_raw"], record.get("peer_raw")) if raw and raw["peak_gb"])
        times = f"**{record['ratio']:.1f}**" if record["ratio"] else ""
        cells = (_what(record), record["model"], record["batch"], f"{answers}, at most {_tokens(record)} tokens",
                 _value(record["ours"], record["unit"]), theirs, _peer(record), times, held)
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _shares(records: list[dict[str, Any]]) -> list[str]:
    """What share of the machine's limit is reached."""
    first = records[0]["share"]
    lines = [f"The machine's limits, measured in the same run: {first['arithmetic'] / 1e12:.3g} Tera-operations/s in a large product of "
             f"matrices, {first['bandwidth'] / 1e9:.3g} GB/s in a large copy. What our work must take at least, over what it took:", "",
             "| what | model | prompts x samples | writing answers | learning from them |", "|---" * 5 + "|"]
    seen = set()
    for record in records:
        key = (record["what"], record["model"], record["batch"], record["options"])
        if key not in seen:
            seen.add(key)
            learning = f"{record['share']['train']:.0%}" if "train" in record["share"] else ""
            lines.append(f"| {_what(record)} | {record['model']} | {record['batch']} | {record['share']['decode']:.0%} | {learning} |")
    return lines


def _what(record: dict[str, Any]) -> str:
    return record["what"] + (", ours learns in bfloat16" if "--precision bfloat16" in record["options"] else "")


def _peer(record: dict[str, Any]) -> str:
    name, *more = record["peer_name"].split() or [""]
    how = [*([f"batches of {more[1]}"] if more else []), *(["bfloat16"] if "--peer-bf16" in more else [])]
    return NAMES.get(name, name) + (f" ({', '.join(how)})" if how else "")


def _tokens(record: dict[str, Any]) -> str:
    options = record["options"].split()
    return options[options.index("--tokens") + 1] if "--tokens" in options else "64"


def _value(value: float, unit: str) -> str:
    return f"{value:.2f} s" if unit == "s" else f"{value:,.0f} tokens/s"
