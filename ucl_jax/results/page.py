"""Runs -> one HTML page that needs no other file and no network, readable on a phone, in the dark and by a reader."""

import base64
import html
import pathlib
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ucl_jax.errors import UsageError, write_whole
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.results import figures, tables
from ucl_jax.results.load import load_results, read_metrics
from ucl_jax.results.tables import PROBE_TITLES, Experiment, Run, Table, run_names


class Source(NamedTuple):
    """What a page shows of a run.

    results: what `results.json` holds.
    records: of metrics.jsonl, [] where it is not at hand.
    buffer: a PNG of what the method stored after the last task learned, None where there is none.
    folder: where it was read.
    """

    results: Run
    records: list[dict[str, Any]]
    buffer: bytes | None
    folder: str


Draw = Callable[..., str]


def load_source(workdir: pathlib.Path) -> Source:
    """What a page shows of a run: its results, and of a folder the records of training and the last buffer.

    Raises:
      UsageError: there are no results, or a file is damaged.
    """
    results = load_results(workdir)
    records = workdir / "metrics.jsonl"
    buffer = workdir / "plots" / f"buffer_task{tables.tasks_learned(results)}.png"
    return Source(
        results,
        read_metrics(records) if records.exists() else [],
        buffer.read_bytes() if buffer.exists() else None,
        str(workdir),
    )


def write_page(folder: pathlib.Path, sources: Sequence[Source], forgetting: str | None = None) -> pathlib.Path:
    """Writes folder/index.html, whole or not at all, which needs no other file; what else is in there stays.

    The accuracy matrices of all runs are drawn to folder/figures beside it, with their numbers.

    Raises:
      UsageError: the folder cannot be written to; one run is given twice; the runs' definitions of forgetting differ.
    """
    text = build(sources, tables.forgetting_of([s.results for s in sources], forgetting))
    path = folder / "index.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
        runs = [source.results for source in sources]
        for probe in tables.probes_of(runs):
            figures.accuracy_matrices(folder / "figures" / f"accuracy_matrices-{probe}", runs, probe)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another --out") from error
    return path


def build(sources: Sequence[Source], definition: str) -> str:
    """The page about runs, by one definition of forgetting; the same runs give the same text.

    Raises:
      UsageError: two runs differ in nothing, not even their seed.
    """
    runs = [source.results for source in sources]
    experiments, names = tables.experiments_of(runs, {"eval.forgetting"}), run_names(runs)
    with tempfile.TemporaryDirectory() as folder:
        draw = _drawer(pathlib.Path(folder))
        sections = [
            ("Summary", _summary(experiments, definition)),
            ("Every run", _html_table(Table("", tables.every_run(runs, definition), 1), "Every run")),
            ("Average accuracy over tasks", _curves(experiments, draw)),
            ("Accuracy matrices", _matrices(experiments)),
            ("Training loss", _losses(experiments, sources, draw)),
            ("Analysis", _analysis(experiments, dict(zip(names, runs)), draw)),
            ("What the buffers hold", _buffers(dict(zip(names, sources)))),
            ("Settings that differ", _settings(experiments)),
            ("How each run was made", "\n".join(map(_made, names, sources))),
        ]
    pending = [name for name, run in zip(names, runs) if not run["finished"]]
    return _document("Unsupervised continual learning", _headline(experiments, definition, pending), sections)


def _headline(experiments: Sequence[Experiment], definition: str, pending: Sequence[str]) -> str:
    """The best of each benchmark in a sentence, and what is not finished."""
    said = []
    for benchmark in dict.fromkeys(e.benchmark for e in experiments):
        here = [e for e in experiments if e.benchmark == benchmark]
        probe = tables.probes_of([run for e in here for run in e.runs])[0]
        done = [e for e in here if all(run["finished"] for run in e.runs)] or here
        continual = [e for e in done if not e.runs[0]["config"]["benchmark"]["joint"]] or done
        ranked = {
            e.name: [tables.average_accuracy(r, probe) for r in e.runs if probe in r["probes"]] for e in continual
        }
        best = max(continual, key=lambda e: np.mean(ranked[e.name]) if ranked[e.name] else -1.0)
        lost = [
            accuracy_matrix.forgetting(r["probes"][probe]["matrix"], definition)
            for r in best.runs
            if probe in r["probes"]
        ]
        forgotten = "" if None in lost else f", forgetting {tables.mean(lost)} points"
        before = [tables.untrained(run, probe) for run in best.runs]
        untrained = "" if None in before else f"; the untrained network: {tables.mean(before)} %"
        many = len(continual) > 1
        said.append(
            f"On {_text(benchmark)}{', of the methods that learn task by task,' if many else ''} <strong>"
            f"{_text(best.name)}</strong> ends with {'the highest' if many else 'an'} average accuracy"
            f"{':' if many else ' of'} <strong>{tables.mean(ranked[best.name])}\u00a0%</strong> "
            f"({PROBE_TITLES[probe]}){forgotten}, {_count(len(best.runs), 'run')}{untrained}."
        )
    runs = [run for e in experiments for run in e.runs]
    alone = "runs that differ in their seed alone are one"
    said.append(f"{_count(len(runs), 'run')}, {_count(len(experiments), 'experiment')} ({alone}).")
    if pending:
        said.append(_text(f"Not finished: {', '.join(pending)}."))
    return "\n".join(f"<p>{sentence}</p>" for sentence in said)


def _summary(experiments: Sequence[Experiment], definition: str) -> str:
    note = (
        "Accuracy in per cent, averaged over all tasks after the last one; forgetting in points. Mean±deviation over "
        "the n runs that differ in their seed alone. The paper's numbers (Madaan et al., ICLR 2022, table 1) are for "
        "kNN within the task; “-” where it has none, or where the runs have other settings than their recipe."
    )
    return _paragraph(note) + "\n".join(
        f"<h3>{_text(table.title)}</h3>{_html_table(table, f'Summary, {table.title}')}"
        for table in tables.against_paper(experiments, definition)
    )


def _families(experiments: Sequence[Experiment]) -> dict[str, list[Experiment]]:
    """Experiments of one benchmark and objective, which one picture can show."""
    families: dict[str, list[Experiment]] = {}
    for e in experiments:
        families.setdefault(f"{e.objective} on {e.benchmark}", []).append(e)
    return families


def _recipes(experiments: Sequence[Experiment]) -> list[str]:
    return list(dict.fromkeys(e.recipe for e in experiments))


def _curves(experiments: Sequence[Experiment], draw: Draw) -> str:
    pictures, order = [], _recipes(experiments)
    for family, members in _families(experiments).items():
        for probe in tables.probes_of([run for e in members for run in e.runs]):
            ends = [
                f"{e.recipe} {np.mean([tables.average_accuracy(r, probe) for r in having]):.1f} %"
                for e in members
                if (having := [r for r in e.runs if probe in r["probes"]])
            ]
            groups = {e.recipe: e.runs for e in members}
            pictures.append(
                draw(
                    figures.average_accuracy,
                    groups,
                    probe,
                    PROBE_TITLES[probe],
                    order,
                    caption=f"{family}, {PROBE_TITLES[probe]}",
                    alt=f"Average accuracy after each task, {family}, {PROBE_TITLES[probe]}; last: {', '.join(ends)}",
                )
            )
    note = "Over the tasks seen so far. Lines are means over seeds, the shade is one deviation."
    return _paragraph(note) + _cards(pictures, "pictures")


def _losses(experiments: Sequence[Experiment], sources: Sequence[Source], draw: Draw) -> str:
    records = {id(source.results): source.records for source in sources}
    pictures, order = [], _recipes(experiments)
    for family, members in _families(experiments).items():
        groups = {e.recipe: [records[id(run)] for run in e.runs if records[id(run)]] for e in members}
        if groups := {name: kept for name, kept in groups.items() if kept}:
            alt = f"Training loss over steps, {family}: {', '.join(groups)}"
            pictures.append(
                draw(figures.losses, groups, family, order, caption=f"{family}; a line for each run", alt=alt)
            )
    return _cards(pictures, "pictures")


def _matrices(experiments: Sequence[Experiment]) -> str:
    parts = [
        _paragraph("Accuracy in per cent on each task (column) after learning each (row), mean over the runs given.")
    ]
    for probe in tables.probes_of([run for e in experiments for run in e.runs]):
        cards = [_matrix(e, probe) for e in experiments if any(probe in run["probes"] for run in e.runs)]
        parts.append(f"<h3>{PROBE_TITLES[probe]}</h3>{_cards(cards)}")
    return "\n".join(parts)


def _matrix(experiment: Experiment, probe: str) -> str:
    """The mean over the runs that have come furthest, as a table whose cells are coloured from chance to 100."""
    probes = [run["probes"][probe] for run in experiment.runs if probe in run["probes"]]
    matrices = [accuracy_matrix.as_array(p["matrix"]) for p in probes]
    furthest = max(len(matrix) for matrix in matrices)
    matrices = [matrix for matrix in matrices if len(matrix) == furthest]
    joint, chance = experiment.runs[0]["config"]["benchmark"]["joint"], probes[0]["chance"]
    cells = np.mean(matrices, axis=0)
    head = "".join(f'<th scope="col">{task + 1}</th>' for task in range(cells.shape[1]))
    names = ["all"] if joint else range(1, len(cells) + 1)
    lines = [
        f'<tr><th scope="row">{row}</th>{"".join(_heat(value, chance) for value in values)}</tr>'
        for row, values in zip(names, cells)
    ]
    name, rest = experiment.name, f"{experiment.benchmark}, {_count(len(matrices), 'run')}"
    caption = f"<caption>{_text(name)} <span>{_text(rest)}</span></caption>"
    corner = '<th scope="col"><span class="hidden">after task</span></th>'
    body = f"<thead><tr>{corner}{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return _scroll(
        f'<table class="heat">{caption}{body}</table>', f"Accuracy matrix, {name}, {rest}, {PROBE_TITLES[probe]}"
    )


def _heat(value: float, chance: float) -> str:
    if not np.isfinite(value):
        return "<td></td>"
    from matplotlib import colormaps  # slow to import: not for --help

    colour = colormaps["viridis"](float(np.clip((value - chance) / (100 - chance), 0, 1)))
    shade = "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])
    return f'<td style="background:{shade};color:{figures.ink(colour)}">{value:.1f}</td>'


def _analysis(experiments: Sequence[Experiment], runs: Mapping[str, Run], draw: Draw) -> str:
    """Tables and pictures of the records of runs by name."""
    parts = [
        f"<h3>{_text(table.title)}</h3>{_html_table(table, table.title)}"
        for table in tables.analysis_tables(experiments)
    ]
    pictures = []
    for name, run in runs.items():
        for record in run.get("analysis", []):
            if title := figures.record_title(record):
                note = figures.record_note(record)
                said = f"{name}: {title}" + (f". {note}" if note else "")
                pictures.append(draw(figures.draw_record, record, caption=said, alt=said))
    return "\n".join(parts) + (f"<h3>Pictures</h3>{_cards(pictures, 'pictures')}" if pictures else "")


def _buffers(sources: Mapping[str, Source]) -> str:
    pictures = []
    for name, source in sources.items():
        if source.buffer is not None:
            said = f"{name}, after the last task learned"
            pictures.append(_picture(source.buffer, "png", said, f"Images stored by {said}, ordered by task"))
    return _cards(pictures, "pictures")


def _settings(experiments: Sequence[Experiment]) -> str:
    rows = tables.settings_that_differ(experiments)
    if len(rows) == 1:
        return _paragraph("All settings but the seed are the same.")
    return _html_table(Table("", rows, len(rows[0])), "Settings that differ")


def _made(name: str, source: Source) -> str:
    """Command, commit, versions, device and time of a run, folded."""
    run = source.results
    versions = ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())
    speed = run.get("images_per_second")
    facts = {
        "command": f"<code>{_text(run['command'])}</code>" if run.get("command") else "-",
        "commit": f"<code>{_text(run['commit'])}</code>" if run.get("commit") else "not known",
        "versions": _text(versions or "-"),
        "device": _text(run.get("device", "-")),
        "time": _duration(run.get("seconds")) + (f", {speed:.0f} images a second" if speed else ""),
        "read from": f"<code>{_text(shlex.quote(source.folder))}</code>",
    }
    items = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    pending = "" if run["finished"] else ", not finished"
    benchmark = run["config"]["benchmark"]["name"]
    said = f"{name} on {benchmark}{pending}: {_duration(run.get('seconds'))}"
    return f"<details><summary>{_text(said)}</summary><dl>{items}</dl></details>"


def _duration(seconds: float | None) -> str:
    """Such as "1 h 02 min" or "1 min 53 s", on one line."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return text.replace(" ", "\u00a0")


def _drawer(folder: pathlib.Path) -> Draw:
    """A function that draws into `folder` and returns the HTML of the picture, as SVG."""
    count = iter(range(10**9))

    def draw(figure: Callable, *arguments, caption: str, alt: str) -> str:
        paths = figure(folder / str(next(count)), *arguments)
        svg = next(path for path in paths if path.suffix == ".svg")
        return _picture(svg.read_bytes(), "svg+xml", caption, alt)

    return draw


def _picture(data: bytes, kind: str, caption: str, alt: str) -> str:
    """A figure with the picture in it; a wide one, of several panels, scrolls in its box on a phone."""
    size = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', data[:4000])
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    image = f'<img src="{source}" alt="{_text(alt)}">'
    below = f"<figcaption>{_text(caption)}</figcaption>"
    if size and float(size[1]) > WIDE:
        return f'<figure class="wide">{_scroll(image, caption)}{below}</figure>'
    return f"<figure>{image}{below}</figure>"


WIDE = 450  # points


def _html_table(table: Table, label: str) -> str:
    """A table in a box that scrolls by itself; the first cell of a row is its header."""
    head, *rows = table.rows

    def cell(place, text):
        if place == 0:
            return f'<th scope="row">{_text(text)}</th>'
        return f"<td>{_text(text)}</td>" if place < table.left else f'<td class="number">{_text(text)}</td>'

    top = "".join(
        f'<th scope="col"{"" if place < table.left else NUMBER}>{_text(text) or HIDDEN}</th>'
        for place, text in enumerate(head)
    )
    body = "".join(f"<tr>{''.join(cell(place, text) for place, text in enumerate(row))}</tr>" for row in rows)
    caption = f'<caption class="hidden">{_text(label)}</caption>'
    return _scroll(f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>", label)


NUMBER = ' class="number"'
HIDDEN = '<span class="hidden">run</span>'


def _scroll(content: str, label: str) -> str:
    return f'<div class="scroll" role="region" aria-label="{_text(label)}" tabindex="0">{content}</div>'


def _cards(parts: Iterable[str], kind: str = "cards") -> str:
    kept = "\n".join(parts)
    return f'<div class="{kind}">{kept}</div>' if kept else ""


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _text(text: str) -> str:
    return html.escape(str(text))


def _document(title: str, headline: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page; sections without content are left out."""
    kept = [(f"s{number}", name, content) for number, (name, content) in enumerate(sections) if content]
    links = "".join(f'<li><a href="#{place}">{_text(name)}</a></li>' for place, name, _ in kept)
    body = "\n".join(
        f'<section aria-labelledby="{place}"><h2 id="{place}">{_text(name)}</h2>\n{content}\n</section>'
        for place, name, content in kept
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><h1>{_text(title)}</h1>
<div class="headline">{headline}</div>
<nav aria-label="Contents"><ul>{links}</ul></nav></header>
<main>
{body}
</main>
</body>
</html>
"""


# Pictures are drawn on white and stay on it in the dark.
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #4f5862; --paper: #ffffff; --card: #f4f6f8; --line: #d3d9df;
  --link: #0550ae; --shade: rgb(0 0 0 / 22%); }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #a8b3bf; --paper: #0f1318; --card: #1a2027;
  --line: #39424d; --link: #79b8ff; --shade: rgb(255 255 255 / 25%); } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1rem clamp(0.8rem, 3vw, 2rem) 3rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 0.5rem; padding-top: 0.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.2rem 0 0.4rem; }
p { margin: 0.4rem 0 0.8rem; max-width: 46rem; overflow-wrap: anywhere; }
section > p { color: var(--soft); }
a { color: var(--link); }
.headline { font-size: 1.1rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; padding: 0; margin: 0.5rem 0; }
nav a { display: inline-block; padding: 0.35rem 0; }
/* A shade at the right edge tells that there is more; it goes once one has scrolled there. */
.scroll { overflow-x: auto; max-width: 100%; background:
  linear-gradient(to left, var(--paper) 1rem, transparent 2rem) right / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--shade), transparent 1rem) right / 1rem 100% no-repeat scroll; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; color: var(--soft); font-weight: 600; white-space: normal; min-width: 4rem; }
tbody th { font-weight: 500; }
@media (max-width: 36rem) { th, td { padding: 0.3rem 0.4rem; } thead th { min-width: 0; } }
.number { text-align: right; }
tbody tr:hover { background: var(--card); }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.cards > .scroll { background: var(--card); border-radius: 8px; padding: 0.7rem; }
.heat caption { text-align: left; padding-bottom: 0.3rem; font-weight: 600; }
.heat caption span { display: block; font-weight: 400; color: var(--soft); }
.heat th, .heat td { padding: 0.25rem 0.4rem; text-align: center; min-width: 2.7rem; border: 0; }
.heat thead th:first-child, .heat tbody th { min-width: 1.8rem; color: var(--soft); }
.pictures { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; max-width: 54rem; }
figure.wide img { min-width: 38rem; }
figure img { display: block; width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line);
  border-radius: 8px; padding: 0.4rem; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.3rem; overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: 8px; margin: 0.4rem 0; background: var(--card); }
summary { padding: 0.5rem 0.8rem; cursor: pointer; overflow-wrap: anywhere; }
dl { margin: 0; padding: 0.2rem 0.8rem 0.8rem; display: grid; gap: 0.3rem 1rem;
  grid-template-columns: max-content 1fr; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
code { font: 0.88em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
"""
