/** Reads a user's action from the signed request. */
import type { IncomingMessage } from "node:http";
import { type Input, Refusal } from "./board.ts";
import { isSigned } from "./webhook-signature.ts";

export interface Call {
  event: string;
  /** Repeats have the same id. */
  eventId: string;
  user: string;
  boardId: string;
  input: Input;
}

const maxBodyBytes = 128 * 1024;

/** @throws Refusal for a request that is not signed or not valid. */
export async function readCall(request: IncomingMessage, secret: string): Promise<Call> {
  const body = await readBody(request);
  if (!isSigned(request.headers, body, secret)) {
    throw new Refusal(401, "bad_signature", "the request is not signed with this service's secret");
  }
  const url = new URL(request.url ?? "/", "http://localhost");
  const [, event] = /^\/events\/([^/]+)$/.exec(url.pathname) ?? [];
  if (request.method !== "POST" || event === undefined) throw new Refusal(404, "not_found", "POST /events/{event}");
  const input = parseObject(body);
  const boardId = input["board"];
  if (typeof boardId !== "string" || !/^[a-z0-9-]{1,40}$/.test(boardId)) {
    throw new Refusal(400, "bad_input", "board must be a name of lowercase letters, digits and dashes");
  }
  const { "ce-id": eventId, "ce-subject": subject } = request.headers;
  return {
    event: decodeURIComponent(event),
    eventId: String(eventId),
    user: decodeURIComponent(String(subject)),
    boardId,
    input,
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
