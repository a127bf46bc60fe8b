"""The project's language: docstrings that begin as style asks, and words that no native speaker would write."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for folder in ("schemas", "sinks", "streams", "ops", "deploy", "bench")
    for path in (ROOT / folder).rglob("*.py")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)  # installed packages
)
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]

#: A pattern, and what to write instead.
WORDS = {
    r"\b(?:is|are|be|been|was|were) told\b|\btells? (?:of|how|which|what|whether|who)\b": "report, log, print, say",
    r"\banew\b": "again",
    r"\bbeside\b": "next to, and, besides",
    r"\bmend(?:ed|s|ing)?\b": "repair, fix",
    r"\bfor ever\b": "forever, permanently",
    r"\b(?:is|are) none\b|\b(?:that|what) is no\b": "is not a",
    r"\b(?:the|a|bad) world\b": "the environment, the dependency",
    r"\b(?:thereby|thereof|hitherto)\b": "(a plain sentence)",
    r"\bwhat (?:became|becomes|came|comes|stands)\b": "the noun: the outcome, the result",
}
CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)", re.DOTALL)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """The lines on which documented things begin, and their docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield getattr(node, "lineno", 1), text


def comments(path: Path) -> str:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return "\n".join(token.string.lstrip("#: ") for token in tokens if token.type == tokenize.COMMENT)


def odd_words(text: str) -> list[str]:
    """Each unwanted word of a text with the words to write instead."""
    prose = re.sub(r"\s+", " ", CODE.sub("X", text))
    return [
        f"{prose[max(0, found.start() - 30) : found.end() + 30]!r}: write {instead}"
        for pattern, instead in WORDS.items()
        for found in re.finditer(pattern, prose, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_and_comments_are_plain_english(path: Path) -> None:
    texts = list(docstrings(path))
    assert [line for line, text in texts if re.match(r"(?i)what\b|so many\b|of which\b", text)] == []
    assert odd_words("\n".join([*(text for _, text in texts), comments(path)])) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_plain_english(path: Path) -> None:
    assert odd_words(path.read_text(encoding="utf-8")) == []


def test_words_are_found_across_lines_and_not_in_code() -> None:
    assert odd_words("it is\ntold; `is told`\n```\nanew\n```") == ["'it is told; X X': write report, log, print, say"]
