"""Tests the page that is served: that it follows the results, and how the server begins and ends."""

import contextlib
import os
import socket
import urllib.error
import urllib.request

import pytest

from tests import run_results, tiny
from tests.served import serving
from ucl_jax.errors import UsageError
from ucl_jax.results import __main__ as report
from ucl_jax.results.serve import LivePage


def test_a_page_is_made_anew_only_when_its_files_change(tmp_path, capsys):
    made = []

    def make(stamp):
        made.append(stamp)
        texts = [path.read_text() for path in sorted(tmp_path.iterdir())]
        if "damaged" in texts:
            raise UsageError("no luck")
        return "".join(texts)

    (tmp_path / "a").write_text("first")
    page = LivePage(lambda: sorted(tmp_path.iterdir()), make)
    page.refresh()
    assert (page.text, made) == ("first", [page.stamp])
    (tmp_path / "b").write_text(" second")
    page.refresh()
    assert (page.text, made[1:]) == ("first second", [page.stamp])
    assert made[0] != made[1]
    # What fails is tried once, and the page stays, under its stamp, so that browsers do not load it again and again.
    (tmp_path / "b").write_text("damaged")
    os.utime(tmp_path / "b", (1000, 1000))
    for _ in range(2):
        page.refresh()
    assert (page.text, page.stamp, len(made)) == ("first second", made[1], 3)
    assert capsys.readouterr().err.count("no luck") == 1
    (tmp_path / "b").unlink()
    page.refresh()
    assert page.text == "first"


def get(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read().decode()


def test_a_served_page_follows_the_runs_of_a_folder(tmp_path):
    """Begins with an empty folder: a run begins there, then it has results, and then there is another run."""
    told = []
    with serving(tmp_path, told) as address:
        assert address.startswith("http://127.0.0.1:")
        seen = [(get(f"{address}stamp"), get(address))]
        (tmp_path / "one").mkdir()
        (tmp_path / "one/lock").touch()
        (tmp_path / "one/config.json").write_text(tiny.config("lump").to_json())
        seen.append((get(f"{address}stamp"), get(address)))
        run_results.save(tmp_path / "one/results.json", "lump")
        seen.append((get(f"{address}stamp"), get(address)))
        (tmp_path / "two").mkdir()
        run_results.save(tmp_path / "two/results.json", "finetune")
        seen.append((get(f"{address}stamp"), get(address)))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{address}results.json")
    stamps, pages = zip(*seen)
    assert len(set(stamps)) == 4
    assert all(f'"{stamp}"' in text for stamp, text in seen)
    assert ["lump (simsiam)" in text for text in pages] == [False, False, True, True]
    assert [str(tmp_path / "one") + "." in text for text in pages] == [False, True, False, False]
    assert ["finetune (simsiam)" in text for text in pages] == [False, False, False, True]
    returned, errors = told
    assert returned == 130
    assert len(errors) == 1


def test_a_served_page_compares_with_a_recipe_that_has_only_begun(tmp_path, capsys):
    for name in ("lump", "er"):
        (tmp_path / name).mkdir()
    run_results.save(tmp_path / "lump/results.json", "lump")
    (tmp_path / "er/lock").touch()
    (tmp_path / "er/config.json").write_text(tiny.config("er").to_json())
    with serving(tmp_path, words=["--over=er"]) as address:
        assert "network and of er" not in get(address)
        run_results.save(tmp_path / "er/results.json", "er")
        assert "network and of er" in get(address)
    assert report.main([str(tmp_path), "--serve=0", "--over=si"]) == 2
    assert "'er', 'lump'" in capsys.readouterr().err


def test_serve_alone_takes_a_free_port_where_its_own_is_taken(tmp_path):
    run_results.save(tmp_path / "a.json")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # something else has it
            stack.enter_context(socket.create_server(("127.0.0.1", report.PORT)))
        address = stack.enter_context(serving(tmp_path / "a.json", port="--serve"))
        assert not address.endswith(f":{report.PORT}/")
        assert "<html" in get(address)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--serve=70000"], "--serve"),
        (["--serve", "--seeds"], "--seeds"),
        (["--serve={taken}"], "--serve=PORT"),
        (["--serve", "nothing"], "nothing"),  # --serve alone does not take a run for its port
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(words, named, tmp_path, capsys):
    path = run_results.save(tmp_path / "a.json")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [word.format(taken=taken.getsockname()[1]) for word in words]
        assert report.main([*words, str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error


def test_a_folder_of_runs_stands_for_those_that_have_results(tmp_path, capsys):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        run_results.save(tmp_path / name / "results.json", {"a": "lump", "b": "er"}[name])
    (tmp_path / "c").mkdir()
    for name in ("config.json", "lock"):
        (tmp_path / "c" / name).touch()
    assert report.main([str(tmp_path), "--format=csv"]) == 0
    folder = capsys.readouterr().out
    assert report.main([str(tmp_path / "a"), str(tmp_path / "b"), "--format=csv"]) == 0
    assert capsys.readouterr().out == folder
