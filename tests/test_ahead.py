"""Batches are prepared while a step runs, in their order, and an error comes in its place."""

import threading

import pytest

from common.ahead import Ahead

SOON = 30  # seconds; it is never waited for but where the test fails


def test_order_and_end():
    assert list(Ahead(range(5), 2)) == [0, 1, 2, 3, 4]
    assert list(Ahead([], 2)) == []


def test_the_next_items_are_made_while_one_is_used():
    """A step runs from one item to the next: meanwhile, the one after the next is made."""
    made = [threading.Event() for _ in range(6)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in Ahead(items(), 2):
        for event in made[number : number + 3]:
            assert event.wait(SOON)


def test_no_more_are_made_than_asked_for():
    made = []

    def items():
        for number in range(9):
            made.append(number)
            yield number

    reader = iter(Ahead(items(), 2))
    next(reader)
    reader.close()  # once the thread has made what it was asked for
    assert made == [0, 1, 2]


def test_an_error_comes_in_its_place():
    def items():
        yield 1
        yield 2
        raise ValueError("torn")

    reader = iter(Ahead(items(), 2))
    assert [next(reader), next(reader)] == [1, 2]
    with pytest.raises(ValueError, match="torn"):
        next(reader)
