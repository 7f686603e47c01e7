"""Tests tables and figures of studies against numbers worked by hand. Processes only pretend to work."""

import csv
import json
import pathlib

import numpy as np
import pytest

from tests import run_results
from tests.pretended import call, config_of, files, squeezed, write_results
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.reproduce import __main__ as reproduce
from ucl_jax.reproduce import studies
from ucl_jax.results import compare
from ucl_jax.results.paper import DATASETS


def test_table_1_beside_the_paper_by_hand(fake, capsys):
    """Checks that means, deviations and differences from the paper are those worked by hand.

    Finetune with SimSiam on CIFAR-10 is 90.11±0.12 / 5.42±0.08 in the paper, LUMP 91.00±0.40 / 2.92±0.53.
    """
    root = fake / "runs"
    # Last rows (88, 92), (88.2, 92.2), (88.4, 92.4): accuracy 90.0, 90.2, 90.4. The first task began at 93, 94.2, 95.4:
    # forgetting 5, 6, 7.
    for seed in range(3):
        rows = [[93 + 1.2 * seed, None], [88 + 0.2 * seed, 92 + 0.2 * seed]]
        write_results(root, "cifar10", "simsiam", "finetune", seed, rows)
    write_results(root, "cifar10", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])  # accuracy 88, forgetting 3
    arguments = ("table1", "--benchmarks=cifar10", "--objectives=simsiam", "--recipes=finetune,lump", "--jobs=2")
    write_results(root, "cifar10", "simsiam", "lump", 1, [[89.0, None], [86.4, 90.4]])  # accuracy 88.4, forgetting 2.6
    write_results(root, "cifar10", "simsiam", "lump", 2, [[89.0, None], [86.8, 90.8]])  # accuracy 88.8, forgetting 2.2
    assert call(fake, *arguments, "--format=markdown") == 0
    told = squeezed("".join(capsys.readouterr()))
    finetune = (
        "| simsiam | finetune | 3 | 90.20±0.20 | 90.11±0.12 | +0.09 | yes | 6.00±1.00 | 5.42±0.08 | +0.58 | yes "
        "| 40.00±0.00 | 20.00±0.00 |"
    )
    lump = (
        "| simsiam | lump | 3 | 88.40±0.40 | 91.00±0.40 | -2.60 | no | 2.60±0.40 | 2.92±0.53 | -0.32 | yes "
        "| 40.00±0.00 | 20.00±0.00 |"
    )
    assert finetune in told
    assert lump in told
    assert finetune in squeezed((root / "table1-cifar10.md").read_text())
    saved = json.loads((root / "table1-cifar10.json").read_text())
    assert compare.WITHIN in saved["legend"]
    row = saved["rows"][0]
    assert (row["objective"], row["recipe"], row["seeds"]) == ("simsiam", "finetune", [0, 1, 2])
    assert row["task"]["accuracy"] == pytest.approx([90.0, 90.2, 90.4])
    assert row["task"]["forgetting"] == pytest.approx([5.0, 6.0, 7.0])
    assert row["paper"]["accuracy"]["difference"] == pytest.approx(0.09)
    with (root / "table1-cifar10.csv").open() as lines:
        header, first, _ = csv.reader(lines)
    assert len(header) == len(set(header)) == len(first)
    assert first[:5] == ["simsiam", "finetune", "3", "90.20", "0.20"]


def test_what_the_paper_does_not_have_is_a_dash(fake, capsys):
    write_results(fake / "runs", "digits", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, "table1", "--objectives=simsiam", "--recipes=lump", "--seeds=1", "--format=markdown") == 0
    told = squeezed("".join(capsys.readouterr()))
    assert "| simsiam | lump | 1 | 88.00 | - | - | - | 3.00 | - | - | - | 40.00 | 20.00 |" in told


def test_the_table_of_cassles_protocol_by_hand(fake, capsys):
    """Checks means, deviations and what is published: 54.1 by kNN for finetune with Barlow Twins."""
    root = fake / "runs"
    for seed, last in enumerate((58.0, 60.0)):
        folder = root / "cifar100_5x20" / f"finetune-barlow_twins-cassle-seed{seed}"
        folder.mkdir(parents=True)
        online, knn = [[30.0, None], [40.0, last]], [[50.0, None], [40.0, 44.0]]
        probes = {"knn_task": knn, "knn_all": knn, "online_linear": online}
        run_results.save(
            folder / "results.json",
            config=config_of("finetune", "cifar100_5x20,barlow_twins,cassle", f"seed={seed}"),
            probes={name: run_results.probe(rows, random_init=None) for name, rows in probes.items()},
        )
    arguments = ("cassle", "--benchmarks=cifar100_5x20", "--objectives=barlow_twins", "--recipes=finetune", "--seeds=2")
    assert call(fake, *arguments, "--format=markdown") == 0
    told = squeezed("".join(capsys.readouterr()))
    assert "| barlow_twins | finetune | 2 | 49.50±0.71 | 42.00±0.00 | - | 54.10 | Marczak |" in told
    (row,) = json.loads((root / "cassle-cifar100_5x20.json").read_text())["rows"]
    assert row["accuracy"]["online_linear"] == [49.0, 50.0]
    assert row["published"] == [{"accuracy": 54.1, "by": "knn", "source": "Marczak"}]


def test_the_table_of_streams_by_hand(fake, capsys):
    """Checks the end and the average of rows of one, two and two tasks seen, and that streams are told apart."""
    root = fake / "runs"
    for stream, last in (("cla", 58.0), ("scale_blurred", 68.0)):
        for seed in range(2):
            folder = root / "cifar10_16px" / f"er-simsiam-{stream}-seed{seed}"
            folder.mkdir(parents=True)
            rows = [[50.0, None], [40.0, 50.0], [44.0, last + 2 * seed]]
            run_results.save(
                folder / "results.json",
                config=config_of("er", f"cifar10_16px,simsiam,ucl,{stream}", f"seed={seed}"),
                probes=dict.fromkeys(studies.KNN_PROBES, run_results.probe(rows, random_init=(60.0 + 2 * seed, 70.0))),
                evaluations=run_results.evaluated((8, 16, 24), (1, 2, 2), samples=6),
            )
    arguments = ("streams", "--benchmarks=cifar10_16px", "--objectives=simsiam", "--recipes=er", "--seeds=2")
    assert call(fake, *arguments, "--format=markdown", f"--save={fake / 'kept'}") == 0
    told = squeezed("".join(capsys.readouterr()))
    # The end is (44 + 58) / 2 = 51, then 52; the average (50 + 45 + 51) / 3 = 48.67, then 49. A blurred one has 5 more.
    one, other = "51.50±0.71 | 48.83±0.24", "56.50±0.71 | 50.50±0.24"
    assert f"| simsiam | cla | er | 2 | {one} | {one} | 24 | 144 |" in told
    assert f"| simsiam | scale_blurred | er | 2 | {other} | {other} | 24 | 144 |" in told
    assert "| simsiam | cla | untrained network | 2 | 65.50±0.71 | - | 65.50±0.71 | - | - | - |" in told
    assert "kNN within the task 65.50±0.71 (chance 50.00), kNN over all" in " ".join(told.split())  # untrained
    saved = json.loads((root / "streams-cifar10_16px.json").read_text())["rows"]
    assert [(row["stream"], row["accuracy"]["knn_all"]["end"]) for row in saved[:2]] == [
        ("cla", [51.0, 52.0]),
        ("scale_blurred", [56.0, 57.0]),
    ]
    kept = {path.name for path in (fake / "kept").iterdir()}
    assert {"er-simsiam-cla-seed0.json", "er-simsiam-scale_blurred-seed1.json"} <= kept


def test_few_shot_by_hand(fake, capsys):
    """Checks that few-shot numbers are those worked by hand.

    The pretended accuracy is (first - 6 + first + 2) / 2 with first = 90 + seed + images / 100, where "all" counts as
    400.
    """
    arguments = ("fewshot", "--objectives=simsiam", "--recipes=lump", "--seeds=2", "--sizes=50,200,all", "--jobs=2")
    assert call(fake, *arguments, "--format=markdown") == 0
    told = squeezed("".join(capsys.readouterr()))
    assert "| objective | recipe | n | A, 50 | A, 200 | A, all (288) | lost | F, 50 | F, 200 | F, all (288) |" in told
    values = [np.array([88.0, 89.0]) + images / 100 for images in (50, 200, 400)]
    shown = [f"{v.mean():.2f}±{v.std(ddof=1):.2f}" for v in values]
    assert f"| simsiam | lump | 2 | {' | '.join(shown)} | 3.50 | 6.00±0.00 | 6.00±0.00 | 6.00±0.00 |" in told
    assert "unsupervised rows: 3.50" in told
    command = (fake / "runs/digits/lump-simsiam-seed1-examples50/output.txt").read_text()
    assert "--config.benchmark.examples_per_task=50 --config.benchmark.subset_seed=-1 " in command
    whole = (fake / "runs/digits/lump-simsiam-seed1/output.txt").read_text()
    assert "subset_seed" not in whole
    assert {"fewshot-digits-figure.png", "fewshot-digits-figure.svg"} < files(fake, "fewshot").keys()
    page = (fake / "runs/fewshot-digits.md").read_text()
    assert page.endswith("\n\n![Few-shot training, digits](fewshot-digits-figure.png)\n")
    points = json.loads((fake / "runs/fewshot-digits.json").read_text())["rows"][0]["points"]
    assert [point["images"] for point in points] == [50, 200, 288]
    assert points[0]["accuracy"] == pytest.approx([88.5, 89.5])
    # The runs on all images are the same as those of Table 1.
    assert call(fake, "table1", "--objectives=simsiam", "--recipes=lump", "--seeds=2", "--dry-run") == 0
    assert "2 runs: 2 finished" in squeezed("".join(capsys.readouterr()))


def test_images_a_task_are_those_of_the_data_sets():
    training = {"digits": 1442, "mnist": 60000, "fashion_mnist": 60000, "cifar10": 50000, "cifar100": 50000}
    training |= {"svhn_cropped": 73257, "tiny_imagenet": 100 * 500}  # half of its 200 classes
    training |= {"cifar10_16px": 50000 * 0.4, "cifar100_16px": 50000 * 0.4}
    training |= dict.fromkeys(("cifar100_5x20", "cifar100_10x10", "cifar100_data5"), 50000)
    for name, images in training.items():
        assert BENCHMARKS[name].images_per_task == round(images / BENCHMARKS[name].num_tasks)


OOD = (
    "ood.k=run ood.temperature=0.1 "
    "ood.penalties=0.0001,0.001,0.01,0.1,1.0,10.0,100.0,1000.0,10000.0,100000.0 ood.seed=0"
)


def test_table_2_asks_probes_once_and_compares(fake, capsys):
    """Checks that table 2 requests each probe once, and shows it beside the paper.

    Finetune with SimSiam on CIFAR-10 has 89.23±0.99 on MNIST and 80.05±0.34 on Fashion-MNIST in the paper.
    """
    arguments = ("table2", "--benchmarks=cifar10", "--objectives=simsiam", "--recipes=finetune", "--seeds=2")
    arguments += ("--datasets=mnist,fashion_mnist", "--format=markdown", "--jobs=2")
    assert call(fake, *arguments) == 0
    told = squeezed("".join(capsys.readouterr()))
    # The pretended accuracy is 80 + seed on the first data set and 5 more on the second.
    assert (
        "| simsiam | finetune | 2 | 80.50±0.71 | 89.23±0.99 | -8.73 | no | 85.50±0.71 | 80.05±0.34 | +5.45 | no |"
        in told
    )
    assert "mnist 10.00, fashion_mnist 10.00" in told
    assert "mnist 7000 and 300, fashion_mnist 7000 and 301" in told
    asked = fake / "runs/cifar10/finetune-simsiam-seed0/asked"
    lines = asked.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0] == f"ood 2 ood.dataset=mnist,fashion_mnist ood.train_images=0 ood.test_images=0 {OOD}"
    before = files(fake, "table2")
    assert call(fake, *arguments) == 0
    assert files(fake, "table2") == before
    assert call(fake, *arguments, "--datasets=mnist,svhn_cropped") == 0
    assert asked.read_text().splitlines()[1].startswith("ood 2 ood.dataset=svhn_cropped "), "only what is not there"


def test_table_2_on_digits_takes_some_images_only(fake, capsys):
    arguments = ("table2", "--objectives=simsiam", "--recipes=finetune", "--seeds=1", "--datasets=mnist")
    assert call(fake, *arguments) == 0
    assert "mnist 5000 and 300" in squeezed("".join(capsys.readouterr()))
    asked = fake / "runs/digits/finetune-simsiam-seed0/asked"
    assert asked.read_text() == f"ood 2 ood.dataset=mnist ood.train_images=5000 ood.test_images=1000 {OOD}\n"
    assert call(fake, *arguments, "--set=ood.train_images=70") == 0
    told = squeezed("".join(capsys.readouterr()))
    assert "mnist 70 and 300" in told
    assert "ood.train_images=70" in told


def test_table_2_takes_the_data_sets_that_are_prepared(fake, capsys):
    (fake / "data/mnist/3.0.1").mkdir(parents=True)
    assert call(fake, "table2", f"--data_dir={fake / 'data'}", "--dry-run") == 2
    assert ", ".join(DATASETS) in capsys.readouterr().err
    info = fake / "data/mnist/3.0.1/dataset_info.json"
    info.write_text("{}")  # a preparation that was stopped leaves this
    assert call(fake, "table2", f"--data_dir={fake / 'data'}", "--dry-run") == 2
    info.write_text(json.dumps({"name": "mnist", "version": "3.0.1", "fileFormat": "array_record"}))
    kind = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    features = {"pythonClassName": kind, "featuresDict": {"features": {}}}
    (fake / "data/mnist/3.0.1/features.json").write_text(json.dumps(features))
    options = reproduce.parse(["table2", f"--data_dir={fake / 'data'}"]).options
    assert studies.datasets(options, "digits") == ["mnist"]
    assert options.overrides == (("data_dir", str(fake / "data")),)


def test_cka_compares_runs_of_different_seeds(fake, capsys):
    """Checks that CKA compares seed 0 with 1, 1 with 2 and 2 with 0 of three, and 0 with 1 and 1 with 0 of two."""

    def compared(seeds):
        options = reproduce.parse(["cka", "--objectives=simsiam", f"--seeds={seeds}", f"--root={fake}"]).options
        found = studies.STUDIES["cka"].requests(options, studies.STUDIES["cka"].plan(options, "digits"))
        return [(each.run.name, pathlib.Path(each.settings["other"]).name) for each in found if each.settings["other"]]

    names = [(f"finetune-simsiam-seed{a}", f"lump-simsiam-seed{b}") for a, b in ((0, 1), (1, 2), (2, 0))]
    assert compared(3) == names
    assert compared(2) == [names[0], ("finetune-simsiam-seed1", "lump-simsiam-seed0")]

    arguments = ("cka", "--seeds=2", "--jobs=2", "--format=markdown")
    assert call(fake, *arguments) == 0
    told = squeezed("".join(capsys.readouterr()))
    # The pretended CKA of the last networks is 0.5 + 0.1 seed, their distance 5 + seed.
    similar = " | ".join(["0.55±0.07"] * 5)
    for words in (
        "UCL-UCL, simsiam | finetune, simsiam | lump, simsiam",
        "SCL-SCL | finetune, supervised | si, supervised",
        "UCL-SCL, simsiam | lump, simsiam | finetune, supervised",
    ):
        assert f"| {words} | 2 | {similar} | 5.50±0.71 |" in told
    asked = (fake / "runs/digits/lump-simsiam-seed1/asked").read_text().splitlines()
    rest = "cka.images=1024 cka.batch_size=256 cka.seed=0"
    assert asked == [f"cka 2 {rest}", f"cka 2 cka.other={fake}/runs/digits/finetune-supervised-seed0 {rest}"]
    page = (fake / "runs/cka-digits.md").read_text()
    title = "Linear CKA on digits: last networks of two runs; last and after t tasks"
    assert page.endswith(f"\n\n![{title}](cka-digits-figure.png)\n")
    row = json.loads((fake / "runs/cka-digits.json").read_text())["rows"][0]
    assert (row["l2"], row["seeds"], row["second_seeds"]) == ([5.0, 6.0], [0, 1], [1, 0])
    figure = json.loads((fake / "runs/cka-digits-figure.json").read_text())["panels"]
    assert figure["two runs"]["values"][0] == pytest.approx([0.55] * 5)
    own = figure["lump, simsiam"]
    assert own["columns"] == ["t=0", "t=1", "t=2"]
    assert own["values"][4] == pytest.approx([0.25, 0.125, 0.5])
    before = files(fake, "cka")
    (fake / "runs").rename(fake / "moved")  # a folder of runs may be moved
    assert call(fake, *arguments, root="moved") == 0
    assert files(fake, "cka", root="moved") == before
    assert len((fake / "moved/digits/lump-simsiam-seed1/asked").read_text().splitlines()) == 2


def test_the_landscape_after_the_first_and_the_last_task(fake, capsys):
    arguments = ("landscape", "--objectives=supervised", "--recipes=si", "--seeds=2", "--format=markdown")
    assert call(fake, *arguments) == 0
    told = squeezed("".join(capsys.readouterr()))
    # The pretended loss is `after` + seed at the centre, and the other eight points sum to 23.
    first, last = (np.array([after, after + 1.0]) for after in (1, 2))
    for word, centre in (("first", first), ("last", last)):
        mean = (23 + centre) / 9
        assert (
            f"| supervised | si | the {word} task | 2 | {centre.mean():.2f}±0.71 | {mean.mean():.2f}±0.08 | 6.00±0.00 |"
            in told
        )
    asked = (fake / "runs/digits/si-supervised-seed0/asked").read_text().splitlines()
    values = {"loss": "classifier", "task": 0, "points": 11, "span": 1.0, "images": 256, "seed": 0}
    told = " ".join(f"loss_landscape.{key}={value}" for key, value in values.items())
    assert asked == [f"loss_landscape 1,2 {told}"]
    panels = json.loads((fake / "runs/landscape-digits-figure.json").read_text())["panels"]
    assert list(panels) == ["si, supervised, after task 1", "si, supervised, after task 2"]


def test_values_that_are_not_finite_are_dashes(fake, capsys):
    landscape = {"steps": [-1.0, 0.0, 1.0], "loss": [[None, 2, 3], [2, 1, 2], [3, 2, 6]]}
    settings = {"loss": "classifier", "task": 0, "points": 11, "span": 1.0, "images": 256, "seed": 0}
    records = [{"probe": "loss_landscape", "after": a, "settings": settings, "values": landscape} for a in (1, 2)]
    cka = {s: [[0.5]] for s in ("stem", "stage1", "stage2", "stage3")} | {"stage4": [[None]]}
    values = {"networks": [2], "other_networks": [2], "cka": cka, "l2": [[None]]}
    runs = fake / "runs"
    for recipe, other in (("finetune", "lump"), ("lump", "finetune")):
        for seed in (0, 1):
            own_settings = {"other": "", "images": 1024, "batch_size": 256, "seed": 0}
            own = {"probe": "cka", "after": None, "settings": own_settings, "values": values}
            near = own | {"settings": own_settings | {"other": f"digits/{other}-simsiam-seed{1 - seed}"}}
            task = [[89.0, None], [86.0, 90.0]]
            write_results(runs, "digits", "simsiam", recipe, seed, task, analysis=[*records, near, own])
    assert call(fake, "cka", "--objectives=simsiam", "--seeds=2", "--format=markdown") == 0
    half = "0.50±0.00"
    assert f"| lump, simsiam | 2 | {half} | {half} | {half} | {half} | - | - |" in squeezed(
        "".join(capsys.readouterr())
    )
    figure = json.loads((runs / "cka-digits-figure.json").read_text())["panels"]
    assert figure["two runs"]["values"] == [[0.5, 0.5, 0.5, 0.5, None]]
    assert call(fake, "landscape", "--objectives=simsiam", "--seeds=1", "--recipes=lump", "--format=markdown") == 0
    assert "| simsiam | lump | the last task | 1 | 1.00 | - | - |" in squeezed("".join(capsys.readouterr()))


def test_cka_waits_for_both_runs(fake, capfd):
    """Checks that a pair is compared only once both runs are finished, whatever an unfinished run has saved."""
    arguments = ("cka", "--objectives=supervised", "--seeds=2", "--jobs=1")
    assert call(fake, *arguments, "--override=train.weight_decay=0.25") == 1  # si fails, finetune finishes
    folder = fake / "runs/digits/finetune-supervised-seed0"
    assert [line.split()[2][:9] for line in (folder / "asked").read_text().splitlines()] == ["cka.image"]
    assert call(fake, *arguments, "--override=train.weight_decay=0.25", "--dry-run") == 0
    assert "then 4 probe processes (cka)" in capfd.readouterr().out
    for seed in (0, 1):
        si = json.loads((fake / f"runs/digits/finetune-supervised-seed{seed}/results.json").read_text())
        si["config"] = config_of("si", "digits,supervised", f"seed={seed}", "train.weight_decay=0.25")
        (fake / f"runs/digits/si-supervised-seed{seed}/results.json").write_text(json.dumps(si))
    assert call(fake, *arguments, "--override=train.weight_decay=0.25") == 0
    assert len((folder / "asked").read_text().splitlines()) == 2
    assert call(fake, *arguments, "--override=train.weight_decay=0.25", "--dry-run") == 0
    assert "probe process" not in capfd.readouterr().out.rpartition("cka on digits, in")[2]


def test_what_was_lost_is_told_of_seeds_that_have_both(fake, capsys):
    """Checks that the loss of few-shot training is computed only from seeds that have both sizes.

    Seed 1 is finished only on all images: its difference from seed 0 would be taken for a loss.
    """
    arguments = ("fewshot", "--objectives=simsiam", "--recipes=lump", "--seeds=2", "--sizes=50,all", "--jobs=1")
    assert call(fake, *arguments) == 0
    missing = fake / "runs/digits/lump-simsiam-seed1-examples50"
    (missing / "results.json").unlink()
    (fake / "train.py").write_text("import sys; sys.exit('error: no luck')")
    assert call(fake, *arguments) == 1
    row = json.loads((fake / "runs/fewshot-digits.json").read_text())["rows"][0]
    assert [point["seeds"] for point in row["points"]] == [[0], [0, 1]]
    assert row["lost"] == pytest.approx(3.5)
    assert "unsupervised rows: 3.50" in squeezed("".join(capsys.readouterr()))


def test_what_the_paper_does_not_have_is_not_in_the_mean_beside_its_number(fake, capsys):
    """Checks that supervised LUMP, which the paper lacks, has a row, and that the mean is of finetune and DER alone."""
    arguments = ("fewshot", "--objectives=supervised", "--seeds=1", "--sizes=50,all", "--format=markdown", "--jobs=2")
    assert call(fake, *arguments) == 0
    path = fake / "runs/digits/lump-supervised-seed0/results.json"
    results = json.loads(path.read_text())
    results["probes"]["knn_task"]["matrix"][-1] = [99.0, 99.0]
    path.write_text(json.dumps(results))
    capsys.readouterr()
    assert call(fake, *arguments) == 0
    told = squeezed("".join(capsys.readouterr()))
    rows = json.loads((fake / "runs/fewshot-digits.json").read_text())["rows"]
    assert {row["recipe"]: row["lost"] for row in rows} == pytest.approx({"finetune": 3.5, "der": 3.5, "lump": 10.5})
    assert "supervised rows: 3.50" in told
    assert "lump (supervised)" in told
