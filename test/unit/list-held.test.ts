/** What a node answers for the lists of the private API, while sessions and channels come and go. */
import { expect, test, vi } from "vitest";
import { HeldByNode } from "../../gateway/commands/list-held.ts";
import type { Session } from "../../gateway/sessions/session.ts";
import type { InventoryItem, InventoryQuestion } from "../../shared/inventory/contract.ts";
import { bareSession } from "../support/bare-session.ts";

type Answer = (question: InventoryQuestion) => Promise<InventoryItem[]>;
type Options = ConstructorParameters<typeof HeldByNode>[0];

async function answerOf(held: { counts?: readonly (readonly [string, number])[]; byUser?: unknown }): Promise<Answer> {
  let answer: Answer | undefined;
  const node = new HeldByNode({
    channels: { followerCounts: () => held.counts ?? [] } as unknown as Options["channels"],
    sessions: { byUser: held.byUser } as unknown as Options["sessions"],
    inventory: {
      serve: async (_instance: string, given: Answer) => {
        answer = given;
        return () => undefined;
      },
    } as unknown as Options["inventory"],
    instance: "node-1",
  });
  await node.start();
  if (!answer) throw new Error("it serves");
  return answer;
}

function welcomed(id: string, user: string): Session {
  const session = bareSession(id, user);
  session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
  return session;
}

test("LIST-2: a channel that everybody leaves and joins again during the walk is listed once", async () => {
  const counts = ["b", "c", "a", "a", "b"].map((id, at) => [id, at + 1] as const);
  const answer = await answerOf({ counts });
  const [a, b, c] = [
    { id: "a", count: 4 },
    { id: "b", count: 5 },
    { id: "c", count: 2 },
  ];
  expect(await answer({ kind: "channels", limit: 10 })).toEqual([a, b, c]);
  expect(await answer({ kind: "channels", limit: 2 })).toEqual([a, b]);
  expect(await answer({ kind: "channels", limit: 2, after: "a" })).toEqual([b, c]);
});

test("LIST-1: users have their sessions that have not moved, and users without one are left out", async () => {
  const [one, other, unwelcomed] = [welcomed("1", "ada"), welcomed("2", "ada"), bareSession("3", "grace")];
  const moved = welcomed("4", "ada");
  vi.spyOn(moved, "moved", "get").mockReturnValue(true);
  const byUser = new Map([
    ["ada", new Set([one, other, moved])],
    ["grace", new Set([unwelcomed])],
  ]);
  const answer = await answerOf({ byUser });
  expect(await answer({ kind: "users", limit: 10 })).toEqual([{ id: "ada", user: "ada", count: 2 }]);
  expect((await answer({ kind: "sessions", limit: 10 })).map(({ id }) => id)).toEqual(["1", "2"]);
  for (const session of [one, other, unwelcomed, moved]) session.dispose();
});

test.each(["users", "sessions"] as const)(
  "LIST-3: other work of the node gets its turn during a list of %s",
  async (kind) => {
    vi.useFakeTimers({ toFake: ["performance"] });
    const sessions = ["1", "2", "3"].map((id) => welcomed(id, id));
    for (const session of sessions) {
      vi.spyOn(session, "welcomed", "get").mockImplementation(() => {
        vi.advanceTimersByTime(6);
        return true;
      });
    }
    try {
      const answer = await answerOf({ byUser: new Map(sessions.map((session) => [session.id, new Set([session])])) });
      let turns = 0;
      setImmediate(() => turns++);
      expect(await answer({ kind, limit: 10 })).toHaveLength(3);
      expect(turns).toBe(1);
    } finally {
      vi.useRealTimers();
      for (const session of sessions) session.dispose();
    }
  },
);
