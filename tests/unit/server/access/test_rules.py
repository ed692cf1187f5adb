"""The table of rights: total over the contract, and nothing else in it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from sickbay.contract.access import METRICS, RULES, Rule
from sickbay.domain.access import RIGHTS, Kind, Principal, Right, Role
from sickbay.domain.errors import PermissionDenied
from sickbay.server.access.control import Access
from tests.support.contract_files import contract_files


def test_every_rpc_has_a_rule_and_every_rule_an_rpc() -> None:
    files = [import_module(name.replace("/", ".").replace(".proto", "_pb2")).DESCRIPTOR for name in contract_files()]
    services = [service for file in files for service in file.services_by_name.values()]
    rpcs = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert len(rpcs) > 30
    assert rpcs == RULES.keys()


def test_what_has_no_rule_is_for_nobody() -> None:
    with pytest.raises(PermissionDenied, match="no rule"):
        Access([]).authorize(Principal("root", frozenset({Role.ADMIN})), "/sickbay.jobs.v1.JobService/NewRpc")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", sorted(RULES))
def test_a_role_may_what_its_rights_say(method: str, role: Role) -> None:
    right = RULES[method].right
    may = right is None or right in RIGHTS[role]
    principal = Principal("shop", frozenset({role}), kind=Kind.KEY)
    if may:
        Access([]).authorize(principal, method)
    else:
        with pytest.raises(PermissionDenied, match="shop may not"):
            Access([]).authorize(principal, method)


def test_the_admin_has_every_right_and_nobody_else_has() -> None:
    assert RIGHTS[Role.ADMIN] == set(Right)
    assert all(RIGHTS[role] < set(Right) for role in set(Role) - {Role.ADMIN})
    assert RIGHTS.keys() == set(Role)


@pytest.mark.parametrize("method", sorted(RULES))
def test_what_concerns_all_tenants_is_for_those_who_have_all(method: str) -> None:
    some = Principal("shop", frozenset({Role.ADMIN}), frozenset({"acme", "beta"}))
    if RULES[method].all_tenants:
        with pytest.raises(PermissionDenied, match="concerns all tenants, and shop has only acme, beta"):
            Access([]).authorize(some, method)
    else:
        Access([]).authorize(some, method)


def test_what_concerns_all_tenants_is_little() -> None:
    assert {name.rpartition("/")[2] for name, rule in RULES.items() if rule.all_tenants} == {"GetMetrics", "Work"}
    assert METRICS.all_tenants


def test_the_documented_table_is_this_one() -> None:
    page = (Path(__file__).parents[4] / "docs" / "access.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")]
    documented = {row[0].strip("`"): row[1:] for row in rows if len(row) == 3 and row[0].strip("`")[0].isupper()}
    expected = {name.rpartition("/")[2]: _documented(rule) for name, rule in RULES.items()}
    assert documented == expected


def _documented(rule: Rule) -> list[str]:
    assert rule.right is not None
    roles = ", ".join(f"`{role}`" for role in Role if rule.right in RIGHTS[role])
    return [roles, "all" if rule.all_tenants else ""]
