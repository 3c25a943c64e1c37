import { read as readInPool } from "node:fs";
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import { ERRNO, TidemarkError } from "../../domain/errors.ts";
import { type ConnectionOptions, FuseConnection } from "./connection.ts";
import { type FuseDeviceIo, fuseDeviceIo, NodeDeviceIo } from "./device.ts";
import { RequestFrame } from "./frame.ts";
import { IdleSpin } from "./idle-spin.ts";
import { FRAME_BYTES_MARGIN, MAX_WRITE_BYTES } from "./init.ts";
import { type Libc, loadLibc, type PollHandle } from "./libc.ts";
import { encodeResend } from "./notify-codec.ts";
import { ReadArena } from "./read-arena.ts";
import { ReplyWriter } from "./reply.ts";

/**
 * One loop for the kernel and for Node. libuv watches the FUSE descriptors like any other (uv_poll); when one becomes readable, requests are
 * read and answered for as long as there are any, and then the descriptors and libuv's own are waited for together with poll(2). So a
 * request that follows its predecessor closely costs one poll, one read and one write, without a turn of the event loop; and as soon as libuv
 * has I/O, a timer or an immediate, or an operation began to wait, the turn ends and Node does its work.
 *
 * Where koffi cannot load, each connection has one `fs.read` waiting in Node's thread pool.
 */

/** A turn ends after this long even if requests keep coming: timers and I/O completions are never later than that. */
const TURN_MS = 5;

/**
 * How long the last turn waits for a next request (asleep, in poll) before it goes back to libuv, where it waits equally asleep. Bounds the delay
 * of what libuv does not see: microtasks queued by operations that returned no promise.
 */
const LINGER_MS = 2;

/** Requests of one connection in a row while others have some. */
const REQUESTS_PER_VISIT = 64;

/** Connections without koffi: each occupies one of libuv's four threads for good, and the file system needs some. */
const POOL_CONNECTIONS_MAX = 2;

/** Connections of one loop. A poll set of this many is still scanned in microseconds. */
const CONNECTIONS_MAX = 4096;

/** sizeof(struct pollfd), and its POLLIN. */
const POLLFD_BYTES = 8;
const POLLIN = 1;

/** ECONNABORTED: the connection was aborted (FUSE_ABORT_ERROR). */
const ECONNABORTED = 103;
const EPERM = ERRNO.EPERM;

export class FuseLoop {
  readonly #clock: Clock;
  readonly #libc: Libc | undefined;
  readonly #io: FuseDeviceIo;
  readonly #writer: ReplyWriter;
  readonly #arena = new ReadArena(MAX_WRITE_BYTES + FRAME_BYTES_MARGIN);
  readonly #members: Member[] = [];
  /** struct pollfd of each member, then of libuv. */
  #pollSet = Buffer.alloc(POLLFD_BYTES);
  readonly #spin = new IdleSpin();
  #inTurn = false;
  #watching = true;
  /** An operation began to wait in this turn, or there is no memory to read into. */
  #yield = false;
  /** All read memory is held by waiting requests: nothing is watched until one is done. */
  #starved = false;

  /** `ffi: "none"`: as where koffi cannot load. */
  constructor(options: { clock: Clock; ffi?: "none" }) {
    this.#clock = options.clock;
    this.#libc = options.ffi === "none" ? undefined : loadLibc();
    this.#io = this.#libc === undefined ? new NodeDeviceIo() : fuseDeviceIo(this.#libc);
    this.#writer = new ReplyWriter(this.#io);
  }

  /** Whether FUSE descriptors for this loop must be non-blocking (`openFuseDevice`). */
  get nonBlocking(): boolean {
    return this.#libc !== undefined;
  }

  get io(): FuseDeviceIo {
    return this.#io;
  }

  /** Starts serving a mounted and initialised descriptor. */
  add(options: ConnectionOptions): FuseConnection {
    const limit = this.#libc === undefined ? POOL_CONNECTIONS_MAX : CONNECTIONS_MAX;
    if (this.#members.length >= limit) {
      throw new TidemarkError(
        "UNSUPPORTED",
        `more than ${limit} mounts in one process${this.#libc ? "" : " (koffi did not load)"}`,
      );
    }
    assert(options.negotiated.maxWriteBytes <= MAX_WRITE_BYTES, "negotiated by another version of this program");
    const connection = new FuseConnection(options, this.#writer);
    // Before the first read: what we have read ourselves must not be sent again. It takes no lock that anybody holds while waiting for us.
    if (options.resume !== undefined) this.#resend(options.fd);
    const member: Member = { connection, handle: undefined, ready: false, removed: false };
    this.#members.push(member);
    this.#rebuildPollSet();
    if (this.#libc === undefined) this.#readInPool(member);
    else member.handle = this.#libc.watch(connection.fd, () => this.#turn(member));
    if (!this.#watching) member.handle?.stop();
    return connection;
  }

  /**
   * Stops reading requests of `connection` and resolves when those already taken are answered. Without koffi one more request is still served.
   * The descriptor stays open: the mount lives on in whoever else has it.
   */
  async remove(connection: FuseConnection): Promise<void> {
    const member = this.#members.find((candidate) => candidate.connection === connection);
    if (member !== undefined) this.#drop(member);
    await connection.drained();
  }

  #resend(fd: number): void {
    const message = encodeResend();
    const result = this.#io.write(fd, message, message.length);
    // A mount that has ended meanwhile says so at the first read.
    const ended = result === -ERRNO.ENODEV || result === -EPERM || result === -ECONNABORTED;
    assert(result >= 0 || ended, `FUSE_NOTIFY_RESEND: errno ${-result}`);
  }

  #drop(member: Member): void {
    if (member.removed) return;
    member.removed = true;
    member.handle?.close();
    member.handle = undefined;
    this.#members.splice(this.#members.indexOf(member), 1);
    this.#rebuildPollSet();
  }

  #rebuildPollSet(): void {
    this.#pollSet = Buffer.alloc(POLLFD_BYTES * (this.#members.length + 1));
    this.#members.forEach((member, index) => {
      this.#pollSet.writeInt32LE(member.connection.fd, index * POLLFD_BYTES);
      this.#pollSet.writeInt16LE(POLLIN, index * POLLFD_BYTES + 4);
    });
    if (this.#libc === undefined) return;
    this.#pollSet.writeInt32LE(this.#libc.loopFd, this.#members.length * POLLFD_BYTES);
    this.#pollSet.writeInt16LE(POLLIN, this.#members.length * POLLFD_BYTES + 4);
  }

  /** Called by libuv: `first` is readable, or has ended. */
  #turn(first: Member): void {
    const libc = this.#libc;
    if (this.#inTurn || libc === undefined || first.removed) return;
    this.#inTurn = true;
    this.#yield = false;
    first.ready = true;
    const endMs = this.#clock.monotonicMs() + TURN_MS;
    try {
      while (this.#serveReady()) {
        if (this.#yield || this.#clock.monotonicMs() >= endMs) break;
        if (!this.#waitForRequests(libc)) break;
      }
    } catch (error) {
      // Only callbacks of whoever runs the loop can throw here. There is no JavaScript frame above us to throw to.
      queueMicrotask(() => {
        throw error;
      });
    } finally {
      this.#inTurn = false;
      for (const member of this.#members) member.ready = false;
      if (this.#starved) this.#unwatch();
      else this.#watch(libc);
      // Not a callback of Node's own: microtasks and process.nextTick would wait for the next one. An immediate runs them.
      setImmediate(noop);
    }
  }

  /** Serves each ready connection. Answers whether there is anything left to wait for. */
  #serveReady(): boolean {
    let more = true;
    while (more && !this.#yield) {
      more = false;
      for (const member of [...this.#members]) {
        if (!member.ready || member.removed) continue;
        member.ready = this.#serve(member);
        more ||= member.ready;
      }
    }
    return this.#members.length > 0;
  }

  /** Reads and handles up to REQUESTS_PER_VISIT requests. Answers whether there may be more. */
  #serve(member: Member): boolean {
    const { connection } = member;
    for (let count = 0; count < REQUESTS_PER_VISIT; count++) {
      const space = this.#arena.space();
      if (space === undefined) {
        this.#yield = true;
        this.#starved = true;
        return false;
      }
      const bytes = this.#io.read(connection.fd, space.memory);
      if (bytes < 0) {
        if (bytes === -ERRNO.EAGAIN) return false;
        // ENOENT: that request was given up while it was being read; the next may be there.
        if (bytes === -ERRNO.ENOENT) continue;
        this.#readFailed(member, -bytes);
        return false;
      }
      if (!this.#handle(connection, space, bytes)) {
        this.#yield = true;
        return true;
      }
      if (member.removed) return false;
    }
    return true;
  }

  #handle(connection: FuseConnection, space: { wire: RequestWire; at: number }, bytes: number): boolean {
    let frame: RequestFrame;
    try {
      frame = new RequestFrame(space.wire, space.at, bytes);
    } catch (error) {
      connection.malformed(error);
      return true;
    }
    return connection.handle(frame, () => this.#hold(bytes));
  }

  #hold(bytes: number): () => void {
    const release = this.#arena.hold(bytes);
    return () => {
      release();
      if (!this.#starved || this.#libc === undefined) return;
      this.#starved = false;
      if (!this.#inTurn) this.#watch(this.#libc);
    };
  }

  /** ENODEV: unmounted. ECONNABORTED: aborted. EPERM: never mounted. All of them are final. */
  #readFailed(member: Member, errno: number): void {
    if (errno !== ERRNO.ENODEV && errno !== ECONNABORTED && errno !== EPERM) {
      member.connection.malformed(new Error(`reading /dev/fuse: errno ${errno}`));
    }
    this.#drop(member);
    member.connection.end();
  }

  /** Waits for the next request. Answers false when the turn is over: libuv has work, or nothing came. */
  #waitForRequests(libc: Libc): boolean {
    const loopTimeoutMs = libc.loopTimeoutMs();
    if (loopTimeoutMs === 0) return false;
    // While libuv's epoll watches the FUSE descriptors too, its descriptor would be readable with every request.
    this.#unwatch();
    const waitMs = loopTimeoutMs < 0 ? LINGER_MS : Math.min(loopTimeoutMs, LINGER_MS);
    const set = this.#pollSet;
    if (!this.#askBriefly(libc) && !this.#sleep(libc, waitMs)) return false;
    if (set.readInt16LE(this.#members.length * POLLFD_BYTES + 6) !== 0) return false;
    for (let index = 0; index < this.#members.length; index++) {
      const member = this.#members[index] as Member;
      member.ready = set.readInt16LE(index * POLLFD_BYTES + 6) !== 0;
    }
    return true;
  }

  /** Asks for a while without sleeping (see IdleSpin). Answers whether something is readable. */
  #askBriefly(libc: Libc): boolean {
    const count = this.#members.length + 1;
    if (libc.poll(this.#pollSet, count, 0) > 0) return true;
    if (this.#spin.ms === 0) return false;
    const endMs = this.#clock.monotonicMs() + this.#spin.ms;
    do {
      if (libc.poll(this.#pollSet, count, 0) <= 0) continue;
      this.#spin.caught();
      return true;
    } while (this.#clock.monotonicMs() < endMs);
    return false;
  }

  /** Sleeps until something is readable. Answers false when nothing came. */
  #sleep(libc: Libc, waitMs: number): boolean {
    const beginMs = this.#clock.monotonicMs();
    const readable = libc.poll(this.#pollSet, this.#members.length + 1, waitMs) > 0;
    this.#spin.missed(this.#clock.monotonicMs() - beginMs, readable);
    return readable;
  }

  #unwatch(): void {
    if (!this.#watching) return;
    this.#watching = false;
    for (const member of this.#members) member.handle?.stop();
  }

  #watch(libc: Libc): void {
    if (this.#watching) return;
    this.#watching = true;
    for (const member of this.#members) {
      if (member.handle !== undefined) libc.resume(member.handle, () => this.#turn(member));
    }
  }

  /** Without koffi: one read waits in the thread pool; it is blocking, since the descriptor is. */
  #readInPool(member: Member): void {
    const space = new ReadArena(MAX_WRITE_BYTES + FRAME_BYTES_MARGIN);
    const next = (): void => {
      const place = space.space();
      if (place === undefined) {
        setImmediate(next);
        return;
      }
      readInPool(member.connection.fd, place.memory, 0, place.memory.length, null, (error, bytes) => {
        if (error !== null) {
          const errno = -(error.errno ?? -ERRNO.EIO);
          if (errno === ERRNO.ENOENT || errno === ERRNO.EAGAIN) next();
          else this.#readFailed(member, errno);
          return;
        }
        this.#handleIn(space, member.connection, { place, bytes });
        if (!member.removed) next();
      });
    };
    next();
  }

  #handleIn(
    arena: ReadArena,
    connection: FuseConnection,
    from: { place: { wire: RequestWire; at: number }; bytes: number },
  ): void {
    let frame: RequestFrame;
    try {
      frame = new RequestFrame(from.place.wire, from.place.at, from.bytes);
    } catch (error) {
      connection.malformed(error);
      return;
    }
    connection.handle(frame, () => arena.hold(from.bytes));
  }
}

type RequestWire = ConstructorParameters<typeof RequestFrame>[0];

type Member = {
  readonly connection: FuseConnection;
  handle: PollHandle | undefined;
  /** Its descriptor was readable when last looked at. */
  ready: boolean;
  removed: boolean;
};

function noop(): void {}
