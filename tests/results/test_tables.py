"""Tests tables of runs that differ in more than seeds: no run is lost, or mixed or compared with runs unlike it."""

import pytest

from tests import run_results
from tests.pictures import over_classes
from ucl_jax.results import compare, tables
from ucl_jax.results.schema import RunResult

EXAMPLES = "benchmark.examples_per_task"
ALPHA = "method.alpha"


def run(
    recipe="lump", seed=0, before=60.0, benchmark="cifar10", overrides=(), settings=(), objective="simsiam", **more
):
    """Makes a finished run with overrides such as {"train.epochs": 2}; `settings` are values of the recipe itself."""
    rate = {"train.epochs": 200, "train.learning_rate": 0.03 if recipe == "lump" else 0.06, "method.name": recipe}
    found = run_results.probe(random_init=None if before is None else [before, before + 10])
    return run_results.result(
        recipe,
        seed=seed,
        benchmark=benchmark,
        objective=objective,
        settings=rate | dict(settings),
        overrides=dict(overrides) | ({"seed": seed} if seed else {}),
        probes={"knn_task": found, "knn_all": found},
        **more,
    )


def few(images, **given):
    return run(overrides={EXAMPLES: images}, **given)


def rows(runs):
    (table,) = tables.against_paper(compare.groups_of(runs), "max")
    return [row[1:] for row in cells(table)[1:-1]]


def cells(table):
    """Returns the header and the rows, as they are shown."""
    shown = tables.shown(table)
    return [list(shown.columns), *shown.values.tolist()]


# The untrained network.


def test_untrained_networks_of_other_settings_have_their_own_rows():
    # The numbers of an untrained network depend on the images that kNN compares with, not on recipe or training.
    runs = [run(seed=seed, before=60.0 + seed) for seed in (0, 1)]
    runs += [run("finetune", before=60.0), few(50, before=40.0), few(100, recipe="finetune", before=50.0)]
    found = {label: compare.seeds(group) for label, group in compare.untrained_networks(runs).items()}
    assert found == {
        "untrained network, all training images": [0, 1],
        f"untrained network, {EXAMPLES}=50": [0],
        f"untrained network, {EXAMPLES}=100": [0],
    }
    told = {row[0]: row[1:3] for row in rows(runs) if row[0].startswith("untrained")}
    assert told == {
        "untrained network, all training images": ["2", "65.50±0.71"],
        f"untrained network, {EXAMPLES}=50": ["1", "45.00"],
        f"untrained network, {EXAMPLES}=100": ["1", "55.00"],
    }
    single = {row[0]: row[1] for row in cells(tables.every_run(runs, "max")) if row[0].startswith("untrained")}
    assert single == {
        "untrained network, all training images, seed 0": "65.00",
        "untrained network, all training images, seed 1": "66.00",
        f"untrained network, {EXAMPLES}=50": "45.00",
        f"untrained network, {EXAMPLES}=100": "55.00",
    }


def test_seeds_of_subsets_name_an_untrained_network_last():
    subset = "benchmark.subset_seed"
    alone = [run(overrides={subset: seed}, before=60.0 + seed) for seed in (0, 1)]
    assert list(compare.untrained_networks(alone)) == [f"untrained network, {subset}={seed}" for seed in (0, 1)]
    runs = [alone[0], run(overrides={EXAMPLES: 50, subset: -1}, before=40.0)]
    assert list(compare.untrained_networks(runs)) == [
        "untrained network, all training images", f"untrained network, {EXAMPLES}=50",
    ]  # fmt: skip


def test_an_untrained_network_is_one_where_its_numbers_are():
    runs = [run(before=60.0), run("finetune", before=60.0), run(seed=1, before=62.0), few(50, before=60.0)]
    assert {k: compare.seeds(v) for k, v in compare.untrained_networks(runs).items()} == {"untrained network": [0, 1]}
    other_machine = [run(before=60.0), run("finetune", before=60.1)]  # they differ in no setting
    assert list(compare.untrained_networks(other_machine)) == ["untrained network"]
    classes = {"objective.classes": 100}  # differs where the name differs, and the name says more
    two = [*other_machine, run(before=30.0, objective="supervised", settings=classes)]
    assert list(compare.untrained_networks(two)) == [
        f"untrained network, objective.name={n}" for n in ("simsiam", "supervised")
    ]
    assert compare.untrained_networks([run(before=None)]) == {}


def test_untrained_networks_of_several_benchmarks():
    runs = [run(), run(benchmark="digits", before=30.0)]
    assert list(compare.untrained_networks(runs)) == [
        f"untrained network, benchmark.name={name}" for name in ("cifar10", "digits")
    ]


# Names.


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        ([run(), run(seed=1)], ["lump (simsiam, seed 0)", "lump (simsiam, seed 1)"]),
        (
            [run(settings={ALPHA: 0.1}), run("finetune"), run(settings={ALPHA: 0.4})],
            [
                "lump, method.alpha=0.1 (simsiam, seed 0)",
                "finetune (simsiam, seed 0)",
                "lump, method.alpha=0.4 (simsiam, seed 0)",
            ],
        ),
        (
            [run(), few(50)],
            ["lump, all training images (simsiam, seed 0)", f"lump, {EXAMPLES}=50 (simsiam, seed 0)"],
        ),
        (
            [run(), run(benchmark="digits"), run(seed=1)],
            ["lump (simsiam, cifar10, seed 0)", "lump (simsiam, digits, seed 0)", "lump (simsiam, seed 1)"],
        ),
        ([run(), run()], ["lump (simsiam, seed 0)", "lump (simsiam, seed 0), run 2"]),
    ],
)
def test_every_run_has_its_own_name(runs, names):
    assert compare.run_names(runs) == names
    assert [row[0] for row in cells(tables.every_run(runs, "max"))][1 : 1 + len(runs)] == names


def test_another_definition_of_forgetting_is_no_other_run():
    other = run(seed=1, settings={"eval.forgetting": "first"})
    assert compare.run_names([run(), other]) == ["lump (simsiam, seed 0)", "lump (simsiam, seed 1)"]


def test_settings_say_what_0_stands_for():
    runs = [run(), few(50)]
    assert [e.recipe for e in compare.groups_of(runs)] == ["lump, all training images", f"lump, {EXAMPLES}=50"]
    assert cells(tables.settings_that_differ(compare.groups_of(runs)))[1] == [
        EXAMPLES,
        "0 (all training images)",
        "50",
    ]


# The paper's numbers.

PAPER = ["91.00±0.40", "2.92±0.53"]


@pytest.mark.parametrize(
    ("runs", "beside"),
    [
        ([run()], [True]),
        ([run(overrides={"train.devices": 1})], [True]),
        ([run(), few(50)], [True, False]),
        ([few(50)], [False]),
        ([run(), run(settings={EXAMPLES: 50})], [True, False]),  # fewer images are never the paper's
        ([run(overrides={"train.epochs": 2})], [False]),
        ([run(overrides={"train.epochs": 2}), run(seed=1)], [False, True]),
        (
            [run(settings={ALPHA: 0.1}), run(settings={ALPHA: 0.4})],
            [False, False],
        ),  # no override tells which of them is the recipe's
    ],
)
def test_the_papers_numbers_stand_beside_runs_of_the_recipe_alone(runs, beside):
    found = [row[4:6] for row in rows(runs) if not row[0].startswith("untrained")]
    assert found == [PAPER if own else ["-", "-"] for own in beside]


def test_overridden_keys_are_those_that_matter_beside_the_paper():
    assert compare.overridden(few(50, seed=3)) == {EXAMPLES}
    given = {"log.wandb": True, "train.epochs": 3, "data_dir": "/x", "eval.forgetting": "first", "train.devices": 2}
    assert compare.overridden(run(overrides=given)) == {"train.epochs"}
    assert compare.overridden(run()) == set()


def test_changed_settings_are_named_with_both_values_but_for_what_changes_no_number():
    there = {"a.x": 1, "a.y": [1, 2], "log.every_steps": 5, "data_dir": "", "old": "v"}
    here = {"a.x": 1, "a.y": [1, 3], "log.every_steps": 6, "data_dir": "/d", "new": None}
    assert compare.changed_settings(there, here) == [
        "a.y ([1, 2] there, [1, 3] here)", "new (null there, null here)", 'old ("v" there, null here)',
    ]  # fmt: skip
    assert compare.changed_settings(here, here) == []


# Analysis records.


def record(probe, values, after=1, **settings):
    return {"probe": probe, "after": after, "settings": settings, "values": values}


def linear(accuracy, **settings):
    values = {"task": [accuracy], "all": [accuracy], "penalty_task": [1.0], "penalty_all": 1.0}
    return record("linear", values, solver="ridge", fraction=0.1, **settings)


def analysis(*of_seeds):
    runs = [run(seed=seed, analysis=records) for seed, records in enumerate(of_seeds)]
    found = tables.analysis_tables(compare.groups_of(runs))
    return {table.title: [row[1:] for row in cells(table)] for table in found}


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"penalties": [0.1, 1.0]}, {"penalties": [0.1]}, ["0.1,1.0", "0.1"]),
        ({"seed": 0}, {"seed": 7}, ["0", "7"]),
        ({"images": 100}, {}, ["100", "-"]),
    ],
)
def test_no_record_is_dropped(one, other, told):
    (found,) = analysis([linear(90.0, **one), linear(50.0, **other)]).values()
    (name,) = one
    assert found == [
        ["tasks learned", "solver", "fraction", name, "n", "within the task", "all classes"],
        ["1", "ridge", "0.1", told[0], "1", "90.00", "90.00"],
        ["1", "ridge", "0.1", told[1], "1", "50.00", "50.00"],
    ]


def test_settings_of_one_kind_of_record_alone_need_no_column():
    values = {"task": [1.0], "all": [1.0], "penalty_task": [None], "penalty_all": None}
    sgd = record("linear", values, solver="sgd", fraction=0.1, epochs=100)
    (found,) = analysis([linear(90.0, penalties=[1.0]), sgd]).values()
    assert found[0][:4] == ["tasks learned", "solver", "fraction", "n"]


def test_records_of_knn_name_their_settings_once():
    def knn(*ks):
        each = [{"k": k, "temperature": 0.1, "task": [float(k)], "all": [float(k)]} for k in ks]
        return record("knn", {"rows": each}, k=list(ks), temperature=[0.1])

    (found,) = analysis([knn(20, 5), knn(5)]).values()
    assert found == [
        ["tasks learned", "k", "temperature", "n", "within the task", "all classes"],
        ["1", "20", "0.1", "1", "20.00", "20.00"],
        ["1", "5", "0.1", "1", "5.00", "5.00"],
    ]


OOD = {"knn": 50.0, "linear": 40.0, "chance": 10.0, "train_images": 7, "test_images": 3, "k": 5, "penalty": 1.0}


def test_a_setting_and_a_number_of_one_name_are_two_columns():
    few, every = (record("ood", OOD, dataset="mnist", train_images=n) for n in (7, 0))
    (found,) = analysis([few, every]).values()
    names = ["knn", "linear", "chance", "train images", "test images", "k", "penalty"]
    assert found[0] == ["tasks learned", "dataset", "train images, set", "n", *names]
    assert [row[2] for row in found[1:]] == ["7", "0"]


def test_the_mean_is_over_the_seeds_that_have_a_number():
    # Two of three seeds have a number, 90 and 94; the deviation is half the difference times the square root of 2.
    def one(x, count):
        return record("brand_new", {"score": x, "images": count, "all of it": 1.0, "none": None})

    (found,) = analysis([one(90.0, 10)], [one(None, None)], [one(94.0, 10)]).values()
    assert found == [
        ["tasks learned", "n", "score", "images", "all of it", "none"],
        ["1", "3", "92.00±2.83 (n=2)", "10 (n=2)", "1.00±0.00", "-"],
    ]


def test_geometry_shows_the_deviations_mean_and_least_and_not_all():
    (found,) = analysis([record("geometry", run_results.GEOMETRY)]).values()
    assert found == [
        ["tasks learned", "n", *(key.replace("_", " ") for key in run_results.GEOMETRY if key != "deviation")],
        ["1", "1", "2.00", "-", "1.50", "2", "0.15", "0.10"],
    ]


# Streams.

STREAM = [[60.0, None], [90.0, 50.0], [70.0, 66.0]]


def stream(**more):
    """Makes a run over a stream of two tasks with three rows."""
    found = run_results.probe(STREAM) | {"class_accuracy": [75.0, 65.0, None]}
    probes = {"knn_task": found, "knn_all": found}
    evaluations = run_results.evaluated([40, 80, 100], [1, 2, 2])
    return run_results.result(probes=probes, evaluations=evaluations, classes=[[4, 0], [7]], **more)


def test_a_stream_has_its_average_and_samples_in_the_table_of_runs():
    one, other = stream(), run_results.result(seed=1)
    assert (one.is_stream, other.is_stream) == (True, False)
    header, ours, theirs, *_, chance = cells(tables.every_run([one, other], "max"))
    columns = dict(zip(header, zip(ours, theirs, chance)))
    assert columns[compare.PROBE_TITLES["knn_task"]] == ("68.00", "88.50", "50.00")
    assert columns["images seen"] == ("100", "-", "-")
    assert columns["gradient samples"] == ("200", "-", "-")
    # (60 + 70 + 68) / 3, and (90 + 88.5) / 2 of the run whose rows are tasks.
    assert columns[tables.STREAM_AVERAGE.format(compare.PROBE_TITLES["knn_task"])] == ("66.00", "89.25", "-")
    assert "images seen" not in cells(tables.every_run([other], "max"))[0]


def test_classes_have_a_row_each():
    named = stream(seed=3, class_names=["cat", "dog", "fox"])
    assert [row[0] for row in cells(tables.of_classes([named]))[1:]] == ["cat", "dog", "fox"]
    assert cells(tables.of_classes([stream(seed=3), run_results.result()]))[1:] == [
        ["0", "75.00"], ["4", "65.00"], ["7", "-"]
    ]  # fmt: skip


def test_each_row_must_have_every_class():
    good = over_classes().to_json()
    assert over_classes().class_matrix == [[75.0, None], [65.0, 90.0], [60.0, 95.0]]
    row = [75.0, 65.0]
    for wrong in ([row] * 2, [row, row, row[:1]], [[*row, 1.0]] * 3):
        with pytest.raises(ValueError, match=r"^\$\.probes\.knn_all.*class_matrix"):
            RunResult.from_json(run_results.changed(good, "probes.knn_all.class_matrix", wrong))


def test_rows_must_have_the_tasks_seen():
    good = run_results.as_json(matrix=STREAM, evaluations=run_results.evaluated([40, 80, 100], [1, 2, 2]))
    assert RunResult.from_json(RunResult.from_json(good).to_json()).tasks_seen == [1, 2, 2]
    for seen in ([2, 2, 2], [1, 2], [1, 2, 3], [2, 1, 2]):
        with pytest.raises(ValueError, match=r"^\$.*: .*(seen|entries)"):
            RunResult.from_json(good | {"evaluations": run_results.evaluated([40, 80, 100], seen)})


def test_long_names_of_rows_have_several_lines_in_plain_text_alone():
    name = ", ".join(["benchmark.path=/somewhere"] * 9)
    table = tables.Table("", tables.make_frame(["run", "x"], [[name, 1.0], ["a/" * 50, 2.0]]))
    lines = tables.render(table).splitlines()
    long = [line for line in lines if "benchmark.path" in line]
    assert " ".join(line[:100].strip() for line in long).removesuffix("1.00").strip() == name
    assert all(len(line[:100].strip()) <= 60 for line in long)
    assert any("a/" * 50 in line for line in lines)  # a path stays whole
    assert name in tables.render(table, "markdown")
