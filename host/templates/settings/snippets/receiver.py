# Python 3.10 or newer, nothing to install
import hmac
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = os.environ["WEBHOOK_SECRET"].encode()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))  # the raw bytes, before any JSON parser
        expected = hmac.digest(SECRET, body, "sha256").hex()
        genuine = hmac.compare_digest(expected, self.headers.get("X-Revnoxa-Signature", ""))
        if genuine:
            print(body.decode(), flush=True)
        self.send_response(200 if genuine else 401)
        self.end_headers()


HTTPServer(("", 3000), Receiver).serve_forever()
