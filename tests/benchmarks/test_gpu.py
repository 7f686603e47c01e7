"""Tests what of the script for a GPU can be tested without one."""

import pathlib
import re
import subprocess
import sys

from benchmarks.measure import ROOT

SCRIPT = (ROOT / "benchmarks/gpu.sh").read_text()
PROGRAMS = dict(re.findall(r"^([A-Z]+)='\n(.*?)^'$", SCRIPT, re.MULTILINE | re.DOTALL))


def test_the_script_and_its_programs_can_be_read():
    assert PROGRAMS.keys() == {"LOSSES", "PREDICTION"}
    for name, program in PROGRAMS.items():
        compile(program, name, "exec")
    subprocess.run(["bash", "-n", "benchmarks/gpu.sh"], cwd=ROOT, check=True)


def test_the_prediction_stands_beside_what_was_measured():
    measured = pathlib.Path("benchmarks/results/step-h100.json")
    command = [sys.executable, "-c", PROGRAMS["PREDICTION"], measured]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"a step takes 8\.\d\d ms; 6\.\d\d ms were predicted", told)
