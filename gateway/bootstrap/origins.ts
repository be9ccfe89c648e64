/** CORS for pages of other origins, and the origin that a request was sent to. */
import type { IncomingMessage } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { OriginPolicy } from "../entrance/allowed-origins.ts";
import type { ProxyTrust } from "../entrance/client-address.ts";

const preflightSeconds = 7_200;
const hostPattern = /^[A-Za-z0-9._-]{1,253}(:\d{1,5})?$|^\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?$/;

/** Lets pages of the allowed origins read the answer, a refusal too. From any other page, the browser withholds it. */
export function allowOrigin(origins: OriginPolicy, request: FastifyRequest, reply: FastifyReply): void {
  const { origin, host } = request.headers;
  const { any } = origins;
  if (!any) void reply.header("vary", "origin");
  if (origin === undefined || !origins.allows(origin, host)) return;
  void reply.headers({
    "access-control-allow-origin": any ? "*" : origin,
    "access-control-expose-headers": "retry-after",
  });
  if (request.method !== "OPTIONS") return;
  void reply.headers({
    "access-control-allow-methods": "GET",
    "access-control-allow-headers": "authorization",
    "access-control-max-age": preflightSeconds,
  });
}

/** The origin that a request was sent to. A trusted proxy that terminates TLS tells the scheme. */
export function ownOrigin({ headers, socket }: Pick<IncomingMessage, "headers" | "socket">, trust: ProxyTrust): string {
  const { host = "" } = headers;
  if (!hostPattern.test(host)) throw new TidegateError("invalid_request", "the request names no host");
  const forwardedProto = trust(socket.remoteAddress ?? "", 0) ? headers["x-forwarded-proto"] : undefined;
  const [, scheme = "http"] = /^(https?)\s*(?:,|$)/.exec(String(forwardedProto).toLowerCase()) ?? [];
  return `${scheme}://${host}`;
}
