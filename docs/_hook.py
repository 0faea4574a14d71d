"""What MkDocs does beyond its configuration: the README is the first page, and links lead nowhere outside the pages.

Files of the repository that are no documents (results, sources, CONTRIBUTING) are not part of the pages. A link to one
of them becomes its text; an image is copied.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README and the images that the documents show."""
    readme = ROOT / "README.md"
    files.append(File.generated(config, "index.md", content=within_docs(readme.read_text(encoding="utf-8"), readme)))
    for document in (readme, *DOCS.rglob("*.md")):
        for link in LINK.finditer(document.read_text(encoding="utf-8")):
            path = (document.parent / link["target"]).resolve()
            if link["image"] and path.is_file() and files.get_file_from_path(inside(path)) is None:
                files.append(File.generated(config, inside(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Resolve a page's links out of the documents."""
    return markdown if page.file.src_uri == "index.md" else within_docs(markdown, DOCS / page.file.src_uri)


def on_page_content(html: str, **_: object) -> str:
    """Leave the roles of reStructuredText out that docstrings name things by."""
    return re.sub(r":(?:attr|class|data|func|meth|mod):(?=<code>)", "", html)


def within_docs(markdown: str, document: Path) -> str:
    """Rewrite the links of a document, so that they hold among the pages or are links no more."""
    page = DOCS / "index.md" if document.parent == ROOT else document

    def resolved(link: re.Match[str]) -> str:
        target = link["target"]
        path = (document.parent / target).resolve()
        if "://" in target or not path.exists():
            return link[0]  # MkDocs warns of what does not exist
        if link["image"]:
            return f"![{link['text']}]({between(page, DOCS / inside(path))})"
        if path.suffix == ".md" and (path.is_relative_to(DOCS) or path == ROOT / "README.md"):
            path = DOCS / "index.md" if path.parent == ROOT else path
            return f"[{link['text']}]({between(page, path)}{link['anchor'] or ''})"
        return link["text"]

    return LINK.sub(resolved, markdown)


def between(page: Path, path: Path) -> str:
    """Return how a page names a file."""
    return Path(os.path.relpath(path, page.parent)).as_posix()


def inside(path: Path) -> str:
    """Return where an image of the repository lies among the pages."""
    return str(PurePosixPath("images") / path.relative_to(ROOT).as_posix().replace("/", "-"))
