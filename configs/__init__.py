"""Recipes, one a file: `get_config(arg)` returns the config tree of a run; `base.py` says where which value stands."""
