"""Runs every command and every line of Python of docs/features.md, in their order, in an empty folder."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "features.md"


def test_everything_on_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the page adds a folder
    found = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert {kind for kind, _ in found} == {"bash", "python"}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    names: dict = {}
    for kind, block in found:
        if kind == "python":
            exec(compile(block, str(PAGE), "exec"), names)
            continue
        for line in block.splitlines():
            command = re.sub("^ucl ", f"{sys.executable} -m ucl_jax ", line)
            done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=500)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert {"encoder.safetensors", "preprocessing.json", "encoder.py", "README.md"} <= {*os.listdir("exported")}
