/** What a client presents when it reconnects, and when it calls the token function. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Client, ClientOptions } from "../../client/src/index.ts";
import type { ConnectCode } from "../../shared/protocol/codes.ts";
import { eventually } from "../support/eventually.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let asked: number;
const { open, closeAll } = clientsOf(() => gateway);

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  gateway.welcome = { resumeToken: "resume-1" };
  asked = 0;
});
afterEach(async () => {
  closeAll();
  await gateway.stop();
});

async function connected(options: Partial<ClientOptions> = {}): Promise<Client> {
  const client = open({ token: () => `token-${++asked}`, ...options });
  await reached(client, "connected");
  return client;
}

async function handshakes(count: number): Promise<unknown[]> {
  await eventually(() => gateway.handshakes.length >= count);
  return gateway.handshakes.map(({ token, resume }) => (resume === undefined ? { token } : { token, resume }));
}

function refuse(code: ConnectCode, retryable: boolean): void {
  gateway.refusals.push({ code, message: code, retryable });
}

describe("client with a resume token", () => {
  test("SDK-2: every reconnect presents it with the last token, and calls no token function", async () => {
    const client = await connected();
    gateway.welcome = { resumeToken: "resume-2", resumed: true };
    gateway.cut();
    await reached(client, "waiting");
    expect(await reached(client, "connected")).toMatchObject({ resumed: true, sessionId: "s2" });
    gateway.cut();
    expect(await handshakes(3)).toEqual([
      { token: "token-1" },
      { token: "token-1", resume: "resume-1" },
      { token: "token-1", resume: "resume-2" },
    ]);
    expect(asked).toBe(1);
  });

  test("a refusal for another reason keeps it", async () => {
    await connected();
    refuse("at_capacity", true);
    refuse("broker_unavailable", true);
    gateway.cut();
    expect((await handshakes(4)).slice(1)).toEqual(["", "", ""].map(() => ({ token: "token-1", resume: "resume-1" })));
    expect(asked).toBe(1);
  });

  test.each(["unauthenticated", "token_expired"] as const)(
    "SDK-2: after %s the client drops it and retries once at once with a fresh token",
    async (code) => {
      const client = await connected({ random: () => 0.99 });
      refuse(code, code === "token_expired");
      gateway.socket.emit("sync:disconnect", { code: "draining", reason: "", reconnect: true, retryAfterMs: 0 });
      await handshakes(2);
      gateway.welcome = { resumeToken: "resume-2" };
      expect(await handshakes(3)).toEqual([
        { token: "token-1" },
        { token: "token-1", resume: "resume-1" },
        { token: "token-2" },
      ]);
      await reached(client, "connected");
    },
  );

  test("an unauthenticated fresh token closes the client", async () => {
    const client = await connected();
    refuse("unauthenticated", false);
    refuse("unauthenticated", false);
    gateway.cut();
    expect((await reached(client, "closed")).reason).toMatchObject({ code: "unauthenticated", retryable: false });
    expect(gateway.handshakes).toHaveLength(3);
  });

  test("with a fixed token the client retries once without the resume token", async () => {
    const client = await connected({ token: "fixed" });
    refuse("unauthenticated", false);
    gateway.cut();
    expect((await handshakes(3)).slice(1)).toEqual([{ token: "fixed", resume: "resume-1" }, { token: "fixed" }]);
    await reached(client, "connected");
  });

  test("an expired fixed token closes the client", async () => {
    const client = await connected({ token: "fixed" });
    gateway.socket.emit("sync:disconnect", { code: "token_expired", reason: "", reconnect: true });
    expect((await reached(client, "closed")).reason.code).toBe("token_expired");
  });

  test("an expired session is resumed with it and refreshed afterwards", async () => {
    await connected();
    gateway.welcome = { resumeToken: "resume-2", resumed: true, expiresAt: Date.now() + 1_000 };
    gateway.onRequest = ({ answer }) => {
      answer({ ok: true, expiresAt: Date.now() + 3_600_000, resumeToken: "resume-3" });
      return true;
    };
    gateway.socket.emit("sync:disconnect", { code: "token_expired", reason: "", reconnect: true });
    expect((await gateway.request("sync:refresh")).data).toEqual({ token: "token-2" });
    expect(await handshakes(2)).toEqual([{ token: "token-1" }, { token: "token-1", resume: "resume-1" }]);
  });

  test.each(["replaced", "revoked"])("%s closes the client", async (code) => {
    const client = await connected();
    gateway.socket.emit("sync:disconnect", { code, reason: "elsewhere", reconnect: false });
    expect((await reached(client, "closed")).reason).toMatchObject({ code, retryable: false });
    const other = await connected();
    other.close();
    expect(gateway.handshakes).toHaveLength(2);
  });
});
