/** A client between a gateway that the test plays move by move and an application that subscribes and calls. */
import { deepEqual, equal } from "node:assert/strict";
import { vi } from "vitest";
import { Client } from "../../client/src/client.ts";
import { maxWaitingCalls, ModelApplication } from "./client-model-application.ts";
import { ModelGateway } from "./client-model-gateway.ts";
import { Violations } from "./client-model-violations.ts";

export class World {
  readonly client: Client;
  readonly application: ModelApplication;
  readonly gateway: ModelGateway;
  readonly #violations = new Violations();
  tokenFails = false;
  tokenTakesMs = 0;

  constructor() {
    this.gateway = new ModelGateway(() => this.application, this.#violations);
    let client: Client | undefined;
    const token = async (): Promise<string> => {
      if ((client?.state.status ?? "connecting") === "connecting") {
        this.#violations.expect(() => equal(this.gateway.resumeToken, null));
      }
      if (this.tokenFails) throw new Error("the token service is down");
      if (this.tokenTakesMs > 0) await new Promise((resolve) => setTimeout(resolve, this.tokenTakesMs));
      return "token";
    };
    client = Client.connect(
      { url: "http://model", token, offline: { maxCalls: maxWaitingCalls }, random: () => 0.5 },
      (_url, auth, callbacks) => this.gateway.connect(auth, callbacks),
    );
    this.client = client;
    this.application = new ModelApplication(client, this.gateway, this.#violations);
  }

  /** What must hold between two moves. */
  check(): void {
    this.#violations.throwFirst();
    this.application.check();
  }

  /** With a gateway that serves everything, every channel reaches its newest position. */
  async settle(): Promise<void> {
    this.tokenFails = false;
    this.tokenTakesMs = 0;
    for (let round = 0; round < 40 && !this.application.closed; round++) {
      this.gateway.serveAll();
      await vi.advanceTimersByTimeAsync(31_000);
    }
    if (this.application.closed) return;
    equal(this.gateway.open.length, 1);
    for (const { channel, wanted } of this.application.followed.values()) {
      if (wanted) deepEqual(channel.position, this.gateway.end(channel.name));
    }
  }
}
