/** HAProxy in front of the gateways: TCP mode, a health check of each node's `/readyz`, the fewest connections first. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, type Spawned, spawnProcess } from "../../test/support/processes.ts";
import { answersReady } from "./server.ts";

/** Each connection takes two file descriptors: one to the client, one to the node. */
const maxConnections = 9_000;
const checkEveryMs = 250;

/** One HAProxy process. Where a process may open 20,000 files, 10,000 clients need two balancers. */
export class Balancer {
  readonly url: string;
  readonly #process: Spawned;
  readonly #folder: string;

  private constructor(url: string, process: Spawned, folder: string) {
    this.url = url;
    this.#process = process;
    this.#folder = folder;
  }

  /**
   * Resolves once the balancer forwards connections.
   *
   * @param nodes may include nodes that do not run yet: they receive connections once they are ready.
   * @throws where HAProxy is not installed or does not start
   */
  static async start(nodes: { gatewayUrls: readonly string[]; adminUrls: readonly string[] }): Promise<Balancer> {
    try {
      execFileSync("haproxy", ["-v"], { stdio: "ignore" });
    } catch (cause) {
      throw new Error("this scenario needs HAProxy: apt-get install haproxy", { cause });
    }
    const [port, statusPort] = [await freePort(), await freePort()];
    const folder = mkdtempSync(join(tmpdir(), "tidegate-balancer-"));
    const file = join(folder, "haproxy.cfg");
    writeFileSync(file, configuration(nodes, port, statusPort));
    const spawned = spawnProcess("haproxy", ["-db", "-f", file]);
    const balancer = new Balancer(`ws://127.0.0.1:${port}`, spawned, folder);
    try {
      await answersReady(spawned, `http://127.0.0.1:${statusPort}`);
    } catch (cause) {
      await balancer.stop();
      throw new Error(`HAProxy did not start: ${spawned.output()}`, { cause });
    }
    return balancer;
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function configuration(
  { gatewayUrls, adminUrls }: { gatewayUrls: readonly string[]; adminUrls: readonly string[] },
  port: number,
  statusPort: number,
): string {
  const servers = gatewayUrls.map(
    (url, i) => `  server node-${i + 1} ${new URL(url).host} check port ${new URL(adminUrls[i] ?? "").port}`,
  );
  return `global
  maxconn ${maxConnections}
  nbthread 1
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout check 3s
  timeout http-request 5s
listen gateways
  mode tcp
  bind 127.0.0.1:${port} backlog 4096
  balance leastconn
  option redispatch 1
  retries 3
  option httpchk GET /readyz
  default-server inter ${checkEveryMs}ms fall 1 rise 1
${servers.join("\n")}
frontend status
  mode http
  bind 127.0.0.1:${statusPort}
  monitor-uri /readyz
  monitor fail if { nbsrv(gateways) eq 0 }
`;
}
