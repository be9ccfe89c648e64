/** Answers errors of an HTTP door as RFC 9457 problems, with a code of the wire contract. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { objectText } from "../json/json-text.ts";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import { TidegateError } from "../runtime/errors.ts";
import { excerpt } from "../runtime/excerpt.ts";
import { describeFindings } from "../runtime/schema-errors.ts";
import { stopReading } from "./door-input.ts";
import { RefusalDelay } from "./refusal-delay.ts";

const problemType = "application/problem+json; charset=utf-8";

/** Turns every error of the door into a problem, unexpected ones included. */
export function answerWithProblems(app: FastifyInstance, errors: ContainedErrors): void {
  app.setErrorHandler((error: FastifyError | TidegateError, request, reply) => {
    const known = error instanceof TidegateError ? error : translate(error, request.headers["content-type"]);
    if (known === undefined) errors.report("http", error);
    return sendProblem(reply, known ?? unexpected());
  });
  // Before the body is read.
  app.addHook("onRequest", (request, _reply, done) => {
    if (request.is404) throw notFound(request);
    done();
  });
  app.setNotFoundHandler((request, reply) => sendProblem(reply, notFound(request)));
}

/** The answer where the server has a bug. */
export function unexpected(): TidegateError {
  return new TidegateError("upstream_failed", "the request failed unexpectedly");
}

function notFound({ method, url }: FastifyRequest): TidegateError {
  const [path = ""] = url.split("?", 1);
  return new TidegateError("not_found", `no such route: ${method} ${excerpt(path)}`);
}

/** Delayed answers. Each keeps its connection, but nothing of its request. */
const maxDelayed = 1_000;
const delayedAnswers = new RefusalDelay(maxDelayed);

/** If the request has not arrived completely, the answer is delayed, nothing more is read, and the connection closes. */
export function sendProblem(reply: FastifyReply, error: TidegateError): FastifyReply {
  const { status, headers, text } = problemAnswer(error);
  void reply.code(status).headers(headers);
  const { raw } = reply.request;
  if (!hasMoreToCome(raw)) return reply.send(text);
  void reply.header("connection", "close");
  whenRestIsDropped(raw, () => void reply.send(text));
  return reply;
}

/** As {@link sendProblem}, for a request that no route serves. */
export function writeProblem(request: IncomingMessage, response: ServerResponse, error: TidegateError): void {
  const { status, headers, text } = problemAnswer(error);
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  if (!hasMoreToCome(request)) return void response.end(text);
  response.setHeader("connection", "close");
  whenRestIsDropped(request, () => void response.end(text));
}

export function problemAnswer(error: TidegateError): { status: number; headers: Record<string, string>; text: string } {
  const { retryAfterMs } = error.options;
  const retryAfter = retryAfterMs !== undefined && { "retry-after": String(Math.ceil(retryAfterMs / 1000)) };
  const text = objectText(toProblem(error), error.options.jsonMembers);
  return { status: error.httpStatus, headers: { "content-type": problemType, ...retryAfter }, text };
}

function whenRestIsDropped(request: IncomingMessage, answer: () => void): void {
  stopReading(request.socket);
  // Drops the part of the body that came with the head.
  request.resume();
  delayedAnswers.before(answer);
}

function hasMoreToCome({ complete, headers }: IncomingMessage): boolean {
  return !complete && (headers["transfer-encoding"] !== undefined || Number(headers["content-length"]) > 0);
}

function toProblem(error: TidegateError): Record<string, unknown> {
  const { retryAfterMs, errors, details } = error.options;
  return {
    type: "about:blank",
    title: error.code.replaceAll("_", " "),
    status: error.httpStatus,
    detail: error.message,
    code: error.code,
    retryable: error.retryable,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    ...(errors !== undefined && { errors }),
    ...details,
  };
}

/** Maps an error of the HTTP library about the request; undefined for a bug of the server. */
function translate(error: FastifyError, contentType = "none"): TidegateError | undefined {
  if (error.validation) {
    const errors = describeFindings(error.validation);
    return new TidegateError("invalid_request", "the request is not valid", { errors });
  }
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new TidegateError("payload_too_large", "the body is too large");
  }
  if (error.code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    const message = `this route does not take the content type "${excerpt(contentType)}": send application/json`;
    return new TidegateError("invalid_request", message);
  }
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return new TidegateError("invalid_request", error.message);
  }
  return undefined;
}
