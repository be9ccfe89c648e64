/** Handshakes with invalid tokens, unknown namespaces and other content of a CONNECT packet. */
import { createHmac, randomBytes } from "node:crypto";
import { textFrame } from "../../test/support/raw-websocket.ts";
import type { Attack, Load, Target } from "./attack.ts";
import { keepBusy, openSession, openWebsocket, repeated, untilGone, write } from "./peers.ts";

const answerWithinMs = 5_000;

/** Opens a websocket, sends one packet, and closes on the answer. */
async function present(target: Target, load: Load, packet: () => string): Promise<void> {
  await keepBusy(load, async () => {
    const socket = await openWebsocket(target, load);
    const frame = textFrame(packet());
    load.sent(1, frame.length);
    socket.write(frame);
    socket.once("data", () => socket.destroy());
    await untilGone(socket, load, answerWithinMs);
  });
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** Signed with another key. @param padding extends the token up to the largest size */
function forgedToken(header: object, padding = 0): string {
  const claims = { sub: "ada", exp: Math.floor(Date.now() / 1_000) + 600, filler: "x".repeat(padding) };
  const signed = `${encoded(header)}.${encoded(claims)}`;
  return `${signed}.${createHmac("sha256", "not the deployment's").update(signed).digest("base64url")}`;
}

const junkBytes = 375 * 1024;

/** Many small members, which take a multiple of their size in memory. */
function junk(): Record<string, unknown> {
  const members: Record<string, unknown> = {};
  for (let length = 0, number = 0; length < junkBytes; number++, length += 16) members[`k${number}`] = [{}, []];
  return members;
}

export const handshakeAttacks: readonly Attack[] = [
  {
    name: "forged-tokens",
    does: "tokens of 8 KiB signed with another key",
    needs: "nothing",
    run: async (target, load) =>
      present(target, load, () => `40${JSON.stringify({ token: forgedToken({ alg: "HS256" }, 5_800) })}`),
  },
  {
    name: "unknown-keys",
    does: "tokens with unknown key ids, while the JWKS cannot be fetched",
    needs: "nothing",
    run: async (target, load) =>
      present(target, load, () => {
        const token = forgedToken({ alg: "RS256", kid: randomBytes(8).toString("hex") });
        return `40${JSON.stringify({ token })}`;
      }),
  },
  {
    name: "odd-expired-tokens",
    does: "expired tokens of the issuer whose sub is an object",
    needs: "client token",
    run: async (target, load) => {
      const token = await target.clientToken({ sub: { a: "b" }, exp: 1 });
      await present(target, load, () => `40${JSON.stringify({ token })}`);
    },
  },
  {
    name: "handshake-junk",
    does: "CONNECT packets of 375 KiB without a token",
    needs: "nothing",
    run: async (target, load) => {
      const packet = `40${JSON.stringify(junk())}`;
      await present(target, load, () => packet);
    },
  },
  {
    name: "handshake-junk-session",
    does: "100 sessions whose handshake has 375 KiB of unknown members",
    needs: "client token",
    connectionsEach: 25,
    run: async (target, load) => {
      const auth = junk();
      await keepBusy(load, async () => {
        const { socket } = await openSession(target, load, { auth });
        load.sent(1, junkBytes);
        await untilGone(socket, load);
      });
    },
  },
  {
    name: "handshake-brackets",
    does: "CONNECT packets of 190,000 nested brackets",
    needs: "nothing",
    run: async (target, load) => {
      const packet = `40{"token":${"[".repeat(190_000)}${"]".repeat(190_000)}}`;
      await present(target, load, () => packet);
    },
  },
  {
    name: "namespaces",
    does: "CONNECT packets to unknown namespaces",
    needs: "nothing",
    run: async (target, load) => {
      const { bytes, frames } = repeated(textFrame('40/nowhere,{"token":"none"}'));
      await keepBusy(load, async () => {
        const socket = await openWebsocket(target, load);
        load.sent(frames, bytes.length);
        await write(socket, bytes);
        await untilGone(socket, load);
      });
    },
  },
  {
    name: "resumes-that-leave",
    does: "one session, resumed again and again",
    needs: "client token",
    run: async (target, load) => {
      const { welcome, socket } = await openSession(target, load);
      socket.destroy();
      const auth = { resume: welcome.resumeToken };
      await keepBusy(load, async () => {
        const resumed = await openSession(target, load, { auth });
        load.sent(1, 0);
        resumed.socket.destroy();
      });
    },
  },
  {
    name: "forged-resumes",
    does: "forged resume tokens of 16 KiB",
    needs: "nothing",
    run: async (target, load) => {
      const packet = `40${JSON.stringify({ resume: randomBytes(12_000).toString("base64url") })}`;
      await present(target, load, () => packet);
    },
  },
  {
    name: "sessions-that-leave",
    does: "sessions that end as soon as they begin",
    needs: "client token",
    run: async (target, load) =>
      keepBusy(load, async () => {
        const { socket } = await openSession(target, load);
        load.sent(1, 0);
        socket.destroy();
      }),
  },
];
