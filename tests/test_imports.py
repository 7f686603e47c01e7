"""Tests the direction of imports, and that some modules do without files, clocks or JAX."""

import ast
import fnmatch

import pytest

from benchmarks.imports import MODULES, arrows, imported, parse, project_modules, reduced

# From the bottom to the top: a module may import only from lines above its own. A pattern stands for the modules that
# no line above names, so that a new method, network or data set needs no line here.
LAYERS = [
    [
        "data",
        "evaluation",
        "interop",
        "models",
        "reproduce",
        "results",
        "training",
    ],  # folders that hold no code
    ["types", "errors", "version", "data.benchmarks", "data.tiny_imagenet_classes"],
    ["cli", "files"],
    ["settings", "training.supervise"],
    ["recipes"],
    ["collectives", "augment", "evaluation.knn", "evaluation.linear", "evaluation.representation"],
    ["evaluation.accuracy_matrix", "evaluation.evaluators"],
    ["results.fields", "results.paper", "results.published"],
    ["results.records"],
    ["results.schema"],
    ["results.load", "results.compare"],
    ["results.tables", "results.drawing"],
    ["results.run_figures", "results.probe_figures"],
    ["results.page", "results.model_card"],
    ["results.listing", "results.serve"],
    ["results.__main__"],
    ["report"],
    ["models.convolution"],
    ["models.layers"],
    ["models.resnet", "models.heads"],
    ["models.*"],
    ["models.architectures"],
    ["objectives.losses"],
    ["objectives.base"],
    ["objectives.target", "objectives.queue"],
    ["objectives.*"],
    ["objectives"],
    ["buffers.base"],
    ["buffers.*"],
    ["buffers"],
    ["methods.base", "methods.mixup"],
    ["methods.head"],
    ["methods.rehearsal", "methods.distillation"],
    ["methods.*"],
    ["methods"],
    ["interop.torch_weights"],
    ["convert", "interop.encoder_files"],
    ["data.sources"],
    ["data.*"],  # TFDS builders
    ["data.prepare"],
    ["data.tfds_source", "data.decoded"],
    ["data.folder"],
    ["data.memory"],
    ["data.tasks"],
    ["training.schedule"],
    ["training.step", "training.optimizers", "training.checkpoint", "training.metric_writers", "training.processes"],
    ["training.online_linear", "training.unlabelled"],
    ["training.parallel", "training.build"],
    ["training.loop", "training.provenance"],
    ["training.session"],
    ["training.run_folder"],
    ["training.run"],
    ["training.__main__"],
    ["train"],
    ["probes.trained_run"],
    ["encoder"],
    ["ucl_jax", "export"],  # the public API, and a command
    ["probes.base"],
    ["probes.knn", "probes.linear"],
    ["probes.ood"],
    ["probes.*"],
    ["probes"],
    ["probes.__main__"],
    ["probe"],
    ["reproduce.jobs"],
    ["reproduce.plan"],
    ["reproduce.probe_requests"],
    ["reproduce.studies"],
    ["reproduce.__main__"],
    ["__main__"],
    ["completion"],
]
PURE = [
    "types",
    "collectives",
    "augment",
    "models",
    "models.*",
    "objectives",
    "objectives.*",
    "buffers",
    "buffers.*",
    "methods",
    "methods.*",
    "evaluation",
    "evaluation.*",
    "training.optimizers",
    "training.step",
    "training.online_linear",
]
# Not pure; but they are given values, and do not know the names of keys. So they too raise ValueError alone.
TAKE_VALUES = ["data.memory", "data.tasks", "training.parallel", "training.schedule", "training.loop"]
FORBIDDEN = {"tensorflow", "tensorflow_datasets", "orbax", "absl", "os", "time", "pathlib", "io", "socket", "logging"}
TRAINING = {"jax", "jaxlib", "flax", "optax", "orbax", "chex", "tensorflow", "tensorflow_datasets"}
# No module imports these at its top: the package does without them, or imports them in a function when needed.
NEVER_AT_THE_TOP = {"tensorflow", "torch", "wandb", "onnx", "safetensors"}


def layer(module):
    for pattern_of in (lambda p: p == module, lambda p: "*" in p and fnmatch.fnmatch(module, p)):
        found = [number for number, patterns in enumerate(LAYERS) if any(map(pattern_of, patterns))]
        if found:
            assert len(found) == 1
            return found[0]
    raise AssertionError(f"ucl_jax/{module.replace('.', '/')} is in no layer of tests/test_imports.py")


def test_every_layer_names_modules_that_exist():
    for patterns in LAYERS + [PURE]:
        for pattern in patterns:
            assert fnmatch.filter(MODULES, pattern), f"{pattern} names nothing"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    for other in project_modules(parse(module)):
        assert layer(other) < layer(module), f"{module} imports {other}, which is not below it"


def test_folders_do_not_need_each_other():
    graph, order = arrows(), []
    while left := graph.keys() - order:
        ready = [folder for folder in left if graph[folder] <= set(order)]
        assert ready, f"{left} go round in a circle"
        order += ready


def test_the_picture_leaves_out_arrows_that_others_imply():
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


PURE_MODULES = [m for m in MODULES if any(fnmatch.fnmatch(m, pattern) for pattern in PURE)]


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_modules_do_without_io_and_clocks(module):
    assert not {name.split(".")[0] for name in imported(parse(module))} & FORBIDDEN
    assert needed(module) <= {"ucl_jax", "errors", *PURE_MODULES}


# They read or write files, or need modules that do, but know no command line.
NO_COMMAND_LINE = [
    "fields",
    "paper",
    "published",
    "records",
    "schema",
    "compare",
    "tables",
    "drawing",
    "page",
    "model_card",
]
NO_COMMAND_LINE += ["run_figures", "probe_figures"]


@pytest.mark.parametrize("module", [*PURE_MODULES, *TAKE_VALUES, *(f"results.{name}" for name in NO_COMMAND_LINE)])
def test_modules_below_the_commands_raise_no_errors_of_the_command_line(module):
    taken = [node for node in ast.walk(parse(module)) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in taken if node.module == "ucl_jax.errors" for alias in node.names}
    assert names <= {"argument_choice", "check_argument", "check_word"}


def needed(module):
    """Returns a module and all modules of this package that it imports, directly or through others."""
    found, waiting = set(), {module}
    while waiting:
        found.add(one := waiting.pop())
        waiting |= set(project_modules(parse(one))) - found
    return found


@pytest.mark.parametrize("module", [m for m in MODULES if m.partition(".")[0] == "results"])
def test_results_need_no_jax(module):
    """Checks that modules of results/ and all that they import do without JAX: a report is made on any machine."""
    for one in needed(module):
        assert not {name.partition(".")[0] for name in imported(parse(one))} & TRAINING, one


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("methods.")])
def test_methods_hold_no_collective_and_no_device(module):
    assert not set(project_modules(parse(module))) & {"collectives", "parallel"}
    names = {node.id for node in ast.walk(parse(module)) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(parse(module)) if isinstance(node, ast.Attribute)}
    assert not (names | attributes) & {"axis_name", "pmean", "psum", "all_gather", "axis_index", "pmap"}


@pytest.mark.parametrize("module", MODULES)
def test_extras_are_imported_inside_functions_only(module):
    top = ast.Module([node for node in parse(module).body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert not {name.split(".")[0] for name in imported(top)} & NEVER_AT_THE_TOP


SAMPLE = """
import os.path
import ucl_jax.data
from ucl_jax import augment, make_config
from ucl_jax.methods import METHODS
from ucl_jax.models.heads import Network
def f():
    from time import sleep
"""


def test_the_reading_of_imports_on_a_sample():
    tree = ast.parse(SAMPLE)
    assert list(project_modules(tree)) == ["data", "augment", "ucl_jax", "methods", "models.heads"]
    assert {name.split(".")[0] for name in imported(tree)} == {"os", "ucl_jax", "time"}
    assert layer("models.layers") < layer("models.resnet") < layer("models.progressive") < layer("models.architectures")
    assert layer("methods.base") < layer("methods.rehearsal") < layer("methods.lump")
    assert (
        layer("types") < layer("objectives.losses") < layer("methods.lump") < layer("methods") < layer("training.run")
    )
    with pytest.raises(AssertionError, match="brand_new"):
        layer("brand_new")
