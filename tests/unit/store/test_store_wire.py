# SPDX-License-Identifier: MIT
"""xenstore's messages as bytes, and what a client does with bytes that no xenstored sends."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pyxc.errors import StoreError
from pyxc.store import Access, Kind, Permission, StoreClient
from pyxc.store.wire import Message, Parser, error_of, join, path_bytes, split

KINDS = (
    "control directory read get_perms watch unwatch transaction_start transaction_end introduce release "
    "get_domain_path write mkdir rm set_perms watch_event error is_domain_introduced resume set_target "
    "restrict reset_watches directory_part get_feature set_feature get_quota set_quota"
).split()
"""In the order of enum xsd_sockmsg_type."""

messages = some.builds(
    Message,
    some.integers(0, 2**32 - 1),
    some.integers(0, 2**32 - 1),
    some.integers(0, 2**32 - 1),
    some.binary(max_size=64),
)


class ScriptedChannel:
    """Takes what is sent, and answers with bytes of the test's; then it is at its end."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._received = b""
        self._file = os.fdopen(os.eventfd(1), "rb", buffering=0)

    def fileno(self) -> int:
        return self._file.fileno()

    def send(self, data: bytes) -> int:
        self._received += self._answer(data)
        return len(data)

    def receive(self) -> bytes:
        data, self._received = self._received, b""
        return data

    def close(self) -> None:
        self._file.close()


def ask(answer: Callable[[bytes], bytes], question: Callable[[StoreClient], Any]) -> Any:
    """What comes of a question when the answer consists of these bytes."""
    with StoreClient(lambda: ScriptedChannel(answer)) as store:
        return question(store)


def read(store: StoreClient) -> Any:
    return store.read("/a")


def test_numbers_of_kinds() -> None:
    assert [kind.operation for kind in sorted(Kind)] == KINDS


def test_a_request_as_bytes() -> None:
    sent = []
    with pytest.raises(StoreError):
        ask(lambda data: sent.append(data) or b"", lambda store: store.write("/a", b"x\0y"))
    assert sent == [struct.pack("=IIII", 11, 1, 0, 6) + b"/a\0x\0y"]


@given(some.lists(messages, max_size=5), some.integers(1, 40))
def test_messages_survive_any_cutting_of_the_stream(sent: list[Message], step: int) -> None:
    stream = b"".join(message.encode() for message in sent)
    parser = Parser()
    received = [
        message for at in range(0, len(stream), step) for message in parser.feed(stream[at : at + step])
    ]
    assert received == sent


@given(some.binary(max_size=200))
def test_no_bytes_of_a_daemon_do_more_than_an_error(data: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        ask(lambda _: data, read)
    assert caught.value.errno in (errno.EPROTO, errno.ECONNRESET)


@given(some.integers(0, 30), some.binary(max_size=100))
def test_no_answer_does_more_than_an_error(kind: int, payload: bytes) -> None:
    questions: tuple[Callable[[StoreClient], Any], ...] = (
        read,
        lambda store: store.read_many(["/a", "/b"]),
        lambda store: store.list("/a"),
        lambda store: store.permissions("/a"),
        lambda store: store.begin(),
        lambda store: store.domain_path(1),
        lambda store: store.is_introduced(1),
        lambda store: store.control("help"),
        lambda store: store.watch("/a"),
    )
    for question in questions:
        try:
            ask(lambda _: Message(kind, 1, 0, payload).encode(), question)
        except StoreError:
            continue


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Message(Kind.WRITE, 1, 0, b"OK\0"), "unexpected reply of type 11"),
        (Message(Kind.WATCH_EVENT, 0, 0, b"/a"), "last string has no NUL"),
        (Message(Kind.WATCH_EVENT, 0, 0, b"/a\0"), "without path and token"),
        (Message(Kind.WATCH_EVENT, 0, 0, b"\xff\0\0"), "is not ASCII text"),
    ],
)
def test_an_answer_of_the_wrong_kind_or_form(answer: Message, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        ask(lambda _: answer.encode(), read)
    assert (caught.value.errno, caught.value.operation, caught.value.path) == (errno.EPROTO, "read", "/a")


def test_a_list_that_never_ends_is_given_up() -> None:
    def endless(data: bytes) -> bytes:
        kind, request = struct.unpack_from("=II", data)
        if kind == Kind.DIRECTORY:
            return Message(Kind.ERROR, request, 0, b"E2BIG\0").encode()
        return Message(kind, request, 0, b"1\0" + b"name\0" * 800).encode()

    with pytest.raises(StoreError, match="a list without an end"):
        ask(endless, lambda store: store.list("/a"))


def test_a_list_that_always_changes_is_given_up() -> None:
    def restless(data: bytes) -> bytes:
        kind, request = struct.unpack_from("=II", data)
        if kind == Kind.DIRECTORY:
            return Message(Kind.ERROR, request, 0, b"E2BIG\0").encode()
        return Message(kind, request, 0, b"%d\0name\0" % request).encode()

    with pytest.raises(StoreError, match="during each of 100 reads") as caught:
        ask(restless, lambda store: store.list("/a"))
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize("path", ["/", "/a", "/a/b-c_D@9", "a", "device/vif/0", "/a@"])
def test_paths(path: str) -> None:
    assert path_bytes(path) == path.encode()


@pytest.mark.parametrize(
    "path",
    ["", "//", "/a/", "a/", "/a//b", "/ä", "/a b", "/a\0b", "/a.b", "@releaseDomain", "/a\n", "a" * 2049],
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        path_bytes(path)


def test_how_long_a_path_may_be() -> None:
    assert path_bytes("/" + "a" * 3071)
    assert path_bytes("a" * 2048)
    with pytest.raises(ValueError, match="3073 characters: xenstore accepts at most 3072"):
        path_bytes("/" + "a" * 3072)


def test_only_where_events_are_meant_their_names_are_paths() -> None:
    assert path_bytes("@releaseDomain", special=True) == b"@releaseDomain"
    with pytest.raises(TypeError, match="path must be a str, not bytes"):
        path_bytes(b"/a")  # type: ignore[arg-type]


@given(some.integers(0, 65535), some.sampled_from([Access(bits) for bits in range(4)]))
def test_permissions_as_text(domid: int, access: Access) -> None:
    permission = Permission(domid, access)
    assert str(permission) == f"{'nrwb'[access]}{domid}"
    assert Permission.parse(str(permission)) == permission


@pytest.mark.parametrize("text", ["", "r", "3", "x3", "r-1", "r3 ", "r123456", "rw3", "r\xb2"])
def test_what_is_no_permission(text: str) -> None:
    with pytest.raises(ValueError, match="is not a permission"):
        Permission.parse(text)


@given(some.lists(some.text("abc/", max_size=8), max_size=6))
def test_strings(strings: list[str]) -> None:
    assert split(join(string.encode() for string in strings)) == strings


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"ENOENT\0", errno.ENOENT),
        (b"EACCES", errno.EACCES),
        (b"EWEIRD\0", errno.EIO),
        (b"errorcode\0", errno.EIO),
    ],
)
def test_errors_by_name(payload: bytes, number: int) -> None:
    assert error_of(payload)[0] == number
