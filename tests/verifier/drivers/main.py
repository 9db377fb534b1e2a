import sys

from verify import verify, verify_body

for line in sys.stdin:
    scheme, now, secret, id, timestamp, signature, body = [bytes.fromhex(field) for field in line.rstrip("\n").split(":")]
    secret, id, timestamp, signature = [field.decode("utf-8", "replace") for field in (secret, id, timestamp, signature)]
    if scheme == b"body":
        genuine = verify_body(secret, signature, body)
    else:
        genuine = verify(secret, id, timestamp, signature, body, *([int(now)] if now else []))
    print("ok" if genuine else "refused")
