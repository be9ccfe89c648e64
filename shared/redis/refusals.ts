/**
 * What Redis may answer instead of doing its work, and what follows from it: the one place that decides. docs/operations.md
 * explains the table to operators.
 */

export interface Refusal {
  /** For logs and errors. */
  readonly reason: string;
  /**
   * `reconnect`: neither server nor connection can be used: connect again, to where the address leads now. `wait`: the connection
   * is good, and the server may do its work later; other commands may still succeed.
   */
  readonly remedy: "reconnect" | "wait";
  /** Only an operator can end it: a program does not start. */
  readonly preventsStart: boolean;
}

const reconnect = { remedy: "reconnect", preventsStart: false } as const;
const wait = { remedy: "wait", preventsStart: false } as const;

const refusals: readonly (readonly [reply: RegExp, refusal: Refusal])[] = [
  [/^READONLY\b/, { ...reconnect, reason: "the server is a replica" }],
  [/^MASTERDOWN\b/, { ...reconnect, reason: "the server is a replica that has lost its primary" }],
  [/^LOADING\b/, { ...reconnect, reason: "the server is loading its data" }],
  [/^ERR max number of clients/, { ...reconnect, reason: "the server has no connection left (maxclients)" }],
  [/^NOAUTH\b/, { ...reconnect, preventsStart: true, reason: "the server wants a password" }],
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

/** Undefined where it is no refusal: the connection failed, or the command is a bug of ours. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof Error) || error.name !== "ReplyError") return undefined;
  return refusals.find(([reply]) => reply.test(error.message))?.[1];
}
