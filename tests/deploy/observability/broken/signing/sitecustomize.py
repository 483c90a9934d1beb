"""A node whose first signatures are wrong, as many as WRONG_SIGNATURES says: another version, or a broken machine."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mergenode.wire import admission
from mergenode.wire.heads import Head

_sign = admission.sign_head
_wrong = iter(range(int(os.environ.get("WRONG_SIGNATURES", "0"))))


def sign_head(head: Head, key: Ed25519PrivateKey) -> admission.SignedHead:
    return _sign(head, key if next(_wrong, None) is None else Ed25519PrivateKey.generate())


admission.sign_head = sign_head
