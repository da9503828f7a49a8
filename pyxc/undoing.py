# SPDX-License-Identifier: MIT
"""Undoing earlier steps when a later step fails or is interrupted.

A step can be interrupted after it took effect and before the program knows: so an undo must itself find out
what to undo, and is set up before the step that it undoes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from pyxc import errors

_TRIES = 3
T = TypeVar("T")

Undo = Callable[[], object]
"""Can be called several times, and when there is nothing to undo."""


class _Outcome(NamedTuple):
    """The outcome of an undo: its error, if it never succeeded, and the interrupt, if there was one."""

    failure: BaseException | None
    interrupt: BaseException | None


@contextmanager
def on_failure(undo: Undo, left: str) -> Iterator[None]:
    """Undo if the block fails or is interrupted; if the undo fails, the error gets the note `left`."""
    try:
        yield
    except BaseException as error:
        interrupt = _undone(undo, left, error)
        if interrupt is not None and isinstance(error, Exception):
            raise interrupt from error
        raise


@contextmanager
def on_interrupt(undo: Undo, left: str) -> Iterator[None]:
    """The same for a block of one step: a refused step was not done."""
    refused = False

    def unless_refused() -> None:
        if not refused:
            undo()

    with on_failure(unless_refused, left):
        try:
            yield
        except errors.Error:
            refused = True
            raise


@contextmanager
def always(undo: Undo, left: str) -> Iterator[None]:
    """Undo at the end of the block, however it ends."""
    with on_failure(undo, left):
        yield
        failure, interrupt = _carry_out(undo)
    if failure is not None:
        failure.add_note(left)
        raise failure
    if interrupt is not None:
        raise interrupt


@contextmanager
def during(begin: Callable[[], object], end: Undo, left: str) -> Iterator[None]:
    """Begin something before the block and end it after the block. If it is refused, it has not begun."""
    refused = False

    def undo() -> None:
        if not refused:
            end()

    with always(undo, left):
        try:
            begin()
        except errors.Error:
            refused = True
            raise
        yield


@contextmanager
def made(
    make: Callable[[], T], unmake: Callable[[T], object], find: Callable[[], Iterable[T]], left: str
) -> Iterator[T]:
    """Make something for the block, and remove it if the block fails.

    `find` searches for it if an interrupt after its creation lost the result of make().
    """
    results: list[T] = []
    refused = False

    def undo() -> None:
        for result in results or (() if refused else find()):
            unmake(result)

    with on_failure(undo, left):
        try:
            results.append(make())
        except errors.Error:
            refused = True
            raise
        yield results[0]


def _undone(undo: Undo, left: str, error: BaseException) -> BaseException | None:
    """Undo after an error, which gets a note of what is left; returns an interrupt of the undo."""
    failure, interrupt = _carry_out(undo)
    if failure is not None:
        for told in {id(one): one for one in (error, interrupt) if one is not None}.values():
            told.add_note(f"{left}: {failure}")
    return interrupt


def _carry_out(undo: Undo) -> _Outcome:
    """Carry out an undo in spite of one error or one more Ctrl-C."""
    failure: BaseException | None = None
    interrupt: BaseException | None = None
    for _ in range(_TRIES):
        try:
            undo()
        except Exception as error:
            failure = error
        except BaseException as error:
            failure = interrupt = error
        else:
            return _Outcome(None, interrupt)
    return _Outcome(failure, interrupt)
