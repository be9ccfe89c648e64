/** What the rules say of queued events, and what is refused. */
import { expect, test } from "vitest";
import { checkRules } from "../../shared/rules/document.ts";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";
import { serviceSecret } from "../support/fleet.ts";

const services = {
  documents: { url: "http://documents", secret: serviceSecret },
  audit: { url: "http://audit", secret: serviceSecret },
};

function findingsOf(route: object, more: object = {}): readonly string[] {
  const base = { event: "doc.edit", service: "documents", path: "/edits", mode: "enqueue" };
  try {
    checkRules({ services, routes: [{ ...base, ...route }], ...more });
    return [];
  } catch (error) {
    if (error instanceof InvalidDocument) return error.findings;
    throw error;
  }
}

test.for<[object, string]>([
  [{ key: "docId" }, 'routes.0.key: must be a JSON pointer into the data, such as "/docId"'],
  [{ key: "/a~2" }, 'routes.0.key: must be a JSON pointer into the data, such as "/docId"'],
  [{ class: "stats" }, 'routes.0.class: no such class: "stats" (add it under classes)'],
  [{ also: ["nobody"] }, 'routes.0.also.0: no such service: "nobody" (add it under services)'],
  [{ also: ["documents"] }, "routes.0.also: names a service twice"],
  [{ also: ["audit"], rollout: { to: "audit", percent: 1 } }, "routes.0.also: names a service twice"],
  [{ retry: { maxMs: 100 } }, "routes.0.retry: the default of minMs, 500, is more than maxMs, 100"],
  [{ retry: { minMs: 90_000 } }, "routes.0.retry: minMs, 90000, is more than maxMs, 60000"],
  [{ retry: { attempts: 0 } }, "routes.0.retry.attempts: must be >= 1"],
  [{ batch: 101 }, "routes.0.batch: must be <= 100"],
  [{ mode: "call", batch: 2 }, "routes.0.batch: only for mode: enqueue"],
])("RULE-5: a route for queued events with %o is refused", ([route, finding]) => {
  expect(findingsOf(route)).toEqual([finding]);
});

test("RULE-5: a route for queued events may have all of its members", () => {
  const route = {
    ...{ key: "/a~1b/0", class: "stats", retry: { attempts: 1, minMs: 1, maxMs: 1 } },
    ...{ onFailure: "block", batch: 100, also: ["audit"] },
  };
  expect(findingsOf(route, { classes: { stats: { share: 1, whenFull: "drop" } } })).toEqual([]);
});
