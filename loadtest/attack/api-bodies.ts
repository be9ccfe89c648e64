/** Bodies for the private API that are more expensive to read than to send. */
import type { Attack, Target } from "./attack.ts";
import { askInTurn, httpRequest } from "./peers.ts";

interface Body {
  readonly name: string;
  readonly does: string;
  readonly request: string;
  readonly type: string;
  readonly body: () => string;
}

const yaml = "application/yaml";

const bodies: readonly Body[] = [
  {
    name: "yaml-keys",
    does: "a rules document of 189 KB of YAML keys",
    request: "PUT /v1/rules",
    type: yaml,
    body: () => Array.from({ length: 15_000 }, (_, number) => `key${number}: ${number}`).join("\n"),
  },
  {
    name: "yaml-brackets",
    does: "a rules document of 40 KB of closing braces",
    request: "PUT /v1/rules",
    type: yaml,
    body: () => "}".repeat(40_000),
  },
  {
    name: "yaml-open-brackets",
    does: "a rules document of 100 KB of opening brackets",
    request: "PUT /v1/rules",
    type: yaml,
    body: () => "[".repeat(100_000),
  },
  {
    name: "rules-findings",
    does: "a rules document of 10,000 invalid routes",
    request: "PUT /v1/rules",
    type: "application/json",
    body: () => JSON.stringify({ routes: Array.from({ length: 10_000 }, () => ({ a: 1, b: 2 })) }),
  },
  {
    name: "ndjson-lines",
    does: "a batch of 1 MB of lines that are not JSON",
    request: "POST /v1/publish/batch",
    type: "application/x-ndjson",
    body: () => "x\n".repeat(500_000),
  },
  {
    name: "json-brackets",
    does: "a batch of 1 MB of nested brackets",
    request: "POST /v1/publish/batch",
    type: "application/json",
    body: () => `${"[".repeat(500_000)}${"]".repeat(500_000)}`,
  },
  {
    name: "batch-of-anything",
    does: "a batch of 1,000 invalid items",
    request: "POST /v1/publish/batch",
    type: "application/json",
    body: () => JSON.stringify(Array.from({ length: 1_000 }, () => ({ a: 1, b: 2, channel: "?", event: "?" }))),
  },
  {
    name: "relay-lines",
    does: "one relay line of 1 MB",
    request: "POST /v1/relay",
    type: "application/x-ndjson",
    body: () => "[".repeat(1_000_000),
  },
];

export const apiBodyAttacks: readonly Attack[] = bodies.flatMap(({ name, does, request, type, body }): Attack[] => {
  const ask = ({ api }: Target, authorization: Record<string, string>): Buffer =>
    httpRequest(request, api, { "content-type": type, ...authorization }, body());
  return [
    {
      name,
      does: `${does}, without a token`,
      needs: "nothing",
      run: async (target, load) => askInTurn(target.api, ask(target, {}), load),
    },
    {
      name: `${name}-token`,
      does: `${does}, with a token`,
      needs: "API token",
      run: async (target, load) =>
        askInTurn(target.api, ask(target, { authorization: `Bearer ${target.apiToken}` }), load),
    },
  ];
});
