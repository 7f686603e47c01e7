"""Writes the model card of an encoder: what it has learned from what, how well, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ucl_jax.data.benchmarks import IN_MEMORY
from ucl_jax.evaluation import accuracy_matrix
from ucl_jax.results import compare, tables
from ucl_jax.results.compare import MEASURES, PROBE_TITLES
from ucl_jax.settings import words_of

if TYPE_CHECKING:
    from ucl_jax.results.schema import RepresentationResult, RunResult

TORCH = """```python
from encoder import load, preprocess  # encoder.py of this folder; it needs no ucl_jax

encoder, about = load()
features = encoder(preprocess(images, about))  # images: uint8 [N, H, W, 3], RGB
```

`{file}` is a plain state dict with the names of torchvision and timm, without `fc`.
"""
ONNX = """```python
import onnxruntime

session = onnxruntime.InferenceSession("encoder.onnx")
(features,) = session.run(["features"], {{"images": images}})  # images: uint8 [N, {size}, {size}, 3], RGB
```

The graph normalises the images itself.
"""
LOADING = {"safetensors": TORCH, "torch": TORCH, "onnx": ONNX}  # of each format of `interop.encoder_files`


def model_card(run: RunResult, after: int, kind: str, file: str, about: Mapping[str, Any]) -> str:
    """Returns the model card of a network, in Markdown.

    Args:
      run: what is known about the run.
      after: the number of evaluations that the network has behind it, as a rule of tasks learned; 0 is untrained.
      kind: the format of the file, a key of LOADING.
      file: the name of the file.
      about: what preprocessing.json holds.
    """
    b, size = run.config["benchmark"], about["input_size"][1]
    loading = LOADING[kind].format(file=file, size=size)
    if kind != "onnx" and about["width"] == 64:
        loading += _timm(about, file)
    version = run.versions.get("ucl_jax", "")
    fit = about["fit"]
    brought = (
        "In training there were no others."
        if fit == "none"
        else f"In training, those of other sizes were brought to it by `{fit}`."
    )
    of_each = f" of {b['classes_per_task']} classes" if b["folders"] != "tasks" else ""
    names = [
        run.recipe,
        run.objective,
        run.config["method"]["name"],
        run.config["protocol"],
        run.config["stream"]["name"],
    ]
    recipe, objective, method, protocol, stream = (f"`{name}`" for name in names)
    changed = ", ".join(f"`{key}={words_of(value)}`" for key, value in run.overrides.items())
    return f"""# {run.recipe} on {run.benchmark}: an encoder of images

A ResNet-18 with {about["num_features"]} features, trained by ucl_jax {version}. {_learned(run, after)}

## Load it

{loading}
Images are {size}x{size} pixels, RGB. {brought}
`preprocessing.json` has the size, the mean and the deviation.

## Data and recipe

- Data: {_data(b)}, {run.tasks} tasks{of_each}.
- Tasks: {"; ".join(", ".join(task) for task in run.named_classes) or "not known"}.
- Recipe: {recipe}, objective {objective}, method {method}, protocol {protocol}, stream {stream}, seed {run.seed}.
- Changed from the recipe: {changed or "nothing"}.

## How well it does

{_numbers(run, after)}

## Where it comes from

- Command: `{run.command or "not known"}`
- Commit: {run.commit or "not known"}
- Device: {run.device}
- Versions: {", ".join(f"{name} {version}" for name, version in run.versions.items()) or "not known"}
- Licence: none was chosen for the weights; who publishes them names one here. ucl_jax is under the Apache License 2.0.
  The terms of the data apply.
"""


def _timm(about: Mapping[str, Any], file: str) -> str:
    """Returns how timm builds the network, whose width is that of timm's."""
    read = (
        f'safetensors.torch.load_file("{file}")'
        if file.endswith(".safetensors")
        else f'torch.load("{file}", weights_only=True)'
    )
    imports = ["import safetensors.torch"] if file.endswith(".safetensors") else []
    stem, lines = about["stem"], []
    if not stem["pool"]:
        lines = [
            f"model.conv1 = torch.nn.Conv2d(3, 64, {stem['kernel']}, {stem['stride']}, {stem['padding']}, bias=False)",
            "model.maxpool = torch.nn.Identity()  # the stem is one for small images",
        ]
    code = [*imports, "import timm", "import torch", "", 'model = timm.create_model("resnet18", num_classes=0)', *lines]
    return "\n".join(["\nIn timm:\n\n```python", *code, f"model.load_state_dict({read})", "model.eval()", "```\n"])


def _learned(run: RunResult, after: int) -> str:
    if after == 0:
        return "It is as its seed initialised it, without any training."
    if run.joint:
        return "It has learned all tasks at once."
    if run.rows_are_tasks:
        return f"It has learned {after} of {run.tasks} tasks, one after the other."
    return f"It was saved at evaluation {after} of {run.tasks_learned} of the stream."


def _data(benchmark: Mapping[str, Any]) -> str:
    if benchmark["tfds_name"]:
        return f"{benchmark['name']} (TFDS `{benchmark['tfds_name']}`)"
    if benchmark["path"].startswith(IN_MEMORY):
        return "images in memory"
    return f"own images, `{benchmark['path']}`"


def _numbers(run: RunResult, after: int) -> str:
    """Returns the numbers of the network beside those of guessing and of the untrained network."""
    if run.representation is not None:
        return _measured(run.representation, after)
    lines = []
    for name in compare.probes_of([run]):
        probe = run.probes[name]
        untrained = None if probe.random_init is None else sum(probe.random_init) / len(probe.random_init)
        own = accuracy_matrix.average_accuracy(probe.matrix[:after], run.tasks_seen[:after]) if after else untrained
        lines.append((PROBE_TITLES[name], own, untrained, probe.chance))
    columns = ("accuracy in %", "this network", "untrained", "guessing")
    text = tables.render(tables.Table("", tables.make_frame(columns, lines)), "markdown")
    known = run.tasks if after == 0 else run.tasks_seen[after - 1]
    seen = "all tasks" if known == run.tasks else f"the first {known} of {run.tasks} tasks"
    also = "" if known == run.tasks else " That of the untrained network is the mean over all tasks."
    return f"{text}\n\nMeans over {seen}, on images that it was not trained on.{also}"


def _measured(found: RepresentationResult, after: int) -> str:
    """Returns what was measured of the network without labels, beside the same of the untrained network."""
    networks = found.rows[after - 1] if after else found.random_init, found.random_init
    lines = [(title, *(getattr(one, key, None) for one in networks)) for key, title in MEASURES.items()]
    columns = ("measured without labels", "this network", "untrained")
    return tables.render(tables.Table("", tables.make_frame(columns, lines)), "markdown")
