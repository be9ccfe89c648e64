/** The replies with which Redis refuses to serve, and the remedy for each. docs/operations.md explains the table to operators. */

export interface Refusal {
  /** For logs and errors. */
  readonly reason: string;
  /**
   * `reconnect`: the server is of no use now; connect again, the address may lead to another one. `wait`: keep the connection;
   * the server may recover, and other commands may succeed.
   */
  readonly remedy: "reconnect" | "wait";
  /** Only an operator can fix it, so programs do not start. */
  readonly preventsStart: boolean;
}

const reconnect = { remedy: "reconnect", preventsStart: false } as const;
const wait = { remedy: "wait", preventsStart: false } as const;

const refusals: readonly (readonly [reply: RegExp, refusal: Refusal])[] = [
  [/^READONLY\b/, { ...reconnect, reason: "the server is a replica" }],
  [/^MASTERDOWN\b/, { ...reconnect, reason: "the server is a replica that has lost its primary" }],
  [/^LOADING\b/, { ...reconnect, reason: "the server is loading its data" }],
  [/^ERR max number of clients/, { ...reconnect, reason: "the server has no connection left (maxclients)" }],
  [/^NOAUTH\b/, { ...reconnect, preventsStart: true, reason: "the server requires a password" }],
  [/^DENIED\b/, { ...reconnect, preventsStart: true, reason: "the server is in protected mode and has no password" }],
  [/^WRONGPASS\b/, { ...reconnect, preventsStart: true, reason: "the server does not accept this user and password" }],
  [
    /^ERR (DB index is out of range|invalid DB index|SELECT is not allowed in cluster mode)/,
    { ...reconnect, preventsStart: true, reason: "the server has no database of that number" },
  ],
  [
    /^NOPERM\b|^ERR The user executing the script can't|ACL failure in script/,
    { ...wait, preventsStart: true, reason: "the user lacks a right" },
  ],
  [/^OOM\b/, { ...wait, reason: "the server's memory is used up (maxmemory)" }],
  [/^MISCONF\b/, { ...wait, reason: "the server cannot write to its disk" }],
  [/^NOREPLICAS\b/, { ...wait, reason: "too few replicas follow the server (min-replicas-to-write)" }],
  [/^CLUSTERDOWN\b/, { ...wait, reason: "a part of the cluster has no primary" }],
  [/^(MOVED|ASK|TRYAGAIN)\b/, { ...wait, reason: "a part of the cluster is moving" }],
  [/^NOSCRIPT\b/, { ...wait, reason: "the server forgets scripts at once" }],
  [/^BUSY\b/, { ...wait, reason: "a script keeps the server busy" }],
];

/** @returns undefined where the connection failed, or the command itself is wrong. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof Error) || error.name !== "ReplyError") return undefined;
  return refusals.find(([reply]) => reply.test(error.message))?.[1];
}
