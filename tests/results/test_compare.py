"""Tests how runs are compared with each other and with the paper."""

import pytest

from tests import run_results
from ucl_jax.results import compare, tables
from ucl_jax.results.paper import Value


def test_within_the_spread_is_decided_in_one_place():
    paper = Value(90.0, 0.5)
    assert compare.compare_with_paper([90.5], paper).within
    assert not compare.compare_with_paper([90.51], paper).within
    # Runs of 91 and 92 have the mean 91.5 and the deviation sqrt(0.5). 1.5 exceeds 0.5 + 0.707, but not 0.8 + 0.707.
    assert not compare.compare_with_paper([91.0, 92.0], paper).within
    assert compare.compare_with_paper([91.0, 92.0], Value(90.0, 0.8)).within
    assert compare.compare_with_paper([None], paper) is None
    assert compare.compare_with_paper([90.0], None) is None


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged():
    runs = [run_results.result(seed=seed, settings={"train.epochs": 40}) for seed in (0, 1)]
    compare.require_same_config(runs)
    runs.append(run_results.result(seed=2, settings={"train.epochs": 60}))
    with pytest.raises(ValueError, match=r"runs of lump .* differ in train\.epochs \(40, 40, 60\)"):
        compare.require_same_config(runs, {"train.batch_size"})
    compare.require_same_config(runs, {"train.epochs"})


def names(pairs):
    return [(group.recipe, baseline and baseline.recipe) for group, baseline in pairs]


def test_a_group_is_compared_with_finetune_of_the_same_images_and_settings():
    made = run_results.result
    lump = [made("lump", settings={"train.epochs": 5}), made("lump", settings={"train.epochs": 10})]
    finetune = [made("finetune", settings={"train.epochs": epochs}) for epochs in (5, 10)]
    epochs = [f"train.epochs={number}" for number in (5, 10)]
    assert names(compare.baselines(compare.groups_of([*lump, *finetune]))) == [
        (f"lump, {epochs[0]}", None),
        (f"lump, {epochs[0]}", f"finetune, {epochs[0]}"),
        (f"lump, {epochs[1]}", None),
        (f"lump, {epochs[1]}", f"finetune, {epochs[1]}"),
        (f"finetune, {epochs[0]}", None),
        (f"finetune, {epochs[1]}", None),
    ]
    # Joint training learns the same images; another stream, benchmark or objective is something else.
    joint = made("multitask", [[80.0, 90.0]], joint=True)
    others = [made("er", settings={"stream.blur": 0.5}), made("der", benchmark="mnist"), made("si", objective="byol")]
    plain = made("finetune", settings={"stream.blur": 0.0})
    found = names(compare.baselines(compare.groups_of([joint, *others, plain])))
    assert [pair for pair in found if pair[1]] == [("multitask", "finetune")]


def test_another_recipe_or_one_setting_of_it_is_compared_with():
    made = run_results.result
    sizes = [{"method.buffer_size": size} for size in (64, 256)]
    groups = compare.groups_of(
        [made("lump", settings=sizes[1]), *(made("er", settings=own) for own in sizes), made("si"), made("finetune")]
    )
    small, large = (f"er, method.buffer_size={size}" for size in (64, 256))
    assert compare.baseline_names(groups) == ["er", large, small, "finetune", "lump", "si"]
    # The recipe: with the group's setting, if it has one. One setting of it: for every group, whatever its own is.
    found = names(compare.baselines(groups, "er"))
    assert [pair for pair in found if pair[1]] == [
        ("lump", large),
        *((g, s) for g in ("si", "finetune") for s in (small, large)),
    ]
    found = names(compare.baselines(groups, small))
    assert [pair for pair in found if pair[1]] == [(name, small) for name in ("lump", large, "si", "finetune")]


def test_joint_training_over_a_stream_is_a_stream():
    row = [80.0, 90.0]
    probes = {name: run_results.probe([row, row]) for name in ("knn_task", "knn_all")}
    often = run_results.result(joint=True, probes=probes, evaluations=run_results.evaluated((8, 16), (2, 2)))
    once = run_results.result("multitask", [row], joint=True)
    assert [(run.is_stream, run.only_at_end) for run in (often, once)] == [(True, False), (False, True)]
    places, what = compare.row_places([often])
    assert (places(often), what) == ([8, 16], "images seen")


def test_a_probe_with_a_single_class_to_choose_has_no_accuracy():
    rows = [[100.0, None], [100.0, 100.0]]
    seeds = [
        run_results.result(
            recipe,
            seed=seed,
            probes={
                "knn_task": run_results.probe(rows, chance=100.0, random_init=(100.0, 100.0)),
                "knn_all": run_results.probe([[30.0, None], [20.0, 40.0 + seed]]),
            },
            evaluations=run_results.evaluated((8, 16), (1, 2)),
        )
        for recipe in ("lump", "finetune")
        for seed in range(2)
    ]
    lump, finetune = compare.groups_of(seeds)
    for baseline in (None, finetune):
        assert compare.above(lump, baseline, "knn_task") is None
        assert compare.above(lump, baseline, "knn_all").pairs == 2
    assert compare.stream_scores(lump.runs, "knn_task") == {"end": [None, None], "average": [None, None]}
    assert compare.stream_scores(lump.runs, "knn_all") == {"end": [30.0, 30.5], "average": [30.0, 30.25]}
    table = tables.of_streams(seeds).frame.set_index("recipe")
    assert table["kNN over all classes seen, end"].tolist() == [30.25, 30.25, 65.0]
    assert table["kNN within the task, end"].isna().all()
    assert compare.probes_of(lump.runs) == ["knn_all"]
    assert compare.chance(lump.runs, "knn_task") is None
    alone = run_results.result(probes={name: run_results.probe([[100.0]], 100.0) for name in ("knn_task", "knn_all")})
    assert compare.probes_of([alone]) == ["knn_task", "knn_all"]


def test_what_a_stream_sets_is_not_named_beside_it():
    made = run_results.result
    of_stream = {
        "cla": {"stream.blur": 0.0, "train.batch_size": 32},
        "scale_blurred": {"stream.blur": 0.5, "train.batch_size": 128},
        "tasks": {"stream.blur": 0.0, "train.batch_size": 64},
    }
    runs = {name: made("er", settings={"stream.name": name, **own}) for name, own in of_stream.items()}
    blurred = of_stream["scale_blurred"] | {"stream.name": "scale_blurred"}
    more = [
        made("er", settings=blurred, overrides={"train.batch_size": 16}),
        made("er", settings=blurred | {"method.policy": "fifo"}),  # another recipe of this name
    ]

    def named(*chosen):
        return [group.recipe.removeprefix("er, ") for group in compare.groups_of(chosen)]

    assert named(*runs.values()) == [f"stream.name={name}" for name in runs]
    assert named(runs["cla"], runs["scale_blurred"], more[0]) == [
        "stream.name=cla, train.batch_size=32",
        "stream.name=scale_blurred, train.batch_size=128",
        "stream.name=scale_blurred, train.batch_size=16",
    ]
    assert named(runs["scale_blurred"], more[1]) == ["er", "method.policy=fifo"]
    assert named(runs["cla"], runs["scale_blurred"], more[1])[2] == "method.policy=fifo, stream.name=scale_blurred"
