"""A Tidegate client in Python, with stock python-socketio.

Connects, subscribes, greets, and exits with 0 after it has received both the answer and its own publication.
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
    """Returns a JWT (HS256). In production your login service makes it: clients never see the secret."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part({"sub": user, "exp": int(time.time()) + 3600})
    signature = hmac.digest(JWT_SECRET.encode(), signed, hashlib.sha256)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def ok(ack: dict) -> dict:
    """Returns a successful ack, exits with the error of a failed one."""
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
sio.on("sync:disconnect", lambda end: print(f"disconnected: {end['code']}: {end['reason']}", flush=True))


def connect() -> dict:
    """Returns the welcome. Retries a refusal after its retryAfterMs if it is retryable."""
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

# Data, then options. A service recognises a repeat by the same id.
greeting = f"Python {uuid.uuid4().hex[:6]}"
answer = ok(sio.call("greet.hello", ({"to": greeting}, {"id": uuid.uuid4().hex}), timeout=WAIT_SECONDS))
print(f"answered: {answer['data']}", flush=True)

deadline = time.monotonic() + WAIT_SECONDS
while True:
    try:
        data, meta = publications.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        sys.exit("no publication received in time")
    print(f"published: {data} at offset {meta['offset']} of {meta['channel']}", flush=True)
    if data["text"] == answer["data"]["text"]:
        break

sio.disconnect()
print("done", flush=True)
