# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Certificates for tests, made with openssl: an authority, and what it signs."""
import ssl

import harness

DAYS = 30


def _openssl(*words):
    harness.run("openssl", *words)


class Authority:
    def __init__(self, dir, name="authority"):
        self.dir, self.name = dir, name
        self.path, self.key = dir / f"{name}.pem", dir / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", DAYS, "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.path,
        )  # fmt: skip

    def sign(self, name, alternative="IP:127.0.0.1,DNS:localhost", days=DAYS):
        """(certificate, key), the key for its owner's eyes only."""
        path, key, request = (self.dir / f"{name}.{end}" for end in ("pem", "key", "csr"))
        extensions = self.dir / f"{name}.ext"
        extensions.write_text(f"subjectAltName = {alternative}\n", encoding="ascii")
        _openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", key, "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key, "-days", days,
            "-CAcreateserial", "-extfile", extensions, "-out", path,
        )  # fmt: skip
        key.chmod(0o600)
        return path, key

    def context(self, certificate=None):
        """What a client of a server with a certificate of ours needs."""
        context = ssl.create_default_context(cafile=self.path)
        if certificate:
            context.load_cert_chain(*certificate)
        return context
