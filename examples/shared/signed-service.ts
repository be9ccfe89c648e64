/** The HTTP door of a service: takes `POST /events/{event}`, signed by the private API, and answers JSON. */
import { createServer, type IncomingMessage, type Server } from "node:http";
import { inspect } from "node:util";
import { Refusal, Unavailable } from "./failures.ts";
import type { Input } from "./input.ts";
import { isSigned } from "./webhook-signature.ts";

export interface SignedEvent {
  event: string;
  /** Repeats have the same id. */
  eventId: string;
  /** `/tidegate/socket` for an event of a client, `/tidegate/hooks/{source}` for a webhook. */
  source: string;
  user: string;
  /** Empty without a tenant. */
  tenant: string;
  input: Input;
}

export interface Answer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

const maxBodyBytes = 128 * 1024;

/**
 * The caller listens and closes.
 *
 * @param name for the log
 * @param secret `whsec_` and base64; requests of the private API are signed with it
 * @param answer may throw a `Refusal` (the caller made a mistake) or `Unavailable` (the caller may repeat)
 */
export function createSignedService(
  name: string,
  secret: string,
  answer: (event: SignedEvent) => Promise<Answer>,
): Server {
  return createServer((request, response) => {
    void readEvent(request, secret)
      .then(answer)
      .catch((error: unknown) => failureAnswer(name, error))
      .then(({ status, body, headers }) => {
        response.writeHead(status, { "content-type": "application/json", ...headers });
        response.end(body === undefined ? undefined : JSON.stringify(body));
      });
  });
}

function failureAnswer(name: string, error: unknown): Answer {
  if (error instanceof Refusal) return { status: error.status, body: { code: error.code, message: error.message } };
  process.stderr.write(`${name}: ${inspect(error)}\n`);
  if (error instanceof Unavailable) return { status: 503, headers: { "retry-after": "1" } };
  return { status: 500 };
}

/** @throws Refusal for a request that is not signed or not valid. */
async function readEvent(request: IncomingMessage, secret: string): Promise<SignedEvent> {
  const body = await readBody(request);
  const { headers } = request;
  if (!isSigned(headers, body, secret)) {
    throw new Refusal(401, "bad_signature", "the request is not signed with this service's secret");
  }
  const url = new URL(request.url ?? "/", "http://localhost");
  const [, event] = /^\/events\/([^/]+)$/.exec(url.pathname) ?? [];
  if (request.method !== "POST" || event === undefined) throw new Refusal(404, "not_found", "POST /events/{event}");
  const header = (given: string): string => decodeURIComponent(String(headers[given] ?? ""));
  return {
    event: decodeURIComponent(event),
    eventId: header("ce-id"),
    source: header("ce-source"),
    user: header("ce-subject"),
    tenant: header("ce-tenant"),
    input: parseObject(body),
  };
}

function parseObject(body: string): Input {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === "object" && value !== null) return value as Input;
  } catch {
    // Refused below, like every value that is not an object.
  }
  throw new Refusal(400, "bad_input", "the data must be an object");
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new Refusal(413, "too_large", `at most ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
