"""Texts that may come from the network in, texts that a browser shows as they are out."""

import re
from typing import Final

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=])")
_LINK: Final = re.compile(r"https?:(?=//)|www(?=\.)|@(?=[-\w]+\.)", re.IGNORECASE)
"""What GitHub's Markdown makes a link of by itself, escaped or not."""
_BREAK: Final = "\u200b"
MAX_TEXT: Final = 300


def plain(text: str, most: int = MAX_TEXT) -> str:
    """Return one line of at most `most` characters, without control and invisible ones: nothing
    that turns the writing around or hides a part of it."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def literal(text: str, most: int = MAX_TEXT) -> str:
    """Return a text that Markdown shows letter by letter: no link, image, colour or icon of it."""
    unlinked = _LINK.sub(rf"\g<0>{_BREAK}", plain(text, most))
    return _MARKDOWN.sub(r"\\\1", unlinked)


def ago(seconds: float) -> str:
    """Return a span in its two greatest units: "1 h 30 min", "4 s"."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if (left >= unit or unit == 1) and len(parts) < 2:
            if left >= unit or not parts:
                parts.append(f"{left // unit} {name}")
            left %= unit
        elif parts:
            break
    return " ".join(parts)
