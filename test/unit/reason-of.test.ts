import { expect, test } from "vitest";
import { reasonOf } from "../../shared/runtime/reason-of.ts";

test("SQL-9: a name whose addresses all fail is reported with the reason of the first one", () => {
  const failures = ["connect ECONNREFUSED ::1:5432", "connect ECONNREFUSED 127.0.0.1:5432"].map(
    (text) => new Error(text),
  );
  expect(reasonOf(new AggregateError(failures))).toBe("connect ECONNREFUSED ::1:5432");
  expect(reasonOf(new AggregateError(failures, "both"))).toBe("both");
  expect(reasonOf(new AggregateError([]))).toBe("AggregateError");
  expect(reasonOf(new Error("away"))).toBe("away");
  expect(reasonOf("text")).toBe("text");
});
