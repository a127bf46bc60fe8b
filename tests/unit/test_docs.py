"""Facts about the documentation: links lead to files, headings and tests that exist; versions and paths are current."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)")


def wrong_links(page: Path, text: str) -> list[str]:
    """Return the links of `text`, which belongs to `page`, to a file, a heading or a test that doesn't exist.

    A link whose text is the name of a test leads to the file that defines it.
    """
    wrong = []
    for name, target, heading in LINK.findall(text):
        path = page.parent / target if target else page
        if not path.exists():
            wrong.append(f"{name}: no file {target}")
        elif name.startswith("test_") and not name.endswith(".py") and not defines(path, name):
            wrong.append(f"{name}: not in {target}")
        elif heading and heading not in anchors(path.read_text() if target else text):
            wrong.append(f"{name}: no heading #{heading}")
    return wrong


def defines(path: Path, test: str) -> bool:
    return re.search(rf"^(async )?def {re.escape(test)}\(", path.read_text(), re.MULTILINE) is not None


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert wrong_links(page, page.read_text()) == []


def test_every_page_is_in_an_index() -> None:
    linked = {
        (index.parent / target).resolve()
        for index in (ROOT / "docs/README.md", ROOT / "docs/adr/README.md", ROOT / "docs/runbooks/README.md")
        for _, target, _ in LINK.findall(index.read_text())
        if target
    }
    assert [str(page) for page in ROOT.glob("docs/*/*.md") if page.name != "README.md" and page not in linked] == []


def test_readme_is_a_page_long() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_ten_changes_name_files_that_exist() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    section = page.partition("## Ten changes")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w./]+\.\w+)`", section)) - {"commands.py"}
    assert len(re.findall(r"^\| (?!---|change)", section, re.MULTILINE)) == 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    pairs = re.findall(r"`([\w./]+\.py)` \(`(\w+)`\)|`(\w+)` in `([\w./]+\.py)`", section)
    defined = [(before or after, first or second) for before, first, second, after in pairs]
    assert len(defined) >= 2
    assert [pair for pair in defined if not re.search(rf"(def|class) {pair[1]}\b", (ROOT / pair[0]).read_text())] == []


def test_one_version_is_stated_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    releases = re.findall(r"^## \[(\d[\d.]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    images = re.findall(r"ARG VERSION=(\S+)", (ROOT / "deploy/Dockerfile").read_text())
    for overlay in ROOT.glob("deploy/k8s/overlays/*/kustomization.yaml"):
        images += re.findall(r"newTag: (\S+)", overlay.read_text())
    assert (releases[0], set(images), len(images)) == (version, {version}, 3)


def test_guarantee_names_tests_of_every_kind() -> None:
    linked = {(name, target) for name, target, _ in LINK.findall((ROOT / "docs/explanation/delivery.md").read_text())}
    folders = {target.split("tests/")[1].split("/")[0] for name, target in linked if name.startswith("test_")}
    assert folders == {"unit", "contract", "e2e", "faults"}
    named = {target for _, target in linked}
    assert {f"../../tests/faults/{path.name}" for path in (ROOT / "tests/faults").glob("test_*.py")} <= named


@pytest.mark.parametrize(
    "link",
    [
        "[test_that_nobody_wrote](../tests/unit/test_docs.py)",
        "[test_every_link](../tests/unit/test_docs.py)",
        "[test_every_link_leads_somewhere](../tests/unit/test_window.py)",
        "[test_gone.py](../tests/unit/test_gone.py)",
        "[below](#no-such-heading)",
    ],
)
def test_wrong_link_is_found(link: str) -> None:
    assert len(wrong_links(ROOT / "docs/explanation/delivery.md", link)) == 1
