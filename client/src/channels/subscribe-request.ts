import type { Subscription } from "../api/channel.ts";
import type { TidegateError } from "../api/errors.ts";

/** One `subscribe()`, until the application unsubscribes or the subscription ends. */
export class SubscribeRequest {
  readonly #answer = Promise.withResolvers<Subscription>();
  readonly promise = this.#answer.promise;
  answered = false;
  withdrawn = false;

  constructor() {
    // An application that ignores the promise learns of a refusal from onEnd.
    this.promise.catch(() => undefined);
  }

  resolve(subscription: Subscription): void {
    this.answered = true;
    this.#answer.resolve(subscription);
  }

  /** Rejects the promise unless it is resolved. */
  withdraw(error: TidegateError): void {
    this.withdrawn = true;
    this.#answer.reject(error);
  }
}
