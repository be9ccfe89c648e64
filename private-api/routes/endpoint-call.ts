/** What the calls about one endpoint, `/v1/endpoints/{id}…`, have in common. */
import type { FastifyRequest, RouteShorthandOptions } from "fastify";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { boundFindings, describeFindings } from "../../shared/runtime/schema-errors.ts";
import type { InternetAddresses } from "../../shared/services/internet-addresses.ts";
import {
  bodyFindings,
  EndpointAnswer,
  type EndpointPatch,
  EndpointPath,
  type NewEndpoint,
} from "../endpoints/endpoint-form.ts";
import { endpointBodyBytes } from "./limits.ts";

interface CallSchema {
  description?: string;
  body?: object;
  querystring?: object;
  response?: object;
  produces?: string[];
}

type CallOptions = Pick<RouteShorthandOptions, "bodyLimit" | "config" | "schema" | "serializerCompiler">;

export function endpointCall(summary: string, schema: CallSchema = {}): CallOptions {
  return {
    config: { access: "endpoints" },
    schema: { summary, tags: ["endpoints"], params: EndpointPath, ...schema },
  };
}

/** A call that answers with the endpoint. Its schema describes the answer only: it is serialized as it is. */
export function endpointViewCall(summary: string, schema: Pick<CallSchema, "body"> = {}): CallOptions {
  return {
    ...endpointCall(summary, { ...schema, response: { 200: EndpointAnswer } }),
    ...(schema.body && { bodyLimit: endpointBodyBytes }),
    serializerCompiler: () => JSON.stringify,
  };
}

/** Of a call with `attachValidation`. @throws TidegateError with every finding, also those that the schema cannot make */
export function assertEndpointBody(
  { validationError, body }: FastifyRequest,
  schema: typeof NewEndpoint | typeof EndpointPatch,
  addresses: InternetAddresses,
): void {
  if (!validationError) return;
  const errors = [...describeFindings(validationError.validation ?? []), ...bodyFindings(body, schema, addresses)];
  throw new TidegateError("invalid_request", "the request is not valid", { errors: boundFindings(errors) });
}
