"""Recomputes every signature vector with Python's own hmac; names what differs and exits with 1.

An implementation apart from revnoxa-verifier, so that one mistake cannot be in both.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main():
    failures = [
        *differences("signature.json", "accepted", body_result, body_refusal),
        *differences("standard.json", "result", standard_result, standard_refusal),
    ]
    if failures:
        sys.exit("\n".join(failures))


def differences(name, verdict, result_of, refusal_of):
    vectors = json.loads((FOLDER / name).read_text("utf-8"))
    checks = [(case["why"], case[verdict], result_of(case)) for case in vectors["cases"]]
    checks += [(case["why"], case["refused"], refusal_of(case["secret"])) for case in vectors["invalid_secrets"]]
    print(f"{name}: {len(checks)} cases")
    for why, written, computed in checks:
        if written != computed:
            yield f"{name}: {why}: written {written!r}, computed {computed!r}"


def body_of(case):
    return base64.b64decode(case["body_base64"]) if "body_base64" in case else case["body"].encode()


def body_result(case):
    return case["signature"] == hmac.new(case["secret"].encode(), body_of(case), hashlib.sha256).hexdigest()


def body_refusal(secret):
    return None if secret else "empty"


def standard_result(case):
    identifier, timestamp, header = case["id"], case["timestamp"], case["signature"]
    if not (identifier and timestamp and header):
        return "missing_header"
    if not re.fullmatch(r"[!-\-/-~]{1,256}", identifier) or len(header.encode()) > 1024:
        return "invalid_header"
    if not re.fullmatch(r"0|[1-9][0-9]{0,11}", timestamp):
        return "invalid_timestamp"
    if case["now_s"] - int(timestamp) > case["tolerance_s"]:
        return "timestamp_too_old"
    if int(timestamp) - case["now_s"] > case["tolerance_s"]:
        return "timestamp_too_new"
    message = f"{identifier}.{timestamp}.".encode() + body_of(case)
    signed = ["v1," + base64.b64encode(hmac.digest(key_of(secret), message, "sha256")).decode() for secret in case["secrets"]]
    return "ok" if set(signed) & set(header.split(" ")) else "no_match"


def standard_refusal(secret):
    if not secret:
        return "empty"
    if not secret.startswith("whsec_"):
        return "prefix"
    try:
        return None if 24 <= len(key_of(secret)) <= 64 else "length"
    except binascii.Error:
        return "base64"


def key_of(secret):
    digits = secret.removeprefix("whsec_").rstrip("=")
    key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    if base64.b64encode(key).decode().rstrip("=") != digits:
        raise binascii.Error("bits are set beyond the last byte")
    return key


if __name__ == "__main__":
    main()
