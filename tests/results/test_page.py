"""Tests the page: its HTML and numbers, and that it loads nothing from elsewhere."""

import base64
import html.parser
import io
import itertools
import json
import pathlib
import re

import jinja2
import matplotlib
import matplotlib.colors
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests import run_results
from tests.pictures import STREAM, over_classes
from ucl_jax.results import compare, page, run_figures, tables
from ucl_jax.results.load import load_results
from ucl_jax.results.schema import RunResult

DEMO = pathlib.Path(__file__).parents[2] / "benchmarks/results/demo-digits"
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
        {1: picture((255, 0, 0))},
        "runs/lump",
    ),
    page.Source(
        run(matrix=((90.0, None), (86.0, 95.0)), seed=1, analysis=[geometry(2, 6.0)], settings={ALPHA: 0.1}),
        [],
        {},
        "b.json",
    ),
    page.Source(run("multitask", [[98.0, 99.0]]), [], {}, "c.json"),
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
            region = next(a["aria-label"] for t, a in reversed(self.elements) if a.get("role") == "group")
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
    assert read.tables["Summary, simsiam on cifar10"] == [
        ["recipe", "n", "kNN within the task", "kNN over all classes seen"],
        [
            *("accuracy, %", "forgetting (max)", "the paper's accuracy", "the paper's forgetting"),
            *("accuracy, %", "forgetting (max)"),
        ],
        ["lump", "2", "89.50±1.41", "7.00±4.24", "91.00±0.40", "2.92±0.53", "89.50±1.41", "7.00±4.24"],
        ["multitask", "1", "98.50", "-", "95.76±0.08", "-", "98.50", "-"],
        ["untrained network", "2", "65.25±0.35", "-", "-", "-", "65.25±0.35", "-"],
        ["chance", "-", "50.00", "-", "-", "-", "25.00", "-"],
    ]


@pytest.fixture(scope="module")
def demo():
    """Returns the runs of the demo whose results are kept: three methods, ten seeds each."""
    paths = sorted(DEMO.glob("*.json"))
    assert len(paths) == 40
    return [load_results(path) for path in paths]


def test_differences_are_paired_by_seed_and_say_n(demo):
    """Compares the page with Student's t of SciPy and with what `report --pairs` prints."""
    read = Reader(page.build([page.Source(run, [], {}, "") for run in demo], "max"))
    _, _, *rows = read.tables["Differences paired by seed, barlow_twins on digits"]
    probes = ("knn_task", "knn_all")
    numbers = {(run.recipe, run.seed): [np.mean(run.probes[name].matrix[-1]) for name in probes] for run in demo}
    for run in demo:
        numbers["untrained network", run.seed] = [np.mean(run.probes[name].random_init) for name in probes]
    for recipe, over, *cells in rows:
        ours, theirs = (np.array([numbers[name, seed] for seed in range(10)]) for name in (recipe, over))
        for place in range(2):
            one, other = ours[:, place], theirs[:, place]
            low, high = stats.ttest_rel(one, other).confidence_interval(0.95)
            assert cells[2 * place] == f"{np.mean(one - other):+.2f} ({low:+.2f} to {high:+.2f})"
            assert cells[2 * place + 1] == f"{(one > other).sum()} (n=10)"
    assert [row[:2] for row in rows] == [
        [recipe, over]
        for recipe in ("er", "finetune", "lump", "multitask")
        for over in ("untrained network", "finetune")
        if recipe != over
    ]
    printed = tables.shown(tables.of_pairs(demo))
    assert [row[1:] for row in printed.values.tolist()] == rows
    said = " ".join("".join(read.words).split())
    best = next(row for row in rows if row[:2] == ["er", "finetune"])
    mean, low, high = re.findall(r"[+-]\d+\.\d+", best[2])
    assert f"{mean} points (95 % interval {low} to {high}, n = 10)" in said


def test_differences_from_another_recipe(demo, tmp_path):
    """Checks that the table, the picture and the headline of a page tell those that `report --pairs --over` prints."""
    sources = [page.Source(run, [], {}, "") for run in demo]
    read = Reader(page.build(sources, "max", over="lump"))
    _, _, *rows = read.tables["Differences paired by seed, barlow_twins on digits"]
    recipes = ("er", "finetune", "lump", "multitask")
    expected = [[recipe, over] for recipe in recipes for over in ("untrained network", "lump") if recipe != over]
    assert [row[:2] for row in rows] == expected
    assert [row[1:] for row in tables.shown(tables.of_pairs(demo, "lump")).values.tolist()] == rows
    said = " ".join("".join(read.words).split())
    difference, interval = rows[1][2].split(" ", 1)
    interval = interval.strip("()")
    assert interval.startswith("-") != interval.partition(" to ")[2].startswith("-")  # it holds 0, which is said
    told = f"{difference} points (95 % interval {interval}, n = 10, which shows no difference)"
    assert f"lump (barlow_twins): {told}" in said
    drawn = run_figures.differences(tmp_path / "drawn", compare.groups_of(demo), "t", "lump")
    numbers = json.loads(next(path for path in drawn.paths if path.suffix == ".json").read_text())["rows"]
    assert [[row["recipe"], row["over"]] for row in numbers if row["probe"] == "knn_task"] == expected


def test_differences_of_forgetting_stand_below_those_of_accuracy(demo, tmp_path):
    """Compares the page and its picture with Student's t of SciPy, and forgetting with a computation of its own."""
    read = Reader(page.build([page.Source(run, [], {}, "") for run in demo], "max"))
    _, _, *rows = read.tables["Differences of forgetting paired by seed, barlow_twins on digits"]
    assert [row[:2] for row in rows] == [["er", "finetune"], ["lump", "finetune"]]  # joint training forgets nothing

    def lost(recipe, probe):
        matrices = {run.seed: np.array(run.probes[probe].matrix, float) for run in demo if run.recipe == recipe}
        return np.array([np.mean((np.nanmax(m, 0) - m[-1])[:-1]) for _, m in sorted(matrices.items())])

    drawn = run_figures.differences(tmp_path / "drawn", compare.groups_of(demo), "t", definition="max")
    numbers = json.loads(next(path for path in drawn.paths if path.suffix == ".json").read_text())["rows"]
    assert len(numbers) == 4
    for recipe, _, *cells in rows:
        for place, probe in enumerate(("knn_task", "knn_all")):
            one, other = lost(recipe, probe), lost("finetune", probe)
            low, high = stats.ttest_rel(one, other).confidence_interval(0.95)
            assert cells[2 * place] == f"{np.mean(one - other):+.2f} ({low:+.2f} to {high:+.2f})"
            assert cells[2 * place + 1] == f"{(one > other).sum()} (n=10)"
            (found,) = (row for row in numbers if (row["recipe"], row["probe"]) == (recipe, probe))
            assert (found["mean"], found["low"]) == pytest.approx((np.mean(one - other), low))


def test_every_run_and_the_headline(read):
    _, head, *rows = read.tables["Every run"]
    assert head == ["accuracy, %", "over untrained", "forgetting (max)"] * 2
    assert rows[0] == ["lump (simsiam, seed 0)", *["88.50", "+23.50", "10.00"] * 2]
    assert rows[1] == ["lump (simsiam, seed 1)", *["90.50", "+25.00", "4.00"] * 2]
    assert rows[2] == ["multitask (simsiam, seed 0)", *["98.50", "+33.50", "-"] * 2]
    said = " ".join("".join(read.words).split())
    headline, counted, _ = said.partition("3 runs, 2 groups")
    assert counted
    for part in (
        "cifar10",
        "lump (simsiam)",
        "89.50±1.41",
        "kNN within the task",
        "7.00±4.24",
        "+24.25",
        "+14.72 to +33.78, n = 2",
    ):
        assert part in headline


def test_accuracy_matrices_are_means_over_seeds(read, text):
    name = "Accuracy matrix, lump (simsiam), cifar10, 2 runs, kNN within the task"
    assert read.tables[name] == [["tasks learned", "task 1", "task 2"], ["1", "90.0", ""], ["2", "83.0", "96.0"]]
    joint = "Accuracy matrix, multitask (simsiam), cifar10, 1 run, kNN over all classes seen"
    assert read.tables[joint] == [["tasks learned", "task 1", "task 2"], ["all", "98.0", "99.0"]]
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
            *("group", "tasks learned", "n", "l2 from random", "effective rank", "dimensions"),
            *("deviation mean", "deviation least"),
        ],
        ["lump (simsiam)", "2", "2", "4.00±0.00", "5.00±1.41", "96", "0.15±0.00", "0.10±0.00"],
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
    read = Reader(page.build([page.Source(run(analysis=[LINEAR | first, LINEAR | other]), [], {}, "")], "max"))
    assert read.tables["Linear classifiers on features of plain images, accuracy in %"] == [
        ["group", "tasks learned", "solver", "fraction", "folds", "seed", "n", "within the task", "all classes"],
        ["lump (simsiam)", "1", "ridge", "0.1", "2", "2", "1", "85.00", "70.00"],
        ["lump (simsiam)", "1", "ridge", "0.1", "5", "3", "1", "50.00", "1.00"],
    ]


def test_runs_have_one_name_in_all_parts_of_the_page():
    """Runs that differ in a setting have the same names in rows, captions, pending runs, and how each run was made."""
    sources = [
        page.Source(
            run(settings={ALPHA: alpha}, analysis=[EMBEDDING], finished=False), [], {1: picture((255, 0, 0))}, ""
        )
        for alpha in (0.1, 0.4)
    ]
    read = Reader(page.build(sources, "max"))
    names = [f"lump, method.alpha={alpha} (simsiam, seed 0)" for alpha in (0.1, 0.4)]
    assert [row[0] for row in read.tables["Every run"][2:4]] == [f"{name}, not finished" for name in names]
    for name in names:
        said = [words for words in read.words if name in words]
        for part in (": features after", "Not finished: "):
            assert any(part in words for words in said), part
    assert not any("lump (simsiam, seed 0)" in words for words in read.words)


def test_the_distance_of_networks_is_told_below_cka():
    stages = {key: [[1.0, 0.5], [0.5, 1.0]] for key in ("stem", "stage1", "stage2", "stage3", "stage4")}
    values = {"networks": [0, 1], "other_networks": [0, 1], "cka": stages, "l2": [[3.0, 1.0], [1.0, 7.5]]}
    record = {"probe": "cka", "after": None, "settings": {"other": "runs/b"}, "values": values}
    read = Reader(page.build([page.Source(run(analysis=[record]), [], {}, "")], "max"))
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
        page.Source(run(settings={ALPHA: alpha}, seed=seed), [], {}, "") for alpha in (0.1, 0.4) for seed in (0, 1)
    ]
    rows = Reader(page.build(sources, "max")).tables["Summary, simsiam on cifar10"]
    assert [row[:2] for row in rows[2:4]] == [["lump, method.alpha=0.1", "2"], ["lump, method.alpha=0.4", "2"]]


def test_a_table_for_each_benchmark_and_objective():
    other = run(settings={"benchmark.name": "digits"})
    read = Reader(page.build([page.Source(run(), [], {}, ""), page.Source(other, [], {}, "")], "max"))
    assert read.tables["Summary, simsiam on cifar10"][2][4:6] == ["91.00±0.40", "2.92±0.53"]
    # The paper has no digits: there are no columns without numbers.
    assert read.tables["Summary, simsiam on digits"][1] == ["accuracy, %", "forgetting (max)"] * 2


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
    source = page.Source(run(matrix=((80.0, None, None), (90.0, 95.0, None), (85.0, 97.0, 99.0))), [], {}, "")
    rows = Reader(page.build([source], "first")).tables["Summary, simsiam on cifar10"]
    assert rows[1][1] == "forgetting (first)"
    assert rows[2][2:4] == ["93.67", "-3.50"]


def test_a_run_that_is_not_finished():
    half = page.Source(run(matrix=((99.0, None),), seed=1, finished=False), [], {}, "")
    read = Reader(page.build([SOURCES[0], half], "max"))
    assert "lump, method.alpha=0.1 (simsiam) ends with" in " ".join("".join(read.words).split())
    assert read.tables["Summary, simsiam on cifar10"][3][:3] == ["lump, 1 not finished", "1", "99.00"]
    assert "Not finished: lump (simsiam, seed 1) (1 of 2 tasks seen)." in "".join(read.words)
    assert "Accuracy matrix, lump, method.alpha=0.1 (simsiam), cifar10, 1 run, kNN within the task" in read.tables


def test_a_matrix_is_the_mean_over_the_runs_that_have_come_furthest():
    half = page.Source(run(matrix=((50.0, None),), seed=1, settings={ALPHA: 0.1}, finished=False), [], {}, "")
    name = "Accuracy matrix, lump (simsiam), cifar10, 1 run, kNN within the task"
    assert Reader(page.build([half, SOURCES[0]], "max")).tables[name][1:] == [["1", "90.0", ""], ["2", "80.0", "97.0"]]


def test_a_stream_is_shown_once_however_many_groups_had_it():
    other = STREAM | {"buffer": []}
    runs = [run(seed=4, settings={ALPHA: n}, stream=stream) for n, stream in enumerate((STREAM, other, STREAM, None))]
    runs.append(run(seed=5, settings={ALPHA: 0}, stream=other))  # one run stands for a group
    html = page.build([page.Source(one, [], {}, "") for one in runs], "max")
    first, second, third = (f"lump, method.alpha={n} (simsiam) on cifar10, seed 4" for n in (0, 1, 2))
    assert f'alt="Shares of classes or tasks in the stream: {first}; {second}; {third}"' in html
    assert f'alt="Shares of classes or tasks in the buffer: {first}; {third}"' in html
    assert html.count('alt="Shares of classes or tasks') == 2


def test_streams_are_compared_apart():
    runs = [
        over_classes(recipe=recipe, seed=seed, settings={"stream.name": name})
        for name in ("cla", "scale_blurred")
        for recipe in ("lump", "finetune")
        for seed in (0, 1)
    ]
    text = page.build([page.Source(one, [], {}, "") for one in runs], "max")
    read = Reader(text)
    for name in ("cla", "scale_blurred"):
        shown = [row[0] for row in read.tables[f"Summary, simsiam on digits, stream {name}"]]
        assert shown[2:4] == [f"{recipe}, stream.name={name}" for recipe in ("lump", "finetune")]
        assert f"On digits, stream {name} <strong>" in " ".join(text.split())


def test_classes_of_a_stream_have_a_picture_for_each_group_that_recorded_them():
    runs = [over_classes(seed=seed, settings={ALPHA: alpha}) for seed, alpha in ((0, 1), (1, 1), (0, 2))]
    older = over_classes(settings={ALPHA: 3}).to_json()
    older["probes"] = {name: probe | {"class_matrix": None} for name, probe in older["probes"].items()}
    html = page.build([page.Source(one, [], {}, "") for one in (*runs, RunResult.from_json(older))], "max")
    assert html.count('alt="Heat map of the accuracy of each class over the stream: ') == 2
    read = Reader(html).tables["Accuracy of each class at the end"]
    assert [row[0] for row in read[1:]] == ["cat", "dog"]


def test_rows_of_a_stream_are_named_by_the_images_seen():
    probe = run_results.probe([[90.0, None], [80.0, 50.0], [70.0, 60.0]])
    stream = {
        "probes": {"knn_task": probe, "knn_all": probe},
        "evaluations": run_results.evaluated((8, 16, 24), (1, 2, 2)),
    }
    for joint in (False, True):
        one = run_results.result(settings={"benchmark.joint": joint}, **stream)
        buffers = {1: picture((255, 0, 0)), 3: picture((0, 255, 0))}
        read = Reader(page.build([page.Source(one, [], buffers, "")], "max"))
        name = "Accuracy matrix, lump (simsiam), digits, 1 run, kNN within the task"
        assert [row[0] for row in read.tables[name]] == ["images seen", "8", "16", "24"]
        alts = [a["alt"] for tag, a in read.elements if tag == "img"]
        for images in (8, 24):
            assert any(f"seed 0, images seen: {images}" in alt for alt in alts)


def test_curves_of_streams_are_drawn_over_gradient_samples_too_where_these_differ(tmp_path):
    probe = run_results.probe([[90.0, None], [80.0, 50.0], [70.0, 60.0]])

    def streams(*samples):
        return [
            run_results.result(
                recipe,
                probes={"knn_task": probe, "knn_all": probe},
                evaluations=run_results.evaluated((8, 16, 24), (1, 2, 2), samples=each),
            )
            for recipe, each in zip(("lump", "er"), samples)
        ]

    for samples, drawn in (((2, 3), 2), ((3, 3), 0)):
        html = page.build([page.Source(one, [], {}, "") for one in streams(*samples)], "max")
        assert html.count("over gradient samples; last: ") == drawn
    groups = {run.recipe: [run] for run in streams(2, 3)}
    picture = run_figures.average_accuracy(tmp_path / "a", groups, "knn_task", "t", (), "gradient samples")
    content = json.loads(next(path for path in picture.paths if path.suffix == ".json").read_text())
    assert content["over"] == "gradient samples"
    places = [(row["group"], row["tasks"], row["accuracy"]) for row in content["rows"]]
    assert places == [
        (name, samples * row, accuracy)
        for name, samples in (("lump", 16), ("er", 24))
        for row, accuracy in ((1, 90), (2, 65), (3, 65))
    ]


def test_a_headline_names_no_probe_that_has_nothing_to_choose():
    probe = run_results.probe([[100.0, None], [100.0, 100.0]], chance=100.0)
    one = run_results.result(probes={"knn_task": probe, "knn_all": run_results.probe()})
    assert page._headline(compare.groups_of([one]), "max", "finetune")[0]["probe"] == "kNN over all classes seen"


def test_images_without_labels_have_their_measures():
    row = {"spread": 0.5, "effective_rank": 12.0, "rankme": 10.0, "alignment": 0.25, "uniformity": -1.5}
    measured = {"rows": [row, row | {"spread": 0.75, "cka": [0.875]}], "random_init": None}
    more = {"probes": {}, "representation": measured, "classes": [[0], [1]]}
    one = RunResult.from_json(run_results.as_json(benchmark="folder") | more)
    read = Reader(page.build([page.Source(one, [], {}, "")], "max"))
    assert [row[1:] for row in read.tables["Measured without labels"]] == [
        [
            *("tasks learned", "spread", "effective rank", "RankMe", "alignment", "uniformity"),
            *("CKA with the evaluation before", "CKA with the first evaluation"),
        ],
        ["1", "0.50", "12.00", "10.00", "0.25", "-1.50", "-", "-"],
        ["2", "0.75", "12.00", "10.00", "0.25", "-1.50", "0.88", "0.88"],
    ]
    assert len([tag for tag, _ in read.elements if tag == "img"]) == 1


def test_a_page_without_runs_says_which_have_begun():
    read = Reader(page.build([], "max", stamp="7", begun=["runs/<a>"]))
    assert "runs/<a>." in "".join(read.words)
    assert [level for level, _ in read.headings] == [1]
    assert not [tag for tag, _ in read.elements if tag in ("nav", "section")]


def test_the_page_of_a_folder_shows_its_loss_and_the_buffer_over_time(tmp_path):
    """Checks that a page made of a run folder shows the buffers of the first, the middle and the last evaluation."""
    probe = run_results.probe(np.tril(np.full((5, 5), 90.0)).tolist(), random_init=None)
    run_results.save(tmp_path / "results.json", probes={"knn_task": probe, "knn_all": probe})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES))
    (tmp_path / "plots").mkdir()
    for number in range(1, 6):
        (tmp_path / f"plots/buffer_evaluation{number}.png").write_bytes(picture((50 * number, 0, 0)))
    source = page.load_source(tmp_path)
    assert source.buffers == {number: picture((50 * number, 0, 0)) for number in (1, 3, 5)}
    read = Reader(page.build([source], "max"))
    alts = [a["alt"] for tag, a in read.elements if tag == "img"]
    assert [number for number in range(1, 6) if any(f"tasks learned: {number}" in alt for alt in alts)] == [1, 3, 5]
    assert any("Training loss" in alt for alt in alts)


def test_a_probe_that_has_nothing_to_choose_is_left_out():
    probe = run_results.probe([[100.0, None], [100.0, 100.0]], chance=100.0, random_init=None)
    one = run_results.result(probes={"knn_task": probe, "knn_all": run_results.probe()})
    built = page.build([page.Source(one, [], {}, "")], "max")
    assert "100.0" not in built
    assert "80.0" in built
    page.build([page.Source(run_results.result(probes={"knn_task": probe, "knn_all": probe}), [], {}, "")], "max")


def test_the_same_runs_give_the_same_page(text):
    assert page.build(SOURCES, "max") == text


def test_nothing_comes_from_elsewhere(read, text):
    assert {tag for tag, _ in read.elements} & {"iframe", "object", "embed", "base"} == set()
    assert [attributes for tag, attributes in read.elements if tag == "script"] == [{}]
    policy = next(a["content"] for tag, a in read.elements if "Content-Security-Policy" in a.values())
    assert policy.split(";")[0] == "default-src 'none'"
    for tag, attributes in read.elements:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import", text)
    pictures = [base64.b64decode(a["src"].partition(",")[2]) for tag, a in read.elements if tag == "img"]
    for content in pictures:
        assert not re.search(rb'(href|src)="(?!#|data:)', content)
    assert SOURCES[0].buffers[1] in pictures


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
    assert len(images) == 6  # two of accuracy, and one each of differences, loss, embedding and buffer
    assert all(len(image["alt"]) > 20 for image in images)
    assert any("lump 89.5 %, multitask 98.5 %" in image["alt"] for image in images)
    assert all(a.get("scope") in ("row", "col", "colgroup") for tag, a in read.elements if tag == "th")
    captions = [tag for tag, _ in read.elements if tag in ("table", "caption")]
    assert captions == ["table", "caption"] * len(read.tables)
    identities = [a["id"] for _, a in read.elements if "id" in a]
    assert len(set(identities)) == len(identities)
    links = [a["href"][1:] for tag, a in read.elements if tag == "a"]
    assert links[0] == "main"
    named = {a["aria-labelledby"] for _, a in read.elements if "aria-labelledby" in a}
    assert {*links, *named} == set(identities)


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
        {1: picture((0, 0, 0))},
        "</code><img src=x>",
    )
    others = [page.Source(run(name, seed=1), [], {}, "") for name in ("</main>", "<script>alert(1)</script>")]
    text = page.build([source, *others], "max")
    assert text.count("<script") == 1
    assert "alert" not in text[text.index("<script") :]
    read = Reader(text)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"b", "i", "u", "s", "q"}
    assert read.tables["Summary, <script> on cifar10"][2][0] == HOSTILE
    assert all(a["src"].startswith("data:") for tag, a in read.elements if tag == "img")
    assert "</code><img src=x>" in "".join(read.words)


def test_the_template_shows_nothing_that_is_not_given():
    with pytest.raises(jinja2.UndefinedError, match="stamp"):
        page._template().render(title="t", counted="", pending=[], sections=[])
