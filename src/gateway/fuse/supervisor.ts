import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { FuseDeviceIo } from "./device.ts";
import { CulpritFinder, IN_FLIGHT_BYTES, readInFlight } from "./in-flight.ts";
import { hasInitFlag } from "./init.ts";
import { abortMount, findDeadMounts, type MountOptions, mountFuse, unmountFuse } from "./mount.ts";
import type { MountEntry } from "./mount-table.ts";
import { NotificationThreads } from "./notification-threads.ts";
import type { FromChild, FromSupervisor, KeptMount, MountCommand, NotifyCommand } from "./supervisor-protocol.ts";

/**
 * The process that keeps mounts alive. It makes them, keeps a copy of each FUSE descriptor, and runs the child that serves them; when that dies
 * it starts another, which goes on under the same flags and is sent the unanswered requests again. It holds no file data, reads no
 * requests (but INIT) and imports as little as possible, so that nothing here can crash or grow.
 *
 * Invariants:
 * 1. A mount is in `#mounts` from the moment it exists until the child releases it: there is always a process that has its descriptor.
 * 2. At most one child reads requests: the next is started only when the former is dead.
 */

export type SupervisorOptions = {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly io: FuseDeviceIo;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** Which dead mount points of the machine this supervisor takes away at its start; absent: all. To look at a mount whose server hangs takes seconds. */
  readonly recovers?: (entry: MountEntry) => boolean;
};

/** A child that served this long was healthy: the next death is repaired at once, since each second of delay is one that applications hang. */
const HEALTHY_MS = 2_000;
/** Delay before the second restart in a row; doubles up to the maximum. The first has none: applications wait. */
const RESTART_DELAY_MS = 100;
const RESTART_DELAY_MAX_MS = 5_000;
/** Restarts in a row before giving up (about 80 s): then waiting applications get errors instead of hanging for ever. */
const RESTARTS_MAX = 20;
/** How often to look for a child that is dead but not reaped: one of its threads may sit in the kernel waiting for the very answers a successor has to give. */
const ZOMBIE_CHECK_MS = 1_000;
/** A child that is found dead may be about to be reaped, which is how it should go: it gets so long before it is given up. Applications wait meanwhile. */
const ZOMBIE_REAP_MS = 200;
/** Mounts of one supervisor; each is a descriptor. */
const MOUNTS_MAX = 4_096;

type Mount = {
  readonly key: string;
  readonly options: MountOptions;
  readonly nonBlocking: boolean;
  kept: Omit<KeptMount, "key" | "poisoned">;
  poisoned: number[];
};

type ChildEnd = { readonly status: number | null; readonly signal: NodeJS.Signals | null };

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #mounts = new Map<string, Mount>();
  readonly #tableFd = openInFlightTable();
  readonly #lanes = new NotificationThreads();
  readonly #culprits = new CulpritFinder();
  readonly #result = Promise.withResolvers<number>();
  #child: ChildProcess | undefined;
  /** When the child said that it serves; infinite while it has not. */
  #servingSinceMs = Number.POSITIVE_INFINITY;
  /** Restarts in a row, none of which got healthy. */
  #restarts = 0;
  /** All restarts. */
  #restartCount = 0;
  /** Commands of children and restarts, one after the other. Never rejects. */
  #commands: Promise<void> = Promise.resolve();
  #state: "starting" | "serving" | "stopping" | "killing" | "ended" = "starting";

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Recovers dead mount points, then runs the child until it ends on purpose or cannot be kept alive. Answers the exit status to end with. Once. */
  async run(): Promise<number> {
    const { log, recovers } = this.#options;
    for (const dead of await findDeadMounts(recovers ?? (() => true))) {
      log.warn("unmounting a mount point that a former process left dead", {
        target: dead.target,
        source: dead.source,
      });
      await unmountFuse(dead.target, { lazy: true });
    }
    if (this.#state === "starting") this.#start();
    const status = await this.#result.promise;
    await this.#commands;
    for (const mount of this.#mounts.values()) await this.#end(mount);
    await this.#lanes.close();
    closeSync(this.#tableFd);
    return status;
  }

  /** Asks the child to finish; called again, kills it. Either way everything is unmounted in the end. */
  stop(): void {
    if (this.#state === "stopping") {
      this.#state = "killing";
      this.#options.log.warn("second signal: killing the service");
      this.#child?.kill("SIGKILL");
      return;
    }
    if (this.#state !== "starting" && this.#state !== "serving") return;
    this.#state = "stopping";
    if (this.#child === undefined) this.#finish(0);
    else this.#send({ type: "stop" });
  }

  /** The process id of the child that runs now. */
  get childPid(): number | undefined {
    return this.#child?.pid;
  }

  #start(): void {
    const { command, args, environment } = this.#options;
    const mounts = [...this.#mounts.values()];
    const child = spawn(command, args, {
      // Own process group: Ctrl-C reaches the supervisor only, which then asks.
      detached: true,
      stdio: ["ignore", "inherit", "inherit", "ipc", this.#tableFd, ...mounts.map(({ kept }) => kept.fd)],
      serialization: "json",
      ...(environment === undefined ? {} : { env: { ...environment } }),
    });
    this.#child = child;
    this.#servingSinceMs = Number.POSITIVE_INFINITY;
    child.on("message", (message) => this.#received(child, message as FromChild));
    child.once("error", (error) => {
      this.#options.log.error("the service cannot be started", { command, error: error.message });
      if (child.pid === undefined) this.#died(child, { status: 1, signal: null });
    });
    child.once("exit", (status, signal) => this.#died(child, { status, signal }));
    this.#send({
      type: "state",
      pid: process.pid,
      mounts: mounts.map((mount, index) => ({ ...publicMount(mount), fd: 5 + index })),
      restartCount: this.#restartCount,
    });
    this.#watchZombie(child);
  }

  #watchZombie(child: ChildProcess, before?: ChildEnd): void {
    this.#options.timers.after(before === undefined ? ZOMBIE_CHECK_MS : ZOMBIE_REAP_MS, () => {
      if (this.#child !== child) return;
      const end = child.pid === undefined ? undefined : endOfZombie(child.pid);
      if (end !== undefined && before !== undefined) this.#died(child, end);
      else this.#watchZombie(child, end);
    });
  }

  #send(message: FromSupervisor): void {
    // A child that dies meanwhile loses it, and its successor is told everything anew.
    if (this.#child?.connected === true) this.#child.send(message, () => {});
  }

  #received(child: ChildProcess, message: FromChild): void {
    if (child !== this.#child) return;
    switch (message.type) {
      case "serving":
        this.#servingSinceMs = this.#options.clock.monotonicMs();
        if (this.#state === "starting") this.#state = "serving";
        break;
      case "stopping":
        if (this.#state === "starting" || this.#state === "serving") this.#state = "stopping";
        break;
      case "command": {
        const { request, command } = message;
        if (command.type === "notify") void this.#notify(child, request, command);
        else this.#commands = this.#commands.then(() => this.#execute(child, request, command));
        break;
      }
    }
  }

  async #execute(child: ChildProcess, request: number, command: MountCommand): Promise<void> {
    let answer: FromSupervisor;
    try {
      answer = { type: "answer", request, ...(await this.#carryOut(command)) };
    } catch (error) {
      const code = error instanceof TidemarkError ? error.code : "INTERNAL";
      answer = { type: "failed", request, code, message: error instanceof Error ? error.message : String(error) };
    }
    if (child === this.#child) this.#send(answer);
  }

  /**
   * Writes notifications of the child, beside other commands: this waits for kernel locks until the child, or its successor, has answered. Batches
   * of a dead child come before those of the next.
   */
  async #notify(child: ChildProcess, request: number, { lane, order }: NotifyCommand): Promise<void> {
    const run = this.#lanes.write(lane, () =>
      order.flatMap(({ key, message }) => {
        const fd = this.#mounts.get(key)?.kept.fd;
        return fd === undefined ? [] : [{ fd, message: Buffer.from(message, "base64") }];
      }),
    );
    const answer = await run.then(
      (counts): FromSupervisor => ({ type: "answer", request, counts }),
      (error: Error): FromSupervisor => ({ type: "failed", request, code: "INTERNAL", message: error.message }),
    );
    if (child === this.#child) this.#send(answer);
  }

  async #carryOut(command: MountCommand): Promise<{ mount?: KeptMount }> {
    switch (command.type) {
      case "mount":
        return { mount: publicMount(await this.#mount(command)) };
      case "unmount":
        await unmountFuse(command.target, { lazy: command.lazy });
        return {};
      case "release": {
        const mount = this.#mounts.get(command.key);
        this.#mounts.delete(command.key);
        if (mount !== undefined) this.#closeWhenUnused(mount.kept.fd);
        return {};
      }
    }
  }

  /** Batches of notifications may still be written to it. */
  #closeWhenUnused(fd: number): void {
    void this.#lanes.idle().then(() => closeSync(fd));
  }

  async #mount(command: Extract<MountCommand, { type: "mount" }>): Promise<Mount> {
    const { key, options, nonBlocking } = command;
    if (this.#mounts.has(key)) throw new TidemarkError("ALREADY_EXISTS", `mount ${key} exists already`);
    if (this.#mounts.size >= MOUNTS_MAX)
      throw new TidemarkError("FAILED_PRECONDITION", `more than ${MOUNTS_MAX} mounts`);
    const { fd, target, negotiated, deviceMinor } = await mountFuse(options, { io: this.#options.io, nonBlocking });
    const mount: Mount = { key, options, nonBlocking, kept: { fd, target, negotiated, deviceMinor }, poisoned: [] };
    this.#mounts.set(key, mount);
    return mount;
  }

  #died(child: ChildProcess, how: ChildEnd): void {
    // Keeps I2: each child dies once, whoever notices first.
    if (child !== this.#child) return;
    this.#child = undefined;
    const { log, clock, timers } = this.#options;
    if (this.#state !== "serving") {
      const clean = this.#state === "stopping" && how.status === 0;
      if (!clean) log.error("the service ended", { status: how.status, signal: how.signal, while: this.#state });
      this.#finish(clean ? 0 : (how.status ?? 1) || 1);
      return;
    }
    this.#findCulprits({ killed: how.signal === "SIGKILL" });
    this.#restartCount++;
    // Killed from outside (an operator, the kernel short of memory) while it served, it did nothing wrong either: each life has answered requests.
    const servedMs = clock.monotonicMs() - this.#servingSinceMs;
    const blameless = servedMs >= HEALTHY_MS || (how.signal === "SIGKILL" && servedMs >= 0);
    this.#restarts = blameless ? 1 : this.#restarts + 1;
    if (this.#restarts > RESTARTS_MAX) {
      log.alarm("the service dies again and again: giving up, mounts end", { restarts: this.#restarts - 1, ...how });
      this.#finish(1);
      return;
    }
    const delayMs =
      this.#restarts === 1 ? 0 : Math.min(RESTART_DELAY_MS * 2 ** (this.#restarts - 2), RESTART_DELAY_MAX_MS);
    log.error("the service died and is started again", { ...how, delayMs, mounts: this.#mounts.size });
    this.#commands = this.#commands.then(() => timers.wait(delayMs)).then(() => this.#restart());
  }

  async #restart(): Promise<void> {
    for (const mount of [...this.#mounts.values()]) {
      if (this.#state === "serving" && !hasInitFlag(mount.kept.negotiated, "HAS_RESEND")) await this.#remount(mount);
    }
    // A stop in the meantime has found no child to ask and has ended the run.
    if (this.#state === "serving") this.#start();
  }

  /** Without FUSE_NOTIFY_RESEND (Linux before 6.9) requests that the dead child had read are lost: their callers get an error, and so do open files. */
  async #remount(mount: Mount): Promise<void> {
    const { log, io } = this.#options;
    log.warn("the kernel cannot send requests again: mounting anew, open files fail", { target: mount.kept.target });
    try {
      await abortMount(mount.kept);
      this.#closeWhenUnused(mount.kept.fd);
      await unmountFuse(mount.kept.target, { lazy: true });
      const { fd, target, negotiated, deviceMinor } = await mountFuse(mount.options, {
        io,
        nonBlocking: mount.nonBlocking,
      });
      mount.kept = { fd, target, negotiated, deviceMinor };
      mount.poisoned = [];
    } catch (error) {
      this.#mounts.delete(mount.key);
      log.alarm("a mount is lost", {
        target: mount.kept.target,
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }

  #findCulprits(options: { killed: boolean }): void {
    for (const request of this.#culprits.died(readInFlight(this.#tableFd), options)) {
      const mount = [...this.#mounts.values()].find(({ kept }) => kept.deviceMinor === request.deviceMinor);
      mount?.poisoned.push(request.unique);
      this.#options.log.alarm("a request killed the service again and again: it is answered EIO", {
        target: mount?.kept.target,
        request: request.unique,
      });
    }
  }

  async #end(mount: Mount): Promise<void> {
    this.#mounts.delete(mount.key);
    try {
      await abortMount(mount.kept);
      await unmountFuse(mount.kept.target, { lazy: true });
    } catch (error) {
      this.#options.log.error("a mount could not be ended", { target: mount.kept.target, error: String(error) });
    }
    this.#closeWhenUnused(mount.kept.fd);
  }

  #finish(status: number): void {
    this.#state = "ended";
    this.#result.resolve(status);
  }
}

function publicMount(mount: Mount): KeptMount {
  return { key: mount.key, ...mount.kept, poisoned: mount.poisoned };
}

/** How a process ended that is dead although the kernel has not reported it: its leader is a zombie while a thread still ends. undefined: it is alive. */
function endOfZombie(pid: number): ChildEnd | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // proc(5): the state follows the name, which is in parentheses; the last field is the exit status as waitpid(2) has it.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    if (fields[0] !== "Z") return undefined;
    const status = Number(fields.at(-1));
    const number = status & 0x7f;
    if (number === 0) return { status: status >> 8, signal: null };
    const names = Object.keys(constants.signals) as NodeJS.Signals[];
    return { status: null, signal: names.find((name) => constants.signals[name] === number) ?? "SIGKILL" };
  } catch {
    return undefined;
  }
}

/** A nameless file in memory (on disk where there is no /dev/shm). */
function openInFlightTable(): number {
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "tidemark-"));
  try {
    const fd = openSync(join(folder, "in-flight"), "w+", 0o600);
    ftruncateSync(fd, IN_FLIGHT_BYTES);
    return fd;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
