"""A small model of NetworkPolicy: whether one pod may open a connection to another, on a port."""

from tests.deploy.rules import Resource, labels, of, workloads


def may(resources: list[Resource], source: str, target: str, port: int) -> bool:
    """Both sides must agree, and a side that no policy selects agrees to everything. Names of workloads, or "outsider"."""
    known = {name: labels(one) for name, one in workloads(resources).items()}
    here, there = known.get(source, {"app": source}), known.get(target, {"app": target})
    policies = of(resources, "NetworkPolicy").values()
    return _agrees(policies, "Egress", here, there, port) and _agrees(policies, "Ingress", there, here, port)


def _agrees(policies, direction, own, other, port) -> bool:
    mine = [one["spec"] for one in policies if matches(one["spec"]["podSelector"], own) and direction in one["spec"]["policyTypes"]]
    side, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    rules = [rule for spec in mine for rule in spec.get(side, [])]
    return not mine or any(_allows(rule, peers, other, port) for rule in rules)


def _allows(rule, peers, other, port) -> bool:
    on = "ports" not in rule or any(one["port"] == port for one in rule["ports"])
    return on and (peers not in rule or any(_is(peer, other) for peer in rule[peers]))


def _is(peer, other) -> bool:
    if "ipBlock" in peer:
        return peer["ipBlock"]["cidr"] == "0.0.0.0/0"
    return "namespaceSelector" not in peer and matches(peer["podSelector"], other)


def matches(selector, own) -> bool:
    """Whether a selector chooses what has these labels."""
    listed = all(own.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []) if one["operator"] == "In")
    return listed and selector.get("matchLabels", {}).items() <= own.items()
