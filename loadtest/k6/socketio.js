/**
 * Socket.IO v4 over Engine.IO v4, websocket transport only, namespace `/`, text only: what a load client needs.
 * Engine.IO packet = type digit + body: 0 open, 1 close, 2 ping, 3 pong, 4 message.
 * Socket.IO packet, within a message = type digit + [ack id] + JSON: 0 connect, 1 disconnect, 2 event, 3 ack, 4 refused.
 */
import { WebSocket } from "k6/websockets";

/**
 * k6 1.8 drops a message that it reads before it has announced the connection as open: one open packet,
 * which comes right behind the upgrade, in some ten thousand. Later packets are not concerned: the server has nothing
 * to send until the client goes on. After this wait the client goes on without it, and says so.
 */
const openPacketWaitMs = 2_000;

/** Opens one connection. Exactly one of `onRefused` and `onClosed` is called at its end, unless `close()` came first. */
export class SocketIoConnection {
  #socket;
  #handlers;
  #acks = new Map();
  #nextAckId = 0;
  #over = false;
  /** How far it has come, for messages: dialling, upgraded, opened (Engine.IO), accepted (Socket.IO). */
  stage = "dialling";
  #openTimer;

  /**
   * @param url `ws://host:port`, without a path
   * @param auth the handshake's `auth`
   * @param handlers `{ onEvent(name, ...args), onRefused(error), onClosed(why), onOpenPacketMissed() }`;
   *   `error` is the server's `{ message, data? }`
   */
  constructor(url, auth, handlers) {
    this.#handlers = handlers;
    this.#socket = new WebSocket(`${url}/socket.io/?EIO=4&transport=websocket`);
    this.#socket.onopen = () => {
      this.stage = "upgraded";
      this.#openTimer = setTimeout(() => {
        handlers.onOpenPacketMissed();
        this.#connect(auth);
      }, openPacketWaitMs);
    };
    this.#socket.onmessage = ({ data }) => this.#receive(data, auth);
    this.#socket.onerror = ({ error }) => this.#end(() => handlers.onClosed(`transport error: ${error}`));
    this.#socket.onclose = () => this.#end(() => handlers.onClosed("transport closed"));
  }

  /** Emits an event that the server answers; `onAck` gets the first argument of the answer. */
  request(event, data, onAck) {
    const id = this.#nextAckId++;
    this.#acks.set(id, onAck);
    this.#socket.send(`42${id}${JSON.stringify([event, data])}`);
  }

  /** Leaves in order; no handler is called afterwards. */
  close() {
    this.#end(() => this.stage === "accepted" && this.#socket.send("41"));
  }

  #receive(packet, auth) {
    if (this.#over) return;
    switch (packet[0]) {
      case "0":
        clearTimeout(this.#openTimer);
        // A late one: the connection has gone on without it.
        return this.stage === "upgraded" ? this.#connect(auth) : undefined;
      case "1":
        return this.#end(() => this.#handlers.onClosed("closed by Engine.IO"));
      case "2":
        return this.#socket.send("3");
      case "4":
        return this.#receiveMessage(packet);
    }
  }

  #connect(auth) {
    this.stage = "opened";
    this.#socket.send(`40${JSON.stringify(auth)}`);
  }

  #receiveMessage(packet) {
    switch (packet[1]) {
      case "0":
        this.stage = "accepted";
        return;
      case "1":
        return this.#end(() => this.#handlers.onClosed("disconnected by the server"));
      case "2":
        return this.#handlers.onEvent(...JSON.parse(packet.slice(packet.indexOf("["))));
      case "3": {
        const start = packet.indexOf("[");
        const id = Number(packet.slice(2, start));
        const onAck = this.#acks.get(id);
        this.#acks.delete(id);
        return onAck?.(JSON.parse(packet.slice(start))[0]);
      }
      case "4":
        return this.#end(() => this.#handlers.onRefused(JSON.parse(packet.slice(2))));
    }
  }

  #end(lastAct) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#openTimer);
    this.#acks.clear();
    lastAct();
    this.#socket.close();
  }
}
