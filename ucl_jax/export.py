"""Exports the encoder of a run for other programs: PyTorch and timm, or ONNX; with preprocessing and a model card.

    ucl export RUN --after=last --format=safetensors

The folder gets the network, preprocessing.json, the model card README.md, and encoder.py, by which PyTorch loads it.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

from ucl_jax import cli
from ucl_jax.errors import require, usage_errors

FORMATS = ("safetensors", "torch", "onnx")  # those of `interop.encoder_files`, which imports JAX
CALLS = {
    "runs/a": "the last network of a run, for PyTorch and timm, in runs/a/export",
    "runs/a --after=1 --format=onnx --out=encoder": "the network after the first task, for any program that reads ONNX",
}


def export(run: pathlib.Path, after: str, kind: str, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes the encoder of a run to a folder.

    Args:
      run: the run folder.
      after: the network after so many tasks; "last" for the latest, "0" for the untrained one.
      kind: one of FORMATS.
      out: the folder, which is made if it is not there.

    Returns:
      The files that were written.

    Raises:
      UsageError: `run` is no run folder, has no such network or another architecture, or a package is missing.
    """
    from ucl_jax import encoder
    from ucl_jax.files import disk_errors, write_atomically
    from ucl_jax.interop import encoder_files
    from ucl_jax.results import model_card
    from ucl_jax.results.load import load_results

    require(after == "last" or after.isdecimal(), f"--after={after} is no number of tasks learned; give one, or last")
    results = load_results(run)
    m = results.config["model"]
    require(
        m["name"] == "resnet18",
        f"the network of {run} is {m['name']!r}, which is no plain ResNet-18; only a run with model.name=resnet18 can "
        "be exported",
    )
    with usage_errors("--"):
        loaded = encoder.load(run, "last" if after == "last" else int(after))
    learned, shape = loaded.learned, loaded.opened.encoder_shape
    arrays = encoder_files.state_dict(loaded.opened.network(learned))
    file, write = encoder_files.FORMATS[kind]
    about = shape.to_json()
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write(out / file, arrays, shape)
        texts = {
            "preprocessing.json": json.dumps({"file": file, **about}, indent=1) + "\n",
            "README.md": model_card.model_card(results, learned, kind, file, about),
        }
        if kind != "onnx":
            texts["encoder.py"] = encoder_files.MODULE.read_text(encoding="utf-8")
        for name, text in texts.items():
            write_atomically(out / name, text)
    return [out / name for name in (file, *texts)]


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "python -m ucl_jax.export") -> int:
    """Carries out the command."""
    parser = cli.Parser(prog=prog, description=__doc__.splitlines()[0], epilog=cli.examples(prog, CALLS))
    parser.add_argument("run", type=pathlib.Path, metavar="RUN", help="a run folder")
    parser.add_argument("--after", default="last", help="last (default), or the number of tasks learned, 0 untrained")
    parser.add_argument("--format", default=FORMATS[0], choices=FORMATS, help=f"default: {FORMATS[0]}")
    parser.add_argument("--out", type=pathlib.Path, help="the folder to write to; default: RUN/export")
    given = parser.parse_args(argv)
    for path in export(given.run, given.after, given.format, given.out or given.run / "export"):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
