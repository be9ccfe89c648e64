import { Redis } from "ioredis";

/** A client of one server, for commands with one reply each. Not for subscriptions: there one command has a reply for each topic. */
export class SingleClient extends Redis {
  /**
   * Drops the arguments of a command once it has its reply. V8 keeps a command until the next full collection: it has functions in its fields that
   * refer to it [measured: Node 24.21, ioredis 6.0]. With arguments of 26 KB each minor collection would copy half of what was allocated.
   * Not in a cluster, whose pipelines send commands again after their reply. Nor after a timeout: the client reads the arguments once the
   * late reply arrives.
   */
  override sendCommand(...[command, stream]: Parameters<Redis["sendCommand"]>): unknown {
    const reply = super.sendCommand(command, stream);
    const drop = (): void => {
      command.args = [];
    };
    // The caller has the failure too.
    command.promise.then(drop, () => undefined);
    return reply;
  }
}
