"""``make site``: builds the pages with mkdocs into build/site; ``--check`` builds them to find what is wrong.

The pages link to each other and to files across the repository. So what is built is a copy of that layout, with the
pages and whatever they link to; nothing is fetched.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tools import error_docs, log_docs

ROOT = Path(__file__).resolve().parent.parent
#: Pages that are no part of the site: fragments, forms, and what another page includes.
_LEFT_OUT = re.compile(r"^(changes|\.github)/|^benchmarks/remarks\.md$")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<path>[^)#\s]+)")


def main(arguments: list[str]) -> int:
    """Build the site; return 1 if a page or a link is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")  # the theme's advertisement
    with tempfile.TemporaryDirectory(prefix="pilothouse-site-") as folder:
        checking = arguments == ["--check"]
        if checking and (stale := _stale()):
            print(stale, file=sys.stderr)
            return 1
        pages = Path(folder) / "pages" if checking else ROOT / "build" / "pages"
        site = Path(folder) / "site" if checking else ROOT / "build" / "site"
        shutil.rmtree(pages, ignore_errors=True)
        lay_out(pages)
        try:
            build(load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(site)))
        except Abort as error:
            print(f"the site is not built: {error}", file=sys.stderr)
            return 1
    if not checking:
        print(f"wrote {site}")
    return 0


def _stale() -> str:
    """Return which page of reference the code has outgrown, and what to do."""
    for module, source in ((error_docs, "tools/error_docs.py"), (log_docs, "tools/log_docs.py")):
        try:
            if module.PAGE.read_text() != module.page():
                return f"{module.PAGE} is not what the code says: run `make docs`"
        except KeyError as error:
            return f"{source} does not explain {error}: add it there, then run `make docs`"
    return ""


def lay_out(pages: Path) -> None:
    """Copy every page, and every file that one links to."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for name in listed:
        page = ROOT / name
        if not name or _LEFT_OUT.search(name) or not page.exists():
            continue
        _copy(page, pages)
        for link in _LINK.finditer(page.read_text()):
            target = (page.parent / link["path"]).resolve()
            if target.is_file() and target.suffix != ".md":
                _copy(target, pages)


def _copy(file: Path, pages: Path) -> None:
    copied = pages / file.relative_to(ROOT)
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copied)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
