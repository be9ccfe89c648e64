/** What is known of an item, and of a request that carries items. */

/** One item that a client emitted. Items of a key are numbered from 1. */
export interface Item {
  /**
   * Items that are emitted without waiting keep their order where all of them are accepted at once. An item that has to be
   * emitted again may come anywhere among those of its burst: from `low` to `high`.
   */
  low: number;
  high: number;
  /** When the ack arrived, and `ce-id` by the ack; the answer to a webhook has none. */
  accepted?: { at: number; id: string | undefined };
  /** The service has taken it. */
  taken: boolean;
  /** It was seen among the dead letters, and came to the tail of the key afterwards. */
  deadLetter: boolean;
}

/** One request to the service. Fences and sequences are compared as text. */
export interface Delivery {
  readonly at: number;
  readonly id: string;
  readonly sequence: string;
  readonly previous: string | undefined;
  readonly fence: string;
  readonly attempt: number;
  readonly numbers: readonly number[];
  /** A larger fence came before: refused. */
  readonly isStale: boolean;
  /** When the service answered, or saw that its caller had closed the connection before. */
  endedAt?: number;
  answered?: boolean;
  /** Of these items the service took so many. */
  taken?: number;
}
