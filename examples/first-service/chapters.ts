/** What happens to the deployment while clients write: outages, a rolling restart, and every secret replaced (docs/rotation.md). */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { eventually } from "../../test/support/eventually.ts";
import { spawnProcess } from "../../test/support/processes.ts";
import { newSecret } from "../shared/demo.ts";
import { type Deployment, gatewayNames, type ProgramName } from "./deployment.ts";
import type { Traffic } from "./traffic.ts";

interface Stage {
  traffic: Traffic;
  say: (line: string) => void;
}

export interface Chapter {
  name: string;
  /** It restarts gateways one by one. */
  inFullOnly?: true;
  run(deployment: Deployment, stage: Stage): Promise<void>;
}

/** So many notes show that the deployment works as before. */
const enoughNotes = 30;

/** Until the clients get acknowledgements again. */
async function acknowledgedAgain(traffic: Traffic): Promise<void> {
  const before = traffic.acknowledged;
  await eventually(() => traffic.acknowledged >= before + enoughNotes);
}

function killed(name: ProgramName): Chapter["run"] {
  return async (deployment, { traffic }) => {
    await deployment.stop(name, "SIGKILL");
    await deployment.start(name);
    await acknowledgedAgain(traffic);
  };
}

/** By the command that operators use: drain, restart, wait until ready, next node. */
async function rollingRestart(deployment: Deployment, { traffic, say }: Stage): Promise<void> {
  const control = createServer((request, response) => {
    const name = gatewayNames.find((each) => request.url === `/${each}`);
    const restarted = name ? deployment.restart(name) : Promise.reject(new Error(`no such gateway: ${request.url}`));
    restarted.then(
      () => response.end(),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  }).listen(0, "127.0.0.1");
  await once(control, "listening");
  const { port } = control.address() as AddressInfo;
  const restart = `${process.execPath} -e 'fetch("http://127.0.0.1:${port}/" + process.argv[1]).then((answer) => process.exit(answer.ok ? 0 : 1))' {node}`;
  const args = ["deploy/rolling-restart.ts", "--api", deployment.apiUrl, "--restart", restart];
  const root = join(import.meta.dirname, "../..");
  const command = spawnProcess(process.execPath, args, {
    cwd: root,
    env: { TIDEGATE_API_TOKEN: deployment.operatorToken },
  });
  const code = await command.exited;
  control.close();
  const lines = command.output().trim().split("\n");
  if (code !== 0) throw new Error(`the rolling restart failed:\n${lines.join("\n")}`);
  say(`  ${lines.at(-1) ?? ""}`);
  await acknowledgedAgain(traffic);
}

async function replaceServiceSecret(deployment: Deployment, { traffic }: Stage): Promise<void> {
  const { secrets } = deployment;
  const { NOTES_SECRET: present, NOTES_SECRET_NEW: next } = secrets.signing;
  secrets.serviceAccepts = `${present},${next}`;
  await deployment.restart("service");
  await deployment.writeRules((rules) =>
    rules.replace('secret: "env:NOTES_SECRET"', 'secrets: ["env:NOTES_SECRET_NEW", "env:NOTES_SECRET"]'),
  );
  // The private API reads the file a moment later. What it signs with the present secret only, the next service would refuse.
  await eventually(async () => {
    const { text } = await deployment.api("GET", "/v1/rules", deployment.operatorToken);
    return text.includes("NOTES_SECRET_NEW");
  });
  await acknowledgedAgain(traffic);
  secrets.serviceAccepts = next;
  await deployment.restart("service");
  secrets.signing = { NOTES_SECRET: next, NOTES_SECRET_NEW: next };
  await acknowledgedAgain(traffic);
}

/** Two secrets of the gateways in the same two rolling restarts. */
async function replaceJwtAndResumeSecrets(deployment: Deployment, stage: Stage): Promise<void> {
  const { secrets } = deployment;
  const [jwt, resume] = [newSecret(), newSecret()];
  const before = secrets.resume;
  secrets.jwtAccepted = `${secrets.jwt},${jwt}`;
  secrets.resume = `${before},${resume}`;
  await rollingRestart(deployment, stage);
  // Every gateway accepts it: the login service signs with it from now on.
  secrets.jwt = jwt;
  // Clients present newer tokens when they are asked to, rather than when the present ones expire.
  await Promise.all(
    stage.traffic.authors.map(async (user) =>
      deployment.api("POST", `/v1/users/${user}/refresh`, deployment.operatorToken),
    ),
  );
  secrets.jwtAccepted = jwt;
  secrets.resume = `${resume},${before}`;
  await rollingRestart(deployment, stage);
}

/** The gateways' token and the service's token for the private API, in the same two restarts of the private API. */
async function replaceApiTokens(deployment: Deployment, stage: Stage): Promise<void> {
  const { secrets } = deployment;
  const earlier = secrets.apiTokens;
  const [relay, publish] = [newSecret(), newSecret()];
  const later = earlier.map((entry) => {
    if (entry.name === "operator") return entry;
    return { ...entry, token: entry.name === "gateway" ? relay : publish };
  });
  secrets.apiTokens = [...earlier, ...later.filter((entry) => !earlier.includes(entry))];
  await deployment.restart("private-api");
  secrets.publish = publish;
  await deployment.restart("service");
  secrets.relay = relay;
  await rollingRestart(deployment, stage);
  secrets.apiTokens = later;
  await deployment.restart("private-api");
  await acknowledgedAgain(stage.traffic);
}

export const chapters: readonly Chapter[] = [
  { name: "clients write and follow", run: async (_, { traffic }) => acknowledgedAgain(traffic) },
  { name: "the service is killed and started again", run: killed("service") },
  { name: "a gateway is killed and started again", run: killed("gateway-1") },
  { name: "the private API is killed and started again", run: killed("private-api") },
  { name: "the secret of the service is replaced", run: replaceServiceSecret },
  { name: "the gateways are restarted one after the other", inFullOnly: true, run: rollingRestart },
  { name: "the secrets of tokens and resumes are replaced", inFullOnly: true, run: replaceJwtAndResumeSecrets },
  { name: "the tokens of the private API are replaced", inFullOnly: true, run: replaceApiTokens },
];
