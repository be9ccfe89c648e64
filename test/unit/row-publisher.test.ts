/** Rows whose namespace the rules do not list. */
import { expect, test } from "vitest";
import { createPrivateApiMetrics } from "../../private-api/metrics/metrics.ts";
import { RowPublisher } from "../../private-api/sources/row-publisher.ts";
import type { PublishRequest } from "../../shared/channels/contract.ts";
import { Rules } from "../../shared/rules/rules.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { quietLogger } from "../support/logger.ts";

test.each([
  ...[{ strictNamespaces: true, channels: ["account:1"], skipped: 1, unlisted: 0 }],
  ...[{ strictNamespaces: false, channels: ["acount:1", "account:1"], skipped: 0, unlisted: 1 }],
])(
  "SQL-6: with strictNamespaces $strictNamespaces, of two rows $skipped is skipped because the rules do not list its namespace",
  async ({ strictNamespaces, channels, skipped, unlisted }) => {
    const published: string[] = [];
    const metrics = new Metrics();
    const publisher = new RowPublisher({
      broker: {
        publish: async ({ channel }: PublishRequest) => {
          published.push(channel);
          return { kind: "published", position: { epoch: "e", offset: 1 }, duplicate: false };
        },
      },
      rules: { rules: new Rules(1, { strictNamespaces, namespaces: { account: {} } }) },
      changeBudget: { retention: () => ({ maxBytes: 0, maxSeconds: 0, unclaimedSeconds: 0 }) },
      ...{ metrics: createPrivateApiMetrics(metrics), logger: quietLogger },
    });
    const counts = await publisher.publish({
      ...{ source: "crm", shard: "crm/URL", pageNumber: "1".padStart(26, "0") },
      mapping: { channel: "{namespace}:1", event: "changed", data: "d" },
      rows: ["acount", "account"].map((namespace, at) => ({ id: String(at + 1), values: { namespace, d: "{}" } })),
    });
    expect([published, counts]).toEqual([channels, { published: channels.length, skipped }]);
    const text = await metrics.render();
    expect(text).toContain(`publishes_unlisted_namespace_total ${unlisted}`);
    if (skipped > 0) expect(text).toContain('sql_rows_total{source="crm",outcome="skipped"} 1');
  },
);
