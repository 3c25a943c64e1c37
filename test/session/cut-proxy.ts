import { createServer, connect as dial, type Server, type Socket } from "node:net";

/** A network between a gateway and a service that can be cut: connections reset, or left as they are with nothing going through (half-open). */
export class CutProxy {
  readonly #server: Server;
  readonly #target: string;
  readonly #pairs = new Set<{ readonly near: Socket; readonly far: Socket }>();
  #mode: "open" | "closed" | "silent" = "open";
  /** Connections accepted. */
  connections = 0;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((near) => this.#accept(near));
  }

  /** Listens on a free port of loopback, for connections to the Unix socket `target`. */
  static async listen(target: string): Promise<CutProxy> {
    const proxy = new CutProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get address(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("not listening");
    return `127.0.0.1:${address.port}`;
  }

  /** Resets all connections; new ones are taken. */
  reset(): void {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
    this.#pairs.clear();
  }

  /** Nothing goes through any more, and nobody is told; new connections hang as well. */
  silence(): void {
    this.#mode = "silent";
    for (const { near, far } of this.#pairs) {
      near.pause().unpipe(far);
      far.pause().unpipe(near);
    }
  }

  /** Resets all connections and takes no new ones. */
  shut(): void {
    this.#mode = "closed";
    this.reset();
  }

  /** New connections go through again. Silenced ones stay as they are: packets that were lost are not sent again here. */
  heal(): void {
    this.#mode = "open";
  }

  close(): void {
    this.reset();
    this.#server.close();
  }

  #accept(near: Socket): void {
    this.connections++;
    near.on("error", () => {});
    if (this.#mode === "closed") {
      near.resetAndDestroy();
      return;
    }
    if (this.#mode === "silent") {
      near.pause();
      return;
    }
    const far = dial(this.#target);
    far.on("error", () => near.resetAndDestroy());
    const pair = { near, far };
    this.#pairs.add(pair);
    near.pipe(far);
    far.pipe(near);
    near.on("close", () => {
      far.destroy();
      this.#pairs.delete(pair);
    });
    far.on("close", () => near.destroy());
  }
}
