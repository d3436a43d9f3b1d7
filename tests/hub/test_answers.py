"""What nodes say about themselves, as it may stand on pages, in the log and in the database."""

from gpuwatch.hub.answers import clean


def test_text_of_a_node_is_one_line_of_printable_characters():
    said = "driver\x1b[2J\nhung \u202esince\u2028 09:00 \ud800 für 中 \x9b31m"
    assert clean(said, 200) == "driver [2J hung since 09:00 für 中 31m"
    clean(said, 200).encode("utf-8")  # what SQLite will do


def test_text_is_cut():
    assert clean("a" * 1000, 10) == "a" * 10
