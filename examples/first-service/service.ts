/** The same service as service.py: PORT=8090 node service.ts */
import { createServer, type IncomingHttpHeaders } from "node:http";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const { NOTES_SECRET = "", PUBLISH_TOKEN = "", PRIVATE_API_URL = "http://127.0.0.1:8081", PORT = "8090" } = process.env;
// While the secret changes there are two, comma-separated: a request that either has signed is accepted.
const secrets = NOTES_SECRET.split(",").map((secret) => new Webhook(secret));

interface Answer {
  status: number;
  body: object;
  headers?: Record<string, string>;
}

function isSigned(body: string, headers: IncomingHttpHeaders): boolean {
  return secrets.some((secret) => {
    try {
      secret.verify(body, headers as Record<string, string>);
      return true;
    } catch {
      return false;
    }
  });
}

/** To everybody on the channel. A repeat with the same id is answered as the first one and stores nothing. */
async function publish(data: unknown, id: string): Promise<{ offset: number }> {
  const response = await fetch(`${PRIVATE_API_URL}/v1/publish`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${PUBLISH_TOKEN}` },
    body: JSON.stringify({ channel: "notes:1", event: "note.added", data, id }),
    signal: AbortSignal.timeout(3_000),
  });
  if (!response.ok) throw new Error(`publish was answered ${response.status}`);
  return (await response.json()) as { offset: number };
}

async function answer(body: string, headers: IncomingHttpHeaders): Promise<Answer> {
  // 401 says: this service does not accept the caller.
  if (!isSigned(body, headers)) return { status: 401, body: { code: "bad_signature" } };
  // An event without data has the body null.
  const note = JSON.parse(body) as { text?: unknown } | null;
  if (typeof note?.text !== "string") return { status: 400, body: { code: "bad_note", message: "a note has a text" } };
  try {
    // A client that repeats a call, and a queue that tries again, keep the same ce-id.
    const { offset } = await publish(note, String(headers["ce-id"]));
    return { status: 200, body: { offset } };
  } catch (error) {
    process.stderr.write(`${String(error)}\n`);
    return { status: 503, body: { code: "try_again", message: "not published" }, headers: { "retry-after": "1" } };
  }
}

createServer((request, response) => {
  text(request)
    .then(async (body) => answer(body, request.headers))
    .then(({ status, body, headers }) => {
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
    })
    .catch(() => response.destroy());
}).listen(Number(PORT), "127.0.0.1");
