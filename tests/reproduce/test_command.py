"""Tests the command: the plan, what is run and refused, and interruptions.

Processes are real, but they only pretend to train and to probe, except in one test at the end.
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import quick, tiny
from tests.pretended import SMALL, call, config_of, files, squeezed, start, wait_for, write_results
from ucl_jax.reproduce import __main__ as reproduce
from ucl_jax.reproduce import studies


def test_a_dry_run_tells_the_plan_and_touches_nothing(fake, capsys):
    assert call(fake, "table1", "--objectives=simsiam,supervised", "--seeds=2", "--recipes=all", "--dry-run") == 0
    told = squeezed(capsys.readouterr().out)
    named = re.findall(r"^  digits/(\S+): missing$", told, flags=re.MULTILINE)
    rows = [f"{r}-simsiam" for r in ("finetune", "si", "der", "lump", "multitask", "pnn")]
    rows += [f"{r}-supervised" for r in ("finetune", "si", "agem", "gss", "der", "multitask", "pnn")]
    more = [f"{recipe}-{o}" for o in ("simsiam", "supervised") for recipe in studies.EXTRA_ROWS[o]]
    # The paper's rows come first, and all rows of a seed before the next seed.
    assert named == [f"{row}-seed{seed}" for part in (rows, more) for seed in (0, 1) for row in part]
    assert f"{len(named)} runs: 0 finished, {len(named)} to run" in told
    assert not (fake / "runs").exists()


def test_planning_needs_no_jax():
    heavy = "{'jax', 'matplotlib', 'flax', 'pandas', 'pydantic'}"
    code = f"import sys, ucl_jax.reproduce.__main__; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_study_runs_what_is_missing_and_nothing_twice(fake, capfd):
    assert call(fake, *SMALL) == 0
    told = capfd.readouterr().out
    assert "4 runs: 0 finished, 4 to run, 2 at a time" in told
    assert re.search(r"\[1/4\] digits/\S+-seed0: done; left: about \d+ s", told)
    assert "[4/4] digits/" in told
    runs = fake / "runs/digits"
    assert {path.name for path in runs.iterdir()} == {
        f"{r}-simsiam-seed{s}" for r in ("finetune", "si") for s in (0, 1)
    }
    command = (runs / "si-simsiam-seed1/output.txt").read_text().splitlines()[0]
    assert command.startswith("$ ")
    assert command.endswith(f"train.py --config=si:digits,simsiam --config.seed=1 --workdir={runs}/si-simsiam-seed1")
    before = files(fake, "table1")
    assert call(fake, *SMALL) == 0
    assert "4 runs: 4 finished, 0 to run" in capfd.readouterr().out
    assert files(fake, "table1") == before
    assert (runs / "si-simsiam-seed1/starts").read_text() == "0\n"
    # Another study uses the same runs, and trains only those that are missing.
    assert call(fake, "landscape", "--objectives=simsiam", "--seeds=2", "--dry-run") == 0
    assert "6 runs: 4 finished, 2 to run" in capfd.readouterr().out


def test_runs_of_other_settings_are_refused_before_anything_starts(fake, capsys):
    folder = write_results(fake / "runs", "digits", "simsiam", "si", 1, [[89.0, None], [86.0, 90.0]])
    assert call(fake, *SMALL, "--override=train.epochs=2") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"error: {folder} holds a run with other settings: train.epochs (40 there, 2 here)" in error
    assert "--root" in error
    assert sorted(path.name for path in (fake / "runs/digits").iterdir()) == ["si-simsiam-seed1"]
    # Settings of the log change no number, so they may differ.
    assert call(fake, *SMALL, "--override=log.tensorboard=False") == 0


def test_a_run_killed_in_its_first_task_is_refused_too(fake, capsys):
    folder = fake / "runs/digits/finetune-simsiam-seed0"
    folder.mkdir(parents=True)
    assert call(fake, *SMALL, "--override=train.epochs=2", "--dry-run") == 0  # an empty folder has nothing to lose
    (folder / "config.json").write_text(json.dumps(config_of("finetune", "digits,simsiam")))
    assert call(fake, *SMALL, "--dry-run") == 0
    assert "finetune-simsiam-seed0: unfinished" in squeezed(capsys.readouterr().out)
    assert call(fake, *SMALL, "--override=train.epochs=2", "--dry-run") == 2
    assert f"{folder} holds a run with other settings: train.epochs (40 there, 2 here)" in capsys.readouterr().err
    # The config says what a run is, not what it printed.
    (folder / "output.txt").write_text("$ python launch.py --config=configs/si.py:digits,simsiam --config.seed=9\n")
    assert call(fake, *SMALL, "--dry-run") == 0


def test_a_failing_run_is_told_and_the_others_go_on(fake, capfd):
    assert call(fake, *SMALL, "--override=train.weight_decay=0.25") == 1
    told = capfd.readouterr().out
    output = fake / "runs/digits/si-simsiam-seed0/output.txt"
    assert "digits/si-simsiam-seed0: FAILED, exit code 2" in told
    assert f"failed: digits/si-simsiam-seed0: error: no luck with si (see {output})" in told
    assert "2 of 4 runs are not finished." in told
    table = json.loads((fake / "runs/table1-digits.json").read_text())
    assert [(row["recipe"], row["seeds"]) for row in table["rows"]] == [("finetune", [0, 1])]


def test_killed_and_started_again_it_makes_the_same_files(fake):
    assert start(fake, *SMALL, root="undisturbed").wait(60) == 0
    killed = start(fake, *SMALL, steps=2000, saving=60)
    starts = fake / "runs/digits/finetune-simsiam-seed0/starts"
    wait_for(starts)
    time.sleep(0.2)
    killed.kill()
    killed.wait()
    # It starts at once, while the runs, which end with their parent, still save and hold their locks.
    again = start(fake, *SMALL, steps=40)
    wait_for(fake / "told.txt", "digits/finetune-simsiam-seed0 waits for another process", seconds=60)
    (fake / "saved").touch()
    assert again.wait(60) == 0
    first, second = map(int, starts.read_text().split())
    assert first == 0
    assert 0 < second < 2000, "it went on"
    assert files(fake, "table1") == files(fake, "table1", root="undisturbed")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_once_all_is_saved(fake, signum):
    process = start(fake, *SMALL, steps=2000, saving=0.3)
    runs = [fake / f"runs/digits/{recipe}-simsiam-seed0" for recipe in ("finetune", "si")]
    for run in runs:
        wait_for(run / "starts")
    process.send_signal(signum)
    assert process.wait(20) == 128 + signum
    told = (fake / "told.txt").read_text()
    assert f"stopped by {signum.name}" in told
    for run in runs:
        assert int((run / "state").read_text()) > 0
    assert not (fake / "runs/digits/si-simsiam-seed1").exists()


def test_the_script_for_slurm(fake, capsys):
    write_results(fake / "runs", "digits", "simsiam", "si", 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, *SMALL, "--slurm", "--override=train.epochs=2") == 2  # the finished run has other settings
    assert call(fake, *SMALL, "--slurm") == 0
    told = squeezed(capsys.readouterr().out)
    script = fake / "runs/reproduce-table1.sh"
    assert f"sbatch {script}" in told
    text = script.read_text()
    assert "#SBATCH --array=0-2%2\n" in text
    assert call(fake, *SMALL[:-1], "--slurm") == 0
    assert "#SBATCH --array=0-2\n" in script.read_text(), "the cores of this machine say nothing about the cluster"
    assert "#SBATCH --gres=gpu:1\n" in text
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert not (fake / "runs/digits/finetune-simsiam-seed0").exists(), "it runs nothing"
    # An index of the array is one of the missing runs.
    assert subprocess.run(["bash", script], env=os.environ | {"SLURM_ARRAY_TASK_ID": "1"}).returncode == 0
    folder = fake / "runs/digits/finetune-simsiam-seed1"
    assert (folder / "results.json").exists()
    assert (folder / "output.txt").read_text().splitlines()[1].startswith("pretending")
    assert {path.name for path in (fake / "runs/digits").iterdir()} == {"si-simsiam-seed0", folder.name}


def test_saved_results_count_and_new_ones_are_kept(fake, capfd):
    kept = fake / "kept"
    first = ("table1", "--objectives=simsiam", "--recipes=finetune", "--seeds=1", f"--save={kept}")
    assert call(fake, *first, root="elsewhere") == 0
    assert [path.name for path in kept.iterdir()] == ["finetune-simsiam-seed0.json"]
    assert call(fake, *SMALL, f"--save={kept}") == 0
    told = capfd.readouterr().out
    assert "4 runs: 1 finished, 3 to run" in told
    assert not (fake / "runs/digits/finetune-simsiam-seed0").exists()
    assert len(list(kept.iterdir())) == 4
    assert json.loads((fake / "runs/table1-digits.json").read_text())["rows"][0]["seeds"] == [0, 1]
    assert call(fake, *SMALL, f"--save={kept}", "--override=train.epochs=2") == 2
    assert f"{kept / 'finetune-simsiam-seed0.json'} holds a run with other settings" in capfd.readouterr().err


def test_a_plan_counts_the_probe_processes(fake, capsys):
    arguments = ("cka", "--seeds=2", "--jobs=2")
    for model in ("finetune-simsiam", "lump-simsiam"):
        write_results(fake / "runs", "digits", *reversed(model.split("-")), 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, *arguments, "--dry-run") == 0
    # Each of two seeds has four runs, which are compared with themselves, and three pairs. Two runs are finished.
    assert "then 14 probe processes (cka)" in squeezed(capsys.readouterr().out)
    assert call(fake, *arguments) == 0
    assert call(fake, *arguments, "--dry-run") == 0
    assert "probe process" not in capsys.readouterr().out.rpartition("cka on digits, in")[2]
    assert call(fake, "table1", "--seeds=1", "--dry-run") == 0
    assert "probe process" not in squeezed(capsys.readouterr().out)


def test_a_table_for_another_program_is_all_that_stdout_has(fake, capsys):
    write_results(fake / "runs", "digits", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])
    arguments = ("table1", "--objectives=simsiam", "--recipes=lump", "--seeds=1")
    assert call(fake, *arguments, "--format=latex") == 0
    printed, told = capsys.readouterr()
    first, *_, row, _, last = printed.splitlines()
    assert (first, last) == (r"\begin{tabular}{llrrrrr}", r"\end{tabular}")
    assert squeezed(row).strip() == r"simsiam & lump & 1 & 88.00 & 3.00 & 40.00 & 20.00 \\"
    assert "1 finished, 0 to run" in told
    assert "Table 1 on digits" in told
    assert call(fake, *arguments, "--format=csv") == 0
    assert len(list(csv.reader(capsys.readouterr().out.splitlines()))) == 2


def test_the_printed_table_leaves_out_empty_columns(fake, capsys):
    """Checks that a terminal shows no empty columns and few lines of files, while the saved table has all columns."""
    write_results(fake / "runs", "digits", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])
    assert call(fake, "table1", "--objectives=simsiam", "--recipes=lump", "--seeds=1") == 0
    table, _, end = capsys.readouterr().out.partition("Table 1 on digits\n\n")[2].partition("\n\n")
    assert table.splitlines()[-1].split() == ["simsiam", "lump", "1", "88.00", "3.00", "40.00", "20.00"]
    assert end.endswith(f"\n  {fake}/runs/table1-digits.md, .csv, .json\n")
    assert max(map(len, end.splitlines()[:-1])) <= 120
    assert " | 88.00 | - | - | - | 3.00 | - | - | - | " in squeezed((fake / "runs/table1-digits.md").read_text())


def test_a_failing_probe_is_told(fake, capfd):
    (fake / "probe.py").write_text("import sys; print('error: no network kept'); sys.exit(2)")
    assert call(fake, "landscape", "--objectives=supervised", "--recipes=si", "--seeds=1") == 1
    told = capfd.readouterr().out
    assert "failed: loss_landscape of digits/si-supervised-seed0: error: no network kept (see " in told
    assert "landscape-digits.md" in told


def test_results_with_a_number_that_is_not_finite_are_refused(fake, capsys):
    folder = write_results(fake / "runs", "digits", "simsiam", "lump", 0, [[89.0, None], [86.0, 90.0]])
    path = folder / "results.json"
    path.write_text(path.read_text().replace("86.0", "NaN"))
    assert call(fake, "table1", "--objectives=simsiam", "--seeds=1", "--recipes=lump") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert not (fake / "runs/table1-digits.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table3"], "unknown study 'table3', did you mean 'table2'? known: table1"),
        ([], "the following arguments are required: study"),
        (["table1", "--benchmarks=cifar"], "unknown benchmark 'cifar'"),
        (["table1", "--objectives=simsam"], "did you mean 'simsiam'?"),
        (["table1", "--recipes=lumb"], "unknown recipe 'lumb', did you mean 'lump'?"),
        (["table1", "--recipes=gss", "--objectives=barlow_twins"], "--recipes=gss leaves no run"),
        (["table1", "--seeds=0"], "--seeds is 0; it must be a whole number from 1 to 1000"),
        (["table1", f"--seeds={10**30}"], "it must be a whole number from 1 to 1000"),
        (["table1", "--jobs=many"], "--jobs is 'many'; it must be a whole number"),
        (["table1", "--jobs=²"], "--jobs is '²'; it must be a whole number"),
        (["table1", "--format=html"], "unknown format 'html'"),
        (["table1", "--override=train.epochs"], "--override=train.epochs is not KEY=VALUE"),
        (["table1", "--override=seed=3"], "seed is what the study varies"),
        (["fewshot", "--override=benchmark.examples_per_task=9"], "fewshot varies it"),
        (["fewshot", "--override=benchmark.subset_seed=9"], "fewshot varies it"),
        (["fewshot", "--sizes=ten"], "--sizes=ten is not numbers"),
        (["fewshot", "--sizes=²"], "--sizes=² is not numbers"),
        (["fewshot", f"--sizes={'9' * 5000}"], "is not numbers"),
        (["fewshot", "--sizes=5000"], "digits has 288 images a task"),
        (["table2", "--datasets=mnits"], "did you mean 'mnist'?"),
        (["table2", "--set=odd.k=3"], "unknown probe to set 'odd'"),
        (["table2", "--set=ood"], "--set=ood is not PROBE.KEY=VALUE"),
        (["table2", "--set=ood.k="], "--set=ood.k= is not PROBE.KEY=VALUE"),
        (["table2", "--set=ood.train_image=70"], "unknown setting of ood 'train_image', did you mean 'train_images'?"),
        (["table2", "--set=ood.train_images=few"], "ood.train_images is 'few'; it must be a whole number"),
        (["table2", "--set=ood.penalties=1,x"], "ood.penalties is 'x'; it must be a number"),
        (["table2", "--set=ood.temperature=nan"], "ood.temperature is nan; it must be a number"),
        (["table2", f"--set=ood.seed={2**63}"], "ood.seed is 9223372036854775808; it must be a whole number"),
        (["table2", "--set=ood.dataset=mnist"], "the study sets that; see --datasets"),
        (["landscape", "--set=loss_landscape.loss=classifier,objective"], "a study has one loss at a time; give one"),
        (["landscape", "--set=loss_landscape.task=0,1"], "a study has one task at a time; give one"),
        (
            ["landscape", "--set=loss_landscape.loss=clasifier"],
            "'clasifier', did you mean 'classifier'?",
        ),
        (["table2", "--save=x"], "--save is an option of table1 and streams, not of table2"),
        (["table1", "--save=x", "--benchmarks=digits,mnist"], "give one at a time"),
        (["cka", "--recipes=lump"], "leave --recipes out"),
        (["cka", "--seeds=1"], "different seeds: --seeds=1 must be at least 2"),
        (["table1", "--jbos=2"], "unrecognized arguments: --jbos=2"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(arguments, message, fake, capsys, monkeypatch):
    monkeypatch.chdir(fake)  # a command that is not refused would run, and may write only here
    assert reproduce.main([*arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=2", "unknown key '--config.train.epoch', did you mean --config.train.epochs?"),
        ("train=2", "unknown key '--config.train', did you mean --config.train."),
        (f"train.epochs={10**30}", "it must be a whole number from 0 to 1000000"),
        ("train.learning_rate=nan", "config.train.learning_rate is nan; it must be a number"),
        ("augment.std=(1,1)", "config.augment.std is (1, 1); it must be 3 values"),
    ],
)
def test_a_bad_override_is_found_before_anything_starts(override, message, tmp_path, capsys):
    assert reproduce.main(["table1", "--dry-run", f"--override={override}", f"--root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_real_runs_end_with_a_table_and_a_picture(tmp_path):
    """Checks that a real run of digits, shrunk, gives Table 1 and a loss landscape."""
    shrunk = [f"--override={key}={value}" for key, value in tiny.overrides(log__tensorboard=False).items()]
    arguments = ["--objectives=simsiam", "--recipes=finetune", "--seeds=1", "--jobs=1", f"--root={tmp_path / 'runs'}"]
    (tmp_path / "tfds").mkdir()
    arguments += [*shrunk, f"--data_dir={tmp_path / 'tfds'}"]
    done = subprocess.run(
        [sys.executable, "-m", "ucl_jax.reproduce", "landscape", *arguments, "--set=loss_landscape.points=3"],
        cwd=tmp_path,
        env=os.environ | {"XLA_FLAGS": quick.XLA_FLAGS},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "runs/landscape-digits.json").read_text())["rows"]
    assert [(row["recipe"], row["after"]) for row in rows] == [("finetune", "first"), ("finetune", "last")]
    assert (tmp_path / "runs/landscape-digits-figure.png").stat().st_size > 1000
    again = reproduce.main(["table1", *arguments])  # uses the same run
    assert again == 0
    results = json.loads((tmp_path / "runs/digits/finetune-simsiam-seed0/results.json").read_text())
    row = json.loads((tmp_path / "runs/table1-digits.json").read_text())["rows"][0]
    assert row["task"]["accuracy"] == pytest.approx([results["probes"]["knn_task"]["average_accuracy"]])


def test_options_of_other_studies_are_refused(capsys):
    for words, message in (
        (["table1", "--sizes=10"], "--sizes is an option of fewshot, not of table1"),
        (["fewshot", "--datasets=mnist"], "--datasets is an option of table2, not of fewshot"),
        (["landscape", "--set=ood.k=5"], "--set=ood.k: landscape uses loss_landscape, not ood"),
    ):
        assert reproduce.main([*words, "--dry-run"]) == 2
        assert message in capsys.readouterr().err


def test_data_that_is_not_there_is_told_before_any_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:1")  # no network
    words = ["table1", "--benchmarks=cifar10", "--seeds=1", "--recipes=lump", f"--root={tmp_path / 'root'}"]
    (tmp_path / "none").mkdir()
    words.append(f"--data_dir={tmp_path / 'none'}")
    assert reproduce.main([*words, "--dry-run"]) == 0
    assert "note: 'cifar10' is not prepared in" in squeezed(capsys.readouterr().out)
    assert reproduce.main([*words, "--override=benchmark.prepare=False"]) == 2
    assert "'cifar10' is not prepared in" in capsys.readouterr().err
    assert reproduce.main(words) == 2  # it tries
    assert "cannot prepare 'cifar10' in" in capsys.readouterr().err
    assert not list((tmp_path / "root").iterdir())


def test_a_root_that_cannot_be_written_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "root").write_text("a file")
    assert reproduce.main(["table1", "--recipes=lump", "--seeds=1", f"--root={tmp_path / 'root'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot write")
    assert len(error.splitlines()) == 1
