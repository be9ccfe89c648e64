"""A service behind Tidegate, with the standard library only.

A client's event arrives as a signed POST; the response is the client's ack. A publish reaches every subscribed client.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SECRET = os.environ["GREETER_SECRET"]  # "whsec_" and base64
PRIVATE_API_URL = os.environ.get("PRIVATE_API_URL", "http://127.0.0.1:8081")
PUBLISH_TOKEN = os.environ["PUBLISH_TOKEN"]  # for the private API, with the scope "publish"
PORT = int(os.environ.get("PORT", "8084"))

TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 128 * 1024


class Refusal(Exception):
    """Rejects the call. The client receives code and message unchanged."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def is_signed(headers, body: bytes) -> bool:
    """Verifies Standard Webhooks: an HMAC of id, timestamp and body. During a rotation there are several signatures."""
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    signatures = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(signature, expected) for signature in signatures)


def publish(channel: str, event: str, data: object, publish_id: str) -> None:
    """Publishes to every client of the channel. Tidegate ignores a repeat with the same id."""
    request = urllib.request.Request(
        f"{PRIVATE_API_URL}/v1/publish",
        data=json.dumps({"channel": channel, "event": event, "data": data, "id": publish_id}).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {PUBLISH_TOKEN}"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=3):
        pass


def greet(event: str, user: str, event_id: str, data: object) -> dict:
    if event != "greet.hello":
        raise Refusal(404, "unknown_event", f"this service does not know {event}")
    if not isinstance(data, dict) or not isinstance(data.get("to"), str) or not data["to"].strip():
        raise Refusal(400, "bad_input", "set the name to greet, e.g. {\"to\": \"world\"}")
    text = f"Hello, {data['to'].strip()}!"
    publish("lobby:greetings", "greeting.said", {"text": text, "by": user}, event_id)
    return {"text": text}


class Greeter(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        try:
            # Tidegate percent-encodes characters that a header cannot carry.
            answer = greet(
                unquote(self.headers.get("ce-type", "")),
                unquote(self.headers.get("ce-subject", "")),
                self.headers.get("ce-id", ""),
                self.signed_data(),
            )
        except Refusal as refusal:
            self.answer(refusal.status, {"code": refusal.code, "message": refusal.message})
        except (OSError, http.client.HTTPException) as error:
            print(f"service: publish failed: {error}", file=sys.stderr, flush=True)
            self.answer(503, {"code": "publish_failed", "message": "try again"}, {"retry-after": "1"})
        else:
            self.answer(200, answer)

    def signed_data(self) -> object:
        length = int(self.headers.get("content-length", "0"))
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            raise Refusal(413, "too_large", f"at most {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            raise Refusal(401, "bad_signature", "the request is not signed with this service's secret")
        return json.loads(body)

    def answer(self, status: int, data: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    print(f"service: http://127.0.0.1:{PORT}", flush=True)
    try:
        ThreadingHTTPServer(("127.0.0.1", PORT), Greeter).serve_forever()
    except KeyboardInterrupt:
        pass
