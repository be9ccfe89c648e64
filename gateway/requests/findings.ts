import { describeFindings } from "../../shared/runtime/schema-errors.ts";

/** No valid request has more. Listing the flaws of thousands of members costs more than the rest of the request. */
const maxMembers = 20;

/** Why a validator refused a value. */
export function findingsOf(
  validator: { Errors(value: unknown): Parameters<typeof describeFindings>[0] },
  value: unknown,
): string {
  const members = typeof value === "object" && value !== null ? Object.keys(value).length : 0;
  if (members > maxMembers) return `has ${members} members`;
  return describeFindings(validator.Errors(value)).join("; ");
}
