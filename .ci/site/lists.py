"""Lists that follow their introduction without an empty line, as everywhere else but in Python-Markdown."""

import re

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

_ITEM = re.compile(r"(?:[-*+]|\d+\.) ")
_FENCE = re.compile(r"\s*(?:```|~~~)")


class _EmptyLines(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        """Put an empty line where a paragraph is followed by an item."""
        made: list[str] = []
        in_code = in_list = False
        for line in lines:
            if _FENCE.match(line):
                in_code = not in_code
            if not in_code and _ITEM.match(line):
                if made and made[-1].strip() and not in_list:
                    made.append("")
                in_list = True
            elif not line.startswith((" ", "\t")):
                in_list = False
            made.append(line)
        return made


class ListsAfterParagraphs(Extension):
    """The extension."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Python-Markdown's name
        """Run before fenced code is taken out (pymdownx: 25)."""
        md.preprocessors.register(_EmptyLines(md), "lists_after_paragraphs", 29)
