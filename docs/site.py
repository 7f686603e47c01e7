"""Hooks of MkDocs: the README is the first page, and links to files that are on no page become plain text."""

import pathlib
import re

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown, page, config, files):
    """Returns the Markdown of a page with its links as the site needs them."""
    root, folder = pathlib.Path(config.docs_dir).parent, pathlib.Path(page.file.src_uri).parent
    if page.file.src_uri == "index.md":
        markdown = re.sub(r"\]\(docs/", "](", (root / "README.md").read_text(encoding="utf-8"))

    def link(found):
        text, path, anchor = found.groups()
        target = pathlib.Path(config.docs_dir, folder, path).resolve()
        if target == root / "README.md":
            return f"[{text}](index.md{anchor or ''})"
        return found[0] if target.is_relative_to(config.docs_dir) and target.exists() else text

    return LINK.sub(link, markdown)
