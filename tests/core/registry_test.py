from collections.abc import Callable

import pytest

from jaxpolicy.core.registry import Registry
from jaxpolicy.core.schema import InputError


@pytest.fixture
def sizes():
    return Registry("size", {"small": 1, "large": 9}, int)


def test_it_is_a_mapping_of_the_librarys_parts_then_the_others(sizes):
    sizes.add("huge", 99, "mine")
    assert list(sizes) == ["small", "large", "huge"]
    assert (len(sizes), sizes["huge"], sizes.get("tiny")) == (3, 99, None)
    assert sizes.own == {"small", "large"}
    assert dict(sizes.origins) == {"huge": "mine"}


def test_taken_names_are_refused_and_name_who_has_them(sizes):
    with pytest.raises(InputError, match="mine: size 'small': jaxpolicy has one of that name"):
        sizes.add("small", 2, "mine")
    sizes.add("huge", 99, "theirs")
    with pytest.raises(InputError, match="mine: size 'huge': theirs has one of that name"):
        sizes.add("huge", 98, "mine")
    assert (sizes["small"], sizes["huge"]) == (1, 99)


@pytest.mark.parametrize("name", ["", "9lives", "a:b", "a b", "a/b"])
def test_names_that_a_configuration_could_not_say(sizes, name):
    with pytest.raises(InputError, match="a name is letters"):
        sizes.add(name, 1, "mine")


def test_parts_of_another_kind_are_refused(sizes):
    with pytest.raises(InputError, match="size 'huge' must be a int, got str '99'"):
        sizes.add("huge", "99", "mine")
    makers = Registry("maker", {}, Callable)
    with pytest.raises(InputError, match="must be a Callable, got int 3"):
        makers.add("three", 3, "mine")


def test_a_copy_grows_alone(sizes):
    sizes.add("huge", 99, "mine")
    copy = sizes.copy()
    copy.add("tiny", 0, "mine")
    assert dict(copy) == {**sizes, "tiny": 0}
    assert (copy.own, "tiny" in sizes) == (sizes.own, False)
