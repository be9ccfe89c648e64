/** No check: for a network that only the provider reaches, and for trying out. */
import type { Scheme } from "./scheme.ts";

export const none: Scheme = {
  keyOf: () => undefined,
  refusal: () => undefined,
};
