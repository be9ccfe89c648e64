/** The process of one attack. The runner starts it at a low priority. */
import { Load, Target } from "./attack.ts";
import { attackNamed } from "./catalogue.ts";
import type { FromAttacker, ToAttacker } from "./orders.ts";

const reportEveryMs = 250;
/** Time for sockets to close when the time is up. */
const endWithinMs = 2_000;

function report(message: FromAttacker): void {
  process.send?.(message);
}

const ending = new AbortController();
let runAttack: (() => Promise<void>) | undefined;

async function prepare(order: Extract<ToAttacker, { prepare: unknown }>["prepare"]): Promise<void> {
  const attack = attackNamed(order.attack);
  if (!attack) throw new Error(`no such attack: ${order.attack}`);
  const { connections, localAddress } = order;
  const target = new Target(order.target);
  const load = new Load({ connections, signal: ending.signal, localAddress });
  await attack.prepare?.(target);
  runAttack = async () => {
    const timer = setInterval(() => report({ tally: load.tally }), reportEveryMs);
    await attack.run(target, load);
    clearInterval(timer);
    process.send?.({ tally: load.tally } satisfies FromAttacker, () => process.disconnect());
  };
  report({ prepared: true });
}

process.on("message", (order: ToAttacker) => {
  if ("prepare" in order) void prepare(order.prepare);
  else {
    setTimeout(() => {
      ending.abort();
      setTimeout(() => process.exit(0), endWithinMs).unref();
    }, order.runForMs);
    void runAttack?.();
  }
});
process.on("disconnect", () => process.exit(0));
