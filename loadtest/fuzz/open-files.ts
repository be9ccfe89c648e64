/** Which files and sockets a process has open, to find what it leaks. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Column of the state, the local address and the inode in a line of /proc/net/tcp. */
const columns = { local: 1, state: 3, inode: 9 } as const;
const states: Readonly<Record<string, string>> = {
  "01": "established",
  "04": "waiting for the peer's FIN",
  "05": "waiting for the peer's FIN",
  "08": "closed by the peer",
  "09": "waiting for the last ACK",
  "0A": "listening",
};

/** @returns a count for each kind, such as a local port with a TCP state. */
export function openFiles(pid: number): Map<string, number> {
  const sockets = tcpSockets();
  const counts = new Map<string, number>();
  for (const descriptor of descriptorsOf(pid)) {
    const kind = kindOf(`/proc/${pid}/fd/${descriptor}`, sockets);
    if (kind !== undefined) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

/** None where the process has ended. */
export function descriptorsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}

function kindOf(path: string, sockets: ReadonlyMap<string, string>): string | undefined {
  let target: string;
  try {
    target = readlinkSync(path);
  } catch {
    // Closed meanwhile.
    return undefined;
  }
  const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
  return inode === undefined ? target.replace(/\d+/, "#") : (sockets.get(inode) ?? "a socket without a connection");
}

/** Port and state by inode. Sockets whose connection was reset are not among them. */
function tcpSockets(): Map<string, string> {
  const lines = ["tcp", "tcp6"].flatMap((table) => readFileSync(`/proc/net/${table}`, "latin1").split("\n").slice(1));
  return new Map(
    lines.map((line) => {
      const fields = line.trim().split(/\s+/);
      const [local = "", state = "", inode = ""] = [
        fields[columns.local],
        fields[columns.state],
        fields[columns.inode],
      ];
      return [inode, `port ${Number.parseInt(local.split(":")[1] ?? "", 16)}, ${states[state] ?? state}`];
    }),
  );
}
