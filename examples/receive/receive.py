"""Receives the changes that Tidegate sends to an endpoint, and prints each once. Needs the library: pip install standardwebhooks

    WEBHOOK_SECRET=whsec_… PORT=8085 python receive.py
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from standardwebhooks.webhooks import Webhook

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
MAX_BODY_BYTES = 1024 * 1024
# Ids that were taken. A real receiver stores the id in one transaction with what it makes of the change, and keeps it for a day or longer.
taken: dict[str, None] = {}
MAX_TAKEN = 10_000
lock = Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", "0"))
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            return self.answer(413)
        raw_body = self.rfile.read(length)
        try:
            # The signature is over the bytes as they came: check it before anything is parsed.
            webhook.verify(raw_body, dict(self.headers))
        except Exception:  # Malformed headers raise other errors than WebhookVerificationError.
            return self.answer(401)
        with lock:
            if self.headers["webhook-id"] not in taken:
                apply(self.headers["tidegate-key"], json.loads(raw_body))
                remember(self.headers["webhook-id"])
        self.answer(204)

    def answer(self, status: int):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def apply(key: str, change: dict) -> None:
    """Changes of one key come one after the other."""
    print(json.dumps({"key": key, "change": change}), flush=True)


def remember(webhook_id: str) -> None:
    taken[webhook_id] = None
    if len(taken) > MAX_TAKEN:
        del taken[next(iter(taken))]


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8085"))), Receiver)
print("listening", flush=True)
server.serve_forever()
