import { Cluster, type Redis } from "ioredis";
import { clusterNode } from "./client.ts";

/** What all commands of a pipeline share. `redis` is undefined until the first of them is sent. */
interface PipelineTarget {
  readonly slot: number;
  redis: Redis | undefined;
}

/** Mends two faults of the client by which replies are lost, or given to other commands. */
export class ClusterClient extends Cluster {
  /**
   * Follows every ASK redirection. The client gives up at its seventeenth redirection of a pipeline; where that one is an ASK, after
   * sixteen TRYAGAIN of a slot that moves slowly, it loses the replies, and throws where no caller can catch it. The server that an ASK
   * names answers no further ASK, so there is no loop.
   */
  override handleError(...[error, redirections, handlers]: Parameters<Cluster["handleError"]>): void {
    super.handleError(error, error.message.startsWith("ASK ") ? {} : redirections, handlers);
  }

  /**
   * Sends all of a pipeline to one server, or none of it. While the owner of its slot has no connection, the client picks a server for
   * each command, and refuses those whose server is connecting. It then never writes the pipeline, but the commands that were not refused
   * wait for replies, and from then on every command of that connection gets the reply of an earlier one.
   */
  override sendCommand(...[command, stream, target]: Parameters<Cluster["sendCommand"]>): unknown {
    const pipeline = target as PipelineTarget | undefined;
    if (pipeline && !pipeline.redis && this.status === "ready") {
      pipeline.redis = this.#serverFor(pipeline.slot);
      if (!pipeline.redis) {
        command.reject(new Error("Connection is closed."));
        return command.promise;
      }
    }
    return super.sendCommand(command, stream, target);
  }

  /** The owner, unless it is connecting. Where it has no connection any other primary: that one redirects. */
  #serverFor(slot: number): Redis | undefined {
    const owner = clusterNode(this, this.slots[slot]?.[0] ?? "");
    if (owner) return owner.status === "ready" || owner.status === "wait" ? owner : undefined;
    return this.nodes("master").find(({ status }) => status === "ready");
  }
}
