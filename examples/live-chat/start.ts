/**
 * Runs the live chat in one process, until SIGTERM or SIGINT: customers write on a simulated Facebook, operators answer on a page.
 *
 *   npm run live-chat
 *
 * Settings come from the environment (docs/settings.md); CHAT_PORT and FACEBOOK_PORT are the example's.
 */
import { readArguments } from "../../shared/runtime/command-line.ts";
import { port } from "../../shared/runtime/setting-kinds.ts";
import { orExit, readSettings } from "../../shared/runtime/settings.ts";
import { type DemoDoors, newSecret, newServiceSecret, runDemo } from "../shared/demo.ts";
import { Facebook } from "./facebook/facebook.ts";
import { createFacebookServer, graphUrlOf } from "./facebook/server.ts";
import { createChatService } from "./service.ts";

readArguments({});
const pageId = "10210";
const ports = orExit(() => readSettings({ CHAT_PORT: port(8083), FACEBOOK_PORT: port(8084) }, process.env));
const {
  CHAT_SECRET: secret = newServiceSecret(),
  MESSENGER_APP_SECRET: appSecret = newSecret(),
  MESSENGER_VERIFY_TOKEN: verifyToken = newSecret(),
  MESSENGER_PAGE_TOKEN: pageToken = newSecret(),
} = process.env;
const facebook = new Facebook({ pageId, appSecret, verifyToken });

await runDemo({
  folder: new URL(".", import.meta.url),
  serviceName: "chat",
  environment: {
    CHAT_SECRET: secret,
    MESSENGER_APP_SECRET: appSecret,
    MESSENGER_VERIFY_TOKEN: verifyToken,
    ...process.env,
  },
  ports,
  claims: { tenant: pageId, channels: [`inbox:${pageId}`, "chat:*"] },
  begin: async ({ privateApiUrl, publishToken, listen }) => {
    const server = await createFacebookServer(facebook, pageToken);
    const facebookUrl = await listen("Facebook simulator", server, ports.FACEBOOK_PORT);
    const graphUrl = graphUrlOf(facebookUrl);
    const service = createChatService({ secret, privateApiUrl, publishToken, graphUrl, pageToken });
    return { serviceUrl: await listen("chat service", service, ports.CHAT_PORT), links: { facebook: facebookUrl } };
  },
  opened: async (doors) => {
    await facebook.subscribe(`${doors.publicUrl}/hooks/messenger`);
    return whatToTry(doors);
  },
});

function whatToTry({ publicUrl }: DemoDoors): string {
  return `
The live chat is running.

  Open ${publicUrl} and let a customer write, in the right column. Answer as an operator, in the middle.
  Open it in a second window to be a second operator.

  A customer's message:  Facebook's webhook -> ${publicUrl}/hooks/messenger -> queue -> service -> page
  An operator's reply:   page -> queue -> service -> Facebook's Send API -> customer

  Stop with Ctrl-C.
`;
}
