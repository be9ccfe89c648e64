/** A fleet, its clients and the events of a scenario, tick by tick. The same settings and seed give the same result. */
import { AuthService } from "./auth-service.ts";
import { Balancer } from "./balancer.ts";
import { clientKinds } from "./client-kinds.ts";
import { none } from "./client-lists.ts";
import { noCounts } from "./counters.ts";
import { Crowd } from "./crowd.ts";
import type { FleetEvent } from "./events.ts";
import { GatewayNode, listsPerNode, type NodeContext } from "./gateway-node.ts";
import { SeededRandom } from "./random.ts";
import { Recorder, type Recording } from "./recorder.ts";
import { RollingDeploy } from "./rolling-deploy.ts";
import type { Settings } from "./settings.ts";
import { ShareRegistry } from "./share-registry.ts";
import { defaultLiveness } from "../../gateway/engine/liveness.ts";
import { tickMs } from "./timers.ts";

const ticksPerSecond = 1_000 / tickMs;
/** The run ends once every client has been connected for so long. */
const quietSeconds = 15;

export class Simulation {
  readonly settings: Settings;
  readonly crowd: Crowd;
  readonly nodes: readonly GatewayNode[];
  readonly counters = noCounts();
  readonly auth: AuthService;
  readonly #shares: ShareRegistry | undefined;
  readonly #balancer: Balancer;
  readonly #random: SeededRandom;
  readonly #recorder: Recorder;
  readonly #due: { at: number; run: () => void }[] = [];
  readonly #context: NodeContext & { redisAway: boolean };
  #deploy: RollingDeploy | undefined;
  #now = 0;
  #busyUntil = 0;
  #leaving = 0;

  constructor(settings: Settings, events: readonly FleetEvent[]) {
    this.settings = settings;
    this.#random = new SeededRandom(settings.seed);
    const { fleet, clients, coldShare, dialMs } = settings;
    const kind = clientKinds[settings.kind];
    const maxLists = 1 + listsPerNode * fleet.nodes;
    this.crowd = new Crowd({ clients, kind, coldShare, dialMs, maxLists, random: this.#random });
    this.auth = new AuthService(settings.auth, this.crowd, {
      answered: (client) => this.#node(this.crowd.targetOf(client)).answered(client, true, this.#now),
      failed: (client) => this.#node(this.crowd.targetOf(client)).answered(client, false, this.#now),
    });
    this.#context = {
      settings,
      crowd: this.crowd,
      counters: this.counters,
      random: this.#random,
      ask: (client) => this.auth.ask(client, this.#now),
      left: (node) => this.#node(node).left(),
      outOfMemory: (node) => {
        this.counters.fallen += node.sessions;
        this.#end(node, { silent: false, leaves: false, restart: true });
      },
      redisAway: false,
    };
    this.nodes = Array.from({ length: fleet.nodes }, (_, number) => new GatewayNode(number, this.#context));
    for (let client = 0; client < clients; client++) this.#node(client % fleet.nodes).settle(client);
    this.#balancer = new Balancer(this.nodes, settings.balancer, this.#random);
    if (fleet.admission) {
      this.#shares = new ShareRegistry(this.nodes, fleet.admission.budgetPerSecond);
      this.#shares.settle();
    }
    this.#recorder = new Recorder(this);
    for (const event of events) this.#plan(event);
  }

  get now(): number {
    return this.#now;
  }

  /** Sum of the shares in force, per second. */
  get inForcePerSecond(): number {
    return this.#shares?.inForcePerSecond ?? 0;
  }

  /** Runs until every client is back, or to the horizon. @param progress called each simulated second. */
  run(progress: (seconds: number) => void = () => undefined): Recording {
    let backSince = 0;
    for (let second = 0; second < this.settings.horizonSeconds; second++) {
      for (let tick = 0; tick < ticksPerSecond; tick++) this.tick();
      progress(second + 1);
      const isQuiet = this.crowd.connected === this.settings.clients || this.settings.stayMinutes > 0;
      backSince = isQuiet && this.#now >= this.#busyUntil && !this.#deploy?.running ? backSince + 1 : 0;
      if (backSince >= (this.settings.stayMinutes > 0 ? quietSeconds * 20 : quietSeconds)) break;
    }
    return this.#recorder.recording;
  }

  tick(): void {
    const now = ++this.#now;
    for (let first = this.#due[0]; first && first.at <= now; first = this.#due[0]) {
      this.#due.shift();
      first.run();
    }
    this.#balancer.tick(now);
    if (!this.#context.redisAway) this.#shares?.tick(now);
    this.#deploy?.tick(now);
    this.#replaceUsers(now);
    for (let client = this.crowd.timers.takeDue(now); client !== none; client = this.crowd.timers.takeDue(now)) {
      this.#timer(client, now);
    }
    this.auth.tick(now);
    // Starts with a random node: no node is always the first to call the services.
    const first = this.#random.below(this.nodes.length);
    this.nodes.forEach((_, turn) => this.nodes[(first + turn) % this.nodes.length]?.tick(now));
    this.#recorder.tick(now);
  }

  #timer(client: number, now: number): void {
    if (this.crowd.isLeaving(client)) return this.#node(this.crowd.nodeOf(client)).closeAtReconnectTime(client, now);
    this.counters.dials++;
    const node = this.#balancer.pick();
    if (node) return node.offer(client, now);
    this.counters.failed++;
    this.crowd.failed(client, now);
  }

  #replaceUsers(now: number): void {
    const { stayMinutes } = this.settings;
    if (stayMinutes === 0) return;
    this.#leaving += (this.crowd.connected * tickMs) / (stayMinutes * 60_000);
    for (; this.#leaving >= 1; this.#leaving--) {
      this.nodes[this.#random.below(this.nodes.length)]?.replaceOldest(now);
    }
  }

  #plan(event: FleetEvent): void {
    const at = event.atSeconds * ticksPerSecond;
    this.#busyUntil = Math.max(this.#busyUntil, at + 1);
    switch (event.kind) {
      case "kill":
        this.#at(at, () => {
          for (const number of event.nodes) {
            const node = this.#node(number);
            this.counters.ended += node.sessions;
            this.#end(node, { silent: event.silent, leaves: false, restart: event.restart });
          }
        });
        return;
      case "cut":
        this.#at(at, () => {
          for (const node of this.nodes) node.cut(this.#now);
        });
        return;
      case "redis away": {
        const until = at + event.seconds * ticksPerSecond;
        this.#busyUntil = Math.max(this.#busyUntil, until);
        this.#at(at, () => (this.#context.redisAway = true));
        this.#at(until, () => (this.#context.redisAway = false));
        return;
      }
      case "deploy":
        this.#deploy = new RollingDeploy(at, this.settings, this.nodes, {
          drains: (node) => this.#balancer.changed(node, false, this.#now),
          ends: (node) => {
            this.counters.forced += node.sessions;
            this.#end(node, { silent: false, leaves: true, restart: true });
          },
        });
    }
  }

  #end(node: GatewayNode, how: { silent: boolean; leaves: boolean; restart: boolean }): void {
    if (node.state === "down" || node.state === "silent") return;
    const { pingIntervalMs, pingTimeoutMs } = defaultLiveness;
    const noticed = how.silent ? () => pingTimeoutMs + this.#random.next() * pingIntervalMs : () => 0;
    this.#balancer.changed(node, false, this.#now);
    if (how.leaves) this.#shares?.leaves(node);
    node.end(this.#now, how.silent ? "silent" : "down", noticed);
    if (!how.restart) return;
    this.#at(this.#now + this.settings.fleet.restartSeconds * ticksPerSecond, () => {
      node.start(this.#now);
      this.#balancer.changed(node, true, this.#now);
    });
  }

  #at(at: number, run: () => void): void {
    const later = this.#due.findIndex((other) => other.at > at);
    this.#due.splice(later === -1 ? this.#due.length : later, 0, { at, run });
  }

  #node(number: number): GatewayNode {
    const node = this.nodes[number];
    if (!node) throw new Error(`no such node: ${number}`);
    return node;
  }
}
