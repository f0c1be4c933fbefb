# SPDX-License-Identifier: Apache-2.0
"""Names that were written on other systems find their files."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.base.file_names import find_image, find_images, one_form

COMPOSED = unicodedata.normalize("NFC", "é/ü b.jpg")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize("on_disk", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("written", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_any_unicode_form_and_separator(tmp_path, on_disk, written, separator):
    (tmp_path / on_disk).parent.mkdir()
    (tmp_path / on_disk).touch()
    found = find_image(str(tmp_path), written.replace("/", separator))
    assert found == str(tmp_path / on_disk)
    assert one_form(on_disk) == COMPOSED


def test_a_folder_in_one_form_and_a_file_in_the_other(tmp_path):
    folder, name = DECOMPOSED.split("/")[0], COMPOSED.split("/")[1]
    (tmp_path / folder).mkdir()
    (tmp_path / folder / name).touch()
    assert find_image(str(tmp_path), COMPOSED) == str(tmp_path / folder / name)


def test_a_file_whose_name_has_a_backslash_is_taken_as_it_is(tmp_path):
    (tmp_path / "a\\b.jpg").touch()
    assert find_image(str(tmp_path), "a\\b.jpg") == str(tmp_path / "a\\b.jpg")
    assert find_image(str(tmp_path), "c\\b.jpg") == str(tmp_path / "c" / "b.jpg")


@pytest.mark.parametrize("name", ["a\0ü.jpg", "\ud800.jpg", "..\\ü", "/ü.jpg", "C:\\ü.jpg", "\\"])
def test_names_that_no_file_has(tmp_path, name):
    assert find_image(str(tmp_path), name).startswith("/")


@given(
    st.sampled_from(["/pictures", "pictures/", "/", "", "a/../b", "/a//b/."]),
    st.lists(st.text("aB1_-. /\\é", max_size=8)),
)
def test_many_names_at_once(folder, names):
    assert find_images(folder, names) == [find_image(folder, name) for name in names]
