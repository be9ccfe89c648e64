import { describeFindings } from "../../shared/runtime/schema-errors.ts";

/** No request has so many. To list what is wrong with thousands takes longer than all else that is done for them. */
const maxMembers = 20;

/** What is wrong with a value that a validator has refused. */
export function findingsOf(
  validator: { Errors(value: unknown): Parameters<typeof describeFindings>[0] },
  value: unknown,
): string {
  const members = typeof value === "object" && value !== null ? Object.keys(value).length : 0;
  if (members > maxMembers) return `has ${members} members`;
  return describeFindings(validator.Errors(value)).join("; ");
}
