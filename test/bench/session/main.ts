/**
 * `npm run bench:session`: what a call costs over the session, beside the same call in the service's own process. One loopback connection, without TLS; the service is a process of its own.
 *
 *   local     the engine in this process, as embedded mounts have it
 *   session   over the session: one call at a time, and 32 at a time
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Client, credentials } from "@grpc/grpc-js";
import { SystemClock } from "../../../src/base/clock.ts";
import { silentLog } from "../../../src/base/log.ts";
import { SystemTimers } from "../../../src/base/timers.ts";
import { type InodeId, LIVE } from "../../../src/domain/ids.ts";
import type { Inode } from "../../../src/domain/inode.ts";
import type { MetadataApi, Request, RequestContext } from "../../../src/domain/metadata-api.ts";
import { WINDOW_BYTES } from "../../../src/rpc/receive-window.ts";
import { SESSION_MESSAGE_BYTES_MAX } from "../../../src/rpc/session/limits.ts";
import { SessionClient } from "../../../src/rpc/session/session-client.ts";
import { sessionStreams } from "../../../src/rpc/session/session-streams.ts";
import { openRequest } from "../../contract/session-harness.ts";
import { median } from "../statistics.ts";
import { MOUNT, openBenchApp } from "./engine.ts";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, count: { type: "string", default: "4000" } },
});
const ROUNDS = Number(values.rounds);
const COUNT = Number(values.count);
const AT_A_TIME = 32;

type Side = { readonly name: string; readonly api: MetadataApi; readonly root: InodeId; close(): Promise<void> };

const BLOCK = Buffer.alloc(4096, 1);
const LARGE = Buffer.alloc(1024 * 1024, 2);

/** The requests of a row, by number; `bytes` each for rows that move data. */
type Row = { readonly name: string; readonly bytes?: number; make(side: SideState, index: number): Request };

type SideState = { readonly root: InodeId; readonly ino: InodeId; readonly round: number };

const name = (state: SideState, index: number): Buffer => Buffer.from(`f${state.round}-${index}`);

const ROWS: readonly Row[] = [
  { name: "getattr", make: ({ ino }) => ({ op: "getattr", ino, at: LIVE }) },
  {
    name: "create",
    make: (state, index) => ({
      op: "create",
      parent: state.root,
      name: name(state, index),
      mode: 0o100644,
      umask: 0,
      exclusive: true,
      truncate: false,
    }),
  },
  {
    name: "lookup",
    make: (state, index) => ({ op: "lookup", parent: state.root, name: name(state, index), at: LIVE }),
  },
  {
    name: "write 4 KiB",
    make: ({ ino }, index) => ({ op: "write", ino, offset: BigInt(index * 4096), data: BLOCK, killPrivileges: false }),
  },
  {
    name: "read 4 KiB",
    make: ({ ino }, index) => ({ op: "read", ino, offset: BigInt(index * 4096), length: 4096, at: LIVE }),
  },
  { name: "unlink", make: (state, index) => ({ op: "unlink", parent: state.root, name: name(state, index) }) },
  {
    name: "write 1 MiB",
    bytes: LARGE.length,
    make: ({ ino }, index) => ({
      op: "write",
      ino,
      offset: BigInt(index * LARGE.length),
      data: LARGE,
      killPrivileges: false,
    }),
  },
  {
    name: "read 1 MiB",
    bytes: LARGE.length,
    make: ({ ino }, index) => ({
      op: "read",
      ino,
      offset: BigInt(index * LARGE.length),
      length: LARGE.length,
      at: LIVE,
    }),
  },
];

async function main(): Promise<void> {
  const local = await openLocal();
  const session = await openSession();
  const results = new Map<string, number[]>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [side, atATime] of [
      [local, 1],
      [session, 1],
      [session, AT_A_TIME],
    ] as const) {
      const state = { root: side.root, ino: await makeFile(side, round * 100 + atATime), round: round * 100 + atATime };
      for (const row of ROWS) {
        const count = row.bytes === undefined ? COUNT : Math.ceil(COUNT / 40);
        const perSec = await run(side.api, (index) => row.make(state, index), { count, atATime });
        const key = `${row.name}|${side.name} ${atATime}`;
        results.set(key, [...(results.get(key) ?? []), perSec]);
      }
    }
  }
  print(results);
  await session.close();
  await local.close();
}

function print(results: ReadonlyMap<string, readonly number[]>): void {
  const columns = ["local 1", "session 1", `session ${AT_A_TIME}`];
  const titles = ["local", "session, one at a time", `session, ${AT_A_TIME} at a time`];
  process.stdout.write(
    `${"per second, median".padEnd(20)}${titles.map((title) => title.padStart(26)).join("")}   of local\n`,
  );
  for (const row of ROWS) {
    const cells = columns.map((column) => median([...(results.get(`${row.name}|${column}`) ?? [])]));
    const shown = cells.map((perSec) =>
      row.bytes === undefined ? Math.round(perSec).toString() : `${Math.round((perSec * row.bytes) / 1e6)} MB/s`,
    );
    const [localPerSec = 1, , manyPerSec = 0] = cells;
    const ratio = (manyPerSec / localPerSec).toFixed(2);
    process.stdout.write(`${row.name.padEnd(20)}${shown.map((cell) => cell.padStart(26)).join("")}   ${ratio}\n`);
  }
}

let unique = 0;

function context(): RequestContext {
  unique += 2;
  return { actor: { mountId: MOUNT, uid: 0, gid: 0, pid: 1, label: "" }, unique, resent: false };
}

/** Requests a second. */
async function run(
  api: MetadataApi,
  make: (index: number) => Request,
  { count, atATime }: { readonly count: number; readonly atATime: number },
): Promise<number> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await api.execute(make(next++), context());
  };
  const beganMs = performance.now();
  await Promise.all(Array.from({ length: atATime }, worker));
  return (count * 1000) / (performance.now() - beganMs);
}

async function makeFile(side: Side, round: number): Promise<InodeId> {
  const request = {
    op: "create",
    parent: side.root,
    name: Buffer.from(`data-${round}`),
    mode: 0o100644,
    umask: 0,
    exclusive: true,
    truncate: false,
  } as const;
  const made = (await side.api.execute(request, context())) as Inode;
  return made.ino;
}

async function openLocal(): Promise<Side> {
  const { app, root, close } = await openBenchApp();
  return { name: "local", api: app.coherent, root, close };
}

async function openSession(): Promise<Side> {
  const child = spawn(process.execPath, [fileURLToPath(new URL("./server.ts", import.meta.url))], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [address] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const connect = () => {
    const client = new Client(address, credentials.createInsecure(), {
      "grpc.max_receive_message_length": SESSION_MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": SESSION_MESSAGE_BYTES_MAX,
      "grpc-node.flow_control_window": WINDOW_BYTES,
    });
    return { client, close: () => client.close() };
  };
  const client = await SessionClient.open({
    streams: sessionStreams(connect, address),
    request: openRequest("bench"),
    cache: { tell: () => {} },
    patience: { kind: "hard" },
    clock: new SystemClock(),
    timers: new SystemTimers(),
    log: silentLog,
    randomFraction: () => 0.5,
    openTimeoutMs: 30_000,
  });
  const close = async (): Promise<void> => {
    await client.close();
    child.stdin.end();
    await once(child, "exit");
  };
  return { name: "session", api: client, root: client.grant.root, close };
}

await main();
