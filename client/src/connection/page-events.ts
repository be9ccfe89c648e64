/** What a browser reports of its network and of the page. Node reports nothing. */

interface Target {
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}

/** A worker has no document, Node none of it. */
interface BrowserGlobals extends Partial<Target> {
  document?: Target & { visibilityState: string };
  navigator?: { onLine?: boolean };
}

export interface PageListener {
  online(): void;
  offline(): void;
  /** The page is visible again, or is back from the browser's cache of pages. */
  shown(): void;
}

export class PageEvents {
  readonly #globals = globalThis as object as BrowserGlobals;
  readonly #onGlobals: readonly (readonly [type: string, listener: () => void])[];
  readonly #onVisibility: () => void;

  constructor({ online, offline, shown }: PageListener) {
    this.#onGlobals = [
      ["online", online],
      ["offline", offline],
      ["pageshow", shown],
    ];
    this.#onVisibility = () => {
      if (this.#globals.document?.visibilityState === "visible") shown();
    };
  }

  /** The browser has no network. It may still reach its own machine. */
  get offline(): boolean {
    return this.#globals.navigator?.onLine === false;
  }

  start(): void {
    for (const [type, listener] of this.#onGlobals) this.#globals.addEventListener?.(type, listener);
    this.#globals.document?.addEventListener("visibilitychange", this.#onVisibility);
  }

  stop(): void {
    for (const [type, listener] of this.#onGlobals) this.#globals.removeEventListener?.(type, listener);
    this.#globals.document?.removeEventListener("visibilitychange", this.#onVisibility);
  }
}
