"""Tests which records of a run count for a study."""

import json

import pytest

from tests import run_results
from tests.pretended import call, squeezed, write_results
from ucl_jax.reproduce import probe_requests
from ucl_jax.reproduce.plan import PlannedRun


def test_settings_of_records_are_compared_as_numbers(tmp_path):
    def found(probe, settings, after):
        request = probe_requests.ProbeRequest(PlannedRun("n", tmp_path, "digits", "si", "simsiam", 0), probe, settings)
        return probe_requests.record(run_results.result(analysis=[kept]), request, after)

    settings = {"dataset": "mnist", "train_images": 0, "penalties": [0.1, 1.0]}
    kept = {"probe": "ood", "after": 5, "settings": settings, "values": {}}
    same = {"dataset": "mnist", "train_images": 0, "penalties": (0.1, 1)}
    assert found("ood", same, 5) == run_results.as_record(kept)
    assert found("ood", {"dataset": "mnist"}, 4) is None
    assert found("ood", {"dataset": "mnist", "train_images": 100}, 5) is None
    assert found("linear", {}, 5) is None
    assert found("ood", {"dataset": "mnist", "seed": 0}, 5) is None, "nobody knows with what seed it was made"


@pytest.mark.parametrize(
    "change", [{"points": 5}, {"images": 16}, {"span": 0.5}, {"seed": 1}, {"task": 1}, {"loss": "objective"}]
)
def test_a_record_that_somebody_made_otherwise_is_not_the_studys(fake, capsys, change):
    settings = {"loss": "classifier", "task": 0, "points": 11, "span": 1.0, "images": 256, "seed": 0}
    values = {"steps": [-1.0, 0.0, 1.0], "loss": [[9, 9, 9]] * 3}
    own = [{"probe": "loss_landscape", "after": a, "settings": settings, "values": values} for a in (1, 2)]
    task = [[89.0, None], [86.0, 90.0]]
    arguments = ("landscape", "--objectives=simsiam", "--recipes=lump", "--seeds=1")
    folder = write_results(fake / "runs", "digits", "simsiam", "lump", 0, task, analysis=own)
    assert call(fake, *arguments, "--dry-run") == 0
    assert "probe process" not in squeezed(capsys.readouterr().out)
    results = json.loads((folder / "results.json").read_text())
    for record in results["analysis"]:
        record["settings"] |= change
    (folder / "results.json").write_text(json.dumps(results))
    assert call(fake, *arguments, "--dry-run") == 0
    assert "then 1 probe process (loss_landscape)" in squeezed(capsys.readouterr().out)
    assert call(fake, *arguments, "--format=markdown") == 0
    assert "| the first task | 1 | 1.00 |" in squeezed(capsys.readouterr().out)
    # A study that asks for these settings takes the record.
    changed = [f"--set=loss_landscape.{key}={value}" for key, value in change.items()]
    assert call(fake, *arguments, *changed, "--format=markdown") == 0
    assert "| the first task | 1 | 9.00 |" in squeezed(capsys.readouterr().out)
    assert len((folder / "asked").read_text().splitlines()) == 1


def test_a_comparison_with_a_run_that_has_gone_on_since_is_made_again(tmp_path):
    settings = {"other": "", "images": 1024, "batch_size": 256, "seed": 0}
    values = {"networks": [0, 1, 2], "other_networks": [0, 1]}
    kept = {"probe": "cka", "after": None, "settings": settings, "values": values}
    request = probe_requests.ProbeRequest(PlannedRun("n", tmp_path, "digits", "si", "simsiam", 0), "cka", settings)
    assert probe_requests.record(run_results.result(analysis=[kept]), request, 2) is None
    values["other_networks"] = [0, 1, 2]
    assert probe_requests.record(run_results.result(analysis=[kept]), request, 2) == run_results.as_record(kept)
