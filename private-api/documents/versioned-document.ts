/** `GET` and `PUT` of a versioned document, as the rules and the rollouts share them. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { Type } from "typebox";
import type { CurrentDocument } from "../../shared/documents/current-document.ts";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";
import { maxDocumentBytes, maxDocumentStructure, parseDocumentText } from "../../shared/documents/parse.ts";
import type { DocumentName, PutOutcome } from "../../shared/documents/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { bodyText } from "../../shared/http/body.ts";

interface Versioned<Value extends { readonly version: number }> {
  name: DocumentName;
  current: CurrentDocument<Value>;
}

/**
 * `GET /v1/{name}` → the document and its `version`.
 * @param options.description of the answer, in the OpenAPI document.
 * @param options.show the answer's members beside the version.
 */
export function addDocumentGet<Value extends { readonly version: number }>(
  app: FastifyInstance,
  options: Versioned<Value> & { description?: string; show: (value: Value) => object },
): void {
  const { name, description, current, show } = options;
  app.get(
    `/v1/${name}`,
    {
      config: { access: "read" },
      schema: {
        summary: `The ${name} in force`,
        ...(description !== undefined && { description }),
        tags: [name],
      },
    },
    async (_request, reply) => {
      await current.refresh();
      const { value } = current;
      void reply.header("etag", etag(value.version));
      return { version: value.version, ...show(value) };
    },
  );
}

/**
 * `PUT /v1/{name}` the document → `{ version }`.
 * @param options.put checks and stores a document without its version. It stores only over `ifVersion`; undefined: over any.
 *   Throws InvalidDocument with every finding.
 */
export function addDocumentPut<Value extends { readonly version: number }>(
  app: FastifyInstance,
  options: Versioned<Value> & { put: (given: unknown, ifVersion: number | undefined) => Promise<PutOutcome> },
): void {
  const { name, current, put } = options;
  app.register(async (scope) => {
    scope.addContentTypeParser(
      ["application/yaml", "text/yaml"],
      { parseAs: "buffer" },
      async (_request: FastifyRequest, body: Buffer) =>
        parseDocumentText(name, bodyText(body)).catch((error: unknown) => {
          throw asProblem(error, name);
        }),
    );
    scope.put(
      `/v1/${name}`,
      {
        bodyLimit: maxDocumentBytes,
        config: { access: "rules", maxStructure: maxDocumentStructure },
        schema: {
          summary: `Replace the ${name}`,
          description: "If-Match, or `version` in the body, guards against overwriting someone else's change.",
          tags: [name],
          consumes: ["application/json", "application/yaml"],
          body: Type.Object({}, { additionalProperties: true }),
        },
      },
      async (request, reply) => {
        const given = request.body as Record<string, unknown>;
        const bodyVersion = given["version"];
        delete given["version"];
        const outcome = await putOrProblem(given, expectedVersion(request.headers["if-match"], bodyVersion));
        await current.refresh();
        void reply.header("etag", etag(outcome.version));
        return { version: outcome.version };
      },
    );
  });

  async function putOrProblem(given: unknown, ifVersion: number | undefined): Promise<PutOutcome> {
    const outcome = await put(given, ifVersion).catch((error: unknown) => {
      throw asProblem(error, name);
    });
    if (outcome.kind !== "version_differs") return outcome;
    const { version } = outcome;
    throw new TidegateError("precondition_failed", `the ${name} are at version ${version}`, { details: { version } });
  }
}

function etag(version: number): string {
  return `"${version}"`;
}

/** The version that a put may replace, from `If-Match` or else from the body; undefined: any. */
function expectedVersion(ifMatch: string | undefined, bodyVersion: unknown): number | undefined {
  if (ifMatch === undefined || ifMatch.trim() === "*") {
    if (bodyVersion === undefined || Number.isSafeInteger(bodyVersion)) return bodyVersion as number | undefined;
    throw new TidegateError("invalid_request", "version: must be a whole number");
  }
  const [, digits] = /^(?:W\/)?"(\d{1,15})"$/.exec(ifMatch.trim()) ?? [];
  if (digits === undefined) throw new TidegateError("invalid_request", 'if-match: must be a version, as in "3"');
  return Number(digits);
}

function asProblem(error: unknown, name: DocumentName): Error {
  if (!(error instanceof InvalidDocument)) return error as Error;
  const { findings } = error;
  return new TidegateError("invalid_request", `the ${name} are not valid, ${findings.length} findings`, {
    errors: findings,
  });
}
