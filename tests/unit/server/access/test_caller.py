"""The caller as servicers see it."""

from types import SimpleNamespace

import pytest

from sickbay.domain.access import ANYBODY, Principal
from sickbay.ports.access import Credentials
from sickbay.server.access.caller import CallContext, Caller, principal_of
from sickbay.server.inprocess.context import Context


@pytest.mark.parametrize("context", [None, SimpleNamespace(), Context((), None)])
def test_without_access_control_everybody_is_anybody(context: object) -> None:
    """Over gRPC, and in process, where REST comes from."""
    assert principal_of(context) is ANYBODY


def test_with_it_the_caller_is_the_one_of_the_call() -> None:
    ann = Principal("ann", frozenset())
    assert principal_of(CallContext(Context((), None), Caller(ann, Credentials()))) is ann
