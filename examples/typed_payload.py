"""A handler that says what its payload is, and a client that sends such an object.

    ../.venv/bin/sickbay up --ephemeral --handlers typed_payload
    ../.venv/bin/python typed_payload.py                                       from another terminal
    ../.venv/bin/sickbay types invoice
    ../.venv/bin/sickbay submit invoice '{"customer": "ada", "lines": []}'     is rejected, with the path of what is wrong

The payload is decoded before the run. One that does not fit is rejected when it is submitted, because the handler says so; without
`validate="submit"` its job would be quarantined with the code VALIDATION_ERROR.
"""

from decimal import Decimal

from pydantic import BaseModel, Field

from sickbay import Job, handler, job_type
from sickbay.client import Client, InvalidRequest


class Line(BaseModel):
    """One line of an invoice."""

    what: str
    price: Decimal = Field(ge=0)


@job_type("invoice")
class Invoice(BaseModel):
    """A model of pydantic; a msgspec Struct or a dataclass would do as well."""

    customer: str
    lines: list[Line] = Field(min_length=1)


@handler("invoice", validate="submit")
def write_invoice(invoice: Invoice, job: Job) -> dict[str, str]:
    """Write an invoice."""
    total = sum(line.price for line in invoice.lines)
    print(f"{invoice.customer} owes {total} ({job.job_type})", flush=True)
    return {"total": str(total)}


def main() -> None:
    """Submit an invoice as an object, and one that does not fit."""
    with Client.from_env() as client:
        invoice = Invoice(customer="ada", lines=[Line(what="pen", price=Decimal("2.50")), Line(what="ink", price=Decimal(4))])
        print("the total:", client.result(client.submit(invoice).job_id, timeout=30)["total"])
        try:
            client.submit("invoice", {"customer": "ada", "lines": [{"what": "pen"}]})
        except InvalidRequest as error:
            print("rejected:", *error.violations)


if __name__ == "__main__":
    main()
