/** A process of webhook senders: it follows orders, and reports its progress. Apart from the scenario, so that its CPU is not in the figures. */
import { Histogram } from "../checks/histogram.ts";
import {
  type GroupFigures,
  type HookGroup,
  type HookLoadOptions,
  type HookMessage,
  type HookOrder,
  nowMs,
} from "./load-messages.ts";
import { Sender } from "./sender.ts";

const progressEveryMs = 20;
const dueEveryMs = 2;
/** Due and not sent, because all connections wait for answers: beyond it the rate is not reached. */
const maxLate = 100_000;

class Group {
  readonly name: string;
  readonly #group: HookGroup;
  readonly #senders: readonly Sender[];
  readonly #idle: Sender[];
  readonly #answerMs = new Histogram();
  readonly #refused: Record<number, number> = {};
  /** When each webhook that waits for a connection was due. */
  readonly #late: number[] = [];
  accepted = 0;
  #isPaused = false;
  #beganAt = nowMs();
  #due = 0;

  constructor(group: HookGroup, options: HookLoadOptions) {
    this.name = group.name;
    this.#group = group;
    const filler = "x".repeat(Math.max(0, options.bodyBytes - 150));
    const { name, target, tenant, connections, keys } = group;
    const names = Array.from({ length: keys }, (_, at) => `${name}-${at}`);
    this.#senders = Array.from({ length: connections }, (_, at) => {
      const own = names.filter((_, key) => key % connections === at);
      const sender = new Sender({
        ...{ port: options.port, secret: options.secret, target, group: name, tenant, filler, keys: own },
        onAnswer: (status, dueAt) => this.#answered(sender, status, dueAt),
      });
      return sender;
    });
    this.#idle = [...this.#senders];
  }

  /** Sends what is due. */
  advance(): void {
    const { perSecond } = this.#group;
    if (this.#isPaused) return;
    if (perSecond === undefined) {
      for (let sender = this.#idle.pop(); sender; sender = this.#idle.pop()) sender.send(nowMs());
      return;
    }
    const due = Math.floor(((nowMs() - this.#beganAt) / 1_000) * perSecond);
    for (; this.#due < due; this.#due++) {
      if (this.#late.length < maxLate) this.#late.push(this.#beganAt + ((this.#due + 1) * 1_000) / perSecond);
    }
    while (this.#late.length > 0 && this.#idle.length > 0) this.#idle.pop()?.send(this.#late.shift() ?? 0);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#beganAt = nowMs();
    this.#due = 0;
    this.advance();
  }

  get isAnswered(): boolean {
    return this.#idle.length === this.#senders.length;
  }

  figures(): GroupFigures {
    return { accepted: this.accepted, refused: this.#refused, answerMs: this.#answerMs.toJSON() };
  }

  stop(): void {
    for (const sender of this.#senders) sender.stop();
  }

  #answered(sender: Sender, status: number, dueAt: number): void {
    if (status >= 200 && status < 300) {
      this.accepted++;
      this.#answerMs.add(nowMs() - dueAt);
    } else this.#refused[status] = (this.#refused[status] ?? 0) + 1;
    const late = this.#group.perSecond === undefined ? nowMs() : this.#late.shift();
    if (this.#isPaused || late === undefined) this.#idle.push(sender);
    else sender.send(late);
  }
}

let groups: Group[] = [];
let ticks: NodeJS.Timeout[] = [];

function tell(message: HookMessage): void {
  process.send?.(message);
}

function follow(order: HookOrder): void {
  switch (order.order) {
    case "begin": {
      groups = order.options.groups.map((group) => new Group(group, order.options));
      const accepted = (): number => groups.reduce((sum, group) => sum + group.accepted, 0);
      ticks = [
        setInterval(() => tell({ kind: "progress", accepted: accepted() }), progressEveryMs),
        setInterval(() => {
          for (const group of groups) group.advance();
        }, dueEveryMs),
      ];
      return;
    }
    case "pause":
      return groups.forEach((group) => group.pause());
    case "resume":
      return groups.forEach((group) => group.resume());
    case "end":
      return end();
  }
}

function end(): void {
  for (const group of groups) group.pause();
  const [progress, sending] = ticks;
  clearInterval(sending);
  const check = setInterval(() => {
    if (!groups.every((group) => group.isAnswered)) return;
    clearInterval(check);
    clearInterval(progress);
    const names = groups.map((group) => [group.name, group.figures()] as const);
    for (const group of groups) group.stop();
    tell({ kind: "ended", groups: Object.fromEntries(names) });
  }, dueEveryMs);
}

process.on("message", follow);
process.once("disconnect", () => process.exit());
