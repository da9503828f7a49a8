# SPDX-License-Identifier: MIT
"""Undoing what was begun, when a later step fails or is interrupted.

A step can be interrupted after it took effect and before the program knows: so an undo finds out by itself
what there is to undo, and begins before the step that it undoes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

_TRIES = 3

Undo = Callable[[], object]
"""May be carried out several times, and when there is nothing to undo."""


class _Outcome(NamedTuple):
    """How an undo ended: by which error, if it never succeeded, and what interrupted it, if anything did."""

    failure: BaseException | None
    interrupt: BaseException | None


@contextmanager
def on_failure(undo: Undo, left: str) -> Iterator[None]:
    """Undo when the block fails or is interrupted; the error gets a note of what is `left` if that fails."""
    try:
        yield
    except BaseException as error:
        interrupt = _undone(undo, left, error)
        if interrupt is not None and isinstance(error, Exception):
            raise interrupt from error
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


def _undone(undo: Undo, left: str, error: BaseException) -> BaseException | None:
    """Undo after an error, which says what is left; returns what interrupted that."""
    failure, interrupt = _carry_out(undo)
    if failure is not None:
        for told in {id(one): one for one in (error, interrupt) if one is not None}.values():
            told.add_note(f"{left}: {failure}")
    return interrupt


def _carry_out(undo: Undo) -> _Outcome:
    """Neither one error nor one more Ctrl-C ends it."""
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
