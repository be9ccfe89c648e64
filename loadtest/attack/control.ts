/** The control: the attacker's own load on the machine, without a target. */
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { textFrame } from "../../test/support/raw-websocket.ts";
import type { Attack } from "./attack.ts";
import { dial, keepBusy, pour, repeated } from "./peers.ts";

export const controls: readonly Attack[] = [
  {
    name: "control",
    does: "the attacker floods its own port: the effect of the machine alone on honest clients",
    needs: "nothing",
    run: async (_target, load) => {
      const sink = createServer((socket) => socket.on("error", () => socket.destroy()).resume());
      sink.listen(0, "127.0.0.1");
      await once(sink, "listening");
      const url = new URL(`http://127.0.0.1:${(sink.address() as AddressInfo).port}`);
      const { bytes, frames } = repeated(textFrame("3"));
      await keepBusy(load, async () => pour(await dial(url, load), bytes, frames, load));
      sink.close();
    },
  },
];
