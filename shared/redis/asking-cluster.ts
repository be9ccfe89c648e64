import { Cluster } from "ioredis";

/**
 * Follows every ASK redirection. The client gives up at its seventeenth redirection of a pipeline; where that one is an ASK, after
 * sixteen TRYAGAIN of a slot that moves slowly, it loses the replies, and throws where no caller can catch it. The server that an ASK
 * names answers no further ASK, so there is no loop.
 */
export class AskingCluster extends Cluster {
  override handleError(...[error, redirections, handlers]: Parameters<Cluster["handleError"]>): void {
    super.handleError(error, error.message.startsWith("ASK ") ? {} : redirections, handlers);
  }
}
