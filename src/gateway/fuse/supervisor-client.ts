import { closeSync } from "node:fs";
import { assert } from "../../base/assert.ts";
import type { Log } from "../../base/log.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { fuseDeviceIo } from "./device.ts";
import { InFlightTable } from "./in-flight.ts";
import { type Libc, loadLibc } from "./libc.ts";
import { type Mounted, type MountOptions, mountFuse, unmountFuse } from "./mount.ts";
import type { NotificationCounts, NotificationOrder } from "./notify-worker.ts";
import { type NotificationWriter, WorkerWriter } from "./notify-writer.ts";
import {
  type FromChild,
  type FromSupervisor,
  IN_FLIGHT_FD,
  type KeptMount,
  type MountCommand,
  type NotifyCommand,
} from "./supervisor-protocol.ts";

/** pidfd_open(2) and pidfd_getfd(2): the same numbers on every architecture. */
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;

type Answer = Extract<FromSupervisor, { type: "answer" }>;
type Waiting = { resolve(answer: Answer): void; reject(error: Error): void };

const NOTHING_WRITTEN: NotificationCounts = { written: 0, unknown: 0, refused: 0 };

/**
 * The child's end of the supervisor. While that lives, it makes and ends the mounts, so that they outlive this process; when it is gone (killed),
 * this process goes on serving what it has, and makes and ends mounts itself: they then end with it.
 */
export class SupervisorClient {
  readonly #log: Log;
  readonly #libc: Libc | undefined = loadLibc();
  readonly #table: InFlightTable | undefined;
  readonly #resumed = new Map<string, Mounted>();
  /** Keys of the mounts by descriptor. */
  readonly #keys = new Map<number, string>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #stop = Promise.withResolvers<void>();
  #requestNext = 1;
  #supervisorPid = 0;
  #restartCount = 0;

  private constructor(log: Log) {
    this.#log = log;
    this.#table = this.#libc === undefined ? undefined : new InFlightTable(IN_FLIGHT_FD, this.#libc);
  }

  /** Takes over from a former process. To be called once, in a process that a Supervisor started, before anything else listens to the channel. */
  static async connect(options: { log: Log }): Promise<SupervisorClient> {
    assert(process.connected === true, "not started by a supervisor");
    const client = new SupervisorClient(options.log);
    await new Promise<void>((ready) => {
      process.on("message", (message) => {
        client.#received(message as FromSupervisor);
        if ((message as FromSupervisor).type === "state") ready();
      });
      process.once("disconnect", () => {
        client.#abandoned();
        ready();
      });
    });
    return client;
  }

  /** Whether mounts outlive this process. */
  get supervised(): boolean {
    return process.connected === true;
  }

  /** How many processes this one's supervisor has replaced by the next. */
  get restartCount(): number {
    return this.#restartCount;
  }

  /** Resolves when the supervisor wants this process to finish. Never rejects. */
  get stopRequested(): Promise<void> {
    return this.#stop.promise;
  }

  /** Mounts that live on from a former process, by key. To be served with their `marks` and `resume`. */
  resumed(): ReadonlyMap<string, Mounted> {
    return this.#resumed;
  }

  /** Tells that this process serves: from now on it is started again when it dies. */
  serving(): void {
    this.#send({ type: "serving" });
  }

  /** Tells that this process is about to end on purpose. */
  stopping(): void {
    this.#send({ type: "stopping" });
  }

  /** Makes a mount that outlives this process. Throws as `mountFuse`; UNSUPPORTED when its descriptor can't be had from the supervisor. */
  async mount(key: string, options: MountOptions): Promise<Mounted> {
    const nonBlocking = this.#libc !== undefined;
    if (!this.supervised) return await mountFuse(options, { io: fuseDeviceIo(), nonBlocking });
    const { mount: kept } = await this.#command({ type: "mount", key, options, nonBlocking });
    assert(kept !== undefined, "an answer to mount has a mount");
    try {
      return this.#mounted({ ...kept, fd: this.#fetch(kept.fd) });
    } catch (error) {
      await this.umount(kept.target, { lazy: true });
      await this.#command({ type: "release", key });
      throw error;
    }
  }

  /** As `unmountFuse`. */
  async umount(target: string, options: { readonly lazy: boolean }): Promise<void> {
    if (this.supervised) await this.#command({ type: "unmount", target, lazy: options.lazy });
    else await unmountFuse(target, options);
  }

  /** The mount has ended, or is to end, and its descriptor is no longer used: closes it here and in the supervisor. */
  async release(key: string, mounted: Mounted): Promise<void> {
    this.#keys.delete(mounted.fd);
    closeSync(mounted.fd);
    this.#resumed.delete(key);
    if (this.supervised) await this.#command({ type: "release", key });
  }

  /** Writes notifications through the supervisor, by its thread for `lane`; by a thread of this process when that is gone. For one Notifier. */
  notificationWriter(lane = 0): NotificationWriter {
    const local = new WorkerWriter();
    const write = async (order: NotificationOrder): Promise<NotificationCounts> => {
      if (!this.supervised) return await local.write(order);
      const named = order.flatMap(({ fd, message }) => {
        const key = this.#keys.get(fd);
        return key === undefined ? [] : [{ key, message: Buffer.from(message).toString("base64") }];
      });
      try {
        return (await this.#command({ type: "notify", lane, order: named })).counts ?? NOTHING_WRITTEN;
      } catch (error) {
        if (this.supervised) throw error;
        // Twice is as good as once.
        return await local.write(order);
      }
    };
    return { write, close: () => local.close() };
  }

  #mounted(kept: KeptMount): Mounted {
    const { key, fd, target, negotiated, deviceMinor } = kept;
    this.#keys.set(fd, key);
    const marks = this.#table?.marksOf(deviceMinor);
    return { fd, target, negotiated, deviceMinor, ...(marks === undefined ? {} : { marks }) };
  }

  /** A copy of the supervisor's descriptor `fd`. */
  #fetch(fd: number): number {
    const libc = this.#libc;
    if (libc === undefined)
      throw new TidemarkError("UNSUPPORTED", "koffi did not load: mounts can only be made when the service starts");
    const pidfd = libc.syscall3(SYS_PIDFD_OPEN, this.#supervisorPid, 0, 0);
    if (pidfd < 0) throw new TidemarkError("UNSUPPORTED", `pidfd_open: errno ${libc.errno()}`);
    const copy = libc.syscall3(SYS_PIDFD_GETFD, pidfd, fd, 0);
    const errno = libc.errno();
    closeSync(pidfd);
    if (copy < 0) throw new TidemarkError("UNSUPPORTED", `pidfd_getfd: errno ${errno} (it needs CAP_SYS_PTRACE)`);
    return copy;
  }

  #received(message: FromSupervisor): void {
    switch (message.type) {
      case "state":
        this.#supervisorPid = message.pid;
        this.#restartCount = message.restartCount;
        for (const kept of message.mounts) {
          this.#resumed.set(kept.key, { ...this.#mounted(kept), resume: { poisoned: kept.poisoned } });
        }
        break;
      case "answer":
        this.#take(message.request)?.resolve(message);
        break;
      case "failed":
        this.#take(message.request)?.reject(new TidemarkError(message.code, message.message));
        break;
      case "stop":
        this.#stop.resolve();
        break;
    }
  }

  #take(request: number): Waiting | undefined {
    const waiting = this.#waiting.get(request);
    this.#waiting.delete(request);
    return waiting;
  }

  async #command(command: MountCommand | NotifyCommand): Promise<Answer> {
    const request = this.#requestNext++;
    const answer = Promise.withResolvers<Answer>();
    this.#waiting.set(request, answer);
    this.#send({ type: "command", request, command });
    return await answer.promise;
  }

  #send(message: FromChild): void {
    if (process.connected === true) process.send?.(message, undefined, undefined, () => {});
  }

  #abandoned(): void {
    this.#log.warn("the supervisor is gone: mounts now end with this process");
    const error = new TidemarkError("UNAVAILABLE", "the supervisor ended meanwhile: try again");
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}
