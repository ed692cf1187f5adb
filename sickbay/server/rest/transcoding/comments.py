"""The comments of RPCs, messages and fields in the contract, for REST's documentation.

Generated code does not contain them: they are read from the descriptor set that `make gen` puts beside it. A package without one has no
comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

RESOURCE: Final = "descriptors.binpb"
_SNAKE: Final = re.compile(r"`[a-z]+(?:_[a-z]+)+`")


def comment(descriptor: Any) -> str:
    """The comment of an RPC, a message, a field or a oneof, in one line; empty if there is none. Field names are those of JSON."""
    words = _comments_beside(_file(descriptor).name).get(descriptor.full_name, "")
    return _SNAKE.sub(lambda found: _camel(found.group()), words)


def _file(descriptor: Any) -> Any:
    for owner in ("containing_service", "containing_type"):
        outer = getattr(descriptor, owner, None)
        if outer is not None:
            return outer.file
    return descriptor.file


def _comments_beside(name: str) -> Mapping[str, str]:
    return _comments(name.rpartition("/")[0].replace("/", "."))


@lru_cache
def _comments(package: str) -> Mapping[str, str]:
    try:
        data = resources.files(package).joinpath(RESOURCE).read_bytes()
    except (OSError, ImportError, ValueError):
        return {}
    return dict(line for file in FileDescriptorSet.FromString(data).file for line in _of_file(file))


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    names = dict(_places(file))
    for location in file.source_code_info.location:
        name = names.get(tuple(location.path))
        if name and location.leading_comments:
            yield f"{file.package}.{name}", " ".join(location.leading_comments.split())


def _places(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """The path of each element in its file (see SourceCodeInfo in descriptor.proto), and its name."""
    for index, message in enumerate(file.message_type):
        yield from _places_in(message, (FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, index), message.name)
    for index, service in enumerate(file.service):
        place = (FileDescriptorProto.SERVICE_FIELD_NUMBER, index)
        yield place, service.name
        for number, method in enumerate(service.method):
            yield (*place, service.METHOD_FIELD_NUMBER, number), f"{service.name}.{method.name}"


def _places_in(message: DescriptorProto, place: tuple[int, ...], name: str) -> Iterator[tuple[tuple[int, ...], str]]:
    yield place, name
    for index, field in enumerate(message.field):
        yield (*place, DescriptorProto.FIELD_FIELD_NUMBER, index), f"{name}.{field.name}"
    for index, oneof in enumerate(message.oneof_decl):
        yield (*place, DescriptorProto.ONEOF_DECL_FIELD_NUMBER, index), f"{name}.{oneof.name}"
    for index, nested in enumerate(message.nested_type):
        yield from _places_in(nested, (*place, DescriptorProto.NESTED_TYPE_FIELD_NUMBER, index), f"{name}.{nested.name}")


def _camel(words: str) -> str:
    first, *rest = words.split("_")
    return first + "".join(word.capitalize() for word in rest)
