"""The two READMEs say the same: headings, commands, tables and their numbers, links and code, block by block."""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = "README.md", "README.zh-TW.md"
# Of each other, and of a heading that is translated.
_OWN_LINKS = ("README.md", "README.zh-TW.md")


class Block(NamedTuple):
    """A piece of a README between blank lines; a fenced one whole."""

    kind: str
    line: int
    text: str


def blocks(text: str) -> list[Block]:
    found, kind, start, lines = [], "", 0, []

    def end():
        nonlocal kind, lines
        if lines:
            found.append(Block(kind, start, "\n".join(lines)))
        kind, lines = "", []

    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if kind == "code":
                end()
                continue
            end()
            # The language belongs to it.
            kind, start, lines = "code", number, [line]
            continue
        if kind != "code":
            of_line = {"#": "heading", "|": "table", "*": "list item", "!": "picture"}.get(line[:1], kind or "text")
            if not line.strip() or of_line != kind or line[:1] in ("#", "*"):
                end()
            if not line.strip():
                continue
            kind = of_line
        if not lines:
            start = number
        lines.append(line)
    end()
    return found


def facts(block: Block) -> list:
    """What no translation changes, in the block's order where its order stays."""
    text = block.text
    if block.kind == "code":
        # What is explained behind a command, or beside a file, is words.
        return [re.split(r"\s+#|\s{2,}(?=\S)", line.strip())[0] for line in text.splitlines()]
    if block.kind == "heading":
        return [re.match(r"#+", text).group()]
    if block.kind == "table":
        return [[_of_words(cell) for cell in row.strip("|").split("|")] for row in text.splitlines()]
    return [_of_words(text)]


def _of_words(text: str) -> dict[str, list[str]]:
    """Code, links and numbers, sorted: languages order words differently."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if link not in _OWN_LINKS]
    code = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    rest = re.sub(r"`[^`]+`|\]\([^)]*\)", " ", text)
    return {"code": sorted(code), "links": sorted(links), "numbers": sorted(re.findall(r"\d[\d.,]*\d|\d", rest))}


def first_difference(english: str, chinese: str) -> str:
    for one, other in itertools.zip_longest(blocks(english), blocks(chinese)):
        if one is None or other is None:
            name, block = (CHINESE, one) if other is None else (ENGLISH, other)
            return f"{name} lacks a block: {block.kind}\n{block.text}"
        where = f"{ENGLISH}:{one.line} and {CHINESE}:{other.line}"
        if one.kind != other.kind:
            return f"{where} are a {one.kind} and a {other.kind}\n{one.text}\n---\n{other.text}"
        for a, b in itertools.zip_longest(facts(one), facts(other)):
            if a != b:
                return f"{where}, a {one.kind}, differ:\n{a}\n---\n{b}"
    return ""


def test_the_translation_is_equal():
    english, chinese = ((REPOSITORY / name).read_text(encoding="utf-8") for name in (ENGLISH, CHINESE))
    assert len(blocks(english)) > 50
    difference = first_difference(english, chinese)
    assert not difference, difference


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("--mode=doctor --config", "--mode=doktor --config", "a code, differ"),
        ("| 59.25 ± 0.93 |", "| 59.52 ± 0.93 |", "a table, differ"),
        ("(CITATION.cff)", "(CITE)", "a text, differ"),
        ("\n## ", "\n### ", "a heading, differ"),
        ("* **", "", "are a list item and a text"),
    ],
)
def test_every_difference_is_found(before, after, said):
    # Made up, so that it holds whatever the real ones say.
    english = (
        "# A\n\nSee [how](CITATION.cff).\n\n## B\n\n```bash\npython main.py --mode=doctor --config=x   # words\n```\n\n"
        "* **Item**\n\n| a | b |\n| --- | --- |\n| c | 59.25 ± 0.93 |\n"
    )
    chinese = english.replace("# words", "# 說明").replace("See", "見")
    assert first_difference(english, chinese) == ""
    assert said in first_difference(english, chinese.replace(before, after, 1))
    assert "lacks a block" in first_difference(english, chinese + "\n\n## C\n")


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_links_lead_somewhere(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    # As GitHub makes them of headings.
    anchors = [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in re.findall(r"(?m)^#+ (.*)", text)]
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        assert "://" in link or not path or (REPOSITORY / path).exists() or (REPOSITORY / f"{path}.md").exists(), link
        assert not anchor or "://" in link or anchor in anchors, link


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_rows_have_a_cell_for_each_column(name):
    for block in blocks((REPOSITORY / name).read_text(encoding="utf-8")):
        if block.kind == "table":
            # A page shows no row's cells beyond those of its head.
            counts = [re.sub(r"`[^`]*`", "", row).count("|") for row in block.text.splitlines()]
            assert len(set(counts)) == 1, (block.text.splitlines()[0], counts)
