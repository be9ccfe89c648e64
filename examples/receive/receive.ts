/**
 * Receives the changes that Tidegate sends to an endpoint, and prints each once. Needs the library: npm install standardwebhooks
 *
 *   WEBHOOK_SECRET=whsec_… PORT=8085 node receive.ts
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env["WEBHOOK_SECRET"] ?? "");
const maxBodyBytes = 1024 * 1024;
/** Ids that were taken. A real receiver stores the id in one transaction with what it makes of the change, and keeps it for a day or longer. */
const taken = new Set<string>();
const maxTaken = 10_000;

async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const rawBody = await bodyOf(request);
  const headers = request.headers as Record<string, string>;
  if (rawBody === undefined || !isSigned(rawBody, headers)) {
    response.writeHead(401).end();
    return;
  }
  const id = headers["webhook-id"] ?? "";
  if (!taken.has(id)) {
    apply(headers["tidegate-key"] ?? "", JSON.parse(rawBody) as object);
    remember(id);
  }
  response.writeHead(204).end();
}

/** The signature is over the bytes as they came: check it before anything is parsed. */
function isSigned(rawBody: string, headers: Record<string, string>): boolean {
  try {
    webhook.verify(rawBody, headers);
    return true;
  } catch {
    return false;
  }
}

/** Changes of one key come one after the other. */
function apply(key: string, change: object): void {
  process.stdout.write(`${JSON.stringify({ key, change })}\n`);
}

function remember(id: string): void {
  taken.add(id);
  const [oldest] = taken;
  if (taken.size > maxTaken && oldest !== undefined) taken.delete(oldest);
}

/** Undefined where it is too large. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

const server = createServer((request, response) => {
  receive(request, response).catch(() => response.destroy());
});
server.listen(Number(process.env["PORT"] ?? 8_085), "127.0.0.1", () => process.stdout.write("listening\n"));
