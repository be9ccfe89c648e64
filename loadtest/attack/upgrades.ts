/** Upgrade requests whose sender resets the connection before the answer. */
import { setTimeout as pause } from "node:timers/promises";
import type { Attack, Load } from "./attack.ts";
import { dial, httpRequest, keepBusy } from "./peers.ts";

/** Long enough for the server to read the request. */
const maxBeforeResetMs = 50;

async function resetUpgrades(url: URL, paths: readonly string[], protocol: string, load: Load): Promise<void> {
  const requests = paths.map((path) =>
    httpRequest(`GET ${path}`, url, {
      connection: "Upgrade",
      upgrade: protocol,
      "sec-websocket-version": 13,
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }),
  );
  let next = 0;
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    const request = requests[next++ % requests.length] ?? Buffer.alloc(0);
    socket.write(request);
    load.sent(1, request.length);
    await pause(Math.random() * maxBeforeResetMs);
    socket.resetAndDestroy();
  });
}

const enginePath = "/socket.io/?EIO=4&transport=websocket";

export const upgradeAttacks: readonly Attack[] = [
  {
    name: "upgrade-reset",
    does: "upgrades to paths that are not the websocket's, then a reset",
    needs: "nothing",
    run: async ({ gateway }, load) =>
      resetUpgrades(gateway, ["/x", "/socket.iox", "/v1/bootstrap", "/", "/socket.io"], "websocket", load),
  },
  {
    name: "upgrade-reset-engine",
    does: "upgrades to the websocket's path, some with unknown ids, then a reset",
    needs: "nothing",
    run: async ({ gateway }, load) =>
      resetUpgrades(gateway, [enginePath, `${enginePath}&sid=none`, `${enginePath}&sid=a&sid=`], "websocket", load),
  },
  {
    name: "upgrade-reset-h2c",
    does: "upgrades to HTTP/2 on the public port, then a reset",
    needs: "nothing",
    run: async ({ gateway }, load) => resetUpgrades(gateway, ["/", enginePath, "/v1/bootstrap"], "h2c", load),
  },
  {
    name: "upgrade-reset-admin",
    does: "upgrades on the admin port, then a reset",
    needs: "nothing",
    run: async ({ admin }, load) => resetUpgrades(admin, ["/livez", "/x", "/metrics"], "websocket", load),
  },
  {
    name: "upgrade-reset-api",
    does: "upgrades on the private API's port, then a reset",
    needs: "nothing",
    run: async ({ api }, load) => resetUpgrades(api, ["/v1/relay", "/v1/publish", "/x"], "websocket", load),
  },
];
