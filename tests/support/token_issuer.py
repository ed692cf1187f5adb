"""An issuer of tokens of our own making: keys, tokens with anything in them, and an HTTP server on loopback with its key set."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example.com/"
AUDIENCE = "sickbay"
ENDLESS_CHUNKS = 64


def encoded(value):
    """Base64url of bytes, or of something as JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SigningKey:
    """A key pair, with the name and the algorithm that its public half is published with."""

    def __init__(self, kid, algorithm="ES256"):
        self.kid, self.algorithm = kid, algorithm
        if algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
        elif algorithm.startswith("ES"):
            self.private = ec.generate_private_key(ec.SECP256R1())
        else:
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public(self):
        """As a JWK."""
        made = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        made = {name: value for name, value in made.items() if name != "key_ops"}
        return made | {"kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, header, payload):
        """A token of this header and payload (objects, or bytes as they are), whatever they say."""
        signed = f"{encoded(header)}.{encoded(payload)}"
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        return f"{signed}.{encoded(algorithm.sign(signed.encode(), algorithm.prepare_key(self.private)))}"

    def token(self, claims, **header):
        """A token with these claims; header fields of None are left out."""
        named = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid} | header
        return self.sign({name: value for name, value in named.items() if value is not None}, claims)


class IssuerServer:
    """Serves `keys` at /jwks, and the issuer's document; `behave` makes it do otherwise."""

    def __init__(self, *keys):
        self.keys = list(keys)
        self.asked = []
        self.headers = {}
        self.behaviour = "serve"
        self.released = threading.Event()
        self.discovery = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                try:
                    outer.answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.jwks_url = f"{self.url}/jwks"

    def answer(self, request):
        if self.behaviour == "hang":
            self.released.wait(10)
            return
        if self.behaviour == "redirect":
            request.send_response(302)
            request.send_header("location", f"{self.url}/elsewhere")
            request.send_header("content-length", "0")
            request.end_headers()
            return
        if self.behaviour == "endless":
            request.send_response(200)
            request.end_headers()
            for _ in range(ENDLESS_CHUNKS):
                request.wfile.write(b" " * 65_536)
            return
        if self.behaviour == "no http":
            request.wfile.write(b"\x00\x01\x02 hello\r\n\r\n")
            return
        status = 500 if self.behaviour == "error" else 200
        body = self.behaviour if isinstance(self.behaviour, bytes) else json.dumps({"keys": [key.public for key in self.keys]}).encode()
        if request.path.endswith("/.well-known/openid-configuration"):
            body = json.dumps({"issuer": self.url, "jwks_uri": self.jwks_url} | self.discovery).encode()
        request.send_response(status)
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @contextmanager
    def serving(self):
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()
