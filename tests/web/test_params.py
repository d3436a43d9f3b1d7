"""Query strings: what is understood, and that nothing a stranger sends raises anything but a UsageError."""

from datetime import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.model.errors import UsageError
from gpuwatch.model.view import ViewOptions
from gpuwatch.web.params import Params


def test_a_view_s_parameters():
    params = Params.parse("q=h100+lisa&free=true&sort=-memory&page=2&view=flat&width=120&term=true&detail=true&state=idle&user=%E5%AE%9F")
    assert params.format == "text"
    assert params.view("stranger") == ViewOptions(
        query="h100 lisa", free_only=True, sort="memory", descending=True, page=2, layout="flat", width=120, detail=True, state="idle", user="実"
    )


@pytest.mark.parametrize(("query", "wanted"), [("", "html"), ("term=true", "text"), ("term=false", "html"), ("format=json", "json"), ("format=csv", "csv")])
def test_the_twin_that_is_asked_for(query, wanted):
    assert Params.parse(query).format == wanted


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("width=79000", "width='79000' is not a whole number from 60 to 400"),
        ("page=-1", "page='-1' is not a whole number"),
        ("page=%D9%A3", "is not a whole number"),
        ("sort=colour", "sort='colour' is not one of hosts, name"),
        ("view=x", "view='x' is not one of rows, grid, flat"),
        ("state=ill", "state='ill' is not one of free"),
        ("q=" + "x" * 201, "q= is longer than 200"),
    ],
)
def test_what_cannot_be_is_refused_by_name(query, words):
    with pytest.raises(UsageError, match=words):
        Params.parse(query).view("stranger")


def test_too_many_parameters_are_refused():
    with pytest.raises(UsageError, match="more than 50"):
        Params.parse("&".join("a=1" for _ in range(60)))


@given(st.text(max_size=300))
def test_no_query_string_raises_anything_else(query):
    try:
        params = Params.parse(query)
        assert params.format in ("html", "text", "json", "csv")
        assert 60 <= params.view("stranger").width <= 400
    except UsageError as error:
        assert "\n" not in str(error)


@given(st.dictionaries(st.sampled_from(["q", "width", "page", "sort", "view", "state", "free", "term", "format"]), st.text(max_size=20)))
def test_no_value_raises_anything_else(values):
    try:
        assert isinstance(Params(values).view("stranger"), ViewOptions)
        assert Params(values).format
    except UsageError as error:
        assert str(error)


def test_a_query_of_many_kilobytes_is_refused():
    with pytest.raises(UsageError, match="4096"):
        Params.parse("q=" + "a" * 5000)


def test_moments_are_of_the_zone_and_never_of_the_future():
    now = 1795008730.25

    def moment(query):
        return Params.parse(query).moment(now, timezone.utc)

    assert moment("") is None
    assert moment("at=") is None
    assert moment("at=-2h") == 1795001530.0, "to the second, so that those who ask together share the answer"
    assert moment("at=now") == 1795008730.0
    assert moment("at=2026-11-18T12:00:00.5") == 1795003200.5
    assert moment("at=1795008750") == now, "the clock of a browser may be ahead"
    with pytest.raises(UsageError, match="in the future"):
        moment("at=2026-11-18T14:00")
    with pytest.raises(UsageError, match="at='soon' is not understood"):
        moment("at=soon")
