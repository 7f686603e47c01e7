"""Recipes: `get_config(arg)`, one a file, over the tree in `base.py`."""
