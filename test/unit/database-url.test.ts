/** What is said of a URL of a database that cannot be used. */
import { expect, test } from "vitest";
import { checkUrl } from "../../private-api/sources/contract.ts";

const protocols = ["postgres:", "postgresql:"];

test.each([
  ["postgres://app:never#shown@db/crm", "percent-encode"],
  ["postgresql://app:never/shown@db:5432/crm", "percent-encode"],
  ["postgres://app:never?shown@db/crm", "percent-encode"],
  ["postgres://app:never%shown@db/crm", "write %25 for a %"],
  ["mysql://app:never@db/crm", "must begin with postgres:// or postgresql://"],
  ["app:never@db/crm", "must begin with postgres:// or postgresql://"],
])("SQL-9: the error of the URL %s says what to change, and does not quote it", (url, reason) => {
  const check = (): void => checkUrl(url, protocols);
  expect(check).toThrow(reason);
  expect(check).not.toThrow("never");
});
