"""Hooks of MkDocs: the README is the first page, and links to files that are on no page become plain text."""

import pathlib
import re

from mkdocs.exceptions import PluginError

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown, page, config, files):
    """Returns the Markdown of a page with its links as the site needs them; ends the build at a broken link."""
    docs = pathlib.Path(config.docs_dir)
    readme, first = docs.parent / "README.md", page.file.src_uri == "index.md"
    source = readme if first else docs / page.file.src_uri
    markdown = readme.read_text(encoding="utf-8") if first else markdown

    def link(found):
        text, path, anchor = found.groups()
        target = (source.parent / path).resolve()
        if not target.exists():
            raise PluginError(f"{source}: there is no {path}, to which [{text}] links")
        if target == readme:
            return f"[{text}](index.md{anchor or ''})"
        return found[0] if target.is_relative_to(docs) else text

    markdown = LINK.sub(link, markdown)
    return markdown.replace("](docs/", "](") if first else markdown
