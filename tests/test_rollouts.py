"""The viewer: filters, escaped text, the same table with and without controls, nothing of a widget in a batch."""

import pytest

from r1lib.aha import Token
from r1lib.errors import R1Error
from r1lib.report import rollouts

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'


def row(step=0, answer="<think>1+1=2</think><answer>2</answer>", right=1.0, language="en", **changed):
    return {"step": step, "problem": "math/chain/1/en/0", "question": "1 + 1?", "gold": "2", "language": language, "text": answer,
            "reward": 1.0 + right, "rewards": {"accuracy_reward": right, "code_reward": None, "format_reward": 1.0},
            "advantage": right - 0.5, **changed}


ROWS = [row(0), row(0, "<think>wait, 1+1=3</think><answer>3</answer>", 0.0), row(1, "<think>再算1+1=2</think><answer>2</answer>"),
        row(2, "<think>等等</think><answer>2</answer>", language="zh"), row(3, HOSTILE, 0.0, question=f"{HOSTILE}?"),
        row(4, "hello", rewards={"accuracy_reward": None, "helpful_reward": 0.25})]


@pytest.fixture
def shown(monkeypatch):
    """What would be displayed: MIME bundles, and objects such as widgets."""
    found = []

    class Handle:
        def update(self, bundle, raw):
            found.append(bundle)

    def display(thing, raw=False, display_id=None):
        found.append(thing)
        return Handle() if display_id else None

    monkeypatch.setattr(rollouts, "display", display)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return found


@pytest.mark.parametrize(("filters", "places"), [
    ({}, [0, 1, 2, 3, 4, 5]), ({"step": 0}, [0, 1]), ({"step": (1, 2)}, [2, 3]), ({"right": True}, [0, 2, 3]), ({"right": False}, [1, 4]),
    ({"reflection": True}, [1, 3]), ({"reflection": True, "right": False}, [1]), ({"reflection": False, "step": 0}, [0]),
    ({"language": "zh"}, [3]), ({"language": "mixed"}, [2]), ({"step": 9}, []),
])
def test_rows_that_fit(filters, places):
    assert rollouts.choose(ROWS, **filters) == [ROWS[place] for place in places]


def test_an_unknown_language_is_named():
    with pytest.raises(R1Error, match="language='fr': choose from en, zh, mixed"):
        rollouts.choose(ROWS, language="fr")


def test_right_is_by_rule_or_by_tests_or_not_known():
    assert [rollouts.is_right(one) for one in ROWS] == [True, False, True, True, False, None]
    assert rollouts.is_right(row(rewards={"accuracy_reward": None, "code_reward": 1.0})) is True


def test_a_batch_gets_the_table_alone(shown):
    rollouts.browse(ROWS, right=False)
    (bundle,) = shown
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/plain"].startswith("right=False: 2 of 6 answers\n")


def test_what_a_model_wrote_is_never_markup(shown):
    rollouts.browse(ROWS)
    rollouts.group([ROWS[4]])
    for bundle in shown:
        assert "<script" not in bundle["text/html"] and "<img" not in bundle["text/html"]
        assert "&lt;script&gt;alert(1)" in bundle["text/html"] and "<script>" in bundle["text/plain"]
    drawn, _ = rollouts.tinted([Token(HOSTILE, 0.5, 1.0, 0.2), Token('"wrong" & <b>', 0.5, 1.0, 0.2)], lambda token: token.opener)
    assert "<script" not in drawn and "<img" not in drawn and "<b>" not in drawn
    hostile, _ = rollouts.coloured('wait <b onclick="check"> style="wrong"', True)
    assert "<b onclick" not in hostile and "<b>wait</b>" in hostile and '"' not in hostile.replace("&quot;", "")


def test_reflective_words_stand_out_and_the_rest_stays():
    drawn, plain = rollouts.coloured("<think>Wait, 没错, 不对 & checked</think><answer>2</answer>", True)
    assert drawn.count("<b>") == 2 and "<b>Wait</b>" in drawn and "<b>不对</b>" in drawn
    assert plain == "right: <think>Wait, 没错, 不对 & checked</think><answer>2</answer>"


def test_only_so_many_are_shown_and_it_says_so(shown):
    rollouts.browse(ROWS, limit=2)
    assert "no filter: 6 of 6 answers, the first 2 of them" in shown[0]["text/plain"]
    assert len(shown[0]["text/plain"].splitlines()) == 4


def test_no_answer_fits(shown):
    rollouts.browse(ROWS, step=7)
    rollouts.browse([])
    assert "step=7: 0 of 6 answers" in shown[0]["text/plain"] and "0 of 0 answers" in shown[1]["text/plain"]


def test_controls_do_what_the_parameters_do(shown):
    rollouts.browse(ROWS, step=0, widgets=True)
    box, first = shown
    controls = {control.description: control for control in box.children}
    assert list(controls) == ["step", "right", "reflection", "language"] and controls["step"].value == 0
    controls["step"].value = None
    controls["right"].value = False
    rollouts.browse(ROWS, right=False)
    assert shown[-2] == shown[-1] != first
    box.close()


def test_a_range_of_steps_is_one_of_the_choices(shown):
    rollouts.browse(ROWS, step=(1, 3), widgets=True)
    box, table = shown
    assert box.children[0].value == (1, 3) and "3 of 6" in table["text/plain"]
    box.children[0].value = 2
    assert "step=2: 1 of 6" in shown[-1]["text/plain"]
    box.close()


def test_jupyterlab_gets_controls_by_itself(shown, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    rollouts.browse(ROWS)
    assert len(shown) == 2
    rollouts.browse(ROWS, widgets=False)
    assert len(shown) == 3


def test_a_group_stands_side_by_side_the_best_first(shown):
    rollouts.group([ROWS[1], ROWS[0]])
    lines = shown[0]["text/plain"].splitlines()
    assert lines[0] == "1 + 1? (gold: 2), 2 answers"
    assert lines[1].startswith("+0.50 | reward 2 (accuracy 1, format 1) | right:") and lines[2].startswith("-0.50 | reward 1")
    assert shown[0]["text/html"].count("reward") == 2


def test_a_group_has_one_question():
    with pytest.raises(R1Error, match="these 2 rows have 2"):
        rollouts.group([ROWS[0], ROWS[4]])
    with pytest.raises(R1Error, match="these 0 rows have 0"):
        rollouts.group([])


def test_tokens_are_tinted_by_a_number():
    tokens = [Token("Wait", 0.25, 1.5, 0.5), Token("", 1.0, 0.0, 0.0), Token("\n", 1.0, 0.0, 0.9), Token("7", 0.9, 0.1, 7.0)]
    drawn, plain = rollouts.tinted(tokens, lambda token: token.opener, colour="1, 2, 3")
    assert drawn.count("<span") == 3 and "rgba(1, 2, 3, 0.38)" in drawn and "rgba(1, 2, 3, 0.75)" in drawn
    assert 'title="probability 0.25, entropy 1.50, opener 0.50"' in drawn and "↵<br>" in drawn
    assert plain == "Wait{0.50}\n7{1.00}"
