/**
 * Which node a client connects to: the lighter of two that are drawn at random. With the lightest node of the last reports, a
 * crowd would be sent to one node; drawn in pairs, no node of n gets more than about 2/n of a crowd. Pure.
 */
import type { FleetNode } from "../../shared/nodes/contract.ts";

/** A node, and the clients sent there that its reports may not count yet. */
interface Place {
  node: FleetNode;
  /** Since the last update. */
  sent: number;
  /** Between the two updates before: these clients may still be connecting. */
  sentBefore: number;
}

export class Placement {
  readonly #random: () => number;
  #places = new Map<string, Place>();
  /** Nodes with a free seat, in no order. */
  #open: Place[] = [];

  /** @param random from 0, below 1. */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Takes the latest reports. Where some nodes have an address of their own, only those are offered. */
  update(nodes: readonly FleetNode[]): void {
    const places = new Map<string, Place>();
    for (const node of nodes) {
      const known = this.#places.get(node.instance);
      places.set(node.instance, { node, sent: 0, sentBefore: known?.sent ?? 0 });
    }
    this.#places = places;
    const ready = [...places.values()].filter((place) => place.node.state === "ready" && freeSeats(place) > 0);
    const reachable = ready.filter(({ node }) => node.url !== undefined);
    this.#open = reachable.length > 0 ? reachable : ready;
  }

  /**
   * @param isOpen what the caller knows beyond the reports.
   * @returns undefined: no node has a free seat.
   */
  choose(isOpen: (node: FleetNode) => boolean = () => true): FleetNode | undefined {
    for (;;) {
      const index = this.#draw();
      const place = this.#open[index];
      if (!place) return undefined;
      if (freeSeats(place) > 0 && isOpen(place.node)) {
        place.sent++;
        return place.node;
      }
      this.#close(index);
    }
  }

  /** @returns the index of the lighter of two nodes. */
  #draw(): number {
    const count = this.#open.length;
    const one = Math.floor(this.#random() * count);
    if (count < 2) return one;
    const other = (one + 1 + Math.floor(this.#random() * (count - 1))) % count;
    const [first, second] = [this.#open[one], this.#open[other]];
    return first && second && loadOf(second) < loadOf(first) ? other : one;
  }

  /** Offers the node no more until the next update. */
  #close(index: number): void {
    const last = this.#open.pop();
    if (last && index < this.#open.length) this.#open[index] = last;
  }
}

function freeSeats({ node, sent, sentBefore }: Place): number {
  return node.maxConnections - node.connections - sent - sentBefore;
}

/** A second's worth of the node's admissions weighs as much as a load factor of 1. */
function loadOf({ node, sent, sentBefore }: Place): number {
  return node.factor + (sent + sentBefore) / Math.max(1, node.sharePerSecond);
}
