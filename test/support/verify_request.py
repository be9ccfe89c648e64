"""
Checks a request with ordinary libraries. Reads {secret, audience, headers, body}, prints data and claims. A request to an endpoint has no
audience, and no claims.
"""

import json
import sys

import jwt
from standardwebhooks import Webhook

given = json.load(sys.stdin)
data = Webhook(given["secret"]).verify(given["body"], given["headers"])
claims = None
if "audience" in given:
    token = given["headers"]["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, given["secret"], algorithms=["HS256"], audience=given["audience"])
print(json.dumps({"data": data, "claims": claims}))
