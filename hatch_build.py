"""What hatchling asks for when the package is built: the README as an index of packages shows it.

There relative links lead nowhere. With ``Repository`` under [project.urls] in pyproject.toml they
become absolute, at the tag of the version; without it their text stays, and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A picture or a link whose target has no scheme and is no place in the page itself.
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)")


class Readme(MetadataHookInterface):
    """Puts the README into the metadata."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add "readme" to the metadata.

        Arguments:
            metadata: of pyproject.toml; changed in place.
        """
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        text = for_an_index(text, repository, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def for_an_index(text: str, repository: str | None, tag: str) -> str:
    """A README without relative links.

    Arguments:
        text: Markdown.
        repository: its address, or None where there is none yet.
        tag: of the version.
    """

    def absolute(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        if repository is None:
            return "" if picture else words
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({repository.rstrip('/')}/{kind}/{tag}/{target})"

    return _RELATIVE.sub(absolute, text)
