import { Worker } from "node:worker_threads";
import { present } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import type { KvStore } from "../kv/kv-store.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import type { RepairReport, RepairRequest } from "./repair/repair-report.ts";
import type { SealShipped, ShipBackend, ShipStarted, ShipTarget } from "./ship-backend.ts";
import { ShipError } from "./ship-error.ts";
import type { ShipAnswer, ShipReply, ShipRequest, ShipSpec } from "./ship-protocol.ts";

/**
 * The worker's heap for what is young, in MiB: what it makes is dead a moment later, and more of it would only be more garbage at a time. The rest of its heap has no bound of its own: it is about 25 MiB, as
 * seals are bounded, and with any bound V8 collects twice as often (a fifth of the worker's time).
 */
const YOUNG_MEBIBYTES = 16;

export type ShipWorkerPoolOptions = {
  /** The service's KV and the index (`openShipIndex`): opened by this thread, closed after the pool. */
  readonly kv: KvStore;
  readonly index: KvStore;
  readonly log: Log;
  /** In [0, 1). */
  readonly random: () => number;
};

type Waiting = {
  readonly resolve: (answer: ShipAnswer) => void;
  readonly reject: (error: ShipError) => void;
  readonly onShipped: ((shipped: SealShipped) => void) | undefined;
};

type AskOf<R> = R extends ShipRequest ? Omit<R, "id"> : never;

/** The ship worker of a service, shared by its apps: started with the first of them, and again if the thread died. */
export class ShipWorkerPool {
  readonly #options: ShipWorkerPoolOptions;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #closed = false;
  #nextId = 1;
  #nextShip = 1;
  /** Counts the threads: what was opened in an earlier one has to be opened again. */
  generation = 0;

  constructor(options: ShipWorkerPoolOptions) {
    this.#options = options;
  }

  /** Ships one app into one repository. Nothing happens before `start`. */
  backend(spec: ShipSpec): ShipBackend {
    return new WorkerBackend(this, { spec, ship: this.#nextShip++ });
  }

  /** Ends the thread. The backends must be closed. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker?.terminate();
  }

  /** Asks the worker. Rejects with ShipError: the worker's own, or LOCAL when it died. */
  ask(request: AskOf<ShipRequest>, onShipped?: (shipped: SealShipped) => void): Promise<ShipAnswer> {
    if (this.#closed) return Promise.reject(new ShipError("CANCELLED", "the ship worker was closed"));
    this.#worker ??= this.#startWorker();
    const id = this.#nextId++;
    const worker = this.#worker;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onShipped });
      worker.postMessage({ ...request, id });
    });
  }

  #startWorker(): Worker {
    const { kv, index, random } = this.#options;
    const shares = [present(kv.share(), "a shareable KV"), present(index.share(), "a shareable index")] as const;
    this.generation += 1;
    const worker = new Worker(new URL("./ship-worker.ts", import.meta.url), {
      workerData: { kv: shares[0].handle, index: shares[1].handle, seed: Math.floor(random() * 2 ** 31) },
      transferList: shares.flatMap(({ transferList }) => transferList),
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MEBIBYTES },
    });
    worker.unref();
    worker.on("message", (reply: ShipReply) => this.#answered(reply));
    worker.on("error", (error: Error) => this.#died(worker, error));
    worker.on("exit", (code) => this.#died(worker, new Error(`it ended with code ${code}`)));
    return worker;
  }

  #answered(reply: ShipReply): void {
    if (reply.kind === "log") {
      this.#options.log[reply.level](reply.message, reply.fields);
      return;
    }
    const waiting = this.#waiting.get(reply.id);
    if (reply.kind === "shipped") {
      waiting?.onShipped?.(reply.shipped);
      return;
    }
    this.#waiting.delete(reply.id);
    if (reply.kind === "done") waiting?.resolve(reply.answer);
    else waiting?.reject(new ShipError(reply.code, reply.message, { causeCode: reply.causeCode }));
  }

  /** Whoever waits is told; the next request starts another thread. */
  #died(worker: Worker, cause: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    if (!this.#closed) this.#options.log.error("the ship worker died and is started again", { cause });
    for (const { reject } of this.#waiting.values())
      reject(new ShipError(this.#closed ? "CANCELLED" : "LOCAL", `the ship worker died: ${cause.message}`, { cause }));
    this.#waiting.clear();
  }
}

class WorkerBackend implements ShipBackend {
  readonly #pool: ShipWorkerPool;
  readonly #spec: ShipSpec;
  readonly #ship: number;
  /** In which thread it is open. */
  #openIn = 0;
  #opening: Promise<void> | undefined;
  #closed = false;

  constructor(pool: ShipWorkerPool, options: { readonly spec: ShipSpec; readonly ship: number }) {
    this.#pool = pool;
    this.#spec = options.spec;
    this.#ship = options.ship;
  }

  async start(target: ShipTarget): Promise<ShipStarted> {
    if (!this.#isOpen) {
      this.#opening = this.#open().finally(() => {
        this.#opening = undefined;
      });
      await this.#opening;
    }
    if (this.#closed) throw new ShipError("CANCELLED", "shipping was ended");
    return (await this.#pool.ask({ kind: "start", ship: this.#ship, target })) as ShipStarted;
  }

  async ship(target: ShipTarget, onShipped: (shipped: SealShipped) => void): Promise<void> {
    if (this.#closed) throw new ShipError("CANCELLED", "shipping was ended");
    if (!this.#isOpen) throw new ShipError("LOCAL", "the ship worker was started again");
    await this.#pool.ask({ kind: "ship", ship: this.#ship, target }, onShipped);
  }

  async checkpoint(options: { readonly force: boolean; readonly app: AppDescription }): Promise<boolean> {
    if (!this.#isOpen || this.#closed) return false;
    return (await this.#pool.ask({ kind: "checkpoint", ship: this.#ship, ...options })) === true;
  }

  async repair(request: RepairRequest & { readonly app: AppDescription }): Promise<RepairReport> {
    if (this.#openIn === 0 || this.#openIn !== this.#pool.generation)
      throw new ShipError("LOCAL", "the backup has not begun yet");
    return (await this.#pool.ask({ kind: "repair", ship: this.#ship, request })) as RepairReport;
  }

  abort(): void {
    if (this.#isOpen) this.#pool.ask({ kind: "abort", ship: this.#ship }).catch(() => {});
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#opening?.catch(() => {});
    if (!this.#isOpen) return;
    this.#openIn = 0;
    await this.#pool.ask({ kind: "close", ship: this.#ship });
  }

  get #isOpen(): boolean {
    return this.#openIn !== 0 && this.#openIn === this.#pool.generation;
  }

  async #open(): Promise<void> {
    await this.#pool.ask({ kind: "open", ship: this.#ship, spec: this.#spec });
    this.#openIn = this.#pool.generation;
  }
}
