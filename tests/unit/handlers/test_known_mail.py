"""What clients of mail and FTP raise when a real server refuses: an address is one job's fault, a busy server is not."""

import ftplib
import smtplib
from email.message import EmailMessage

import aiosmtplib
import pytest

from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.classify import classify
from tests.support.canned_services import PLAIN, closed_port, hang_up, lines, outcome_of, served, silence

SYSTEMIC, TRANSIENT, DATA = OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.DATA


def letter():
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@x.example", "b@y.example", "hello"
    message.set_content("hello")
    return message


async def by_aiosmtplib(port, user):
    await aiosmtplib.send(
        letter(), hostname="127.0.0.1", port=port, timeout=0.5, start_tls=False, **({"username": "u", "password": "p"} if user else {})
    )


async def by_smtplib(port, user):
    with smtplib.SMTP("127.0.0.1", port, timeout=0.5) as client:
        if user:
            client.login("u", "p")
        client.send_message(letter())


GREETING = "220 mail.example ready"
EHLO = {"EHLO": "250-mail.example\r\n250 AUTH LOGIN PLAIN", "QUIT": "221 bye", "DATA": "354 go on"}
MAIL = [by_aiosmtplib, by_smtplib]


@pytest.mark.parametrize("client", MAIL)
@pytest.mark.parametrize(
    ("answers", "code", "kind"),
    [
        ({"RCPT": "550 5.1.1 no such mailbox"}, "SMTP_550", DATA),
        ({"RCPT": "550 no such mailbox"}, "SMTP_550", DATA),
        ({"RCPT": "553 5.1.3 bad address"}, "SMTP_553", DATA),
        ({"RCPT": "552 5.2.2 mailbox full"}, "SMTP_552", DATA),
        ({"RCPT": "452 4.2.2 mailbox full"}, "SMTP_452", DATA),
        ({"RCPT": "450 mailbox busy"}, "SMTP_450", DATA),
        ({"RCPT": "451 server busy"}, "SMTP_451", TRANSIENT),
        ({"RCPT": "451 4.3.0 server busy"}, "SMTP_451", TRANSIENT),
        ({"RCPT": "452 4.3.1 disk full"}, "SMTP_452", TRANSIENT),
        ({"MAIL": "451 server busy"}, "SMTP_451", TRANSIENT),
        ({"MAIL": "530 5.7.0 log in first"}, "SMTP_530", SYSTEMIC),
        ({"DATA": "554 5.6.0 bad message"}, "SMTP_554", DATA),
        ({"AUTH": "535 5.7.8 wrong password"}, "AUTH_FAILED", SYSTEMIC),
    ],
)
async def test_an_smtp_reply_says_whose_fault_it_is(client, answers, code, kind):
    """A mailbox that does not exist opened the circuit of `email` for everybody; a busy server never did."""
    with served(lines(GREETING, {**EHLO, **answers})) as port:
        outcome = await outcome_of(client(port, user="AUTH" in answers))
    assert (outcome.code, outcome.kind) == (code, kind)


@pytest.mark.parametrize("client", MAIL)
async def test_a_mail_server_that_takes_nobody_is_ill(client):
    """Whatever the number."""
    with served(lines("554 no service", {})) as port:
        outcome = await outcome_of(client(port, user=False))
    assert (outcome.code, outcome.kind) == ("SERVICE_UNAVAILABLE", SYSTEMIC)
    refused = await outcome_of(client(closed_port(), user=False))
    assert refused.kind is SYSTEMIC
    for talk in (silence, hang_up):
        with served(talk) as port:
            assert (await outcome_of(client(port, user=False))).kind.is_breaker_failure


@pytest.mark.parametrize(
    ("answers", "code", "kind"),
    [
        ({"USER": "530 not logged in"}, "FTP_530", SYSTEMIC),
        ({"USER": "230 come in", "CWD": "550 no such folder"}, "FTP_550", DATA),
        ({"USER": "230 come in", "CWD": "451 try again"}, "FTP_451", TRANSIENT),
        ({"USER": "421 too many users"}, "FTP_421", SYSTEMIC),
        ({"USER": "what"}, "BAD_RESPONSE", TRANSIENT),
    ],
)
def test_an_ftp_reply_says_whose_fault_it_is(answers, code, kind):
    """As SMTP's."""

    def visit(port):
        client = ftplib.FTP()  # noqa: S321 - what its exceptions mean
        try:
            client.connect("127.0.0.1", port, timeout=0.5)
            client.login("u", "p")
            client.cwd("folder")
        finally:
            client.close()

    with served(lines("220 ready", answers)) as port, pytest.raises(ftplib.Error) as caught:
        visit(port)
    assert (classify(caught.value, PLAIN).code, classify(caught.value, PLAIN).kind) == (code, kind)
