"""Private servers that speak TLS, with certificates of an authority made for the test; in the clear they listen too, for administrators."""

import asyncio
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import trustme

from scripts.servers import PostgreSQL, RabbitMQ, Redis, free_port, listens


class Authority:
    """Signs certificates into files of `folder`; `ca` is its own one, for `ssl_ca_certs`, `cafile` and `sslrootcert`."""

    def __init__(self, folder):
        self.folder = folder
        self._signing = trustme.CA()
        self.ca = folder / "ca.pem"
        self._signing.cert_pem.write_to_path(str(self.ca))

    def sign(self, name):
        """The files of a certificate and its key: for a server by its host name, or for a client that calls itself so."""
        signed = self._signing.issue_cert(name, common_name=name)
        certificate, key = (self.folder / f"{name}.{kind}" for kind in ("pem", "key"))
        signed.cert_chain_pems[0].write_to_path(str(certificate))
        signed.private_key_pem.write_to_path(str(key))
        return certificate, key


@contextmanager
def public_authority():
    """Its folder is one that, unlike pytest's, other users may enter: servers that do not run as ours."""
    with tempfile.TemporaryDirectory(prefix="sickbay-tls-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Authority(folder)


class TlsRedis(Redis):
    """Clients may have certificates; it also listens on a socket file."""

    def __init__(self, authority):
        super().__init__(authority.folder / "redis")
        self.tls_port = free_port()
        self.socket = self.folder / "redis.sock"
        self.authority = authority
        certificate, key = authority.sign("localhost")
        files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority.ca, "--unixsocket", self.socket]
        self._more = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "optional", *map(str, files)]

    def _command(self):
        return [*super()._command(), *self._more]


class TlsRabbitMQ(RabbitMQ):
    """Clients may have certificates."""

    def __init__(self, authority):
        super().__init__(authority.folder / "rabbitmq")
        self.tls_port = free_port()
        self.authority = authority
        certificate, key = authority.sign("localhost")
        with (self.folder / "rabbitmq.conf").open("a") as conf:
            conf.write(f"listeners.ssl.default = 127.0.0.1:{self.tls_port}\n")
            conf.write(f"ssl_options.cacertfile = {authority.ca}\nssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n")
            conf.write("ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n")

    def _answers(self):
        return listens(self.tls_port)


class TlsPostgreSQL(PostgreSQL):
    """On one port for both. The user `badge` is let in by a certificate of that name alone."""

    def __init__(self, authority):
        super().__init__(authority.folder / "postgres")
        self.authority = authority

    def start(self):
        """The first start makes the cluster, whose owner must own the key; the second one has the certificates."""
        super().start()
        asyncio.run(self.rows("CREATE ROLE badge SUPERUSER LOGIN"))
        self.stop()
        data = self.folder / "data"
        certificate, key = self.authority.sign("localhost")
        for source, name in ((certificate, "server.crt"), (key, "server.key"), (self.authority.ca, "root.crt")):
            shutil.copy(source, data / name)
            shutil.chown(data / name, data.stat().st_uid)
            (data / name).chmod(0o600)
        with (data / "postgresql.conf").open("a") as conf:
            conf.write("ssl = on\nssl_ca_file = 'root.crt'\n")
        rules = data / "pg_hba.conf"
        rules.write_text("hostssl all badge all cert\nhost all badge all reject\n" + rules.read_text())
        super().start()

    async def rows(self, statement):
        """What an administrator sees, in the clear."""
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()
