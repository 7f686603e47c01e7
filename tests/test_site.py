"""Tests that the site is built without a warning: no broken link, no page that the menu lacks."""

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

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


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("runs.md", "[a](compare.md#3-the-table)", "[a](compare.md#3-the-table)"),
        ("runs.md", "[a](../README.md#results)", "[a](index.md#results)"),
        ("runs.md", "[a](../tests/tiny.py)", "a"),  # a file that is on no page
        ("runs.md", "[a](missing.md)", PluginError),
        ("runs.md", "[a](../nothing.py)", PluginError),
        ("api/methods.md", "[a](../runs.md)", "[a](../runs.md)"),
    ],
)
def test_links_lead_to_pages_or_are_text_and_a_broken_one_is_an_error(page, link, expected):
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"))
    given = link, SimpleNamespace(file=SimpleNamespace(src_uri=page)), config, None
    if expected is PluginError:
        with pytest.raises(PluginError, match="links"):
            hooks.on_page_markdown(*given)
    else:
        assert hooks.on_page_markdown(*given) == expected
