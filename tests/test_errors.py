"""A user's mistake is told in one line."""

import pytest

from r1lib.errors import R1Error


def test_it_is_a_value_error_with_its_message() -> None:
    with pytest.raises(ValueError, match="this row is not a problem"):
        raise R1Error("data/x.jsonl, row 3: this row is not a problem.")


def test_a_notebook_shows_one_line_and_no_traceback() -> None:
    assert R1Error("recipe.yaml: no such file.")._render_traceback_() == ["R1Error: recipe.yaml: no such file."]


def test_ipython_shows_just_that_line(capsys: pytest.CaptureFixture[str]) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    shell.run_cell("from r1lib.errors import R1Error\nraise R1Error('row 3: mend it.')")
    assert capsys.readouterr().out.strip() == "R1Error: row 3: mend it."
