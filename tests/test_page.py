"""What notebooks show besides boards: differences as a picture."""

from r1lib.report import board, page


def test_changes_are_a_line_each_coloured_by_their_interval():
    figure, (panel,) = page.canvas("a finding", columns=1)
    page.changes(panel, {
        "rose": {"value": 0.1, "low": 0.05, "high": 0.15}, "fell": {"value": -0.1, "low": -0.2, "high": -0.01},
        "untold": {"value": 0.01, "low": -0.02, "high": 0.04}, "not judged": {"value": None, "low": None, "high": None}})
    assert [label.get_text() for label in panel.get_yticklabels()] == ["rose", "fell", "untold"]
    assert [(text.get_text(), text.get_color()) for text in panel.texts] == [
        ("+10.0", board.BLUE), ("-10.0", board.ORANGE), ("+1.0", board.GREY)]
    low, high = panel.get_ylim()
    assert low > high, "the first stands on top"
    board.png(figure)


def test_changes_of_nothing_are_an_empty_panel():
    figure, (panel,) = page.canvas("nothing", columns=1)
    page.changes(panel, {"not judged": {"value": None, "low": None, "high": None}})
    assert not panel.texts
    board.png(figure)


def test_a_band_has_no_negative_nought():
    assert page.band({"value": -0.0004, "low": -0.05, "high": 0.0004}) == "0.0 [-5.0, 0.0]"
    assert page.band({"value": None, "low": None, "high": None}) == "–"
