/** What a client presents to be let in again, and when it asks the application for a token. */
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
  test("SDK-2: comes back with it and the last token, and asks nobody, however often", async () => {
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

  test("keeps it through refusals that are about something else", async () => {
    await connected();
    refuse("at_capacity", true);
    refuse("broker_unavailable", true);
    gateway.cut();
    expect((await handshakes(4)).slice(1)).toEqual(["", "", ""].map(() => ({ token: "token-1", resume: "resume-1" })));
    expect(asked).toBe(1);
  });

  test.each(["unauthenticated", "token_expired"] as const)(
    "SDK-2: refused with %s it forgets it and tries once with a fresh token, at once",
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

  test("is closed where the fresh token is unauthenticated too", async () => {
    const client = await connected();
    refuse("unauthenticated", false);
    refuse("unauthenticated", false);
    gateway.cut();
    expect((await reached(client, "closed")).reason).toMatchObject({ code: "unauthenticated", retryable: false });
    expect(gateway.handshakes).toHaveLength(3);
  });

  test("and a text as token tries the text alone once the resume token is refused", async () => {
    const client = await connected({ token: "text" });
    refuse("unauthenticated", false);
    gateway.cut();
    expect((await handshakes(3)).slice(1)).toEqual([{ token: "text", resume: "resume-1" }, { token: "text" }]);
    await reached(client, "connected");
  });

  test("and a text as token is closed when that has expired", async () => {
    const client = await connected({ token: "text" });
    gateway.socket.emit("sync:disconnect", { code: "token_expired", reason: "", reconnect: true });
    expect((await reached(client, "closed")).reason.code).toBe("token_expired");
  });

  test("returns with it when its session was ended as expired, and refreshes then", async () => {
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

  test.each(["replaced", "revoked"])("%s closes it for good", async (code) => {
    const client = await connected();
    gateway.socket.emit("sync:disconnect", { code, reason: "elsewhere", reconnect: false });
    expect((await reached(client, "closed")).reason).toMatchObject({ code, retryable: false });
    const other = await connected();
    other.close();
    expect(gateway.handshakes).toHaveLength(2);
  });
});
