# SPDX-License-Identifier: Apache-2.0
"""The README in both languages: the same headings, commands and links, and all of it is there."""

import re
import shlex
from functools import cache

import pytest

from src.base.program import command
from src.commands.main import COMMANDS
from src.model_utils.configuration.near_keys import CONFIG_PATH
from src.model_utils.configuration.schema import SETTABLE
from tests.helpers.paths import REPO

ENGLISH, CHINESE = "README.md", "README_CN.md"
LONGEST = 170  # lines
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# Options of programs that have others than the configuration's keys.
OWN_OPTIONS = {
    "convert_checkpoint.py": {"ckpt_file", "output"},
    "predict.py": {"input"},
    "check_data.py": set(),
}


@cache
def text(name):
    return (REPO / name).read_text(encoding="utf-8")


@cache
def blocks(name):
    """(language, lines without comments and alignment) of each block of code."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text(name), re.M | re.S)
    return [(language, [_bare(line) for line in code.splitlines()]) for language, code in found]


def _bare(line):
    return " ".join(re.sub(r"\s+#\s.*", "", line).split())


def prose(name):
    return re.sub(r"^```.*?^```$", "", text(name), flags=re.M | re.S)


def headings(name):
    return re.findall(r"^(#+) (.+)$", prose(name), re.M)


def links(name):
    """Targets outside the page, in order, without what may follow a #."""
    targets = (target.partition("#")[0] for target in _LINK.findall(prose(name)))
    return [target for target in targets if target]


def commands():
    """Every command of the English page, in words."""
    lines = [line for language, code in blocks(ENGLISH) if language == "bash" for line in code]
    lines += re.findall(r"`((?:python|bash) [^`]+)`", prose(ENGLISH))
    return [shlex.split(line.replace("(option)", "")) for line in lines]


def test_both_languages_have_the_same_headings():
    assert [mark for mark, _ in headings(ENGLISH)] == [mark for mark, _ in headings(CHINESE)]
    assert len(headings(ENGLISH)) > 8


def test_both_languages_have_the_same_commands():
    assert blocks(ENGLISH) == blocks(CHINESE) and len(blocks(ENGLISH)) > 6


def test_both_languages_name_the_same_things():
    """Keys, options, files and commands within sentences, and links."""
    english, chinese = (re.findall(r"`([^`\n]+)`", prose(name)) for name in (ENGLISH, CHINESE))
    assert sorted(english) == sorted(chinese)
    other = {CHINESE: ENGLISH, ENGLISH: CHINESE}
    assert sorted(links(ENGLISH)) == sorted(other.get(link, link) for link in links(CHINESE))


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_the_contents_are_the_headings(name):
    anchors = [target[1:] for target in _LINK.findall(prose(name)) if target.startswith("#")]
    titles = [title for _, title in headings(name)[2:]]  # behind the page's and the contents'
    assert anchors == [title.lower().replace(" ", "-") for title in titles]


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_the_page_is_short_and_links_to_what_is_there(name):
    assert len(text(name).splitlines()) <= LONGEST
    missing = [link for link in links(name) if not (REPO / link).exists()]
    assert not missing


def test_what_is_run_is_there():
    for words in commands():
        if words[0] == "bash":
            assert (REPO / words[1]).is_file(), words
        elif words[:3] == ["python", "-m", "src"]:
            assert words[3] in COMMANDS, words
        elif words[0] == "python":
            assert (REPO / words[1]).is_file(), words
    for known in COMMANDS:
        words = command(known).split()
        assert words[1] == "-m" or (REPO / words[1]).is_file(), known


def test_options_of_the_commands_are_keys():
    for words in commands():
        if words[0] != "python" or words[1] == "-m":
            continue
        own = OWN_OPTIONS.get(words[1], set())
        options = {word[2:] for word in words if word.startswith("--")} - {"help"}
        unknown = options - own - {*SETTABLE, CONFIG_PATH}
        assert not unknown, words


def test_continuous_integration_runs_what_the_page_names():
    (script,) = re.findall(r"scripts/(\w+\.sh)", (REPO / ".ci" / "run").read_text())
    assert ["bash", f"scripts/{script}"] in commands()
