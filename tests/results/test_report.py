"""Tests tables against numbers worked by hand, and pictures against the pixels that they show."""

import csv
import io
import json
import pathlib
import re

import numpy as np
import pytest
from scipy import stats

import ucl_jax.evaluation.accuracy_matrix
from tests import run_results
from tests.pictures import pixels
from ucl_jax import cli
from ucl_jax.errors import Stopped, UsageError
from ucl_jax.results import __main__ as report
from ucl_jax.results import compare, run_figures, tables
from ucl_jax.training.metric_writers import MetricsFile, read_metrics


def results(recipe, matrix, **more):
    return run_results.result(recipe, matrix, **more)


def save(path, result):
    path.write_text(json.dumps(result.to_json()))
    return str(path)


DEMO = pathlib.Path(__file__).parents[2] / "benchmarks/results/demo-digits"
LUMP_MATRIX = [[90.0, None], [80.0, 97.0]]
FIRST = {"eval.forgetting": "first"}
LUMP = results("lump", LUMP_MATRIX)
JOINT = results("multitask", [[98.0, 99.0]], joint=True)
HEAD = {"head_all": run_results.probe([[70.0, None], [20.0, 60.0]], chance=25.0, random_init=[10.0, 12.0])}
LABELLED = results("finetune", LUMP_MATRIX, probes=LUMP.to_json()["probes"] | HEAD)


def text(runs, markup="text"):
    """Returns what the command prints of runs."""
    return tables.render(tables.every_run(runs, "max"), markup)


def cells(markdown):
    """Returns the cells of a table in Markdown, without the rule."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]
    return [lines[0], *lines[2:]]


def test_the_table_of_runs_has_accuracy_and_forgetting_by_each_probe():
    lines = text([LUMP, JOINT]).splitlines()
    rule = next(place for place, line in enumerate(lines) if not set(line) - set("- "))
    cells = [line.split() for line in lines[rule + 1 :]]
    assert cells[0] == ["lump", "(simsiam,", "seed", "0)", *["88.50", "+23.50", "10.00"] * 2]
    assert cells[1] == ["multitask", "(simsiam,", "seed", "0)", *["98.50", "+33.50", "-"] * 2]
    assert cells[2] == ["untrained", "network", *["65.00", "-", "-"] * 2]
    assert cells[3] == ["chance", "50.00", "-", "-", "25.00", "-", "-"]
    assert len(set(map(len, lines))) == 1


def test_differences_are_paired_by_seed_and_have_students_intervals():
    rng = np.random.default_rng(0)
    matrices = {name: rng.uniform(60, 90, size=(5, 2, 2)) for name in ("lump", "finetune")}

    def made(name, seed, **more):
        return results(name, np.tril(matrices[name][seed]).round(3).tolist(), seed=seed, **more)

    # Seed 4 of LUMP has no partner.
    runs = [made("lump", seed) for seed in range(5)] + [made("finetune", seed) for seed in reversed(range(4))]
    header, *found = cells(tables.render(tables.of_pairs(runs), "markdown"))
    assert header[3:5] == ["kNN within the task", "seeds higher, kNN within the task"]
    last = {name: matrix[:, -1].round(3).mean(axis=1) for name, matrix in matrices.items()}
    expected = {
        ("lump", "untrained network"): stats.ttest_1samp(last["lump"] - 65.0, 0.0),
        ("lump", "finetune"): stats.ttest_rel(last["lump"][:4], last["finetune"][:4]),
        ("finetune", "untrained network"): stats.ttest_1samp(last["finetune"][:4] - 65.0, 0.0),
    }
    assert [tuple(row[1:3]) for row in found] == list(expected)
    for row, test in zip(found, expected.values()):
        low, high = test.confidence_interval(0.95)
        assert row[3] == f"{(low + high) / 2:+.2f} ({low:+.2f} to {high:+.2f})"
        assert row[5:7] == row[3:5]
    assert found[1][4] == f"{(last['lump'][:4] > last['finetune'][:4]).sum()} (n=4)"


def demo(*recipes):
    """Returns the files of the kept runs of recipes, ten seeds each."""
    return [str(path) for name in recipes for path in sorted(DEMO.glob(f"{name}-*.json"))]


def test_differences_from_any_recipe(capsys):
    """Compares with the numbers in the files themselves, which nothing of the package reads here."""
    assert report.main([*demo("lump", "er"), "--pairs", "--over=er", "--format=csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["recipe"], row["over"]) for row in rows] == [
        ("lump", "untrained network"),
        ("lump", "er"),
        ("er", "untrained network"),
    ]
    for probe, title in compare.PROBE_TITLES.items():
        if title in rows[1]:
            lump, er = (
                np.array(
                    [
                        np.mean(json.loads(pathlib.Path(path).read_text())["probes"][probe]["matrix"][-1])
                        for path in demo(name)
                    ]
                )
                for name in ("lump", "er")
            )
            low, high = stats.ttest_rel(lump, er).confidence_interval(0.95)
            found = [rows[1][title], rows[1][f"{title} low"], rows[1][f"{title} high"]]
            assert found == [f"{number:.2f}" for number in (np.mean(lump - er), low, high)]
            assert rows[1][f"seeds higher, {title}"] == str((lump > er).sum())


def test_a_setting_of_a_recipe_is_compared_with_another(tmp_path, capsys):
    """Has two settings of lump as two rows of both tables, and each over the other by its name."""
    files = []
    for alpha, least in ((0.1, 90.0), (0.4, 80.0)):
        for seed in (0, 1):
            run = results("lump", [[90.0, None], [least, 95.0 + seed]], seed=seed, settings={"method.alpha": alpha})
            files.append(save(tmp_path / f"{alpha}-{seed}.json", run))
    names = [f"lump, method.alpha={alpha}" for alpha in (0.1, 0.4)]

    def table(*words):
        assert report.main([*files, "--format=csv", *words]) == 0
        return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    found = [[row["recipe"], row["n"], row["kNN within the task"]] for row in table("--seeds")[:2]]
    assert found == [[names[0], "2", "92.75"], [names[1], "2", "87.75"]]
    assert report.main([*files, "--pairs", "--over=lump"]) == 2  # which of the two?
    assert ", ".join(map(repr, names)) in capsys.readouterr().err
    for over, difference, place in ((names[1], "5.00", 1), (names[0], "-5.00", 2)):
        rows = table("--pairs", f"--over={over}")
        assert [row["over"] for row in rows if row["over"] != "untrained network"] == [over]
        assert (rows[place]["over"], rows[place]["kNN within the task"]) == (over, difference)


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_plot_has_the_format_of_its_name(suffix, begins, tmp_path):
    run = save(tmp_path / "lump.json", results("lump", LUMP_MATRIX))
    assert report.main([run, f"--out={tmp_path}/plot.{suffix}"]) == 0
    assert (tmp_path / f"plot.{suffix}").read_bytes().startswith(begins)


def test_pairs_are_of_forgetting_by_a_definition(tmp_path, capsys):
    """Has drops of task 1: lump 95 - 90 at best and 91 - 90 at first, then 1 less; finetune 8 by both, then 9."""
    matrices = {
        "lump": lambda seed: [[91.0, None, None], [95.0, 90.0, None], [90.0 + seed, 90.0, 80.0]],
        "finetune": lambda seed: [[91.0, None, None], [83.0, 90.0, None], [83.0 - seed, 90.0, 80.0]],
    }
    files = [
        save(tmp_path / f"{name}-{seed}.json", results(name, matrix(seed), seed=seed))
        for name, matrix in matrices.items()
        for seed in (0, 1)
    ]
    # Over two earlier tasks, one of which forgets nothing: (5 - 8) / 2 and (4 - 9) / 2, or (1 - 8) / 2 and (0 - 9) / 2.
    for definition, difference in (("max", "-2.00"), ("first", "-4.00")):
        assert report.main([*files, "--pairs", f"--forgetting={definition}", "--format=csv"]) == 0
        (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
        title = f"forgetting ({definition}) by kNN within the task"
        assert (row["recipe"], row["over"], row[title]) == ("lump", "finetune", difference)
        assert row[f"seeds higher, {title}"] == "0"


def test_tables_and_a_plot_are_by_knn_alone_if_asked(tmp_path, capsys, monkeypatch):
    probes = {name: run_results.probe([[90.0, None], [80.0, 60.0]]) for name in ("knn_task", "knn_all", "head_task")}
    labelled = save(tmp_path / "labelled.json", results("lump", LUMP_MATRIX, probes=probes))
    drawn = []
    monkeypatch.setattr(report.run_figures, "plot_average_accuracy", lambda path, runs, forgetting: drawn.extend(runs))
    for words, heads in (([], ["head within the task"]), (["--knn"], [])):
        for table in ([], ["--seeds"]):
            assert report.main([labelled, f"--out={tmp_path}/a.png", "--format=csv", *table, *words]) == 0
            (row, *_) = csv.DictReader(io.StringIO(capsys.readouterr().out))
            assert row["kNN within the task"] == "70.00"
            assert [name for name in row if name.startswith("head")] == heads
    assert [len(run.probes) for run in drawn] == [3, 3, 2, 2]


def test_a_recipe_to_compare_with_must_be_there(tmp_path, capsys):
    files = [save(tmp_path / f"{name}.json", results(name, LUMP_MATRIX)) for name in ("lump", "er")]
    for words in (["--pairs"], [f"--out={tmp_path}/page"], ["--serve=0"]):
        assert report.main([*files, "--over=finetune", *words]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "--over=finetune" in err
        assert "'er', 'lump'" in err
    assert report.main([*files, "--over=er"]) == 2
    assert "--pairs" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()
    assert report.main([*files, "--over=er", f"--out={tmp_path}/page"]) == 0
    assert "untrained network and of er" in (tmp_path / "page/index.html").read_text()


def test_one_pair_has_no_interval():
    assert compare.paired_difference({3: 2.0, 4: None, 5: 1.0}, {3: 0.5, 4: 1.0}) == (1.5, None, None, 1, 1)
    assert compare.paired_difference({3: 2.0}, {4: 1.0}) is None


def test_table_says_what_is_not_finished():
    assert "lump (simsiam, seed 0), not finished" in text([results("lump", [[90.0, None]], finished=False)])


def test_table_of_seeds_is_mean_and_deviation():
    runs = [LUMP, results("lump", [[90.0, None], [86.0, 95.0]], seed=1), results("pnn", [[90.0, None], [90.0, 80.0]])]
    rows = cells(tables.render(tables.of_seeds(runs, "max"), "markdown"))
    assert rows[0][:5] == ["objective", "recipe", "n", "kNN within the task", "forgetting (max) by kNN within the task"]
    # Accuracies are 88.5 and 90.5, forgetting 10 and 4. A deviation is half the difference times the square root of 2.
    assert rows[1] == ["simsiam", "lump", "2", *["89.50±1.41", "7.00±4.24"] * 2]
    assert rows[2] == ["simsiam", "pnn", "1", *["85.00", "0.00"] * 2]
    assert rows[3] == [
        "simsiam",
        "untrained network",
        "2",
        *["65.00±0.00", "-"] * 2,
    ]  # without PNN's: other widths
    assert rows[4] == ["", "chance", "-", "50.00", "-", "25.00", "-"]


def test_runs_that_differ_in_more_than_their_seed_share_no_row(tmp_path, capsys):
    other = results("lump", LUMP_MATRIX, seed=1, settings=FIRST)
    mnist = results("lump", LUMP_MATRIX, seed=1, benchmark="mnist")
    files = [save(tmp_path / f"{number}.json", run) for number, run in enumerate((LUMP, other, mnist))]
    assert report.main(["--seeds", *map(str, files)]) == 2
    assert "differ in eval.forgetting (max, first)" in capsys.readouterr().err
    for flag in ("--seeds", "--pairs"):
        assert report.main([flag, files[0], files[2]]) == 2
        assert "several benchmarks (digits, mnist)" in capsys.readouterr().err
    assert report.main(["--seeds", str(files[0]), str(files[0])]) == 2
    assert "two runs of lump (simsiam) have one seed: [0, 0]" in capsys.readouterr().err


def test_probes_that_only_some_runs_have():
    rows = cells(text([LUMP, LABELLED], "markdown"))
    assert rows[1][4:] == ["88.50", "+23.50", "10.00", "-", "-", "-"]
    assert rows[2][4:] == ["88.50", "+23.50", "10.00", "40.00", "+29.00", "50.00"]


def test_a_probe_that_the_untrained_network_does_not_have(tmp_path):
    """Checks the online linear probe in all tables and in a figure."""
    probes = LUMP.to_json()["probes"]
    matrix = [[50.0, 10.0], [40.0, 46.0]]
    online = {"online_linear": run_results.probe(matrix, chance=25.0, random_init=None)}
    runs = [
        results(name, LUMP_MATRIX, probes=probes | online, settings={"eval.tasks": "all"})
        for name in ("lump", "finetune")
    ]
    title = "online linear probe over all classes"
    header, lump, _, untrained, chance = cells(text(runs, "markdown"))
    assert header[7:] == [title, f"over untrained, {title}", f"forgetting (max) by {title}"]
    assert (lump[7:], untrained[7:]) == (["43.00", "-", "10.00"], ["-", "-", "-"])
    assert untrained[1] == "65.00"
    assert chance[7:] == ["25.00", "-", "-"]
    rows = cells(tables.render(tables.of_seeds(runs, "max"), "markdown"))
    assert [row[7] for row in rows[1:]] == ["43.00", "43.00", "-", "25.00"]
    _, *pairs = cells(tables.render(tables.of_pairs(runs), "markdown"))
    assert [(row[2], row[7]) for row in pairs[:2]] == [("untrained network", "-"), ("finetune", "+0.00")]
    run_figures.plot_average_accuracy(tmp_path / "online.png", runs)
    assert (tmp_path / "online.png").exists()


def test_average_accuracy_of_runs_with_different_probes(tmp_path):
    for number, runs in enumerate(([LUMP, LABELLED], [LABELLED, LUMP])):
        run_figures.plot_average_accuracy(tmp_path / f"{number}.png", runs)
    assert pixels(tmp_path / "0.png").shape[1] > 1.2 * pixels(tmp_path / "1.png").shape[0]
    assert pixels(tmp_path / "0.png").shape == pixels(tmp_path / "1.png").shape


def test_results_by_the_name_of_a_file(tmp_path, capsys):
    for seed in (0, 1):
        save(tmp_path / f"lump-seed{seed}.json", results("lump", LUMP_MATRIX, seed=seed))
    assert report.main(["--seeds", *map(str, sorted(tmp_path.glob("*.json")))]) == 0
    assert "88.50±0.00" in capsys.readouterr().out
    assert report.main([str(tmp_path / "none.json")]) == 2


def test_a_folder_of_kept_results_is_a_folder_of_runs(tmp_path, capsys):
    for seed in (0, 1):
        save(tmp_path / f"lump-simsiam-seed{seed}.json", results("lump", LUMP_MATRIX, seed=seed))
    assert report.main([str(tmp_path), "--seeds"]) == 0
    assert capsys.readouterr().out.count("lump") == 1


def test_a_picture_of_differences_says_how_many_pairs_any_probe_has(tmp_path):
    """Checks runs of tasks of one class, of which only kNN over all classes has something to choose, beside another."""
    alone = run_results.probe(LUMP_MATRIX, chance=100.0)
    probes = {"knn_task": alone, "knn_all": run_results.probe(LUMP_MATRIX, chance=25.0)}
    single = {"probes": probes, "settings": {"benchmark.classes_per_task": 1}}
    runs = [results(name, LUMP_MATRIX, seed=seed, **single) for name in ("lump", "finetune") for seed in (0, 1)]
    runs += [results("er", LUMP_MATRIX, seed=seed) for seed in (0, 1)]
    figure, rows = run_figures._differences(compare.groups_of(runs), "", "finetune", None)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names
    assert all(name.endswith("n=2") for name in names)
    assert {row[-1] for row in rows} == {2}


def test_plots_of_a_folder(tmp_path):
    save(tmp_path / "results.json", LUMP)
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in range(1, 9):
            file.write(json.dumps({"step": step, "task": step // 5, "loss": -step / 8}) + "\n")
    run_figures.plot_run(tmp_path)
    for name in ("accuracy_matrix", "average_accuracy", "loss"):
        picture = pixels(tmp_path / "plots" / f"{name}.png")
        assert min(picture.shape[:2]) > 150
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("classes", [[(0, 1), (2, 3)], [(0, 1, 2, 3)] * 2], ids=["by task", "by label"])
def test_buffer_picture_shows_the_images_in_order(classes, tmp_path):
    # Plain red of task 2 is stored before plain blue of task 1, but blue must be shown first. Where tasks share their
    # classes, its label is the lower one.
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, ..., 0], images[1, ..., 2] = 255, 255
    run_figures.plot_buffer(tmp_path / "b.png", images, np.array([3, 0]), classes)
    picture = pixels(tmp_path / "b.png")
    where = {}
    for name, colour in {"red": (255, 0, 0), "blue": (0, 0, 255)}.items():
        mask = (np.abs(picture - colour) < 8).all(-1)
        assert mask.sum() > 1000
        where[name] = np.argwhere(mask).mean(0)
    assert where["blue"].sum() < where["red"].sum()


TABLE = tables.Table(
    "",
    tables.make_frame(
        ["recipe", "accuracy", "accuracy deviation", "forgetting", "n", "difference", "within"],
        [
            ["a_b & 50%", 90.0, 1.5, None, 2, 0.125, True],
            ["x|y", 80.0, None, 1.25, None, -1.0, False],
            ['with, comma and "quote"', 70.004, 2.0, -1.0, 3, None, None],
        ],
    ),
    formats={"difference": "+.2f"},
)


def test_the_cells_that_are_shown_are_made_of_numbers():
    shown = tables.shown(TABLE)
    assert list(shown.columns) == ["recipe", "accuracy", "forgetting", "n", "difference", "within"]
    assert shown.values.tolist() == [
        ["a_b & 50%", "90.00±1.50", "-", "2", "+0.12", "yes"],
        ["x|y", "80.00", "1.25", "-", "-1.00", "no"],
        ['with, comma and "quote"', "70.00±2.00", "-1.00", "3", "-", "-"],
    ]
    assert TABLE.frame["accuracy"].mean() == pytest.approx(80.0, abs=0.01)


def test_a_table_without_rows_has_its_header():
    empty = tables.Table("", tables.make_frame(["recipe", "n", "a", "a deviation"], []), words=1)
    assert tables.render(empty, "csv") == "recipe,n,a"
    for markup in ("text", "markdown", "latex"):
        assert all(name in tables.render(empty, markup).split() for name in ("recipe", "n", "a"))


def test_markdown_keeps_a_bar_inside_its_cell():
    lines = tables.render(TABLE, "markdown").splitlines()
    assert re.split(r"(?<!\\)\|", lines[3])[1].strip() == r"x\|y"
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}
    assert re.fullmatch(r"\|:-+\|(-+:\|){5}", lines[1]), "words to the left, numbers to the right"


def test_latex_escapes_and_needs_no_package():
    first, *inner, last = tables.render(TABLE, "latex").splitlines()
    assert (first, last) == (r"\begin{tabular}{lrrrrr}", r"\end{tabular}")
    rows = [[cell.strip() for cell in line.removesuffix(r"\\").split(" & ")] for line in inner if line != r"\hline"]
    assert rows[1][:3] == [r"a\_b \& 50\%", r"90.00$\pm$1.50", "-"]
    assert rows[2][0] == r"x\textbar{}y"
    every = tables.Table("", tables.make_frame(["\\~^$#{}"], [["<a>"]]))
    head, cell = (line for line in tables.render(every, "latex").splitlines()[2:-2] if line != r"\hline")
    assert head.split() == [r"\textbackslash{}\textasciitilde{}\^{}\$\#\{\}", r"\\"]
    assert cell.split() == [r"\ensuremath{<}a\ensuremath{>}", r"\\"]


def test_differences_as_a_floating_table_and_a_picture(tmp_path, capsys):
    """Checks that a picture of two recipes is higher than that of one, as each has lines of its own."""
    runs = [results(name, LUMP_MATRIX, seed=seed) for name in ("lump", "finetune", "er") for seed in (0, 1)]
    files = [save(tmp_path / f"{number}.json", run) for number, run in enumerate(runs)]
    heights = []
    for own in (files[:4], files):
        picture = tmp_path / "pairs.png"
        words = ["--pairs", "--format=latex", "--caption=Differences, $n=2$.", f"--out={picture}"]
        assert report.main([*own, *words]) == 0
        heights.append(pixels(picture).shape[0])
        printed = capsys.readouterr().out.splitlines()
        assert printed[:4] == [
            r"\begin{table}",
            r"\centering",
            r"\caption{Differences, $n=2$.}",
            r"\begin{tabular}{lllrrrr}",
        ]
        assert printed[-2:] == [r"\end{tabular}", r"\end{table}"]
    assert heights[1] > heights[0] + 50


def test_latex_has_a_line_of_shared_titles_and_minus_signs():
    columns, row = (
        ["recipe", "a, A", "a, A low", "a, A high", "F of a", "b", "n"],
        ["-1 x", -1.0, -2.0, 0.5, 3.0, -4.0, 2],
    )
    heads = {"a, A": ("a", "A_t"), "F of a": ("a", "F"), "b": ("b", "A_t")}
    table = tables.Table("", tables.make_frame(columns, [row]), formats={"a, A": "+.2f"}, heads=heads)
    lines = [re.sub(" +", " ", line).strip() for line in tables.render(table, "latex").splitlines()]
    assert lines[1:6] == [
        r"\hline",
        r"& \multicolumn{2}{c}{a} & \multicolumn{1}{c}{b} & \\",
        r"recipe & A\_t & F & A\_t & n \\",
        r"\hline",
        r"$-$1 x & $-$1.00 ($-$2.00 to +0.50) & 3.00 & $-$4.00 & 2 \\",
    ]


def test_csv_has_a_column_of_deviations_and_no_dashes():
    assert list(csv.reader(io.StringIO(tables.render(TABLE, "csv")))) == [
        ["recipe", "accuracy", "accuracy deviation", "forgetting", "n", "difference", "within"],
        ["a_b & 50%", "90.00", "1.50", "", "2", "0.12", "True"],
        ["x|y", "80.00", "", "1.25", "", "-1.00", "False"],
        ['with, comma and "quote"', "70.00", "2.00", "-1.00", "3", "", ""],
    ]


def test_csv_has_no_column_for_deviations_that_nothing_has():
    assert tables.render(tables.every_run([LUMP], "max"), "csv").splitlines()[0] == ",".join(
        [
            "",
            "kNN within the task",
            '"over untrained, kNN within the task"',
            "forgetting (max) by kNN within the task",
            "kNN over all classes seen",
            '"over untrained, kNN over all classes seen"',
            "forgetting (max) by kNN over all classes seen",
        ]
    )


def test_no_two_columns_have_one_name():
    seen = results("lump", LUMP_MATRIX, settings={"eval.tasks": "seen"})
    for runs in ([LUMP, LABELLED], [seen]):
        made = [tables.every_run(runs, "first"), tables.every_run(runs, "max"), tables.of_seeds(runs, "max")]
        made += tables.against_paper(compare.groups_of(runs), "max")
        for table in made:
            assert table.frame.columns.is_unique
    assert "forgetting (max of seen rows) by kNN within the task" in made[-1].frame.columns


@pytest.mark.parametrize(
    ("definition", "header", "lost"),
    # Task 1: 80, 90, 85; task 2: 95, 97. max: (90 - 85 + 0) / 2; first: (80 - 85 + 95 - 97) / 2; with_last: 5 / 3.
    [
        ("max", "forgetting (max) by kNN within the task", "2.50"),
        ("first", "forgetting (first) by kNN within the task", "-3.50"),
        ("with_last", "forgetting (with_last) by kNN within the task", "1.67"),
    ],
)
def test_another_definition_of_forgetting_needs_no_run(tmp_path, capsys, definition, header, lost):
    run = results("lump", [[80.0, None, None], [90.0, 95.0, None], [85.0, 97.0, 99.0]])
    save(tmp_path / "a.json", run)
    for seeds in ([], ["--seeds"]):
        assert report.main([str(tmp_path / "a.json"), "--format=csv", f"--forgetting={definition}", *seeds]) == 0
        row, *_ = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert (row[header], row["kNN within the task"]) == (lost, "93.67")


def test_runs_of_different_definitions_need_one(tmp_path, capsys):
    files = []
    for seed, definition in enumerate(("max", "first")):
        run = results("lump", LUMP_MATRIX, seed=seed, settings={"eval.forgetting": definition})
        files.append(save(tmp_path / f"{seed}.json", run))
    assert report.main(files) == 2
    assert "differ in eval.forgetting (max, first); choose one, --forgetting=" in capsys.readouterr().err
    for seeds in ([], ["--seeds"]):
        assert report.main([*files, "--forgetting=first", *seeds]) == 0
        assert "10.00" in capsys.readouterr().out
    assert report.main([*files, "--forgetting=first", f"--out={tmp_path}/page"]) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format=html"], "unknown format 'html'; known: text, markdown, latex, csv"),
        (["--forgetting=frist"], "unknown definition of forgetting 'frist', did you mean 'first'?"),
        (["--out={}/notes.txt"], "notes.txt is neither a picture (.png, .svg, .pdf) nor a folder"),
        (["--out={}/page.html"], "page.html is neither a picture (.png, .svg, .pdf) nor a folder"),
        (["--out={}/none/a.png"], "a.png is no picture in a folder: there is no"),
        (["--out={}/notes.txt/page/"], "cannot write"),
        (["--knn", "--out={}/page/"], "a page shows all probes: leave out --knn"),
        (["--caption=Runs."], "--caption is for LaTeX: add --format=latex"),
        (["--knn", "--serve=0"], "leave out --out, --seeds, --pairs and --knn"),
        (["--colour"], "unrecognized arguments: --colour"),
        (["{}/notes.txt"], "is no run folder with a results.json"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(tmp_path, capsys, arguments, told):
    save(tmp_path / "a.json", LUMP)
    (tmp_path / "notes.txt").write_text("mine")
    assert report.main([str(tmp_path / "a.json"), *(a.format(tmp_path) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert (out, err.count("\n")) == ("", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_help_and_what_a_parser_refuses(capsys):
    assert report.main(["--help"]) == 0
    assert "usage: python -m ucl_jax.report" in capsys.readouterr().out
    parser = cli.Parser(prog="python -m ucl_jax.other")
    with pytest.raises(UsageError, match=r"unrecognized arguments: --no; see python -m ucl_jax.other --help$"):
        parser.parse_args(["--no"])


def test_a_command_returns_its_exit_code(capsys):
    def stop(code):
        raise {2: UsageError("bad\ninput"), 130: KeyboardInterrupt(), 143: Stopped("stopped", 15)}[code]

    for code, told in {2: "error: bad input\n", 130: "interrupted\n", 143: "stopped\n"}.items():
        assert cli.returns_exit_code(stop)(code) == code
        assert capsys.readouterr().err == told
    assert cli.returns_exit_code(lambda: 1)() == 1


def test_a_page_leaves_other_files_alone(tmp_path, capsys):
    save(tmp_path / "a.json", LUMP)
    (tmp_path / "page").mkdir()
    (tmp_path / "page/mine.txt").write_text("mine")
    (tmp_path / "page/index.html").write_text("old")
    for out in ("page", "new/er/"):
        assert report.main([str(tmp_path / "a.json"), f"--out={tmp_path}/{out}", "--format=csv"]) == 0
        told = capsys.readouterr()
        assert f"page: {tmp_path}/{out.rstrip('/')}/index.html" in told.err
        assert "page:" not in told.out
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == ["figures", "index.html", "mine.txt"]
    drawn = json.loads((tmp_path / "page/figures/accuracy_matrices-knn_task.json").read_text())
    assert [run["matrix"] for run in drawn["runs"]] == [LUMP_MATRIX]
    assert (tmp_path / "page/index.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "new/er/index.html").read_text() == (tmp_path / "page/index.html").read_text()


def test_missing_results_are_refused_in_one_line(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 2
    assert "is no run folder with a results.json" in capsys.readouterr().err


def test_command_prints_the_table_and_draws(tmp_path, capsys):
    for name, content in {"a": LUMP, "b": JOINT}.items():
        (tmp_path / name).mkdir()
        save(tmp_path / name / "results.json", content)
    assert report.main([str(tmp_path / "a"), str(tmp_path / "b"), f"--out={tmp_path}/both.png"]) == 0
    assert text([LUMP, JOINT]) in capsys.readouterr().out
    assert pixels(tmp_path / "both.png").shape[1] > 500


def test_resumed_metrics_drop_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    steps = [{"step": step, "task": step // 3, "loss": -step / 9} for step in (1, 2, 3, 4)]
    tasks = [{"step": 2, "task": 0, "knn": 1.0}, {"step": 4, "task": 1, "knn": 2.0}]
    lines = [steps[0], steps[1], tasks[0], steps[2], steps[3], tasks[1]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"st')  # a kill cut the last line off
    file = MetricsFile(path, step=4, evaluations=1)  # the checkpoint is of step 4, before task 1 was evaluated
    file.write({"step": 4, "task": 1, "again": 1.0})
    file.close()
    assert read_metrics(path) == [*lines[:5], {"step": 4, "task": 1, "again": 1.0}]
    MetricsFile(path, step=2, evaluations=1).close()
    assert read_metrics(path) == lines[:3]


def test_unknown_definition_of_forgetting():

    with pytest.raises(ValueError, match="one of max, first, with_last"):
        ucl_jax.evaluation.accuracy_matrix.forgetting(LUMP_MATRIX, "last")
