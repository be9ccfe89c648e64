"""A client of Tidegate in Python: stock python-socketio, nothing of ours.

Connects, subscribes, greets, and ends with 0 once it has seen both the answer and its own publication.
"""

import base64
import hashlib
import hmac
import json
import os
import queue
import sys
import time
import uuid

import socketio

GATEWAY_URL = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
JWT_SECRET = os.environ["AUTH_JWT_SECRET"]
USER = os.environ.get("USER_NAME", "ada")

CHANNEL = "lobby:greetings"
WAIT_SECONDS = 10
CONNECT_TRIES = 5


def make_token(user: str) -> str:
    """A JWT (HS256). In earnest your login makes it, and the client never sees the secret."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part({"sub": user, "exp": int(time.time()) + 3600})
    signature = hmac.digest(JWT_SECRET.encode(), signed, hashlib.sha256)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def ok(ack: dict) -> dict:
    """The ack, or the end: an error says what happened and whether a repeat may help."""
    if not ack["ok"]:
        sys.exit(f"refused: {ack['error']['code']}: {ack['error']['message']}")
    return ack


sio = socketio.Client()
welcomes: queue.Queue[dict] = queue.Queue()
publications: queue.Queue[tuple[dict, dict]] = queue.Queue()
refusals: queue.Queue[dict | str] = queue.Queue()

sio.on("sync:welcome", welcomes.put)
sio.on("greeting.said", lambda data, meta: publications.put((data, meta)))
sio.on("connect_error", refusals.put)
sio.on("sync:disconnect", lambda end: print(f"dismissed: {end['code']}: {end['reason']}", flush=True))


def connect() -> dict:
    """Connects; where the gateway says that it is busy, again after the time it names. Returns the welcome."""
    for _ in range(CONNECT_TRIES):
        try:
            sio.connect(GATEWAY_URL, auth={"token": make_token(USER), "protocol": 1}, transports=["websocket"])
            return welcomes.get(timeout=WAIT_SECONDS)
        except socketio.exceptions.ConnectionError as error:
            refusal = refusals.get(timeout=WAIT_SECONDS)
            if not isinstance(refusal, dict) or "data" not in refusal:
                sys.exit(f"no connection: {error}")
            code, message, retryable = (refusal["data"][name] for name in ("code", "message", "retryable"))
            if not retryable:
                sys.exit(f"refused: {code}: {message}")
            print(f"refused for now: {code}: {message}", flush=True)
            time.sleep(refusal["data"].get("retryAfterMs", 1000) / 1000)
    sys.exit(f"still refused after {CONNECT_TRIES} tries")


welcome = connect()
print(f"connected: user {welcome['user']}, session {welcome['sessionId']}, node {welcome['node']}", flush=True)

subscribed = ok(sio.call("sync:subscribe", {"channel": CHANNEL}, timeout=WAIT_SECONDS))
print(f"subscribed: {CHANNEL} at {subscribed['position']}", flush=True)

# Data, then options: with the same id a repeat is recognised by the service.
greeting = f"Python {uuid.uuid4().hex[:6]}"
answer = ok(sio.call("greet.hello", ({"to": greeting}, {"id": uuid.uuid4().hex}), timeout=WAIT_SECONDS))
print(f"answered: {answer['data']}", flush=True)

deadline = time.monotonic() + WAIT_SECONDS
while True:
    try:
        data, meta = publications.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        sys.exit("the publication did not come")
    print(f"published: {data} at offset {meta['offset']} of {meta['channel']}", flush=True)
    if data["text"] == answer["data"]["text"]:
        break

sio.disconnect()
print("done", flush=True)
