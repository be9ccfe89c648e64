/**
 * Runs the board, its service, a gateway and a private API in one process, until SIGTERM or SIGINT:
 *
 *   npm start
 *
 * Settings come from the environment (docs/settings.md); BOARD_PORT and BOARD_SECRET are the service's.
 */
import { readArguments } from "../../shared/runtime/command-line.ts";
import { port } from "../../shared/runtime/setting-kinds.ts";
import { orExit, readSettings } from "../../shared/runtime/settings.ts";
import { type DemoDoors, newServiceSecret, runDemo } from "../shared/demo.ts";
import { createBoardService } from "./service.ts";

readArguments({});
const { BOARD_PORT } = orExit(() => readSettings({ BOARD_PORT: port(8083) }, process.env));
const { BOARD_SECRET: secret = newServiceSecret() } = process.env;

await runDemo({
  folder: new URL(".", import.meta.url),
  serviceName: "board",
  environment: { BOARD_SECRET: secret, ...process.env },
  ports: { BOARD_PORT },
  claims: { channels: ["board:*"] },
  begin: async ({ privateApiUrl, publishToken, listen }) => {
    const service = createBoardService({ secret, privateApiUrl, publishToken });
    return { serviceUrl: await listen("board service", service, BOARD_PORT) };
  },
  opened: whatToTry,
});

async function whatToTry({
  publicUrl,
  privateApiUrl,
  publishToken,
  rulesFile,
  rules,
  tokenFor,
}: DemoDoors): Promise<string> {
  const webhook = `
  Send a webhook, as a provider would:
    curl ${publicUrl}/hooks/notice -H 'content-type: application/json' -d '{"board":"demo","text":"Hello from a webhook"}'
`;
  return `
Tidegate is running.

  ${rulesFile === undefined ? `Open ${publicUrl} in two windows and move a card.` : `The rules are those of ${rulesFile}; clients connect to ${publicUrl}`}

  Publish to everyone on a channel, as a service would:
    curl ${privateApiUrl}/v1/publish -H 'authorization: Bearer ${publishToken}' \\
      -H 'content-type: application/json' -d '{"channel":"board:demo","event":"notice","data":{"text":"Hello"}}'
${rules.sources?.["notice"] === undefined ? "" : webhook}
  Connect a stock Socket.IO client with this token (user "ada"):
    io("${publicUrl}", { transports: ["websocket"], auth: { token: "${await tokenFor("ada")}" } })

  The private API describes itself at ${privateApiUrl}/openapi.json
  Stop with Ctrl-C.
`;
}
