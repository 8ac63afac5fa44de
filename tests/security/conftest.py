from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(scope="session")
def minimal_acl():
    """The rules that the documentation gives, without the name and the password."""
    block = re.search(r"```\nACL SETUSER registry on >password (.*?)```", OPERATIONS.read_text(), re.DOTALL)
    assert block is not None
    return block[1].split()


class Certificates:
    """An authority, and files with what it has signed."""

    def __init__(self, folder):
        self._folder = folder
        self._authority = trustme.CA()
        self.authority = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.authority)

    def issue(self, name):
        """Certificate and key for a host."""
        issued = self._authority.issue_cert(name)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        issued.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return certificate, key

    def options(self, port, name="127.0.0.1"):
        """How a server speaks TLS with a certificate for ``name``."""
        certificate, key = self.issue(name)
        return [
            *("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(self.authority)),
        ]


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


@pytest.fixture
def other_authority(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("other")).authority
