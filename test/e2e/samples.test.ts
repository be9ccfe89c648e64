/** The samples of README and docs, run in a real browser against a gateway that the test plays. */
import { readFileSync } from "node:fs";
import type { RequestListener } from "node:http";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { rolldown } from "rolldown";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { eventually } from "../support/eventually.ts";
import { sampleOf, samplesOf } from "../support/samples.ts";
import { FakeGateway, type Request } from "../unit/client-fake-gateway.ts";

const root = join(import.meta.dirname, "../..");
const sdk = readFileSync(join(root, "client/dist/browser.js"));

let browser: Browser;
let page: Page;
let gateway: FakeGateway;
/** What the server has beside the gateway, by path. */
let files: Record<string, string | Buffer>;
/** Uncaught errors, unhandled rejections and logged errors of the page. */
let failures: string[];

beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => browser.close());
beforeEach(async () => {
  files = { "/sdk/browser.js": sdk, "/api/sync-token": "token", "/favicon.ico": "" };
  failures = [];
  const serve: RequestListener = ({ url = "" }, response) => {
    const type = url.endsWith(".js") ? "text/javascript" : "text/html";
    response.writeHead(url in files ? 200 : 404, { "content-type": type }).end(files[url]);
  };
  gateway = new FakeGateway(serve);
  gateway.onRequest = (request) => {
    if (request.event !== "board.load") return gateway.grant(request);
    request.answer({ ok: true, data: [{ id: "c1", column: "todo", version: 1 }] });
    return true;
  };
  await gateway.start();
  page = await browser.newPage();
  page.on("pageerror", (error) => failures.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") failures.push(message.text());
  });
});
afterEach(async () => {
  await page.close();
  await gateway.stop();
});

/** Bundles modules by their names, of which the first is the entry, and opens a page with them. */
async function open(modules: Record<string, string>): Promise<void> {
  const paths = new Map(Object.entries(modules).map(([name, code]) => [join(root, name), code]));
  const [entry = ""] = paths.keys();
  const bundle = await rolldown({
    input: entry,
    platform: "browser",
    // StrictMode runs each effect twice in development only.
    transform: { define: { "process.env.NODE_ENV": '"development"' } },
    plugins: [
      {
        name: "samples",
        resolveId: (id) => (paths.has(join(root, id)) ? join(root, id) : paths.has(id) ? id : null),
        load: (id) => paths.get(id) ?? null,
      },
    ],
  });
  const { output } = await bundle.generate({ format: "esm", codeSplitting: false });
  await bundle.close();
  files["/page.js"] = output[0].code;
  files["/"] = '<!doctype html><div id="app"></div><script type="module" src="/page.js"></script>';
  await page.goto(gateway.url);
}

const connections = (): number => gateway.sockets.filter(({ connected }) => connected).length;

function move(column: string, offset: number, channel = "board:1"): void {
  const card = { id: "c1", column, version: offset + 1 };
  for (const socket of gateway.sockets) socket.emit("card.moved", card, { channel, offset });
}

async function showsTheBoard(): Promise<void> {
  await page.getByText("c1: todo").waitFor();
  move("done", 1);
  await page.getByText("c1: done").waitFor();
  expect(connections()).toBe(1);
}

async function unmountsCleanly(): Promise<void> {
  await page.evaluate("unmount()");
  await eventually(() => connections() === 0);
  expect(failures).toEqual([]);
}

const options = `{ url: location.origin, token: async () => (await fetch("/api/sync-token")).text() }`;

test("SDK-20: the sample for React holds one connection under StrictMode, and its clean-up leaves nothing", async () => {
  await open({
    "entry.tsx": `
      import { StrictMode } from "react";
      import { createRoot } from "react-dom/client";
      import { Board, Sync } from "sample.tsx";
      const options = ${options};
      const root = createRoot(document.querySelector("#app"));
      globalThis.show = (id) => root.render(<StrictMode><Sync {...options}><Board id={id} /></Sync></StrictMode>);
      globalThis.unmount = () => root.unmount();
      show("1");`,
    "sample.tsx": sampleOf("docs/client.md", "tsx"),
  });
  await showsTheBoard();
  await page.evaluate('show("2")');
  await eventually(() => gateway.of("sync:subscribe").at(-1)?.data.channel === "board:2");
  await page.getByText("c1: todo").waitFor();
  await eventually(() => gateway.of("sync:unsubscribe").at(-1)?.data.channel === "board:1");
  await unmountsCleanly();
});

test("SDK-20: the sample for Vue follows a board, then another, and ends with the application", async () => {
  await open({
    "entry.ts": `
      import { createApp, h, ref } from "vue";
      import { sync, useBoard } from "sample.ts";
      const id = ref("1");
      const Board = {
        setup() {
          const cards = useBoard(() => id.value);
          return () => h("ul", [...cards.values()].map((card) => h("li", card.id + ": " + card.column)));
        },
      };
      const app = createApp(Board).use(sync, ${options});
      globalThis.show = (next) => (id.value = next);
      globalThis.unmount = () => app.unmount();
      app.mount("#app");`,
    "sample.ts": sampleOf("docs/client.md", "ts"),
  });
  await showsTheBoard();
  await page.evaluate('show("2")');
  await eventually(() => gateway.of("sync:subscribe").at(-1)?.data.channel === "board:2");
  await page.getByText("c1: todo").waitFor();
  await unmountsCleanly();
});

test("SDK-20: the sample for a plain page shows the board, also after its connection was lost", async () => {
  files["/"] = `<!doctype html>${sampleOf("docs/client.md", "html")}`;
  await page.goto(gateway.url);
  await showsTheBoard();
  gateway.cut();
  await eventually(() => gateway.of("sync:subscribe").length === 2);
  move("doing", 2);
  await page.getByText("c1: doing").waitFor();
  expect(failures).toEqual([]);
});

test.each(["sync:subscribe", "board.load"])(
  "SDK-20: the sample for a plain page shows why %s failed",
  async (event) => {
    const { onRequest } = gateway;
    gateway.onRequest = (request) => {
      if (request.event !== event) return onRequest(request);
      request.answer({
        ok: false,
        error: { code: "forbidden", message: `refusal ${gateway.of(event).length}`, retryable: false },
      });
      return true;
    };
    files["/"] = `<!doctype html>${sampleOf("docs/client.md", "html")}`;
    await page.goto(gateway.url);
    await page.getByText("refusal 1").waitFor();
    if (event === "board.load") {
      const position = { epoch: "e2", offset: 0 };
      gateway.socket.emit("sync:resync", { channel: "board:1", position, reason: "history_lost" });
      await page.getByText("refusal 2").waitFor();
    }
    // The browser reports a rejection after the task that leaves it unhandled.
    await page.evaluate("new Promise((resolve) => setTimeout(resolve))");
    expect(failures).toEqual([]);
  },
);

test.each([
  ["README.md", "js", "board:1"],
  ["client/README.md", "ts", "board:42"],
])("SDK-20: the first sample of %s runs", async (file, language, channel) => {
  await open({
    "entry.ts": 'import "prelude.ts"; import "sample.ts";',
    "prelude.ts": `
      globalThis.fetchToken = ${options}.token;
      globalThis.draw = globalThis.render = (card) => document.body.append(card.id + ": " + card.column);
      globalThis.loadSnapshot = async () => undefined;`,
    "sample.ts": sampleOf(file, language).replace(/"https:\/\/[a-z.]+"/, "location.origin"),
  });
  await gateway.request("card.move");
  move("done", 1, channel);
  await page.getByText("c1: done").waitFor();
  expect(failures).toEqual([]);
});

test("SDK-20: the sample of a conflict makes its action on top of what came first", async () => {
  const position = { epoch: "e1", offset: 4 };
  const publications = [{ offset: 4, event: "card.moved", data: "theirs" }];
  gateway.onRequest = (request: Request) => {
    if (gateway.of("card.move").length !== 1) return gateway.grant(request);
    const conflict = { code: "conflict", message: "moved", retryable: false, details: { position, publications } };
    request.answer({ ok: false, error: conflict });
    return true;
  };
  const [, sample] = samplesOf("client/README.md").filter(({ language }) => language === "ts");
  await open({
    "entry.ts": 'import "prelude.ts"; import "sample.ts";',
    "prelude.ts": `
      import { connect } from "@tidegate/client";
      globalThis.client = connect({ ...${options}, offline: {} });
      globalThis.apply = (event, data) => document.body.append(data);`,
    "sample.ts": `${sample?.code}; await moveCard("c1", "done", { epoch: "e1", offset: 3 });`,
  });
  await page.getByText("theirs").waitFor();
  await gateway.request("card.move", 2);
  const moves = gateway.of("card.move").map(({ data, options }) => ({ ...data, ...(options as { id: string }) }));
  const [first, second] = moves as unknown as [{ id: string }, object];
  const action = { card: "c1", column: "done", id: first.id };
  expect([first, second]).toEqual([
    { ...action, position: { epoch: "e1", offset: 3 } },
    { ...action, position },
  ]);
  expect(failures).toEqual([]);
});
