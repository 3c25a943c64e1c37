/**
 * The ship worker: a thread that reads journals and carries them into repositories, with connections of its own, so that the loop that serves mounts only says when. Not imported: started by
 * ship-worker-pool.ts.
 */
import { parentPort, workerData } from "node:worker_threads";
import { present } from "../base/assert.ts";
import { SystemClock } from "../base/clock.ts";
import type { Log, LogFields, LogLevel } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { openBlobs } from "../blob/open-blobs.ts";
import { openSharedRocksKv } from "../kv/rocks-kv.ts";
import { AppKeys } from "../repository/app-keys.ts";
import { AppRepository } from "../repository/app-repository.ts";
import { ShipEngine } from "./ship-engine.ts";
import { shipError } from "./ship-error.ts";
import type { ShipAnswer, ShipReply, ShipRequest, ShipSpec } from "./ship-protocol.ts";

const port = present(parentPort, "ship-worker.ts runs in a worker thread only");
const handles = workerData as { kv: unknown; index: unknown; seed: number };
const kv = openSharedRocksKv(handles.kv);
const index = openSharedRocksKv(handles.index);
const clock = new SystemClock();
const timers = new SystemTimers();

type OpenShip = { readonly engine: ShipEngine; readonly store: BlobStore };

/** By the number that the loop gave. */
const ships = new Map<number, OpenShip>();

/** Lines go to the service's log. What structured cloning would refuse, goes as text. */
class PortLog implements Log {
  readonly #fields: LogFields;

  constructor(fields: LogFields) {
    this.#fields = fields;
  }

  debug(message: string, fields?: LogFields): void {
    this.#send("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#send("info", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#send("warn", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#send("error", message, fields);
  }

  alarm(message: string, fields?: LogFields): void {
    this.#send("alarm", message, fields);
  }

  child(fields: LogFields): Log {
    return new PortLog({ ...this.#fields, ...fields });
  }

  #send(level: LogLevel, message: string, fields: LogFields = {}): void {
    const all = Object.entries({ ...this.#fields, ...fields }).map(([name, value]) => [name, plain(value)]);
    send({ kind: "log", level, message, fields: Object.fromEntries(all) as LogFields });
  }
}

port.on("message", (request: ShipRequest) => {
  run(request).then(
    (answer) => send({ kind: "done", id: request.id, answer }),
    (error: unknown) => {
      const { code, message, causeCode } = shipError(error);
      send({ kind: "failed", id: request.id, code, message, causeCode });
    },
  );
});

async function run(request: ShipRequest): Promise<ShipAnswer> {
  if (request.kind === "open") {
    ships.set(request.ship, await open(request.spec));
    return null;
  }
  const ship = ships.get(request.ship);
  // It was never opened: there is nothing to end.
  if (ship === undefined) return null;
  switch (request.kind) {
    case "start":
      return ship.engine.start(request.target);
    case "ship":
      await ship.engine.ship(request.target, (shipped) => send({ kind: "shipped", id: request.id, shipped }));
      return null;
    case "checkpoint":
      return ship.engine.checkpoint(request);
    case "repair":
      return ship.engine.repair(request.request);
    case "abort":
      ship.engine.abort();
      return null;
    case "close":
      ships.delete(request.ship);
      ship.engine.abort();
      // Ends requests that wait for a store that does not answer.
      await ship.store.close();
      await ship.engine.close();
      return null;
  }
}

async function open(spec: ShipSpec): Promise<OpenShip> {
  const log = new PortLog({ appId: spec.appId });
  const { address, ...rest } = spec.store;
  const store = await openBlobs(address, { ...rest, create: false, clock, timers, random, log });
  const access = { store, keys: new AppKeys(spec.keys), lockDays: spec.lockDays, clock };
  const { appId, folder, slot, writer, limits } = spec;
  const engine = new ShipEngine({
    repository: new AppRepository(access),
    journal: { appId, folder, kv, slot },
    index,
    writer,
    clock,
    log,
    ...(limits === undefined ? {} : { limits }),
  });
  return { engine, store };
}

function send(reply: ShipReply): void {
  port.postMessage(reply);
}

function plain(value: unknown): unknown {
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  return typeof value === "object" || typeof value === "function" || typeof value === "symbol" ? String(value) : value;
}

// Jitter of retries only: a xorshift is random enough, begun with a number that the service drew.
let state = handles.seed | 1;

function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}
