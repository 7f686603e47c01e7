"""Tests benchmarks.growth: exponents, the table of made-up points, and arguments. It does not test the times."""

import pytest

from benchmarks import growth


def point(value, median, **more):
    return {"value": value, "seconds": {"median": median, "least": median / 2, "most": 2 * median}, **more}


BATCH = [point(16, 0.5, flops=2e9, gflops_per_second=4.0), point(32, 9.0, flops=4e9, gflops_per_second=0.44)]
BATCH += [point(64, 4.0, flops=8e9, gflops_per_second=2.0)]
BANK = [point(5000, 3.0), point(50_000, 30.0)]


def test_the_exponent_is_of_the_first_and_the_last_point():
    assert growth.exponent(BATCH) == pytest.approx(1.5)  # 8 times the seconds at 4 times the value
    assert growth.exponent(BANK) == pytest.approx(1.0)
    assert growth.exponent([point(64, 2.0), point(16_384, 2.0)]) == 0.0


def test_the_table_has_each_point_and_the_exponents():
    result = {"sweeps": {"batch": BATCH}, "bank": BANK, "settings": {"base": {"batch": 64}}, "where": {"jax": "1"}}
    lines = [line.split() for line in growth.table(result).splitlines()]
    assert lines[2] == ["batch", "16", "0.5", "0.25..1", "2", "4"]
    assert lines[4] == ["batch", "64", "4", "2..8", "8", "2", "1.50"]
    assert lines[5:7] == [
        ["bank", "5000", "3", "1.5..6", "-", "-"],
        ["bank", "50000", "30", "15..60", "-", "-", "1.00"],
    ]


def test_points_take_turns_and_short_calls_fill_one():
    asked = []

    def turn(value):
        return lambda count: asked.append((value, count)) or value / 10

    found = growth.time_points({1: turn(1), 20: turn(20)}, repeats=2)
    assert asked == [(1, 1), (20, 1), (1, 5), (20, 1), (1, 5), (20, 1)]
    assert found[20] == {"median": 2.0, "least": 2.0, "most": 2.0}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sweeps=bufer", "unknown sweep 'bufer', did you mean 'buffer'?"),
        ("--sweeps=", "--sweeps is empty"),
        ("--repeats=0", "--repeats is 0; it must be at least 1"),
        ("--repeats=two", "argument --repeats: invalid int value: 'two'; see python -m benchmarks.growth --help"),
        ("--out=nowhere/growth.json", "--out: there is no folder nowhere"),
        ("--quik", "unrecognized arguments: --quik; see python -m benchmarks.growth --help"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(argument, message, capsys):
    assert growth.main([argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
