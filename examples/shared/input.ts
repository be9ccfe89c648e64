/** Checks of what clients send. */
import { Refusal } from "./failures.ts";

export type Input = Readonly<Record<string, unknown>>;

/** The object in a member; an empty one where there is none. */
export function objectIn(input: Input, name: string): Input {
  const value = input[name];
  return typeof value === "object" && value !== null ? (value as Input) : {};
}

export function numberOf(input: Input, name: string): number {
  const value = input[name];
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new Refusal(400, "bad_input", `${name} must be a number`);
}

/** Without the white space around it. */
export function textOf(input: Input, name: string, maxLength: number): string {
  const value = input[name];
  const text = typeof value === "string" ? value.trim() : "";
  if (text !== "" && text.length <= maxLength) return text;
  throw new Refusal(400, "bad_input", `${name} must have 1 to ${maxLength} characters`);
}
