/** Disables endpoints that answer 410 or have failed for days, and publishes an event about it. */
import type { ChangeBudget } from "../../shared/changes/budget.ts";
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import type { EndpointHealth, EndpointStore, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { keptOf } from "../changes/kept-of.ts";
import { changeEndpoint } from "./change-endpoint.ts";

/** An endpoint that has failed for so long, without a success in between, is disabled. */
const failingMs = 5 * 86_400_000;
/** Where events about endpoints are published. */
const systemChannel = "tidegate:endpoints";
const disabledEvent = "endpoint.disabled";
const gone = 410;

export class FailingEndpoints {
  readonly #store: EndpointStore;
  readonly #broker: ChannelBroker;
  readonly #rules: CurrentRules;
  readonly #changeBudget: Pick<ChangeBudget, "retention">;
  readonly #logger: Logger;
  readonly #failingMs: number;

  /** @param options.failingMs shorter in tests */
  constructor(options: {
    store: EndpointStore;
    broker: ChannelBroker;
    rules: CurrentRules;
    changeBudget: Pick<ChangeBudget, "retention">;
    logger: Logger;
    failingMs?: number;
  }) {
    this.#store = options.store;
    this.#broker = options.broker;
    this.#rules = options.rules;
    this.#changeBudget = options.changeBudget;
    this.#logger = options.logger;
    this.#failingMs = options.failingMs ?? failingMs;
  }

  /** Call it after each failure of a delivery. @param stored the endpoint when the request was sent. If it has changed since, it is not disabled */
  async failed(stored: StoredEndpoint, why: { status?: number; health: EndpointHealth }): Promise<void> {
    const { failingSince = Infinity } = why.health;
    if (why.status === gone) await this.#disable(stored, "it answered 410 (gone)");
    else if (Date.now() - failingSince >= this.#failingMs) {
      await this.#disable(stored, `every delivery failed since ${new Date(failingSince).toISOString()}`);
    }
  }

  async #disable(sent: StoredEndpoint, reason: string): Promise<void> {
    const { id } = sent.endpoint;
    let isNew = false;
    await changeEndpoint(this.#store, id, ({ endpoint, version }) => {
      isNew = version === sent.version && endpoint.halted !== "disabled";
      return isNew ? { ...endpoint, halted: "disabled", reason } : undefined;
    });
    if (!isNew) return;
    this.#logger.warn({ endpoint: id, reason }, "an endpoint is disabled");
    const data = JSON.stringify({ id, reason, at: Date.now() });
    const kept = keptOf(systemChannel, data.length, { rules: this.#rules.rules, changeBudget: this.#changeBudget });
    await this.#broker.publish({ channel: systemChannel, event: disabledEvent, data, ...kept });
  }
}
