import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { InodeId } from "../../src/domain/ids.ts";
import type { CacheHolder } from "../../src/domain/session-api.ts";
import { NEWS_MAX } from "../../src/rpc/session/limits.ts";
import { CONTEXT, codeOf, SessionFixture, write } from "./fixture.ts";

const LEASE_MS = 600;
const NEWS = { kind: "inode", ino: 7 as InodeId, data: true, excluding: 0 } as const;

let fixture: SessionFixture;
beforeEach(async () => {
  fixture = await SessionFixture.open({ leaseMs: LEASE_MS });
});
afterEach(() => fixture.close());

const holder = (): CacheHolder => {
  const [first] = fixture.holders;
  if (first === undefined) throw new Error("nobody is attached");
  return first;
};

test("news is acknowledged when the gateway's cache is done with it, and not before", async () => {
  const gates: (() => void)[] = [];
  const heard: unknown[] = [];
  await fixture.connect({
    cache: {
      tell: (news) => {
        heard.push(news);
        return new Promise((resolve) => gates.push(resolve));
      },
    },
  });
  let done = false;
  const told = Promise.resolve(holder().tell(NEWS)).then(() => {
    done = true;
  });
  await vi.waitFor(() => expect(gates.length).toBe(1));
  expect([heard, done]).toEqual([[NEWS], false]);
  gates[0]?.();
  await told;
});

test("news is told in order, names as they are", async () => {
  const heard: unknown[] = [];
  await fixture.connect({ cache: { tell: (news) => void heard.push(news) } });
  const entries = [0xff, 0x2e, 0x41].map(
    (byte) => ({ kind: "entry", parent: 2 as InodeId, name: Buffer.from([byte]), excluding: 0 }) as const,
  );
  const snapshot = { kind: "snapshot", name: Buffer.from("s"), excluding: 0 } as const;
  await Promise.all([...entries, snapshot].map((news) => holder().tell(news)));
  expect(heard).toEqual([...entries, snapshot]);
});

test("a gateway that does not acknowledge delays a change by its lease, not for ever, and is cut off meanwhile", async () => {
  const client = await fixture.connect({ cache: { tell: () => new Promise(() => {}) } });
  fixture.proxy.silence();
  await holder().tell(NEWS);
  expect(fixture.sessions.counts()).toEqual({ sessions: 1, connected: 0 });
  expect(fixture.leasesOver).toEqual([1]);
  fixture.proxy.heal();
  expect(await client.execute(write("back"), CONTEXT)).toBe(4);
});

test("a gateway that talks but never acknowledges delays a change by two leases at most", async () => {
  const client = await fixture.connect({ cache: { tell: () => new Promise(() => {}) } });
  await holder().tell(NEWS);
  expect(fixture.leasesOver).toEqual([1]);
  expect(await client.execute(write("back"), CONTEXT)).toBe(4);
});

test("a half-open connection is noticed by both ends, and the session goes on over another", async () => {
  const client = await fixture.connect();
  fixture.proxy.silence();
  const asked = client.execute(write("x"), CONTEXT);
  await vi.waitFor(() => expect(client.state).toBe("reconnecting"), { timeout: 10_000 });
  fixture.proxy.heal();
  expect(await asked).toBe(1);
  expect(fixture.files.count("write")).toBe(1);
});

test("an idle session keeps its lease by pings", async () => {
  const client = await fixture.connect();
  await new Promise((resolve) => setTimeout(resolve, 3 * LEASE_MS));
  expect([client.state, fixture.leasesOver, fixture.proxy.connections]).toEqual(["connected", [], 1]);
});

test("a gateway whose lease ran out while it held locks can't go on: its calls fail", async () => {
  fixture.holdsLocks = true;
  const client = await fixture.connect();
  const reasons: string[] = [];
  client.onEnded((reason) => reasons.push(reason));
  fixture.proxy.shut();
  await vi.waitFor(() => expect(fixture.leasesOver).toEqual([1]), { timeout: 10_000 });
  expect([fixture.sessions.counts().sessions, fixture.goodbyes]).toEqual([0, [1]]);
});

test("more news than is kept for one gateway cuts it off until its lease is over", async () => {
  await fixture.connect({ cache: { tell: () => new Promise(() => {}) } });
  const told = Array.from({ length: NEWS_MAX + 1 }, () => holder().tell(NEWS));
  expect(fixture.sessions.counts().connected).toBe(0);
  await Promise.all(told);
  expect(fixture.leasesOver).toEqual([1]);
});

test("an answer that came late is not used by the kernel for long", async () => {
  const client = await fixture.connect();
  expect(client.validityMs).toBe(LEASE_MS / 2);
  fixture.files.answer = () => new Promise((resolve) => setTimeout(() => resolve(1), LEASE_MS));
  expect(await codeOf(client.execute(write("x"), CONTEXT))).toBe("success");
  expect(client.validityMs).toBe(0);
});
