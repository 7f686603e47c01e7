"""Completes the words of `ucl` in a shell: commands, options, recipes, and keys of the config with their values.

The script that a shell reads is a few lines. At each TAB they ask `ucl completion --line=LINE` what fits, so that new
recipes and keys are known at once. It imports no JAX, because it must be quick.
"""

import ast
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence

from ucl_jax import cli, export, recipes
from ucl_jax.__main__ import COMMANDS
from ucl_jax.data.benchmarks import BENCHMARKS
from ucl_jax.errors import user_choice
from ucl_jax.settings import CONFIG, METHOD_SETTINGS, OBJECTIVE_SETTINGS, PROBE_SETTINGS, Setting

SCRIPTS = {
    # Bash completes what follows the last = or : of a word, which it calls $2. So what comes before that is cut off.
    "bash": """_ucl() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\\n'
    local word=${line##*[[:space:]]}
    COMPREPLY=($(ucl completion --line="$line" 2> /dev/null))
    COMPREPLY=("${COMPREPLY[@]#"${word%"$2"}"}")
}
complete -o default -o nospace -F _ucl ucl
""",
    "zsh": """_ucl() {
    local -a found
    found=("${(@f)$(ucl completion --line="${(j: :)words[1,CURRENT-1]} $PREFIX" 2> /dev/null)}")
    if [[ -n $found ]]; then compadd -Q -S '' -- "${found[@]}"; else compset -P '*='; _files; fi
}
compdef _ucl ucl
""",
    "fish": """function _ucl
    set -l found (ucl completion --line=(commandline --cut-at-cursor --current-process | string collect) 2> /dev/null)
    if test (count $found) -gt 0
        string trim -- $found
    else
        __fish_complete_path (commandline --current-token)
    end
end
complete --command ucl --no-files --arguments '(_ucl)'
""",
}
CALLS = {
    "bash": 'prints the script; put  eval "$(ucl completion bash)"  into ~/.bashrc',
    "zsh": "the same for zsh; it goes behind  autoload -U compinit && compinit  in ~/.zshrc",
    "fish": "put  ucl completion fish | source  into ~/.config/fish/config.fish",
}


def candidates(line: str) -> list[str]:
    """Returns what the last word of a command line can become, sorted; a blank ends a word that needs nothing more.

    Args:
      line: the line up to the cursor, such as "ucl train --config=lu".

    Returns:
      Whole words; [] where the word may be a file, or nothing is known.
    """
    before = line.split()
    word = before.pop() if line[-1:].strip() else ""
    return sorted(one for one in _words(before, word) if one.startswith(word))


def _words(before: Sequence[str], word: str) -> Iterable[str]:
    """Returns words that can stand behind the words `before`; `word` is what is there of it already."""
    if len(before) < 2:
        return (f"{name} " for name in COMMANDS)
    command = before[1]
    if command not in COMMANDS:
        return ()
    option, equals, value = word.partition("=")
    if equals:
        return (f"{option}={one}" for one in _values(command, option, value))
    if word.startswith("--config."):
        return (f"--config.{key}=" for key in _keys())
    if word.startswith("-"):
        return [*options(command), *(["--config."] if command == "train" else [])]
    if found := list(_values(command, before[-1], word)):  # --option value
        return found
    return (f"{name} " for name in POSITIONAL.get(command, ()))


def options(command: str) -> list[str]:
    """Returns the options of a command, with "=" behind each that takes a value and a blank behind each other.

    They are read from the file of the command, which may be slow to import: calls whose first argument is "--NAME", and
    flags of absl.
    """
    path = pathlib.Path(__file__).parent / f"{COMMANDS[command].replace('.', '/')}.py"
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_], keywords=keywords):
                called = ast.unparse(function)
                name = f"--{name}" if "DEFINE_" in called else name
                if re.fullmatch(r"--\w[\w-]*", name):
                    alone = called.endswith("DEFINE_boolean") or any(
                        one.arg == "action" and ast.unparse(one.value) == "'store_true'" for one in keywords
                    )
                    found.append(f"{name} " if alone else f"{name}=")
    return found


def _keys() -> dict[str, Setting]:
    """Returns the setting of each key that a config can have, whatever its objective and method."""
    own = (("objective", OBJECTIVE_SETTINGS), ("method", METHOD_SETTINGS))
    parts = {f"{part}.{key}": one for part, known in own for each in known.values() for key, one in each.items()}
    return {key: one for key, one in CONFIG.items() if key not in ("recipe", "protocol", "stream.name")} | parts


def _values(command: str, option: str, value: str) -> Iterable[str]:
    """Returns the values of an option of a command that begin like `value`, but for its last word."""
    if option.startswith("--config."):
        return _of_setting(_keys().get(option.removeprefix("--config.")))
    found = VALUES.get(f"{command} {option}", VALUES.get(option))
    return found(value) if found else ()


def _of_setting(setting: Setting | None) -> Iterable[str]:
    """Returns the values of a setting, if they are a few words."""
    words = () if setting is None else ("True", "False") if setting.kind is bool else setting.choices
    return (f"{word} " for word in words)


def _recipe(value: str) -> Iterable[str]:
    """Returns recipes, and the words of the argument behind a recipe."""
    file, colon, argument = value.partition(":")
    if not colon:
        return recipes.names()
    kinds = (tuple(BENCHMARKS), tuple(OBJECTIVE_SETTINGS), CONFIG["protocol"].choices, CONFIG["stream.name"].choices)
    *chosen, _ = argument.split(",")
    return (f"{file}:{','.join([*chosen, one])}" for one in kinds[len(chosen)]) if len(chosen) < len(kinds) else ()


def _one_of(words: Iterable[str]) -> Callable[[str], Iterable[str]]:
    """Makes the function that returns some words, whatever is given of them."""
    return lambda value: (f"{word} " for word in words)


def _table_formats(value: str) -> Iterable[str]:
    from ucl_jax.results import tables  # imported late, for it imports NumPy

    return _one_of(tables.FORMATS)(value)


def _list_of(words: Iterable[str]) -> Callable[[str], Iterable[str]]:
    """Makes the function that returns lists with commas between: those words that are given, and one more."""
    return lambda value: (",".join([*value.split(",")[:-1], word]) for word in words)


def _key_values(keys: Callable[[], dict[str, Setting]]) -> Callable[[str], Iterable[str]]:
    """Makes the function that returns KEY=, or KEY=VALUE for each value of the key that is given."""

    def found(value: str) -> Iterable[str]:
        key, equals, _ = value.partition("=")
        return (f"{key}={one}" for one in _of_setting(keys().get(key))) if equals else (f"{one}=" for one in keys())

    return found


def _probe_keys() -> dict[str, Setting]:
    return {f"{probe}.{key}": one for probe, own in PROBE_SETTINGS.items() for key, one in own.items()}


# Option, behind its command where others have it too -> the function from its value so far to values.
VALUES: dict[str, Callable[[str], Iterable[str]]] = {
    "--config": _recipe,
    "--diff": _recipe,
    "--probes": _list_of(PROBE_SETTINGS),
    "--benchmarks": _list_of(BENCHMARKS),
    "--objectives": _list_of(OBJECTIVE_SETTINGS),
    "--recipes": lambda value: _list_of(recipes.names())(value),
    "--override": _key_values(_keys),
    "--set": _key_values(_probe_keys),
    "--over": lambda value: _one_of(recipes.names())(value),
    "--forgetting": _one_of(CONFIG["eval.forgetting"].choices),
    "--mapping": _one_of(("auto", "pmap", "shard_map")),  # those of the flag in training/__main__.py
    "--format": _table_formats,
    "export --format": _one_of(export.FORMATS),
}
POSITIONAL = {
    "prepare": sorted({one.tfds_name for one in BENCHMARKS.values() if one.tfds_name}),
    "reproduce": ("table1", "table2", "fewshot", "cka", "landscape", "cassle", "streams"),
    "completion": tuple(SCRIPTS),
}


@cli.returns_exit_code
def main(argv: Sequence[str], prog: str = "ucl completion") -> int:
    """Prints the script of a shell or, with --line, what fits, one word a line."""
    parser = cli.Parser(prog=prog, description=__doc__.splitlines()[0], epilog=cli.examples(prog, CALLS))
    parser.add_argument("shell", nargs="?", default="bash", help=f"{', '.join(SCRIPTS)}; default bash")
    parser.add_argument("--line", help="a command line up to the cursor: print what its last word can become")
    given = parser.parse_args(argv)
    script = user_choice("shell", given.shell, SCRIPTS)
    print(script.rstrip() if given.line is None else "\n".join(candidates(given.line)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
