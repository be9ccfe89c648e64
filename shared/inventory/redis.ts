import { randomUUID } from "node:crypto";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../json/json.ts";
import type { Cells } from "../redis/cells.ts";
import { FleetTopic } from "../redis/fleet-topic.ts";
import { orBrokerUnavailable } from "../redis/unavailable.ts";
import type { Logger } from "../runtime/logging.ts";
import { withDeadline } from "../runtime/timing.ts";
import { answerWithinMs, type Inventory, type InventoryAnswers, InventoryItem, InventoryQuestion } from "./contract.ts";
import { inventoryTopics } from "./keys.ts";

const Asked = Type.Object({ id: Type.String(), asker: Type.String(), question: InventoryQuestion });
const Answered = Type.Object({ id: Type.String(), instance: Type.String(), items: Type.Array(InventoryItem) });
type Asked = Static<typeof Asked>;
type Answered = Static<typeof Answered>;
const askedValidator = Compile(Asked);
const answeredValidator = Compile(Answered);

type Answer = Parameters<Inventory["serve"]>[1];

/** Asks the nodes of a fleet over topics: nothing is stored, and an answer that comes too late is dropped. */
export class RedisInventory implements Inventory {
  readonly #cells: Cells;
  readonly #logger: Logger;
  readonly #asker = randomUUID();
  readonly #topics: ReturnType<typeof inventoryTopics>;
  readonly #questions: FleetTopic;
  readonly #answers: FleetTopic;
  /** By instance. */
  readonly #served = new Map<string, Answer>();
  /** By id of the question. */
  readonly #open = new Map<string, (answered: Answered) => void>();

  constructor(cells: Cells, logger: Logger) {
    this.#cells = cells;
    this.#logger = logger;
    this.#topics = inventoryTopics(cells.fleet.root);
    const { questions, answers } = this.#topics;
    this.#questions = new FleetTopic(cells, questions, { onMessage: (message) => this.#onQuestion(message) });
    this.#answers = new FleetTopic(cells, answers(this.#asker), { onMessage: (message) => this.#onAnswer(message) });
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#questions.stop();
    this.#answers.stop();
  }

  async serve(instance: string, answer: Answer): Promise<() => void> {
    this.#served.set(instance, answer);
    await this.#questions.start();
    return () => void this.#served.delete(instance);
  }

  async ask(question: InventoryQuestion, instances: ReadonlySet<string>): Promise<InventoryAnswers> {
    if (instances.size === 0) return new Map();
    await orBrokerUnavailable(this.#answers.follow());
    const id = randomUUID();
    const answers = new Map<string, readonly InventoryItem[]>();
    const { promise: complete, resolve } = Promise.withResolvers<void>();
    this.#open.set(id, ({ instance, items }) => {
      if (instances.has(instance)) answers.set(instance, items);
      if (answers.size === instances.size) resolve();
    });
    try {
      await this.#publish(this.#topics.questions, { id, asker: this.#asker, question } satisfies Asked);
      await withDeadline(complete, answerWithinMs, () => undefined);
    } finally {
      this.#open.delete(id);
    }
    return answers;
  }

  #onQuestion(message: string): void {
    const asked = parseJson(message);
    if (!askedValidator.Check(asked)) return;
    const { id, asker, question } = asked;
    for (const [instance, answer] of this.#served) {
      answer(question)
        .then((items) => this.#publish(this.#topics.answers(asker), { id, instance, items } satisfies Answered))
        .catch((error: unknown) => this.#logger.debug({ err: error }, "a list of this node could not be answered"));
    }
  }

  #onAnswer(message: string): void {
    const answered = parseJson(message);
    if (answeredValidator.Check(answered)) this.#open.get(answered.id)?.(answered);
  }

  async #publish(topic: string, message: object): Promise<void> {
    await this.#cells.fleet.run("spublish", topic, JSON.stringify(message));
  }
}
