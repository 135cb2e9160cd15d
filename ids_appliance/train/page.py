"""A page of Markdown in, the same as HTML out: one file that needs no other and asks for none."""

import base64
import html
from collections.abc import Mapping
from typing import Final

from markdown_it import MarkdownIt

PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto }}
td, th {{ border: 1px solid #ccc; padding: .2rem .5rem; text-align: left }}
img {{ max-width: 100% }}
</style></head><body>
{body}</body></html>
"""
_NONE: Final[Mapping[str, bytes]] = {}


def to_html(markdown: str, *, pictures: Mapping[str, bytes] = _NONE) -> str:
    """Return a page, titled by its first heading.

    pictures: PNG by the name under which the page shows it. What captures and their origins are
    called stands in such pages: their HTML is shown as text, and of a picture that is not among
    these only its text is.
    """
    made = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = made.parse(markdown)
    inline = [token for token in tokens if token.type == "inline"]
    for token in (child for one in inline for child in one.children or ()):
        if token.type != "image":
            continue
        content = pictures.get(str(token.attrs["src"]))
        if content is None:
            token.type = "text"
        else:
            token.attrs["src"] = "data:image/png;base64," + base64.b64encode(content).decode()
    headings = (i for i, token in enumerate(tokens) if token.type == "heading_open")
    title = next((tokens[i + 1].content for i in headings), "")
    body = made.renderer.render(tokens, made.options, {})
    return PAGE.format(title=html.escape(title), body=body)
