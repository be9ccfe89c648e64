import type { Position, Publication } from "../../shared/channels/contract.ts";
import { maxReplayBytes } from "../../shared/protocol/limits.ts";
import type { SubscribeAck } from "../../shared/protocol/wire.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Subscription } from "../channels/subscription.ts";

interface Recovered {
  ack: Omit<SubscribeAck, "publications" | "grant">;
  publications: readonly Publication[];
  /** Read from history, and not sent. */
  wastedBytes: number;
}

/** Where a subscription that has joined its channel begins, and what its client missed since `from`. */
export async function recover(
  subscription: Subscription,
  from: Position | undefined,
  context: GatewayContext,
): Promise<Recovered> {
  const { channel } = subscription;
  const { channels, metrics } = context;
  if (!from) {
    const position = await channels.position(channel);
    subscription.settle();
    return { ack: { channel, position, recovered: false }, publications: [], wastedBytes: 0 };
  }
  const { way, source } = await channels.catchUp(channel, from);
  const now = await channels.position(channel);
  const reason = way.kind === "broken" ? way.reason : subscription.brokenAfter(way.position, now);
  metrics.recoveries.inc({ outcome: reason ?? source });
  subscription.settle();
  if (way.kind === "broken" || reason) {
    return {
      ack: { channel, position: now, recovered: false, ...(reason && { reason }) },
      publications: [],
      wastedBytes: source === "history" ? maxReplayBytes : 0,
    };
  }
  const { position, publications } = way;
  return { ack: { channel, position, recovered: true }, publications, wastedBytes: 0 };
}
