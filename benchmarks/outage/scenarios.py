"""What may happen to a dependency, as data: what is wrong, for how long, under which load, and in which stretch the figures are taken.

Times are those of scale 1 with a cooldown of 3 s; `scaled` multiplies all of them, and the sizes of bursts, so that the proportions stay.
Rates and capacities stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from benchmarks.outage.service import Condition

ON_DEPENDENCY: Final = ("email", "invoice")
"""The job types that call it."""
RATE: Final = 60.0
SHARE_OF_CAPACITY: Final = 1.5
"""The dependency can do so much more than the normal load."""


@dataclass(frozen=True, slots=True)
class Times:
    """What the system and its clients are told, in seconds; `warm_s` is the time before anything happens."""

    cooldown_s: float = 3.0
    retry_s: float = 5.0
    timeout_s: float = 5.0
    warm_s: float = 10.0

    def scaled(self, scale: float) -> Times:
        """All times multiplied; a warm-up takes 2 s at least, since idle latency is measured in it."""
        return Times(self.cooldown_s * scale, self.retry_s * scale, self.timeout_s * scale, max(2.0, self.warm_s * scale))


@dataclass(frozen=True, slots=True)
class Burst:
    """So many jobs of a type at once, when the dependency falls `ill` or is `back`; each of a tenant of its own if `tenants`."""

    when: Literal["ill", "back"]
    kind: str
    count: int
    tenants: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """`ill` is what is wrong for `ill_s`; before and after it the dependency is up with `capacity`. `rates` are jobs a second, by type.

    The figures that are taken `during` the illness are so because the dependency still serves something then; the others tell of the time
    after it. `patience` is the wait for healing, in lengths of the illness. `resets` says that an admin resets the circuit of `email` at
    the dependency's return.
    """

    name: str
    about: str
    ill: Condition
    ill_s: float
    capacity: float
    rates: Mapping[str, float]
    bursts: tuple[Burst, ...] = ()
    during: bool = False
    resets: bool = False
    patience: float = 4.0
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_dead(self) -> bool:
        """Whether every call during the illness is in vain."""
        return self.ill.kind in {"refusing", "hanging", "limited"}

    @property
    def load(self) -> float:
        """Calls a second that the dependency gets from fresh jobs."""
        return sum(rate for kind, rate in self.rates.items() if kind in ON_DEPENDENCY)

    @property
    def patience_s(self) -> float:
        """How long to wait for healing after the return."""
        return self.patience * self.ill_s

    def scaled(self, scale: float) -> Scenario:
        """The same, shorter or longer."""
        bursts = tuple(replace(burst, count=max(1, round(burst.count * scale))) for burst in self.bursts)
        return replace(self, ill=self.ill.scaled(scale), ill_s=self.ill_s * scale, bursts=bursts)


def scenarios(rate: float = RATE) -> Mapping[str, Scenario]:
    """All of them, by name, for a normal load of `rate` jobs a second."""
    capacity = SHARE_OF_CAPACITY * rate
    usual = {"email": rate, "sms": 10.0}
    quiet = {"sms": 10.0}
    dead = Condition(capacity, "refusing")
    limited = Condition(capacity, "limited", wait_s=10.0)
    flapping = Condition(capacity, "flapping", down_s=3.0, up_s=3.0)
    made = [
        Scenario("outage", "refuses every call for 40 s", dead, 40, capacity, usual),
        Scenario("hanging", "answers no call for 40 s", Condition(capacity, "hanging"), 40, capacity, usual),
        Scenario("overload", "serves three quarters of the load for 60 s", Condition(0.75 * rate), 60, capacity, usual, during=True),
        *(
            Scenario(
                f"errors-{percent}",
                f"{percent} % of the calls fail for 60 s, whatever the load",
                Condition(capacity, "errors", share=percent / 100),
                60,
                capacity,
                usual,
                during=True,
            )
            for percent in (10, 30, 50, 80)
        ),
        Scenario("lone", "one job in an outage of 30 s", dead, 30, capacity, quiet, (Burst("ill", "email", 1),)),
        Scenario("limited", "429 with Retry-After 10 for 30 s", limited, 30, capacity, usual),
        Scenario("flapping", "3 s down, 3 s up, for 60 s", flapping, 60, capacity, usual, during=True),
        Scenario("reset", "1,005 jobs wait, an admin resets", dead, 20, capacity, usual, (Burst("ill", "email", 1_005),), resets=True),
        Scenario(
            "many", "10,000 jobs wait for a fast one", replace(dead, capacity=2_000), 20, 2_000, usual, (Burst("ill", "email", 10_000),)
        ),
        Scenario("two-types", "two types on it, 40 s down", dead, 40, capacity, {"email": rate / 2, "invoice": rate / 2, "sms": 10.0}),
        Scenario("tenants", "a job each of 100 tenants, 40 s down", dead, 40, capacity, quiet, (Burst("ill", "email", 100, tenants=True),)),
        Scenario("slow", "2 s slower for 40 s, without errors", Condition(capacity, "slow", wait_s=2.0), 40, capacity, usual, during=True),
        Scenario(
            "backlog",
            "12,000 jobs of a healthy type at its return",
            dead,
            10,
            capacity,
            usual,
            (Burst("back", "report", 12_000),),
            patience=8,
        ),
    ]
    return {scenario.name: scenario for scenario in made}
