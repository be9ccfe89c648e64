/** What the rules document refuses about sources. */
import { expect, test } from "vitest";
import { checkRules } from "../../shared/rules/document.ts";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";

const valid = {
  services: { s: { url: "http://s.test", secret: "env:S" } },
  classes: { fast: {} },
  routes: [
    { event: "in.*", service: "s", path: "/", mode: "enqueue" },
    { event: "ask", service: "s", path: "/", mode: "call" },
  ],
};

function findings(source: object): readonly string[] {
  try {
    checkRules({ ...valid, sources: { x: source } });
    return [];
  } catch (error) {
    if (error instanceof InvalidDocument) return error.findings;
    throw error;
  }
}

const secrets = ["env:A"];

test.each<[string, object]>([
  [
    "the examples of the specification",
    {
      verify: "github",
      secrets,
      key: "body:/a/b",
      id: "header:x-id",
      tenant: "path:1",
      route: "in.push",
      class: "fast",
      answer: 202,
    },
  ],
  [
    "a split",
    { verify: "meta", secrets, verifyToken: "env:T", split: ["/entry", "/messaging"], route: "in.a", answer: 200 },
  ],
  [
    "hmac",
    {
      verify: "hmac",
      secrets,
      hmac: { header: "x-sig", signed: "{header:X-Ts}.{body}", timestamp: "header:x-ts", toleranceSeconds: 60 },
      route: "in.a",
    },
  ],
  ["none", { verify: "none", key: "query:a", id: "body:Sid", route: "in.a" }],
  ["a call with a fallback", { verify: "slack", secrets, route: "ask", fallback: "enqueue" }],
])("RULE-5: %s is valid", (_title, source) => {
  expect(findings(source)).toEqual([]);
});

test.each<[object, string]>([
  [{ verify: "github", route: "in.a" }, "sources.x.secrets: is required with verify: github"],
  [{ verify: "none", secrets, route: "in.a" }, "sources.x.secrets: not with verify: none"],
  [{ verify: "github", secrets, route: "out" }, 'sources.x.route: no route for the event "out"'],
  [{ verify: "github", secrets, route: "in.a", class: "slow" }, 'sources.x.class: no such class: "slow"'],
  [{ verify: "github", secrets, verifyToken: "env:T", route: "in.a" }, "sources.x.verifyToken: only with"],
  [{ verify: "github", secrets, hmac: { header: "h" }, route: "in.a" }, "sources.x.hmac: only with verify: hmac"],
  [{ verify: "hmac", secrets, route: "in.a" }, "sources.x.hmac: is required"],
  [{ verify: "hmac", secrets, hmac: { header: "h", signed: "x" }, route: "in.a" }, "must contain {body}"],
  [
    { verify: "hmac", secrets, hmac: { header: "h", signed: "{body}{url}" }, route: "in.a" },
    "no such placeholder: {url}",
  ],
  [
    { verify: "hmac", secrets, hmac: { header: "h", signed: "{header:a b}.{body}" }, route: "in.a" },
    "no such placeholder: {header:a b}",
  ],
  [{ verify: "hmac", secrets, hmac: { header: "h", timestamp: "t" }, route: "in.a" }, "must contain {timestamp}"],
  [{ verify: "hmac", secrets, hmac: { header: "h", toleranceSeconds: 1 }, route: "in.a" }, "only with timestamp"],
  [{ verify: "twilio", secrets, split: ["/a"], route: "in.a" }, "sources.x.split: not with verify: twilio"],
  [{ verify: "slack", secrets, split: ["/a"], route: "ask" }, "sources.x.split: not with a route of mode: call"],
  [{ verify: "slack", secrets, fallback: "enqueue", route: "in.a" }, "sources.x.fallback: only with a route"],
  [{ verify: "slack", secrets, journal: true, route: "ask" }, "sources.x.journal: with a route of mode: call only"],
  [{ verify: "github", secrets: ["a secret in the open"], route: "in.a" }, "sources.x.secrets.0: must name"],
  [{ verify: "meta", secrets, verifyToken: "in the open", route: "in.a" }, "sources.x.verifyToken: must name"],
  [{ verify: "github", secrets, key: "cookie:a", route: "in.a" }, "sources.x.key: is no selector: write body:"],
  [{ verify: "github", secrets, key: "path:0", route: "in.a" }, "sources.x.key: is no selector"],
  [{ verify: "github", secrets, id: "header:a b", route: "in.a" }, "sources.x.id: is no selector"],
  [{ verify: "github", secrets, tenant: "body:/a~2", route: "in.a" }, "sources.x.tenant: is no selector"],
  [{ verify: "github", secrets, split: ["entry"], route: "in.a" }, "sources.x.split.0: must be a JSON pointer"],
  [{ verify: "github", secrets, answer: 500, route: "in.a" }, "sources.x.answer"],
  [{ verify: "pgp", secrets, route: "in.a" }, "sources.x.verify"],
])("RULE-5: %j is refused with the finding %s", (source, finding) => {
  expect(findings(source).join("\n")).toContain(finding);
  expect(findings(source).join("\n")).not.toContain("in the open");
});
