import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { SystemClock } from "../../src/base/clock.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { GatewaySession } from "../../src/cli/gateway/gateway-session.ts";
import { type GatewayMount, type KeptGrant, keptGrant } from "../../src/cli/gateway/mount-state.ts";
import { TokenFile } from "../../src/cli/gateway/token-file.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import { LIVE } from "../../src/domain/ids.ts";
import type { SessionGrant } from "../../src/domain/session-api.ts";
import { CONTEXT, codeOf, ROOT, SessionFixture, write } from "./fixture.ts";

/** The session of a mount, over processes and tokens. */

let fixture: SessionFixture;
let folder: string;
let kept: SessionGrant[];
let sessions: GatewaySession[];

beforeEach(async () => {
  fixture = await SessionFixture.open();
  folder = mkdtempSync(path.join(tmpdir(), "tidemark-gateway-session-"));
  kept = [];
  sessions = [];
  token("one");
});
afterEach(async () => {
  await Promise.all(sessions.map((session) => session.close()));
  fixture.close();
  rmSync(folder, { recursive: true });
});

function token(text: string): void {
  writeFileSync(path.join(folder, "t"), `a.${text}.c\n`);
}

function options(changes: Partial<GatewayMount> = {}) {
  const mount = {
    app: { namespace: "default", name: "app" },
    share: { name: "share" },
    at: { kind: "now" },
    readOnly: false,
    locks: "kernel",
    target: "/srv",
    patience: { kind: "hard" },
    ...changes,
  } as GatewayMount;
  return {
    streams: fixture.streams(),
    mount,
    tokenFile: new TokenFile(path.join(folder, "t")),
    cache: { tell: () => {} },
    onGrant: async (grant: SessionGrant) => void kept.push(grant),
    clock: new SystemClock(),
    timers: new SystemTimers(),
    log: fixture.log,
    randomFraction: Math.random,
  };
}

async function open(changes: Partial<GatewayMount> = {}): Promise<GatewaySession> {
  const session = await GatewaySession.open(options(changes), { timeoutMs: 10_000 });
  sessions.push(session);
  return session;
}

/** The next process, when the one of `former` was killed. */
function goOn(former: KeptGrant, changes: Partial<GatewayMount> = {}): GatewaySession {
  const session = GatewaySession.goOn({ ...options(changes), former });
  sessions.push(session);
  return session;
}

/** What a killed process leaves. */
async function killed(): Promise<KeptGrant> {
  const client = await fixture.connect();
  return keptGrant(client.grant, { asksOpens: false });
}

test("what was granted is kept before anything is asked", async () => {
  const session = await open();
  expect(kept.map(({ id }) => id)).toEqual([session.grant.id]);
  expect(await session.execute(write("x"), CONTEXT)).toBe(1);
  expect(session.state).toMatchObject({ kind: "connected" });
});

test("a service that is not there, or refuses, is told at the first start", async () => {
  fixture.refusal = new TidemarkError("PERMISSION_DENIED", "this token is for another share");
  await expect(open()).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
    message: expect.stringContaining("another share"),
  });
  fixture.proxy.shut();
  await expect(GatewaySession.open(options(), { timeoutMs: 200 })).rejects.toMatchObject({ code: "UNAVAILABLE" });
});

test("the next process goes on with the session; what is asked while the service is away waits", async () => {
  const former = await killed();
  fixture.proxy.shut();
  const session = goOn(former);
  expect(session.grant.id).toBe(former.id);
  const asked = session.execute(write("later"), { ...CONTEXT, resent: true });
  const found = session.snapshotNames();
  expect(session.state).toMatchObject({ kind: "reconnecting" });
  fixture.proxy.heal();
  expect(await asked).toBe(5);
  expect(await found).toEqual(["before", "after"]);
  expect(kept.map(({ id, mountId }) => [id, mountId])).toEqual([[former.id, former.mountId]]);
});

test("a process that begins while the service is away keeps its callers' patience: soft ones are told, killed ones leave", async () => {
  const former = await killed();
  fixture.proxy.shut();
  const soft = goOn(former, { patience: { kind: "soft", timeoutMs: 50 } });
  expect(await codeOf(soft.execute(write("x"), CONTEXT))).toBe("EIO");
  const hard = goOn(former);
  const killing = new AbortController();
  const asked = codeOf(hard.execute(write("x"), { ...CONTEXT, signal: killing.signal }));
  killing.abort();
  expect(await asked).toBe("EINTR");
  expect(hard.execute({ op: "forget", ino: ROOT }, CONTEXT)).toBeUndefined();
});

test("a session that the service does not know any more is replaced: what the kernel sends again is not done twice", async () => {
  const former = { ...(await killed()), id: "0".repeat(64) as SessionGrant["id"] };
  const session = goOn(former);
  expect(await session.snapshotNames()).toEqual(["before", "after"]);
  expect(session.grant.id).not.toBe(former.id);
  expect(kept.map(({ id }) => id)).toEqual([session.grant.id]);
  expect(() => session.execute(write("again"), { ...CONTEXT, resent: true })).toThrow(
    expect.objectContaining({ code: "EIO" }),
  );
  const seek = { op: "lseek", ino: ROOT, offset: 0n, whence: "data", at: LIVE } as const;
  fixture.files.answer = ({ op }) => (op === "lseek" ? 7n : undefined);
  expect(await session.execute(seek, { ...CONTEXT, resent: true })).toBe(7n);
  expect(await session.execute(write("new"), CONTEXT)).toBe(3);
  expect(fixture.files.count("write")).toBe(1);
});

test("with shared locks it is not: programs would go on without the locks they hold", async () => {
  const former = { ...(await killed()), id: "0".repeat(64) as SessionGrant["id"] };
  const session = goOn(former, { locks: "shared" });
  expect(await codeOf(session.execute(write("x"), CONTEXT))).toBe("EACCES");
  expect(session.state).toMatchObject({ kind: "refused", reason: expect.stringContaining("over") });
});

test("a token that has ended stops the mount with the reason, until another is in its place", async () => {
  const session = await open();
  const first = session.grant.id;
  fixture.refusal = new TidemarkError("PERMISSION_DENIED", "the token has expired");
  for (const end of fixture.ends) end("the token has expired");
  await vi.waitFor(() => expect(session.state).toMatchObject({ kind: "refused", reason: "the token has expired" }));
  expect(await codeOf(session.execute(write("x"), CONTEXT))).toBe("EACCES");
  fixture.refusal = undefined;
  token("two");
  await vi.waitFor(() => expect(session.state).toMatchObject({ kind: "connected" }), { timeout: 10_000 });
  expect(session.grant.id).toBe(first);
  expect(await session.execute(write("x"), CONTEXT)).toBe(1);
  expect(fixture.tokens.at(-1)).toBe("a.two.c");
});

test("a token that is replaced in time is presented at once, and nobody waits", async () => {
  const session = await open();
  token("two");
  await vi.waitFor(() => expect(fixture.tokens).toContain("a.two.c"), { timeout: 10_000 });
  expect(await session.execute(write("x"), CONTEXT)).toBe(1);
  expect(fixture.log.at("error")).toEqual([]);
});

test("goodbye is said when the service is there, and not waited for when it is away", async () => {
  await (await open()).close();
  expect(fixture.goodbyes).toHaveLength(1);
  const session = await open();
  fixture.proxy.shut();
  await session.close();
  expect(await codeOf(session.execute(write("x"), CONTEXT))).toBe("EIO");
});
