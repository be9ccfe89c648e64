/** Generates requests that put rules and rollouts, as JSON and as YAML. */
import type { Dice } from "./dice.ts";
import type { Conversation, RequestStep, Step } from "./input.ts";
import { bearer } from "./private-door.ts";
import { type Header, mutatedSteps } from "./requests.ts";
import { extendedRules, largeRules, rollouts, rules } from "./rules-text.ts";
import { largeYaml, yaml } from "./yaml-text.ts";

export function documentConversation(dice: Dice): Conversation {
  const steps = dice.list(dice.magnitude(1, 8), () => documentSteps(dice)).flat();
  return {
    kind: "conversation",
    door: "private",
    opening: "bare",
    steps,
    ...(dice.chance(0.05) && { segmentBytes: dice.magnitude(100, 1_460) }),
    ending: dice.chance(0.9) ? "answered" : dice.pick(["reset", "half-close"]),
  };
}

/** One document, with a token or without, to measure its cost. */
export function costlyDocument(dice: Dice): Conversation {
  // A separate process parses YAML, which is slow.
  const isYaml = dice.chance(0.4);
  const bytes = dice.magnitude(2_000, isYaml ? 200_000 : 1_000_000);
  const body = isYaml ? largeYaml(dice, bytes) : largeRules(dice, bytes);
  const headers: Header[] = [
    ["content-type", [isYaml ? "application/yaml" : "application/json"]],
    ...(dice.chance(0.7) ? [...bearer("rulesToken"), neverMatches] : []),
  ];
  const target = [dice.pick(["/v1/rules", "/v1/rollouts"])];
  const request: RequestStep = { method: "PUT", target, headers, body };
  return { kind: "conversation", door: "private", opening: "bare", steps: [{ request }], ending: "answered" };
}

/** The API validates the document and does not store it. */
const neverMatches: Header = ["if-match", ['"999999999"']];

function documentSteps(dice: Dice): Step[] {
  const name = dice.pick(["rules", "rules", "rollouts"]);
  const target = [`/v1/${name}`];
  const headers = (type: string): Header[] => [["content-type", [type]], ...bearer("rulesToken")];
  if (name === "rollouts" && dice.chance(0.5)) {
    return [{ request: { method: "PUT", target, headers: headers("application/json"), body: rollouts(dice) } }];
  }
  // The rules that the honest client needs, and more: these may come into force.
  if (name === "rules" && dice.chance(0.1)) {
    const body = extendedRules(dice);
    return [{ request: { method: "PUT", target, headers: headers("application/json"), body } }];
  }
  const request = dice.weighted<RequestStep>([
    [3, () => ({ method: "PUT", target, headers: headers("application/json"), body: rules(dice) })],
    [
      3,
      () => ({
        method: "PUT",
        target,
        headers: headers(dice.pick(["application/yaml", "text/yaml"])),
        body: yaml(dice),
      }),
    ],
    [1, () => ({ method: "GET", target, headers: headers("application/json") })],
  ]);
  return mutatedSteps(dice, request).map((step) => ("request" in step ? { request: notStored(step.request) } : step));
}

function notStored(request: RequestStep): RequestStep {
  return { ...request, headers: [...request.headers.filter(([header]) => header !== "if-match"), neverMatches] };
}
