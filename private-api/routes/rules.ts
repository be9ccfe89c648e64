import type { FastifyInstance, FastifyReply } from "fastify";
import { Type } from "typebox";
import { TidegateError } from "../../shared/errors.ts";
import { checkRules, type RulesDocument, RulesError } from "../../shared/rules/document.ts";
import { parseRulesText } from "../../shared/rules/parse.ts";
import { Rules } from "../../shared/rules/rules.ts";
import { maskSecrets, resolveSecrets } from "../../shared/rules/secrets.ts";
import type { Environment } from "../../shared/settings.ts";
import type { PrivateApiContext } from "../context.ts";

const maxRulesBytes = 1024 * 1024;

/** `GET /v1/rules` → the document and its `version`; `PUT /v1/rules` the document → `{ version }`. */
export function addRules(app: FastifyInstance, context: PrivateApiContext): void {
  app.get(
    "/v1/rules",
    {
      preValidation: context.requireScope("read"),
      schema: {
        summary: "The rules in force",
        description: "Secrets written in the document show as ***.",
        tags: ["rules"],
      },
    },
    async (_request, reply) => {
      await context.currentRules.refresh();
      const { version, document } = context.currentRules.rules;
      void reply.header("etag", etag(version));
      return { version, ...maskSecrets(document) };
    },
  );

  app.register(async (scope) => {
    scope.addContentTypeParser(["application/yaml", "text/yaml"], { parseAs: "string" }, (_request, body, done) => {
      try {
        done(null, parseRulesText(body as string));
      } catch (error) {
        done(asProblem(error));
      }
    });
    scope.put(
      "/v1/rules",
      {
        bodyLimit: maxRulesBytes,
        preValidation: context.requireScope("rules"),
        schema: {
          summary: "Replace the rules",
          description: "If-Match, or `version` in the body, guards against overwriting someone else's change.",
          tags: ["rules"],
          consumes: ["application/json", "application/yaml"],
          body: Type.Object({}, { additionalProperties: true }),
        },
      },
      async (request, reply) => putRules(request.body as Record<string, unknown>, request.headers["if-match"], reply),
    );
  });

  async function putRules(body: Record<string, unknown>, ifMatch: string | undefined, reply: FastifyReply) {
    if (context.rulesFromFile) {
      throw new TidegateError("conflict", "the rules come from a file (RULES_FILE): change that instead");
    }
    const { version: bodyVersion, ...given } = body;
    const ifVersion = expectedVersion(ifMatch, bodyVersion);
    const document = checkedDocument(given, context.environment);
    const { kind, version } = await context.rulesStore.put({
      document,
      changedAt: Date.now(),
      ...(ifVersion !== undefined && { ifVersion }),
    });
    if (kind === "version_differs") {
      throw new TidegateError("precondition_failed", `the rules are at version ${version}`, { details: { version } });
    }
    await context.currentRules.refresh();
    void reply.header("etag", etag(version));
    return { version };
  }
}

function etag(version: number): string {
  return `"${version}"`;
}

/** Undefined: over any version. */
function expectedVersion(ifMatch: string | undefined, bodyVersion: unknown): number | undefined {
  if (ifMatch === undefined || ifMatch.trim() === "*") {
    if (bodyVersion === undefined || Number.isSafeInteger(bodyVersion)) return bodyVersion as number | undefined;
    throw new TidegateError("invalid_request", "version: must be a whole number");
  }
  const [, digits] = /^(?:W\/)?"(\d{1,15})"$/.exec(ifMatch.trim()) ?? [];
  if (digits === undefined) throw new TidegateError("invalid_request", 'if-match: must be a version, as in "3"');
  return Number(digits);
}

function checkedDocument(value: unknown, environment: Environment): RulesDocument {
  try {
    const document = checkRules(value);
    resolveSecrets(new Rules(0, document), environment);
    return document;
  } catch (error) {
    throw asProblem(error);
  }
}

function asProblem(error: unknown): Error {
  if (!(error instanceof RulesError)) return error as Error;
  const { findings } = error;
  return new TidegateError("invalid_request", `the rules are not valid, ${findings.length} findings`, {
    errors: findings,
  });
}
