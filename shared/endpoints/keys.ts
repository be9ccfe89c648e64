/** Names of keys and topics of endpoints in Redis, and the form of what is kept there. */
import { slotTagOf } from "../channels/keys.ts";
import { parseJson } from "../json/json.ts";
import type { EndpointHealth, FailedAttempt, StoredEndpoint } from "./contract.ts";
import { endpointValidator } from "./endpoint.ts";

/** One hash tag: a script reads and changes them together. @param root begins all names of the deployment */
export function endpointKeys(root: string): Record<"documents" | "versions" | "changed" | "topic", string> {
  const tag = `${root}:{endpoints}`;
  return {
    documents: `${tag}:documents`,
    versions: `${tag}:versions`,
    changed: `${tag}:changed`,
    topic: `${tag}:news`,
  };
}

/** Spread over all hash slots. @param root begins all names of the deployment */
export function attemptKeys(root: string, endpointId: string): [attempts: string, health: string] {
  const tag = slotTagOf(root, endpointId);
  return [`${tag}:attempts:${endpointId}`, `${tag}:health:${endpointId}`];
}

/** The numbers of a stored endpoint in the first line, then the endpoint. @returns undefined for what this version cannot read */
export function parseEndpoint(text: string): StoredEndpoint | undefined {
  const headEnd = text.indexOf("\n");
  const [version = 0, startsAt = 0, createdAt = 0, generation = 0, validFrom = 0] = text
    .slice(0, headEnd)
    .split(" ")
    .map(Number);
  const endpoint = parseJson(text.slice(headEnd + 1));
  return endpointValidator.Check(endpoint)
    ? { endpoint, version, startsAt, createdAt, generation, validFrom }
    : undefined;
}

/** Its time in Unix ms, the status, or 0 where there is none, and the message. */
export function failureText({ at, status = 0, error }: FailedAttempt): string {
  return `${at} ${status} ${error}`;
}

const neverFailed: EndpointHealth = {};

/** @param reply since when it fails, in Unix ms; {@link failureText} of the last failure */
export function parseHealth([since, last]: readonly [since: string | null, last: string | null]): EndpointHealth {
  if (since === null && last === null) return neverFailed;
  const [, at, status, message = ""] = /^(\d+) (\d+) (.*)$/s.exec(last ?? "") ?? [];
  return {
    ...(since && { failingSince: Number(since) }),
    ...(at !== undefined && {
      lastError: { at: Number(at), ...(status !== "0" && { status: Number(status) }), message },
    }),
  };
}
