"""Pages to read in a browser: one for each executed notebook, and the index that leads to them.

A page is one file that asks the network for nothing: pictures are inside it, formulas are drawn here and not by a script, and it is
light or dark as the reader's system is.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import ziamath
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from ziamath.tex import tex2mml

PROJECT = "DeepSeek-R1, reproduced in notebooks"


@dataclass
class Entry:
    """One notebook's line in the index.

    status: "not run", "waiting", "running", "done" or "failed"; error: what went wrong, in one line.
    peak_bytes: the most memory that the kernel and what it started held at one time.
    """

    name: str
    title: str
    purpose: str
    status: str = "not run"
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str = ""


# ------------------------------------------------------------------------------------------------------------------------------------------
# Formulas

ziamath.config.svg2 = True          # a glyph is defined once in each formula
_TEXT_SIZE = 17                     # px, the size of the text around a formula in `_STYLE`

# What the converter does not know or draws badly: in TeX, and then in the MathML that it makes of TeX.
_TEX = {r"\\sim(?![A-Za-z])": r"\\thicksim", r"\\mid(?![A-Za-z])": r"\\;|\\;", r"\\Vert(?![A-Za-z])": r"\\|"}
_MATHML = {"<mo>&#x00302;": '<mo stretchy="false">&#710;', 'rowspacing="3pt"': 'rowspacing="0.8em"', "\\_": "_"}


def formula(tex: str, *, display: bool = False) -> str:
    """A formula as a picture with its TeX for screen readers, or as code where it holds something that the converter does not know."""
    known, number = re.sub(r"\\tag\{(.*?)\}", "", tex), re.search(r"\\tag\{(.*?)\}", tex)
    for ours, theirs in _TEX.items():
        known = re.sub(ours, theirs, known)
    try:
        mathml = tex2mml(known, inline=not display)
        for theirs, ours in _MATHML.items():
            mathml = mathml.replace(theirs, ours)
        if "\\" in mathml:                  # an unknown command is passed on as a name
            raise ValueError
        drawn = ziamath.Math(mathml, size=_TEXT_SIZE)
        picture = drawn.svg()
    except Exception:                       # its parser has a dozen ways to say that braces, ends or operands are missing
        return f'<code class="unknown">{html.escape(tex)}</code>'
    picture = picture.replace("<svg ", f'<svg style="vertical-align: {drawn.getyofst():.1f}px" ', 1)
    picture = picture.replace('fill="black"', 'fill="currentColor"')
    picture = f'<span role="img" aria-label="{html.escape(tex.strip())}">{picture}</span>'
    if not display:
        return picture
    return f'<div class="formula">{picture}' + (f"<span>({number[1]})</span>" if number else "") + "</div>"


class _Renderer(IPythonRenderer):
    """Markdown as JupyterLab shows it, but formulas are drawn here and not by a script from a network."""

    def block_math(self, body: str) -> str:
        return formula(body, display=True)

    def inline_math(self, body: str) -> str:
        return formula(body)

    def latex_environment(self, name: str, body: str) -> str:
        return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)


def markdown(source: str) -> str:
    """Markdown with formulas as HTML."""
    return MarkdownWithMath(renderer=_Renderer(escape=False, exclude_anchor_links=True)).render(source)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Pages

def notebook_page(notebook: NotebookNode, entry: Entry, entries: Sequence[Entry]) -> str:
    """An executed notebook as a page of its own, with the way to its neighbours."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", markdown)
    body, _ = exporter.from_notebook_node(notebook)
    body = body.replace('output_error"', 'output_error" id="error"', 1)
    linked = {other.name for other in entries if other.status != "not run"}
    body = re.sub(r'href="(?:\./)?(\d\d_\w+)\.ipynb"', lambda link: f'href="{link[1]}.html"' if link[1] in linked else link[0], body)
    place = [other.name for other in entries].index(entry.name)
    links = ['<a href="index.html">All notebooks</a>']
    for other, text in ((place - 1, "&larr; {}"), (place + 1, "{} &rarr;")):
        if 0 <= other < len(entries) and entries[other].name in linked:
            links.append(f'<a href="{entries[other].name}.html">{text.format(_text(entries[other].title))}</a>')
    ways = f'<nav>{"".join(links)}</nav>'
    return _page(entry.title, f'{ways}\n{_status_line(entry)}\n<main>{body}</main>\n{ways}', "notebook")


def index_page(profile: str, entries: Sequence[Entry], machine: str, curve: bytes | None = None, caption: str = "") -> str:
    """The first page of a report: what ran, what came of it, on which machine.

    curve: PNG of R1-Zero's learning curve, where there is one; caption: the same in a line of text, or why there is none.
    """
    done, failed = (sum(entry.status == status for entry in entries) for status in ("done", "failed"))
    seconds, peak = sum(entry.seconds for entry in entries), max((entry.peak_bytes for entry in entries), default=0)
    verdict = (f'<strong class="failed">{failed} failed</strong>, ' if failed else "") + f"<strong>{done} of {len(entries)} done</strong>"
    body = [f'<header><p class="over">r1lib</p><h1>{PROJECT}</h1><p>Profile <code>{_text(profile)}</code>: {verdict}, '
            f"{_duration(seconds)} of notebooks, at most {_size(peak)} of memory.</p></header><main>"]
    if caption:
        picture = f'<img src="data:image/png;base64,{base64.b64encode(curve).decode()}" alt="{_text(caption)}">' if curve else ""
        body.append(f"<figure>{picture}<figcaption>{_text(caption)}</figcaption></figure>")
    body.append('<div class="wide"><table><caption>Notebooks, in the order in which they are read and run</caption><thead><tr>'
                '<th scope="col">No.</th><th scope="col">Notebook</th><th scope="col">Result</th>'
                '<th scope="col" class="number">Time</th><th scope="col" class="number">Peak memory</th></tr></thead><tbody>')
    for entry in entries:
        link = f'<a href="{entry.name}.html">{_text(entry.title)}</a>' if entry.status in ("done", "failed") else _text(entry.title)
        error = f'<p class="error">{_text(entry.error)}</p>' if entry.error else ""
        body.append(f'<tr><td class="over">{entry.name[:2]}</td><td>{link}<p>{_text(entry.purpose)}</p>{error}</td>'
                    f'<td><span class="badge {entry.status}">{entry.status}</span></td><td class="number">{_duration(entry.seconds)}</td>'
                    f'<td class="number">{_size(entry.peak_bytes)}</td></tr>')
    body.append(f"</tbody></table></div></main><footer><pre>{_text(machine)}</pre></footer>")
    return _page(f"{PROJECT} ({profile})", "\n".join(body), "index")


def _status_line(entry: Entry) -> str:
    error = f': <a class="failed" href="#error">{_text(entry.error)}</a>' if entry.error else ""
    return (f'<p class="status"><span class="badge {entry.status}">{entry.status}</span> {_duration(entry.seconds)}, '
            f"at most {_size(entry.peak_bytes)} of memory{error}</p>")


def _text(text: str) -> str:
    return html.escape(text)


def _duration(seconds: float) -> str:
    return "" if not seconds else f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _size(number: int) -> str:
    return "" if not number else f"{number / 1e6:.0f} MB" if number < 1e9 else f"{number / 1e9:.1f} GB"


def _page(title: str, body: str, kind: str) -> str:
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>
{light}
@media (prefers-color-scheme: dark) {{
{dark}
}}
{_STYLE}</style>
</head>
<body class="{kind}">
{body}
</body>
</html>
"""


_STYLE = """\
:root {
  color-scheme: light dark;
  --ink: #1f2933; --soft: #5c6773; --line: #dfe4e8; --paper: #ffffff; --card: #f6f8fa; --link: #1f5fa8; --good: #2b7a4b; --bad: #b42318;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e9ee; --soft: #9aa6b2; --line: #313a44; --paper: #14181d; --card: #1d232a; --link: #7db3f0; --good: #6cc493; --bad: #ff8a7d;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
.notebook { max-width: 72rem; }
.notebook p, .notebook li, .notebook blockquote { max-width: 52rem; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 0.15em; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2.2rem 0 0.8rem; text-wrap: balance; }
h1 { font-size: 2.1rem; margin-top: 0.3rem; letter-spacing: -0.01em; }
h2 { font-size: 1.5rem; border-bottom: 1px solid var(--line); padding-bottom: 0.3rem; }
h3 { font-size: 1.2rem; }
p, ul, ol { margin: 0.7rem 0; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; font-size: 0.9em; }
.notebook pre { font-size: 0.8em; }
:not(pre) > code { background: var(--card); border-radius: 4px; padding: 0.1em 0.3em; }
pre { margin: 0; overflow-x: auto; line-height: 1.5; }
img { max-width: 100%; height: auto; border-radius: 8px; background: #ffffff; }
figure { margin: 2rem 0; }
figcaption { color: var(--soft); font-size: 0.95rem; margin-top: 0.5rem; }
blockquote { margin: 1rem 0; padding: 0.1rem 1rem; border-left: 3px solid var(--line); color: var(--soft); }
nav { margin-top: 1.5rem; display: flex; flex-wrap: wrap; gap: 0.4rem 2rem; font-size: 0.95rem; }
footer { margin-top: 2.5rem; color: var(--soft); }
.over { color: var(--soft); margin: 0; letter-spacing: 0.04em; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table, .dataframe { border: 0; border-collapse: collapse; margin: 1.2rem 0; font-size: 0.97rem; font-variant-numeric: tabular-nums; }
.wide > table { width: 100%; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.4rem; }
th, td { text-align: left; vertical-align: top; padding: 0.5rem 0.9rem 0.5rem 0; border: 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td p { margin: 0.1rem 0 0; color: var(--soft); font-size: 0.95rem; }
td .error, td p.error { color: var(--bad); }
th.number, td.number { text-align: right; white-space: nowrap; }
.badge { font-size: 0.85rem; font-weight: 600; padding: 0.1rem 0.55rem; border: 1px solid currentColor; border-radius: 1rem;
  color: var(--soft); white-space: nowrap; }
.badge.done { color: var(--good); }
.badge.failed, .failed { color: var(--bad); }
.status { color: var(--soft); font-size: 0.95rem; margin-bottom: 2rem; }
.formula { display: flex; max-width: 52rem; align-items: center; gap: 1rem; margin: 1.2rem 0; overflow-x: auto; }
.formula > :first-child { margin: auto; }
.unknown { color: var(--soft); }
.input_area { margin: 1rem 0 0.3rem; }
.highlight { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.7rem 0.9rem; overflow-x: auto; }
.output_subarea { margin: 0.3rem 0; padding-left: 0.9rem; overflow-x: auto; }
.output_png, .output_svg, .output_jpeg { padding-left: 0; }
.output_stderr { color: var(--soft); }
.output_error { border-left: 3px solid var(--bad); }
details { border: 1px solid var(--line); border-radius: 8px; padding: 0.5rem 0.9rem; margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media print { nav { display: none; } body { max-width: none; } }
"""
