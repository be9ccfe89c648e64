/** The process of one attack. Whoever starts it gives it a low priority. */
import { Load, Target } from "./attack.ts";
import { attackNamed } from "./catalogue.ts";
import type { FromAttacker, ToAttacker } from "./orders.ts";

const tellEveryMs = 250;
/** For sockets that are being destroyed when the time is up. */
const endWithinMs = 2_000;

function say(word: FromAttacker): void {
  process.send?.(word);
}

const ending = new AbortController();
let runAttack: (() => Promise<void>) | undefined;

async function prepare(order: Extract<ToAttacker, { prepare: unknown }>["prepare"]): Promise<void> {
  const attack = attackNamed(order.attack);
  if (!attack) throw new Error(`there is no attack called ${order.attack}`);
  const { connections, localAddress } = order;
  const target = new Target(order.target);
  const load = new Load({ connections, signal: ending.signal, localAddress });
  await attack.prepare?.(target);
  runAttack = async () => {
    const timer = setInterval(() => say({ tally: load.tally }), tellEveryMs);
    await attack.run(target, load);
    clearInterval(timer);
    process.send?.({ tally: load.tally } satisfies FromAttacker, () => process.disconnect());
  };
  say({ prepared: true });
}

process.on("message", (word: ToAttacker) => {
  if ("prepare" in word) void prepare(word.prepare);
  else {
    setTimeout(() => {
      ending.abort();
      setTimeout(() => process.exit(0), endWithinMs).unref();
    }, word.runForMs);
    void runAttack?.();
  }
});
process.on("disconnect", () => process.exit(0));
