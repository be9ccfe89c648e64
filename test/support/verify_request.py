"""Checks a request to a service with ordinary libraries. Reads {secret, audience, headers, body}, prints the claims."""

import json
import sys

import jwt
from standardwebhooks import Webhook

given = json.load(sys.stdin)
data = Webhook(given["secret"]).verify(given["body"], given["headers"])
token = given["headers"]["authorization"].removeprefix("Bearer ")
claims = jwt.decode(token, given["secret"], algorithms=["HS256"], audience=given["audience"])
print(json.dumps({"data": data, "claims": claims}))
