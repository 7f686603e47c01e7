"""The recipes, one in each file: `get_config(arg)` returns the config tree of a run.

`base.py` says which values are in which file.
"""
