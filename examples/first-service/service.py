"""Notes that everybody on a channel sees at once: uvicorn service:app --port 8090"""

import http.client
import json
import os
import urllib.request

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from standardwebhooks import Webhook, WebhookVerificationError

# While the secret changes there are two, comma-separated: a request that either has signed is accepted.
SECRETS = [Webhook(secret) for secret in os.environ["NOTES_SECRET"].split(",")]
PRIVATE_API_URL = os.environ.get("PRIVATE_API_URL", "http://127.0.0.1:8081")
PUBLISH_TOKEN = os.environ["PUBLISH_TOKEN"]  # scope "publish"

app = FastAPI()


async def signed(request: Request) -> object:
    """The body, where Tidegate has signed it. 401 says: this service does not accept the caller."""
    body = await request.body()
    for secret in SECRETS:
        try:
            secret.verify(body, dict(request.headers))
            return json.loads(body)
        except WebhookVerificationError:
            continue
    raise HTTPException(401, "not signed with this service's secret")


def publish(channel: str, event: str, data: object, publish_id: str) -> dict:
    """To everybody on the channel. A repeat with the same id is answered as the first one and stores nothing."""
    request = urllib.request.Request(
        f"{PRIVATE_API_URL}/v1/publish",
        data=json.dumps({"channel": channel, "event": event, "data": data, "id": publish_id}).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {PUBLISH_TOKEN}"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=3) as response:
        return json.load(response)


@app.post("/events/{event}")
def add(request: Request, note: object = Depends(signed)):
    if not isinstance(note, dict) or not isinstance(note.get("text"), str):
        # The client gets code and message as they are.
        return JSONResponse({"code": "bad_note", "message": "a note has a text"}, 400)
    try:
        # A client that repeats a call, and a queue that tries again, keep the same ce-id.
        position = publish("notes:1", "note.added", note, request.headers["ce-id"])
    except (OSError, http.client.HTTPException):
        return JSONResponse({"code": "try_again", "message": "not published"}, 503, {"retry-after": "1"})
    return {"offset": position["offset"]}
