"""Tests the page: its HTML and numbers, that it loads nothing from elsewhere, and how it looks in headless Chromium."""

import base64
import html
import html.parser
import io
import itertools
import json
import re
import shutil
import subprocess

import jinja2
import matplotlib
import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from tests import run_results
from tests.pictures import STREAM
from ucl_jax.results import __main__ as report
from ucl_jax.results import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")
VOID = {"meta", "link", "img", "br"}


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "png")
    return buffer.getvalue()


def run(recipe="lump", matrix=((90.0, None), (80.0, 97.0)), seed=0, objective="simsiam", settings=(), **more):
    probe = run_results.probe(matrix, random_init=(60.0, 70.0 + seed, 80.0))
    method = {} if recipe.startswith("<") else {"method.name": recipe}
    facts = {
        "command": f"python launch.py --config=configs/{recipe}.py --config.seed={seed}",
        "commit": "0123abcd+changes",
        "versions": {"jax": "0.10.2"},
        "device": "1 x cpu",
        "seconds": 113.2,
        "images_per_second": 635.4,
    }
    return run_results.result(
        recipe,
        seed=seed,
        objective=objective,
        benchmark="cifar10",
        joint=recipe == "multitask",
        settings=method | dict(settings),
        probes={"knn_task": probe, "knn_all": probe | {"chance": 25.0}},
        **facts | more,
    )


ALPHA = "method.alpha"


def geometry(after, rank):
    values = run_results.GEOMETRY | {"l2_from_random": 2.0 * after, "effective_rank": rank, "dimensions": 96}
    return {"probe": "geometry", "after": after, "settings": {}, "values": values}


LINEAR = {
    "probe": "linear",
    "after": 1,
    "settings": {"solver": "ridge", "fraction": 0.1},
    "values": {"task": [90.0, 80.0], "all": [70.0, None], "penalty_task": [1.0, 1.0], "penalty_all": 1.0},
}
KNN = {
    "probe": "knn",
    "after": 2,
    "settings": {"k": [200, "tasks"], "temperature": [0.1]},
    "values": {"rows": [{"k": k, "temperature": 0.1, "task": [90.0, k / 2], "all": [50.0, 40.0]} for k in (200, 2)]},
}
TRANSFER = {
    "probe": "transfer",
    "after": None,
    "settings": {},
    "values": {"matrix": [], "random_init": [60.0, 71.0], "forward": 1.5, "backward": -2.5, "learning_accuracy": 93.5},
}
NEW = {"probe": "brand_new", "after": 2, "settings": {"dataset": "mnist"}, "values": {"score": 3.25, "list": [1, 2]}}
EMBEDDING = {
    "probe": "embedding",
    "after": 2,
    "settings": {"method": "pca"},
    "values": {"points": [[0.0, 1.0], [1.0, 0.0]], "task": [0, 1], "label": [0, 2]},
}
ENTRIES = [{"step": step, "task": step // 5, "loss": -step / 8} for step in range(1, 9)]
SOURCES = [
    page.Source(
        run(analysis=[geometry(2, 4.0), LINEAR, KNN, TRANSFER, NEW, EMBEDDING], settings={ALPHA: 0.1}),
        ENTRIES,
        picture((255, 0, 0)),
        "runs/lump",
    ),
    page.Source(
        run(matrix=((90.0, None), (86.0, 95.0)), seed=1, analysis=[geometry(2, 6.0)], settings={ALPHA: 0.1}),
        [],
        None,
        "b.json",
    ),
    page.Source(run("multitask", [[98.0, 99.0]]), [], None, "c.json"),
]


class Reader(html.parser.HTMLParser):
    """Checks the nesting of elements; keeps tables as rows of texts by name, headings, elements and words."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.headings, self.elements, self.words = [], {}, [], [], []
        self.rows = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif re.fullmatch(r"h\d", tag):
            self.headings.append([int(tag[1]), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            region = next(a["aria-label"] for t, a in reversed(self.elements) if a.get("role") == "region")
            assert region not in self.tables
            self.tables[region] = self.rows

    def handle_data(self, data):
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        elif self.open and re.fullmatch(r"h\d", self.open[-1]):
            self.headings[-1][1] += data


@pytest.fixture(scope="module")
def text():
    return page.build(SOURCES, "max")


@pytest.fixture(scope="module")
def read(text):
    return Reader(text)


def test_summary_beside_the_paper(read):
    # LUMP has 88.5 and 90.5, and lost 10 and 4. A deviation is half the difference times the square root of 2.
    assert read.tables["Summary, cifar10"] == [
        [
            *("objective", "recipe", "n", "kNN within the task", "forgetting (max) by kNN within the task"),
            *("the paper's accuracy", "the paper's forgetting"),
            *("kNN over all classes seen", "forgetting (max) by kNN over all classes seen"),
        ],
        ["simsiam", "lump", "2", "89.50±1.41", "7.00±4.24", "91.00±0.40", "2.92±0.53", "89.50±1.41", "7.00±4.24"],
        ["simsiam", "multitask", "1", "98.50", "-", "95.76±0.08", "-", "98.50", "-"],
        ["simsiam", "untrained network", "2", "65.25±0.35", "-", "-", "-", "65.25±0.35", "-"],
        ["", "chance", "-", "50.00", "-", "-", "-", "25.00", "-"],
    ]


def test_every_run_and_the_headline(read):
    rows = read.tables["Every run"]
    assert rows[1] == ["lump (simsiam, seed 0)", *["88.50", "+23.50", "10.00"] * 2]
    assert rows[2] == ["lump (simsiam, seed 1)", *["90.50", "+25.00", "4.00"] * 2]
    assert rows[3] == ["multitask (simsiam, seed 0)", *["98.50", "+33.50", "-"] * 2]
    said = " ".join("".join(read.words).split())
    headline, counted, _ = said.partition("3 runs, 2 groups")
    assert counted
    for part in ("cifar10", "lump (simsiam)", "89.50±1.41", "kNN within the task", "7.00±4.24", "65.25±0.35"):
        assert part in headline


def test_accuracy_matrices_are_means_over_seeds(read, text):
    name = "Accuracy matrix, lump (simsiam), cifar10, 2 runs, kNN within the task"
    assert read.tables[name] == [["after task", "1", "2"], ["1", "90.0", ""], ["2", "83.0", "96.0"]]
    joint = "Accuracy matrix, multitask (simsiam), cifar10, 1 run, kNN over all classes seen"
    assert read.tables[joint] == [["after task", "1", "2"], ["all", "98.0", "99.0"]]
    # From chance to 100 the colours go from dark to light, and the ink is black or white, whichever contrasts more.
    darkest, lightest = (matplotlib.colors.to_hex(matplotlib.colormaps["viridis"](share)) for share in (0.0, 1.0))
    assert page._heat(100.0, 50.0) == {"text": "100.0", "shade": lightest, "ink": "#000000"}
    assert page._heat(50.0, 50.0) == {"text": "50.0", "shade": darkest, "ink": "#ffffff"}
    assert page._heat(float("nan"), 50.0) is None
    best = page._heat(99.0, 25.0)
    assert f'<td style="background:{best["shade"]};color:{best["ink"]}">99.0</td>' in text


def test_analysis_tables(read):
    assert read.tables["Geometry of parameters and features"] == [
        [
            *("group", "tasks learned", "n", "l2 from random", "l2 from previous", "effective rank", "dimensions"),
            *("deviation mean", "deviation least"),
        ],
        ["lump (simsiam)", "2", "2", "4.00±0.00", "-", "5.00±1.41", "96", "0.15±0.00", "0.10±0.00"],
    ]
    assert read.tables["Linear classifiers on features of plain images, accuracy in %"] == [
        ["group", "tasks learned", "solver", "fraction", "n", "within the task", "all classes"],
        ["lump (simsiam)", "1", "ridge", "0.1", "1", "85.00", "70.00"],
    ]
    assert read.tables["kNN with other settings, accuracy in %"] == [
        ["group", "tasks learned", "k", "temperature", "n", "within the task", "all classes"],
        ["lump (simsiam)", "2", "200", "0.1", "1", "95.00", "45.00"],
        ["lump (simsiam)", "2", "2", "0.1", "1", "45.50", "45.00"],
    ]
    assert read.tables["Transfer between tasks, in % and points"] == [
        ["group", "tasks learned", "n", "learning accuracy", "forward", "backward", "untrained network"],
        ["lump (simsiam)", "-", "1", "93.50", "1.50", "-2.50", "65.50"],
    ]
    assert read.tables["brand_new"] == [
        ["group", "tasks learned", "dataset", "n", "score"],
        ["lump (simsiam)", "2", "mnist", "1", "3.25"],
    ]


def test_records_that_differ_in_a_setting_have_their_own_rows():
    first, other = (
        {"settings": LINEAR["settings"] | more} for more in ({"folds": 2, "seed": 2}, {"folds": 5, "seed": 3})
    )
    other["values"] = LINEAR["values"] | {"task": [50.0], "all": [1.0]}
    read = Reader(page.build([page.Source(run(analysis=[LINEAR | first, LINEAR | other]), [], None, "")], "max"))
    assert read.tables["Linear classifiers on features of plain images, accuracy in %"] == [
        ["group", "tasks learned", "solver", "fraction", "folds", "seed", "n", "within the task", "all classes"],
        ["lump (simsiam)", "1", "ridge", "0.1", "2", "2", "1", "85.00", "70.00"],
        ["lump (simsiam)", "1", "ridge", "0.1", "5", "3", "1", "50.00", "1.00"],
    ]


def test_runs_have_one_name_in_all_parts_of_the_page():
    """Runs that differ in a setting have the same names in rows, captions, pending runs, and how each run was made."""
    sources = [
        page.Source(run(settings={ALPHA: alpha}, analysis=[EMBEDDING], finished=False), [], picture((255, 0, 0)), "")
        for alpha in (0.1, 0.4)
    ]
    read = Reader(page.build(sources, "max"))
    names = [f"lump, method.alpha={alpha} (simsiam, seed 0)" for alpha in (0.1, 0.4)]
    assert [row[0] for row in read.tables["Every run"][1:3]] == [f"{name}, not finished" for name in names]
    for name in names:
        said = [words for words in read.words if name in words]
        for part in (": features after", ", after the last task", " on cifar10, not finished: ", "Not finished: "):
            assert any(part in words for words in said), part
    assert not any("lump (simsiam, seed 0)" in words for words in read.words)


def test_the_distance_of_networks_is_told_below_cka():
    stages = {key: [[1.0, 0.5], [0.5, 1.0]] for key in ("stem", "stage1", "stage2", "stage3", "stage4")}
    values = {"networks": [0, 1], "other_networks": [0, 1], "cka": stages, "l2": [[3.0, 1.0], [1.0, 7.5]]}
    record = {"probe": "cka", "after": None, "settings": {"other": "runs/b"}, "values": values}
    read = Reader(page.build([page.Source(run(analysis=[record]), [], None, "")], "max"))
    assert any("the last networks of the two runs is 7.50." in words for words in read.words)


def test_settings_that_differ(read):
    assert read.tables["Settings that differ"] == [
        ["setting", "lump (simsiam), cifar10", "multitask (simsiam), cifar10"],
        ["benchmark.joint", "False", "True"],
        ["method.alpha", "0.1", "-"],
        ["method.name", "lump", "multitask"],
        ["recipe", "lump", "multitask"],
    ]


def test_runs_of_one_recipe_with_other_settings_are_told_apart():
    sources = [
        page.Source(run(settings={ALPHA: alpha}, seed=seed), [], None, "") for alpha in (0.1, 0.4) for seed in (0, 1)
    ]
    rows = Reader(page.build(sources, "max")).tables["Summary, cifar10"]
    assert [row[1:3] for row in rows[1:3]] == [["lump, method.alpha=0.1", "2"], ["lump, method.alpha=0.4", "2"]]


def test_a_table_for_each_benchmark():
    other = run(settings={"benchmark.name": "digits"})
    tables = Reader(page.build([SOURCES[0], page.Source(other, [], None, "")], "max")).tables
    assert tables["Summary, cifar10"][1][5:7] == ["91.00±0.40", "2.92±0.53"]
    assert tables["Summary, digits"][1][5:7] == ["-", "-"]


def test_how_each_run_was_made(read):
    said = "".join(read.words)
    for part in ("--config.seed=1", "0123abcd+changes", "jax 0.10.2", "1 x cpu", "1\u00a0min\u00a053\u00a0s", "b.json"):
        assert part in said
    assert "635 images a second" in said
    assert [page._duration(s) for s in (4.4, 60, 3720.0)] == [
        "4\u00a0s",
        "1\u00a0min\u00a000\u00a0s",
        "1\u00a0h\u00a002\u00a0min",
    ]


def test_one_run_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"two runs of lump \(simsiam\) have one seed: \[0, 0\]"):
        page.build([SOURCES[0], SOURCES[0]], "max")


def test_another_definition_of_forgetting():
    source = page.Source(run(matrix=((80.0, None, None), (90.0, 95.0, None), (85.0, 97.0, 99.0))), [], None, "")
    rows = Reader(page.build([source], "first")).tables["Summary, cifar10"]
    assert rows[0][4] == "forgetting (first) by kNN within the task"
    assert rows[1][3:5] == ["93.67", "-3.50"]


def test_a_run_that_is_not_finished():
    half = page.Source(run(matrix=((99.0, None),), seed=1, finished=False), [], None, "")
    read = Reader(page.build([SOURCES[0], half], "max"))
    assert "lump, method.alpha=0.1 (simsiam) ends with" in " ".join("".join(read.words).split())
    assert read.tables["Summary, cifar10"][2][:4] == ["simsiam", "lump, 1 not finished", "1", "99.00"]
    assert "Not finished: lump (simsiam, seed 1)." in "".join(read.words)
    assert "Accuracy matrix, lump, method.alpha=0.1 (simsiam), cifar10, 1 run, kNN within the task" in read.tables


def test_a_matrix_is_the_mean_over_the_runs_that_have_come_furthest():
    half = page.Source(run(matrix=((50.0, None),), seed=1, settings={ALPHA: 0.1}, finished=False), [], None, "")
    name = "Accuracy matrix, lump (simsiam), cifar10, 1 run, kNN within the task"
    assert Reader(page.build([half, SOURCES[0]], "max")).tables[name][1:] == [["1", "90.0", ""], ["2", "80.0", "97.0"]]


def test_a_stream_is_shown_once_however_many_runs_had_it():
    other = STREAM | {"buffer": []}
    runs = [run(seed=seed, stream=stream) for seed, stream in enumerate((STREAM, other, STREAM, None))]
    html = page.build([page.Source(one, [], None, "") for one in runs], "max")
    assert html.count('alt="Shares of tasks over the stream and in the buffer, cifar10') == 2
    assert "lump (simsiam, seed 0), lump (simsiam, seed 2)" in html


def test_a_probe_whose_chance_is_all_is_shown():
    probe = run_results.probe([[100.0, None], [100.0, 100.0]], chance=100.0, random_init=None)
    one = run_results.result(probes={"knn_task": probe, "knn_all": run_results.probe()})
    assert "100.0" in page.build([page.Source(one, [], None, "")], "max")


def test_the_same_runs_give_the_same_page(text):
    assert page.build(SOURCES, "max") == text


def test_nothing_comes_from_elsewhere(read, text):
    assert {tag for tag, _ in read.elements} & {"script", "iframe", "object", "embed", "base"} == set()
    for tag, attributes in read.elements:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import", text)
    pictures = [base64.b64decode(a["src"].partition(",")[2]) for tag, a in read.elements if tag == "img"]
    for content in pictures:
        assert not re.search(rb'(href|src)="(?!#|data:)', content)
    assert SOURCES[0].buffer in pictures


def test_a_reader_finds_its_way(read, text):
    assert text.startswith("<!DOCTYPE html>")
    assert ("html", {"lang": "en"}) in read.elements
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in read.elements
    levels = [level for level, _ in read.headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = [name for _, name in read.headings]
    assert {"Summary", "Accuracy matrices", "Analysis", "What the buffers hold", "How each run was made"} < set(names)
    images = [attributes for tag, attributes in read.elements if tag == "img"]
    assert len(images) == 5  # two of accuracy, and one each of loss, embedding and buffer
    assert all(len(image["alt"]) > 20 for image in images)
    assert any("lump 89.5 %, multitask 98.5 %" in image["alt"] for image in images)
    assert all(a.get("scope") in ("row", "col") for tag, a in read.elements if tag == "th")
    identities = [a["id"] for _, a in read.elements if "id" in a]
    assert len(set(identities)) == len(identities)
    assert {a["href"][1:] for tag, a in read.elements if tag == "a"} == set(identities)


HOSTILE = '<b onload="x">&amp;$\\frac$</td>\'</b>'


def test_hostile_names_stay_text():
    source = page.Source(
        run(
            HOSTILE,
            objective="<script>",
            analysis=[NEW | {"probe": HOSTILE}, EMBEDDING],
            settings={"method.<i>": '"><script>alert(1)</script>'},
            command="<i>",
            device="<u>",
            commit="<s>",
            versions={"<q>": "</dd>"},
        ),
        ENTRIES,
        picture((0, 0, 0)),
        "</code><img src=x>",
    )
    others = [page.Source(run(name, seed=1), [], None, "") for name in ("</main>", "<script>alert(1)</script>")]
    text = page.build([source, *others], "max")
    assert "<script" not in text
    read = Reader(text)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"b", "script", "i", "u", "s", "q"}
    assert read.tables["Summary, cifar10"][1][:2] == ["<script>", HOSTILE]
    assert all(a["src"].startswith("data:") for tag, a in read.elements if tag == "img")
    assert "</code><img src=x>" in "".join(read.words)


def test_the_template_shows_nothing_that_is_not_given():
    with pytest.raises(jinja2.UndefinedError, match="headline"):
        page._template().render(title="t", counted="", pending=[], sections=[])


MEASURE = """<script>addEventListener("load", () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const colours = (e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor];
  const seen = (e) => e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().height > 0;
  document.body.dataset.measured = JSON.stringify({
    inner: innerWidth,
    wide: document.documentElement.scrollWidth,
    outside: all("body *").filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth).length,
    scrolling: all(".scroll").filter(e => e.scrollWidth > e.clientWidth).length,
    images: all("img").map(e => [e.naturalWidth, e.getBoundingClientRect().width]),
    tables: all("table").filter(seen).length,
    rows: all("tbody tr").filter(seen).length,
    paper: getComputedStyle(document.body).backgroundColor,
    card: all("details").map(colours)[0],
    texts: ["body", "section > p", "thead th", "a", "figcaption", "dt"].map(s => colours(document.querySelector(s))[0]),
    picture: all("img").map(colours)[0][1],
  });
});</script>"""


# A browser window is at least 500 pixels wide, but a frame in it may be as narrow as a phone.
FRAME = """<!DOCTYPE html><body><iframe width={width} height=800 style="border:0"
onload="document.body.dataset.measured = this.contentDocument.body.dataset.measured" srcdoc="{page}"></iframe></body>"""


def in_chromium(folder, text, width, *flags):
    """Opens the page in a frame of this width, and returns what MEASURE finds."""
    file = folder / "measured.html"
    inner = html.escape(text.replace("</head>", f"{MEASURE}</head>"))
    file.write_text(FRAME.format(width=width, page=inner), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars", "--window-size=1400,900", *flags]
    done = subprocess.run([*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'data-measured="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def contrast(one, other):
    """Computes WCAG 2's contrast ratio of two colours of CSS."""

    def luminance(colour):
        rgb = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@needs_chromium
def test_on_a_phone(tmp_path, text):
    seen = in_chromium(tmp_path, text, 390)
    assert seen["inner"] == 390
    assert seen["wide"] <= 390
    assert seen["outside"] == 0
    assert seen["scrolling"] > 0  # wide tables scroll in their own box
    assert len(seen["images"]) == 5
    assert all(natural > 0 and shown > 200 for natural, shown in seen["images"])


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_window_by_day_and_by_night(tmp_path, text, read, scheme):
    dark = scheme == "dark"
    seen = in_chromium(tmp_path, text, 1280, f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    assert seen["tables"] == len(read.tables)
    assert seen["rows"] == sum(len(rows) - 1 for rows in read.tables.values())
    assert all(natural > 0 and shown > 200 for natural, shown in seen["images"])
    assert seen["wide"] <= 1280
    assert (contrast(seen["paper"], "rgb(0, 0, 0)") < 1.5) == dark
    assert all(contrast(text, seen["paper"]) > 4.5 for text in seen["texts"])
    assert contrast(*seen["card"]) > 4.5
    assert contrast(seen["texts"][-1], seen["card"][1]) > 4.5
    assert seen["picture"] == "rgb(255, 255, 255)"  # pictures have a white background in the dark scheme, too


@needs_chromium
def test_the_page_of_a_folder(tmp_path, capsys):
    """Checks that a page made of a run folder shows its loss curve and its last buffer."""
    folder = tmp_path / "run"
    (folder / "plots").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(SOURCES[0].results.to_json()))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES))
    for task, colour in enumerate([(255, 0, 0), (0, 255, 0)], start=1):
        (folder / f"plots/buffer_evaluation{task}.png").write_bytes(picture(colour))
    assert report.main([str(folder), f"--out={tmp_path}/report/"]) == 0
    text = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert base64.b64encode(picture((0, 255, 0))).decode() in text  # the buffer after the last task
    assert base64.b64encode(picture((255, 0, 0))).decode() not in text
    seen = in_chromium(tmp_path, text, 390)
    assert len(seen["images"]) == 5
    assert seen["wide"] <= 390
