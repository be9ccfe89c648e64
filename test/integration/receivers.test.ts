/** The examples of receivers, each with the Standard Webhooks library of its language. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { freePort, spawnProcess } from "../support/processes.ts";

const root = join(import.meta.dirname, "../..");
const folder = join(root, "examples/receive");
/** A first build compiles Go's own library. */
const buildMs = 300_000;

const receivers = {
  TypeScript: async () => [process.execPath, join(folder, "receive.ts")],
  Python: async () => [join(root, ".venv/bin/python"), join(folder, "receive.py")],
  Go: async () => {
    const binary = join(root, ".venv/bin/receive");
    const build = spawnProcess(join(root, ".venv/bin/go"), ["build", "-buildvcs=false", "-o", binary, "."], {
      cwd: join(folder, "go"),
      env: { GOTOOLCHAIN: "local" },
    });
    if ((await build.exited) !== 0) throw new Error(`the receiver in Go cannot be built: ${build.output()}`);
    return [binary];
  },
} as const;

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    rules: { namespaces: { board: { changes: true } } },
    environment: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
  });
});
afterAll(async () => fleet.stop());

test.each(Object.entries(receivers))(
  "LANG-3: the receiver in %s takes each change once, in order, and refuses a forged one",
  async (language, start) => {
    const [command = "", ...args] = await start();
    const url = `http://127.0.0.1:${await freePort()}/`;
    const channel = `board:${language}`;
    const { body: created } = await fleet.api("POST", "/v1/endpoints", { url, channels: [channel], key: "/card" });
    const [secret] = created["secrets"] as string[];
    const receiver = spawnProcess(command, args, { env: { WEBHOOK_SECRET: secret, PORT: new URL(url).port } });
    onTestFinished(async () => {
      receiver.kill("SIGKILL");
      await receiver.exited;
      await fleet.api("DELETE", `/v1/endpoints/${String(created["id"])}`);
    });
    await receiver.printed("listening");
    const texts = ["größer ✓", '"quoted"', "1.0"];
    for (const text of texts) {
      await fleet.api("POST", "/v1/publish", { channel, event: "saved", data: { card: 7, text } });
    }
    const taken = (): { key: string; change: { data: { text: string } } }[] =>
      receiver
        .output()
        .split("\n")
        .flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as ReturnType<typeof taken>[number]] : []));
    await eventually(() => taken().length >= texts.length);
    // A replay: what it has is answered, and not taken again.
    await fleet.api("POST", `/v1/endpoints/${String(created["id"])}/seek`, { to: "start" });
    await eventually(async () => {
      const { body } = await fleet.api("GET", `/v1/endpoints/${String(created["id"])}/attempts`);
      const items = body["items"] as { status: number }[];
      return items.length >= 2 * texts.length && items.every(({ status }) => status === 204);
    });
    expect(taken().map(({ key, change }) => [key, change.data.text])).toEqual(texts.map((text) => ["7", text]));
    const forged = await fetch(url, {
      method: "POST",
      headers: {
        "webhook-id": "1",
        "webhook-timestamp": String(Math.floor(Date.now() / 1_000)),
        "webhook-signature": "v1,x",
      },
      body: "{}",
    });
    expect(forged.status).toBe(401);
  },
  buildMs,
);

test("LANG-3: what the documentation shows of the receivers is in their files", async () => {
  const page = await readFile(join(root, "docs/webhooks-out.md"), "utf8");
  const files = { ts: "receive.ts", python: "receive.py", go: "go/receive.go" };
  for (const [language, file] of Object.entries(files)) {
    const blocks = [...page.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms"))].map(
      ([, text = ""]) => text,
    );
    expect(blocks.length).toBe(1);
    const lines = (await readFile(join(folder, file), "utf8")).split("\n").map((line) => line.trim());
    const shown = (blocks[0] ?? "")
      .trimEnd()
      .split("\n")
      .map((line) => line.trim());
    expect(lines.join("\n")).toContain(shown.join("\n"));
  }
});
