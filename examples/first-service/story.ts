/**
 * Plays the first week of a service in production, and checks it: clients write notes all the time, behind HAProxy with TLS and two
 * gateways, while processes are killed, nodes and secrets replaced, and mistakes made.
 *
 *   npm run first-week -- [--service python] [--short] [--clients 6] [--venv examples/first-service/.venv] [--json]
 *
 * `--service typescript` plays it with service.ts in place of FastAPI and uvicorn, for which it makes a virtual environment at `--venv`.
 * `--short` leaves out what restarts gateways one by one. It needs redis-server, haproxy and openssl, and takes about two minutes. Exit
 * code 1: an acknowledged note did not reach a client exactly once, or a mistake left no trace; 78: invalid argument.
 */
import { resolve } from "node:path";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { integer, oneOf, text } from "../../shared/runtime/setting-kinds.ts";
import { chapters } from "./chapters.ts";
import { Deployment, preparePython } from "./deployment.ts";
import { mistakes } from "./mistakes.ts";
import { type Figures, Traffic } from "./traffic.ts";

const given = readArguments({
  "--service": oneOf(["python", "typescript"], "python"),
  "--short": toggle(),
  "--clients": integer({ min: 1, max: 100, fallback: 6 }),
  "--venv": text({ fallback: "examples/first-service/.venv" }),
  "--json": toggle(),
});
const isShort = given["--short"];

function say(line: string): void {
  if (!given["--json"]) process.stdout.write(`${line}\n`);
}

interface Happened {
  name: string;
  acknowledged: number;
  seconds: number;
}

async function play(deployment: Deployment, traffic: Traffic): Promise<Happened[]> {
  const happened: Happened[] = [];
  for (const { name, inFullOnly, run } of chapters) {
    if (inFullOnly && isShort) continue;
    const [before, beganAt] = [traffic.acknowledged, performance.now()];
    await run(deployment, { traffic, say });
    const seconds = Number(((performance.now() - beganAt) / 1_000).toFixed(1));
    const acknowledged = traffic.acknowledged - before;
    happened.push({ name, acknowledged, seconds });
    say(`${name}: ${acknowledged} notes acknowledged meanwhile, in ${seconds} s`);
  }
  return happened;
}

async function makeMistakes(deployment: Deployment): Promise<string[]> {
  const unseen: string[] = [];
  for (const { name, shown, slow, make } of mistakes) {
    if (slow && isShort) continue;
    const seen = await make(deployment);
    const isShown = seen.includes(shown);
    if (!isShown) unseen.push(name);
    say(`mistake: ${name}\n  ${isShown ? "it shows" : `it does not show "${shown}"`}: ${seen.slice(0, 300)}`);
  }
  return unseen;
}

const python = given["--service"] === "python" ? preparePython(resolve(given["--venv"])) : undefined;
const deployment = await Deployment.start(python);
let figures: Figures | undefined;
let happened: Happened[] = [];
let unseen: string[] = [];
try {
  say(`clients connect to ${deployment.url}; the service is in ${given["--service"]}`);
  const secret = (): string => deployment.secrets.jwt;
  const traffic = await Traffic.start({ url: deployment.url, clients: given["--clients"], secret });
  happened = await play(deployment, traffic);
  figures = await traffic.finish();
  unseen = await makeMistakes(deployment);
} finally {
  await deployment.close();
}
const { acknowledged, lost, doubled, resyncs, unanswered } = figures;
say(
  `${acknowledged} notes acknowledged; lost ${lost}, doubled ${doubled}, gaps announced ${resyncs}; without an answer in time ${unanswered}`,
);
if (given["--json"]) process.stdout.write(`${JSON.stringify({ ...figures, happened, unseen })}\n`);
if (lost + doubled + resyncs + unseen.length > 0 || acknowledged === 0) process.exitCode = 1;
