/** The same chat after the move: a service handles the event, and knows nothing of connections. */
import type { Server } from "node:http";
import { Refusal } from "../shared/failures.ts";
import { textOf } from "../shared/input.ts";
import { PrivateApi } from "../shared/private-api.ts";
import { createSignedService } from "../shared/signed-service.ts";

const maxTextLength = 2_000;
const maxNameLength = 100;

/** The caller listens and closes. @param options.publishToken with the scope `publish` */
export function createChatService(options: { secret: string; privateApiUrl: string; publishToken: string }): Server {
  const api = new PrivateApi(options.privateApiUrl, options.publishToken);
  return createSignedService("chat service", options.secret, async ({ event, user, input }) => {
    if (event !== "chat.send") throw new Refusal(404, "unknown_event", `this service does not know ${event}`);
    const [room, id] = [textOf(input, "room", maxNameLength), textOf(input, "id", maxNameLength)];
    const data = { id, user, text: textOf(input, "text", maxTextLength) };
    await api.publish({ channel: `chat:${room}`, event: "chat.message", data, id });
    return { status: 204 };
  });
}
