"""The documentation: the site builds without a warning, names all that is public, and its examples are run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]

PUBLIC = [
    "aioblobcache",
    "aioblobcache.conformance",
    "aioblobcache.contrib.aiohttp",
    "aioblobcache.contrib.fastapi",
    "aioblobcache.contrib.opentelemetry",
    "aioblobcache.contrib.prometheus",
    "aioblobcache.contrib.starlette",
    "aioblobcache.maintenance",
    "aioblobcache.registry_api",
    "aioblobcache.storage",
]

# Where the examples of a page are run.
RUN_BY = {
    "README.md": "test_readme.py",
    "docs/near-cache.md": "test_readme.py",
    "docs/operator.md": "test_readme.py",
    "docs/tutorial.md": "test_tutorial.py",
    "docs/howto/aiohttp.md": "test_howto.py",
    "docs/howto/fastapi.md": "test_howto.py",
    "docs/howto/metrics.md": "test_howto.py",
    "docs/howto/starlette.md": "test_howto.py",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "tmp"), str(DOCS)]
    built = subprocess.run([*command, str(folder / "html")], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / "html"


def documented(site):
    """All names in the inventory that other projects link by."""
    _, _, _, _, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    return {line.split(" ", 1)[0] for line in zlib.decompress(packed).decode().splitlines()}


def test_the_site_describes_every_public_name(site):
    names = documented(site)
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            assert f"{module}.{name}" in names


def test_every_example_has_a_test():
    with_examples = {str(page.relative_to(ROOT)) for page in PAGES if "```python" in page.read_text()}
    assert with_examples == RUN_BY.keys()
    for page, test in RUN_BY.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text()


def test_the_tests_named_in_the_security_policy_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 20
    for path, test in named:
        assert f"def {test}" in (ROOT / path).read_text(), (path, test)


def test_links_outside_the_site_have_targets():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), (page.name, target)
