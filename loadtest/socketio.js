/**
 * Socket.IO v4 over Engine.IO v4, websocket transport only, namespace `/`, text only: what a load client needs.
 * Engine.IO packet = type digit + body: 0 open, 1 close, 2 ping, 3 pong, 4 message.
 * Socket.IO packet, within a message = type digit + [ack id] + JSON: 0 connect, 1 disconnect, 2 event, 3 ack, 4 refused.
 */
import { WebSocket } from "k6/websockets";

/** Opens one connection. Exactly one of `onRefused` and `onClosed` is called at its end, unless `close()` came first. */
export class SocketIoConnection {
  #socket;
  #handlers;
  #acks = new Map();
  #nextAckId = 0;
  #over = false;

  /**
   * @param url `ws://host:port`, without a path
   * @param auth the handshake's `auth`
   * @param handlers `{ onEvent(name, ...args), onRefused(error), onClosed(why) }`;
   *   `error` is the server's `{ message, data? }`
   */
  constructor(url, auth, handlers) {
    this.#handlers = handlers;
    this.#socket = new WebSocket(`${url}/socket.io/?EIO=4&transport=websocket`);
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
    this.#end(() => this.#socket.send("41"));
  }

  #receive(packet, auth) {
    if (this.#over) return;
    switch (packet[0]) {
      case "0":
        return this.#socket.send(`40${JSON.stringify(auth)}`);
      case "1":
        return this.#end(() => this.#handlers.onClosed("closed by Engine.IO"));
      case "2":
        return this.#socket.send("3");
      case "4":
        return this.#receiveMessage(packet);
    }
  }

  #receiveMessage(packet) {
    switch (packet[1]) {
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
    this.#acks.clear();
    lastAct();
    this.#socket.close();
  }
}
