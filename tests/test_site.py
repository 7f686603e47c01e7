"""Tests that the site is built without a warning: no broken link, no page that the menu lacks."""

import os
import subprocess
import sys

from benchmarks.measure import ROOT


def test_the_site_is_built_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path / 'site'}"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    # The README is the first page, and docstrings are on those of the code.
    for page, words in {"index.html": "make demo", "api/methods/index.html": "How the past is kept"}.items():
        assert words in (tmp_path / "site" / page).read_text(encoding="utf-8")
