"""Every hostile answer earns nothing, within its time, and the honest answers behind it are judged as ever: from anywhere."""

import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import pytest

from r1lib import text
from r1lib.rewards import accuracy_reward, attacks, grade, mathematics

ROOT = Path(__file__).parent.parent
CLASSES = sorted({attack.kind for attack in attacks.ANSWERS})


def honest(turn: int) -> list[float | None]:
    """One answer in numbers and one in symbols, right and wrong by turns, never the same twice: so that no verdict but their own fits."""
    answers = [f"<answer>{turn + turn % 2}</answer>", f"<answer>{turn + turn % 2}+x</answer>"]
    return [float(reward == 1.0 - turn % 2) for reward in accuracy_reward(answers, [str(turn), f"x+{turn}"])]


@pytest.mark.parametrize("kind", CLASSES)
def test_no_attack_is_paid_nor_hangs_nor_harms_the_next_answer(kind: str) -> None:
    for turn, attack in enumerate(attack for attack in attacks.ANSWERS if attack.kind == kind):
        (outcome,) = attacks.outcomes(accuracy_reward, [attack])
        assert outcome.reward == 0.0, attack
        assert outcome.seconds < 10.0, attack                     # a guard against hanging; benchmarks/rewards.py says how long they take
        assert honest(turn + 2) == [1.0, 1.0], attack


def test_no_attack_is_paid_from_eight_threads() -> None:
    def share(first: int) -> list[tuple[float | None, list[float | None]]]:
        outcomes = (attacks.outcomes(accuracy_reward, [attack])[0].reward for attack in attacks.ANSWERS[first::8])
        return [(reward, honest(1000 * first + turn)) for turn, reward in enumerate(outcomes, start=2)]

    with ThreadPoolExecutor(8) as pool:
        verdicts = [verdict for part in pool.map(share, range(8)) for verdict in part]
    assert len(verdicts) == len(attacks.ANSWERS) and set(map(str, verdicts)) == {"(0.0, [1.0, 1.0])"}


def test_no_attack_is_paid_in_a_notebook_that_papermill_executes(tmp_path: Path) -> None:
    cells = [f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from concurrent.futures import ThreadPoolExecutor
        from r1lib.rewards import accuracy_reward, attacks, grade
        """, """
        outcomes = attacks.outcomes(accuracy_reward)
        print(len(outcomes), sum(outcome.reward != 0 for outcome in outcomes))
        print(grade(gold="x+1", answer="1+x"), grade(gold="x+1", answer="2+x"))
        """, """
        with ThreadPoolExecutor(2) as pool:
            print(*pool.map(lambda n: grade(gold="x+1", answer=f"{n}+x"), range(4)))
        """]
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
                                        cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells])
    nbformat.write(notebook, tmp_path / "attacks.ipynb")
    executed = papermill.execute_notebook(tmp_path / "attacks.ipynb", tmp_path / "out.ipynb", progress_bar=False, kernel_name="python3")
    # to stdout alone: on a slow machine one more attack may need too long, and the log says so, to stderr
    said = ["".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout") for cell in executed.cells]
    assert said[-2:] == [f"{len(attacks.ANSWERS)} 0\nTrue False\n", "False True False False\n"]


def test_the_collection_is_what_it_says() -> None:
    assert len(attacks.ANSWERS) >= 300 and len(CLASSES) >= 15
    assert len(set(attacks.ANSWERS)) == len(attacks.ANSWERS)
    assert min(sum(attack.kind == kind for attack in attacks.ANSWERS) for kind in CLASSES) >= 5


def test_golds_of_the_collection_can_be_answered() -> None:
    assert [gold for gold in {attack.gold for attack in attacks.ANSWERS} if not grade(gold=gold, answer=gold)] == []


def test_a_reward_that_can_be_fooled_is_shown_up() -> None:
    def last_number(completions: list[str], solution: list[str], **_: object) -> list[float]:
        return [float(gold in completion) for completion, gold in zip(completions, solution, strict=True)]

    paid = attacks.paid(last_number)
    assert {"several answers at once", "hides the answer", "runs code"} <= {outcome.attack.kind for outcome in paid}
    assert all(outcome.reward == 1.0 and outcome.seconds >= 0 for outcome in paid)
    assert len(attacks.outcomes(last_number, attacks.ANSWERS[:5])) == 5


def test_columns_reach_the_reward_under_attack() -> None:
    seen = []

    def mine(completions: list[str], solution: list[str], level: list[int], **_: object) -> list[float]:
        seen.append((completions, solution, level))
        return [0.0]

    assert attacks.paid(mine, attacks.ANSWERS[:1], level=3) == []
    assert seen == [([attacks.ANSWERS[0].text], [attacks.ANSWERS[0].gold], [3])]


def test_attacks_stand_where_the_answer_is_looked_for() -> None:
    for attack in attacks.ANSWERS:
        assert attack.completion or text.parse(attack.text).answer == attack.answer.strip() or "answer>" in attack.answer


def test_hardly_any_attack_gets_as_far_as_to_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped comparison costs a second, so the screen has to catch what is known. The rest has the time that a slow machine takes."""
    monkeypatch.setattr(mathematics, "SECONDS", 5 * mathematics.SECONDS)
    monkeypatch.setattr(mathematics, "WORKER", worker := mathematics.Worker())
    endless = [attack for attack in attacks.ANSWERS if attack.kind == "never ends"]
    shown = [attack for attack in endless if mathematics.examine(gold=attack.gold, answer=attack.answer).rule == "algebra"]
    worker.stop()
    assert worker.graded >= len(shown) and worker.timeouts <= 3
    assert len(endless) >= 32 and len(shown) <= 12


def test_a_reward_that_crashes_is_beaten() -> None:
    def fragile(completions: list[str], **_: object) -> list[float]:
        return [1 / (len(completions[0]) % 2)]

    found = attacks.outcomes(fragile)
    assert len(found) == len(attacks.ANSWERS) and {outcome.error for outcome in found} == {"", "ZeroDivisionError: division by zero"}
    assert len(attacks.paid(fragile)) == len(found)
