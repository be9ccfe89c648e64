/** Errors of an HTTP door as RFC 9457 problems, with the code of the contract. */
import type { IncomingMessage } from "node:http";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { objectText } from "../json/json-text.ts";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import { TidegateError } from "../runtime/errors.ts";
import { excerpt } from "../runtime/excerpt.ts";
import type { RequestCode } from "../protocol/codes.ts";
import { describeFindings } from "../runtime/schema-errors.ts";
import { stopReading } from "./door-input.ts";
import { RefusalDelay } from "./refusal-delay.ts";

const problemType = "application/problem+json; charset=utf-8";

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: RequestCode;
  retryable: boolean;
  retryAfterMs?: number;
  errors?: readonly string[];
}

/** Every error of the door, one that nobody expected included, leaves it as a problem. */
export function answerWithProblems(app: FastifyInstance, errors: ContainedErrors): void {
  app.setErrorHandler((error: FastifyError | TidegateError, _request, reply) => {
    const known = error instanceof TidegateError ? error : translate(error);
    if (known === undefined) errors.report("http", error);
    return sendProblem(reply, known ?? new TidegateError("upstream_failed", "the request could not be handled"));
  });
  // Before anything of a body is read.
  app.addHook("onRequest", (request, _reply, done) => {
    if (request.is404) throw notFound(request);
    done();
  });
  app.setNotFoundHandler((request, reply) => sendProblem(reply, notFound(request)));
}

function notFound({ method, url }: FastifyRequest): TidegateError {
  const [path = ""] = url.split("?", 1);
  return new TidegateError("not_found", `there is no ${method} ${excerpt(path)}`);
}

/** Answers that wait; each keeps its connection, and nothing of its request. */
const maxLate = 1_000;
const lateAnswers = new RefusalDelay(maxLate);

/** An answer that does not wait for the rest of its request ends the connection: nothing more of it is read. It comes late. */
export function sendProblem(reply: FastifyReply, error: TidegateError): FastifyReply {
  const problem = toProblem(error);
  const { raw } = reply.request;
  if (problem.retryAfterMs !== undefined) void reply.header("retry-after", Math.ceil(problem.retryAfterMs / 1000));
  const text = objectText(problem, error.options.jsonMembers);
  void reply.code(problem.status).type(problemType);
  if (!hasMoreToCome(raw)) return reply.send(text);
  void reply.header("connection", "close");
  stopReading(raw.socket);
  // What of the body came with the head is dropped.
  raw.resume();
  lateAnswers.before(() => void reply.send(text));
  return reply;
}

function hasMoreToCome({ complete, headers }: IncomingMessage): boolean {
  return !complete && (headers["transfer-encoding"] !== undefined || Number(headers["content-length"]) > 0);
}

function toProblem(error: TidegateError): Problem & Record<string, unknown> {
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

/** What the HTTP library found wrong with a request; undefined: it is our own fault. */
function translate(error: FastifyError): TidegateError | undefined {
  if (error.validation) {
    const errors = describeFindings(error.validation);
    return new TidegateError("invalid_request", "the request is not valid", { errors });
  }
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new TidegateError("payload_too_large", "the body is too large");
  }
  if (error.code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    return new TidegateError(
      "invalid_request",
      "this call takes no body of that content type: is it application/json?",
    );
  }
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return new TidegateError("invalid_request", error.message);
  }
  return undefined;
}
