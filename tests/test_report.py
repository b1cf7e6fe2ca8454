"""The board, the pages and the runner, on made-up runs and notebooks of a few lines."""

import base64
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from r1lib import machine
from r1lib.errors import R1Error
from r1lib.report import board, html, page
from r1lib.report.notebooks import machine_paths, run_notebooks
from r1lib.training.metrics import MetricsLog


def run_rows(steps: int = 12) -> list[dict]:
    """What a run logs: training metrics of each step, held-out numbers every fourth and after the last."""
    rows = [{"step": step, "reward": 0.4 + 0.1 * step, "rewards/accuracy_reward/mean": 0.1 + 0.05 * step, "rewards/format_reward/mean": 0.9,
             "completions/mean_length": 40.0 + 5 * step, "completions/clipped_ratio": 0.02, "reflection": 0.1 * step, "entropy": 0.6,
             "language_mixing": 0.05, "kl": 0.0, "frac_reward_zero_std": 0.2, "clip_ratio/region_mean": 0.01} for step in range(steps)]
    rows += [{"step": step, "eval_accuracy": 0.15 + 0.05 * step, "eval_length": 43.0 + step} for step in (0, 4, 8, steps)]
    return rows


def texts(figure) -> str:
    return " | ".join(text.get_text() for axes in figure.axes for text in axes.texts)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Board

def test_a_row_of_held_out_numbers_joins_the_row_of_its_step():
    assert board.merge([{"step": 1, "a": 1}, {"step": 0}, {"step": 1, "eval_a": 2}]) == [{"step": 0}, {"step": 1, "a": 1, "eval_a": 2}]


def test_board_has_eight_panels_and_says_the_values_before_training():
    figure = board.draw(run_rows(), "a run")
    assert len(figure.axes) == 8
    shown = texts(figure)
    assert "0.15" in shown and "43" in shown and "2% cut off" in shown and "not used" in shown
    accuracy = next(axes for axes in figure.axes if axes.get_title(loc="left") == "Accuracy")
    assert [list(line.get_ydata()) for line in accuracy.lines if line.get_linestyle() == "--"] == [[0.15, 0.15]]


def test_board_of_fine_tuning_has_loss_rate_and_held_out_accuracy():
    rows = [{"step": step, "epoch": step / 4, "loss": 2.0 - 0.1 * step, "learning_rate": 5e-4, "entropy": 0.5,
             "completions/mean_length": 60.0} for step in range(8)]
    rows += [{"step": step, "eval_accuracy": 0.1 + 0.05 * step, "eval_format": 0.5, "eval_length": 40.0, "eval_reflection": 0.2,
              "eval_language_mixing": 0.1} for step in (0, 8)]
    figure = board.draw(rows, "dev1")
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert len(titles) == 8 and {"Loss of the batch", "Accuracy", "Learning rate, 1e-4"} <= set(titles)
    assert "not logged" not in texts(figure) and "0.50" in texts(figure)
    assert "loss 1.300 (2.000 at step 0)" in board.summary(rows) and "held-out accuracy 0.50" in board.summary(rows)


def test_board_of_a_reward_model_shows_what_it_logs_and_nothing_else():
    rows = [{"step": step, "loss": 0.7, "learning_rate": 1e-4, "accuracy": 0.6, "margin": 0.3, "eval_accuracy": 0.5} for step in range(3)]
    figure = board.draw(rows, "rm_helpful")
    assert len([axes for axes in figure.axes if axes.axison]) == 4
    assert "not logged" not in texts(figure)
    assert "accuracy in training 0.60" in board.summary(rows)
    board.png(figure)


@pytest.mark.parametrize("rows", [[], [{"step": 0}], [{"step": 0, "reward": float("nan"), "kl": None}]])
def test_board_of_nothing_says_so(rows):
    assert texts(board.draw(rows, "empty")).count("not logged") == 8
    board.png(board.learning_curve(rows, title="empty"))


def test_no_number_at_a_curves_end_runs_into_a_title_or_another() -> None:
    rows = [{"step": step, "completions/mean_length": 90.0 - (step == 0), "eval_length": 90.0} for step in range(3)]
    axes = next(axes for axes in board.draw(rows, "high").axes if "length" in axes.get_title(loc="left"))
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert len(heights) == 3 and heights[-1] <= 1
    assert min(above - below for below, above in itertools.pairwise(heights)) > 0.05



def test_a_run_that_was_not_watched_from_the_start_has_no_line_before_training():
    rows = [{"step": step, "eval_accuracy": 0.5} for step in (30, 40)]
    accuracy = board.learning_curve(rows, title="late").axes[0]
    assert len(accuracy.lines) == 1


def test_labels_do_not_touch():
    rows = [{"step": step, "reward": 0.5, "rewards/accuracy/mean": 0.5, "rewards/format/mean": 0.5} for step in range(3)]
    panel = board.draw(rows, "equal").axes[0]
    heights = sorted(text.get_position()[1] for text in panel.texts)
    assert len(heights) == 3
    assert min(after - before for before, after in zip(heights, heights[1:], strict=False)) > 0.07


def test_a_crowded_curve_is_smoothed_and_keeps_its_ends():
    rows = [{"step": step, "entropy": float(step % 2)} for step in range(200)]
    pale, smooth = next(axes for axes in board.draw(rows, "long").axes if "Entropy" in axes.get_title(loc="left")).lines
    assert len(pale.get_xdata()) == len(smooth.get_xdata()) == 200
    assert all(0.3 < value < 0.7 for value in smooth.get_ydata())


@pytest.mark.parametrize("figure", [
    board.draw(run_rows(), "Reasoning RL without the language reward, profile gpu+miniature+trl+vllm, seed 0"),
    board.draw(run_rows(), "R1-Zero, seed 0"), board.learning_curve(run_rows(), title="R1-Zero " * 20),
    page.canvas("General quality did not measurably change, math did not measurably change, and code did not measurably change")[0]])
def test_a_title_leaves_neither_its_figure_nor_runs_into_the_legend(figure):
    figure.draw_without_rendering()
    right = figure.legends[0].get_window_extent().x0 if figure.legends else figure.bbox.x1
    assert figure._suptitle.get_window_extent().x1 < right - 5


def test_png_is_small_and_the_same_each_time():
    first, second = (board.png(board.draw(run_rows(), "a run")) for _ in range(2))
    assert first == second
    assert len(first) < 150_000
    assert Image.open(io.BytesIO(first)).size == (1800, 900)


def test_summary_is_one_line_with_start_and_end():
    line = board.summary(run_rows())
    assert "\n" not in line
    assert "step 12" in line and "held-out accuracy 0.75 (0.15 at step 0)" in line
    assert board.summary([]) == "no step yet"


def test_board_from_a_file(tmp_path):
    path = tmp_path / "zero" / "metrics.jsonl"
    with pytest.raises(R1Error, match=r"metrics\.jsonl"):
        board.from_file(path)
    path.parent.mkdir()
    MetricsLog(path).append(*run_rows())
    figure = board.from_file(path)
    assert figure.get_suptitle() == "zero"
    assert board.png(figure) == board.png(board.draw(run_rows(), "zero"))


@pytest.fixture
def notebook_screen(monkeypatch):
    """Takes the place of IPython and keeps what would be displayed."""
    sent = []
    display = types.SimpleNamespace(display=lambda data, **settings: sent.append((data, settings)))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=object, display=display,
                                                                            version_info=(9, 0)))       # for matplotlib
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return sent


def test_live_board_draws_at_most_so_often_and_always_at_the_end(notebook_screen, capsys):
    with board.LiveBoard("a run", interval=60) as live:
        for row in run_rows():
            live(row)
        assert len(notebook_screen) == 1
    assert len(notebook_screen) == 2
    (_, first), (data, last) = notebook_screen
    assert (first["update"], last["update"]) == (False, True) and first["display_id"] == last["display_id"]
    assert data["text/plain"] == board.summary(run_rows()) == capsys.readouterr().out.strip()
    assert last["metadata"]["image/png"]["alt"].startswith("a run: step 12")
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (1800, 900)


def test_interrupted_board_is_still_drawn(notebook_screen):
    with pytest.raises(KeyboardInterrupt), board.LiveBoard("a run") as live:
        live({"step": 0, "reward": 1.0})
        raise KeyboardInterrupt
    assert len(notebook_screen) == 2


def test_outside_a_notebook_nothing_is_drawn(monkeypatch, capsys):
    monkeypatch.setattr(board, "draw", None)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with board.LiveBoard("a run") as live:
        live({"step": 0, "reward": 1.0})
    assert live.rows == [{"step": 0, "reward": 1.0}]
    assert capsys.readouterr().out == "step 0, reward 1.00\n"


# ------------------------------------------------------------------------------------------------------------------------------------------
# Pages

@pytest.mark.parametrize("tex", [
    r"\hat A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r)}",
    r"\begin{aligned} a &= \mathbb{E}\left[q \sim P(Q)\right] \\ &\quad + \min(b \mid c) \end{aligned}",
    r"f = \begin{cases} 1 & \text{if right} \\ 0 & \text{otherwise} \end{cases}",
    r"\mathbb{D}_{\mathrm{KL}}(\pi_\theta \| \pi_{\text{ref}}) \Vert x",
    r"1-\binom{n-c}{k}\Big/\binom{n}{k}",
])
def test_formula_is_drawn_with_its_tex_for_screen_readers(tex):
    drawn = html.formula(tex, display=True)
    assert drawn.count("<svg") == 1 and "currentColor" in drawn and 'fill="black"' not in drawn
    assert f'aria-label="{tex.replace("&", "&amp;")}"' in drawn


def test_formula_keeps_its_number():
    assert "<span>(3)</span>" in html.formula(r"a = b \tag{3}", display=True)


@pytest.mark.parametrize("tex", [r"\nosuchcommand{x}", r"\frac{1}", r"a & b < c"])
def test_formula_that_cannot_be_drawn_is_shown_as_it_is_written(tex):
    assert html.formula(tex) == f'<code class="unknown">{tex.replace("&", "&amp;").replace("<", "&lt;")}</code>'


def test_markdown_knows_dollars_from_formulas():
    page = html.markdown("It costs \\$5, and $x^2$ is a formula, but `$HOME` is code.\n\n$$a = b$$\n")
    assert page.count("<svg") == 2
    assert "$5" in page and "<code>$HOME</code>" in page


def test_pages_ask_the_network_for_nothing():
    picture = base64.b64encode(board.png(board.draw([], "x"))).decode()
    output = nbformat.v4.new_output("display_data", {"image/png": picture}, metadata={"image/png": {"alt": "two <curves>"}})
    notebook = new_notebook(cells=[new_markdown_cell("# 01 One\n\n$x$, then [two](02_two.ipynb), not [three](03_three.ipynb)"),
                                   new_code_cell("print(1)", outputs=[output])])
    entries = [html.Entry("01_one", "One & only", "It <shows>.", "done", 61.0, 2_500_000_000),
               html.Entry("02_two", "Two", "", "failed", error="no"), html.Entry("03_three", "Three", "")]
    page, index = html.notebook_page(notebook, entries[0], entries), html.index_page("cpu", entries, "CPU  a", b"png", "curve")
    for text in (page, index):
        assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(|<script|<link""", text)
    assert 'alt="two &lt;curves&gt;"' in page
    assert 'href="02_two.html"' in page and 'href="03_three.ipynb"' in page and 'href="03_three.html"' not in page
    assert "One &amp; only" in index and "It &lt;shows&gt;." in index and "2.5 GB" in index and "61 s" in index
    assert "1 failed" in index and 'href="02_two.html"' in index and 'href="03_three.html"' not in index


# ------------------------------------------------------------------------------------------------------------------------------------------
# Runner

PARAMETERS = 'profile: str = "cpu"  # which\nseed: int = 0  # of all'


def write(folder, name: str, *cells: str, parameters: str = PARAMETERS) -> None:
    notebook = new_notebook(cells=[new_markdown_cell(f"# {name[:2]} · A title\n\nWhat *it* is for.\n\nMinutes: 1"),
                                   new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with an empty notebooks/, which is the project's for this test."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("R1_HOME", str(tmp_path))
    monkeypatch.delenv("R1_RUNS", raising=False)
    return tmp_path


def test_a_run_goes_on_after_a_failure_and_says_so(project, capsys):
    write(project, "00_good", "import r1lib", "x = bytearray(50_000_000)\nprint(profile, seed)\nprint('twice')", "profile")
    write(project, "01_bad", "from r1lib.errors import R1Error\nraise R1Error('runs/x: not there; make it.')", "print('never')")
    write(project, "02_pictures", "from r1lib.report.board import LiveBoard\n"
          "with LiveBoard('run') as board:\n    for step in range(5):\n        board({'step': step, 'reward': step})",
          "import ipywidgets\nipywidgets.IntSlider()")
    MetricsLog(project / "metrics.jsonl").append(*run_rows())
    (project / "runs" / "smoke" / "zero").mkdir(parents=True)
    (project / "metrics.jsonl").rename(project / "runs" / "smoke" / "zero" / "metrics.jsonl")

    assert run_notebooks("smoke", seed=7) == 1

    report = project / "runs" / "smoke" / "report"
    entries = json.loads((report / "report.json").read_text())
    assert [entry["status"] for entry in entries] == ["done", "failed", "done"]
    assert entries[0]["title"] == "A title" and entries[0]["purpose"] == "What it is for."
    assert entries[0]["seconds"] > 0 and entries[0]["peak_bytes"] > 50_000_000
    assert entries[1]["error"] == "R1Error: runs/x: not there; make it."
    printed = capsys.readouterr().out
    assert "01_bad: failed" in printed and "2 of 3 notebooks done" in printed
    good, _, pictures = (nbformat.read(report / f"{entry['name']}.ipynb", as_version=4) for entry in entries)
    assert [output.text for cell in good.cells for output in cell.get("outputs", []) if "text" in output] == ["smoke 7\ntwice\n"]
    assert [len(cell.outputs) for cell in pictures.cells[-2:]] == [2, 0]            # one picture and one line; no empty widget
    assert pictures.cells[-2].outputs[0].metadata["image/png"]["alt"].startswith("run: step 4")
    assert not {"papermill", "widgets"} & good.metadata.keys()
    index = (report / "index.html").read_text()
    assert "1 failed" in index and "held-out accuracy 0.75" in index and "data:image/png" in index

    assert run_notebooks("smoke", only=["2"]) == 0                                  # the others' lines stay
    assert [entry["status"] for entry in json.loads((report / "report.json").read_text())] == ["done", "failed", "done"]


def test_an_interrupted_report_says_where_it_stands(project):
    (project / "data").symlink_to(Path(machine.__file__).parent.parent / "data")
    write(project, "04_one", "open('begun', 'w').close()\nimport time\ntime.sleep(60)")
    write(project, "05_other", "profile")
    running = subprocess.Popen([sys.executable, "-m", "r1lib", "report", "--profile", "smoke"], stderr=subprocess.PIPE, text=True)
    while not (project / "notebooks" / "begun").exists() and running.poll() is None:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[1].strip().splitlines()
    assert (running.returncode, said[-1]) == (130, "stopped: what is finished stays, and a trained stage is not trained again.")
    entries = json.loads((project / "runs" / "smoke" / "report" / "report.json").read_text())
    assert [(entry["status"], entry["error"]) for entry in entries] == [("failed", "interrupted"), ("not run", "")]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere notebooks run one after the other")
def test_notebooks_that_need_nothing_of_each_other_run_at_the_same_time(project, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    meet = ("import os, pathlib, time\npathlib.Path('{mine}').touch()\n"
            "for _ in range(300):\n    time.sleep(0.1 * (not os.path.exists('{other}')))")
    shown = "print(os.environ.get('OMP_NUM_THREADS'), os.path.exists('00'), os.path.exists('01'))"
    write(project, "00_one", meet.format(mine="00", other="01"), shown)
    write(project, "01_other", meet.format(mine="01", other="00"), shown)
    write(project, "04_after", "import os", shown)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run_notebooks("smoke") == 0
    assert "OMP_NUM_THREADS" not in os.environ
    report = project / "runs" / "smoke" / "report"
    executed = [nbformat.read(report / f"{name}.ipynb", as_version=4) for name in ("00_one", "01_other", "04_after")]
    assert [notebook.cells[-1].outputs[0].text for notebook in executed] == ["1 True True\n", "1 True True\n", "None True True\n"]
    entries = json.loads((report / "report.json").read_text())
    assert [entry["status"] for entry in entries] == ["done"] * 3
    assert (report / "01_other.html").exists()


def test_a_kernel_that_dies_and_a_damaged_file_do_not_cost_the_report(project):
    write(project, "00_dies", "import os\nos._exit(1)")
    write(project, "01_good", "profile")
    metrics = project / "runs" / "smoke" / "zero" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text("not a row\n")
    assert run_notebooks("smoke") == 1
    report = metrics.parent.parent / "report"
    entries = json.loads((report / "report.json").read_text())
    assert [entry["status"] for entry in entries] == ["failed", "done"] and "died" in entries[0]["error"].lower()
    assert "metrics.jsonl, line 1" in (report / "index.html").read_text()
    assert (report / "00_dies.html").exists()


def test_a_page_that_cannot_be_made_does_not_cost_the_report(project, monkeypatch):
    write(project, "00_first", "profile")
    write(project, "01_good", "profile")
    made = html.notebook_page

    def page(notebook, entry, entries):
        if entry.name == "00_first":
            raise ValueError("No template sub-directory with name 'basic'\nmore")
        return made(notebook, entry, entries)

    monkeypatch.setattr(html, "notebook_page", page)
    assert run_notebooks("smoke") == 1
    report = project / "runs" / "smoke" / "report"
    entries = json.loads((report / "report.json").read_text())
    assert [entry["status"] for entry in entries] == ["failed", "done"]
    assert entries[0]["error"] == "its page could not be made: No template sub-directory with name 'basic'"
    assert (report / "00_first.ipynb").exists() and (report / "01_good.html").exists()


def test_store_keeps_outputs_and_nothing_of_the_machine(project):
    write(project, "00_good", "import r1lib", "profile")
    write(project, "01_leak", "import r1lib, sys\nprint(r1lib.__file__, '/' + 'home/me/x')")
    assert run_notebooks("cpu", store=True) == 1
    stored = nbformat.read(project / "notebooks" / "00_good.ipynb", as_version=4)
    assert [cell.execution_count for cell in stored.cells if cell.cell_type == "code"] == [1, 2, 3]
    assert stored.cells[-1].outputs[0].data["text/plain"] == "'cpu'" and stored.cells[-1].outputs[0].execution_count == 3
    assert len(stored.cells) == 4 and set(stored.cells[2].metadata) == set() and set(stored.metadata) == {"kernelspec"}
    leak = nbformat.read(project / "notebooks" / "01_leak.ipynb", as_version=4)
    assert leak.cells[-1].outputs == []
    entries = json.loads((project / "runs" / "cpu" / "report" / "report.json").read_text())
    assert "not stored" in entries[1]["error"] and "cell 3" in entries[1]["error"]


def test_a_user_is_told_what_is_wrong_before_anything_runs(project):
    with pytest.raises(R1Error, match="no notebook here"):
        run_notebooks("smoke")
    write(project, "00_good", "1")
    write(project, "01_no_seed", "1", parameters='profile: str = "cpu"  # which')
    with pytest.raises(R1Error, match=r"01_no_seed\.ipynb: no parameter seed; its parameters cell has profile\."):
        run_notebooks("smoke", seed=1)
    with pytest.raises(R1Error, match="notebook '7' is not known: choose among 00_good, 01_no_seed"):
        run_notebooks("smoke", only=["7"])
    with pytest.raises(R1Error, match="cannot be stored"):
        run_notebooks("smoke", store=True)
    with pytest.raises(R1Error, match="nosuch"):
        run_notebooks("nosuch")
    assert not (project / "runs").exists()


@pytest.mark.parametrize(("text", "found"), [
    ("saved in /" + "home/me/runs/x", True), ("'/" + "tmp/ipykernel_3/1.py:2: Warning", True), ("C:\\Us" + "ers\\me", True),
    ("runs/cpu/zero and ~/runs", False), ("https://example.org/" + "home/me", False), ("3 /home 4", False), ("tokens/s and/or", False),
])
def test_machine_paths(text, found):
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text=text)])])
    assert bool(machine_paths(notebook)) == found
