"""Makes the tables of docs/performance.md from the files in benchmarks/results."""

import collections
import json
from collections.abc import Callable, Mapping, Sequence

from benchmarks import measure
from ucl_jax.results.tables import Table, make_frame, render

MISSING = "**Not measured yet.**"
PROGRAMS = {"ours": "ucl_jax", "torch_plain": "PyTorch, plain", "torch_best": "PyTorch, best"}
VARIED = {
    "batch": "batch size",
    "image": "image side",
    "width": "width",
    "buffer": "slots of the buffer",
}
COUNTED = ("all-reduce", "all-gather", "reduce-scatter")


def spread(values: Mapping[str, float], digits: str = "#.3g") -> str:
    """Returns a median as text, with the least and the most where they differ: "1.50 (1.42..1.61)"."""
    median, least, most = (_number(values[key], digits) for key in ("median", "least", "most"))
    return f"{median} ({least}..{most})" if least != most else median


def _number(value: float, digits: str) -> str:
    """Returns a number as text in a format such as ".4g"; one that this would give an exponent is a whole number."""
    text = f"{value:{digits}}".rstrip(".")
    return f"{value:.0f}" if "e+" in text else text


def where(result: Mapping) -> str:
    """Returns device, versions and commit of a result, which has them at its top level or under "where"."""
    facts = result.get("where", result)
    versions = [
        f"{title} {facts[key]}"
        for key, title in (
            ("python", "Python"),
            ("jax", "JAX"),
            ("libtpu", "libtpu"),
            ("torch", "PyTorch"),
            ("scikit_learn", "scikit-learn"),
        )
        if facts.get(key)
    ]
    commit = f"commit {(facts.get('commit') or 'unknown')[:10]}" + (" with changes" if facts.get("changed") else "")
    return ", ".join([facts["device"], *versions, commit])


def _markdown(rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Returns rows of text as a Markdown table; the first is the header, the first `words` columns hold words."""
    return render(Table("", make_frame(rows[0], rows[1:]), words), "markdown")


def _note(result: Mapping, command: str = "") -> str:
    """Returns a sentence with the command of a result, or `command` if it has none, and where it was measured."""
    return f"`{(result.get('command') or command).strip()}`; {where(result)}."


def from_results(name: str, make: Callable[[dict], str]) -> Callable[[], str]:
    """Returns a function that makes a table of benchmarks/results/NAME.json, or MISSING if there is no such file."""

    def table():
        path = measure.RESULTS / f"{name}.json"
        return make(json.loads(path.read_text())) if path.exists() else MISSING

    return table


def step(result: dict) -> str:
    """Returns the table of the whole training step of every program."""
    rows = [["size", "program", "seconds a step", "images/s", "images/s, ours over it", "first step, s"]]
    notes = []
    for size, programs in result["steps"].items():
        for name, seconds in programs.items():
            faster = result["ratio_spread"][size].get(name)
            rows.append(
                [
                    size,
                    PROGRAMS[name],
                    spread(seconds),
                    spread(result["images_per_second"][size][name], ".4g"),
                    spread(faster, ".2f") if faster else "-",
                    f"{result['first_seconds'][size][name]:.1f}",
                ]
            )
        for name, facts in result["programs"][size].items():
            notes.append(f"{size}, {PROGRAMS[name]}: {facts['mode']}; {len(result['rounds'][size][name])} rounds.")
        for name, reason in result["failed"][size].items():
            notes.append(f"{size}, {PROGRAMS.get(name, name)} could not run: {reason}.")
    how = (
        "The ratio is the median of the ratios of single rounds, not that of the medians. A first step compiles; that "
        "of the best PyTorch loop with what its compiler may have kept on disk."
    )
    return "\n\n".join([_markdown(rows, words=2), how, _note(result), *notes])


def parts(result: dict) -> str:
    """Returns the table of the parts of a step, of every program that has them."""
    rows = [["size", "part", "program", "seconds", "speed, ours over it"]]
    for size, of_size in result["parts"].items():
        for part, programs in of_size.items():
            for name, seconds in programs.items():
                faster = result["parts_ratio"][size][part].get(name)
                rows.append([size, part, PROGRAMS[name], spread(seconds), spread(faster, ".2f") if faster else "-"])
    return _markdown(rows, words=3) if len(rows) > 1 else MISSING


def limit(result: dict) -> str:
    """Returns the table of what a step has to do, the machine's rates, and how near the step is to them."""
    sizes = list(result["limits"])
    giga = {
        "GFLOP a step, by XLA": "flops",
        "GFLOP of convolutions and layers, by hand": "analytic_flops",
        "GB read and written a step, at least": "bytes",
        "GFLOP/s reached": "flops_per_second",
        "GFLOP/s of a matrix product here": "matrix_rate",
        "GB/s reached, at least": "bytes_per_second",
        "GB/s of a copy here": "copy_rate",
    }
    rows = [["", *sizes]]
    rows += [
        [name, *(_number(result["limits"][size][key] / 1e9, ".4g") for size in sizes)] for name, key in giga.items()
    ]
    for name, key in (("of the matrix rate", "of_matrix_rate"), ("of the copy rate, at least", "of_copy_rate")):
        rows.append([name, *(f"{100 * result['limits'][size][key]:.0f} %" for size in sizes)])
    rows.append(["the larger bound, of what is counted", *(result["limits"][size]["bound"] for size in sizes)])
    rows.append(["least seconds by it", *(f"{result['limits'][size]['bound_seconds']:.3g}" for size in sizes)])
    measured = [
        f"{PROGRAMS[name]} {_number(rates['float32'] / 1e9, '.4g')} GFLOP/s in float32, "
        f"{_number(rates['bfloat16'] / 1e9, '.4g')} in bfloat16, copy {_number(rates['copy'] / 1e9, '.3g')} GB/s"
        for name, rates in result["rates"].items()
    ]
    note = f"Ours computed in {result['settings']['dtype']}. Rates measured: {'; '.join(measured)}."
    return f"{_markdown(rows)}\n\n{note}"


def startup(result: dict) -> str:
    """Returns the tables of the time from a command to its first step, and to its help."""
    rows = [["command", "cold cache, s", "warm cache, s", "runs of each", "programs compiled"]]
    for config, one in result["first_step"].items():
        seconds = [spread(one["seconds"][kind]) for kind in ("cold", "warm")]
        rows.append([f"`launch.py --config={config}`", *seconds, str(one["repeats"]), str(one["programs"])])
    helps = [["command", "seconds to --help"]]
    helps += [[f"`{command}`", spread(seconds, ".2f")] for command, seconds in result["help"].items()]
    text = (_markdown(table) for table in (rows, helps))
    measured = collections.defaultdict(list)
    for command, facts in ("--help", result), *result["first_step"].items():
        measured[where(facts)].append(f"`{command}`")
    notes = (f"{', '.join(commands)}: {at}." for at, commands in measured.items())
    return "\n\n".join([*text, "`python -m benchmarks.startup`; measured:", *notes])


def decode(result: dict) -> str:
    """Returns the table of images that are decoded in a second."""
    ways = {
        "plain_pillow": "plain Pillow, one process",
        "into_cache": "this package, into its cache",
        "from_cache": "from the cache",
        "tfds": "TFDS's own reading",
        "one_thread": "this package, one thread",
        "threads": "this package, several threads",
    }
    files = f"JPEG files of {result['side']} pixels to {result['size']}"
    sources = {files: result["folder"], **result.get("tfds", {})}
    rows = [["images", "read by", "images/s"]]
    rows += [
        [source, title, f"{found[way]:,.0f}"]
        for source, found in sources.items()
        for way, title in ways.items()
        if way in found
    ]
    wait = f"A batch of 256 images is there after {result['folder']['batch_milliseconds']:.1f} ms on average."
    note = f"{result['images']} images each, {result['threads']} threads. {wait} {_note(result)}"
    return f"{_markdown(rows, words=2)}\n\n{note}"


def large_folder(result: dict) -> str:
    """Returns the table of whole runs on folders of different sizes."""
    head = [
        "images",
        "decoded, GB",
        "first step, s",
        "whole run, s",
        "steps",
        "most memory, MB",
        "until first step, MB",
    ]
    rows = [[*head, "second start, first step, s"]]
    for one in result["sizes"]:
        first = one["first"]
        seconds = [f"{first[key]:.0f}" for key in ("first_step", "seconds")]
        memory = [f"{first[key]:.0f}" for key in ("megabytes", "megabytes_at_first_step")]
        size = [f"{one['images']:,}", f"{one['gigabytes']:g}"]
        rows.append([*size, *seconds, str(first["steps"]), *memory, f"{one['second']['first_step']:.1f}"])
    return f"{_markdown(rows, words=0)}\n\n{_note(result)}"


def collectives(result: dict) -> str:
    """Returns the table of the collectives of a step: how many, and how many bytes."""
    rows = [["recipe", "objective", *(f"{op}: number, MB" for op in COUNTED), "of these for the buffer, MB"]]
    for cell, program in result["cells"].items():
        found = program["collectives"]
        told = []
        for op in COUNTED:
            these = [one for one in found if one["op"] == op]
            told.append(f"{sum(one['count'] for one in these)}, {sum(one['bytes'] for one in these) / 1e6:.2f}")
        stored = sum(one["bytes"] for one in found if one["op"] == "all-gather" and one["where"] == "step")
        rows.append([*cell.split("/"), *told, f"{stored / 1e6:.2f}" if stored else "-"])
        assert {one["op"] for one in found} <= set(COUNTED), f"{cell}: another kind of collective"
    s = result["settings"]
    note = (
        f"{s['devices']} devices, {s['benchmark']}, width {s['width']}, batch {s['batch']}, {s['image']}x{s['image']}; "
    )
    return f"{_markdown(rows, words=2)}\n\n{note}{_note(result, 'python -m benchmarks.compiled')}"


def growth(result: dict) -> str:
    """Returns the table of step times in each sweep, also relative to the sweep's first value."""
    rows = [["varied", "value", "seconds a step", "first = 1", "GFLOP a step, by hand", "first = 1", "GFLOP/s"]]
    for sweep, points in result["sweeps"].items():
        for point in points:
            rows.append(
                [
                    VARIED.get(sweep, sweep),
                    f"{point['value']}",
                    spread(point["seconds"]),
                    f"{point['seconds']['median'] / points[0]['seconds']['median']:.2f}",
                    f"{point['flops'] / 1e9:.4g}",
                    f"{point['flops'] / points[0]['flops']:.2f}",
                    f"{point['gflops_per_second']:.4g}",
                ]
            )
    if len(rows) == 1:
        return MISSING
    return f"{_markdown(rows)}\n\nThe others are {_settings(result['settings']['base'])}; {_note(result)}"


def _settings(of: Mapping) -> str:
    """Returns settings as text: "batch 64, width 16"."""
    return ", ".join(f"{key} {value}" for key, value in of.items())


def bank(result: dict) -> str:
    """Returns the table of the time of evaluation against the size of its bank."""
    rows = [["features in the bank", "seconds", "bank, first = 1", "seconds, first = 1"]]
    first = (result["bank"] or [{}])[0]
    for point in result["bank"]:
        larger = point["value"] / first["value"], point["seconds"]["median"] / first["seconds"]["median"]
        rows.append([f"{point['value']}", spread(point["seconds"]), *(f"{ratio:.2f}" for ratio in larger)])
    if len(rows) == 1:
        return MISSING
    return f"{_markdown(rows)}\n\n{_settings(result['settings']['knn'])}."


def knn(result: dict) -> str:
    """Returns the table of the kNN probe against scikit-learn."""
    titles = {
        "ours": "ucl_jax",
        "scikit_learn_cosine": "scikit-learn, brute force, cosine",
        "scikit_learn_euclidean": "scikit-learn, brute force, Euclid on unit vectors",
    }
    rows = [["program", "seconds", "most memory, MiB", "accuracy, %"]]
    for name, title in titles.items():
        memory, accuracy = result["peak_mebibytes"][name], result["accuracy"][name]
        rows.append([title, spread(result["seconds"][name]), f"{memory:.0f}", f"{accuracy:.2f}"])
    s = result["settings"]
    note = (
        f"{s['queries']} queries, a bank of {s['bank']} features of {s['features']} dimensions, k = {s['k']}; "
        f"{s['repeats']} rounds; "
    )
    return f"{_markdown(rows)}\n\n{note}{_note(result, 'python -m benchmarks.knn')}"


def aot(result: dict) -> str:
    """Returns the table of programs that were compiled for accelerators elsewhere: what each does in a step."""
    targets = {name: told for name, told in result["targets"].items() if "error" not in told}
    columns = [_program(told) for told in targets.values()]
    rows = [["of one device", *targets]]
    rows += [[title, *(column[title] for column in columns)] for title in (columns or [{}])[0]]
    failed = [
        f"{name} does not compile: {told['error']}" for name, told in result["targets"].items() if "error" in told
    ]
    wide = sorted({one["name"] for told in targets.values() for one in told["float32_products"]})
    notes = [f"Products in float32: {', '.join(f'`{name}`' for name in wide)}."] if wide else []
    return "\n\n".join([_markdown(rows), *notes, *failed, _note(result)])


def _program(told: Mapping) -> dict[str, str]:
    """Returns what a compiled program does, as text: the column of a target."""
    cells = {
        "devices": f"{told['devices']}",
        "seconds of compilation": f"{told['compile_seconds']:.0f}",
        "most memory, GB": f"{told['peak_bytes'] / 1e9:.2f}",
        "`while` loops": f"{told['loops']}",
        "launches": f"{told['launches']}",
        "GB moved": f"{told['bytes'] / 1e9:.2f}",
    }
    for name, of in told["origins"].items():
        estimated = f"{told['milliseconds'] * of['cycles'] / told['cycles']:.1f}" if told["cycles"] else "-"
        cells[f"{name}: GB, launches, ms"] = f"{of['bytes'] / 1e9:.2f}, {of['launches']}, {estimated}"
    cells["GFLOP of products"] = _number(told["product_flops"] / 1e9, ".4g")
    cells["products in float32"] = f"{sum(one['number'] for one in told['float32_products'])}"
    for kind, of in told["layout_changes"].items():
        title = f"{kind} laid out anew: number, in float32, MB"
        cells[title] = f"{of['number']}, {of['float32']}, {of['bytes'] / 1e6:.0f}"
    collectives = told["collectives"]
    moved = sum(one["bytes"] for one in collectives) / 1e6
    cells["collectives: number, MB"] = f"{sum(one['count'] for one in collectives)}, {moved:.2f}"
    cells["predicted ms"] = f"{told['milliseconds']:.1f}"
    return cells


TABLES: dict[str, Callable[[], str]] = {
    "step": from_results("step", step),
    "step-parts": from_results("step", parts),
    "step-limit": from_results("step", limit),
    "step-h100": from_results("step-h100", step),
    "step-limit-h100": from_results("step-h100", limit),
    "aot": from_results("aot", aot),
    "startup": from_results("startup", startup),
    "collectives": from_results("collectives", collectives),
    "growth": from_results("growth", growth),
    "growth-bank": from_results("growth", bank),
    "knn": from_results("knn", knn),
    "large-folder": from_results("large_folder", large_folder),
    "decode": from_results("decode", decode),
}
