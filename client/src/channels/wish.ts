import type { Subscription } from "../api/channel.ts";
import type { TidegateError } from "../api/errors.ts";

/** What the application asked for with one `subscribe()`. */
export interface Wish {
  readonly promise: Promise<Subscription>;
  readonly resolve: (subscription: Subscription) => void;
  readonly reject: (error: TidegateError) => void;
  answered: boolean;
}

export function newWish(): Wish {
  const { promise, resolve, reject } = Promise.withResolvers<Subscription>();
  // Who does not look at the promise hears of a refusal by onEnd.
  promise.catch(() => undefined);
  return { promise, resolve, reject, answered: false };
}
